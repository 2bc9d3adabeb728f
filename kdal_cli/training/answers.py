"""What a teacher answers while a student trains: live at every step, or from a table of what it has answered before.

A view of an image is a number (`kdal_cli.images.augment`), so that (image, view) is an address and a frozen teacher's
answer to it never changes. A table keeps these answers in float16, one row an address. A student that is trained again,
by another loss, in another round or in another process, finds them there.

Axis letters: S steps, B batch, N images, V views, C classes, D features, W numbers of a row, R rows.
"""

import os
import time
from itertools import pairwise
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from kdal_cli.devices.engine import Engine
from kdal_cli.devices.passes import images_a_pass
from kdal_cli.devices.precision import Precision
from kdal_cli.errors import MachineError, UserError
from kdal_cli.images.augment import Resident
from kdal_cli.network import Network, freeze
from kdal_cli.records.files import opened
from kdal_cli.types import Batch, Output, Watcher

Asked = Literal["logits", "features", "everything"]
"""What a loss reads of the teacher's answers: logits alone, features besides, or maps and the model itself."""

FILL = 250
"""Images a pass when answers are computed ahead, at most: always as many, whatever the company of an answer."""

WINDOW = 2**14
"""Answers that are looked up at a time, ahead of the steps that use them."""

PRIME = 65521
"""The largest one below 2^16: a checksum modulo it, plus one, is a 16-bit number that is never zero."""


class Teacher(Protocol):
    """Who is asked at each step of a training. seconds: spent on answers so far."""

    seconds: float

    def announce(self, ids: Tensor, views: Tensor) -> None:
        """What the next steps will ask, in order: (S, B) images and views."""
        ...

    def __call__(self, batch: Batch) -> Output: ...

    def classes_of(self, images: Resident, ids: Tensor) -> Tensor:
        """The class (N,), among those of the data, that it gives each of images `ids` (N,), without augmentation: the
        likeliest of those that it has learnt, -1 where it has learnt none of them."""
        ...


class LiveTeacher:
    """The teacher's answer at each step. Frozen: eval mode, no gradient, never trained.

    It sees the very pixels that the student sees, or, with `clean`, the same images as they are. Its seconds are those
    of the CPU's clock: a GPU answers later, and then they are part of the training's.
    """

    def __init__(
        self, network: Network, engine: Engine, precision: Precision, *, clean: Resident | None = None
    ) -> None:
        self.network, self.engine, self.clean = freeze(network), engine, clean
        self.precision: Precision = precision
        self.seconds = 0.0

    def announce(self, ids: Tensor, views: Tensor) -> None:
        """It need not know."""

    def __call__(self, batch: Batch) -> Output:
        started = time.perf_counter()
        answer = self.look(batch.pixels if self.clean is None else self.clean.whole(batch.ids))
        self.seconds += time.perf_counter() - started
        return answer

    @torch.no_grad()
    def look(self, pixels: Tensor) -> Output:
        """pixels: (B, c, H, W) uint8."""
        with self.engine.autocast(self.precision):
            return self.network(pixels)

    def classes_of(self, images: Resident, ids: Tensor) -> Tensor:
        """The class (N,) that it gives each of images `ids` (N,), without augmentation, as the protocol has it."""
        if self.network.known == {}:
            return torch.full((len(ids),), -1)
        images = images if self.clean is None else self.clean
        parts = ids.split(images_a_pass(self.network, images, FILL))
        return self.likeliest(torch.cat([self.look(images.whole(part)).logits.cpu() for part in parts]))

    def likeliest(self, logits: Tensor) -> Tensor:
        """Of logits (N, C of its own), the class (N,) of the data: the likeliest of those that it has learnt."""
        known = self.network.known
        if known is None:
            return logits.argmax(1)
        return torch.tensor(list(known.values()))[logits[:, list(known)].argmax(1)]


