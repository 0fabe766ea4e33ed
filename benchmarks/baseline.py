"""The plain sequential baseline: the same checkpoints, inputs and results as the service's, one thing after the other.

Everything is float32. Triage puts each slice, as a PIL picture with all statements beside it, through both of SigLIP's
towers. Segmentation puts each slice through the network alone and whole. The reader reads the whole prompt for every
request, pictures included. Nothing is kept from one request to the next, and nothing is slowed on purpose: each
operation may use all cores. It runs in a process of its own, so that neither side meets the other's threads or memory.

What is no model's work is the service's own code on both sides: windows, the choice of slices, the check of prose, the
millilitres.
"""

import asyncio
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from typing import Self, TypeVar

import anyio
import numpy as np
import segmentation_models_pytorch as smp
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import interpolate, pad
from transformers import AutoProcessor, Gemma3ForConditionalGeneration, SiglipModel

from compute_inputs import StudyPlace
from measuring import Timed, watch
from trauma_api.engines.base import Generation, GenerationRequest, TriageScores
from trauma_api.engines.checkpoints import load_pretrained, open_checkpoint
from trauma_api.engines.device import choose_device, limit_threads, silence_libraries
from trauma_api.engines.gemma import GemmaReader, ignore_text
from trauma_api.engines.gemma_loading import load_processor
from trauma_api.engines.siglip import suspicion_from_logits
from trauma_api.engines.unet import ENCODER_STRIDE, segmenter_input
from trauma_api.imaging.measure import voxel_ml_per_slice, without_noise
from trauma_api.imaging.volume import CTVolume, HUArray, ImageStack
from trauma_api.imaging.windowing import model_rgb
from trauma_api.schemas.analysis import Findings
from trauma_api.schemas.briefings import BriefingRequest
from trauma_api.schemas.volume import VolumeResult
from trauma_api.services.analysis import FORM, AnalysisService
from trauma_api.services.ports import Progress, ignore_progress
from trauma_api.services.report import ReportService
from trauma_api.services.slice_selection import select_slices
from trauma_api.services.study_storage import MaskRecord
from trauma_api.services.triage import slice_budget_for, slice_positions_mm, with_neighbours
from trauma_api.services.volume import INTERVAL_SHARE, VolumeService
from trauma_api.settings import Settings

T = TypeVar("T")


class PlainTriage:
    """Both towers for each slice."""

    def __init__(self, checkpoint: str, statements: tuple[str, ...]) -> None:
        found = open_checkpoint(checkpoint, "triage")
        if found.metadata.calibration is None:
            raise ValueError(f"{checkpoint} states no calibration")
        self._calibration, self._statements = found.metadata.calibration, list(statements)
        self._model = load_pretrained(SiglipModel, found, torch.float32).eval()
        self._processor = AutoProcessor.from_pretrained(found.folder, local_files_only=True)

    def score(self, stack: ImageStack, indices: Sequence[int]) -> TriageScores:
        """Score these slices."""
        logits = np.concatenate([self._logits(Image.fromarray(model_rgb(stack, index))) for index in indices])
        suspicion = suspicion_from_logits(logits, self._calibration.scale, self._calibration.offset)
        return TriageScores(logits=logits, suspicion=suspicion)

    @torch.inference_mode()
    def _logits(self, picture: Image.Image) -> NDArray[np.float32]:
        inputs = self._processor(
            text=self._statements, images=picture, padding="max_length", truncation=True, return_tensors="pt"
        )
        logits: NDArray[np.float32] = self._model(**inputs).logits_per_image.numpy()
        return logits


