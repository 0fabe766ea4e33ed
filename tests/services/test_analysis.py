"""The reading: which slices the model is shown, and what happens when they do not fit."""

from typing import get_args

import numpy as np
import pytest

from tests.support.engines import FailingReader, OutOfMemoryReader, ScriptedReader, failure, picture_count
from trauma_api.engines.base import Generation, GenerationRequest, ReaderEngine
from trauma_api.imaging.windowing import model_rgb
from trauma_api.schemas.analysis import OrganGrade
from trauma_api.schemas.patient import Vitals
from trauma_api.services.analysis import FORM, FORM_MAX_TOKENS, AnalysisService
from trauma_api.services.gate import ComputeGate
from trauma_api.services.ports import DeviceOutOfMemoryError, EngineFailedError, LocalGeneration
from trauma_api.services.studies import SliceOutOfRangeError
from trauma_api.services.study_storage import StoredStudy


def service(reader: ReaderEngine, gate: ComputeGate) -> AnalysisService:
    """The service over one reader."""
    return AnalysisService(LocalGeneration(reader, gate))


class BrokenJsonReader(ScriptedReader):
    """Ends a form in the middle, which the real grammar cannot."""

    def generate(self, request: GenerationRequest, *_: object, **__: object) -> Generation:
        """Half an object."""
        whole = super().generate(request)
        return Generation(whole.text[:20], "length", 1, 20, whole.choice_probabilities)


class TestRun:
    async def test_each_choice_has_its_value_and_probabilities(self, study: StoredStudy, gate: ComputeGate) -> None:
        result = await service(ScriptedReader(), gate).run(study, [1, 4])
        # The scripted reader takes each first value with 0.7 and shares 0.3 among the rest: 0.1 each of three.
        assert result.findings.liver.value == get_args(OrganGrade)[0] == "none"
        assert result.findings.liver.probability == 0.7
        assert result.findings.liver.probabilities == {
            "none": 0.7,
            "low_grade": 0.1,
            "high_grade": 0.1,
            "not_assessed": 0.1,
        }
        assert result.findings.bleeding_description == "none seen"
        assert result.slice_indices == [1, 4]

    async def test_slices_are_shown_in_order_once_each_with_their_numbers(
        self, study: StoredStudy, gate: ComputeGate
    ) -> None:
        reader = ScriptedReader()
        result = await service(reader, gate).run(study, [6, 2, 6, 4], Vitals(heart_rate_bpm=128))
        assert result.slice_indices == [2, 4, 6]
        (request,) = reader.requests
        assert (request.form, request.use_adapter, request.max_new_tokens) == (FORM, True, FORM_MAX_TOKENS)
        (turn,) = request.turns
        shown = [part for part in turn.parts if not isinstance(part, str)]
        for picture, index in zip(shown, (2, 4, 6), strict=True):
            np.testing.assert_array_equal(picture, model_rgb(study.stack, index))
        texts = [part for part in turn.parts if isinstance(part, str)]
        assert "heart rate 128 per minute" in texts[0]
        assert [text.split("\n")[0] for text in texts[1:4]] == ["SLICE 1", "SLICE 2", "SLICE 3"]

    async def test_a_slice_that_the_study_has_not_is_refused_before_the_model(
        self, study: StoredStudy, gate: ComputeGate
    ) -> None:
        reader = ScriptedReader()
        with pytest.raises(SliceOutOfRangeError):
            await service(reader, gate).run(study, [0, 8])  # eight slices: the last is 7
        assert reader.requests == []

    async def test_a_failing_model_is_told_as_such(self, study: StoredStudy, gate: ComputeGate) -> None:
        with pytest.raises(EngineFailedError):
            await service(FailingReader(failure()), gate).run(study, [0])

    async def test_half_a_form_is_a_failure_of_the_model(self, study: StoredStudy, gate: ComputeGate) -> None:
        with pytest.raises(EngineFailedError):
            await service(BrokenJsonReader(), gate).run(study, [0])


class TestOutOfMemory:
    @pytest.mark.parametrize(
        ("fits", "tried", "read"),
        [
            # Every second slice of those before, down to one: 8, 4, 2, 1.
            (8, [8], [0, 1, 2, 3, 4, 5, 6, 7]),
            (4, [8, 4], [0, 2, 4, 6]),
            (3, [8, 4, 2], [0, 4]),
            (1, [8, 4, 2, 1], [0]),
        ],
    )
    async def test_half_the_slices_are_read_until_they_fit(
        self, study: StoredStudy, gate: ComputeGate, fits: int, tried: list[int], read: list[int]
    ) -> None:
        reader = OutOfMemoryReader(max_slices=fits)
        result = await service(reader, gate).run(study, range(8))
        assert reader.seen == tried
        assert result.slice_indices == read
        codes = [warning.code for warning in result.warnings]
        assert ("fewer-slices-read" in codes) is (len(read) < 8)

    async def test_the_warning_says_how_many(self, study: StoredStudy, gate: ComputeGate) -> None:
        result = await service(OutOfMemoryReader(max_slices=2), gate).run(study, range(8))
        (warning,) = (item for item in result.warnings if item.code == "fewer-slices-read")
        assert "2 of 8 slices" in warning.detail

    async def test_three_slices_are_halved_to_two_that_span_them(self, study: StoredStudy, gate: ComputeGate) -> None:
        reader = OutOfMemoryReader(max_slices=2)
        assert (await service(reader, gate).run(study, [1, 3, 5])).slice_indices == [1, 5]
        assert [picture_count(request) for request in reader.requests] == [2]

    async def test_one_slice_that_does_not_fit_is_out_of_memory(self, study: StoredStudy, gate: ComputeGate) -> None:
        reader = OutOfMemoryReader(max_slices=0)
        with pytest.raises(DeviceOutOfMemoryError) as refused:
            await service(reader, gate).run(study, range(8))
        assert reader.seen == [8, 4, 2, 1]
        assert (refused.value.code, refused.value.retryable, refused.value.status) == ("out-of-memory", True, 503)
