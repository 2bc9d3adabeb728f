"""Every option of conf/student: what any architecture must do. A new file is covered on arrival."""

import importlib
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

from kdal_cli.dataset import Shape

CONF = Path(__file__).parents[3] / "conf"
OPTIONS = sorted(path.stem for path in (CONF / "student").glob("[!_]*.yaml") if path.stem not in ("custom", "simkd"))
ON_DIGITS = ("small_cnn", "mlp", "resnet8", "wrn_16_1", "vgg8", "mobilenet_v2_half", "shufflenet_v1", "shufflenet_v2")


def build(option: str, shape: Shape) -> nn.Module:
    torch.manual_seed(0)
    keywords = yaml.safe_load((CONF / "student" / f"{option}.yaml").read_text())
    name = keywords.pop("name")
    return getattr(importlib.import_module(f"kdal_cli.models.{name}"), name)(shape, **keywords)


def check(net: nn.Module, shape: Shape) -> None:
    """Logits are finite in both modes, every parameter learns, and the last linear layer alone makes the logits."""
    entered: list[Tensor] = []
    classifier = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    classifier.register_forward_pre_hook(lambda module, args: entered.append(args[0]))
    images = torch.randn(2, shape.channels, shape.height, shape.width).contiguous(memory_format=torch.channels_last)

    for training in (False, True):
        logits = net.train(training)(images)
        assert logits.shape == (2, shape.classes)
        assert logits.isfinite().all()
        assert len(entered) == 1
        assert entered[0].shape == (2, classifier.in_features)
        assert torch.equal(logits, classifier.forward(entered.pop()))

    logits.square().sum().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_classifies_and_learns(option: str) -> None:
    shape = Shape(3, 32, 32, 100)
    check(build(option, shape), shape)


@pytest.mark.parametrize("shape", [Shape(1, 8, 8, 10), Shape(1, 28, 28, 10)], ids=["digits", "mnist"])
@pytest.mark.parametrize("option", ON_DIGITS)
def test_takes_small_grey_images(option: str, shape: Shape) -> None:
    check(build(option, shape), shape)


@pytest.mark.parametrize(
    "option", ["resnet8", "wrn_16_1", "mobilenet_v2_half", "shufflenet_v2", "mlp", "shufflenet_v2_x1_0"]
)
def test_a_seed_makes_the_same_weights_again(option: str) -> None:
    shape = Shape(3, 32, 32, 10)
    first, again = build(option, shape).state_dict(), build(option, shape).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_teachers_are_the_same_options_and_none() -> None:
    def options(group: str) -> set[str]:
        return {path.stem for path in (CONF / group).glob("[!_]*.yaml")}

    own = {"none", "peer", "previous", "saved", "self"}
    assert options("teacher") - own == options("student") - {"simkd"}
