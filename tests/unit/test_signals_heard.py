"""Whenever a signal comes, a command ends within seconds, with one line and the exit code that says which it was."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from kdal_cli import signals
from kdal_cli.cli.outcome import guarded

signals.PATIENCE = 1.0
me = lambda name: os.kill(os.getpid(), getattr(signal, name))

def work():
{body}

signals.listen()
code = guarded(work, False)
signals.over(code)
{after}
sys.exit(code)
"""


def ended(here: Path, body: str, after: str = "", ignored: tuple[int, ...] = ()) -> tuple[int, str]:
    """(exit code, stderr) of a process that does `body`, and then `after`."""

    def prepare() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    script = SCRIPT.format(body="".join(f"    {line}\n" for line in body.strip().splitlines()), after=after)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=here, capture_output=True, text=True, timeout=30, preexec_fn=prepare
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_work_is_stopped_and_told_how_to_go_on(tmp_path: Path, name: str) -> None:
    code, err = ended(
        tmp_path,
        f"""
with signals.heard(lambda: "kdal al-loop resume=run"):
    try:
        me("{name}")
        time.sleep(30)
    finally:
        Path("tidy").touch()
""",
    )
    assert code == 128 + signal.Signals[name]
    assert err == f"kdal: stopped by {name}; go on with: kdal al-loop resume=run\n"
    assert (tmp_path / "tidy").exists()


def test_where_nothing_has_begun_a_command_ends_on_the_spot_and_takes_with_it_what_it_made(tmp_path: Path) -> None:
    code, err = ended(
        tmp_path,
        """
Path("made").mkdir()
signals.undo.append(lambda: 1 / 0)
signals.undo.append(lambda: Path("made").rmdir())
me("SIGTERM")
time.sleep(30)
""",
    )
    assert (code, err) == (128 + signal.SIGTERM, "kdal: stopped\n")
    assert list(tmp_path.iterdir()) == []


def test_an_import_cannot_take_a_signal_for_a_failure_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "careful.py").write_text(
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException:\n    pass\n"
    )
    code, err = ended(
        tmp_path, 'sys.path.insert(0, ".")\nwith signals.heard():\n    import careful\n    time.sleep(30)'
    )
    assert (code, err) == (130, "kdal: stopped\n")


SWALLOWS = """
with signals.heard(lambda: "kdal al-loop resume=run"):
    for _ in range(30):
        try:
            {again}
            time.sleep(1)
        except BaseException:
            pass
"""


@pytest.mark.parametrize(
    "again", ['me("SIGTERM") if not _ else None', 'me("SIGTERM")'], ids=["once", "again and again"]
)
def test_what_swallows_a_signal_is_ended_all_the_same(tmp_path: Path, again: str) -> None:
    code, err = ended(tmp_path, SWALLOWS.format(again=again))
    assert (code, err) == (143, "kdal: stopped by SIGTERM; go on with: kdal al-loop resume=run\n")


def test_no_new_work_begins_after_a_signal_that_was_swallowed(tmp_path: Path) -> None:
    code, err = ended(
        tmp_path,
        """
with signals.heard():
    try:
        me("SIGINT")
    except BaseException:
        pass
    with signals.heard():
        Path("begun").touch()
""",
    )
    assert (code, err) == (130, "kdal: stopped\n")
    assert not (tmp_path / "begun").exists()


def test_what_is_done_stays_done(tmp_path: Path) -> None:
    assert ended(tmp_path, "pass", after='me("SIGTERM"); time.sleep(30)') == (0, "")


def test_a_signal_that_is_ignored_from_outside_stays_ignored(tmp_path: Path) -> None:
    assert ended(tmp_path, 'me("SIGINT")\nPath("done").touch()', ignored=(signal.SIGINT,)) == (0, "")
    assert (tmp_path / "done").exists()


def test_a_name_in_the_advice_does_not_command_the_terminal(tmp_path: Path) -> None:
    _, err = ended(tmp_path, r'with signals.heard(lambda: "resume=\x1b[2Jrun\u202e"):' + '\n    me("SIGTERM")')
    assert err.endswith("go on with: resume=[2Jrun\n")
