"""Signs that a network has learnt nothing. N images, C classes."""

import pytest
import torch

from kdal_cli.errors import MachineError
from kdal_cli.metrics.signs import alike, one_answer, undecided

ORDINARY = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 1.0]])


def test_ordinary_answers_show_none() -> None:
    assert one_answer(ORDINARY) is None
    assert not alike(ORDINARY)
    assert not undecided(ORDINARY)


def test_one_class_for_all_images_is_named_and_one_image_alone_says_nothing() -> None:
    assert one_answer(torch.tensor([[1.0, 5.0, 0.0], [3.0, 4.0, 0.0]])) == 1
    assert one_answer(ORDINARY[:1]) is None


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_logits_that_are_the_same_up_to_a_ten_thousandth_are_alike_at_any_scale(scale: float) -> None:
    same = torch.tensor([[4.0, 1.0, -3.0]]).repeat(3, 1)
    assert alike(scale * same)
    assert alike(scale * (same + 1e-4 * torch.rand(3, 3, generator=torch.Generator().manual_seed(0))))
    assert not alike(scale * (same + torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.01, 0.0]])))
    assert not alike(same[:1])


def test_a_hundredth_of_a_nat_decides_nothing() -> None:
    even = torch.tensor([[7.0, 7.005, 7.009], [-1.0, -1.0, -1.0]])
    assert undecided(even)
    assert not undecided(torch.cat([even, ORDINARY]))


def test_answers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(MachineError, match="not finite"):
        alike(torch.tensor([[1.0, torch.nan]]))
