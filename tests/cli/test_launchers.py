"""Sweeps whose jobs run in other processes, or where a search sends them; on clusters: `test_clusters`."""

import sqlite3
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cli.harness import Ended, RunFolder

SMALL = ("al-loop", "experiment=smoke", "loss=none", "budget.rounds=1", "-m", "hydra.sweep.dir=sweep")
LAUNCHERS = {
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "submitit": ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"),
    "ray": ("hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"),
}
OPTUNA = (*SMALL, "hydra/sweeper=optuna", "hydra.sweeper.direction=maximize", "hydra.sweeper.sampler.seed=0")

Type = Callable[..., Ended]


def need(plugin: str) -> None:
    module = f"hydra_plugins.hydra_{plugin}_{'sweeper' if plugin == 'optuna' else 'launcher'}"
    pytest.importorskip(module, reason=f"pip install 'kdal[{plugin}]'", exc_type=ImportError)


@pytest.fixture
def type_in(installed: Type) -> Type:
    """`type_in(words)` runs the console script; the plugins' libraries may warn."""
    return lambda *words: installed(*words, PYTHONWARNINGS="default")


def forgiving() -> None:
    warnings.simplefilter("ignore")


def ours(ended: Ended) -> list[str]:
    """The lines on stderr that are ours; Ray's and Slurm's are beside them."""
    return [line for line in ended.err.splitlines() if line.startswith("kdal: ")]


def summary(here: Path) -> list[dict[str, str]]:
    return RunFolder(here / "sweep").table("summary.csv")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_jobs_elsewhere_are_those_of_one_process_and_one_that_fails_is_told(
    kdal: Type, type_in: Type, here: Path, launcher: str
) -> None:
    need(launcher)
    alone = kdal(*SMALL[:4], "budget.initial=5").run.outcome()
    ended = type_in(*SMALL, *LAUNCHERS[launcher], "budget.initial=5,100000")
    assert ended.code == 2, ended.err
    assert not any("a fault of kdal" in line for line in ours(ended))
    assert [row["state"] for row in summary(here)] == ["done", "failed"]
    assert "budget.initial=100000 is more than the 448 images" in ended.out
    [run] = [RunFolder(path) for path in (here / "sweep").glob("0_*")]
    assert run.outcome() == alone


class TestOptuna:
    """In one process, whose libraries may warn."""

    def test_a_search_is_by_the_validation_accuracy(self, kdal: Type, here: Path) -> None:
        need("optuna")
        space = ("recipe.lr=interval(0.0001,0.01)", "recipe.batch=8,16")
        ended = kdal(*OPTUNA, *space, "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1", first=forgiving)
        assert ended.code == 0, ended.err
        found = yaml.safe_load((here / "sweep" / "optimization_results.yaml").read_text())
        accuracies = {float(row["recipe.lr"]): float(row["val_accuracy"]) for row in summary(here)}
        assert len(accuracies) == 3
        assert found["best_value"] == max(accuracies.values())
        assert accuracies[found["best_params"]["recipe.lr"]] == found["best_value"]

    @pytest.mark.slow
    def test_one_that_is_kept_in_a_file_goes_on(self, kdal: Type, here: Path) -> None:
        need("optuna")
        kept = ("hydra.sweeper.storage=sqlite:///search.db", "hydra.sweeper.study_name=lr")
        words = (*OPTUNA, *kept, "recipe.lr=interval(0.0001,0.01)", "hydra.sweeper.n_trials=1")
        for trials in (1, 2):
            ended = kdal(*words, f"hydra.sweep.dir=sweep/{trials}", "hydra.sweeper.n_jobs=1", first=forgiving)
            assert ended.code == 0, ended.err
            with sqlite3.connect(here / "search.db") as database:
                states = database.execute("select state from trials").fetchall()
            database.close()
            assert states == [("COMPLETE",)] * trials
