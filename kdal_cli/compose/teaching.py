"""Who teaches a run: looked for before anything is spent, told with what it will cost, then found or trained."""

from collections.abc import Mapping

from kdal_cli.compose.bench import Bench
from kdal_cli.errors import UserError
from kdal_cli.lab import forecast
from kdal_cli.lab.blueprint import Blueprint, named
from kdal_cli.lab.guide import Guide, shelf, told
from kdal_cli.lab.teacher import Teacher, TeacherPlan, find_teacher, stored
from kdal_cli.lab.tutors import Learning, Standing, Tutors
from kdal_cli.records.files import shown
from kdal_cli.report.text import duration
from kdal_cli.training.answers import Asked
from kdal_cli.training.tuning import is_still

LEARNS = {
    "seed_set": "trained once, on the labels of round 0 that the run buys",
    "bought": "trained in each round, on the labels that the run has bought",
}


def planned(bench: Bench, why: str | None) -> str:
    """The teacher in words before it is there, and what it will cost. why: who needs one; None when nobody does.

    Raises UserError when there is none and somebody needs one.
    """
    plan = bench.teacher_plan
    if why is None:
        return "none"
    if plan is None:
        raise UserError(f"{why} needs a teacher", where="teacher=none", cure="choose one: teacher=resnet8")
    if plan.manner.kind == "peer":
        both = "and learns from it" if plan.manner.mutual else "from labels alone"
        return f"a peer, {named(plan.members[0].blueprint.spec)}, that learns beside the student {both}"
    if plan.manner.kind == "previous":
        return "the student before: the first one has none"
    if plan.buys:
        return f"{plan.name}, {LEARNS[plan.manner.learns]}"
    return f"{plan.name}, {_cost(bench, plan)}"


def starts(bench: Bench, networks: Mapping[str, Blueprint], why: str | None = None) -> list[str]:
    """What networks by their roles start from, in words; so does the teacher, where somebody needs one.

    Raises UserError where a run that was begun started from other weights.
    """
    plan, several = bench.teacher_plan if why is not None else None, dict(networks)
    if plan is not None and plan.manner.kind != "previous":
        many = len(plan.members) > 1
        several |= {f"teacher {n}" if many else "teacher": one.blueprint for n, one in enumerate(plan.members)}
    digests = {role: blueprint.start.sha256 for role, blueprint in several.items() if blueprint.start}
    if digests:
        bench.run.refuse_other_weights(digests)
    return [line for role, blueprint in several.items() for line in blueprint.told(f"the {role}")]


def _cost(bench: Bench, plan: TeacherPlan) -> str:
    """Where a teacher that is ready before the run comes from: a file, the store, or a training, and its length."""
    lab, untrained = bench.lab, [member for member in plan.members if not stored(member, bench.lab)]
    if plan.members[0].checkpoint is not None:
        return f"from {', '.join(str(member.checkpoint) for member in plan.members)}"
    if plan.manner.learns == "nothing":
        return "as its weights are"
    if not untrained:
        return f"trained already, in {shown(plan.members[0].store)}"
    labels = len(lab.ids.teacher)
    each = [forecast.of_teacher(lab, member, labels) for member in untrained]
    least = "at least " if any(one.open for one in each) else ""
    steps, seconds = (f"{sum(one.steps for one in each):,}", forecast.rounded(sum(one.seconds for one in each)))
    return f"to be trained on {labels:,} labels, {least}{steps} steps: about {duration(seconds)}"


def duration_of(bench: Bench, why: str | None, rounds: int, labels: int, asked: Asked) -> str:
    """What so many rounds that end with so many labels will take, in words; a teacher of the store is told apart.

    asked: what the loss reads of a teacher's answers.
    """
    lab, plan = bench.lab, bench.teacher_plan
    taught = plan if bench.loss.needs_teacher else None
    student = forecast.of_student(lab, bench.student, bench.loss, taught, bench.recipe, labels, asked)
    if is_still(lab.network(bench.student, "rehearsal"), bench.recipe):
        besides = forecast.of_features(lab, bench.student)
    else:
        besides = rounds * forecast.of_looking(lab, student, bench.recipe)
    trainings = [(rounds, student)]
    if why is not None and plan is not None and plan.buys:
        times = rounds if plan.manner.learns == "bought" else 1
        trainings += [(times, forecast.of_teacher(lab, member, labels // 2 or 1)) for member in plan.members]
    least, most = (
        duration(forecast.rounded(besides + sum(times * seconds for times, seconds in each)))
        for each in zip(*(((n, one.seconds), (n, one.longest)) for n, one in trainings), strict=True)
    )
    if least == most:
        return f"time: about {least}"
    return f"time: about {least} where labels are fitted as soon as the floor allows, at most {most}"


def guidance(bench: Bench, why: str | None, asked: Asked) -> tuple[Teacher | None, Guide]:
    """The teacher that is there before the run, found or trained, and how it teaches.

    asked: what the loss reads of its answers.
    """
    plan = bench.teacher_plan
    if why is None or plan is None:
        return None, Guide()
    if plan.manner.kind == "previous":
        return None, Guide(plan.manner, asked=asked)
    if plan.manner.kind == "peer":
        return None, Guide(plan.manner, peer=plan.members[0].blueprint)
    teacher = find_teacher(plan, bench.lab, bench.loss.temperature or 1.0)
    kept = shelf(bench.lab, teacher.network, plan.members[0].store)
    return teacher, Guide(plan.manner, teacher.network, asked=asked, shelf=kept)


def tutors(bench: Bench, why: str | None, asked: Asked) -> tuple[Tutors, Teacher | None, Guide]:
    """Who teaches the rounds of active learning, the teacher that is there already, and how it teaches."""
    plan = bench.teacher_plan
    if why is not None and plan is not None and plan.buys:
        return Learning(bench.lab, plan, bench.loss.temperature or 1.0), None, Guide(plan.manner, asked=asked)
    teacher, guide = guidance(bench, why, asked)
    trained = [member for member in plan.members if member.checkpoint is None] if plan is not None else []
    in_pool = plan is not None and plan.manner.learns == "pool" and bool(trained)
    return Standing(bench.lab, teacher, in_pool=in_pool), teacher, guide


def introduced(bench: Bench, teacher: Teacher | None, guide: Guide) -> list[str]:
    """What there is to say of a teacher that was found or trained: its figures, and where its answers come from."""
    if teacher is None:
        return []
    clean = "; it sees images without augmentation" if guide.manner.view == "clean" else ""
    lines = [f"teacher: {teacher.sentence}{clean}"]
    if bench.loss.needs_teacher:
        lines.append(told(bench.lab, guide, bench.lab.views(bench.recipe.augment), bench.recipe.mixes))
    return lines
