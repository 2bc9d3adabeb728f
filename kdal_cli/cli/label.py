"""`kdal label RUN`: go on with a run whose labels come from people, and ask on a page whatever it asks."""

from collections.abc import Sequence
from pathlib import Path

from kdal_cli.cli.listing import Words
from kdal_cli.cli.paths import typed
from kdal_cli.errors import UserError
from kdal_cli.plain import several


def label(words: Sequence[str]) -> None:
    """`kdal label RUN [--as NAME] [--port PORT] [--hints] [--review | --disagreements]`"""
    told = "Label what a run waits for, on a page of this machine."
    parser = Words("kdal label", description=told, allow_abbrev=False)
    parser.add_argument("run", type=typed, metavar="RUN", help="the folder of a run of kdal al-loop")
    parser.add_argument("--as", dest="annotator", metavar="NAME", help="who answers, as the ledger tells it")
    parser.add_argument("--port", type=int, metavar="PORT", help="of the page; any that is free by default")
    parser.add_argument("--hints", action="store_true", default=None, help="show what the student holds for likely")
    parser.add_argument("--review", action="store_true", help="look again at labels that the student contradicts")
    parser.add_argument("--disagreements", action="store_true", help="list who differs from others, and about what")
    options = parser.parse_args(words)
    run: Path = options.run
    if options.disagreements:
        _list(run)
        return
    page = {key: getattr(options, key) for key in ("annotator", "port", "hints")}
    from kdal_cli.cli import hydra_app
    from kdal_cli.cli.resumed import Said

    settings = {key: value for key, value in page.items() if value is not None}
    hydra_app.resume("al-loop", run, Said(), settings, review=options.review)


def _list(run: Path) -> None:
    """Print annotators and the images that they differ about. Raises UserError where nothing was bought."""
    if not (run / "ledger.jsonl").is_file():
        raise UserError("nobody has labelled anything here", where=run, cure="the folder of a run of kdal al-loop")
    from kdal_cli.report.display import Display
    from kdal_cli.report.people import differences
    from kdal_cli.report.tables import curve_table

    found = differences(run)
    with Display() as display:
        display.table(curve_table(found.annotators))
        if found.images:
            display.table(curve_table(found.images))
        display.say(f"people differ about {several(len(found.images), 'image')}")
