"""Whoever answers questions about images: the network of a run, or a file that was exported from one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kdal_cli.compose.shipped import shipped
from kdal_cli.devices.engine import Engine, usual_threads
from kdal_cli.errors import UserError
from kdal_cli.export.onnx_file import open_onnx
from kdal_cli.inference.answering import Classify, by_network
from kdal_cli.metrics.confidence import LEAST, spoken, threshold_for
from kdal_cli.records.card import Card

TOO_FEW = f"there were fewer than {LEAST} validation labels"


@dataclass(frozen=True)
class Answerer:
    """A network that is open. sentence: what it is, in words."""

    classify: Classify
    card: Card
    sentence: str

    def threshold(self, accuracy: float | None) -> float:
        """The least probability that is answered: as the run chose it, or so that answers are right so often.

        Raises UserError where the validation images never showed such an accuracy, or there were too few.
        """
        calibration = self.card.calibration
        if accuracy is None:
            return calibration.threshold if calibration else 0.0
        if calibration is None:
            cure = "leave --at out, or train with data.split.validation"
            raise UserError(f"--at {accuracy:g}", where=TOO_FEW, cure=cure)
        best = max(right for _, _, right in calibration.curve)
        if not 0 < accuracy <= best:
            raise UserError(f"--at {accuracy:g}", cure=f"accepted: above 0, up to {best:g} (of the validation images)")
        return threshold_for(calibration.curve, accuracy)

    def least(self, coverage: float | None) -> float | None:
        """The least probability, at T = 1, of a class in sets that hold the true one so often; None for no sets.

        Raises UserError where there were too few validation images to promise that.
        """
        if coverage is None:
            return None
        calibration = self.card.calibration
        if calibration is None or not calibration.sets:
            what = TOO_FEW if calibration is None else "this checkpoint is of an older kdal"
            cure = "leave --sets out, or train with more of data.split.validation"
            raise UserError(f"--sets {coverage:g}", where=what, cure=cure)
        most = calibration.sets[-1][0]
        if not 0 < coverage <= most:
            of = f"{calibration.images:,} validation images promise no more"
            raise UserError(f"--sets {coverage:g}", cure=f"accepted: above 0, up to {most:.4g} ({of})")
        return next(low for share, low in calibration.sets if share >= coverage)

    def told(self, accuracy: float | None) -> list[str]:
        """What is to be said before the first answer."""
        calibration = self.card.calibration
        if calibration is None:
            return [self.sentence, f"not calibrated: {TOO_FEW}, so nothing is called unsure"]
        low = f"unsure below a probability of {self.threshold(accuracy):.3f}"
        return [self.sentence, f"{spoken(calibration)}" if accuracy is None else f"right on {accuracy:.1%}", low]


@contextmanager
def opened(path: Path, trust: Sequence[str], device: str) -> Iterator[Answerer]:
    """The newest network of a run folder, that of a checkpoint, or an exported ONNX file."""
    if path.suffix.lower() == ".onnx":
        with open_onnx(path, usual_threads()) as file:
            sides = "×".join(map(str, (file.card.shape.channels, file.card.shape.height, file.card.shape.width)))
            yield Answerer(
                file.classify, file.card, f"images of {sides}, {len(file.card.classes)} classes, from {path}"
            )
        return
    if path.suffix.lower() == ".pt2":
        raise UserError(
            "a program of torch.export is not read", where=path, cure="kdal predict reads the run, or its .onnx"
        )
    ship = shipped(path, trust)
    engine = Engine.start(device)
    engine.place(ship.network)
    yield Answerer(by_network(ship.network), ship.card, ship.sentence)
