"""One run of a stage: configuration checked and made into objects, the stage called, its result shown and saved."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig

from kdal_cli.compose import parts, pretraining, teaching
from kdal_cli.compose.asking import asked, asked_on, may_differ
from kdal_cli.compose.bench import Bench
from kdal_cli.compose.bind import convert, make
from kdal_cli.compose.compressing import compressed
from kdal_cli.compose.early import refuse_early, refuse_unlabelled
from kdal_cli.compose.settings import plain
from kdal_cli.compose.start import for_checkpoint, stay_offline
from kdal_cli.errors import InUse, MachineError, UserError, Waiting
from kdal_cli.inference.evidence import Sampler
from kdal_cli.inference.tta import Tta
from kdal_cli.lab.baselines import Baselines
from kdal_cli.lab.blueprint import named
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.pool import Scoring, rehearse_sampler
from kdal_cli.lab.replay import Replay, chosen_by, replay
from kdal_cli.lab.taken_over import TakenOver
from kdal_cli.lab.teacher import Teacher, TeacherPlan, find_teacher, publish
from kdal_cli.lab.train import rehearse
from kdal_cli.lab.train_teacher import train_teacher
from kdal_cli.labels.budget import Budget, Plan
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.stopping import Stopping
from kdal_cli.plain import clean_lines
from kdal_cli.records import checkpoint
from kdal_cli.records.files import append, holds, shown
from kdal_cli.records.folders import begun, discard
from kdal_cli.records.run import Request, claim
from kdal_cli.report.display import Display
from kdal_cli.stages import present
from kdal_cli.stages.al_loop import Consensus, Loop
from kdal_cli.stages.distill import Link, distill
from kdal_cli.stages.evaluate import evaluate
from kdal_cli.values import Count

LABELLER = "oracle=mixed"
"""What asks the teacher for labels."""


def run_stage(request: Request, config: DictConfig, folder: Path) -> float | None:
    """Run a stage in `folder`. Returns the validation accuracy, for sweeps that search; never a test figure."""
    with Display() as display:
        try:
            request, values = _replaying(request, plain(config))
            with claim(folder) as run:
                display.say(f"run folder {shown(folder)}")
                run.refuse_other(values)
                Ledger.look(run.folder / "ledger.jsonl")  # one that was changed is refused before anything is put down
                run.begin(request)
                if run.result is not None:
                    display.say("this run is done already")
                    return run.result.get("val_accuracy")
                bench = Bench(values, run, display, request)
                if not bench.setting("download", bool):
                    stay_offline()
                refuse_early(values, bench.trust)
                with closing(bench), bench.tracking as tracking:
                    result = STAGES[request.stage](bench)
                    run.finish(result)
                    tracking.result(result)
                display.say(f"results in {shown(folder)}")
                return result.get("val_accuracy")
        except Exception as error:
            _record(folder, error)
            raise


def _replaying(request: Request, values: dict[str, Any]) -> tuple[Request, dict[str, Any]]:
    """With `replay`, the sampler that is written down is the one that chose, with the student for which it did."""
    folder = convert(values.get("replay"), Path | None, "replay")
    if folder is None:
        return request, values
    sampler = chosen_by(folder)
    choices = {**request.choices, "sampler": f"{sampler['name']} for {sampler['for']}"}
    return replace(request, choices=choices), {**values, "sampler": sampler}


def _train_teacher(bench: Bench) -> dict[str, Any]:
    plan = bench.one_teacher()
    lab = bench.lab
    labels = len(lab.ids.teacher)
    lines = [f"{named(plan.blueprint.spec)}, {labels:,} labels", *teaching.starts(bench, {"teacher": plan.blueprint})]
    present.headline(lab, "train-teacher", lines)
    present.begin(lab, [])
    network, card = train_teacher(lab, plan.blueprint, plan.recipe, plan.seed)
    checkpoint.write(lab.run.checkpoints / "teacher.safetensors", network.body, card)
    publish(plan, lab, network, card)
    return present.teacher(lab, network, card)


def _distill(bench: Bench) -> dict[str, Any]:
    lab, loss, student, recipe = bench.lab, bench.loss, bench.student, bench.recipe
    compare, labels = bench.setting("compare", bool), bench.setting("labels", Count | None)
    chain = bench.chain()
    labelled = min(labels or len(lab.labelled), len(lab.labelled))
    if not labelled:
        refuse_unlabelled(loss, recipe, compare=compare)
    if labelled == len(lab.pool) and loss.needs_only_pool:
        raise UserError("loss.on=pool", where="every image has its label", cure="on=labelled, on=both, or labels=1000")
    trial = rehearse(lab, chain[0].blueprint, loss, bench.teacher_plan, recipe)
    why = "this loss" if loss.needs_teacher else None
    lines = [
        f"student {named(student.spec)}, {labelled:,} labels of {len(lab.pool):,} images",
        *([f"chain: {' → '.join(f'{link.role} {named(link.blueprint.spec)}' for link in chain)}"] if chain[1:] else []),
        *teaching.starts(bench, {link.role: link.blueprint for link in chain}, why),
        f"loss {loss.sentence}",
        *trial.places,
        f"teacher: {teaching.planned(bench, why)}",
    ]
    present.headline(lab, "distill", lines)
    teacher, guide = teaching.guidance(bench, why, trial.asked)
    present.begin(lab, teaching.introduced(bench, teacher, guide))
    alone = Link("student alone", bench.plain_student) if compare else None
    return present.models(lab, distill(lab, chain, teacher, guide, loss, recipe, labels, alone))


def _al_loop(bench: Bench) -> dict[str, Any]:
    given, pretrain = bench, pretraining.planned(bench)
    bench = pretraining.unseen(bench)
    lab, loss, student, recipe = bench.lab, bench.loss, bench.student, bench.recipe
    section = asked_on(bench.section("oracle"), bench.request.page)
    oracle, taken = asked(section, bench.section("data"), lab, bench.trust)
    budget, seed_set, sampler = _choosers(bench, taken)
    scoring = make(Scoring, {key: bench.values[key] for key in ("scorer", "members")}, "")
    stopping = make(Stopping, bench.section("stopping"), "stopping")
    if stopping.act and not len(lab.validation):
        raise UserError("stopping.act=true", where="data.split.validation=0", cure="keep some images to judge by")
    plan, sizes = budget.sentence(len(lab.pool)), budget.plan(len(lab.pool))
    trial = rehearse(lab, student, loss, bench.teacher_plan, recipe)
    asking = [f"scorer={scoring.scorer}"] if scoring.asks_teacher else []
    again = False
    for key, choose in (("seed_set", seed_set), ("sampler", sampler)):
        if not isinstance(choose, Replay):
            asks = rehearse_sampler(lab, choose, student, bench.teacher_plan, scoring)
            asking += [f"{key}={bench.values[key]['name']}"] * asks.teacher
            again = asks.again and may_differ(section)
    baselines = _baselines(bench)
    asking += ["baselines"] * baselines.asks_teacher
    labels_too = section.get("name") == "mixed"
    asking += [LABELLER] * labels_too
    _refuse_asking(bench.teacher_plan, asking)
    why = "this loss" if loss.needs_teacher else asking[0] if asking else None
    lines = [
        f"{plan}; validation {len(lab.validation):,} counted",
        *_exam(len(lab.data.asked)),
        *([f"answers of {taken.run} about {len(taken.ids):,} images are taken over, at no cost"] if taken else []),
        f"student {named(student.spec)}; sampler {named(given.values['sampler'])}{_looking(sampler, scoring)}",
        *teaching.starts(bench, {"student": student}, why),
        *([] if isinstance(sampler, Replay) else _seed_set(given.section("seed_set"))),
        *pretraining.told(bench, pretrain),
        f"loss {loss.sentence}",
        *trial.places,
        f"teacher: {teaching.planned(bench, why)}",
        teaching.duration_of(bench, why, len(sizes), sum(sizes), trial.asked),
    ]
    present.headline(lab, "al-loop", lines)
    first = []
    if pretrain is not None:
        bench = pretraining.seen(given, pretrain.find(lab))
        (budget, seed_set, sampler), student = _choosers(bench, taken), bench.student
        first = teaching.starts(bench, {"student": student}, why)
    bench = bench.examined(oracle)
    lab, baselines = bench.lab, _baselines(bench)
    tutors, teacher, guide = teaching.tutors(bench, why, trial.asked)
    present.begin(lab, [*first, *teaching.introduced(bench, teacher, guide), *_mind(lab, teacher)])
    price = bench.teacher_plan.manner.price if bench.teacher_plan else 0.0
    loop = Loop(
        lab,
        student,
        tutors,
        guide,
        loss,
        sampler,
        seed_set,
        budget,
        oracle,
        recipe,
        scoring=scoring,
        stopping=stopping,
        price=price,
        baselines=baselines,
        mixed=labels_too,
        again=again,
        open_classes=isinstance(bench.section("data").get("classes"), list),
        consensus=bench.setting("consensus", Consensus | None) or "majority",
    )
    return present.curve(lab, loop.run(), teacher, plan)


def _refuse_asking(plan: TeacherPlan | None, asking: Sequence[str]) -> None:
    """Raise UserError where a teacher would be asked that is not there yet, or for labels of other classes."""
    if plan is None or not asking:
        return
    if plan.manner.kind != "fixed":
        cure = "a teacher that is ready: teacher=resnet8"
        raise UserError(f"{asking[0]} asks the teacher, and teacher.kind={plan.manner.kind}", cure=cure)
    if plan.manner.incomparable and LABELLER in asking:
        cure = "a teacher that knows the classes of the data"
        raise UserError(f"{LABELLER} takes its labels, and {plan.manner.incomparable}", cure=cure)
    if plan.buys and (early := [key for key in asking if key.startswith("seed_set=")]):
        where, cure = f"teacher.learns={plan.manner.learns}", "seed_set=random, or teacher.learns=own"
        raise UserError(f"{early[0]} asks a teacher that has learnt nothing yet", where=where, cure=cure)


def _mind(lab: Lab, teacher: Teacher | None) -> list[str]:
    """A line about what a teacher has read that is of the same data."""
    if teacher is None or not teacher.labels_of(lab.data.name):
        return []
    return [
        f"warning: the teacher was trained on {teacher.labels_of(lab.data.name):,} labels of this data; "
        "what the student saves was spent on it (loss=none trains on labels alone)"
    ]


def _choosers(bench: Bench, taken: TakenOver | None) -> tuple[Plan, Sampler, Sampler]:
    """(budget, seed set, sampler), all three what another run bought where it is replayed."""
    folder = bench.setting("replay", Path | None)
    if folder is not None:
        again = replay(folder, bench.lab)
        return again, again, again
    lab = bench.lab
    seed_set = parts.seed_set(bench.section("seed_set"), lab.data.train.labels, lab.pool, bench.trust)
    seed_set = taken.first(seed_set) if taken is not None else seed_set
    budget = make(Budget, bench.section("budget"), "budget")
    return budget, seed_set, parts.sampler(bench.section("sampler"), bench.trust)


def _baselines(bench: Bench) -> Baselines:
    baselines = Baselines(bench.lab, parts.baselines(bench.values.get("baselines"), bench.trust))
    strange = bench.teacher_plan.manner.incomparable if bench.teacher_plan else None
    if baselines.compares_classes and strange:
        raise UserError(f"baselines: soft compares classes, and {strange}", cure="soft: 0")
    return baselines


def _looking(sampler: Sampler, scoring: Scoring) -> str:
    if isinstance(sampler, Replay):
        return ", replayed"
    return f", looking: {scoring.scorer}" + f" of {scoring.members}" * (scoring.scorer in ("rounds", "seeds"))


def _evaluate(bench: Bench) -> dict[str, Any]:
    saved = checkpoint.read(bench.setting("checkpoint", Path))
    bench = bench.tested_as(saved.path) if len(bench.lab.data.asked) else bench
    lab = bench.lab
    section = for_checkpoint(bench.values.get("student"), saved, "student")
    lab.refuse_other_images(saved)
    blueprint = bench.blueprint(section, "student", saved.card.inner if saved.card else None, saved)
    network = lab.restore(blueprint, saved)
    teacher = find_teacher(bench.teacher_plan, lab) if bench.teacher_plan and bench.teacher_plan.members else None
    split = bench.setting("split", Literal["test", "validation", "pool"])
    table, tta = bench.setting("csv", Path | None), bench.setting("tta", Tta)
    lines = [f"{named(blueprint.spec)} from {saved.path}", f"teacher: {teacher.sentence if teacher else 'none'}"]
    present.headline(lab, f"evaluate on {split}" + (f", tta={tta}" if tta != "none" else ""), lines)
    present.begin(lab, [])
    measured = evaluate(lab, network, teacher, split, tta)
    if table is not None:
        present.answers(lab, measured, table)
    return present.evaluation(lab, measured)


def _exam(asked: int) -> list[str]:
    """A line about test images whose labels are bought, and what a figure measured on so few is worth."""
    if not asked:
        return []
    width = 100 * 1.96 * (0.25 / asked) ** 0.5
    return [f"test: {asked:,} more labels, asked for first; accuracies are known to ±{width:.1f} points at worst"]


def _seed_set(section: Mapping[str, Any]) -> list[str]:
    """A line about the labels of round 0, unless they are drawn at random."""
    if section["name"] == "random":
        return []
    if section["name"] == "class_balanced":
        return ["seed set: the same number of each class (warning: only an oracle knows the classes before paying)"]
    return [f"seed set: {named(section)}"]


STAGES: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "train-teacher": _train_teacher,
    "distill": _distill,
    "al-loop": _al_loop,
    "evaluate": _evaluate,
    "compress": compressed,
    "pretrain": pretraining.pretraining,
}


def _record(folder: Path, error: Exception) -> None:
    """Keep the traceback in `run.log`; a refused run that did nothing yet leaves no folder behind."""
    if isinstance(error, Waiting):
        return
    refused = isinstance(error, InUse | UserError) and (discard(folder) or not begun(folder))
    if holds(folder) and not refused:
        with suppress(MachineError):  # what went wrong is told all the same
            append(folder / "run.log", clean_lines("".join(traceback.format_exception(error))).encode())
