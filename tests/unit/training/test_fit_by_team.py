"""Two processes train what one trains, and look at the pool as one does.

Where nothing is per device, weights differ by rounding alone: sums are made in another order. TOLERANCE is of the
largest weight of a tensor.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdal_cli.devices.engine import Engine
from kdal_cli.errors import MachineError, UserError
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.inference.evidence import Scorer
from kdal_cli.inference.predict import BATCH, MANY
from kdal_cli.inference.scorers import Seer
from kdal_cli.losses.kd import kd
from kdal_cli.losses.vid import Vid
from kdal_cli.network import Network
from kdal_cli.streams import Streams
from kdal_cli.training.answers import CachedTeacher, LiveTeacher, Table
from kdal_cli.training.feed import Order
from kdal_cli.training.fit import fit
from kdal_cli.training.job import Fitted, Peer
from kdal_cli.training.objective import Objective, Part
from kdal_cli.training.recipe import Recipe, Until
from kdal_cli.types import Batch, Examples, Output

TOLERANCE = 1e-5
RECIPE = Recipe(steps=20, batch=8, pool_batch=4, lr=0.1, checks=3, precision="fp32")


def tower(seed: int, width: int, *, norm: bool = False, dropout: float = 0.0) -> Network:
    """Two convolutions and a linear layer, with batch-norm if asked for."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        between = [nn.BatchNorm2d(width)] if norm else []
        body = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), *between, nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()
        )
        head = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(dropout), nn.Linear(4 * width, 3))
        return Network(nn.Sequential(body, *head), (0.5,), (0.25,))


def by_kd(student: Network, teacher: Network) -> Objective:
    return Objective(0.5, {"kd": Part(kd, 0.5)})


def by_vid(student: Network, teacher: Network) -> Objective:
    """A term that learns, and looks inside."""
    for network in (student, teacher):
        network.tap(["0.0"])
    blank = torch.zeros(2, 1, 6, 6, dtype=torch.uint8)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(3)
        term = Vid(student(blank), teacher(blank), EXAMPLES, layers=["0.0"], teacher_layers=["0.0"])
    return Objective(1.0, {"vid": Part(term, 0.1)})


def by_labels(*_: Network) -> Objective:
    return Objective()


EXAMPLES = Examples(torch.arange(70), torch.arange(40) % 3)
Train = Callable[..., tuple[Network, Fitted, list[dict[str, float]]]]


@pytest.fixture
def train(images, notes, engine: Engine) -> Train:
    def train(
        engine: Engine,
        make: Callable[..., Objective] = by_kd,
        recipe: Recipe = RECIPE,
        mutual=False,
        keep=None,
        **traits,
    ):
        student, teacher = tower(0, 6, **traits), tower(1, 8)
        objective = make(student, teacher)
        peer = Peer(tower(2, 4), Objective(1.0, {"kd": Part(kd, 1.0)})) if mutual else None
        pixels = Resident(images.train.pixels, Augment(pad=1, flip=True))
        live = LiveTeacher(teacher, engine, "fp32") if peer is None else None
        asked = keep(live, pixels) if keep is not None else live
        notes.measured.clear()
        fitted = fit(student, pixels, EXAMPLES, objective, recipe, engine, Streams(7), notes, teacher=asked, peer=peer)
        return nn.ModuleList([student, objective, *([peer] if peer else [])]), fitted, list(notes.measured)

    return train


def apart(one: nn.Module, two: nn.Module) -> float:
    """How far weights and buffers are apart, as a share of the largest of their tensor."""
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in pairs)


