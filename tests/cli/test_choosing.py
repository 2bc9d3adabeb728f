"""Who looks, what is asked, what the pool is like and when it ends: every choice of an al-loop, from the command line.

Runs that nothing happens to share a folder, and so a teacher.
"""

import json
import signal
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from cli.harness import Ended, Kdal, RunFolder
from faults.sabotage import DieBefore

SMOKE = ("al-loop", "experiment=smoke")
"""20 labels, then 20 more in each of two rounds; 448 images in the pool and 64 for validation, of four classes."""

Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choosing") / "place"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def run(place: Path) -> Run:
    """run(words) is a run that ended well and quietly."""
    known: dict[tuple[str, ...], Ended] = {}

    def run(*words: str) -> Ended:
        if words not in known:
            known[words] = Kdal(place)(*SMOKE, *words)
            assert (known[words].code, known[words].err) == (0, "")
        return known[words]

    return run


def column(run: RunFolder, name: str, table: str = "curve.csv") -> list[float]:
    return [float(row[name]) for row in run.table(table)]


def answered(run: RunFolder) -> list[list[int]]:
    """The ids of each record of answers, in order."""
    records = [record["ids"] for record in run.ledger() if record["kind"] == "answers"]
    return [[id for first, last in ranges for id in range(first, last + 1)] for ranges in records]


def pool(run: RunFolder) -> set[int]:
    return set(range(512)) - set(run.requested(0, "validation"))


# Who looks.


@pytest.mark.parametrize(("scorer", "told"), [("both", "both"), ("rounds", "rounds of 3"), ("seeds", "seeds of 3")])
def test_a_committee_has_draws_where_a_student_without_dropout_has_none(run: Run, scorer: str, told: str) -> None:
    ended = run("sampler=bald", f"scorer={scorer}", "loss=none")
    assert f"sampler bald draws=10, looking: {told}" in ended.out
    assert column(ended.run, "labels") == [20, 40, 60]
    assert min(column(ended.run, "score", "picks/round_002.csv")) > 1e-6  # the members do not agree
    assert column(ended.run, "teacher_answers") == ([0, 428, 428] if scorer == "both" else [0, 0, 0])


def test_as_many_siblings_are_trained_as_a_committee_has_members_besides_the_student(run: Run) -> None:
    three, two = run("sampler=bald", "scorer=seeds"), run("sampler=bald", "scorer=seeds", "members=2")
    for ended, siblings in ((three, 2), (two, 1)):
        trained = {record["what"] for record in map(json.loads, metrics(ended.run)) if "sibling" in record["what"]}
        assert trained == {f"round {round} sibling {n}" for round in (0, 1) for n in range(siblings)}
    assert three.run.picks(1) != two.run.picks(1)
    assert three.run.picks(0) == two.run.picks(0)


def metrics(run: RunFolder) -> list[str]:
    return (run.path / "metrics.jsonl").read_text().splitlines()


def test_siblings_learn_from_the_same_labels_and_change_nothing_of_the_student(run: Run) -> None:
    """Only who is asked for may differ: the student of round 0 is the one that there is without a committee."""
    alone, among = run().run, run("sampler=bald", "scorer=seeds").run
    assert alone.weights("round_000") == among.weights("round_000")


def test_the_first_of_the_last_rounds_is_alone_and_the_next_ones_are_more(run: Run) -> None:
    history = run("sampler=margin", "scorer=rounds").run
    alone = run().run
    assert history.picks(1) == alone.picks(1)
    assert history.picks(2) != alone.picks(2)


# What is asked of the teacher.


def test_with_labels_alone_a_sampler_that_asks_finds_a_teacher_and_pays_for_each_image_once(kdal: Kdal) -> None:
    ended = kdal(*SMOKE, "loss=none", "sampler=disagreement", "teacher.price=0.25")
    assert (ended.code, ended.err) == (0, "")
    assert len(list(kdal.here.glob("outputs/teachers/*/teacher.safetensors"))) == 1
    found = ended.run
    assert column(found, "teacher_answers") == [0, 428, 428]
    assert answered(found) == [sorted(pool(found) - set(found.requested(0)))]
    assert column(found, "cost") == [84, 104 + 428 / 4, 124 + 428 / 4]


