"""`kdal export`: a finished student in formats of others, with a table of what each of them is worth."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from kdal_cli.cli.listing import Words
from kdal_cli.errors import UserError, nearest

if TYPE_CHECKING:
    from kdal_cli.compose.finished import Finished
    from kdal_cli.compose.shipped import Shipped
    from kdal_cli.stages.export import Judges

KEYS = ("format", "max_drop", "license", "trust", "threads")
CALIBRATION = 256
"""Images of the pool that int8 is calibrated on."""

JUDGED = 2000
"""Images of the pool that a file is judged by where there are no validation labels."""

PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "hub": ("timm",), "torch": ()}


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
    asked = _read(options.words)

    from kdal_cli.compose.bind import convert
    from kdal_cli.compose.shipped import shipped
    from kdal_cli.devices.engine import Engine
    from kdal_cli.records.files import folder_below, json_bytes, shown, write_bytes
    from kdal_cli.report.display import Display
    from kdal_cli.report.export_table import export_table, model_card
    from kdal_cli.stages.export import Format, Subject
    from kdal_cli.stages.export import export as write
    from kdal_cli.values import Count, Share

    wanted = asked.get("format", ["onnx"])
    wanted = convert(wanted if isinstance(wanted, list) else [wanted], list[Format], "format")
    max_drop = convert(asked.get("max_drop", 0.005), Share, "max_drop")
    licence = convert(asked.get("license", "unknown"), str, "license")
    trust = convert(asked.get("trust", []), list[str], "trust")
    threads = convert(asked.get("threads"), Count | None, "threads")
    changes = {key.removeprefix("data."): value for key, value in asked.items() if key.startswith("data.")}
    _needs(wanted)
    with Display() as display:
        Engine.start("cpu", threads)
        ship = shipped(options.run, trust)
        display.say(ship.sentence)
        run = _run(ship, changes, trust, display)
        out = options.out or ship.path.parent / "export"
        if options.out is None and run is not None:
            out = run.folder / "export"
        try:
            folder_below(out)
        except OSError as error:
            raise UserError(f"cannot write here: {error.strerror}", where=out, cure="choose another --out") from None
        subject = Subject(ship.path, ship.card, ship.body, _judges(ship, run))
        rows = write(subject, wanted, max_drop, _about(ship, licence), out, display)
        page = model_card(ship.card, rows, run.folder if run else None, run.config if run else {}, licence)
        write_bytes(out / "README.md", page.encode())
        if (out / "hub").is_dir():
            write_bytes(out / "hub" / "README.md", page.encode())
        if {"onnx", "int8"} & {*wanted}:
            write_bytes(out / "predict.py", _standalone())
        write_bytes(out / "export.json", json_bytes({"checkpoint": str(ship.path), "files": rows}))
        display.table(export_table(rows))
        for row in rows:
            if row["refused"]:
                display.warn(f"{row['format']} refused: {row['refused']}")
        first = rows[0]
        display.say(f"measured with {first['threads']} threads, {first['instructions']}")
        display.say(f"files in {shown(out)}")


def _read(words: Sequence[str]) -> dict[str, Any]:
    """{key: value} of `key=value`. Raises UserError for a word that is none, or has another key."""
    found: dict[str, Any] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or (key not in KEYS and not key.startswith("data.")):
            raise UserError(f"{word}", where="kdal export", cure=nearest(key, [*KEYS, "data.root"]))
        try:
            found[key] = yaml.safe_load(value) if key not in ("license",) else value
        except yaml.YAMLError:
            found[key] = value
    return found


def _needs(wanted: Sequence[str]) -> None:
    from kdal_cli.export.onnx_file import needs_package

    for name in wanted:
        kind = "onnx" if name == "int8" else name
        for package in PACKAGES[kind]:
            needs_package(package, f"format={name}", "timm" if kind == "hub" else "export")


def _run(ship: "Shipped", changes: Mapping[str, Any], trust: Sequence[str], display: Any) -> "Finished | None":
    from kdal_cli.compose.finished import finished, run_of

    folder = run_of(ship.path)
    if folder is None:
        display.say("this checkpoint lies in no run folder: the data are not known, so nothing is measured on them")
        return None
    return finished(folder, changes, trust, display)


def _judges(ship: "Shipped", run: "Finished | None") -> "Judges":
    import torch

    from kdal_cli.stages.export import Judges

    sides = ship.card.shape
    nothing = torch.empty(0, sides.channels, sides.height, sides.width, dtype=torch.uint8)
    if run is None or run.data is None or run.ids is None:
        none = (nothing, torch.empty(0, dtype=torch.int64))
        return Judges(nothing, nothing, none, none)
    data, ids = run.data, run.ids
    some = ids.pool[torch.randperm(len(ids.pool), generator=torch.manual_seed(0))]
    train = data.train
    return Judges(
        train.pixels[some[:CALIBRATION]],
        train.pixels[some[:JUDGED]],
        (train.pixels[ids.validation], train.labels.of(ids.validation)),
        (data.test.pixels[:], data.test.labels.all()),
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
