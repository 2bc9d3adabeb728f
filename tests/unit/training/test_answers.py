"""A kept answer is the live one, rounded to float16; a table is whole under kills, torn writes and many writers."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdal_cli.dataset import ImageData
from kdal_cli.devices.engine import Engine
from kdal_cli.errors import MachineError
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.losses.kd import kd
from kdal_cli.network import Network
from kdal_cli.streams import Streams
from kdal_cli.training import answers as module
from kdal_cli.training.answers import FILL, CachedTeacher, LiveTeacher, Table
from kdal_cli.training.feed import Feed
from kdal_cli.training.fit import fit
from kdal_cli.training.objective import Objective, Part
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Batch, Examples

VIEWS = 18


def cached(network: Network, engine: Engine, images: Resident, path: Path | None = None, width: int = 3):
    live = LiveTeacher(network, engine, "fp32")
    return CachedTeacher(live, images, Table(len(images) * images.augment.count, width, path))


@pytest.fixture
def plan(images: ImageData, resident: Resident):
    """12 steps of 5 labelled and 4 other images, each in some view."""
    feed = Feed(resident, Examples(torch.arange(96), images.train.labels.all()[:40]), 5, 4, Streams(0))
    return feed, feed.plan(0, 12)


# The teacher.


def test_kept_answers_are_the_live_ones_rounded_to_float16(make_network, engine, resident, plan) -> None:
    feed, steps = plan
    teacher, live = cached(make_network(1), engine, resident), LiveTeacher(make_network(1), engine, "fp32")
    teacher.announce(steps.ids, steps.views)
    largest = 0.0
    for batch in feed.batches(steps):
        expected, answer = live(batch).logits, teacher(batch)
        torch.testing.assert_close(answer.logits, expected.half().float(), rtol=2**-10, atol=1e-6)
        largest = max(largest, float((answer.logits - expected).abs().max()))
        assert answer.features.isnan().all()
        assert answer.logits.dtype == torch.float32
    assert largest <= teacher.error + 1e-6 < 2**-11 * 100


@pytest.mark.parametrize("width", [3, 3 + 16])
def test_the_table_of_every_view_is_what_the_teacher_answers_to_it(make_network, engine, resident, width: int) -> None:
    """Brute force: each image in each view by itself."""
    network = make_network(1)
    teacher = cached(network, engine, resident, width=width)
    ids, views = torch.arange(5).repeat_interleave(VIEWS), torch.arange(VIEWS).repeat(5)
    teacher.announce(ids[None], views[None])
    answer = teacher(Batch(ids, views, resident.at(ids, views), ids[:0]))
    with torch.no_grad():
        for row, (id, view) in enumerate(zip(ids, views, strict=True)):
            alone = network(resident.at(id[None], view[None]))
            torch.testing.assert_close(answer.logits[row], alone.logits[0], rtol=1e-3, atol=1e-3)
            if width > 3:
                torch.testing.assert_close(answer.features[row], alone.features[0], rtol=1e-3, atol=1e-3)


def test_an_answer_is_computed_once(make_network, engine, resident, plan, monkeypatch, tmp_path) -> None:
    feed, steps = plan
    looked: list[int] = []
    look = LiveTeacher.look
    monkeypatch.setattr(LiveTeacher, "look", lambda live, pixels: (looked.append(len(pixels)), look(live, pixels))[1])
    first = cached(make_network(1), engine, resident, tmp_path / "rows")
    first.announce(steps.ids, steps.views)
    once = torch.cat([first(batch).logits for batch in feed.batches(steps)])
    distinct = len((steps.ids * VIEWS + steps.views).unique())
    assert looked == [FILL] * -(-distinct // FILL)
    assert (first.asked, first.hits) == (12 * 9, 0)
    second = cached(make_network(1), engine, resident, tmp_path / "rows")
    second.announce(steps.ids, steps.views)
    assert torch.equal(torch.cat([second(batch).logits for batch in feed.batches(steps)]), once)
    assert (second.asked, second.hits) == (12 * 9, 12 * 9)
    assert len(looked) == -(-distinct // FILL)


def test_an_answer_does_not_depend_on_what_else_is_asked(make_network, engine, resident) -> None:
    ids, views = torch.arange(90) % 40, torch.arange(90) % VIEWS
    together = cached(make_network(1), engine, resident).look_up((ids * VIEWS + views)[None])[0]
    for row in (0, 7, 89):
        alone = cached(make_network(1), engine, resident).look_up((ids * VIEWS + views)[None, row : row + 1])[0]
        assert torch.equal(alone[0], together[row])


@pytest.mark.parametrize("window", [1, 9, 20, 10_000])
def test_the_answers_are_those_of_the_steps_whatever_is_looked_up_at_a_time(
    window: int, make_network, engine, resident, plan, monkeypatch
) -> None:
    monkeypatch.setattr(module, "WINDOW", window)
    feed, steps = plan
    teacher, live = cached(make_network(1), engine, resident), LiveTeacher(make_network(1), engine, "fp32")
    for _ in range(2):  # announced again, it begins again
        teacher.announce(steps.ids, steps.views)
        for batch in feed.batches(steps):
            torch.testing.assert_close(teacher(batch).logits, live(batch).logits, rtol=1e-3, atol=1e-3)


def test_a_clean_teacher_has_one_answer_an_image(make_network, engine, images, resident, plan) -> None:
    feed, steps = plan
    network, clean = make_network(1), Resident(images.train.pixels, Augment())
    live = LiveTeacher(network, engine, "fp32", clean=clean)
    teacher = CachedTeacher(live, resident, Table(96, 3))
    teacher.announce(steps.ids, steps.views)
    for batch in feed.batches(steps):
        torch.testing.assert_close(teacher(batch).logits, live(batch).logits, rtol=1e-3, atol=1e-3)
    assert teacher.asked - teacher.hits <= 12 * 9


def test_filled_up_front_nothing_is_left_to_ask(make_network, engine, resident, plan, notes) -> None:
    feed, steps = plan
    teacher = cached(make_network(1), engine, resident)
    ids = torch.arange(96)
    teacher.fill_all(ids, notes)
    assert notes.begun == [("the teacher's answers", 96 * VIEWS)]
    assert notes.steps == 96 * VIEWS
    teacher.announce(steps.ids, steps.views)
    for batch in feed.batches(steps):
        teacher(batch)
    assert teacher.hits == teacher.asked == 12 * 9
    teacher.fill_all(ids, notes)
    assert notes.ended == len(notes.begun) == 1


def test_a_student_learns_from_kept_answers_what_it_learns_from_them_again(
    make_network, engine, images, resident, notes, tmp_path
) -> None:
    """Cold and warm are bit-equal, and close to live."""
    examples = Examples(torch.arange(96), images.train.labels.all()[:30])
    recipe = Recipe(steps=30, batch=8, pool_batch=8, checks=3, optimizer="sgd", lr=0.02)

    def learn(teacher: LiveTeacher | CachedTeacher) -> torch.Tensor:
        student, objective = make_network(), Objective(0.5, {"kd": Part(kd, 0.5)})
        fit(student, resident, examples, objective, recipe, engine, Streams(0), notes, teacher=teacher)
        return torch.cat([parameter.detach().flatten() for parameter in student.parameters()])

    network = make_network(2)
    cold, warm = (learn(cached(network, engine, resident, tmp_path / "rows")) for _ in range(2))
    assert torch.equal(cold, warm)
    torch.testing.assert_close(cold, learn(LiveTeacher(network, engine, "fp32")), rtol=0.02, atol=2e-3)


def test_an_answer_that_float16_cannot_hold_is_told(make_network, engine, resident) -> None:
    network = make_network(1)
    with torch.no_grad():
        next(iter(reversed(list(network.parameters())))).fill_(1e6)
    with pytest.raises(MachineError, match=r"too large for float16.*teacher\.cache=off"):
        cached(network, engine, resident).look_up(torch.arange(4)[None])


# The table.


@given(
    writes=st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=12, unique=True), max_size=6),
    width=st.integers(1, 7),
    on_disk=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_read_and_nothing_else_is_there(
    writes, width: int, on_disk: bool, tmp_path_factory
) -> None:
    table = Table(31, width, tmp_path_factory.mktemp("table") / "rows" if on_disk else None)
    expected: dict[int, torch.Tensor] = {}
    rng = torch.Generator().manual_seed(0)
    for rows in writes:
        numbers = torch.randn(len(rows), width, generator=rng).half()
        table.write(torch.tensor(rows), numbers)
        expected |= dict(zip(rows, numbers, strict=True))
    numbers, there = table.read(torch.arange(31))
    assert {int(row) for row in there.nonzero().flatten()} == set(expected)
    for row, kept in expected.items():
        assert torch.equal(numbers[row], kept)


def test_rows_of_zeros_and_of_the_largest_numbers_are_there_when_written() -> None:
    table = Table(4, 3)
    table.write(torch.tensor([1, 2]), torch.tensor([[0.0, 0.0, 0.0], [65504.0, -65504.0, -0.0]]).half())
    assert table.read(torch.arange(4))[1].tolist() == [False, True, True, False]


@pytest.mark.parametrize("byte", range(8))
def test_a_changed_byte_makes_a_row_that_is_not_there(byte: int, tmp_path) -> None:
    path = tmp_path / "rows"
    Table(3, 3, path).write(torch.arange(3), torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).half())
    raw = bytearray(path.read_bytes())
    raw[8 + byte] ^= 0x40
    path.write_bytes(raw)
    assert Table(3, 3, path).read(torch.arange(3))[1].tolist() == [True, False, True]


def test_a_row_of_which_only_a_part_was_written_is_not_there(tmp_path) -> None:
    path = tmp_path / "rows"
    Table(2, 5, path).write(torch.tensor([1]), torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]).half())
    whole = path.read_bytes()
    for written in range(1, 13):
        path.write_bytes(whole[: 12 + written].ljust(24, b"\0"))
        assert Table(2, 5, path).read(torch.tensor([1]))[1].item() == (written == 12)


def test_numbers_that_change_places_are_noticed(tmp_path) -> None:
    path = tmp_path / "rows"
    Table(1, 3, path).write(torch.tensor([0]), torch.tensor([[1.0, 2.0, 3.0]]).half())
    raw = np.fromfile(path, np.int16)
    raw[[0, 1]] = raw[[1, 0]]
    raw.tofile(path)
    assert not Table(1, 3, path).read(torch.tensor([0]))[1].item()


def test_the_file_takes_no_more_room_than_what_was_written(tmp_path) -> None:
    path = tmp_path / "rows"
    table = Table(10_000_000, 10, path)
    table.write(torch.tensor([0, 9_999_999]), torch.ones(2, 10).half())
    assert path.stat().st_size == 10_000_000 * 22
    assert path.stat().st_blocks * 512 < 2**20


def scribble(path: Path, seed: int, forever: bool) -> None:
    """Write rows over and over, in another order in each process; row r holds r, r + 1, … everywhere."""
    rng = torch.Generator().manual_seed(seed)
    table, rounds = Table(200, 40, path), 10**9 if forever else 30
    for _ in range(rounds):
        rows = torch.randperm(200, generator=rng)[:50]
        table.write(rows, (rows[:, None] + torch.arange(40)).half())


def test_two_writers_at_once_and_a_kill_leave_only_whole_rows(tmp_path) -> None:
    path, context = tmp_path / "rows", multiprocessing.get_context("fork")
    writers = [context.Process(target=scribble, args=(path, seed, seed == 0)) for seed in range(3)]
    for writer in writers:
        writer.start()
    table = Table(200, 40, path)
    rows = torch.arange(200)
    for _ in range(100):
        numbers, there = table.read(rows)
        assert torch.equal(numbers[there], (rows[:, None] + torch.arange(40)).half()[there])
    time.sleep(0.05)
    assert writers[0].pid is not None
    os.kill(writers[0].pid, signal.SIGKILL)
    for writer in writers:
        writer.join()
    numbers, there = table.read(rows)
    assert there.sum() > 150
    assert torch.equal(numbers[there], (rows[:, None] + torch.arange(40)).half()[there])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_one_line_that_names_what_to_change(tmp_path, monkeypatch) -> None:
    @contextmanager
    def full(*_: object) -> Iterator[int]:
        with Path("/dev/full").open("r+b", buffering=0) as device:
            yield device.fileno()

    table = Table(4, 3, tmp_path / "rows")
    monkeypatch.setattr(module, "opened", full)
    with pytest.raises(MachineError, match=r"No space left on device.*teacher\.cache=off"):
        table.write(torch.tensor([0]), torch.ones(1, 3).half())


def test_a_folder_that_cannot_be_is_one_line(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match=r"cannot keep the teacher's answers"):
        Table(4, 3, tmp_path / "file" / "rows")


@pytest.mark.parametrize("known", [None, {0: 2, 2: 0}, {1: 1}, {}])
def test_its_classes_are_those_of_the_data_and_only_those_that_it_has_learnt(
    known, make_network, engine, resident
) -> None:
    """A teacher of other classes counts its own, and one that never saw a class has no word about it."""
    network, ids = make_network(1), torch.arange(60)
    live = LiveTeacher(network, engine, "fp32")
    logits = live.look(resident.whole(ids)).logits
    network.known = known
    if known is None:
        expected = logits.argmax(1).tolist()
    else:
        expected = [max(known, key=lambda own: float(row[own])) if known else None for row in logits]
        expected = [known[own] if own is not None else -1 for own in expected]
    assert live.classes_of(resident, ids).tolist() == expected


@pytest.mark.parametrize("kind", ["crop_flip", "none"])
def test_a_class_that_was_asked_for_is_kept_where_the_image_itself_is_a_view(
    kind, make_network, engine, images, monkeypatch
) -> None:
    views = Resident(images.train.pixels, Augment(pad=2, flip=True, kind=kind))
    teacher, ids = cached(make_network(1), engine, views), torch.tensor([7, 3, 11])
    expected = teacher.live.classes_of(views, ids).tolist()
    assert teacher.classes_of(views, ids).tolist() == expected
    monkeypatch.setattr(teacher.live, "look", None)
    assert teacher.classes_of(views, ids).tolist() == expected
    assert (teacher.asked, teacher.hits) == (0, 0)  # which count what training asks


@pytest.mark.parametrize("augment", [Augment(kind="photo", views=1), Augment(pad=2, views=4)])
def test_a_class_is_asked_for_anew_where_the_image_itself_is_no_view(augment, make_network, engine, images) -> None:
    views, ids = Resident(images.train.pixels, augment), torch.arange(9)
    teacher = cached(make_network(1), engine, views)
    assert teacher.classes_of(views, ids).tolist() == teacher.live.classes_of(views, ids).tolist()
    assert not teacher.table.read(torch.arange(len(teacher.table)))[1].any()


def test_a_teacher_that_sees_images_as_they_are_keeps_its_classes_by_image(make_network, engine, images) -> None:
    plain, views = (Resident(images.train.pixels, Augment(pad=pad)) for pad in (0, 2))
    live = LiveTeacher(make_network(1), engine, "fp32", clean=plain)
    teacher, ids = CachedTeacher(live, views, Table(len(plain), 3)), torch.tensor([5, 0])
    assert teacher.classes_of(views, ids).tolist() == live.look(plain.whole(ids)).logits.argmax(1).tolist()
    assert teacher.table.read(torch.arange(len(plain)))[1].nonzero().flatten().tolist() == [0, 5]
