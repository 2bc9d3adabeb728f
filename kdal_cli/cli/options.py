"""The options of a group beside the files of `conf/`: code of one's own is one, parts of options are none."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType


class FileConfigSource(file_config_source.FileConfigSource):
    """Files, without the parts that options are made of: `_base.yaml` is no option of its own.

    It has the name of Hydra's class, so that Hydra does not put that one in its place.
    """

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return [name for name in super().list(config_path, results_filter) if not name.startswith("_")]


def _term(name: str) -> Mapping[str, Any]:
    key = name.rpartition(":")[2]
    return {"defaults": [{f"shared@{key}": "term"}, "_self_"], "on": "both", key: {"name": name}}


OWN: Mapping[str, Callable[[str], Mapping[str, Any]]] = {
    "loss": _term,
    "sampler": lambda name: {"name": name},
    "seed_set": lambda name: {"name": name},
    "student": lambda name: {"name": name},
    "teacher": lambda name: {"defaults": ["_base", "_self_"], "model": {"name": name}},
    "tracker": lambda name: {"name": name},
}
"""What a file of the group would say of code of one's own: the settings that all options have, and its name."""


def offer(words: Sequence[str]) -> None:
    """Make `package.module:name` an option of its group wherever the words say so: `loss=[kd,my_losses:cosine]`.

    It is imported when the run starts, if its package is in `trust`.
    """
    SourcesRegistry.instance().types["file"] = FileConfigSource
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        group = key.partition("@")[0]
        for name in re.findall(r"(?<![\w.:])[^\W\d][\w.]*:[^\W\d]\w*", value) if group in OWN else ():
            ConfigStore.instance().store(group=group, name=name, node=dict(OWN[group](name)))
