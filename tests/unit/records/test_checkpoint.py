"""Weights that say what they are: whatever is wrong with a file is told in one line, and never loaded in part."""

import io
import json
import os
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.models.mlp import mlp
from kdal_cli.models.resnet import resnet
from kdal_cli.records import checkpoint
from kdal_cli.records.card import Card
from kdal_cli.records.files import hold

SHAPE = Shape(1, 3, 3, 2)
CARD = Card(
    role="student",
    model={"name": "mlp", "hidden": [4], "dropout": 0.0},
    shape=SHAPE,
    classes=("cat", "dög, or =so"),
    mean=(0.25,),
    std=(0.125,),
    data="blobs",
    trained_on={"data": "blobs", "labels": 7},
    metrics={"accuracy": 0.75},
)


def small(classes: int = 2, hidden: tuple[int, ...] = (4,), seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return mlp(Shape(1, 3, 3, classes), hidden=hidden)


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    path = tmp_path / "student.safetensors"
    checkpoint.write(path, small(), CARD)
    return path


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.pt"
    torch.save(small().state_dict(), path)
    return path


# There and back.


def test_weights_and_card_come_back_as_they_were(ours: Path) -> None:
    saved, body = checkpoint.read(ours), small(seed=1)
    saved.load_into(body, "mlp")
    assert saved.card == CARD
    assert same(body.state_dict(), small().state_dict())


def test_so_they_do_from_a_net_in_channels_last_with_batch_norm_and_counters(tmp_path: Path) -> None:
    def net(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return resnet(Shape(3, 8, 8, 5), depth=8, widths=(8, 8, 12, 16))

    with torch.random.fork_rng():
        body, other = net(0).to(memory_format=torch.channels_last), net(1)
    body(torch.rand(4, 3, 8, 8))
    checkpoint.write(tmp_path / "a.safetensors", body, CARD)
    checkpoint.read(tmp_path / "a.safetensors").load_into(other, "resnet")
    assert same(other.state_dict(), body.state_dict())
    assert other.state_dict()["bn1.num_batches_tracked"] == 1


def test_the_same_weights_are_the_same_bytes(ours: Path, tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "again.safetensors", small(), CARD)
    assert (tmp_path / "again.safetensors").read_bytes() == ours.read_bytes()


def test_the_card_lies_beside_it_for_people(ours: Path) -> None:
    beside = json.loads(ours.with_suffix(".json").read_text())
    assert beside["classes"] == ["cat", "dög, or =so"]
    assert beside["model"] == CARD.model
    assert len(beside["sha256"]) == 64


def test_writing_replaces_the_file_as_a_whole(ours: Path) -> None:
    with ours.open("rb") as before:
        checkpoint.write(ours, small(seed=5), CARD)
        old = before.read()
    assert old != ours.read_bytes()
    assert sorted(path.name for path in ours.parent.iterdir()) == ["student.json", "student.safetensors"]


# Damage.


def test_truncated_at_any_length_it_is_refused_by_name(ours: Path) -> None:
    whole = ours.read_bytes()
    for length in [*range(0, len(whole), 17), 7, 8, 9, len(whole) - 1]:
        ours.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"student\.safetensors"):
            checkpoint.read(ours)


def test_with_any_bit_flipped_it_is_refused_in_the_card_as_in_the_weights(ours: Path) -> None:
    """A flipped digit of the normalisation would spoil every answer without a sound."""
    whole = ours.read_bytes()
    got_through = []
    for bit in range(0, 8 * len(whole), 11):
        byte, mask = divmod(bit, 8)
        ours.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1 << mask]) + whole[byte + 1 :])
        try:
            checkpoint.read(ours)
            end = "accepted"
        except UserError:
            continue
        except Exception as error:
            end = type(error).__name__
        got_through.append(f"{end}: byte {byte}, bit {mask} in {whole[max(0, byte - 12) : byte + 12]!r}")
    assert got_through == []


