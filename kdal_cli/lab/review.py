"""Labels that a student contradicts: what it makes of each image when it is not told that image's label."""

import warnings

import numpy as np
import torch
from torch import Tensor

from kdal_cli.inference.predict import predict
from kdal_cli.lab.lab import Lab
from kdal_cli.labels.suspects import suspects
from kdal_cli.network import Network

FOLDS = 5


def contradicted(lab: Lab, network: Network, ids: Tensor, labels: Tensor) -> Tensor:
    """(S,) ids of labelled images (M,) whose label is likely to be wrong, the worst first.

    The student has learnt these labels, the wrong ones too; so classifiers on its features answer about each image,
    learnt from four fifths of the labels that are not its own.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    features = predict(network, lab.train, ids).features.double().cpu().numpy()  # (M, D)
    truth, probs = labels.numpy(), torch.zeros(len(ids), len(lab.data.classes), dtype=torch.float64)
    fold = torch.randperm(len(ids), generator=lab.streams.at("review")).numpy() % FOLDS
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one that has not converged yet, which is told nobody
        for held in range(FOLDS):
            learnt, asked = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
            if not len(asked) or len(set(truth[learnt])) < 2:
                continue
            scaler = StandardScaler().fit(features[learnt])
            model = LogisticRegression(max_iter=200).fit(scaler.transform(features[learnt]), truth[learnt])
            told = torch.from_numpy(model.predict_proba(scaler.transform(features[asked])))
            probs[np.ix_(asked, model.classes_)] = told
    return ids[suspects(labels, probs)]
