"""Configuration of somebody else is data: whatever it says, and however it says it, nothing of it runs.

Most is tried in this process, with the loop itself left out: what Hydra makes of a configuration, it makes before.
"""

import os
import sys
import warnings
from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path

import pytest
import yaml
from faults import hostile
from faults.hostile import MARK, Attack
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.types import RunMode
from hypothesis import given, settings
from hypothesis import strategies as st
from thinning import some

from kdal_cli.cli import composer, hydra_app
from kdal_cli.cli.conf import conf_folder
from kdal_cli.cli.loader import Loader
from kdal_cli.errors import UserError


def refused(ended: tuple[int, str], here: Path) -> str:
    """What the one line says; nothing has run, and nothing was made."""
    code, err = ended
    assert not (here / MARK).exists(), "it ran"
    assert code == 2, err
    [line] = err.splitlines()
    assert line.startswith("kdal: error: ")
    assert "fault of kdal" not in line
    assert not (here / "outputs").exists()
    return line


@pytest.mark.parametrize("attack", some(list(hostile.attacks()), of=2), ids=lambda attack: attack.name)
def test_nothing_of_it_runs(attempt, here: Path, attack: Attack) -> None:
    refused(attempt(*attack.lay(here)), here)


@pytest.mark.slow
def test_nothing_of_any_payload_runs_in_any_spelling_by_any_way(attempt, here: Path) -> None:
    """2,200 attacks, minutes."""
    for attack in hostile.all_attacks():
        refused(attempt(*attack.lay(here)), here)


