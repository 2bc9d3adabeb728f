"""Text files are UTF-8 whatever the locale: nothing is opened without saying so. ruff sees only what it can infer."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_text_file_is_opened_with_its_encoding() -> None:
    files = [*(ROOT / "kdal_cli").rglob("*.py"), *(ROOT / "docs").glob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    bare = [
        f"{file.relative_to(ROOT)}:{call.lineno}"
        for file in files
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and _is_bare(call)
    ]
    assert len(files) > 200
    assert bare == []


def _is_bare(call: ast.Call) -> bool:
    """Whether a call opens, reads or writes text in whatever encoding the locale has."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "open":
        modes = [str(arg.value) for arg in call.args if isinstance(arg, ast.Constant)]
        text = any(set(mode) <= set("rwaxt+") for mode in modes) or isinstance(call.func, ast.Name)
    else:
        text = name in ("read_text", "write_text")
    return text and not any(keyword.arg == "encoding" for keyword in call.keywords)
