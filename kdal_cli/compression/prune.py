"""Structured pruning: whole channels go, those of the smallest weights first, and what is left is a smaller network."""

import copy
import importlib.util
import warnings
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from kdal_cli.errors import UserError
from kdal_cli.network import classifier
from kdal_cli.records.shapes import PRUNED
from kdal_cli.values import Count, Within


class Prune:
    """Take `ratio` of the channels out of every layer, in `iterations` steps, each followed by a training.

    Of layers that hang together, as the ends of a residual block do, the same channels go: those of the smallest group
    norm, the mean over the layers of Σ w², each divided by its mean over the channels. Every step takes the same share
    of what is left. What is left of a layer is rounded to a multiple of `round_to` channels, which processors compute
    faster. The classifier keeps its classes.

    Fang, Ma, Song, Mi, Wang, "DepGraph: Towards Any Structural Pruning", CVPR 2023, arXiv:2301.12900, with the
    authors' package torch-pruning.
    """

    precision = None
    simulates = None

    def __init__(
        self, *, ratio: Annotated[float, Within(0, 0.9, above=True)], iterations: Count = 1, round_to: Count = 8
    ) -> None:
        if importlib.util.find_spec("torch_pruning") is None:
            raise UserError("compress=prune needs the package torch-pruning", cure="pip install 'kdal[compress]'")
        self.ratio, self.iterations, self.round_to = ratio, iterations, round_to

    def begin(self, body: nn.Module, images: Tensor) -> nn.Module:
        """A copy of a body with fewer channels. images: (B, c, H, W), normalised, B at least 2.

        Raises UserError for an architecture that the channels cannot be taken out of.
        """
        import torch_pruning

        pruned = copy.deepcopy(body).eval()
        share = 1 - (1 - self.ratio) ** (1 / self.iterations)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch_pruning.pruner.BasePruner(
                    pruned,
                    images[:2],
                    importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
                    pruning_ratio=share,
                    ignored_layers=[classifier(pruned)],
                    round_to=self.round_to,
                ).step()
            with torch.no_grad():
                pruned(images[:2])
        except (RuntimeError, ValueError, IndexError, ZeroDivisionError, KeyError, AttributeError, TypeError) as error:
            reason = str(error).partition("\n")[0][:100]
            what = f"channels cannot be taken out of {type(body).__name__}: {type(error).__name__}, {reason}"
            raise UserError(what, where="compress=prune", cure="compress=qat, or another architecture") from error
        return pruned

    def end(self, body: nn.Module) -> nn.Module:
        return copy.deepcopy(body)

    def spec(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """What a checkpoint says of the architecture: the one that was pruned, with the shapes of the weights."""
        return {**spec, PRUNED: True}

    def told(self, before: nn.Module, after: nn.Module) -> str:
        """What was asked for and what has become of it, in channels."""
        gone = 1 - channels(after) / channels(before)
        return f"asked for {self.ratio:.0%} of the channels, {gone:.1%} of {channels(before):,} are gone"


def channels(body: nn.Module) -> int:
    """Outputs of all convolutions and linear layers, those of the classifier left out."""
    layers = [module for module in body.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    return sum(layer.weight.shape[0] for layer in layers if layer is not classifier(body))
