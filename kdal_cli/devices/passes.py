"""How many images a network looks at together, where no training says so: as many as memory is wanted for."""

from kdal_cli.images.augment import Resident
from kdal_cli.network import Network

BYTES = {"cpu": 4 << 20, "cuda": 32 << 20}
"""Bytes of pixels in one pass, by the kind of device: 250 images up to 73 × 73 on a CPU, 27 of 224 × 224."""


def images_a_pass(network: Network, images: Resident, most: int) -> int:
    """At least one and at most so many, as they are when the body sees them.

    What a body computes on the way grows with the pixels it is shown: a ResNet-18 takes a hundred times their bytes.
    """
    channels, height, width = images.shape
    height, width = network.size or (height, width)
    return max(1, min(most, BYTES[images.device.type] // (channels * height * width)))
