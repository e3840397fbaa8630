"""One array out of a Matlab file of version 5, as SBD's masks are.

Format: MathWorks, "MAT-File Format", version 5. Not `scipy.io.loadmat`: a damaged file can end the process in
its C code, and it reads SBD's boundaries, which are most of each file and of no use here.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_ORDERS = {b"IM": "<", b"MI": ">"}
"""How "MI" was written says which byte comes first."""
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Type of a data element -> NumPy's."""
_STRUCT = 2
_MOST_BYTES = 1 << 26
"""Of one unpacked variable; a mask of SBD has a quarter of a million pixels."""


class Element(NamedTuple):
    type: int
    data: bytes


def read_field(path: Path, variable: str, field: str) -> NDArray[np.generic]:
    """The numbers in `field` of the 1x1 struct `variable`, in their shape. ValueError for anything else."""
    content = path.read_bytes()
    order = _ORDERS.get(content[_HEADER - 2 : _HEADER])
    if order is None:
        raise ValueError("no Matlab file of version 5")
    for element in _elements(content[_HEADER:], order):
        compressed = element.type == _COMPRESSED
        matrices = _elements(_unpacked(element.data), order) if compressed else iter([element])
        for matrix in matrices:
            parts = _parts(matrix, order)
            if (
                len(parts) > 5
                and parts[2].data == variable.encode()
                and _number(parts[0].data[:4], order) & 255 == _STRUCT
            ):
                return _numbers(_field(parts, field, order), order)
    raise ValueError(f"no struct {variable}")


def _elements(content: bytes, order: str) -> Iterator[Element]:
    """The data elements that follow one another in `content`."""
    place = 0
    while place < len(content):
        if place + 8 > len(content):
            raise ValueError("cut short")
        kind, size = struct.unpack_from(f"{order}II", content, place)
        start, padded = place + 8, size + (-size % 8 if kind != _COMPRESSED else 0)
        if kind >> 16:  # at most four bytes, which stand in the tag
            kind, size, start, padded = kind & 0xFFFF, kind >> 16, place + 4, 4
        if start + size > len(content) or size > padded:
            raise ValueError("cut short")
        yield Element(kind, content[start : start + size])
        place = start + padded


def _unpacked(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(data, _MOST_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not inflater.eof:
        raise ValueError("cut short, or more than a mask")
    return content


def _parts(element: Element, order: str) -> list[Element]:
    """Of a matrix: flags, dimensions, name, then what it holds."""
    return list(_elements(element.data, order)) if element.type == _MATRIX else []


def _field(parts: list[Element], field: str, order: str) -> Element:
    """A struct's parts are flags, dimensions, name, length of a field name, field names, then the fields."""
    length = _number(parts[3].data, order)
    if length < 1 or len(parts[4].data) % length:
        raise ValueError("its field names are damaged")
    joined = parts[4].data
    names = [joined[place : place + length].rstrip(b"\0") for place in range(0, len(joined), length)]
    if len(parts) != 5 + len(names) or field.encode() not in names:
        raise ValueError(f"no field {field}")
    return parts[5 + names.index(field.encode())]


def _number(data: bytes, order: str) -> int:
    return int.from_bytes(data, "little" if order == "<" else "big")


def _numbers(element: Element, order: str) -> NDArray[np.generic]:
    parts = _parts(element, order)
    if len(parts) != 4 or parts[3].type not in _NUMBERS or len(parts[1].data) % 4:
        raise ValueError("no array of numbers")
    shape = np.frombuffer(parts[1].data, f"{order}i4").tolist()
    numbers = np.frombuffer(parts[3].data, order + _NUMBERS[parts[3].type])
    if min(shape, default=-1) < 0 or int(np.prod(shape, dtype=object)) != numbers.size:
        raise ValueError(f"{numbers.size} numbers for the shape {shape}")
    return numbers.reshape(shape, order="F")
