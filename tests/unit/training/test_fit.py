"""The one training loop: it learns, it repeats to the bit, it goes on from any check, and it stops at a NaN."""

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdal_cli.dataset import ImageData
from kdal_cli.devices.engine import Engine
from kdal_cli.errors import KdalError, MachineError
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.inference.predict import predict
from kdal_cli.losses.kd import kd
from kdal_cli.network import Network
from kdal_cli.records.snapshots import Snapshots
from kdal_cli.streams import Streams
from kdal_cli.training.answers import LiveTeacher
from kdal_cli.training.fit import fit
from kdal_cli.training.job import Fitted
from kdal_cli.training.objective import Objective, Part
from kdal_cli.training.recipe import Recipe, Until
from kdal_cli.training.schedules import Schedule
from kdal_cli.types import Batch, Examples, Output, Unwatched

QUICK = Recipe(steps=24, batch=8, pool_batch=4, lr=0.1, checks=3)
Learn = Callable[..., Fitted]


@pytest.fixture
def learn(images: ImageData, resident: Resident, engine: Engine, notes) -> Learn:
    """`learn(student, recipe, labels=…, …)`: train on the first images, everything else by default."""

    def run(student: Network, recipe: Recipe = QUICK, objective: Objective | None = None, labels: int = 40, **rest):
        pool = rest.pop("pool", torch.arange(0))
        examples = Examples(torch.cat([torch.arange(labels), pool]), images.train.labels.all()[:labels])
        watcher, seen = rest.pop("watcher", notes), rest.pop("images", resident)
        return fit(student, seen, examples, objective or Objective(), recipe, engine, Streams(7), watcher, **rest)

    return run


class Blank:
    """A teacher with nothing to say, for terms that look at something else."""

    seconds = 0.0

    def announce(self, ids: Tensor, views: Tensor) -> None: ...

    def __call__(self, batch: Batch) -> Output:
        return Output(torch.zeros(len(batch.ids), 3), torch.zeros(len(batch.ids), 1))

    def classes_of(self, images: Resident, ids: Tensor) -> Tensor:
        return torch.full((len(ids),), -1)


def weights(network: Network) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def accuracy(network: Network, images: ImageData) -> float:
    logits = predict(network, Resident(images.test.pixels, Augment()), torch.arange(len(images.test))).logits
    return float((logits.argmax(1) == images.test.labels.all()).float().mean())


# It learns.


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_from_labels_it_learns_what_there_is_to_learn(optimizer: str, learn: Learn, make_network, images) -> None:
    student, plain = make_network(width=32), Resident(images.train.pixels, Augment())
    recipe = Recipe(steps=150, batch=32, lr={"sgd": 0.05, "adamw": 0.01}[optimizer], optimizer=optimizer)  # type: ignore[arg-type]
    learn(student, recipe, labels=96, images=plain)
    assert accuracy(make_network(width=32), images) < 0.8
    assert accuracy(student, images) >= 0.95


def test_from_a_teacher_it_learns_classes_of_which_it_was_shown_no_label(
    learn: Learn, make_network, images, engine
) -> None:
    teacher, student = make_network(1, width=32), make_network(2, width=32)
    plain = Resident(images.train.pixels, Augment())
    learn(teacher, Recipe(steps=150, batch=32, lr=0.05), labels=96, images=plain)
    cats = torch.nonzero(images.train.labels.all() == 0)[:2, 0]
    fit(
        student,
        plain,
        Examples(torch.cat([cats, torch.arange(96)]), images.train.labels.all()[cats]),
        Objective(0.1, {"kd": Part(kd, 0.9, "pool")}),
        Recipe(steps=200, batch=2, pool_batch=32, lr=0.02),
        engine,
        Streams(0),
        Unwatched(),
        teacher=LiveTeacher(teacher, engine, "fp32"),
    )
    assert accuracy(student, images) >= 0.95


# It says what it does.


def test_it_reports_length_images_losses_and_rate_check_by_check(learn: Learn, make_network, notes) -> None:
    fitted = learn(make_network(), what="round 3")
    assert notes.begun == [("round 3", 24)]
    assert (notes.steps, notes.images, notes.ended) == (24, 24 * 8, 1)
    assert (fitted.steps, fitted.images) == (24, 24 * 8)
    assert [line["lr"] for line in notes.measured] == [QUICK.rate((stop - 1) / 24) for stop in (8, 16, 24)]
    assert all(line["loss"] == line["ce"] for line in notes.measured)
    assert fitted.losses == {"ce": notes.measured[-1]["ce"]}
    assert fitted.seconds > 0


