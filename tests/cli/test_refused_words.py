"""Words that cannot be meant: one line that names key, value and what is accepted; exit code 2; nothing left behind."""

import os
from pathlib import Path

import pytest
from cli.harness import Ended, Kdal
from thinning import some

SMOKE = "experiment=smoke"

NAMES = [  # a name that is not there, what it must be called, the nearest one that is
    (["al-lop"], "al-lop", "al-loop"),
    (["train_teacher"], "train_teacher", "train-teacher"),
    (["al-loop", "sampler=margn"], "sampler=margn", "margin"),
    (["al-loop", "student=resnt20"], "student=resnt20", "resnet20"),
    (["al-loop", "teacher=rsnet56"], "teacher=rsnet56", "resnet56"),
    (["al-loop", "data=cifar01"], "data=cifar01", "cifar10"),
    (["al-loop", "budget=smal"], "budget=smal", "small"),
    (["al-loop", "experiment=smok"], "experiment=smok", "smoke"),
    (["al-loop", "recipe@teacher.recipe=teachr"], "recipe", "teacher"),
    (["al-loop", "seeed=3"], "seeed", "seed"),
    (["al-loop", "+seeed=3"], "seeed=3", "seed"),
    (["al-loop", "++seeed=3"], "seeed=3", "seed"),
    (["al-loop", "recipe.stepz=3"], "recipe.stepz", "recipe.steps"),
    (["al-loop", "+recipe.stepz=3"], "recipe.stepz=3", "steps"),
    (["al-loop", "budget.querry=3"], "budget.querry", "budget.query"),
    (["al-loop", "+budget.querry=3"], "budget.querry=3", "query"),
    (["al-loop", "loss.kd.temprature=3"], "loss.kd.temprature", "loss.kd.temperature"),
    (["al-loop", "+loss.kd.temprature=3"], "loss.kd.temprature=3", "temperature"),
    (["al-loop", "+data.spilt=3"], "data.spilt=3", "split"),
    (["al-loop", "+data.split.validaton=3"], "data.split.validaton=3", "validation"),
    (["al-loop", "+sampler.kk=3"], "sampler.kk=3", ""),
    (["al-loop", "+student.widht=3"], "student.widht=3", "width"),
    (["al-loop", "+teacher.sed=3"], "teacher.sed=3", "seed"),
    (["al-loop", "sampler.name=margn"], "sampler.name=margn", "margin"),
    (["al-loop", "loss.kd.name=kdd"], "loss.kd.name=kdd", "kd"),
    (["al-loop", "oracle.name=simulatd"], "oracle.name=simulatd", "simulated"),
    (["al-loop", "~sampler.nam"], "sampler.nam", ""),
    (["distill", "compar=true"], "compar", "compare"),
]

VALUES = [  # key=value as it must be named, what is accepted
    ("seed=abc", "a whole number"),
    ("seed=-1", "at least 0"),
    ("seed=1.5", "a whole number"),
    ("recipe.steps=1.5", "a whole number"),
    ("recipe.steps=0", "at least 1"),
    ("recipe.batch=-4", "at least 1"),
    ("recipe.lr=0.0", "above 0"),
    ("recipe.lr=nan", "finite"),
    ("recipe.lr=inf", "finite"),
    ("recipe.lr=fast", "number"),
    ("recipe.optimizer=adan", "sgd, adamw"),
    ("recipe.warmup=2.0", "from 0 to 1"),
    ("recipe.nesterov=3", "true or false"),
    ("loss.kd.temperature=0.0", "above 0"),
    ("loss.kd.temperature=-4.0", "above 0"),
    ("loss.kd.temperature=nan", "finite"),
    ("loss.kd.weight=-1.0", "at least 0"),
    ("loss.weighting.alpha=-0.5", "at least 0"),
    ("loss.weighting.form=concave", "convex, additive"),
    ("budget.rounds=-1", "at least 0"),
    ("budget.initial=0", "at least 1"),
    ("budget.initial=null", "a whole number"),
    ("data.noise=-1.0", "at least 0"),
    ("data.split.validation=-1", "at least 0"),
    ("oracle.price=-1.0", "at least 0"),
    ("device=tpu", "cuda"),
    ("threads=0", "at least 1"),
    ("trust=nets", "a list"),
    ("scorer=nobody", "student, teacher"),
    ("student.hidden=128", "a list"),
    ("student.dropout=1.5", "from 0 to 1"),
]

