"""Correlation congruence as its authors compute it, against a loop by hand; and what that has and lacks.

B batch, d numbers of an embedding.
"""

import math

import pytest
import torch
from torch import Tensor

from kdal_cli.losses.cc import Cc, cc_loss
from kdal_cli.types import Batch, Examples, Output

EXAMPLES = Examples(torch.arange(5), torch.arange(0))
BATCH = Batch(torch.arange(5), torch.zeros(5), torch.zeros(5, 1, 1, 1), torch.zeros(0, dtype=torch.int64))


def embeds(seed: int, batch: int = 5, width: int = 3) -> Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def output(features: Tensor) -> Output:
    return Output(torch.zeros(len(features), 2), features)


def test_it_is_the_mean_over_neighbours_of_the_products_of_their_distances() -> None:
    student, teacher = embeds(0), embeds(1)
    rows = zip(student.tolist(), teacher.tolist(), strict=True)
    apart = [[abs(x - y) for x, y in zip(s, t, strict=True)] for s, t in rows]
    expected = math.fsum(x * y for b in range(4) for x, y in zip(apart[b], apart[b + 1], strict=True)) / 4
    assert cc_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_three_images_by_hand() -> None:
    """δ = (1, 2), (3, 0), (2, 5): (1·3 + 2·0 + 3·2 + 0·5) / 2."""
    student = torch.tensor([[1.0, -2.0], [0.0, 4.0], [7.0, 5.0]])
    teacher = torch.tensor([[0.0, 0.0], [-3.0, 4.0], [5.0, 0.0]])
    assert cc_loss(student, teacher).item() == 4.5


def test_one_image_has_no_neighbour_and_a_gradient_of_zero() -> None:
    student = embeds(2, batch=1).requires_grad_()
    value = cc_loss(student, embeds(3, batch=1))
    value.backward()
    assert value == 0
    assert torch.equal(student.grad, torch.zeros_like(student))


def test_every_other_image_may_be_as_wrong_as_it_likes() -> None:
    """What the formula cannot see: between two images that are right, any difference is multiplied by zero."""
    teacher = embeds(4)
    wrong = teacher + 100 * torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0])[:, None]
    assert cc_loss(wrong, teacher) == 0


def test_the_papers_distance_of_matrices_which_torchdistill_has_is_another_number() -> None:
    """The authors' code, which the CRD benchmark has from them, is not the paper's formula."""
    peer = pytest.importorskip("torchdistill.losses.mid_level").CCKDLoss("s", "t", {"type": "bilinear"}, "batchmean")
    teacher = embeds(5)
    for student, alike in ((teacher, True), (-teacher, False)):  # −e has the matrix of e
        assert peer({"s": {"output": student}}, {"t": {"output": teacher}}) == 0
        assert (cc_loss(student, teacher) == 0) == alike


def test_the_embeddings_take_features_of_any_widths_to_one_and_both_are_trained() -> None:
    student, teacher = output(embeds(6, width=4).float()), output(embeds(7, width=9).float())
    term = Cc(student, teacher, EXAMPLES, width=6)
    value = term(student, teacher, BATCH)
    value.backward()
    expected = cc_loss(term.student_embed(student.features), term.teacher_embed(teacher.features))
    assert torch.equal(value, expected)
    assert {name: tuple(p.shape) for name, p in term.named_parameters() if p.dim() == 2} == {
        "student_embed.weight": (6, 4),
        "teacher_embed.weight": (6, 9),
    }
    assert all(p.grad.abs().sum() > 0 for p in term.parameters())


def test_the_derivative_is_that_of_finite_differences() -> None:
    assert torch.autograd.gradcheck(cc_loss, (embeds(8).requires_grad_(), embeds(9).requires_grad_()))
