"""The command line as tests drive it, and a run folder as they read it.

`run_installed` starts the console script as a shell does, five seconds of imports included. `Kdal` runs the same `main`
with the same words in a child of multiprocessing's fork server, where the imports are done: as separate a process, to
be looked at, signalled and killed, in a fifth of the time; it waits for no disk, for nobody pulls a plug. Warnings are
errors in both.
"""

import csv
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

CONSOLE_SCRIPT = Path(sys.executable).with_name("kdal")

IMPORTED = [
    "pytest",  # multiprocessing imports its parent's main module into every child
    "kdal_cli.cli.hydra_app",
    "kdal_cli.compose.stage",
    "kdal_cli.report.plots",
    "kdal_cli.report.write",
    "kdal_cli.study.compare",
    "kdal_cli.stages.al_loop",
    "kdal_cli.stages.distill",
    "hydra._internal.core_plugins.basic_launcher",
    "hydra._internal.core_plugins.basic_sweeper",
    "scipy.special",
    "matplotlib.backends.backend_svg",
    "PIL.ImageDraw",
    "PIL.ImageFont",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "sklearn.datasets",
    "sklearn.linear_model",
]

PATIENCE = 120.0
"""Seconds after which a command is stuck."""


@dataclass(frozen=True)
class RunFolder:
    """What a run left on disk."""

    path: Path

    def table(self, name: str = "curve.csv") -> list[dict[str, str]]:
        with (self.path / name).open(newline="") as file:
            return list(csv.DictReader(file))

    def ledger(self) -> list[dict[str, Any]]:
        """The records of `ledger.jsonl`, in order."""
        return [json.loads(line) for line in (self.path / "ledger.jsonl").read_text().splitlines()]

    def requested(self, round: int, purpose: str = "train") -> list[int]:
        """The ids that a round asked for, in the order asked."""
        requests = (record for record in self.ledger() if record["kind"] == "request")
        return next(r["ids"] for r in requests if (r["round"], r["purpose"]) == (round, purpose))

    def bought(self) -> list[int]:
        """Every id that was paid for, in the order paid; for training and for validation."""
        return [int(row["id"]) for row in self.table("ledger.csv")]

    def picks(self, round: int) -> list[int]:
        return [int(row["id"]) for row in self.table(f"picks/round_{round:03d}.csv")]

    def weights(self, name: str) -> dict[str, str]:
        """{tensor: a hash of its bits} of a checkpoint."""
        tensors = load_file(self.path / "checkpoints" / f"{name}.safetensors")
        return {name: hashlib.sha256(tensor.tobytes()).hexdigest()[:16] for name, tensor in tensors.items()}

    def outcome(self) -> dict[str, Any]:
        """What a run is for: curve, picks, weights, purchases. Times are left out, so that two runs can be equal."""
        results = [self.path / "curve.csv", *sorted((self.path / "picks").iterdir())]
        return {
            **{path.name: path.read_bytes() for path in results},
            "ledger.jsonl": [_without(record, "time", "previous", "sha256", "seconds") for record in self.ledger()],
            "ledger.csv": [_without(row, "time") for row in self.table("ledger.csv")],
            "timings.csv": [row["round"] for row in self.table("timings.csv")],
            "checkpoints": {p.stem: self.weights(p.stem) for p in self.path.glob("checkpoints/*.safetensors")},
        }

    def contents(self) -> dict[str, bytes]:
        """Every file and what is in it, but for what a killed writer left half-written."""
        files = [path for path in self.path.rglob("*") if path.is_file() and path.suffix != ".kdal-tmp"]
        return {str(path.relative_to(self.path)): path.read_bytes() for path in files}

    def half_written(self) -> list[Path]:
        return list(self.path.rglob("*.kdal-tmp"))


