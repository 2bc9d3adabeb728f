"""What is measured after each round of active learning: the lines of its tables, and what is said of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kdal_cli.inference.predict import predict
from kdal_cli.lab.baselines import Baselines
from kdal_cli.lab.checkup import complaints
from kdal_cli.lab.clock import Clock
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.tutors import Tutors
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.opinions import disputed
from kdal_cli.labels.promise import audited, told
from kdal_cli.metrics.classification import agreement, class_rows, measure
from kdal_cli.network import Network
from kdal_cli.records.curve import Table
from kdal_cli.study.baselines import remark
from kdal_cli.training.job import Fitted


@dataclass
class Measurements:
    """The tables of a run: `curve`, `timings`, `per_class`. A line of the curve is what makes a round done.

    load: the student of a finished round. mixed, again: whether a teacher labels, whether images are asked about again.
    """

    lab: Lab
    ledger: Ledger
    tutors: Tutors
    baselines: Baselines | None
    load: Callable[[int], Network | None]
    mixed: bool
    again: bool

    def __post_init__(self) -> None:
        folder = self.lab.run.folder
        self.curve, self.timings = Table(folder / "curve.csv"), Table(folder / "timings.csv")
        self.per_class = Table(folder / "classes.csv")
        self._last: Tensor | None = None

    def begin(self) -> None:
        """Drop the lines of a round that was stopped before its line of the curve."""
        self.timings.keep(len(self.curve))
        self.per_class.keep(len(self.curve) * len(self.lab.data.classes))

    def add(self, round: int, network: Network, fitted: Fitted, clock: Clock) -> None:
        """Measure the student of a round on the test set, and write the line that makes the round done."""
        lab, (ids, labels) = self.lab, self.ledger.bought()
        seen, own = lab.test_output(network).logits, predict(network, lab.train, ids).logits
        truth, chosen = lab.data.test.labels.all(), seen.argmax(1).cpu()
        row = {"round": round, **self._spent(round, ids, labels), "steps": fitted.steps, "flops": self.ledger.flops()}
        row |= {f"test_{name}": value for name, value in measure(seen, truth, len(lab.data.classes)).items()}
        right = chosen == truth
        row["forgotten"] = int((self._right(round - 1) & ~right).sum())
        self._last = right
        row["train_accuracy"] = float((own.argmax(1).cpu() == labels).float().mean())
        row["train_fitted"] = fitted.fitted
        validate = lab.accuracy(*self.ledger.bought("validation"))
        if validate is not None and fitted.best is not None:
            row["val_accuracy"] = validate(network)
            row["test_accuracy_at_best_val"] = self._accuracy_of(fitted, network)
        tutor = self.tutors.after(round, self.ledger)
        if tutor is not None and tutor.teacher.metrics:
            row["teacher_test_accuracy"] = tutor.teacher.metrics["accuracy"]
            row["teacher_agreement"] = agreement(seen, tutor.teacher.test_logits)
        clock.lap("evaluate_s")
        if self.baselines is not None:
            row |= self.baselines.measure(ids, labels, network, tutor.teacher.network if tutor else None)
            clock.lap("baselines_s")
        self.timings.add({"round": round, **clock.seconds, **lab.pace(network, fitted)})
        self.per_class.add(*class_rows(round, chosen, truth, labels, len(lab.data.classes)))
        self.curve.add(row)
        lab.log.figures(row)
        lab.display.say(f"round {round}: {row['labels']:,} labels, test accuracy {row['test_accuracy']:.2%}")
        if self.mixed:
            lab.watcher.say(f"round {round}: {told(self.ledger.by_teacher(), self.ledger.audits())}")
        if against := remark(row):
            lab.watcher.say(f"round {round}: {against}")
        for complaint in complaints(lab, network, ids, labels, own, seen, fitted):
            lab.watcher.say(f"round {round}: the student {complaint}")

    def _spent(self, round: int, ids: Tensor, labels: Tensor) -> dict[str, float]:
        """What was bought until the end of a round, in every currency but computation."""
        ledger, tutor = self.ledger, self.tutors.after(round, self.ledger)
        row = {"labels": ledger.labels(), "cost": ledger.cost(), "classes_seen": len(labels.unique())}
        row["teacher_answers"] = len(ledger.teacher_ids())
        row["teacher_labels"] = tutor.teacher.labels_of(self.lab.data.name) if tutor else 0
        row["labels_with_teacher"] = self.tutors.labels_with(len(ids))
        if self.mixed:
            row |= audited(ledger.by_teacher(), ledger.audits())
        if self.again:
            row |= {"images": len(ids), "disputed": len(disputed(ledger.votes()))}
        return row

    def _right(self, round: int) -> Tensor:
        """Which test images the student of a round is right on, (N,) bool; none before round 0."""
        if self._last is None:
            network, truth = self.load(round), self.lab.data.test.labels.all()
            if network is None:
                return torch.zeros(len(truth), dtype=torch.bool)
            self._last = self.lab.test_output(network).logits.argmax(1).cpu() == truth
        return self._last

    def _accuracy_of(self, fitted: Fitted, network: Network) -> float:
        """Test accuracy of the weights that were best on validation; the network keeps its last ones."""
        last = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(fitted.best or last)
        accuracy = self.lab.measure_test(network)["accuracy"]
        network.load_state_dict(last)
        return accuracy
