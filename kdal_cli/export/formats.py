"""Files that a network is written to. Each function writes one, into a folder of its own, and opens nothing.

Axis letters: B batch, c channels, H W pixels.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdal_cli.export.whole import Whole
from kdal_cli.records.card import Card

KEY = "kdal"
"""The metadata of ours in an ONNX file."""

INPUT, OUTPUT = "pixels", "logits"
OPSET = 20
LARGEST_BATCH = 1024
CALIBRATION = 32
"""Images of a batch of the calibration of int8."""


def write_onnx(path: Path, whole: Whole, example: Tensor, card: Card, about: Mapping[str, str]) -> None:
    """One ONNX file: uint8 (B, c, H, W) -> logits (B, C), B from 1 to 1024, normalisation inside.

    example: (B, c, H, W) uint8, B at least 2, for the batch to stay open. about: further metadata, for people.
    """
    import onnx

    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            whole,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: batch},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, {**about, KEY: json.dumps({"card": card.plain()})})
    path.write_bytes(model.SerializeToString())


def write_int8(path: Path, source: Path, pixels: np.ndarray) -> None:
    """An ONNX file with convolutions and matrix products in 8 bits, calibrated on `pixels` (N, c, H, W) uint8.

    Weights are symmetric, per channel and of 7 bits (reduce_range): on processors without VNNI a product of two 8-bit
    numbers overflows, and a MobileNetV3 loses 13 points without a word.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.parts = iter(range(0, len(pixels), CALIBRATION))

        def get_next(self) -> Any:
            start = next(self.parts, None)
            return None if start is None else {INPUT: pixels[start : start + CALIBRATION]}

    prepared = path.with_name("prepared.onnx")
    with _quiet():
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {each.key: each.value for each in onnx.load(str(source)).metadata_props})
    path.write_bytes(model.SerializeToString())


def write_program(path: Path, whole: Whole, example: Tensor) -> None:
    """The program of `torch.export`, uint8 (B, c, H, W) -> logits (B, C), for `torch.export.load`."""
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    with _quiet(), torch.no_grad():
        program = torch.export.export(whole, (example,), dynamic_shapes=({0: batch},))
        torch.export.save(program, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters talk of their own insides; what matters is measured afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
