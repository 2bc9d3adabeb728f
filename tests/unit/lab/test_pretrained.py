"""What has seen the images without labels is kept by what decides it, and by nothing else."""

from dataclasses import replace

import pytest
import torch

import kdal_cli.methods
from kdal_cli.compose.loss import LossPlan
from kdal_cli.compose.terms import plan_term
from kdal_cli.dataset import Labels
from kdal_cli.images.augment import Augment
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.pretrained import WEIGHTS, Pretraining
from kdal_cli.records.kept import kept
from kdal_cli.training.recipe import Recipe

SECTION = {"name": "simclr", "hidden": 8, "dimensions": 6, "tau": 0.5}


@pytest.fixture
def plan(tmp_path, images, student) -> Pretraining:
    term = plan_term("method", {**SECTION, "on": "pool"}, 1.0, [], package=kdal_cli.methods)
    method = LossPlan(0.0, 1.0, 0.0, {"simclr": term}, images.shape)
    recipe = Recipe(steps=4, pool_batch=16, lr=0.01, checks=1, optimizer="adamw", augment=Augment(kind="photo"))
    return Pretraining("simclr", SECTION, method, student, recipe, store=tmp_path / "pretrained")


def relabelled(lab: Lab) -> Lab:
    train = lab.data.train
    other = replace(train, labels=Labels.complete(train.labels.all().flip(0)))
    return replace(lab, data=replace(lab.data, train=other))


def test_labels_and_the_seed_of_the_run_change_nothing_and_the_rest_does(plan, bench) -> None:
    lab = bench()
    folder = plan.folder(lab)
    assert plan.folder(relabelled(bench("labels"))) == folder
    assert plan.folder(bench("seed", seed=3)) == folder
    others = [replace(plan, seed=1), replace(plan, recipe=replace(plan.recipe, lr=0.02))]
    others += [replace(plan, section={**SECTION, "tau": 0.2})]
    assert len({folder, *(other.folder(lab) for other in others), plan.folder(bench("few", pool=60))}) == 5


def test_it_is_trained_once_whoever_asks_and_again_where_it_is_damaged(plan, bench, tmp_path) -> None:
    assert not plan.stored(bench())
    folder = plan.find(bench())
    weights = (folder / WEIGHTS).read_bytes()
    assert plan.stored(bench())
    assert plan.find(relabelled(bench("other", seed=5))) == folder
    (folder / WEIGHTS).write_bytes(weights[:50])
    (folder / WEIGHTS).with_suffix(".json").unlink()
    assert plan.find(bench("again", seed=7)) == folder
    assert (folder / WEIGHTS).read_bytes() == weights, "the same bits, whatever the seed of the run"
    assert [(one.kind, one.path) for one in kept(tmp_path / "pretrained")] == [("pretrained", folder)]


def test_without_labels_to_measure_by_it_learns_all_the_same(plan, bench) -> None:
    lab = bench()
    nobody = replace(lab.data.train, labels=Labels(96, torch.arange(0), torch.arange(0)))
    blind = replace(lab, data=replace(lab.data, train=nobody))
    assert plan.find(blind) == plan.folder(lab)
    assert "val_accuracy" not in (plan.folder(lab) / "metrics.jsonl").read_text()
