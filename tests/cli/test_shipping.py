"""`kdal predict` and `kdal export` as they are typed, on the shared run of `kdal distill`."""

import csv
import json
import resource
from pathlib import Path

import numpy as np
import pytest
from cli.harness import Ended, Kdal
from PIL import Image


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images and two files that are none."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for n in range(60):
        Image.fromarray(rng.integers(0, 256, (12, 10), dtype=np.uint8)).save(folder / f"{n:02d}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "=notes.txt").write_text("no image")
    return folder


@pytest.fixture
def kdal(tmp_path: Path) -> Kdal:
    return Kdal(tmp_path)


@pytest.fixture(scope="module")
def run(distill: Ended) -> str:
    return str(distill.run.path)


def answers(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_says_that_it_is_calibrated(distill) -> None:
    assert "calibrated: temperature" in distill.out
    assert (distill.run.path / "reject.png").read_bytes()[:4] == b"\x89PNG"


def test_a_folder_is_answered_and_what_is_broken_is_named(kdal, run, photos, tmp_path) -> None:
    ended = kdal("predict", run, str(photos), "--out", "out", "--sort", "sorted", "--top", "2")
    assert (ended.code, ended.err) == (0, "")
    rows = answers(tmp_path / "out" / "answers.csv")
    assert [Path(row["path"]).name for row in rows] == [f"{n:02d}.png" for n in range(60)]
    assert list(rows[0]) == ["path", "class", "probability", "entropy", "unsure", "class_2", "probability_2"]
    assert all(0 < float(row["probability_2"]) <= float(row["probability"]) <= 1 for row in rows)
    assert f"left out: {photos}/broken.png" in ended.out
    assert len(answers(tmp_path / "out" / "broken.csv")) == 2
    links = list((tmp_path / "sorted").rglob("*.png"))
    assert len(links) == 60
    assert all(path.is_symlink() and path.resolve().parent == photos.resolve() for path in links)
    by_class = {path.name: path.parent.name for path in links}
    assert all(by_class[Path(row["path"]).name] in (row["class"], "unsure") for row in rows)


def test_json_lines_and_a_threshold_of_ones_own(kdal, run, photos, tmp_path) -> None:
    words = ("--jsonl", "--out", "out", "--at", "0.000001", "--sets", "0.9")
    ended = kdal("predict", run, str(photos / "*1.png"), *words)
    assert (ended.code, ended.err) == (0, "")
    rows = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    assert not any(row["unsure"] for row in rows)
    assert all(row["set"].split("|")[0] == row["class"] and row["set_size"] >= 1 for row in rows)
    assert "sets: at least 0.9 of them hold the true class" in ended.out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["nowhere", "."], "no such checkpoint"),
        (["RUN", "nothing.png"], "nothing.png is not there"),
        (["RUN", "empty"], "there is no file to look at"),
        (["RUN", "broken"], "none of 30 files can be read"),
        (["RUN", "PHOTOS", "--top", "0"], "--top 0"),
        (["RUN", "PHOTOS", "--at", "1.5"], "--at 1.5"),
        (["RUN", "PHOTOS", "--sets", "0.99"], "--sets 0.99: accepted: above 0, up to 0.9846 (64 validation images"),
        (["RUN", "PHOTOS", "--sort", "broken"], "--sort takes a new or an empty one"),
        (["RUN", "PHOTOS", "--out", "taken/file"], "cannot write here"),
        (["RUN", "PHOTOS", "--device", "tpu"], "device=tpu"),
        (["model.pt2", "PHOTOS"], "torch.export is not read"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_and_leaves_nothing(kdal, run, photos, tmp_path, words, named) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    for n in range(30):
        (tmp_path / "broken" / f"{n}.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (tmp_path / "taken").write_text("a file")
    ended = kdal("predict", *(word.replace("RUN", run).replace("PHOTOS", str(photos)) for word in words))
    assert ended.code == 2
    assert named in ended.refusal
    assert not [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()]


def short_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


def test_where_the_disk_is_full_there_is_no_half_file(kdal, run, photos, tmp_path) -> None:
    ended = kdal("predict", run, str(photos), first=short_files)
    assert ended.code == 3
    assert "File too large" in ended.refusal
    assert not [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()]


def test_the_program_of_torch_export_is_measured_as_it_is_shipped(kdal, run, tmp_path) -> None:
    ended = kdal("export", run, "format=torch", "threads=1", "license=cc0-1.0", "--out", "files")
    assert (ended.code, ended.err) == (0, "")
    first, program = json.loads((tmp_path / "files" / "export.json").read_text())["files"]
    assert program["agreement"] == 1
    assert program["test_accuracy"] == first["test_accuracy"]
    assert program["mb"] == pytest.approx((tmp_path / "files" / "model.pt2").stat().st_size / 1e6)
    card = (tmp_path / "files" / "README.md").read_text()
    assert card.startswith('---\nlicense: "cc0-1.0"\n')
    assert "measured with 1 thread," in ended.out


@pytest.mark.slow
def test_onnx_and_int8_answer_what_the_run_answers(kdal, run, photos, tmp_path) -> None:
    pytest.importorskip("onnxscript")
    ended = kdal("export", run, "format=[onnx,int8]", "threads=1", "max_drop=1", "--out", "files")
    assert (ended.code, ended.err) == (0, "")
    for model in (run, "files/model.onnx", "files/model.int8.onnx"):
        assert kdal("predict", model, str(photos), "--out", Path(model).name).code == 0
    ours, theirs = (answers(tmp_path / name / "answers.csv") for name in (Path(run).name, "model.onnx"))
    assert [row["class"] for row in ours] == [row["class"] for row in theirs]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["format=tflite"], "format[0]=tflite: accepted: onnx, int8, hub, torch"),
        (["max_drop=2"], "max_drop=2"),
        (["formt=onnx"], "did you mean 'format'"),
        (["onnx"], "kdal export"),
        (["format=torch", "--out", "taken/there"], "cannot write here"),
    ],
)
def test_what_cannot_be_exported_is_one_line(kdal, run, tmp_path, words, named) -> None:
    (tmp_path / "taken").write_text("a file")
    ended = kdal("export", run, *words)
    assert ended.code == 2
    assert named in ended.refusal