@pytest.mark.parametrize(
    ("make", "recipe", "mutual"),
    [
        (by_labels, RECIPE, False),
        (by_kd, RECIPE, False),
        (by_vid, RECIPE, False),
        (by_kd, RECIPE, True),
        (by_kd, replace(RECIPE, optimizer="adamw", lr=0.01), False),
        (by_labels, replace(RECIPE, steps=None, until=Until(fitted=0.5, floor=10, ceiling=40, decay=4)), False),
    ],
    ids=["labels", "kd", "vid", "peer", "adamw", "open end"],
)
def test_weights_of_student_adapters_and_peer_are_those_of_one_process(
    train: Train, engine: Engine, two: Engine, make, recipe: Recipe, mutual: bool
) -> None:
    alone, told, measured = train(engine, make, recipe, mutual=mutual)
    together, also_told, also_measured = train(two, make, recipe, mutual=mutual)
    assert apart(together, alone) < TOLERANCE
    assert apart(alone, nn.ModuleList([tower(0, 6), *alone[1:]])) > 0.05  # they have learnt
    assert (also_told.visits, also_told.images) == (told.visits, told.images)
    assert torch.equal(also_told.taught, told.taught)
    for ours, theirs in zip(also_measured, measured, strict=True):
        ratios = {key for key in theirs if key.endswith("ratio")}  # of the share of number 0
        assert ours.keys() == theirs.keys()
        assert all(math.isclose(ours[key], theirs[key], rel_tol=1e-4, abs_tol=1e-6) for key in theirs.keys() - ratios)


def test_a_table_of_answers_is_shared_where_it_is_a_file(train: Train, engine, two: Engine, tmp_path: Path) -> None:
    def kept(live: LiveTeacher, images: Resident) -> CachedTeacher:
        return CachedTeacher(live, images, Table(len(images) * images.augment.count, 3, tmp_path / "rows"))

    together, *_ = train(two, keep=kept)
    written = (tmp_path / "rows").read_bytes()
    alone, *_ = train(engine, keep=kept)
    assert apart(together, alone) < TOLERANCE
    assert (tmp_path / "rows").read_bytes() == written  # both halves of the batches were there
    assert any(written)


def test_batch_norm_is_per_device_and_its_statistics_are_those_of_number_0(train: Train, engine, two: Engine) -> None:
    [alone, *_], _, _ = train(engine, norm=True)
    [together, *_], _, _ = train(two, norm=True)
    assert TOLERANCE < apart(together, alone) < 1.0
    assert together.body[0][1].num_batches_tracked == 20


def drawn(student: Output, teacher: Output | None, batch: Batch) -> Tensor:
    """A random number."""
    return torch.rand(()) + 0 * student.logits.sum()


def test_random_numbers_of_a_helper_are_its_own_and_those_of_number_0_are_those_of_one_process(
    train: Train, engine: Engine, two: Engine
) -> None:
    def make(*_: Network) -> Objective:
        return Objective(1.0, {"drawn": Part(drawn, 1.0, "labelled")})

    def numbers(*address: int) -> float:
        """The mean of those of the first seven steps."""
        with Streams(7).applied("dropout", 0, *address):
            return float(torch.stack([torch.rand(()) for _ in range(7)]).mean())

    figures = [train(one, make)[2][0]["drawn"] for one in (engine, two)]
    assert figures == pytest.approx([numbers(), (numbers() + numbers(1)) / 2])


def test_dropout_is_the_same_when_it_is_repeated(train: Train, two: Engine) -> None:
    first, second = (train(two, dropout=0.5)[0] for _ in range(2))
    assert apart(first, second) == 0.0


class Kept:
    """Keeps every state, and goes on from the second when there are three."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []

    def offer(self, state: Mapping[str, Any]) -> None:
        self.states.append(copy.deepcopy(dict(state)))

    def load(self) -> dict[str, Any] | None:
        return self.states[1] if len(self.states) > 2 else None


class Memory(nn.Module):
    """A term that remembers the features it saw, each process those of its share, and holds new ones against them."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(24))

    def forward(self, student: Output, teacher: Output | None, batch: Batch) -> Tensor:
        loss = (student.features - self.mean).square().mean(1)
        self.mean = (self.mean + student.features.detach().mean(0)) / 2
        return loss


