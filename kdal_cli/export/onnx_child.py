"""The process that an ONNX file is read in: it has little memory, no other file, and is killed when it takes too long.

    python -P -m kdal_cli.export.onnx_child FILE BYTES THREADS

It answers a JSON line about the file, then to each batch on its standard input (count, 4 bytes; pixels) the logits
(count, 4 bytes; float32). Nothing of kdal is imported but this: it starts in half a second.
"""

import json
import os
import resource
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

KEY = "kdal"
"""The metadata of ours in an ONNX file."""

METADATA = 1 << 22
"""Characters of metadata at most."""


def main() -> None:
    """Read the file, say what it is, answer until there is nothing more to answer."""
    path, memory, threads = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    answer_to = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints is no answer
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    session: Any = None
    about: dict[str, Any] = {}
    try:
        data = path.read_bytes()
        os.chdir("/")
        import numpy  # noqa: F401 (before the limit: threads of its libraries reserve address space)
        import onnx
        import onnxruntime

        most = _address_space() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        refuse_external(onnx.load_model_from_string(data))
        session, about = _opened(onnxruntime, data, threads)
    except Exception as error:  # whatever a file made to harm it makes the libraries raise
        session, about = None, {"error": (str(error).splitlines() or [type(error).__name__])[0][:300]}
    answer_to.write(json.dumps(about).encode() + b"\n")
    answer_to.flush()
    if session is not None:
        _answer(session, about["input"]["shape"], sys.stdin.buffer, answer_to)


def refuse_external(model: Any) -> None:
    """Raise ValueError where a model takes numbers from another file, or operators from another library."""
    for node in _nodes(model):
        if node.domain not in ("", "ai.onnx", "com.microsoft"):
            raise ValueError(f"an operator of {node.domain}, which is not read")
    for tensor in _tensors(model):
        if tensor.data_location == 1 or len(tensor.external_data):
            raise ValueError("its weights lie in another file: external data are not read")


def _nodes(model: Any) -> Iterator[Any]:
    for graph in _graphs(model.graph):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if len(inner.node):
                    yield from _graphs(inner)


def _tensors(model: Any) -> Iterator[Any]:
    for graph in _graphs(model.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in _nodes(model):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)


def _address_space() -> int:
    """Bytes that this process has reserved already."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0] if Path("/proc/self/statm").exists() else 0
    return int(pages) * resource.getpagesize()


def _opened(onnxruntime: Any, data: bytes, threads: int) -> tuple[Any, dict[str, Any]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or not outputs:
        raise ValueError(f"{len(inputs)} inputs and {len(outputs)} outputs: one image batch is read")
    metadata = session.get_modelmeta().custom_metadata_map.get(KEY, "")[:METADATA]
    return session, {"metadata": metadata, "input": {"shape": inputs[0].shape, "type": inputs[0].type}}


def _answer(session: Any, shape: list[Any], asked: BinaryIO, answer_to: BinaryIO) -> None:
    import numpy as np

    name, sides = session.get_inputs()[0].name, shape[1:]
    while len(head := asked.read(4)) == 4:
        (count,) = struct.unpack("<I", head)
        pixels = np.frombuffer(asked.read(count * int(np.prod(sides))), np.uint8).reshape(count, *sides)
        logits = np.ascontiguousarray(session.run(None, {name: pixels})[0], np.float32)
        answer_to.write(struct.pack("<I", logits.size // count) + logits.tobytes())
        answer_to.flush()


if __name__ == "__main__":
    main()
