"""Each stage of the models beside the shortest time that the device could need for it, with models of full size.

    python benchmarks/roofline.py [--device cuda] [--quantization nf4] [--folder FOLDER]
    python benchmarks/roofline.py --device cpu --shipped --slices 20 --read 3      (small, to see that it runs)

Triage has the shape of MedSigLIP-448 and the reader that of MedGemma 1.5 4B, both with random weights, which take as
long as trained ones; the segmenter is the shipped one. The engines are called as the service calls them, on one thread.

The floor of a stage is the larger of two times: its arithmetic at the rate of a large matrix product, and one read of
the weights for each pass at the rate of a copy. Arithmetic and passes are counted while the stage runs; both rates are
measured on the device first, unless ``--tflops`` and ``--gb-per-s`` give those of its data sheet. What passes between
layers is not in the floor, so convolutions stay further above it than large products do.
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import SiglipModel

from compute_inputs import Inputs, inputs_in, keep
from measuring import versions
from trauma_api.container import Engines, load_engines
from trauma_api.engines.base import EngineInfo, GenerationRequest, ReaderEngine, Segmenter, SlicePixels, TriageEngine
from trauma_api.engines.checkpoints import load_pretrained, open_checkpoint
from trauma_api.engines.device import limit_threads
from trauma_api.engines.gemma import GemmaReader
from trauma_api.engines.graphs import Decoders
from trauma_api.engines.siglip import SiglipTriage
from trauma_api.engines.vision_tower import TorchTower
from trauma_api.evaluation.run import evenly_spaced
from trauma_api.imaging.volume import CTVolume, ImageStack
from trauma_api.imaging.windowing import trunk_slice
from trauma_api.log import configure_logging
from trauma_api.services.analysis import FORM, FORM_MAX_TOKENS
from trauma_api.services.prompts import answer_opening, answer_turns, reading_turns
from trauma_api.settings import Settings

TOKENS = 250
FACTS = ("The spleen shows a high grade injury.", "Blood was found in the abdomen.")
PRODUCT_SIDE = {"cuda": 8192, "cpu": 2048}
COPIED_BYTES = {"cuda": 2**30, "cpu": 2**28}
TRIES = 5
HEAD = ("| stage | time | floor | bound by | arithmetic | passes | device memory |", "|---|---|---|---|---|---|---|")


@dataclass(frozen=True)
class Stage:
    """Work of one model. ``prepare`` comes before each time, and is not in it."""

    what: str
    engine: TriageEngine | Segmenter | ReaderEngine
    model: Any
    work: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    counted_as: "Stage | None" = None
    """The same work by torch without graphs, where neither arithmetic nor passes could be seen."""


@dataclass(frozen=True)
class Rates:
    """What the device does a second: floating-point operations, and bytes read or written."""

    flop_per_s: float
    bytes_per_s: float


def main() -> None:
    """Measure each stage and print a Markdown table."""
    arguments = _arguments()
    configure_logging("ERROR")
    with inputs_in(arguments.folder, arguments.slices) as inputs, inputs.root() as root:
        settings = _settings(inputs, arguments)
        engines = load_engines(settings)
        stack = keep(root, inputs.thin_slices())[0].open().stack
        print("\n".join([_machine(arguments.device), "", *HEAD]), flush=True)
        measured = stages(engines, stack, arguments.read, settings.triage_source)
        for stage in measured:
            print(row(stage, arguments), flush=True)
        if differ := [stage.what for stage in measured if not same_text(stage)]:
            sys.exit(f"other text than without graphs: {'; '.join(differ)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=list(PRODUCT_SIDE), default="cuda")
    parser.add_argument("--quantization", choices=["none", "nf4"], default="none")
    parser.add_argument("--shipped", action="store_true", help="the shipped checkpoints instead of those of full size")
    parser.add_argument("--slices", type=int, default=200, help="of the study that is triaged and segmented")
    parser.add_argument("--read", type=int, default=10, help="slices that are read together")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tflops", type=float, help="arithmetic of the data sheet, 10^12 operations a second")
    parser.add_argument("--gb-per-s", type=float, help="memory bandwidth of the data sheet, 10^9 bytes a second")
    parser.add_argument("--folder", type=Path, help="keep the study and the random checkpoints here for the next run")
    return parser.parse_args()


def _settings(inputs: Inputs, arguments: argparse.Namespace) -> Settings:
    large: dict[str, str] = {}
    if not arguments.shipped:
        large = {"triage_checkpoint": inputs.medsiglip_shape(), "reader_checkpoint": inputs.medgemma_shape()}
    return Settings.model_validate(
        {"device": arguments.device, "quantization": arguments.quantization, "gate_permits": 1, **large}
    )


def _machine(device: str) -> str:
    name = torch.cuda.get_device_name() if device == "cuda" else torch.cpu.get_capabilities().get("cpu_name")
    return f"{name or platform.machine()}, {versions()}."


def stages(engines: Engines, stack: ImageStack, read: int, triage_source: str) -> list[Stage]:
    """Triage, segmentation, and the reader's work on ``read`` slices. ``triage_source`` is triage's checkpoint.

    Raises ValueError for all but a CT with spacing.
    """
    if not isinstance(stack, CTVolume) or stack.spacing_zyx_mm is None:
        raise ValueError("what is measured must be a CT with spacing")
    count, segmenter = stack.slice_count, engines.segmenter
    slices = [trunk_slice(stack, index) for index in range(count)]
    segment = partial(segmenter.probabilities, stack.voxels_zyx_hu, stack.spacing_zyx_mm, 0, count)
    chosen = evenly_spaced(count, read)
    ask = partial(_question, stack, chosen)
    form = GenerationRequest(reading_turns(stack, chosen, None), FORM_MAX_TOKENS, use_adapter=True, form=FORM)
    read_anew = _reading(engines.reader, f"{read} new slices, to the end of the reading", form, anew=True)
    answer = _reading(engines.reader, f"an answer of {TOKENS} tokens at most, slices known", ask([], TOKENS))
    decoding = with_decoders(engines.reader)
    return [
        _triage(engines.triage, slices, triage_source),
        Stage(f"segmentation, {count} slices", segmenter, _part(segmenter, "_model"), segment),
        _reading(engines.reader, f"{read} new slices, to the first token of an answer", ask([], 1), anew=True),
        read_anew,
        answer,
        _reading(engines.reader, "a follow-up question, to the first token", ask([("Is it torn?", "Yes.")], 1)),
        replace(_reading(decoding, f"{read_anew.what}, by decoders", form, anew=True), counted_as=read_anew),
        replace(_reading(decoding, f"{answer.what}, by decoders", ask([], TOKENS)), counted_as=answer),
    ]


def _triage(engine: TriageEngine, slices: Sequence[SlicePixels], source: str) -> Stage:
    """On a CPU, where the tower is not torch's, counted as the same tower by torch. Raises TypeError for no SigLIP."""
    if not isinstance(engine, SiglipTriage):
        raise TypeError("the triage model is no SigLIP")
    what = f"triage, {len(slices)} slices"
    tower = _part(engine, "_tower")
    if isinstance(tower, TorchTower):
        return Stage(what, engine, _part(tower, "_tower"), partial(engine.score, slices))
    dtype = precision(engine.info, tower.device)
    model = load_pretrained(SiglipModel, open_checkpoint(source, "triage"), dtype).vision_model.eval()
    twin = engine.with_tower(TorchTower(model))
    counted_as = Stage(what, twin, model, partial(twin.score, slices))
    return Stage(what, engine, model, partial(engine.score, slices), counted_as=counted_as)


