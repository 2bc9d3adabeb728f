"""A study in words and tables: units, verdicts, order, corrections, and every number in plain units."""

import io
import math
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table
from run_folders import run_folder, study

from kdal_cli.report.standings import BEST, drawn_out, standings
from kdal_cli.report.study_tables import claims_table, summary_rows, summary_table
from kdal_cli.report.study_text import NOT_ENOUGH, Figure, amount, answer, p_value, question, verdict
from kdal_cli.study.statistics import Interval, holm, paired
from kdal_cli.study.study import Gain, corrected

JITTER = (0.0, 0.01, -0.01, 0.02, -0.02)


def sampled(top: Path, ends: dict[str, float], seeds: int = 5, **more) -> None:
    """Runs of two rounds from 0.5 to an end, a little different from seed to seed and from sampler to sampler."""
    for place, (sampler, end) in enumerate(ends.items()):
        for seed in range(seeds):
            last = end + JITTER[seed] + 0.001 * ((seed * (place + 2)) % 5)
            run_folder(top, [0.5 + JITTER[seed], last], seed=seed, sampler=sampler, **more)


def drawn(table: Table) -> list[str]:
    console = Console(file=io.StringIO(), width=200, color_system=None, _environ={})
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_shares_are_in_percent_their_differences_in_points_and_nats_are_nats() -> None:
    gain = paired({0: 0.75, 1: 0.8}, {0: 0.5, 1: 0.5})
    accuracy, nll = Figure("test_accuracy"), Figure("student.nll")
    assert (accuracy.headed, accuracy.points, nll.headed, nll.points) == (
        "test accuracy, %",
        "points",
        "student NLL, nats",
        "nats",
    )
    assert accuracy.mean(Interval(0.9327, 0.93, 0.9354, 5)) == "93.27 ± 0.27"
    assert accuracy.difference(gain) == f"+27.50 ± {100 * (gain.high - gain.mean):.2f}"
    assert nll.value(-1.23456) == "−1.2346"
    assert Figure("test_accuracy_at_best_val").share
    assert not Figure("forgotten").share


def test_one_seed_has_no_half_interval() -> None:
    assert Figure("accuracy").mean(Interval(0.5, math.nan, math.nan, 1)) == "50.00"
    assert Figure("accuracy").measured(paired({0: 0.5}, {0: 0.6})) == "−10.00 points"


@pytest.mark.parametrize(
    ("currency", "value", "text"),
    [
        ("labels", 1234.4, "1,234"),
        ("labels", math.inf, "never"),
        ("cost", 12.5, "12.5"),
        ("flops", 1.93e8, "193 M"),
        ("flops", 12.0, "12"),
        ("seconds", 200.0, "3 min 20 s"),
    ],
)
def test_amounts_have_the_unit_of_their_currency(currency: str, value: float, text: str) -> None:
    assert amount(currency, value) == text


def test_p_values_are_never_told_as_zero() -> None:
    assert [p_value(p) for p in (0.0, 0.0009, 0.05, 1.0, None)] == ["< 0.001", "< 0.001", "0.050", "1.000", "–"]


@pytest.mark.parametrize(("seeds", "word"), [(4, NOT_ENOUGH), (5, "BEATS")])
def test_a_verdict_needs_five_seeds(seeds: int, word: str) -> None:
    difference = paired({s: 0.9 + JITTER[s] for s in range(seeds)}, dict.fromkeys(range(seeds), 0.5))
    (gain,) = corrected([Gain("random", difference, None)])
    assert gain.verdict == "BEATS"
    assert verdict(gain) == word


def test_the_best_comes_first_whether_more_or_less_is_better(tmp_path: Path) -> None:
    sampled(tmp_path, {"random": 0.7, "margin": 0.8, "bald": 0.6})
    by_accuracy, by_nll = study(tmp_path), study(tmp_path, figure="test_nll")
    for found in (by_accuracy, by_nll):
        ranked = standings(found, found.blocks[0])
        assert [standing.entry.name for standing in ranked] == ["margin", "random", "bald"]
        assert [standing.is_baseline for standing in ranked] == [False, True, False]
    area = by_nll.blocks[0].entries[0].area
    assert area is not None
    assert area.mean == pytest.approx(1 - by_accuracy.blocks[0].entries[0].area.mean)


def test_p_values_are_corrected_for_all_cells_of_a_study(tmp_path: Path) -> None:
    for data in ("digits", "mnist"):
        sampled(tmp_path, {"random": 0.7, "margin": 0.72, "badge": 0.701, "bald": 0.699}, data=data)
    found = study(tmp_path)
    told = [entry.gain for block in found.blocks for entry in block.entries if entry.gain]
    assert len(told) == 6
    assert [gain.p_t for gain in told] == holm([gain.headline.p_t for gain in told])
    assert [gain.p_wilcoxon for gain in told] == holm([gain.headline.p_wilcoxon for gain in told])
    assert [gain.p_t for gain in told] != [gain.headline.p_t for gain in told]


def test_a_saving_is_how_many_times_as_much_the_baseline_takes(tmp_path: Path) -> None:
    run_folder(tmp_path, [0.1, 0.3, 0.5, 0.6])
    run_folder(tmp_path, [0.1, 0.6, 0.7, 0.8], sampler="margin")  # half as many labels to 0.6
    run_folder(tmp_path, [0.1, 0.2, 0.2, 0.2], sampler="bald")
    found = study(tmp_path, target=0.6)
    savings = {standing.entry.name: standing.saving for standing in standings(found, found.blocks[0])}
    assert savings == {"margin": pytest.approx(2), "random": None, "bald": None}


