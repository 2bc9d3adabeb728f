"""Why a student does not fit its labels: the true reason, and no reason where there is none."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from kdal_cli.inference.evidence import Evidence, Meter
from kdal_cli.inference.predict import predict
from kdal_cli.lab.checkup import as_trained, complaints, examine, tie
from kdal_cli.lab.lab import Lab
from kdal_cli.network import Network
from kdal_cli.training.job import Fitted
from kdal_cli.types import Query

IDS = torch.arange(40)


@pytest.fixture
def lab(bench) -> Lab:
    return bench()


def training(network: Network, lab: Lab, ids: Tensor, rule: str = "until.ceiling") -> Fitted:
    """What is asked of a training that ended with a network: the labels that it has fitted, and what ended it."""
    right = predict(network, lab.train, ids).logits.argmax(1) == lab.data.train.labels.all()[ids]
    share = float(right.float().mean()) if len(ids) else 0.0
    return Fitted(1, 1, ids, share, 1, 1.0, 0.0, "fp32", {}, None, None, rule=rule)


def complained(lab: Lab, network: Network, ids: Tensor = IDS) -> list[str]:
    logits, test = predict(network, lab.train, ids).logits, lab.test_output(network).logits
    truth = lab.data.train.labels.all()[ids]
    return list(complaints(lab, network, ids, truth, logits, test, training(network, lab, ids)))


def table(lab: Lab, answers: Callable[[Tensor], Tensor]) -> Network:
    """A network that knows images and answers them as told."""

    class Known(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(3, 3, bias=False)
            nn.init.eye_(self.last.weight)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(answers(x))

    return Network(Known(), lab.data.mean, lab.data.std)


def nearest_class(lab: Lab) -> Callable[[Tensor], Tensor]:
    """Logits of the class whose mean image is nearest, which blobs are told apart by."""
    x = (lab.data.train.pixels.float() / 255 - lab.data.mean[0]) / lab.data.std[0]
    means = torch.stack([x[lab.data.train.labels.all() == c].mean(0) for c in range(3)])
    return lambda images: -torch.cdist(images.flatten(1), means.flatten(1)).square()


def test_a_network_that_fits_its_labels_is_left_in_peace(lab: Lab) -> None:
    assert complained(lab, table(lab, nearest_class(lab))) == []


def test_one_that_learns_still_is_told_to_train_longer(lab: Lab, make_network) -> None:
    (line,) = complained(lab, make_network())
    assert line.startswith("fits only ")
    assert line.endswith("of its own labels; its scores say little: train longer (recipe.until.ceiling)")


def test_a_network_that_is_good_in_training_mode_is_not_told_to_train_longer(lab: Lab) -> None:
    """Statistics that never arrived: its answers are right, and then moved out of reach."""
    norm, last = nn.BatchNorm1d(3, affine=False), nn.Linear(3, 3, bias=False)
    nn.init.eye_(last.weight)
    norm.running_mean += torch.tensor([-1e4, 0.0, 1e4])
    body = table(lab, nearest_class(lab)).body
    network = Network(nn.Sequential(body, norm, last), lab.data.mean, lab.data.std)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    answers, fits = complained(lab, network)
    assert answers == f"answers every image with {lab.data.classes[0]}"
    assert "in training mode it is right on " in fits
    assert "not the length of the training" in fits
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_network_that_sees_nothing_of_an_image_is_said_to_be_dead(lab: Lab) -> None:
    answers, fits = complained(lab, table(lab, lambda x: torch.tensor([[0.0, 2.0, 1.0]]).repeat(len(x), 1)))
    assert answers == f"answers every image with {lab.data.classes[1]}"
    assert fits.endswith("it answers every image alike, as one whose units are all dead: lower recipe.lr")


def test_a_network_without_an_opinion_is_said_to_have_none(lab: Lab) -> None:
    right = nearest_class(lab)
    (fits,) = complained(lab, table(lab, lambda x: -1e-5 * right(x)))
    assert fits.endswith("every class is as likely for it: train longer (recipe.until.ceiling), or raise recipe.lr")


def test_where_all_labels_are_of_one_class_that_is_the_reason(lab: Lab) -> None:
    ids = IDS[lab.data.train.labels.all()[IDS] == 2]
    assert complained(lab, table(lab, lambda x: torch.tensor([[0.0, 0.0, 1.0]]).repeat(len(x), 1)), ids) == [
        f"answers every image with {lab.data.classes[2]}, the one class that it has labels of"
    ]


@pytest.mark.parametrize("count", [1, 2, 7, 251])
def test_training_mode_is_that_of_batches_of_more_than_one_and_answers_come_in_order(lab: Lab, count: int) -> None:
    network = Network(
        nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36, affine=False), nn.Linear(36, 3)), lab.data.mean, lab.data.std
    )
    ids = torch.arange(count) % len(lab.data.train)
    logits = as_trained(network, lab.train, ids)
    assert logits.shape == (count, 3)
    if 1 < count <= 250:
        expected = network.train()(lab.train.whole(ids)).logits
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_a_stage_says_whose_fault_it_is(lab: Lab, make_network, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(type(lab), "watcher", SimpleNamespace(say=said.append))
    network, truth = make_network(), lab.data.train.labels.all()
    examine(lab, network, "the teacher", IDS, truth[IDS], training(network, lab, IDS, "epochs"), "teacher.recipe")
    examine(lab, network, "the student", IDS[:0], truth[:0], training(network, lab, IDS[:0]))  # it has none to fit
    (line,) = said
    assert line.startswith("the teacher fits only ")
    assert line.endswith("train longer (teacher.recipe.epochs)")


# Queries.


class Scorer:
    """Answers by id, (N, C)."""

    def __init__(self, answers: Tensor) -> None:
        self.answers = answers

    def logits(self, ids: Tensor) -> Tensor:
        return self.answers[ids]


def pool(answers: Tensor, *, looked: bool = True) -> Evidence:
    none = torch.zeros(0, dtype=torch.int64)
    evidence = Evidence(torch.arange(len(answers)), none, none, 3, Scorer(answers), meter=Meter())  # type: ignore[arg-type]
    assert not looked or len(evidence.logits)
    return evidence


def query(*scores: float) -> Query:
    return Query(torch.arange(len(scores)), torch.tensor(scores))


def test_a_query_of_equal_scores_is_said_to_be_chance_and_why() -> None:
    same, told_apart = torch.ones(6, 3), torch.eye(3).repeat(2, 1)
    assert tie(pool(same), query(0.5, 0.5, 0.5)) == (
        "all 3 images of the query have one score, 0.5; which of equals is chance: "
        "the scorer answers every image of the pool alike"
    )
    assert (
        tie(pool(told_apart), query(0.5, 0.5))
        == "all 2 images of the query have one score, 0.5; which of equals is chance"
    )


def test_nothing_is_said_of_scores_that_differ_of_one_image_of_a_whole_pool_or_of_a_sampler_that_does_not_look() -> (
    None
):
    same = torch.ones(4, 3)
    assert tie(pool(same), query(0.5, 0.5, 0.4)) is None
    assert tie(pool(same), query(0.5)) is None
    assert tie(pool(same), query(0.5, 0.5, 0.5, 0.5)) is None
    assert tie(pool(same, looked=False), query(0.0, 0.0)) is None
