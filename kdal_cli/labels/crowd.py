"""What several annotators say of the same images: what is true by all of them and by a model, and whom to believe.

CROWDLAB (Goh, Tkachenko, Mueller 2022, arXiv:2210.06812) and ActiveLab (Goh, Mueller 2023, arXiv:2301.11856).

M images that are answered, N others, A annotators, C classes. answers: (M, A) int64, ABSENT where somebody was not
asked; each image has an answer. probs: (M, C) float64 of a model that has not learnt from the image that it answers
about.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

ABSENT = -1
LEAST = 1e-6
"""No weight and no error is held for less."""

TINY = 1e-30
COARSE = (0.1, 0.2, 0.5, 0.8, 1.0, 2.0, 3.0, 5.0, 8.0)
FINE = 4
"""Temperatures that are tried, and how many between two of them."""


@dataclass(frozen=True)
class Crowd:
    """What is believed.

    labels: (M,) int64 the consensus. quality: (M,) the probability that it is right. annotators: (A,) how good each
    annotator is, from 0 to 1. model_weight, weights (A,): how much the model and each annotator count. temperature: of
    the model's probabilities, by which they fit the answers best.
    """

    labels: Tensor
    quality: Tensor
    annotators: Tensor
    model_weight: float
    weights: Tensor
    temperature: float


def counts(answers: Tensor, classes: int) -> Tensor:
    """(M, C) how many annotators named each class."""
    named = torch.zeros(len(answers), classes, dtype=torch.int64)
    return named.scatter_add_(1, answers.clamp(min=0), (answers != ABSENT).long())


def majority(answers: Tensor, probs: Tensor) -> Tensor:
    """(M,) what most annotators say; of a tie what the model holds for likelier, then the first class."""
    named = counts(answers, probs.shape[1])
    tied = named == named.max(1, keepdim=True).values
    return torch.where(tied, probs, -1.0).argmax(1)


def crowdlab(answers: Tensor, probs: Tensor, *, calibrate: bool = False) -> Crowd:
    """The consensus of annotators and a model, each weighed by how much better it is than always the commonest class.

    Annotators are judged by how often others agree with them, the model by how often it is right about the majority,
    both on images that several have answered. Where no image has two answers nothing can be judged, and all weigh 1.
    calibrate: whether the model's probabilities are put to the temperature at which they fit the answers best.
    """
    if not bool(((answers != ABSENT).sum(1) > 1).any()):
        labels = majority(answers, probs)
        ones = torch.ones(answers.shape[1], dtype=torch.float64)
        return Crowd(labels, _of(probs, labels), ones, 1.0, ones, 1.0)
    warmth = temperature(answers, probs) if calibrate else 1.0
    probs = scaled(probs, warmth) if calibrate else probs
    labels, (posterior, _, _) = majority(answers, probs), _weighed(answers, probs, majority(answers, probs))
    best = posterior == posterior.max(1, keepdim=True).values
    labels = torch.where(best.sum(1) == 1, posterior.argmax(1), labels)
    posterior, model_weight, weights = _weighed(answers, probs, labels)
    quality = _annotators(answers, posterior, labels, model_weight, weights)
    return Crowd(labels, _of(posterior, labels), quality, model_weight, weights, warmth)


def activelab(answers: Tensor, probs: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """How sure the label of each image is, (M,) of those answered and (N,) of the others: the least is asked next.

    others: (N, C) probabilities of images that nobody has answered. The quality of the consensus, averaged with 1/C for
    the answer that would come next: an image with many answers gains little by one more. Both are on one scale.
    """
    crowd, chance = crowdlab(answers, probs, calibrate=True), 1 / probs.shape[1]
    next_weight = float(crowd.weights.mean())
    weight = ((answers != ABSENT) * crowd.weights).sum(1) + crowd.model_weight  # (M,)
    again = (crowd.quality * weight + chance * next_weight) / (weight + next_weight)
    sure = scaled(others, crowd.temperature).max(1).values  # (N,)
    return again, (sure * crowd.model_weight + chance * next_weight) / (crowd.model_weight + next_weight)


def temperature(answers: Tensor, probs: Tensor) -> float:
    """At which probabilities have the least cross-entropy to what the annotators say, of a coarse and a fine search."""
    named = counts(answers, probs.shape[1]).double()
    shares = named / named.sum(1, keepdim=True)  # (M, C)

    def loss(t: float) -> float:
        warm = (probs.log() / t).softmax(1).clamp(min=TINY)
        return float(-(shares * warm.log()).sum(1).mean())

    best = COARSE.index(min(COARSE, key=loss))
    tried: list[float] = []
    if best > 0:
        tried += [COARSE[best - 1] + (COARSE[best] - COARSE[best - 1]) * i / FINE for i in range(FINE)]
    if best + 1 < len(COARSE):
        tried += [COARSE[best] + (COARSE[best + 1] - COARSE[best]) * i / FINE for i in range(FINE + 1)]
    return min(tried, key=loss)


def scaled(probs: Tensor, temperature: float) -> Tensor:
    """Probabilities (n, C) at another temperature; above 1 they are less sure."""
    return (probs.clamp(min=TINY).log() / temperature).softmax(1)


def _weighed(answers: Tensor, probs: Tensor, labels: Tensor) -> tuple[Tensor, float, Tensor]:
    """(probabilities (M, C) by model and annotators, weight of the model, weights (A,)), where `labels` (M,) hold."""
    asked = answers != ABSENT
    many = asked.sum(1)  # (M,)
    several, classes = many > 1, probs.shape[1]
    agree = ((answers == labels[:, None]) & asked).sum(1).double() / many
    likely = float(agree[several].double().mean())  # that an annotator names the consensus
    truth = labels[several]
    commonest = truth.bincount(minlength=classes).argmax()
    chance = max(float((truth != commonest).double().mean()), LEAST)  # error of always the commonest
    weights = (1 - (1 - _agreement(answers, classes)) / chance).clamp(min=LEAST)  # (A,)
    error = float((probs[several].argmax(1) != truth).double().mean())
    model_weight = max(1 - error / chance, LEAST) * float(many.double().mean()) ** 0.5
    unlikely = (1 - likely) / (classes - 1)
    total = (asked * weights).sum(1)  # (M,)
    by_class = torch.zeros_like(probs).scatter_add_(1, answers.clamp(min=0), asked * weights)  # (M, C)
    posterior = probs * model_weight + by_class * likely + (total[:, None] - by_class) * unlikely
    return posterior / (total + model_weight)[:, None], model_weight, weights


def _agreement(answers: Tensor, classes: int) -> Tensor:
    """(A,) how often other annotators of the same images say the same; of one who shared none, the mean of the rest."""
    asked = answers != ABSENT
    others = asked * (asked.sum(1, keepdim=True) - 1)  # (M, A)
    same = counts(answers, classes).gather(1, answers.clamp(min=0)) - 1  # (M, A)
    pairs = others.sum(0).double()
    agreement = (same * asked).sum(0) / pairs  # nan of nobody
    return torch.where(pairs > 0, agreement, agreement[pairs > 0].mean())


def _annotators(answers: Tensor, posterior: Tensor, labels: Tensor, model_weight: float, weights: Tensor) -> Tensor:
    """(A,) how likely an annotator's answers are right: by the posterior, and by the consensus where there are others.

    Of one who shared no image with anybody, by the posterior alone.
    """
    asked = answers != ABSENT
    several = asked.sum(1) > 1
    own = (posterior.gather(1, answers.clamp(min=0)) * asked).sum(0) / asked.sum(0)
    shared = (asked & several[:, None]).sum(0)
    agree = ((answers == labels[:, None]) & asked & several[:, None]).sum(0).double() / shared
    theirs = float(weights.sum()) * float(asked.sum(1).double().mean()) / len(weights)
    share = model_weight / (model_weight + theirs)
    return torch.where(shared > 0, share * own + (1 - share) * agree, own)


def _of(probs: Tensor, labels: Tensor) -> Tensor:
    """(M,) the probability of each label."""
    return probs.gather(1, labels[:, None])[:, 0]
