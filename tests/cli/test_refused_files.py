"""Data and checkpoints that cannot be used: the file is named, exit code 2, nothing is bought and no folder left."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.harness import Kdal
from PIL import Image
from safetensors.torch import load_file
from thinning import some
from torch import nn

from kdal_cli.models.mlp import mlp
from kdal_cli.records import checkpoint

PROBABILITIES = """
from torch import nn

def probabilities(shape):
    pixels = shape.channels * shape.height * shape.width
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, shape.classes), nn.Softmax(1))
"""


@pytest.fixture
def weights(kdal: Kdal, here: Path) -> Path:
    """A checkpoint of ours: an mlp on blobs, four classes."""
    assert kdal("train-teacher", "experiment=smoke", "recipe.steps=2", "hydra.run.dir=teacher").code == 0
    return here / "teacher" / "checkpoints" / "teacher.safetensors"


@pytest.fixture
def refused(kdal: Kdal, here: Path):
    """refused(words) is what the one line on stderr says; exit code 2, and no run folder is left."""

    def refused(*words: str) -> str:
        before = set(here.glob("outputs/[!st]*/*"))
        ended = kdal(*words)
        assert ended.code == 2, ended.err
        assert set(here.glob("outputs/[!st]*/*")) == before
        return ended.refusal

    return refused


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def replaced_by_text(path: Path) -> None:
    path.write_text("not weights at all\n" * 100)


DAMAGE: list[Callable[[Path], None]] = [truncated, flipped, emptied, replaced_by_text]


class TestCheckpoints:
    @pytest.mark.parametrize("damage", DAMAGE)
    @pytest.mark.parametrize("stage", some(["evaluate", "al-loop"]))
    def test_a_damaged_one_is_named(self, refused, weights: Path, stage: str, damage):
        damage(weights)
        key = "checkpoint" if stage == "evaluate" else "teacher.checkpoint"
        assert str(weights) in refused(stage, "experiment=smoke", f"{key}={weights}")

    def test_one_of_another_architecture_is_told_with_both(self, refused, weights: Path):
        refusal = refused("evaluate", "experiment=smoke", "student=small_cnn", f"checkpoint={weights}")
        assert "mlp" in refusal
        assert "small_cnn" in refusal
        assert str(weights) in refusal

    def test_one_with_other_arguments_of_the_same_architecture_is_told(self, refused, weights: Path):
        refusal = refused("evaluate", "experiment=smoke", "student=mlp", "student.hidden=[64]", f"checkpoint={weights}")
        assert "[128]" in refusal
        assert "[64]" in refusal

    @pytest.mark.parametrize("data", [["data.classes=5"], ["data=digits"]])
    def test_one_of_another_number_of_classes_is_told_with_both(self, refused, weights: Path, data: list[str]):
        refusal = refused("evaluate", "experiment=smoke", *data, f"checkpoint={weights}")
        assert "4 classes" in refusal
        assert f"{10 if 'data=digits' in data else 5} classes" in refusal

    def test_one_for_images_of_another_size_is_told(self, refused, weights: Path):
        refusal = refused("evaluate", "experiment=smoke", "data.size=16", f"checkpoint={weights}")
        assert "1×8×8" in refusal
        assert "1×16×16" in refusal

    @pytest.mark.parametrize("name", some(["nowhere", "nowhere.pt", "nowhere.safetensors", "outputs"]))
    @pytest.mark.parametrize("key", ["evaluate checkpoint", "distill teacher.checkpoint"])
    def test_a_missing_one_is_named(self, refused, here: Path, key: str, name: str):
        (here / "outputs").mkdir()
        stage, key = key.split()
        assert name in refused(stage, "experiment=smoke", f"{key}={name}")

    def test_weights_from_elsewhere_that_do_not_fit_are_told_by_tensor(self, refused, here: Path, weights: Path):
        state = load_file(weights)
        state["fc.weight"] = torch.zeros(7, 128)
        torch.save(state, here / "wide.pt")
        refusal = refused("evaluate", "experiment=smoke", "student=mlp", "checkpoint=wide.pt")
        assert "fc.weight" in refusal
        assert "7×128" in refusal

    def test_weights_from_elsewhere_that_lack_a_tensor_are_not_loaded_in_part(self, refused, here: Path, weights: Path):
        state = load_file(weights)
        del state["fc.bias"]
        torch.save(state, here / "part.pt")
        assert "fc.bias" in refused("evaluate", "experiment=smoke", "student=mlp", "checkpoint=part.pt")

    def test_weights_that_are_not_numbers_are_told(self, refused, here: Path, weights: Path):
        state = load_file(weights)
        state["fc.bias"][1] = float("nan")
        torch.save(state, here / "nan.pt")
        assert "fc.bias" in refused("evaluate", "experiment=smoke", "checkpoint=nan.pt")

    def test_a_giant_card_is_refused_and_a_wrong_path_before_the_data_are_read(
        self, refused, here: Path, weights: Path
    ):
        saved = checkpoint.read(weights)
        assert saved.card is not None
        body = mlp(saved.card.shape, hidden=(128,))
        checkpoint.write(
            here / "giant.safetensors", body, replace(saved.card, model={"name": "mlp", "hidden": [10**9]})
        )
        unread = ("data=npz", "data.path=nowhere.npz")
        assert "far larger network" in refused("evaluate", *unread, "checkpoint=giant.safetensors")
        assert "gone.pth" in refused("evaluate", *unread, "student=mlp", "checkpoint=gone.pth")
        assert "gone.pth" in refused("al-loop", *unread, "teacher.checkpoint=gone.pth")
        assert "nowhere.npz" in refused("evaluate", *unread, f"checkpoint={weights}")

    def test_pickled_code_is_not_run(self, refused, here: Path):
        (here / "evil.pt").write_bytes(pickle.dumps(Touch()))
        assert "evil.pt" in refused("evaluate", "experiment=smoke", "checkpoint=evil.pt")
        assert not (here / "owned").exists()

    def test_a_whole_pickled_model_is_not_a_state_dict(self, refused, here: Path):
        torch.save(nn.Linear(2, 2), here / "model.pt")
        assert "model.pt" in refused("evaluate", "experiment=smoke", "checkpoint=model.pt")

    @pytest.mark.parametrize("stage", ["distill", "al-loop"])
    def test_a_teacher_that_answers_probabilities_is_told_before_anything_is_bought(
        self, refused, here: Path, stage: str
    ):
        (here / "soft.py").write_text(PROBABILITIES)
        body = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Softmax(1))
        torch.save(body.state_dict(), here / "soft.pt")
        words = (
            "teacher=custom",
            "teacher.model.name=soft:probabilities",
            "trust=[soft]",
            "teacher.checkpoint=soft.pt",
        )
        refusal = refused(stage, "experiment=smoke", *words)
        assert "probabilities" in refusal
        assert "soft.pt" in refusal


class Touch:
    """Unpickled, it makes a file."""

    def __reduce__(self) -> tuple:
        return Path.touch, (Path("owned"),)


class TestData:
    @pytest.fixture
    def photos(self, here: Path) -> Path:
        """20 + 4 images of cats and as many of dogs, 12 × 10, dark and bright."""
        rng = np.random.default_rng(0)
        for split, images in (("train", 20), ("test", 4)):
            for brightness, kind in enumerate(("cats", "dogs")):
                (here / "photos" / split / kind).mkdir(parents=True)
                for number in range(images):
                    pixels = rng.integers(100 * brightness, 100 * brightness + 100, (10, 12, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(here / "photos" / split / kind / f"{number:02d}.png")
        return here / "photos"

    @pytest.fixture
    def words(self, photos: Path) -> list[str]:
        small = ["data.size=8", "data.split.validation=8", "budget.initial=4", "budget=4"]
        return ["al-loop", "experiment=smoke", "data=image_folder", f"data.root={photos}", *small]

    def test_a_folder_of_images_is_learnt(self, kdal: Kdal, words: list[str]):
        run = kdal(*words).run
        assert {row["class"] for row in run.table("ledger.csv")} == {"cats", "dogs"}
        assert all((kdal.here / "photos" / row["path"]).is_file() for row in run.table("ledger.csv"))

    def test_an_image_that_cannot_be_read_is_named_before_anything_is_bought(self, refused, photos: Path, words):
        (photos / "train" / "dogs" / "07.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing else")
        assert "train/dogs/07.png" in refused(*words)

    def test_all_of_them_are_named(self, refused, photos: Path, words):
        broken = ["train/cats/03.png", "train/dogs/07.png", "test/dogs/01.png"]
        for name in broken:
            truncated_image = (photos / name).read_bytes()[:60]
            (photos / name).write_bytes(truncated_image)
        refusal = refused(*words)
        assert all(name in refusal for name in broken)

    def test_on_request_it_is_left_out_and_the_rest_is_learnt(self, kdal: Kdal, photos: Path, words):
        (photos / "train" / "dogs" / "07.png").write_bytes(b"")
        ended = kdal(*words, "data.on_broken=skip")
        assert (ended.code, ended.err) == (0, "")
        assert "train/dogs/07.png" in ended.out
        assert "31 in the pool" in ended.out

    def test_labels_are_never_bought_out_of_a_folder_of_validation_images(self, kdal: Kdal, photos: Path, words):
        (photos / "val").mkdir()
        for kind in ("cats", "dogs"):
            (photos / "val" / kind).mkdir()
            for number in range(5):
                (photos / "train" / kind / f"{number:02d}.png").rename(photos / "val" / kind / f"{number:02d}.png")
        ended = kdal(*words)
        assert "the 10 images of val/ are the validation set; data.split.validation is not used" in ended.out
        assert "30 in the pool, 10 for validation" in ended.out
        bought = {(row["path"].split("/")[0], row["purpose"]) for row in ended.run.table("ledger.csv")}
        assert bought == {("train", "train"), ("val", "validation")}

    def test_links_are_refused_with_the_keys_that_follow_them(self, kdal: Kdal, refused, photos: Path, words):
        (photos / "train" / "dogs").rename(photos.parent / "dogs")
        (photos / "train" / "dogs").symlink_to(photos.parent / "dogs")
        refusal = refused(*words)
        keys = refusal.split("or set ")[1].split()
        assert [key.split("=")[0] for key in keys] == ["data.links", "data.roots"]
        assert "32 in the pool" in kdal(*words, *keys).out

    def test_training_images_that_all_turn_out_black_are_refused_for_that(self, refused, photos: Path, words):
        for number, path in enumerate(sorted(photos.rglob("*.png"))):
            Image.new("RGBA", (9, 9), (0, 0, 0, number)).save(path)
        refusal = refused(*words, "data.background=black")
        assert refusal.startswith("the 40 training images are all the same: every pixel is 0")
        assert "data.background" in refusal

    @pytest.mark.parametrize("root", ["nowhere", "photos/train/cats/00.png", "empty"])
    def test_a_folder_that_is_not_one_is_named(self, refused, photos: Path, words, root: str):
        (photos.parent / "empty").mkdir()
        assert root in refused(*words, f"data.root={root}")

    def test_a_missing_archive_is_named(self, refused):
        assert "nowhere.npz" in refused("al-loop", "experiment=smoke", "data=npz", "data.path=nowhere.npz")

    def test_an_archive_with_labels_out_of_range_is_told_by_row(self, refused, here: Path):
        images, labels = np.zeros((40, 4, 4), np.uint8), np.arange(40) % 2
        labels[17] = -3
        images[:, 0, 0] = np.arange(40)
        np.savez(here / "a.npz", x_train=images, y_train=labels, x_test=images[:9] + 100, y_test=np.arange(9) % 2)
        refusal = refused("al-loop", "experiment=smoke", "data=npz", "data.path=a.npz", "data.split.validation=8")
        assert "row 17" in refusal
        assert "a.npz" in refusal

    def test_a_data_set_that_must_be_downloaded_and_may_not_be_is_told(self, refused):
        refusal = refused("al-loop", "data=mnist", "data.root=nowhere", "data.download=false")
        assert "nowhere" in refusal

    def test_more_validation_images_than_there_are_is_told_with_what_there_is(self, refused):
        refusal = refused("al-loop", "experiment=smoke", "data.split.validation=512")
        assert "512" in refusal


def test_a_teacher_that_is_refused_leaves_the_store_as_it_was(kdal: Kdal, here: Path, weights: Path):
    store = {path: path.read_bytes() for path in here.glob("outputs/teachers/*/*.safetensors")}
    flipped(weights)
    assert kdal("distill", "experiment=smoke", f"teacher.checkpoint={weights}").code == 2
    assert {path: path.read_bytes() for path in here.glob("outputs/teachers/*/*.safetensors")} == store
    assert json.loads(weights.with_suffix(".json").read_text())["role"] == "teacher"
