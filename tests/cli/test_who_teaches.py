"""Every way to be taught, from the command line: several teachers, peers, earlier students, assistants, generations."""

import json
from pathlib import Path

import pytest
from cli.harness import Kdal

SMOKE = ("distill", "experiment=smoke")


@pytest.fixture
def result(kdal: Kdal):
    """result(words) is what a distillation measured; it ended well and quietly."""

    def run(*words: str) -> dict:
        ended = kdal(*SMOKE, *words)
        assert (ended.code, ended.err) == (0, "")
        return {**json.loads((ended.run.path / "result.json").read_text()), "out": ended.out}

    return run


def test_a_list_of_seeds_is_as_many_teachers_and_their_mean_teaches(result, here: Path):
    measured = result("teacher.seed=[0,1,2]", "teacher.average=probabilities", "teacher.weights=[0.5,0.25,0.25]")
    assert "mean probabilities at T=4 of 3: mlp" in measured["out"]
    assert measured["teacher"]["parameters"] == 3 * measured["student"]["parameters"]
    assert len(list(here.glob("outputs/teachers/*/teacher.safetensors"))) == 3


def test_a_list_of_checkpoints_may_hold_different_architectures(kdal: Kdal, result):
    runs = [kdal("train-teacher", "experiment=smoke", f"teacher.model.hidden=[{width}]").run.path for width in (20, 30)]
    measured = result("teacher=saved", f"teacher.checkpoint=[{runs[0]},{runs[1]}]")
    assert "mlp hidden=[20] dropout=0.0 + mlp hidden=[30] dropout=0.0" in measured["out"]
    assert measured["teacher"]["accuracy"] > 0.5


def test_a_peer_learns_beside_the_student_and_is_measured_and_saved(result, here: Path):
    measured = result("teacher=peer")
    assert measured["peer"]["accuracy"] > 0.5
    assert list(here.glob("outputs/distill/*/checkpoints/peer.safetensors"))
    assert not list(here.glob("outputs/teachers/*"))


def test_the_student_itself_teaches_for_generations(result):
    measured = result("teacher=self", "generations=2")
    assert {"teacher", "generation_1", "student"} <= set(measured)
    assert measured["teacher"]["parameters"] == measured["student"]["parameters"]


def test_assistants_stand_between_teacher_and_student(result):
    measured = result("+student@assistants.middle=mlp", "assistants.middle.hidden=[48]")
    names = [name for name in measured if isinstance(measured[name], dict)]
    assert names == ["teacher", "middle", "student"]
    sizes = [measured[name]["parameters"] for name in ("middle", "student")]
    assert sizes[0] != sizes[1]


def test_a_noisy_student_is_taught_by_the_generation_before_from_clean_images_it_was_sure_of(result):
    words = ("labels=60", "generations=2", "teacher=previous", "teacher.view=clean", "teacher.min_confidence=0.3",
             "teacher.balance=true")  # fmt: skip
    measured = result(*words)
    assert {"generation_0", "generation_1", "student"} <= set(measured)
    assert measured["out"].count("the teacher is sure enough of") == 2


def test_with_few_labels_the_others_are_there_for_the_terms_that_need_none(result):
    few, labelled = result("labels=40"), result("labels=40", "loss.on=labelled")
    assert "40 labels of 448 images" in few["out"]
    assert few["student"]["nll"] != labelled["student"]["nll"]


def test_every_round_may_be_taught_by_the_one_before_and_what_it_forgot_is_counted(kdal: Kdal):
    ended = kdal("al-loop", "experiment=smoke", "teacher=previous")
    assert (ended.code, ended.err) == (0, "")
    rows = [line.split(",") for line in (ended.run.path / "curve.csv").read_text().splitlines()]
    forgotten = [int(row[rows[0].index("forgotten")]) for row in rows[1:]]
    assert forgotten[0] == 0
    assert all(0 <= count <= 256 for count in forgotten)


def test_what_was_forgotten_is_the_same_after_a_resume(kdal: Kdal):
    whole = kdal("al-loop", "experiment=smoke", "teacher=previous", "hydra.run.dir=whole").run.path
    part = kdal("al-loop", "experiment=smoke", "teacher=previous", "hydra.run.dir=part").run.path
    curve = part / "curve.csv"
    curve.write_text("\n".join(curve.read_text().splitlines()[:3]) + "\n")
    (part / "result.json").unlink()
    assert kdal("al-loop", "resume=part").code == 0
    assert curve.read_bytes() == (whole / "curve.csv").read_bytes()


def test_a_stopped_chain_goes_on_after_its_last_finished_link(kdal: Kdal, here: Path):
    words = (*SMOKE, "generations=2", "compare=true", "hydra.run.dir=chain")
    whole = kdal(*words).run
    weights = {path.name: path.read_bytes() for path in (whole.path / "checkpoints").glob("*.safetensors")}
    (whole.path / "result.json").unlink()
    (whole.path / "checkpoints" / "student.safetensors").unlink()
    ended = kdal("distill", "resume=chain")
    assert (ended.code, ended.err) == (0, "")
    assert "generation 1: trained already" in ended.out
    assert "student: 20 steps" in ended.out
    assert {path.name: path.read_bytes() for path in (whole.path / "checkpoints").glob("*.safetensors")} == weights


