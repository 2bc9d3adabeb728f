"""torchvision's classifiers by name: stem, classifier, image size, and ImageNet weights that are or are not there."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision import models

from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.models.torchvision import torchvision

SMALL, LARGE = Shape(3, 32, 32, 10), Shape(3, 224, 224, 10)


def stem(net: nn.Module) -> nn.Conv2d:
    return next(module for module in net.modules() if isinstance(module, nn.Conv2d))


def seen_by_stem(net: nn.Module, shape: Shape) -> tuple[int, ...]:
    """The size of the images that reach the first convolution; the logits are checked on the way."""
    sizes = []
    stem(net).register_forward_pre_hook(lambda module, args: sizes.append(args[0].shape[1:]))
    with torch.no_grad():
        logits = net.eval()(torch.randn(2, shape.channels, shape.height, shape.width))
    assert logits.shape == (2, shape.classes)
    assert logits.isfinite().all()
    return tuple(sizes[0])


def test_small_images_get_a_small_stem() -> None:
    conv = stem(net := torchvision(SMALL, arch="resnet18"))
    assert (conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (1, 1), (1, 1))
    assert isinstance(net.get_submodule("maxpool"), nn.Identity)
    assert seen_by_stem(net, SMALL) == (3, 32, 32)


def test_large_images_keep_the_stem() -> None:
    conv = stem(net := torchvision(LARGE, arch="resnet18"))
    assert (conv.kernel_size, conv.stride, conv.padding) == ((7, 7), (2, 2), (3, 3))
    assert isinstance(net.get_submodule("maxpool"), nn.MaxPool2d)


def test_the_stem_can_be_chosen() -> None:
    assert stem(torchvision(SMALL, arch="resnet18", small_stem="never")).stride == (2, 2)
    assert stem(torchvision(LARGE, arch="resnet18", small_stem="always")).stride == (1, 1)


@pytest.mark.parametrize("shape", [SMALL, Shape(1, 8, 8, 10)], ids=["rgb", "digits"])
@pytest.mark.parametrize(
    "arch", ["squeezenet1_1", "mobilenet_v3_small", "densenet121", "googlenet", "mnasnet0_5", "regnet_y_400mf"]
)
def test_other_families_fit_small_images(arch: str, shape: Shape) -> None:
    net = torchvision(shape, arch=arch)
    assert stem(net).stride == (1, 1)
    assert seen_by_stem(net, shape) == (shape.channels, shape.height, shape.width)


@pytest.mark.parametrize(
    ("arch", "shape", "side"),
    [
        ("inception_v3", SMALL, 75),
        ("inception_v3", Shape(1, 28, 28, 10), 75),
        ("inception_v3", Shape(3, 96, 96, 10), 96),
        ("convnext_tiny", Shape(1, 8, 8, 10), 32),
        ("vit_b_32", SMALL, 224),
        ("vit_b_32", Shape(3, 256, 256, 10), 224),
    ],
)
def test_where_the_stem_stays_images_are_resized(arch: str, shape: Shape, side: int) -> None:
    assert seen_by_stem(torchvision(shape, arch=arch), shape) == (shape.channels, side, side)


def test_squeezenet_ends_in_a_linear_layer_and_can_answer_below_zero() -> None:
    torch.manual_seed(0)
    net = torchvision(SMALL, arch="squeezenet1_1").eval()
    assert isinstance(net.get_submodule("classifier")[-1], nn.Linear)
    assert net(torch.randn(8, 3, 32, 32)).min() < 0


def test_a_map_taken_by_a_hook_is_not_overwritten() -> None:
    net, seen = torchvision(SMALL, arch="resnet18").eval(), []
    net.get_submodule("bn1").register_forward_hook(lambda module, args, output: seen.append((output, output.clone())))
    net(torch.randn(2, 3, 32, 32))
    assert torch.equal(*seen[0])
    assert seen[0][0].min() < 0


def test_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        torchvision(SMALL, arch="resnet-18")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch.hub on a machine without network."""

    def offline(url: str, *args: object, **kwargs: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def test_weights_that_cannot_be_downloaded_are_told_with_their_place(hub: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be downloaded.*no route to host") as caught:
        torchvision(SMALL, arch="resnet18", pretrained=True)
    assert caught.value.where.startswith(f"{hub}/resnet18-")
    assert "https://download.pytorch.org/models/resnet18-" in caught.value.cure


def put(hub: Path, arch: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    state = models.get_model(arch).state_dict()
    torch.save(state, hub / Path(models.get_model_weights(arch)["DEFAULT"].url).name)
    return state


def test_weights_that_cannot_be_read_are_told(hub: Path) -> None:
    put(hub, "shufflenet_v2_x0_5")
    file = next(hub.iterdir())
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cannot be read.*delete the file"):
        torchvision(SMALL, arch="shufflenet_v2_x0_5", pretrained=True)


def test_weights_are_taken_all_but_the_classifier(hub: Path) -> None:
    state = put(hub, "shufflenet_v2_x0_5")
    net = torchvision(SMALL, arch="shufflenet_v2_x0_5", pretrained=True)
    assert stem(net).stride == (1, 1)
    assert net.get_submodule("fc").weight.shape == (10, 1024)
    assert all(torch.equal(w, state[name]) for name, w in net.state_dict().items() if not name.startswith("fc."))


def test_a_changed_stem_keeps_the_centre_and_answers_grey_images_alike(hub: Path) -> None:
    weight = put(hub, "resnet18")["conv1.weight"]
    rgb = stem(torchvision(SMALL, arch="resnet18", pretrained=True))
    assert torch.equal(rgb.weight, weight[:, :, 2:5, 2:5])

    images = torch.randn(2, 1, 32, 32)
    for channels in (1, 4):
        grey = stem(torchvision(Shape(channels, 32, 32, 10), arch="resnet18", pretrained=True))
        torch.testing.assert_close(grey(images.expand(-1, channels, -1, -1)), rgb(images.expand(-1, 3, -1, -1)))
