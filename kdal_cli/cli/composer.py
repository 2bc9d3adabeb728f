"""Hydra with the loader of ours, and what it says about a line that is being typed."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from typing import Any

from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from kdal_cli.cli.conf import conf_folder
from kdal_cli.cli.loader import Loader

CALLS = ("oc.env", "oc.decode", "oc.create", "oc.select", "oc.deprecated", "oc.dict.keys", "oc.dict.values")
"""Resolvers of OmegaConf, which are taken away: no text, wherever it is from, reads the environment."""


@contextmanager
def composer(options: str | None, typed: Mapping[str, Any] | None = None) -> Iterator[Hydra]:
    """Hydra with a loader of ours. options: a folder of options of the user's own."""
    version.setbase("1.3")
    for name in CALLS:
        OmegaConf.clear_resolver(name)
    loader = Loader(create_config_search_path(str(conf_folder())), options, typed)
    GlobalHydra.instance().clear()
    app = Hydra(task_name="kdal", config_loader=loader)
    GlobalHydra.instance().initialize(app)
    try:
        yield app
    finally:
        GlobalHydra.instance().clear()


def continuations(stage: str, line: str) -> list[str]:
    """What the last word of `line` may become; nothing where the words before it cannot be read."""
    with suppress(SystemExit, Exception), redirect_stderr(io.StringIO()), composer(None) as app:
        return app.get_shell_to_plugin_map(app.config_loader)["bash"][0]._query(stage, line)
    return []
