"""Weights as usual trainers and hubs leave them: the same network comes out of each, to the bit where it can."""

import argparse
import collections
import datetime
import types
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18

from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.models.resnet import resnet
from kdal_cli.models.torchvision import torchvision
from kdal_cli.records import checkpoint

State = dict[str, Tensor]


def net(seed: int = 0, classes: int = 5) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return resnet(Shape(1, 8, 8, classes), depth=8, widths=(4, 4, 6, 8))


STATE: State = dict(net().state_dict())


def prefixed(prefix: str, state: Mapping[str, Tensor] = STATE) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def converted(dtype: torch.dtype) -> State:
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in STATE.items()}


def counted(state: State) -> State:
    """As thop leaves a network whose operations it has counted."""
    modules = {name.rpartition(".")[0] for name in state}
    extra = {f"{module}.{what}": torch.zeros(1) for module in modules for what in ("total_ops", "total_params")}
    return {**state, **extra, "total_ops": torch.zeros(1)}


def read_into(path: Path, body: nn.Module) -> str:
    return checkpoint.read(path).load_into(body, "resnet 8")


def assert_same(body: nn.Module, tolerance: float = 0.0) -> None:
    for name, tensor in body.state_dict().items():
        assert torch.allclose(tensor, STATE[name], rtol=tolerance, atol=tolerance), name


class Options:
    """A class of a trainer's own."""

    def __init__(self) -> None:
        self.lr = 0.1


COMPANY = {
    "args": argparse.Namespace(model="resnet8", out=Path("runs"), sizes=[1, 2]),
    "config": Options(),
    "simple": types.SimpleNamespace(a=1),
    "best": np.float64(93.1),
    "confusion": np.eye(3),
    "losses": collections.deque([1.0, 2.0]),
    "counts": collections.Counter("aab"),
    "log": collections.defaultdict(list, {"train": [1.0]}),
    "when": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "took": datetime.timedelta(hours=3),
    "done": {1, 2},
    "device": torch.device("cpu"),
    "dtype": torch.float16,
    "rng_state": torch.get_rng_state(),
    "numpy_rng": np.random.default_rng(0),
    "optimizer": {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
}

TRAINERS = {
    "akamaster": {"state_dict": prefixed("module."), "best_prec1": 92.6},
    "kuangliu": {"net": prefixed("module."), "acc": 93.0, "epoch": 7},
    "RepDistiller": {"epoch": 240, "model": STATE, "best_acc": np.float32(74.0), "opt": argparse.Namespace(lr=0.05)},
    "torchvision": {"model": STATE, "args": argparse.Namespace(), "scaler": {"scale": 1.0}, "epoch": 1},
    "lightning": {"state_dict": prefixed("net."), "hyper_parameters": {"lr": 0.1}, "callbacks": {}, "loops": {}},
    "compiled": prefixed("_orig_mod."),
    "compiled in lightning": {"state_dict": prefixed("model._orig_mod.module.")},
    "mmcls": {"meta": {"epoch": 1}, "state_dict": prefixed("backbone.")},
    "no counters": {name: tensor for name, tensor in STATE.items() if not name.endswith("num_batches_tracked")},
    "averaged": {**prefixed("module."), "n_averaged": torch.tensor(7)},
    "thop": counted(STATE),
    "wrapped twice": {"model": {"state_dict": STATE}},
    "parameters": {name: nn.Parameter(t) if t.is_floating_point() else t for name, t in STATE.items()},
    "channels last": {n: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for n, t in STATE.items()},
    "a name of its own": {"weights": STATE, "epoch": 3},
    "company": {"state_dict": STATE, **COMPANY},
}


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("how", ["zip", "legacy", "protocol 4"])
def test_weights_of_usual_trainers_are_the_network_they_were_saved_from(tmp_path: Path, trainer: str, how: str) -> None:
    path, body = tmp_path / "last.pth.tar", net(1)
    keywords = {"pickle_protocol": 4} if how == "protocol 4" else {"_use_new_zipfile_serialization": how == "zip"}
    torch.save(TRAINERS[trainer], path, **keywords)
    read_into(path, body)
    assert_same(body)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"card": "{}", "source": "elsewhere"}])
@pytest.mark.parametrize("prefix", ["", "module.", "model.net."])
def test_so_are_safetensors_whatever_their_metadata_and_whatever_lies_beside(tmp_path: Path, prefix, metadata) -> None:
    path, body = tmp_path / "model.safetensors", net(1)
    save_file(prefixed(prefix), path, metadata=metadata)
    path.with_suffix(".json").write_text('{"architecture": "resnet8"}')
    assert checkpoint.read(path).card is None
    assert read_into(path, body) == (f"without the prefix {prefix}" if prefix else "")
    assert_same(body)


def test_what_a_file_is_shows_in_its_bytes_and_not_in_its_name(tmp_path: Path) -> None:
    body = net(1)
    save_file(STATE, tmp_path / "model.pth")
    read_into(tmp_path / "model.pth", body)
    assert_same(body)
    torch.save(STATE, tmp_path / "model.safetensors")
    read_into(tmp_path / "model.safetensors", body)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 1e-3), (torch.bfloat16, 1e-2), (torch.float64, 1e-7)], ids=str
)
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_other_floating_types_are_converted_and_it_is_said(tmp_path: Path, kind: str, dtype, tolerance: float) -> None:
    path, body = tmp_path / f"x.{kind}", net(1)
    (torch.save if kind == "pth" else save_file)(converted(dtype), path)
    assert read_into(path, body) == f"{str(dtype).removeprefix('torch.')} as float32"
    assert_same(body, tolerance)


