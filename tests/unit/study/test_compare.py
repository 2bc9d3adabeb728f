"""From run folders to verdicts: planted effects are found with their size, and what cannot be compared is not."""

import math
from pathlib import Path

import numpy as np
import pytest

from kdal_cli.errors import UserError
from kdal_cli.study.compare import compare
from kdal_cli.study.records import CURRENCIES, find
from kdal_cli.study.statistics import area, interval
from kdal_cli.study.study import Block, Entry, Study, sign_of

RISING = (0.5, 0.6, 0.7, 0.75)
SEEDS = range(5)


def noise(seed: int) -> float:
    """What a seed adds to every figure of its runs."""
    return (0.0, 0.03, -0.02, 0.05, -0.04, 0.01)[seed]


def curve(seed: int, gain: float = 0.0) -> list[float]:
    return [round(y + noise(seed) + gain, 9) for y in RISING]


@pytest.fixture
def study(tmp_path: Path):
    """`study(**options)` of every run that was planted."""
    return lambda **options: compare(find([tmp_path / "runs"]), **options)


def block(study: Study) -> Block:
    (only,) = study.blocks
    return only


def entries(study: Study) -> dict[str, Entry]:
    return {entry.name: entry for entry in block(study).entries}


# Planted effects.


@pytest.mark.parametrize(("gain", "verdict"), [(0.02, "BEATS"), (-0.02, "LOSES")])
def test_a_planted_gain_is_found_with_its_size(plant, study, gain: float, verdict: str) -> None:
    for seed in SEEDS:
        plant(curve(seed), seed=seed, sampler="random")
        plant(curve(seed, gain), seed=seed, sampler="margin")
    told = study()
    assert (told.stage, told.figure, told.x, told.against) == (
        "al-loop",
        "test_accuracy",
        "labels",
        "sampler=random",
    )
    margin, random = entries(told)["margin"], entries(told)["random"]
    assert random.gain is None
    assert margin.gain is not None
    assert margin.gain.baseline == "random"
    for compared in (margin.gain.last, margin.gain.area):
        assert (compared.verdict, compared.n) == (verdict, 5)
        assert compared.mean == pytest.approx(gain)
        assert (compared.low, compared.high) == pytest.approx((gain, gain), abs=1e-6)
    assert margin.last.mean - random.last.mean == pytest.approx(gain)
    ahead, behind = (0, 1) if gain < 0 else (1, 0)  # random was planted first
    assert block(told).penalties.tolist() == [[0, ahead == 0], [behind == 0, 0]]


def test_equal_runs_are_inconclusive_and_nobody_is_beaten(plant, study) -> None:
    for seed in SEEDS:
        for sampler in ("random", "margin"):
            plant(curve(seed), seed=seed, sampler=sampler)
    gain = entries(study())["margin"].gain
    assert {gain.last.verdict, gain.area.verdict} == {"INCONCLUSIVE"}
    assert (gain.area.mean, gain.area.p_t, gain.area.ties) == (0, 1, 5)
    assert not block(study()).penalties.any()


def test_a_gain_that_is_lost_in_noise_is_inconclusive(plant, study) -> None:
    for seed in SEEDS:
        plant(curve(seed), seed=seed, sampler="random")
        plant(curve(seed, 0.02 + (-1) ** seed * 0.1), seed=seed, sampler="margin")
    assert entries(study())["margin"].gain.area.verdict == "INCONCLUSIVE"


def test_numbers_are_those_of_the_curves(plant, study) -> None:
    for seed in SEEDS:
        plant(curve(seed), seed=seed)
    (entry,) = entries(study(target=0.65)).values()
    ends = [curve(seed)[-1] for seed in SEEDS]
    assert entry.last == interval(ends)
    assert [x for x, _ in entry.curve] == [10, 20, 30, 40]
    assert entry.curve[1][1] == interval(curve(seed)[1] for seed in SEEDS)
    xs = [10, 20, 30, 40]
    assert entry.area.mean == pytest.approx(np.mean([area(xs, curve(seed), 10, 40) for seed in SEEDS]))
    reached = sorted(np.interp(0.65, curve(seed), xs) for seed in SEEDS)
    assert entry.reached.median == pytest.approx(reached[2])
    assert (entry.reached.reached, entry.reached.n) == (5, 5)


