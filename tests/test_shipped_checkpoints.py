"""The shipped checkpoints see blood, find none where there is none, and answer with slots.

A small part of what `trauma-api evaluate` measures, through the real loaders and services: a broken prompt, window or
weight file shows here. The bounds are those of a working model, not of a good one. The phantoms' seeds are ones that
no checkpoint has learnt from.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.reading import read_files
from trauma_api.container import Engines
from trauma_api.engines.base import GenerationRequest
from trauma_api.engines.checkpoints import METADATA_FILE, Metadata, weights_sha256
from trauma_api.imaging.measure import blood_mask
from trauma_api.phantom.draw import Phantom, draw_training_phantom
from trauma_api.phantom.labels import BLOOD_LABELS, Label
from trauma_api.phantom.series import write_slices
from trauma_api.schemas.analysis import AnalysisResult
from trauma_api.schemas.triage import TriageResult
from trauma_api.schemas.volume import VolumeResult
from trauma_api.services.analysis import FORM, AnalysisService
from trauma_api.services.facts import Facts, collect_facts, fill_slots
from trauma_api.services.faithfulness import check
from trauma_api.services.gate import ComputeGate
from trauma_api.services.ports import LocalGeneration, LocalSegmentation, LocalTriage
from trauma_api.services.prompts import answer_turns
from trauma_api.services.sentences import sentences_of
from trauma_api.services.study_storage import StoredStudy, StudyStorage
from trauma_api.services.triage import TriageService
from trauma_api.services.volume import VolumeService
from trauma_api.settings import PACKAGED_CHECKPOINTS, TRIAGE_STATEMENTS

ROLES = ("triage", "reader", "segmenter")
BLOCK = 14
"""Slices of each phantom: those around the spleen."""


@dataclass(frozen=True)
class Seen:
    """A block of slices of a phantom, and what the services made of it."""

    phantom: Phantom
    study: StoredStudy
    triage: TriageResult
    analysis: AnalysisResult
    volume: VolumeResult
    probability_zyx: NDArray[np.uint8]

    @property
    def blood_zyx(self) -> NDArray[np.bool_]:
        """Where blood was drawn."""
        return np.isin(self.phantom.labels_zyx, BLOOD_LABELS)

    @property
    def blood_ml(self) -> float:
        """How much of it."""
        return float(np.count_nonzero(self.blood_zyx) * np.prod(self.phantom.spacing_zyx_mm) / 1000)

    @property
    def suspicion(self) -> NDArray[np.float64]:
        """Of each slice."""
        return np.array([item.suspicion for item in self.triage.slices])

    @property
    def facts(self) -> Facts:
        """As a session has them."""
        return collect_facts(self.study, self.analysis.findings, self.volume, None, None)


def block_around_spleen(phantom: Phantom) -> Phantom:
    """The slices around the one that shows most of the spleen."""
    most = int((phantom.labels_zyx == Label.SPLEEN).sum(axis=(1, 2)).argmax())
    start = min(max(most - BLOCK // 2, 0), len(phantom.labels_zyx) - BLOCK)
    part = slice(start, start + BLOCK)
    return replace(phantom, voxels_zyx_hu=phantom.voxels_zyx_hu[part], labels_zyx=phantom.labels_zyx[part])


async def _run(
    engines: Engines, storage: StudyStorage, study: StoredStudy
) -> tuple[TriageResult, AnalysisResult, VolumeResult]:
    gate = ComputeGate(permits=2, queue_limit=4)
    budget = engines.reader.info.slice_budget
    assert budget is not None
    try:
        triage = await TriageService(
            LocalTriage(engines.triage, gate), candidates=tuple(TRIAGE_STATEMENTS), threshold=0.25, slice_budget=budget
        ).run(study)
        analysis = await AnalysisService(LocalGeneration(engines.reader, gate)).run(study, triage.selected_slices)
        volume = await VolumeService(LocalSegmentation(engines.segmenter, gate), storage).run(study)
    finally:
        gate.close()
    return triage, analysis, volume


async def _measure(engines: Engines, storage: StudyStorage, study: StoredStudy) -> VolumeResult:
    gate = ComputeGate(permits=2, queue_limit=4)
    try:
        return await VolumeService(LocalSegmentation(engines.segmenter, gate), storage).run(study)
    finally:
        gate.close()


def seen(engines: Engines, folder: Path, phantom: Phantom) -> Seen:
    """Write the slices as DICOM files, read them as an upload, and run the services."""
    write_slices(phantom, folder / "slices")
    storage = StudyStorage(folder / "studies", ttl_s=1800)
    study = storage.open(storage.save(read_files(sorted((folder / "slices").iterdir()), folder)))
    triage, analysis, volume = anyio.run(partial(_run, engines, storage, study))
    mask = storage.open_mask(study.record.study_id)
    assert mask is not None
    return Seen(phantom, study, triage, analysis, volume, mask.probability_zyx)


@pytest.fixture(scope="module")
def bleeding(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A torn spleen, with blood around it."""
    phantom = draw_training_phantom(90_101, "spleen-high-blush")
    return seen(engines, tmp_path_factory.mktemp("bleeding"), block_around_spleen(phantom))


