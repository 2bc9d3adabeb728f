"""The benchmark for a GPU, tried on a CPU with a few images."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.mark.slow
def test_every_part_runs_on_a_cpu_and_is_not_run_again(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, tmp_path, "--dry", "--device", "cpu", "--minutes", "60"]
    subprocess.run(command, check=True)
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.json")}
    assert len(found) == 8
    assert not [part for part, result in found.items() if "failed" in result]
    checks = [row for result in found.values() for row in result["rows"] if "check" in row]
    assert {row["equal"] for row in checks if "kept" not in row["check"]} == {"True"}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    subprocess.run(command, check=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_part_that_outlasts_the_minutes_is_ended_and_the_page_says_so(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, tmp_path, "--dry", "--device", "cpu", "--minutes", "0"]
    subprocess.run(command, check=True)
    assert "Not run: determinism, answers" in (tmp_path / "gpu.md").read_text(encoding="utf-8")
