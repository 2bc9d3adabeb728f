"""The simple models: identities and hand-computed answers, and the laws that each of them keeps."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier

from kdal_cli.baselines.knn import Knn
from kdal_cli.baselines.logistic import FEWEST, Logistic
from kdal_cli.baselines.probe import PENALTIES, Probe
from kdal_cli.baselines.tree import Tree

ALL = pytest.mark.parametrize("model", [Logistic(), Knn(), Tree(), Probe()], ids=lambda model: type(model).__name__)
EYE = np.eye(3)


def images(m: int = 60, noise: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(vectors (m, 4), labels (m,)) of three classes around corners."""
    rng = np.random.default_rng(seed)
    labels = np.arange(m) % 3
    return np.eye(4)[labels] + noise * rng.standard_normal((m, 4)), labels


@ALL
def test_what_is_far_apart_is_learnt(model) -> None:
    x, labels = images(noise=0.05)
    assert (model.learn(x, EYE[labels])(x) == labels).all()


@ALL
def test_a_class_that_was_never_bought_is_never_answered(model) -> None:
    x, labels = images()
    kept = labels != 1
    assert set(model.learn(x[kept], EYE[labels[kept]])(x)) <= {0, 2}


@ALL
def test_two_labels_are_enough_and_the_same_twice(model) -> None:
    x, labels = images(2)
    answers = [model.learn(x, EYE[labels])(images(50)[0]) for _ in range(2)]
    assert (answers[0] == answers[1]).all()


@ALL
def test_a_teacher_that_is_right_where_labels_are_wrong_is_believed(model) -> None:
    x, labels = images(90, noise=0.1)
    wrong = np.where(np.arange(90) % 5 == 0, (labels + 1) % 3, labels)
    soft = 0.3 * EYE[wrong] + 0.7 * EYE[labels]
    assert (model.learn(x, soft)(x) == labels).mean() > 0.97


@ALL
def test_a_hundred_images_of_noise_are_learnt_without_a_word(model) -> None:
    rng = np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(rng.standard_normal((100, 300)) * 1e3, EYE[rng.integers(3, size=100)])


def test_logistic_regression_on_labels_is_scikit_learns() -> None:
    x, labels = images()
    theirs = LogisticRegression(C=10).fit(x, labels)
    assert (Logistic().learn(x, EYE[labels])(x) == theirs.predict(x)).all()


def test_logistic_regression_on_shares_is_the_same_as_on_images_that_come_as_often() -> None:
    x = np.array([[0.0, 1.0], [1.0, 0.0], [0.4, 0.5]])
    shares = np.array([[1.0, 0.0], [0.0, 1.0], [0.75, 0.25]])
    grid = np.random.default_rng(0).random((200, 2))
    often = LogisticRegression(C=10 / 4).fit(x[[0] * 4 + [1] * 4 + [2] * 4], [0] * 4 + [1] * 4 + [0, 0, 0, 1])
    assert (Logistic().learn(x, shares)(grid) == often.predict(grid)).mean() > 0.99


def test_logistic_regression_takes_fewer_steps_where_a_step_is_much(monkeypatch) -> None:
    seen = []
    fit = LogisticRegression.fit
    monkeypatch.setattr("kdal_cli.baselines.logistic.WORK", 1.0)
    monkeypatch.setattr(
        LogisticRegression, "fit", lambda self, *a, **k: (seen.append(self.max_iter), fit(self, *a, **k))[1]
    )
    x, labels = images()
    Logistic().learn(x, EYE[labels])
    assert seen == [FEWEST]


def test_shares_that_are_all_but_one_class_are_that_class() -> None:
    answer = Logistic().learn(np.eye(4), np.tile([0.999, 0.001, 0.0], (4, 1)))
    assert answer(np.eye(4)).tolist() == [0, 0, 0, 0]


def test_the_nearest_of_three_wins_where_all_three_differ() -> None:
    x = np.array([[0.0], [1.0], [2.0], [3.0], [100.0], [101.0], [102.0], [103.0]])
    answer = Knn().learn(x, EYE[[0, 1, 2, 0, 1, 1, 1, 1]])
    assert answer(np.array([[1.1], [101.5]]))[1] == 1


def test_neighbours_are_as_many_as_serve_the_labelled_images_best() -> None:
    """One wrong label among many: of one neighbour its two neighbours are wrong, of three none is."""
    x = np.arange(12.0)[:, None]
    labels = np.zeros(12, int)
    labels[5] = 1
    assert Knn().learn(x, EYE[labels])(np.array([[5.1]])).tolist() == [0]


def test_a_tree_on_labels_is_scikit_learns_with_gini() -> None:
    x, labels = images(200)
    theirs = DecisionTreeClassifier(random_state=0).fit(x, labels)
    fresh = images(500, seed=7)[0]
    assert (Tree().learn(x, EYE[labels])(fresh) == theirs.predict(fresh)).mean() > 0.97  # of equal splits either


def test_a_probe_is_the_ridge_with_the_least_error_left_out() -> None:
    x, labels = images(40)
    targets = EYE[labels]

    def left_out(penalty: float) -> float:
        rest = [np.arange(40) != i for i in range(40)]
        return sum(((Ridge(penalty).fit(x[r], targets[r]).predict(x[~r]) - targets[~r]) ** 2).sum() for r in rest)

    best = Ridge(min(PENALTIES, key=left_out)).fit(x, targets)
    fresh = images(300, seed=3)[0]
    assert (Probe().learn(x, targets)(fresh) == best.predict(fresh).argmax(1)).all()
