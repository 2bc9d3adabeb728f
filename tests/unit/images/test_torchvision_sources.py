"""torchvision's folders: read as torchvision reads them, checked against their sums, and one clear line offline."""

import hashlib
import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch

from kdal_cli.data.cifar10 import SOURCE as CIFAR10
from kdal_cli.data.cifar10 import cifar10
from kdal_cli.data.cifar100 import SOURCE as CIFAR100
from kdal_cli.data.cifar100 import cifar100
from kdal_cli.data.fashion_mnist import SOURCE as FASHION
from kdal_cli.data.fashion_mnist import fashion_mnist
from kdal_cli.data.mnist import SOURCE as MNIST
from kdal_cli.data.mnist import mnist
from kdal_cli.errors import UserError
from kdal_cli.images.torchvision import Source, load

REAL = Path(os.environ.get("KDAL_DATA", "data"))


def of(folder: Path, source: Source) -> Source:
    """A source whose published sums are those of the files in a folder."""
    sums = {file: hashlib.md5((folder / file).read_bytes()).hexdigest() for file in source.files}
    return replace(source, files=sums)


def write_idx(root: Path) -> tuple[Source, np.ndarray]:
    """A small MNIST: 5 + 3 images, the same each time."""
    folder = root / MNIST.folder
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 28, 28), dtype=np.uint8)
    for word, rows in (("train", slice(0, 5)), ("t10k", slice(5, 8))):
        part = pixels[rows]
        head = np.array([2051, len(part), 28, 28], dtype=">i4").tobytes()
        (folder / f"{word}-images-idx3-ubyte").write_bytes(head + part.tobytes())
        head = np.array([2049, len(part)], dtype=">i4").tobytes()
        (folder / f"{word}-labels-idx1-ubyte").write_bytes(head + bytes(range(len(part))))
    return of(folder, MNIST), pixels


def write_cifar(root: Path, source: Source, labels: str, names: str) -> tuple[Source, dict[str, np.ndarray]]:
    """A small CIFAR: 2 images a file, pickled as Python 2 did."""
    folder = root / source.folder
    folder.mkdir(parents=True)
    meta = next(file for file in source.files if "meta" in file)
    rng = np.random.default_rng(0)
    pixels = {file: rng.integers(0, 256, (2, 3072), dtype=np.uint8) for file in source.files if file != meta}
    for file, data in pixels.items():
        (folder / file).write_bytes(pickle.dumps({"data": data, labels: [0, 1]}, protocol=2))
    (folder / meta).write_bytes(pickle.dumps({names: ["apple", "bear"]}, protocol=2))
    return of(folder, source), pixels


def test_mnist_files_are_read_as_torchvision_reads_them(ear, tmp_path: Path):
    from torchvision import datasets

    source, pixels = write_idx(tmp_path)
    data = load("mnist", source, ear, str(tmp_path), download=False)
    assert torch.equal(data.train.pixels[:, 0], datasets.MNIST(tmp_path, train=True).data)
    assert torch.equal(data.test.pixels[:, 0], datasets.MNIST(tmp_path, train=False).data)
    assert torch.equal(data.train.labels.all(), datasets.MNIST(tmp_path, train=True).targets)
    assert torch.equal(data.test.pixels[:, 0], torch.from_numpy(pixels[5:]))
    assert data.classes == tuple("0123456789")


@pytest.mark.parametrize(
    ("source", "labels", "names", "train", "test"),
    [
        (CIFAR10, "labels", "label_names", [f"data_batch_{i}" for i in range(1, 6)], "test_batch"),
        (CIFAR100, "fine_labels", "fine_label_names", ["train"], "test"),
    ],
    ids=["cifar10", "cifar100"],
)
def test_cifar_files_are_read_in_order(ear, tmp_path: Path, source, labels, names, train, test):
    source, pixels = write_cifar(tmp_path, source, labels, names)
    data = load("cifar", source, ear, str(tmp_path), download=False)
    wanted = np.concatenate([pixels[file] for file in train]).reshape(-1, 3, 32, 32)
    assert torch.equal(data.train.pixels, torch.from_numpy(wanted))
    assert torch.equal(data.test.pixels, torch.from_numpy(pixels[test].reshape(-1, 3, 32, 32)))
    assert data.train.labels.all().tolist() == [0, 1] * len(train)
    assert data.classes == ("apple", "bear")


