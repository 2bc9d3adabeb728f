"""Files and folders whose names mean something to a shell or to Hydra: typed as they are, they are found."""

from pathlib import Path

import numpy as np
import pytest
from cli.harness import Kdal
from safetensors.torch import save_file

from kdal_cli.dataset import Shape
from kdal_cli.models.resnet import resnet

SHORT = ("experiment=smoke", "loss=none", "student=mlp", "budget.rounds=0", "recipe.steps=2", "recipe.checks=1")
STRANGE = "R&D (1), 50%=фото"


@pytest.fixture
def archives(here: Path) -> list[str]:
    """Two sets of images in a folder with a strange name."""
    (here / STRANGE).mkdir()
    rng = np.random.default_rng(0)
    names = [f"{STRANGE}/it's.npz", f"{STRANGE}/[a]#1.npz"]
    for name in names:
        images, labels = rng.integers(0, 255, (120, 1, 8, 8), dtype=np.uint8), np.arange(120) % 10
        np.savez(here / name, x_train=images, y_train=labels, x_test=images[:20, :, ::-1], y_test=labels[:20])
    return names


def test_data_run_folder_checkpoint_and_resume(kdal: Kdal, archives: list[str]) -> None:
    data = ("data=npz", f"data.path={archives[0]}", "data.split.validation=10")
    out = f"{STRANGE}/out {{2}}"
    first = kdal("al-loop", *SHORT, *data, f"hydra.run.dir={out}")
    assert first.run.path.name == "out {2}"
    assert kdal("evaluate", "experiment=smoke", *data, f"checkpoint={out}").run.path.exists()
    assert "this run is done already" in kdal("al-loop", f"resume={out}").out


def test_a_sweep_over_two_of_them(kdal: Kdal, archives: list[str]) -> None:
    words = ("data=npz", f"data.path={archives[0]},{archives[1]}", "data.split.validation=10", "hydra.sweep.dir=sw(1)")
    ended = kdal("al-loop", *SHORT, "-m", *words)
    assert (ended.code, ended.err) == (0, "")
    assert len(list((ended.here / "sw(1)").glob("*/result.json"))) == 2


def test_a_list_of_weights(kdal: Kdal, here: Path) -> None:
    net = resnet(Shape(1, 8, 8, 4), depth=8).state_dict()
    for name in ("a,b.safetensors", "net(2).safetensors"):
        save_file(net, here / name)
    words = ("teacher=resnet8", "teacher.checkpoint=[a,b.safetensors,net(2).safetensors]", "teacher.preflight=off")
    assert "resnet depth=8" in kdal("distill", "experiment=smoke", *words).out
