"""Simple models in a run: what they look at, what they learn from, and that they cost and change nothing."""

import numpy as np
import pytest
import torch

from kdal_cli.baselines.knn import Knn
from kdal_cli.baselines.logistic import Logistic
from kdal_cli.baselines.probe import Probe
from kdal_cli.baselines.tree import Tree
from kdal_cli.errors import UserError
from kdal_cli.lab import baselines as rules
from kdal_cli.lab.baselines import Baselines, column, small

IDS = torch.arange(30)


class Spy:
    """A model that keeps what it was given and answers class 0."""

    space, soft = "pixels", 0.0

    def __init__(self, space: str = "pixels", soft: float = 0.0) -> None:
        self.space, self.soft = space, soft

    def learn(self, vectors, targets):
        self.vectors, self.targets = vectors, targets
        return lambda seen: (setattr(self, "seen", seen), np.zeros(len(seen), int))[1]


def test_every_model_on_every_space_beats_guessing(bench, make_network, images, tmp_path) -> None:
    lab, network = bench(), make_network()
    np.save(tmp_path / "v.npy", images.train.pixels.flatten(1).numpy())
    np.save(tmp_path / "v_test.npy", images.test.pixels.flatten(1).numpy())
    spaces = ("pixels", "features", "teacher", str(tmp_path / "v.npy"))
    members = {
        column(str(n), m): m
        for n, m in enumerate(kind(space) for kind in (Logistic, Knn, Tree, Probe) for space in spaces)
    }
    row = Baselines(lab, members).measure(IDS, images.train.labels.all()[IDS], network, network)
    assert len(row) == 16
    assert all(accuracy > 0.6 for accuracy in row.values()), row


def test_vectors_are_centred_and_of_length_1_and_targets_are_the_labels(bench, make_network, images) -> None:
    spy = Spy()
    row = Baselines(bench(), {"spy": spy}).measure(IDS, images.train.labels.all()[IDS], make_network(), None)
    assert spy.vectors.mean(0) == pytest.approx(np.zeros(36), abs=1e-9)
    assert (spy.vectors**2).sum(1).mean() == pytest.approx(1)
    assert spy.targets.argmax(1).tolist() == images.train.labels.all()[IDS].tolist()
    assert row == {"spy_test_accuracy": pytest.approx(float((images.test.labels.all() == 0).float().mean()))}


def test_soft_targets_are_the_teachers_share_and_the_labels(bench, make_network, images) -> None:
    lab, teacher, spy = bench(), make_network(3), Spy(soft=0.25)
    labels = images.train.labels.all()[IDS]
    Baselines(lab, {"spy": spy}).measure(IDS, labels, make_network(), teacher)
    answer = teacher.eval()(lab.train.whole(IDS)).logits.softmax(1).detach()
    expected = 0.75 * torch.nn.functional.one_hot(labels, 3) + 0.25 * answer
    assert spy.targets == pytest.approx(expected.numpy(), abs=1e-5)
    assert Baselines(lab, {"spy": spy}).asks_teacher


def test_of_one_class_there_is_nothing_to_learn(bench, make_network, images) -> None:
    ids = (images.train.labels.all() == 2).nonzero().flatten()[:5]
    members = {"logistic": Logistic(), "knn": Knn(), "tree": Tree(), "probe": Probe()}
    row = Baselines(bench(), members).measure(ids, images.train.labels.all()[ids], make_network(), None)
    share = float((images.test.labels.all() == 2).float().mean())
    assert list(row.values()) == pytest.approx([share] * 4)


def test_the_same_figures_twice_and_with_more_threads(bench, make_network, images) -> None:
    members = {"logistic": Logistic(), "knn": Knn(), "tree": Tree(), "probe": Probe()}
    rows = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        rows.append(Baselines(bench(), members).measure(IDS, images.train.labels.all()[IDS], make_network(), None))
        torch.set_num_threads(before)
    assert rows[0] == rows[1]


def test_of_many_labels_a_part_that_is_evenly_spread(bench, make_network, images, monkeypatch) -> None:
    monkeypatch.setattr(rules, "LABELS", 4)
    spy = Spy()
    Baselines(bench(), {"spy": spy}).measure(IDS, images.train.labels.all()[IDS], make_network(), None)
    assert spy.targets.argmax(1).tolist() == images.train.labels.all()[[0, 10, 19, 29]].tolist()


def test_large_images_are_averaged_over_blocks_and_small_ones_kept() -> None:
    assert torch.equal(small(torch.full((2, 1, 4, 4), 255, dtype=torch.uint8)), torch.ones(2, 16))
    large = small(torch.full((3, 3, 200, 100), 51, dtype=torch.uint8))
    assert large.shape[1] <= rules.VALUES
    assert large.shape[1] > rules.VALUES / 2
    assert torch.allclose(large, torch.tensor(0.2))


@pytest.mark.parametrize(
    ("name", "model", "expected"),
    [
        ("logistic", Logistic(), "logistic"),
        ("probe", Probe(), "probe"),
        ("logistic", Logistic("features"), "logistic_features"),
        ("knn", Knn("vectors/clip.npy"), "knn_clip"),
        ("tree", Tree("teacher", 0.9), "tree_teacher_soft"),
        ("my.models:Forest", Spy(), "forest"),
    ],
)
def test_columns_tell_what_is_unusual(name, model, expected) -> None:
    assert column(name, model) == expected


@pytest.mark.parametrize("space", ["pixel", "probabilities", "here.txt"])
def test_a_space_that_is_none_is_refused_before_anything_is_spent(bench, space) -> None:
    with pytest.raises(UserError, match=f"space={space}"):
        Baselines(bench(), {"knn": Knn(space)})


def test_a_file_without_its_test_images_is_refused(bench, tmp_path, images) -> None:
    np.save(tmp_path / "v.npy", np.zeros((len(images.train), 3)))
    with pytest.raises(UserError, match="v_test"):
        Baselines(bench(), {"knn": Knn(str(tmp_path / "v.npy"))})
