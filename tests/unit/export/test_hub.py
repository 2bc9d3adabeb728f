"""A folder of timm is written where timm's own network gives the same logits, and nowhere else."""

import json

import pytest
import torch
from torch import nn

from kdal_cli.dataset import Preparation, Shape
from kdal_cli.export import hub
from kdal_cli.models.resnet import resnet
from kdal_cli.models.torchvision import torchvision
from kdal_cli.records.card import Card

timm = pytest.importorskip("timm")

SHAPE = Shape(3, 64, 64, 5)


def card(**model: object) -> Card:
    prepared = Preparation(resize="shorter", side=80)
    classes = ("a", "b", "c", "d", "e")
    return Card("student", model, SHAPE, classes, (0.5,) * 3, (0.25,) * 3, "x", {}, preparation=prepared)


def example() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def lively(body: nn.Module) -> nn.Module:
    """Fresh weights answer next to nothing: these answer something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body.train()(torch.randn(8, 3, 64, 64))
        for module in body.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight)
    return body.eval()


def logits(body: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return body(example())


def test_a_network_of_timm_comes_back_with_equal_logits(tmp_path) -> None:
    body = lively(timm.create_model("test_resnet", num_classes=5))
    assert hub.write_hub(tmp_path / "hub", body, card(name="timm", arch="test_resnet"), example()) == 0
    assert torch.equal(logits(hub.load(tmp_path / "hub")), logits(body))
    told = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert told["label_names"] == ["a", "b", "c", "d", "e"]
    assert told["pretrained_cfg"]["crop_pct"] == 64 / 80
    assert told["pretrained_cfg"]["crop_mode"] == "center"


def test_a_network_of_torchvision_is_renamed_where_it_computes_the_same(tmp_path) -> None:
    body = lively(torchvision(SHAPE, arch="mobilenet_v2", small_stem="never"))
    hub.write_hub(tmp_path / "hub", body, card(name="torchvision", arch="mobilenet_v2"), example())
    assert (logits(hub.load(tmp_path / "hub")) - logits(body)).abs().max() < 1e-3


def test_what_computes_something_else_is_refused_and_nothing_is_written(tmp_path) -> None:
    other = lively(torchvision(SHAPE, arch="mobilenet_v2", small_stem="always"))
    for body, about in (
        (other, {"name": "torchvision", "arch": "mobilenet_v2"}),
        (lively(resnet(SHAPE, depth=8)), {"name": "resnet"}),
    ):
        with pytest.raises(hub.NotOfTimm, match="no architecture like"):
            hub.write_hub(tmp_path / "hub", body, card(**about), example())
    assert not (tmp_path / "hub").exists()
