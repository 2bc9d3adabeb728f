"""The data of a run that is to be measured: `kdal evaluate RUN` need not be told them again.

What a folder says is data: from its configuration come values of `data`, and nothing else.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kdal_cli.cli.about import About
from kdal_cli.cli.paths import quoted, takes_path, typed
from kdal_cli.compose.bounded import read_yaml
from kdal_cli.compose.settings import PLACES, unresolved
from kdal_cli.values import flat


def run_named(words: Sequence[str]) -> list[str]:
    """The words, a first one that sets nothing being the run: `kdal compress RUN` is `checkpoint=RUN`."""
    first, *rest = words or [""]
    plain = first and "=" not in first and not first.startswith(("~", "+"))
    return [f"checkpoint={first}", *rest] if plain else list(words)


def with_its_data(words: Sequence[str]) -> list[str]:
    """The words with those before them that say the data of the run they name; what was typed says it better.

    Just the words where no run is named, or other data are.
    """
    checkpoints = [word.removeprefix("checkpoint=") for word in words if word.startswith("checkpoint=")]
    if len(checkpoints) != 1 or any(word.startswith("data=") for word in words):
        return list(words)
    run = _run_of(typed(checkpoints[0]))
    return [*(_said(run) if run is not None else ()), *words]


def _run_of(path: Path) -> Path | None:
    """The folder of the run that a path stands for, if it is one: itself, the newest below it, or that of a file."""
    below = [folder.parent for folder in path.glob("*/checkpoints")] if path.is_dir() else []
    newest = max(below, key=lambda folder: folder.stat().st_mtime, default=None)
    for folder in (newest, path, path.parent.parent):
        if folder is not None and (folder / ".hydra" / "config.yaml").is_file():
            return folder
    return None


def _said(run: Path) -> Iterator[str]:
    """Words that say the data of a run: the option, then each value. Paths are seen from where the run was started."""
    about = About.read(run / ".hydra" / "hydra.yaml")
    _, config = read_yaml(run / ".hydra" / "config.yaml")
    section = unresolved(config).get("data") if isinstance(config, DictConfig) else None
    option = about.choices.get("data")
    if not isinstance(section, dict) or not isinstance(option, str):
        return
    yield f"data={option if option.isidentifier() else quoted(option)}"
    for key, value in flat(section).items():
        if key.rpartition(".")[2] not in PLACES and not (isinstance(value, str) and "${" in value):
            yield f"data.{key}={_written(f'data.{key}', value, about.cwd)}"


def _written(key: str, value: Any, cwd: str) -> str:
    if isinstance(value, str):
        there = takes_path(key) and value and not value.startswith("~")
        return quoted(str(Path(cwd, value)) if there else value)
    if isinstance(value, list):
        return f"[{','.join(_written(key, each, cwd) for each in value)}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
