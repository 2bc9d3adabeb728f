"""An architecture that is built as often as it is needed, and what each of its networks starts from."""

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any

from torch import Tensor, nn

from kdal_cli.dataset import Preprocessing
from kdal_cli.errors import UserError
from kdal_cli.network import classifier
from kdal_cli.records.checkpoint import Checkpoint


@dataclass(frozen=True)
class Start:
    """Weights that a network starts from, under its own names. Those of its head are missing where it has a new one.

    sha256: of these tensors. told: where they come from and what was left out, in words.
    """

    weights: Mapping[str, Tensor]
    sha256: str
    told: str

    def below(self, path: str, body: nn.Module) -> "Start":
        """The same for a body that has this one's as its module `path`, or a part of it."""
        names = body.state_dict().keys()
        below = {f"{path}.{name}": tensor for name, tensor in self.weights.items()}
        return replace(self, weights={name: tensor for name, tensor in below.items() if name in names})

    def into(self, body: nn.Module) -> None:
        """Copy the weights. A head that they lack is drawn small, as torch draws a linear layer.

        What architectures draw for the end of a training of their own can be as large as what the body answers.
        """
        classifier(body).reset_parameters()
        body.load_state_dict({**body.state_dict(), **self.weights})


@dataclass(frozen=True)
class Blueprint:
    """An architecture, built as often as it is needed. spec: its name and arguments, as a checkpoint records them.

    start: weights that it starts from, where there are some. preprocessing: its own; None is that of the data.
    """

    spec: Mapping[str, Any]
    make: Callable[[], nn.Module]
    start: Start | None = None
    preprocessing: Preprocessing | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What decides its initial weights besides randomness, and what it sees, as a hash takes it."""
        own = {"preprocessing": astuple(self.preprocessing)} if self.preprocessing else {}
        return {"model": dict(self.spec)} | own | ({"start": self.start.sha256} if self.start else {})

    def told(self, who: str) -> list[str]:
        """What it starts from and what it does to pixels, where that is not what every network does."""
        lines = [f"{who} starts from {self.start.told}"] if self.start else []
        if (rule := self.preprocessing) is not None:
            mean, std = (", ".join(f"{number:.3f}" for number in values) for values in (rule.mean, rule.std))
            sides = [f"; sees images at {rule.size[0]} × {rule.size[1]}"] if rule.size else []
            sides += [f"; made for {rule.made_for[0]} × {rule.made_for[1]}"] if rule.made_for and not rule.size else []
            lines.append(f"{who} has its own mean ({mean}) and std ({std}){''.join(sides)}")
        return lines


def named(spec: Mapping[str, Any]) -> str:
    """An architecture in words: `resnet depth=56`, and one within another in brackets. What is null is left out."""
    rest = {key: value for key, value in spec.items() if key != "name" and value is not None}
    words = {key: f"({named(value)})" if isinstance(value, Mapping) else value for key, value in rest.items()}
    return " ".join([str(spec.get("name", "")), *(f"{key}={value}" for key, value in words.items())])


def model_of(section: Mapping[str, Any] | None, saved: Checkpoint, key: str) -> Mapping[str, Any]:
    """The architecture that is asked for under `key`, or the one that a checkpoint says it is.

    Raises UserError when neither says one, or they say two.
    """
    if saved.card is None:
        if section is None:
            cure = f"name its architecture: {key.partition('.')[0]}=<architecture>"
            raise UserError("this checkpoint does not say what it is", where=saved.path, cure=cure)
        return section
    if section is not None and section != saved.card.model:
        what = f"checkpoint is {named(saved.card.model)}, not {named(section)}"
        raise UserError(what, where=saved.path, cure="ask for the architecture it has")
    return saved.card.model