@pytest.mark.slow
def test_the_corpus_bites(here: Path, attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Hydra's own loader most of these attacks run: what holds them is the loader, and not a slip in a file."""

    def stock(search_path: ConfigSearchPath, folder: str | None, typed: object) -> ConfigLoaderImpl:
        if folder is not None:
            search_path.prepend("command-line", str(Path(folder).absolute()), SearchPathQuery(provider="schema"))
        return ConfigLoaderImpl(search_path)

    monkeypatch.setattr(composer, "Loader", stock)
    monkeypatch.setattr(hydra_app, "refuse_too_many", lambda *_: None)
    ran = 0
    for number, attack in enumerate(hostile.attacks()):
        place = here / str(number)
        place.mkdir()
        monkeypatch.chdir(place)
        monkeypatch.syspath_prepend(place)
        sys.modules.pop("evil", None)
        with warnings.catch_warnings(action="ignore"):
            attempt(*attack.lay(place))
        ran += (place / MARK).exists()
    assert ran > 60


class TestYamlOfAnyForm:
    """The same mapping, each of its nodes in a style of its own."""

    numbers = count()
    styles = st.sampled_from(["", "'", '"', "|", ">", None])

    @given(data=st.data())
    @settings(max_examples=25)
    def test_what_it_says_counts_and_not_how(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        folder = tmp_path_factory.mktemp("options")
        (folder / "experiment").mkdir()
        tree = {"seed": 3, "hydra": {"callbacks": {"x": {"_target_": "evil.run"}}}}
        text = "# @package _global_\n" + yaml.emit(list(self.events(tree, data)))
        (folder / "experiment" / "evil.yaml").write_text(text)
        assert yaml.safe_load(text) == tree
        loader = Loader(create_config_search_path(str(conf_folder())), str(folder))
        with pytest.raises(UserError, match=r"hydra.callbacks.x._target_ is set by a file"):
            loader.load_configuration("al-loop", ["experiment=evil"], RunMode.RUN)

    def events(self, tree: dict, data: st.DataObject) -> Iterator[yaml.Event]:
        yield yaml.StreamStartEvent()
        yield yaml.DocumentStartEvent(explicit=data.draw(st.booleans()))
        yield from self.node(tree, data)
        yield yaml.DocumentEndEvent(explicit=data.draw(st.booleans()))
        yield yaml.StreamEndEvent()

    def node(self, value: object, data: st.DataObject) -> Iterator[yaml.Event]:
        anchor = f"a{next(self.numbers)}" if data.draw(st.booleans()) else None
        if isinstance(value, dict):
            yield yaml.MappingStartEvent(anchor, None, implicit=True, flow_style=data.draw(st.booleans()))
            for key in data.draw(st.permutations(list(value))):
                yield from self.node(key, data)
                yield from self.node(value[key], data)
            yield yaml.MappingEndEvent()
        else:
            tag = "tag:yaml.org,2002:str" if isinstance(value, str) and data.draw(st.booleans()) else None
            style = data.draw(self.styles) if isinstance(value, str) else None
            yield yaml.ScalarEvent(anchor, tag, (tag is None, tag is None), str(value), style=style)


class TestOptionsOfOnesOwn:
    """What a file from outside may say, and goes on saying."""

    def file(self, here: Path, name: str, text: str) -> None:
        path = here / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("seed: 7\n", []),
            ("recipe: {lr: 0.5, batch: '${recipe.pool_batch}'}\n", []),
            ("defaults:\n  - override /sampler: entropy\n  - override /loss: at\nbudget: {rounds: 1}\n", []),
            ("hydra:\n  run: {dir: 'runs/${now:%Y}/${hydra.job.name}'}\n", []),
            ("hydra: {sweep: {dir: sweeps, subdir: 'job-${hydra.job.num}'}}\n", ["-m", "seed=0,1"]),
            ("hydra: {mode: MULTIRUN, sweeper: {params: {seed: 'range(3)', sampler: 'margin,entropy'}}}\n", []),
            ("defaults: [{override /hydra/launcher: joblib}]\nhydra: {launcher: {n_jobs: 2, verbose: 1}}\n", []),
            (
                "defaults: [{override /hydra/sweeper: optuna}]\nhydra: {sweeper: {n_trials: 3, direction: maximize}}\n",
                [],
            ),
        ],
    )
    def test_values_options_and_a_little_of_hydra(self, attempt, here: Path, text: str, words: list[str]) -> None:
        self.file(here, "experiment/own.yaml", f"# @package _global_\n{text}")
        assert attempt("--config-dir", "mine", "experiment=own", *words) == (0, "")
        assert list(here.rglob(".hydra/config.yaml"))

    @pytest.mark.parametrize(
        "text",
        [
            "trust: [mine]",
            "trust: []",
            "sweep: {max_jobs: 1000000}",
            "hydra: {run: {dir: /tmp/x}}",
            "hydra: {run: {dir: ../x}}",
            "hydra: {run: {dir: a/../../x}}",
            "hydra: {run: {dir: .git/hooks}}",
            "hydra: {run: {dir: '${data.name}'}}",
            "hydra: {run: {dir: 'x/${oc.env:HOME}'}}",
            "hydra: {sweep: {subdir: 'a/${hydra:runtime.cwd}'}}",
            "hydra: {launcher: {setup: [touch MARK]}}",
            "hydra: {launcher: {partition: gpu}}",
            "hydra: {sweeper: {custom_search_space: evil.run}}",
            "hydra: {sweeper: {params: {hydra.launcher._target_: evil.run}}}",
            "hydra: {sweeper: {params: {+trust: '[evil]'}}}",
            "hydra: {sweeper: {params: {'seed=1 trust': '[evil]'}}}",
            "hydra: {output_subdir: ../x}",
            "hydra: {job: {chdir: true}}",
            "hydra: {job: {env_copy: [HOME]}}",
            "hydra: {verbose: true}",
            "hydra: {help: {template: x}}",
            "hydra: {callbacks: {x: {}}}",
            "hydra: {nothing: 1}",
            "hydra: evil",
        ],
    )
    def test_not_more(self, attempt, here: Path, text: str) -> None:
        self.file(here, "experiment/own.yaml", f"# @package _global_\n{text}\n")
        said = refused(attempt("--config-dir", "mine", "experiment=own", "trust=[nobody]"), here)
        assert "own.yaml" in said

    @pytest.mark.parametrize("key", ["seed", "data.root", "sampler.name", "recipe.optimizer"])
    @pytest.mark.parametrize("call", ["${oc.env:HOME}", "${oc.decode:1}", "${hydra:runtime.cwd}", "${a.${b}}"])
    def test_nothing_is_called(self, attempt, here: Path, key: str, call: str) -> None:
        group, _, below = key.partition(".")
        value = f"{{{below}: '{call}'}}" if below else f"'{call}'"
        self.file(here, "experiment/own.yaml", f"# @package _global_\n{group}: {value}\n")
        said = refused(attempt("--config-dir", "mine", "experiment=own"), here)
        assert os.environ["HOME"] not in said.replace(str(here), "")

    @pytest.mark.parametrize(
        "text",
        [
            "defaults: [{/sampler: '${oc.env:HOME}'}]",
            "defaults: [own]",
            "hydra: [evil]",
            "defaults: [{override /data: '${data}'}]",
            "defaults: 3",
            "defaults: [[]]",
            "defaults: [{a: 1, b: 2}]",
            "defaults: [{}]",
            "a: '${b}${b}'\nb: '${c}${c}'\n"
            + "".join(f"{x}: '${{{y}}}${{{y}}}'\n" for x, y in pairwise("cdefghijklmnopqrstuvwxyz")),
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{y}: &{y} [{','.join([f'*{x}'] * 10)}]\n" for x, y in pairwise("abcdefgh")),
            "1: 2",
            "- a",
            "seed: !!binary gIGC",
            "seed: 2020-01-01",
            'name: "\\ud800"',
            'name: "\\0"',
        ],
        ids=range(16),
    )
    def test_one_that_is_no_configuration_is_told(self, attempt, here: Path, text: str) -> None:
        self.file(here, "experiment/own.yaml", f"# @package _global_\n{text}\n")
        code, err = attempt("--config-dir", "mine", "experiment=own")
        assert "fault of kdal" not in err
        assert os.environ["HOME"] not in err.replace(str(here), "")
        assert code == 2 or "seed" in text  # what a seed may be is for the stage to say

    def test_defaults_that_multiply_are_counted(self, attempt, here: Path) -> None:
        for number in range(20):
            entries = "".join(f"  - /x/l{number + 1}@{side}\n" for side in ("a", "b"))
            self.file(here, f"x/l{number}.yaml", f"defaults:\n{entries}")
        self.file(here, "x/l20.yaml", "v: 1\n")
        assert "too many files" in refused(attempt("--config-dir", "mine", "+x=l0"), here)

    def test_pipes_and_devices_are_no_options(self, attempt, here: Path) -> None:
        (here / "mine" / "experiment").mkdir(parents=True)
        os.mkfifo(here / "mine/experiment/pipe.yaml")
        (here / "mine/experiment/zero.yaml").symlink_to("/dev/zero")
        for name in ("pipe", "zero"):
            refused(attempt("--config-dir", "mine", f"experiment={name}"), here)


