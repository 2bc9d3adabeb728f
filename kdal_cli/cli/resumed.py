"""Going on with what lies in a folder. What a folder sets is data: values are taken from it, words only from who types.

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

from kdal_cli.cli.about import About
from kdal_cli.cli.outside import TYPED, is_about_hydra, parsed, refuse_strange_words
from kdal_cli.compose.bounded import read_yaml
from kdal_cli.compose.settings import PLACES, plain, refuse_unsaid
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
    saved, written = folder / ".hydra" / "config.yaml", folder / ".hydra" / "hydra.yaml"
    if not saved.is_file() or not written.is_file():
        raise UserError("no run to resume here", where=folder, cure=f"a folder below outputs/{stage} is needed")
    about, command = About.read(written), said.command(stage, folder, sweep=False)
    if not about.stage:
        raise UserError("this run was stopped before it began", where=folder, cure="start it again")
    if about.stage != stage:
        cure = f"kdal {about.stage} resume={folder}"
        raise UserError(f"this run is a {about.stage}", where=folder, cure=cure)
    _refuse_elsewhere(about, folder, command)
    _, config = read_yaml(saved)
    if not isinstance(config, DictConfig) or not config:
        raise UserError("this file is damaged", where=saved, cure="restore it from a copy, or start a new run")
    refuse_unsaid(plain(config), said.values, command)
    return config, about.choices


def saved_sweep(stage: str, folder: Path, said: Said) -> list[str]:
    """The words that make the jobs of the sweep in a folder. Raises UserError where they say more than that."""
    path = folder / "multirun.yaml"
    if not path.is_file():
        raise UserError("no sweep to resume here", where=folder, cure=f"a folder below outputs/multirun/{stage}")
    about, command = About.read(path), said.command(stage, folder, sweep=True)
    if about.stage != stage:
        cure = f"kdal {about.stage or stage} -m resume={folder}"
        raise UserError(f"this sweep is of {about.stage or 'no stage'}", where=folder, cure=cure)
    _refuse_elsewhere(about, folder, command)
    if about.options and said.options is None:
        cure = f"if you do: {command} --config-dir {shlex.quote(about.options[0])}"
        raise UserError("this sweep was started with options of your own", where=folder, cure=cure)
    believed, unsaid = [], []
    for override in parsed([*about.task, *about.hydra]):
        key = override.key_or_group
        if key not in OF_THE_START and key not in said.values:
            (unsaid if key.split(".")[0] in TYPED else believed).append(override.input_line or "")
    if unsaid:
        cure = f"if you do: {command} {shlex.join(unsaid)}"
        raise UserError(f"a folder sets {', '.join(unsaid)}, which only the command line can set", cure=cure)
    refuse_strange_words(believed, path)
    return [*believed, *said.words]


def _refuse_elsewhere(about: About, folder: Path, command: str) -> None:
    """Raise UserError unless relative paths mean here what they meant where a run was started.

    That is so in the same folder, in one that lies to the run's folder as that one did (a project that was copied or
    moved), and where that folder is not on this machine: then they mean what lies here.
    """
    if not Path(about.cwd).is_dir() or Path(about.cwd).samefile("."):
        return
    beside = folder / os.path.relpath(about.cwd, about.output) if about.output else folder
    if not (beside.is_dir() and beside.samefile(".")):
        cure = f"cd {shlex.quote(about.cwd)} && {command}"
        raise UserError("it was started in another folder", where=about.cwd, cure=cure)
