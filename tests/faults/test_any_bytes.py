"""Any bytes in a file that is read: what was written there comes back, or one line says which file is damaged.

Files are changed as accidents change them, bit by bit, and as somebody would who knows the checksums and makes them
fit.
"""

import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import zipfile
from array import array
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from unit.conftest import Notes

from kdal_cli.errors import MachineError, UserError
from kdal_cli.images.decode import Found, Picture, Taken
from kdal_cli.images.statistics import Twins
from kdal_cli.images.store import INDEX, Form, Index, read_index, write_index
from kdal_cli.labels.ledger import GENESIS, Ledger
from kdal_cli.labels.oracle import Answer
from kdal_cli.records.files import sha256
from kdal_cli.records.snapshots import Snapshots
from kdal_cli.study.index import NAME, index

bounded = settings(deadline=5000, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
"""Milliseconds for one file, which takes a few; the machine may be busy."""


@st.composite
def changes(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """What may happen to the bytes of a file."""
    kind = draw(st.sampled_from(["turn", "cut", "insert", "repeat", "replace", "overwrite"]))
    place, length = draw(st.floats(0, 1)), draw(st.integers(1, 40))
    noise = draw(st.binary(min_size=1, max_size=40))

    def change(data: bytes) -> bytes:
        start = int(place * max(0, len(data) - 1))
        stop = start + length
        return {
            "turn": data[:start] + bytes([data[start] ^ 1 << length % 8]) + data[start + 1 :] if data else noise,
            "cut": data[:start] + data[stop:],
            "insert": data[:start] + noise + data[start:],
            "repeat": data[:stop] + data[start:],
            "replace": noise,
            "overwrite": data[:start] + noise + data[start + len(noise) :],
        }[kind]

    return change


def said(read: Callable[[], object]) -> object:
    """What a reader returns, or None where it refuses the file; any other error is a fault."""
    with suppress(UserError, MachineError):
        return read()
    return None


# The ledger.


def told(ledger: Ledger) -> list[object]:
    """Everything that a ledger tells."""
    bought = [(p.round, p.purpose, p.ids.tolist(), p.labels.tolist(), p.owner) for p in ledger.purchases]
    answered = [(round, ids.tolist(), cost) for round, ids, cost in ledger.answered]
    return [*bought, *answered, *sorted(ledger.computed.items())]


def owner(ids: torch.Tensor) -> Answer:
    return Answer(ids % 3, torch.ones(len(ids)).double(), "somebody")


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    book = Ledger.open(path)
    for round in range(3):
        ids = torch.arange(4) + 10 * round
        book.consult(round, ids, 0.5)
        book.compute(round, "choose", 10**18, 0.5)
        book.buy(round, ids, torch.tensor([0.5, float("inf"), float("nan"), -1.0]), owner)
    return path.read_bytes()


@bounded
@given(change=changes())
def test_a_ledger_tells_what_was_written_from_its_beginning_on_or_nothing(ledger: bytes, change, tmp_path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(ledger)
    whole = told(Ledger.look(path))
    path.write_bytes(change(ledger))
    found = said(lambda: told(Ledger.look(path)))
    assert found is None or all(part in whole for part in found)
    assert said(lambda: told(Ledger.open(path))) in (None, found)


SMALL = st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.text(max_size=3)
HUGE = st.sampled_from([10**9, 2**53, 2**63, 10**400, -(10**9), 1e308, float("inf")])
ODD = st.recursive(SMALL | HUGE, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=2), part))
RECORDS = st.dictionaries(
    st.sampled_from(["round", "purpose", "ids", "scores", "labels", "costs", "owner", "time", "cost", "what", "flops"]),
    ODD | st.lists(st.integers(0, 5), max_size=3) | st.lists(st.tuples(st.integers(0, 9), HUGE), max_size=2),
)
KINDS = st.sampled_from(["request", "receipt", "answers", "compute", "?"])


def sealed(records: list[dict]) -> bytes:
    """Lines with hashes that are right, whatever else they say."""
    lines, previous = [], GENESIS
    for number, record in enumerate(records, 1):
        whole = {"n": number, "previous": previous, "time": "", **record}
        digest = hashlib.sha256(json.dumps(whole).encode()).hexdigest()
        lines.append(json.dumps({**whole, "sha256": digest}).encode())
        previous = hashlib.sha256(lines[-1]).hexdigest()
    return b"".join(line + b"\n" for line in lines)


@bounded
@given(records=st.lists(st.tuples(KINDS, RECORDS), max_size=3))
@example(records=[("answers", {"round": 0, "ids": [[0, 10**9]], "cost": 0.0})])
@example(records=[("answers", {"round": 0, "ids": [[0, 2**24]] * 3, "cost": 0.0})])
@example(records=[("request", {"round": 0, "purpose": "train", "ids": [2**70], "scores": [1.0]})])
@example(records=[("request", {"round": 0, "purpose": "train", "ids": [1], "scores": [10**400]})])
def test_a_ledger_that_somebody_made_up_is_read_or_refused(records: list, tmp_path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(sealed([{"kind": kind, **record} for kind, record in records]))
    book = said(lambda: Ledger.look(path))
    if isinstance(book, Ledger):
        book.view(["class"] * 10, [])
        book.cost(), book.flops(), book.teacher_ids(), book.bought()


# The snapshot of a training.

STATE = {"step": 40, "learners": {"w": torch.arange(6.0)}, "best": None, "best_accuracy": 0.5}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("snapshot") / "training.snapshot"
    Snapshots(path, "round 1", 0.0).offer(STATE)
    return path.read_bytes()


def same(state: object) -> bool:
    return isinstance(state, dict) and str(state) == str(STATE)


@bounded
@given(change=changes(), fits=st.booleans())
def test_a_snapshot_is_what_was_written_or_none(snapshot: bytes, change, fits: bool, tmp_path) -> None:
    path = tmp_path / "training.snapshot"
    payload = change(snapshot[64:])
    path.write_bytes((hashlib.sha256(payload).hexdigest().encode() if fits else snapshot[:64]) + payload)
    state = said(lambda: Snapshots(path, "round 1").load())
    assert fits or state is None or same(state)


@bounded
@given(content=ODD | st.fixed_dictionaries({"label": st.just("round 1") | ODD, "state": ODD}))
def test_a_snapshot_that_somebody_made_up_is_a_state_or_none(content: object, tmp_path) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getvalue()
    (tmp_path / "training.snapshot").write_bytes(hashlib.sha256(payload).hexdigest().encode() + payload)
    state = said(lambda: Snapshots(tmp_path / "training.snapshot", "round 1").load())
    assert state is None or isinstance(state, dict)


# The indexes: of a store of images, and of many runs.


@pytest.fixture
def store(tmp_path: Path) -> tuple[Path, Index]:
    import numpy as np

    home = tmp_path / "store"
    home.mkdir()
    images = [Taken(Picture(np.zeros((1, 2, 2), np.uint8), False, False, (2, 2), False, 0), np.zeros((1, 256)), 0)] * 2
    found = Found(sides=array("i", [2] * 4))
    parts = [FORM.write(home, name, images, lambda: found) for name in NAMES]
    about = Index(parts[0], parts[1], {}, (0.5,), (0.25,), Twins(0, 0))
    write_index(home, about)
    return home, about


NAMES = ("train", "test")
PATHS = dict.fromkeys(NAMES, ("a.png", "b.png"))
FORM = Form((1, 2, 2))


@bounded
@given(change=changes())
def test_the_index_of_a_store_is_what_was_written_or_none(store, change) -> None:
    home, about = store
    whole = (home / INDEX).read_bytes()
    assert read_index(home, PATHS, FORM, Notes()) == about
    (home / INDEX).write_bytes(change(whole))
    assert said(lambda: read_index(home, PATHS, FORM, Notes())) in (None, about)
    (home / INDEX).write_bytes(whole)


@bounded
@given(body=ODD | st.dictionaries(st.sampled_from(["classes", "train", "test", "mean", "std", "repeated"]), ODD))
def test_the_index_of_a_store_that_somebody_made_up_is_refused(store, body: object) -> None:
    home, _ = store
    whole = (home / INDEX).read_bytes()
    (home / INDEX).write_text(json.dumps({"sha256": sha256(body), "body": body}))
    assert said(lambda: read_index(home, PATHS, FORM, Notes())) is None
    (home / INDEX).write_bytes(whole)


@bounded
@given(change=changes())
def test_whatever_the_index_of_many_runs_holds_the_runs_are_told_as_they_are(change, tmp_path) -> None:
    run = tmp_path / "run"
    run.mkdir(exist_ok=True)
    manifest = {"stage": "al-loop", "seed": 0, "choices": {}, "config": {}, "starts": [{"time": "2026-01-01"}]}
    (run / "manifest.json").write_text(json.dumps(manifest))
    (run / "curve.csv").write_text("round,labels,test_accuracy\n0,10,0.5\n")
    (tmp_path / NAME).unlink(missing_ok=True)
    whole = index(tmp_path)[0]
    (tmp_path / NAME).write_bytes(change((tmp_path / NAME).read_bytes()))
    assert index(tmp_path)[0] == whole


# Memory: files that say little and mean much.


def ranges() -> bytes:
    return sealed([{"kind": "answers", "round": 0, "ids": [[0, 10**9]], "cost": 0.0}])


def compressed() -> bytes:
    buffer = io.BytesIO()
    torch.save({"label": "round 1", "state": {"w": torch.zeros(2**26)}}, buffer)  # 256 MiB
    packed = io.BytesIO()
    with zipfile.ZipFile(buffer) as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in plain.infolist():
            archive.writestr(entry.filename, plain.read(entry))
    return hashlib.sha256(packed.getvalue()).hexdigest().encode() + packed.getvalue()


READERS = {
    "ranges": "from kdal_cli.labels.ledger import Ledger; Ledger.look(path)",
    "line": "from kdal_cli.labels.ledger import Ledger; Ledger.open(path)",
    "torn": "from kdal_cli.labels.ledger import Ledger; Ledger.open(path)",
    "compressed": "from kdal_cli.records.snapshots import Snapshots; assert Snapshots(path, 'round 1').load() is None",
    "sparse": "from kdal_cli.records.snapshots import Snapshots; assert Snapshots(path, 'round 1').load() is None",
    "object": "from kdal_cli.records.files import read_json; read_json(path)",
}

MEASURED = """
import resource, sys
from pathlib import Path
import kdal_cli.labels.ledger, kdal_cli.records.snapshots
from kdal_cli.errors import UserError

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

for reader, name in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    before, path = peak(), Path(name)
    try:
        exec(reader)
    except UserError:
        pass
    print(path.name, peak() - before)
"""
"""Reads files one after the other, and says how much the peak of the memory has grown with each, in KiB."""


def gibibyte(path: Path, head: bytes) -> None:
    """A file that says it has a gibibyte, and takes no room."""
    path.write_bytes(head)
    os.truncate(path, 2**30)


def test_a_file_that_would_fill_the_memory_is_refused_before_it_does(tmp_path: Path) -> None:
    (tmp_path / "ranges").write_bytes(ranges())
    (tmp_path / "compressed").write_bytes(compressed())
    for kind, head in {"line": b"{", "torn": b"{}\n{", "sparse": b"0" * 64, "object": b"{"}.items():
        gibibyte(tmp_path / kind, head)
    words = [word for kind, reader in READERS.items() for word in (reader, str(tmp_path / kind))]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *words],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (60, 60)),
    )
    assert done.returncode == 0, done.stderr
    grown = {kind: int(size) for kind, size in map(str.split, done.stdout.splitlines())}
    assert grown.keys() == READERS.keys()
    assert max(grown.values()) < 150_000, grown
