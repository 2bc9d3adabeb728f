"""A tree of folders, walked without leaving it: links are refused, or followed into folders that the user named."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Literal, NamedTuple

from kdal_cli.errors import UserError

FOLLOW = "data.links=follow"


@dataclass(frozen=True)
class Links:
    """What becomes of links below `root`: with `follow` they may end there or below one of `roots`. No path has links
    itself."""

    root: Path
    follow: bool = False
    roots: tuple[Path, ...] = ()

    @classmethod
    def of(cls, root: Path, links: Literal["refuse", "follow"], roots: Sequence[str]) -> "Links":
        """As the user set them. Raises UserError for a root that is no folder."""
        named = [Path(name).expanduser() for name in roots]
        for path in named:
            if not path.is_dir():
                raise UserError(f"data.roots: there is no folder {path}", cure="name folders that links may lead into")
        return cls(root, links == "follow", tuple(path.resolve() for path in named))

    def target(self, shown: str, path: Path) -> Path:
        """Where a link leads. Raises UserError unless it may lead there; `shown`: its path below the root."""
        target = path.resolve()
        if not self.follow:
            cure = f"put the file or folder itself there, or set {FOLLOW}{self._outside(target)}"
            raise UserError(f"{shown!r} is a link, to {str(target)!r}", where=self.root, cure=cure)
        if not any(target.is_relative_to(root) for root in (self.root, *self.roots)):
            what = f"{shown!r} is a link out of the folder, to {str(target)!r}"
            raise UserError(what, where=self.root, cure=f"allow it, if you trust what is there:{self._outside(target)}")
        return target

    def _outside(self, target: Path) -> str:
        """The key that a link out of the root needs besides."""
        return "" if target.is_relative_to(self.root) else f" data.roots=[{target.parent}]"


class File(NamedTuple):
    """Something that is no folder. path: below the root, with "/". target: where a link led to it. facts: None where a
    link leads nowhere."""

    name: str
    path: str
    target: Path | None
    facts: os.stat_result | None


@dataclass(frozen=True)
class Folder:
    """A folder, at `path` below the root, with "/"; really at the last of `trail`, which are the folders passed on the
    way, without links. linked: whether a link was among them."""

    name: str
    path: str
    trail: tuple[Path, ...]
    links: Links
    linked: bool = False

    @classmethod
    def top(cls, root: Path, links: Links) -> "Folder":
        return cls("", "", (root,), links)

    def folders(self, names: Sequence[str]) -> Iterator["Folder"]:
        """Those of its folders that have one of the names."""
        for item in self._items(lambda name: name in names):
            if isinstance(item, Folder):
                yield item

    def items(self) -> Iterator["Folder | File"]:
        """What is in it, without hidden things. Raises UserError for a link that may not be followed or leads in a
        circle, and for a name that is not UTF-8."""
        return self._items(lambda name: not name.startswith("."))

    def _items(self, wanted: Callable[[str], bool]) -> Iterator["Folder | File"]:
        with os.scandir(self.trail[-1]) as items:
            found = sorted((item for item in items if wanted(item.name)), key=attrgetter("name"))
        for item in found:
            yield self._item(item)

    def _item(self, item: os.DirEntry[str]) -> "Folder | File":
        shown = f"{self.path}/{item.name}" if self.path else item.name
        if not (item.name.isascii() or _is_text(item.name)):
            raise UserError(f"the name {shown!r} is not UTF-8", where=self.links.root, cure="rename it")
        linked = item.is_symlink()
        if not (linked or self.linked or item.is_dir()):
            return File(item.name, shown, None, _facts(item))  # a plain file, of which there may be a million
        real = self.links.target(shown, Path(item.path)) if linked else Path(item.path)
        if not item.is_dir():
            return File(item.name, shown, real, _facts(item))
        if linked and any(passed.is_relative_to(real) for passed in self.trail):
            raise UserError(f"{shown!r} is a link that leads in a circle", where=self.links.root, cure="remove it")
        return Folder(item.name, shown, (*self.trail, real), self.links, linked or self.linked)


def _facts(item: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return item.stat()
    except FileNotFoundError:
        return None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
