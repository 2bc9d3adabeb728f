"""What a student makes of images when it is not told their labels: classifiers on its features, learnt from the others.

M labelled images, N others, C classes, D features.
"""

import warnings

import numpy as np
import torch
from torch import Generator, Tensor

FOLDS = 5


def held_out(
    features: Tensor, labels: Tensor, classes: int, rng: Generator, others: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(probabilities (M, C) of labelled images, (N, C) of `others`), float64, by logistic regression.

    features: (M, D); labels: (M,); others: (N, D). A labelled image is answered by what was learnt from four fifths of
    the labels that are not its own, the others by the mean of all five. All classes alike where nothing can be learnt.
    Each answer is one of float32: finer ones hang on where a row lies in a matrix, and equal images are to be equal.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    own, truth = features.double().cpu().numpy(), labels.cpu().numpy()
    rest = others.double().cpu().numpy() if others is not None else own[:0]
    probs = torch.full((len(own), classes), 1 / classes, dtype=torch.float64)
    answered: list[Tensor] = []
    fold = torch.randperm(len(own), generator=rng).numpy() % FOLDS
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one that has not converged yet, which is told nobody
        for held in range(FOLDS):
            learnt, asked = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
            if not len(asked) or len(set(truth[learnt])) < 2:
                continue
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(own[learnt], truth[learnt])
            told = torch.zeros(len(asked) + len(rest), classes, dtype=torch.float64)
            likely = model.predict_proba(np.concatenate([own[asked], rest])).astype(np.float32)
            told[:, model.classes_] = torch.from_numpy(likely).double()
            probs[asked] = told[: len(asked)]
            answered.append(told[len(asked) :])
    uniform = torch.full((len(rest), classes), 1 / classes, dtype=torch.float64)
    return probs, torch.stack(answered).mean(0) if answered else uniform