def test_of_many_cells_the_best_and_the_baseline_are_drawn_out(tmp_path: Path) -> None:
    for place in range(12):
        run_folder(tmp_path, [0.2, 0.9 - 0.05 * place], sampler=f"s{place}")
    run_folder(tmp_path, [0.1, 0.11])
    found = study(tmp_path)
    names = [standing.entry.name for standing in drawn_out(standings(found, found.blocks[0]))]
    assert names == [*(f"s{place}" for place in range(BEST)), "random"]


def test_the_summary_has_a_line_for_each_cell(tmp_path: Path) -> None:
    sampled(tmp_path, {"random": 0.7, "[red]x[/red]": 0.8})
    found = study(tmp_path)
    head, _, best, baseline = drawn(summary_table(found, found.blocks[0]))
    assert "test accuracy at the end %" in head
    assert best.startswith("[red]x[/red]  ")
    assert best.rstrip().endswith("BEATS")
    assert baseline.startswith("random (baseline)")
    assert "BEATS" not in baseline
    entry = next(entry for entry in found.blocks[0].entries if entry.gain)
    assert Figure("test_accuracy").difference(entry.gain.area) in best


def test_runs_without_rounds_have_neither_area_nor_labels_to_a_target(tmp_path: Path) -> None:
    for loss, end in (("none", 0.6), ("kd", 0.7)):
        for seed in range(5):
            run_folder(tmp_path, [end + JITTER[seed] * (1 + end)], seed=seed, loss=loss, stage="distill")
    found = study(tmp_path)
    head, _, best, _ = drawn(summary_table(found, found.blocks[0]))
    assert "area" not in head
    assert best.startswith("kd")
    row = summary_rows(found)[0]
    assert row["area_mean"] is None
    assert row["verdict"] == "BEATS"


def squared(top: Path, seeds: int) -> None:
    for loss, add in (("none", 0.0), ("kd", 0.1)):
        sampled(top, {"random": 0.6 + add, "margin": 0.65 + add}, seeds=seeds, loss=loss)


def test_claims_are_told_one_a_line(tmp_path: Path) -> None:
    squared(tmp_path, 5)
    found = study(tmp_path)
    _, _, *lines = drawn(claims_table(found))
    assert len(lines) == len(found.claims) == 3
    for line, claim in zip(lines, found.claims, strict=True):
        assert claim.sentence in line
        assert Figure("test_accuracy").difference(claim.gain) in line
        assert line.rstrip().endswith(claim.gain.verdict)


def test_rows_have_every_number_in_plain_units(tmp_path: Path) -> None:
    sampled(tmp_path, {"random": 0.7, "margin": 0.8})
    found = study(tmp_path)
    best, baseline = summary_rows(found)
    assert list(best) == list(baseline)
    entry = next(entry for entry in found.blocks[0].entries if entry.name == "margin")
    assert (best["cell"], best["sampler"], best["baseline"]) == ("margin", "margin", "random")
    assert (best["last_mean"], best["last_high"]) == (entry.last.mean, entry.last.high)
    assert (best["area_gain_mean"], best["area_gain_wins"]) == (entry.gain.area.mean, 5)
    assert (best["spent_labels"], best["spent_seconds"]) == (20, 4)
    assert (baseline["is_baseline"], baseline["area_gain_mean"]) == (1, None)


def test_what_has_no_number_is_none_and_never_is_infinite(tmp_path: Path) -> None:
    run_folder(tmp_path, [0.1, 0.5])
    run_folder(tmp_path, [0.1, 0.2], sampler="margin")
    rows = {row["cell"]: row for row in summary_rows(study(tmp_path, target=0.4))}
    assert rows["random"]["last_low"] is None
    assert rows["margin"]["to_target_median"] == math.inf
    assert rows["margin"]["verdict"] == NOT_ENOUGH
    assert not any(isinstance(value, float) and math.isnan(value) for row in rows.values() for value in row.values())


def test_the_answer_counts_the_verdicts(tmp_path: Path) -> None:
    sampled(tmp_path, {"random": 0.7, "margin": 0.8, "bald": 0.6, "badge": 0.701})
    found = study(tmp_path)
    assert question(found) == "What is better than sampler=random at the same number of labels?"
    first, second = answer(found)
    verdicts = [standing.gain.verdict for standing in standings(found, found.blocks[0]) if standing.gain]
    assert sorted(verdicts) == ["BEATS", "INCONCLUSIVE", "LOSES"]
    assert first == "3 cells against sampler=random: 1 BEATS, 1 LOSES, 1 INCONCLUSIVE."
    assert second.startswith("The best difference: margin, +")


def test_the_answer_to_few_seeds_is_that_they_are_few_and_the_difference(tmp_path: Path) -> None:
    squared(tmp_path, 2)
    told = list(answer(study(tmp_path)))
    assert len(told) == 3
    assert all(f": {NOT_ENOUGH} (" in line and "points, 2 seeds of 5)." in line for line in told)
    assert not any(word in line for line in told for word in ("BEATS", "LOSES", "INCONCLUSIVE"))


def test_a_single_run_and_runs_without_a_common_seed_are_compared_with_nothing(tmp_path: Path) -> None:
    run_folder(tmp_path, [0.1, 0.5])
    assert list(answer(study(tmp_path))) == ["all runs: 50.00 %; there is nothing to compare it with."]
    run_folder(tmp_path, [0.1, 0.6], sampler="margin", seed=1)
    assert "2 cells, and no two of them" in next(iter(answer(study(tmp_path))))