def with_decoders(reader: ReaderEngine) -> GemmaReader:
    """The same model with caches of its own, whose texts decoders write."""
    model, prompts = _part(reader, "_model"), _part(reader, "_prompts")
    adapter = _part(reader, "_adapter")
    return GemmaReader(model, _part(prompts, "_processor"), reader.info, adapter=adapter, decoders=Decoders(model))


def same_text(stage: Stage) -> bool:
    """Whether decoders write what is written without them; other stages write nothing."""
    if stage.counted_as is None or not isinstance(stage.engine, GemmaReader):
        return True
    stage.prepare()
    return stage.work() == stage.counted_as.work()


def _reading(reader: ReaderEngine, what: str, request: GenerationRequest, *, anew: bool = False) -> Stage:
    language_model = _part(reader, "_model").model.language_model
    return Stage(
        what, reader, language_model, partial(reader.generate, request), reader.forget if anew else lambda: None
    )


def _part(engine: object, name: str) -> Any:
    """An engine's model, which its port does not show because the service needs none of it."""
    return getattr(engine, name)


def _question(
    stack: CTVolume, slices: Sequence[int], history: Sequence[tuple[str, str]], tokens: int
) -> GenerationRequest:
    return GenerationRequest(
        turns=answer_turns(stack, slices, FACTS, (), history, "And how is the liver?"),
        max_new_tokens=tokens,
        use_adapter=False,
        shared_text=answer_opening(FACTS, ()),
    )


