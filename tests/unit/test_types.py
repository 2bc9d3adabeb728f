"""Outputs and batches, cut and converted all parts at once."""

import pytest
import torch

from kdal_cli.types import Batch, ImageData, ImageSet, Output, Shape


def output(dtype: torch.dtype = torch.float32) -> Output:
    logits = torch.arange(12.0).view(4, 3).to(dtype)
    return Output(logits, logits + 100, {"layer1": torch.arange(16.0).view(4, 1, 2, 2).to(dtype)})


def test_rows_of_an_output_are_rows_of_everything_in_it() -> None:
    part = output()[1:3]
    assert torch.equal(part.logits, output().logits[1:3])
    assert torch.equal(part.features, output().features[1:3])
    assert torch.equal(part.maps["layer1"], output().maps["layer1"][1:3])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_an_output_is_lifted_to_float32_and_float64_stays(dtype: torch.dtype) -> None:
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    lifted = output(dtype).float()
    assert {lifted.logits.dtype, lifted.features.dtype, lifted.maps["layer1"].dtype} == {wanted}


def test_the_labels_of_a_batch_belong_to_its_first_rows() -> None:
    batch = Batch(torch.arange(5), torch.arange(5), torch.zeros(5, 1, 2, 2), labels=torch.tensor([7, 8]))
    assert batch[:2].labels.tolist() == [7, 8]
    assert batch[2:].labels.tolist() == []
    assert batch[2:].ids.tolist() == [2, 3, 4]


def test_the_shape_of_data_is_that_of_its_images_and_classes() -> None:
    images = ImageSet(torch.zeros(6, 3, 4, 5, dtype=torch.uint8), torch.zeros(6, dtype=torch.int64))
    data = ImageData("d", images, images, ("a", "b"), (0.5,) * 3, (0.5,) * 3)
    assert data.shape == Shape(channels=3, height=4, width=5, classes=2)
    assert len(data.train) == 6
