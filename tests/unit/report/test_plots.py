"""Pictures: valid, of the promised size, the same bytes each time, and no trace left in matplotlib's settings."""

import io
from collections.abc import Callable

import matplotlib as mpl
import pytest
import torch
from PIL import Image

from kdal_cli.metrics.calibration import reliability
from kdal_cli.report.curve_plot import curve_png
from kdal_cli.report.plots import confusion_png, reliability_png


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.verify()
    assert image.format == "PNG"
    return Image.open(io.BytesIO(png))


def confusion(classes: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(classes)
    return torch.randint(0, 20, (classes, classes), generator=rng) + 300 * torch.eye(classes).long()


def names(classes: int) -> list[str]:
    return [f"class {i}" for i in range(classes)]


def curve() -> bytes:
    return curve_png(
        [100, 200, 300],
        [0.47, 0.61, 0.7],
        teacher=0.9,
        baselines={"knn": [0.4, 0.5, 0.6]},
        title="a run",
        subtitle="seed 1",
    )


def diagram() -> bytes:
    rng = torch.Generator().manual_seed(1)
    return reliability_png(*reliability(torch.randn(50, 4, generator=rng), torch.arange(50) % 4), title="b")


@pytest.mark.parametrize("draw", [curve, diagram, lambda: confusion_png(confusion(3), names(3))])
def test_the_same_bytes_twice_and_none_of_them_a_date_or_a_version(draw: Callable[[], bytes]) -> None:
    png = draw()
    assert png == draw()
    assert set(opened(png).info) <= {"dpi"}


def test_the_users_own_style_does_not_count_and_stays() -> None:
    expected = curve()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 20, "text.usetex": True}):
        assert curve() == expected
        assert mpl.rcParams["font.size"] == 30


def test_sizes() -> None:
    assert opened(curve()).size == (1200, 750)
    assert opened(diagram()).size == (960, 1110)


@pytest.mark.parametrize("teacher", [None, 0.0, [0.3]])
def test_a_curve_of_one_point(teacher: float | list[float] | None) -> None:
    assert opened(curve_png([0], [0.1], teacher=teacher, baselines={"tree": [0.2]})).size == (1200, 750)


def test_the_lines_change_the_picture() -> None:
    level, curve = ({"teacher": 0.6}, {"teacher": [0.5, 0.6]})
    drawn = [curve_png([100, 200], [0.4, 0.5], **more) for more in ({}, level, curve, {"baselines": {"knn": [0, 1]}})]
    assert len(set(drawn)) == 4


@pytest.mark.parametrize("classes", [1, 2, 10, 31, 100])
def test_confusion_of_few_and_many_classes(classes: int) -> None:
    width, height = opened(confusion_png(confusion(classes), names(classes))).size
    assert 900 <= width <= 2600
    assert 800 <= height <= 2600


def test_numbers_are_written_up_to_thirty_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    text = mpl.axes.Axes.text
    monkeypatch.setattr(
        mpl.axes.Axes, "text", lambda axes, x, y, s, **style: written.append(s) or text(axes, x, y, s, **style)
    )
    matrix = confusion(30)
    confusion_png(matrix, names(30))
    assert sorted(map(int, written)) == sorted(matrix[matrix > 0].tolist())
    written.clear()
    confusion_png(confusion(31), names(31))
    assert not written


def test_more_classes_than_can_be_named() -> None:
    opened(confusion_png(torch.eye(300).long(), names(300)))


def test_as_many_names_as_classes() -> None:
    with pytest.raises(ValueError, match=r"\(3, 3\) for 2 class names"):
        confusion_png(confusion(3), names(2))


def test_a_class_without_images_and_a_bin_without_images() -> None:
    opened(confusion_png(torch.zeros(3, 3).long(), names(3)))
    opened(reliability_png(torch.zeros(5), torch.zeros(5), torch.zeros(5).long()))


def test_names_from_outside_are_drawn_and_not_obeyed() -> None:
    evil = ["$\\frac{$", "$x$", "\x1b[2J\nline", "鹿", "x" * 500, ""]
    opened(confusion_png(confusion(6), evil, title="$\\bad{$\n\x00", subtitle="y" * 1000))
    opened(curve_png([1], [0.5], title="$\\bad{$", subtitle="_" * 300))