@pytest.mark.parametrize("figure", ["test_nll", "test_ece", "forgotten"])
def test_where_less_is_better_the_lower_curve_beats(plant, study, figure: str) -> None:
    for seed in SEEDS:
        falling = [2 - y for y in curve(seed)]
        plant(falling, figure=figure, seed=seed, sampler="random")
        plant([y - 0.1 for y in falling], figure=figure, seed=seed, sampler="margin")
    told = study(figure=figure)
    margin, random = entries(told)["margin"], entries(told)["random"]
    assert margin.gain.area.verdict == margin.gain.last.verdict == "BEATS"
    assert margin.gain.area.mean == pytest.approx(0.1)
    assert margin.last.mean < random.last.mean
    assert block(told).target == pytest.approx(2 - 0.75)  # of the seed in the middle
    assert margin.reached.median < random.reached.median
    assert block(told).penalties.tolist() == [[0, 0], [1, 0]]


def test_figures_of_which_less_is_better_are_those_that_are_measured() -> None:
    less = ("test_nll", "student.nll", "accuracy.ece", "forgotten")
    more = ("test_accuracy", "student.accuracy", "test_f1", "test_recall", "test_precision", "teacher_agreement")
    assert {sign_of(name) for name in less} == {-1}
    assert {sign_of(name) for name in more} == {1}


# Against what.


def test_against_seconds_the_faster_run_is_better_though_it_is_equal_label_by_label(plant, study) -> None:
    for seed in SEEDS:
        plant(curve(seed), seed=seed, sampler="random", seconds=[2.0] * 4)
        plant(curve(seed), seed=seed, sampler="margin", seconds=[1.0, 1.0, 3.0, 3.0])
    assert entries(study())["margin"].gain.area.verdict == "INCONCLUSIVE"
    told = study(x="seconds")
    assert block(told).range == (2.0, 8.0)
    assert entries(told)["margin"].gain.area.verdict == "BEATS"
    expected = area([1, 2, 5, 8], RISING, 2, 8) - area([2, 4, 6, 8], RISING, 2, 8)
    assert entries(told)["margin"].gain.area.mean == pytest.approx(expected)
    assert entries(told)["margin"].gain.last.mean == 0


@pytest.mark.parametrize("x", ["cost", "flops", "teacher_answers"])
def test_every_currency_can_be_what_is_compared_against(plant, study, x: str) -> None:
    for seed in SEEDS:
        for sampler, price in (("random", 1), ("margin", 3)):
            spent = {x: [price * labels + seed for labels in (10, 20, 30, 40)]}
            plant(curve(seed), seed=seed, sampler=sampler, columns=spent)
    told = study(x=x)
    assert block(told).range == (34, 40)  # the dearest start and the cheapest end of any seed
    assert entries(told)["margin"].gain.area.verdict == "LOSES"
    assert entries(told)["margin"].spent[x] == 3 * 40 + 2
    assert len(entries(told)["margin"].curve) == 40


def test_an_x_that_does_not_grow_is_refused_with_the_run(plant, study) -> None:
    plant(RISING, columns={"teacher_answers": [0, 0, 0, 0]})
    with pytest.raises(UserError, match=r"--x teacher_answers does not grow \(0 after 0 in .*run_0000\)"):
        study(x="teacher_answers")


@pytest.mark.parametrize("x", ["cost", "label", "round", ""])
def test_an_x_that_is_no_currency_of_all_runs_is_refused(plant, study, x: str) -> None:
    plant(RISING, columns={"cost": [1, 2, 3, 4]})
    plant(RISING, seed=1)
    with pytest.raises(UserError, match=rf"--x {x} ?\(not every run has it\).*known: labels, seconds"):
        study(x=x)


