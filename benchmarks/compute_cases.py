"""The rows on single models: triage, the first token of a question, segmentation.

The service's side is its own services and ports on its own engines, loaded as the container loads them.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio.to_thread
import numpy as np
import torch
from numpy.typing import NDArray

import baseline
from baseline import BaselineProcess, Said
from compute_inputs import Inputs, cpu_settings, keep
from compute_service import brief
from measuring import Row, Timed, medians, watch
from trauma_api.container import Container, Engines, cores_of, load_engines, open_container
from trauma_api.engines.base import GenerationRequest, TriageScores
from trauma_api.engines.siglip import SiglipTriage
from trauma_api.imaging.measure import blood_mask
from trauma_api.imaging.volume import ImageStack
from trauma_api.imaging.windowing import trunk_slice
from trauma_api.schemas.triage import TriageResult
from trauma_api.schemas.volume import VolumeResult
from trauma_api.services.facts import collect_facts
from trauma_api.services.gate import ComputeGate
from trauma_api.services.ports import LocalGeneration, LocalTriage
from trauma_api.services.prompts import answer_opening, answer_turns
from trauma_api.settings import Settings

LARGE_TRIAGE_SLICES = 4
LEAST_COSINE = 0.999
QUESTION_SLICES = 3
ANSWER_TOKENS = 24
FIRST_QUESTION, FOLLOW_UP = "Is the spleen injured?", "And how much blood is there?"
DIFFERENT_SHARE = 0.001

Ask = Callable[[Sequence[tuple[str, str]], str], GenerationRequest]
"""A question after a history of questions and answers."""


@contextmanager
def loaded(settings: Settings) -> Iterator[tuple[Engines, ComputeGate]]:
    """The engines and a gate, as the container makes them."""
    gate = ComputeGate(permits=settings.gate_permits, queue_limit=settings.gate_queue, cores=cores_of(settings))
    try:
        yield load_engines(settings), gate
    finally:
        gate.close()


async def triage_of_large_shape(inputs: Inputs, repeats: int) -> Row:
    """Four slices through the shape of MedSigLIP-448. By the port, as the service would not score all of a study.

    In 8 bits where the CPU has no AMX, with which bfloat16 is faster.
    """
    int8 = not torch.cpu.get_capabilities().get("amx_bf16")
    settings = cpu_settings(triage_checkpoint=inputs.medsiglip_shape(), triage_int8=int8)
    step = inputs.slice_count // LARGE_TRIAGE_SLICES
    indices = list(range(step // 2, step * LARGE_TRIAGE_SLICES, step))
    with inputs.root() as root, BaselineProcess() as process, loaded(settings) as (engines, gate):
        study, port = keep(root, inputs.thin_slices())[0], LocalTriage(engines.triage, gate)

        async def score() -> Timed[TriageScores]:
            stack = study.open().stack
            began = time.perf_counter()
            scores = await port.score(stack, indices=indices)
            return Timed(time.perf_counter() - began, scores)

        plain = partial(baseline.score, settings, study, indices)
        expected = (await process.run(partial(plain, watched=True))).value
        await score()
        found = _embeddings(engines, study.open().stack, indices)
        baseline_s, service_s = await medians(partial(process.run, plain), score, repeats)
    same, others = _cosines(expected.pooled, found)
    return Row(
        name="triage-large",
        what=f"triage, {len(indices)} slices, shape of MedSigLIP-448 ({port.info.dtype})",
        baseline_s=baseline_s,
        service_s=service_s,
        goal=3.0,
        agreement=f"embeddings' cosine {same:.6f} at least (of different slices {others:.3f} at most)",
        agrees=same >= LEAST_COSINE,
    )


def _embeddings(engines: Engines, stack: ImageStack, indices: Sequence[int]) -> NDArray[np.float32]:
    """What `score` makes its scores of. Raises TypeError for another triage than SigLIP."""
    if not isinstance(engines.triage, SiglipTriage):
        raise TypeError("the triage model is no SigLIP")
    return engines.triage.embed([trunk_slice(stack, index) for index in indices])


def _cosines(expected: NDArray[np.float32] | None, found: NDArray[np.float32]) -> tuple[float, float]:
    """The lowest cosine of a slice's two embeddings, and the highest one of two slices' as a measure of chance."""
    if expected is None or expected.shape != found.shape:
        raise RuntimeError("the towers of both sides did not give one embedding for each slice")
    sides = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (expected, found)]
    cosines = sides[0].astype(np.float64) @ sides[1].T.astype(np.float64)
    return float(cosines.diagonal().min()), float(cosines[~np.eye(len(cosines), dtype=bool)].max())


async def triage_of_study(inputs: Inputs, repeats: int) -> Row:
    """A study of thin slices through the triage service, with the shipped checkpoint."""
    with inputs.root() as root, BaselineProcess() as process:
        settings, study = cpu_settings(root), keep(root, inputs.thin_slices())[0]
        async with open_container(settings) as container:

            async def triage() -> Timed[TriageResult]:
                opened = await container.studies.open(study.study_id)
                began = time.perf_counter()
                result = await container.triage.run(opened)
                return Timed(time.perf_counter() - began, result)

            plain = partial(process.run, partial(baseline.score, settings, study))
            expected, found = (await plain()).value, (await triage()).value
            baseline_s, service_s = await medians(plain, triage, repeats)
        selected, suspicion = baseline.selected(settings, study.open().stack, expected.scores)
    return Row(
        name="triage-study",
        what=f"triage, {inputs.slice_count} slices, shipped checkpoint ({found.provenance[0].dtype})",
        baseline_s=baseline_s,
        service_s=service_s,
        goal=4.0,
        agreement=_same_triage(selected, suspicion, found),
        agrees=True,
    )


def _same_triage(selected: list[int], expected: NDArray[np.float32], found: TriageResult) -> str:
    apart = np.abs(expected - [one.suspicion for one in found.slices])
    scored = np.array([one.scored for one in found.slices])
    shared = len(set(selected) & set(found.selected_slices))
    return (
        f"{scored.sum()} of {len(scored)} slices scored; suspicion differs by {apart[scored].max():.3f} at most in "
        f"these and by {apart.max():.3f} in all; selected slices {shared} of {len(selected)} the same"
    )


async def first_token(inputs: Inputs, repeats: int) -> Row:
    """The first text of a follow-up question about three slices and the facts of the sample's briefing."""
    ask, settings = await _questions_on_sample(inputs), cpu_settings(reader_checkpoint=inputs.gemma_shape())
    plain = partial(partial, baseline.answer, settings)
    with BaselineProcess() as process, loaded(settings) as (engines, gate):
        port = LocalGeneration(engines.reader, gate, stage="question")
        opening = ask([], FIRST_QUESTION)
        first = (await process.run(plain(opening))).value, (await _answer(port, opening)).value
        request = ask([(FIRST_QUESTION, first[0].text)], FOLLOW_UP)
        expected = (await process.run(plain(request, watched=True))).value
        found = (await _answer(port, request, watched=True)).value
        baseline_s, service_s = await medians(
            partial(process.run, plain(request)), partial(_answer, port, request), repeats
        )
        dtype = port.info.dtype
    same = first[0].text == first[1].text and expected.text == found.text
    return Row(
        name="first-token",
        what=f"first token of a follow-up question, {QUESTION_SLICES} slices, shape of Gemma 3 270M ({dtype})",
        baseline_s=baseline_s,
        service_s=service_s,
        goal=20.0,
        agreement=f"{'same' if same else 'other'} tokens; the baseline read {expected.prompt_tokens} tokens and "
        f"{expected.pictures} pictures, the service {found.prompt_tokens} and {found.pictures}",
        agrees=same,
    )


