"""Steps that do not fit into memory: taken in pieces, with the weights that whole steps would have led to."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdal_cli.dataset import ImageData
from kdal_cli.errors import MachineError
from kdal_cli.images.augment import Resident
from kdal_cli.losses.kd import kd
from kdal_cli.network import Network
from kdal_cli.streams import Streams
from kdal_cli.training.answers import CachedTeacher, LiveTeacher, Table
from kdal_cli.training.fit import fit
from kdal_cli.training.objective import Objective, Part
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Examples

RECIPE = Recipe(steps=12, batch=8, pool_batch=4, lr=0.1, checks=3, precision="fp32")


def small_memory(network: Network, most: int, *, from_pass: int = 0) -> None:
    """A network whose training runs out of memory with more than `most` images, from so many passes on."""
    passes = iter(range(10**6))

    def hook(body: nn.Module, args: tuple[Tensor, ...]) -> None:
        if body.training and next(passes) >= from_pass and len(args[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    network.body.register_forward_pre_hook(hook)


@pytest.fixture
def learn(images: ImageData, resident: Resident, engine, notes) -> Callable[..., Any]:
    """`learn(network, recipe, …)`: from labels and a teacher's answers."""

    def run(student: Network, recipe: Recipe = RECIPE, teacher: Any = None, **rest: Any):
        examples = Examples(torch.arange(70), images.train.labels.all()[:40])
        objective = Objective(0.5, {"kd": Part(kd, 0.5)} if teacher else {})
        return fit(student, resident, examples, objective, recipe, engine, Streams(7), notes, teacher=teacher, **rest)

    return run


def same(one: Network, two: Network, atol: float = 2e-6) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.allclose(a, b, atol=atol) for a, b in pairs)


@pytest.mark.parametrize("kind", ["live", "cached"])
@pytest.mark.parametrize("mixup", [0.0, 0.3])
def test_in_pieces_the_weights_are_those_of_whole_steps(
    kind: str, mixup: float, learn, make_network, engine, resident, notes
) -> None:
    """Also those of a step that was cut short, as its chunk begins again."""
    recipe = replace(RECIPE, mixup=mixup)
    whole, parted = make_network(), make_network()
    small_memory(parted, 3, from_pass=2)
    made = []
    for student in (whole, parted):
        live = LiveTeacher(make_network(1), engine, "fp32")
        table = Table(len(resident) * resident.augment.count, 3)
        made.append(learn(student, recipe, live if kind == "live" or mixup else CachedTeacher(live, resident, table)))
    assert same(whole, parted)
    assert made[0].losses == pytest.approx(made[1].losses, abs=1e-6)
    assert notes.said == [
        "out of memory with batches of 12: each in 2 parts of 6, gradients added up",
        "out of memory with batches of 6: each in 4 parts of 3, gradients added up",
    ]


def test_batch_norm_sees_a_piece_and_the_line_says_so(learn, make_network, notes) -> None:
    student = make_network()
    student.body = nn.Sequential(nn.BatchNorm2d(1), student.body)
    small_memory(student, 4)
    learn(student)
    assert notes.said == [
        "out of memory with batches of 8: each in 2 parts of 4, gradients added up; batch-norm sees 4 images at a time"
    ]


def test_a_batch_that_cannot_be_halved_is_one_line_that_names_what_to_lower(learn, make_network) -> None:
    student = make_network()
    small_memory(student, 1)
    with pytest.raises(MachineError, match=r"out of memory with batches of 3: lower recipe\.batch"):
        learn(student, Recipe(steps=4, batch=6))


def test_another_error_is_not_taken_for_it(learn, make_network) -> None:
    student = make_network()

    def hook(body: nn.Module, args: tuple[Tensor, ...]) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    student.body.register_forward_pre_hook(hook)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        learn(student)


def test_a_stopped_training_goes_on_in_the_pieces_that_it_was_in(learn, make_network, notes) -> None:
    """To the bit, and without running out of memory again."""

    class Kept:
        def __init__(self) -> None:
            self.states: list[dict[str, Any]] = []

        def offer(self, state) -> None:
            self.states.append(copy.deepcopy(dict(state)))

        def load(self) -> dict[str, Any] | None:
            return None

    whole, again = make_network(), make_network(5)
    small_memory(whole, 4)
    kept = Kept()
    learn(whole, Recipe(steps=12, batch=8, lr=0.1, checks=3, mixup=0.2, cutmix=1.0, balanced=True), keeper=kept)
    state = kept.states[0]
    assert state["pieces"] == 2
    resumed = type("Resumed", (), {"offer": lambda self, s: None, "load": lambda self: state})()
    learn(again, Recipe(steps=12, batch=8, lr=0.1, checks=3, mixup=0.2, cutmix=1.0, balanced=True), keeper=resumed)
    pairs = zip(whole.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert len(notes.said) == 1
