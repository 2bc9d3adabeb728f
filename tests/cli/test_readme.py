"""Every command of the README runs, in the order it stands there, with shorter trainings."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdal_cli.cli.main import answer
from kdal_cli.dataset import Shape
from kdal_cli.models.resnet import resnet

README = Path(__file__).parents[2] / "README.md"
STEPS = ("recipe.steps=4", "recipe.checks=1", "teacher.recipe.epochs=0.2", "teacher.recipe.checks=1")
SHORT = (*STEPS, "budget.rounds=1")
READERS = {"report": "multirun/al-loop", "runs": "multirun/al-loop"}
READERS |= dict.fromkeys(("predict", "export", "watch"), "distill")
"""Commands that read what others have made, and whose."""


def commands() -> list[str]:
    """The lines of the README's `sh` blocks, without their comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def code_of_the_readme() -> dict[str, str]:
    """{file: text} of its Python blocks."""
    return dict(re.findall(r"^```python (\S+)\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README assumes: photos, an npz file, weights and two modules of the user's own."""
    folder = tmp_path_factory.mktemp("readme")
    rng = np.random.default_rng(0)
    for split, images in (("train", 40), ("test", 4)):
        for colour, kind in enumerate(("cats", "dogs")):
            (folder / "photos" / split / kind).mkdir(parents=True)
            for number in range(images):
                pixels = rng.integers(90 * colour, 90 * colour + 120, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "photos" / split / kind / f"{number}.png")
    images, labels = rng.integers(0, 255, (300, 3, 16, 16), dtype=np.uint8), np.arange(300) % 5
    np.savez(folder / "images.npz", x_train=images, y_train=labels, x_test=images[:50][:, ::-1], y_test=labels[:50])
    torch.save(resnet(Shape(1, 8, 8, 10), depth=8).state_dict(), folder / "weights.pth")
    for name, text in code_of_the_readme().items():
        (folder / name).write_text(text)
    return folder


def test_it_has_commands_for_every_stage() -> None:
    assert {command.split()[1] for command in commands()} == {
        "train-teacher",
        "distill",
        "al-loop",
        "evaluate",
        "pretrain",
        "compress",
        *READERS,
    }


def timed(place: int, command: str) -> object:
    """A sweep takes its time, and of other trainings every other one is enough."""
    sweeps = any(word in command for word in (" -m ", "seeds="))
    again = place % 2 and command.split()[1] in ("al-loop", "distill")
    return pytest.param(command, marks=pytest.mark.slow) if sweeps or again else command


@pytest.mark.parametrize("command", [timed(place, command) for place, command in enumerate(commands())])
def test_a_command_of_the_readme_runs(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    words = shlex.split(command)
    assert words[0] == "kdal"
    stage = words[1]
    if stage in READERS:
        newest(folder, READERS[stage])
        answer(words[1:])
        return
    if any(word.endswith("outputs/al-loop") for word in words):
        newest(folder, "al-loop")
    words = [word.replace("seeds=5", "seeds=2") for word in words]
    words = [word if not word.startswith("replay=") else f"replay={newest(folder, 'al-loop')}" for word in words]
    answer([*words[1:], *SHORT])
    if "-m" in words or any(word.startswith("seeds=") for word in words):
        assert (newest(folder, f"multirun/{stage}") / "report.html").exists()
    else:
        assert (newest(folder, stage) / "result.json").exists()


def newest(folder: Path, stage: str) -> Path:
    """The last run or sweep of a stage; one is made where the tests before this one ran in another process."""
    if not (folder / "outputs" / stage).exists():
        sweep = ["-m", "seed=0,1"] if "multirun" in stage else []
        answer([stage.rpartition("/")[2], *SHORT, "loss=none", *sweep])
    return max((folder / "outputs" / stage).iterdir())