def test_the_figures_are_the_means_of_the_steps_since_the_last_check(learn: Learn, make_network, notes) -> None:
    seen: list[float] = []

    def counted(student: Output, teacher: Output, batch: Batch) -> Tensor:
        seen.append(float(len(seen)))
        return student.logits.sum(1) * 0 + seen[-1]

    learn(make_network(), objective=Objective(1.0, {"counted": Part(counted, 0.5)}), teacher=Blank())
    assert [line["counted"] for line in notes.measured] == pytest.approx([0.5 * 3.5, 0.5 * 11.5, 0.5 * 19.5])


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize("batch", [8, 7])
def test_with_more_checks_than_steps_every_step_is_checked_once(
    steps: int, batch: int, learn, make_network, notes
) -> None:
    fitted = learn(make_network(), Recipe(steps=steps, batch=batch, checks=9), labels=8)
    assert len(notes.measured) == steps
    assert all(line["loss"] > 0 for line in notes.measured)
    assert fitted.losses["ce"] > 0


def test_what_is_scheduled_is_logged_as_it_was_at_the_check(learn: Learn, make_network, notes, engine) -> None:
    falling = Schedule("linear", start=8.0, end=2.0)
    objective = Objective(1.0, {"kd": Part(kd, 0.5, scheduled={"temperature": falling})})
    learn(make_network(), objective=objective, teacher=LiveTeacher(make_network(1), engine, "fp32"))
    assert [line["kd.temperature"] for line in notes.measured] == [falling((stop - 1) / 24) for stop in (8, 16, 24)]


def test_the_best_check_is_kept_the_later_of_equals(learn: Learn, make_network) -> None:
    scripted, at_check = [0.5, 0.9, 0.9, 0.4], []

    def validate(network: Network) -> float:
        at_check.append(weights(network))
        return scripted[len(at_check) - 1]

    student = make_network()
    fitted = learn(student, Recipe(steps=24, batch=8, checks=4), validate=validate)
    assert fitted.best_accuracy == 0.9
    assert same(fitted.best, at_check[2])
    assert same(weights(student), at_check[3])


def test_without_validation_no_check_is_best(learn: Learn, make_network) -> None:
    fitted = learn(make_network())
    assert (fitted.best, fitted.best_accuracy) == (None, None)


# It repeats.


def test_twice_is_the_same_to_the_bit_and_the_world_outside_is_left_alone(learn: Learn, make_network) -> None:
    ends = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        student = make_network(dropout=0.3)
        learn(student)
        assert torch.equal(torch.get_rng_state(), before)
        ends.append(weights(student))
    assert same(*ends)


def test_no_two_steps_draw_the_same_dropout_across_checks_too(learn: Learn, make_network) -> None:
    """A term that takes a number from the generator that dropout takes its masks from."""
    drawn: list[float] = []

    def draw(student: Output, teacher: Output, batch: Batch) -> Tensor:
        drawn.append(float(torch.rand(())))
        return student.logits.sum(1) * 0

    learn(make_network(), objective=Objective(1.0, {"draw": Part(draw, 1.0, "labelled")}), teacher=Blank())
    assert len(set(drawn)) == len(drawn) == 24


def test_a_student_that_comes_in_eval_mode_trains_with_its_dropout_on_all_the_same(learn: Learn, make_network) -> None:
    awake, asleep = make_network(dropout=0.5).train(), make_network(dropout=0.5).eval()
    learn(awake)
    learn(asleep)
    assert same(weights(asleep), weights(awake))


def test_another_address_is_another_training(images, resident, engine, make_network) -> None:
    labelled, ends = Examples(torch.arange(40), images.train.labels.all()[:40]), []
    for round in (0, 1):
        student = make_network()
        fit(student, resident, labelled, Objective(), QUICK, engine, Streams(7).under("fit", round), Unwatched())
        ends.append(weights(student))
    assert not same(*ends)


def test_a_teacher_of_weight_zero_leaves_the_bits_of_plain_training(learn: Learn, make_network, engine) -> None:
    """The pool stays out too: with no teacher there is nothing to do with it."""
    plain, with_teacher = make_network(), make_network()
    learn(plain)
    objective = Objective(1.0, {"kd": Part(kd, 0.0)})
    teacher = LiveTeacher(make_network(1), engine, "fp32")
    learn(with_teacher, objective=objective, teacher=teacher, pool=torch.arange(40, 96))
    assert same(weights(with_teacher), weights(plain))


