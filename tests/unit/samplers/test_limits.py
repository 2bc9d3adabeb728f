"""A sampler that does not take so many candidates says so when it is tried on a few of them."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from kdal_cli.errors import UserError
from kdal_cli.samplers.bait import bait
from kdal_cli.samplers.glister import glister
from kdal_cli.samplers.probcover import probcover
from kdal_cli.samplers.subsample import subsample

LARGE = {
    bait: r"takes [\d,]+ candidates",
    glister: "takes 38,347,922 candidates",
    probcover: "takes 200,000 candidates",
}


@pytest.mark.parametrize("choose", LARGE)
def test_a_few_that_stand_for_too_many_are_refused_and_a_part_is_not(choose, make_pool, rng) -> None:
    generator = torch.Generator().manual_seed(1)
    pool = make_pool(torch.randn(16, 4, generator=generator), torch.randn(16, 10, generator=generator))
    assert len(choose(pool, 2, rng).rows) == 2
    many = replace(pool, stands_for=10**9)
    with pytest.raises(UserError, match=f"{choose.__name__}.*{LARGE[choose]}") as refused:
        choose(many, 2, rng)
    assert f"sampler=subsample sampler.of={choose.__name__}" in str(refused.value)
    assert len(partial(subsample, of=choose)(many, 2, rng).rows) == 2