def row(stage: Stage, arguments: argparse.Namespace) -> str:
    """Warm the stage up, count it, and time it; a line of the table."""
    weights = next(stage.model.parameters())
    stage.prepare()
    stage.work()
    flop, passes = counted(stage.counted_as or stage)
    seconds = []
    if weights.is_cuda:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(arguments.repeats):
        stage.prepare()
        began = time.perf_counter()
        stage.work()
        seconds.append(time.perf_counter() - began)
    rates = measured_rates(weights.device, precision(stage.engine.info, weights.device))
    by_arithmetic = flop / (arguments.tflops * 1e12 if arguments.tflops else rates.flop_per_s)
    read_bytes = passes * sum(weight.nbytes for weight in stage.model.parameters())
    by_memory = read_bytes / (arguments.gb_per_s * 1e9 if arguments.gb_per_s else rates.bytes_per_s)
    median, floor = statistics.median(seconds), max(by_arithmetic, by_memory)
    peak = f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if weights.is_cuda else "-"
    return (
        f"| {stage.what} | {median:.3f} s | {floor:.3f} s, {floor / median:.0%} | "
        f"{'arithmetic' if by_arithmetic > by_memory else 'memory'} | {flop / 1e12:.2f} TFLOP | {passes} | {peak} |"
    )


def counted(stage: Stage) -> tuple[int, int]:
    """Floating-point operations of the stage's products and convolutions, and how often its model was called."""
    calls: list[object] = []
    threads = torch.get_num_threads()
    limit_threads(1)  # the counter sees its own thread only
    handle = stage.model.register_forward_hook(lambda *_: calls.append(None))
    stage.prepare()
    try:
        with FlopCounterMode(display=False) as counter:
            stage.work()
    finally:
        handle.remove()
        limit_threads(threads)
    return int(counter.get_total_flops()), len(calls)


def precision(info: EngineInfo, device: torch.device) -> torch.dtype:
    """Of an engine's products; in 4 bits before compute capability 8.0 they are in float16 (see `gemma_loading`)."""
    if device.type == "cuda" and info.dtype == "nf4/float32":
        return torch.float16
    dtype: torch.dtype = getattr(torch, info.dtype.rpartition("/")[2])
    return dtype


@cache
def measured_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """The best of a few large matrix products in this precision, and of copies of much memory."""
    side = PRODUCT_SIDE[device.type]
    matrix = torch.randn(side, side, device=device).to(dtype)
    block = torch.empty(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    copy = torch.empty_like(block)
    product_s = min(_seconds(lambda: matrix @ matrix, device) for _ in range(TRIES))
    copy_s = min(_seconds(lambda: copy.copy_(block), device) for _ in range(TRIES))
    return Rates(2 * side**3 / product_s, 2 * block.nbytes / copy_s)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
