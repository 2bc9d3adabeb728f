"""`kdal predict`: what a finished student, or a file that was exported from one, says about images of anybody's."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from kdal_cli.cli.listing import Words
from kdal_cli.errors import UserError

if TYPE_CHECKING:
    from kdal_cli.inference.answering import Answer, Broken
    from kdal_cli.report.answers import Sorted
    from kdal_cli.report.display import Display

NAMED = 10
"""Broken files that are named on the screen; all of them are in `broken.csv`."""


@dataclass
class Tally:
    """What a prediction came to. broken: the first files that could not be read, in words. named: classes in sets."""

    answered: int = 0
    unsure: int = 0
    failed: int = 0
    named: int = 0
    broken: list[str] = field(default_factory=list)
    classes: Counter[str] = field(default_factory=Counter)

    def note(self, answer: "Answer") -> None:
        self.answered += 1
        self.unsure += answer.unsure
        self.named += len(answer.among or ())
        self.classes[answer.best[0][0]] += 1

    def fail(self, broken: "Broken") -> None:
        self.failed += 1
        if self.failed <= NAMED:
            self.broken.append(f"{broken.path}: {broken.why}")


def takes_images(parser: Words) -> None:
    """What every command takes that looks at images with the network of a run."""
    parser.add_argument(
        "source",
        nargs="+",
        metavar="SOURCE",
        help="image files, folders, patterns, a .csv with a column path, - for a list",
    )
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="code of yours that a run needs"
    )


def predict(words: Sequence[str]) -> None:
    """`kdal predict RUN SOURCE…`"""
    parser = Words("kdal predict", description="Say what images show, with a finished student or an exported file.")
    parser.add_argument("model", type=Path, metavar="RUN", help="a run folder, a checkpoint, or a file of kdal export")
    takes_images(parser)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where answers.csv goes; outputs/predict/<time>")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="classes that are named for each image, 3")
    parser.add_argument(
        "--at", type=float, metavar="ACCURACY", help="unsure unless the answers are right so often: 0.97"
    )
    parser.add_argument(
        "--sets", type=float, metavar="COVERAGE", help="also a set that holds the true class so often: 0.95"
    )
    parser.add_argument("--jsonl", action="store_true", help="answers.jsonl rather than answers.csv")
    parser.add_argument("--sort", type=Path, metavar="FOLDER", help="links to the images, in a folder for each class")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    options = parser.parse_args(words)
    if options.top < 1:
        raise UserError(f"--top {options.top}", cure="a whole number from 1 on")
    from kdal_cli.images.sources import image_files

    files = image_files(options.source)  # before torch is imported: a word that stands for nothing is refused at once

    from kdal_cli.compose.answerer import opened
    from kdal_cli.images.decode import Reading
    from kdal_cli.inference.answering import Judge, answers
    from kdal_cli.report.answers import Sorted, columns
    from kdal_cli.report.display import Display

    with Display() as display, opened(options.model, options.trust, options.device) as answerer:
        card = answerer.card
        threshold, least = answerer.threshold(options.at), answerer.least(options.sets)
        judge = Judge.of(card.classes, card.calibration, threshold, options.top, least)
        reading = Reading.of(card.shape, card.preparation)
        for line in answerer.told(options.at):
            display.say(line)
        out = output_folder(options.out, "predict")
        links = Sorted(options.sort, card.classes) if options.sort else None
        found = answers(files, answerer.classify, reading, card.preparation.ranges, judge)
        with closing(found), _kept_if_used(out):
            layout = columns(judge.top, sets=least is not None)
            tally, path = _write(found, out, options.jsonl, layout, links, display)
        _tell(tally, path, display)
        if least is not None:
            each = tally.named / tally.answered
            display.say(f"sets: at least {options.sets:.4g} of them hold the true class; {each:.2f} classes on average")
        if links:
            display.say(f"links in {options.sort}")


def output_folder(named: Path | None, command: str) -> Path:
    """The folder that is asked for, or a new one of this moment. Raises UserError where none can be."""
    from kdal_cli.records.files import folder_below

    usual = Path("outputs", command) / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    try:
        return folder_below(named or usual)
    except OSError as error:
        cure = "choose another --out"
        raise UserError(f"cannot write here: {error.strerror}", where=named or usual, cure=cure) from None


@contextmanager
def _kept_if_used(folder: Path) -> Iterator[None]:
    """Take an empty folder away again when the block ends in an error."""
    try:
        yield
    except BaseException:
        with suppress(OSError):  # what is not empty stays
            folder.rmdir()
        raise


def _write(
    found: "Iterator[Answer | Broken]",
    out: Path,
    jsonl: bool,
    layout: Sequence[str],
    links: "Sorted | None",
    display: "Display",
) -> tuple[Tally, Path]:
    """Write every answer as it comes. Where no file could be read, nothing is left behind."""
    from kdal_cli.inference.answering import Broken
    from kdal_cli.records.files import written
    from kdal_cli.report.answers import Lines, row

    tally, path = Tally(), out / ("answers.jsonl" if jsonl else "answers.csv")
    if path.exists():
        raise UserError("there are answers already", where=path, cure="choose another --out")
    with ExitStack() as stack:
        table = Lines(stack.enter_context(written(path)), jsonl=jsonl, columns=layout)
        broken: Lines | None = None
        display.begin("predict", 0)
        for each in found:
            display.advance(1, 1)
            if isinstance(each, Broken):
                tally.fail(each)
                if broken is None:
                    file = stack.enter_context(written(out / "broken.csv"))
                    broken = Lines(file, columns=("path", "reason"))
                broken.add({"path": str(each.path), "reason": each.why})
                continue
            tally.note(each)
            table.add(row(each))
            if links is not None:
                links.add(each)
        display.end()
        if not tally.answered:
            _refuse_nothing(tally)
    return tally, path


def _refuse_nothing(tally: Tally) -> NoReturn:
    if tally.failed:
        what = f"none of {tally.failed:,} files can be read, the first is {tally.broken[0]}"
        raise UserError(what, cure="give images: PNG, JPEG, WebP, TIFF, GIF, BMP, PPM")
    raise UserError("there is no file to look at", cure="an image, a folder of images, or a list of them")


def _tell(tally: Tally, path: Path, display: "Display") -> None:
    from kdal_cli.records.files import shown

    for line in tally.broken:
        display.say(f"left out: {line}")
    if tally.failed > len(tally.broken):
        display.say(
            f"left out: {tally.failed - len(tally.broken):,} more, all named in {shown(path.parent)}/broken.csv"
        )
    listed = ", ".join(f"{name} {count:,}" for name, count in tally.classes.most_common(NAMED))
    more = f", {len(tally.classes) - NAMED:,} more classes" if len(tally.classes) > NAMED else ""
    display.say(f"answers: {listed}{more}")
    unsure = f", {tally.unsure:,} of them unsure" if tally.unsure else ""
    display.say(f"{tally.answered:,} images{unsure}; answers in {shown(path)}")
