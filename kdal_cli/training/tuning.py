"""What of a network learns, from when on, and at which rate.

A network is a row of blocks, in the order in which they are defined: what is left when sequences of modules are opened,
each with the norms that follow it. Its head is the last linear layer.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from kdal_cli.errors import UserError, nearest
from kdal_cli.network import Network, classifier
from kdal_cli.training.recipe import Recipe

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)

Block = tuple[nn.Parameter, ...]


class Tuning:
    """What of `network` learns, as a recipe says: `at` sets it for a step, `groups` are for the optimizer.

    Raises UserError for a module that there is not.
    """

    def __init__(self, network: Network, recipe: Recipe) -> None:
        self.network, self.recipe = network, recipe
        self.free = {p for p in network.body.parameters() if p.requires_grad}  # others are frozen by their author
        self.blocks = [tuple(p for p in block if p in self.free) for block in blocks(network.body)]
        self.learning = self.free.intersection(_learning(network, self.blocks, recipe.learns))

    def at(self, step: int) -> None:
        """Have those parameters ask for a gradient that learn at a step, and what does not learn stand still."""
        now = self._at(step)
        for parameter in self.free:
            parameter.requires_grad_(parameter in now)
        self.network.train()
        if now != self.free:
            self._still(now)

    def release(self) -> None:
        """Leave no parameter frozen that was not."""
        for parameter in self.free:
            parameter.requires_grad_(True)

    def changes(self, step: int) -> bool:
        """Whether other parameters learn from a step on than before it."""
        return step in self.recipe.unfreeze

    def groups(self, others: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
        """Groups for an optimizer, `scale` being what its learning rate is multiplied by; `others` learn beside.

        The last block learns at the full rate, each before it at `layer_decay` of the next one's. Without `norm_decay`
        parameters of one axis or none, norms and biases, are not decayed.
        """
        recipe = self.recipe
        ever = self.free if recipe.unfreeze else self.learning
        scaled = [(p, recipe.layer_decay**depth) for depth, block in enumerate(reversed(self.blocks)) for p in block]
        order = {p: place for place, p in enumerate(self.network.parameters())}
        pairs = sorted(((p, s) for p, s in scaled if p in ever), key=lambda pair: order[pair[0]])
        grouped: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for parameter, scale in (*pairs, *((p, 1.0) for p in others)):
            decayed = recipe.norm_decay or parameter.dim() > 1
            grouped.setdefault((scale, decayed), []).append(parameter)
        return [
            {"params": params, "scale": scale} | ({} if decayed else {"weight_decay": 0.0})
            for (scale, decayed), params in grouped.items()
        ]

    def _at(self, step: int) -> set[nn.Parameter]:
        """At each step of `unfreeze` as many more of the blocks that stood still, the last of them first."""
        steps = self.recipe.unfreeze
        frozen = [block for block in self.blocks if not self.learning.issuperset(block)]
        thawed = sum(step >= each for each in steps)
        count = -(-len(frozen) * thawed // len(steps)) if steps else 0
        return self.learning | {p for block in frozen[len(frozen) - count :] for p in block}

    def _still(self, now: set[nn.Parameter]) -> None:
        """Evaluation mode for what does not learn, and for what has no parameters and comes before all that does."""
        begun = False
        for module in self.network.body.modules():
            begun = begun or any(p in now for p in module.parameters(recurse=False))
            own = list(module.parameters())
            still = not any(p in now for p in own) if own else not begun
            moving = isinstance(module, _BatchNorm) and self.recipe.frozen_norms == "moving"
            module.training = not still or moving


def is_still(network: Network, recipe: Recipe) -> bool:
    """Whether a recipe leaves everything before the head as it is: weights, statistics and all."""
    norms = any(isinstance(module, _BatchNorm) for module in network.modules())
    return recipe.learns == "head" and not recipe.unfreeze and not (norms and recipe.frozen_norms == "moving")


def blocks(body: nn.Module) -> list[Block]:
    """The parameters of each block of a network, each parameter once."""
    seen: set[nn.Parameter] = set()
    found: list[Block] = []
    for module, recurse in _units(body):
        own = tuple(p for p in module.parameters(recurse) if p not in seen)
        seen.update(own)
        if own and found and (not recurse or isinstance(module, NORMS)):
            found[-1] = (*found[-1], *own)
        elif own:
            found.append(own)
    return found


def _units(module: nn.Module) -> Iterator[tuple[nn.Module, bool]]:
    """(module, whether all below it belongs to it), sequences and the body itself being opened."""
    yield module, False
    for child in module.children():
        if type(child) in (nn.Sequential, nn.ModuleList):
            yield from _units(child)
        else:
            yield child, True


def _learning(network: Network, row: Sequence[Block], learns: str) -> Iterator[nn.Parameter]:
    """The parameters that learn from the first step on. Raises UserError for a module that there is not."""
    kind, _, which = learns.partition(":")
    if kind == "head":
        yield from classifier(network.body).parameters()
    elif kind == "last":
        yield from (p for block in row[-int(which) :] for p in block)
    elif kind == "from":
        named = list(network.body.named_parameters())
        first = [n for n, (name, _) in enumerate(named) if name == which or name.startswith(f"{which}.")]
        if not first:
            modules: Mapping[str, nn.Module] = dict(network.body.named_modules())
            places = [name for name in modules if name and name.count(".") < 2]
            raise UserError(f"recipe.learns={learns}", where="no such module", cure=nearest(which, places))
        yield from (p for _, p in named[first[0] :])
    else:
        yield from network.body.parameters()
