"""The canary: a model that does not work stops the start, or makes the service unready until it works again."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from transformers import SiglipModel

from tests.support.engines import ConstantSegmenter, ConstantTriage, FailingReader, ScriptedReader, failure
from tests.support.waiting import until
from trauma_api.container import Engines, load_engines
from trauma_api.engines.base import EngineError, ReaderEngine, Segmenter, SlicePixels, TriageEngine, TriageScores
from trauma_api.engines.openvino_tower import OpenVinoTower
from trauma_api.engines.siglip import SiglipTriage
from trauma_api.services.canary import Canary, CanaryError
from trauma_api.services.gate import ComputeGate
from trauma_api.services.model_watch import ModelWatch
from trauma_api.services.ports import LocalGeneration, LocalSegmentation, LocalTriage
from trauma_api.settings import PACKAGED_CHECKPOINTS, Settings


def canary_of(
    gate: ComputeGate,
    watch: ModelWatch,
    triage: TriageEngine | None = None,
    reader: ReaderEngine | None = None,
    segmenter: Segmenter | None = None,
) -> Canary:
    """Over engines that work, apart from those that are given."""
    return Canary(
        LocalTriage(triage or ConstantTriage(), gate, watch),
        LocalGeneration(reader or ScriptedReader(), gate, watch),
        LocalSegmentation(segmenter or ConstantSegmenter(), gate, watch),
        watch,
    )


class MoodyTriage(ConstantTriage):
    """Works, or fails, as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.works = True
        self.calls = 0

    def score(self, slices: Sequence[SlicePixels]) -> TriageScores:
        """Score, or raise."""
        self.calls += 1
        if not self.works:
            raise EngineError("in a bad mood")
        return super().score(slices)


def fill_with_nan(model: torch.nn.Module) -> None:
    """In place of all weights."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(float("nan"))


@pytest.fixture(params=["triage", "reader", "segmenter"])
def spoilt(request: pytest.FixtureRequest) -> tuple[str, Engines]:
    """The shipped models, one of them with weights that are not finite, and its name."""
    role: str = request.param
    loaded = load_engines(Settings())
    if role == "triage":
        tower = SiglipModel.from_pretrained(PACKAGED_CHECKPOINTS / "triage", dtype=torch.float32).vision_model
        fill_with_nan(tower)
        assert isinstance(loaded.triage, SiglipTriage)
        loaded = replace(loaded, triage=loaded.triage.with_tower(OpenVinoTower(tower, "float32", one_core=True)))
    else:
        fill_with_nan(getattr(loaded, role)._model)
    return role, loaded


class TestStart:
    async def test_the_shipped_models_pass(self, gate: ComputeGate, engines: Engines) -> None:
        await canary_of(gate, ModelWatch(), engines.triage, engines.reader, engines.segmenter).require()

    async def test_a_failing_model_is_named_with_what_to_do(self, gate: ComputeGate) -> None:
        with pytest.raises(CanaryError, match=r"reader model does not work .*TRAUMA_READER_CHECKPOINT"):
            await canary_of(gate, ModelWatch(), reader=FailingReader(failure())).require()

    async def test_weights_that_are_not_finite_are_found(self, gate: ComputeGate, spoilt: tuple[str, Engines]) -> None:
        role, loaded = spoilt
        with pytest.raises(CanaryError, match=f"The {role} model .*finite"):
            await canary_of(gate, ModelWatch(), loaded.triage, loaded.reader, loaded.segmenter).require()


class TestLater:
    async def test_an_idle_model_is_tried_again_and_again_and_a_failure_makes_it_unready_until_it_works(
        self, gate: ComputeGate
    ) -> None:
        triage, watch = MoodyTriage(), ModelWatch(canary_interval_s=0.02)
        trying = asyncio.create_task(canary_of(gate, watch, triage).run())
        await until(lambda: triage.calls >= 3)
        assert watch.ready
        triage.works = False
        await until(lambda: not watch.ready)
        assert "its canary failed" in watch.detail
        triage.works = True
        await until(lambda: watch.ready)
        trying.cancel()

    async def test_a_model_that_has_work_is_left_alone(self, gate: ComputeGate) -> None:
        now_s = 0.0
        triage, segmenter = MoodyTriage(), ConstantSegmenter()
        watch = ModelWatch(canary_interval_s=0.05, clock_s=lambda: now_s)
        now_s = 1.0
        watch.worked("triage")
        trying = asyncio.create_task(canary_of(gate, watch, triage, segmenter=segmenter).run())
        # the clock stands still, so that triage has always just worked; the segmenter was idle and is tried
        await until(lambda: segmenter.calls == 1)
        await until(lambda: watch.detail == "triage 0 s ago, reader 0 s ago, segmenter 0 s ago")
        assert triage.calls == 0
        trying.cancel()
