"""The `loss` section to an objective: its terms planned, and their places found in the student and the teacher."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from kdal_cli.compose.bind import convert, make
from kdal_cli.compose.terms import TermPlan, plan_term
from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.network import Network, stages, stem
from kdal_cli.training.objective import ClassWeights, Objective, Part, Weighting, class_weights
from kdal_cli.training.schedules import Schedule
from kdal_cli.types import Examples, Output, Places
from kdal_cli.values import NonNegative

Section = Mapping[str, Any]

OURS = ("weighting", "on", "first", "class_weights", "recipe")
"""Keys of the section that are no term."""

UNSHARED = {"form": "additive", "alpha": 1.0}
"""The weighting of a loss that has none: every weight is as it is written, and cross-entropy's is 1."""


@dataclass(frozen=True)
class LossPlan:
    """A loss section, checked: an objective for any student and teacher; adapters are made when these are there.

    class_weights: how cross-entropy weighs the classes, by how many labels of each a training has.
    """

    hard: float
    soft: float
    first: float
    terms: Mapping[str, TermPlan]
    shape: Shape
    class_weights: ClassWeights = "none"

    @property
    def needs_teacher(self) -> bool:
        return any(term.part.weight != 0 and term.part.asks_teacher for term in self.terms.values())

    @property
    def student(self) -> str | None:
        """The architecture that a term needs around the student's own."""
        asked = (getattr(term.part.term, "student", None) for term in self.terms.values() if term.part.weight != 0)
        return next((name for name in asked if name), None)

    @property
    def needs_only_pool(self) -> bool:
        """Whether a term looks at unlabelled images and at no other."""
        return any(term.part.weight != 0 and term.part.on == "pool" for term in self.terms.values())

    @property
    def sees_unlabelled(self) -> bool:
        """Whether a term looks at unlabelled images."""
        return any(term.part.weight != 0 and term.part.on != "labelled" for term in self.terms.values())

    @property
    def temperature(self) -> float | None:
        """The one temperature that all terms which have one agree on."""
        asked = [term for term in self.terms.values() if term.part.weight != 0 and "temperature" in term.arguments]
        found = {term.arguments["temperature"] for term in asked}
        return found.pop() if len(found) == 1 else None

    @property
    def sentence(self) -> str:
        """`w_hard 0.1, w_soft 0.9: 0.1 ce + 0.9 kd(temperature=4.0)`."""
        main = [f"{self.hard:g} ce"] if self.hard else []
        main += [_told(name, term) for name, term in self.terms.items() if _active(term, "main")]
        before = [_told(name, term) for name, term in self.terms.items() if _active(term, "first")]
        stage = f"; before it, for {self.first:.0%} of its length: {' + '.join(before)}" if before else ""
        weighed = f"; classes weighed: {self.class_weights}" if self.class_weights != "none" else ""
        return f"w_hard {self.hard:g}, w_soft {self.soft:g}: {' + '.join(main)}{stage}{weighed}"

    def __call__(self, student: Network, teacher: Network | None, examples: Examples) -> Objective:
        """The objective for these two. Without a teacher: the labels, with a weight of 1, and the terms that need none.

        A term that learns is left out where there is no image that it would see. Raises UserError when a term looks
        where one of the two has no map.
        """
        asked = {
            name: term
            for name, term in self.terms.items()
            if term.part.weight != 0 and (teacher is not None or not term.part.asks_teacher)
            if not term.makes or len(seen(examples, term.part.needs).ids)
        }
        parts = {name: self._part(name, term, student, teacher, examples) for name, term in asked.items()}
        alone = teacher is None and not any(part.when != "first" for part in parts.values())
        first = self.first if any(part.when != "main" for part in parts.values()) else 0.0
        weights = class_weights(examples.labels, self.shape.classes, self.class_weights)
        return Objective(1.0 if alone else self.hard, parts, first, self._places(student, teacher), weights)

    def _places(self, student: Network, teacher: Network | None) -> list[str]:
        """What is compared with what, a line for a term that looks inside: `at: layer1 ~ block1, layer2 ~ block2`."""
        lines = []
        for name, term in self.terms.items():
            if "layers" in term.arguments and teacher is not None and term.part.weight != 0:
                met = self._placed(name, term, student, teacher)
                pairs = zip(met["layers"], met.get("teacher_layers", met["layers"]), strict=True)
                joined = ((s, t) if "teacher_layers" in met else (s,) for s, t in pairs)
                lines.append(f"{name}: {', '.join(' ~ '.join(places) for places in joined)}")
        return lines

    def _part(self, name: str, term: TermPlan, student: Network, teacher: Network | None, examples: Examples) -> Part:
        arguments = dict(term.arguments)
        if "layers" in arguments and teacher is not None:
            arguments = self._placed(name, term, student, teacher)
            for key, network in (("layers", student), ("teacher_layers", teacher)):
                network.tap(arguments.get(key, ()))
                self._refuse_flat(f"loss.{name}.{key}", network, arguments.get(key, ()))
        if not term.makes:
            return replace(term.part, term=functools.partial(term.part.term, **arguments))
        outputs = [self._answer(network) if network is not None else None for network in (student, teacher)]
        return replace(term.part, term=term.part.term(*outputs, seen(examples, term.part.on), **arguments))

    def _placed(self, name: str, term: TermPlan, student: Network, teacher: Network) -> dict[str, Any]:
        """The arguments of a term with `layers` and, where it has them, `teacher_layers` as paths, as many of each."""
        layers, theirs = term.arguments["layers"], term.arguments.get("teacher_layers")
        if "teacher_layers" not in term.arguments:
            paths = self._paths(name, "layers", layers, student, "student", None)
            return {**term.arguments, "layers": paths}
        if isinstance(layers, str) and theirs is None:
            fewest = min(len(self._usual(network, layers)) for network in (student, teacher))
            ours = self._paths(name, "layers", layers, student, "student", fewest)
            others = self._paths(name, "teacher_layers", layers, teacher, "teacher", fewest)
        else:
            others = self._paths(name, "teacher_layers", layers if theirs is None else theirs, teacher, "teacher", None)
            ours = self._paths(name, "layers", layers, student, "student", len(others))
        if len(ours) != len(others):
            cure = f"as many paths as loss.{name}.layers={ours}"
            raise UserError(f"loss.{name}.teacher_layers={others}", cure=cure)
        return {**term.arguments, "layers": ours, "teacher_layers": others}

    def _paths(self, name: str, key: str, wanted: Places, network: Network, whose: str, count: int | None) -> list[str]:
        """Module paths of a network: those that are named, or its last `count` stages, or its last one."""
        usual = self._usual(network, wanted)
        if isinstance(wanted, str):
            if not usual:
                cure = "a convolutional one; or a loss that compares logits or features"
                raise UserError(f"loss.{name} compares maps, and this {whose} shows none", cure=cure)
            middle, last = (len(usual) - 1) // 2, len(usual) - 1
            several = slice(-(count or len(usual)), None)
            chosen = {"all": several, "stages": several, "middle": slice(middle, middle + 1), "last": slice(last, None)}
            return list(usual[chosen[wanted]])
        modules = dict(network.body.named_modules())
        for path in wanted:
            if path not in modules or not path:
                known = usual or tuple(p for p in modules if p.count(".") < 1 and p)
                cure = f"its stages are {', '.join(known)}"
                raise UserError(f"loss.{name}.{key}: no module {path!r} in this {whose}", cure=cure)
        if not wanted:
            raise UserError(f"loss.{name}.{key}=[]", cure=f"at least one of {', '.join(usual)}")
        return list(wanted)

    def _refuse_flat(self, where: str, network: Network, paths: Sequence[str]) -> None:
        maps = self._answer(network).maps if paths else {}
        for path in paths:
            if maps[path].dim() != 4:
                cure = f"(images, channels, height, width): {', '.join(self._stages(network))}"
                raise UserError(f"{where}: {path} answers {tuple(maps[path].shape)}, no map", cure=cure)

    def _stages(self, network: Network) -> tuple[str, ...]:
        return stages(network, self._blank(network)[:1])

    def _usual(self, network: Network, wanted: Places) -> tuple[str, ...]:
        """The stages of a network, after its stem where `all` are wanted."""
        return (*(stem(network) if wanted == "all" else ()), *self._stages(network))

    def _answer(self, network: Network) -> Output:
        """What a network answers to two blank images: the widths that an adapter has to fit."""
        was_training = network.training
        with torch.no_grad():
            output = network.eval()(self._blank(network))
        network.train(was_training)
        return output

    def _blank(self, network: Network) -> torch.Tensor:
        shape = self.shape
        size = (2, shape.channels, shape.height, shape.width)
        return torch.zeros(size, dtype=torch.uint8, device=network.mean.device)