class PlainSegmentation:
    """Implements SegmentationPort: each slice through the network alone and whole."""

    def __init__(self, checkpoint: str) -> None:
        found = open_checkpoint(checkpoint, "segmenter")
        if found.metadata.input is None or found.metadata.threshold is None:
            raise ValueError(f"{checkpoint} states no input or no threshold")
        self._place = choose_device("cpu")
        self._seen, self.threshold = found.metadata.input, found.metadata.threshold
        self.noise = found.metadata.noise
        self.info = found.engine_info(self._place, "float32")
        self._model = smp.Unet("resnet34", encoder_weights=None, in_channels=len(self._seen.channels), classes=1)
        self._model.load_state_dict(load_file(found.folder / "model.safetensors"), strict=True)
        self._model.eval()

    async def segment(
        self,
        voxels_zyx_hu: HUArray,
        spacing_zyx_mm: tuple[float, float, float],
        on_progress: Progress = ignore_progress,
    ) -> NDArray[np.uint8]:
        """Probability of hemorrhage in all slices, 255 for certain."""
        probability = np.empty(voxels_zyx_hu.shape, np.uint8)
        for index in range(len(voxels_zyx_hu)):
            probability[index] = self._slice(voxels_zyx_hu, spacing_zyx_mm[1:], index)
            on_progress(index + 1, len(voxels_zyx_hu))
        return probability

    @torch.inference_mode()
    def _slice(self, voxels_zyx_hu: HUArray, spacing_yx_mm: tuple[float, float], index: int) -> NDArray[np.uint8]:
        image = segmenter_input(voxels_zyx_hu, spacing_yx_mm, index, index + 1, self._seen, self._place)
        rows, columns = image.shape[-2:]
        more_rows, more_columns = (math.ceil(side / ENCODER_STRIDE) * ENCODER_STRIDE - side for side in (rows, columns))
        logits = self._model(pad(image, (0, more_columns, 0, more_rows)))[..., :rows, :columns]
        grid = (voxels_zyx_hu.shape[1], voxels_zyx_hu.shape[2])
        back = interpolate(logits.sigmoid(), size=grid, mode="bilinear", align_corners=False, antialias=True)
        return np.asarray(np.rint(back[0, 0].numpy() * 255), dtype=np.uint8)


class PlainReader:
    """Implements GenerationPort with the service's own decoding, which keeps nothing and begins each prompt anew."""

    def __init__(self, checkpoint: str) -> None:
        found = open_checkpoint(checkpoint, "reader")
        self.info = found.engine_info(choose_device("cpu"), "float32")
        model = load_pretrained(Gemma3ForConditionalGeneration, found, torch.float32).eval()
        self._reader = GemmaReader(model, load_processor(found), self.info, kept_bytes=0)

    async def generate(self, request: GenerationRequest, on_text: Callable[[str], None] | None = None) -> Generation:
        """Write."""
        # what may be shared would be read in a pass of its own
        return self._reader.generate(replace(request, shared_text=""), on_text or ignore_text)


_triage, _segmentation, _reader = cache(PlainTriage), cache(PlainSegmentation), cache(PlainReader)


@dataclass(frozen=True)
class Scored:
    """Scores of slices; and the embeddings of their pictures, (slices, width), where they were looked at."""

    scores: TriageScores
    pooled: NDArray[np.float32] | None


@dataclass(frozen=True)
class Said:
    """An answer; where it was looked at, the tokens of the first pass for it, and the pictures through the tower."""

    text: str
    prompt_tokens: int
    pictures: int


@dataclass(frozen=True)
class Briefed:
    """What a briefing found: the slices that were read, the closed fields of the form, and the blood."""

    selected_slices: list[int]
    findings: dict[str, str]
    volume_ml: float


def score(
    settings: Settings, study: StudyPlace, indices: Sequence[int] | None = None, *, watched: bool = False
) -> Timed[Scored]:
    """Triage of these slices, or of all."""
    triage = _triage(settings.triage_source, tuple(settings.triage_statements.values()))
    stack = study.open().stack
    with watch(wanted=watched) as passes:
        began = time.perf_counter()
        scores = triage.score(stack, range(stack.slice_count) if indices is None else indices)
        seconds = time.perf_counter() - began
    return Timed(seconds, Scored(scores, np.concatenate(passes.pooled) if watched else None))


def segment(settings: Settings, study: StudyPlace) -> Timed[NDArray[np.uint8]]:
    """From the voxels to the kept mask and the millilitres. Returns the mask's probabilities."""
    segmentation, opened = _segmentation(settings.segmenter_source), study.open().stack
    began = time.perf_counter()
    anyio.run(_volume, segmentation, study, opened)
    seconds = time.perf_counter() - began
    mask = study.storage.open_mask(study.study_id)
    if mask is None:
        raise RuntimeError("no mask was kept")
    return Timed(seconds, np.array(mask.probability_zyx))


