"""`kdal compress`: a student and what it may learn from, both as its run left them, and what makes it smaller."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from kdal_cli.compose import parts, teaching
from kdal_cli.compose.bench import Bench
from kdal_cli.compose.early import refuse_unlabelled
from kdal_cli.compose.finished import run_of
from kdal_cli.compose.start import for_checkpoint
from kdal_cli.errors import UserError
from kdal_cli.lab.blueprint import named
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.paid import paid, write_down
from kdal_cli.lab.train import rehearse
from kdal_cli.records import checkpoint
from kdal_cli.records.checkpoint import Checkpoint
from kdal_cli.stages import present
from kdal_cli.stages.compress import Subject, compress, in_short
from kdal_cli.types import Examples


def compressed(bench: Bench) -> dict[str, Any]:
    """The stage `compress`: its figures, when its student is on disk."""
    method = parts.method(bench.section("compress"), bench.trust)
    saved = checkpoint.read(bench.setting("checkpoint", Path))
    examples = _labelled(bench.lab, saved)  # the images of the run are known by what they are without test labels
    bench = bench.tested_as(saved.path) if len(bench.lab.data.asked) else bench
    lab, loss, recipe = bench.lab, bench.loss, bench.recipe
    if loss.student is not None:
        cure = "choose one for a student as it is: loss=kd"
        raise UserError(f"this loss builds {loss.student} around the student", where="loss", cure=cure)
    subject = _finished_student(bench, saved, examples)
    labels = len(subject.examples.labels)
    if not labels:
        refuse_unlabelled(loss, recipe, compare=False)
    trial = rehearse(lab, subject.blueprint, loss, bench.teacher_plan, recipe)
    why = "this loss" if loss.needs_teacher else None
    lines = [
        f"{named(bench.section('compress'))} of {named(subject.blueprint.spec)} from {saved.path}, {labels:,} labels",
        f"loss {loss.sentence}",
        *trial.places,
        f"teacher: {teaching.planned(bench, why)}",
    ]
    present.headline(lab, "compress", lines)
    teacher, guide = teaching.guidance(bench, why, trial.asked)
    present.begin(lab, teaching.introduced(bench, teacher, guide))
    write_down(subject.examples, lab)
    entries = compress(lab, subject, method, guide, loss, recipe)
    result = present.models(lab, entries)
    lab.watcher.say(in_short(entries, method))
    return result | {"labels": labels}


def _labelled(lab: Lab, saved: Checkpoint) -> Examples:
    """What the run of a checkpoint had labels of, and the rest of the pool.

    Raises UserError for a checkpoint that lies in no run folder, or is of other images.
    """
    folder = run_of(saved.path.resolve())
    if saved.card is None or folder is None:
        what = "this checkpoint lies in no run folder: what labels were paid for is not known"
        raise UserError(what, where=saved.path, cure="name a run of distill or al-loop, or a checkpoint in it")
    lab.refuse_other_images(saved)
    return paid(folder, lab)


def _finished_student(bench: Bench, saved: Checkpoint, examples: Examples) -> Subject:
    """The network of a checkpoint of ours, with its own preprocessing."""
    assert saved.card is not None
    section = for_checkpoint(bench.values.get("student"), saved, "student")
    blueprint = bench.blueprint(section, "student", saved.card.inner, saved)
    body = blueprint.make()
    saved.load_into(body, named(blueprint.spec))
    return Subject(replace(blueprint, preprocessing=saved.card.preprocessing), body.eval(), examples)
