"""The folder of a run: claimed by one process, described by a manifest, never overwritten by another run."""

import fcntl
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kdal_cli.errors import InUse, UserError
from kdal_cli.plain import clean
from kdal_cli.records import seals
from kdal_cli.records.files import append, cut, finite, hold, opened, refusals, sha256, whole_lines, write_bytes
from kdal_cli.records.folders import LOCK, MARK, enter, inspect
from kdal_cli.records.git import commit_of

PACKAGES = ("kdal", "torchvision", "hydra-core", "numpy", "safetensors")


@dataclass(frozen=True)
class Request:
    """What was asked for: a stage, the option chosen of each group, and the command that said so.

    papers: {name: content} of the files in `.hydra`, from which a run goes on. page: settings of the page on which
    people are asked, where they are asked on one whatever the configuration says.
    """

    stage: str
    command: str
    choices: Mapping[str, str | list[str]] = field(default_factory=dict)
    papers: Mapping[str, str] = field(default_factory=dict)
    page: Mapping[str, Any] | None = None


class Run:
    """A folder that this process works in."""

    def __init__(self, folder: Path) -> None:
        self.folder = hold(folder)
        self.checkpoints = self.folder / "checkpoints"

    def write(self, name: str, data: bytes | str) -> Path:
        """Replace a file of the run, atomically."""
        path = self.folder / name
        write_bytes(path, data.encode() if isinstance(data, str) else data)
        return path

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`: this file is what `done` means."""
        seals.write_json(self.folder / "result.json", result)

    @property
    def result(self) -> dict[str, Any] | None:
        path = self.folder / "result.json"
        return seals.read_object(path) if path.exists() else None

    def begin(self, request: "Request") -> None:
        """Put down what was asked for, unless a start before this one did."""
        if not (self.folder / "manifest.json").exists():
            for name, content in request.papers.items():
                write_bytes(self.folder / ".hydra" / name, content.encode(), durable=False)

    def refuse_other(self, config: Mapping[str, Any]) -> None:
        """Raise UserError when the run in this folder was started with another configuration."""
        path = self.folder / "manifest.json"
        if path.exists() and seals.read_object(path).get("config_sha256") != sha256(config):
            cure = "put back what it was, or take another folder"
            raise UserError(
                "the configuration is not the one that this run was started with", where=self.folder, cure=cure
            )

    def describe(
        self, config: Mapping[str, Any], data_sha256: str, request: "Request", machine: Mapping[str, Any]
    ) -> list[str]:
        """Write the manifest, or hold it against the one that is there.

        Raises UserError when a resumed run has another configuration or other images. Another machine is allowed and
        written down: the picks that were bought stay, the bits that follow may differ. Returns what is other about it
        than at the start before, `devices=2, not 1`.
        """
        path = self.folder / "manifest.json"
        now = datetime.now(UTC).isoformat(timespec="seconds")
        start = {
            "time": now,
            "command": request.command,
            "versions": _versions(),
            "machine": dict(machine),
            "git": commit_of(Path.cwd()),
        }
        fixed = {"config_sha256": sha256(config), "data_sha256": data_sha256}
        self.refuse_other(config)
        about = {"stage": request.stage, "seed": config.get("seed"), "choices": dict(request.choices)}
        manifest: dict[str, Any] = {**fixed, **about, "config": dict(config), "starts": []}
        if path.exists():
            manifest = {"starts": [], **seals.read_object(path)}
            if manifest.get("data_sha256") != data_sha256:
                cure = "put back what it was, or start a new run"
                raise UserError("the data was changed since this run started", where=self.folder, cure=cure)
        before = manifest["starts"][-1]["machine"] if manifest["starts"] else machine
        manifest["starts"].append(start)
        seals.write_json(path, manifest)
        return [f"{key}={now}, not {before.get(key)}" for key, now in machine.items() if before.get(key) != now]

    def refuse_other_weights(self, sha256: Mapping[str, str]) -> None:
        """Write into the manifest which weights networks start from, {network: hash}, or hold them against it.

        Raises UserError where they are not those of before.
        """
        path = self.folder / "manifest.json"
        manifest = seals.read_object(path)
        before = manifest.setdefault("weights_sha256", dict(sha256))
        for network, digest in sha256.items():
            if before.get(network) != digest:
                what = f"the weights that the {network} starts from were changed since this run started"
                raise UserError(what, where=self.folder, cure="put back what they were, or start a new run")
        seals.write_json(path, manifest)


@contextmanager
def claim(folder: Path) -> Iterator[Run]:
    """Hold a run folder for this process alone; it is made where it is missing.

    Raises InUse when another process has it, UserError where none can be, where it is somebody else's, and for files in
    it that are links or not what was written there.
    """
    enter(folder)
    run = Run(folder)
    with _lock(run.folder / LOCK) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            cure = "wait for it, or stop it"
            raise InUse("another process is running in this folder", where=folder, cure=cure) from None
        with refusals(run.folder / LOCK):
            os.pwrite(lock, MARK, 0)
        inspect(run.folder)
        seals.verify(run.folder)
        yield run


@contextmanager
def _lock(path: Path) -> Iterator[int]:
    with ExitStack() as stack:
        try:
            handle = stack.enter_context(opened(path, os.O_RDWR | os.O_CREAT))
        except OSError as error:
            cure = "choose another hydra.run.dir"
            raise UserError(f"cannot write here: {error.strerror}", where=path.parent, cure=cure) from None
        yield handle


class Log:
    """`metrics.jsonl`, every figure of a run as it was measured, and `run.log`, what was said."""

    def __init__(self, run: Run) -> None:
        self._path = run.folder / "metrics.jsonl"
        self._what, self._step = "", 0
        if self._path.exists():
            cut(self._path, whole_lines(self._path))  # a killed run may have torn its last line

    def say(self, text: str) -> None:
        line = f"{datetime.now(UTC).isoformat(timespec='seconds')} {clean(text)}\n"
        append(self._path.with_name("run.log"), line.encode())

    def begin(self, what: str, steps: int, *, at_most: bool = False) -> None:
        self._what, self._step = what, 0

    def advance(self, steps: int, images: int) -> None:
        self._step += steps

    def figures(self, values: Mapping[str, float]) -> None:
        figures = finite({"what": self._what, "step": self._step, **values})
        append(self._path, (json.dumps(figures, allow_nan=False) + "\n").encode())

    def end(self) -> None:
        self._what, self._step = "", 0


def _versions() -> dict[str, str]:
    import torch

    packages = {package: version(package) for package in PACKAGES}
    return {"python": platform.python_version(), **packages, "torch": torch.__version__}
