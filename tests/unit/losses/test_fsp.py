"""The flow between stages against loops by hand; torchdistill's distance, which is not a squared one.

B batch, m n channels of two maps, h w places. G is the flow.
"""

import math

import pytest
import torch
from torch import Tensor

from kdal_cli.compose.loss import plan_loss
from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.losses.fsp import Fsp, flow, fsp_loss
from kdal_cli.models.resnet import resnet
from kdal_cli.models.small_cnn import small_cnn
from kdal_cli.network import Network, mean_of
from kdal_cli.types import Batch, Examples, Output

EXAMPLES = Examples(torch.arange(2), torch.arange(0))
BATCH = Batch(torch.arange(2), torch.zeros(2), torch.zeros(2, 1, 1, 1), torch.zeros(0, dtype=torch.int64))


def maps(seed: int, channels: int = 2, side: int = 2) -> Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shown(**maps: Tensor) -> Output:
    return Output(torch.zeros(2, 3), torch.zeros(2, 2), maps)


def by_hand(lower: Tensor, upper: Tensor) -> list[list[list[float]]]:
    """G of maps of one size, image by image."""
    places = lower.shape[2] * lower.shape[3]
    return [
        [[math.fsum(x * y for x, y in zip(i, j, strict=True)) / places for j in two] for i in one]
        for one, two in zip(lower.flatten(2).tolist(), upper.flatten(2).tolist(), strict=True)
    ]


def highest(x: Tensor, by: int) -> Tensor:
    """The largest of every by × by places."""
    return x.unfold(2, by, by).unfold(3, by, by).amax((4, 5))


def test_the_flow_is_the_mean_over_places_of_the_products_of_channels() -> None:
    lower, upper = maps(0, 3), maps(1, 4)
    torch.testing.assert_close(flow(lower, upper), torch.tensor(by_hand(lower, upper), dtype=torch.float64))


def test_two_channels_and_one_by_hand() -> None:
    lower = torch.tensor([[[[1.0, 2.0]], [[0.0, -3.0]]]])
    upper = torch.tensor([[[[4.0, 5.0]]]])
    assert flow(lower, upper).tolist() == [[[7.0], [-7.5]]]


def test_the_larger_of_two_stages_is_pooled_by_its_maximum_and_not_averaged_as_in_the_crd_benchmark() -> None:
    lower, upper = maps(2, side=4), maps(3, side=2)
    torch.testing.assert_close(flow(lower, upper), flow(highest(lower, 2), upper))
    torch.testing.assert_close(flow(upper, lower), flow(upper, highest(lower, 2)))


def test_the_loss_is_the_mean_square_of_the_difference_summed_over_consecutive_stages() -> None:
    student, teacher = [maps(4), maps(5, 3), maps(6)], [maps(7), maps(8, 3), maps(9)]
    expected = [0.0, 0.0]
    for i in (0, 1):
        ours, theirs = by_hand(*student[i : i + 2]), by_hand(*teacher[i : i + 2])
        for image in (0, 1):
            pairs = [(s, t) for a, b in zip(ours[image], theirs[image], strict=True) for s, t in zip(a, b, strict=True)]
            expected[image] += math.fsum((s - t) ** 2 for s, t in pairs) / 6
    assert fsp_loss(student, teacher).tolist() == pytest.approx(expected, rel=1e-12)


def test_torchdistill_adds_up_lengths_of_columns_and_not_squares() -> None:
    """The paper has the squared L2 norm of G_t − G_s; `norm(dim=1).sum()` is no power of it. Its flow is ours."""
    peer = pytest.importorskip("torchdistill.losses.mid_level").FSPLoss
    sides = [f"{side}_{place}" for side in ("student", "teacher") for place in ("first", "second")]
    theirs = peer({"pair": {side: {"io": "output", "path": side.split("_")[1]} for side in sides}})
    student, teacher = [maps(10, side=4), maps(11, 3)], [maps(12, side=4), maps(13, 3)]
    torch.testing.assert_close(theirs.compute_fsp_matrix(*student), flow(*student), rtol=1e-12, atol=0)
    shapes = [{"first": {"output": pair[0]}, "second": {"output": pair[1]}} for pair in (student, teacher)]
    apart = flow(*student) - flow(*teacher)
    value = theirs(*shapes)
    assert value.item() == pytest.approx(apart.square().sum(1).sqrt().sum().item() / 2, rel=1e-9)
    doubled = [[2 * x for x in pair] for pair in (student, teacher)]
    twice = theirs(*({"first": {"output": p[0]}, "second": {"output": p[1]}} for p in doubled))
    assert (twice / value).item() == pytest.approx(4)
    assert (fsp_loss(*doubled) / fsp_loss(student, teacher)).tolist() == pytest.approx([16, 16])


