"""What Hydra and OmegaConf refuse, in one line of ours."""

import re
import shlex
from collections.abc import Sequence
from typing import Any

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from kdal_cli.cli.conf import conf_folder
from kdal_cli.cli.paths import quoted
from kdal_cli.errors import KdalError, UserError, nearest

HYDRA = ("hydra", "hydra_plugins", "omegaconf", "antlr4", "yaml", "logging")
"""Packages that read what was typed; whatever they raise is about that."""


def raised_by_hydra(error: Exception) -> bool:
    """Whether an error comes from what Hydra was given. The error of a job, which its sweep raises anew, does not."""
    if getattr(error, "told", False) or isinstance(error, KdalError):
        return False
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    module = last.tb_frame.f_globals.get("__name__", "") if last is not None else ""
    return (
        isinstance(error, HydraException | OmegaConfBaseException | ValueError | OSError)
        or module.split(".")[0] in HYDRA
    )


KEYS = "letters, digits and _, with points between: recipe.steps=400"
"""What keys look like."""


def refusal(stage: str, error: Exception, words: Sequence[str]) -> UserError:
    """What Hydra or OmegaConf says, in one line, with the nearest name that would have been accepted."""
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        cure = "choose another hydra.run.dir"
        return UserError(f"cannot write: {error.strerror}", where=error.filename, cure=cure)
    text = str(error) or str(error.__cause__ or "")
    if isinstance(error, OverrideParseException):
        return unreadable(error.override, text)
    if found := re.search(r"Could not find '([^']+)/([^'/]*)'", text):
        group, option = found.groups()
        options = re.search(r"Available options in '[^']*':\n((?:\t.*\n?)*)", text)
        known = options.group(1).split() if options else []
        return UserError(f"{group}={option}", where=f"no such option of {group}", cure=nearest(option, known))
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found.group(1).split("@")[0]
        return UserError(f"{key}", where=f"kdal {stage} has no such key", cure=nearest(key, _keys(stage)))
    if found := re.search(r"Could not append to config\. An item is already at '([^']+)'", text):
        return UserError(f"+{found.group(1)} is there already", cure=f"write {found.group(1)}=… without the plus")
    if "Ambiguous value for argument" in text:
        return UserError(f"several values without a sweep: {text.split(chr(39))[1]}", cure="sweep over them with -m")
    if "Config group override must be" in text:
        return UserError(
            f"not an option of a group: {' '.join(words)}", cure="a group takes the name of one of its options"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return UserError(lines[0] if lines else type(error).__name__, cure=f"see kdal {stage} --help")


def unreadable(word: str, reason: str) -> UserError:
    """A word that is no `key=value` of Hydra's: the character that it stumbles over, and the quotes that help."""
    key, equals, value = word.partition("=")
    if not equals:
        return UserError(f"{word!r} is not key=value", cure="for example sampler=margin")
    if strange := re.search(r"[^\w.@/:$+~-]|[^\x00-\x7f]|^$", key):
        return UserError(f"{word!r}: no key has this name", where=f"character {strange.group()!r}", cure=KEYS)
    as_text = f"as a text it needs two pairs of quotes: {typeable(key, value)}"
    if found := re.search(r"Unknown function '(\w+)'\s*Available: (\S+)", reason):
        name, known = found.groups()
        return UserError(word, where=f"no function {name}", cure=f"{nearest(name, known.split(','))}; {as_text}")
    return UserError(f"{word} cannot be read", where=f"character {_culprit(value, reason)!r}", cure=as_text)


def typeable(key: str, value: str) -> str:
    """`key=value` as it is typed into a shell when the value is a text, whatever is in it."""
    if "'" not in value:
        return f"'{key}={quoted(value, chr(34))}'"
    return f'"{key}={quoted(value)}"' if not re.search(r'["$`\\!]', value) else shlex.quote(f"{key}={quoted(value)}")


def _culprit(value: str, reason: str) -> str:
    """The first character that no unquoted value has, or else the one at which the grammar gave up."""
    if strange := re.search(r"[^\w\s/\\+.$%*@?|()\[\]{},:=-]|[^\x00-\x7f]|[\n\r\v\f]", value):
        return strange.group()
    stopped = re.search(r"input '(.*)'", reason)
    text = stopped.group(1) if stopped else value
    return next((character for character in (*text, *value) if character in "()[]{},:="), text[:1])


def _keys(stage: str) -> list[str]:
    """Every dotted key of a stage's default configuration, and its groups."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose(stage)

    def walk(node: Any, path: str) -> list[str]:
        if not isinstance(node, DictConfig):
            return [path]
        below = [walk(node._get_node(key), f"{path}.{key}".lstrip(".")) for key in node]
        return [*([path] if path else []), *(key for keys in below for key in keys)]

    return walk(config, "")
