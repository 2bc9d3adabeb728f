"""The CIFAR nets of the distillation literature: published parameter counts, published names, what makes no net."""

import pytest
import torch
from torch import nn

from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.models.mlp import mlp
from kdal_cli.models.mobilenet_v2 import mobilenet_v2
from kdal_cli.models.resnet import resnet
from kdal_cli.models.resnet_bottleneck import resnet_bottleneck
from kdal_cli.models.shufflenet_v1 import shufflenet_v1
from kdal_cli.models.shufflenet_v2 import shufflenet_v2
from kdal_cli.models.small_cnn import small_cnn
from kdal_cli.models.vgg import vgg
from kdal_cli.models.wrn import wrn

CIFAR100 = Shape(3, 32, 32, 100)
WIDE = (32, 64, 128, 256)

# Parameters at 100 classes, as counted in RepDistiller.
PUBLISHED = {
    "resnet20": (lambda s: resnet(s, depth=20), 278_324),
    "resnet32": (lambda s: resnet(s, depth=32), 472_756),
    "resnet56": (lambda s: resnet(s, depth=56), 861_620),
    "resnet110": (lambda s: resnet(s, depth=110), 1_736_564),
    "resnet8x4": (lambda s: resnet(s, depth=8, widths=WIDE), 1_233_540),
    "resnet32x4": (lambda s: resnet(s, depth=32, widths=WIDE), 7_433_860),
    "wrn_16_2": (lambda s: wrn(s, depth=16, width=2), 703_284),
    "wrn_40_1": (lambda s: wrn(s, depth=40, width=1), 569_780),
    "wrn_40_2": (lambda s: wrn(s, depth=40, width=2), 2_255_156),
    "vgg8": (lambda s: vgg(s, depth=8), 3_965_028),
    "vgg13": (lambda s: vgg(s, depth=13), 9_462_180),
    "MobileNetV2": (mobilenet_v2, 812_836),
    "ShuffleV1": (shufflenet_v1, 949_258),
    "ShuffleV2": (shufflenet_v2, 1_355_528),
    "ResNet50": (resnet_bottleneck, 23_705_252),
}