def test_student_and_teacher_may_have_maps_of_different_sizes() -> None:
    student, teacher = [maps(14, side=4), maps(15, side=2)], [maps(16, side=6), maps(17, side=3)]
    apart = flow(*student) - flow(*teacher)
    torch.testing.assert_close(fsp_loss(student, teacher), apart.square().mean((1, 2)))


def test_between_equal_channels_nothing_is_learned_and_equal_maps_have_no_loss() -> None:
    teacher = shown(a=maps(18), b=maps(19, 3))
    term = Fsp(teacher, teacher, EXAMPLES, layers=["a", "b"])
    assert not list(term.parameters())
    assert torch.equal(term(teacher, teacher, BATCH), torch.zeros(2, dtype=torch.float64))


def test_a_narrower_student_is_adapted_map_by_map_by_a_mixture_of_channels() -> None:
    student, teacher = shown(a=maps(20, 2), b=maps(21, 3)), shown(x=maps(22, 4), y=maps(23, 3))
    term = Fsp(student, teacher, EXAMPLES, layers=["a", "b"], teacher_layers=["x", "y"]).double()
    (mixture,) = term.parameters()
    widened = torch.einsum("oi,bihw->bohw", mixture[:, :, 0, 0], student.maps["a"])
    expected = fsp_loss([widened, student.maps["b"]], list(teacher.maps.values()))
    torch.testing.assert_close(term(student, teacher, BATCH), expected)


def test_it_is_three_flows_of_three_stages_for_the_stem_counts() -> None:
    shape = Shape(3, 8, 8, 5)
    student, teacher = (
        Network(resnet(shape, depth=8, widths=widths), (0.5,) * 3, (0.25,) * 3)
        for widths in ((4, 4, 8, 16), (8, 4, 8, 16))
    )
    objective = plan_loss({"fsp": {"name": "fsp"}}, [], shape)(
        student, teacher, Examples(torch.arange(4), torch.arange(4))
    )
    assert objective.places == ["fsp: relu ~ relu, layer1 ~ layer1, layer2 ~ layer2, layer3 ~ layer3"]
    assert [p.shape for p in objective.parameters()] == [(8, 4, 1, 1)]  # of the stem, the one map of another width


def test_one_layer_alone_is_refused_in_a_sentence() -> None:
    output = shown(a=maps(24))
    with pytest.raises(UserError, match="between two"):
        Fsp(output, output, EXAMPLES, layers=["a"])


def test_the_derivative_is_that_of_finite_differences() -> None:
    teacher = [maps(25), maps(26, 3, side=1)]
    student = maps(27).requires_grad_(), maps(28, 3, side=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda *s: fsp_loss(s, teacher), student)


def test_a_teacher_that_is_a_mean_of_networks_shows_the_stem_of_its_last_and_a_student_without_one_leaves_it_out() -> (
    None
):
    shape, none = Shape(3, 8, 8, 5), torch.arange(0)
    members = [Network(resnet(shape, depth=8), (0.5,) * 3, (0.25,) * 3) for _ in range(2)]
    teacher, plan = mean_of(members, (0.5, 0.5), "logits", 1.0), plan_loss({"fsp": {"name": "fsp"}}, [], shape)
    for body, first in ((resnet(shape, depth=8), "relu ~ members.1.body.relu"), (small_cnn(shape), "stage1 ~ ")):
        student = Network(body, (0.5,) * 3, (0.25,) * 3)
        (place,) = plan(student, teacher, Examples(none, none)).places
        assert place.startswith(f"fsp: {first}")
