"""Students that learn from two views of an image: the views come with the batch, and a stop costs not a bit."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdal_cli.compose.loss import plan_loss
from kdal_cli.losses.kd import kd
from kdal_cli.network import Network
from kdal_cli.records.snapshots import Snapshots
from kdal_cli.streams import Streams
from kdal_cli.training.answers import LiveTeacher
from kdal_cli.training.fit import fit
from kdal_cli.training.job import Fitted
from kdal_cli.training.objective import Objective, Part
from kdal_cli.training.recipe import Recipe
from kdal_cli.training.sight import doubled, look
from kdal_cli.types import Batch, Examples, Output

RECIPE = Recipe(steps=12, batch=4, pool_batch=8, lr=0.05, checks=3, ema=0.9)
TERMS: dict[str, dict[str, Any]] = {
    "fixmatch": {"threshold": 0.4, "align": True, "momentum": 0.9},
    "freematch": {"momentum": 0.9},
    "mean_teacher": {"decay": 0.9},
    "uda": {"threshold": 0.4},
    "comatch": {"on": "both", "threshold": 0.4, "memory": 36, "smoothing": 0.5},
    "simmatch": {"on": "both", "threshold": 0.4, "smoothing": 0.5},
    "pseudo_label": {"threshold": 0.4},
}


class Album(Snapshots):
    """Snapshots at every check, each of them kept."""

    def offer(self, state: Mapping[str, Any]) -> None:
        super().offer(state)
        shutil.copy(self.path, self.path.with_suffix(f".{state['step']}"))


@pytest.fixture
def run(images, resident, engine, notes) -> Callable[..., Fitted]:
    """`run(student, objective, recipe=…, …)` on 12 labelled images and a pool of 60."""
    examples = Examples(torch.arange(72), images.train.labels.all()[:12])

    def run(student: Network, objective: Objective, recipe: Recipe = RECIPE, **rest: Any) -> Fitted:
        return fit(student, resident, examples, objective, recipe, engine, Streams(7), notes, **rest)

    return run


def objective(student: Network, name: str, images, **changes: Any) -> Objective:
    section = {name: {"name": name, "on": "pool", **TERMS[name], **changes}}
    examples = Examples(torch.arange(72), images.train.labels.all()[:12])
    return plan_loss(section, [], images.shape)(student, None, examples)


@pytest.mark.parametrize("name", TERMS)
def test_a_stopped_training_goes_on_to_the_same_bits(name: str, tmp_path: Path, run, make_network, images) -> None:
    """Thresholds, means of weights and of answers, and what the log says of them."""

    def train(folder: str, seed: int) -> tuple[Network, Objective, Fitted]:
        student = make_network(seed, dropout=0.3)
        loss = objective(student, name, images)
        return student, loss, run(student, loss, keeper=Album(tmp_path / folder, "here", every=0.0))

    whole, loss, fitted = train("whole", seed=0)
    before = {key: tensor.clone() for key, tensor in loss.state_dict().items()}
    for step in (4, 8):
        shutil.copy(tmp_path / f"whole.{step}", tmp_path / "resumed")
        again, loss_again, fitted_again = train("resumed", seed=1)
        for ours, theirs in ((again.state_dict(), whole.state_dict()), (loss_again.state_dict(), before)):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        assert fitted_again.losses == fitted.losses
        assert loss_again.settings(1.0) == loss.settings(1.0)


def test_what_counts_and_from_which_threshold_is_in_the_log(run, make_network, images, notes) -> None:
    student = make_network()
    run(student, objective(student, "freematch", images))
    assert all({"freematch", "freematch.mask", "freematch.threshold"} <= set(line) for line in notes.measured)
    assert 1 / 3 < notes.measured[-1]["freematch.threshold"] < 1
    assert 0 <= notes.measured[-1]["freematch.mask"] <= 1


def test_the_student_is_charged_for_the_strong_views_too(run, make_network, images) -> None:
    student = make_network()
    fitted = run(student, objective(student, "fixmatch", images))
    assert (fitted.visits, fitted.strong) == (12 * 12, 12 * 8)
    fitted = run(student, objective(student, "fixmatch", images, on="both"))
    assert fitted.strong == 12 * 12
    assert run(student, objective(student, "mean_teacher", images)).strong == 0
    assert run(student, objective(student, "comatch", images)).strong == 2 * 12 * 8, "two views, of the pool alone"


def test_beside_a_teacher_it_sees_the_same_images(run, make_network, images, engine) -> None:
    student, teacher = make_network(), make_network(3)
    loss = objective(student, "fixmatch", images)
    both = Objective(0.5, {**loss.parts, "kd": Part(kd, 0.5)})
    fitted = run(student, both, teacher=LiveTeacher(teacher, engine, "fp32"))
    assert set(fitted.losses) == {"ce", "kd", "fixmatch"}
    assert len(fitted.taught) == 72


def test_sure_answers_to_weak_views_are_learnt_from_strong_ones(run, make_network, images, resident) -> None:
    student, alone = make_network(width=32), make_network(width=32)
    longer = Recipe(steps=150, batch=4, pool_batch=32, lr=0.05, checks=1)
    fitted = run(student, objective(student, "fixmatch", images, threshold=0.8, align=False), longer)
    run(alone, Objective(), longer)
    assert fitted.losses["fixmatch"] > 0
    ids, truth = torch.arange(12, 72), images.train.labels.all()[12:72]
    with torch.no_grad():
        answers = [network.eval()(resident.strong(ids, ids)).logits for network in (student, alone)]
    ours, theirs = (float(F.cross_entropy(logits, truth)) for logits in answers)
    assert ours < 0.8 * theirs


def test_a_student_looks_at_both_views_in_one_pass(make_network, images) -> None:
    calls: list[int] = []
    student = make_network()
    student.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    pixels = images.train.pixels[:6]
    batch = Batch(torch.arange(6), torch.zeros(6), pixels, torch.zeros(2, dtype=torch.int64))
    plain = look(student, batch)
    seen = look(student, doubled(batch, {"strong": "pool"}))
    assert calls == [6, 10]
    assert plain.strong is None
    assert seen.strong is not None
    torch.testing.assert_close(seen.strong.logits, plain.logits[2:])
    torch.testing.assert_close(seen.logits, plain.logits)


def test_terms_of_different_parts_share_the_views(images) -> None:
    def one(student: Output, teacher: Output | None, batch: Batch, strong: Output) -> Tensor:
        return strong.logits.sum(1)

    pool = Part(one, 1.0, "pool", asks_teacher=False, others=("strong",))
    parts = {"a": pool, "b": replace(pool, on="both")}
    assert Objective(1.0, {"a": parts["a"]}).more == {"strong": "pool"}
    assert Objective(1.0, parts).more == {"strong": "both"}
    student = Output(torch.zeros(6, 3), torch.zeros(6, 3), strong=Output(torch.arange(6.0)[:, None], torch.zeros(6, 1)))
    batch = Batch(torch.arange(6), torch.zeros(6), torch.zeros(6), torch.zeros(2, dtype=torch.int64))
    losses = Objective(0.0, parts)(student, None, batch, 0.0)
    assert (losses["a"].item(), losses["b"].item()) == (3.5, 2.5)  # of images 2 to 5, and of all
