"""A compiled student learns what an eager one learns, and is compiled once for all of its architecture."""

import copy

import pytest
import torch

from kdal_cli.streams import Streams
from kdal_cli.training.fit import fit
from kdal_cli.training.objective import Objective
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Examples


def test_what_is_not_asked_for_is_not_compiled(make_network) -> None:
    network = make_network()
    with network.compiled("none"):
        assert not network._compiled


def test_outside_of_a_training_and_in_eval_mode_the_network_itself_answers(make_network, monkeypatch, resident) -> None:
    asked: list[torch.Tensor] = []
    monkeypatch.setattr(torch, "compile", lambda body, **how: lambda images: (asked.append(images), body(images))[1])
    network, pixels = make_network(), resident.whole(torch.arange(4))
    with network.compiled("default"):
        compiled = network.train()(pixels).logits
        assert len(asked) == 1
        assert torch.equal(network.eval()(pixels).logits, compiled)
        assert len(asked) == 1
    network.train()(pixels)
    assert len(asked) == 1
    assert "_compiled" not in " ".join(network.state_dict())


def test_a_copy_made_while_training_is_not_compiled(make_network, monkeypatch) -> None:
    """As folding makes one when many images are validated; what was compiled may not be copied."""
    monkeypatch.setattr(torch, "compile", lambda body, **how: Uncopied())
    network = make_network()
    with network.compiled("default"):
        assert not copy.deepcopy(network)._compiled
        assert network._compiled


class Uncopied:
    def __deepcopy__(self, memo: object) -> None:
        raise AssertionError("copied")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_and_eager_training_agree_and_the_next_one_is_not_compiled_again(
    make_network, images, resident, engine, notes
) -> None:
    examples = Examples(torch.arange(96), images.train.labels.all())

    def learn(kind: str) -> torch.Tensor:
        network, recipe = make_network(), Recipe(steps=12, batch=8, checks=2, compile=kind, optimizer="adamw", lr=1e-3)
        fit(network, resident, examples, Objective(), recipe, engine, Streams(0), notes)
        return torch.cat([tensor.detach().flatten() for tensor in network.state_dict().values()])

    eager, first = learn("none"), learn("default")
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    again = learn("default")
    assert graphs == torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert torch.equal(first, again)
    torch.testing.assert_close(first, eager, rtol=1e-3, atol=1e-5)
