"""Class orders are permutations, and their steps are the published lists."""

from __future__ import annotations

import pytest

from protocols.names import parse
from protocols.orders import ORDERS, class_order

NUM_CLASSES = {"voc": 20, "ade": 150}
B_BASE_50 = (
    "1,9,14,18,22,24,25,27-29,32,38,42,45-49,54,56,58,61-63,69,74-77,81,82,84,90,93,96,100,103,104,109,117,119,"
    "121,123,128-130,134-136,144"
)
B_BASE_100 = (
    "1,3,5,6,8-10,12-14,18,19,21-29,31-34,36,38-40,42-49,53-58,60-63,69-71,74-77,80-82,84,86,87,90,91,93,95,96,"
    "99-101,103-107,109,113,116,117,119-121,123,125,126,128-136,140,142-144,147-150"
)
B_TENS = [
    "11,16,50,64,66,73,89,92,145,146",
    "30,37,51,52,72,85,98,114,115,138",
    "2,35,65,97,110-112,118,124,141",
    "4,7,15,41,67,78,79,88,108,139",
    "17,20,59,68,83,94,102,122,127,137",
]
B_LAST_50 = (
    "2,4,7,11,15-17,20,30,35,37,41,50-52,59,64-68,72,73,78,79,83,85,88,89,92,94,97,98,102,108,110-112,114,115,"
    "118,122,124,127,137-139,141,145,146"
)
C_BASE_50 = (
    "5,10-13,16,17,19,20,23,27,28,30-33,37,43,46,52,56,57,65,66,69,70,74,76,77,79,82,83,86,87,105,109-111,119,"
    "128,129,132-134,138,142-144,146,147"
)
C_MIDDLE_50 = (
    "1,6,8,9,14,24-26,29,34-36,40,41,44,45,48,50,54,61,63,67,68,71,78,81,84,85,90,94-99,102,106,112,114,115,118,"
    "120,121,123,124,126,135,136,139,149"
)
C_BASE_100 = (
    "1,5,6,8-14,16,17,19,20,23-37,40,41,43-46,48,50,52,54,56,57,61,63,65-71,74,76-79,81-87,90,94-99,102,105,106,"
    "109-112,114,115,118-121,123,124,126,128,129,132-136,138,139,142-144,146,147,149"
)
C_TENS = [
    "3,4,7,18,39,64,73,101,113,137",
    "47,51,55,60,62,80,116,127,140,148",
    "22,42,49,58,59,89,91,92,108,125",
    "2,38,53,100,104,117,130,131,141,145",
    "15,21,72,75,88,93,103,107,122,150",
]


def ids(text: str) -> tuple[int, ...]:
    """ "1,3-5" -> (1, 3, 4, 5)."""
    ends = [part.partition("-") for part in text.split(",")]
    return tuple(i for first, _, last in ends for i in range(int(first), int(last or first) + 1))


def steps(name: str) -> list[tuple[int, ...]]:
    return [step.classes for step in parse(name).steps]


@pytest.mark.parametrize(("dataset", "order"), [(d, o) for d in NUM_CLASSES for o in ORDERS[d]])
def test_every_order_is_a_permutation(dataset: str, order: str) -> None:
    number = NUM_CLASSES[dataset]
    assert sorted(class_order(dataset, order, number)) == list(range(1, number + 1))


def test_voc_has_all_orders_of_plop() -> None:
    assert sorted(name for name in ORDERS["voc"] if len(name) == 1) == list("bcdefghijklmnopqrstuvw")
    assert len({ORDERS["voc"][name] for name in ORDERS["voc"]}) == 23
    base_b = (12, 9, 20, 7, 15, 8, 14, 16, 5, 19, 4, 1, 13, 2, 11)
    assert steps("voc-15-1@b") == [base_b, (17,), (3,), (6,), (18,), (10,)]
    assert steps("voc-19-1b") == [(1, 2, 3, 4, *range(6, 21)), (5,)]


def test_ade_order_b() -> None:
    assert steps("ade-100-50b") == [ids(B_BASE_100), ids(B_LAST_50)]
    assert steps("ade-100-10b") == [ids(B_BASE_100), *map(ids, B_TENS)]
    middle = tuple(sorted(set(ids(B_BASE_100)) - set(ids(B_BASE_50))))
    assert steps("ade-50b") == [ids(B_BASE_50), middle, ids(B_LAST_50)]


def test_ade_order_c() -> None:
    rest = tuple(sorted(set(range(1, 151)) - set(ids(C_BASE_100))))
    assert steps("ade-100-50c") == [ids(C_BASE_100), rest]
    assert steps("ade-100-10c") == [ids(C_BASE_100), *map(ids, C_TENS)]
    assert steps("ade-50c") == [ids(C_BASE_50), ids(C_MIDDLE_50), rest]


def test_random_order_is_stable_and_keeps_the_drawn_order() -> None:
    assert steps("voc-15-5@random3")[1] == steps("voc-10-5@random3")[2]
    drawn = class_order("voc", "random3", 20)
    assert drawn[:6] == (15, 3, 2, 18, 5, 17)
    assert class_order("voc", "random4", 20) != drawn
    assert steps("ade-100-50@random0")[1] != tuple(sorted(steps("ade-100-50@random0")[1]))


def test_unknown_order_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"@zz is unknown for voc: there are a, b, c.*randomN"):
        parse("voc-15-1@zz")
