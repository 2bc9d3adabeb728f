"""The loader that Hydra is given: what it composes is judged as it is composed, before anything is made of it.

Hydra instantiates the callbacks, launchers, sweepers and log handlers that a configuration names, so a configuration
can run any code. Here every file is looked at where it is merged, with its packages applied and its aliases, tags and
escapes read. One that comes neither from our `conf/` nor from what is installed may set values and little else
(`kdal_cli.cli.outside`); typed words may name no code that those do not name.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository, IConfigRepository
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.default_element import ResultDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from kdal_cli.cli.about import TYPED
from kdal_cli.cli.options import OptionFiles
from kdal_cli.cli.outside import is_about_hydra, refuse_calls_of_words, refuse_more_than_values
from kdal_cli.compose.bounded import read_yaml
from kdal_cli.compose.references import refuse_calls
from kdal_cli.compose.settings import refuse_unsaid, unresolved
from kdal_cli.errors import KdalError, UserError

FILES = 1_000
"""Files that one composition asks for; with ours alone that is 90 times."""

OPTIONS = 10_000
"""Files of a folder of options."""

CODE = ("_target_", "()", "class")
"""Keys whose values are names of code, which Hydra or `logging` calls; so is what begins with `ext://`."""

OURS = "kdal_cli.cli.sweep.Sweep"

TEXTS = ("hydra.mode", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
"""Keys of Hydra that hold a text and nothing below it: typing them asks for no look at the rest."""


class Strange(ConfigResult):
    """What a file from outside says."""


class Outside(OptionFiles):
    """A folder of options that is not ours."""

    def __init__(self, provider: str, path: str) -> None:
        folder = path.removeprefix("file://")
        if not Path(folder).is_dir():
            raise UserError("no folder of options", where=folder, cure="--config-dir DIR")
        super().__init__(provider, folder)

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path, self._normalize_file_name(config_path))
        text, config = read_yaml(path)
        return Strange(self.provider, str(path), config, self._get_header_dict(text[:512]))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        folder = Path(self.path, config_path)
        if sum(1 for _ in folder.iterdir()) > OPTIONS:
            raise UserError("too many files for a folder of options", where=folder, cure=f"at most {OPTIONS:,}")
        return super().list(config_path, results_filter)


class Repository(ConfigRepository):
    """Folders of options: ours and those of what is installed, whose providers are `trusted`, and others."""

    def __init__(self, search_path: ConfigSearchPath, trusted: frozenset[str | None]) -> None:
        self.trusted = trusted
        super().__init__(search_path)

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        self.sources = []
        for place in config_search_path.get_path():
            assert place.provider is not None
            assert place.path is not None
            self.sources.append(self._kind(place.provider, place.path)(place.provider, place.path))

    def _kind(self, provider: str, path: str) -> type[ConfigSource]:
        if provider not in self.trusted:
            return Outside
        scheme = self._get_scheme(path)
        return OptionFiles if scheme == "file" else SourcesRegistry.instance().resolve(scheme)

    def load_config(self, config_path: str) -> ConfigResult | None:
        if ".." in PurePosixPath(config_path).parts or config_path.startswith("/"):
            raise UserError(f"{config_path} leads out of the options", cure="an option has the name of its file")
        return super().load_config(config_path)


class OneComposition(CachingConfigRepository):
    """The files of one composition, counted: defaults that name each other are many before they are read."""

    asked = 0

    def load_config(self, config_path: str) -> ConfigResult | None:
        self.asked += 1
        if self.asked > FILES:
            raise UserError(
                "this configuration is made of too many files", where=config_path, cure=f"{FILES:,} at most"
            )
        return super().load_config(config_path)


class Loader(ConfigLoaderImpl):
    """Composes what Hydra is about to run.

    folder: options of the user's own. typed: {key: value} of words typed beside `resume` of a sweep, whose other words
    are those of a folder; None where all words were typed.
    """

    def __init__(self, ours: ConfigSearchPath, folder: str | None, typed: Mapping[str, Any] | None = None) -> None:
        trusted = frozenset(place.provider for place in ours.get_path())
        if folder is not None:
            schema = SearchPathQuery(provider="schema")  # which stays the last
            ours.prepend(provider=TYPED, path=str(Path(folder).absolute()), anchor=schema)
        self.config_search_path = ours
        self.repository = Repository(ours, trusted)
        self.typed = typed
        self._about_hydra = self._from_outside = False
        self._code: set[str] = set()

    def load_configuration(self, *args: Any, **keywords: Any) -> DictConfig:
        try:
            return super().load_configuration(*args, **keywords)
        except (KdalError, HydraException):
            raise
        except RecursionError as error:
            raise UserError("this configuration has no end", cure="something in it holds itself") from error
        except Exception as error:  # whatever Hydra stumbles over came from a word or a file
            raise ConfigCompositionException(f"cannot be read: {type(error).__name__}: {error}") from error

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        config = super().load_sweep_config(master_config, sweep_overrides)
        _refuse_leaving(config)
        return config

    def _load_configuration_impl(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        refuse_calls_of_words(overrides)
        self._code, self._from_outside = {OURS}, False
        config = super()._load_configuration_impl(
            config_name, overrides, run_mode, from_shell, validate_sweep_overrides
        )
        if self._about_hydra:
            for path, code in _code(unresolved(config.hydra)):
                if code not in self._code:
                    raise UserError(f"hydra.{path}={code}", where="code from outside kdal", cure="leave it out")
        calls = any(sign in word for word in overrides for sign in ("$", "_target_"))
        if calls or self._about_hydra or self._from_outside or self.typed is not None:
            values = {key: value for key, value in unresolved(config).items() if key != "hydra"}
            refuse_calls(values)
            if self.typed is not None:
                refuse_unsaid(values, self.typed, "resume=...")
        return config

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        parsed = OverridesParser.create().parse_overrides(overrides)
        self._about_hydra = any(is_about_hydra(o) and o.key_or_group not in TEXTS for o in parsed)
        repository = OneComposition(self.repository)
        self._process_config_searchpath(config_name, parsed, repository)
        return parsed, repository

    def _load_single_config(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        loaded = super()._load_single_config(default, repo)
        if isinstance(loaded, Strange):
            self._from_outside = True
            refuse_more_than_values(unresolved(loaded.config), loaded.path)
        elif self._about_hydra and "hydra" in loaded.config:
            self._code |= {code for _, code in _code(unresolved(loaded.config))}
        _refuse_misplaced(default, loaded)
        return loaded


def _refuse_misplaced(default: ResultDefault, loaded: ConfigResult) -> None:
    """Raise UserError where an option sets what is not its own: one of ours Hydra, one of Hydra another part of it."""
    path, package = default.config_path or "", default.package or ""
    home = (path.rpartition("/")[0].replace("/", "."), loaded.header.get("package"))
    if package.split(".")[0] == "hydra" and not (path.startswith("hydra/") and package in home):
        raise UserError(f"{path} is put into {package}", where=default.parent, cure=f"it belongs into {home[0]}")


def _code(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of everything below that names code."""
    below = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in below:
        at = f"{path}.{key}".removeprefix(".")
        if key in CODE or (isinstance(value, str) and value.startswith("ext://")):
            yield at, str(value)
        yield from _code(value, at)


def _refuse_leaving(config: DictConfig) -> None:
    """Raise UserError where the folder of a job would not lie in that of its sweep."""
    job = config.hydra.job
    job.num, job.id = 0, "0"  # both are known when the job starts
    inside = PurePosixPath(OmegaConf.select(config, "hydra.sweep.subdir"))
    job.num = job.id = "???"
    if inside.is_absolute() or ".." in inside.parts:
        cure = "set hydra.sweep.subdir, such as job-${hydra.job.num}"
        raise UserError(f"a job would have its folder outside its sweep: {inside}", cure=cure)
