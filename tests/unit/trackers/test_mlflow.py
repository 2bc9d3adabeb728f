"""MLflow's runs, read back by MLflow, from a database of its own."""

from pathlib import Path

import pytest

from kdal_cli.errors import UserError
from kdal_cli.trackers.mlflow import mlflow

SECRET = "http://me:hunter2@tracking.example"


def test_a_password_in_the_address_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="MLFLOW_TRACKING_PASSWORD") as refused:
        mlflow(tmp_path, {}, uri=SECRET)
    assert "hunter2" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")  # of the libraries that MLflow stands on
class TestInADatabase:
    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        pytest.importorskip("mlflow")
        return f"sqlite:///{tmp_path}/of/mlflow.db"

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "al-loop" / "today").mkdir(parents=True)
        return tmp_path / "al-loop" / "today"

    def history(self, uri: str, folder: Path, key: str) -> list[tuple[int, float]]:
        from mlflow import MlflowClient

        id = (folder / "mlflow.id").read_text()
        return [(metric.step, metric.value) for metric in MlflowClient(uri).get_metric_history(id, key)]

    def test_figures_and_configuration_are_read_back(self, uri: str, folder: Path) -> None:
        from mlflow import search_runs, set_tracking_uri

        entry = mlflow(folder, {"seed": 3, "recipe": {"lr": 0.1}}, uri=uri, experiment="mine")
        entry.figures({"loss": 1.5, "lr": 0.1}, 10, "round_0")
        entry.figures({"loss": 0.5}, 20, "round_0")
        entry.close("done")
        set_tracking_uri(uri)
        [run] = search_runs(experiment_names=["mine"], output_format="list")
        assert run.data.params == {"seed": "3", "recipe.lr": "0.1"}
        assert run.data.metrics == {"round_0/loss": 0.5, "round_0/lr": 0.1}
        assert (run.info.run_name, run.info.status) == ("al-loop/today", "FINISHED")
        assert self.history(uri, folder, "round_0/loss") == [(10, 1.5), (20, 0.5)]

    def test_a_run_that_goes_on_is_the_same_run(self, uri: str, folder: Path) -> None:
        from mlflow import MlflowClient

        for labels, state, status in ((20, "stopped", "KILLED"), (40, "failed", "FAILED"), (60, "done", "FINISHED")):
            entry = mlflow(folder, {"seed": 3}, uri=uri)
            assert MlflowClient(uri).get_run((folder / "mlflow.id").read_text()).info.status == "RUNNING"
            entry.figures({"test_accuracy": labels / 100}, labels, "curve")
            entry.close(state)
            assert MlflowClient(uri).get_run((folder / "mlflow.id").read_text()).info.status == status
        assert self.history(uri, folder, "curve/test_accuracy") == [(20, 0.2), (40, 0.4), (60, 0.6)]

    def test_more_parameters_than_go_into_one_call(self, uri: str, folder: Path) -> None:
        from mlflow import MlflowClient

        mlflow(folder, {f"key{n}": n for n in range(250)}, uri=uri).close("done")
        assert len(MlflowClient(uri).get_run((folder / "mlflow.id").read_text()).data.params) == 250
