"""A file of `torch.save` is read as data: no spelling of a call is run, and nothing is read that was not counted."""

import io
import pickle
import struct
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdal_cli.errors import UserError
from kdal_cli.records import foreign, pickled, torchfile

MARKER = "ran"


class Call:
    """Pickled, it is a call."""

    def __init__(self, function, *arguments, state=None) -> None:
        self.parts = (function, arguments, state)

    def __reduce__(self):
        return self.parts


def touched(module: str, name: str) -> list[bytes]:
    """A pickle that calls a function with the name of the marker, in every way in which a pickle can."""
    function = f"c{module}\n{name}\n".encode()
    by_stack = b"\x80\x04" + short(module) + short(name) + b"\x93"
    argument = short(MARKER)
    return [
        b"\x80\x02" + function + argument + b"\x85R.",  # REDUCE
        by_stack + argument + b"\x85R.",
        b"\x80\x02" + function + argument + b"\x85\x81.",  # NEWOBJ
        by_stack + argument + b"\x85}\x92.",  # NEWOBJ_EX
        b"(" + function + argument + b"o.",  # OBJ
        b"(" + argument + f"i{module}\n{name}\n".encode() + b".",  # INST
        b"\x80\x02ccollections\nOrderedDict\n)R" + function + argument + b"\x85Rb.",  # in BUILD
        b"\x80\x02" + function + argument + b"\x85RQ.",  # as the name of a storage
        b"\x80\x02}" + argument + function + argument + b"\x85Rs.",  # in a mapping
    ]


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


FUNCTIONS = [
    ("os", "mkdir"),
    ("posix", "mkdir"),
    ("pathlib", "Path.touch"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "getattr"),
    ("builtins", "open"),
    ("subprocess", "Popen"),
    ("importlib", "import_module"),
    ("torch", "load"),
    ("torch.hub", "load"),
    ("torch.utils.collect_env", "run"),
    ("numpy", "load"),
    ("runpy", "run_path"),
    ("argparse", "Namespace.__init__.__globals__"),
    ("collections", "namedtuple"),
    ("functools", "partial"),
    ("a module that there is not", "f"),
]


def archived(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", content)
        archive.writestr("x/data/0", b"\0" * 16)


def legacy(path: Path, content: bytes) -> None:
    first, second = (pickle.dumps(number, 2) for number in torchfile.LEGACY)
    path.write_bytes(first + second + pickle.dumps({}, 2) + content + pickle.dumps([], 2))


@pytest.mark.parametrize("write", [archived, legacy])
@pytest.mark.parametrize(("module", "name"), FUNCTIONS, ids=lambda word: word)
def test_no_spelling_of_a_call_runs(tmp_path: Path, monkeypatch, module: str, name: str, write) -> None:
    monkeypatch.chdir(tmp_path)
    for content in touched(module, name):
        write(Path("x.pt"), content)
        with pytest.raises(UserError, match=r"checkpoint cannot be read: .*x\.pt"):
            foreign.read(Path("x.pt"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_a_call_beside_sound_weights_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.zeros(2)}, "x": Call(Path.touch, tmp_path / MARKER)}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"it calls builtins\.getattr, which weights have no need of|it calls pathlib"):
        foreign.read(tmp_path / "x.pt")
    assert not (tmp_path / MARKER).exists()


@pytest.mark.parametrize("function", [dict, set, complex])
def test_what_is_passed_over_is_not_made_either(tmp_path: Path, function) -> None:
    path = tmp_path / "x.pt"
    torch.save({"state_dict": {"w": torch.ones(2)}, "x": Call(function, state={"__class__": 1})}, path)
    weights, _ = foreign.read(path)
    assert weights["w"].tolist() == [1, 1]


def test_mappings_of_python_2_are_read(tmp_path: Path) -> None:
    """There an OrderedDict is a call with the list of its pairs, in a protocol of text."""
    content = b"ccollections\nOrderedDict\np0\n((lp1\n(lp2\nS'a'\np3\naI1\naa(lp4\nS'b'\nap5\nI2\naatp6\nRp7\n."
    assert pickled.look(io.BytesIO(content)) == {"a": 1, "b": 2}


# Sizes, from what is declared.


def rebuilt(shape: tuple, strides: tuple, offset: int = 0, numel: int = 4) -> bytes:
    """A state dict with one tensor that declares so much, over a storage of four numbers."""
    storage = ("storage", Reference("torch", "FloatStorage"), "0", "cpu", numel)
    arguments = (Persistent(storage), offset, shape, strides, False, {})
    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"w": Rebuilt(arguments)})
    return buffer.getvalue()


class Reference:
    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __reduce__(self) -> str:
        return "FloatStorage"


class Persistent:
    def __init__(self, identity: tuple) -> None:
        self.identity = identity


