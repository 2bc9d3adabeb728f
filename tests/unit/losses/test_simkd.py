"""The reused teacher classifier: the student's architecture, what the term copies and freezes, and its mean square.

B batch, C classes, D features of the teacher.
"""

import math

import pytest
import torch
from torch import Tensor, nn

from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.losses.simkd import Simkd, simkd_loss
from kdal_cli.models.mlp import mlp
from kdal_cli.models.mobilenet_v2 import mobilenet_v2
from kdal_cli.models.resnet import resnet
from kdal_cli.models.shufflenet_v2 import shufflenet_v2
from kdal_cli.models.simkd import simkd
from kdal_cli.models.small_cnn import small_cnn
from kdal_cli.models.torchvision import torchvision
from kdal_cli.models.vgg import vgg
from kdal_cli.models.wrn import wrn
from kdal_cli.network import Network, classifier, stages, stem
from kdal_cli.types import Batch, Examples, Output

SHAPE = Shape(3, 8, 8, 5)
EXAMPLES = Examples(torch.arange(2), torch.arange(0))
PIXELS = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
BATCH = Batch(torch.arange(4), torch.zeros(4), PIXELS, torch.zeros(0, dtype=torch.int64))


def network(body: nn.Module, *paths: str) -> Network:
    whole = Network(body, (0.5,) * 3, (0.25,) * 3)
    whole.tap(paths)
    return whole.eval()


def student(backbone: nn.Module | None = None, features: int = 24, **settings: int) -> Network:
    backbone = resnet(SHAPE, depth=8, widths=(8, 8, 8, 8)) if backbone is None else backbone
    return network(simkd(SHAPE, backbone=backbone, features=features, **settings), "projector")


def teacher(side: int = 2) -> Network:
    """With a map of 2 × 2 or of 1 × 1 before its pooling, 24 features and a dropout after it."""
    layers = [nn.Conv2d(3, 24, 3, stride=8 // side, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return network(nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(24, 5)), "1")


def term_of(ours: Network, theirs: Network, layer: str = "1") -> Simkd:
    pixels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    return Simkd(ours(pixels), theirs(pixels), EXAMPLES, layers=["projector"], teacher_layers=[layer])


def last_map_of(net: nn.Module, image: Tensor, path: str) -> Tensor:
    """What a module of `net` answers."""
    found: list[Tensor] = []
    hook = net.get_submodule(path).register_forward_hook(lambda module, args, output: found.append(output))
    with torch.no_grad():
        net.eval()(image)
    hook.remove()
    return found[0]


# The student.


@pytest.mark.parametrize(
    ("make", "at"),
    [
        (lambda s: resnet(s, depth=8), "layer3"),
        (lambda s: wrn(s, depth=10, width=1), "relu"),
        (lambda s: vgg(s, depth=8), "relu4"),
        (lambda s: small_cnn(s, dropout=0.5), "stage3"),
        (mobilenet_v2, "conv2"),
        (shufflenet_v2, "relu2"),
        (lambda s: torchvision(s, arch="resnet18"), "layer4"),
        (lambda s: torchvision(s, arch="mobilenet_v3_small"), "features"),
    ],
)
def test_it_projects_what_the_backbone_would_have_averaged_and_keeps_nothing_of_what_came_after(make, at: str) -> None:
    shape, image = Shape(3, 32, 32, 5), torch.randn(2, 3, 32, 32)
    backbone = make(shape)
    expected = last_map_of(backbone, image, at)
    count = sum(p.numel() for p in backbone.get_submodule(at).parameters())
    net = simkd(shape, backbone=backbone, features=24).eval()
    projected: list[Tensor] = []
    net.projector.register_forward_pre_hook(lambda module, args: projected.append(args[0]))
    net(image)
    assert torch.equal(projected[0], expected)
    assert sum(p.numel() for p in net.backbone.get_submodule(at).parameters()) == count
    net.train()(image).square().sum().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None]


def test_the_projector_is_a_bottleneck_of_three_convolutions_and_averages_into_the_classifier() -> None:
    net = student(features=24, factor=3).body
    convolutions = [m for m in net.projector if isinstance(m, nn.Conv2d)]
    sizes = [(m.in_channels, m.out_channels, *m.kernel_size) for m in convolutions]
    assert sizes == [(8, 8, 1, 1), (8, 8, 3, 3), (8, 24, 1, 1)]
    assert not [m for m in convolutions if m.bias is not None]
    assert classifier(net) is net.classifier
    output = network(net)(PIXELS)
    assert output.features.shape == (4, 24)


def test_its_stages_are_the_backbones_and_then_the_projector() -> None:
    whole = student()
    assert stages(whole, PIXELS[:1]) == ("backbone.layer1", "backbone.layer2", "backbone.layer3", "projector")
    assert stem(whole) == ("backbone.relu",)
    answer = whole(PIXELS)
    torch.testing.assert_close(answer.maps["projector"].mean((2, 3)), answer.features)


def test_another_map_may_be_named_and_nothing_after_it_is_kept() -> None:
    net = simkd(SHAPE, backbone=resnet(SHAPE, depth=8), features=24, at="layer2")
    assert net.projector[0].in_channels == 32
    assert {name.split(".")[1] for name, _ in net.backbone.named_parameters(prefix="b")} == {
        "conv1", "bn1", "layer1", "layer2"
    }  # fmt: skip
    net(torch.randn(2, 3, 8, 8)).sum().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None]


def test_two_calls_leave_nothing_of_the_first() -> None:
    net, one, two = student().body, torch.randn(2, 3, 8, 8), torch.randn(3, 3, 8, 8)
    first = net(one)
    assert net(two).shape == (3, 5)
    assert torch.equal(net(one), first)
    assert not net._seen


