"""What needs no torch does not import it: help, versions, completion and typos answer in a blink."""

import os
import re
import resource
import subprocess
import sys

import pytest
from cli.harness import Ended, Kdal

from kdal_cli.cli.main import STAGES

INSTANT = [["--version"], ["--help"], ["-h"], [], ["completion", "bash"], ["completion", "query", "kdal al"]]
INSTANT += [[stage, "--help"] for stage in STAGES]
TYPOS = [["al-lop"], ["al-loop", "sampler=margn"], ["al-loop", "seeed=3"], ["al-loop", "recipe.stepz=3"]]
TYPOS += [["al-loop", "-m", "budget=small,50"], ["al-loop", "resume=nowhere"], ["al-loop", "--bogus"]]
TYPOS += [["predict", "run", "nosuch"], ["watch", "run", "nosuch"]]
COMPOSED = [
    ["al-loop", "--cfg", "job"],
    ["al-loop", "--info", "defaults"],
    ["completion", "query", "kdal al-loop samp"],
]


def imported(ended: Ended) -> set[str]:
    """The top packages that a command imported, as `-X importtime` lists them on stderr."""
    return {name.split(".")[0] for name in re.findall(r"^import time:.*\| +([\w.]+)$", ended.err, re.MULTILINE)}


@pytest.mark.parametrize("words", INSTANT, ids=" ".join)
def test_an_instant_answer_imports_neither_torch_nor_hydra_and_takes_no_half_second(installed, words: list[str]):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = installed(*words, PYTHONPROFILEIMPORTTIME="1")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.code == 0
    assert ended.out
    assert "kdal_cli" in imported(ended)
    assert not imported(ended) & {"torch", "hydra", "omegaconf", "numpy", "rich"}
    assert (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime) < 0.5


@pytest.mark.parametrize("words", TYPOS, ids=" ".join)
def test_a_typo_is_refused_without_importing_torch(installed, words: list[str]):
    ended = installed(*words, PYTHONPROFILEIMPORTTIME="1")
    assert ended.code == 2
    assert "kdal_cli" in imported(ended)
    assert not imported(ended) & {"torch", "numpy"}


@pytest.mark.parametrize("words", COMPOSED, ids=" ".join)
def test_a_configuration_is_shown_without_importing_torch(installed, words: list[str]):
    ended = installed(*words, PYTHONPROFILEIMPORTTIME="1")
    assert ended.code == 0
    assert "hydra" in imported(ended)
    assert not imported(ended) & {"torch", "numpy"}


def without_the_compiler() -> None:
    sys.modules["torch._dynamo"] = None  # type: ignore[assignment] # importing it is an ImportError


@pytest.mark.parametrize(
    "words",
    [
        ["al-loop", "sampler=badge", "loss=crd", "budget.rounds=1"],
        ["distill", "recipe.optimizer=adamw", "teacher.recipe.optimizer=sgd"],
    ],
    ids=" ".join,
)
def test_a_training_does_without_the_compiler_that_takes_seconds_to_import(kdal: Kdal, words: list[str]):
    ended = kdal(*words, "experiment=smoke", first=without_the_compiler)
    assert (ended.code, ended.err) == (0, "")


def test_the_package_is_the_command(installed):
    ran = subprocess.run([sys.executable, "-m", "kdal_cli", "--help"], capture_output=True, text=True, check=True)
    assert ran.stdout == installed("--help").out


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONUTF8": "0", "LC_ALL": "C"}])
def test_help_is_shown_on_a_terminal_that_lacks_its_characters(installed, environment: dict[str, str]):
    plain, shown = installed("al-loop", "--help", **environment), installed("al-loop", "--help", PYTHONUTF8="1")
    assert (plain.code, plain.err) == (0, "")
    assert plain.out == shown.out.encode("ascii", "replace").decode()


class TestWhatTheyAnswer:
    def test_the_version_is_that_of_the_package(self, kdal: Kdal):
        assert re.fullmatch(r"kdal \d+\.\d+\.\d+\n", kdal("--version").out)

    def test_a_stage_has_no_version_but_that(self, kdal: Kdal):
        assert kdal("al-loop", "--version").out == kdal("--version").out

    def test_help_names_every_stage_and_the_exit_codes(self, kdal: Kdal):
        out = kdal("--help").out
        assert all(stage in out for stage in STAGES)
        assert all(code in out for code in ("0 done", "2 ", "3 ", "4 ", "130", "143"))

    def test_no_word_at_all_is_a_call_for_help(self, kdal: Kdal):
        assert kdal().out == kdal("--help").out

    @pytest.mark.parametrize("stage", STAGES)
    def test_the_help_of_a_stage_lists_groups_with_their_options_and_the_default_in_brackets(self, kdal, stage: str):
        out = " ".join(kdal(stage, "--help").out.split())
        assert re.search(r"sampler [a-z_, ]*entropy, [a-z_, ]*\[margin\], [a-z_, ]*random", out)
        assert re.search(r"budget .*large, \[medium\], small", out)
        assert "seed: 0" in out
        assert "_base" not in out

    def test_the_help_beside_other_words_is_a_help_as_well(self, kdal: Kdal):
        ended = kdal("al-loop", "budget=5", "--help")
        assert (ended.code, ended.err) == (0, "")
        assert "sampler" in ended.out


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_threads_spin_briefly_unless_the_user_says_otherwise(given: dict[str, str], spins: str) -> None:
    code = "import os\nfrom kdal_cli.cli.main import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "print(os.environ.get('GOMP_SPINCOUNT'))"
    env = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")} | given
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == spins
