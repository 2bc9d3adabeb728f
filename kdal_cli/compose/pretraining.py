"""The stage without labels: its method as a plan, what it says first, and its result."""

from typing import Any

import kdal_cli.methods
from kdal_cli.compose import teaching
from kdal_cli.compose.bench import Bench
from kdal_cli.compose.loss import LossPlan
from kdal_cli.compose.terms import plan_term
from kdal_cli.errors import UserError
from kdal_cli.lab import forecast
from kdal_cli.lab.blueprint import named
from kdal_cli.lab.train import rehearse
from kdal_cli.report.text import duration
from kdal_cli.stages import present
from kdal_cli.stages.pretrain import pretrain


def plan_method(bench: Bench) -> LossPlan:
    """What is minimised: one term, on images of the pool alone. Raises UserError for a method that there is not."""
    section = bench.section("method")
    term = plan_term("method", {**section, "on": "pool"}, 1.0, bench.trust, package=kdal_cli.methods)
    if term.part.asks_teacher:
        raise UserError(f"method.name={section['name']} asks a teacher", cure="one that learns from images alone")
    return LossPlan(0.0, 1.0, 0.0, {str(section["name"]).rpartition(":")[2]: term}, bench.lab.data.shape)


def pretraining(bench: Bench) -> dict[str, Any]:
    """The stage."""
    lab, method, student, recipe = bench.lab, plan_method(bench), bench.plain_student, bench.recipe
    name = next(iter(method.terms))
    rehearse(lab, student, method, None, recipe)
    lines = [
        f"network {named(student.spec)}, no label; validation {len(lab.validation):,} counted, to measure by",
        *teaching.starts(bench, {"network": student}),
        f"method {method.sentence.partition(': ')[2]}",
    ]
    if recipe.steps is not None:
        ahead = forecast.of_student(lab, student, method, None, recipe, 0)
        lines.append(f"time: about {duration(forecast.rounded(ahead.seconds))}")
    present.headline(lab, "pretrain", lines)
    present.begin(lab, [])
    _, figures = pretrain(lab, student, method, recipe, name)
    return present.pretrained(lab, figures)
