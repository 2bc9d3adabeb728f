"""A run without labels is used everywhere weights are, and as a space."""

import json
from pathlib import Path

from cli.harness import Kdal


def test_a_run_without_labels_is_weights_and_a_space(kdal: Kdal):
    seen = kdal("pretrain", "experiment=smoke", "method=byol", "recipe.steps=4")
    assert (seen.code, seen.err) == (0, "")
    assert "no label" in seen.out
    assert {"features.npy", "features_test.npy", "checkpoints/student.safetensors"} <= set(seen.run.contents())
    folder = seen.run.path
    spaces = [f"{key}={folder}" for key in ("sampler.space", "seed_set.space", "student.weights")]
    ended = kdal("al-loop", "experiment=smoke", "loss=none", "sampler=coreset", "seed_set=typical", *spaces)
    assert (ended.code, ended.err) == (0, "")
    assert "the student starts from" in ended.out
    assert "new: " in ended.out  # its head has learnt nothing


def test_al_loop_does_it_once_for_all_of_a_sweep_and_its_features_are_a_space(kdal: Kdal, here: Path):
    spaces = ["sampler=coreset", "sampler.space=pretrained", "seed_set=typical", "seed_set.space=pretrained"]
    words = ["experiment=smoke", "loss=none", "pretrain=simclr", "pretrain.recipe.steps=4", *spaces]
    both = [kdal.start("al-loop", *words, f"seed={seed}") for seed in (0, 1)]
    ended = [running.ended() for running in both]
    assert [(one.code, one.err) for one in ended] == [(0, ""), (0, "")]
    assert sum("simclr: 4 steps\n" in one.out for one in ended) == 1
    assert all("the student starts from outputs/pretrained" in one.out for one in ended)
    (folder,) = here.glob("outputs/pretrained/*")
    assert "pretrained" in kdal("store").out
    named = [word.replace("=pretrained", f"={folder}") for word in words if not word.startswith("pretrain")]
    alone = kdal("al-loop", *words, "pretrain.start=false", "seed=0")
    assert (alone.code, "starts from" in alone.out) == (0, False)
    by_hand = kdal("al-loop", *named, f"student.weights={folder / 'pretrained.safetensors'}", "seed=0")
    assert by_hand.run.contents()["curve.csv"] == ended[0].run.contents()["curve.csv"]


def test_what_does_not_go_together_is_refused(kdal: Kdal, here: Path):
    for words, told in (
        (["sampler=coreset", "sampler.space=pretrained"], "nothing is pretrained"),
        (["pretrain=simclr", "method@pretrain.method=distillation"], "asks a teacher"),
        (["pretrain=simclr", "pretrain.recipe.steps=null"], "no end of its own"),
    ):
        ended = kdal("al-loop", "experiment=smoke", "loss=none", *words)
        assert (ended.code, told in ended.err) == (2, True), ended.err
        assert ended.err.count("\n") == 1
    assert not list(here.glob("outputs/pretrained/*"))


def test_a_teachers_features_teach_without_a_label(kdal: Kdal, here: Path):
    assert kdal("pretrain", "experiment=smoke", "method=byol", "recipe.steps=4", "hydra.run.dir=seen").code == 0
    taught = ("teacher=saved", "teacher.checkpoint=seen", "recipe.steps=4", "student.hidden=[32]")
    for words in (["method=distillation"], ["method=loss", "loss=rkd"]):
        ended = kdal("pretrain", "experiment=smoke", *words, *taught)
        assert (ended.code, ended.err) == (0, "")
        assert "little beyond chance" not in ended.out
    ended = kdal("pretrain", "experiment=smoke", "method=distillation", "teacher=none")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "method=distillation needs a teacher" in ended.err


def test_weights_teach_as_they_are_and_the_card_of_their_pupil_names_them(kdal: Kdal, here: Path):
    assert kdal("distill", "experiment=smoke", "loss=none", "hydra.run.dir=other").code == 0
    words = ("experiment=smoke", "method=distillation", "recipe.steps=4", "student.hidden=[32]")
    taught = (
        *words,
        "teacher=mlp",
        "teacher.model.weights=other/checkpoints/student.safetensors",
        "teacher.learns=auto",
    )
    ended = kdal("pretrain", *taught)
    assert (ended.code, ended.err) == (0, "")
    assert "as its weights are; its features teach" in ended.out
    assert not list(here.glob("outputs/teachers/*/teacher.safetensors"))
    (teacher,) = json.loads((ended.run.path / "checkpoints/student.json").read_text())["trained_on"]["teachers"]
    assert teacher.keys() == {"model", "weights"}
    assert len(teacher["weights"]) == 64