def test_a_figure_that_not_all_runs_have_is_refused(plant, study) -> None:
    plant(RISING)
    plant(RISING, figure="val_accuracy", seed=1)
    with pytest.raises(UserError, match=r"--metric val_accuracy .*not every run has it"):
        study(figure="val_accuracy")


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_a_figure_that_is_no_number_is_refused_with_its_round(plant, study, lost: float) -> None:
    plant([0.5, lost, 0.6])
    with pytest.raises(UserError, match=rf"--metric test_accuracy is not finite \(round 1 of .*run_0000: {lost}\)"):
        study()


def test_a_figure_without_a_name_is_refused(plant, study) -> None:
    plant(RISING)
    with pytest.raises(UserError, match="--metric"):
        study(figure="")


@pytest.mark.parametrize("target", [math.nan, math.inf])
def test_a_target_that_is_no_number_is_refused(plant, study, target: float) -> None:
    plant(RISING)
    with pytest.raises(UserError, match="--target"):
        study(target=target)


# Seeds.


def test_only_seeds_that_both_have_are_compared(plant, study) -> None:
    for seed in (0, 1, 2):
        plant(curve(seed), seed=seed, sampler="random")
    for seed in (1, 2, 3, 4):
        plant(curve(seed, 0.02), seed=seed, sampler="margin")
    gain = entries(study())["margin"].gain
    assert gain.last.seeds == gain.area.seeds == (1, 2)
    assert gain.last.mean == pytest.approx(0.02)
    assert not gain.last.enough


def test_without_a_seed_in_common_nothing_is_said(plant, study) -> None:
    plant(RISING, seed=0, sampler="random")
    plant(RISING, seed=1, sampler="margin")
    assert entries(study())["margin"].gain is None
    assert np.isnan(block(study()).penalties[0, 1])


def test_the_later_of_two_runs_of_a_seed_counts(plant, study) -> None:
    plant([0.1, 0.2], started="2026-01-02")
    plant([0.8, 0.9], started="2026-01-01")
    told = study()
    assert entries(told)["all runs"].last.mean == 0.2
    assert told.notes == ["all runs: 1 older run of the same seed left out"]


def test_one_run_is_told_without_a_comparison(plant, study) -> None:
    plant(RISING)
    told = study()
    (entry,) = block(told).entries
    assert (entry.gain, told.claims, told.ranking, block(told).penalties) == (None, [], None, None)
    assert entry.reached.median == 40  # its own end is its target


# Cells without a partner, and groups with keys of their own.


def test_a_cell_without_a_baseline_is_compared_with_nothing_and_sets_no_target(plant, study) -> None:
    plant(RISING, sampler="random", loss="kd")
    plant(RISING, sampler="margin", loss="kd")
    plant([0.1, 0.1, 0.1, 0.2], sampler="margin", loss="none")
    told = study()
    assert entries(told)["sampler=margin loss=none"].gain is None
    assert entries(told)["sampler=margin loss=kd"].gain is not None
    assert block(told).target == 0.75


def test_a_swept_key_of_an_option_is_compared_with_the_other_option(plant, study) -> None:
    for temperature in (2, 4):
        plant(RISING, loss="kd", config={"loss": {"temperature": temperature}})
    plant([0.4] * 4, loss="none")
    gains = {name: entry.gain and entry.gain.baseline for name, entry in entries(study()).items()}
    none = "loss=none loss.temperature=–"
    assert gains == {"loss=kd loss.temperature=2": none, "loss=kd loss.temperature=4": none, none: None}


def test_against_changes_the_baseline(plant, study) -> None:
    for sampler, gain in (("random", 0.0), ("margin", 0.02), ("badge", 0.03)):
        for seed in SEEDS:
            plant(curve(seed, gain), seed=seed, sampler=sampler)
    told = study(against="margin")
    assert told.against == "sampler=margin"
    gains = {name: entry.gain and entry.gain.area.mean for name, entry in entries(told).items()}
    assert gains == {"random": pytest.approx(-0.02), "margin": None, "badge": pytest.approx(0.01)}


# Data.


