"""Sweeps and runs on a cluster of two nodes, one of which may die: what docs/cluster.md and docs/sweeps.md show."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli import clusters
from cli.clusters import Cluster, said
from cli.harness import CONSOLE_SCRIPT, Kdal, RunFolder, hear_ctrl_c

pytestmark = pytest.mark.slow

SWEEP = ("al-loop", "experiment=smoke", "budget.rounds=1", "threads=1", "-m", "hydra.sweep.dir=sweep")
FORTY = ("seed=range(10)", "budget.initial=20,30,40,100000")
"""Jobs, a quarter of which ask for more labels than there are."""

ONE = ("al-loop", "experiment=smoke", "recipe.precision=fp32", "teacher.recipe.precision=fp32", "threads=1")
ENVIRONMENT = {"PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1", "RAY_DEDUP_LOGS": "0"}
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with clusters.slurm(tmp_path_factory.mktemp("slurm"), monkeypatch) as made:
        yield made


@pytest.fixture
def ray(
    tmp_path_factory: pytest.TempPathFactory, here: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Cluster, str]]:
    with clusters.ray(tmp_path_factory.mktemp("ray"), here, monkeypatch) as made:
        yield made


class Sweep:
    """Forty jobs, in the folder `sweep` of `here`."""

    def __init__(self, here: Path) -> None:
        self.here = here

    def ended(self) -> int:
        notes = self.here / "sweep" / "jobs.jsonl"
        return len({json.loads(line)["job"] for line in notes.read_text().splitlines()}) if notes.exists() else 0

    def under_way(self, since: str = "manifest.json") -> set[str]:
        """The numbers of jobs that have written this file and are not done."""
        folders = [path.parent for path in self.here.glob(f"sweep/*/{since}")]
        return {folder.name.partition("_")[0] for folder in folders if not (folder / "result.json").exists()}

    def starts(self) -> dict[str, int]:
        """How often each job was started that could be."""
        manifests = {path.parent.name.partition("_")[0]: path for path in self.here.glob("sweep/*/manifest.json")}
        return {number: len(json.loads(path.read_text())["starts"]) for number, path in manifests.items()}

    def check(self, again: set[str]) -> None:
        """All is there once: jobs, teacher, table of answers; only some of the jobs `again` were started again."""
        rows = RunFolder(self.here / "sweep").table("summary.csv")
        assert [row["job"] for row in rows] == [str(number) for number in range(40)]
        assert Counter(row["state"] for row in rows) == {"done": 30, "failed": 10}
        assert {row["exit_code"] for row in rows if row["state"] == "failed"} == {"2"}
        assert len(list(self.here.glob("outputs/teachers/*/teacher.safetensors"))) == 1
        assert len(list(self.here.glob("outputs/teachers/answers/*/*"))) == 1
        for path in self.here.glob("sweep/*/curve.csv"):
            assert [row["round"] for row in RunFolder(path.parent).table()] == ["0", "1"]
        starts = self.starts()
        assert len(starts) == 30
        twice = {number for number, count in starts.items() if count > 1}
        assert twice
        assert twice <= again

    def loses_n2_and_is_stopped(self, cluster: Cluster, *command: str) -> set[str]:
        """The command starts it. When n2 is dead and most jobs have ended, Ctrl-C. -> jobs that ran when n2 died."""
        with (self.here / "said").open("w") as out:
            process = subprocess.Popen(
                command,
                cwd=self.here,
                env=os.environ | ENVIRONMENT,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=hear_ctrl_c,
            )

        def ended(jobs: int) -> bool:
            assert process.poll() is None, (self.here / "said").read_text()[-2000:]
            return self.ended() >= jobs

        try:
            cluster.until(
                lambda: ended(8) and len(self.under_way("curve.csv")) == 2, 600, "eight jobs have ended, two run"
            )
            lost = self.under_way()
            cluster.kill("n2")
            lost |= self.under_way()  # one may have started meanwhile
            cluster.until(lambda: ended(34), 1200, "six jobs are left")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            process.wait(120)
        return lost


def typed(here: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=here, env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=900)


def documented(page: str, language: str, beginning: str) -> str:
    """The one block of a page that begins so."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    [found] = [block for block in blocks if block.startswith(beginning)]
    return found


