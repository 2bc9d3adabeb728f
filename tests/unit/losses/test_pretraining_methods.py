"""What a network learns from images alone: the losses against the references' formulas, targets, gradients."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor, nn

import kdal_cli.methods
from kdal_cli.compose.loss import LossPlan
from kdal_cli.compose.registry import names
from kdal_cli.compose.terms import plan_term
from kdal_cli.dataset import Shape
from kdal_cli.losses.barlow_twins import barlow_twins_loss
from kdal_cli.losses.byol import byol_loss
from kdal_cli.losses.nt_xent import nt_xent_loss
from kdal_cli.methods.byol import Byol
from kdal_cli.methods.distillation import Distillation, queue_loss
from kdal_cli.methods.vicreg import covariance_loss, variance_loss, vicreg_loss
from kdal_cli.models.mlp import mlp
from kdal_cli.network import Network
from kdal_cli.training.objective import Objective
from kdal_cli.types import Batch, Examples, Output

CONF = Path(__file__).parents[3] / "conf" / "method"
TAUGHT = {"distillation"}
METHODS = [name for name in names(kdal_cli.methods) if name not in TAUGHT]
SHAPE = Shape(1, 4, 4, 3)
EXAMPLES = Examples(torch.arange(8), torch.zeros(0, dtype=torch.int64))
PIXELS, AGAIN = torch.randint(0, 256, (2, 8, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
BATCH = Batch(torch.arange(8), torch.zeros(8), PIXELS, torch.zeros(0, dtype=torch.int64), again=AGAIN)


def views(seed: int, batch: int = 16, dimensions: int = 6) -> tuple[Tensor, Tensor]:
    drawn = torch.randn(2, batch, dimensions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn[0], drawn[0] + 0.5 * drawn[1]


def section(method: str) -> dict[str, Any]:
    values = OmegaConf.to_container(OmegaConf.load(CONF / f"{method}.yaml"))
    assert isinstance(values, dict)
    return values  # type: ignore[return-value]


def plan(method: str, **changes: Any) -> LossPlan:
    term = plan_term("method", {**section(method), "on": "pool", **changes}, 1.0, [], package=kdal_cli.methods)
    return LossPlan(0.0, 1.0, 0.0, {method: term}, SHAPE)


def network(seed: int = 0) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Network(mlp(SHAPE, hidden=(8,)), (0.5,), (0.25,)).train()


def bits(module: nn.Module) -> Mapping[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


# The losses.


@pytest.mark.parametrize("seed", range(3))
def test_nt_xent_is_a_cross_entropy_over_the_other_views_of_the_batch(seed: int) -> None:
    one, two = (F.normalize(z, dim=1) for z in views(seed))
    off = ~torch.eye(16, dtype=torch.bool)
    own, other = (left @ right.T / 0.5 for left, right in ((one, one), (one, two)))
    others, back = two @ two.T / 0.5, other.T
    a = torch.cat([other, own[off].view(16, -1)], 1)
    b = torch.cat([back, others[off].view(16, -1)], 1)
    expected = F.cross_entropy(torch.cat([a, b]), torch.arange(16).repeat(2))
    assert nt_xent_loss(*views(seed), 0.5).mean().item() == pytest.approx(expected.item(), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_byol_is_twice_one_minus_the_cosine(seed: int) -> None:
    one, two = views(seed)
    expected = 2 - 2 * F.cosine_similarity(one, two).mean()
    assert byol_loss(one, two).mean().item() == pytest.approx(expected.item(), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_barlow_twins_is_the_distance_of_the_correlations_from_the_identity(seed: int) -> None:
    one, two = views(seed)
    normed = [(z - z.mean(0)) / z.std(0, correction=0) for z in (one, two)]
    apart = (normed[0].T @ normed[1] / 16 - torch.eye(6)).square()
    apart[~torch.eye(6, dtype=torch.bool)] *= 0.005
    assert barlow_twins_loss(one, two, 0.005).item() == pytest.approx(apart.sum().item(), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_vicreg_is_the_authors_loss(seed: int) -> None:
    one, two = (0.3 * z for z in views(seed))
    expected = 25 * F.mse_loss(one, two)
    for z in (one, two):
        centred = z - z.mean(0)
        deviation = torch.sqrt(centred.var(0) + 1e-4)
        covariance = torch.einsum("bc,bd->cd", centred, centred) / 15
        expected += 25 * F.relu(1 - deviation).mean() / 2
        expected += covariance[~torch.eye(6, dtype=torch.bool)].pow(2).sum() / 6
    assert vicreg_loss(one, two, 25.0, 25.0, 1.0).item() == pytest.approx(expected.item(), abs=1e-9)


def test_vicreg_holds_collapse_for_the_worst() -> None:
    alike = torch.ones(8, 4, dtype=torch.float64)
    assert variance_loss(alike).item() == pytest.approx(0.99)
    assert covariance_loss(alike).item() == 0
    twice = torch.randn(8, 1, dtype=torch.float64).expand(8, 2)
    assert covariance_loss(twice).item() == pytest.approx(twice[:, 0].var().item() ** 2)


# The methods.


def test_every_method_can_be_chosen_and_asks_for_two_views_and_no_teacher() -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} == {*METHODS, *TAUGHT, "loss"}
    assert all(plan(method).needs_teacher for method in TAUGHT)
    for method in METHODS:
        part = plan(method).terms[method].part
        assert (part.others, part.asks_teacher, part.on) == (("again",), False, "pool")


@pytest.mark.parametrize("method", METHODS)
def test_a_step_moves_the_body_and_the_projector_and_leaves_the_head(method: str) -> None:
    student = network()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        objective: Objective = plan(method)(student, None, EXAMPLES).train()
    before, heads = bits(student), [name for name in student.state_dict() if name.startswith("body.fc")]
    losses = objective(student(PIXELS), None, BATCH, 0.0)
    assert set(losses) == {method}
    losses[method].backward()
    learners = [p for p in (*student.parameters(), *objective.parameters()) if p.requires_grad]
    assert losses[method].isfinite()
    assert any(p.grad is not None for p in objective.parameters())
    torch.optim.SGD(learners, lr=0.1).step()
    moved = {name for name, tensor in student.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved
    assert heads
    assert not moved & set(heads)


def test_byols_target_is_the_slow_mean_of_the_network_and_learns_nothing_itself() -> None:
    student = network()
    term = Byol(student(PIXELS), None, EXAMPLES, hidden=4, dimensions=3).train()
    mean = {name: p.detach().clone() for name, p in student.named_parameters()}
    for momentum in (0.9, 0.5, 1.0):
        for p in student.parameters():
            p.data.add_(1.0)
        term(student(PIXELS), None, BATCH, AGAIN, momentum=momentum).mean().backward()
        mean = {n: momentum * mean[n] + (1 - momentum) * p.detach() for n, p in student.named_parameters()}
        for name, p in term.target.named_parameters():
            torch.testing.assert_close(p, mean[name])
    targets = [*term.target.parameters(), *term.target_projector.parameters()]
    assert all(p.grad is None and not p.requires_grad for p in targets)
    before = bits(term.target)
    term.eval()(student(PIXELS), None, BATCH, AGAIN)
    assert all(torch.equal(tensor, before[name]) for name, tensor in term.target.state_dict().items())


def test_byols_momentum_rises_to_one_by_a_cosine() -> None:
    schedule = plan("byol").terms["byol"].part.scheduled["momentum"]
    assert (schedule(0.0), schedule(0.5), schedule(1.0)) == pytest.approx((0.99, 0.995, 1.0))


# From a teacher.


def test_the_queue_loss_is_the_divergence_of_two_softmaxes_over_what_the_queue_holds() -> None:
    queue = torch.tensor([[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]], dtype=torch.float64)
    held, one, two = torch.tensor([True, True, False]), torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0, 0.0]])
    found = queue_loss(one.double(), two.double(), queue, held, 0.5, 0.25)
    theirs, ours = F.softmax(torch.tensor([4.0, 0.0]), 0), F.softmax(torch.tensor([1.2, 1.6]), 0)
    assert found.item() == pytest.approx(float((theirs * (theirs / ours).log()).sum()), abs=1e-6)
    assert queue_loss(two.double(), two.double(), queue, held, 0.25, 0.25).item() == pytest.approx(0, abs=1e-12)


def test_its_queue_has_the_newest_first_forgets_the_oldest_and_stands_still_outside_training() -> None:
    """With SEED's loop written anew: the teacher's features are put into the queue before they are compared with it."""
    features = [torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in range(4)]
    blank = torch.zeros(1, 2, dtype=torch.float64)
    term = Distillation(Output(blank, features[0][0]), Output(blank, features[0][1]), EXAMPLES, queue=7).double()
    kept = torch.empty(0, 4, dtype=torch.float64)
    for student, teacher in features:
        kept = torch.cat([F.normalize(teacher), kept])[:7]
        logits, targets = (F.normalize(x) @ kept.T / 0.07 for x in (term.projector(student), teacher))
        expected = F.kl_div(logits.log_softmax(1), targets.softmax(1), reduction="none").sum(1)
        value = term(Output(blank, student), Output(blank, teacher.requires_grad_()), BATCH)
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-9)
        value.sum().backward()
        assert teacher.grad is None
    before = bits(term)
    term.eval()(Output(blank, features[0][0]), Output(blank, features[0][1]), BATCH)
    assert all(torch.equal(tensor, before[name]) for name, tensor in bits(term).items())
