"""Figures as SVG and PNG: for a page that chooses the ink, and for a paper."""

from __future__ import annotations

import hashlib
import re
from html import escape
from io import BytesIO, StringIO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from reports.plots.frame import INK, style

DPI = 200
_NOTHING = {"Date": None, "Creator": None, "Format": None, "Type": None}
_FONT = re.compile(r"font: (bold )?(\d+)(?:\.(\d+))?px [^;\"]*")
_IDENTITY = re.compile(r' id="([^"]*)"')
_REFERENCE = re.compile(r'url\(#([^)]*)\)|href="#([^"]*)"')
_INK = re.compile(re.escape(INK))


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
    """`figure` as PNG at 200 dots an inch: black on white."""
    buffer = BytesIO()
    with style():
        FigureCanvasAgg(figure).print_figure(
            buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None},
            pil_kwargs={"compress_level": 4},
        )  # fmt: skip
    return buffer.getvalue()


def _drawn(figure: Figure) -> str:
    """What matplotlib writes, from the first element on."""
    buffer = StringIO()
    with style():
        FigureCanvasSVG(figure).print_figure(buffer, format="svg", facecolor="none", metadata=_NOTHING)
    text = buffer.getvalue()
    return text[text.index("<g ") : text.rindex("</svg>")]


def _element(body: str, figure: Figure, prefix: str, ink: str, ground: str) -> str:
    prefix = prefix or "p" + hashlib.sha256(body.encode()).hexdigest()[:8]
    body = _INK.sub(ink, _own_ids(_compact(body), prefix))
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
    return re.sub(r">\s+<", "><", re.sub(r"\s*\n\s*", " ", body))
