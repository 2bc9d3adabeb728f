"""A stage as a Hydra application, with what Hydra's own command line lacks.

Hydra writes nothing into a run folder: what it would is written when the folder is known to be this run's.
Before it reads argv: flags may stand anywhere, `budget=100` is a number of labels as well as a preset, and
`resume=FOLDER` continues a run with the configuration that lies in it. After: every refusal is one line.
"""

import gc
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdal_cli.cli.conf import conf_folder
from kdal_cli.cli.outcome import Escape, tell
from kdal_cli.cli.refusals import refusal
from kdal_cli.cli.sweep import note
from kdal_cli.cli.words import flags_first, numeric_budget, quoted_paths, refuse_strange_files, several_seeds
from kdal_cli.compose.settings import result_of
from kdal_cli.errors import UserError
from kdal_cli.records.files import shown
from kdal_cli.records.folders import forget, made_for_us
from kdal_cli.records.run import Request
from kdal_cli.report.display import Display
from kdal_cli.signals import heard, undo

SWEEPS = {"-m", "--multirun"}

undo.append(forget)


def start(stage: str, words: Sequence[str]) -> None:
    """Run a stage as the words after its name say."""
    flags, overrides = flags_first(words)
    refuse_strange_files(flags)
    resumed = [Path(o.removeprefix("resume=")) for o in overrides if o.startswith("resume=")]
    if resumed and (len(overrides) > 1 or not set(flags) <= SWEEPS):
        raise UserError(
            "resume takes the configuration of the run and nothing beside it", cure=f"kdal {stage} resume=FOLDER"
        )
    if resumed and (flags or is_sweep(resumed[0])):
        resume_sweep(stage, resumed[0])
    elif resumed:
        resume(stage, resumed[0])
    else:
        more, overrides = several_seeds(overrides)
        run_hydra(stage, [*flags, *more, *numeric_budget(quoted_paths(overrides))])


def is_sweep(folder: Path) -> bool:
    with suppress(OSError):  # a name that no folder can have is told later
        return (folder / "multirun.yaml").exists()
    return False


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
    except KeyboardInterrupt:
        forget()
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        forget()
        raise refusal(stage, error, words) from error
    except OSError as error:
        cure = "choose another hydra.run.dir"
        raise UserError(f"cannot write: {error.strerror}", where=error.filename, cure=cure) from error
    finally:
        sweep = sys.modules.get("kdal_cli.cli.sweep")  # imported by Hydra when a sweep starts
        if sweep is not None:
            sweep.summarise(stopped=isinstance(sys.exception(), KeyboardInterrupt))


def job(config: DictConfig) -> Any:
    """One run of a stage, in the folder that Hydra made for it. Module-level and plain, so that launchers can ship it.

    In a sweep an error is told at once and left to Hydra, which goes on with the other jobs.
    """
    about = HydraConfig.get()
    overrides = told(about)
    stage, folder = str(about.job.config_name), Path(about.runtime.output_dir)
    sweep = Path(about.runtime.cwd, about.sweep.dir) if about.mode == RunMode.MULTIRUN else None
    if sweep is not None and sweep.resolve() in folder.resolve().parents:
        made_for_us(folder)
    request = Request(stage, shlex.join(["kdal", stage, *overrides]), chosen(about), papers(config))
    try:
        refuse_borrowed_trust(config, overrides)
        with heard(partial(go_on, stage, folder, sweep)):
            accuracy = _run(request, config, folder)
    except KeyboardInterrupt:
        forget()
        raise
    except Exception as error:
        if sweep is None:
            raise Escape(error) from error
        tell(error)
        note(sweep, about.job.num, overrides, folder, error)
        raise
    if sweep is not None:
        note(sweep, about.job.num, overrides, folder, None)
        gc.collect()  # what a run held hangs together in circles: a sweep would keep the images of every job
    return accuracy


def papers(config: DictConfig) -> dict[str, str]:
    """What Hydra would write into `.hydra`, and over what is there, before anybody knows whose folder that is."""
    about = HydraConfig.get()
    texts = {"config.yaml": config, "hydra.yaml": {"hydra": about}, "overrides.yaml": about.overrides.task}
    return {name: OmegaConf.to_yaml(content) for name, content in texts.items()}


def _run(request: Request, config: DictConfig, folder: Path) -> float | None:
    """Run a stage; one that is done already is told without the imports that computing needs."""
    result = result_of(config, folder)
    if result is not None:
        with Display() as display:
            display.say(f"run folder {shown(folder)}")
            display.say("this run is done already")
        return result.get("val_accuracy")
    from kdal_cli.compose.stage import run_stage

    return run_stage(request, config, folder)


def go_on(stage: str, folder: Path, sweep: Path | None = None) -> str:
    """The command that goes on with a run, or with the sweep that it belongs to; empty where nothing has begun."""
    if sweep is not None:
        return f"kdal {stage} -m resume={shlex.quote(str(sweep))}"
    return f"kdal {stage} resume={shlex.quote(str(shown(folder)))}" if (folder / "manifest.json").exists() else ""


def told(about: Any) -> list[str]:
    """The overrides of a job, as they were written: an interpolation among them is not resolved here."""
    return OmegaConf.to_container(about.overrides.task, resolve=False)  # type: ignore[return-value]


def chosen(about: Any) -> dict[str, Any]:
    """The option of each group of ours: {"sampler": "margin", "loss": ["kd", "at"], …}."""
    choices = OmegaConf.to_container(about.runtime.choices, resolve=False)
    assert isinstance(choices, dict)
    return {str(group): option for group, option in choices.items() if not str(group).startswith("hydra/")}


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
    with heard(partial(go_on, stage, folder)):
        _run(Request(stage, shlex.join(["kdal", stage, f"resume={folder}"]), chosen(about)), config, folder)


def resume_sweep(stage: str, folder: Path) -> None:
    """Do what is left of a sweep: jobs that are done stay as they are, others go on where they were stopped."""
    if not (folder / "multirun.yaml").is_file():
        raise UserError("no sweep to resume here", where=folder, cure=f"a folder below outputs/multirun/{stage}")
    about = OmegaConf.load(folder / "multirun.yaml").hydra
    if about.job.config_name != stage:
        cure = f"kdal {about.job.config_name} -m resume={folder}"
        raise UserError(f"this sweep is of {about.job.config_name}", where=folder, cure=cure)
    folder = folder.resolve()
    if Path(about.runtime.cwd).is_dir():
        os.chdir(about.runtime.cwd)
    sources = [s.path for s in about.runtime.config_sources if s.provider == "command-line"]
    flags = [word for path in sources for word in ("--config-dir", path)]
    of_hydra = [
        str(text) for text in about.overrides.hydra if not str(text).startswith(("hydra.sweep.dir=", "hydra.mode="))
    ]
    run_hydra(stage, ["-m", *flags, *told(about), *of_hydra, f"hydra.sweep.dir={folder}"])


def refuse_borrowed_trust(config: DictConfig, overrides: Sequence[str]) -> None:
    """Raise UserError when it was a file, and not the user, that trusts in code from outside."""
    if config.get("trust") and not any(override.lstrip("+").startswith("trust=") for override in overrides):
        raise UserError(f"trust={config.trust} is set by a file", cure="say it yourself, on the command line")
