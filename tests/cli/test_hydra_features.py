"""What Hydra gives still works behind the stages: showing, sweeping, completing, and configuration of one's own."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from cli.harness import CONSOLE_SCRIPT, Ended, Kdal, RunFolder

from kdal_cli.cli.main import READERS, STAGES

SHORT = ("experiment=smoke", "budget.rounds=1", "recipe.steps=2", "recipe.checks=1")

SAMPLER = '''
import torch
from kdal_cli.types import Query

def lowest(pool, k, rng, *, skip: int = 0):
    """The k images with the lowest ids, after the first few."""
    order = pool.ids.argsort()
    return Query(order[skip : skip + k], torch.zeros(k))
'''

NETS = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, shape, *, width: int = 8):
        pixels = shape.channels * shape.height * shape.width
        super().__init__(nn.Flatten(), nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, shape.classes))

def make(shape, *, width: int = 8):
    return Net(shape, width=width)
"""


@pytest.fixture
def own(here: Path) -> Path:
    """A folder with code and configuration of one's own: `lowest`, a sampler; `Net` and `make`, networks."""
    (here / "mine.py").write_text(SAMPLER)
    (here / "nets.py").write_text(NETS)
    (here / "conf" / "sampler").mkdir(parents=True)
    (here / "conf" / "experiment").mkdir()
    (here / "conf" / "sampler" / "lowest.yaml").write_text("name: mine:lowest\nskip: 3\n")
    return here


class TestShowing:
    def test_the_configuration_that_is_shown_is_the_one_that_runs(self, kdal: Kdal):
        words = (*SHORT, "sampler=entropy", "budget=7")
        shown = kdal("al-loop", "--cfg", "job", *words)
        assert (shown.code, shown.err) == (0, "")
        ran = kdal("al-loop", *words).run
        assert yaml.safe_load(shown.out) == yaml.safe_load((ran.path / ".hydra" / "config.yaml").read_text())

    def test_resolved_nothing_is_left_to_look_up(self, kdal: Kdal):
        plain = kdal("al-loop", "--cfg", "job", *SHORT)
        resolved = kdal("al-loop", *SHORT, "--cfg", "job", "--resolve")
        assert "${" in plain.out
        assert "${" not in resolved.out
        augment = yaml.safe_load(resolved.out)["recipe"]["augment"]
        assert (augment["kind"], augment["pad"], augment["flip"]) == ("crop_flip", 0, False)

    def test_info_tells_where_the_defaults_come_from(self, kdal: Kdal):
        ended = kdal("al-loop", *SHORT, "--info", "defaults")
        assert (ended.code, ended.err) == (0, "")
        for part in ("sampler/margin", "budget/small", "experiment/smoke", "recipe/smoke"):
            assert part in ended.out

    @pytest.mark.parametrize("stage", ["train-teacher", "distill", "al-loop"])
    def test_one_experiment_file_serves_every_stage(self, kdal: Kdal, stage: str):
        shown = yaml.safe_load(kdal(stage, "--cfg", "job", "experiment=smoke").out)
        assert (shown["data"]["name"], shown["student"]["name"], shown["recipe"]["steps"]) == ("blobs", "mlp", 20)

    def test_showing_makes_no_folder(self, kdal: Kdal, here: Path):
        kdal("al-loop", "--cfg", "job")
        kdal("al-loop", "--info", "defaults")
        assert list(here.iterdir()) == []


