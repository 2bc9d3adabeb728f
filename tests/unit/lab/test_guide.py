"""Whether a teacher is asked live or its answers are kept, and where."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kdal_cli.dataset import Labels
from kdal_cli.lab.guide import LIMIT, Guide, answers, asked, shelf, told
from kdal_cli.lab.teacher import Manner
from kdal_cli.losses.kd import kd
from kdal_cli.losses.rkd import rkd
from kdal_cli.network import Network
from kdal_cli.training.answers import CachedTeacher, LiveTeacher
from kdal_cli.training.objective import Objective, Part
from kdal_cli.types import Batch, Output


def of_maps(student: Output, teacher: Output, batch: Batch) -> Tensor:
    return teacher.maps["layer1"].sum(1) + 0 * student.logits.sum(1)


def of_pixels(student: Output, teacher: Output, batch: Batch) -> Tensor:
    assert teacher.model is not None
    return teacher.model(batch.pixels).logits.sum(1) + 0 * student.logits.sum(1)


def of_features_unless_there_are_none(student: Output, teacher: Output, batch: Batch) -> Tensor:
    """A term that hides what it misses is still found out."""
    return teacher.features.nan_to_num(5.0).sum(1) + 0 * student.logits.sum(1)


def of_chance(student: Output, teacher: Output, batch: Batch) -> Tensor:
    return torch.rand(len(batch.ids)) * (student.logits - teacher.logits).sum(1)


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (kd, "logits"),
        (of_chance, "logits"),
        (rkd, "features"),
        (of_features_unless_there_are_none, "features"),
        (of_maps, "everything"),
        (of_pixels, "everything"),
    ],
)
def test_what_a_loss_reads_is_found_by_hiding_it(term, expected: str, make_network, resident) -> None:
    student, teacher = make_network(), make_network(1)
    teacher.tap(["layer1"])
    ids = torch.arange(6)
    batch = Batch(ids, ids * 0, resident.whole(ids), ids[:3] % 3)
    assert asked(Objective(0.5, {"term": Part(term, 0.5)}), student, teacher, batch) == expected


@pytest.fixture
def guide(make_network, tmp_path) -> Guide:
    return Guide(Manner(), make_network(1), asked="logits", shelf=tmp_path / "answers")


def test_answers_are_kept_where_logits_are_enough_in_a_file_named_by_view_and_precision(bench, guide, tmp_path) -> None:
    lab = bench()
    teacher = answers(lab, guide, lab.train, "fp32")
    assert isinstance(teacher, CachedTeacher)
    assert (teacher.table.width, teacher.views) == (3, 18)
    assert teacher.table.path == tmp_path / "answers" / "pad1_flip_logits_fp32.rows"
    assert told(lab, guide, lab.train) == f"its answers are kept in {tmp_path / 'answers'}"


def test_a_teacher_of_this_run_is_kept_in_memory(bench, guide, make_network) -> None:
    lab, later = bench(), guide.taught_by(make_network(2))
    teacher = answers(lab, later, lab.train, "fp32")
    assert isinstance(teacher, CachedTeacher)
    assert teacher.table.path is None
    assert told(lab, later, lab.train) == "its answers are kept in memory"


def test_features_are_kept_beside_the_logits_where_a_loss_reads_them(bench, guide) -> None:
    lab = bench()
    teacher = answers(lab, replace(guide, asked="features"), lab.train, "fp32")
    assert isinstance(teacher, CachedTeacher)
    assert teacher.table.width == 3 + 16


def test_a_clean_view_is_one_an_image(bench, guide) -> None:
    lab = bench()
    teacher = answers(lab, replace(guide, manner=Manner(view="clean")), lab.train, "fp32")
    assert isinstance(teacher, CachedTeacher)
    assert teacher.views == 1
    assert teacher.table.path is not None
    assert teacher.table.path.name == "clean_logits_fp32.rows"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"manner": Manner(cache="off")}, "teacher.cache=off"),
        ({"asked": "everything"}, "the loss looks inside it"),
    ],
)
def test_otherwise_the_teacher_is_asked_at_every_step(change, reason: str, bench, guide) -> None:
    lab, live = bench(), replace(guide, **change)
    assert isinstance(answers(lab, live, lab.train, "fp32"), LiveTeacher)
    assert told(lab, live, lab.train) == f"it is asked at every step: {reason}"


def test_a_teacher_of_mixtures_is_asked_at_every_step_as_none_comes_twice(bench, guide) -> None:
    lab, mixes = bench(), "recipe.mixup=0.2"
    assert isinstance(answers(lab, guide, lab.train, "fp32", mixes), LiveTeacher)
    reason = "recipe.mixup=0.2 shows it mixtures that come once"
    assert told(lab, guide, lab.train, mixes) == f"it is asked at every step: {reason}"


def test_a_table_that_would_grow_too_large_is_not_begun(bench, guide, monkeypatch) -> None:
    lab = bench()
    size = 96 * 18 * 4 * 2
    monkeypatch.setattr("kdal_cli.lab.guide.LIMIT", size)
    assert isinstance(answers(lab, guide, lab.train, "fp32"), CachedTeacher)
    monkeypatch.setattr("kdal_cli.lab.guide.LIMIT", size - 1)
    assert isinstance(answers(lab, guide, lab.train, "fp32"), LiveTeacher)
    assert LIMIT > 50_000 * 162 * 101 * 2  # CIFAR-100 with the usual crops and flips


def test_another_weight_another_architecture_and_other_images_have_another_shelf(
    bench, make_network, images, tmp_path
) -> None:
    lab, network = bench(), make_network(1)
    here = shelf(lab, network, tmp_path)
    assert shelf(bench("again"), make_network(1), tmp_path) == here
    nudged: Network = make_network(1)
    with torch.no_grad():
        next(nudged.parameters()).view(-1)[0] += 1e-6
    shifted = Network(make_network(1).body, [mean + 0.1 for mean in images.mean], images.std)
    some = Labels.complete(images.train.labels.all()[:90])
    fewer = replace(images, train=replace(images.train, pixels=images.train.pixels[:90], labels=some))
    others = [
        shelf(lab, nudged, tmp_path),
        shelf(lab, make_network(1, 17), tmp_path),
        shelf(lab, shifted, tmp_path),
        shelf(replace(lab, data=fewer), network, tmp_path),
    ]
    assert len({here, *others}) == 5
