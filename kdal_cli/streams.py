"""Randomness by address: every draw comes from a generator named by (seed, purpose, round, …), none is shared.

So a change of sampler changes neither the seed set nor the initial weights, and a resumed run needs no stored state.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Generator

Word = str | int


@dataclass(frozen=True)
class Streams:
    """All the randomness of a run, as a tree of addresses below one seed."""

    seed: int
    path: tuple[Word, ...] = ()

    def under(self, *words: Word) -> "Streams":
        """The streams below an address."""
        return Streams(self.seed, self.path + words)

    def key(self, *words: Word) -> int:
        """63 bits of SHA-256 over the seed and the whole address, joined by a character that no word contains."""
        address = "\x1f".join(str(word) for word in (self.seed, *self.path, *words))
        return int.from_bytes(hashlib.sha256(address.encode()).digest()[:8], "big") >> 1

    def at(self, *words: Word) -> Generator:
        """A fresh CPU generator for this address: the same address gives the same draws, always."""
        return torch.Generator().manual_seed(self.key(*words))

    @contextmanager
    def applied(self, *words: Word) -> Iterator[None]:
        """torch's global generators seeded for this address and restored afterwards.

        For the code that takes no generator: weight initialisation and dropout.
        """
        with undisturbed():
            torch.manual_seed(self.key(*words))
            yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """torch's global generators as they were, afterwards: of the CPU and, once it is used, of this process's GPU."""
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
        yield
