"""How a method looks: the same colour, dash and marker in every plot, whoever else is in it.

Most built-in methods have a place in the table below: cool colours on DeepLabv3, greens on SegViT, warm ones
on Mask2Former. All are of middling lightness, so that they stand out from a white and from a dark page; where
two hues are close to a colour-blind reader, dash and marker differ. Any other method gets its look by the
hash of its name, and `mib[kd_weight=100]` keeps the colour of `mib` with another dash and marker.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache

SOLID, DASHED, DOTTED, DASH_DOT = "-", (0, (4, 1.6)), (0, (1.2, 1.4)), (0, (5, 1.4, 1.2, 1.4))
Dash = str | tuple[float, tuple[float, ...]]
DASHES: tuple[Dash, ...] = (DASHED, DASH_DOT, DOTTED, SOLID)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")


@dataclass(frozen=True)
class Look:
    colour: str
    dash: Dash
    marker: str


BUILT_IN = {
    "finetune": Look("#7f8c9b", DOTTED, "x"),
    "joint": Look("#60758f", DASHED, "*"),
    "lwf": Look("#2f6fd0", SOLID, "o"),
    "lwf-mc": Look("#7aa6ec", DASHED, "s"),
    "ilt": Look("#5163c8", DASH_DOT, "^"),
    "sdr": Look("#4a86b8", SOLID, "X"),
    "sdr-fixed": Look("#8fb0cc", DASHED, "X"),
    "ewf": Look("#a85fb0", SOLID, "P"),
    "ewc": Look("#1592ac", SOLID, "D"),
    "pi": Look("#4cb2c6", DASHED, "v"),
    "rw": Look("#0f7085", DASH_DOT, "P"),
    "mib": Look("#8a4fd3", SOLID, "s"),
    "plop": Look("#c05fd0", SOLID, "^"),
    "plop-fixed": Look("#c58ae0", DASHED, "v"),
    "rcil": Look("#8a48aa", DASH_DOT, "X"),
    "finetune@segvit": Look("#8c9a7f", DOTTED, "+"),
    "joint@segvit": Look("#5f8a4a", DASHED, "*"),
    "segvitv2": Look("#2c9a4b", SOLID, "o"),
    "segvit-cit": Look("#83ab28", DASHED, "D"),
    "finetune@mask2former": Look("#b08f7f", DOTTED, "1"),
    "joint@mask2former": Look("#a9683f", DASHED, "*"),
    "balconpas": Look("#d6453d", SOLID, "o"),
    "balconpas-r": Look("#ec7a1c", SOLID, "s"),
    "balconpas-fixed": Look("#e6837a", DASHED, "^"),
    "simcis": Look("#c99700", SOLID, "D"),
    "comformer": Look("#b8562f", SOLID, "v"),
    "eclipse": Look("#9c7a3c", SOLID, "P"),
}
_USERS = ("#d6408f", "#97742f", "#a04a63", "#8f8f22", "#e57ab0", "#6f7f3f", "#b5722a", "#a8587f")


@lru_cache(maxsize=1024)
def look_of(method: str, variant: str = "") -> Look:
    """The look of the row of this name and variant, a function of these alone."""
    base, bracket, settings = method.partition("[")
    own = zlib.crc32(f"{base}|{settings}|{variant}".encode())
    if base not in BUILT_IN:
        colour = _USERS[zlib.crc32(base.encode()) % len(_USERS)]
        return Look(colour, DASHES[own // 7 % len(DASHES)], MARKERS[own // 61 % len(MARKERS)])
    look = BUILT_IN[base]
    if not (bracket or variant):
        return look
    dashes = [dash for dash in DASHES if dash != look.dash]
    markers = [marker for marker in MARKERS if marker != look.marker]
    return Look(look.colour, dashes[own // 7 % len(dashes)], markers[own // 61 % len(markers)])
