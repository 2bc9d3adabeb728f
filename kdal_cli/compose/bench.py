"""The configuration of a run, made into objects as a stage asks for them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from kdal_cli.compose import parts, start
from kdal_cli.compose.bind import convert, make
from kdal_cli.compose.finished import run_of
from kdal_cli.compose.framing import framed, is_open
from kdal_cli.compose.loss import LossPlan, plan_loss
from kdal_cli.compose.teacher import plan_teacher, settled
from kdal_cli.dataset import ImageData, Shape
from kdal_cli.devices.engine import Engine
from kdal_cli.errors import UserError
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.images.crops import in_pixels
from kdal_cli.inference.tables import Holding, Tables
from kdal_cli.lab.asking import answered, examined
from kdal_cli.lab.blueprint import Blueprint
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.teacher import Learns, Member, TeacherPlan
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.oracle import Oracle
from kdal_cli.network import classifier
from kdal_cli.records import checkpoint
from kdal_cli.records.checkpoint import Checkpoint
from kdal_cli.records.run import Request, Run
from kdal_cli.records.tracking import Tracking
from kdal_cli.report.display import Display
from kdal_cli.stages.distill import Link
from kdal_cli.streams import Streams, undisturbed
from kdal_cli.training.fit import refuse_uneven
from kdal_cli.training.recipe import Recipe
from kdal_cli.values import Count, Natural

TAKEN = ("student", "student_alone", "peer", "teacher")
"""Names of checkpoints that are not an assistant's."""