def test_each_data_set_is_a_block_of_its_own(plant, study) -> None:
    for data, gain in (("digits", 0.02), ("mnist", -0.02)):
        for seed in SEEDS:
            plant(curve(seed), seed=seed, sampler="random", data=data)
            plant(curve(seed, gain), seed=seed, sampler="margin", data=data)
    blocks = {part.name: {entry.name: entry for entry in part.entries} for part in study().blocks}
    assert {name: list(cells) for name, cells in blocks.items()} == {
        "digits": ["random", "margin"],
        "mnist": ["random", "margin"],
    }
    assert blocks["digits"]["margin"].gain.area.verdict == "BEATS"
    assert blocks["mnist"]["margin"].gain.area.verdict == "LOSES"


def test_data_are_no_baseline_where_something_else_differs(plant, study) -> None:
    """The first factor is one of the data, but within a block there is nothing to compare by it."""
    for data in ("digits", "mnist"):
        for lr in (0.1, 0.2):
            plant(RISING, data=data, config={"recipe": {"lr": lr}})
    told = study()
    assert told.against == "recipe.lr=0.1"
    assert [[entry.gain is None for entry in part.entries] for part in told.blocks] == [[True, False]] * 2
    with pytest.raises(UserError, match=r"do not differ in 'data'.*known: recipe\.lr"):
        study(against="data=digits")


def test_where_only_data_differ_they_are_compared(plant, study) -> None:
    plant(RISING, data="digits")
    plant(RISING, data="mnist")
    assert [entry.name for entry in block(study()).entries] == ["digits", "mnist"]
    assert block(study()).name == ""


@pytest.mark.parametrize("sets", [4, 5])
def test_methods_are_ranked_over_five_data_sets_in_whatever_order_they_ran(plant, study, sets: int) -> None:
    ends = {"margin": 0.9, "random": 0.5, "badge": 0.7}
    for number in range(sets):
        order = list(ends) if number % 2 else list(reversed(ends))
        for sampler in order:
            plant([0.1, ends[sampler]], sampler=sampler, data=f"data {number}")
    ranking = study().ranking
    if sets < 5:
        assert ranking is None
        return
    assert dict(zip(ranking.methods, ranking.ranks, strict=True)) == {"margin": 1, "badge": 2, "random": 3}
    assert ranking.data_sets == 5


def test_methods_that_not_all_data_sets_have_are_not_ranked(plant, study) -> None:
    for number in range(5):
        for sampler in ("margin", "random")[: 2 if number else 1]:
            plant(RISING, sampler=sampler, data=f"data {number}")
    assert study().ranking is None


# Rounds.


def test_a_stage_without_rounds_is_compared_by_its_result(plant, study) -> None:
    for seed in SEEDS:
        for loss, gain in (("none", 0.0), ("kd", 0.02)):
            figures = {"student": {"accuracy": 0.8 + noise(seed) + gain, "nll": 1.0}, "val_accuracy": 0.5}
            plant([], stage="distill", seed=seed, loss=loss, result=figures)
    told = study()
    assert (told.figure, block(told).range, block(told).target, block(told).penalties) == (
        "student.accuracy",
        None,
        None,
        None,
    )
    gain = entries(told)["kd"].gain
    assert (gain.last.verdict, gain.area) == ("BEATS", None)
    assert gain.last.mean == pytest.approx(0.02)


def test_runs_of_one_round_have_no_area(plant, study) -> None:
    for seed in SEEDS:
        plant([0.5 + noise(seed)], seed=seed, sampler="random")
        plant([0.6 + noise(seed)], seed=seed, sampler="margin")
    told = study()
    assert block(told).range is None
    assert entries(told)["margin"].gain.last.verdict == "BEATS"
    assert entries(told)["margin"].gain.area is None


def test_a_run_that_stopped_after_its_first_round_keeps_nobody_from_being_told(plant, study) -> None:
    plant([0.5], seed=0)
    plant([0.7, 0.8], seed=1)
    (entry,) = block(study()).entries
    assert [(x, found.mean, found.n) for x, found in entry.curve] == [(10, pytest.approx(0.6), 2)]
    assert entry.last.mean == pytest.approx(0.65)


