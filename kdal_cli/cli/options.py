"""What Hydra lists as the options of a group: in its help, its completion, its errors and for `glob(*)`."""

from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.object_type import ObjectType


class FileConfigSource(file_config_source.FileConfigSource):
    """Files, without the parts that options are made of: `_base.yaml` is no option of its own."""

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return [name for name in super().list(config_path, results_filter) if not name.startswith("_")]


def hide_parts() -> None:
    """Have Hydra read files through this source; one of the same name as its own is not replaced again."""
    SourcesRegistry.instance().types["file"] = FileConfigSource
