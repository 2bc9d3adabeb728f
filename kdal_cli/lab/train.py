"""One student, trained: by a teacher, beside a peer, or from labels alone. Distillation and every round do this."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdal_cli.errors import KdalError, UserError
from kdal_cli.lab.blueprint import Blueprint
from kdal_cli.lab.guide import Guide, answers, asked
from kdal_cli.lab.lab import Lab, MakeObjective
from kdal_cli.lab.memory import remember
from kdal_cli.lab.mixtures import refuse_unmixable
from kdal_cli.lab.teacher import Manner, TeacherPlan
from kdal_cli.network import Network, classifier, freeze, mean_of
from kdal_cli.records.snapshots import Snapshots
from kdal_cli.streams import undisturbed
from kdal_cli.training.answers import Asked, CachedTeacher
from kdal_cli.training.fit import fit
from kdal_cli.training.job import Fitted, Peer
from kdal_cli.training.objective import Objective
from kdal_cli.training.recipe import Recipe, Retrain
from kdal_cli.training.sight import doubled, look
from kdal_cli.training.tuning import is_still
from kdal_cli.types import Batch, Examples, Output

REHEARSAL = 16
"""Images that are tried before anything is bought or trained."""


@dataclass(frozen=True)
class Rehearsal:
    """What a trial of the loss has shown: where its terms look, in words, and what it reads of a teacher's answers."""

    places: Sequence[str] = ()
    asked: Asked = "everything"


def train(
    lab: Lab,
    student: Network,
    examples: Examples,
    make_objective: MakeObjective,
    guide: Guide,
    recipe: Recipe,
    validate: Callable[[Network], float] | None,
    keeper: Snapshots,
    *address: str | int,
    what: str,
) -> tuple[Fitted, Network | None]:
    """Train `student` in place; returns what happened, and the peer that learnt beside it.

    Everything random hangs on `address`: the same one gives the same batches, views and adapters, whoever teaches.
    """
    teacher, peer, given = guide.teacher, None, examples
    if teacher is not None:
        examples = confident(lab, teacher, examples, guide.manner)
    if guide.peer is not None:
        other = lab.network(guide.peer, "peer", *address)
        back = make_objective if guide.manner.mutual else _labels_alone
        peer = Peer(other, lab.objective(back, other, student, examples, "peer", *address))
    remember(lab, student, recipe)
    against = peer.network if peer is not None else teacher
    images = lab.views(recipe.augment)
    answering = answers(lab, guide, images, recipe.precision, recipe.mixes)
    ahead = 0.0
    if isinstance(answering, CachedTeacher) and guide.manner.cache == "full":
        answering.fill_all(examples.ids.unique(), lab.watcher)
        ahead = answering.seconds
    fitted = fit(
        student,
        images,
        examples,
        lab.objective(make_objective, student, against, examples, *address),
        recipe,
        lab.engine,
        lab.streams.under("fit", *address),
        lab.watcher,
        teacher=answering,
        peer=peer,
        validate=validate,
        keeper=keeper,
        what=what,
    )
    fitted = replace(fitted, seconds=fitted.seconds + ahead, teacher_seconds=fitted.teacher_seconds + ahead)
    if isinstance(answering, CachedTeacher) and answering.asked:
        lab.log.figures({"teacher_kept": answering.hits / answering.asked, "teacher_rounding": answering.error})
    lab.flop_meter.train(student, fitted.visits + fitted.strong, head_alone=is_still(student, recipe))
    if peer is not None:
        lab.flop_meter.train(peer.network, fitted.visits)
    if teacher is not None and len(fitted.taught):
        lab.flop_meter.forward(teacher, fitted.visits)
    if examples is not given:  # the teacher was asked about the whole pool, to leave out what it is not sure of
        fitted = replace(fitted, taught=torch.cat([fitted.taught, given.pool_ids]).unique())
    return fitted, peer.network if peer is not None else None


def rehearse(
    lab: Lab, blueprint: Blueprint, make_objective: MakeObjective, plan: TeacherPlan | None, recipe: Recipe
) -> Rehearsal:
    """Try the loss on a few images before anything is spent: what does not fit together shows now.

    The weights are new ones, the teacher's too, and the labels are made up.
    Raises UserError for a loss that cannot be computed, or that compares classes with a teacher of other ones.
    """
    student, teacher = lab.network(blueprint, "rehearsal"), sketch(lab, plan, blueprint)
    ids = lab.pool[: min(REHEARSAL, recipe.batch + recipe.pool_batch)]
    labels = torch.arange((len(ids) + 1) // 2) % len(lab.data.classes)
    examples = Examples(ids, labels)
    here = ids.to(lab.engine.device)
    batch = Batch(here, torch.zeros_like(here), lab.train.whole(ids), examples.labels.to(here.device))
    objective = lab.objective(make_objective, student, teacher, examples, "rehearsal")
    batch = doubled(batch, objective.more)
    with lab.streams.applied("rehearsal", "loss"):
        try:
            theirs = teacher(batch.pixels).detach() if teacher is not None else None
            if plan is not None and plan.manner.incomparable and theirs is not None:
                _refuse_comparison(objective, look(student, batch), theirs, batch, plan.manner)
            for first in {False, objective.first > 0}:
                objective(look(student, batch), theirs, batch, 0.0, first=first)
            if recipe.mixes:
                refuse_unmixable(objective, student(batch.pixels).detach(), theirs, batch, plan, recipe.mixes)
            reads: Asked = asked(objective, student, teacher, batch) if teacher is not None else "everything"
        except KdalError:
            raise
        except Exception as error:  # a term may be anybody's code
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"the loss cannot be computed: {reason}", where="loss", cure="try another") from error
    return Rehearsal(objective.places, reads)