def test_the_backbone_is_left_in_the_mode_that_it_had() -> None:
    backbone = resnet(SHAPE, depth=8)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    simkd(SHAPE, backbone=backbone, features=24)
    assert backbone.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"backbone": mlp(SHAPE)}, "shows no map to project .*: choose a convolutional one"),
        ({"at": "nowhere"}, "at=nowhere.*: at=… names one of its maps, as in .*layer3"),
        ({"features": 2, "factor": 3}, "factor=3"),
    ],
)
def test_a_student_that_cannot_be_is_refused_in_a_sentence(settings, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        simkd(SHAPE, **{"backbone": resnet(SHAPE, depth=8), "features": 24, **settings})
    assert "\n" not in str(caught.value)


# The term.


def test_the_term_copies_the_teachers_classifier_and_freezes_it() -> None:
    ours, theirs = student(), teacher()
    term_of(ours, theirs)
    mine, taught = classifier(ours.body), classifier(theirs.body)
    assert torch.equal(mine.weight, taught.weight)
    assert torch.equal(mine.bias, taught.bias)
    assert mine.weight is not taught.weight
    assert not mine.weight.requires_grad
    assert not mine.bias.requires_grad
    assert taught.weight.requires_grad


def test_a_step_of_training_moves_the_rest_and_not_the_classifier() -> None:
    ours, theirs = student(), teacher()
    term = term_of(ours, theirs)
    before = {name: tensor.clone() for name, tensor in ours.train().named_parameters()}
    optimizer = torch.optim.SGD([p for p in ours.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    term(ours(PIXELS), theirs(PIXELS), BATCH).mean().backward()
    optimizer.step()
    still = {name for name, p in ours.named_parameters() if torch.equal(p, before[name])}
    assert still == {"body.classifier.weight", "body.classifier.bias"}


def test_a_student_whose_map_is_the_teachers_gives_the_teachers_answer() -> None:
    ours, theirs = student(), teacher()
    taught = theirs(PIXELS)
    ours.body.projector = given = nn.Identity()  # in place of the projector, whatever it is asked
    given.forward = lambda x: taught.maps["1"]
    ours = network(ours.body, "projector")
    term = term_of(ours, theirs)
    answer = ours(PIXELS)
    assert torch.equal(term(answer, taught, BATCH), torch.zeros(4))
    torch.testing.assert_close(answer.logits, taught.logits)


def test_a_classifier_without_bias_becomes_one_whose_bias_is_zero() -> None:
    ours, theirs = student(), teacher()
    classifier(theirs.body).bias = None
    term_of(ours, theirs)
    assert torch.equal(classifier(ours.body).bias, torch.zeros(5))


@pytest.mark.parametrize(("ours", "theirs"), [((4, 4), (2, 2)), ((2, 2), (4, 4)), ((2, 4), (4, 2)), ((2, 2), (2, 2))])
def test_the_value_is_the_mean_square_at_the_smaller_size_by_hand(
    ours: tuple[int, int], theirs: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(1)
    one, two = (torch.randn(2, 3, *size, generator=generator, dtype=torch.float64) for size in (ours, theirs))
    h, w = min(ours[0], theirs[0]), min(ours[1], theirs[1])

    def cell(x: Tensor, i: int, j: int) -> float:
        """The mean of one of h × w cells of (H, W)."""
        tall, wide = x.shape[0] // h, x.shape[1] // w
        return math.fsum(x[i * tall : (i + 1) * tall, j * wide : (j + 1) * wide].flatten().tolist()) / (tall * wide)

    places = [(c, i, j) for c in range(3) for i in range(h) for j in range(w)]
    expected = [
        math.fsum((cell(a[c], i, j) - cell(b[c], i, j)) ** 2 for c, i, j in places) / len(places)
        for a, b in zip(one, two, strict=True)
    ]
    torch.testing.assert_close(simkd_loss(one, two), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def test_it_has_the_derivative_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(2)
    one, two = (torch.randn(2, 3, n, n, generator=generator, dtype=torch.float64) for n in (4, 2))
    assert torch.autograd.gradcheck(lambda x: simkd_loss(x, two), one.requires_grad_())


def test_a_student_of_another_kind_is_refused_in_a_sentence() -> None:
    plain = network(resnet(SHAPE, depth=8, widths=(8, 8, 8, 24)), "layer3")
    pixels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    before = classifier(plain.body).weight.clone()
    for answer in (plain(pixels), Output(torch.zeros(2, 5), torch.zeros(2, 24), plain(pixels).maps)):
        with pytest.raises(UserError, match="student=simkd"):
            Simkd(answer, teacher()(pixels), EXAMPLES, layers=["layer3"], teacher_layers=["1"])
    assert torch.equal(classifier(plain.body).weight, before)
    assert classifier(plain.body).weight.requires_grad


def test_a_map_that_the_teacher_does_not_average_is_refused_in_a_sentence() -> None:
    theirs = network(wrn(SHAPE, depth=10, width=1), "block3", "relu")
    ours = student(features=64)
    with torch.no_grad():
        for parameter in theirs.body.get_submodule("bn1").parameters():
            parameter.add_(0.5)
    with pytest.raises(UserError, match=r"does not become its features.*relu"):
        term_of(ours, theirs, "block3")
    term_of(ours, theirs, "relu")
    assert torch.equal(classifier(ours.body).weight, classifier(theirs.body).weight)


def test_a_projector_of_another_width_than_the_teachers_is_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match=r"24 features and the student's projector 16: student.features=24"):
        term_of(student(features=16), teacher())
