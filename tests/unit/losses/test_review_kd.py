"""Knowledge review against loops by hand and torchdistill's hierarchical context loss.

B batch, c channels, h w places of a map.
"""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from kdal_cli.losses.review_kd import Fusion, ReviewKd, hierarchical_context_loss
from kdal_cli.types import Batch, Examples, Output

EXAMPLES = Examples(torch.arange(2), torch.arange(0))
BATCH = Batch(torch.arange(2), torch.zeros(2), torch.zeros(2, 1, 1, 1), torch.zeros(0, dtype=torch.int64))


def maps(seed: int, channels: int, h: int, w: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, channels, h, w or h, generator=generator, dtype=torch.float64)


def shown(features: Tensor, **maps: Tensor) -> Output:
    return Output(torch.zeros(2, 3, dtype=torch.float64), features, maps)


def student(seed: int = 0, side: int = 4) -> Output:
    return shown(maps(seed, 5, 1).flatten(1), a=maps(seed + 1, 3, 2 * side), b=maps(seed + 2, 4, side))


def teacher(seed: int = 50, side: int = 4) -> Output:
    return shown(maps(seed, 6, 1).flatten(1), x=maps(seed + 1, 2, 2 * side), y=maps(seed + 2, 7, side))


def term_of(ours: Output, theirs: Output, **settings: int) -> ReviewKd:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = {"layers": ["a", "b"], "teacher_layers": ["x", "y"]}
        return ReviewKd(ours, theirs, EXAMPLES, **layers, **settings).double()


# By hand, on lists.


def cell_mean(x: Tensor, side: int, row: int, column: int) -> float:
    """The mean of one of side × side cells of a map (h, w) that they divide evenly."""
    h, w = x.shape[0] // side, x.shape[1] // side
    cells = [x[row * h + i, column * w + j].item() for i, j in product(range(h), range(w))]
    return math.fsum(cells) / len(cells)


def context_by_hand(ours: Tensor, theirs: Tensor, sides: list[int]) -> list[float]:
    """sides: to which a map is pooled beside its own size."""
    values = []
    for image in range(len(ours)):
        apart = ours[image] - theirs[image]  # (c, h, w)
        total = math.fsum(v**2 for v in apart.flatten().tolist()) / apart.numel()
        weights = [2.0**-i for i in range(1, len(sides) + 1)]
        for weight, side in zip(weights, sides, strict=True):
            cells = [cell_mean(x, side, i, j) ** 2 for x in apart for i, j in product(range(side), repeat=2)]
            total += weight * math.fsum(cells) / len(cells)
        values.append(total / (1 + sum(weights)))
    return values


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(B, c, h, w) with zeros around it -> (B, outputs, h, w), one number at a time."""
    edge, (h, w) = weight.shape[2] // 2, x.shape[2:]
    cells, weights = x.tolist(), weight.tolist()
    values = [0.0] * len(weights) if bias is None else bias.tolist()
    out = torch.zeros(len(x), len(weights), h, w, dtype=x.dtype)
    for b, o, i, j in product(*map(range, out.shape)):
        terms = [
            weights[o][c][di][dj] * cells[b][c][i + di - edge][j + dj - edge]
            for c, di, dj in product(*map(range, weight.shape[1:]))
            if 0 <= i + di - edge < h and 0 <= j + dj - edge < w
        ]
        out[b, o, i, j] = values[o] + math.fsum(terms)
    return out


def normalised(x: Tensor) -> Tensor:
    """As batch-norm does in training mode when it is new."""
    mean, square = x.mean((0, 2, 3), keepdim=True), x.square().mean((0, 2, 3), keepdim=True)
    return (x - mean) / (square - mean**2 + 1e-5).sqrt()


def nearest(x: Tensor, h: int, w: int) -> Tensor:
    rows, columns = ([i * old // new for i in range(new)] for old, new in zip(x.shape[2:], (h, w), strict=True))
    return x[:, :, rows][:, :, :, columns]


def review_by_hand(term: ReviewKd, ours: Output, theirs: Output) -> list[Tensor]:
    """What is compared with the teacher's, from the top down."""
    outs, above = [], None
    levels = [
        (ours.features[:, :, None, None], theirs.features[:, :, None, None]),
        (ours.maps["b"], theirs.maps["y"]),
        (ours.maps["a"], theirs.maps["x"]),
    ]
    for fusion, (x, target) in zip(term.fusions, levels, strict=True):
        x = normalised(convolved(x, fusion.narrow[0].weight))
        if above is not None:
            above = nearest(above, *x.shape[2:])
            logits = convolved(torch.cat([x, above], 1), fusion.attention.weight, fusion.attention.bias)
            share = 1 / (1 + (-logits).exp())
            x = share[:, :1] * x + share[:, 1:] * above
        above = nearest(x, *target.shape[2:])
        outs.append(normalised(convolved(above, fusion.widen[0].weight)))
    return outs


# The hierarchical context loss.


@pytest.mark.parametrize(
    ("side", "sides"), [(1, []), (2, [1]), (4, [2, 1]), (8, [4, 2, 1]), (16, [4, 2, 1])], ids=lambda x: str(x)
)
def test_a_map_is_compared_at_its_own_size_and_at_those_of_4_2_1_that_are_smaller(side: int, sides: list[int]) -> None:
    ours, theirs = maps(0, 3, side), maps(1, 3, side)
    expected = torch.tensor(context_by_hand(ours, theirs, sides), dtype=torch.float64)
    torch.testing.assert_close(hierarchical_context_loss(ours, theirs), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 7, 8, 32])
