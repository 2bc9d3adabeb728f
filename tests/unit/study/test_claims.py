"""The three sentences, from four cells with effects that were planted."""

from pathlib import Path

import pytest

from kdal_cli.study.compare import compare
from kdal_cli.study.records import find
from kdal_cli.study.statistics import area
from kdal_cli.study.study import Claim, Study

EARLIER, BETTER, ADDS = (
    "distillation makes active learning better early",
    "active learning makes distillation better",
    "a teacher adds to what active learning gains",
)
LABELS = (10, 20, 30, 40, 50)
NEITHER = (0.3, 0.4, 0.5, 0.55, 0.6)
NOISE = (0.0, 0.03, -0.02, 0.05, -0.04)


@pytest.fixture
def study(tmp_path: Path):
    return lambda **options: compare(find([tmp_path / "runs"]), **options)


@pytest.fixture
def square(plant):
    """`square(teacher=0.1, sampler=0.02, both=0.03)`: four cells of five seeds; what each adds to every round."""

    def make(
        teacher: float = 0.0,
        sampler: float = 0.0,
        both: float = 0.0,
        *,
        skip=(),
        seeds=range(5),
        taught="kd",
        **options,
    ) -> None:
        for seed in seeds:
            for loss in (taught, "none"):
                for name in ("margin", "random"):
                    if (loss, name) in skip:
                        continue
                    gain = teacher * (loss == taught) + sampler * (name == "margin")
                    gain += both * (loss == taught and name == "margin")
                    plant([y + NOISE[seed] + gain for y in NEITHER], seed=seed, loss=loss, sampler=name, **options)

    return make


def claims(study: Study) -> dict[str, Claim]:
    found = {claim.sentence: claim for claim in study.claims}
    assert len(found) == len(study.claims)
    return found


@pytest.mark.parametrize(
    ("teacher", "sampler", "both"), [(0.1, 0.02, 0.03), (0.1, -0.02, 0.0), (-0.05, 0.02, -0.03), (0.0, 0.0, 0.0)]
)
def test_planted_effects_and_their_interaction_are_found(square, study, teacher, sampler, both) -> None:
    square(teacher, sampler, both)
    found = claims(study())
    expected = {EARLIER: teacher + both, BETTER: sampler + both, ADDS: both}
    assert {sentence: claim.gain.mean for sentence, claim in found.items()} == pytest.approx(expected)
    verdicts = {0: "INCONCLUSIVE", 1: "BEATS", -1: "LOSES"}
    for sentence, claim in found.items():
        size = expected[sentence]
        assert (claim.gain.verdict, claim.gain.n) == (verdicts[(size > 0) - (size < 0)], 5)


def test_what_was_compared_is_said(square, study) -> None:
    square(0.1)
    assert {claim.sentence: claim.compared for claim in study().claims} == {
        EARLIER: "kd − none, with margin, in the first half",
        BETTER: "margin − random, with kd",
        ADDS: "(margin − random) with kd − the same with none",
    }


def test_early_is_the_first_half_of_the_labels(plant, study) -> None:
    """A teacher that helps until 30 labels and hurts as much from there on."""
    taught = [y + g for y, g in zip(NEITHER, (0.1, 0.1, 0.1, -0.3, -0.3), strict=True)]
    for seed in range(5):
        plant([y + NOISE[seed] for y in taught], seed=seed, loss="kd", sampler="margin")
        plant([y + NOISE[seed] for y in NEITHER], seed=seed, loss="none", sampler="margin")
        plant([y + NOISE[seed] for y in NEITHER], seed=seed, loss="none", sampler="random")
    found = claims(study())
    assert found[EARLIER].gain.mean == pytest.approx(0.1)
    assert area(LABELS, taught, 10, 50) < area(LABELS, NEITHER, 10, 50)
    assert list(found) == [EARLIER]  # nothing was drawn at random with a teacher


@pytest.mark.parametrize(
    ("skip", "told"),
    [
        ([("none", "margin")], [BETTER]),
        ([("kd", "random")], [EARLIER]),
        ([("none", "random")], [EARLIER, BETTER]),
        ([("kd", "margin")], []),
        ([("none", "margin"), ("none", "random")], []),  # the loss is the same in all runs: no factor
    ],
)
def test_only_claims_whose_cells_were_run_are_made(square, study, skip, told: list[str]) -> None:
    square(0.1, 0.1, skip=skip)
    assert [claim.sentence for claim in study().claims] == told