class TestCompletion:
    @pytest.mark.parametrize(
        ("line", "choices"),
        [
            ("kdal ", {*STAGES, *READERS}),
            ("kdal al-loop samp", {"sampler=", "sampler."}),
            ("kdal al-loop sampler=ma", {"sampler=margin"}),
            ("kdal al-loop experiment=smoke budget=", {"budget=small", "budget=medium", "budget=large"}),
            ("kdal al-loop recipe.st", {"recipe.steps="}),
            (
                "kdal al-loop seed_set=",
                {f"seed_set={name}" for name in ("random", "typical", "farthest", "class_balanced")},
            ),
            ("kdal al-loop data=_", set()),
            ("kdal distill compa", {"compare="}),
        ],
    )
    def test_a_line_that_is_being_typed_has_these_continuations(self, kdal: Kdal, line: str, choices: set[str]):
        ended = kdal("completion", "query", line)
        assert (ended.code, ended.err) == (0, "")
        assert choices == set(ended.out.split())

    def test_nothing_is_said_of_a_line_that_cannot_be_completed(self, kdal: Kdal):
        ended = kdal("completion", "query", "kdal al-loop sampler=zz")
        assert (ended.code, ended.out.split(), ended.err) == (0, [], "")

    @pytest.mark.parametrize("line", ["kdal al-loop experiment=smoke samp", "kdal al-loop -m samp"])
    def test_what_was_typed_before_does_not_confuse_it(self, kdal: Kdal, line: str):
        ended = kdal("completion", "query", line)
        assert (ended.code, ended.err) == (0, "")
        assert "sampler" in ended.out

    def test_the_script_for_bash_completes_in_bash(self, here: Path):
        script = (
            'eval "$(kdal completion bash)"; COMP_LINE="kdal al-loop sampler=ma"; COMP_POINT=${#COMP_LINE};'
            'COMP_WORDS=(kdal al-loop sampler=ma); COMP_CWORD=2; _kdal; echo "${COMPREPLY[@]}"'
        )
        path = f"{CONSOLE_SCRIPT.parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=here, env={**os.environ, "PATH": path}, capture_output=True, text=True
        )
        assert (done.stdout.strip(), done.stderr) == ("sampler=margin", "")


class TestFoldersOfSweeps:
    def test_a_sweep_has_its_folder_by_stage_and_time_and_a_job_its_own_by_what_it_overrides(self, kdal, here: Path):
        assert kdal("al-loop", *SHORT, "loss=none", "-m", "seed=0,1").code == 0
        [sweep] = (here / "outputs" / "multirun" / "al-loop").iterdir()
        assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}", sweep.name)
        assert sorted(path.name.partition("_")[0] for path in sweep.iterdir() if path.is_dir()) == ["0", "1"]
        assert all(path.name.endswith(f"seed={path.name[0]}") for path in sweep.iterdir() if path.is_dir())
        assert (sweep / "multirun.yaml").exists()

    @pytest.mark.parametrize("subdir", ["${hydra.job.override_dirname}", "job-${hydra.job.num}", "seed/${seed}"])
    def test_the_folders_may_be_named_as_hydra_allows(self, kdal: Kdal, here: Path, subdir: str):
        words = ("loss=none", "-m", "seed=0,1", "hydra.sweep.dir=sweep", f"hydra.sweep.subdir={subdir}")
        ended = kdal("al-loop", *SHORT, *words)
        assert (ended.code, ended.err) == (0, "")
        assert len(list((here / "sweep").rglob("curve.csv"))) == 2
        assert len(RunFolder(here / "sweep").table("summary.csv")) == 2

    def test_however_much_is_overridden_the_jobs_have_folders_that_can_be(self, kdal: Kdal, here: Path):
        recipe = ("batch=16", "pool_batch=16", "lr=0.002", "momentum=0.9", "weight_decay=0.0005", "warmup=0.1")
        others = ("stopping.window=5", "stopping.plateau=0.002", "stopping.act=false", "members=3", "scorer=student")
        others += ("data.split.validation=64", "student.dropout=0.0", "oracle.price=1.0", "trust=[a/../../../b]")
        many = (*(f"recipe.{word}" for word in recipe), *others)
        ended = kdal("al-loop", *SHORT, "loss=none", "-m", "seed=0,1", *many)
        assert (ended.code, ended.err) == (0, "")
        [sweep] = (here / "outputs" / "multirun" / "al-loop").iterdir()
        assert len(list(sweep.glob("*/result.json"))) == 2
        assert all(len(path.name.encode()) < 143 for path in sweep.iterdir())
        again = kdal("al-loop", "-m", f"resume={sweep}", "trust=[a/../../../b]")
        assert again.out.count("this run is done already") == 2


