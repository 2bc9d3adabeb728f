"""What appears on a terminal, in a pipe and in between."""

import inspect
import io
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Mapping

import pytest
from rich.console import Console
from rich.table import Table

from kdal_cli.report.display import Display, standard_console
from kdal_cli.types import Watcher

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen(io.StringIO):
    """A stream that knows what had been flushed."""

    flushed = ""

    def flush(self) -> None:
        self.flushed = self.getvalue()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def console(*, terminal: bool, width: int = 120, environment: Mapping[str, str] | None = None) -> Console:
    return Console(
        file=Screen(), force_terminal=terminal, width=width, height=30, _environ=environment or {"TERM": "xterm"}
    )


def written(display: Display) -> str:
    assert isinstance(display.console.file, Screen)
    return display.console.file.flushed


def work(display: Display, clock: Clock) -> None:
    """A bit of everything, 0.1 s a step of 128 images."""
    with display:
        display.stage("kdal al-loop", ["cifar10, 50,000 images"])
        display.round(1, of=2, labels=1_100)
        display.begin("student", steps=400)
        for _ in range(120):
            clock.now += 0.1
            display.advance(1, images=128)
        display.figures({"loss": 1.23449, "ce": 0.9, "val_accuracy": 0.812})
        time.sleep(0 if display.plain else 0.4)  # the bars are drawn four times a second
        display.end()
        display.figures({"test_accuracy": 0.8})


def test_plain_lines() -> None:
    clock = Clock()
    display = Display(console(terminal=False), clock=clock)
    assert display.plain
    work(display, clock)
    assert written(display).splitlines() == [
        "kdal al-loop",
        "  cifar10, 50,000 images",
        "round 1/2: 1,100 labels",
        "student: 400 steps",
        "  step 120/400 loss 1.234 ce 0.9 val_accuracy 0.812 1,280 images/s 28 s left",
        "student: 120 steps in 12 s, 1,280 images/s, loss 1.234 ce 0.9 val_accuracy 0.812",
        "test_accuracy 0.8",
    ]


def test_every_plain_line_is_flushed_at_once() -> None:
    display = Display(console(terminal=False))
    display.begin("decode", steps=3)
    assert written(display) == "decode: 3 steps\n"
    display.advance(1, 0)
    assert written(display) == "decode: 3 steps\n"
    display.say("half way")
    assert written(display).endswith("half way\n")


def test_a_terminal_has_bars_and_keeps_what_is_finished() -> None:
    clock = Clock()
    display = Display(console(terminal=True), clock=clock)
    assert not display.plain
    work(display, clock)
    raw = written(display)
    text = CONTROL.sub("", raw)
    assert "━" in text
    assert re.search(r"student +━+.* 120/400 1,280 images/s 28 s left loss 1.234 ce 0.9 val_accuracy 0.812", text)
    assert re.search(r"round 1/2 ━.* 1/3 +1,100 labels", text)
    assert "student: 120 steps in 12 s, 1,280 images/s, loss 1.234" in text
    assert raw.index("\x1b[?25l") < raw.rindex("\x1b[?25h")  # the cursor comes back


def test_a_terminal_that_cannot_move_its_cursor_gets_lines() -> None:
    assert Display(console(terminal=True, environment={"TERM": "dumb"})).plain


@pytest.mark.parametrize("terminal", [False, True])
def test_work_inside_work(terminal: bool) -> None:
    clock = Clock()
    with Display(console(terminal=terminal), clock=clock) as display:
        display.begin("student", 10)
        display.begin("validation", 2)
        clock.now += 1
        display.advance(2, 64)
        display.end()
        clock.now += 1
        display.advance(10, 640)
        display.end()
    text = CONTROL.sub("", written(display))
    assert "validation: 2 steps in 1 s, 64 images/s" in text
    assert "student: 10 steps in 2 s, 320 images/s" in text


def test_a_resumed_run_knows_its_speed() -> None:
    clock = Clock()
    display = Display(console(terminal=False), clock=clock)
    display.round(3, of=9, labels=400)
    display.begin("student", 100)
    display.advance(90, 0)
    clock.now += 1
    display.advance(1, 8)
    display.figures({})
    assert "  step 91/100 8 images/s 9 s left\n" in written(display)
    display.end()
    assert "student: 1 steps in 1 s (90 were done before), 8 images/s\n" in written(display)


