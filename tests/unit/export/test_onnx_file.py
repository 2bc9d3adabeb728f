"""ONNX files from anywhere: what is odd is told in a line, and nothing but the file is read."""

import json
from pathlib import Path

import numpy as np
import pytest

from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.export import onnx_file
from kdal_cli.export.onnx_child import refuse_external
from kdal_cli.export.onnx_file import open_onnx
from kdal_cli.records.card import Card

onnx = pytest.importorskip("onnx")
helper = pytest.importorskip("onnx.helper")
pytest.importorskip("onnxruntime")

CARD = Card("student", {"name": "mlp"}, Shape(1, 2, 2, 3), ("a", "b", "c"), (0.0,), (1.0,), "blobs", {"labels": 0})


def model(*, width: int = 3, uint8: bool = True, nodes=None, card: Card | None = CARD):
    """pixels (B, 1, 2, 2) -> 0.5 for each of `width` classes, times the first pixels."""
    kind = onnx.TensorProto.UINT8 if uint8 else onnx.TensorProto.FLOAT
    weight = helper.make_tensor("w", onnx.TensorProto.FLOAT, [4, width], np.full(4 * width, 0.5, np.float32))
    nodes = nodes or [
        helper.make_node("Cast", ["pixels"], ["x"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pixels", kind, ["B", 1, 2, 2])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None)],
        [weight],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if card is not None:
        helper.set_model_props(made, {"kdal": json.dumps({"card": card.plain()})})
    return made


def saved(path: Path, content) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def refusal(path: Path, pixels: int = 2) -> str:
    with pytest.raises(UserError) as told, open_onnx(path, 1) as file:
        file.classify(np.ones((pixels, 1, 2, 2), np.uint8))
    return str(told.value)


def test_a_file_of_ours_answers_batches_of_any_size(tmp_path) -> None:
    with open_onnx(saved(tmp_path / "m.onnx", model()), 1) as file:
        assert file.card == CARD
        for count in (1, 3):
            assert file.classify(np.ones((count, 1, 2, 2), np.uint8)).tolist() == [[2.0] * 3] * count
    assert file.process.poll() is not None


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "not read"),
        (b"\x80\x04garbage", "not read"),
        (model(card=None), "neither its classes nor its preprocessing"),
        (model(uint8=False, nodes=[helper.make_node("Flatten", ["pixels"], ["logits"])]), "takes"),
        (model(width=2), "answers 2 numbers"),
        (model(nodes=[helper.make_node("Steal", ["pixels"], ["logits"], domain="evil")]), "operator of evil"),
    ],
)
def test_what_is_odd_is_told_in_a_line(tmp_path, content, named) -> None:
    assert named in refusal(saved(tmp_path / "m.onnx", content))


def test_weights_in_another_file_are_not_read() -> None:
    made = model()
    made.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    made.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(ValueError, match="external data"):
        refuse_external(made)
    inner = helper.make_model(
        helper.make_graph([helper.make_node("If", ["c"], ["y"], then_branch=made.graph)], "g", [], [])
    )
    with pytest.raises(ValueError, match="external data"):
        refuse_external(inner)


def test_a_file_that_takes_much_memory_ends_its_own_process_alone(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(onnx_file, "MEMORY", 64 << 20)
    nodes = [
        helper.make_node("Constant", [], ["shape"], value_ints=[40_000, 40_000]),
        helper.make_node("ConstantOfShape", ["shape"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"]),
        helper.make_node("Cast", ["pixels"], ["x"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
        helper.make_node("Add", ["y", "sum"], ["logits"]),
    ]
    told = refusal(saved(tmp_path / "m.onnx", model(nodes=nodes)))
    assert "took more than" in told or "not read" in told


def test_a_file_that_takes_too_long_is_ended(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(onnx_file, "OPENING", 0.0)
    assert "too long" in refusal(saved(tmp_path / "m.onnx", model()))


def test_a_missing_file_and_a_missing_package_are_one_line(tmp_path) -> None:
    assert "no such file" in refusal(tmp_path / "gone.onnx")
    with pytest.raises(UserError, match=r"pip install 'kdal\[export\]'"):
        onnx_file.needs_package("no_such_package", "format=onnx", "export")
