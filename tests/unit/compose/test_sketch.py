"""A network that is only drawn: names and shapes as it would have them, and far larger ones stopped on the way."""

import subprocess
import sys
import time
import tracemalloc
from functools import partial
from pathlib import Path

import pytest
import torch

from kdal_cli.compose import parts
from kdal_cli.compose.sketch import sketched
from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.models.mlp import mlp
from kdal_cli.models.resnet import resnet
from kdal_cli.models.torchvision import torchvision
from kdal_cli.records import checkpoint
from kdal_cli.records.card import Card
from kdal_cli.records.checkpoint import Checkpoint

SHAPE = Shape(1, 8, 8, 2)


@pytest.mark.parametrize(
    "make",
    [
        partial(resnet, SHAPE, depth=14),
        partial(mlp, SHAPE),
        *(partial(torchvision, SHAPE, arch=arch) for arch in ("resnet18", "regnet_y_400mf", "swin_t")),
    ],
    ids=["resnet", "mlp", "resnet18", "regnet", "swin"],
)
def test_a_sketch_has_the_names_and_shapes_of_the_network_and_next_to_no_numbers(make) -> None:
    before = torch.get_rng_state()
    sketch = sketched(make, "it")
    assert torch.equal(torch.get_rng_state(), before)
    assert sketch is not None
    drawn, built = sketch.state_dict(), make().state_dict()
    assert {name: (t.shape, t.dtype) for name, t in drawn.items()} == {n: (t.shape, t.dtype) for n, t in built.items()}
    assert sum(t.numel() for t in drawn.values() if not t.is_meta) < 0.2 * sum(t.numel() for t in built.values())


@pytest.mark.slow
def test_it_imports_no_compiler() -> None:
    code = (
        "import sys; from functools import partial; from kdal_cli.compose.sketch import ANY, sketched; "
        "from kdal_cli.models.resnet import resnet; sketched(partial(resnet, ANY, depth=8), 'it'); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def saved_as(path: Path, model: dict, shape: Shape = SHAPE) -> Checkpoint:
    """The weights of a small network whose card says that it is another."""
    classes = tuple(str(number) for number in range(shape.classes))
    card = Card("student", model, shape, classes, (0.5,), (0.25,), "blobs", {"data": "blobs", "labels": 3})
    checkpoint.write(path, mlp(SHAPE, hidden=(4,)), card)
    return checkpoint.read(path)


@pytest.mark.parametrize(
    "model",
    [
        {"name": "mlp", "hidden": [10**9]},
        {"name": "mlp", "hidden": [50_000, 50_000]},
        {"name": "mlp", "hidden": [2] * 900},
        {"name": "mlp", "hidden": [10**18, 10**18]},
        {"name": "mlp", "hidden": [10**30]},
        {"name": "resnet", "depth": 6 * 10**9 + 2, "widths": [1, 1, 1, 1]},
        {"name": "resnet", "depth": 8, "widths": [10**6] * 4},
        {"name": "wrn", "depth": 16, "width": 10**5},
        {"name": "torchvision", "arch": "vit_h_14"},
        {"name": "torchvision", "arch": "regnet_y_128gf"},
    ],
    ids=lambda model: str(model)[:60],
)
def test_a_card_that_asks_for_a_giant_is_refused_before_it_is_built(tmp_path: Path, model: dict) -> None:
    saved, start = saved_as(tmp_path / "x.safetensors", model), time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as refused:
            parts.blueprint(model, SHAPE, [], "student", saved)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 30
    assert str(refused.value).isprintable()


def test_a_card_of_another_network_of_the_same_size_is_refused_by_its_tensors(tmp_path: Path) -> None:
    model = {"name": "mlp", "hidden": [5]}
    saved = saved_as(tmp_path / "x.safetensors", model)
    with pytest.raises(UserError, match=r"not one of mlp hidden=\[5\]: layer1.linear.weight is 4×64, not 5×64"):
        parts.blueprint(model, SHAPE, [], "student", saved)


def test_weights_that_will_be_replaced_are_not_fetched(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", None)
    section = {"name": "torchvision", "arch": "squeezenet1_1", "pretrained": True}
    torch.save(torchvision(SHAPE, arch="squeezenet1_1").state_dict(), tmp_path / "x.pth")
    blueprint = parts.blueprint(section, SHAPE, [], "student", checkpoint.read(tmp_path / "x.pth"))
    assert blueprint.spec == section


def test_what_cannot_be_built_says_why() -> None:
    with pytest.raises(UserError, match=r"^student cannot be built: .*: choose other arguments$"):
        sketched(partial(mlp, SHAPE, hidden=(2**40, 2**40)), "student")
