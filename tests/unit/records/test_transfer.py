"""Weights of another task: the body goes over whole, the head where it fits, the rest is named."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kdal_cli.errors import UserError
from kdal_cli.records.transfer import Transfer, digest, refuse_other_body, transfer

WHERE = Path("w.pth")


def network(classes: int = 3, width: int = 4) -> nn.Sequential:
    body = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))
    return nn.Sequential(body, nn.Linear(width, classes))


def moved(theirs: dict[str, Tensor], ours: nn.Module, **how: bool) -> Transfer:
    return transfer(theirs, ours.state_dict(), "1", "net", WHERE, **how)


def test_all_goes_over_where_the_classes_are_as_many() -> None:
    theirs = network().state_dict()
    found = moved(theirs, network())
    assert found.head
    assert found.left_out == ""
    assert found.weights.keys() == theirs.keys()
    assert all(torch.equal(found.weights[name], theirs[name]) for name in theirs)


def test_another_number_of_classes_leaves_out_the_head_and_says_so() -> None:
    found = moved(network(7).state_dict(), network())
    assert not found.head
    assert {name.partition(".")[0] for name in found.weights} == {"0"}
    assert found.left_out == "1 (2 tensors)"


def test_a_head_of_other_classes_of_the_same_number_can_be_left_out() -> None:
    assert not moved(network().state_dict(), network(), keep_head=False).head


@pytest.mark.parametrize("prefix", ["module.", "model.backbone.", "a.b.c.d."])
def test_a_body_lies_below_any_prefix_beside_other_things(prefix: str) -> None:
    theirs = {prefix + name: tensor for name, tensor in network(7).state_dict().items() if name.startswith("0.")}
    found = moved(theirs | {"head.proj.weight": torch.zeros(2, 2), "queue": torch.zeros(5)}, network())
    assert not found.head
    assert found.left_out == "head, queue"
    assert found.notes[0] == f"without the prefix {prefix}"
    assert torch.equal(found.weights["0.0.weight"], theirs[f"{prefix}0.0.weight"])


def test_counters_may_be_missing_and_other_floats_are_converted() -> None:
    theirs = {n: t.half() for n, t in network().state_dict().items() if "num_batches" not in n}
    found = moved(theirs, network())
    assert found.notes == ("float16 as float32",)
    assert "0.1.num_batches_tracked" in found.weights


def test_a_body_is_never_filled_in_part() -> None:
    theirs = network().state_dict()
    del theirs["0.0.bias"]
    with pytest.raises(UserError, match=r"it lacks 0\.0\.bias .*w\.pth.* the file has"):
        moved(theirs, network())
    with pytest.raises(UserError, match=r"0\.0\.weight is 4×2, not 5×2"):
        moved(network().state_dict(), network(width=5))


def test_before_the_images_are_known_only_fixed_shapes_are_compared() -> None:
    theirs, ours = network(7).state_dict(), network(width=5).state_dict()
    refuse_other_body(theirs, ours, "1", "net", WHERE, dict.fromkeys(ours, False))
    with pytest.raises(UserError, match="not 5×2"):
        refuse_other_body(theirs, ours, "1", "net", WHERE, dict.fromkeys(ours, True))


def test_a_digest_is_of_names_types_shapes_and_numbers() -> None:
    plain = {"a": torch.zeros(2, 3)}
    others = [torch.zeros(3, 2), torch.zeros(2, 3).half(), torch.ones(2, 3)]
    all_of_them = [plain, {"b": torch.zeros(2, 3)}, *({"a": other} for other in others)]
    assert len({digest(each) for each in all_of_them}) == 5
    assert digest(plain) == digest({"a": torch.zeros(3, 2).t().contiguous()})
