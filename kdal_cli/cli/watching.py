"""`kdal watch`: are the images of today those that a student was trained for?"""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdal_cli.cli.listing import Words
from kdal_cli.cli.predicting import output_folder, takes_images
from kdal_cli.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from kdal_cli.compose.finished import Finished
    from kdal_cli.compose.shipped import Shipped

COMPARED = 500
"""Images of each side whose features are compared."""

LEVEL = 0.01
"""A p value at or below this is called drift."""


@dataclass
class Seen:
    """What came by. answers: how many of each class."""

    images: int = 0
    unsure: int = 0
    broken: int = 0
    answers: Counter[str] = field(default_factory=Counter)


def watch(words: Sequence[str]) -> None:
    """`kdal watch RUN SOURCE…`"""
    parser = Words("kdal watch", description="Compare new images with those that a student was made for.")
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder; its images must be here")
    takes_images(parser)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where ask.csv goes; outputs/watch/<time>")
    parser.add_argument(
        "--ask", type=int, default=50, metavar="N", help="images most worth a label that are listed, 50"
    )
    options = parser.parse_args(words)
    if options.ask < 1:
        raise UserError(f"--ask {options.ask}", cure="a whole number from 1 on")
    from kdal_cli.images.sources import image_files

    files = image_files(options.source)  # before torch is imported: a word that stands for nothing is refused at once

    import torch

    from kdal_cli.compose.finished import finished, run_of
    from kdal_cli.compose.shipped import shipped
    from kdal_cli.devices.engine import Engine
    from kdal_cli.images.decode import Reading
    from kdal_cli.inference.answering import Answer, Judge, answers
    from kdal_cli.inference.watching import Reservoir, Worthiest, watched
    from kdal_cli.metrics.drift import mmd
    from kdal_cli.report.display import Display

    with Display() as display:
        ship = shipped(options.run, options.trust)
        Engine.start("auto").place(ship.network)
        folder = run_of(ship.path)
        if folder is None:
            raise UserError("this checkpoint lies in no run folder", where=ship.path, cure="name the run")
        run, card = finished(folder, {}, options.trust, display, ship.card.crop), ship.card
        if run.data is None:
            raise UserError("the images of the run are not here", where=folder, cure="watch where they are")
        display.say(ship.sentence)
        known = _known(ship, run)
        rng, worthiest, seen = torch.Generator().manual_seed(0), Worthiest(options.ask), Seen()
        features = Reservoir(COMPARED, rng)
        judge = Judge.of(card.classes, card.calibration, card.calibration.threshold if card.calibration else 0.0, 1)
        reading = Reading.of(card.shape, card.preparation)
        classify = watched(ship.network, features)
        display.begin("watch", 0)
        with closing(answers(files, classify, reading, card.preparation.ranges, judge)) as found:
            for each in found:
                display.advance(1, 1)
                if isinstance(each, Answer):
                    seen.images += 1
                    seen.unsure += each.unsure
                    seen.answers[each.best[0][0]] += 1
                    worthiest.add(each)
                else:
                    seen.broken += 1
        display.end()
        if seen.images < 2:
            raise UserError(f"{seen.images} images can be read", cure="two are needed to compare")
        drift = mmd(known[0], features.rows, rng)
        _tell(seen, known[1], card.classes, drift, display)
        out = output_folder(options.out, "watch")
        _list(worthiest.answers, out)
        display.say(f"the {len(worthiest.answers):,} images most worth a label are in {out / 'ask.csv'}")


def _known(ship: "Shipped", run: "Finished") -> "tuple[Tensor, Counter[str]]":
    """Features (K, D) of images of the run's data that it did not train on, and the answers about them.

    Those of the training set would differ from any new image: the network has learnt them by heart.
    """
    import torch

    from kdal_cli.images.augment import Augment, Resident
    from kdal_cli.inference.predict import predict

    assert run.data is not None
    images = Resident.of(run.data.test, Augment(), ship.network.mean.device)
    some = torch.randperm(len(run.data.test), generator=torch.manual_seed(0))[:COMPARED]
    output = predict(ship.network, images, some, fold=False)
    named = Counter(ship.card.classes[answer] for answer in output.logits.argmax(1).tolist())
    return output.features.cpu(), named


def _tell(seen: Seen, known: Counter[str], classes: Sequence[str], drift: tuple[float, float], display: Any) -> None:
    from kdal_cli.report.tables import curve_table
    from kdal_cli.report.text import percent

    before, now = max(1, known.total()), seen.images
    rows = [
        {"class": name, "before %": percent(known[name] / before), "now %": percent(seen.answers[name] / now)}
        for name in classes
    ]
    display.table(curve_table(rows))
    display.say(f"{now:,} images, {seen.broken:,} files that cannot be read; {seen.unsure / now:.1%} unsure")
    value, p = drift
    told = f"features: MMD² {value:.4f} against test images of the run, p = {p:.3f}"
    if p <= LEVEL:
        display.warn(f"{told}: these are other images than the student was made for")
    else:
        display.say(f"{told}: no difference seen")


def _list(worthiest: Sequence[Any], out: Path) -> None:
    """`ask.csv`, a pool of images without labels: path, an empty label, and why."""
    from kdal_cli.records.files import written
    from kdal_cli.report.answers import Lines

    with written(out / "ask.csv") as file:
        table = Lines(file, columns=("path", "label", "class", "probability", "entropy"))
        for each in worthiest:
            (name, probability), *_ = each.best
            told = {"path": str(each.path.absolute()), "label": "", "class": name}
            table.add({**told, "probability": round(probability, 6), "entropy": round(each.entropy, 6)})
