"""The commit of a folder, read without running what its repository names.

A `.git/config` can name programs (`core.fsmonitor`, `filter.*.clean`, hooks), and `git status` in a folder of somebody
else's runs them. So the commit is read from the files themselves, and git, asked only whether something was changed, is
given a repository of ours with the objects and the index of theirs: it never sees their configuration.
"""

import os
import re
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

BYTES = 1 << 24
"""Of a file of references: 100,000 of them have 10 MB."""

SHA256 = "[core]\nrepositoryformatversion = 1\n[extensions]\nobjectformat = sha256\n"
"""The configuration of a repository whose hashes are not SHA-1."""


def commit_of(folder: Path) -> dict[str, Any] | None:
    """The commit that is checked out and whether files were changed since; None outside a repository."""
    for top in (folder, *folder.parents):
        if (top / ".git").exists():
            own = _pointed(top / ".git", "gitdir: ") if (top / ".git").is_file() else top / ".git"
            shared = _pointed(own / "commondir", "") if (own / "commondir").is_file() else own
            commit = _commit(own, shared)
            return {"commit": commit, "dirty": _dirty(top, own, shared, commit)} if commit else None
    return None


def _pointed(path: Path, prefix: str) -> Path:
    return path.parent / _read(path).removeprefix(prefix).strip()


def _commit(own: Path, shared: Path) -> str | None:
    head = _read(own / "HEAD").strip()
    name = head.removeprefix("ref: ")
    if name == head:
        return _hash(head)
    if not re.fullmatch(r"refs/[\w./+@-]+", name) or ".." in name:
        return None
    packed = re.search(rf"^(\w+) {re.escape(name)}$", _read(shared / "packed-refs"), re.MULTILINE)
    return _hash(_read(own / name)) or _hash(_read(shared / name)) or (_hash(packed[1]) if packed else None)


def _hash(text: str) -> str | None:
    return text.strip() if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text.strip()) else None


def _read(path: Path) -> str:
    """The text of a file; empty for what is none, or more than references are."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            regular = stat.S_ISREG(os.fstat(handle).st_mode)
            data = file.read(BYTES + 1) if regular else b""
    except (OSError, ValueError):
        return ""
    return data.decode(errors="replace") if len(data) <= BYTES else ""


def _dirty(top: Path, own: Path, shared: Path, commit: str) -> bool | None:
    """Whether a file that git knows was changed; None where git is not installed or cannot tell."""
    with tempfile.TemporaryDirectory(prefix="kdal-git-") as folder:
        ours = Path(folder)
        for name in ("objects", "refs"):
            (ours / name).mkdir()
        (ours / "HEAD").write_text(f"{commit}\n", encoding="utf-8")
        (ours / "config").write_text(SHA256 if len(commit) == 64 else "", encoding="utf-8")
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": folder,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_DIR": folder,
            "GIT_WORK_TREE": str(top),
            "GIT_INDEX_FILE": str(own / "index"),
            "GIT_OBJECT_DIRECTORY": str(shared / "objects"),
        }
        words = ["--no-optional-locks", "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all"]
        try:
            done = subprocess.run(["git", *words], env=environment, cwd=top, capture_output=True, check=True, timeout=5)
        except (OSError, subprocess.SubprocessError):
            return None
    return bool(done.stdout)
