"""A test set of images that nobody knows the labels of: asked about first, once, and measured on as far as named."""

from dataclasses import replace

import pytest
import torch

from kdal_cli.data.blobs import blobs
from kdal_cli.dataset import Labels
from kdal_cli.errors import UserError, Waiting
from kdal_cli.lab.asking import answered, examined
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.oracle import Answer, NotYet, Occasion
from kdal_cli.types import Unwatched

TRUTH = blobs(Unwatched()).train.labels.all()
ASKED = torch.tensor([3, 8, 11, 40])


@pytest.fixture
def lab(bench):
    """A bench whose training images have no label, and whose test images are four of them."""
    lab = bench()
    unknown = torch.empty(0, dtype=torch.int64)
    train = replace(lab.data.train, labels=Labels(len(lab.data.train), unknown, unknown))
    return lab.measured_on(replace(lab.data, train=train).tested_on(ASKED))


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger.open(tmp_path / "ledger.jsonl")


class People:
    """They know the truth but for some images, and remember what they were asked."""

    def __init__(self, *unknown: int) -> None:
        self.unknown, self.asked = unknown, []

    def __call__(self, ids, occasion=None) -> Answer:
        self.asked.append((ids.tolist(), occasion))
        named = ~torch.isin(ids, torch.tensor(self.unknown, dtype=torch.int64))
        undecided = {place: "cannot tell" for place, known in enumerate(named.tolist()) if not known}
        return Answer(TRUTH[ids[named]], torch.ones(len(ids)), "anna", undecided)


def test_it_is_measured_on_the_copies_of_those_that_were_named(lab, ledger) -> None:
    people = People(8)
    after = examined(lab, ledger, people)
    assert people.asked == [(ASKED.tolist(), Occasion(0, "test"))]
    named = torch.tensor([3, 11, 40])
    assert torch.equal(after.data.test.labels.all(), TRUTH[named])
    assert torch.equal(after.data.test.pixels, lab.data.train.pixels[named])
    assert torch.equal(after.test.whole(torch.arange(3)).cpu(), lab.train.whole(named).cpu())
    assert ledger.cost() == 4


def test_nobody_is_asked_again(lab, ledger) -> None:
    examined(lab, ledger, People())
    people = People()
    again = examined(lab, Ledger.open(ledger.path), people)
    assert people.asked == []
    assert torch.equal(again.data.test.labels.all(), TRUTH[ASKED])


def test_the_run_waits_for_them(lab, ledger) -> None:
    with pytest.raises(Waiting, match="waiting for 4 labels"):
        examined(lab, ledger, lambda ids, occasion: NotYet(len(ids), "answer"))


def test_where_nobody_can_name_one_there_is_nothing_to_measure_on(lab, ledger) -> None:
    with pytest.raises(UserError, match="no test image has a label yet"):
        examined(lab, ledger, People(*ASKED.tolist()))


def test_data_with_a_test_set_of_their_own_stay_as_they_are(bench, ledger) -> None:
    lab, people = bench(), People()
    assert examined(lab, ledger, people) is lab
    assert answered(lab.data, ledger) is lab.data
    assert people.asked == []