def test_a_teacher_that_is_only_asked_teaches_nothing(run: Run) -> None:
    asked, plain = run("loss=none", "sampler=disagreement"), run("loss=none", "teacher=none")
    assert asked.run.weights("round_000") == plain.run.weights("round_000")
    assert "teacher: mlp" in asked.out
    assert "teacher: none" in plain.out


def few_candidates() -> None:
    from kdal_cli.samplers import probcover

    probcover.MOST = 100


def test_a_pool_that_a_sampler_does_not_take_is_told_before_anything_is_bought(kdal: Kdal) -> None:
    ended = kdal(*SMOKE, "sampler=probcover", first=few_candidates)
    assert "probcover takes 100 candidates and there are 448" in ended.refusal
    assert not list(kdal.here.glob("outputs/*/*"))
    part = ("sampler=subsample", "sampler.of=probcover", "sampler.candidates=100")
    assert kdal(*SMOKE, *part, "loss=none", "budget.rounds=1", first=few_candidates).code == 0


def test_a_sampler_that_does_not_ask_needs_none_and_one_that_teaches_is_paid_for_what_it_teaches(run: Run) -> None:
    assert "teacher: none" in run("loss=none").out
    taught = run().run
    assert column(taught, "teacher_answers") == list(accumulate(map(len, answered(taught))))
    assert {id for ids in answered(taught) for id in ids} <= pool(taught)
    assert all(row["teacher"] for row in taught.table("picks/round_001.csv"))


def test_of_a_part_of_the_pool_only_that_part_is_asked_about_and_it_is_written_down(run: Run) -> None:
    found = run("loss=none", "sampler=subsample", "sampler.of=disagreement", "sampler.candidates=50").run
    candidates = [{int(row["id"]) for row in found.table(f"picks/round_00{n}_candidates.csv")} for n in (1, 2)]
    assert [len(ids) for ids in candidates] == [50, 50]
    assert [set(ids) for ids in answered(found)] == [candidates[0], candidates[1] - candidates[0]]
    assert column(found, "teacher_answers") == [0, 50, len(candidates[0] | candidates[1])]
    assert all(set(found.picks(n)) <= candidates[n - 1] for n in (1, 2))


@pytest.mark.parametrize("of", ["[margin,disagreement]", "[margin,random,disagreement,entropy]"])
def test_a_sampler_within_a_sampler_finds_a_teacher_too(run: Run, of: str) -> None:
    found = run("loss=none", "sampler=mix", f"sampler.of={of}").run
    assert column(found, "teacher_answers") == [0, 428, 428]


def test_a_teacher_of_other_classes_may_be_looked_at_and_not_compared_with(kdal: Kdal) -> None:
    teacher = kdal("train-teacher", "experiment=smoke", "data.classes=7").run.path
    words = (*SMOKE, f"teacher.checkpoint={teacher}", "teacher.classes=other", "budget.rounds=1")
    ended = kdal(*words, "loss=label_embedding", "sampler=coreset", "sampler.space=teacher")
    assert (ended.code, ended.err) == (0, "")
    assert column(ended.run, "teacher_answers")[-1] == 448  # 428 of the pool and 20 that are labelled
    refusal = kdal(*words, "loss=none", "sampler=disagreement").refusal
    assert refusal.startswith("this sampler compares classes, and teacher.classes=other: ")
    for scorer in ("teacher", "both"):
        line = f"scorer={scorer} compares classes, and teacher.classes=other: scorer=student"
        assert kdal(*words, "loss=none", f"scorer={scorer}").refusal == line


# Where distances are measured.


@pytest.mark.parametrize("space", ["teacher", "probabilities", "pixels"])
def test_every_space_may_be_measured_in(run: Run, space: str) -> None:
    found = run("loss=none", "budget.rounds=1", "sampler=coreset", f"sampler.space={space}").run
    plain = run("loss=none", "budget.rounds=1", "sampler=coreset").run
    assert found.picks(1) != plain.picks(1)
    assert column(found, "teacher_answers") == ([0, 448] if space == "teacher" else [0, 0])


