"""Every file of conf: it composes, it says what it is, it fits the code that it names, and the help tells the truth."""

import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, Unpack, get_args, get_origin, get_type_hints

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

import kdal_cli.data
import kdal_cli.labels.oracles
import kdal_cli.losses
import kdal_cli.methods
import kdal_cli.models
import kdal_cli.samplers
import kdal_cli.trackers
from kdal_cli.cli.help import stage_help
from kdal_cli.cli.main import STAGES
from kdal_cli.cli.paths import takes_path
from kdal_cli.compose import parts, start
from kdal_cli.compose.bind import bind, convert, make
from kdal_cli.compose.loss import plan_loss
from kdal_cli.compose.parts import Trouble
from kdal_cli.compose.registry import names, resolve
from kdal_cli.compose.settings import GROUPS, SETTINGS
from kdal_cli.compose.teacher import Who
from kdal_cli.dataset import Shape
from kdal_cli.images.augment import Augment
from kdal_cli.images.split import Split
from kdal_cli.labels.budget import Budget
from kdal_cli.training.recipe import Recipe, Until

CONF = Path(__file__).parents[2] / "conf"
REGISTRIES = {
    "data": kdal_cli.data,
    "loss": kdal_cli.losses,
    "method": kdal_cli.methods,
    "oracle": kdal_cli.labels.oracles,
    "sampler": kdal_cli.samplers,
    "student": kdal_cli.models,
    "tracker": kdal_cli.trackers,
}

MISSING = {  # what only the user knows
    ("data", "image_folder"): {"data.root"},
    ("data", "npz"): {"data.path"},
    ("data", "photos"): {"data.root"},
    ("data", "csv"): {"data.path"},
    ("data", "parquet"): {"data.path"},
    ("experiment", "photos"): {"data.root"},
    ("experiment", "photos_teacher"): {"data.root"},
    ("student", "custom"): {"student.name"},
    ("student", "simkd"): {"student.features"},
    ("teacher", "custom"): {"teacher.model.name"},
}


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if not path.name.startswith("_"))


def folders() -> list[str]:
    return sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())


ALL = [(group, option) for group in folders() for option in options(group)]
ALL.sort(key=lambda pair: (pair[0] == "experiment", options(pair[0]).index(pair[1])))  # row by row, see below
every_option = pytest.mark.parametrize(("group", "option"), ALL, ids=lambda value: str(value))
every_stage = pytest.mark.parametrize("stage", STAGES)


