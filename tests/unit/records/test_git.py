"""The commit of a folder: found as git finds it, and nothing that its repository names is run."""

import os
import subprocess
from pathlib import Path

import pytest

from kdal_cli.records.git import commit_of


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.fsmonitor=false")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "a").write_text("1")
    (folder / ".gitattributes").write_text("* filter=evil diff=evil\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=x")
    return folder


def test_it_is_the_one_that_git_names(repository: Path) -> None:
    assert commit_of(repository) == {"commit": git(repository, "rev-parse", "HEAD"), "dirty": False}
    (repository / "below").mkdir()
    (repository / "new").write_text("")
    assert commit_of(repository / "below") == commit_of(repository)
    (repository / "a").write_text("2")
    assert commit_of(repository) == {"commit": git(repository, "rev-parse", "HEAD"), "dirty": True}
    git(repository, "add", "a")
    assert commit_of(repository) == {"commit": git(repository, "rev-parse", "HEAD"), "dirty": True}


def test_wherever_git_keeps_it(repository: Path, tmp_path: Path) -> None:
    git(repository, "pack-refs", "--all")
    git(repository, "gc", "--quiet")
    clean = {"commit": git(repository, "rev-parse", "HEAD"), "dirty": False}
    assert commit_of(repository) == clean
    git(repository, "checkout", "--quiet", "--detach")
    assert commit_of(repository) == clean
    git(repository, "worktree", "add", "--quiet", str(tmp_path / "beside"))
    assert commit_of(tmp_path / "beside") == clean


def test_nothing_that_it_configures_is_run(repository: Path, tmp_path: Path) -> None:
    mark = tmp_path / "MARK"
    for key in ("core.fsmonitor", "filter.evil.clean", "filter.evil.process", "diff.evil.textconv", "core.sshCommand"):
        git(repository, "config", key, f"touch {mark}; cat")
    git(repository, "config", "core.hooksPath", "hooks")
    (repository / "hooks").mkdir()
    for hook in ("post-index-change", "fsmonitor-watchman"):
        (repository / "hooks" / hook).write_text(f"#!/bin/sh\ntouch {mark}\n")
        (repository / "hooks" / hook).chmod(0o755)
    mark.unlink(missing_ok=True)
    (repository / "a").write_text("3")  # as long as it was: git has to look into it
    found = commit_of(repository)
    assert found is not None
    assert found["dirty"] is True
    assert not mark.exists()
    subprocess.run(["git", "status"], cwd=repository, capture_output=True)
    assert mark.exists(), "the trap is none"


@pytest.mark.parametrize(
    "head", ["ref: ../../../secret", "ref: refs/heads/../../x", "x" * 40, "", "\0", "ref: ", "a" * 39]
)
def test_a_head_that_is_none_is_no_commit(repository: Path, head: str) -> None:
    (repository / ".git" / "HEAD").write_text(head)
    (repository.parent / "secret").write_text("a" * 40)
    assert commit_of(repository) is None


def test_a_pipe_and_a_folder_without_one(repository: Path, tmp_path: Path) -> None:
    (repository / ".git" / "HEAD").unlink()
    os.mkfifo(repository / ".git" / "HEAD")
    assert commit_of(repository) is None
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / ".git").write_text("gitdir: /nowhere")
    assert commit_of(tmp_path / "own") is None


def test_without_git_the_commit_is_known(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("PATH", "")
    assert commit_of(repository) == {"commit": head, "dirty": None}
