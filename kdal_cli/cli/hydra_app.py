"""A stage as a Hydra application, with what Hydra's own command line lacks.

Hydra writes nothing into a run folder: what it would is written when the folder is known to be this run's.
Before it reads argv: flags may stand anywhere, `budget=100` is a number of labels as well as a preset, and
`resume=FOLDER` continues a run with the configuration that lies in it. After: every refusal is one line.
"""

import gc
import io
import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

import kdal_cli.cli.names  # noqa: F401 (the resolver in conf/base.yaml)
from kdal_cli.cli.about import ours
from kdal_cli.cli.composer import composer
from kdal_cli.cli.jobs import refuse_too_many
from kdal_cli.cli.measured import run_named, with_its_data
from kdal_cli.cli.options import offered
from kdal_cli.cli.outcome import Escape, tell
from kdal_cli.cli.paths import quoted_paths, typed
from kdal_cli.cli.refusals import raised_by_hydra, refusal
from kdal_cli.cli.resumed import Said, saved_run, saved_sweep
from kdal_cli.cli.sweep import note
from kdal_cli.cli.words import flags_first, numeric_budget, refuse_odd, several_seeds
from kdal_cli.compose.settings import as_typed, result_of, said_again, unresolved
from kdal_cli.errors import UserError, Waiting
from kdal_cli.records.files import shown
from kdal_cli.records.folders import forget, made_for_us
from kdal_cli.records.run import Request
from kdal_cli.report.display import Display
from kdal_cli.signals import Advice, heard, undo

undo.append(forget)


def start(stage: str, words: Sequence[str]) -> None:
    """Run a stage as the words after its name say."""
    refuse_odd(words)
    flags = flags_first(words)
    overrides = flags.overrides
    resumed = [typed(o.removeprefix("resume=")) for o in overrides if o.startswith("resume=")]
    if resumed:
        asked = {name for name, value in vars(flags).items() if value and name != "overrides"}
        if len(resumed) > 1 or not asked <= {"multirun", "config_dir"}:
            cure = f"kdal {stage} resume=FOLDER"
            raise UserError("resume takes the configuration of the run and nothing beside it", cure=cure)
        beside = quoted_paths([o for o in overrides if not o.startswith("resume=")])
        sweep = flags.multirun or is_sweep(resumed[0])
        said = Said.of(beside, sweep=sweep, options=flags.config_dir)
        (resume_sweep if sweep else resume)(stage, resumed[0], said)
        return
    multirun, overrides = several_seeds(overrides)
    flags.multirun = flags.multirun or bool(multirun)
    if stage in ("evaluate", "compress"):
        overrides = with_its_data(run_named(overrides))
    flags.overrides = numeric_budget(quoted_paths(overrides))
    run_hydra(stage, flags)


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