class Table:
    """Rows of W float16 numbers by number, each with a checksum; a row of zero bits is one that nobody has written.

    Many processes may read and write one file at once: a row that is there is whole, because its checksum is right, and
    a row that two write is written twice alike. So a kill at any moment costs the rows that were on their way. path:
    the file, which takes room as it fills; None keeps the rows in memory. Raises MachineError when the disk refuses.
    """

    def __init__(self, rows: int, width: int, path: Path | None = None) -> None:
        self.width, self.path, shape = width, path, (rows, width + 1)
        self._weights = torch.arange(1, width + 1)  # (W,): numbers that change places are noticed too
        if path is None:
            self._rows = torch.from_numpy(np.zeros(shape, np.int16))
            return
        try:
            with opened(path, os.O_RDWR | os.O_CREAT) as handle, os.fdopen(os.dup(handle), "r+b") as file:
                if not file.seek(0, os.SEEK_END):
                    file.truncate(2 * rows * (width + 1))
                elif file.tell() != 2 * rows * (width + 1):
                    raise UserError("this is not the table of this teacher's answers", where=path, cure="remove it")
                self._rows = torch.from_numpy(np.memmap(file, np.int16, "r+", shape=shape))
        except OSError as error:
            raise self._refused(error) from error

    def __reduce__(self) -> tuple[type["Table"], tuple[int, int, Path | None]]:
        """In another process it is the same file, or a table of that one's own."""
        return Table, (len(self._rows), self.width, self.path)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(numbers (R, W) float16, whether each row is there (R,)) of `rows` (R,)."""
        found = self._rows.index_select(0, rows)
        bits, check = found[:, : self.width], found[:, self.width]
        return bits.contiguous().view(torch.float16), check == self._checksums(bits)

    def write(self, rows: Tensor, numbers: Tensor) -> None:
        """Keep `numbers` (R, W) float16 as `rows` (R,), which are distinct."""
        order = rows.argsort()
        rows, bits = rows[order], numbers[order].contiguous().view(torch.int16)
        lines = torch.cat([bits, self._checksums(bits)[:, None]], 1)  # (R, W + 1)
        if self.path is None:
            self._rows[rows] = lines
            return
        starts = [0, *(rows.diff() != 1).nonzero().flatten().add(1).tolist(), len(rows)]
        try:
            with opened(self.path, os.O_RDWR) as handle, os.fdopen(os.dup(handle), "r+b", buffering=0) as file:
                for start, stop in pairwise(starts):
                    file.seek(int(rows[start]) * lines.shape[1] * 2)
                    file.write(lines[start:stop].numpy().data)
        except OSError as error:
            raise self._refused(error) from error

    def _checksums(self, bits: Tensor) -> Tensor:
        """(R, W) int16 -> (R,) int16: 1 + Σ i · bits_i mod PRIME."""
        return ((bits.long() & 0xFFFF).mul_(self._weights).sum(1) % PRIME + 1).short()

    def _refused(self, error: OSError) -> MachineError:
        return MachineError(
            f"cannot keep the teacher's answers: {error.strerror}",
            where=self.path,
            cure="make room; or teacher.cache=off",
        )


class CachedTeacher:
    """A teacher that computes its answer to an image in a view once: the logits (N · V, C), and features if asked for.

    What a training announces and the table lacks is computed ahead, in passes of equal size. An answer is always
    what the table holds, so that the first training sees what later ones see; `error` is the largest difference to
    what was computed, the rounding to float16. images: the views that are asked about; of a teacher with `clean` images
    there is one. hits, asked: rows that were there, of those that were asked for.
    """

    def __init__(self, live: LiveTeacher, images: Resident, table: Table) -> None:
        self.live, self.table = live, table
        self.images = images if live.clean is None else live.clean
        self.views = images.augment.count if live.clean is None else 1
        self.classes = live.network.classes
        self.seconds, self.error, self.hits, self.asked = 0.0, 0.0, 0, 0
        self._rows = torch.empty(0, 0, dtype=torch.int64)  # (S, B), of the steps announced
        self._step, self._held = 0, torch.empty(0)

    def announce(self, ids: Tensor, views: Tensor) -> None:
        """What the next steps will ask, in order: (S, B) images and views, on the CPU."""
        self._rows, self._step = self.rows(ids, views), 0

    def rows(self, ids: Tensor, views: Tensor) -> Tensor:
        """The rows of the table that images in views are kept in."""
        return ids * self.views + views if self.views > 1 else ids

    def __call__(self, batch: Batch) -> Output:
        """The answer to the next step, which must be the one that was announced."""
        window = max(1, WINDOW // self._rows.shape[1])
        if self._step % window == 0:
            started = time.perf_counter()
            self._held = self.look_up(self._rows[self._step : self._step + window])
            self.seconds += time.perf_counter() - started
        row = self._held[self._step % window]
        self._step += 1
        features = row[:, self.classes :] if row.shape[1] > self.classes else row.new_full((len(row), 1), torch.nan)
        return Output(row[:, : self.classes], features)

    @property
    def plain(self) -> int | None:
        """The view that is the image without augmentation; None where there is none among them."""
        augment = self.images.augment
        if self.live.clean is not None or augment.kind == "none":
            return 0
        return None if augment.drawn else augment.identity

    def classes_of(self, images: Resident, ids: Tensor) -> Tensor:
        """The class (N,) that it gives each of images `ids` (N,), without augmentation: kept, where that is a view."""
        if self.plain is None or self.live.network.known == {}:
            return self.live.classes_of(images, ids)
        numbers, _ = self._kept(self.rows(ids, torch.full_like(ids, self.plain)))
        return self.live.likeliest(numbers[:, : self.classes].float())

    def blank(self, many: int) -> Output:
        """An answer of the form that it gives, about so many images, which says nothing."""
        rows = torch.zeros(many, max(self.table.width, self.classes + 1), device=self.live.engine.device)
        return Output(rows[:, : self.classes], rows[:, self.classes :])

    def look_up(self, rows: Tensor) -> Tensor:
        """(S, B) rows -> (S, B, W) float32 on the device; what is not there yet is computed and kept."""
        numbers, hits = self._kept(rows.flatten())
        self.asked, self.hits = self.asked + rows.numel(), self.hits + hits
        return numbers.view(*rows.shape, -1).to(self.live.engine.device).float()

    def _kept(self, rows: Tensor) -> tuple[Tensor, int]:
        """(numbers (R, W) float16 of `rows` (R,), how many of them were there already)."""
        numbers, there = self.table.read(rows)
        hits, missing = int(there.sum()), rows[~there].unique()
        if len(missing):
            self.fill(missing)
            numbers, there = self.table.read(rows)
            if not there.all():
                raise MachineError("the teacher's answers cannot be read back", where=self.table.path)
        return numbers, hits

    def fill_all(self, ids: Tensor, watcher: Watcher) -> None:
        """Compute what the table lacks of every view of images `ids` (N,), which are distinct."""
        started = time.perf_counter()
        rows = (ids[:, None] * self.views + torch.arange(self.views)).flatten()
        missing = torch.cat([part[~self.table.read(part)[1]] for part in rows.split(WINDOW)])
        if len(missing):
            watcher.begin("the teacher's answers", len(missing))
            for part in missing.split(WINDOW):
                self.fill(part)
                watcher.advance(len(part), len(part))
            watcher.end()
        self.seconds += time.perf_counter() - started

    def fill(self, rows: Tensor) -> None:
        """Compute `rows` (R,), which are distinct, and keep them."""
        many = images_a_pass(self.live.network, self.images, FILL)
        for part in rows.split(many):
            whole = torch.cat([part, part[:1].expand(many - len(part))])
            ids, views = (whole // self.views, whole % self.views) if self.views > 1 else (whole, None)
            answer = self.live.look(self.images.whole(ids) if views is None else self.images.at(ids, views))
            wanted = [answer.logits, answer.features][: 1 + (self.table.width > self.classes)]
            numbers = torch.cat(wanted, 1)[: len(part)].float().cpu()
            halves = numbers.half()
            if not halves.isfinite().all():
                cure = "teacher.cache=off"
                raise MachineError("the teacher's answers are too large for float16, or no numbers", cure=cure)
            self.error = max(self.error, float((halves.float() - numbers).abs().max()))
            self.table.write(part, halves)
