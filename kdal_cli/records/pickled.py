"""What a pickle says, found without running it.

A pickle is a program that names functions and calls them. Here it is read as data: nothing is imported, nothing is
called. Lists and mappings are made, a tensor becomes `Stored`, what the file declares of it, and everything else is
`OPAQUE`: objects beside the weights (options, metrics, paths) are passed over, whatever their class. A pickle that
calls a function outside of `CALLS` is refused.
"""

import pickletools
from dataclasses import dataclass
from math import prod
from typing import IO, Any

import torch

from kdal_cli.errors import printable

OPERATIONS = 1_000_000
"""A pickle with more is refused: ResNet-1001 with its optimizer has 200,000."""

TYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}

CALLS = {
    "argparse": {"Namespace"},
    "types": {"SimpleNamespace"},
    "collections": {"OrderedDict", "defaultdict", "Counter", "deque"},
    "builtins": {"set", "frozenset", "dict", "list", "tuple", "bytearray", "complex", "slice", "range"},
    "copyreg": {"_reconstructor"},
    "_codecs": {"encode"},
    "datetime": {"datetime", "date", "time", "timedelta", "timezone"},
    "pathlib": {"PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"scalar", "_reconstruct"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy.random.bit_generator": {"__pyx_unpickle_SeedSequence"},
    "numpy.random._pickle": {"__randomstate_ctor", "__generator_ctor", "__bit_generator_ctor"},
    "torch": {"device", "Size"},
    "torch.serialization": {"_get_layout"},
    "torch._utils": {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter"}
    | {
        "_rebuild_parameter_with_state",
        "_rebuild_sparse_tensor",
        "_rebuild_qtensor",
        "_rebuild_meta_tensor_no_storage",
    },
    "torch._tensor": {"_rebuild_from_type_v2"},
}
"""What trainers' files call besides their weights. None of it is called here; the rest is refused."""

MOVED = {"__builtin__": "builtins", "copy_reg": "copyreg", "pathlib._local": "pathlib"}
"""Other names of the same modules, in other versions of Python; numpy's `_core` is `core` too."""


class Unreadable(ValueError):
    """A file that is refused, with the reason in words."""


class Opaque:
    """What is of no interest here."""


OPAQUE = Opaque()


@dataclass(frozen=True)
class Name:
    """A class or a function, as a pickle names it."""

    module: str
    name: str


@dataclass(frozen=True)
class Storage:
    """Numbers that lie somewhere in the file. numel: how many there are declared to be."""

    key: str
    dtype: torch.dtype
    numel: int


@dataclass(frozen=True)
class Stored:
    """A tensor, as a file declares it: which elements of a storage."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """What it takes in memory on its own."""
        return prod(self.shape) * self.dtype.itemsize

    def refuse_unsound(self) -> None:
        """Raise Unreadable unless it lies within its storage."""
        whole = [self.offset, *self.shape, *self.strides, self.storage.numel]
        sides = len(self.shape)
        if not all(type(n) is int and 0 <= n < 2**60 for n in whole) or not sides == len(self.strides) < 32:
            raise Unreadable("a tensor has no proper shape")
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        size = self.storage.numel * self.storage.dtype.itemsize
        if prod(self.shape) and (last + 1) * self.dtype.itemsize > size:
            raise Unreadable("a tensor reaches beyond its storage")


def look(file: IO[bytes], storages: dict[str, Storage] | None = None) -> Any:
    """What the next pickle of a file says. storages: filled with all that it names.

    Raises Unreadable, and whatever comes of a pickle that is damaged.
    """
    machine = _Machine({} if storages is None else storages)
    for count, (code, value, _) in enumerate(pickletools.genops(file)):
        if code.name == "STOP":
            return machine.stack.pop()
        if count > OPERATIONS:
            raise Unreadable("there is too much beside the weights")
        machine.step(code, value)
    raise Unreadable("it ends too early")


class _Machine:
    """The stack of a pickle, and what its operations do to it here."""

    def __init__(self, storages: dict[str, Storage]) -> None:
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages = storages

    def step(self, code: pickletools.OpcodeInfo, value: Any) -> None:
        name, items = code.name, self._items(code)
        match name:
            case "MARK":
                self.marked.append(self.stack)
                self.stack = []
            case "POP" | "BUILD":  # what an object is built of changes nothing here
                self.stack.pop()
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[value] = self.stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "APPEND" | "APPENDS":
                if isinstance(self.stack[-1], list):
                    self.stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                if isinstance(self.stack[-1], dict):
                    self.stack[-1].update(_paired(items))
            case "PROTO" | "FRAME" | "POP_MARK" | "ADDITEMS":
                pass
            case _:
                self.stack.append(self._made(name, value, items))

    def _items(self, code: pickletools.OpcodeInfo) -> list[Any]:
        """What an operation takes from the stack: a fixed number of things, or all since the last mark."""
        if pickletools.markobject in code.stack_before:
            items, self.stack = self.stack, self.marked.pop()
            return items
        count = TAKES.get(code.name, 0)
        items = self.stack[len(self.stack) - count :]
        if len(items) < count:
            raise Unreadable("it ends too early")
        del self.stack[len(self.stack) - count :]
        return items

    def _made(self, name: str, value: Any, items: list[Any]) -> Any:
        """The thing that an operation puts onto the stack."""
        match name:
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3" | "EMPTY_TUPLE":
                return tuple(items)
            case "LIST" | "EMPTY_LIST":
                return items
            case "DICT" | "EMPTY_DICT":
                return _paired(items)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                return {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name]
            case "DUP":
                return self.stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                return self.memo[value]
            case "GLOBAL":
                return _name(*value.split(" ", 1))
            case "STACK_GLOBAL":
                return _name(*items)
            case "INST":
                return _called(_name(*value.split(" ", 1)), tuple(items))
            case "REDUCE":
                return _called(*items)
            case "OBJ":
                return _called(items[0], tuple(items[1:]))
            case "BINPERSID":
                storage = _storage(items[0])
                return self.storages.setdefault(storage.key, storage)
        return OPAQUE if value is None else value  # an object, or a literal


TAKES = {
    **dict.fromkeys(("TUPLE1", "APPEND", "BINPERSID"), 1),
    **dict.fromkeys(("TUPLE2", "SETITEM", "STACK_GLOBAL", "REDUCE", "NEWOBJ"), 2),
    **dict.fromkeys(("TUPLE3", "NEWOBJ_EX"), 3),
}
"""How many things an operation takes from the stack, where it takes a fixed number."""


def _paired(items: list[Any]) -> dict[str, Any]:
    """What lies under words; to hash any key would take for ever where tuples lie in tuples in tuples."""
    return {key: value for key, value in zip(items[::2], items[1::2], strict=True) if isinstance(key, str)}


def _name(module: Any, name: Any) -> Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise Unreadable("a function has no proper name")
    place = module.replace("numpy._core.", "numpy.core.")
    return Name(MOVED.get(place, place), name)


def _called(function: Any, arguments: Any) -> Any:
    """What a call would make: a mapping, a tensor, or something that is of no interest. Nothing is called.

    Raises Unreadable for a function that weights have no need of.
    """
    match function, arguments:
        case Name("collections", "OrderedDict" | "defaultdict"), [list(pairs)]:
            items = [item for pair in pairs for item in pair[:2]]
            pairs.clear()  # used up: to copy one list many times would fill the memory
            return _paired(items)
        case Name("collections", "OrderedDict" | "defaultdict"), _:
            return {}
        case Name("torch", "Size"), [tuple(sides)]:
            return sides
        case Name("torch._utils", "_rebuild_tensor_v3"), [Storage() as s, offset, tuple(shape), tuple(steps), *rest]:
            kinds = [vars(torch).get(each.name) for each in rest if isinstance(each, Name)]
            if not kinds or not isinstance(kinds[0], torch.dtype):
                raise Unreadable("a tensor has no proper type")
            return Stored(s, kinds[0], offset, shape, steps)
        case Name("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor"), [
            Storage() as s,
            offset,
            tuple(shape),
            tuple(steps),
            *_,
        ]:
            return Stored(s, s.dtype, offset, shape, steps)
        case Name("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state"), [Stored() as tensor, *_]:
            return tensor
        case Name("torch._tensor", "_rebuild_from_type_v2"), [inner, _, tuple(its), *_]:
            return _called(inner, its)
        case Name(module, name), _ if name not in CALLS.get(module, ()):
            raise Unreadable(f"it calls {printable(f'{module}.{name}')}, which weights have no need of")
    return OPAQUE


def _storage(reference: Any) -> Storage:
    """The storage that a pickle refers to: its kind, name and number of elements."""
    match reference:
        case ("storage", Name("torch" | "torch.storage", kind), str(key), _, int(numel), *view) if kind in TYPES:
            if not any(view) and numel >= 0:
                return Storage(key, TYPES[kind], numel)
    raise Unreadable("a storage is of a kind that is not read")