def test_it_goes_on_from_a_check_to_the_same_weights(two: Engine, images, notes) -> None:
    """With batch-norm and a memory, of which each process has its own between the checks."""

    kept, found = Kept(), []
    for _ in range(2):
        student = tower(0, 6, norm=True, dropout=0.5)
        pixels = Resident(images.train.pixels, Augment())
        objective = Objective(1.0, {"memory": Part(Memory(), 1.0, asks_teacher=False)})
        fitted = fit(student, pixels, EXAMPLES, objective, RECIPE, two, Streams(7), notes, keeper=kept)
        found.append((nn.ModuleList([student, objective]), fitted))
    (whole, _), (resumed, fitted) = found
    assert fitted.images < fitted.visits
    assert apart(resumed, whole) == 0.0


def bad(student: Output, teacher: Output | None, batch: Batch, *, image: int) -> Tensor:
    """Not a number for one image."""
    return torch.where(batch.ids == image, torch.nan, 0.0) * student.logits[:, 0]


def test_a_loss_that_is_not_finite_in_a_helper_is_told_with_its_step(train: Train, engine: Engine, two: Engine) -> None:
    order = Order(40, 18, Streams(7).under("labelled"))
    image = int(order.draw(2, 3, 8)[0][0, -1])  # the last row of step 2 is the helper's
    term = Part(partial(bad, image=image), 1.0, "labelled")
    told = []
    for one in (engine, two):
        with pytest.raises(MachineError) as raised:
            train(one, lambda *_: Objective(1.0, {"bad": term}))
        told.append(str(raised.value))
    assert (
        told[0] == told[1] == "the loss of training is not finite at step 2, learning rate 0.0975528: lower recipe.lr"
    )


@pytest.mark.parametrize(("key", "value"), [("batch", 7), ("pool_batch", 5)])
def test_a_batch_that_cannot_be_shared_is_refused(train: Train, two: Engine, key: str, value: int) -> None:
    with pytest.raises(UserError) as refused:
        train(two, recipe=replace(RECIPE, **{key: value}))
    assert str(refused.value) == f"recipe.{key}={value} is not shared evenly (devices=2): a multiple of 2"


# They look at the pool.


@pytest.fixture
def pool() -> Resident:
    """Four batches and a bit."""
    rng = torch.Generator().manual_seed(1)
    return Resident(torch.randint(0, 256, (4 * BATCH + 30, 1, 6, 6), dtype=torch.uint8, generator=rng), Augment(pad=1))


def answers(scorer: Scorer, ids: Tensor) -> list[Tensor]:
    return [scorer.logits(ids), *scorer.look(ids), *scorer.draws(ids, 2, torch.Generator().manual_seed(4))]


@pytest.mark.parametrize("count", [4 * BATCH + 30, 2 * BATCH, BATCH + 1, BATCH, 3, 0])
def test_the_pool_is_seen_as_by_one_process_to_the_bit_draws_included(pool: Resident, two: Engine, count: int) -> None:
    ids = torch.randperm(len(pool), generator=torch.Generator().manual_seed(2))[:count]
    network = tower(0, 6, norm=True, dropout=0.3)
    for ours, theirs in zip(
        answers(Seer(network, pool, team=two.team), ids), answers(Seer(network, pool), ids), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_many_images_are_seen_as_by_one_process_with_batch_norm_folded_in_all_of_them(two: Engine) -> None:
    rng = torch.Generator().manual_seed(1)
    many = Resident(torch.randint(0, 256, (MANY + 10, 1, 6, 6), dtype=torch.uint8, generator=rng), Augment())
    network = tower(0, 6, norm=True, dropout=0.3)
    ids = torch.arange(len(many))
    ours, theirs = answers(Seer(network, many, team=two.team), ids), answers(Seer(network, many), ids)
    assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    assert not torch.equal(ours[3], ours[4])  # two draws


def test_a_helper_looks_at_half_of_the_batches(pool: Resident, two: Engine, monkeypatch) -> None:
    seen: list[int] = []

    class Counting(Resident):
        def whole(self, ids: Tensor) -> Tensor:
            seen.append(len(ids))
            return super().whole(ids)

    Seer(tower(0, 6), Counting(pool.pixels, Augment()), team=two.team).logits(torch.arange(4 * BATCH + 30))
    assert seen == [BATCH, BATCH]