@pytest.mark.parametrize(("on", "images_a_step"), [("labelled", 8), ("pool", 12), ("both", 12)])
def test_the_pool_is_drawn_where_a_term_looks_at_it(on, images_a_step: int, learn: Learn, make_network, engine) -> None:
    teacher = LiveTeacher(make_network(1), engine, "fp32")
    objective = Objective(1.0, {"kd": Part(kd, 1.0, on)})
    fitted = learn(make_network(), objective=objective, teacher=teacher, pool=torch.arange(40, 96))
    assert fitted.images == 24 * images_a_step


class Album(Snapshots):
    """Snapshots at every check, each of them kept."""

    def offer(self, state: Mapping[str, Any]) -> None:
        super().offer(state)
        shutil.copy(self.path, self.path.with_suffix(f".{state['step']}"))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_from_the_snapshot_of_every_check_it_goes_on_to_the_same_bits(
    optimizer: str, tmp_path: Path, learn: Learn, make_network, images, engine
) -> None:
    """With all that has a state: momentum, dropout, a term that learns, schedules, the best check so far."""
    recipe = Recipe(steps=24, batch=8, pool_batch=4, lr=0.01, checks=4, optimizer=optimizer)  # type: ignore[arg-type]
    teacher = make_network(9, width=8)
    teacher.tap(["layer1"])

    def train(name: str, seed: int) -> tuple[Network, nn.Module, Fitted]:
        student = make_network(seed, dropout=0.3)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            learnt = Follow(16, 8)
        student.tap(["layer1"])
        parts = {"kd": Part(kd, Schedule("linear", end=1.0)), "follow": Part(learnt, 0.1)}
        fitted = learn(
            student,
            recipe,
            Objective(0.5, parts),
            teacher=LiveTeacher(teacher, engine, "fp32"),
            pool=torch.arange(40, 96),
            validate=lambda network: accuracy(network, images),
            keeper=Album(tmp_path / name, "here", every=0.0),
        )
        return student, learnt, fitted

    whole, learnt, fitted = train("whole", seed=0)
    for step in (6, 12, 18, 24):
        shutil.copy(tmp_path / f"whole.{step}", tmp_path / "resumed")
        again, learnt_again, fitted_again = train("resumed", seed=1)
        assert same(weights(again), weights(whole)), f"from step {step}"
        assert same(learnt_again.state_dict(), learnt.state_dict())
        assert same(fitted_again.best, fitted.best)
        assert fitted_again.best_accuracy == fitted.best_accuracy


class Follow(nn.Module):
    """A term with an adapter, from the student's width to the teacher's."""

    def __init__(self, narrow: int, wide: int) -> None:
        super().__init__()
        self.adapter = nn.Linear(narrow, wide)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        return (self.adapter(student.maps["layer1"]) - teacher.maps["layer1"]).square().mean(1)


def test_a_resumed_training_says_how_far_it_was(tmp_path: Path, learn: Learn, make_network, notes) -> None:
    learn(make_network(), keeper=Album(tmp_path / "s", "a", every=0.0), watcher=Unwatched())
    shutil.copy(tmp_path / "s.16", tmp_path / "s")
    fitted = learn(make_network(), keeper=Album(tmp_path / "s", "a", every=0.0))
    assert (notes.steps, len(notes.measured)) == (24, 1)
    assert fitted.images == 8 * 8


# It ends when it has learnt.


OPEN = Recipe(until=Until(floor=30, ceiling=400, decay=10), batch=16, lr=0.1, warmup=0.1, checks=2)


def test_with_an_open_end_it_trains_until_the_labels_are_fitted_and_ten_steps_more(
    learn: Learn, make_network, images, notes
) -> None:
    student, plain = make_network(width=32), Resident(images.train.pixels, Augment())
    fitted = learn(student, OPEN, labels=96, images=plain)
    assert notes.begun == [("training", 400)]
    assert 30 <= fitted.steps < 400
    assert notes.steps == fitted.steps
    assert fitted.visits == fitted.images == fitted.steps * 16
    looked = [line["fitted"] for line in notes.measured if "fitted" in line]
    assert looked[-1] >= 0.99
    assert all(share < 0.99 for share in looked[:-1])
    answers = predict(student, plain, torch.arange(96)).logits.argmax(1)
    assert float((answers == images.train.labels.all()).float().mean()) >= 0.99
    assert notes.measured[-1]["lr"] == pytest.approx(0.1 * (1 + math.cos(0.9 * math.pi)) / 2)