class TestJobs:
    @pytest.mark.parametrize(
        "words",
        [
            ["seed=range(0,1000000000)"],
            ["seed=range(1000000000,0,-1)"],
            ["seed=shuffle(range(1000000000))"],
            ["seed=range(0,1,1e-9)"],
            ["seed=range(0,inf)"],
            ["seed=range(0,10,0)"],
            ["seed=range(5,5)"],
            ["budget=range(10,1000000000)"],
            ["seed=range(100)", "budget=range(10,110)"],
            ["seed=range(32)", "sampler=glob(*)", "loss=glob(*)"],
            ["seeds=9999"],
            ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=1000000", "seed=range(3)"],
            ["+hydra.sweeper.params.seed=range(100000)"],
            ["seed=0,1", "sweep.max_jobs=1"],
            ["seed=0,1", "sweep.max_jobs=0"],
            ["seed=0,1", "sweep.max_jobs=many"],
            ["seed=0,1", "sweep=null"],
        ],
        ids=" ".join,
    )
    def test_that_are_too_many_or_none_are_refused_before_there_is_one(self, attempt, here: Path, words) -> None:
        refused(attempt("-m", *words), here)

    def test_as_many_as_one_says(self, attempt) -> None:
        assert attempt("-m", "seed=range(3)", "sweep.max_jobs=3", "experiment=smoke") == (0, "")