def answer(settings: Settings, request: GenerationRequest, *, watched: bool = False) -> Timed[Said]:
    """Seconds to the first text of an answer."""
    reader = _reader(settings.reader_source)
    first_at: list[float] = []
    with watch(wanted=watched) as passes:
        began = time.perf_counter()
        written = anyio.run(reader.generate, request, lambda _text: first_at.append(time.perf_counter()))
    return Timed(first_at[0] - began, Said(written.text, sum(passes.tokens[:1]), passes.pictures))


def brief(settings: Settings, study: StudyPlace, request: BriefingRequest) -> Timed[Briefed]:
    """A whole briefing: triage, reading, segmentation, report."""
    return anyio.run(_brief, settings, study, request)


def selected(settings: Settings, stack: ImageStack, scores: TriageScores) -> tuple[list[int], NDArray[np.float32]]:
    """Of a study whose slices were all scored: those that the service would read, and the suspicion of all."""
    positions = slice_positions_mm(stack)
    suspicion = with_neighbours(scores.suspicion, positions)
    bleeding = scores.logits[:, list(settings.triage_statements).index("active_hemorrhage")]
    chosen = select_slices(
        suspicion, settings.triage_threshold, slice_budget(settings), bleeding=bleeding, positions_mm=positions
    )
    return chosen, suspicion


async def _brief(settings: Settings, place: StudyPlace, request: BriefingRequest) -> Timed[Briefed]:
    triage = _triage(settings.triage_source, tuple(settings.triage_statements.values()))
    segmentation, reader = _segmentation(settings.segmenter_source), _reader(settings.reader_source)
    study = place.open()
    began = time.perf_counter()
    scores = triage.score(study.stack, range(study.stack.slice_count))
    chosen, _ = selected(settings, study.stack, scores)
    analysis = await AnalysisService(reader).run(study, chosen, request.vitals)
    volume = await _volume(segmentation, place, study.stack)
    report = ReportService(reader, prose_max_tokens=settings.prose_max_tokens)
    await report.run(study, analysis.findings, volume, request.vitals, request.clinical_context, chosen)
    seconds = time.perf_counter() - began
    return Timed(seconds, Briefed(chosen, values_of(analysis.findings), volume.volume_ml))


async def _volume(segmentation: PlainSegmentation, place: StudyPlace, stack: ImageStack) -> VolumeResult:
    """Segment all slices and keep the mask, which the service's own code then measures."""
    spacing = stack.spacing_zyx_mm
    if not isinstance(stack, CTVolume) or spacing is None:
        raise ValueError("the baseline segments CT volumes with a spacing")
    voxel_ml = voxel_ml_per_slice(stack.slice_count, spacing, stack.slice_thickness_mm)
    threshold, noise = segmentation.threshold, segmentation.noise
    probability, left_out_ml = await segmentation.segment(stack.voxels_zyx_hu, spacing), 0.0
    if noise is not None:
        low = threshold * (1 - INTERVAL_SHARE)
        probability, left_out_ml = without_noise(probability, voxel_ml, noise, threshold=threshold, low_threshold=low)
    record = MaskRecord(checkpoint_sha256=segmentation.info.sha256, threshold=threshold, left_out_ml=left_out_ml)
    place.storage.save_mask(place.study_id, record, probability)
    return await VolumeService(segmentation, place.storage).run(place.open())


def slice_budget(settings: Settings) -> int:
    """Slices that are read together on a CPU."""
    reader = open_checkpoint(settings.reader_source, "reader").metadata
    return settings.slice_budget or reader.slice_budget or slice_budget_for(None)


def values_of(findings: Findings) -> dict[str, str]:
    """The closed fields of a reading."""
    return {name: getattr(findings, name).value for name in FORM.choices}


class BaselineProcess:
    """Runs the functions above, one at a time, in a process that may use all cores."""

    def __enter__(self) -> Self:
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), _begin, (len(os.sched_getaffinity(0)),))
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    async def run(self, work: Callable[[], Timed[T]]) -> Timed[T]:
        """Do ``work``, a `functools.partial` of one of the functions above."""
        return await asyncio.wrap_future(self._pool.submit(work))


def _begin(threads: int) -> None:
    silence_libraries()
    limit_threads(threads)
