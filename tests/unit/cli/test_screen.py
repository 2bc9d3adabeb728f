"""The standard streams: read to their end or not, closed, full, or in an encoding that lacks half of the letters."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SAY = """
import sys
from kdal_cli.cli.outcome import guarded
from kdal_cli.cli.screen import settle

def work():
    open("opened", "w", encoding="utf-8").write("its own")
    for number in range(20_000):
        print("line", number, "… × фото")
    print("to stderr: фото", file=sys.stderr)
    open("done", "w").close()

settle()
sys.exit(guarded(work, debug=False))
"""


def said(here: Path, redirection: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A command that says much, in a shell that does something with its streams; the last line is its exit code."""
    (here / "say.py").write_text(SAY, encoding="utf-8")
    words = f"{sys.executable} say.py {redirection}; echo ${{PIPESTATUS[0]}}"
    env = {**os.environ, **environment}
    return subprocess.run(["bash", "-c", words], cwd=here, env=env, capture_output=True, check=True)


@pytest.mark.parametrize("redirection", ["| head -1", "2>&1 | head -1", ">&-", "2>&-", ">&- 2>&- <&-", "2>&1 | true"])
def test_nobody_has_to_read_it(tmp_path: Path, redirection: str) -> None:
    ended = said(tmp_path, redirection)
    assert ended.stdout.splitlines()[-1] == b"0"
    assert b"Error" not in ended.stderr
    assert (tmp_path / "done").exists()
    assert (tmp_path / "opened").read_text(encoding="utf-8") == "its own"


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    ended = said(tmp_path, "> /dev/full")
    assert ended.stdout == b"3\n"
    assert ended.stderr == b"kdal: error: cannot write what is said: No space left on device: make room\n"


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONUTF8": "0", "LC_ALL": "C"}])
def test_what_cannot_be_shown_is_replaced(tmp_path: Path, environment: dict[str, str]) -> None:
    ended = said(tmp_path, "| tail -1", **environment)
    assert ended.stdout == b"line 19999 ? ? ????\n0\n"
    assert b"to stderr: " in ended.stderr


def test_names_of_files_are_utf8_in_every_locale(tmp_path: Path) -> None:
    code = "from kdal_cli.cli.screen import settle; settle()\n"
    code += "import os; open('\\u0444', 'x'); print(sorted(os.listdir()))"
    (tmp_path / "é").touch()
    env = {**os.environ, "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONIOENCODING": "utf-8"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, check=True)
    assert ran.stdout.decode() == "['é', 'ф']\n"