def test_a_file_of_vectors_is_a_space_and_one_of_another_length_is_told_before_anything_is_bought(run: Run, place):
    """Vectors of the pixels themselves, which choose what the pixels choose."""
    from kdal_cli.data.blobs import blobs

    pixels = blobs(None, train=512, test=256, classes=4, size=8).train.pixels.flatten(1).numpy()  # type: ignore[arg-type]
    np.save(place / "vectors.npy", pixels / np.float32(255))
    np.save(place / "short.npy", pixels[:-1])
    by_file = run("loss=none", "budget.rounds=1", "sampler=coreset", "sampler.space=vectors.npy").run
    by_pixels = run("loss=none", "budget.rounds=1", "sampler=coreset", "sampler.space=pixels").run
    assert (by_file.picks(0), by_file.picks(1)) == (by_pixels.picks(0), by_pixels.picks(1))
    before = sorted(place.glob("outputs/al-loop/*"))
    refusal = Kdal(place)(*SMOKE, "sampler=coreset", "sampler.space=short.npy").refusal
    assert refusal == (
        "this embedding is (511, 64) (short.npy): it needs (512, D): one row for each image of the data set"
    )
    assert sorted(place.glob("outputs/al-loop/*")) == before


# The seed set.


@pytest.mark.parametrize("seed_set", ["typical", "farthest", "class_balanced"])
def test_the_labels_of_round_0_are_chosen_as_asked_whatever_comes_after(run: Run, seed_set: str) -> None:
    ended, other = (run("budget.rounds=0", f"seed_set={seed_set}", f"sampler={name}") for name in ("margin", "random"))
    chosen = ended.run.requested(0)
    assert len(set(chosen)) == 20
    assert set(chosen) <= pool(ended.run)
    assert chosen != run().run.requested(0)
    assert chosen == other.run.requested(0)
    assert "seed set: " in ended.out
    assert "seed set: " not in run().out


def test_a_class_balanced_seed_set_has_as_many_of_each_and_says_who_knew(run: Run) -> None:
    ended = run("budget.rounds=0", "seed_set=class_balanced", "sampler=margin")
    labels = [row["label"] for row in ended.run.table("ledger.csv") if (row["round"], row["purpose"]) == ("0", "train")]
    assert sorted(labels) == sorted("0123" * 5)
    assert "warning: only an oracle knows the classes before paying" in ended.out


def test_a_seed_set_may_ask_the_teacher(run: Run) -> None:
    ended = run("loss=none", "budget.rounds=0", "seed_set=farthest", "seed_set.space=teacher")
    assert column(ended.run, "teacher_answers") == [448]


# What the pool is like.


def labels_of(run: RunFolder, purpose: str) -> dict[int, int]:
    return {int(row["id"]): int(row["label"]) for row in run.table("ledger.csv") if row["purpose"] == purpose}


def test_an_imbalanced_pool_has_a_long_tail_and_the_test_set_has_none(run: Run) -> None:
    ended = run("data.imbalance=10", "budget=144", "budget.rounds=1")
    assert "164 in the pool, 64 for validation, 256 to test" in ended.out
    bought = {**labels_of(ended.run, "train"), **labels_of(ended.run, "validation")}
    counts = [list(bought.values()).count(c) for c in range(4)]
    assert len(bought) == 228
    assert counts == [128, 59, 28, 13]


def test_duplicates_are_in_the_pool_and_may_be_bought(run: Run) -> None:
    ended = run("data.duplicates=0.5", "sampler=random", "budget.rounds=4")
    assert "672 in the pool, 64 for validation, 256 to test" in ended.out
    ids = labels_of(ended.run, "train")
    assert any(id >= 512 for id in ids)
    assert max(ids) < 512 + 224
    assert set(labels_of(ended.run, "validation")) == set(labels_of(run().run, "validation"))


def test_a_noisy_oracle_is_wrong_about_its_share_of_labels_and_always_about_the_same(run: Run) -> None:
    truth, noisy = run().run, run("oracle.noise=0.2").run
    one, two = labels_of(truth, "validation"), labels_of(noisy, "validation")
    wrong = [id for id in one if one[id] != two[id]]
    assert 4 <= len(wrong) <= 24  # of 64, 12.8 on average
    both = labels_of(noisy, "train").keys() & labels_of(run("oracle.noise=0.2", "sampler=random").run, "train").keys()
    assert len(both) >= 20
    other = labels_of(run("oracle.noise=0.2", "sampler=random").run, "train")
    assert all(labels_of(noisy, "train")[id] == other[id] for id in both)
    assert column(noisy, "cost") == column(truth, "cost")


