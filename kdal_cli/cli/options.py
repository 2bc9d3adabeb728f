"""The options of a group beside the files of `conf/`: code of one's own is one, parts of options are none."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType


class OptionFiles(FileConfigSource):
    """Files, without the parts that options are made of: `_base.yaml` is no option of its own."""

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


@contextmanager
def offered(words: Sequence[str]) -> Iterator[None]:
    """While it lasts, `package.module:name` is an option of its group where words say so: `loss=[kd,my_losses:cosine]`.

    It is imported when the run starts, if its package is in `trust`.
    """
    store = ConfigStore.instance()
    added = [(group, name) for word in words for group, name in _own(word)]
    for group, name in added:
        store.store(group=group, name=name, node=dict(OWN[group](name)))
    try:
        yield
    finally:
        for group, name in set(added):
            del store.repo[group][f"{name}.yaml"]


def _own(word: str) -> Iterator[tuple[str, str]]:
    """(group, name) of each piece of code of one's own that a word names as an option."""
    key, _, value = word.lstrip("+").partition("=")
    group = key.partition("@")[0]
    for name in re.findall(r"(?<![\w.:])[^\W\d][\w.]*:[^\W\d]\w*", value) if group in OWN else ():
        yield group, name
