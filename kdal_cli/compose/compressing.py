"""The student that is to be compressed, and what it may learn from: both as its run left them."""

from dataclasses import replace

from kdal_cli.compose.bench import Bench
from kdal_cli.compose.finished import run_of
from kdal_cli.compose.start import for_checkpoint
from kdal_cli.errors import UserError
from kdal_cli.lab.blueprint import named
from kdal_cli.lab.paid import paid
from kdal_cli.records.checkpoint import Checkpoint
from kdal_cli.stages.compress import Subject


def finished_student(bench: Bench, saved: Checkpoint) -> Subject:
    """The network of a checkpoint in a run folder, with the labels of that run.

    Raises UserError for a checkpoint that lies in no run folder, or does not say what it is.
    """
    folder = run_of(saved.path.resolve())
    if saved.card is None or folder is None:
        what = "this checkpoint lies in no run folder: what labels were paid for is not known"
        raise UserError(what, where=saved.path, cure="name a run of distill or al-loop, or a checkpoint in it")
    bench.lab.refuse_other_images(saved)
    section = for_checkpoint(bench.values.get("student"), saved, "student")
    blueprint = bench.blueprint(section, "student", saved.card.inner, saved)
    body = blueprint.make()
    saved.load_into(body, named(blueprint.spec))
    return Subject(replace(blueprint, preprocessing=saved.card.preprocessing), body.eval(), paid(folder, bench.lab))
