"""Going on with a folder of somebody else: what it says is data, and what only a person can say has to be typed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults.hostile import EVIL, MARK
from thinning import some

from kdal_cli.cli import hydra_app

Attempt = Callable[..., tuple[int, str]]
CALLBACK = {"x": {"_target_": "evil.run"}}
OURS = ("resume=run",)
SWEEP = ("-m", "resume=sweep")


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    """What Hydra writes of a run and a sweep, as the first test finds out: {name: content}, HERE for the folder."""
    return {}


@pytest.fixture
def begun(
    attempt: Attempt, here: Path, monkeypatch: pytest.MonkeyPatch, written: dict[str, str]
) -> list[dict[str, Any]]:
    """The configurations that a stage was begun with; there is a run in `run` and a sweep in `sweep`, both stopped."""
    if not written:
        assert attempt("experiment=smoke", "hydra.run.dir=run") == (0, "")
        assert attempt("experiment=smoke", "-m", "seed=0,1", "hydra.sweep.dir=sweep") == (0, "")
        texts = {path.relative_to(here): path.read_text() for path in here.rglob("*.yaml")}
        written |= {str(name): text.replace(str(here), "HERE") for name, text in texts.items()}
    for name, text in written.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(text.replace("HERE", str(here)))
    (here / "evil.py").write_text(EVIL)
    told: list[dict[str, Any]] = []

    def run(request: Any, config: Any, folder: Path, **_: Any) -> None:
        told.append({"command": request.command, "choices": request.choices, **hydra_app.unresolved(config)})

    monkeypatch.setattr(hydra_app, "_run", run)
    monkeypatch.setattr(hydra_app, "job", lambda config: told.append(hydra_app.unresolved(config)))
    return told


def edit(path: Path, **changes: Any) -> None:
    """Set dotted keys of a YAML file."""
    values = yaml.safe_load(path.read_text())
    for dotted, value in changes.items():
        *above, last = dotted.split("__")
        node = values
        for key in above:
            node = node.setdefault(key, {})
        node[last] = value
    path.write_text(yaml.safe_dump(values))


def refusal(ended: tuple[int, str], here: Path, begun: list) -> str:
    code, err = ended
    assert not (here / MARK).exists(), "it ran"
    assert (code, len(err.splitlines()), begun) == (2, 1, []), err
    assert "fault of kdal" not in err
    return err


class TestARun:
    def test_goes_on_with_what_was_saved(self, attempt: Attempt, begun: list) -> None:
        assert attempt(*OURS) == (0, "")
        assert (begun[0]["data"]["name"], begun[0]["choices"]["data"]) == ("blobs", "blobs")

    def test_is_not_believed_whom_to_trust(self, attempt: Attempt, here: Path, begun: list) -> None:
        edit(here / "run/.hydra/config.yaml", trust=["evil"], sampler__name="evil:run")
        edit(here / "run/.hydra/hydra.yaml", hydra__overrides__task=["trust=[evil]"])
        assert "resume=" in refusal(attempt(*OURS), here, begun)
        assert "trust=[evil]" in refusal(attempt(*OURS, "trust=[evi]"), here, begun)
        assert attempt(*OURS, "trust=[evil]") == (0, "")
        assert begun[0]["trust"] == ["evil"]
        assert begun[0]["command"].endswith("'trust=[evil]'")

    @pytest.mark.parametrize("place", ["/tmp/x", "../x", "outputs/../x", "outputs/link/x", "https://x/y"])
    @pytest.mark.parametrize("key", ["teacher.store", "tracker.uri"])
    def test_writes_below_outputs_alone_unless_somebody_says_so(self, attempt, here, begun, key, place) -> None:
        (here / "outputs").mkdir(exist_ok=True)
        (here / "outputs" / "link").symlink_to(here.parent)
        edit(here / "run/.hydra/config.yaml", **{key.replace(".", "__"): place})
        assert f"{key}={place}" in refusal(attempt(*OURS), here, begun)
        assert attempt(*OURS, f"{key}={place}") == (0, "")

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("seed", "${oc.env:HOME}"),
            ("seed", "${oc.decode:1}"),
            ("seed", "${oc.create:{a:1}}"),
            ("seed", "${hydra:runtime.cwd}"),
            ("seed", "${now:%Y}"),
            ("seed", "${a.${oc.env:HOME}}"),
            ("sampler__name", "${oc.env:HOME}"),
            ("sampler___target_", "evil.run"),
            ("hydra__callbacks", CALLBACK),
        ],
    )
    def test_calls_nothing(self, attempt: Attempt, here: Path, begun: list, key: str, value: object) -> None:
        edit(here / "run/.hydra/config.yaml", **{key: value})
        assert os.environ["HOME"] not in refusal(attempt(*OURS), here, begun)

    def test_what_was_written_about_hydra_is_not_looked_at(self, attempt: Attempt, here: Path, begun: list) -> None:
        said = {"hydra__callbacks": CALLBACK, "hydra__searchpath": ["pkg://evil"], "hydra__launcher": CALLBACK["x"]}
        edit(here / "run/.hydra/hydra.yaml", **said)
        assert attempt(*OURS) == (0, "")
        assert not (here / MARK).exists()

    def test_goes_on_in_the_folder_that_it_was_started_in(self, attempt, here: Path, begun, monkeypatch) -> None:
        (here / "below").mkdir()
        monkeypatch.chdir(here / "below")
        said = refusal(attempt("resume=../run"), here, begun)
        assert f"cd {here} && kdal al-loop resume={here}/run" in said
        assert Path.cwd() == here / "below"

    def test_goes_on_in_a_copy_of_that_folder(self, attempt, here: Path, begun, monkeypatch) -> None:
        copy = shutil.copytree(here, here.parent / "copy")
        monkeypatch.chdir(copy)
        assert attempt(*OURS) == (0, "")

    def test_goes_on_here_where_that_folder_is_not(self, attempt, here: Path, begun) -> None:
        edit(here / "run/.hydra/hydra.yaml", hydra__runtime__cwd="/not/here")
        assert attempt(*OURS) == (0, "")

    def test_takes_nothing_else_beside_it(self, attempt, here, begun) -> None:
        for words in (["seed=1"], ["--config-dir", "x"], ["hydra.run.dir=x"], ["--cfg", "job"], ["resume=run"]):
            assert "nothing beside it" in refusal(attempt(*OURS, *words), here, begun)


class TestASweep:
    def test_goes_on_with_the_words_of_its_jobs(self, attempt: Attempt, begun: list) -> None:
        assert attempt(*SWEEP) == (0, "")
        assert [job["seed"] for job in begun] == [0, 1]

    @pytest.mark.parametrize(
        "word",
        [
            "+hydra.callbacks.x._target_=evil.run",
            "+hydra.callbacks.x={_target_:evil.run}",
            "++hydra={callbacks:{x:{_target_:evil.run}}}",
            "hydra.searchpath=[pkg://evil]",
            "hydra.job_logging.handlers.x={class:evil.Handler}",
            "+hydra.job.env_set.X=1",
            "hydra/callbacks=evil",
            "+sampler@hydra.callbacks=margin",
            "hydra.sweeper.params={hydra.callbacks.x:1}",
            "hydra.launcher._target_=evil.run",
            "hydra.sweep.subdir=../../x",
            "hydra.sweep.subdir=${oc.env:HOME}",
            "hydra.sweep.subdir=/tmp/x",
            "hydra.output_subdir=../x",
            "~hydra.callbacks",
            "sampler={_target_:evil.run}",
            "teacher.store=/tmp/x",
            "teacher.seed=${oc.env:HOME}",
            "=",
            "[",
        ],
    )
    def test_says_nothing_else(self, attempt: Attempt, here: Path, begun: list, word: str) -> None:
        kind = "hydra" if "hydra" in word else "task"
        edit(here / "sweep/multirun.yaml", **{f"hydra__overrides__{kind}": ["experiment=smoke", "seed=0,1", word]})
        refusal(attempt(*SWEEP), here, begun)

    @pytest.mark.parametrize(
        "word", some(["+trust=[evil]", "trust=[evil]", "sweep.max_jobs=2000", "teacher.store=/tmp/x"])
    )
    def test_what_only_a_person_says_is_typed_again(self, attempt, here: Path, begun: list, word: str) -> None:
        edit(here / "sweep/multirun.yaml", hydra__overrides__task=["experiment=smoke", "seed=0,1", word])
        said = refusal(attempt(*SWEEP), here, begun)
        typed = word.removeprefix("+")
        assert typed in said
        assert "-m resume=" in said or "resume=..." in said
        assert attempt(*SWEEP, typed) == (0, "")
        assert len(begun) == 2

    def test_options_of_ones_own_are_named_again(self, attempt, here: Path, begun: list) -> None:
        (here / "mine" / "experiment").mkdir(parents=True)
        (here / "mine/experiment/own.yaml").write_text("# @package _global_\ndefaults: [smoke]\n")
        words = ("--config-dir", "mine", "experiment=own", "-m", "seed=0,1", "hydra.sweep.dir=sweep")
        assert attempt(*words) == (0, "")
        begun.clear()
        assert f"--config-dir {here}/mine" in refusal(attempt(*SWEEP), here, begun)
        assert attempt(*SWEEP, "--config-dir", "mine") == (0, "")
        assert len(begun) == 2

    def test_is_not_believed_where_it_was_started(self, attempt, here: Path, begun: list, tmp_path: Path) -> None:
        edit(here / "sweep/multirun.yaml", hydra__runtime__cwd=str(tmp_path))
        assert f"cd {tmp_path}" in refusal(attempt(*SWEEP), here, begun)
        assert Path.cwd() == here


@pytest.mark.parametrize("name", ["run/.hydra/config.yaml", "run/.hydra/hydra.yaml", "sweep/multirun.yaml"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "hydra: 3",
        "hydra: {job: 3, runtime: 3, overrides: [3]}",
        "a: &a [*a]",
        "a: [" * 5000,
        "&a {x: &b [1, 2]}: 1",
        "\0",
        "\udc80",
        "!!python/object/apply:os.system [touch MARK]",
        "{1: 2, null: 3}",
        "a: " + "9" * 5000,
        "x" * 300_000,
        "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + "".join(
            f"{b}: &{b} [*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a}]\n"
            for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ),
    ],
    ids=range(14),
)
def test_a_damaged_file_is_told_in_a_line(attempt, here: Path, begun: list, name: str, text: str) -> None:
    (here / name).write_bytes(text.encode(errors="surrogateescape"))
    refusal(attempt(*(SWEEP if "sweep" in name else OURS)), here, begun)


@pytest.mark.parametrize("name", ["run/.hydra/config.yaml", "run/.hydra/hydra.yaml", "sweep/multirun.yaml"])
def test_a_pipe_keeps_nobody_waiting(attempt, here: Path, begun: list, name: str) -> None:
    (here / name).unlink()
    os.mkfifo(here / name)
    refusal(attempt(*(SWEEP if "sweep" in name else OURS)), here, begun)