async def _answer(port: LocalGeneration, request: GenerationRequest, *, watched: bool = False) -> Timed[Said]:
    first_at: list[float] = []
    with watch(wanted=watched) as passes:
        began = time.perf_counter()
        written = await port.generate(request, lambda _text: first_at.append(time.perf_counter()))
    return Timed(first_at[0] - began, Said(written.text, sum(passes.tokens[:1]), passes.pictures))


async def _questions_on_sample(inputs: Inputs) -> Ask:
    """Makes requests as the question service does, on the sample as the shipped checkpoints brief it."""
    with inputs.root() as root:
        place = keep(root, inputs.sample())[0]
        async with open_container(cpu_settings(root)) as container:
            briefed = await brief(container, place.study_id)
        study, slices = place.open(), briefed.reading.slice_indices[:QUESTION_SLICES]
    facts = collect_facts(study, briefed.reading.findings, briefed.volume, None, None)
    told, slots = facts.all_statements, facts.slot_names

    def ask(history: Sequence[tuple[str, str]], question: str) -> GenerationRequest:
        return GenerationRequest(
            turns=answer_turns(study.stack, slices, told, slots, history, question),
            max_new_tokens=ANSWER_TOKENS,
            use_adapter=False,
            slots=slots,
            shared_text=answer_opening(told, slots),
        )

    return ask


async def segmentation_of_study(inputs: Inputs, repeats: int) -> Row:
    """From a study's voxels to its kept mask and its millilitres, through the volume service."""
    files = inputs.thin_slices()
    with inputs.root() as root, inputs.root() as plain_root, BaselineProcess() as process:
        settings, study = cpu_settings(root), keep(plain_root, files)[0]
        async with open_container(settings) as container:
            segment = partial(_segment_anew, container, root, files)
            plain = partial(process.run, partial(baseline.segment, settings, study))
            expected, found = (await plain()).value, (await segment()).value
            baseline_s, service_s = await medians(plain, segment, repeats)
    differing, dice = _overlap(expected, found.probability_zyx, found.result.threshold)
    return Row(
        name="segmentation-study",
        what=f"segmentation, {inputs.slice_count} slices, shipped checkpoint ({found.result.provenance[0].dtype})",
        baseline_s=baseline_s,
        service_s=service_s,
        goal=2.5,
        agreement=f"{differing:.4%} of voxels differ, Dice {dice:.4f}",
        agrees=differing <= DIFFERENT_SHARE,
    )


@dataclass(frozen=True)
class _Segmented:
    result: VolumeResult
    probability_zyx: NDArray[np.uint8]


async def _segment_anew(container: Container, root: Path, files: Sequence[Path]) -> Timed[_Segmented]:
    """Segment a study that has no mask yet."""
    place = (await anyio.to_thread.run_sync(keep, root, files))[0]
    study = await container.studies.open(place.study_id)
    began = time.perf_counter()
    result = await container.volume.run(study)
    seconds = time.perf_counter() - began
    mask = place.storage.open_mask(place.study_id)
    if mask is None:
        raise RuntimeError("no mask was kept")
    segmented = _Segmented(result, np.array(mask.probability_zyx))
    await container.studies.delete(place.study_id)
    return Timed(seconds, segmented)


def _overlap(expected: NDArray[np.uint8], found: NDArray[np.uint8], threshold: float) -> tuple[float, float]:
    """The share of all voxels that are blood to one side alone, and the Dice coefficient."""
    masks = blood_mask(expected, threshold), blood_mask(found, threshold)
    return float(np.mean(masks[0] != masks[1])), float(
        2 * np.mean(masks[0] & masks[1]) / (masks[0].mean() + masks[1].mean())
    )