def test_seeds_that_share_no_range_are_averaged_round_by_round(plant, study) -> None:
    plant([0.5, 0.6], seed=0, seconds=[1, 1])
    plant([0.7, 0.8], seed=1, seconds=[10, 10])
    (entry,) = block(study(x="seconds")).entries
    assert [(x, found.mean) for x, found in entry.curve] == [(5.5, pytest.approx(0.6)), (11, pytest.approx(0.7))]
    assert entry.area is None


def test_runs_that_ended_early_are_compared_as_far_as_both_went(plant, study) -> None:
    for seed in SEEDS:
        plant(curve(seed), seed=seed, sampler="random")
        plant(curve(seed, 0.02)[:3], seed=seed, sampler="margin")
    told = study()
    assert block(told).range == (10, 30)
    assert entries(told)["margin"].gain.area.mean == pytest.approx(0.02)
    assert block(told).penalties.tolist() == [[0, 0], [1, 0]]


def test_rounds_of_other_sizes_are_not_played_off_against_each_other(plant, study) -> None:
    """Round 1 at 20 labels against round 1 at 40 would be a comparison of budgets."""
    plant(RISING, config={"budget": {"query": 10}})
    plant(RISING, config={"budget": {"query": 20}}, labels=[10, 30, 50, 70])
    told = study()
    assert block(told).penalties is None
    assert block(told).range == (10, 40)


# Unfinished runs.


def test_unfinished_runs_are_left_out_while_others_are_finished(plant, study) -> None:
    plant([0.5, 0.6], seed=0, sampler="random")
    begun = [plant([0.9, 0.9], seed=1, sampler="random", done=False), plant([0.9], sampler="margin", done=False)]
    told = study()
    assert [entry.last.n for entry in block(told).entries] == [1]
    assert [record.folder for record in told.unfinished] == begun
    assert len(told.records) == 3


def test_while_none_is_finished_this_is_what_there_is_so_far(plant, study) -> None:
    plant([0.5, 0.6], seed=0, done=False, started="2026-01-02")
    plant([0.1, 0.1], seed=0, done=False, started="2026-01-01")
    plant([], seed=1, done=False)
    told = study()
    assert "no run is finished" in told.notes[0]
    assert entries(told)["all runs"].last.mean == 0.6


def test_runs_without_any_round_have_no_result_yet(plant, study) -> None:
    plant([], done=False)
    with pytest.raises(UserError, match="no run has a result yet"):
        study()
    with pytest.raises(UserError, match="no run has a result yet"):
        compare([])


def test_a_finished_run_of_nothing_is_refused(plant, study) -> None:
    plant([], stage="distill", result={})
    with pytest.raises(UserError, match=r"--metric student\.accuracy"):
        study()


def test_a_stage_that_nobody_knows_is_refused_in_words(plant, study) -> None:
    plant(RISING, stage="dream")
    with pytest.raises(UserError, match="--metric accuracy"):
        study()
    assert study(figure="test_accuracy").stage == "dream"


def test_what_was_spent_is_the_median_at_the_end(plant, study) -> None:
    for seed, dear in enumerate((1, 2, 30)):
        plant(RISING, seed=seed, columns={"cost": [dear * n for n in (1, 2, 3, 4)]}, seconds=[dear] * 4)
    (entry,) = block(study()).entries
    assert entry.spent == {"labels": 40, "cost": 8, "seconds": 8}
    assert set(entry.spent) <= set(CURRENCIES)


def test_a_target_ahead_is_predicted_for_cells_that_have_not_met_it(plant, tmp_path) -> None:
    for seed in range(2):
        plant([0.5, 0.6, 0.65, 0.68, 0.7], seed=seed, sampler="random")
        plant([0.5, 0.7, 0.8, 0.85, 0.9], seed=seed, sampler="margin")
    found = {entry.name: entry for entry in compare(find([tmp_path]), target=0.75).blocks[0].entries}
    assert found["margin"].forecast is None
    ahead = found["random"].forecast
    assert ahead is not None
    assert 50 < ahead.low < ahead.high
    rows = compare(find([tmp_path]), figure="labels", target=1000).blocks[0].entries
    assert all(entry.forecast is None for entry in rows)  # what is no share follows no such law
