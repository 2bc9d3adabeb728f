"""What Hydra wrote down about a run or a sweep (`.hydra/hydra.yaml`, `multirun.yaml`), read as data.

Nothing in it is resolved, and what is not of the kind that Hydra writes is as good as not there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdal_cli.compose.bounded import read_yaml
from kdal_cli.compose.settings import unresolved


@dataclass(frozen=True)
class About:
    """stage: empty where Hydra was stopped before it wrote. number: of a job in its sweep.

    cwd: where it was started; output: the run folder, as it was then. task, hydra: the words that it was started with,
    about the stage and about Hydra. choices: the option of each group of ours. options: folders of options of the
    user's own.
    """

    stage: str = ""
    number: int | None = None
    cwd: str = ""
    output: str = ""
    task: list[str] = field(default_factory=list)
    hydra: list[str] = field(default_factory=list)
    choices: dict[str, Any] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "About":
        """Raises UserError where the file is no YAML, or too much of it."""
        _, content = read_yaml(path)
        hydra = _section(unresolved(content), "hydra")
        job, runtime, said = _section(hydra, "job"), _section(hydra, "runtime"), _section(hydra, "overrides")
        sources, number = runtime.get("config_sources"), job.get("num")
        strange = [source for source in sources or () if isinstance(source, dict) and source.get("provider") == TYPED]
        return cls(
            stage=_text(job.get("config_name")),
            number=number if isinstance(number, int) else None,
            cwd=_text(runtime.get("cwd")),
            output=_text(runtime.get("output_dir")),
            task=_words(said.get("task")),
            hydra=_words(said.get("hydra")),
            choices=ours(_section(runtime, "choices")),
            options=[_text(source.get("path")) for source in strange],
        )


TYPED = "command-line"
"""Who names a folder of options to Hydra, when it is `--config-dir`."""


def ours(choices: Mapping[str, Any]) -> dict[str, Any]:
    """The option of each group of ours: {"sampler": "margin", "loss": ["kd", "at"], …}."""
    return {group: option for group, option in choices.items() if not group.startswith("hydra/")}


def _section(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    below = values.get(key)
    return {key: value for key, value in below.items() if isinstance(key, str)} if isinstance(below, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) and "\0" not in value else ""


def _words(value: Any) -> list[str]:
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []
