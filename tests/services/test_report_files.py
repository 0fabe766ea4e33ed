"""Which slices a report shows."""

from tests.support.reports import briefing_of, report_of
from trauma_api.schemas.analysis import AnalysisResult, Findings
from trauma_api.schemas.base import RESEARCH_NOTICE
from trauma_api.schemas.briefings import AnalysisPart, Briefing, VolumePart
from trauma_api.schemas.volume import SliceVolume, VolumeResult
from trauma_api.services.report_files import key_slices


def briefed(read: list[int], findings: Findings, volume: VolumeResult | None) -> Briefing:
    """A briefing in which these slices were read."""
    briefing = briefing_of(report_of())
    reading = AnalysisResult(
        study_id="0" * 32, slice_indices=read, findings=findings, provenance=[], warnings=[], notice=RESEARCH_NOTICE
    )
    parts = {
        "analysis": AnalysisPart(status="done", failure=None, result=reading),
        "volume": None if volume is None else VolumePart(status="done", failure=None, result=volume),
    }
    return briefing.model_copy(update={"parts": briefing.parts.model_copy(update=parts)})


def bleeding(volume: VolumeResult, ml_by_slice: dict[int, float]) -> VolumeResult:
    """The volume with so much blood in these slices."""
    slices = [SliceVolume(slice_index=index, volume_ml=ml) for index, ml in ml_by_slice.items()]
    return volume.model_copy(update={"slices": slices})


def test_neighbours_of_the_bloodiest_slice_leave_room_for_others(findings: Findings, volume: VolumeResult) -> None:
    blood = {26: 14.0, 27: 15.0, 28: 16.0, 29: 17.0, 30: 12.0, 48: 5.0, 15: 4.0, 61: 3.0}
    briefing = briefed([15, 26, 27, 28, 30, 48, 61], findings, bleeding(volume, blood))
    assert key_slices(briefing) == [15, 29, 48, 61]


def test_neighbours_are_shown_where_there_is_nothing_else(findings: Findings, volume: VolumeResult) -> None:
    briefing = briefed([10, 11, 12, 40], findings, bleeding(volume, {10: 1.0, 11: 2.0, 12: 3.0, 40: 0.5}))
    assert key_slices(briefing) == [10, 11, 12, 40]


def test_without_a_volume_slices_that_were_read_are_shown(findings: Findings) -> None:
    assert key_slices(briefed([3, 5, 40], findings, None)) == [3, 5, 40]
    assert key_slices(briefed([7], findings, None)) == [7]
