"""How many images a network looks at together: as many as their bytes allow, and the answers are the same."""

import pytest
import torch
from torch import Tensor, nn

from kdal_cli.dataset import Frame
from kdal_cli.devices.passes import images_a_pass
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.inference.predict import predict
from kdal_cli.network import Network
from kdal_cli.training.answers import CachedTeacher, LiveTeacher, Table


def images(side: int, many: int = 2) -> Resident:
    rng = torch.Generator().manual_seed(side)
    return Resident(torch.randint(0, 256, (many, 3, side, side), dtype=torch.uint8, generator=rng), Augment())


def network(size: tuple[int, int] | None = None) -> Network:
    torch.manual_seed(0)
    return Network(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 4)), (0.5,) * 3, (0.2,) * 3, size)


@pytest.mark.parametrize(("side", "many"), [(8, 250), (32, 250), (73, 250), (128, 85), (224, 27), (2000, 1)])
def test_the_larger_the_images_the_fewer_are_looked_at_together(side: int, many: int) -> None:
    assert images_a_pass(network(), images(side), 250) == many


def test_what_counts_is_the_size_that_the_body_sees() -> None:
    assert images_a_pass(network((224, 224)), images(32), 250) == 27
    frame = Frame(torch.tensor([[400, 300]]), 128, 0.875)
    kept = Resident(torch.zeros(1, 3, 192, 192, dtype=torch.uint8), Augment(), frame=frame)
    assert images_a_pass(network(), kept, 250) == 85


def counted(net: Network) -> list[int]:
    seen: list[int] = []

    def hook(body: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(len(args[0]))

    net.body.register_forward_pre_hook(hook)
    return seen


def test_predictions_and_kept_answers_of_large_images_are_those_of_larger_passes(engine) -> None:
    net, large = network(), images(300, many=40)
    expected, seen = predict(net, large, torch.arange(40), 250).logits, counted(net)
    assert torch.allclose(predict(net, large, torch.arange(40)).logits, expected, atol=1e-5)
    assert seen == [15, 15, 10]
    kept = CachedTeacher(LiveTeacher(net, engine, "fp32"), large, Table(40, 4))
    assert torch.allclose(kept.look_up(torch.arange(40)[None])[0], expected, atol=2e-3)
    assert seen[3:] == [15, 15, 15]
