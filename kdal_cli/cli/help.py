"""`kdal <stage> --help`, read from the configuration files themselves: groups, options, defaults and their comments.

Standard library only, so that it answers at once. Hydra composes the same files; `--cfg job` shows its result.
"""

import re
import textwrap
from pathlib import Path

TEMPLATE = """\
{title}

usage: kdal {stage} [group=option ...] [key=value ...] [-m] [--cfg job --resolve] [--info defaults] [--config-dir DIR]

groups, with the default in brackets
{groups}

defaults
{defaults}

Set a value with key=value (recipe.steps=400), choose an option with group=option, sweep with -m key=a,b.
Paths are seen from the folder you are in. Results land in outputs/{stage}/<date>_<time>/.
"""


def stage_help(conf: Path, stage: str) -> str:
    """The help of a stage, from the folder of configuration files."""
    primary, base = (
        (conf / f"{stage}.yaml").read_text(encoding="utf-8"),
        (conf / "base.yaml").read_text(encoding="utf-8"),
    )
    chosen = choices(base) | choices(primary)
    chosen |= _chosen_besides(conf, chosen)
    groups = sorted(folder.name for folder in conf.iterdir() if folder.is_dir())
    title = primary.splitlines()[0].removeprefix("# ")
    settings = [*_body(base), *_body(primary)]
    told = {(group, option) for group, option in chosen.items()}
    sections = [_section(conf, group, option, told) for group, option in chosen.items() if option != "null"]
    return TEMPLATE.format(
        title=title,
        stage=stage,
        groups="\n".join(_group(conf, group, chosen.get(group)) for group in groups),
        defaults="\n".join(["  " + line for line in settings] + sections),
    )


def choices(text: str) -> dict[str, str]:
    """{group: option} of a defaults list; `group@package` keeps its package."""
    found = re.findall(r"^ +- (?:override +)?(?!hydra/)/?([\w/@.]+): +(\w+)", text, re.MULTILINE)
    return dict(found)


def _chosen_besides(conf: Path, chosen: dict[str, str]) -> dict[str, str]:
    """What the chosen options choose in other groups."""
    files = [
        conf / group / f"{option}.yaml" for group, option in chosen.items() if option != "null" and "@" not in group
    ]
    texts = [file.read_text(encoding="utf-8") for file in files]
    return dict(
        found for text in texts for found in re.findall(r"^ +- override /(\w+)@_global_\.\1: (\w+)$", text, re.M)
    )


def options(conf: Path, group: str) -> list[str]:
    return sorted(path.stem for path in (conf / group).glob("*.yaml") if not path.name.startswith("_"))


def _group(conf: Path, group: str, default: str | None) -> str:
    listed = ", ".join(f"[{option}]" if option == default else option for option in options(conf, group))
    return textwrap.fill(listed, 116, initial_indent=f"  {group:<12}", subsequent_indent=" " * 14)


def _section(conf: Path, group: str, option: str, told: set[tuple[str, str]]) -> str:
    """A default option: what its file says it is, and its keys, those of what it builds on where that is not `told`."""
    name, _, package = group.partition("@")
    path = conf / name / f"{option}.yaml"
    text = path.read_text(encoding="utf-8")
    comment = next((line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")), "")
    parents = [f"all of {'='.join(parent)}" for parent in _parents(text, name) if parent in told]
    base = conf / name / "_base.yaml"
    own = [*_body(base.read_text(encoding="utf-8")), *_body(text)] if base.exists() else _body(text)
    for parent in _parents(text, name):
        if parent not in told:
            told.add(parent)
            own = [*_besides(_body((conf / f"{'/'.join(parent)}.yaml").read_text(encoding="utf-8")), own), *own]
    lines = [f"{package or name}.{line}" if line[:1].isalpha() or line[:1] == '"' else line for line in own]
    return "\n".join([f"  {group}={option}    # {comment}", *(f"    {line}" for line in [*parents, *lines])])


def _parents(text: str, group: str) -> list[tuple[str, str]]:
    """(group, option) of what a file builds on."""
    found = re.findall(r"^ +- (?:/(\w+)@\w+: )?(\w+)$", text, re.MULTILINE)
    return [(other or group, option) for other, option in found if option not in ("_self_", "_base")]


def _besides(lines: list[str], own: list[str]) -> list[str]:
    """Lines of another file, without the keys that `own` lines set."""
    keys, kept, skipping = {line.partition(":")[0] for line in own}, [], False
    for line in lines:
        skipping = line.partition(":")[0] in keys if not line.startswith(" ") else skipping
        kept += [] if skipping else [line]
    return kept


def _body(text: str) -> list[str]:
    """The lines of a file that set values: no comments of its head, no defaults list, nothing of Hydra's."""
    lines: list[str] = []
    skipping = False
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith(" "):
            skipping = line.startswith(("defaults:", "hydra:", "name:"))
        if not skipping:
            lines.append(line)
    return lines
