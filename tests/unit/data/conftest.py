"""A folder of images to load, to change and to harm."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdal_cli.data.image_folder import image_folder
from kdal_cli.images import decode as decoding

Pixels = Callable[..., np.ndarray]


@pytest.fixture
def pixels() -> Pixels:
    """pixels(seed, size) -> (*size, 3) uint8, different for each seed."""

    def pixels(seed: int, size: tuple[int, int] = (8, 8)) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)

    return pixels


@pytest.fixture
def png(pixels: Pixels) -> Callable[..., None]:
    """png(path, seed, size) writes such an image."""
    return lambda path, *which: Image.fromarray(pixels(*which)).save(path)


@pytest.fixture
def root(tmp_path: Path, png: Callable[..., None]) -> Path:
    """3 + 2 images of a cat and as many of a dog, 8 × 8, of seeds 0 to 9."""
    root = tmp_path / "pets"
    seeds = iter(range(10))
    for split, n in (("train", 3), ("test", 2)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                png(root / split / name / f"{i}.png", next(seeds))
    return root


@pytest.fixture
def load(root: Path, tmp_path: Path, ear) -> Callable:
    """image_folder on that root, with what keywords are given."""

    def load(**keywords):
        return image_folder(ear, root=str(root), store=str(tmp_path / "store"), **{"size": 8, **keywords})

    return load


@pytest.fixture
def stores(tmp_path: Path) -> Callable[[], list[Path]]:
    """The stores that there are now."""
    return lambda: [path for path in (tmp_path / "store").iterdir() if path.is_dir()]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of all images decoded so far."""
    names: list[str] = []

    def decode(root, entry, reading, ranges):
        names.append(entry.path)
        return original(root, entry, reading, ranges)

    original = decoding.decode
    monkeypatch.setattr(decoding, "decode", decode)
    return names
