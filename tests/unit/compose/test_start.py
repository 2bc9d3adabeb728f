"""Keys beside an architecture: weights to start from, and what is done to pixels."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kdal_cli.compose import parts, start
from kdal_cli.dataset import Preprocessing, Shape
from kdal_cli.errors import UserError
from kdal_cli.lab.lab import Lab
from kdal_cli.models.small_cnn import small_cnn
from kdal_cli.network import Network
from kdal_cli.records import checkpoint
from kdal_cli.records.card import Card

SHAPE = Shape(3, 16, 16, 4)
SECTION = {"name": "small_cnn", "width": 4}


def body(classes: int = 4, width: int = 4) -> nn.Module:
    return small_cnn(Shape(3, 16, 16, classes), width=width)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save({"state_dict": {f"module.{n}": t for n, t in body(7).state_dict().items()}}, tmp_path / "w.pth")
    return tmp_path / "w.pth"


def run_of_ours(path: Path, classes: tuple[str, ...]) -> Path:
    card = Card("student", SECTION, SHAPE, classes, (0.1, 0.2, 0.3), (0.5, 0.5, 0.5), "photos", {})
    (path / "checkpoints").mkdir(parents=True)
    checkpoint.write(path / "checkpoints" / "student.safetensors", body(len(classes)), card)
    return path


def test_keys_are_no_arguments_of_the_architecture() -> None:
    keys = {"weights": None, "mean": None, "std": None, "resize": None}
    assert start.split({**SECTION, **keys}, "student") == (SECTION, start.Wanted())
    blueprint = parts.blueprint({**SECTION, **keys}, SHAPE, [], "student")
    assert blueprint.spec == SECTION
    assert blueprint.identity == {"model": SECTION}
    assert blueprint.told("the student") == []


def test_a_body_comes_from_a_file_with_a_head_that_is_drawn_anew(weights: Path) -> None:
    blueprint = parts.blueprint({**SECTION, "weights": str(weights)}, SHAPE, [], "student")
    theirs = torch.load(weights)["state_dict"]
    assert blueprint.start is not None
    one, two = blueprint.make(), blueprint.make()
    for each in (one, two):
        blueprint.start.into(each)
    head = start.head_of(one)
    for name, tensor in one.state_dict().items():
        if not name.startswith(head):
            assert torch.equal(tensor, theirs[f"module.{name}"])
    assert not torch.equal(one.get_parameter(f"{head}.weight"), two.get_parameter(f"{head}.weight"))
    drawn = one.get_parameter(f"{head}.weight").detach()
    assert float(drawn.abs().max()) <= drawn.shape[1] ** -0.5
    (line,) = blueprint.told("the student")
    assert line.startswith(f"the student starts from {weights}: ")
    assert f"new: {head}; left out: {head} (2 tensors)" in line


def test_the_same_weights_make_the_same_hash_wherever_they_lie(weights: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere.safetensors"
    save_file(torch.load(weights)["state_dict"], other)
    sections = ({**SECTION, "weights": str(path)} for path in (weights, other))
    one, two = (parts.blueprint(section, SHAPE, [], "s").identity for section in sections)
    assert one == two
    assert one != parts.blueprint(SECTION, SHAPE, [], "s").identity


def test_a_run_of_ours_brings_its_mean_and_std_and_its_head_for_the_same_classes(tmp_path: Path) -> None:
    run = run_of_ours(tmp_path / "run", ("a", "b", "c", "d"))
    same = parts.blueprint({**SECTION, "weights": str(run)}, SHAPE, [], "s", classes=("a", "b", "c", "d"))
    other = parts.blueprint({**SECTION, "weights": str(run)}, SHAPE, [], "s", classes=("a", "b", "c", "e"))
    assert same.start is not None
    assert other.start is not None
    assert len(same.start.weights) == len(other.start.weights) + 2
    assert same.preprocessing == Preprocessing((0.1, 0.2, 0.3), (0.5, 0.5, 0.5), made_for=(16, 16))


def test_what_is_asked_for_beats_what_the_weights_bring(tmp_path: Path) -> None:
    run = run_of_ours(tmp_path / "run", ("a", "b", "c", "d"))
    section = {**SECTION, "weights": str(run), "mean": [0, 0, 0], "std": [1, 1, 1], "resize": 24}
    rule = parts.blueprint(section, SHAPE, [], "s").preprocessing
    assert rule == Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), size=(24, 24), made_for=(16, 16))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mean": [0.5]}, "s.mean=.0.5.: 3 numbers, one a channel"),
        ({"mean": [0.5, 0.5, 0.5]}, "belong together"),
        ({"std": [0, 1, 1]}, "above 0"),
        ({"resize": 0}, "at least 1"),
        ({"resize": 24}, r"s\.resize=24 without a mean and a std: set s\.mean and \.std"),
        ({"weights": "imagenet"}, "small_cnn has no published weights"),
        ({"weights": "/nowhere/w.pth"}, "there is no such file"),
        ({"weights": 5}, "accepted: none, imagenet or a path"),
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parts.blueprint({**SECTION, **wrong}, SHAPE, [], "s")


def test_published_weights_are_fetched_only_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    section = {"name": "torchvision", "arch": "resnet18", "weights": "imagenet"}
    for asked in (section, {"name": "torchvision", "arch": "resnet18", "pretrained": True}):
        with pytest.raises(UserError, match=r"not on this machine: download=true fetches them; or s\.weights=FILE"):
            parts.blueprint(asked, SHAPE, [], "s")


def test_weights_of_another_network_are_refused_before_the_images_are_known(weights: Path, tmp_path: Path) -> None:
    from kdal_cli.compose.early import refuse_early

    refuse_early({"student": {**SECTION, "weights": str(weights)}}, [])
    with pytest.raises(UserError, match=r"stage1\.bn\.weight is 4, not 8"):
        refuse_early({"student": {**SECTION, "width": 8, "weights": str(weights)}}, [])
    with pytest.raises(UserError, match="it lacks"):
        refuse_early({"student": {"name": "resnet", "depth": 8, "weights": str(weights)}}, [])


def test_a_folder_of_timm_is_for_the_architecture_it_names(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architecture": "resnet18.a1_in1k"}')
    with pytest.raises(UserError, match=r"these weights are of resnet18\.a1_in1k .*: s\.arch=resnet18"):
        start.read(tmp_path, {"name": "timm", "arch": "resnet50"}, "s")


def test_a_checkpoint_has_its_start_already(tmp_path: Path) -> None:
    saved = checkpoint.read(run_of_ours(tmp_path / "run", ("a", "b", "c", "d")))
    assert start.for_checkpoint({"weights": None, "mean": None}, saved, "student") == SECTION
    with pytest.raises(UserError, match="a checkpoint has that already"):
        start.for_checkpoint({"mean": [1, 1, 1]}, saved, "student")


def test_a_network_starts_there_and_a_checkpoint_keeps_what_it_does_to_pixels(weights: Path, bench, images) -> None:
    lab: Lab = bench()
    section = {"name": "mlp", "hidden": [4], "mean": [0.25], "std": [0.5], "resize": 9}
    blueprint = parts.blueprint(section, images.shape, [], "student", classes=images.classes)
    network = lab.network(blueprint, 0)
    assert network.size == (9, 9)
    card = lab.card("student", blueprint, {}, {})
    assert (card.mean, card.std, card.size) == ((0.25,), (0.5,), (9, 9))
    path = lab.run.checkpoints / "student.safetensors"
    checkpoint.write(path, network.body, card)
    saved = checkpoint.read(path)
    again = lab.restore(parts.blueprint(dict(card.model), saved.card.inner, [], "student", saved), saved)  # type: ignore[union-attr]
    some = lab.train.whole(torch.arange(3))
    assert torch.equal(again.eval()(some).logits, network.eval()(some).logits)
    assert isinstance(again, Network)


def test_a_teacher_of_larger_images_sees_the_same_view_at_its_own_size(bench, images, tmp_path: Path) -> None:
    lab: Lab = bench()
    section, shape = {"name": "mlp", "hidden": [4]}, replace(images.shape, height=9, width=9)
    blueprint = parts.blueprint(section, shape, [], "teacher.model")
    card = replace(lab.card("teacher", blueprint, {}, {}), shape=shape, mean=(0.25,), std=(0.5,))
    checkpoint.write(tmp_path / "teacher.safetensors", blueprint.make(), card)
    saved = checkpoint.read(tmp_path / "teacher.safetensors")
    with pytest.raises(UserError, match="takes images of 1×9×9"):
        lab.restore(blueprint, saved)
    network = lab.restore(blueprint, saved, other_size=True).eval()
    some = lab.train.whole(torch.arange(3))
    larger = torch.nn.functional.interpolate(some.float(), (9, 9), mode="bilinear", antialias=True)
    assert torch.allclose(network(some).logits, network.body((larger - 0.25 * 255) / (0.5 * 255)))


def pruned_run(path: Path, classes: tuple[str, ...] = ("a", "b", "c", "d")) -> Path:
    """A checkpoint of the architecture of SECTION with half of its channels."""
    card = Card("student", {**SECTION, "pruned": True}, SHAPE, classes, (0.1,) * 3, (0.5,) * 3, "photos", {})
    (path / "checkpoints").mkdir(parents=True)
    checkpoint.write(path / "checkpoints" / "student.safetensors", body(len(classes), width=2), card)
    return path


@pytest.mark.parametrize("classes", [("a", "b", "c", "d"), ("e", "f", "g")])
def test_what_starts_from_a_pruned_network_is_as_small_whatever_its_classes(tmp_path: Path, classes) -> None:
    run, shape = pruned_run(tmp_path / "run"), replace(SHAPE, classes=len(classes))
    blueprint = parts.blueprint({**SECTION, "weights": str(run)}, shape, [], "student", classes=classes)
    assert blueprint.spec == {**SECTION, "pruned": True}
    assert blueprint.start is not None
    made, small = blueprint.make(), body(len(classes), width=2)
    assert [t.shape for t in made.state_dict().values()] == [t.shape for t in small.state_dict().values()]
    blueprint.start.into(made)
    saved = checkpoint.read(run)
    assert torch.equal(made.get_parameter("stage1.conv.weight"), saved.weights["stage1.conv.weight"])
    assert torch.equal(made.get_parameter("fc.weight"), saved.weights["fc.weight"]) == (len(classes) == 4)


def test_a_pruned_network_is_rebuilt_from_its_checkpoint_and_from_nothing_else(tmp_path: Path) -> None:
    saved = checkpoint.read(pruned_run(tmp_path / "run"))
    assert saved.card is not None
    made = parts.blueprint(saved.card.model, SHAPE, [], "student", saved).make()
    saved.load_into(made, "small_cnn")
    with pytest.raises(UserError, match=r"student\.pruned=True .*weights=RUN"):
        parts.blueprint(saved.card.model, SHAPE, [], "student")


def test_a_small_file_that_says_it_was_a_huge_network_once_is_refused(tmp_path: Path) -> None:
    card = Card(
        "student",
        {"name": "mlp", "hidden": [10**9], "pruned": True},
        SHAPE,
        tuple("abcd"),
        (0.1,) * 3,
        (0.5,) * 3,
        "photos",
        {},
    )
    checkpoint.write(tmp_path / "s.safetensors", body(width=2), card)
    saved = checkpoint.read(tmp_path / "s.safetensors")
    with pytest.raises(UserError, match="far larger network"):
        parts.blueprint(card.model, SHAPE, [], "student", saved)