# When it ends.


def test_a_run_ends_at_its_target_where_it_may_and_says_so(run: Run) -> None:
    ended = run("stopping.act=true", "stopping.target=0.1")
    assert "has reached the target of 10.00%; stopping here" in ended.out
    assert column(ended.run, "round") == [0]
    kinds = [record["kind"] for record in ended.run.ledger()]
    assert [kind for kind in kinds if kind in ("request", "receipt")] == ["request", "receipt"] * 2
    assert ended.out.count("20 labels, test accuracy") == 1


def test_where_it_may_not_it_says_that_it_could_and_goes_on(run: Run) -> None:
    ended = run("stopping.target=0.1")
    assert ended.out.count("has reached the target of 10.00%; stopping.act=true would stop here") == 2
    assert (ended.run.path / "curve.csv").read_bytes() == (run().run.path / "curve.csv").read_bytes()


@pytest.mark.parametrize(
    "sabotage", [DieBefore(1, of="result.json"), DieBefore(1, of="curve.png")], ids=["result", "picture"]
)
def test_a_run_that_was_killed_at_its_end_does_not_go_on_buying(kdal: Kdal, sabotage: DieBefore) -> None:
    words = (*SMOKE, "stopping.act=true", "stopping.target=0.1", "hydra.run.dir=run")
    assert kdal(*words, first=sabotage).code == -signal.SIGKILL
    before = (kdal.here / "run" / "ledger.jsonl").read_bytes()
    ended = kdal("al-loop", "resume=run")
    assert (ended.code, ended.err) == (0, "")
    assert "stopping here" in ended.out
    assert (kdal.here / "run" / "ledger.jsonl").read_bytes() == before
    assert column(ended.run, "round") == [0]


# Stopped and resumed.

SEEDS = ("sampler=bald", "scorer=seeds")
ASKING = ("loss=none", "sampler=disagreement", "teacher.price=0.5")
LOOKING_BACK = ("sampler=forgetting", "scorer=rounds", "recipe.retrain=warm")

STOPS = [  # what was asked for, and where it was killed
    (SEEDS, DieBefore(7, of="training.snapshot"), "the first sibling learns"),
    (SEEDS, DieBefore(11, of="training.snapshot"), "the second sibling learns"),
    (SEEDS, DieBefore(5, of="ledger.jsonl"), "their query is written down"),
    (SEEDS, DieBefore(3, of="curve.csv"), "round 1 ends"),
    (ASKING, DieBefore(5, of="ledger.jsonl"), "answers are written down"),
    (ASKING, DieBefore(6, of="ledger.jsonl"), "the query is written down"),
    (ASKING, DieBefore(1, of="round_001.csv"), "the reasons are written down"),
    (ASKING, DieBefore(5, of="curve.csv"), "round 2 ends"),
    (LOOKING_BACK, DieBefore(3, of="curve.csv"), "round 1 ends that looks back"),
]


@pytest.mark.parametrize(
    ("words", "sabotage", "when"),
    [
        pytest.param(*stop, id=stop[-1].replace(" ", "-"), marks=[pytest.mark.slow] * (number % 3 > 0))
        for number, stop in enumerate(STOPS)
    ],
)
def test_a_run_that_was_killed_comes_to_the_same_end(run: Run, place: Path, words, sabotage, when: str) -> None:
    whole = run(*words).run
    folder = f"killed-{STOPS.index((words, sabotage, when))}"
    killed = Kdal(place)(*SMOKE, *words, f"hydra.run.dir={folder}", first=sabotage)
    assert killed.code == -signal.SIGKILL, when
    assert not (place / folder / "result.json").exists()
    ended = Kdal(place)("al-loop", f"resume={folder}")
    assert (ended.code, ended.err) == (0, "")
    assert RunFolder(place / folder).outcome() == whole.outcome()


# What a run leaves.


def test_there_is_a_reason_and_a_picture_of_every_query(run: Run) -> None:
    found = run().run
    names = {path.name for path in (found.path / "picks").iterdir()}
    assert names == {f"round_{n:03d}.{kind}" for n in range(3) for kind in ("csv", "png")}
    first, later = found.table("picks/round_000.csv"), found.table("picks/round_001.csv")
    assert {row["first"] + row["nearest"] for row in first} == {""}  # nobody had learnt anything
    assert {int(row["nearest"]) for row in later} <= set(found.requested(0))
    assert all(float(row["p_first"]) >= float(row["p_second"]) > 0 for row in later)


