"""What a person sees of a run: bars on a terminal, plain lines anywhere else.

Everything is printed as `rich.text.Text`, never as markup, so text from outside needs no escaping: nothing reads it.
"""

import io
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column, Table
from rich.text import Text

from kdal_cli.plain import clean
from kdal_cli.report.narrow import narrowed
from kdal_cli.report.pace import Pace
from kdal_cli.report.text import count, duration, figures_text

PLAIN_WIDTH = 120
"""Columns where there is no terminal to ask."""


@dataclass
class Work:
    """A piece of work under way: its pace, the figures that it last gave, and its bar where there are bars.

    most: steps that it takes at most, where nobody knows how many.
    """

    what: str
    pace: Pace
    most: int = 0
    latest: str = ""
    bar: TaskID | None = None

    @property
    def position(self) -> str:
        done, steps = self.pace.done, self.pace.steps
        if self.most:
            return f"{count(done)} of at most {count(self.most)}"
        return f"{count(done)}/{count(steps)}" if steps else count(done)

    @property
    def speed(self) -> str:
        return _speed(self.pace.images_per_s)

    @property
    def left(self) -> str:
        seconds = self.pace.left
        return "" if math.isnan(seconds) else f"{duration(math.ceil(seconds))} left"


class Display:
    """A `kdal_cli.types.Watcher` that shows the run on the standard output.

        with Display() as display:
            display.stage("al-loop", ["cifar10", "outputs/al-loop/…"])
            display.round(1, of=5, labels=1_100)
            display.begin("student", steps=400)
            display.advance(1, images=128)
            display.figures({"loss": 1.234})
            display.end()

    On a terminal there is one bar for the rounds and one for each piece of work under way (a piece may begin inside
    another: validation inside training); what is finished stays behind as one line. Elsewhere `plain` is true: a line
    for each `begin`, `figures` and `end`, flushed at once, without control codes.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console or standard_console()
        self.plain = not self.console.is_interactive
        self._clock = clock
        self._bars = None if self.plain else _bars(self.console)
        self._rounds: Work | None = None
        self._works: list[Work] = []

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        while self._works:  # not ended: an error is on its way
            work = self._works.pop()
            self._line(f"{work.what}: stopped at {work.position}")
        if self._bars:
            self._bars.stop()

    def stage(self, title: str, lines: Iterable[str] = ()) -> None:
        """The headline of a run, and what it is about, one line each."""
        self._line(clean(title), style="bold")
        for line in lines:
            self._line(f"  {clean(line)}")

    def round(self, number: int, of: int, labels: int) -> None:
        """Round `number` starts with `labels` bought; 0 is the seed set, `of` is the last."""
        what = f"round {number}/{of}"
        if self._rounds is None:
            self._rounds = self._started(what, of + 1)
            self._rounds.pace.skip(number)
        rounds = self._rounds
        rounds.what, rounds.latest = what, f"{count(labels)} labels"
        rounds.pace.advance(number - rounds.pace.done, images=0)
        self._show(rounds)
        self._line(f"{rounds.what}: {rounds.latest}", style="bold")

    def table(self, table: Table) -> None:
        """Where there is no terminal, as wide as it needs to be; on one, without the columns it has no room for."""
        if not self.plain:
            table, left_out = narrowed(table, self.console)
            self.console.print(table)
            if left_out:
                self._line(f"in a wider terminal also: {', '.join(left_out)}", style="dim")
            return
        usual = self.console.width
        needed = Measurement.get(self.console, self.console.options.update(max_width=10_000), table).maximum
        self.console.width = max(usual, needed)
        self.console.print(table)
        self.console.width = usual

    def say(self, text: str) -> None:
        """One line, however long."""
        self._line(clean(text))

    def warn(self, text: str) -> None:
        """One line that is seen before the others."""
        self._line(clean(text), style="bold red")

    def begin(self, what: str, steps: int, *, at_most: bool = False) -> None:
        """A piece of work of so many steps starts, or of so many at most; 0 where nobody knows how many."""
        work = self._started(clean(what), steps, at_most=at_most)
        self._works.append(work)
        if self.plain:
            told = f"{'at most ' * at_most}{count(steps)} steps"
            self._line(f"{work.what}: {told}" if steps else work.what)

    def advance(self, steps: int, images: int) -> None:
        """So many steps and images are done. Called at every training step, so most calls only count."""
        work = self._works[-1]
        if not images and not work.pace.done:
            work.pace.skip(steps)  # done before the run was interrupted
        elif work.pace.advance(steps, images):
            self._show(work)

    def figures(self, values: Mapping[str, float]) -> None:
        """What was measured on the way; between two pieces of work it is said once and for all."""
        latest = figures_text(values)
        if not self._works:
            self._line(latest)
            return
        work = self._works[-1]
        work.latest = latest
        work.pace.sample()
        self._show(work)
        if self.plain:
            self._line("  " + " ".join(filter(None, (f"step {work.position}", latest, work.speed, work.left))))

    def end(self) -> None:
        """The piece of work is done: its bar goes, one line about it stays."""
        work = self._works.pop()
        if self._bars and work.bar is not None:
            self._bars.remove_task(work.bar)
        skipped = work.pace.skipped
        done = f"{count(work.pace.done - skipped)} steps in {duration(work.pace.elapsed)}"
        done += f" ({count(skipped)} were done before)" if skipped else ""
        self._line(f"{work.what}: " + ", ".join(filter(None, (done, _speed(work.pace.mean_images_per_s), work.latest))))

    def _started(self, what: str, steps: int, *, at_most: bool = False) -> Work:
        work = Work(what, Pace(0 if at_most else steps, clock=self._clock), most=steps if at_most else 0)
        if self._bars:
            work.bar = self._bars.add_task("", total=work.pace.steps or None, work=work)
        return work

    def _show(self, work: Work) -> None:
        """Bring its bar up to date; the texts beside the bar are read from `work` whenever they are drawn."""
        if self._bars and work.bar is not None:
            self._bars.update(work.bar, completed=work.pace.done)

    def _line(self, text: str, *, style: str = "") -> None:
        """One line, neither wrapped nor cut, above the bars."""
        self.console.print(Text(text, style=style), soft_wrap=True)


def standard_console() -> Console:
    """The standard output. A character that it cannot write is replaced: no run ends for want of a glyph.

    Without a terminal there are no bars, even where FORCE_COLOR asks for colours, and lines are PLAIN_WIDTH long.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH, force_interactive=False)


def _bars(console: Console) -> Progress:
    """The one live display. What others write to the standard streams while it runs goes above it, if to a terminal."""

    def text(field: str, style: str, *, justify: JustifyMethod = "left", column: Column | None = None) -> TextColumn:
        field = f"{{task.fields[work].{field}}}"  # a property of Work, read each time the display is drawn
        return TextColumn(field, style=style, justify=justify, markup=False, table_column=column)

    return Progress(
        text("what", "bold"),
        BarColumn(bar_width=min(24, max(4, console.width // 8))),
        text("position", "none", justify="right"),
        text("speed", "cyan", justify="right"),
        text("left", "cyan", justify="right"),
        text("latest", "green", column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        console=console,
        transient=True,
        refresh_per_second=4,
        redirect_stderr=sys.stderr.isatty(),
        expand=True,
    )


def _speed(images_per_s: float) -> str:
    """NaN and 0, of work that has no images, say nothing."""
    return f"{count(images_per_s)} images/s" if images_per_s > 0 else ""
