"""Configuration of somebody else is data: whatever it says, and however it says it, nothing of it runs.

Most is tried in this process, with the loop itself left out: what Hydra makes of a configuration, it makes before.
"""

from pathlib import Path

import pytest
from faults import hostile
from faults.hostile import MARK, Attack


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


@pytest.mark.parametrize("attack", list(hostile.attacks()), ids=lambda attack: attack.name)
def test_nothing_of_it_runs(attempt, here: Path, attack: Attack) -> None:
    refused(attempt(*attack.lay(here)), here)


@pytest.mark.slow
def test_nothing_of_any_payload_runs_in_any_spelling_by_any_way(attempt, here: Path) -> None:
    """2,310 attacks, minutes."""
    for attack in hostile.all_attacks():
        refused(attempt(*attack.lay(here)), here)