# A few parameters that a published checkpoint holds, and their shapes.
NAMES = [
    ("resnet20", "conv1.weight", (16, 3, 3, 3)),
    ("resnet20", "layer1.0.conv1.weight", (16, 16, 3, 3)),
    ("resnet20", "layer2.0.downsample.0.weight", (32, 16, 1, 1)),
    ("resnet20", "layer3.2.bn2.running_var", (64,)),
    ("resnet8x4", "layer1.0.downsample.1.bias", (64,)),
    ("resnet8x4", "fc.weight", (100, 256)),
    ("wrn_16_2", "block1.layer.0.bn1.weight", (16,)),
    ("wrn_16_2", "block1.layer.0.convShortcut.weight", (32, 16, 1, 1)),
    ("wrn_16_2", "bn1.running_mean", (128,)),
    ("wrn_16_2", "fc.bias", (100,)),
    ("vgg13", "block0.0.bias", (64,)),
    ("vgg13", "block4.4.running_mean", (512,)),
    ("vgg13", "classifier.weight", (100, 512)),
    ("MobileNetV2", "conv1.0.weight", (16, 3, 3, 3)),
    ("MobileNetV2", "blocks.1.0.conv.3.weight", (48, 1, 3, 3)),
    ("MobileNetV2", "conv2.1.num_batches_tracked", ()),
    ("MobileNetV2", "classifier.0.weight", (100, 1280)),
    ("ShuffleV1", "layer1.0.conv3.weight", (216, 18, 1, 1)),
    ("ShuffleV1", "linear.weight", (100, 960)),
    ("ShuffleV2", "layer1.0.conv5.weight", (58, 58, 1, 1)),
    ("ShuffleV2", "bn2.weight", (1024,)),
    ("ShuffleV2", "linear.weight", (100, 1024)),
    ("ResNet50", "layer1.0.shortcut.0.weight", (256, 64, 1, 1)),
    ("ResNet50", "linear.weight", (100, 2048)),
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_has_the_published_number_of_parameters(name: str) -> None:
    make, count = PUBLISHED[name]
    assert sum(p.numel() for p in make(CIFAR100).parameters()) == count


@pytest.mark.parametrize(("name", "parameter", "shape"), NAMES)
def test_has_the_published_names(name: str, parameter: str, shape: tuple[int, ...]) -> None:
    assert PUBLISHED[name][0](CIFAR100).state_dict()[parameter].shape == shape


@pytest.mark.parametrize(
    ("make", "stages", "shapes"),
    [
        (lambda s: resnet(s, depth=8), "layer1 layer2 layer3", [(16, 32), (32, 16), (64, 8)]),
        (lambda s: wrn(s, depth=10, width=1), "block1 block2 block3", [(16, 32), (32, 16), (64, 8)]),
        (lambda s: vgg(s, depth=8), "relu1 relu2 relu3 relu4", [(128, 16), (256, 8), (512, 4), (512, 4)]),
        (mobilenet_v2, "blocks.1 blocks.2 blocks.4 blocks.6", [(12, 16), (16, 8), (48, 4), (160, 2)]),
        (shufflenet_v1, "layer1 layer2 layer3", [(240, 16), (480, 8), (960, 4)]),
        (shufflenet_v2, "layer1 layer2 layer3", [(116, 16), (232, 8), (464, 4)]),
        (resnet_bottleneck, "layer1 layer2 layer3 layer4", [(256, 32), (512, 16), (1024, 8), (2048, 4)]),
        (small_cnn, "stage1 stage2 stage3", [(32, 32), (64, 16), (128, 8)]),
    ],
)
def test_stages_are_modules_with_these_maps(make, stages: str, shapes: list[tuple[int, int]]) -> None:
    net, maps = make(CIFAR100), []
    for path in stages.split():
        net.get_submodule(path).register_forward_hook(lambda module, args, output: maps.append(output))
    net.eval()(torch.zeros(1, 3, 32, 32))
    assert [tuple(m.shape) for m in maps] == [(1, c, side, side) for c, side in shapes]


@pytest.mark.parametrize(
    ("make", "stem"),
    [
        (lambda s: resnet(s, depth=8), (16, 32)),
        (lambda s: wrn(s, depth=10, width=1), (16, 32)),
        (lambda s: vgg(s, depth=8), (64, 32)),
        (lambda s: mobilenet_v2(s, width=0.5), (16, 16)),
        (shufflenet_v1, (24, 32)),
        (shufflenet_v2, (24, 32)),
        (resnet_bottleneck, (64, 32)),
    ],
)
def test_a_stem_is_a_module_with_this_map(make, stem: tuple[int, int]) -> None:
    net, maps = make(CIFAR100), []
    net.get_submodule(net.stem).register_forward_hook(lambda module, args, output: maps.append(output))
    net.eval()(torch.zeros(1, 3, 32, 32))
    assert [tuple(m.shape) for m in maps] == [(1, stem[0], stem[1], stem[1])]


def test_vgg_pools_once_more_from_64_pixels_on() -> None:
    assert vgg(Shape(3, 64, 64, 10), depth=8)(torch.randn(2, 3, 64, 64)).shape == (2, 10)
    assert isinstance(vgg(Shape(3, 64, 64, 10), depth=8).get_submodule("pool3"), nn.MaxPool2d)
    assert isinstance(vgg(Shape(3, 63, 64, 10), depth=8).get_submodule("pool3"), nn.Identity)


@pytest.mark.parametrize(
    "make",
    [
        lambda s: wrn(s, depth=10, width=1, dropout=0.5),
        lambda s: small_cnn(s, dropout=0.5),
        lambda s: mlp(s, dropout=0.5),
    ],
)
def test_dropout_draws_in_train_mode_and_can_be_woken_alone(make) -> None:
    net, x = make(Shape(1, 8, 8, 10)).eval(), torch.randn(4, 1, 8, 8)
    assert torch.equal(net(x), net(x))
    for module in net.modules():
        module.train(isinstance(module, nn.Dropout))  # what a sampler that asks for draws does
    assert not torch.equal(net(x), net(x))


def test_perceptron_without_hidden_layers_is_logistic_regression() -> None:
    net, x = mlp(Shape(1, 8, 8, 10), hidden=()), torch.randn(3, 1, 8, 8)
    fc = net.get_submodule("fc")
    torch.testing.assert_close(net(x), x.flatten(1) @ fc.weight.T + fc.bias)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda s: resnet(s, depth=21), r"no CIFAR ResNet has 21 layers \(depth\): use 6n \+ 2"),
        (lambda s: resnet(s, depth=2), "6n"),
        (lambda s: resnet(s, depth=20, widths=(16, 32, 64)), "give four"),
        (lambda s: wrn(s, depth=20, width=2), r"no Wide ResNet has 20 layers \(depth\): use 6n \+ 4"),
        (lambda s: vgg(s, depth=12), "use one of 8, 11, 13, 16, 19"),
        (lambda s: vgg(Shape(3, 7, 7, 10), depth=8), "too small for VGG"),
        (lambda s: mobilenet_v2(s, width=0.01), "has no channels"),
        (lambda s: shufflenet_v1(s, groups=4), "use 1, 2 or 3"),
        (lambda s: shufflenet_v2(s, size="x1"), "did you mean"),
        (lambda s: resnet_bottleneck(s, depth=51), "use 50, 101 or 152"),
        (lambda s: small_cnn(Shape(3, 3, 3, 10)), "too small"),
    ],
)
def test_says_in_one_line_what_makes_no_net(make, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        make(CIFAR100)
    assert "\n" not in str(caught.value)
