"""The samplers of other projects, called on the arrays of benchmarks/samplers.py. None of their code is kept here.

`folder` holds the clones distil (decile-team/distil), badge (JordanAsh/badge) and TypiClust (avihu111/TypiClust), and
site-packages with scikit-activeml, small-text, baal, faiss-cpu, pandas and what these import; whatever is missing is
left out. Of clones, functions and classes are run as they stand, without what else their files import.
"""

import ast
import functools
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState
from torch import Generator, Tensor
from torch.utils.data import Subset

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import shuffled

Peer = Callable[[Evidence, int], Any]
"""Rows of the pool that it chooses, k of them."""


def peers(folder: Path | None) -> dict[str, dict[str, Peer]]:
    """{sampler: {peer: how it chooses}}, of those that are in the folder."""
    if folder is None:
        return {}
    sys.path.append(str(folder / "site-packages"))
    found = {}
    for sampler, ways in WAYS.items():
        there = {peer: way for peer, way in ways.items() if (folder / PLACES[peer]).exists()}
        found[sampler] = {peer: functools.partial(way, folder) for peer, way in there.items()}
    return found


def borrowed(path: Path, *names: str, **known: Any) -> SimpleNamespace:
    """Functions and classes of a file, given the names that they use."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    wanted: list[ast.stmt] = [node for node in tree.body if isinstance(node, kinds) and node.name in names]
    space = {"np": np, "torch": torch, "Strategy": object, "print": lambda *words, **how: None, **known}
    exec(compile(ast.Module(wanted, []), str(path), "exec"), space)
    return SimpleNamespace(**{name: space[name] for name in names})


def without_init(kind: type, **attributes: Any) -> Any:
    strategy = object.__new__(kind)
    strategy.__dict__.update(attributes)
    return strategy


class Fed(RandomState):
    """Uniform numbers that ours are drawn from as well."""

    def __init__(self, rng: Generator) -> None:
        super().__init__(0)
        self.rng = rng

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return torch.rand(1 if size is None else size, generator=self.rng, dtype=torch.float64).numpy()


def fed(evidence: Evidence) -> tuple[Tensor, SimpleNamespace]:
    """(the order of the pool in which ours runs through it, scipy.stats that draws what ours draws after that)."""
    from scipy import stats

    rng = torch.Generator().manual_seed(0)
    order = shuffled(evidence.ids, rng)
    return order, SimpleNamespace(rv_discrete=functools.partial(stats.rv_discrete, seed=Fed(rng)))


# DISTIL.


def distil_score(name: str, folder: Path, evidence: Evidence, k: int) -> Any:
    files = folder / "distil" / "distil" / "active_learning_strategies"
    stream = borrowed(files / "score_streaming_strategy.py", "merge", "ScoreStreamingStrategy", Subset=Subset)
    base = {"ScoreStreamingStrategy": stream.ScoreStreamingStrategy}
    kind = getattr(borrowed(files / f"{name.lower()}_sampling.py", f"{name}Sampling", **base), f"{name}Sampling")
    strategy = without_init(kind, model=torch.nn.Identity(), unlabeled_dataset=evidence.ids, stream_buffer_size=10_000)
    strategy.predict_prob = lambda some: evidence.logits[some.indices].softmax(1)
    return strategy.select(k)


def distil_coreset(folder: Path, evidence: Evidence, k: int) -> Any:
    path = folder / "distil" / "distil" / "active_learning_strategies" / "core_set.py"
    strategy = without_init(borrowed(path, "CoreSet").CoreSet, device="cpu")
    return strategy.furthest_first(evidence.features, evidence.labelled_features, k)


def distil_badge(folder: Path, evidence: Evidence, k: int) -> Any:
    order, stats = fed(evidence)
    path = folder / "distil" / "distil" / "active_learning_strategies" / "badge.py"
    probs = evidence.logits[order].softmax(1)  # (N, C)
    residuals = probs - torch.nn.functional.one_hot(probs.argmax(1), probs.shape[1])
    gradients = (residuals[:, :, None] * evidence.features[order][:, None]).flatten(1)  # (N, C·D)
    theirs = borrowed(path, "init_centers", nn=torch.nn, stats=stats)
    return order[theirs.init_centers(gradients.numpy(), k, "cpu")]


# The authors of BADGE.


def authors_badge(folder: Path, evidence: Evidence, k: int) -> Any:
    order, stats = fed(evidence)
    path = folder / "badge" / "query_strategies" / "badge_sampling.py"
    theirs = borrowed(path, "distance", "init_centers", "BadgeSampling", stats=stats)
    answers = evidence.features[order], evidence.logits[order].softmax(1)
    strategy = without_init(
        theirs.BadgeSampling,
        n_pool=len(order),
        idxs_lb=np.zeros(len(order), bool),
        X=order,
        Y=order,
        get_embedding=lambda *images, return_probs: answers,
    )
    return order[strategy.query(k)]


def authors_coreset(folder: Path, evidence: Evidence, k: int) -> Any:
    from sklearn.metrics import pairwise_distances

    path = folder / "badge" / "query_strategies" / "core_set.py"
    strategy = without_init(borrowed(path, "CoreSet", pairwise_distances=pairwise_distances).CoreSet)
    return strategy.furthest_first(evidence.features.numpy(), evidence.labelled_features.numpy(), k)


# TypiClust.


def authors_typiclust(folder: Path, evidence: Evidence, k: int) -> Any:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    faiss, pandas = importlib.import_module("faiss"), importlib.import_module("pandas")
    points = torch.cat(evidence.in_space("features"))
    points /= points.norm(dim=1, keepdim=True)  # as what they load from files is
    theirs = borrowed(
        folder / "TypiClust" / "deep-al" / "pycls" / "al" / "typiclust.py",
        *("get_nn", "get_mean_nn_dist", "calculate_typicality", "kmeans", "TypiClust"),
        pd=pandas,
        KMeans=KMeans,
        MiniBatchKMeans=MiniBatchKMeans,
        faiss=SimpleNamespace(IndexFlatL2=faiss.IndexFlatL2, index_cpu_to_all_gpus=lambda index: index),
        ds_utils=SimpleNamespace(load_features=lambda *names: points.numpy()),
    )
    labelled, unlabelled = np.arange(len(evidence), len(points)), np.arange(len(evidence))
    settings = {"DATASET": {"NAME": ""}, "RNG_SEED": 0}
    return theirs.TypiClust(settings, labelled, unlabelled, k).select_samples()[0]


# Installed packages.


def skactiveml(name: str, asks: bool, folder: Path, evidence: Evidence, k: int) -> Any:
    """`asks`: it asks the classifier, which answers what our scorer does."""
    base, pool = importlib.import_module("skactiveml.base"), importlib.import_module("skactiveml.pool")

    class Head(base.SkactivemlClassifier):
        def fit(self, *data: Any) -> Any:
            return self

        def predict_proba(self, x: Any) -> Any:
            return evidence.classify(torch.as_tensor(x, dtype=torch.float32)).softmax(1).numpy()

        def predict(self, x: Any) -> Any:
            return self.predict_proba(x).argmax(1)

    features = torch.cat(evidence.in_space("features")).numpy()
    labels = np.concatenate([np.full(len(evidence), np.nan), evidence.labels.numpy()])
    how = {"clf": Head(classes=list(range(evidence.classes))), "fit_clf": False} if asks else {}
    return getattr(pool, name)(random_state=0).query(features, labels, batch_size=k, **how)


def small_text(name: str, folder: Path, evidence: Evidence, k: int) -> Any:
    theirs = getattr(importlib.import_module("small_text.query_strategies"), name)()
    scorer = SimpleNamespace(predict_proba=lambda dataset: evidence.logits.softmax(1).numpy())
    return theirs.query(scorer, evidence, np.arange(len(evidence)), None, None, n=k)


def small_text_coreset(folder: Path, evidence: Evidence, k: int) -> Any:
    theirs = importlib.import_module("small_text.query_strategies.coresets")
    points, n = torch.cat(evidence.in_space("features")).numpy(), len(evidence)
    return theirs.greedy_coreset(points, np.arange(n), np.arange(n, len(points)), k, distance_metric="euclidean")


def baal(name: str, draws: int, folder: Path, evidence: Evidence, k: int) -> Any:
    theirs = importlib.import_module("baal.active.heuristics")
    if not draws:
        return getattr(theirs, name)()(evidence.logits.softmax(1).numpy())[:k]
    answers = evidence.draws(draws, torch.Generator().manual_seed(0))
    stacked = torch.stack([logits.softmax(1) for logits in answers], 2)  # (N, C, K)
    return getattr(theirs, name)()(stacked.numpy())[:k]


PLACES = {
    "DISTIL": "distil",
    "JordanAsh/badge": "badge",
    "TypiClust": "TypiClust",
    "scikit-activeml": "site-packages/skactiveml",
    "small-text": "site-packages/small_text",
    "baal": "site-packages/baal",
}

WAYS: Mapping[str, Mapping[str, Callable[[Path, Evidence, int], Any]]] = {
    "entropy": {
        "baal": functools.partial(baal, "Entropy", 0),
        "small-text": functools.partial(small_text, "PredictionEntropy"),
        "DISTIL": functools.partial(distil_score, "Entropy"),
    },
    "margin": {
        "baal": functools.partial(baal, "Margin", 0),
        "small-text": functools.partial(small_text, "BreakingTies"),
        "DISTIL": functools.partial(distil_score, "Margin"),
    },
    "least_confidence": {
        "baal": functools.partial(baal, "Certainty", 0),
        "small-text": functools.partial(small_text, "LeastConfidence"),
    },
    "bald": {"baal": functools.partial(baal, "BALD", 10)},
    "coreset": {
        "DISTIL": distil_coreset,
        "JordanAsh/badge": authors_coreset,
        "scikit-activeml": functools.partial(skactiveml, "CoreSet", False),
        "small-text": small_text_coreset,
    },
    "badge": {
        "JordanAsh/badge": authors_badge,
        "DISTIL": distil_badge,
        "scikit-activeml": functools.partial(skactiveml, "Badge", True),
    },
    "badge:sequential": {"JordanAsh/badge": authors_badge, "DISTIL": distil_badge},
    "typiclust": {
        "TypiClust": authors_typiclust,
        "scikit-activeml": functools.partial(skactiveml, "TypiClust", False),
    },
    "falcun": {"scikit-activeml": functools.partial(skactiveml, "Falcun", True)},
    "dropquery": {"scikit-activeml": functools.partial(skactiveml, "DropQuery", True)},
}