def test_a_counter_that_was_converted_with_the_rest_does_not_count(tmp_path: Path) -> None:
    """`{k: v.half() for …}` turns a counter of 78,000 steps into infinity."""
    halves = {name: tensor.half() for name, tensor in STATE.items()}
    halves["bn1.num_batches_tracked"] = torch.tensor(float("inf")).half()
    body = net(1)
    torch.save(halves, tmp_path / "x.pth")
    assert "float16 as float32" in read_into(tmp_path / "x.pth", body)
    assert body.state_dict()["bn1.num_batches_tracked"] == 0


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ({"state_dict": prefixed("module.", net(2).state_dict()), "state_dict_ema": STATE}, "state_dict_ema, not st"),
        ({"model": net(2).state_dict(), "model_ema": {**prefixed("module."), "n_averaged": torch.tensor(3)}}, "model"),
        ({"ema": STATE}, "its averaged weights, ema"),
        ({"ema": True, "model": STATE}, ""),
        ({"ema": {"decay": 0.999, "shadow": []}, "net": STATE}, ""),
        ({"model": STATE, "net": net(2).state_dict()}, "its weights, model, not net"),
    ],
    ids=["timm", "torchvision", "alone", "a setting", "of another kind", "two names"],
)
def test_averaged_weights_are_preferred_and_what_was_taken_is_said(tmp_path: Path, saved: dict, said: str) -> None:
    path, body = tmp_path / "x.pth", net(1)
    torch.save(saved, path)
    assert said in read_into(path, body)
    assert_same(body)


def test_torchvisions_own_names_load_into_torchvisions_architecture(tmp_path: Path) -> None:
    theirs = resnet18(num_classes=4)
    torch.save({"model": prefixed("module.", theirs.state_dict())}, tmp_path / "x.pth")
    body = torchvision(Shape(3, 224, 224, 4), arch="resnet18")
    read_into(tmp_path / "x.pth", body)
    assert torch.equal(body.state_dict()["layer4.1.bn2.running_var"], theirs.state_dict()["layer4.1.bn2.running_var"])
    assert torch.equal(body.state_dict()["conv1.weight"], theirs.state_dict()["conv1.weight"])


# What is refused, and what the line says.


def refusal(path: Path, saved: object, save: Callable = torch.save) -> str:
    save(saved, path)
    body = net(1)
    before = {name: tensor.clone() for name, tensor in body.state_dict().items()}
    with pytest.raises(UserError) as refused:
        read_into(path, body)
    assert all(torch.equal(before[name], tensor) for name, tensor in body.state_dict().items())
    line = str(refused.value)
    assert line.isprintable()
    assert len(line) < 600
    return line


def without(*starts: str) -> State:
    return {name: tensor for name, tensor in STATE.items() if not name.startswith(starts)}


@pytest.mark.parametrize(
    ("saved", "parts"),
    [
        (without("layer2"), ["it lacks layer2 (15 tensors) (", "the file has 38 tensors", "conv1 (weight 4×1×3×3)"]),
        (without("layer2.0.bn1", "fc.bias"), ["it lacks layer2.0.bn1 (4 tensors), fc.bias ("]),
        ({**STATE, "aux.fc.weight": torch.zeros(2)}, ["it has besides aux ("]),
        (dict(net(0, 7).state_dict()), ["fc.weight is 7×8, not 5×8, fc.bias is 7, not 5 ("]),
        (
            {**prefixed("student."), **prefixed("teacher.")},
            ["has besides student (56 tensors), teacher (56", "student.conv1 (w"],
        ),
        ({"student": STATE, "teacher": STATE}, ["it holds several state dicts: student, teacher"]),
        ({"\x1b[31mevil\n.w": torch.zeros(3)}, ["has besides ?[31mevil?"]),
        ({name: (t * 10).to(torch.int8) for name, t in STATE.items()}, ["conv1.weight holds int8, and float32 is n"]),
        ({**STATE, "fc.bias": torch.zeros(5).bool()}, ["fc.bias holds bool, and float32 is needed"]),
        (converted(torch.complex64), ["conv1.weight holds complex64, and float32 is needed"]),
        ({**STATE, "fc.bias": torch.full((5,), float("nan"))}, ["not finite, in fc.bias"]),
        ({"state_dict": {**STATE, "epoch": 3}}, ["it holds no state dict"]),
        ({}, ["it holds no state dict"]),
        ({"model": net()}, ["it holds no state dict"]),
    ],
    ids=lambda value: value[0][:40] if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_told_by_module_with_what_the_file_has(tmp_path: Path, saved, parts: list[str]) -> None:
    line = refusal(tmp_path / "x.pth", saved)
    assert [part for part in parts if part not in line] == []
    assert "num_batches_tracked" not in line


def test_a_buffer_of_integers_may_hold_integers_alone(tmp_path: Path) -> None:
    body = nn.Module()
    body.register_buffer("index", torch.arange(4))
    torch.save({"index": torch.arange(4, dtype=torch.int32) + 3}, tmp_path / "x.pt")
    read_into(tmp_path / "x.pt", body)
    assert body.index.tolist() == [3, 4, 5, 6]
    torch.save({"index": torch.zeros(4)}, tmp_path / "x.pt")
    with pytest.raises(UserError, match="index holds float32, and int64 is needed"):
        read_into(tmp_path / "x.pt", body)
