"""Images side by side on one sheet. Drawn with Pillow, several times faster than a figure with a hundred labels."""

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kdal_cli.report.text import shortened

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont
    from torch import Tensor

ROW = 10
"""Images in a row, at most."""

WIDE, HIGH, SIDE = 165, 203, 148
"""Pixels of a cell, and of the longer side of the image in it."""

HEAD, MARGIN = 120, 22
INK, MUTED, PAPER = "#1f2933", "#616e7c", "white"


def contact_png(pixels: "Tensor", names: Sequence[str], *, title: str = "Images", subtitle: str = "") -> bytes:
    """Images (n, c, H, W) uint8, up to ten in a row, each with its number from 1 and its name below, as a PNG."""
    from PIL import Image, ImageDraw

    columns = max(5, min(ROW, len(names)))
    rows = -(-len(names) // columns)
    sheet = Image.new("RGB", (WIDE * columns, HIGH * rows + HEAD), PAPER)
    draw = ImageDraw.Draw(sheet)
    letters = sheet.width // 18
    draw.text((MARGIN, MARGIN), shortened(title, letters), INK, _font("DejaVuSans-Bold", 27))
    draw.text((MARGIN, MARGIN + 42), shortened(subtitle, int(1.5 * letters)), MUTED, _font("DejaVuSans", 19))
    for number, (image, name) in enumerate(zip(pixels, names, strict=True)):
        row, column = divmod(number, columns)
        picture, (left, top) = _picture(image), (column * WIDE, HEAD + row * HIGH)
        sheet.paste(picture, (left + (WIDE - picture.width) // 2, top + (SIDE - picture.height) // 2))
        label = f"{number + 1}. {shortened(name, 18 if columns < ROW else 12)}"
        draw.text((left + WIDE // 2, top + SIDE + 18), label, INK, _font("DejaVuSans", 15), anchor="mm")
    png = io.BytesIO()
    sheet.save(png, format="PNG")
    return png.getvalue()


def _picture(image: "Tensor") -> "Image":
    """(c, H, W) -> at most SIDE pixels: small images keep their pixels as squares, large ones are averaged."""
    from PIL import Image

    rows = image.permute(1, 2, 0).contiguous().numpy()  # (H, W, c)
    picture = Image.fromarray(rows if rows.shape[2] == 3 else rows[:, :, 0]).convert("RGB")
    scale = SIDE / max(picture.size)
    width, height = (max(1, round(scale * side)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX)


@cache
def _font(name: str, size: int) -> "FreeTypeFont":
    """One of matplotlib's own: the same letters everywhere."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf"), size)
