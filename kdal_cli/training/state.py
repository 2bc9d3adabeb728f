"""What a training consists of at a check: learners, optimizer, its course, the best weights so far."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kdal_cli.devices.optimizers import SGD, AdamW
from kdal_cli.errors import UserError
from kdal_cli.network import Network
from kdal_cli.training.average import Average
from kdal_cli.training.course import Course
from kdal_cli.training.recipe import Recipe


class Keeper(Protocol):
    """Who keeps the state of a training that may be stopped."""

    def offer(self, state: Mapping[str, Any]) -> None: ...

    def load(self) -> dict[str, Any] | None: ...


class State:
    """What a training consists of at a check: everything that a stop must not lose.

    pieces: in how many parts a step is taken, as many as memory asked for.
    """

    def __init__(
        self, learners: nn.Module, optimizer: torch.optim.Optimizer, course: Course, average: Average | None = None
    ) -> None:
        self.learners, self.optimizer, self.course, self.average = learners, optimizer, course, average
        self.pieces = 1
        self.best: dict[str, Tensor] | None = None
        self.best_accuracy: float | None = None

    def keep_best(self, student: Network, accuracy: float | None) -> None:
        """Remember the weights of the highest validation accuracy, the later of equals."""
        if accuracy is not None and (self.best_accuracy is None or accuracy >= self.best_accuracy):
            self.best_accuracy = accuracy
            self.best = {name: tensor.detach().clone() for name, tensor in student.state_dict().items()}

    def offer(self, keeper: Keeper | None, step: int) -> None:
        if keeper is not None:
            keeper.offer(self.now(step))

    def now(self, step: int) -> dict[str, Any]:
        """What `load` goes back to; its tensors are those that go on changing."""
        average = {"average": self.average.held} if self.average is not None else {}
        pieces = {"pieces": self.pieces} if self.pieces > 1 else {}
        return {
            "step": step,
            "turn": self.course.turn,
            "learners": self.learners.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "best_accuracy": self.best_accuracy,
            **average,
            **pieces,
        }

    def load(self, state: Mapping[str, Any] | None) -> int:
        """Go back to where a stopped training was, and return the steps it had done.

        Raises UserError for a state that is not of this training.
        """
        if state is None:
            return 0
        try:
            self.learners.load_state_dict(state["learners"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.course.turn, self.pieces = state["turn"], int(state.get("pieces", self.pieces))
            self.best, self.best_accuracy = state["best"], state["best_accuracy"]
            if self.average is not None:
                self.average.load(state["average"])
            return int(state["step"])
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            cure = "take the *.snapshot file out of the run folder: the training then starts again"
            raise UserError("this snapshot is not of this training", where="*.snapshot", cure=cure) from error


def optimizer_of(groups: Sequence[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer of everything that learns, in groups, at its first learning rate."""
    if recipe.optimizer == "adamw":
        return AdamW(groups, recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    momentum, nesterov = recipe.momentum, recipe.nesterov and recipe.momentum > 0
    return SGD(groups, recipe.lr, momentum=momentum, nesterov=nesterov, weight_decay=recipe.weight_decay, fused=True)


def is_finite(network: nn.Module) -> bool:
    """Whether every weight is a number: the loss of a step says nothing about the weights that it leaves."""
    return bool(torch.stack([p.detach().isfinite().all() for p in network.parameters()]).all())
