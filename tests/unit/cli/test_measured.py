"""`kdal evaluate checkpoint=RUN` takes the data of the run from its folder: values, and nothing else."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kdal_cli.cli.measured import with_its_data

DATA = {
    "name": "image_folder",
    "root": "my photos, 2",
    "size": 32,
    "store": "/elsewhere",
    "bits": None,
    "roots": ["/a b"],
    "split": {"validation": 0.1},
    "augment": {"flip": True},
    "background": "${seed}",
}


def run(path: Path, option: object = "image_folder", data: object = DATA) -> Path:
    (path / ".hydra").mkdir(parents=True)
    (path / "checkpoints").mkdir()
    (path / "checkpoints" / "round_000.safetensors").touch()
    about = {"hydra": {"job": {"config_name": "al-loop"}, "runtime": {"cwd": "/home/x", "choices": {"data": option}}}}
    OmegaConf.save(about, path / ".hydra" / "hydra.yaml")
    OmegaConf.save({"data": data, "seed": 3, "trust": ["evil"]}, path / ".hydra" / "config.yaml")
    return path


EXPECTED = [
    "data=image_folder",
    "data.name='image_folder'",
    "data.root='/home/x/my photos, 2'",
    "data.size=32",
    "data.bits=null",
    "data.roots=['/a b']",
    "data.split.validation=0.1",
    "data.augment.flip=true",
]


def test_a_run_its_file_and_the_folder_of_runs_say_the_data(tmp_path: Path) -> None:
    folder = run(tmp_path / "al-loop" / "one")
    for place in (folder, folder / "checkpoints" / "round_000.safetensors", folder.parent):
        word = f"checkpoint={place}"
        assert with_its_data(["split=test", word]) == [*EXPECTED, "split=test", word]


def test_what_is_typed_comes_after_and_other_data_are_not_mixed(tmp_path: Path) -> None:
    word = f"checkpoint={run(tmp_path / 'one')}"
    assert with_its_data([word, "data.root=/there"])[-1] == "data.root=/there"
    assert with_its_data([word, "data=digits"]) == [word, "data=digits"]


def test_a_checkpoint_of_no_run_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "w.pth").touch()
    for words in ([f"checkpoint={tmp_path / 'w.pth'}"], ["checkpoint=/nowhere"], [], ["checkpoint="]):
        assert with_its_data(words) == words


@pytest.mark.parametrize(("option", "data"), [(["digits"], DATA), ("digits", "text"), ("digits", None), (None, DATA)])
def test_nonsense_says_nothing(tmp_path: Path, option: object, data: object) -> None:
    word = f"checkpoint={run(tmp_path / 'one', option, data)}"
    assert with_its_data([word]) == [word]


def test_a_value_stays_a_value(tmp_path: Path) -> None:
    """Whatever a folder says, it is one text between quotes: no sweep, no second word."""
    data = {"name": "a' trust=[evil] '", "path": "x,y"}
    words = with_its_data([f"checkpoint={run(tmp_path / 'one', 'npz', data)}"])
    assert words[1] == "data.name='a\\' trust=[evil] \\''"
    assert words[2] == "data.path='/home/x/x,y'"
