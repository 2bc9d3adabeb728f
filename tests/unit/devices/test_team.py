"""Two processes work as one: they average, they answer in order, and what goes wrong in one is told by the other."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdal_cli.devices import pulse
from kdal_cli.devices.engine import Engine
from kdal_cli.devices.team import Team
from kdal_cli.errors import MachineError, UserError


@pytest.fixture
def team(two: Engine) -> Team:
    return two.team


def numbers(rank: int) -> list[Tensor]:
    """Of several types, sizes and layouts; other ones in each process."""
    image = torch.arange(48.0).view(2, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    return [torch.full((3,), 1.0 + rank), torch.tensor(10.0**rank), image * rank, torch.full((2,), rank).double()]


def averaged(team: Team) -> list[Tensor]:
    tensors = numbers(team.rank)
    team.average(tensors)
    return tensors


def followed(team: Team) -> list[Tensor]:
    tensors = [*numbers(team.rank), torch.tensor([team.rank])]
    team.follow(tensors)
    return tensors


def test_each_has_the_mean_of_what_both_had_whatever_its_type_and_layout(team: Team) -> None:
    with team.helping(averaged, team) as answers:
        ours = averaged(team)
    means = [(one + two) / 2 for one, two in zip(numbers(0), numbers(1), strict=True)]
    for found in (ours, answers[0]):
        for value, expected in zip(found, means, strict=True):
            assert torch.equal(value, expected)
            assert (value.dtype, value.stride()) == (expected.dtype, expected.stride())


def test_each_has_what_number_0_had(team: Team) -> None:
    with team.helping(followed, team) as answers:
        ours = followed(team)
    for found in (ours, answers[0]):
        for value, expected in zip(found, [*numbers(0), torch.tensor([0])], strict=True):
            assert torch.equal(value, expected)


def test_a_process_alone_is_its_own_mean_and_is_helped_by_nobody() -> None:
    alone = Team()
    with alone.helping(averaged, alone) as answers:
        assert all(torch.equal(*pair) for pair in zip(averaged(alone), numbers(0), strict=True))
    assert answers == []


def who(team: Team) -> tuple[int, int, int, int]:
    return team.rank, team.size, torch.get_num_threads(), os.getpid()


def test_helpers_answer_call_after_call_each_in_a_process_of_its_own(team: Team) -> None:
    for _ in range(2):
        with team.helping(who, team) as answers:
            pass
        [(rank, size, threads, process)] = answers
        assert (rank, size, threads) == (1, 2, 1)
        assert process != os.getpid()


def fail(team: Team, error: Exception) -> None:
    if team.rank:
        raise error
    averaged(team)  # waits for one that never comes


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UserError("layer=9", cure="from 1 to 3"), "layer=9: from 1 to 3"),
        pytest.param(
            ZeroDivisionError("by zero"),
            "process 1 of devices=2: ZeroDivisionError: by zero",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["the user's", "a fault"],
)
def test_an_error_in_a_helper_is_told_here_while_the_others_wait_for_it(
    team: Team, error: Exception, told: str
) -> None:
    with pytest.raises((UserError, MachineError)) as raised, team.helping(fail, team, error):
        fail(team, error)
    assert str(raised.value) == told
    with team.helping(who, team) as answers:  # new helpers have started
        pass
    assert answers[0][0] == 1


def die(team: Team) -> None:
    if team.rank:
        os.kill(os.getpid(), signal.SIGKILL)
    averaged(team)


def test_a_helper_that_is_killed_is_told_with_its_exit_code(team: Team) -> None:
    with pytest.raises(MachineError) as raised, team.helping(die, team):
        die(team)
    assert str(raised.value) == "process 1 ended with exit code -9 (devices=2): resume the run"


def stand_still(team: Team) -> None:
    if team.rank:
        os.kill(os.getpid(), signal.SIGSTOP)
    averaged(team)


def test_a_helper_that_stands_still_is_given_up_and_told(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    with team.helping(who, team):
        [helper] = team._crew.helpers
    team.close()
    monkeypatch.setattr(pulse, "STILL", 2.0)
    monkeypatch.setattr(pulse, "GRACE", 1.0)
    with pytest.raises(MachineError) as raised, team.helping(stand_still, team):
        stand_still(team)
    assert str(raised.value) == "process 1 has stood still for 2 s (devices=2): resume the run"
    assert helper.process.poll() is not None


STARTS_ONE = """
import os, signal, subprocess, sys
from kdal_cli.devices.piped import Helper
helper = Helper.start(1)
os.read(helper.pulse, 1)
os.kill(helper.process.pid, signal.SIGSTOP)
print(helper.process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_even_one_that_stands_still_ends_with_the_process_that_has_started_it() -> None:
    started = subprocess.run([sys.executable, "-c", STARTS_ONE], capture_output=True, text=True)
    assert started.returncode == -signal.SIGKILL
    patience = time.monotonic() + 10
    while Path(f"/proc/{started.stdout.strip()}").exists() and time.monotonic() < patience:
        status = Path(f"/proc/{started.stdout.strip()}/stat").read_text()
        if status.rpartition(")")[2].split()[0] == "Z":  # nobody here asks how it has ended
            return
        time.sleep(0.05)
    assert not Path(f"/proc/{started.stdout.strip()}").exists()


def sleep(team: Team) -> None:
    averaged(team)
    averaged(team)


def test_an_error_here_is_the_one_that_is_told_and_no_helper_is_left_waiting(team: Team) -> None:
    with team.helping(who, team):
        [helper] = team._crew.helpers
    with pytest.raises(KeyError, match="mine"), team.helping(sleep, team):
        raise KeyError("mine")
    assert helper.process.returncode == -signal.SIGKILL


def test_what_another_process_cannot_make_again_is_refused_by_name(team: Team) -> None:
    def local() -> None: ...

    with pytest.raises(UserError, match=r"cannot be sent to another process: .*local.*devices=1"), team.helping(local):
        raise AssertionError("nothing starts")


def test_closed_it_leaves_no_process_and_no_file_and_helps_again_when_it_is_asked() -> None:
    team = Engine.start("cpu", 1, devices=2).team
    before = set(Path("/proc/self/fd").iterdir())
    with team.helping(who, team) as answers:
        pass
    team.close()
    team.close()
    left = subprocess.run(["ps", "-p", str(answers[0][-1])], capture_output=True, text=True).stdout
    assert len(left.splitlines()) == 1
    assert len(set(Path("/proc/self/fd").iterdir())) <= len(before)
