"""A little HTML: elements, tables, pictures that travel inside the page. All text is escaped: none of it acts."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

from kdal_cli.plain import clean
from kdal_cli.report.text import MISSING


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = Html | str | None


def element(tag: str, *content: Content, **attributes: str) -> Html:
    """`<tag attributes>content</tag>`. Names of attributes that Python keeps for itself end in `_`: `class_`."""
    given = "".join(f' {name.rstrip("_").replace("_", "-")}="{_escaped(value)}"' for name, value in attributes.items())
    return Html(f"<{tag}{given}>{join(*content)}</{tag}>")


def join(*content: Content) -> Html:
    """Several pieces as one; None is left out."""
    return Html(
        "".join(piece if isinstance(piece, Html) else _escaped(piece) for piece in content if piece is not None)
    )


def table(caption: str, heads: Sequence[Content], rows: Iterable[Sequence[Content]], *, kind: str = "") -> Html:
    """A table whose first column names its rows; it scrolls sideways on its own where it is wider than the page.

    Columns in which no row has anything are left out. Cells may be `td` elements already.
    """
    rows = [list(row) for row in rows]
    kept = [i for i in range(len(heads)) if i == 0 or any(row[i] not in (None, "", MISSING) for row in rows)]
    head = element("tr", *(element("th", heads[i], scope="col") for i in kept))
    body = (element("tr", _head(row[0]), *(_cell(row[i]) for i in kept[1:])) for row in rows)
    inside = element(
        "table",
        element("caption", element("span", caption)),
        element("thead", head),
        element("tbody", *body),
        class_=kind,
    )
    return element("div", inside, class_="scroll", tabindex="0", role="region", aria_label=caption)


def picture(kind: str, data: bytes, alt: str, caption: Content = None, *, class_: str = "") -> Html:
    """A figure with its data inside. kind: the media type, `image/svg+xml`."""
    address = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    image = Html(f'<img src="{address}" alt="{_escaped(alt)}" class="{_escaped(class_)}">')
    return element("figure", image, element("figcaption", caption) if caption else None)


def _head(content: Content) -> Html:
    return element("th", content, scope="row")


def _cell(content: Content) -> Html:
    return content if isinstance(content, Html) and content.startswith("<td") else element("td", content)


def _escaped(text: str) -> str:
    return escape(text if text.isprintable() else clean(text))