def test_new_images_are_compared_with_those_of_the_run(kdal, run, photos, tmp_path) -> None:
    ended = kdal("watch", run, str(photos), "--out", "out", "--ask", "7")
    assert (ended.code, ended.err) == (0, "")
    assert "60 images, 2 files that cannot be read" in ended.out
    assert "these are other images than the student was made for" in ended.out
    rows = answers(tmp_path / "out" / "ask.csv")
    assert len(rows) == 7
    assert [row["label"] for row in rows] == [""] * 7
    entropies = [float(row["entropy"]) for row in rows]
    assert entropies == sorted(entropies, reverse=True)


def test_a_run_is_calibrated_on_the_labels_that_it_bought_and_on_no_others(kdal: Kdal) -> None:
    ended = kdal("al-loop", "experiment=smoke", "teacher=none", "loss=none", "oracle.noise=0.5", "budget.rounds=1")
    assert (ended.code, ended.err) == (0, "")
    card = json.loads((ended.run.path / "checkpoints" / "round_001.json").read_text())
    _, share, accuracy = card["calibration"]["curve"][0]
    assert share == 1
    assert accuracy == pytest.approx(float(ended.run.table()[-1]["val_accuracy"]))


@pytest.mark.parametrize(("sizes", "seen"), [([(40, 30), (30, 40)], 16), ([(16, 16)], 12)])
def test_photos_of_any_proportions_are_answered_watched_and_exported(kdal: Kdal, tmp_path: Path, sizes, seen) -> None:
    rng = np.random.default_rng(0)
    for n in range(48):
        place = tmp_path / "its (photos)" / ("test" if n % 3 == 0 else "train") / "ab"[n % 2]
        place.mkdir(parents=True, exist_ok=True)
        grey = rng.integers(120 * (n % 2), 120 * (n % 2) + 120, (*sizes[n % len(sizes)], 3), dtype=np.uint8)
        Image.fromarray(grey).save(place / f"{n}.png")
    words = (
        "data=photos",
        "data.root=its (photos)",
        f"data.size={seen}",
        "loss=none",
        "budget.initial=6",
        "budget.query=6",
    )
    run = kdal("al-loop", "experiment=smoke", *words, "budget.rounds=1", "teacher=none", "hydra.run.dir=run")
    assert (run.code, run.err) == (0, "")
    test = float(run.run.table()[-1]["test_accuracy"])
    assert kdal("predict", "run", "its (photos)/test", "--out", "told").code == 0
    told = answers(tmp_path / "told" / "answers.csv")
    right = sum(Path(row["path"]).parent.name == row["class"] for row in told) / len(told)
    assert right == pytest.approx(test, abs=0.13)  # resized once instead of twice: two of sixteen may differ
    assert kdal("watch", "run", "its (photos)/test", "--out", "seen").code == 0
    exported = kdal("export", "run", "format=torch")
    assert (exported.code, exported.err) == (0, "")
    assert json.loads((tmp_path / "run" / "export" / "export.json").read_text())
