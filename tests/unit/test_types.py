"""Outputs and batches, cut and converted all parts at once; labels, of which some are unknown."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdal_cli.dataset import ImageData, ImageSet, Labels, Shape
from kdal_cli.types import Batch, Output


def output(dtype: torch.dtype = torch.float32) -> Output:
    logits = torch.arange(12.0).view(4, 3).to(dtype)
    return Output(logits, logits + 100, {"layer1": torch.arange(16.0).view(4, 1, 2, 2).to(dtype)})


def test_rows_of_an_output_are_rows_of_everything_in_it() -> None:
    part = output()[1:3]
    assert torch.equal(part.logits, output().logits[1:3])
    assert torch.equal(part.features, output().features[1:3])
    assert torch.equal(part.maps["layer1"], output().maps["layer1"][1:3])


@pytest.mark.parametrize("had", [4, 2])
def test_other_views_are_of_the_last_images_and_are_cut_with_them(had: int) -> None:
    """Of all four, or of the two of the pool alone."""
    whole, views = output(), torch.arange(4)[4 - had :]
    both = Output(whole.logits, whole.features, strong=Output(views[:, None].float(), views[:, None].float()))
    batch = Batch(torch.arange(4), torch.zeros(4), torch.zeros(4, 1, 1, 1), torch.zeros(2), again=views, strong=views)
    for rows in (slice(0, 2), slice(2, None), slice(None)):
        expected = [view for view in range(4)[rows] if view in views.tolist()]
        part = both[rows].strong
        assert part is not None
        assert part.logits.flatten().tolist() == expected
        assert batch[rows].strong.tolist() == batch[rows].again.tolist() == expected  # type: ignore[union-attr]
    assert both.detach().strong.logits.dtype == torch.float32  # type: ignore[union-attr]


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
    images = ImageSet(torch.zeros(6, 3, 4, 5, dtype=torch.uint8), Labels.complete(torch.zeros(6, dtype=torch.int64)))
    data = ImageData("d", images, images, ("a", "b"), (0.5,) * 3, (0.5,) * 3)
    assert data.shape == Shape(channels=3, height=4, width=5, classes=2)
    assert len(data.train) == 6


@st.composite
def some_known(draw: st.DrawFn) -> tuple[dict[int, int], Labels]:
    """{id: label} of the known ones, and the same as `Labels`."""
    images = draw(st.integers(0, 40))
    truth = draw(st.dictionaries(st.integers(0, images - 1), st.integers(0, 9))) if images else {}
    known = sorted(truth)
    answers = torch.tensor([truth[id] for id in known], dtype=torch.int64)
    return truth, Labels(images, torch.tensor(known, dtype=torch.int64), answers)


@given(some_known(), st.data())
def test_known_labels_are_read_and_unknown_ones_cannot_be(case: tuple[dict[int, int], Labels], data) -> None:
    truth, labels = case
    every = torch.arange(len(labels))
    assert labels.among(every.flip(0)).tolist() == sorted(truth, reverse=True)
    assert labels.all_known == (len(truth) == len(labels))
    asked = data.draw(st.lists(st.integers(-2, len(labels) + 1), max_size=5))
    if set(asked) <= truth.keys():
        assert labels.of(torch.tensor(asked, dtype=torch.int64)).tolist() == [truth[id] for id in asked]
    else:
        with pytest.raises(LookupError):
            labels.of(torch.tensor(asked, dtype=torch.int64))
    if not labels.all_known:
        with pytest.raises(LookupError):
            labels.all()


@given(some_known(), st.data())
def test_copies_have_the_labels_of_their_originals_and_stay_unknown_as_these_are(case, data) -> None:
    truth, labels = case
    ids = data.draw(st.lists(st.integers(0, len(labels) - 1), max_size=9)) if len(labels) else []
    copies = labels.copied(torch.tensor(ids, dtype=torch.int64))
    assert len(copies) == len(ids)
    assert copies.known.tolist() == [place for place, id in enumerate(ids) if id in truth]
    assert copies.of(copies.known).tolist() == [truth[id] for id in ids if id in truth]


def test_what_is_measured_on_has_its_labels() -> None:
    pixels = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    whole = ImageSet(pixels, Labels.complete(torch.tensor([0, 1, 0])))
    part = ImageSet(pixels, Labels(3, torch.tensor([0, 2]), torch.tensor([0, 1])))

    def data(train: ImageSet, test: ImageSet, validation: list[int]) -> ImageData:
        return ImageData("d", train, test, ("a", "b"), (0.5,), (0.5,), torch.tensor(validation, dtype=torch.int64))

    assert len(data(part, whole, [2, 0]).validation) == 2
    for train, test, validation in ((whole, part, []), (part, whole, [1])):
        with pytest.raises(ValueError, match="without a label"):
            data(train, test, validation)
