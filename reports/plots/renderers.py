"""matplotlib's renderers, with texts measured and outlined once for all figures.

The same few names stand in every plot; measuring and hinting them anew took half of the time.
"""

from __future__ import annotations

from functools import lru_cache
from io import StringIO
from typing import Any

import numpy as np
from matplotlib.backend_bases import GraphicsContextBase
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextToPath
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray

_TEXTS = TextToPath()
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def draw_pixels(figure: Figure, dpi: int) -> NDArray[np.uint8]:
    """(H, W, 4) of `figure` on white."""
    before = figure.get_dpi(), figure.get_facecolor()
    figure.set_dpi(dpi)
    figure.set_facecolor("white")
    width, height = (round(side * dpi) for side in figure.get_size_inches())
    renderer = _Pixels(width, height, dpi)
    figure.draw(renderer)
    figure.set_dpi(before[0])
    figure.set_facecolor(before[1])
    return np.asarray(renderer.buffer_rgba())


def draw_svg(figure: Figure) -> str:
    """The SVG file of `figure`, in points, as matplotlib writes it."""
    before = figure.get_dpi()
    figure.set_dpi(72)
    width, height = (side * 72 for side in figure.get_size_inches())
    buffer = StringIO()
    renderer = _Svg(width, height, buffer, metadata=_NO_METADATA)
    figure.draw(renderer)
    renderer.finalize()
    figure.set_dpi(before)
    return buffer.getvalue()


class _Svg(RendererSVG):
    def get_text_width_height_descent(
        self, s: str, prop: FontProperties, ismath: Any
    ) -> tuple[float, float, float]:
        return _measured(s, prop)


class _Pixels(RendererAgg):
    def get_text_width_height_descent(
        self, s: str, prop: FontProperties, ismath: Any
    ) -> tuple[float, float, float]:
        width, height, descent = _measured(s, prop)
        scale = self.dpi / 72
        return width * scale, height * scale, descent * scale

    def draw_text(
        self,
        gc: GraphicsContextBase,
        x: float,
        y: float,
        s: str,
        prop: FontProperties,
        angle: float,
        ismath: Any = False,
        mtext: Any = None,
    ) -> None:
        place = Affine2D().scale(self.dpi / 72).rotate_deg(angle).translate(x, self.height - y)
        gc.set_linewidth(0)
        self.draw_path(gc, _outline(s, prop), place, gc.get_rgb())


@lru_cache(maxsize=8192)
def _measured(text: str, font: FontProperties) -> tuple[float, float, float]:
    """Width, height and descent in points."""
    width, height, descent = _TEXTS.get_text_width_height_descent(text, font, False)
    return float(width), float(height), float(descent)


@lru_cache(maxsize=8192)
def _outline(text: str, font: FontProperties) -> Path:
    """The outline in points, from the left end of the base line."""
    vertices, codes = _TEXTS.get_text_path(font, text)
    scale = font.get_size_in_points() / _TEXTS.FONT_SCALE
    return Path(np.reshape(vertices, (-1, 2)) * scale, codes)
