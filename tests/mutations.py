"""Strange values, and changes of files, for the tests that nothing brings a reader down."""

from __future__ import annotations

import json
import random
from typing import Any

STRANGE: list[Any] = [
    *(None, True, False, 0, -1, 1, 255, 10**18, 10**19, 10**400, 1.5, 1e308, float("nan"), float("-inf")),
    *("", "x", "\n", "\ud800", "\x00", "..", "a/b", "é" * 300, "finished", "panoptic"),
    *([], {}, [[]], [0, 1, 1], {"a": {}}, [None], ["a"], {"": 1}, {"\ud800": "\n"}),
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a JSON value with each of its keys."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, item in pairs:
        found.append((value, key))
        found += places(item)
    return found


def mutate(plain: Any, chance: random.Random) -> None:
    """One change: a value made strange, removed, doubled, deepened, or exchanged with another."""
    container, key = chance.choice(places(plain))
    match chance.randrange(6):
        case 0 | 1:
            container[key] = json.loads(json.dumps(chance.choice(STRANGE)))
        case 2:
            del container[key]
        case 3 if isinstance(container, list):
            container.append(container[key])
        case 4:
            for _ in range(chance.choice([1, 30, 300])):
                container[key] = [container[key]]
        case _:
            other, place = chance.choice(places(plain))
            container[key], other[place] = json.loads(json.dumps([other[place], container[key]]))


def damage(content: bytes, chance: random.Random) -> bytes:
    """Up to eight bytes changed, some of them in the header; or cut, doubled, or all of it noise."""
    changed = bytearray(content)
    for _ in range(chance.randint(0, 8)):
        if changed:
            place = chance.randrange(min(len(changed), chance.choice([64, 10**9])))
            changed[place] = chance.choice([0, 1, 127, 128, 255, chance.randrange(256)])
    match chance.randrange(6):
        case 0:
            del changed[chance.randrange(len(changed) + 1) :]
        case 1:
            start = chance.randrange(len(changed) + 1)
            changed[start:start] = changed[: chance.randrange(len(changed) + 1)]
        case 2:
            changed[:] = chance.randbytes(chance.randrange(200))
    return bytes(changed)