def launcher(name: str) -> list[str]:
    """What the page says about Hydra's launcher of this name."""
    words = shlex.split(documented("cluster.md", "sh", f"kdal al-loop -m hydra/launcher={name}").replace("\\\n", " "))
    return [word for word in words if word.lstrip("+").startswith("hydra")]


def weights(run: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((run / "checkpoints").glob("round_*.safetensors"))]


def test_slurm_loses_a_node_and_the_sweep_goes_on_and_is_resumed(slurm: Cluster, here: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'kdal[submitit]'")
    words = [word.replace("cpus_per_task=4", "cpus_per_task=1") for word in launcher("submitit_slurm")]
    sweep = Sweep(here)
    again = sweep.loses_n2_and_is_stopped(slurm, str(CONSOLE_SCRIPT), *SWEEP, *words, *FORTY)
    subprocess.run(["scancel", "--name=al-loop"], check=True)
    slurm.until(lambda: not said("squeue", "-h"), 120, "no job is left")
    again |= sweep.under_way()
    resumed = typed(here, str(CONSOLE_SCRIPT), "al-loop", "-m", "resume=sweep")
    assert "summary in " in resumed.stdout, resumed.stderr
    assert resumed.returncode == 2
    sweep.check(again)


def test_ray_loses_a_node_and_the_sweep_goes_on_and_is_resumed(ray: tuple[Cluster, str], here: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="pip install 'kdal[ray]'", exc_type=ImportError)
    cluster, address = ray
    words = [word.replace("HOST:6379", address) for word in launcher("ray")]
    here_on_n1 = cluster.on("n1", here)
    sweep = Sweep(here)
    again = sweep.loses_n2_and_is_stopped(cluster, *here_on_n1, str(CONSOLE_SCRIPT), *SWEEP, *words, *FORTY)
    again |= sweep.under_way()
    resumed = typed(here, *here_on_n1, str(CONSOLE_SCRIPT), "al-loop", "-m", "resume=sweep", *words[1:])
    assert "summary in " in resumed.stdout, resumed.stderr
    assert resumed.returncode == 2
    sweep.check(again)


def test_one_run_over_two_nodes_of_slurm_learns_what_devices_2_does(
    slurm: Cluster, kdal: Kdal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{CONSOLE_SCRIPT.parent}:{os.environ['PATH']}")
    command = documented("cluster.md", "sh", "srun").replace("--nproc-per-node=2", "--nproc-per-node=1")
    command = command.replace("29500", str(clusters.free_ports(1)[0]))
    command = command.replace("al-loop sampler=margin budget=100", " ".join([*ONE, "hydra.run.dir=there"]))
    there = typed(kdal.here, "sbatch", "--wait", "--nodes=2", "--ntasks-per-node=1", "--output=said", "--wrap", command)
    assert there.returncode == 0, (kdal.here / "said").read_text()
    here = kdal(*ONE, "device=cpu", "devices=2", "hydra.run.dir=here")
    assert here.code == 0
    assert weights(kdal.here / "there") == weights(kdal.here / "here")
    assert len(weights(kdal.here / "there")) == 3


def test_one_run_by_ray_train_learns_what_devices_2_does(ray: tuple[Cluster, str], kdal: Kdal) -> None:
    pytest.importorskip("ray.train.torch", reason="pip install 'kdal[ray]'", exc_type=ImportError)
    cluster, address = ray
    (kdal.here / "ray_train.py").write_text(documented("cluster.md", "python", "import"))
    words = (*ONE, "hydra.run.dir=there")
    prefix = [*cluster.on("n1", kdal.here), "env", f"RAY_ADDRESS={address}"]
    there = typed(kdal.here, *prefix, sys.executable, "ray_train.py", "2", *words)
    assert there.returncode == 0, there.stdout + there.stderr
    here = kdal(*ONE, "device=cpu", "devices=2", "hydra.run.dir=here")
    assert here.code == 0
    assert weights(kdal.here / "there") == weights(kdal.here / "here")