def plan_loss(section: Section, trust: Sequence[str], shape: Shape) -> LossPlan:
    """What a student minimises. Raises UserError for a term that is not there or weights that are all zero."""
    hard, soft = make(Weighting, section.get("weighting", UNSHARED), "loss.weighting").resolve()
    first = convert(section.get("first", 0.0), NonNegative, "loss.first")
    weighed = convert(section.get("class_weights", "none"), ClassWeights, "loss.class_weights")
    everywhere = {"on": section["on"]} if "on" in section else {}
    terms = {
        name: plan_term(f"loss.{name}", {**everywhere, **term} if isinstance(term, Mapping) else term, soft, trust)
        for name, term in section.items()
        if name not in OURS
    }
    parts = {name: term.part for name, term in terms.items() if term.part.weight != 0}
    if not first and (early := [name for name, part in parts.items() if part.when == "first"]):
        cure = "say how long that is, as a share of the training: loss.first=0.5"
        raise UserError(f"loss.{early[0]}.when=first, and there is no first stage", cure=cure)
    Objective(hard, parts, first)
    return LossPlan(hard, soft, first, terms, shape, weighed)


def seen(examples: Examples, on: str) -> Examples:
    """The images of a training that a term which is `on` labelled, pool or both ever sees."""
    if on == "labelled":
        return Examples(examples.labelled_ids, examples.labels)
    return Examples(examples.pool_ids, examples.labels[:0]) if on == "pool" else examples


def _active(term: TermPlan, stage: str) -> bool:
    return term.part.weight != 0 and term.part.when in (stage, "both")


def _told(name: str, term: TermPlan) -> str:
    """`0.9 kd(temperature=4.0)`, with what is not as usual: the part it is on, who counts, standardised logits."""
    part = term.part
    listed = [f"{key}={value}" for key, value in {**term.arguments, **part.scheduled}.items() if value is not None]
    usual = Part(part.term, 1.0)
    keys = ("on", "standardize", "sample_weight", "min_confidence")
    listed += [f"{key}={getattr(part, key)}" for key in keys if getattr(part, key) != getattr(usual, key)]
    weight = part.weight if isinstance(part.weight, Schedule) else f"{part.weight:g}"
    return f"{weight} {name}({', '.join(listed)})"
