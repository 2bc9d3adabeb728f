"""`kdal label RUN --review`: the labels that the student of a run contradicts are shown once more, the worst first."""

from contextlib import closing
from pathlib import Path

import torch
from omegaconf import DictConfig

from kdal_cli.compose.asking import asked, asked_on
from kdal_cli.compose.bench import Bench
from kdal_cli.compose.settings import plain
from kdal_cli.errors import UserError
from kdal_cli.lab.review import contradicted
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.oracle import Occasion
from kdal_cli.labels.purchase import proposed
from kdal_cli.records import checkpoint
from kdal_cli.records.curve import Table
from kdal_cli.records.files import shown
from kdal_cli.records.run import Request, claim
from kdal_cli.report.display import Display


def run_review(request: Request, config: DictConfig, folder: Path) -> None:
    """Review the labels of the run in a folder, which may be done. What is changed is a record of the ledger.

    A run that is not done learns from the changed labels from its next round on.
    """
    values = plain(config)
    with Display() as display, claim(folder) as run:
        run.refuse_other(values)
        ledger, done = Ledger.open(run.folder / "ledger.jsonl"), len(Table(run.folder / "curve.csv"))
        _refuse_early(ledger, done, folder)
        with closing(Bench(values, run, display, request)) as bench:
            lab = bench.lab
            ids, labels = ledger.bought()
            if ledger.pending is None:
                saved = checkpoint.read(run.checkpoints / f"round_{done - 1:03d}.safetensors")
                suspected = contradicted(lab, lab.restore(bench.student, saved), ids, labels)
            else:
                suspected = torch.tensor(ledger.pending["ids"], dtype=torch.int64)
            if not len(suspected):
                display.say("the student contradicts no label")
                return
            round = ledger.pending["round"] if ledger.pending else max(done, ledger.last_round + 1)
            known = dict(zip(ids.tolist(), labels.tolist(), strict=True))
            current = torch.tensor([known[id] for id in suspected.tolist()], dtype=torch.int64)
            section = asked_on(bench.section("oracle"), request.page)
            oracle, _ = asked(section, bench.section("data"), lab, bench.trust)
            occasion = Occasion(round, "review", current=current, proposed=tuple(proposed(ledger.purchases).values()))
            bought = ledger.buy(
                round, suspected, torch.zeros(len(suspected)), lambda ids: oracle(ids, occasion), "review"
            )
            run.write("ledger.csv", ledger.view(lab.data.classes, lab.data.train.paths))
            changed = sum(known[fact.id] != fact.label for fact in bought.facts())
            display.say(f"{len(suspected):,} labels reviewed, {changed:,} changed: {shown(run.folder / 'ledger.csv')}")


def _refuse_early(ledger: Ledger, done: int, folder: Path) -> None:
    """Raise UserError where no student is there yet, or a query waits for its answer."""
    if ledger.pending is not None and ledger.pending["purpose"] != "review":
        raise UserError("this run waits for labels", where=folder, cure=f"answer them first: kdal label {folder}")
    if not done:
        raise UserError("no round of this run is done: no student contradicts anything yet", where=folder)
