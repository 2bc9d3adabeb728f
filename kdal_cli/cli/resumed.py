"""Going on with what lies in a folder. What a folder says is data: values are taken from it, words only from who types.

A run goes on with the configuration that was saved, a sweep with the words that made its jobs; but whom to trust, where
to write beyond `outputs/`, how many jobs, and what of Hydra could run code has to be typed again. Nor is a folder
believed where it was started: relative paths are seen from the folder that we are in, and that has to be the same.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kdal_cli.cli.outside import TYPED, is_about_hydra, parsed, refuse_strange_words
from kdal_cli.compose.bounded import read_yaml
from kdal_cli.compose.settings import PLACES, plain, refuse_unsaid, unresolved
from kdal_cli.errors import UserError

OF_THE_START = ("hydra.sweep.dir", "hydra.run.dir", "hydra.mode")
"""Keys of words that a sweep was started with; `resume` says them itself."""


@dataclass(frozen=True)
class Said:
    """Words that are typed beside `resume`, and {key: value} of them. options: the folder of `--config-dir`."""

    words: Sequence[str] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    options: str | None = None

    @classmethod
    def of(cls, words: Sequence[str], *, sweep: bool, options: str | None) -> "Said":
        """Raises UserError for a word that says what the folder does."""
        values = {}
        for override in parsed(words):
            key = override.key_or_group
            unbelieved = key == "trust" or key.rpartition(".")[2] in PLACES
            if not unbelieved and not (sweep and (key.startswith("sweep.") or is_about_hydra(override))):
                cure = "only what a folder is not believed: trust=[package], teacher.store=FOLDER"
                raise UserError("resume takes the configuration of the run and nothing beside it", cure=cure)
            values[key] = override.value()
        if options is not None and not sweep:
            raise UserError("resume takes the configuration of the run and nothing beside it", cure="no --config-dir")
        return cls(words, values, options)

    def command(self, stage: str, folder: Path, *, sweep: bool) -> str:
        """What was typed, as it could be typed again from anywhere."""
        options = ["--config-dir", self.options] if self.options else []
        words = ["-m"] * sweep + [*options, f"resume={folder.resolve()}", *self.words]
        return shlex.join(["kdal", stage, *words])


def saved_run(stage: str, folder: Path, said: Said) -> tuple[DictConfig, dict[str, Any]]:
    """(configuration, option of each group) of the run in a folder. Raises UserError where it cannot go on here."""
    saved, about = folder / ".hydra" / "config.yaml", folder / ".hydra" / "hydra.yaml"
    if not saved.is_file() or not about.is_file():
        raise UserError("no run to resume here", where=folder, cure=f"a folder below outputs/{stage} is needed")
    settings = _settings(about)
    if not settings:
        raise UserError("this run was stopped before it began", where=folder, cure="start it anew")
    _refuse_other_stage(stage, settings, folder, "this run is a {}", "kdal {} resume={}")
    command = said.command(stage, folder, sweep=False)
    output = _text(settings, "runtime", "output_dir")
    _refuse_elsewhere(_text(settings, "runtime", "cwd"), command, output=output, folder=folder)
    _, config = read_yaml(saved)
    if not isinstance(config, DictConfig):
        raise UserError("this file is damaged", where=saved, cure="restore it from a copy, or start a new run")
    refuse_unsaid(plain(config), said.values, command)
    return config, ours(_section(settings, "runtime", "choices"))


def saved_sweep(stage: str, folder: Path, said: Said) -> list[str]:
    """The words that make the jobs of the sweep in a folder. Raises UserError where they say more than that."""
    path = folder / "multirun.yaml"
    if not path.is_file():
        raise UserError("no sweep to resume here", where=folder, cure=f"a folder below outputs/multirun/{stage}")
    settings = _settings(path)
    _refuse_other_stage(stage, settings, folder, "this sweep is of {}", "kdal {} -m resume={}")
    command = said.command(stage, folder, sweep=True)
    _refuse_elsewhere(_text(settings, "runtime", "cwd"), command)
    sources = _section(settings, "runtime").get("config_sources") or []
    options = [str(s.get("path")) for s in sources if isinstance(s, dict) and s.get("provider") == "command-line"]
    if options and said.options is None:
        cure = f"{command} --config-dir {shlex.quote(options[0])}"
        raise UserError("this sweep was started with options of your own", where=folder, cure=f"if you do: {cure}")
    believed, unsaid = [], []
    for override in parsed(_words(settings)):
        key = override.key_or_group
        if key not in OF_THE_START and key not in said.values:
            (unsaid if key.split(".")[0] in TYPED else believed).append(override.input_line or "")
    if unsaid:
        cure = f"if you do: {command} {shlex.join(unsaid)}"
        raise UserError(f"a folder says {', '.join(unsaid)}, which only you can say", cure=cure)
    refuse_strange_words(believed, path)
    return [*believed, *said.words]


def ours(choices: Mapping[str, Any]) -> dict[str, Any]:
    """The option of each group of ours: {"sampler": "margin", "loss": ["kd", "at"], …}."""
    return {group: option for group, option in choices.items() if not group.startswith("hydra/")}


def _settings(path: Path) -> dict[str, Any]:
    """What Hydra wrote down about a run, as data; empty when it was stopped while it wrote."""
    _, content = read_yaml(path)
    return _section(unresolved(content), "hydra")


def _section(values: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The mapping below these keys, with keys that are text; empty where there is none."""
    for key in keys:
        below = values.get(key)
        values = below if isinstance(below, dict) else {}
    return {key: value for key, value in values.items() if isinstance(key, str)}


def _text(settings: Mapping[str, Any], section: str, key: str) -> str:
    value = _section(settings, section).get(key)
    return value if isinstance(value, str) and "\0" not in value else ""


def _words(settings: Mapping[str, Any]) -> list[str]:
    said = _section(settings, "overrides")
    lists = [said.get(kind) for kind in ("task", "hydra")]
    return [word for words in lists if isinstance(words, list) for word in words if isinstance(word, str)]


def _refuse_other_stage(stage: str, settings: Mapping[str, Any], folder: Path, what: str, command: str) -> None:
    its = _text(settings, "job", "config_name")
    if its != stage:
        raise UserError(what.format(its or "no stage"), where=folder, cure=command.format(its or stage, folder))


def _refuse_elsewhere(started: str, command: str, output: str = "", folder: Path = Path()) -> None:
    """Raise UserError unless relative paths mean here what they meant where a run was started.

    That is so in the same folder, in one that lies to the run's folder as that one did (a project that was copied or
    moved), and where that folder is not on this machine: then they mean what lies here.
    """
    if not Path(started).is_dir() or Path(started).samefile("."):
        return
    if output:
        beside = folder / os.path.relpath(started, output)
        if beside.is_dir() and beside.samefile("."):
            return
    raise UserError("it was started in another folder", where=started, cure=f"cd {shlex.quote(started)} && {command}")
