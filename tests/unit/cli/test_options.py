"""Parts that options are made of are read, and listed nowhere."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from kdal_cli.cli.options import hide_parts


def test_a_part_composes_and_is_no_option(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "_base.yaml").write_text("noise: 0\n")
    (tmp_path / "data" / "blobs.yaml").write_text("defaults: [_base, _self_]\nname: blobs\n")
    (tmp_path / "main.yaml").write_text("defaults: [data: blobs]\n")
    GlobalHydra.instance().clear()
    hide_parts()
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert GlobalHydra.instance().config_loader().get_group_options("data") == ["blobs"]
        assert compose("main").data == {"noise": 0, "name": "blobs"}
