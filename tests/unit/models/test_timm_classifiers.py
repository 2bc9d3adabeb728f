"""Classifiers of timm: found by their names, features and stages seen, nothing fetched."""

import sys
from pathlib import Path

import pytest
import torch

from kdal_cli.compose import parts, start
from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.network import Network, stages

start.stay_offline()
pytest.importorskip("timm")

from kdal_cli.models.timm import timm  # noqa: E402 (a hub looks at the environment when it is imported)

SHAPE = Shape(3, 64, 64, 5)


@pytest.fixture(scope="module")
def small() -> torch.nn.Module:
    return timm(SHAPE, arch="mobilenetv3_small_050")


def test_it_answers_for_the_classes_and_shows_features_and_stages(small) -> None:
    network = Network(small, (0.5,) * 3, (0.25,) * 3).eval()
    output = network(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    assert output.logits.shape == (2, 5)
    assert output.features.shape == (2, 1024)
    assert len(stages(network, torch.zeros(1, 3, 64, 64, dtype=torch.uint8))) >= 4
    assert not any(vars(module).get("inplace") for module in small.modules())


def test_its_published_weights_have_a_mean_a_size_and_a_crop(small) -> None:
    assert small.preprocessing.mean == (0.485, 0.456, 0.406)
    assert small.preprocessing.made_for == (224, 224)
    assert small.preprocessing.crop == 0.875


def test_one_of_a_fixed_size_sees_grey_images_of_any_other() -> None:
    vit = timm(Shape(1, 40, 56, 3), arch="test_vit")
    assert vit(torch.zeros(2, 1, 40, 56)).shape == (2, 3)
    assert len(vit.preprocessing.mean) == 1  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("arch", ["mobilenet_v3_smal", "hf-hub:timm/resnet18", "local-dir:somewhere"])
def test_another_name_is_refused_and_nothing_is_looked_for(arch: str) -> None:
    with pytest.raises(UserError, match="timm has no classifier"):
        timm(SHAPE, arch=arch)


def test_published_weights_that_are_not_here_are_not_fetched() -> None:
    section = {"name": "timm", "arch": "mobilenetv3_small_050", "weights": "imagenet"}
    with pytest.raises(UserError, match=r"cannot be had: .*download=true where there is a network, or weights=FILE"):
        parts.blueprint(section, SHAPE, [], "student")


def test_a_folder_that_timm_saved_comes_back(small, tmp_path: Path) -> None:
    import json

    from safetensors.torch import save_file

    save_file({name: t.contiguous() for name, t in small.state_dict().items()}, tmp_path / "model.safetensors")
    rule = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 96, 96], "crop_pct": 1.0}
    config = {"architecture": "mobilenetv3_small_050", "num_classes": 5, "pretrained_cfg": rule}
    (tmp_path / "config.json").write_text(json.dumps(config))
    section = {"name": "timm", "arch": "mobilenetv3_small_050", "weights": str(tmp_path)}
    blueprint = parts.blueprint(section, SHAPE, [], "student")
    assert blueprint.start is not None
    body = blueprint.make()
    blueprint.start.into(body)
    some = torch.rand(2, 3, 64, 64)
    assert torch.equal(body.eval()(some), small.eval()(some))
    assert blueprint.preprocessing is not None
    assert (blueprint.preprocessing.mean, blueprint.preprocessing.made_for) == ((0.5, 0.5, 0.5), (96, 96))


def test_without_timm_a_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(UserError, match=r"pip install 'kdal\[timm\]'"):
        timm(SHAPE, arch="resnet18")