BUDGETS = ["budget=1.5", "budget=nan", "budget=inf", "budget=-5", "budget=0", "budget=true", "budget=null"]


@pytest.fixture
def refused(kdal: Kdal, here: Path):
    """refused(words) is what the one line on stderr says; exit code 2, and nothing but empty folders left."""

    def refused(*words: str) -> str:
        before = files(here)
        ended: Ended = kdal(*words)
        assert ended.code == 2, ended.err
        assert files(here) == before
        return ended.refusal

    return refused


def files(here: Path) -> set[Path]:
    """Files, and run folders even if they are empty; a parent of run folders may be left."""
    return {path for path in here.rglob("*") if path.is_file() or path.match("outputs/*/*")}


@pytest.mark.parametrize(
    ("words", "named", "nearest"), some(NAMES, of=2), ids=lambda part: " ".join(part) if isinstance(part, list) else ""
)
def test_a_name_that_is_not_there_is_told_with_the_nearest_that_is(refused, words: list[str], named: str, nearest: str):
    refusal = refused(*words)
    assert refusal.startswith(named) or f"'{named}'" in refusal
    assert f"did you mean '{nearest}'?" in refusal or not nearest


@pytest.mark.parametrize(("word", "accepted"), some(VALUES, of=2))
def test_a_value_that_cannot_be_is_told_with_what_can(refused, word: str, accepted: str):
    refusal = refused("al-loop", SMOKE, word)
    key, _, value = word.partition("=")
    assert refusal.startswith(f"{key}={value}")
    assert accepted in refusal


@pytest.mark.parametrize("word", BUDGETS)
def test_a_budget_that_is_no_number_of_labels_is_told(refused, word: str):
    refusal = refused("al-loop", SMOKE, word)
    assert "budget" in refusal
    assert word.partition("=")[2] in refusal


@pytest.mark.parametrize(
    ("word", "largest"),
    [
        ("budget=429", "428"),
        ("budget.initial=449", "448"),
        ("budget=1000000000000", "428"),
        ("budget.initial=10000", "448"),
    ],
)
def test_a_budget_that_the_pool_cannot_fill_is_told_with_what_can_be_bought(refused, word: str, largest: str):
    refusal = refused("al-loop", SMOKE, word)
    assert word.partition("=")[2] in refusal
    assert f"at most {largest} labels can be bought" in refusal


def test_the_largest_budget_that_is_offered_is_accepted(kdal: Kdal):
    assert kdal("al-loop", SMOKE, "budget=428", "recipe.steps=2").run.table()[-1]["labels"] == "448"


@pytest.mark.parametrize("stage", ["al-loop", "distill"])
def test_a_loss_that_needs_a_teacher_without_one_is_told(refused, stage: str):
    refusal = refused(stage, SMOKE, "teacher=none")
    assert "teacher=none" in refusal
    assert "choose one" in refusal


def test_a_teacher_cannot_score_where_there_is_none(refused):
    assert "teacher=none" in refused("al-loop", SMOKE, "teacher=none", "loss=none", "scorer=teacher")


def test_there_is_no_teacher_to_train_where_it_is_none(refused):
    assert "teacher=none" in refused("train-teacher", SMOKE, "teacher=none")


@pytest.mark.parametrize(
    "words",
    [
        ["loss.weighting.alpha=1.0", "loss.kd.weight=0.0"],
        ["loss.weighting={form: additive, alpha: 0.0, alpha_on: hard}", "loss.kd.weight=0.0"],
    ],
)
def test_a_loss_whose_weights_are_all_zero_has_nothing_to_learn_from(refused, words: list[str]):
    assert "zero" in refused("al-loop", SMOKE, *words)


def test_a_convex_alpha_above_one_is_told(refused):
    assert "loss.weighting.alpha=1.5" in refused("al-loop", SMOKE, "loss.weighting.alpha=1.5")


@pytest.mark.parametrize("name", ["student", "x" * 65])
def test_a_name_that_no_assistant_can_have_is_told(refused, name: str):
    assert refused("distill", SMOKE, f"+student@assistants.{name}=mlp").startswith(f"assistants.{name} (no name")


