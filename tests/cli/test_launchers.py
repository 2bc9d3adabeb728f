"""Sweeps whose jobs run elsewhere: in other processes, on a cluster, or where a search sends them."""

import os
import shutil
import socket
import sqlite3
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
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


SLURM = """\
ClusterName=kdal
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES State=UP
"""


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster of one node on loopback, as long as the test lasts; it needs root, as slurmd does."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    if missing or os.getuid() != 0:
        pytest.skip(f"needs root and {', '.join(missing)}: apt-get install slurm-wlm munge")
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    host, (controller, daemon) = socket.gethostname().partition(".")[0], free_ports(2)
    conf = folder / "slurm.conf"
    conf.write_text(SLURM.format(host=host, controller=controller, daemon=daemon, user="root", folder=folder))
    monkeypatch.setenv("SLURM_CONF", str(conf))
    munge = [f"--{name}={folder}/munge{end}" for name, end in (("key-file", ".key"), ("socket", ".socket"))]
    munge += [f"--{name}={folder}/munge.{name}" for name in ("pid-file", "log-file", "seed-file")]
    daemons = [["munged", "--foreground", "--force", *munge], ["slurmctld", "-D"], ["slurmd", "-D", "-N", host]]
    started: list[subprocess.Popen] = []
    try:
        for command in daemons:
            with (folder / f"{command[0]}.out").open("w") as out:
                started.append(subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT))
            time.sleep(1)
        until_idle(folder)
        yield
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(30)


def free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in taken]
    for server in taken:
        server.close()
    return ports


def until_idle(folder: Path) -> None:
    """Wait for the node."""
    for _ in range(60):
        state = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True).stdout.strip()
        if state == "idle":
            return
        time.sleep(0.5)
    said = "\n".join(path.read_text()[-500:] for path in folder.glob("*.out"))
    raise AssertionError(f"the node is {state!r}:\n{said}")


@pytest.mark.slow
def test_slurm_runs_the_jobs_and_brings_their_errors_back(slurm: None, type_in: Type, here: Path) -> None:
    need("submitit")
    launcher = ("hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=5", "hydra.launcher.cpus_per_task=1")
    ended = type_in(*SMALL, *launcher, "threads=1", "budget.initial=5,10,100000")
    assert ended.code == 2, ended.err
    assert [row["state"] for row in summary(here)] == ["done", "done", "failed"]
    assert "budget.initial=100000 is more than the 448 images" in ended.out
    assert len(list((here / "sweep" / ".submitit").glob("*/*_result.pkl"))) == 3
