"""A stage as a Hydra application, with what Hydra's own command line lacks.

Before Hydra reads argv: flags may stand anywhere, `budget=100` is a number of labels as well as a preset, and
`resume=FOLDER` continues a run with the configuration that lies in it. After: every refusal is one line.
"""

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, TextIO

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdal_cli.cli.conf import conf_folder
from kdal_cli.cli.outcome import tell
from kdal_cli.errors import KdalError, UserError, nearest
from kdal_cli.files import discard, write_bytes


def start(stage: str, words: Sequence[str]) -> None:
    """Run a stage as the words after its name say."""
    flags, overrides = flags_first(words)
    refuse_strange_files(flags)
    resumed = [o.removeprefix("resume=") for o in overrides if o.startswith("resume=")]
    if resumed:
        if len(overrides) > 1 or flags:
            raise UserError(
                "resume takes the configuration of the run and nothing beside it", cure=f"kdal {stage} resume=FOLDER"
            )
        resume(stage, Path(resumed[0]))
    else:
        with kept(overrides):
            run_hydra(stage, [*flags, *numeric_budget(overrides)])


@contextmanager
def kept(overrides: Sequence[str]) -> Iterator[None]:
    """Put the configuration of a run back, where Hydra wrote another over it and the run was refused."""
    saved: dict[Path, bytes] = {}
    folders = [Path(text.partition("=")[2]) for text in overrides if text.startswith("hydra.run.dir=")]
    with suppress(OSError):  # Hydra itself says what is wrong with a folder
        saved = {path: path.read_bytes() for folder in folders for path in folder.glob(".hydra/*.yaml")}
    try:
        yield
    except KdalError:
        for path, content in saved.items():
            write_bytes(path, content)
        raise


class OwnLines:
    """stderr without the line that Hydra adds about the first job of a sweep that failed: it is told already."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        return len(text) if text.startswith("Error executing job with overrides") else self.stream.write(text)


def run_hydra(stage: str, words: Sequence[str]) -> None:
    """Hand the words to Hydra; its errors come back as UserError."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us instead of being printed
    sys.argv = ["kdal", *words]
    decorated = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=stage)(job)
    try:
        with redirect_stderr(OwnLines(sys.stderr)):  # pyright: ignore[reportArgumentType]
            decorated()
    except Escape as escape:
        raise escape.error from None
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise refusal(stage, error, words) from error
    except OSError as error:
        cure = "choose another hydra.run.dir"
        raise UserError(f"cannot write: {error.strerror}", where=error.filename, cure=cure) from error
    finally:
        sweep = sys.modules.get("kdal_cli.cli.sweep")  # imported by Hydra when a sweep starts
        if sweep is not None:
            sweep.summarise()


class Escape(BaseException):
    """An error on its way out of Hydra, which would print a line of its own about an Exception."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def job(config: DictConfig) -> Any:
    """One run of a stage, in the folder that Hydra made for it. Module-level and plain, so that launchers can ship it.

    In a sweep an error is told at once and left to Hydra, which goes on with the other jobs.
    """
    about = HydraConfig.get()
    overrides = told(about)
    stage, folder = str(about.job.config_name), Path(about.runtime.output_dir)
    try:
        refuse_borrowed_trust(config, overrides)
        from kdal_cli.build.stage import run_stage

        return run_stage(stage, config, folder, shlex.join(["kdal", stage, *overrides]))
    except KeyboardInterrupt:
        if not (folder / "manifest.json").exists():
            discard(folder)  # stopped before it began
        raise
    except Exception as error:
        if about.mode == RunMode.MULTIRUN:
            tell(error)
            raise
        raise Escape(error) from error


def told(about: Any) -> list[str]:
    """The overrides of a job, as they were written: an interpolation among them is not resolved here."""
    return OmegaConf.to_container(about.overrides.task, resolve=False)  # type: ignore[return-value]


def resume(stage: str, folder: Path) -> None:
    """Continue the run in `folder`, from the directory where it was started."""
    saved, settings = folder / ".hydra" / "config.yaml", folder / ".hydra" / "hydra.yaml"
    if not saved.is_file() or not settings.is_file():
        raise UserError("no run to resume here", where=folder, cure=f"a folder below outputs/{stage} is needed")
    content = OmegaConf.load(settings)
    about = content.get("hydra") if isinstance(content, DictConfig) else None
    if about is None:
        raise UserError("this run was stopped before it began", where=folder, cure="start it anew")
    if about.job.config_name != stage:
        raise UserError(
            f"this run is a {about.job.config_name}", where=folder, cure=f"kdal {about.job.config_name} resume={folder}"
        )
    config = OmegaConf.create(saved.read_text())
    assert isinstance(config, DictConfig)
    folder = folder.resolve()
    refuse_borrowed_trust(config, told(about))
    if Path(about.runtime.cwd).is_dir():
        os.chdir(about.runtime.cwd)

    from kdal_cli.build.stage import run_stage

    run_stage(stage, config, folder, shlex.join(["kdal", stage, f"resume={folder}"]), resumed=True)


def flags_first(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(flags with their values, overrides): Hydra itself stops at a flag that comes after an override.

    Raises UserError for a flag that Hydra does not know, or without its value.
    """
    parser = get_args_parser()
    parser.error = _refuse_flags  # type: ignore[method-assign]
    takes_value = {name for action in parser._actions if action.nargs in (None, 1) for name in action.option_strings}
    optional = {name for action in parser._actions if action.nargs == "?" for name in action.option_strings}
    flags: list[str] = []
    overrides: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        flags.append(word)
        if rest and (word in takes_value or (word in optional and re.fullmatch(r"[a-z-]+", rest[0]))):
            flags.append(rest.pop(0))
    if parser.parse_args([*flags, *overrides]).shell_completion:
        raise UserError("--shell-completion is not for hands", cure='eval "$(kdal completion bash)"')
    return flags, overrides