class Rebuilt:
    def __init__(self, arguments: tuple) -> None:
        self.arguments = arguments

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        if isinstance(obj, Persistent):
            kind, _, *rest = obj.identity
            return (kind, torch.FloatStorage, *rest)
        return None


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "numel"),
    [
        ((10**12,), (0,), 0, 4),
        ((10**6, 10**6), (0, 0), 0, 4),
        ((5,), (1,), 0, 4),
        ((2,), (1,), 3, 4),
        ((2, 2), (3, 1), 0, 4),
        ((4,), (1,), 0, 10**12),
        ((4,), (1,), 0, 5),
        ((-4,), (1,), 0, 4),
        ((4,), (-1,), 3, 4),
        ((4,), (1,), -1, 4),
        ((2**62, 2**62), (1, 1), 0, 4),
        ((4, 1), (1,), 0, 4),
        ((True,), (1,), 0, 4),
        ((2.0,), (1,), 0, 4),
        ((1,) * 500, (1,) * 500, 0, 4),
    ],
)
def test_what_declares_more_than_there_is_is_refused(tmp_path: Path, shape, strides, offset: int, numel: int) -> None:
    archived(tmp_path / "x.pt", rebuilt(shape, strides, offset, numel))
    with pytest.raises(UserError, match=r"checkpoint cannot be read: .*x\.pt"):
        foreign.read(tmp_path / "x.pt")


def test_what_declares_what_there_is_is_read(tmp_path: Path) -> None:
    archived(tmp_path / "x.pt", rebuilt((2, 2), (1, 2)))
    assert foreign.read(tmp_path / "x.pt")[0]["w"].shape == (2, 2)


def test_tied_weights_are_read_and_20000_views_of_one_storage_are_not(tmp_path: Path) -> None:
    path, shared = tmp_path / "x.pt", torch.arange(50_000.0)
    torch.save({"a": shared, "b": shared}, path)
    assert torch.equal(foreign.read(path)[0]["b"], shared)
    torch.save({f"w{n}": shared for n in range(20_000)}, path)
    with pytest.raises(UserError, match="4,000,000,000 bytes of tensors are declared in a file of"):
        foreign.read(path)


def test_compressed_archives_are_refused_before_they_unfold(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as deflated:
        deflated.writestr("x/data.pkl", rebuilt((2**24,), (1,), numel=2**24))
        with deflated.open("x/data/0", "w") as file:
            for _ in range(64):
                file.write(bytes(2**20))
    refused_in_little_memory(path, "its contents are compressed")


PAIRS = b"".join(b"X\4\0\0\0%04dN\x86" % number for number in range(3000))


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02]" + b"r" + struct.pack("<I", 2**32 - 1) + b".",  # a place in the memo far out
        b"\x80\x04" + b"\x8e" + struct.pack("<Q", 2**50) + b"x.",  # bytes that are not there
        b"\x80\x04" + b"\x95" + struct.pack("<Q", 2**60) + b"].",  # a frame of any length
        b"\x80\x02" + b"(" * 10_000 + b".",
        b"\x80\x02" + b")\x85" + b"\x85" * 10_000 + b".",
        b"\x80\x02}q\0h\0h\0s.",  # a mapping that is its own key
        b"\x80\x02}q\0X\x05\0\0\0modelh\0s.",  # or its own value
        b"\x80\x02)" + b"2\x86" * 60 + b"2\x86q\0}h\0Ns.",  # a key of 2**60 tuples
        b"\x80\x04)" + b"2\x86" * 60 + b"2\x93.",  # or the name of a function
        b"\x80\x02ccollections\nOrderedDict\nq\0]q\1(" + PAIRS + b"eh\1\x85q\2" + b"h\0h\2R" * 9000,
        b"R.",
        b"\x80\x02.",
        b"",
    ],
    ids=[
        "memo",
        "bytes",
        "frame",
        "marks",
        "nested",
        "key",
        "value",
        "hash",
        "name",
        "copies",
        "underflow",
        "stop",
        "empty",
    ],
)
@pytest.mark.parametrize("write", [archived, legacy])
def test_odd_pickles_cost_nothing_and_are_refused(tmp_path: Path, content: bytes, write) -> None:
    write(tmp_path / "x.pt", content)
    refused_in_little_memory(tmp_path / "x.pt", "checkpoint cannot be read")


def refused_in_little_memory(path: Path, reason: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=reason):
            foreign.read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_pickle_of_endless_operations_is_given_up(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(pickled, "OPERATIONS", 1000)
    archived(tmp_path / "x.pt", b"\x80\x02}" + b"N0" * 1000 + b".")
    with pytest.raises(UserError, match="there is too much beside the weights"):
        foreign.read(tmp_path / "x.pt")


@settings(max_examples=300)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_pickle_or_an_error(content: bytes) -> None:
    with suppress(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, EOFError):
        pickled.look(io.BytesIO(content))
