"""A run of active learning that dies at a moment of one's choice, and what must be the same when it has gone on."""

from kdal_cli.labels.ledger import Ledger
from kdal_cli.records.curve import Table
from kdal_cli.stages.al_loop import Loop


class Killed(Exception):
    """What a run dies of here."""


def kill_before(run: Loop, monkeypatch, write: int) -> None:
    """Let a run die before this durable step: a line of the ledger, or a row of a table."""
    left = iter(range(write))

    def mortal(deed):
        def do(self, *args, **keywords):
            if next(left, None) is None:
                raise Killed
            return deed(self, *args, **keywords)

        return do

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "_append", mortal(Ledger._append))
        patched.setattr(Table, "add", mortal(Table.add))
        run.run()


def outcome(run: Loop) -> dict[str, object]:
    return {
        "curve": run.curve.path.read_bytes(),
        "computed": run.ledger.computed,
        "answers": sorted(run.ledger.teacher_ids().tolist()),
        "bought": run.ledger.bought()[0].tolist(),
    }
