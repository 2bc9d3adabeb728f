"""What `budget=…` means: a preset by name, or a number of labels a round, alone and in sweeps."""

from pathlib import Path

import pytest
import yaml
from cli.harness import Kdal, RunFolder


def composed(kdal: Kdal, *words: str) -> dict:
    ended = kdal("al-loop", "--cfg", "job", *words)
    assert (ended.code, ended.err) == (0, "")
    return yaml.safe_load(ended.out)["budget"]


@pytest.mark.parametrize(
    ("words", "budget"),
    [
        ([], (100, 100, 3)),
        (["budget=250"], (100, 250, 3)),
        (["budget=1_000"], (100, 1000, 3)),
        (["budget=small"], (20, 20, 9)),
        (["budget=large"], (1000, 1000, 9)),
        (["budget=large", "budget=300"], (1000, 300, 9)),
        (["budget=300", "budget=large"], (1000, 300, 9)),
        (["budget=250", "budget.rounds=5"], (100, 250, 5)),
        (["budget.rounds=5", "budget=250", "budget.initial=40"], (40, 250, 5)),
        (["budget={query: 60}"], (100, 60, 3)),
    ],
    ids=lambda part: " ".join(map(str, part)),
)
def test_a_number_is_the_query_of_the_preset(kdal: Kdal, words: list[str], budget: tuple[int, int, int]):
    assert tuple(composed(kdal, *words).values()) == budget


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["budget=5,10"], [[20, 25], [20, 30]]),
        pytest.param(["budget=5,10", "budget=medium", "budget.initial=3"], [[3, 8], [3, 13]], marks=pytest.mark.slow),
        pytest.param(["budget=range(5,16,5)"], [[20, 25], [20, 30], [20, 35]], marks=pytest.mark.slow),
        pytest.param(["budget=choice(5,10)"], [[20, 25], [20, 30]], marks=pytest.mark.slow),
        (["budget=small,medium"], [[20, 40], [100, 200]]),
        pytest.param(["budget=small,medium", "budget.query=7"], [[20, 27], [100, 107]], marks=pytest.mark.slow),
        pytest.param(["budget=5", "budget.initial=1,2"], [[1, 6], [2, 7]], marks=pytest.mark.slow),
    ],
    ids=lambda part: " ".join(map(str, part)),
)
def test_sweeps_over_numbers_and_over_presets(kdal: Kdal, here: Path, words: list[str], expected: list[list[int]]):
    fast = ("experiment=smoke", "loss=none", "budget.rounds=1", "recipe.steps=2", "recipe.checks=1")
    ended = kdal("al-loop", "-m", "hydra.sweep.dir=sweep", *fast, *words)
    assert (ended.code, ended.err) == (0, "")
    runs = [RunFolder(path) for path in sorted((here / "sweep").iterdir()) if path.is_dir()]
    assert [[int(row["labels"]) for row in run.table()] for run in runs] == expected


@pytest.mark.parametrize("sweep", ["small,50", "50,small", "choice(small,50)", "5,10,large"])
def test_a_sweep_over_both_is_refused_with_what_to_do(kdal: Kdal, sweep: str):
    ended = kdal("al-loop", "-m", f"budget={sweep}")
    assert ended.code == 2
    assert f"budget={sweep} mixes presets and numbers" in ended.refusal
    assert "budget=50,100 or budget=small,large" in ended.refusal


@pytest.mark.parametrize("values", ["50,100", "small,large"])
def test_several_values_without_a_sweep_are_refused_with_the_flag_that_is_missing(kdal: Kdal, values: str):
    ended = kdal("al-loop", f"budget={values}")
    assert ended.code == 2
    assert "budget" in ended.refusal
    assert "-m" in ended.refusal.split()


def test_in_a_file_of_ones_own_a_number_is_the_query(kdal: Kdal, here: Path):
    (here / "mine" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndefaults:\n  - override /budget: large\nbudget: {query: 60}\n"
    (here / "mine" / "experiment" / "sixty.yaml").write_text(text)
    words = ("--config-dir", "mine", "experiment=sixty")
    assert composed(kdal, *words) == {"initial": 1000, "query": 60, "rounds": 9}
    assert composed(kdal, *words, "budget=70") == {"initial": 1000, "query": 70, "rounds": 9}


def test_the_plan_is_told_before_anything_is_bought(kdal: Kdal):
    ended = kdal("al-loop", "experiment=smoke", "budget=215", "budget.rounds=2", "recipe.steps=2")
    plan = "20 to start + 1 round × 215 + a last round of 213 = 448 of 448 labels"
    assert plan in ended.out
    assert ended.out.index(plan) < ended.out.index("round 0/2")
    assert ended.run.table()[-1]["labels"] == "448"
