"""`baselines=…` to simple models, and each way in which it can be wrong."""

import pytest

import kdal_cli.baselines
from kdal_cli.baselines.logistic import Logistic
from kdal_cli.baselines.tree import Tree
from kdal_cli.compose import parts
from kdal_cli.compose.registry import names, resolve
from kdal_cli.errors import UserError


def test_names_sections_one_alone_and_none() -> None:
    assert parts.baselines(["logistic"], []) == {"logistic": Logistic()}
    section = {"name": "tree", "space": "teacher", "soft": 0.5, "leaf": 2}
    assert parts.baselines(["logistic", section], [])["tree_teacher_soft"] == Tree("teacher", 0.5, 2)
    assert list(parts.baselines("knn", [])) == ["knn"]
    assert parts.baselines(None, []) == parts.baselines([], []) == parts.baselines("none", []) == {}


def test_every_file_of_the_registry_is_a_model_with_a_space_and_a_share() -> None:
    for name in names(kdal_cli.baselines):
        model = resolve(kdal_cli.baselines, name, [], "baselines")()
        assert model.soft == 0
        assert model.space in ("pixels", "features")


@pytest.mark.parametrize(
    ("words", "key", "cure"),
    [
        (["logistc"], "baselines[0].name=logistc", "logistic"),
        ([3], "baselines[0].name=3", ""),
        ([{"space": "pixels"}], "baselines[0].name=None", ""),
        (["knn", {"name": "knn"}], "baselines[1] is knn again", "another space"),
        ([{"name": "tree", "soft": 2}], "baselines[0].soft=2", "from 0 to 1"),
        ([{"name": "tree", "leaf": 0}], "baselines[0].leaf=0", "at least 1"),
        ([{"name": "logistic", "c": 1}], "baselines[0].c=1", "no such key"),
        (["mine.own:Model"], "baselines[0].name=mine.own:Model", "trust"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_do(words, key, cure) -> None:
    with pytest.raises(UserError) as refused:
        parts.baselines(words, [])
    assert key in str(refused.value)
    assert cure in str(refused.value)
