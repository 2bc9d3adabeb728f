"""What an augmented image costs: `Resident.at` for a batch, beside torchvision's transforms of one image at a time.

    python benchmarks/input.py [--quick] [--turns 7] [--threads 1]

Images of 3 × 32 × 32, cropped from a padding of 4 and flipped by chance, and made floating-point numbers that are
normalised. torchvision goes from an array to a PIL image and through RandomCrop, RandomHorizontalFlip, ToTensor and
Normalize, as its CIFAR10 does, and stacks a batch, without workers; in `v2`, its later transforms, on a uint8 tensor.
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import v2
from turns import OURS, Cost, head, interleaved, measured, options, repeated, tell

from kdal_cli.images.augment import Augment, Resident

BATCH = 128
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def main() -> None:
    chosen = options(__doc__, turns=7).parse_args()
    torch.set_num_threads(chosen.threads)
    count = 2_000 if chosen.quick else 10_000
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=rng)
    arrays = pixels.permute(0, 2, 3, 1).contiguous().numpy()
    images = Resident(pixels, Augment(pad=4, flip=True))
    mean, std = (torch.tensor(each).mul(255)[:, None, None] for each in (MEAN, STD))
    crop = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    by_pil = transforms.Compose([*crop, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    by_v2 = v2.Compose(
        [
            v2.RandomCrop(32, 4),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )

    def ours(ids: Tensor) -> Tensor:
        return (images.at(ids, torch.randint(images.augment.count, ids.shape)).float() - mean) / std

    def pil(ids: Tensor) -> Tensor:
        rows: list[Any] = [by_pil(Image.fromarray(arrays[int(id)])) for id in ids]
        return torch.stack(rows)

    def tensors(ids: Tensor) -> Tensor:
        return torch.stack([by_v2(pixels[int(id)]) for id in ids])

    def epoch(make: Callable[[Tensor], Tensor]) -> None:
        for ids in torch.randperm(count).split(BATCH):
            make(ids)

    makers = {OURS: ours, "torchvision, PIL": pil, "torchvision, v2": tensors}
    sides = {who: partial(measured, partial(epoch, make)) for who, make in makers.items()}
    for side in sides.values():
        side()
    head("µs an image")
    costs = interleaved(repeated(sides), range(3 if chosen.quick else chosen.turns))
    each = {who: [Cost(c.wall, c.cpu, 1e6 * c.wall / count) for c in found] for who, found in costs.items()}
    tell(f"{count:,} images", each, lambda shown: f"{statistics.median(shown):.1f}")


if __name__ == "__main__":
    main()
