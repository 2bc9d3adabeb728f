"""`kdal export`: a finished student in formats of others, with a table of what each of them is worth."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from kdal_cli.cli.listing import Words
from kdal_cli.errors import UserError, nearest
from kdal_cli.plain import several

if TYPE_CHECKING:
    from kdal_cli.compose.finished import Finished
    from kdal_cli.compose.shipped import Shipped
    from kdal_cli.report.display import Display
    from kdal_cli.stages.export import Format, Judges, Row

KEYS = ("format", "max_drop", "license", "trust", "threads")
CALIBRATION = 256
"""Images of the pool that int8 is calibrated on."""

JUDGED = 2000
"""Images of the pool that a file is judged by where there are no validation labels."""

PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "hub": ("timm",), "torch": ()}


@dataclass(frozen=True)
class Asked:
    """What was typed. data: keys of `data` that are other here than when the run was made, such as its root."""

    formats: "list[Format]"
    max_drop: float
    licence: str
    trust: list[str]
    threads: int | None
    data: dict[str, Any]


def export(words: Sequence[str]) -> None:
    """`kdal export RUN format=[onnx,int8,hub,torch]`"""
    parser = Words("kdal export", description="Write a finished student in other formats, and measure each file.")
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder, or a checkpoint")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="key=value",
        help="format=[onnx,int8,hub,torch] (onnx), max_drop=0.005 that int8 may lose, license=cc-by-4.0, "
        "threads=2, trust=[my_models], data.root=… where the images lie now",
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the files go; RUN/export")
    options = parser.parse_args(words)
    asked = _asked(_read(options.words))
    _needs(asked.formats)

    from kdal_cli.compose.shipped import shipped
    from kdal_cli.devices.engine import Engine
    from kdal_cli.report.display import Display
    from kdal_cli.stages.export import Subject
    from kdal_cli.stages.export import export as write

    with Display() as display:
        Engine.start("cpu", asked.threads)
        ship = shipped(options.run, asked.trust)
        display.say(ship.sentence)
        run = _run(ship, asked, display)
        out = _folder(options.out, run.folder if run else ship.path.parent)
        subject = Subject(ship.path, ship.card, ship.body, _judges(ship, run))
        rows = write(subject, asked.formats, asked.max_drop, _about(ship, asked.licence), out, display)
        _write_beside(out, ship, rows, run, asked.licence)
        _tell(rows, out, display)


def _asked(words: Mapping[str, Any]) -> Asked:
    """The words, checked. Raises UserError for a value that none of them takes."""
    from kdal_cli.compose.bind import convert
    from kdal_cli.stages.export import Format
    from kdal_cli.values import Count, Share

    wanted = words.get("format", ["onnx"])
    return Asked(
        convert(wanted if isinstance(wanted, list) else [wanted], list[Format], "format"),
        convert(words.get("max_drop", 0.005), Share, "max_drop"),
        convert(words.get("license", "unknown"), str, "license"),
        convert(words.get("trust", []), list[str], "trust"),
        convert(words.get("threads"), Count | None, "threads"),
        {key.removeprefix("data."): value for key, value in words.items() if key.startswith("data.")},
    )


def _folder(named: Path | None, home: Path) -> Path:
    """The folder that is asked for, or `export` in that of the run, where no link is followed."""
    from kdal_cli.records.files import folder_below

    try:
        return folder_below(named) if named else folder_below(home, "export")
    except OSError as error:
        where = named or home / "export"
        raise UserError(f"cannot write here: {error.strerror}", where=where, cure="choose another --out") from None


def _write_beside(out: Path, ship: "Shipped", rows: "Sequence[Row]", run: "Finished | None", licence: str) -> None:
    """The page and the figures that go with the files, and the script that reads ONNX."""
    from kdal_cli.records.files import json_bytes, write_bytes
    from kdal_cli.report.export_table import model_card

    folder, config = (run.folder, run.config) if run else (None, {})
    if run is not None and run.about.get("stage") == "compress":
        config = {key: value for key, value in config.items() if key != "oracle"}  # others sold the labels
    page = model_card(ship.card, rows, folder, config, licence).encode()
    write_bytes(out / "README.md", page)
    written = {row["format"] for row in rows if not row["refused"]}
    if "hub" in written:
        write_bytes(out / "hub" / "README.md", page)
    if written & {"onnx", "int8"}:
        write_bytes(out / "predict.py", _standalone())
    write_bytes(out / "export.json", json_bytes({"checkpoint": str(ship.path), "files": rows}))


def _tell(rows: "Sequence[Row]", out: Path, display: "Display") -> None:
    from kdal_cli.records.files import shown
    from kdal_cli.report.export_table import export_table

    display.table(export_table(rows))
    for row in rows:
        if row["refused"]:
            display.warn(f"{row['format']} refused: {row['refused']}")
    display.say(f"measured with {several(int(rows[0]['threads'] or 1), 'thread')}, {rows[0]['instructions']}")
    display.say(f"files in {shown(out)}")


def _read(words: Sequence[str]) -> dict[str, Any]:
    """{key: value} of `key=value`. Raises UserError for a word that is none, or has another key."""
    found: dict[str, Any] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or (key not in KEYS and not key.startswith("data.")):
            raise UserError(f"{word}", where="kdal export", cure=nearest(key, [*KEYS, "data.root"]))
        try:
            found[key] = value if key == "license" else yaml.safe_load(value)
        except yaml.YAMLError:
            found[key] = value
    return found


def _needs(wanted: Sequence[str]) -> None:
    from kdal_cli.export.onnx_file import needs_package

    for name in wanted:
        kind = "onnx" if name == "int8" else name
        for package in PACKAGES[kind]:
            needs_package(package, f"format={name}", "timm" if kind == "hub" else "export")


def _run(ship: "Shipped", asked: Asked, display: "Display") -> "Finished | None":
    from kdal_cli.compose.finished import finished, run_of

    folder = run_of(ship.path)
    if folder is None:
        display.say("this checkpoint lies in no run folder: the data are not known, so nothing is measured on them")
        return None
    return finished(folder, asked.data, asked.trust, display, ship.card.crop)


def _judges(ship: "Shipped", run: "Finished | None") -> "Judges":
    import torch

    from kdal_cli.images.augment import unaugmented
    from kdal_cli.stages.export import Judges

    sides = ship.card.shape
    nothing = torch.empty(0, sides.channels, sides.height, sides.width, dtype=torch.uint8)
    if run is None or run.data is None or run.ids is None:
        none = (nothing, torch.empty(0, dtype=torch.int64))
        return Judges(nothing, nothing, none, none)
    data, ids = run.data, run.ids
    if (data.classes, data.shape) != (ship.card.classes, ship.card.shape):
        what = "this checkpoint knows other classes or images than the data of its run"
        raise UserError(what, where=ship.path, cure="use the checkpoint that the run wrote")
    some = ids.pool[torch.randperm(len(ids.pool), generator=torch.manual_seed(0))]
    train = data.train
    return Judges(
        unaugmented(train, some[:CALIBRATION]),
        unaugmented(train, some[:JUDGED]),
        (unaugmented(train, ids.validation), train.labels.of(ids.validation)),
        (unaugmented(data.test, torch.arange(len(data.test))), data.test.labels.all()),
    )


def _about(ship: "Shipped", licence: str) -> dict[str, str]:
    """Metadata for people, and for programs that know no kdal."""
    card, how = ship.card, ship.card.preparation
    size = f"{card.shape.width} x {card.shape.height}"
    resize = f"stretch to {size}" if how.resize == "stretch" else f"shorter side to {how.side}, centre {size}"
    about = {
        "classes": json.dumps(card.classes),
        "preprocessing": f"{resize}, {how.interpolation}, uint8 from 0 to 255; normalisation is in the file",
        "license": licence,
        "producer": f"kdal {version('kdal')}",
    }
    if card.calibration is not None:
        about |= {"temperature": str(card.calibration.temperature), "threshold": str(card.calibration.threshold)}
    return about


def _standalone() -> bytes:
    import kdal_cli.export

    return Path(kdal_cli.export.__path__[0], "standalone.py").read_bytes()
