"""A finished network, opened from its files alone: the data that it was trained on need not be here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from kdal_cli.compose import parts
from kdal_cli.errors import UserError
from kdal_cli.lab.blueprint import Blueprint, named
from kdal_cli.network import Network
from kdal_cli.records import checkpoint
from kdal_cli.records.card import Card


@dataclass(frozen=True)
class Shipped:
    """A trained network, what its checkpoint says of it, and where that is."""

    path: Path
    card: Card
    blueprint: Blueprint
    network: Network

    @property
    def sentence(self) -> str:
        card = self.card
        sides = f"{card.shape.channels}×{card.shape.height}×{card.shape.width}"
        return f"{named(card.model)}, images of {sides}, {len(card.classes)} classes, from {self.path}"

    def body(self) -> nn.Module:
        """A new copy of it, without normalisation and hooks."""
        body = self.blueprint.make()
        body.load_state_dict(self.network.body.state_dict())
        return body.eval()


def shipped(path: Path, trust: Sequence[str]) -> Shipped:
    """The network of a checkpoint of ours, of a run folder, or of the newest run of several, in evaluation mode.

    Raises UserError for weights that do not say what they are: neither classes nor normalisation would be known.
    """
    saved = checkpoint.read(path)
    card = saved.card
    if card is None:
        what, cure = (
            "these weights say neither their classes nor their normalisation",
            "use a run or checkpoint of kdal",
        )
        raise UserError(what, where=saved.path, cure=cure)
    blueprint = parts.blueprint(card.model, card.inner, trust, "student", saved)
    body = blueprint.make()
    saved.load_into(body, named(card.model))
    network = Network(body, card.mean, card.std, card.size)
    network.eval().requires_grad_(False)
    return Shipped(saved.path, card, blueprint, network)
