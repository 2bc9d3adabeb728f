"""What the rooms of the package promise a reader: where code lives follows from its name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kdal_cli"
GROUND = {"__init__", "__main__", "dataset", "errors", "network", "plain", "signals", "streams", "types", "values"}
SOURCES = sorted(path for folder in ("kdal_cli", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """Every module or name of kdal that a file imports, as the parts of its dotted path."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((*node.module.split("."), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_underscore_is_imported_from_inside_its_folder_alone(path: Path) -> None:
    for parts in imports(path):
        private = [n for n, part in enumerate(parts) if part.startswith("_") and not part.startswith("__")]
        if parts[0] == "kdal_cli" and private:
            folder = ROOT.joinpath(*parts[: private[0]])
            assert folder in (path.parent, path.with_suffix("")), f"{'.'.join(parts)} is private to {folder.name}/"


def test_the_landing_holds_the_ground_alone() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} <= GROUND


def test_an_import_path_says_where_the_code_lives() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert [type(node) for node in body] in ([ast.Expr], [ast.Expr, ast.Assign]), (
            f"{path} holds more than a docstring"
        )