@dataclass(frozen=True)
class Ended:
    """A command that is over. code: its exit code, or minus the signal that killed it."""

    here: Path
    words: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def run(self) -> RunFolder:
        """The run folder with the results."""
        assert self.code == 0, f"{self.words} ended with {self.code}: {self.err}"
        (named,) = [line for line in self.out.splitlines()[-2:] if line.startswith("results in ")]
        return RunFolder(self.here / named.removeprefix("results in "))

    @property
    def refusal(self) -> str:
        """What the one line on stderr says; there must be one line, and nothing of a traceback anywhere."""
        lines = self.err.splitlines()
        assert len(lines) == 1, f"{len(lines)} lines on stderr:\n{self.err}"
        assert lines[0].startswith("kdal: error: "), lines[0]
        assert "Traceback" not in self.out
        return lines[0].removeprefix("kdal: error: ")


class Running:
    """A command that is on its way."""

    def __init__(self, here: Path, words: tuple[str, ...], process: Any, screen: Path) -> None:
        self.here, self.words, self.process, self.screen = here, words, process, screen

    def wait_for(self, text: str) -> None:
        """Wait until the command has said `text` on stdout."""
        self.wait_until(lambda: text in self._said("out"))
        assert text in self._said("out"), f"{self.words} ended without saying {text!r}: {self._said('err')}"

    def wait_for_characters(self, count: int) -> None:
        """Wait until the command has said so much on stdout, or has ended: a measure of how far it is."""
        self.wait_until(lambda: len(self._said("out")) >= count)

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Wait until something has happened, or the command has ended."""
        patience = time.monotonic() + PATIENCE
        while self.process.is_alive() and not happened():
            assert time.monotonic() < patience, f"{self.words} is stuck:\n{self._said('out')[-2000:]}"
            time.sleep(0.005)

    def signal(self, number: int) -> None:
        if self.process.is_alive():
            os.kill(self.process.pid, number)

    def ended(self) -> Ended:
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            raise AssertionError(f"{self.words} is stuck after {PATIENCE:.0f} s:\n{self._said('out')[-2000:]}")
        return Ended(self.here, self.words, self.process.exitcode, self._said("out"), self._said("err"))

    def _said(self, stream: str) -> str:
        path = self.screen / stream
        return path.read_text() if path.exists() else ""


class Kdal:
    """The command line, typed in the folder `here`."""

    def __init__(self, here: Path) -> None:
        self.here = here

    def __call__(self, *words: str, first: Callable[[], None] | None = None) -> Ended:
        return self.start(*words, first=first).ended()

    def start(self, *words: str, first: Callable[[], None] | None = None) -> Running:
        """Start a command and come back at once. first: what the child does before, to harm itself for example."""
        server = multiprocessing.get_context("forkserver")
        server.set_forkserver_preload(IMPORTED)
        screen = Path(tempfile.mkdtemp(dir=self.here.parent, prefix="screen-"))
        process = server.Process(target=_child, args=(words, self.here, screen, first), daemon=True)
        process.start()
        return Running(self.here, words, process, screen)


def run_installed(here: Path, *words: str, **variables: str) -> Ended:
    """Run the console script. variables: of the environment, besides the ones that there are."""
    environment = {**os.environ, "PYTHONWARNINGS": "error", **variables}
    done = start_installed(here, *words, env=environment)
    out, err = done.communicate(timeout=600)
    return Ended(here, words, done.returncode, out, err)


def start_installed(here: Path, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start the console script; it hears Ctrl-C even where the tests run in the background of a shell and do not."""
    command, pipe = [CONSOLE_SCRIPT, *words], subprocess.PIPE
    return subprocess.Popen(command, cwd=here, env=env, stdout=pipe, stderr=pipe, text=True, preexec_fn=hear_ctrl_c)


def hear_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for_no_disk() -> None:
    """What is written counts as durable: what a killed process has written stays, and a test takes half the time."""
    os.fsync = lambda descriptor: None


def _child(words: tuple[str, ...], here: Path, screen: Path, first: Callable[[], None] | None) -> None:
    os.chdir(here)
    for stream, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(screen / stream, os.O_WRONLY | os.O_CREAT), descriptor)
    warnings.simplefilter("error")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [str(CONSOLE_SCRIPT), *words]
    wait_for_no_disk()
    if first is not None:
        first()

    from kdal_cli.cli.main import main

    main()


def _without(row: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}
