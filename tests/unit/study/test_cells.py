"""Runs that are alike find together, what differs is found, and a baseline is what all but one thing has in common."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdal_cli.errors import UserError
from kdal_cli.study.cells import Cell, baseline, cells, factors, matched, named
from kdal_cli.study.records import Record, Value


def record(
    seed: int = 0, *, done: bool = True, started: str = "", stage: str = "al-loop", choices=None, **settings: Value
) -> Record:
    """A run with these settings; `sampler__k` is the key sampler.k."""
    dotted = {key.replace("__", "."): value for key, value in settings.items()}
    return Record(Path(f"run {seed}"), stage, seed, done, {**dotted, "seed": seed}, choices or {}, started)


def chosen(seed: int = 0, **options: str) -> Record:
    """A run with these options, and `sampler.name` and the like among its settings."""
    return record(seed, choices=options, **{f"{group}__name": option for group, option in options.items()})


def levels(*records: Record) -> list[dict[str, str]]:
    return factors(records)


# Factors.


def test_nothing_is_a_factor_of_one_run_of_alike_runs_and_of_none() -> None:
    assert factors([]) == []
    assert levels(record(lr=0.1)) == [{}]
    assert levels(record(0, lr=0.1), record(1, lr=0.1)) == [{}, {}]


def test_a_key_that_differs_is_a_factor() -> None:
    assert levels(record(lr=0.1, steps=5), record(lr=0.2, steps=5)) == [{"lr": "0.1"}, {"lr": "0.2"}]


def test_an_option_that_differs_stands_for_its_keys() -> None:
    margin = record(choices={"sampler": "margin"}, sampler__name="margin")
    badge = record(choices={"sampler": "badge"}, sampler__name="badge", sampler__space="student")
    assert levels(margin, badge) == [{"sampler": "margin"}, {"sampler": "badge"}]


def test_a_key_within_an_option_that_differs_is_a_factor_besides() -> None:
    kd = [record(choices={"loss": "kd"}, loss__kd__temperature=t) for t in (2.0, 4.0)]
    none = record(choices={"loss": "none"})
    assert levels(*kd, none) == [
        {"loss": "kd", "loss.kd.temperature": "2"},
        {"loss": "kd", "loss.kd.temperature": "4"},
        {"loss": "none", "loss.kd.temperature": "–"},
    ]


def of_loss(loss: str, floor: int, **recipe: Value) -> Record:
    """A run whose recipe trains for as long as its loss asks, unless it is said otherwise."""
    settings = {f"loss__{loss}__weight": 1.0, "loss__recipe__floor": floor, "recipe__until__floor": floor, **recipe}
    return record(choices={"loss": loss}, **settings)


def test_what_a_loss_asks_of_the_recipe_is_no_factor_beside_the_loss() -> None:
    assert levels(of_loss("none", 150), of_loss("kd", 1000)) == [{"loss": "none"}, {"loss": "kd"}]


def test_what_was_typed_over_it_is_one() -> None:
    assert levels(of_loss("none", 150), of_loss("kd", 1000, recipe__until__floor=500)) == [
        {"loss": "none", "recipe.until.floor": "150"},
        {"loss": "kd", "recipe.until.floor": "500"},
    ]
    assert levels(of_loss("none", 150, recipe__batch=64), of_loss("kd", 150, recipe__batch=32)) == [
        {"loss": "none", "recipe.batch": "64"},
        {"loss": "kd", "recipe.batch": "32"},
    ]


@pytest.mark.parametrize(
    "key",
    ["seed", "device", "threads", "trust", "tracker.name", "data.root", "data.path", "teacher.store", "replay"],
)
def test_keys_that_change_no_result_are_no_factors(key: str) -> None:
    one, two = (Record(Path("x"), "al-loop", 0, True, {key: value}, {}, "") for value in ("a", "b"))
    assert factors([one, two]) == [{}, {}]


@pytest.mark.parametrize("key", ["seed_set.name", "data.rooted", "tracked", "teacher.stored"])
def test_a_key_that_only_begins_like_one_of_them_is(key: str) -> None:
    one, two = (Record(Path("x"), "al-loop", 0, True, {key: value}, {}, "") for value in ("a", "b"))
    assert factors([one, two]) == [{key: "a"}, {key: "b"}]


@pytest.mark.parametrize(
    ("one", "two", "told"),
    [
        (None, 5, ("–", "5")),
        (False, True, ("false", "true")),
        ('["kd"]', '["kd", "at"]', ('["kd"]', '["kd", "at"]')),
        (1, 2.5, ("1", "2.5")),
        (0.1234567891, 0.1234567892, ("0.1234567891", "0.1234567892")),  # never the same words for different values
        (1234567.0, 1234568.0, ("1234567.0", "1234568.0")),
        (1, True, ("1", "true")),
        ("", "x", ("", "x")),
    ],
)
def test_every_kind_of_setting_has_a_level(one: Value, two: Value, told: tuple[str, str]) -> None:
    assert levels(record(k=one), record(k=two)) == [{"k": told[0]}, {"k": told[1]}]


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_equal_values_do_not_differ(value: float) -> None:
    assert levels(record(k=value), record(k=1 if value == 1 else float("nan"))) == [{}, {}]


def test_a_key_that_an_older_run_does_not_have_yet_is_as_good_as_nothing() -> None:
    assert levels(record(), record(data__split__teacher=None)) == [{}, {}]
    assert levels(record(), record(data__split__teacher=600))[0] == {"data.split.teacher": "–"}


def test_a_group_without_an_option_has_a_level_too() -> None:
    assert levels(record(choices={"teacher": ""}), record(choices={"teacher": "mlp"}, teacher__kind="fixed")) == [
        {"teacher": "–"},
        {"teacher": "mlp"},
    ]


# Cells.


def test_runs_that_agree_in_every_factor_are_a_cell_by_seed() -> None:
    runs = [chosen(seed, sampler=sampler) for seed in (2, 0, 1) for sampler in ("margin", "random")]
    found, notes = cells(runs)
    assert [(cell.name, list(cell.runs)) for cell in found] == [("margin", [0, 1, 2]), ("random", [0, 1, 2])]
    assert notes == []


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abc"), st.booleans(), st.booleans()), max_size=20))
def test_every_run_is_in_one_cell_or_left_out_in_words(drawn) -> None:
    runs = [record(seed, done=done, lr=lr, nesterov=n) for seed, lr, n, done in drawn]
    found, notes = cells(runs)
    kept = [run for cell in found for run in [*cell.runs.values(), *cell.unfinished]]
    left = sum(int(note.split(": ")[1].split()[0]) for note in notes)
    assert len(kept) + left == len(runs)
    assert len({cell.name for cell in found}) == len(found)
    for cell in found:
        assert len({(r.settings["lr"], r.settings["nesterov"]) for r in [*cell.runs.values(), *cell.unfinished]}) == 1
        assert all(run.seed == seed and run.done for seed, run in cell.runs.items())


def test_of_runs_of_one_seed_the_one_that_started_last_counts_and_that_is_said() -> None:
    late, early, first = (record(4, started=day) for day in ("2026-03-01", "2026-02-01", "2026-01-01"))
    found, notes = cells([early, late, first])
    assert found[0].runs[4] is late
    assert notes == ["all runs: 2 older runs of the same seed left out"]


def test_an_unfinished_run_never_replaces_a_finished_one() -> None:
    done, begun = record(0, started="2026-01-01"), record(0, done=False, started="2026-02-01")
    (cell,), notes = cells([done, begun])
    assert (cell.runs, cell.unfinished, notes) == ({0: done}, [begun], [])


def test_runs_of_several_stages_are_refused() -> None:
    with pytest.raises(UserError, match="several stages: al-loop, distill"):
        cells([record(), record(stage="distill")])


def test_names() -> None:
    assert named({}) == "all runs"
    assert named({"sampler": "badge"}) == "badge"
    assert named({"sampler": "badge", "loss": "kd"}) == "sampler=badge loss=kd"


# What a cell is compared with.


def cell(**levels: str) -> Cell:
    return Cell({factor.replace("__", "."): level for factor, level in levels.items()}, {})


def test_a_cell_is_compared_with_the_one_that_differs_in_the_baseline_alone() -> None:
    square = [cell(sampler=s, loss=loss) for s in ("margin", "random") for loss in ("kd", "none")]
    against = {"sampler": "random"}
    assert [matched(each, against, square) for each in square] == [square[2], square[3], None, None]
    assert matched(square[0], {"sampler": "random", "loss": "none"}, square) is square[3]
    assert matched(square[0], {"sampler": "random"}, square[:2]) is None


def test_keys_of_an_option_do_not_keep_it_from_its_baseline() -> None:
    two, four = (cell(loss="kd", loss__kd__temperature=t) for t in ("2", "4"))
    none = cell(loss="none", loss__kd__temperature="–")
    assert [matched(each, {"loss": "none"}, [two, four, none]) for each in (two, four, none)] == [none, none, None]
    assert matched(four, {"loss.kd.temperature": "2"}, [two, four, none]) is two


def test_of_two_baselines_that_are_as_near_none_is_taken_and_of_an_exact_one_that() -> None:
    two, four, dist = cell(loss="kd", loss__t="2"), cell(loss="kd", loss__t="4"), cell(loss="dist", loss__t="–")
    assert matched(dist, {"loss": "kd"}, [two, four, dist]) is None
    assert matched(two, {"loss": "kd"}, [two, four, dist]) is None  # it is one of them
    twin = cell(loss="dist", loss__t="4")
    assert matched(twin, {"loss": "kd"}, [two, four, twin]) is four


@pytest.mark.parametrize(
    ("found", "customary"),
    [
        ([cell(sampler="margin"), cell(sampler="random")], {"sampler": "random"}),
        ([cell(loss="kd"), cell(loss="none")], {"loss": "none"}),
        ([cell(loss="kd", sampler="random"), cell(loss="none", sampler="margin")], {"sampler": "random"}),
        ([cell(loss="kd", teacher="mlp"), cell(loss="none", teacher="none")], {"loss": "none", "teacher": "none"}),
        ([cell(lr="0.2"), cell(lr="0.1")], {"lr": "0.2"}),  # nothing is customary: the first
        ([cell()], {}),
        ([], {}),
    ],
)
def test_the_customary_baseline(found: list[Cell], customary: dict[str, str]) -> None:
    assert baseline(None, found) == customary


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sampler=badge", {"sampler": "badge"}),
        ("badge", {"sampler": "badge"}),
        ("none", {"loss": "none"}),  # whichever factor has it
        ("sampler=random,loss=none", {"sampler": "random", "loss": "none"}),
        ('of=["a", "b"]', {"of": '["a", "b"]'}),  # commas of a list part nothing
        ('loss=kd,of=["a", "b"]', {"loss": "kd", "of": '["a", "b"]'}),
    ],
)
def test_a_baseline_in_words(text: str, told: dict[str, str]) -> None:
    found = [
        cell(sampler=s, loss=loss, of=o)
        for s in ("badge", "random")
        for loss in ("kd", "none")
        for o in ("[]", '["a", "b"]')
    ]
    assert baseline(text, found) == told


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("smapler=random", "do not differ in 'smapler'.*did you mean 'sampler'"),
        ("sampler=randm", "no run has it.*did you mean 'random'"),
        ("randm", "no run has it.*did you mean 'random'"),
        ("sampler=", "no run has it"),
        ("", "no run has it"),
        ("=random", "do not differ in ''"),
        ("sampler=random,", "no run has it"),
    ],
)
def test_a_baseline_that_no_run_has_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UserError, match=f"--against {text} ?.*{reason}"):
        baseline(text, [cell(sampler="random"), cell(sampler="badge")])


def test_runs_that_do_not_differ_have_no_baseline_to_name() -> None:
    with pytest.raises(UserError, match="these runs differ in nothing"):
        baseline("sampler=random", [cell()])