def test_what_cannot_be_fitted_ends_at_the_ceiling(learn: Learn, make_network, images) -> None:
    nothing = Resident(torch.zeros_like(images.train.pixels), Augment())
    recipe = replace(OPEN, until=Until(floor=30, ceiling=70, decay=10))
    assert learn(make_network(), recipe, images=nothing).steps == 70


def test_a_label_that_the_teacher_contradicts_is_fitted_by_either_answer(
    learn: Learn, make_network, images, engine
) -> None:
    """The teacher knows better about a quarter of the labels, and has nearly all of the loss."""
    plain, truth = Resident(images.train.pixels, Augment()), images.train.labels.all()
    teacher, student = make_network(1, width=32), make_network(2, width=32)
    learn(teacher, Recipe(steps=150, batch=32, lr=0.05), labels=96, images=plain)
    wrong = torch.where(torch.arange(96) % 4 == 0, (truth + 1) % 3, truth)
    examples, live = Examples(torch.arange(96), wrong), LiveTeacher(teacher, engine, "fp32")
    objective = Objective(0.05, {"kd": Part(kd, 0.95)})
    fitted = fit(student, plain, examples, objective, OPEN, engine, Streams(0), Unwatched(), teacher=live)
    answers = predict(student, plain, torch.arange(96)).logits.argmax(1)
    assert float((answers == wrong).float().mean()) < 0.9
    assert fitted.fitted == float(
        ((answers == wrong) | (answers == live.classes_of(plain, examples.ids))).float().mean()
    )
    assert fitted.fitted >= 0.99
    assert fitted.steps < OPEN.until.ceiling


@pytest.mark.parametrize(("hard", "all_of_them"), [(0.4, True), (0.5, False)])
def test_a_teacher_that_is_asked_what_is_fitted_has_answered_about_it(
    hard: float, all_of_them: bool, learn: Learn, make_network, engine
) -> None:
    """What it is asked has a price; and where the labels have half of the loss, they say what is fitted."""
    objective, teacher = Objective(hard, {"kd": Part(kd, 1 - hard)}), LiveTeacher(make_network(1), engine, "fp32")
    fitted = learn(make_network(), Recipe(steps=1, batch=8, checks=1), objective, teacher=teacher)
    assert len(fitted.taught) == (40 if all_of_them else 8)


def test_validation_is_measured_in_the_decay_alone(learn: Learn, make_network) -> None:
    seen: list[None] = []
    learn(make_network(), OPEN, validate=lambda network: 0.5 + len(seen.append(None) or seen))
    assert len(seen) == OPEN.checks


def test_an_open_end_resumes_to_the_same_length_and_the_same_bits_from_every_stop(
    tmp_path: Path, learn: Learn, make_network, engine
) -> None:
    """With dropout, and a schedule that hangs on the progress."""

    def train(name: str, seed: int) -> tuple[Network, int]:
        student, objective = make_network(seed, dropout=0.3), Objective(0.5, {"kd": Part(kd, Schedule("linear", 1.0))})
        teacher = LiveTeacher(make_network(9), engine, "fp32")
        keeper = Album(tmp_path / name, "here", every=0.0)
        recipe = replace(OPEN, optimizer="adamw", lr=0.01)
        pool = torch.arange(40, 96)
        fitted = learn(student, recipe, objective, labels=20, teacher=teacher, pool=pool, keeper=keeper)
        return student, fitted.steps

    whole, steps = train("whole", seed=0)
    stops = sorted(int(path.suffix[1:]) for path in tmp_path.glob("whole.*"))
    assert stops[-1] == steps
    assert len(stops) > 4
    for stop in stops:
        shutil.copy(tmp_path / f"whole.{stop}", tmp_path / "resumed")
        again, length = train("resumed", seed=1)
        assert length == steps
        assert same(weights(again), weights(whole)), f"from step {stop}"


# It stops.


def spoil_from(step: int, steps: int) -> Objective:
    """A loss that is NaN from a step on."""

    def spoil(student: Output, teacher: Output, batch: Batch, *, progress: float) -> Tensor:
        return student.logits.sum(1) * (math.nan if progress >= step / steps - 1e-9 else 0.0)

    clock = {"progress": Schedule("linear", start=0.0, end=1.0)}
    return Objective(1.0, {"spoil": Part(spoil, 1.0, scheduled=clock)})