def test_its_mean_over_the_batch_is_torchdistills(side: int) -> None:
    peer = pytest.importorskip("torchdistill.losses.mid_level").HierarchicalContextLoss("s", "output", "t", "output")
    ours, theirs = maps(2, 3, side), maps(3, 3, side)
    expected = peer({"s": {"output": (ours, None)}}, {"t": {"output": theirs}})
    torch.testing.assert_close(hierarchical_context_loss(ours, theirs).mean(), expected, rtol=1e-12, atol=0)


def test_a_constant_difference_counts_the_same_at_every_size() -> None:
    ours = maps(4, 3, 8)
    value = hierarchical_context_loss(ours, ours + 0.5)
    torch.testing.assert_close(value, torch.full((2,), 0.25, dtype=torch.float64))


def test_a_difference_that_averages_out_counts_only_where_it_is_seen() -> None:
    """+1 and −1 in turn: 1 at the size of the map, 0 at every other; of weights 1, ½, ¼, ⅛ the first."""
    board = torch.tensor([[(-1.0) ** (i + j) for j in range(8)] for i in range(8)]).expand(2, 3, 8, 8)
    value = hierarchical_context_loss(board, torch.zeros(2, 3, 8, 8))
    torch.testing.assert_close(value, torch.full((2,), 1 / 1.875))


def test_a_map_that_is_not_square_is_pooled_as_far_as_its_shorter_side_goes() -> None:
    ours, theirs = maps(5, 2, 8, 4), maps(6, 2, 8, 4)
    expected = torch.tensor(context_by_hand(ours, theirs, [2, 1]), dtype=torch.float64)
    torch.testing.assert_close(hierarchical_context_loss(ours, theirs), expected, rtol=1e-12, atol=0)


def test_it_has_the_derivative_of_finite_differences() -> None:
    theirs = maps(7, 2, 4)
    assert torch.autograd.gradcheck(lambda x: hierarchical_context_loss(x, theirs), maps(8, 2, 4).requires_grad_())


# The review.


@pytest.mark.parametrize(("ours", "theirs"), [(4, 4), (2, 4), (4, 2)], ids=["same", "enlarged", "thinned out"])
def test_the_value_is_the_sum_over_levels_fused_from_the_top_down_by_hand(ours: int, theirs: int) -> None:
    one, two = student(side=ours), teacher(side=theirs)
    term = term_of(one, two)
    targets = [two.features[:, :, None, None], two.maps["y"], two.maps["x"]]
    expected = torch.zeros(2, dtype=torch.float64)
    for out, target in zip(review_by_hand(term, one, two), targets, strict=True):
        sides = [side for side in (4, 2, 1) if side < target.shape[2]]
        expected += torch.tensor(context_by_hand(out, target, sides), dtype=torch.float64)
    torch.testing.assert_close(term(one, two, BATCH), expected, rtol=1e-9, atol=1e-9)


def test_every_level_hears_of_those_above_it_and_of_none_below() -> None:
    one, two = student(), teacher()
    term = term_of(one, two)
    inputs = [one.features, one.maps["b"], one.maps["a"]]
    for tensor in inputs:
        tensor.requires_grad_()
    above, reached = None, []
    for (ours, theirs), fusion in zip(term.levels(one, two), term.fusions, strict=True):
        out, above = fusion(ours, above, theirs.shape[2:])
        slopes = torch.autograd.grad(out.square().sum(), inputs, retain_graph=True, allow_unused=True)
        reached.append([slope is not None and bool(slope.abs().sum() > 0) for slope in slopes])
    assert reached == [[True, False, False], [True, True, False], [True, True, True]]


def test_fusions_are_as_wide_as_the_students_features_up_to_width() -> None:
    one, two = student(), teacher()
    assert {fusion.narrow[0].out_channels for fusion in term_of(one, two).fusions} == {5}
    assert {fusion.narrow[0].out_channels for fusion in term_of(one, two, width=3).fusions} == {3}
    assert [fusion.widen[0].out_channels for fusion in term_of(one, two).fusions] == [6, 7, 2]


def test_an_attention_of_one_and_zero_passes_the_own_map_alone() -> None:
    fusion = Fusion(3, 4, 2, top=False).double()
    fusion.attention.weight.data.zero_()
    fusion.attention.bias.data = torch.tensor([1e3, -1e3], dtype=torch.float64)
    x, above = maps(9, 3, 4), maps(10, 4, 2)
    _, alone = fusion(x, above, torch.Size((4, 4)))
    torch.testing.assert_close(alone, normalised(convolved(x, fusion.narrow[0].weight)), rtol=1e-12, atol=1e-12)


def test_its_parameters_all_learn_and_so_do_the_students_maps() -> None:
    one, two = student(), teacher()
    term = term_of(one, two)
    for tensor in (one.features, *one.maps.values()):
        tensor.requires_grad_()
    term(one, two, BATCH).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in term.parameters())
    assert all(tensor.grad.abs().sum() > 0 for tensor in (one.features, *one.maps.values()))


def test_the_review_has_the_derivative_of_finite_differences() -> None:
    one, two = student(side=2), teacher(side=2)
    term = term_of(one, two).eval()  # batch-norm with the statistics that it started with

    def value(features: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return term(shown(features, a=a, b=b), two, BATCH)

    inputs = (one.features, one.maps["a"], one.maps["b"])
    assert torch.autograd.gradcheck(value, tuple(tensor.requires_grad_() for tensor in inputs))