def test_less_of_a_loss_is_better_for_claims_too(plant, study) -> None:
    for seed in range(5):
        for loss in ("kd", "none"):
            for sampler in ("margin", "random"):
                less = (
                    0.1 * (loss == "kd") + 0.02 * (sampler == "margin") + 0.03 * ((loss, sampler) == ("kd", "margin"))
                )
                nll = [1 - y + NOISE[seed] - less for y in NEITHER]
                plant(nll, figure="test_nll", seed=seed, loss=loss, sampler=sampler)
    found = claims(study(figure="test_nll"))
    assert [found[s].gain.mean for s in (EARLIER, BETTER, ADDS)] == pytest.approx([0.13, 0.05, 0.03])


def test_each_loss_and_each_sampler_has_its_own_square(plant, study) -> None:
    sizes = {("kd", "margin"): 0.3, ("kd", "badge"): 0.2, ("dist", "margin"): 0.1, ("dist", "badge"): 0.05}
    for loss in ("kd", "dist", "none"):
        for sampler in ("margin", "badge", "random"):
            gain = sizes.get((loss, sampler), 0.0)
            for seed in range(2):
                plant([y + gain + NOISE[seed] for y in NEITHER], seed=seed, loss=loss, sampler=sampler)
    told = {claim.compared: claim.gain.mean for claim in study().claims if claim.sentence == ADDS}
    assert told == {
        f"({sampler} − random) with {loss} − the same with none": pytest.approx(size)
        for (loss, sampler), size in sizes.items()
    }


def test_a_swept_key_of_the_loss_does_not_hide_the_square(plant, study) -> None:
    for sampler in ("margin", "random"):
        plant(NEITHER, loss="none", sampler=sampler)
        for temperature in (2, 4):
            plant(NEITHER, loss="kd", sampler=sampler, config={"loss": {"temperature": temperature}})
    assert [claim.sentence for claim in study().claims] == [EARLIER, BETTER, ADDS] * 2


def test_no_teacher_and_no_loss_of_a_teacher_are_one_thing(plant, study) -> None:
    """`loss=none teacher=none` against `loss=kd teacher=mlp`: both keys differ, always together."""
    for seed in range(5):
        for loss, teacher in (("kd", "mlp"), ("none", "none")):
            for sampler in ("margin", "random"):
                gain = 0.1 * (loss == "kd") + 0.02 * (sampler == "margin")
                options = {"loss": loss, "teacher": teacher, "sampler": sampler}
                plant([y + gain + NOISE[seed] for y in NEITHER], seed=seed, **options)
    found = claims(study())
    assert [found[s].gain.mean for s in (EARLIER, BETTER)] == pytest.approx([0.1, 0.02])
    assert found[ADDS].gain.mean == pytest.approx(0, abs=1e-9)


def test_several_teachers_are_each_compared_with_labels_alone(plant, study) -> None:
    for teacher, gain in (("mlp", 0.1), ("resnet8", 0.2), ("none", 0.0)):
        for sampler in ("margin", "random"):
            plant([y + gain for y in NEITHER], teacher=teacher, sampler=sampler)
    told = {claim.compared: claim.gain.mean for claim in study().claims if claim.sentence == EARLIER}
    assert told == {
        "mlp − none, with margin, in the first half": pytest.approx(0.1),
        "resnet8 − none, with margin, in the first half": pytest.approx(0.2),
    }


def test_claims_of_each_data_set_begin_with_its_name(square, study) -> None:
    for data in ("digits", "mnist"):
        square(0.1, data=data)
    told = [claim.compared for claim in study().claims if claim.sentence == BETTER]
    assert told == ["digits: margin − random, with kd", "mnist: margin − random, with kd"]


def test_seeds_that_not_all_four_have_are_left_out(plant, square, study) -> None:
    square(0.1, 0.02, 0.03, seeds=(0, 1, 2))
    plant([0.0] * 5, seed=3, loss="kd", sampler="margin")
    plant([0.9] * 5, seed=3, loss="kd", sampler="random")
    found = claims(study())
    assert (found[EARLIER].gain.n, found[BETTER].gain.n, found[ADDS].gain.n) == (3, 4, 3)
    assert found[ADDS].gain.mean == pytest.approx(0.03)


def test_without_seeds_in_common_nothing_is_claimed(plant, study) -> None:
    for seed, (loss, sampler) in enumerate(
        [("kd", "margin"), ("kd", "random"), ("none", "margin"), ("none", "random")]
    ):
        plant(NEITHER, seed=seed, loss=loss, sampler=sampler)
    assert study().claims == []


def test_without_a_range_in_common_nothing_is_claimed(plant, study) -> None:
    for loss in ("kd", "none"):
        for sampler, labels in (("margin", [10, 20, 30, 40, 50]), ("random", [60, 70, 80, 90, 95])):
            plant(NEITHER, loss=loss, sampler=sampler, labels=labels)
    assert study().claims == []
