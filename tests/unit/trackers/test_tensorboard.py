"""TensorBoard's files, read back by TensorBoard."""

from pathlib import Path

import pytest

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kdal_cli.trackers.tensorboard import OPEN, tensorboard

Points = list[tuple[int, float]]


def scalars(folder: Path) -> dict[str, dict[str, Points]]:
    """{training: {name: [(step, value)]}}"""
    found: dict[str, dict[str, Points]] = {}
    for path in sorted((folder / "tensorboard").iterdir()):
        events = EventAccumulator(str(path)).Reload()
        tags = events.Tags()["scalars"]
        found[path.name] = {tag: [(e.step, pytest.approx(e.value)) for e in events.Scalars(tag)] for tag in tags}
    return found


def test_every_figure_is_read_back_at_its_step_in_the_training_it_belongs_to(tmp_path: Path) -> None:
    events = tensorboard(tmp_path, {"seed": 3})
    events.figures({"loss": 1.5, "lr": 0.1}, 10, "round_0")
    events.figures({"loss": 0.5, "lr": 0.0}, 20, "round_0")
    events.figures({"test_accuracy": 0.9}, 60, "curve")
    events.close("done")
    assert scalars(tmp_path) == {
        "config": {},
        "round_0": {"loss": [(10, 1.5), (20, 0.5)], "lr": [(10, 0.1), (20, 0.0)]},
        "curve": {"test_accuracy": [(60, 0.9)]},
    }


def test_a_figure_is_on_disk_at_once(tmp_path: Path) -> None:
    events = tensorboard(tmp_path, {})
    for step in (10, 20):
        events.figures({"loss": 1.5}, step, "round_0")
        assert scalars(tmp_path)["round_0"]["loss"][-1] == (step, 1.5)
    events.close("done")


def test_a_run_that_goes_on_adds_to_what_is_there(tmp_path: Path) -> None:
    for step in (20, 40):
        events = tensorboard(tmp_path, {})
        events.figures({"test_accuracy": step / 100}, step, "curve")
        events.close("stopped")
    assert scalars(tmp_path)["curve"] == {"test_accuracy": [(20, 0.2), (40, 0.4)]}


def test_of_many_trainings_all_are_kept_and_few_files_are_open(tmp_path: Path) -> None:
    events = tensorboard(tmp_path, {})
    for round in range(3 * OPEN):
        events.figures({"loss": 1.0}, 5, f"round_{round}")
        events.figures({"test_accuracy": 0.5}, 20 * round, "curve")
        assert len(events._writers) <= OPEN
    events.close("done")
    found = scalars(tmp_path)
    assert all(found[f"round_{round}"] == {"loss": [(5, 1.0)]} for round in range(3 * OPEN))
    assert [step for step, _ in found["curve"]["test_accuracy"]] == [20 * round for round in range(3 * OPEN)]
    assert len(list((tmp_path / "tensorboard" / "curve").iterdir())) == 1


def test_the_configuration_is_a_text(tmp_path: Path) -> None:
    tensorboard(tmp_path, {"recipe": {"lr": 0.125}}).close("done")
    events = EventAccumulator(str(tmp_path / "tensorboard" / "config")).Reload()
    [text] = events.Tensors("config/text_summary")
    assert '"lr": 0.125' in text.tensor_proto.string_val[0].decode()
