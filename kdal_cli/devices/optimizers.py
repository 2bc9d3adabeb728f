"""torch's optimizers without `torch._dynamo`.

torch wraps the methods of its optimizers so that `torch.compile` leaves them alone, and each wrapper imports
`torch._dynamo` when it is first called: 2 to 3 CPU seconds of every training. Only networks are compiled here, so the
wrappers have nothing to tell. These classes call the same methods without them: same arithmetic, same bytes.
"""

import inspect
from typing import TypeVar

import torch
from torch.optim import Optimizer

Kind = TypeVar("Kind", bound=Optimizer)

_WRAPPED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def _unwrapped(kind: type[Kind]) -> type[Kind]:
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in _WRAPPED}
    step = torch.no_grad()(inspect.unwrap(kind.step))  # the wrapper of `step` switches gradients off as well
    return type(kind.__name__, (kind,), {**methods, "step": step})  # pyright: ignore[reportReturnType]


SGD = _unwrapped(torch.optim.SGD)
AdamW = _unwrapped(torch.optim.AdamW)