@pytest.fixture(scope="module")
def clean(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """The upper abdomen of somebody unhurt."""
    phantom = draw_training_phantom(90_102, "clean")
    return seen(engines, tmp_path_factory.mktemp("clean"), block_around_spleen(phantom))


@pytest.fixture(params=["bleeding", "clean"])
def either(request: pytest.FixtureRequest) -> Seen:
    """One after the other."""
    found: Seen = request.getfixturevalue(request.param)
    return found


class TestFiles:
    @pytest.mark.parametrize("role", ROLES)
    def test_each_says_that_it_was_trained_and_on_what(self, role: str) -> None:
        metadata = Metadata.model_validate_json((PACKAGED_CHECKPOINTS / role / METADATA_FILE).read_bytes())
        assert metadata.role == role
        assert metadata.trained_on != "untrained"
        assert "phantoms" in metadata.trained_on

    @pytest.mark.parametrize("role", ROLES)
    def test_each_states_its_weights_and_what_was_measured(self, role: str) -> None:
        folder = PACKAGED_CHECKPOINTS / role
        metadata = Metadata.model_validate_json((folder / METADATA_FILE).read_bytes())
        assert metadata.sha256 == weights_sha256(role, folder)
        assert metadata.metrics["studies"] >= 50
        assert len(metadata.metrics) > 1

    def test_weights_are_safetensors_and_nothing_is_pickled(self) -> None:
        kinds = {path.suffix for path in _files()}
        assert ".safetensors" in kinds
        assert kinds <= {".safetensors", ".json", ".jinja", ".md"}

    def test_together_they_are_small_enough_for_a_wheel(self) -> None:
        assert sum(path.stat().st_size for path in _files()) <= 90_000_000


def _files() -> Iterator[Path]:
    return (path for role in ROLES for path in (PACKAGED_CHECKPOINTS / role).rglob("*") if path.is_file())


class TestTriage:
    def test_slices_with_blood_are_more_suspicious_than_clean_ones(self, bleeding: Seen, clean: Seen) -> None:
        assert bleeding.blood_ml >= 20
        with_blood = bleeding.suspicion[bleeding.blood_zyx.any(axis=(1, 2))]
        assert with_blood.mean() > clean.suspicion.mean() + 0.3


class TestSegmenter:
    def test_blood_is_found_where_it_is(self, bleeding: Seen) -> None:
        found, drawn = blood_mask(bleeding.probability_zyx, bleeding.volume.threshold), bleeding.blood_zyx
        assert 2 * np.count_nonzero(found & drawn) / (np.count_nonzero(found) + np.count_nonzero(drawn)) > 0.6

    def test_its_volume_is_about_right(self, bleeding: Seen) -> None:
        assert bleeding.volume.volume_ml == pytest.approx(bleeding.blood_ml, rel=0.35)

    def test_next_to_none_is_found_where_there_is_none(self, clean: Seen) -> None:
        assert clean.blood_ml == 0
        assert clean.volume.volume_ml < 5

    @pytest.mark.parametrize("folder", ["enhanced_upper_abdomen_j2k/dicom", "liver_dome_3slices"])
    def test_real_cts_that_no_training_saw_have_next_to_none(
        self, engines: Engines, real_data: Path, tmp_path: Path, folder: str
    ) -> None:
        paths = sorted(path for path in (real_data / "ct" / folder).iterdir() if path.is_file())
        storage = StudyStorage(tmp_path / "studies", ttl_s=1800)
        study = storage.open(storage.save(read_files(paths, tmp_path)))
        volume = anyio.run(partial(_measure, engines, storage, study))
        assert volume.volume_ml is not None
        assert volume.volume_ml <= 10


class TestReader:
    def test_the_form_holds_allowed_values_and_whole_probabilities(self, either: Seen) -> None:
        findings = either.analysis.findings.model_dump()
        for name, values in FORM.choices.items():
            finding: dict[str, Any] = findings[name]
            assert finding["value"] in values
            assert set(finding["probabilities"]) == set(values)
            assert sum(finding["probabilities"].values()) == pytest.approx(1, abs=0.001)
            assert finding["probability"] == max(finding["probabilities"].values())

    @pytest.mark.parametrize(
        ("question", "slot"),
        [("How much blood is there?", "volume_ml"), ("Is the spleen injured?", "spleen")],
    )
    def test_a_question_of_fact_is_answered_with_its_slot(
        self, engines: Engines, either: Seen, question: str, slot: str
    ) -> None:
        facts = either.facts
        turns = answer_turns(
            either.study.stack, either.triage.selected_slices, facts.all_statements, facts.slot_names, [], question
        )
        request = GenerationRequest(turns=turns, max_new_tokens=64, use_adapter=False, slots=facts.slot_names)
        answer = engines.reader.generate(request)
        assert answer.finish_reason == "stop"
        assert f"{{{slot}}}" in answer.text
        assert [check(sentence, facts).reasons for sentence in sentences_of(answer.text)] == [()]
        assert facts.slots[slot] in fill_slots(answer.text, facts.slots)