def test_steps_and_epochs_exclude_each_other(refused):
    assert "set one of the two, or neither" in refused("al-loop", SMOKE, "recipe.epochs=3")
    assert "decay below floor" in refused("al-loop", SMOKE, "recipe.steps=null", "recipe.until.decay=200")


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["al-loop", "data=npz"], "data.path"),
        (["al-loop", "data=image_folder"], "data.root"),
        (["evaluate"], "checkpoint"),
        (["al-loop", SMOKE, "student=custom"], "student.name"),
    ],
)
def test_what_must_be_given_and_is_not_is_told_with_how_to_give_it(refused, words: list[str], key: str):
    refusal = refused(*words)
    assert refusal.startswith(f"{key} is missing")
    assert f"{key}=" in refusal


@pytest.mark.parametrize(
    "words",
    [
        ["sampler"],
        ["sampler="],
        ["sampler=[margin"],
        ["=3"],
        ["--bogus"],
        ["--cfg"],
        ["--cfg", "nonsense"],
        ["-x"],
        ["+budget=100"],
        ["~budget"],
        ["budget=null"],
        ["data=null"],
        ["student=null"],
        ["seed=${nowhere}"],
        ["seed=${oc.env:NOT_THERE}"],
        ["recipe=[quick]", "recipe.steps={}"],
        ["--config-dir", "nowhere"],
        ["--config-name", "nowhere"],
        ["resume=nowhere"],
        ["resume="],
        ["resume=nowhere", "seed=1"],
        ["-m", "resume=nowhere"],
        ["--shell-completion", "query=bash"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_read_is_one_line(refused, words: list[str]):
    assert refused("al-loop", *words)


def test_resume_takes_the_configuration_of_the_run_and_nothing_beside_it(refused):
    for words in (["seed=1", "resume=here"], ["resume=here", "budget=5"], ["-m", "resume=here", "seed=1"]):
        assert "nothing beside it" in refused("al-loop", *words)


@pytest.mark.parametrize("folder", ["/proc/nope/x", "/dev/null/x", "file/x", "file", "/sys/kdal", "x" * 300])
def test_a_run_folder_that_cannot_be_is_told(refused, here: Path, folder: str):
    (here / "file").write_text("")
    refusal = refused("al-loop", SMOKE, f"hydra.run.dir='{folder}'")
    assert "hydra.run.dir" in refusal or folder in refusal


@pytest.mark.parametrize("store", ["/proc/nope/x", "file/x"])
def test_a_store_of_teachers_that_cannot_be_is_told(kdal: Kdal, here: Path, store: str):
    (here / "file").write_text("")
    ended = kdal("al-loop", SMOKE, f"teacher.store={store}")
    assert ended.code in (2, 3)
    assert store in ended.refusal or "teacher.store" in ended.refusal


class TestThroughTheInstalledCommand:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["al-lop"], "did you mean 'al-loop'?"),
            (["al-loop", "sampler=margn"], "did you mean 'margin'?"),
            (["al-loop", "seed=abc"], "accepted: a whole number"),
        ],
        ids=lambda part: " ".join(part) if isinstance(part, list) else "",
    )
    def test_it_is_the_same_line(self, installed, here: Path, words: list[str], said: str):
        ended = installed(*words)
        assert ended.code == 2
        assert said in ended.refusal
        assert files(here) == set()

    def test_debug_shows_the_traceback_and_the_line_after_it(self, kdal: Kdal):
        ended = kdal("al-loop", "seed=abc", "--debug")
        assert ended.code == 2
        assert ended.err.startswith("Traceback")
        assert ended.err.splitlines()[-1].startswith("kdal: error: seed=abc: accepted: a whole number")


@pytest.mark.parametrize("text", ["\x1b[31mred", "[bold]bold", "line\nbreak", "ünï©ode", "a b'c\"d"])
def test_what_a_user_typed_is_shown_as_text_and_never_obeyed(kdal: Kdal, text: str):
    """No escape reaches the terminal, no line is broken in two."""
    ended = kdal(text)
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert "\x1b" not in ended.err
    assert os.linesep not in ended.refusal
