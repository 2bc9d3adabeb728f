"""`kdal store`: what is kept of earlier runs and takes room: decoded images, teachers, answers, features."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from kdal_cli.cli.listing import Words
from kdal_cli.errors import MachineError, UserError

DAY = 86_400


def store(words: Sequence[str]) -> None:
    """`kdal store [FOLDER] [--clear KIND …] [--unused DAYS] [--check]`"""
    from kdal_cli.images.store import damaged
    from kdal_cli.records.files import shown
    from kdal_cli.records.kept import KINDS, kept, remove
    from kdal_cli.report.display import Display
    from kdal_cli.report.tables import plain_table

    description = "List what earlier runs keep for later ones, the largest last, and clear it. What is cleared is "
    parser = Words("kdal store", description=description + "computed again when it is needed.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("outputs"), help="where to look (outputs)")
    parser.add_argument(
        "--clear", nargs="+", choices=[*KINDS, "all"], metavar="KIND", help=f"{', '.join(KINDS)}, or all"
    )
    parser.add_argument("--unused", type=_days, default=0.0, metavar="DAYS", help="only what was not used for so long")
    parser.add_argument("--check", action="store_true", help="read every byte of kept images, and compare")
    options = parser.parse_args(words)
    if not options.folder.is_dir():
        raise UserError("there is no such folder", where=options.folder, cure="kdal store FOLDER")
    wanted = set(KINDS) if not options.clear or "all" in options.clear else set(options.clear)
    before = time.time() - DAY * options.unused
    found = [one for one in kept(options.folder) if one.kind in wanted and one.used <= before]
    with Display() as display:
        if options.clear:
            gone = 0
            for one in found:
                try:
                    went = remove(one)
                except OSError as error:
                    raise MachineError(f"cannot remove this: {error.strerror}", where=one.path) from error
                gone += one.size if went else 0
                display.say(f"removed {shown(one.path)}" if went else f"in use, and stays: {shown(one.path)}")
            display.say(f"{_megabytes(gone)} MB freed")
            return
        if options.check:
            images = [one.path for one in found if one.kind == "images"]
            broken = {path: names for path in images if (names := damaged(path))}
            for path, names in broken.items():
                display.say(f"damaged: {', '.join(names)} in {shown(path)}")
            display.say(f"{len(images) - len(broken):,} of {len(images):,} stores of images are as they were written")
            if broken:
                cure = "kdal store --clear images: the next run decodes them again"
                raise UserError(f"{len(broken):,} stores of images are damaged", where=options.folder, cure=cure)
            return
        table = plain_table()
        for name in ("kind", "MB", "days unused", "where"):
            table.add_column(name, justify="right" if name in ("MB", "days unused") else "left")
        for one in sorted(found, key=lambda one: one.size):
            days = f"{max(0.0, time.time() - one.used) / DAY:.0f}"
            table.add_row(one.kind, _megabytes(one.size), days, str(shown(one.path)))
        if found:
            display.table(table)
        display.say(f"{len(found):,} kept, {_megabytes(sum(one.size for one in found))} MB")


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.1f}"


def _days(word: str) -> float:
    try:
        days = float(word)
    except ValueError:
        days = -1.0
    if not 0 <= days < 1e6:
        raise argparse.ArgumentTypeError(f"{word}: days, from 0 on")
    return days
