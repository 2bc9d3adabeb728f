"""What a reviewer asks first of a study: data, student, teacher, loss, recipe, budget, seeds."""

from collections.abc import Iterator, Mapping, Sequence

from kdal_cli.study.records import Record, Value
from kdal_cli.study.study import Study

ASKED: Mapping[str, Sequence[str]] = {
    "data": (
        "split.pool",
        "split.validation",
        "split.teacher",
        "imbalance",
        "duplicates",
        "augment.pad",
        "augment.flip",
    ),
    "student": ("*",),
    "teacher": ("learns", "model.*", "checkpoint", "seed", "average"),
    "loss": ("weighting.alpha", "*.temperature", "*.weight", "*.on"),
    "sampler": ("*",),
    "seed_set": ("*",),
    "recipe": ("length", "steps", "epochs", "batch", "optimizer", "lr", "weight_decay", "schedule", "retrain"),
    "budget": ("initial", "query", "rounds"),
}
"""The groups that are told, and their keys; `*` is any word."""

USUAL: Mapping[str, Value] = {"imbalance": 1.0, "duplicates": 0.0, "average": "logits", "seed": 0}
"""Values that go without saying; so do nothing and false."""

SEVERAL = 4
"""Of a group so many descriptions are told; of more, how many there are."""


def setup(study: Study) -> list[tuple[str, str]]:
    """(group, what the runs have of it in words), groups that no run has being left out."""
    told = []
    for group in ASKED:
        kinds = list(dict.fromkeys(_described(record, group) for record in study.records))
        kinds = [kind for kind in kinds if kind]
        if kinds:
            more = f"; {len(kinds) - SEVERAL} more" if len(kinds) > SEVERAL else ""
            told.append((group.replace("_", " "), "; ".join(kinds[:SEVERAL]) + more))
    seeds = sorted({record.seed for record in study.records})
    return [*told, ("seeds", ", ".join(map(str, seeds)))]


def _described(record: Record, group: str) -> str:
    """`small_cnn width=32`: the option that was chosen and the settings below it."""
    option = record.choices.get(group) or str(record.settings.get(f"{group}.name") or "")
    if group in ("teacher", "loss") and (option == "none" or (group == "teacher" and _unasked(record))):
        return "none"
    return " ".join([option, *_settings(record, group)]).strip()


def _unasked(record: Record) -> bool:
    """Whether a run had no use for the teacher of its configuration."""
    asked = ("teacher_answers", "teacher_labels")
    return all(key in record.keys and record.values(key)[-1] == 0 for key in asked)


def _settings(record: Record, group: str) -> Iterator[str]:
    for key, value in record.settings.items():
        below = key.removeprefix(f"{group}.")
        usual = value is None or value is False or USUAL.get(below) == value or below.endswith("name")
        if below != key and not usual and any(_fits(below, pattern) for pattern in ASKED[group]):
            yield f"{below}={value:g}" if isinstance(value, float) else f"{below}={value}"


def _fits(key: str, pattern: str) -> bool:
    """Whether words of a dotted key are those of a pattern, as many."""
    words, wanted = key.split("."), pattern.split(".")
    return len(words) == len(wanted) and all(want in ("*", word) for word, want in zip(words, wanted, strict=True))
