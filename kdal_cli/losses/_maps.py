"""Where feature terms look: pairs of maps, one of the student and one of the teacher, by module path.

B batch, c channels, h w pixels of a map.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.types import Output, Places


def pairs(
    student: Output, teacher: Output, layers: Places, teacher_layers: Sequence[str] | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Maps (B, c, h, w) of the student with those of the teacher that they are compared with.

    teacher_layers: as many paths as `layers`; None for the same paths. Raises UserError when the numbers differ.
    """
    theirs = layers if teacher_layers is None else teacher_layers
    if len(layers) != len(theirs):
        raise UserError(f"teacher_layers={list(theirs)}", cure=f"as many paths as layers={list(layers)}")
    return [(student.maps[s], teacher.maps[t]) for s, t in zip(layers, theirs, strict=True)]


def same_size(one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps at the smaller of the two sizes of each axis, by average pooling."""
    h, w = min(one.shape[2], two.shape[2]), min(one.shape[3], two.shape[3])
    return pooled(one, h, w), pooled(two, h, w)


def pooled(x: Tensor, h: int, w: int) -> Tensor:
    """(B, c, H, W) -> (B, c, h, w) by average pooling; itself where the size is that already."""
    return x if x.shape[2:] == (h, w) else F.adaptive_avg_pool2d(x, (h, w))
