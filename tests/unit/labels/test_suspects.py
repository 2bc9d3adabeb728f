"""Confident learning: what it finds in closed form, and how many of labels that were made wrong."""

import torch

from kdal_cli.labels.suspects import suspects


def test_a_label_is_suspected_where_another_class_is_as_likely_as_for_its_own_images() -> None:
    probs = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.95, 0.05]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 0, 1])
    # the mean of class 0 is (0.9 + 0.8 + 0.3) / 3 = 0.667, of class 1 (0.9 + 0.05) / 2 = 0.475
    assert suspects(labels, probs).tolist() == [4, 3]


def test_no_label_is_suspected_where_none_is_contradicted() -> None:
    assert suspects(torch.tensor([0, 1]), torch.eye(2, dtype=torch.float64)).tolist() == []


def test_a_class_without_a_label_is_believed_of_nothing() -> None:
    probs = torch.tensor([[0.4, 0.0, 0.6], [0.1, 0.9, 0.0]], dtype=torch.float64)
    assert suspects(torch.tensor([0, 1]), probs).tolist() == []


def test_labels_that_were_made_wrong_come_first() -> None:
    rng = torch.Generator().manual_seed(0)
    truth = torch.arange(600) % 3
    logits = 3 * torch.nn.functional.one_hot(truth, 3) + torch.randn(600, 3, generator=rng)
    labels = truth.clone()
    wrong = torch.randperm(600, generator=rng)[:60]
    labels[wrong] = (labels[wrong] + 1) % 3
    found = suspects(labels, logits.double().softmax(1))
    assert torch.isin(found[:30], wrong).float().mean() > 0.9
    assert torch.isin(wrong, found).float().mean() > 0.7