@pytest.mark.parametrize("step", [0, 13, 23])
def test_a_loss_that_is_not_finite_stops_it_naming_round_step_and_learning_rate(
    step: int, tmp_path: Path, learn: Learn, make_network
) -> None:
    keeper = Album(tmp_path / "s", "a", every=0.0)
    with pytest.raises(MachineError) as stopped:
        learn(make_network(), objective=spoil_from(step, 24), teacher=Blank(), keeper=keeper, what="round 5")
    rate = QUICK.rate(step / 24)
    assert str(stopped.value) == (
        f"the loss of round 5 is not finite at step {step}, learning rate {rate:g}: lower recipe.lr"
    )
    state = keeper.load()
    assert (state["step"] if state else 0) == step // 8 * 8  # nothing spoilt was kept


def test_a_learning_rate_beyond_all_bounds_stops_it_in_the_last_step_too(learn: Learn, make_network) -> None:
    """The loss of the last step is finite, and the weights after it are not: nobody would notice."""
    with pytest.raises(MachineError, match="not finite"):
        learn(make_network(), Recipe(steps=1, batch=8, lr=1e39, checks=1))


def test_a_loss_with_nothing_to_look_at_is_refused_in_a_sentence(learn: Learn, make_network, engine) -> None:
    """Distillation on the pool alone, and the last round has emptied the pool."""
    objective = Objective(0.0, {"kd": Part(kd, 1.0, "pool")})
    teacher = LiveTeacher(make_network(1), engine, "fp32")
    with pytest.raises(KdalError, match="looks at no image"):
        learn(make_network(), objective=objective, teacher=teacher, pool=torch.arange(0))


# It follows the recipe.


def walk(rates: list[float], momentum: float, nesterov: bool) -> float:
    """How far gradient descent goes down a slope of 1: v ← momentum · v + 1, and a step of rate · v (or one ahead)."""
    far = speed = 0.0
    for rate in rates:
        speed = momentum * speed + 1
        far += rate * (1 + momentum * speed if nesterov else speed)
    return far


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "step"])
@pytest.mark.parametrize(
    ("optimizer", "momentum", "nesterov"),
    [("sgd", 0.0, False), ("sgd", 0.9, False), ("sgd", 0.9, True), ("adamw", 0.0, False)],
)
def test_every_step_is_as_long_as_recipe_and_schedule_say(
    schedule, optimizer, momentum: float, nesterov: bool, learn: Learn, make_network
) -> None:
    """The loss is the sum of the logits: the classifier's bias goes down a slope of 1. Adam's step is its rate."""
    recipe = Recipe(steps=12, batch=8, lr=0.1, optimizer=optimizer, momentum=momentum, nesterov=nesterov,
                    weight_decay=0.0, schedule=schedule, warmup=0.25, milestones=(0.5,), checks=5)  # fmt: skip
    slope = Objective(0.0, {"slope": Part(lambda student, teacher, batch: student.logits.sum(1), 1.0, "labelled")})
    student, before = make_network(), make_network().body.fc.bias.detach()
    learn(student, recipe, slope, teacher=Blank())
    far = walk([recipe.rate(step / 12) for step in range(12)], momentum, nesterov)
    torch.testing.assert_close(before - student.body.fc.bias.detach(), torch.full((3,), far), rtol=1e-4, atol=1e-5)


def test_weights_move_at_the_first_step_of_a_warm_up_too(learn: Learn, make_network) -> None:
    student, before = make_network(), weights(make_network())
    learn(student, Recipe(steps=1, batch=8, warmup=0.5, checks=1))
    assert not same(weights(student), before)


def test_no_label_of_a_pool_image_is_ever_read(learn: Learn, make_network, engine, images, resident) -> None:
    """The labels that `fit` is given are those of the labelled ids, so that there is nothing else to read: a batch of
    the pool alone shows a term no label at all."""
    shown: set[int] = set()

    def look(student: Output, teacher: Output, batch: Batch) -> Tensor:
        shown.add(len(batch.labels))
        return student.logits.sum(1) * 0

    learn(
        make_network(),
        objective=Objective(1.0, {"look": Part(look, 1.0, "pool")}),
        teacher=LiveTeacher(make_network(1), engine, "fp32"),
        pool=torch.arange(40, 96),
    )
    assert shown == {0}