@dataclass(frozen=True)
class Bench:
    """The configuration of a run, made into objects as a stage asks for them."""

    values: Mapping[str, Any]
    run: Run
    display: Display
    request: Request

    def section(self, key: str) -> dict[str, Any]:
        """A group of the configuration. Raises UserError when it was taken out."""
        section = self.values.get(key)
        if not isinstance(section, dict):
            raise UserError(f"{key} is missing", cure=f"choose an option: {key}=…")
        return section

    def setting(self, key: str, hint: Any) -> Any:
        return convert(self.values.get(key), hint, key)

    @cached_property
    def trust(self) -> list[str]:
        return self.setting("trust", list[str])

    @cached_property
    def lab(self) -> Lab:
        """Data, device and randomness; the manifest is written when they are known."""
        seed = self.setting("seed", Natural)
        device, threads = self.setting("device", str), self.setting("threads", Count | None)
        engine = Engine.start(device, threads, self.setting("devices", Count))
        refuse_uneven(self.recipe, engine.team.size)
        data, ids = parts.data(self.section("data"), self.trust, self.display)
        if self.request.stage in ("train-teacher", "distill"):
            _refuse_untested(data)
        data = self._cropped(data)
        if self.teacher_learns == "pool":
            ids = replace(ids, teacher=data.train.labels.among(ids.pool))
        train = Resident.of(data.train, self.recipe.augment, engine.device)
        test = Resident.of(data.test, Augment(), engine.device)
        features = self.setting("store", Path)
        holding = self.setting("features", Holding | None) or "memory"
        tables = Tables(self.run.folder if holding == "mapped" else None)
        lab = Lab(
            data, train, test, ids, engine, Streams(seed), self.run, self.display, self.tracking, features, tables
        )
        if other := self.run.describe(self.values, lab.fingerprint, self.request, engine.describe()):
            told = "what was bought stays, what follows is not the same to the bit as where it was started"
            self.display.say(f"on another machine than before ({'; '.join(other)}): {told}")
        return lab

    def examined(self, oracle: Oracle) -> "Bench":
        """The same with test images whose labels an oracle sold, where the data came without: see `lab.asking`."""
        return self._with(examined(self.lab, Ledger.open(self.run.folder / "ledger.jsonl"), oracle))

    def tested_as(self, checkpoint: Path) -> "Bench":
        """The same with the test labels that the run of a checkpoint bought, where the data came without.

        Raises UserError where nobody knows them.
        """
        run, data = run_of(checkpoint), self.lab.data
        if run is not None and len(data.asked):
            data = answered(data, Ledger.look(run / "ledger.jsonl"))
        _refuse_untested(data)
        return self._with(self.lab.measured_on(data))

    def changed(self, values: Mapping[str, Any]) -> "Bench":
        """The same with other values, of what is not made yet: the data and the device stay."""
        bench = replace(self, values=values)
        vars(bench).update(lab=self.lab, tracking=self.tracking)
        return bench

    def _with(self, lab: Lab) -> "Bench":
        bench = replace(self)
        vars(bench)["lab"] = lab
        return bench

    def _cropped(self, data: ImageData) -> ImageData:
        """Photographs as the student's weights expect them, or its checkpoint has them, unless `data.crop` is set."""
        section, wanted = self.values.get("student"), self.section("data")
        if not is_open(data, wanted):
            return data
        if self.request.stage in ("evaluate", "compress"):
            card = checkpoint.read(self.setting("checkpoint", Path)).card
            return framed(data, wanted, card.crop if card is not None else None)
        if not isinstance(section, dict) or start.split(section, "student")[1].weights in (None, "none"):
            return data
        named, download = data.classes, self.setting("download", bool)
        student = parts.blueprint(section, data.shape, self.trust, "student", classes=named, download=download)
        if student.preprocessing is None or student.preprocessing.crop is None:
            return data
        crop = student.preprocessing.crop
        self.display.say(f"data.crop={crop:g}, as the student's weights expect")
        return framed(data, wanted, in_pixels(data.shape.height, crop))

    def close(self) -> None:
        """Let the processes go that helped, if there were any."""
        if "lab" in vars(self):
            self.lab.engine.team.close()

    @cached_property
    def tracking(self) -> Tracking:
        """Where figures go besides the run folder; to be entered before work starts, and left when it is over."""
        section, folder = self.section("tracker"), self.run.folder
        begin = parts.tracker(section, self.trust)
        make = partial(begin, folder, self.values) if begin else None
        first = not (folder / "manifest.json").exists()
        return Tracking(section["name"], make, self.display.say, first=first)

    @cached_property
    def recipe(self) -> Recipe:
        return make(Recipe, self.section("recipe"), "recipe")

    def blueprint(
        self, section: Mapping[str, Any], where: str, shape: Shape | None = None, saved: Checkpoint | None = None
    ) -> Blueprint:
        """An architecture of the configuration, for the images of the data or of another shape."""
        data, download = self.lab.data, self.setting("download", bool)
        shape = shape or data.shape
        return parts.blueprint(section, shape, self.trust, where, saved, classes=data.classes, download=download)

    @cached_property
    def plain_student(self) -> Blueprint:
        """The student's architecture as it was chosen."""
        return self.blueprint(self.section("student"), "student")

    @cached_property
    def student(self) -> Blueprint:
        """The student that is trained: the one that was chosen, or what a loss asks to be built around it."""
        wanted, plain, plan = self.loss.student, self.plain_student, self.teacher_plan
        if wanted is None or plain.spec["name"] == wanted:
            return plain
        if plan is None or plan.manner.kind != "fixed":
            raise UserError(f"loss={wanted} needs a teacher that is ready", cure="choose one: teacher=resnet8")
        with undisturbed():
            features = classifier(plan.members[-1].blueprint.make()).in_features
        section = {"name": wanted, "backbone": dict(plain.spec), "features": features}
        built = self.blueprint(section, "student")
        start = plain.start.below("backbone", built.make()) if plain.start else None
        return replace(built, start=start, preprocessing=plain.preprocessing)

    @cached_property
    def loss(self) -> LossPlan:
        return plan_loss(self.section("loss"), self.trust, self.lab.data.shape)

    @cached_property
    def teacher_learns(self) -> Learns:
        """From which labels the teacher learns."""
        teacher, split = self.values.get("teacher") or {}, self.section("data").get("split") or {}
        learns = convert(teacher.get("learns", "auto"), Learns, "teacher.learns")
        kind, given = str(teacher.get("kind", "fixed")), teacher.get("checkpoint") is not None
        begun = start.split(teacher.get("model") or {}, "teacher.model")[1].weights not in (None, "none")
        own = bool(split.get("teacher"))
        return settled(learns, self.request.stage, own=own, kind=kind, given=given, begun=begun)

    @cached_property
    def teacher_plan(self) -> TeacherPlan | None:
        """The teacher that is wanted, or None with `teacher=none`."""

        def draw(section: Mapping[str, Any], shape: Shape, saved: Checkpoint | None) -> Blueprint:
            return self.blueprint(section, "teacher.model", shape, saved)

        section = {**self.section("teacher"), "learns": self.teacher_learns}
        if self.request.stage == "compress" and section.get("checkpoint") == []:
            section["checkpoint"] = self.values.get("checkpoint")
        return plan_teacher(section, self.lab.data.shape, draw)

    def one_teacher(self) -> Member:
        """The teacher that is to be trained. Raises UserError when that is none, or more than one."""
        plan = self.teacher_plan
        if plan is None or plan.manner.kind != "fixed":
            kind = "none" if plan is None else plan.manner.kind
            raise UserError("there is no teacher to train", where=f"teacher={kind}", cure="choose one: teacher=resnet8")
        if len(plan.members) > 1:
            raise UserError(f"{len(plan.members)} teachers", cure="train them one by one: -m teacher.seed=0,1,2")
        return next(iter(plan.members))

    def chain(self) -> list[Link]:
        """The students to be trained one after the other: assistants, then the student, generation by generation.

        Raises UserError for an assistant that is no architecture, and for a chain that a peer would have to teach.
        """
        assistants = self.values.get("assistants") or {}
        if not isinstance(assistants, Mapping) or not all(isinstance(value, Mapping) for value in assistants.values()):
            raise UserError(f"assistants={assistants}", cure="add one by +student@assistants.first=resnet14")
        if strange := [name for name in assistants if not re.fullmatch(r"[\w-]{1,64}", str(name)) or name in TAKEN]:
            cure = f"up to 64 letters, digits, _ and -, and none of {', '.join(TAKEN)}: a checkpoint is called so"
            raise UserError(f"assistants.{strange[0]}", where="no name for an assistant", cure=cure)
        links = [Link(str(name), self.blueprint(section, f"assistants.{name}")) for name, section in assistants.items()]
        kind = self.teacher_plan.manner.kind if self.teacher_plan is not None else "fixed"
        first = 0 if kind == "previous" else 1
        links += [Link(f"generation {n}", self.student) for n in range(first, self.setting("generations", Count))]
        if kind == "peer" and links:
            cure = "a chain needs a teacher that is ready: teacher=resnet8, or teacher=previous"
            raise UserError("teacher=peer with generations or assistants", cure=cure)
        return [*links, Link("student", self.student)]


def _refuse_untested(data: ImageData) -> None:
    """Raise UserError where nobody knows the labels of the test images, and nobody is asked."""
    if not data.test.labels.all_known:
        what, cure = "the labels of these test images have not been bought", "kdal al-loop buys them"
        raise UserError(f"data.split.test={len(data.asked)}", where=what, cure=cure)