def sketch(lab: Lab, plan: TeacherPlan | None, student: Blueprint) -> Network | None:
    """A teacher of the planned architecture that knows nothing yet; of kind `previous` it is the student's own."""
    if plan is None:
        return None
    if plan.manner.kind == "previous":
        return freeze(lab.network(student, "rehearsal", "teacher"))
    networks = [lab.network(member.blueprint, "rehearsal", "teacher") for member in plan.members]
    if len(networks) == 1:
        return freeze(networks[0])
    network = mean_of(networks, (1 / len(networks),) * len(networks), plan.manner.average, 1.0)
    lab.engine.place(freeze(network))
    return network


def _refuse_comparison(objective: Objective, student: Output, teacher: Output, batch: Batch, manner: Manner) -> None:
    """Raise UserError for a term to which it matters which of the teacher's classes is which.

    One that knows what to do with other classes may, unless the teacher has learnt none at all.
    """
    learnt = manner.learns != "nothing"
    turned = replace(teacher, logits=teacher.logits.roll(1, dims=1))
    for name, part in objective.parts.items():
        if learnt and getattr(part.term, "other_classes", False) and part.sample_weight != "right":
            continue
        values = []
        for theirs in (teacher, turned):
            with undisturbed():  # terms that draw must draw the same
                try:
                    values.append(part(student, theirs, batch, 0.5))
                except (RuntimeError, IndexError):
                    values.append(torch.full((), torch.nan))
        if not torch.equal(*values):
            cure = "loss=label_embedding, or a loss of features" if learnt else "a loss of features: loss=rkd"
            raise UserError(f"loss.{name} compares classes, and {manner.incomparable}", cure=cure)


def confident(lab: Lab, teacher: Network, examples: Examples, manner: Manner) -> Examples:
    """The examples without the images of the pool that the teacher is not sure of, as `manner` says."""
    if not len(examples.pool_ids) or (manner.min_confidence == 0 and not manner.balance):
        return examples
    logits = lab.seer(teacher).logits(examples.pool_ids).cpu()
    rows = confident_rows(logits, manner.min_confidence, balance=manner.balance)
    lab.watcher.say(f"the teacher is sure enough of {len(rows.unique()):,} of {len(logits):,} images of the pool")
    return replace(examples, ids=torch.cat([examples.labelled_ids, examples.pool_ids[rows]]))


def confident_rows(logits: Tensor, least: float, *, balance: bool) -> Tensor:
    """Rows whose largest probability is at least `least`, (N, C) -> (R,), the surest first.

    balance: as many rows of each class that the teacher ever names as there are on average, the surest of them; of a
    class that has fewer, all, over and over. Xie et al. 2020, arXiv:1911.04252.
    """
    confidence, choice = logits.double().softmax(1).max(1)  # (N,), (N,)
    order = confidence.argsort(descending=True, stable=True)
    rows = order[confidence[order] >= least]
    if not balance or not len(rows):
        return rows
    groups = [rows[choice[rows] == c] for c in choice[rows].unique()]
    wanted = round(len(rows) / len(groups))
    return torch.cat([group[torch.arange(wanted) % len(group)] for group in groups])


def restarted(fresh: Network, before: Network | None, how: Retrain, new: Sequence[int] = ()) -> Network:
    """The weights that a round starts from: `fresh` ones, or those that were trained `before`, changed in place.

    Shrunk and perturbed: Ash and Adams 2020, arXiv:1910.08475. Grown: the head has fresh weights for the classes `new`,
    of which there was no label before, so that all it has learnt of them is that no image is one (Li and Hoiem 2016,
    arXiv:1606.09282).
    """
    if before is None or how == "scratch":
        return fresh
    if how == "grow":
        old, drawn = (dict(classifier(network.body).named_parameters()) for network in (before, fresh))
        with torch.no_grad():
            for name, weights in old.items():
                weights[new] = drawn[name][new]
    if how == "shrink_perturb":
        state = before.state_dict()
        for name, drawn in fresh.state_dict().items():
            if drawn.is_floating_point() and "running" not in name:
                state[name].mul_(0.5).add_(drawn, alpha=0.1)
    return before


def _labels_alone(*_: object) -> Objective:
    return Objective()