class TestCodeOfOnesOwn:
    @pytest.mark.parametrize("name", ["nets:Net", "nets:make"])
    def test_a_module_named_by_its_path_is_trained_and_evaluated_when_it_is_trusted(self, kdal: Kdal, own, name: str):
        words = (f"student={name}", "+student.width=5", "trust=[nets]")
        trained = kdal("al-loop", *SHORT, *words)
        assert (trained.code, trained.err) == (0, "")
        measured = kdal("evaluate", "experiment=smoke", *words, f"checkpoint={trained.run.path}")
        assert (measured.code, measured.err) == (0, "")
        assert f"accuracy {float(trained.run.table()[-1]['test_accuracy']):.4g}" in measured.out

    def test_a_teacher_may_be_one_of_them(self, kdal: Kdal, own: Path):
        words = ("teacher=custom", "teacher.model.name=nets:make", "trust=[nets]")
        ended = kdal("distill", "experiment=smoke", *words)
        assert (ended.code, ended.err) == (0, "")

    @pytest.mark.parametrize(
        "words",
        [
            ["student=nets:Net"],
            ["teacher=custom", "teacher.model.name=nets:Net"],
            ["sampler=nets:Net"],
            ["sampler.name=nets:Net"],
            ["loss=[kd,nets:Net]"],
            ["loss.kd.name=nets:Net"],
            ["data.name=nets:Net"],
        ],
        ids=lambda words: words[-1],
    )
    def test_code_that_is_not_trusted_is_refused_and_not_even_imported(self, kdal: Kdal, own: Path, words: list[str]):
        (own / "nets.py").write_text("from pathlib import Path\nPath('imported').touch()\n")
        ended = kdal("al-loop", *SHORT, *words)
        assert ended.code == 2
        assert "nets:Net" in ended.refusal
        assert "trust=[nets]" in ended.refusal
        assert not (own / "imported").exists()

    def test_trust_in_one_package_is_no_trust_in_another_that_begins_alike(self, kdal: Kdal, own: Path):
        ended = kdal("al-loop", *SHORT, "student=custom", "student.name=nets:Net", "trust=[net,nets2]")
        assert ended.code == 2
        assert "trust=[nets]" in ended.refusal

    def test_a_sampler_of_ones_own_chooses(self, kdal: Kdal, own: Path):
        ended = kdal("al-loop", *SHORT, "sampler=mine:lowest", "trust=[mine]")
        run = ended.run
        left = sorted(set(range(512)) - set(run.requested(0)) - set(run.requested(0, "validation")))
        assert run.picks(1) == left[:20]

    def test_a_sampler_from_a_folder_of_ones_own_with_its_settings(self, kdal: Kdal, own: Path):
        words = ("--config-dir", "conf", "sampler=lowest", "trust=[mine]")
        run = kdal("al-loop", *SHORT, *words).run
        left = sorted(set(range(512)) - set(run.requested(0)) - set(run.requested(0, "validation")))
        assert run.picks(1) == left[3:23]

    @pytest.mark.parametrize(
        ("name", "reason"), [("nets:Nope", "no attribute 'Nope'"), ("nowhere:Net", "No module named 'nowhere'")]
    )
    def test_code_that_is_not_there_is_named(self, kdal: Kdal, own: Path, name: str, reason: str):
        top = name.partition(":")[0]
        ended = kdal("al-loop", *SHORT, "student=custom", f"student.name={name}", f"trust=[{top}]")
        assert ended.code == 2
        assert reason in ended.refusal


class TestConfigurationFromOthers:
    def test_an_experiment_of_ones_own_is_an_option_among_ours(self, kdal: Kdal, own: Path):
        text = "# @package _global_\ndefaults:\n  - smoke\nbudget:\n  rounds: 0\n"
        (own / "conf" / "experiment" / "tiny.yaml").write_text(text)
        ended = kdal("al-loop", "--config-dir", "conf", "experiment=tiny")
        assert (ended.code, ended.err) == (0, "")
        assert len(ended.run.table()) == 1

    def evil(self, kdal: Kdal, own: Path, text: str) -> Ended:
        (own / "conf" / "experiment" / "shared.yaml").write_text("# @package _global_\ndefaults:\n  - smoke\n" + text)
        return kdal("al-loop", "--config-dir", "conf", "experiment=shared", "budget.rounds=0")

    def test_a_file_cannot_have_hydra_run_code(self, kdal: Kdal, own: Path):
        text = "hydra:\n  callbacks:\n    x: {_target_: torch.utils.collect_env.run, command: touch owned}\n"
        ended = self.evil(kdal, own, text)
        assert not (own / "owned").exists()
        assert ended.code == 2
        assert "hydra.callbacks" in ended.refusal

    def test_a_file_cannot_trust_in_your_name(self, kdal: Kdal, own: Path):
        (own / "mine.py").write_text("from pathlib import Path\nPath('owned').touch()\n" + SAMPLER)
        ended = self.evil(kdal, own, "trust: [mine]\nsampler:\n  name: mine:lowest\n")
        assert not (own / "owned").exists()
        assert ended.code == 2
        assert "trust" in ended.refusal