def run_hydra(stage: str, flags: Namespace, typed: Mapping[str, Any] | None = None) -> None:
    """Have Hydra do what the flags and their `overrides` ask for; its errors come back as UserError.

    typed: {key: value} of what was typed where the other words are those of a folder (`kdal_cli.cli.loader.Loader`).
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us instead of being printed
    words = flags.overrides
    try:
        stderr = redirect_stderr(OwnLines(sys.stderr))  # pyright: ignore[reportArgumentType]
        with offered(words), composer(flags.config_dir, typed) as app, stderr:
            _carry_out(app, stage, flags)
    except Escape as escape:
        raise escape.error from None
    except KeyboardInterrupt:
        forget()
        raise
    except Exception as error:
        if raised_by_hydra(error):
            forget()
            raise refusal(stage, error, words) from error
        raise
    finally:
        sweep = sys.modules.get("kdal_cli.cli.sweep")  # imported by Hydra when a sweep starts
        if sweep is not None:
            sweep.summarise(stopped=isinstance(sys.exception(), KeyboardInterrupt))


def _carry_out(app: Hydra, stage: str, flags: Namespace) -> None:
    """What `hydra.main` does for a command line that is read already."""
    asked = [name for name in ("run", "multirun", "cfg", "info") if getattr(flags, name)]
    if len(asked) > 1:
        raise UserError(f"--{asked[0]} and --{asked[1]}", cure="one of them")
    if flags.resolve and not (flags.cfg or flags.help):
        raise UserError("--resolve shows nothing by itself", cure="--cfg job --resolve")
    if flags.help:
        app.app_help(stage, get_args_parser(), flags)
    elif flags.hydra_help:
        app.hydra_help(stage, get_args_parser(), flags)
    elif flags.cfg:
        _show(app, stage, flags)
    elif flags.info:
        app.show_info(flags.info, stage, flags.overrides)
    else:
        _run_or_sweep(app, stage, flags)


def _show(app: Hydra, stage: str, flags: Namespace) -> None:
    try:
        with redirect_stderr(io.StringIO()):  # which would tell it twice
            app.show_cfg(stage, flags.overrides, flags.cfg, flags.package, flags.resolve)
    except SystemExit:
        raise UserError(f"--package {flags.package}", where="no such section", cure=f"kdal {stage} --cfg job") from None


def _run_or_sweep(app: Hydra, stage: str, flags: Namespace) -> None:
    """A file may ask for a sweep as well as a flag; its jobs are counted before there is one.

    None of our own files asks, so that what is composed of them alone is composed once.
    """
    words = flags.overrides
    if not flags.multirun and flags.config_dir is None and not any("hydra" in word for word in words):
        app.run(stage, job, words)
        return
    config = app.compose_config(stage, words, RunMode.MULTIRUN, validate_sweep_overrides=False)
    sweep = flags.multirun or config.hydra.mode == RunMode.MULTIRUN
    if sweep:
        refuse_too_many(config, app.config_loader)
    mode = RunMode.MULTIRUN if sweep else RunMode.RUN
    words = words if config.hydra.mode == mode else [*words, f"hydra.mode={mode.name}"]
    (app.multirun if sweep else app.run)(stage, job, words)


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
        again = as_typed(said_again(unresolved(config)))
        with advising(partial(go_on, stage, folder, sweep, again)):
            refuse_elsewhere(Path(about.runtime.cwd), folder)
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


def refuse_elsewhere(home: Path, folder: Path) -> None:
    """Raise UserError where a launcher has started this job in another folder than `home`, where the command was typed:
    every relative path would mean something else, that of the run `folder`, which Hydra has made, as well."""
    with suppress(OSError):
        if home.samefile(Path.cwd()):
            return
        folder.rmdir()
    cure = f"start the workers of the launcher in {home}, on every machine: cd {home} && ray start …"
    raise UserError(f"this job was started in {Path.cwd()}, and the command was typed in {home}", cure=cure)


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

    gc.enable()  # see `kdal_cli.cli.main.main`
    return run_stage(request, config, folder)


@contextmanager
def advising(advice: Advice) -> Iterator[None]:
    """Whoever is stopped, or has to wait for people, is told the command that goes on."""
    try:
        with heard(advice):
            yield
    except Waiting as waiting:
        waiting.cure += f" go on with {advice()}"
        raise


def go_on(stage: str, folder: Path, sweep: Path | None = None, again: str = "") -> str:
    """The command that goes on with a run, or with the sweep that it belongs to; empty where nothing has begun.

    again: words of the run that have to be typed beside `resume`.
    """
    if sweep is not None:
        return f"kdal {stage} -m resume={shlex.quote(str(sweep))} {again}".rstrip()
    if not (folder / "manifest.json").exists():
        return ""
    return f"kdal {stage} resume={shlex.quote(str(shown(folder)))} {again}".rstrip()


def told(about: Any) -> list[str]:
    """The overrides of a job, as they were written: an interpolation among them is not resolved here."""
    return OmegaConf.to_container(about.overrides.task, resolve=False)  # type: ignore[return-value]


def chosen(about: Any) -> dict[str, Any]:
    """The option of each group of ours."""
    return ours(unresolved(about.runtime.choices))


def resume(
    stage: str, folder: Path, said: Said, page: Mapping[str, Any] | None = None, *, review: bool = False
) -> None:
    """Continue the run in `folder`, or `review` its labels.

    page: settings of the page on which its questions are asked, whoever would ask.
    """
    config, choices = saved_run(stage, folder, said)
    folder = folder.resolve()
    request = Request(stage, shlex.join(["kdal", stage, f"resume={folder}", *said.words]), choices, page=page)
    with advising(partial(go_on, stage, folder, None, as_typed(said_again(unresolved(config))))):
        if review:
            from kdal_cli.compose.review import run_review

            run_review(request, config, folder)
        else:
            _run(request, config, folder)


def resume_sweep(stage: str, folder: Path, said: Said) -> None:
    """Do what is left of a sweep: jobs that are done stay as they are, others go on where they were stopped."""
    words = [*saved_sweep(stage, folder, said), *quoted_paths([f"hydra.sweep.dir={folder.resolve()}"])]
    flags = Namespace(**vars(flags_first(["-m"])) | {"config_dir": said.options, "overrides": words})
    run_hydra(stage, flags, said.values)