def test_pickles_as_old_as_cifars_are_read_without_a_warning(ear, tmp_path: Path):
    """They rebuild dtype('u1', 0, 1), of which NumPy 2.4 warns; here warnings are errors."""
    source, pixels = write_cifar(tmp_path, CIFAR100, "fine_labels", "fine_label_names")
    folder = tmp_path / CIFAR100.folder
    aged = (folder / "train").read_bytes().replace(b"\x89\x88\x87", b"K\x00K\x01\x87")
    assert aged != (folder / "train").read_bytes()
    (folder / "train").write_bytes(aged)
    data = load("cifar100", of(folder, source), ear, str(tmp_path), download=False)
    assert torch.equal(data.train.pixels.flatten(1), torch.from_numpy(pixels["train"]))


@pytest.mark.parametrize("how", ["truncated", "flipped"])
@pytest.mark.parametrize("file", list(MNIST.files))
def test_a_file_that_is_not_genuine_is_named(ear, tmp_path: Path, file: str, how: str):
    source, _ = write_idx(tmp_path)
    path = tmp_path / MNIST.folder / file
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data[:-1] if how == "truncated" else data)
    with pytest.raises(UserError, match=rf"{file} is truncated or altered .*{MNIST.folder}"):
        load("mnist", source, ear, str(tmp_path), download=True)


def test_an_altered_pickle_is_refused_before_it_is_opened(ear, tmp_path: Path):
    source, _ = write_cifar(tmp_path, CIFAR100, "fine_labels", "fine_label_names")
    trap = b"cpathlib\nPosixPath\n(Vsprung\ntR."
    (tmp_path / CIFAR100.folder / "meta").write_bytes(trap)
    with pytest.raises(UserError, match="meta is truncated or altered"):
        load("cifar100", source, ear, str(tmp_path), download=False)


@pytest.mark.parametrize("source", [mnist, fashion_mnist, cifar10, cifar100])
def test_what_is_absent_and_may_not_be_downloaded_says_where_to_put_it(ear, tmp_path: Path, source):
    with pytest.raises(UserError, match=r"not on this machine and may not be downloaded") as error:
        source(ear, root=str(tmp_path / "none"), download=False)
    assert str(tmp_path / "none") in str(error.value)
    assert "set data.root" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "none").exists()


def fake_torchvision(monkeypatch: pytest.MonkeyPatch, **classes):
    fake = SimpleNamespace(datasets=SimpleNamespace(**classes))
    monkeypatch.setitem(sys.modules, "torchvision", fake)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "failure",
    [
        URLError("Name or service not known"),
        RuntimeError(
            "Error downloading train.gz:\nTried https://a.b, got:\n<urlopen error Name or service not known>\n"
        ),
        TimeoutError("Name or service not known"),
    ],
)
def test_offline_is_one_clear_line(ear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception):
    def unreachable(*_, **__):
        raise failure

    fake_torchvision(monkeypatch, CIFAR10=unreachable)
    with pytest.raises(
        UserError, match=r"CIFAR10 is not on this machine and could not be downloaded, .*service"
    ) as error:
        cifar10(ear, root=str(tmp_path))
    assert str(tmp_path / "cifar-10-batches-py") in str(error.value)
    assert "put data_batch_1, " in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_absent_is_downloaded_once(ear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    source, _ = write_idx(tmp_path / "elsewhere")
    calls = []

    def download(root: Path, download: bool):
        calls.append(root)
        print("a progress bar of theirs", file=sys.stderr)  # noqa: T201
        write_idx(root)

    fake_torchvision(monkeypatch, MNIST=download)
    for _ in range(2):
        assert len(load("mnist", source, ear, str(tmp_path / "data"), download=True).train) == 5
    assert calls == [tmp_path / "data"]
    assert ear.said == [f"downloading MNIST into {tmp_path / 'data' / 'MNIST' / 'raw'}, once"]
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not (REAL / MNIST.folder).is_dir(), reason="needs the real MNIST in KDAL_DATA")
@pytest.mark.parametrize(("source", "sums"), [(mnist, MNIST), (fashion_mnist, FASHION)])
def test_the_real_files_have_the_published_sums_and_statistics(ear, source, sums: Source):
    from kdal_cli.images.statistics import mean_std

    data = source(ear, root=str(REAL), download=False)
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert data.train.labels.all().bincount().min() > 5000
    mean, std = mean_std(data.train.pixels)
    assert mean == pytest.approx(sums.mean, abs=1e-4)
    assert std == pytest.approx(sums.std, abs=1e-4)