def test_what_looking_cost_is_in_the_timings_and_told_by_view(run: Run) -> None:
    found = run("loss=none", "sampler=disagreement").run
    for row in found.table("timings.csv")[1:]:
        assert min(float(row[name]) for name in ("train_s", "score_s", "evaluate_s", "report_s")) > 0
    views = [json.loads(line) for line in metrics(found) if "scorer_pool_s" in line]
    assert [view["round"] for view in views] == [1, 2]
    assert all(view["scorer_pool_peak_mb"] > 0 for view in views)


# What cannot be.


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["sampler=bald"], "has no dropout, so that all its draws are the same: a student with dropout, such as"),
        (["teacher=none", "loss=none", "sampler=disagreement"], "asks the teacher, and there is none (teacher=none)"),
        (["teacher=none", "loss=none", "scorer=both"], "scorer=both needs a teacher (teacher=none)"),
        (["teacher=peer", "scorer=both"], "scorer=both asks the teacher, and teacher.kind=peer: a teacher that is"),
        (["teacher=previous", "scorer=teacher"], "scorer=teacher asks the teacher, and teacher.kind=previous"),
        (["teacher=peer", "sampler=disagreement"], "sampler=disagreement asks the teacher, and teacher.kind=peer"),
        (
            ["teacher=peer", "seed_set=farthest", "seed_set.space=teacher"],
            "seed_set=coreset asks the teacher, and teacher.kind=peer",
        ),
        (["scorer=everybody"], "scorer=everybody: accepted: student, teacher, both, rounds, seeds"),
        (["scorer=seeds", "members=0"], "members=0: accepted: a whole number at least 1"),
        (["sampler=coreset", "sampler.space=pixel"], "sampler.space=pixel: features, teacher, probabilities, pixels"),
        (["sampler=coreset", "sampler.space=none.npy"], "No such file or directory (none.npy)"),
        (["sampler=balanced", "sampler.of=5"], "sampler.of=5: the name of a sampler, or its section"),
        (["sampler=mix", "sampler.of=[margin,entropi]"], "sampler.of[1].name=entropi: did you mean 'entropy'?"),
        (["seed_set=class_balanced", "+seed_set.k=3"], "seed_set.k=3 (no such key)"),
        (["sampler.name=class_balanced"], "sampler.name=class_balanced: "),
        (["data.imbalance=0.5"], "data.imbalance=0.5: accepted: a finite number at least 1"),
        (["data.duplicates=-1"], "data.duplicates=-1: accepted: a finite number at least 0"),
        (["data.imbalance=100", "data.split.validation=200"], "together they must come to"),
        (["oracle.noise=1.2"], "oracle.noise=1.2: accepted: a finite number from 0 to 1"),
        (["stopping.target=2"], "stopping.target=2: accepted: a finite number from 0 to 1"),
        (["stopping.plateau=0"], "stopping.plateau=0: accepted: a finite number above 0"),
        (["+stopping.rounds=3"], "stopping.rounds=3 (no such key)"),
        (["stopping.act=true", "data.split.validation=0"], "stopping.act=true (data.split.validation=0): keep some"),
        (["teacher.price=-1"], "teacher.price=-1: accepted: a finite number at least 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_before_anything_is_bought_or_trained(kdal: Kdal, words, line: str) -> None:
    ended = kdal(*SMOKE, *words)
    assert ended.code == 2
    assert line in ended.refusal
    assert not list(kdal.here.glob("outputs/*/*/*.safetensors"))
    assert not list(kdal.here.glob("outputs/al-loop/*"))


# Where features are held.


@pytest.mark.parametrize("words", [("sampler=coreset",), ("sampler=typiclust", "sampler.space=teacher")])
def test_mapped_features_choose_the_same_images(run: Run, words: tuple[str, ...]) -> None:
    held, mapped = run(*words).run, run(*words, "features=mapped").run
    assert [held.requested(round) for round in range(3)] == [mapped.requested(round) for round in range(3)]
    assert {path.name for path in held.path.iterdir()} == {path.name for path in mapped.path.iterdir()}
