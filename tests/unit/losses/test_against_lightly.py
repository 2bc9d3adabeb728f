"""The losses of `kdal pretrain` beside those of lightly (pip install lightly), where that is installed."""

import warnings

import pytest
import torch
from torch import Tensor

from kdal_cli.losses.barlow_twins import barlow_twins_loss
from kdal_cli.losses.byol import byol_loss
from kdal_cli.losses.nt_xent import nt_xent_loss
from kdal_cli.methods.vicreg import vicreg_loss

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    theirs = pytest.importorskip("lightly.loss", reason="pip install lightly")

ONE, TWO = torch.randn(2, 48, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def agree(ours: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(ours.mean(), other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_simclr(tau: float) -> None:
    agree(nt_xent_loss(ONE, TWO, tau), theirs.NTXentLoss(temperature=tau)(ONE, TWO))


def test_barlow_twins() -> None:
    agree(barlow_twins_loss(ONE, TWO, 0.005), theirs.BarlowTwinsLoss(lambda_param=0.005)(ONE, TWO))


def test_vicreg() -> None:
    agree(vicreg_loss(ONE, TWO, 25.0, 25.0, 1.0), theirs.VICRegLoss()(ONE, TWO))


def test_byol_is_twice_one_plus_the_negative_cosine() -> None:
    agree(byol_loss(ONE, TWO), 2 + 2 * theirs.NegativeCosineSimilarity()(ONE, TWO))
