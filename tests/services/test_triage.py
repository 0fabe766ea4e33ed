"""Triage: how many slices are read together, and which."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.engines import STATEMENTS, ConstantTriage, FailingTriage, failure
from trauma_api.engines.base import EngineOutOfMemoryError, SlicePixels, TriageScores
from trauma_api.imaging.volume import CTVolume, ImageStack, PictureStack
from trauma_api.imaging.windowing import trunk_slice
from trauma_api.services.gate import ComputeGate
from trauma_api.services.ports import DeviceOutOfMemoryError, EngineFailedError, LocalTriage
from trauma_api.services.study_storage import StoredStudy
from trauma_api.services.triage import (
    COARSE_STEP_MM,
    TriageService,
    coarse_indices,
    fine_indices,
    slice_budget_for,
    slice_positions_mm,
    with_neighbours,
)
from trauma_api.settings import TRIAGE_STATEMENTS

GIB = 1024**3


def suspicions(*values: float) -> NDArray[np.float32]:
    """As an engine returns them."""
    return np.array(values, dtype=np.float32)


class TestSliceBudgetFor:
    @pytest.mark.parametrize(
        ("memory", "budget"),
        [
            (None, 3),  # a CPU
            (8 * GIB, 3),
            (16 * GIB, 3),  # "up to 16 GB" includes it
            (16 * GIB + 1, 6),
            (24 * GIB, 6),  # "up to 24 GB" includes it
            (24 * GIB + 1, 10),
            (80 * GIB, 10),
        ],
    )
    def test_follows_the_devices_memory(self, memory: int | None, budget: int) -> None:
        assert slice_budget_for(memory) == budget


def _listed(positions_mm: NDArray[np.float64] | None) -> list[float]:
    assert positions_mm is not None
    return [float(position) for position in positions_mm]


class TestWithNeighbours:
    def test_a_lone_slice_counts_less_than_one_whose_neighbours_agree(self) -> None:
        positions = np.arange(9) * 3.0
        lone = with_neighbours(suspicions(0.1, 0.1, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1), positions)
        agreed = with_neighbours(suspicions(0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1), positions)
        assert 0.1 < lone[4] < agreed[4] < 0.9
        assert int(np.argmax(lone)) == int(np.argmax(agreed)) == 4

    def test_the_weight_is_that_of_the_distance(self) -> None:
        # weights 1 and exp(-1 / 2) at one reach, 7 mm; log-odds of 0.5 are 0 and of 0.8 are ln 4
        both = with_neighbours(suspicions(0.5, 0.8), np.array([0.0, 7.0]))
        near = np.exp(-0.5)
        first, second = np.log(4) * near / (1 + near), np.log(4) / (1 + near)
        np.testing.assert_allclose(both, 1 / (1 + np.exp(-np.array([first, second]))), rtol=1e-6)

    def test_far_slices_and_equal_slices_keep_their_own(self) -> None:
        far = suspicions(0.0, 1.0, 0.3)
        np.testing.assert_allclose(with_neighbours(far, np.array([0.0, 500.0, 1000.0])), far, atol=2e-6)
        np.testing.assert_allclose(with_neighbours(suspicions(0.7, 0.7, 0.7), np.arange(3.0)), 0.7, rtol=1e-6)

    def test_positions_are_the_middles_of_the_slices(self) -> None:
        voxels = np.zeros((3, 4, 4), np.int16)
        even = CTVolume(voxels, np.diag([2.5, 1.0, 1.0, 1.0]))
        assert _listed(slice_positions_mm(even)) == [0.0, 2.5, 5.0]
        uneven = CTVolume(voxels, np.diag([2.0, 1.0, 1.0, 1.0]), slice_thickness_mm=(1.0, 2.0, 3.0))
        assert _listed(slice_positions_mm(uneven)) == [0.5, 2.0, 4.5]

    def test_without_a_distance_nothing_is_mixed(self) -> None:
        assert slice_positions_mm(PictureStack(np.zeros((2, 4, 4, 3), np.uint8))) is None
        assert with_neighbours(suspicions(0.2, 0.9), None).tolist() == suspicions(0.2, 0.9).tolist()


class OneSuspicious(ConstantTriage):
    """Finds one slice of a stack suspicious, and remembers which it was shown."""

    def __init__(self, stack: ImageStack, suspicious: int) -> None:
        super().__init__()
        self._slices = [trunk_slice(stack, index) for index in range(stack.slice_count)]
        self._suspicious = suspicious
        self._asked: set[int] = set()

    @property
    def asked_for(self) -> list[int]:
        """In anatomical order."""
        return sorted(self._asked)

    def score(self, slices: Sequence[SlicePixels]) -> TriageScores:
        """0.9 for the suspicious slice, 0.1 for any other."""
        shown = [next(i for i, one in enumerate(self._slices) if np.array_equal(one, each)) for each in slices]
        assert self._asked.isdisjoint(shown), "a slice was scored twice"
        self._asked.update(shown)
        suspicion = np.array([0.9 if index == self._suspicious else 0.1 for index in shown], np.float32)
        return TriageScores(logits=np.zeros((len(shown), STATEMENTS), np.float32), suspicion=suspicion)


def spaced(study: StoredStudy, distance_mm: float) -> StoredStudy:
    """The same slices at another distance."""
    assert isinstance(study.stack, CTVolume)
    assert study.stack.affine_lps is not None
    assert study.stack.spacing_zyx_mm is not None
    closer = np.array([distance_mm / study.stack.spacing_zyx_mm[0], 1.0, 1.0, 1.0])
    return replace(study, stack=replace(study.stack, affine_lps=study.stack.affine_lps * closer))


def service(engine: ConstantTriage, gate: ComputeGate) -> TriageService:
    """Triage over one engine."""
    return TriageService(LocalTriage(engine, gate), candidates=tuple(TRIAGE_STATEMENTS), threshold=0.5, slice_budget=3)


class TestCoarseToFine:
    @pytest.mark.parametrize("step_mm", [0.5, 0.7, 1.0, 1.25, 2.0, 2.5, 3.0, 5.0, 8.0])
    def test_no_gap_is_wider_than_the_step_where_slices_allow(self, step_mm: float) -> None:
        positions = np.arange(97) * step_mm
        taken = coarse_indices(positions)
        assert (taken[0], taken[-1]) == (0, 96)
        assert np.diff(positions[taken]).max() <= max(COARSE_STEP_MM, step_mm) + 1e-6
        assert len(taken) <= 2 + 96 * step_mm / min(max(COARSE_STEP_MM / 2, step_mm), COARSE_STEP_MM)

    def test_all_around_what_is_selected_is_scored_and_nothing_else(self) -> None:
        assert fine_indices([10, 20], [0, 5, 10, 15, 20, 22]) == [6, 7, 8, 9, 11, 12, 13, 14, 16, 17, 18, 19, 21]
        assert fine_indices([0], [0, 5, 10]) == [1, 2, 3, 4]
        assert fine_indices([3], [2, 3, 4]) == []

    def test_suspicion_of_a_slice_that_was_not_scored_is_its_neighbours(self) -> None:
        scored, positions = np.array([0.1, 0.9, 0.9], np.float32), np.arange(9.0) * 2
        shown = with_neighbours(scored, positions[[0, 4, 8]], positions)
        assert shown.shape == (9,)
        assert np.all(np.diff(shown) > 0)
        np.testing.assert_allclose(shown[[0, 4, 8]], with_neighbours(scored, positions[[0, 4, 8]]), atol=1e-6)

    async def test_thin_slices_are_looked_at_coarsely_then_around_the_most_suspicious(self, study: StoredStudy) -> None:
        thin = spaced(study, 2.5)
        engine = OneSuspicious(thin.stack, 4)
        gate = ComputeGate(permits=1, queue_limit=1)
        told: list[tuple[int, int]] = []
        result = await service(engine, gate).run(thin, on_progress=lambda done, total: told.append((done, total)))
        gate.close()
        assert engine.asked_for == [0, 2, 3, 4, 5, 6, 7]
        assert [item.slice_index for item in result.slices if item.scored] == engine.asked_for
        assert all(bool(item.candidates) == item.scored for item in result.slices)
        assert 4 in result.selected_slices
        assert told == [(5, 5), (7, 7)]
        assert "slices-not-scored" in {warning.code for warning in result.warnings}

    async def test_slices_of_five_millimetres_are_all_scored(self, study: StoredStudy) -> None:
        gate = ComputeGate(permits=1, queue_limit=1)
        result = await service(ConstantTriage(0.9), gate).run(study)
        gate.close()
        assert all(item.scored for item in result.slices)
        assert "slices-not-scored" not in {warning.code for warning in result.warnings}


class TestRun:
    async def test_scores_every_slice_in_batches_and_tells_how_far_it_is(self, study: StoredStudy) -> None:
        gate = ComputeGate(permits=1, queue_limit=1)
        engine = ConstantTriage(0.25)
        engine.batch_size = 3
        told: list[tuple[int, int]] = []
        result = await service(engine, gate).run(study, on_progress=lambda done, total: told.append((done, total)))
        # Eight slices in batches of three: 3, 6, 8.
        assert told == [(3, 8), (6, 8), (8, 8)]
        assert [item.slice_index for item in result.slices] == list(range(8))
        assert {item.suspicion for item in result.slices} == {0.25}
        assert [item.candidate for item in result.slices[0].candidates] == list(TRIAGE_STATEMENTS)
        gate.close()

    async def test_a_threshold_in_the_request_goes_before_the_settings(self, study: StoredStudy) -> None:
        gate = ComputeGate(permits=1, queue_limit=1)
        triage = service(ConstantTriage(0.25), gate)
        assert (await triage.run(study)).suspicious_count == 0
        lower = await triage.run(study, threshold=0.2)
        assert (lower.threshold, lower.suspicious_count) == (0.2, 8)
        gate.close()

    async def test_errors_of_the_engine_become_errors_of_the_service(self, study: StoredStudy) -> None:
        gate = ComputeGate(permits=1, queue_limit=1)
        with pytest.raises(EngineFailedError):
            await service(FailingTriage(failure()), gate).run(study)
        with pytest.raises(DeviceOutOfMemoryError):
            await service(FailingTriage(EngineOutOfMemoryError("no memory")), gate).run(study)
        gate.close()
