"""Any classifier as `pixels -> Output`, and a teacher that nothing can wake."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.dataset import ImageData, Shape
from kdal_cli.devices.engine import Engine
from kdal_cli.errors import UserError
from kdal_cli.images.augment import Resident
from kdal_cli.losses.kd import kd
from kdal_cli.models.mlp import mlp
from kdal_cli.models.resnet import resnet
from kdal_cli.models.small_cnn import small_cnn
from kdal_cli.network import Network, classifier, freeze
from kdal_cli.streams import Streams
from kdal_cli.training.answers import LiveTeacher
from kdal_cli.training.fit import fit
from kdal_cli.training.objective import Objective, Part
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Examples

SHAPE = Shape(3, 8, 8, 5)
MEAN, STD = (0.5, 0.25, 0.75), (0.1, 0.2, 0.4)
BODIES = {
    "mlp": lambda: mlp(SHAPE, hidden=(7, 6)),
    "small_cnn": lambda: small_cnn(SHAPE, width=4),
    "resnet": lambda: resnet(SHAPE, depth=8, widths=(8, 8, 12, 16)),
}
every_body = pytest.mark.parametrize("name", BODIES)


def network(name: str = "resnet") -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network(BODIES[name](), MEAN, STD).eval()


def pixels(n: int = 4) -> Tensor:
    return torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def normalised(pixels: Tensor) -> Tensor:
    """By hand, channel by channel, on the scale from 0 to 1."""
    return torch.stack([(pixels[:, c] / 255 - MEAN[c]) / STD[c] for c in range(3)], 1)


@every_body
def test_it_normalises_its_own_input(name: str) -> None:
    net = network(name)
    torch.testing.assert_close(net(pixels()).logits, net.body(normalised(pixels())), rtol=1e-4, atol=1e-5)


@every_body
def test_features_are_what_enters_the_classifier(name: str) -> None:
    net = network(name)
    output = net(pixels())
    last = classifier(net.body)
    assert output.features.shape == (4, last.in_features)
    torch.testing.assert_close(F.linear(output.features, last.weight, last.bias), output.logits)


def test_a_tap_shows_the_output_of_the_module_at_its_path() -> None:
    net = network()
    net.tap(["layer1", "layer3.0.conv2"])
    net.tap(["layer1"])
    output = net(pixels())
    assert list(output.maps) == ["layer1", "layer3.0.conv2"]
    until_layer1 = net.body[:4](normalised(pixels()))
    torch.testing.assert_close(output.maps["layer1"], until_layer1, rtol=1e-4, atol=1e-5)


def test_nothing_is_shown_that_was_not_asked_for() -> None:
    assert network()(pixels()).maps == {}


def test_gradients_flow_through_features_and_maps() -> None:
    net = network()
    net.tap(["layer1"])
    output = net(pixels())
    (output.features.sum() + output.maps["layer1"].square().sum()).backward()
    assert net.body.conv1.weight.grad.abs().sum() > 0


def test_a_path_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(UserError) as refused:
        network().tap(["layer4"])
    line = str(refused.value)
    assert "no module 'layer4': did you mean 'layer" in line
    assert all(name in line for name in ("conv1", "layer1", "layer2", "layer3", "fc"))


def test_a_model_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(UserError, match=r"Sequential has no linear layer .* end it with nn\.Linear"):
        Network(nn.Sequential(nn.Conv2d(3, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), MEAN, STD)


@every_body
def test_the_state_dict_is_the_plain_one_of_the_body(name: str) -> None:
    """So that a student ships as what it is, and somebody else's weights load."""
    net = network(name)
    net.tap(["layer1"] if name != "small_cnn" else ["stage1"])
    assert set(net.body.state_dict()) == set(BODIES[name]().state_dict())
    assert set(net.state_dict()) == {f"body.{key}" for key in net.body.state_dict()}


# A frozen teacher.


def test_train_cannot_wake_it_whoever_calls() -> None:
    teacher = freeze(network("small_cnn"))
    teacher.train()
    nn.ModuleList([nn.Sequential(teacher)]).train()
    assert not any(module.training for module in teacher.modules())


def test_it_keeps_no_gradient_and_gives_none() -> None:
    teacher = freeze(network())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not teacher(pixels()).logits.requires_grad


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weights_and_buffers_of_a_teacher_have_the_same_bits_after_a_distillation(
    optimizer: str, images: ImageData, resident: Resident, engine: Engine, notes, make_network
) -> None:
    """Batch-norm included: a teacher in train mode would show in its running means."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        teacher = Network(small_cnn(images.shape, width=4, dropout=0.5), images.mean, images.std)
    live = LiveTeacher(teacher, engine, "fp32")
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    student = make_network()
    weights = student.body.fc.weight.detach().clone()
    fit(
        student,
        resident,
        Examples(torch.arange(96), images.train.labels.all()[:20]),
        Objective(0.1, {"kd": Part(kd, 0.9)}),
        Recipe(steps=15, batch=8, pool_batch=8, optimizer=optimizer, checks=2),  # type: ignore[arg-type]
        engine,
        Streams(0),
        notes,
        teacher=live,
    )
    assert not torch.equal(student.body.fc.weight, weights)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())
