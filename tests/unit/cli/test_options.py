"""Options beside the files of conf: code of one's own is one, the parts that options are made of are none."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from kdal_cli.cli.conf import conf_folder
from kdal_cli.cli.loader import Loader
from kdal_cli.cli.options import OWN, offered


def composed(conf: Path, name: str, *words: str) -> dict:
    GlobalHydra.instance().clear()
    with offered(words), initialize_config_dir(str(conf), version_base="1.3"):
        return OmegaConf.to_container(compose(name, list(words)), resolve=True)  # type: ignore[return-value]


def test_a_part_composes_and_is_no_option(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "_base.yaml").write_text("noise: 0\n")
    (tmp_path / "data" / "blobs.yaml").write_text("defaults: [_base, _self_]\nname: blobs\n")
    (tmp_path / "main.yaml").write_text("defaults: [data: blobs]\n")
    assert composed(tmp_path, "main")["data"] == {"noise": 0, "name": "blobs"}
    loader = Loader(create_config_search_path(str(tmp_path)), None)
    assert loader.get_group_options("data") == ["blobs"]


def test_code_of_ones_own_is_an_option_of_each_group_that_takes_some() -> None:
    words = [f"{group}=my_pkg.parts:{group}" for group in OWN if group != "loss"]
    found = composed(conf_folder(), "al-loop", *words)
    for group in ("sampler", "seed_set", "tracker"):
        assert found[group] == {"name": f"my_pkg.parts:{group}"}
    for group, network in (("student", found["student"]), ("teacher", found["teacher"]["model"])):
        assert {key: value for key, value in network.items() if value is not None} == {"name": f"my_pkg.parts:{group}"}
    usual = composed(conf_folder(), "al-loop", "teacher=mlp")["teacher"]
    assert {**found["teacher"], "model": None} == {**usual, "model": None}


def test_a_term_of_ones_own_stands_alone_and_among_others_with_what_every_term_has() -> None:
    alone = composed(conf_folder(), "distill", "loss=mine:term", "loss.term.weight=2", "+loss.term.power=3")["loss"]
    assert set(alone) == {"on", "term", "class_weights", "recipe"}
    usual = composed(conf_folder(), "distill")["loss"]["kd"]
    assert set(alone["term"]) == {*usual, "power"} - {"temperature"}
    assert (alone["term"]["name"], alone["term"]["weight"], alone["term"]["power"]) == ("mine:term", 2, 3)
    among = composed(conf_folder(), "distill", "loss=[kd,mine:term,mine:Other]")["loss"]
    assert {key for key in among if isinstance(among[key], dict)} == {"weighting", "recipe", "kd", "term", "Other"}


@pytest.mark.parametrize(
    "word", ["loss.kd.name=mine:term", "trust=[mine:term]", "data.root=c:dir", "loss=kd", "sampler=a:"]
)
def test_nothing_else_becomes_an_option(word: str) -> None:
    before = str(ConfigStore.instance().repo)
    with offered([word]):
        assert str(ConfigStore.instance().repo) == before


def test_a_sweep_offers_all_that_it_names_and_no_longer_than_it_lasts() -> None:
    with offered(["-m", "+loss=kd,mine:one,mine.deep:two"]):
        assert {"mine:one.yaml", "mine.deep:two.yaml"} <= set(ConfigStore.instance().repo["loss"])
    assert not ConfigStore.instance().repo["loss"]
