"""Figures as SVG and PNG: for a page that chooses the ink, and for a paper."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from functools import lru_cache
from html import escape
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from reports.plots.frame import INK, style
from reports.plots.renderers import draw_pixels, draw_svg

DPI = 150
_IDENTITY = re.compile(r' id="([^"]*)"')
_REFERENCE = re.compile(r'url\(#([^)]*)\)|href="#([^"]*)"')
_PICTURE = re.compile(r"data:image/png;base64,\s*([^\"]*)")
_NOT_TURNED = re.compile(r' transform="rotate\(-?0 [^)]*\)"')
_DECIMALS = re.compile(r"(?<![\w.])-?\d+\.\d{3,}(?![\w.])")


def svg(figure: Figure, prefix: str = "") -> str:
    """`figure` as an `<svg>` element to put into an HTML page; the same figure gives the same text.

    Text stays text, what is black takes the page's `currentColor`, the ground is transparent. Every id begins
    with `prefix`; without one, with a hash of the drawing.
    """
    return _element(_drawn(figure), figure, prefix, "currentColor", "")


def svg_document(figure: Figure) -> str:
    """`figure` as an SVG file of its own: black on white."""
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return '<?xml version="1.0" encoding="utf-8"?>\n' + _element(_drawn(figure), figure, "p", INK, ground)


def png(figure: Figure) -> bytes:
    """`figure` as PNG at 150 dots an inch: black on white, of at most 256 colours."""
    with style():
        picture = Image.fromarray(draw_pixels(figure, DPI)).convert("RGB")
    picture = picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    # Averaging over edges greys the ground: make it white again.
    picture.putpalette([255 if value >= 253 else value for value in picture.getpalette() or []])
    buffer = BytesIO()
    picture.save(buffer, format="png", dpi=(DPI, DPI))
    return buffer.getvalue()


@lru_cache(maxsize=8)
def _drawn(figure: Figure) -> str:
    """What matplotlib writes, from the first element on. The same figure stands in a page and in a file."""
    with style():
        text = draw_svg(figure)
    return text[text.index("<g ") : text.rindex("</svg>")]


def _element(body: str, figure: Figure, prefix: str, ink: str, ground: str) -> str:
    prefix = prefix or "p" + hashlib.sha256(body.encode()).hexdigest()[:8]
    body = _own_ids(_compact(body), prefix).replace(INK, ink)
    width, height = (side * 72 for side in figure.get_size_inches())
    title = escape(str(figure.get_label()), quote=False)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'width="{width:.5g}pt" height="{height:.5g}pt" viewBox="0 0 {width:.5g} {height:.5g}" '
        f'fill="{ink}" stroke-linejoin="round" font-family="DejaVu Sans,Verdana,sans-serif">'
        f"<title>{title}</title>{ground}{body}</svg>\n"
    )


def _own_ids(body: str, prefix: str) -> str:
    """Ids that nothing refers to go, the others become `<prefix>-0`, `<prefix>-1`, ..."""
    used = dict.fromkeys(first or second for first, second in _REFERENCE.findall(body))
    names = {name: f"{prefix}-{index}" for index, name in enumerate(used)}
    body = _IDENTITY.sub(lambda match: f' id="{names[match[1]]}"' if match[1] in names else "", body)
    return _REFERENCE.sub(
        lambda match: f"url(#{names[match[1]]})" if match[1] else f'href="#{names[match[2]]}"', body
    )


def _compact(body: str) -> str:
    """Two decimals, no white space between elements, nothing that the root element says already."""
    body = _PICTURE.sub(lambda match: _paletted(match[1]), body)
    body = re.sub(r">\s+<", "><", re.sub(r"\s*\n\s*", " ", body))
    body = body.replace("; font-family: 'DejaVu Sans'", "")
    return _DECIMALS.sub(_shorter, _NOT_TURNED.sub("", body))


def _shorter(match: re.Match[str]) -> str:
    return f"{round(float(match[0]), 2):g}"


def _paletted(encoded: str) -> str:
    """The same picture with a palette, a third of the size. It has at most 256 colours."""
    pixels = np.asarray(Image.open(BytesIO(b64decode(encoded))).convert("RGBA"))
    colours, indices = np.unique(pixels.view(np.uint32), return_inverse=True)
    assert len(colours) <= 256, "the colour map of a heat map has few steps"
    picture = Image.fromarray(indices.reshape(pixels.shape[:2]).astype(np.uint8), "P")
    picture.putpalette(colours.tobytes(), "RGBA")
    buffer = BytesIO()
    picture.save(buffer, format="png", optimize=False, compress_level=9)
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"