def test_bytes_behind_the_end_are_refused(ours: Path) -> None:
    ours.write_bytes(ours.read_bytes() + b"\0" * 8)
    with pytest.raises(UserError, match=r"student\.safetensors"):
        checkpoint.read(ours)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_by_the_name_of_their_tensor(ours: Path, theirs: Path, value) -> None:
    body = small()
    body.fc.weight.data[1, 2] = value
    checkpoint.write(ours, body, CARD)
    torch.save(body.state_dict(), theirs)
    for path in (ours, theirs):
        with pytest.raises(UserError, match=r"not finite, in fc\.weight"):
            checkpoint.read(path)


# Another architecture.


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (small(classes=3), "fc.weight is 2×4, not 3×4, fc.bias is 2, not 3 .*the file has 4 tensors, "),
        (small(hidden=(5,)), "layer1.linear.weight is 4×9, not 5×9"),
        (small(hidden=(4, 4)), r"it lacks layer2 \(2 tensors\) \("),
        (small(hidden=()), r"it has besides layer1 \(2 tensors\) \("),
        (
            resnet(Shape(1, 8, 8, 2), depth=8),
            r"it lacks conv1, bn1 \(4 tensors\), layer1\.0 \(10 tensors\), … and has besides layer1\.linear",
        ),
    ],
    ids=["classes", "width", "deeper", "shallower", "family"],
)
def test_weights_of_another_net_are_refused_saying_what_differs_and_none_is_loaded(
    ours: Path, body: nn.Module, words: str
) -> None:
    before = {name: tensor.clone() for name, tensor in body.state_dict().items()}
    with pytest.raises(UserError, match=f"checkpoint is not one of mlp 4: {words}"):
        checkpoint.read(ours).load_into(body, "mlp 4")
    assert same(body.state_dict(), before)


# From elsewhere.


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "net", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_from_elsewhere_are_found_behind_the_usual_wrappers(theirs: Path, wrapper: str, prefix: str) -> None:
    weights = {prefix + name: tensor for name, tensor in small().state_dict().items()}
    torch.save({wrapper: weights, "epoch": 240, "best_acc": 0.7} if wrapper else weights, theirs)
    saved, body = checkpoint.read(theirs), small(seed=1)
    saved.load_into(body, "mlp")
    assert saved.card is None
    assert same(body.state_dict(), small().state_dict())


def test_safetensors_from_elsewhere_have_no_card(tmp_path: Path) -> None:
    save_file(small().state_dict(), tmp_path / "x.safetensors")
    saved = checkpoint.read(tmp_path / "x.safetensors")
    assert saved.card is None
    assert same(saved.weights, small().state_dict())


