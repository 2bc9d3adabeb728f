"""The faster precision is chosen once, written down, and read again; nothing about the network changes."""

from collections.abc import Callable

import pytest
import torch

from kdal_cli.devices import precision as module
from kdal_cli.devices.precision import Precisions, measured
from kdal_cli.network import Network
from kdal_cli.records.files import read_json

PIXELS = torch.randint(0, 256, (8, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def timed(fp32: float, bf16: float) -> Callable[..., dict[str, float]]:
    return lambda *_: {"fp32": fp32, "bf16": bf16}


@pytest.mark.parametrize(
    ("bf16", "chosen"), [(0.5, "bf16"), (0.83, "bf16"), (0.84, "fp32"), (1.0, "fp32"), (9, "fp32")]
)
def test_bf16_must_be_faster_by_a_fifth(bf16: float, chosen: str, make_network, monkeypatch) -> None:
    monkeypatch.setattr(module, "measured", timed(1.0, bf16))
    assert Precisions().choose(make_network(), PIXELS, lambda: None) == chosen


def test_a_choice_is_made_once_and_a_resumed_run_reads_it(make_network, monkeypatch, tmp_path) -> None:
    path, network = tmp_path / "precision.json", make_network()
    monkeypatch.setattr(module, "measured", timed(1.0, 0.5))
    assert Precisions(path).choose(network, PIXELS, lambda: None) == "bf16"
    monkeypatch.setattr(module, "measured", timed(1.0, 2.0))
    assert Precisions(path).choose(make_network(1), PIXELS, lambda: None) == "bf16"
    (choice,) = read_json(path).values()
    assert choice == {"fp32": 1.0, "bf16": 0.5, "chosen": "bf16"}


def test_another_architecture_another_batch_and_a_frozen_network_are_choices_of_their_own(
    make_network, monkeypatch
) -> None:
    monkeypatch.setattr(module, "measured", timed(1.0, 0.5))
    choices = Precisions()
    for network, pixels in (
        (make_network(), PIXELS),
        (make_network(width=8), PIXELS),
        (make_network(), PIXELS[:4]),
        (make_network().requires_grad_(False), PIXELS),
    ):
        choices.choose(network, pixels, lambda: None)
    assert len(choices.choices) == 4


@pytest.mark.parametrize("learns", [True, False])
def test_measuring_changes_nothing(learns: bool, make_network) -> None:
    network: Network = make_network(dropout=0.5).requires_grad_(learns).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    waited: list[None] = []
    seconds = measured(network, PIXELS, learns, lambda: waited.append(None))
    assert set(seconds) == {"fp32", "bf16"}
    assert all(value > 0 for value in seconds.values())
    assert len(waited) == 2 * 2 * (module.WARMUP + module.TURNS)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.get_rng_state(), state)