def _refuse_flags(message: str) -> NoReturn:
    raise UserError(message, cure="kdal --help")


def refuse_strange_files(flags: Sequence[str]) -> None:
    """Raise UserError when a configuration folder from outside would configure Hydra itself, which can run any code."""
    for flag, value in pairwise(flags):
        if flag in ("--config-dir", "-cd", "--config-path", "-cp"):
            for path in sorted(Path(value).rglob("*.y*ml")):
                text = path.read_text(errors="replace")
                if found := re.search(r"^hydra:\s*(\w*)|^# *@package +(?:_global_\.)?hydra\S*", text, re.MULTILINE):
                    key = f"hydra.{found.group(1)}" if found.group(1) else "hydra"
                    raise UserError(f"{key} is set by a file", where=path, cure="set it on the command line")
                if "hydra" in path.relative_to(value).parts:
                    raise UserError("this file would be an option of Hydra itself", where=path, cure="take it out")


def refuse_borrowed_trust(config: DictConfig, overrides: Sequence[str]) -> None:
    """Raise UserError when it was a file, and not the user, that trusts in code from outside."""
    if config.get("trust") and not any(override.lstrip("+").startswith("trust=") for override in overrides):
        raise UserError(f"trust={config.trust} is set by a file", cure="say it yourself, on the command line")


def numeric_budget(overrides: Sequence[str]) -> list[str]:
    """`budget=100` and its sweeps become `budget.query=100`; presets stay choices of the group.

    Raises UserError for a sweep over presets and numbers at once.
    """
    return [_numeric(text) for text in overrides]


def _numeric(text: str) -> str:
    if not text.startswith("budget="):
        return text
    try:
        override = OverridesParser.create().parse_override(text)
    except OverrideParseException:
        return text  # Hydra itself says what is wrong
    numbers = [isinstance(value, int | float) for value in _values(override)]
    if any(numbers) and not all(numbers):
        raise UserError(
            f"{text} mixes presets and numbers of labels",
            cure="sweep one of the two: budget=50,100 or budget=small,large",
        )
    return text.replace("budget=", "budget.query=", 1) if numbers and all(numbers) else text


def _values(override: Override) -> list[Any]:
    if override.is_interval_sweep():
        return [0.0]
    if override.is_sweep_override():
        values = list(override.sweep_iterator())
        return [v if not isinstance(v, str) else _number(v) for v in values]
    value = override.value()
    return [] if isinstance(value, QuotedString) else [value]


def _number(text: str) -> Any:
    """A swept value comes as text; a number among them counts as one."""
    try:
        return float(text)
    except ValueError:
        return text


def refusal(stage: str, error: Exception, words: Sequence[str]) -> UserError:
    """What Hydra or OmegaConf says, in one line, with the nearest name that would have been accepted."""
    text = str(error)
    if found := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        group, option = found.groups()
        options = re.search(r"Available options in '[^']*':\n((?:\t.*\n?)*)", text)
        known = options.group(1).split() if options else []
        return UserError(f"{group}={option}", where=f"no such option of {group}", cure=nearest(option, known))
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found.group(1).split("@")[0]
        return UserError(f"{key}", where=f"kdal {stage} has no such key", cure=nearest(key, _keys(stage)))
    if found := re.search(r"Could not append to config\. An item is already at '([^']+)'", text):
        return UserError(f"+{found.group(1)} is there already", cure=f"write {found.group(1)}=… without the plus")
    if "Ambiguous value for argument" in text:
        return UserError(f"several values without a sweep: {text.split(chr(39))[1]}", cure="sweep over them with -m")
    if "Config group override must be" in text:
        return UserError(
            f"no option of a group: {' '.join(words)}", cure="a group takes the name of one of its options"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return UserError(lines[0] if lines else type(error).__name__, cure=f"see kdal {stage} --help")


def _keys(stage: str) -> list[str]:
    """Every dotted key of a stage's default configuration, and its groups."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose(stage)

    def walk(node: Any, path: str) -> list[str]:
        if not isinstance(node, DictConfig):
            return [path]
        below = [walk(node._get_node(key), f"{path}.{key}".lstrip(".")) for key in node]
        return [*([path] if path else []), *(key for keys in below for key in keys)]

    return walk(config, "")
