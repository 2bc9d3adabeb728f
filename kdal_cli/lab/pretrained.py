"""A network that has seen the images is found, not demanded: it learns from them once for its configuration.

The store holds one folder per configuration, named by a hash of everything that decides the weights: the images, the
architecture, the method, the recipe and a seed of its own, so that students of every seed share it. No label is in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdal_cli.errors import UserError
from kdal_cli.inference.embedding import VECTORS
from kdal_cli.lab.blueprint import Blueprint
from kdal_cli.lab.lab import Lab, MakeObjective, fingerprint
from kdal_cli.lab.pretrain import pretrain
from kdal_cli.lab.shelves import locked
from kdal_cli.records import checkpoint
from kdal_cli.records.files import sha256
from kdal_cli.records.run import Run
from kdal_cli.streams import Streams
from kdal_cli.training.recipe import Recipe

FORMAT = 1
"""Raised when the same configuration would train another network than before."""

WEIGHTS = "pretrained.safetensors"
"""The file of its folder with the weights."""


@dataclass(frozen=True)
class Pretraining:
    """How a network is to learn from images alone, and where it is kept.

    name: of the method, whose `section` says the rest. make_objective: what it minimises.
    """

    name: str
    section: Mapping[str, Any]
    make_objective: MakeObjective
    blueprint: Blueprint
    recipe: Recipe
    seed: int = 0
    store: Path = Path("outputs/pretrained")

    def folder(self, lab: Lab) -> Path:
        """Where the network of this configuration is, or will be: its weights, and its features of all images."""
        images = {"data": fingerprint(lab.data, labels=False), "pool": lab.pool.tolist()}
        settings = {"method": dict(self.section), "recipe": self.recipe.identity, "seed": self.seed}
        return self.store / sha256({"format": FORMAT, **self.blueprint.identity, **settings, **images})[:16]

    def stored(self, lab: Lab) -> bool:
        """Whether it is there."""
        return (self.folder(lab) / WEIGHTS).exists()

    def find(self, lab: Lab) -> Path:
        """The folder with the network, which is trained where nobody has, or where what is kept is damaged."""
        folder = self.folder(lab)
        with locked(folder, "a network", "pretrain.store"):
            try:
                if (folder / WEIGHTS).exists() and (folder / VECTORS).exists():
                    checkpoint.read(folder / WEIGHTS)
                    return folder
                lab.display.say(f"nothing has seen these images by {self.name} yet: training it in {folder}")
            except UserError as damage:
                lab.display.say(f"{damage}; training it again")
            own = replace(lab, run=Run(folder), streams=Streams(self.seed))
            pretrain(own, self.blueprint, self.make_objective, self.recipe, self.name, folder / WEIGHTS)
        return folder
