"""Markdown from docstrings."""

import inspect
import re
from collections.abc import Callable
from typing import Any


def paragraphs(thing: Callable[..., Any]) -> list[str]:
    return (inspect.getdoc(thing) or "").split("\n\n")


def linked(text: str) -> str:
    """Markdown of plain text: arXiv ids become links, and a star or an underscore is itself outside of `code`."""
    parts = re.split(r"(`[^`]*`)", text)
    escaped = [part if part.startswith("`") else re.sub(r"\*|(?<!\w)_|_(?!\w)|\|", r"\\\g<0>", part) for part in parts]
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", "".join(escaped))