@pytest.mark.parametrize("terminal", [False, True])
def test_an_error_leaves_the_terminal_in_order_and_says_where_it_stopped(terminal: bool) -> None:
    display = Display(console(terminal=terminal))

    def fail() -> None:
        with display:
            display.begin("student", 10)
            display.advance(3, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert "student: stopped at 3/10\n" in CONTROL.sub("", written(display))
    assert not terminal or written(display).rindex("\x1b[?25h") > written(display).rindex("\x1b[?25l")


@pytest.mark.parametrize("terminal", [False, True])
def test_text_from_outside_is_shown_and_not_obeyed(terminal: bool) -> None:
    evil = "[red]x[/red]\x1b[2J\x1b]0;title\x07[/nothing]\nline {task}"
    shown = "[red]x[/red][2J]0;title[/nothing] line {task}"
    with Display(console(terminal=terminal)) as display:
        display.stage(evil, [evil])
        display.say(evil)
        display.begin(evil, 2)
        display.figures({evil: 1.0})
        display.end()
        display.figures({evil: 2.0})
    assert "\x1b[2J" not in written(display)
    assert "\x1b]" not in written(display)
    lines = CONTROL.sub("", written(display)).splitlines()
    assert sum(shown in line for line in lines) >= 6


def test_plain_mode_has_no_control_codes() -> None:
    clock = Clock()
    display = Display(console(terminal=False), clock=clock)
    work(display, clock)
    table = Table("a", title="b")
    table.add_row("1")
    display.table(table)
    assert "\x1b" not in written(display)
    assert "\r" not in written(display)


@pytest.mark.parametrize("terminal", [False, True])
def test_paths_are_neither_wrapped_nor_cut(terminal: bool) -> None:
    path = "/home/a user/" + "very_long_folder/" * 30 + "curve.csv"
    with Display(console(terminal=terminal, width=60)) as display:
        display.stage("run", [path])
        display.say(path)
    assert CONTROL.sub("", written(display)).count(path + "\n") == 2


def test_a_wide_table_is_not_cut_where_there_is_no_terminal() -> None:
    display = Display(console(terminal=False, width=40))
    table = Table(*(f"column {i}" for i in range(30)))
    table.add_row(*(f"value number {i}" for i in range(30)))
    display.table(table)
    assert all(f"value number {i}" in written(display) for i in range(30))


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("width", [20, 80])
def test_work_without_a_known_end(terminal: bool, width: int) -> None:
    with Display(console(terminal=terminal, width=width)) as display:
        display.begin("download", 0)
        display.advance(5, 5)
        display.figures({"mb": 3.5})
        display.end()
    assert "download: 5 steps" in CONTROL.sub("", written(display))


@pytest.mark.parametrize("terminal", [False, True])
def test_advance_is_cheap(terminal: bool) -> None:
    with Display(console(terminal=terminal)) as display:
        display.begin("student", 50_000)
        start = time.perf_counter()
        for _ in range(50_000):
            display.advance(1, 128)
        mean = (time.perf_counter() - start) / 50_000
    assert mean < 20e-6, f"{mean * 1e6:.1f} µs a step"


def test_it_is_a_watcher() -> None:
    for name, call in inspect.getmembers(Watcher, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(getattr(Display, name)) == inspect.signature(call)


def test_the_standard_console_of_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    monkeypatch.setenv("FORCE_COLOR", "1")
    display = Display(standard_console())
    assert display.plain
    assert display.console.width == 120
    display.say("ResNet-50 → 鹿")
    assert ascii_only.buffer.getvalue() == b"ResNet-50 ? ?\n"  # type: ignore[attr-defined]


SCRIPT = """
import sys, time
from kdal_cli.report.display import Display
with Display() as display:
    display.begin("student", 3)
    for _ in range(3):
        time.sleep(0.3)
        display.advance(1, 128)
        print("from elsewhere", file=sys.stderr)
    display.end()
"""


def test_under_a_real_terminal() -> None:
    main, side = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    subprocess.run([sys.executable, "-c", SCRIPT], stdout=side, stderr=side, env=environment, check=True, timeout=60)
    os.close(side)
    raw = os.read(main, 1 << 16).decode()
    os.close(main)
    text = CONTROL.sub("", raw)
    assert re.search(r"student +[━╸╺ ]+ \d/3 \d+ images/s", text)
    assert text.count("from elsewhere\r\n") == 3
    assert re.search(r"student: 3 steps in 0\.\d+ s, \d+ images/s\r\n", text)
    assert raw.rstrip().endswith("\x1b[?25h") or raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l")


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, kdal_cli.report.display, kdal_cli.report.plots, kdal_cli.report.tables;"
        "sys.exit(bool({'torch', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
