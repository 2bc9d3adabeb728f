"""The folder is the registry, and nobody else's code is run unless the user says that he trusts it."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

import kdal_cli.losses
import kdal_cli.models
import kdal_cli.samplers
from kdal_cli.compose.registry import is_class, names, resolve
from kdal_cli.errors import UserError

OWN = """
from pathlib import Path
Path("ran").touch()
def make(shape): return shape
"""


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `mine/nets.py`, which leaves a sign when it is imported; we are in that folder."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("")
    (tmp_path / "mine" / "nets.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("package", "name"),
    [(kdal_cli.samplers, "margin"), (kdal_cli.losses, "kd"), (kdal_cli.models, "small_cnn")],
)
def test_a_name_is_the_function_of_its_module(package: ModuleType, name: str) -> None:
    target = resolve(package, name, [], "section")
    assert (target.__name__, target.__module__) == (name, f"{package.__name__}.{name}")
    assert not is_class(target)


def test_or_its_class_in_camel_case() -> None:
    target = resolve(kdal_cli.losses, "vid", [], "loss.vid")
    assert target.__name__ == "Vid"
    assert is_class(target)


@pytest.mark.parametrize("package", [kdal_cli.samplers, kdal_cli.losses, kdal_cli.models], ids=lambda p: p.__name__)
def test_every_module_of_a_registry_can_be_resolved_and_what_begins_with_an_underscore_is_none(package) -> None:
    files = {path.stem for path in Path(package.__path__[0]).glob("*.py")}
    assert set(names(package)) == {name for name in files if not name.startswith("_")}
    assert all(callable(resolve(package, name, [], "x")) for name in names(package))


@pytest.mark.parametrize("name", ["marign", "_select", "margin.margin", "../losses/kd", "", "os"])
def test_a_name_that_is_not_there_is_refused_with_the_nearest_one(name: str) -> None:
    with pytest.raises(UserError) as refused:
        resolve(kdal_cli.samplers, name, [], "sampler")
    assert str(refused.value).startswith(f"sampler.name={name}: ")
    assert "known: activelab, alfa_mix, " in str(refused.value)
    if name == "marign":
        assert "did you mean 'margin'?" in str(refused.value)


@pytest.mark.parametrize("name", [None, 3, ["margin"]])
def test_a_name_that_is_no_text_is_refused_like_any_other(name: object) -> None:
    with pytest.raises(UserError, match=r"^sampler\.name="):
        resolve(kdal_cli.samplers, name, [], "sampler")  # type: ignore[arg-type]


# Code from outside.


def test_code_of_the_users_own_is_found_from_the_folder_he_is_in(own_package: Path) -> None:
    assert resolve(kdal_cli.models, "mine.nets:make", ["mine"], "student")("a shape") == "a shape"


@pytest.mark.parametrize("trust", [[], ["min"], ["mine.nets"], ["other", "kdal_cli"], ["mine:nets"]], ids=str)
def test_code_that_was_not_trusted_is_refused_and_not_even_imported(own_package: Path, trust: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        resolve(kdal_cli.models, "mine.nets:make", trust, "student")
    assert str(refused.value) == (
        "student.name=mine.nets:make is code from outside: say that you trust it: trust=[mine]"
    )
    assert not (own_package / "ran").exists()


@pytest.mark.parametrize(
    "name", ["os:system", "builtins:exec", ":system", ".:x", "..os:system", "kdal_cli.records.files:sweep"]
)
def test_nothing_is_trusted_beforehand(name: str) -> None:
    with pytest.raises(UserError, match="is code from outside"):
        resolve(kdal_cli.models, name, [], "student")


@pytest.mark.parametrize(
    "name", ["mine.nets:mkae", "mine.ents:make", "mine.nets:", "mine.nets:make:x", "mine.nets:__file__"]
)
def test_trusted_code_that_is_not_there_is_refused_in_one_line(own_package: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"^student\.name=mine\.\w+:.*package\.module:name"):
        resolve(kdal_cli.models, name, ["mine"], "student")


def test_trusted_code_that_cannot_be_read_is_refused_in_one_line(own_package: Path) -> None:
    (own_package / "mine" / "broken.py").write_text("def make(:\n")
    with pytest.raises(UserError, match=r"^student\.name=mine\.broken:make"):
        resolve(kdal_cli.models, "mine.broken:make", ["mine"], "student")
