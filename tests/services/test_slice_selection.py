"""Which slices are read together."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from trauma_api.services.slice_selection import BLEEDING_GAP_MM, select_slices


def suspicions(*values: float) -> NDArray[np.float32]:
    """As an engine returns them."""
    return np.array(values, dtype=np.float32)


def only(count: int, **peaks: float) -> NDArray[np.float32]:
    """Zero, apart from the given slices, as ``s10=0.9``."""
    found = np.zeros(count, dtype=np.float32)
    for name, value in peaks.items():
        found[int(name[1:])] = value
    return found


class TestSelectSlices:
    def test_the_most_suspicious_slice_is_taken_when_none_reaches_the_threshold(self) -> None:
        assert select_slices(suspicions(0.1, 0.3, 0.2), threshold=0.9, budget=2) == [1]

    def test_one_slice_is_selected_from_a_stack_of_one(self) -> None:
        assert select_slices(suspicions(0.0), threshold=0.5, budget=10) == [0]
        assert select_slices(suspicions(0.7), threshold=0.5, budget=3) == [0]

    def test_a_slice_exactly_at_the_threshold_counts(self) -> None:
        # 0.3 is not a float32: the comparison must not fail by its rounding.
        assert select_slices(only(48, s10=0.3, s30=0.3), threshold=0.3, budget=3) == [10, 30]

    def test_slices_below_the_threshold_do_not_fill_up_the_budget(self) -> None:
        assert select_slices(only(48, s10=0.8, s20=0.49, s30=0.9), threshold=0.5, budget=3) == [10, 30]

    def test_the_most_suspicious_come_first_when_the_budget_is_short(self) -> None:
        found = only(48, s5=0.6, s15=0.9, s25=0.7, s35=0.8)
        assert select_slices(found, threshold=0.5, budget=2) == [15, 35]

    def test_the_result_is_in_anatomical_order(self) -> None:
        found = only(48, s40=0.9, s20=0.8, s5=0.7)
        assert select_slices(found, threshold=0.5, budget=3) == [5, 20, 40]

    def test_a_hump_is_covered_and_not_only_its_top(self) -> None:
        # 100 slices, budget 10: gap 100 // 30 = 3, so the three next to a taken slice are passed over. From the
        # top at 50: 50, 46, 54, 42, 58, 38, 62, 34, 66, 30 (the lower one of two equals first).
        hump = np.array([1 - abs(index - 50) / 100 for index in range(100)], dtype=np.float32)
        assert select_slices(hump, threshold=0.5, budget=10) == [30, 34, 38, 42, 46, 50, 54, 58, 62, 66]

    def test_neighbours_are_taken_when_nothing_else_is_suspicious(self) -> None:
        # 48 slices, budget 3: gap 48 // 9 = 5 leaves 11 only, gap 2 too; with gap 1 comes 13; with gap 0 the next, 12.
        found = only(48, s10=0.7, s11=0.9, s12=0.8, s13=0.6)
        assert select_slices(found, threshold=0.5, budget=3) == [11, 12, 13]

    def test_a_second_injury_is_seen_beside_a_stronger_first(self) -> None:
        # Ten strong neighbours and one weaker slice far away: the far one is among three.
        found = only(48, s40=0.6)
        found[10:13] = (0.9, 0.95, 0.9)
        assert 40 in select_slices(found, threshold=0.5, budget=3)

    def test_all_equal_slices_fill_the_budget_without_neighbours(self) -> None:
        chosen = select_slices(np.full(48, 0.5, dtype=np.float32), threshold=0.5, budget=3)
        assert len(chosen) == 3
        assert all(second - first > 5 for first, second in pairwise(chosen))

    @pytest.mark.parametrize("seed", range(20))
    def test_never_none_never_above_the_budget_never_twice(self, seed: int) -> None:
        chance = np.random.default_rng(seed)
        found = chance.random(int(chance.integers(1, 200)), dtype=np.float32)
        threshold, budget = float(chance.random()), int(chance.integers(1, 86))
        chosen = select_slices(found, threshold, budget)
        suspicious = int((found >= threshold).sum())
        assert len(chosen) == max(1, min(budget, suspicious))
        assert chosen == sorted(set(chosen))
        assert int(found.argmax()) in chosen
        assert all(found[index] >= threshold for index in chosen) or suspicious == 0


class TestBleeding:
    """Much blood, so that all slices are suspicious alike, and a jet of contrast in few of them."""

    def test_a_jet_that_spread_slices_would_miss_is_read(self) -> None:
        found, bleeding = np.full(100, 0.99, np.float32), np.zeros(100)
        plain = select_slices(found, threshold=0.25, budget=10)
        jet = next(index for index in range(100) if index not in plain)
        bleeding[jet] = 3.0
        assert jet in select_slices(found, threshold=0.25, budget=10, bleeding=bleeding)

    def test_its_neighbours_leave_room_for_others(self) -> None:
        found, bleeding = np.full(100, 0.99, np.float32), np.zeros(100)
        bleeding[40:50], bleeding[80] = np.arange(10, 20), 1.0
        at_mm = np.arange(100) * 1.0
        chosen = select_slices(found, threshold=0.25, budget=6, bleeding=bleeding, positions_mm=at_mm)
        assert 80 in chosen
        assert 49 in chosen
        assert all((other - one) * 1.0 > BLEEDING_GAP_MM for one, other in pairwise(chosen))

    def test_at_most_two_thirds_of_the_slices_are_chosen_for_it(self) -> None:
        found = np.linspace(0.9, 0.3, 90, dtype=np.float32)
        bleeding = np.zeros(90)
        bleeding[60:] = 5.0
        chosen = select_slices(found, threshold=0.25, budget=9, bleeding=bleeding, positions_mm=np.arange(90) * 5.0)
        assert chosen[0] == 0, "the most suspicious one is always read"
        assert sum(index >= 60 for index in chosen) == 6

    def test_a_slice_below_the_threshold_is_not_read_for_it(self) -> None:
        found = only(48, s10=0.8, s30=0.9)
        bleeding = np.zeros(48)
        bleeding[20] = 9.0
        assert select_slices(found, threshold=0.5, budget=3, bleeding=bleeding) == [10, 30]

    @pytest.mark.parametrize("seed", range(20))
    def test_never_none_never_above_the_budget_never_twice(self, seed: int) -> None:
        chance = np.random.default_rng(seed)
        count = int(chance.integers(1, 200))
        found, bleeding = chance.random(count, dtype=np.float32), chance.normal(size=count)
        threshold, budget = float(chance.random()), int(chance.integers(1, 86))
        at_mm = np.arange(count) * float(chance.uniform(0.5, 5))
        chosen = select_slices(found, threshold, budget, bleeding=bleeding, positions_mm=at_mm)
        suspicious = int((found >= threshold).sum())
        assert len(chosen) == max(1, min(budget, suspicious))
        assert chosen == sorted(set(chosen))
        assert int(found.argmax()) in chosen
        assert all(found[index] >= threshold for index in chosen) or suspicious == 0
