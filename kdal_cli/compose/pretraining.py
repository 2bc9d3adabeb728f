"""Learning without labels: its method as a plan, for its own stage and for what al-loop's students start from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import kdal_cli.methods
from kdal_cli.compose import teaching
from kdal_cli.compose.bench import Bench
from kdal_cli.compose.bind import make
from kdal_cli.compose.loss import LossPlan
from kdal_cli.compose.terms import plan_term
from kdal_cli.errors import UserError
from kdal_cli.lab import forecast
from kdal_cli.lab.blueprint import named
from kdal_cli.lab.pretrain import counted, pretrain
from kdal_cli.lab.pretrained import WEIGHTS, Pretraining
from kdal_cli.lab.train import rehearse
from kdal_cli.records.files import shown
from kdal_cli.report.text import duration
from kdal_cli.stages import present
from kdal_cli.training.recipe import Recipe
from kdal_cli.values import Natural

Section = Mapping[str, Any]

SPACE = "pretrained"
"""What `space` is called where it is the one of `pretrain=…`."""


@dataclass(frozen=True)
class Wanted:
    """What `pretrain` says beside its method. start: whether students start from the network; else it is a space."""

    recipe: Recipe
    store: Path
    start: bool = True
    seed: Natural = 0


def plan_method(bench: Bench, section: Section, where: str = "method") -> LossPlan:
    """What is minimised, on images of the pool alone. Raises UserError for a method that there is not.

    Of `name: loss` it is the terms of the `loss` section, without its labels.
    """
    if section.get("name") == "loss":
        plan = replace(bench.loss, hard=0.0)
        if not plan.needs_teacher or not plan.sees_unlabelled:
            raise UserError("method=loss asks for a loss that learns from a teacher, on=both or pool", cure="loss=rkd")
        return plan
    term = plan_term(where, {**section, "on": "pool"}, 1.0, bench.trust, package=kdal_cli.methods)
    return LossPlan(0.0, 1.0, 0.0, {_name(section): term}, bench.lab.data.shape)


def pretraining(bench: Bench) -> dict[str, Any]:
    """The stage."""
    lab, student, section = bench.lab, bench.plain_student, bench.section("method")
    recipe = counted(bench.recipe, len(lab.pool), "recipe")
    method = plan_method(bench, section)
    why = f"method={section['name']}" if method.needs_teacher else None
    if why is not None:  # its features are asked, whatever its head knows
        bench = bench.changed({**bench.values, "teacher": {**bench.section("teacher"), "preflight": "off"}})
    plan = bench.teacher_plan if why else None
    if plan is not None and plan.manner.kind != "fixed":
        raise UserError(f"{why} with teacher.kind={plan.manner.kind}", cure="a teacher that is ready: teacher=resnet8")
    told = teaching.planned(bench, why)
    trial = rehearse(lab, student, method, plan, recipe)
    lines = [
        f"network {named(student.spec)}, no label; validation {len(lab.validation):,} counted, to measure by",
        *teaching.starts(bench, {"network": student}, why),
        f"method {method.sentence.partition(': ')[2]}",
        *trial.places,
        *([f"teacher: {told}"] if why else []),
    ]
    ahead = forecast.of_student(lab, student, method, plan, recipe, 0, trial.asked)
    lines.append(f"time: about {duration(forecast.rounded(ahead.seconds))}")
    present.headline(lab, "pretrain", lines)
    teacher, guide = teaching.guidance(bench, why, trial.asked)
    present.begin(lab, [f"teacher: {teacher.sentence}"] if teacher is not None else [])
    origins, file = teacher.origins if teacher is not None else (), lab.run.checkpoints / "student.safetensors"
    _, figures = pretrain(lab, student, method, recipe, _name(section), file, guide, origins)
    return present.pretrained(lab, figures)


def planned(bench: Bench) -> Pretraining | None:
    """What the students of al-loop see before their first label; None with `pretrain=null`.

    Raises UserError for a method that asks a teacher, for students that start from something else, and for a `space`
    that is not there.
    """
    section = bench.values.get("pretrain")
    if section is None:
        for key in ("sampler", "seed_set", "baselines"):
            if _spaced(bench.values.get(key), "") != bench.values.get(key):
                cure = "pretrain=simclr, or the folder of a run of kdal pretrain"
                raise UserError(f"{key}: space={SPACE}, and nothing is pretrained", cure=cure)
        return None
    wanted, chosen = _wanted(section), section.get("method")
    if not isinstance(chosen, Mapping):
        raise UserError(f"pretrain.method={chosen}", cure="an option of the group: pretrain=simclr")
    method = plan_method(bench, chosen, "pretrain.method")
    if method.needs_teacher:
        cure = "kdal pretrain method=distillation, then student.weights=RUN"
        raise UserError(f"pretrain.method.name={chosen['name']} asks a teacher", cure=cure)
    student = bench.plain_student
    if student.start is not None and wanted.start:
        where, cure = (
            f"student.weights={bench.section('student').get('weights')}",
            "one of the two; or pretrain.start=false",
        )
        raise UserError("pretrain=… and a student that starts from weights", where=where, cure=cure)
    return Pretraining(_name(chosen), chosen, method, student, wanted.recipe, wanted.seed, wanted.store)


def told(bench: Bench, plan: Pretraining | None) -> list[str]:
    """A line about it, before anything is spent."""
    if plan is None:
        return []
    lab = bench.lab
    rehearse(lab, plan.blueprint, plan.make_objective, None, plan.recipe)
    if plan.stored(lab):
        return [f"pretrained by {plan.name} already, in {shown(plan.store)}"]
    recipe = counted(plan.recipe, len(lab.pool), "pretrain.recipe")
    ahead = forecast.of_student(lab, plan.blueprint, plan.make_objective, None, recipe, 0)
    length = f"{recipe.steps:,} steps: about {duration(forecast.rounded(ahead.seconds))}"
    return [f"to be pretrained by {plan.name} on {len(lab.pool):,} images, no label; {length}"]


def seen(bench: Bench, folder: Path) -> Bench:
    """The same where `space=pretrained` is the features of the network in `folder`, and students start from it.

    Unless `pretrain.start` says otherwise.
    """
    values = {key: _spaced(value, str(folder)) for key, value in bench.values.items()}
    if _wanted(bench.section("pretrain")).start:
        values["student"] = {**bench.section("student"), "weights": str(folder / WEIGHTS)}
    return bench.changed(values)


def unseen(bench: Bench) -> Bench:
    """The same with pixels instead of that space, to try everything on before anything is spent."""
    return bench.changed({key: _spaced(value, "pixels") for key, value in bench.values.items()})


def _wanted(section: Any) -> Wanted:
    if not isinstance(section, Mapping):
        raise UserError(f"pretrain={section}", cure="an option of the group: pretrain=simclr")
    return make(Wanted, {key: value for key, value in section.items() if key != "method"}, "pretrain")


def _spaced(value: Any, space: str) -> Any:
    """A section in which `space: pretrained` is another one, in samplers within samplers as well."""
    if isinstance(value, Mapping):
        return {k: space if k == "space" and v == SPACE else _spaced(v, space) for k, v in value.items()}
    return [_spaced(each, space) for each in value] if isinstance(value, list) else value


def _name(section: Section) -> str:
    return str(section.get("name")).rpartition(":")[2]