class Bomb:
    """Unpickled, it runs a command."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, suffix: str, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, sign = tmp_path / f"bomb{suffix}", tmp_path / "exploded"
    torch.save({"fc.weight": torch.zeros(1), "extra": Bomb(sign)}, path)
    with pytest.raises(UserError, match=rf"calls posix.system.*bomb\{suffix}.*save model.state_dict"):
        checkpoint.read(path)
    assert not sign.exists()


def test_a_whole_pickled_module_is_refused(theirs: Path) -> None:
    torch.save(small(), theirs)
    with pytest.raises(UserError, match="it holds a whole object, not its state dict"):
        checkpoint.read(theirs)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(3), {"state_dict": {"a": 1.5}}], ids=str)
def test_a_file_without_a_state_dict_is_refused(theirs: Path, content: object) -> None:
    torch.save(content, theirs)
    with pytest.raises(UserError, match="it holds no state dict"):
        checkpoint.read(theirs)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_damaged_file_from_elsewhere_is_read_or_refused_and_nothing_else(theirs: Path, zipped: bool) -> None:
    torch.save(small().state_dict(), theirs, _use_new_zipfile_serialization=zipped)
    whole = theirs.read_bytes()
    lengths = range(0, len(whole), 97)
    flips = range(0, 8 * len(whole), 149)
    damaged = [whole[:n] for n in lengths]
    damaged += [whole[: b // 8] + bytes([whole[b // 8] ^ 1 << b % 8]) + whole[b // 8 + 1 :] for b in flips]
    for data in [*damaged, b"", b"hello", b"PK\3\4" + b"\0" * 60, b"\x80\x02}q\0.", b"\x80\x05]\x94."]:
        theirs.write_bytes(data)
        with suppress(UserError):
            checkpoint.read(theirs)


def test_a_file_that_swells_on_reading_is_refused(tmp_path: Path) -> None:
    """64 MiB of zeros deflate to 64 KiB; torch.save never deflates, and torch.load would unfold it."""
    plain, path = io.BytesIO(), tmp_path / "bomb.pt"
    torch.save({"fc.weight": torch.zeros(2**24)}, plain)
    with zipfile.ZipFile(plain) as stored, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as deflated:
        for name in stored.namelist():
            deflated.writestr(name, stored.read(name))
    assert path.stat().st_size < 2**18
    with pytest.raises(UserError, match=r"bomb\.pt"):
        checkpoint.read(path)


# Where it is.


def test_a_run_folder_stands_for_what_it_ended_with(tmp_path: Path) -> None:
    folder = hold(tmp_path) / "checkpoints"
    for n, name in enumerate(["round_000", "round_009", "round_010"]):
        checkpoint.write(folder / f"{name}.safetensors", small(seed=n), CARD)
    assert checkpoint.find(tmp_path).name == checkpoint.find(folder).name == "round_010.safetensors"
    checkpoint.write(folder / "student_alone.safetensors", small(), CARD)
    checkpoint.write(folder / "student.safetensors", small(), CARD)
    assert checkpoint.find(tmp_path).name == "student.safetensors"


def test_a_folder_with_nothing_in_it_and_a_file_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint in this folder"):
        checkpoint.read(tmp_path)
    with pytest.raises(UserError, match="no such checkpoint"):
        checkpoint.read(tmp_path / "x.safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_what_is_no_file_of_weights_is_told_in_one_line(tmp_path: Path, suffix: str) -> None:
    pipe, empty, text = (tmp_path / f"{name}{suffix}" for name in ("pipe", "empty", "text"))
    os.mkfifo(pipe)
    empty.write_bytes(b"")
    text.write_text("<!DOCTYPE html>\n" * 9)
    (tmp_path / f"folder{suffix}").mkdir()
    for path, words in [
        (pipe, "is neither a file nor a folder"),
        (Path("/dev/zero"), "is neither a file nor a folder"),
        (empty, "is empty"),
        (text, "is neither safetensors nor a file of torch.save"),
        (tmp_path / f"folder{suffix}", "no checkpoint in this folder"),
        (tmp_path / f"link{suffix}", "no such checkpoint"),
    ]:
        with pytest.raises(UserError, match=words):
            checkpoint.read(path)


@pytest.mark.parametrize("beside", ["{}", '{"classes": ["x", "y"]}', "not JSON"])
def test_the_json_beside_is_never_read(ours: Path, beside: str) -> None:
    ours.with_suffix(".json").write_text(beside)
    assert checkpoint.read(ours).card == CARD


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": ("cat",)}, "says of itself what cannot be: its classes"),
        ({"shape": Shape(1, 3, -3, 2)}, "says of itself what cannot be: its shape"),
        ({"mean": (float("nan"),)}, "says of itself what cannot be: its mean"),
        ({"model": {"name": "mlp", "hidden": [1] * 10**5}}, "says of itself what cannot be: its model"),
        ({"model": {"name": "\x1b[31m"}}, "says of itself what cannot be: its model"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_card_that_cannot_be_is_refused_though_its_checksum_is_right(tmp_path: Path, changes, words: str) -> None:
    checkpoint.write(tmp_path / "x.safetensors", small(), replace(CARD, **changes))
    with pytest.raises(UserError, match=words):
        checkpoint.read(tmp_path / "x.safetensors")


def test_of_a_folder_of_runs_the_newest_is_meant(tmp_path: Path) -> None:
    for n, run in enumerate(["b", "a", "c"]):
        checkpoint.write(hold(tmp_path) / run / "checkpoints" / "student.safetensors", small(seed=n), CARD)
    for age, run in enumerate(["a", "b", "c"]):
        os.utime(tmp_path / run, (1e9 - age, 1e9 - age))
    assert checkpoint.find(tmp_path) == tmp_path / "a" / "checkpoints" / "student.safetensors"