@cache
def composed(stage: str, *choices: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(stage, list(choices), return_hydra_config=True)


def row(group: str, option: str) -> list[tuple[str, str]]:
    """Options that are composed together, at most one of each group: ten of them take the time of one.

    An experiment chooses options of other groups, and is composed alone.
    """
    if group == "experiment":
        return [(group, option)]
    number = options(group).index(option)
    return [(g, options(g)[number]) for g in folders() if g != "experiment" and number < len(options(g))]


def chosen(group: str, option: str) -> DictConfig:
    """al-loop with an option, and with others of its row."""
    return composed("al-loop", *(f"{group}={option}" for group, option in row(group, option)))


def section(group: str, option: str) -> dict[str, Any]:
    config = chosen(group, option)
    for pair in row(group, option):
        for key in MISSING.get(pair, ()):
            OmegaConf.update(config := config.copy(), key, "somewhere")
    values = OmegaConf.to_container(config[group], resolve=True)
    assert isinstance(values, dict)
    return values  # type: ignore[return-value]


# Every file.


@every_option
def test_it_composes_and_leaves_open_only_what_the_user_alone_can_say(group: str, option: str) -> None:
    config = chosen(group, option)
    assert config.hydra.runtime.choices[group] == option
    keys = set(config) - {"hydra"}
    missing = OmegaConf.missing_keys(OmegaConf.masked_copy(config, list(keys)))
    assert missing == set().union(*(MISSING.get(pair, set()) for pair in row(group, option)))
    assert keys <= {*GROUPS, *SETTINGS}  # nothing that a stage does not know


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_it_says_at_its_head_what_it_is(path: Path) -> None:
    head = [line for line in path.read_text().splitlines()[:2] if not line.startswith("# @package")]
    assert re.fullmatch(r"# \S.{15,}", head[0])


@pytest.mark.parametrize("group", REGISTRIES)
def test_everything_in_a_registry_can_be_chosen(group: str) -> None:
    """A new file of code without a file of configuration could not be reached."""
    reached: set[str] = set()
    for option in options(group):
        values = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{option}.yaml"))
        sections = values.values() if group == "loss" else [values]  # type: ignore[union-attr]
        reached |= {str(part["name"]) for part in sections if isinstance(part, dict) and "name" in part}
    elsewhere = {"loss"} if group == "method" else set()  # the terms of another group
    assert reached - {"???", "None"} - elsewhere == set(names(REGISTRIES[group]))


# Every signature.


@pytest.mark.parametrize("option", [o for o in options("student") if o not in ("custom", "simkd")])
def test_an_architecture_fits_its_signature(option: str) -> None:
    own, _ = start.split(section("student", option), "student")
    bind(resolve(kdal_cli.models, own["name"], [], "student"), own, "student", given=1, besides=["name"])


@pytest.mark.parametrize("option", options("sampler"))
def test_a_sampler_fits_its_signature(option: str) -> None:
    parts.sampler(section("sampler", option), [])


@pytest.mark.parametrize("option", options("loss"))
def test_a_loss_fits_its_signatures(option: str) -> None:
    plan_loss(section("loss", option), [], Shape(3, 32, 32, 10))


def test_a_loss_brings_what_of_the_recipe_it_wants_and_a_teacher_keeps_its_own() -> None:
    values = OmegaConf.to_container(composed("al-loop", "loss=[fixmatch,kd]", "recipe.ema=0.5"), resolve=False)
    config = OmegaConf.create({key: values[key] for key in ("data", "loss", "recipe", "teacher")})  # type: ignore[index]
    recipe, teacher = (
        make(Recipe, OmegaConf.to_container(part, resolve=True), "") for part in (config.recipe, config.teacher.recipe)
    )  # type: ignore[arg-type]
    assert (recipe.batch, recipe.pool_batch, recipe.until.floor, recipe.ema) == (32, 96, 1500, 0.5)
    assert (teacher.batch, teacher.pool_batch, teacher.until.floor, teacher.ema) == (64, 64, 150, 0.0)
    plain = composed("al-loop").recipe
    assert (plain.batch, plain.pool_batch, plain.until.floor, plain.ema) == (64, 64, 150, 0.0)


@pytest.mark.parametrize(
    ("words", "floor"),
    [
        (["data=digits"], 150),
        (["data=mnist"], 1000),
        (["data=mnist", "loss=none", "teacher=none"], 150),
        (["data=mnist", "loss=[kd,entropy_minimisation]"], 1000),
        (["data=cifar10", "loss=none", "teacher=none"], 400),
        (["data=cifar10", "loss=fixmatch"], 1500),
    ],
)
def test_a_student_learns_the_longer_the_more_there_is_to_learn(words: list[str], floor: int) -> None:
    assert composed("al-loop", *words).recipe.until.floor == floor


@pytest.mark.parametrize("option", options("oracle"))
def test_an_oracle_fits_its_signature(option: str) -> None:
    own = section("oracle", option)
    sell = resolve(kdal_cli.labels.oracles, own["name"], [], "oracle")
    bind(sell, own, "oracle", given=2 if option == "simulated" else 1, besides=["name", "person", "answers"])


@pytest.mark.parametrize("option", options("recipe"))
def test_a_recipe_fits_its_signature_and_leaves_nothing_to_a_default_unseen(option: str) -> None:
    own = section("recipe", option)
    make(Recipe, own, "recipe")
    assert set(own) == set(Recipe.__dataclass_fields__)


@pytest.mark.parametrize("option", options("budget"))
def test_a_budget_fits_its_signature_and_its_own_words(option: str) -> None:
    budget = make(Budget, section("budget", option), "budget")
    head = (CONF / "budget" / f"{option}.yaml").read_text().splitlines()[0]
    total = sum(budget.plan(10**6))
    assert f"{budget.initial:,} " in head
    assert f"{total:,} in all" in head


@pytest.mark.parametrize("option", options("data"))
def test_a_data_set_fits_its_signature(option: str) -> None:
    own = section("data", option)
    convert(own.pop("split"), Split, "data.split")
    convert(own.pop("augment"), Augment, "data.augment")
    until = own.pop("until")
    for floor in (until.pop("taught"), until["floor"]):
        convert({**until, "floor": floor}, Until, "data.until")
    make(Trouble, {field.name: own.pop(field.name) for field in fields(Trouble)}, "data")
    bind(resolve(kdal_cli.data, own["name"], [], "data"), own, "data", given=1, besides=["name"])


def hints_of(target: object) -> dict[str, object]:
    """The annotations of a function or class, of settings that it shares with others too."""
    hints = get_type_hints(target.__init__ if isinstance(target, type) else target)
    shared = [get_args(hint)[0] for hint in hints.values() if get_origin(hint) is Unpack]
    return hints | {key: hint for settings in shared for key, hint in get_type_hints(settings).items()}


def test_every_argument_that_is_a_path_is_typed_as_one() -> None:
    """A command line is read before torch is there to ask for annotations."""
    targets = [(group, resolve(rooms, name, [], group)) for group, rooms in REGISTRIES.items() for name in names(rooms)]
    asked = {
        f"{group}.{argument}"
        for group, target in [*targets, ("teacher", Who)]
        for argument, hint in hints_of(target).items()
        if "Path" in str(hint) and argument not in ("return", "folder")  # the run folder is not configured
    }
    assert {"data.root", "data.path", "data.store", "teacher.checkpoint", "teacher.store"} <= asked
    assert all(takes_path(key) for key in asked)


NO_NET_OF_THEIR_OWN = ("none", "peer", "previous", "saved", "self")


@pytest.mark.parametrize("option", [o for o in options("teacher") if o not in ("custom", *NO_NET_OF_THEIR_OWN)])
def test_a_teacher_is_the_net_of_the_student_of_that_name(option: str) -> None:
    assert section("teacher", option)["model"] == section("student", option)


def test_a_teacher_can_be_whatever_a_student_can_and_none() -> None:
    assert options("teacher") == sorted([*(o for o in options("student") if o != "simkd"), *NO_NET_OF_THEIR_OWN])
    assert section("teacher", "none")["model"] is None


@pytest.mark.parametrize("option", options("experiment"))
def test_an_experiment_begins_with_the_command_that_runs_it(option: str) -> None:
    text = (CONF / "experiment" / f"{option}.yaml").read_text()
    commands = re.findall(r"^#   (kdal .*?)(?:  .*)?$", text, re.MULTILINE)
    assert commands
    for command in commands:
        stage, *words = command.split()[1:]
        assert stage in STAGES
        assert f"experiment={option}" in words


# Every stage.


@every_stage
def test_a_stage_composes_with_the_keys_it_knows(stage: str) -> None:
    config = composed(stage)
    assert config.hydra.job.name == stage
    assert set(config) - {"hydra"} <= {*GROUPS, *SETTINGS}


def groups_in(help_text: str) -> dict[str, list[str]]:
    """{group: options as listed} of a help text."""
    block = help_text.split("groups, with the default in brackets\n")[1].split("\n\n")[0]
    joined = re.sub(r"\n {14}", " ", block)
    found = dict(re.findall(r"^ {2}(\w+) +(.+)$", joined, re.MULTILINE))
    return {group: listed.split(", ") for group, listed in found.items()}


@every_stage
def test_the_help_lists_exactly_the_options_that_hydra_knows(stage: str) -> None:
    listed = groups_in(stage_help(CONF, stage))
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        known = {group: loader.get_group_options(group) for group in loader.list_groups("") if group != "hydra"}
    assert {group: sorted(o.strip("[]") for o in found) for group, found in listed.items()} == {
        group: sorted(o for o in found if not o.startswith("_")) for group, found in known.items()
    }


@every_stage
def test_the_help_brackets_the_choices_that_hydra_makes(stage: str) -> None:
    listed = groups_in(stage_help(CONF, stage))
    bracketed = {group: next((o.strip("[]") for o in found if o[0] == "["), None) for group, found in listed.items()}
    made = composed(stage).hydra.runtime.choices
    assert bracketed == {group: made[group] for group in bracketed}


def as_yaml(section: DictConfig, key: Any) -> str:
    """A value as its file has it, interpolations unresolved."""
    return OmegaConf.to_yaml(OmegaConf.masked_copy(section, [key])).split(": ", 1)[-1].strip()


@every_stage
def test_the_help_shows_every_default_key_with_its_value(stage: str) -> None:
    text = stage_help(CONF, stage)
    config = composed(stage)
    for key in set(config) - {"hydra", *GROUPS}:
        assert re.search(rf"^ +{key}: ", text, re.MULTILINE), key
    chosen = {"student", "recipe", "budget", "oracle", "data"} & set(config)
    if "name" not in config.student:
        chosen.remove("student")  # a checkpoint says what it is
    for group in chosen:
        for key, value in config[group].items():
            if key != "name":
                shown = "" if isinstance(value, DictConfig) else re.escape(as_yaml(config[group], key))
                assert re.search(rf"^ +{group}\.{key}: {shown}", text, re.MULTILINE), f"{group}.{key}"


@every_stage
def test_the_help_of_a_stage_begins_with_what_it_does(stage: str) -> None:
    assert stage_help(CONF, stage).startswith(f"kdal {stage}: {STAGES[stage]}")
