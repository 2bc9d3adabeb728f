"""Words that nobody would type on purpose: each is accepted, or one line and exit code 2; never a fault of kdal."""

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.harness import Kdal

Attempt = Callable[..., tuple[int, str]]

VALUES = ["", "=", "+", "~", "++", "\0", "\udcff", "x" * 20_000, "[", "]", "{", "}", "{}", "[]", "'", '"', "\\", "$"]
VALUES += ["${", "${}", "${a}", "${.}", "${..}", "${seed}", "a=b", "a=b=c", ",", "1,", "(", ")", "()", "f()", "int(1)"]
VALUES += [
    "int(a)",
    "range(1)",
    "range(0,10,0)",
    "range(0,1e400)",
    "choice()",
    "interval(0,1)",
    "glob(*)",
    "shuffle(1,2)",
]
VALUES += ["tag(a,1)", "@", "a@b", "#", "!", "%", "&", "*", "<<", "|", ">", "-", "--", "---", ":", "a:b", "{a:{b:[1]}}"]
VALUES += [
    "[" * 30,
    "[" * 19 + "]" * 19,
    "\n",
    "\t",
    " ",
    "\u200b",
    "\U0001f600",
    "null",
    "true",
    "???",
    "1e999",
    "nan",
]
VALUES += ["9" * 5000, "..", "../..", "~/x", "${oc.env:HOME}", "\\${x}", "\x1b[31m", "a\rb", "é", "\u2028", "_target_"]
KEYS = ["seed", "sampler", "sampler.name", "budget", "recipe.lr", "trust", "sweep", "sweep.max_jobs", "experiment"]
KEYS += [
    "data.root",
    "loss",
    "hydra.run.dir",
    "hydra",
    "hydra.mode",
    "hydra.launcher",
    "hydra/launcher",
    "hydra.verbose",
]
KEYS += ["hydra.job.num", "hydra.sweep.dir", "x", "seeds", "teacher@foo", "hydra.searchpath", "hydra.output_subdir"]
SIGNS = ["", "+", "++", "~"]

ALONE = [[value] for value in VALUES]
PAIRS = [[f"{sign}{key}={value}"] for sign in SIGNS for key in KEYS for value in VALUES]


def is_a_line(ended: tuple[int, str]) -> None:
    code, err = ended
    assert code in (0, 2), err
    assert len(err.splitlines()) == (1 if code else 0), err


@pytest.mark.parametrize("number", range(40))
def test_a_few_of_them(attempt: Attempt, number: int) -> None:
    rng = random.Random(number)
    is_a_line(attempt(*["-m"] * (number % 3 == 0), *rng.choice(ALONE if number % 5 == 0 else PAIRS)))


@pytest.mark.slow
def test_many_of_them(attempt: Attempt) -> None:
    """600 of 6,400, minutes."""
    for words in random.Random(0).sample(ALONE + PAIRS, 600):
        is_a_line(attempt(*words))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("seed=\0", "not text"),
        ("seed=\udcff", "not text"),
        ("x" * 20_000, "too long"),
        ("seed=" + "[" * 21, "brackets"),
        ("--experimental-rerun=x.pickle", "not a flag of kdal"),
        ("--config-name=x", "not a flag of kdal"),
        ("--config-path=x", "not a flag of kdal"),
        ("--config-d=x", "unrecognized"),
        ("--cfg=job --run", "invalid choice"),
    ],
)
def test_what_no_word_can_be_is_told(attempt: Attempt, here: Path, word: str, said: str) -> None:
    code, err = attempt(word)
    assert (code, said in err, list(here.iterdir())) == (2, True, []), err


def test_a_pickle_is_not_even_opened(attempt: Attempt, here: Path) -> None:
    assert attempt("--experimental-rerun", "/dev/zero")[0] == 2


class TestCompletion:
    TRAPS = (
        "$(touch MARK)",
        "`touch MARK`",
        "a;touch MARK",
        "a&touch MARK",
        "a|touch MARK",
        "a\ntouch MARK",
        "a b",
        "'x'",
        "<x",
    )

    @pytest.fixture
    def trapped(self, here: Path) -> Path:
        """A folder with names that a shell would run, and one that it would not."""
        for name in (*self.TRAPS, "photos"):
            (here / name).mkdir()
        return here

    def test_only_names_that_mean_themselves_are_offered(self, kdal: Kdal, trapped: Path) -> None:
        assert kdal("completion", "query", "kdal al-loop data.root=./").out.split() == ["data.root=./photos"]

    @pytest.mark.parametrize(
        "line", ["kdal al-loop data.root=./", "kdal al-loop data.root=./$", "kdal al-loop data.root='./"]
    )
    def test_nothing_runs_in_a_shell(self, kdal: Kdal, trapped: Path, tmp_path: Path, line: str) -> None:
        offered = kdal("completion", "query", line).out
        script = kdal("completion", "bash").out
        (tmp_path / "kdal").write_text(f"#!/bin/sh\ncat {tmp_path}/offered\n")
        (tmp_path / "kdal").chmod(0o755)
        everything = "".join(f"data.root=./{name}\n" for name in self.TRAPS)
        for text in (offered, everything):
            (tmp_path / "offered").write_text(text)
            call = f"{script}\nCOMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; COMP_CWORD=2; _kdal\n"
            subprocess.run(["bash", "-c", call], cwd=trapped, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False)
            assert not (trapped / "MARK").exists()
