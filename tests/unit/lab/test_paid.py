"""What a finished run had labels of is all that is done later with its student may see."""

import json

import pytest
import torch

from kdal_cli.errors import UserError
from kdal_cli.lab.paid import paid, write_down
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.oracles.simulated import simulated
from kdal_cli.types import Examples


def manifest(folder, lab, stage: str, **config) -> None:
    folder.mkdir(exist_ok=True)
    about = {"data_sha256": lab.fingerprint, "stage": stage, "config": config}
    (folder / "manifest.json").write_text(json.dumps(about))


def test_of_active_learning_what_was_bought_then_the_rest_of_the_pool(bench, tmp_path, images) -> None:
    lab, folder = bench(), tmp_path / "before"
    manifest(folder, lab, "al-loop")
    ledger, oracle = Ledger.open(folder / "ledger.jsonl"), simulated(images.train.labels, 3)
    ledger.buy(0, torch.arange(80, 96), torch.zeros(16), oracle, "validation")
    ledger.buy(0, torch.tensor([7, 3]), torch.zeros(2), oracle)
    found = paid(folder, lab)
    assert found.labelled_ids.tolist() == [7, 3]
    assert found.labels.tolist() == images.train.labels.of(torch.tensor([7, 3])).tolist()
    assert sorted(found.ids.tolist()) == list(range(80))


def test_of_a_distillation_the_labels_that_its_seed_drew(bench, tmp_path) -> None:
    lab, folder = bench(), tmp_path / "before"
    drawn = []
    for seed in (0, 0, 1):
        manifest(folder, lab, "distill", labels=5, seed=seed)
        drawn.append(paid(folder, lab).labelled_ids.tolist())
    assert len(drawn[0]) == 5
    assert drawn[0] == drawn[1] != drawn[2]


def test_of_a_compressed_student_what_it_wrote_down(bench, tmp_path) -> None:
    lab = bench("before")
    manifest(tmp_path / "before", lab, "compress")
    write_down(Examples(torch.tensor([4, 2, 9]), torch.tensor([1, 0])), lab)
    found = paid(tmp_path / "before", lab)
    assert (found.labelled_ids.tolist(), found.labels.tolist(), len(found.ids)) == ([4, 2], [1, 0], 80)


@pytest.mark.parametrize(
    "rows",
    [
        {},
        {"ids": [1], "labels": []},
        {"ids": [1, 1], "labels": [0, 0]},
        {"ids": [-1], "labels": [0]},
        {"ids": [1], "labels": [3]},
        {"ids": [85], "labels": [0]},  # a validation image
        {"ids": "1", "labels": "0"},
        {"ids": [True], "labels": [0]},
    ],
)
def test_what_cannot_be_is_refused(bench, tmp_path, rows) -> None:
    lab = bench("before")
    manifest(tmp_path / "before", lab, "compress")
    (tmp_path / "before" / "labelled.json").write_text(json.dumps(rows))
    with pytest.raises(UserError):
        paid(tmp_path / "before", lab)


def test_a_run_of_other_images_or_without_a_network_is_refused(bench, tmp_path) -> None:
    lab, folder = bench(), tmp_path / "before"
    manifest(folder, lab, "evaluate")
    with pytest.raises(UserError, match="trained no network"):
        paid(folder, lab)
    (folder / "manifest.json").write_text(json.dumps({"data_sha256": "0", "stage": "al-loop"}))
    with pytest.raises(UserError, match="other images"):
        paid(folder, lab)
