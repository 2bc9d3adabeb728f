"""How much of photographs is seen without augmentation: what is set, or else what the network was made for."""

from collections.abc import Mapping
from typing import Any

from kdal_cli.dataset import ImageData
from kdal_cli.images.crops import cropped

Section = Mapping[str, Any]


def is_open(data: ImageData, section: Section) -> bool:
    """Whether images are photographs, and `data.crop` does not say how much of them is seen."""
    return data.train.frame is not None and section.get("crop") is None


def framed(data: ImageData, section: Section, crop: float | None) -> ImageData:
    """The images of a `data` section, of whose shorter side `crop` is seen, where that is known and nothing is set."""
    return cropped(data, crop) if crop is not None and is_open(data, section) else data
