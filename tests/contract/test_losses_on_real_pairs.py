"""Every file of conf/loss through two steps of training on networks that people use, of one family and of two.

Finite, the teacher the same to the bit, and a student that can be exported: its weights load into the plain
architecture, without anything of the term or of the teacher, and answer the same.
"""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from kdal_cli.compose import parts
from kdal_cli.compose.loss import LossPlan, plan_loss
from kdal_cli.dataset import Shape
from kdal_cli.devices.engine import Engine
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.network import Network, classifier
from kdal_cli.streams import Streams
from kdal_cli.training.answers import LiveTeacher
from kdal_cli.training.fit import fit
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Examples, Unwatched

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted(path.stem for path in (CONF / "loss").glob("*.yaml"))
PAIRS = [("resnet20", "resnet8"), ("vgg8", "mobilenet_v2_half")]
SHAPE = Shape(3, 32, 32, 10)
CPU = Engine(torch.device("cpu"))
IMAGES = torch.randint(0, 256, (24, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
RECIPE = Recipe(steps=2, batch=6, pool_batch=4, lr=0.01, checks=1)


def values(path: str) -> dict[str, Any]:
    loaded = OmegaConf.to_container(OmegaConf.load(CONF / path))
    assert isinstance(loaded, dict)
    loaded.pop("defaults", None)
    return loaded  # type: ignore[return-value]


def section(plan: LossPlan, student: str, teacher: str) -> dict[str, Any]:
    """The student's architecture, within what the loss asks for around it."""
    own = values(f"student/{student}.yaml")
    if plan.student is None:
        return own
    return {"name": plan.student, "backbone": own, "features": classifier(net(teacher).body).in_features}


def network(section: dict[str, Any]) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Network(parts.blueprint(section, SHAPE, [], "student").make(), (0.5,) * 3, (0.25,) * 3)


@cache
def net(name: str) -> Network:
    """Never trained, but its batch-norms have seen images: without that a deep net in eval mode answers millions."""
    teacher = network(values(f"student/{name}.yaml"))
    norms = [module for module in teacher.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        teacher.train()(IMAGES)
    return teacher.eval()


def bits(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("loss", FILES)
@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_a_training_is_finite_spares_the_teacher_and_leaves_a_student_that_stands_alone(
    teacher: str, student: str, loss: str
) -> None:
    plan = plan_loss(values(f"loss/{loss}.yaml"), [], SHAPE)
    spec = section(plan, student, teacher)
    above, below = net(teacher), network(spec)
    before, fresh = bits(above), bits(below)
    examples = Examples(torch.arange(24), torch.arange(12) % 10)
    objective = plan(below, above, examples)
    images, live = Resident(IMAGES, Augment()), LiveTeacher(above, CPU, "fp32")
    fitted = fit(below, images, examples, objective, RECIPE, CPU, Streams(0), Unwatched(), teacher=live)
    assert all(torch.tensor(value).isfinite() for value in fitted.losses.values())
    assert all(torch.equal(tensor, before[name]) for name, tensor in above.state_dict().items())
    assert not all(torch.equal(tensor, fresh[name]) for name, tensor in below.state_dict().items())
    exported = network(spec)
    exported.body.load_state_dict(below.body.state_dict(), strict=True)
    answers = [one.eval()(IMAGES[:4]).logits for one in (below, exported)]
    assert torch.equal(*answers)