def test_a_teacher_of_other_classes_may_teach_what_compares_none(kdal: Kdal, here: Path):
    run = kdal("train-teacher", "experiment=smoke", "data.classes=7").run.path
    words = (*SMOKE, f"teacher.checkpoint={run}", "teacher.classes=other")
    ended = kdal(*words, "loss=label_embedding")
    assert (ended.code, ended.err) == (0, "")
    assert "classes of its own" in ended.out
    ended = kdal(*words, "loss=lwf")  # of the classes that have the same names
    assert (ended.code, ended.err) == (0, "")
    assert "loss.kd compares classes, and teacher.classes=other" in kdal(*words, "loss=kd").refusal


def test_weights_that_have_learnt_no_label_teach_by_their_features(kdal: Kdal) -> None:
    """Its head is new: only what looks at features may ask it, and nothing trains it."""
    file = kdal("distill", "experiment=smoke", "data.classes=7", "loss=none").run.path / "checkpoints"
    words = (*SMOKE, f"teacher.model.weights={file}/student.safetensors", "teacher.learns=nothing")
    ended = kdal(*words, "loss=rkd")
    assert (ended.code, ended.err) == (0, "")
    assert "as its weights are; its features teach, and its head knows no class" in ended.out
    assert not (kdal.here / "outputs" / "teachers").is_dir() or not list(kdal.here.glob("outputs/teachers/*/teacher.*"))
    for loss in ("kd", "lwf", "label_embedding"):
        line = f"loss.{loss} compares classes, and teacher.learns=nothing: a loss of features: loss=rkd"
        assert kdal(*words, f"loss={loss}").refusal == line
    for more, told in (
        (("loss=rkd", "teacher.min_confidence=0.5"), "teacher.min_confidence=0.5 asks what its head knows"),
        (("loss=rkd", "teacher.balance=true"), "teacher.balance=true asks what its head knows"),
    ):
        assert told in kdal(*words, *more).refusal
    buying = ("al-loop", *words[1:], "loss=rkd")
    told = "oracle=mixed takes its labels, and teacher.learns=nothing"
    assert told in kdal(*buying, "oracle=mixed", "oracle.person=simulated").refusal
    ended = kdal(*buying, "sampler=coreset", "sampler.space=teacher", "budget.rounds=1")
    assert (ended.code, ended.err) == (0, "")


def test_terms_are_combined_weighted_and_scheduled_on_the_line(result):
    schedule = "loss.kd.temperature={schedule: linear, start: 8, end: 2}"
    out = result("loss=[kd,rkd]", "loss.rkd.weight=0.5", schedule, "loss.kd.sample_weight=right")["out"]
    assert "0.1 ce + 0.9 kd(temperature=linear 8 → 2, sample_weight=right) + 0.5 rkd(" in out
    assert "kd.temperature" in out
    assert "rkd.grad_ratio" in out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["teacher.weights=[0.5,0.6]", "teacher.seed=[0,1]"],
            "teacher.weights=[0.5, 0.6]: accepted: 2 numbers above 0",
        ),
        (["teacher=saved"], "teacher.checkpoint is missing: a file or a run folder, or a list of them"),
        (["teacher=peer", "generations=2"], "teacher=peer with generations or assistants: a chain needs"),
        (["loss.on=pool"], "loss.on=pool (every image has its label): on=labelled, on=both, or labels=1000"),
        (["loss=at"], "loss.at compares maps, and this student shows none"),
        (["teacher.average=median"], "teacher.average=median: accepted: logits, probabilities"),
        (["loss.kd.sample_weight=wrong"], "loss.kd.sample_weight=wrong: accepted: all, right, confidence"),
        (["loss.kd.when=first"], "loss.kd.when=first, and there is no first stage: say how long that is"),
        (["generations=0"], "generations=0: accepted: a whole number at least 1"),
        (["assistants=3"], "assistants=3: add one by +student@assistants.first=resnet14"),
        (["teacher=previous", "loss=at"], "loss.at compares maps, and this student shows none"),
        (["teacher.classes=other"], "teacher.classes=other with teacher.checkpoint=None"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_does_not_fit_together_is_refused_before_a_teacher_is_trained(kdal: Kdal, here: Path, words, line: str):
    ended = kdal(*SMOKE, *words)
    assert ended.code == 2
    assert line in ended.refusal
    assert not list(here.glob("outputs/teachers/*/teacher.safetensors"))


def test_a_teacher_no_better_than_chance_is_told_or_refused_as_asked(kdal: Kdal):
    useless = (*SMOKE, "teacher.recipe.steps=1", "teacher.recipe.lr=1e-9")
    assert "WARNING: the teacher is right on" in kdal(*useless).out
    assert "little beyond chance" in kdal(*useless, "teacher.preflight=fail").refusal
    assert "WARNING" not in kdal(*useless, "teacher.preflight=off").out
