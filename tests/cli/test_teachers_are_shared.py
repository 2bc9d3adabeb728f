"""A teacher is trained once for its configuration, whoever needs it, whenever, and however many at once."""

from pathlib import Path

from cli.harness import Ended, Kdal

TRAINING = "teacher mlp: 20 steps\n"


def stored(here: Path) -> list[Path]:
    return sorted(here.glob("outputs/teachers/*/teacher.safetensors"))


def test_the_first_run_trains_it_and_says_so_and_the_second_finds_it(kdal: Kdal, here: Path):
    first, second = (kdal("al-loop", "experiment=smoke", f"sampler={sampler}") for sampler in ("margin", "random"))
    assert "no teacher for this configuration yet" in first.out
    assert TRAINING in first.out
    assert "no teacher" not in second.out
    assert "teacher mlp" not in second.out.replace("teacher: mlp", "")
    assert len(stored(here)) == 1


def test_every_stage_finds_the_same(kdal: Kdal, here: Path):
    assert kdal("train-teacher", "experiment=smoke").code == 0
    before = {path: path.read_bytes() for path in stored(here)}
    for words in (["al-loop"], ["distill"], ["evaluate", "teacher=mlp", f"checkpoint={stored(here)[0]}"]):
        ended = kdal(*words, "experiment=smoke")
        assert (ended.code, ended.err) == (0, "")
        assert "no teacher" not in ended.out
    assert {path: path.read_bytes() for path in stored(here)} == before


def test_of_two_processes_that_start_at_once_one_trains_it_and_the_other_waits(kdal: Kdal, here: Path):
    longer = ("experiment=smoke", "teacher.recipe.steps=200")
    both = [kdal.start("al-loop", *longer, f"seed={seed}") for seed in (0, 1)]
    ended = [running.ended() for running in both]
    assert [(one.code, one.err) for one in ended] == [(0, ""), (0, "")]
    assert sum("teacher mlp: 200 steps\n" in one.out for one in ended) == 1
    assert len(stored(here)) == 1


def test_another_seed_or_recipe_of_the_teacher_is_another_teacher(kdal: Kdal, here: Path):
    for word in ("seed=0", "seed=1", "teacher.seed=1", "teacher.recipe.lr=0.001", "teacher.model.hidden=[64]"):
        assert kdal("distill", "experiment=smoke", word).code == 0
    assert len(stored(here)) == 4  # a student's seed is not the teacher's


def test_a_teacher_can_be_named_by_its_file_or_by_the_run_that_trained_it(kdal: Kdal, here: Path):
    run = kdal("train-teacher", "experiment=smoke", "teacher.store=away").run
    file = run.path / "checkpoints" / "teacher.safetensors"
    students: list[Ended] = [
        kdal("distill", "experiment=smoke", f"teacher.checkpoint={named}") for named in (run.path, file)
    ]
    assert [one.code for one in students] == [0, 0]
    assert students[0].run.weights("student") == students[1].run.weights("student")
    assert stored(here) == []


def test_labels_alone_need_no_teacher_and_train_none(kdal: Kdal, here: Path):
    ended = kdal("al-loop", "experiment=smoke", "loss=none")
    assert ended.code == 0
    assert "teacher: none" in ended.out
    assert stored(here) == []
