"""Configurations of somebody else that would run code, made of parts: what would run, how spelled, how it comes in.

Each part is small and each goes with the others, so that the corpus grows by multiplication and not by imagination.
`evil.py` lies where Python finds it and leaves a mark whenever anything of it is imported.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "MARK"

EVIL = f"""
import logging, pathlib
pathlib.Path({MARK!r}).touch()
def run(*args, **keywords):
    return logging.NullHandler()
class Handler(logging.NullHandler):
    pass
"""

PAYLOADS = {
    "callback": ("callbacks", "{x: {_target_: evil.run}}"),
    "callback in a list": ("callbacks", "{x: {_target_: builtins.dict, y: [{_target_: evil.run}]}}"),
    "launcher": ("launcher", "{_target_: evil.run}"),
    "sweeper": ("sweeper", "{_target_: evil.run}"),
    "handler of a log": ("job_logging", "{handlers: {x: {class: evil.Handler}}, root: {handlers: [x]}}"),
    "factory of a log": ("hydra_logging", "{handlers: {x: {(): evil.run}}, root: {handlers: [x]}}"),
    "environment": ("job", "{env_set: {PYTHONSTARTUP: evil.py}}"),
    "options from elsewhere": ("searchpath", "[pkg://evil]"),
    "words of a sweep": ("sweeper", "{params: {hydra.callbacks.x: '{_target_: evil.run}'}}"),
    "trust": ("sweeper", "{params: {trust: '[evil]', +sampler: evil}}"),
}
"""{what runs: (the key below `hydra`, its value in one line of YAML)}"""

SPELLINGS = {
    "block": "hydra:\n  {key}: {value}\n",
    "flow": "{{hydra: {{{key}: {value}}}}}\n",
    "quoted": "'hydra': {{{key}: {value}}}\n",
    "double quoted": '"hydra": {{{key}: {value}}}\n',
    "escaped": '"\\x68ydra": {{{key}: {value}}}\n',
    "escaped wide": '"\\U00000068ydra": {{"{key}": {value}}}\n',
    "folded": '? "hyd\\\n  ra"\n: {{{key}: {value}}}\n',
    "spaced": "hydra   :   {{{key}: {value}}}\n",
    "explicit": "? hydra\n: {{{key}: {value}}}\n",
    "tagged": "!!str hydra: {{{key}: {value}}}\n",
    "tagged at length": "!<tag:yaml.org,2002:str> hydra: !!map {{{key}: {value}}}\n",
    "anchored": "&a hydra: &b {{{key}: {value}}}\n",
    "alias for a key": "seed: &k hydra\n*k : {{{key}: {value}}}\n",
    "merged": "<<: {{hydra: {{{key}: {value}}}}}\n",
    "merged below": "hydra: {{<<: {{{key}: {value}}}}}\n",
    "merged from a list": "<<: [{{hydra: {{{key}: {value}}}}}]\n",
    "document": "%YAML 1.1\n---\nhydra: {{{key}: {value}}}\n...\n",
    "carriage returns": "hydra:\r\n  {key}: {value}\r\n",
    "next line": "seed: 0\u0085hydra: {{{key}: {value}}}\n",
    "commented": "# a comment\n\n\n   # another\nhydra: # here\n  {key}: {value}\n",
}
"""{form: what a file says, for `key` and `value`}"""

PACKAGES = [
    "# @package hydra",
    " # @package hydra",
    "\t# @package hydra",
    "#@package hydra",
    "#   @package   hydra",
    "#\t@package hydra",
]
PACKAGES += ["# @package _global_.hydra", "\n\n# @other x\n# @package hydra"]
"""Heads of a file that put all of it into `hydra`."""

DEFAULTS = [
    "- /sampler@hydra.{key}: evil",
    "- /sampler@_global_.hydra.{key}: evil",
    "- /sampler/evil@hydra.{key}",
    "- {{/sampler@hydra.{key}: [evil]}}",
    "- '/sampler@hydra.{key}' : evil",
    "- optional /sampler@hydra.{key}: evil",
    "- /hydra/{key}: evil",
    "- override /hydra/{key}: evil",
    "- /hydra/{key}/evil",
    "- /sampler@hydra: wrapped",
    "- /sampler/../../elsewhere/evil@hydra.{key}",
    "- //{elsewhere}/evil@hydra.{key}",
]
"""Entries of a defaults list that fetch the payload from another file."""

WAYS: dict[str, Callable[[Path], list[str]]] = {
    "--config-dir DIR": lambda folder: ["--config-dir", str(folder)],
    "--config-dir=DIR": lambda folder: [f"--config-dir={folder}"],
    "--config-d=DIR": lambda folder: [f"--config-d={folder}"],
    "-cd DIR": lambda folder: ["-cd", str(folder)],
    "-cd=DIR": lambda folder: [f"-cd={folder}"],
    "--config-path=DIR": lambda folder: [f"--config-path={folder}", "--config-name=experiment/evil"],
    "-cp DIR -cn": lambda folder: ["-cp", str(folder), "-cn", "experiment/evil"],
    "--config-name": lambda folder: ["--config-dir", str(folder), "--config-name=experiment/evil"],
    "searchpath": lambda folder: [f"hydra.searchpath=[{folder}]"],
    "searchpath with a scheme": lambda folder: [f"hydra.searchpath=['file://{folder}']"],
    "searchpath with plus": lambda folder: [f"++hydra.searchpath=['{folder}']"],
}


@dataclass(frozen=True)
class Attack:
    """Files of somebody else, {name: content}, and the words that a user types who was asked to try them."""

    name: str
    files: dict[str, str]
    words: Callable[[Path], list[str]]

    def lay(self, here: Path) -> list[str]:
        """Write the files, and say what is to be typed."""
        (here / "evil.py").write_text(EVIL)
        for name, text in self.files.items():
            path = here / "strange" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
        return self.words(here / "strange")


def attacks() -> Iterator[Attack]:
    """Every spelling by one way, every way with one spelling, every payload, package, default and kind of link."""
    for form in SPELLINGS:
        yield spelled("callback", form, "--config-dir DIR")
    for way in WAYS:
        yield spelled("callback", "flow", way)
    for payload in PAYLOADS:
        yield spelled(payload, "block", "--config-dir DIR")
    yield from packaged()
    yield from defaulted()
    yield from placed()
    yield from linked()
    yield from typed()


def all_attacks() -> Iterator[Attack]:
    """Every payload in every spelling by every way."""
    for payload in PAYLOADS:
        for form in SPELLINGS:
            for way in WAYS:
                yield spelled(payload, form, way)


def spelled(payload: str, form: str, way: str) -> Attack:
    """An experiment whose file has the payload in it."""
    key, value = PAYLOADS[payload]
    text = "# @package _global_\n" + SPELLINGS[form].format(key=key, value=value)
    asks = [] if "name" in way or "path" in way.split("=")[0] or "-cn" in way else ["experiment=evil"]
    if way.startswith("searchpath"):
        asks = ["experiment=evil"]
    name = f"{payload}, {form}, {way}"
    sweep = ["-m"] if payload in ("launcher", "sweeper", "words of a sweep", "trust") else []
    folders = {"experiment/evil.yaml": text, "sampler/evil.yaml": "name: evil:run\n"}
    return Attack(name, folders, lambda folder: [*sweep, *WAYS[way](folder), *asks])


def packaged() -> Iterator[Attack]:
    for head in PACKAGES:
        text = f"{head}\ncallbacks: {PAYLOADS['callback'][1]}\n"
        yield Attack(f"head {head!r}", {"experiment/evil.yaml": text}, experiment)
    text = f"# @package hydra.callbacks\n{PAYLOADS['callback'][1]}\n"
    yield Attack("head deeper", {"experiment/evil.yaml": text}, experiment)


def defaulted() -> Iterator[Attack]:
    for entry in DEFAULTS:
        files = {
            "sampler/evil.yaml": PAYLOADS["callback"][1],
            "sampler/wrapped.yaml": f"callbacks: {PAYLOADS['callback'][1]}",
            "hydra/callbacks/evil.yaml": PAYLOADS["callback"][1],
            "../elsewhere/evil.yaml": PAYLOADS["callback"][1],
        }

        def words(folder: Path, entry: str = entry) -> list[str]:
            filled = entry.format(key="callbacks", elsewhere=folder.parent / "elsewhere")
            (folder / "experiment").mkdir(exist_ok=True)
            (folder / "experiment" / "evil.yaml").write_text(f"# @package _global_\ndefaults:\n  {filled}\n")
            return experiment(folder)

        yield Attack(f"default {entry}", files, words)


def placed() -> Iterator[Attack]:
    """Options that the user asks for by name, whose files say more than they should."""
    payload = PAYLOADS["callback"][1]
    for group in ("sampler", "loss", "data", "tracker"):
        text = f"# @package _global_\nhydra: {{callbacks: {payload}}}\n"
        asks = [f"{group}=evil"]
        yield Attack(f"option of {group}", {f"{group}/evil.yaml": text}, lambda folder, asks=asks: typing(folder, asks))
    for word in ("hydra/callbacks=evil", "+hydra/callbacks=evil", "+sampler@hydra.callbacks=evil"):
        files = {"hydra/callbacks/evil.yaml": payload, "sampler/evil.yaml": payload}
        yield Attack(f"typed {word}", files, lambda folder, word=word: typing(folder, [word]))


def linked() -> Iterator[Attack]:
    text = f"# @package _global_\nhydra: {{callbacks: {PAYLOADS['callback'][1]}}}\n"

    def group(folder: Path) -> list[str]:
        (folder / "real").rename(folder.parent / "real")
        (folder / "experiment").symlink_to(folder.parent / "real")
        return experiment(folder)

    def file(folder: Path) -> list[str]:
        (folder / "experiment").mkdir()
        (folder / "experiment" / "evil.yaml").symlink_to(folder / "real" / "evil.yaml")
        return experiment(folder)

    def whole(folder: Path) -> list[str]:
        (folder / "real").rename(folder / "experiment")
        (folder.parent / "link").symlink_to(folder)
        return experiment(folder.parent / "link")

    for name, words in (("group", group), ("file", file), ("folder", whole)):
        yield Attack(f"link for a {name}", {"real/evil.yaml": text}, words)


def typed() -> Iterator[Attack]:
    """What is typed may say much, and still names no code from outside kdal."""
    for word in (
        "+hydra.callbacks.x._target_=evil.run",
        "++hydra.callbacks.x._target_=evil.run",
        "+hydra.callbacks.x={_target_:evil.run}",
        "+hydra.callbacks.x={'_target_':'evil.run'}",
        "hydra.callbacks.sweep._target_=evil.run",
        "++hydra.callbacks={x:[{_target_:evil.run}]}",
        "++hydra={callbacks:{x:{_target_:evil.run}}}",
        "++hydra.job_logging.handlers.x={class:evil.Handler}",
        "++hydra.job_logging={handlers:{x:{'()':evil.run}},root:{handlers:[x]},version:1}",
        "hydra.launcher._target_=evil.run",
        "hydra.hydra_logging.handlers.console.stream='ext://evil.run'",
        "hydra.searchpath=[pkg://evil]",
        "hydra.callbacks.sweep=${z}",
        "sampler={_target_:evil.run}",
        "+sampler.x=[{_target_:evil.run}]",
    ):
        words = ["+z={_target_:evil.run}", word] if "${z}" in word else [word]
        yield Attack(f"typed {word}", {}, lambda folder, words=words: words)


def experiment(folder: Path) -> list[str]:
    return typing(folder, ["experiment=evil"])


def typing(folder: Path, words: list[str]) -> list[str]:
    return ["--config-dir", str(folder), *words]
