"""Several annotators of the same images: beside cleanlab, which comes from the authors of both papers."""

import numpy as np
import pytest
import torch

from kdal_cli.labels.crowd import ABSENT, activelab, crowdlab, majority, temperature


def crowd_of(seed: int, images: int, annotators: int, classes: int, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(answers, probs): annotators of growing error, each asked about a share of the images; an imperfect model."""
    rng = torch.Generator().manual_seed(seed)
    truth = torch.randint(classes, (images,), generator=rng)
    error = torch.linspace(0.05, 0.5, annotators)
    wrong = torch.rand(images, annotators, generator=rng) < error
    said = (truth[:, None] + wrong * torch.randint(1, classes, (images, annotators), generator=rng)) % classes
    asked = torch.rand(images, annotators, generator=rng) < share
    asked[torch.arange(images), torch.randint(annotators, (images,), generator=rng)] = True
    logits = torch.randn(images, classes, generator=rng, dtype=torch.float64)
    logits[torch.arange(images), truth] += 2
    return torch.where(asked, said, ABSENT), logits.softmax(1)


CROWDS = [(0, 60, 4, 3, 0.4), (1, 200, 7, 10, 0.2), (2, 25, 2, 2, 0.5), (3, 80, 5, 4, 0.0), (4, 40, 3, 5, 1.0)]


@pytest.mark.parametrize("crowd", CROWDS)
@pytest.mark.filterwarnings("ignore")
def test_scores_and_consensus_are_those_of_cleanlab(crowd, capsys, monkeypatch) -> None:
    """cleanlab 2.9.0 counts answers into the first classes where some are missing, as numbers beside NaN are floats to
    it; so its temperature is another one. Here it counts them where they belong."""
    from cleanlab.internal import multiannotator_utils
    from cleanlab.multiannotator import get_active_learning_scores, get_label_quality_multiannotator

    def counted(x: np.ndarray, num_classes: int) -> np.ndarray:
        return np.bincount(x.astype(int), minlength=num_classes)

    monkeypatch.setattr(multiannotator_utils, "value_counts", counted)
    answers, probs = crowd_of(*crowd)
    others = crowd_of(99, 50, 2, probs.shape[1], 1.0)[1]
    theirs = np.where(answers == ABSENT, np.nan, answers.numpy())
    again, new = get_active_learning_scores(theirs, probs.numpy(), others.numpy())
    ours = activelab(answers, probs, others)
    assert np.abs(ours[0].numpy() - again).max() < 1e-12
    assert np.abs(ours[1].numpy() - new).max() < 1e-12
    if not ((answers != ABSENT).sum(1) > 1).any():
        return
    found = get_label_quality_multiannotator(theirs, probs.numpy(), return_weights=True, verbose=False)
    mine = crowdlab(answers, probs)
    assert mine.labels.tolist() == found["label_quality"]["consensus_label"].tolist()
    assert np.abs(mine.quality.numpy() - found["label_quality"]["consensus_quality_score"]).max() < 1e-12
    assert np.abs(mine.weights.numpy() - found["annotator_weight"]).max() < 1e-12
    assert mine.model_weight == pytest.approx(found["model_weight"], abs=1e-12)
    by_annotator = found["annotator_stats"].sort_index()["annotator_quality"]
    assert np.nanmax(np.abs(mine.annotators.numpy() - by_annotator)) < 1e-12


def test_a_tie_is_for_the_likelier_class_and_a_majority_is_not_for_the_model() -> None:
    answers = torch.tensor([[0, 1, ABSENT], [2, 2, 0], [1, ABSENT, ABSENT]])
    probs = torch.tensor([[0.1, 0.3, 0.6], [0.9, 0.1, 0.0], [0.8, 0.1, 0.1]]).double()
    assert majority(answers, probs).tolist() == [1, 2, 1]


def test_a_disputed_label_of_an_unsure_image_is_asked_about_before_an_agreed_one() -> None:
    answers = torch.tensor([[0, 1], *[[0, 0]] * 6, *[[1, 1]] * 6, [1, ABSENT]])
    sure, unsure = torch.tensor([0.9, 0.1]).double(), torch.tensor([0.5, 0.5]).double()
    probs = torch.stack([unsure, *[sure] * 6, *[sure.flip(0)] * 7])
    again, new = activelab(answers, probs, torch.stack([unsure, sure]))
    assert int(again.argmin()) == 0
    assert new[0] < new[1]
    assert again[7] > again[13]  # two who agree are surer than one


def test_a_model_that_is_too_sure_is_cooled() -> None:
    answers, probs = crowd_of(5, 300, 3, 3, 0.5)
    sharp = (probs.log() * 4).softmax(1)
    assert temperature(answers, sharp) > 2 * temperature(answers, probs)
