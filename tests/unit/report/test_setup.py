"""What a reviewer asks, from configurations as they lie in manifests."""

import dataclasses

from run_folders import run_folder, study

from kdal_cli.report.setup import SEVERAL, setup


def test_groups_settings_and_seeds_are_told_once_each(tmp_path) -> None:
    for seed in (0, 3):
        for sampler in ("random", "margin"):
            run_folder(tmp_path, [0.1, 0.2], seed=seed, sampler=sampler)
    found = study(tmp_path)
    more = {
        "data.split.pool": 500,
        "data.split.teacher": None,
        "data.augment.flip": False,
        "recipe.lr": 0.003,
        "recipe.gamma": 1,
    }
    records = [dataclasses.replace(r, settings={**r.settings, **more}) for r in found.records]
    told = dict(setup(dataclasses.replace(found, records=records)))
    assert told["data"] == "digits split.pool=500"
    assert set(told["sampler"].split("; ")) == {"random", "margin"}
    assert told["recipe"] == "lr=0.003"
    assert told["seeds"] == "0, 3"
    assert "teacher" not in told


def test_of_many_kinds_some_are_told(tmp_path) -> None:
    for n in range(SEVERAL + 2):
        run_folder(tmp_path, [0.1, 0.2], sampler=f"s{n}")
    assert dict(setup(study(tmp_path)))["sampler"].endswith("s3; 2 more")


def test_a_teacher_that_nobody_asked_is_none(tmp_path) -> None:
    run_folder(tmp_path, [0.1, 0.2])
    found = study(tmp_path)

    def told(answers: float) -> str:
        rounds = [{**row, "teacher_answers": answers, "teacher_labels": 0} for row in found.records[0].rounds]
        record = dataclasses.replace(found.records[0], rounds=rounds, choices={"teacher": "resnet8"})
        return dict(setup(dataclasses.replace(found, records=[record])))["teacher"]

    assert (told(0), told(5)) == ("none", "resnet8")
