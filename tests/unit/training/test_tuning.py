"""What of a network learns: blocks, heads, modules; from when on; at which rate."""

import pytest
import torch
from torch import nn

from kdal_cli.errors import UserError
from kdal_cli.network import Network, classifier
from kdal_cli.training.recipe import Recipe
from kdal_cli.training.tuning import Tuning, blocks, is_still


class Body(nn.Module):
    """A token of its own, a stem with its norm, two blocks in a sequence, dropout, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(6))
        self.stem, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.layers = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.layers(self.norm(self.stem(x.flatten(1))) + self.token)))


def network() -> Network:
    return Network(Body(), (0.5,), (0.25,))


def learning(net: Network) -> set[str]:
    return {name for name, p in net.body.named_parameters() if p.requires_grad}


def named(*modules: str) -> set[str]:
    return {f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias")}


def test_a_norm_belongs_to_the_block_before_it_and_a_sequence_is_opened() -> None:
    net = network()
    names = {p: name for name, p in net.body.named_parameters()}
    assert [{names[p] for p in block} for block in blocks(net.body)] == [
        {"token"},
        named("stem", "norm"),
        named("layers.0"),
        named("layers.1"),
        named("head"),
    ]


@pytest.mark.parametrize(
    ("learns", "expected"),
    [
        ("head", named("head")),
        ("last:1", named("head")),
        ("last:2", named("layers.1", "head")),
        ("from:layers", named("layers.0", "layers.1", "head")),
        ("from:layers.1", named("layers.1", "head")),
        ("last:99", {"token", *named("stem", "norm", "layers.0", "layers.1", "head")}),
        ("all", {"token", *named("stem", "norm", "layers.0", "layers.1", "head")}),
    ],
)
def test_what_learns(learns: str, expected: set[str]) -> None:
    net = network()
    tuning = Tuning(net, Recipe(learns=learns))
    tuning.at(0)
    assert learning(net) == expected
    assert sum(len(group["params"]) for group in tuning.groups([])) == len(expected)
    tuning.release()
    assert len(learning(net)) == 11


def test_a_module_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"recipe\.learns=from:layer .*did you mean 'layers'"):
        Tuning(network(), Recipe(learns="from:layer"))


@pytest.mark.parametrize("wrong", ["heads", "last:0", "last:", "last:x", "from:", "last:2 ", ""])
def test_other_words_are_refused(wrong: str) -> None:
    with pytest.raises(UserError, match="accepted: all, head, last:N blocks, from:MODULE"):
        Recipe(learns=wrong)


def test_what_an_author_has_frozen_stays_frozen() -> None:
    net = network()
    net.body.get_submodule("stem").requires_grad_(False)
    tuning = Tuning(net, Recipe())
    tuning.at(0)
    tuning.release()
    assert not learning(net) & named("stem")


def test_what_does_not_learn_is_in_evaluation_mode_and_dropout_before_it_too() -> None:
    net = network()
    tuning = Tuning(net, Recipe(learns="head"))
    tuning.at(0)
    tuning.release()
    assert {name for name, m in net.body.named_modules() if m.training} == {"", "head"}
    tuning = Tuning(net, Recipe(learns="from:layers.1"))
    tuning.at(0)
    tuning.release()
    assert not net.body.get_submodule("norm").training
    assert net.body.get_submodule("drop").training
    Tuning(net, Recipe()).at(0)
    assert all(m.training for m in net.body.modules())


def test_statistics_of_frozen_norms_may_go_on_moving() -> None:
    net = network()
    Tuning(net, Recipe(learns="head", frozen_norms="moving")).at(0)
    assert net.body.get_submodule("norm").training
    assert is_still(net, Recipe(learns="head"))
    assert not is_still(net, Recipe(learns="head", frozen_norms="moving"))
    assert not is_still(net, Recipe(learns="head", unfreeze=(3,)))
    assert not is_still(net, Recipe())


def test_blocks_join_one_after_the_other_the_last_ones_first() -> None:
    net = network()
    tuning = Tuning(net, Recipe(learns="head", unfreeze=(10, 20)))
    assert [step for step in range(30) if tuning.changes(step)] == [10, 20]
    seen = []
    for step in (9, 10, 20):
        tuning.at(step)
        seen.append(learning(net))
    assert seen[0] == named("head")
    assert seen[1] == named("head", "layers.1", "layers.0")  # two of the four that stood still
    assert len(seen[2]) == 11


def test_unfreezing_what_learns_already_is_refused() -> None:
    with pytest.raises(UserError, match="all learns already"):
        Recipe(unfreeze=(3,))


def test_rates_fall_from_block_to_block_and_norms_and_biases_need_not_decay() -> None:
    net, other = network(), nn.Parameter(torch.zeros(2, 2))
    groups = Tuning(net, Recipe(layer_decay=0.5, norm_decay=False)).groups([other])
    names = {p: name for name, p in net.body.named_parameters()} | {other: "other"}
    told = {names[p]: (group["scale"], group.get("weight_decay")) for group in groups for p in group["params"]}
    assert told["head.weight"] == (1.0, None)
    assert told["head.bias"] == (1.0, 0.0)
    assert told["layers.0.weight"] == (0.25, None)
    assert told["norm.weight"] == told["stem.bias"] == (0.125, 0.0)
    assert told["token"] == (0.0625, 0.0)
    assert told["other"] == (1.0, None)


def test_by_default_everything_is_one_group_in_the_order_of_the_network() -> None:
    net, other = network(), nn.Parameter(torch.zeros(2))
    (group,) = Tuning(net, Recipe()).groups([other])
    expected = [*net.parameters(), other]
    assert all(p is q for p, q in zip(group["params"], expected, strict=True))
    assert group["scale"] == 1.0
    assert classifier(net.body).weight in set(group["params"])


def test_a_hash_of_a_recipe_is_what_it_was_before_there_was_tuning() -> None:
    assert "learns" not in Recipe().identity
    assert "ema" not in Recipe(learns="head").identity
    assert Recipe(learns="head").identity["learns"] == "head"
