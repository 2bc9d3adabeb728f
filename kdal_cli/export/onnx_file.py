"""An ONNX file from anywhere, read in a process of its own: bounded in memory and time, without other files.

Axis letters: B batch, C classes, c channels, H W pixels.
"""

import importlib.util
import json
import os
import selectors
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdal_cli.errors import UserError, printable
from kdal_cli.records.card import Card, parse

LARGEST = 1 << 30
"""Bytes of a file."""

MEMORY = 4 << 30
"""Bytes that reading it and answering a batch may take."""

OPENING, ANSWERING = 60.0, 120.0
"""Seconds that opening a file may take, and answering a batch."""

CURE = "use one that kdal export wrote"


@dataclass(frozen=True)
class OnnxFile:
    """A file that is open. card: what it says of itself."""

    path: Path
    card: Card
    process: subprocess.Popen[bytes]

    def classify(self, pixels: np.ndarray) -> np.ndarray:
        """(B, c, H, W) uint8 -> logits (B, C). Raises UserError where the file answers something else, or nothing."""
        count, stream = len(pixels), self.process.stdin
        assert stream is not None
        with suppress(BrokenPipeError):  # it is told below that it is gone
            stream.write(struct.pack("<I", count) + np.ascontiguousarray(pixels).tobytes())
            stream.flush()
        deadline = time.monotonic() + ANSWERING
        head = _read(self.process, 4, deadline, self.path)
        (each,) = struct.unpack("<I", head)
        if each != len(self.card.classes):
            what = f"it answers {each} numbers about an image, and names {len(self.card.classes)} classes"
            raise UserError(what, where=self.path, cure=CURE)
        answer = _read(self.process, 4 * count * each, deadline, self.path)
        return np.frombuffer(answer, np.float32).reshape(count, each).copy()


@contextmanager
def open_onnx(path: Path, threads: int) -> Iterator[OnnxFile]:
    """Open a file in another process, which ends with the block.

    Raises UserError for what is no ONNX file, lacks the card that `kdal export` puts into it, takes other images than
    its card says, keeps its weights elsewhere, or takes too much time or memory.
    """
    needs_package("onnxruntime", "reading ONNX files", "export")
    size = path.stat().st_size if path.is_file() else -1
    if not 0 <= size <= LARGEST:
        what = f"{size:,} bytes are too many" if size > 0 else "there is no such file"
        raise UserError(what, where=path, cure=CURE)
    command = [sys.executable, "-P", "-m", "kdal_cli.export.onnx_child", str(path.resolve()), str(MEMORY), str(threads)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, bufsize=0, start_new_session=True)
    try:
        yield OnnxFile(path, _card(_line(process, path), path), process)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def needs_package(package: str, what: str, extra: str) -> None:
    """Raise UserError where a package is not installed."""
    if importlib.util.find_spec(package) is None:
        raise UserError(f"{what} needs the package {package}", cure=f"pip install 'kdal[{extra}]'")


def _line(process: subprocess.Popen[bytes], path: Path) -> dict[str, Any]:
    """What the process says of the file."""
    deadline, line = time.monotonic() + OPENING, b""
    while not line.endswith(b"\n"):
        line += _read(process, 1, deadline, path) if len(line) < 1 << 24 else b"\n"
    about = json.loads(line)
    if "error" in about:
        raise UserError(f"this ONNX file is not read: {printable(about['error'], 200)}", where=path, cure=CURE)
    return about


def _card(about: dict[str, Any], path: Path) -> Card:
    if not about["metadata"]:
        raise UserError("this ONNX file says neither its classes nor its preprocessing", where=path, cure=CURE)
    try:
        card = parse(json.loads(about["metadata"])["card"])
    except (ValueError, TypeError, KeyError, RecursionError) as odd:
        what = f"this ONNX file says of itself what cannot be: {printable(odd, 100)}"
        raise UserError(what, where=path, cure=CURE) from None
    shape, sides = card.shape, about["input"]["shape"][1:]
    if about["input"]["type"] != "tensor(uint8)" or sides != [shape.channels, shape.height, shape.width]:
        what = f"this ONNX file takes {printable(about['input'])}, not the images that its card names"
        raise UserError(what, where=path, cure=CURE)
    return card


def _read(process: subprocess.Popen[bytes], count: int, deadline: float, path: Path) -> bytes:
    """So many bytes of what the process says. Raises UserError when it ends or takes too long."""
    stream, parts = process.stdout, bytearray()
    assert stream is not None
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while len(parts) < count:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise UserError("this ONNX file takes too long", where=path, cure=CURE)
            part = os.read(stream.fileno(), min(1 << 20, count - len(parts)))
            if not part:
                what = f"this ONNX file took more than {MEMORY >> 30} GB, or ended the process that read it"
                raise UserError(what, where=path, cure=CURE)
            parts += part
    return bytes(parts)
