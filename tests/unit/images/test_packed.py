"""Images in a pack: the same pixels in every run, by either decoder, in any order, in other processes and ahead."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdal_cli.dataset import Frame
from kdal_cli.devices.parcel import Lent, pack, unpack
from kdal_cli.errors import MachineError
from kdal_cli.images import packed
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.images.packed import Packed, encoded
from kdal_cli.images.pixels import open_pack, write_pack

N, SIDE = 37, 24


def pictures(channels: int) -> np.ndarray:
    """(N, c, SIDE, SIDE) uint8, smooth, as photographs are."""
    coarse = torch.rand(N, channels, 4, 4, generator=torch.Generator().manual_seed(0))
    return (255 * torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").clamp(0, 1)).byte().numpy()


def written(folder: Path, channels: int = 3) -> Packed:
    """The pictures as a pack."""
    seal, places = write_pack(folder / "train.jpegs", (encoded(picture, 95) for picture in pictures(channels)))
    assert seal.size == (folder / "train.jpegs").stat().st_size
    table = np.concatenate([np.full((N, 2), SIDE), places], 1)
    return open_pack(folder / "train.jpegs", table, (channels, SIDE, SIDE))


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_read_is_what_pillow_decodes_whatever_is_asked_for(tmp_path: Path, channels: int) -> None:
    images = written(tmp_path, channels)
    blobs = [encoded(picture, 95) for picture in pictures(channels)]
    rows = [np.asarray(Image.open(io.BytesIO(blob))).reshape(SIDE, SIDE, channels) for blob in blobs]
    every = torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2)
    assert images.shape == every.shape
    ids = torch.tensor([36, 0, 7, 7, 3])
    assert torch.equal(images[:], every)
    assert torch.equal(images[ids], every[ids])
    assert torch.equal(images[5::9], every[5::9])
    assert torch.equal(images[N - 1], every[-1])
    assert torch.equal(images.copied(ids).copied(torch.tensor([1, 4]))[:], every[[0, 3]])
    assert len(images[ids[:0]]) == 0
    with torch.inference_mode():
        assert torch.equal(images[ids], every[ids])
    assert (every.int() - torch.from_numpy(pictures(channels)).int()).abs().float().mean() < 2


@pytest.mark.parametrize("channels", [1, 3])
def test_both_decoders_see_the_same(channels: int) -> None:
    torchcodec = pytest.importorskip("torchcodec.decoders")
    for picture in pictures(channels):
        data = torch.frombuffer(bytearray(encoded(picture, 90)), dtype=torch.uint8)
        theirs = torchcodec.decode_jpeg(data, mode="GRAY" if channels == 1 else "RGB")
        assert torch.equal(packed._by_pillow(data, channels), theirs)


def test_what_is_expected_is_what_comes_and_nothing_else_is_given_for_it(tmp_path: Path) -> None:
    images = written(tmp_path)
    expected = images[:]
    images.expect(torch.tensor([3, 4]))
    assert torch.equal(images[torch.tensor([4, 3])], expected[[4, 3]])
    images.expect(torch.tensor([3, 4]))
    assert torch.equal(images[torch.tensor([3, 4])], expected[[3, 4]])


def test_views_of_a_pack_are_those_of_its_pixels_here_and_in_another_process(tmp_path: Path) -> None:
    images = written(tmp_path)
    frame, augment = Frame(torch.tensor([[30, 20]]).expand(N, 2), 16, 0.875), Augment(kind="photo", views=4)
    ids, views = torch.tensor([5, 36, 5]), torch.tensor([3, 0, 1])
    plain = Resident(images[:], augment, frame=frame)
    lazy = Resident(images, augment, frame=frame)
    sent = unpack(pack(lazy, Lent()))
    for each in (lazy, sent):
        assert not each.resident
        assert torch.equal(each.at(ids, views), plain.at(ids, views))
        assert torch.equal(each.whole(ids), plain.whole(ids))


def test_one_wrong_byte_is_noticed_when_its_image_is_read_and_in_no_other(tmp_path: Path) -> None:
    images = written(tmp_path)
    place = int(images.ends[4]) + 200
    data = bytearray((tmp_path / "train.jpegs").read_bytes())
    data[place] ^= 1
    (tmp_path / "train.jpegs").write_bytes(data)  # and so what is mapped
    assert images[torch.arange(5)].shape == (5, 3, SIDE, SIDE)
    with pytest.raises(MachineError, match=r"^kept image 5 is not what was written there: kdal store --clear images"):
        images[torch.arange(6)]
    with pytest.raises(IndexError, match="there are 37 images"):
        images[N]


def test_a_table_that_does_not_fit_its_pack_is_refused(tmp_path: Path) -> None:
    images = written(tmp_path)
    table = np.stack([images.ends, images.ends, images.ends, images.checks], 1)
    for wrong in (table[:-1], table[::-1]):
        with pytest.raises(ValueError, match="jpegs"):
            open_pack(tmp_path / "train.jpegs", wrong, (3, SIDE, SIDE))
