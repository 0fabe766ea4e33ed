"""A small inference of each model: before the service starts, and whenever a model was idle for long.

What a model did for a client counts as much. The canary goes through the ports, as all work does.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from trauma_api.engines.base import GenerationRequest, Role, Turn
from trauma_api.errors import TraumaAPIError
from trauma_api.imaging.volume import PictureStack
from trauma_api.services.model_watch import ModelWatch
from trauma_api.services.ports import GenerationPort, SegmentationPort, TriagePort

SIDE_PIXELS = 64
SPACING_ZYX_MM = (5.0, 1.0, 1.0)
AIR_HU, WATER_HU = -1000, 0
RETRY_SHARE = 0.1
"""A model that failed is tried again after this share of the interval."""


class CanaryError(Exception):
    """A model does not work; the text tells the operator which one and what to do."""

    def __init__(self, model: Role, reason: str) -> None:
        super().__init__(
            f"The {model} model does not work on a small synthetic input: {reason.rstrip('.')}. Name another "
            f"checkpoint with TRAUMA_{model.upper()}_CHECKPOINT, or another device with TRAUMA_DEVICE."
        )


class Canary:
    """Tries models out."""

    def __init__(
        self, triage: TriagePort, reading: GenerationPort, segmentation: SegmentationPort, watch: ModelWatch
    ) -> None:
        self._triage, self._reading, self._segmentation = triage, reading, segmentation
        self._watch = watch
        self._numbers = itertools.count()
        self._tries: Mapping[Role, Callable[[], Awaitable[object]]] = {
            "triage": self._score_a_picture,
            "reader": self._write_about_a_picture,
            "segmenter": self._segment_a_slice,
        }

    async def require(self) -> None:
        """Try every model. Raises CanaryError."""
        for model in self._tries:
            fault = await self._fault(model)
            if fault is not None:
                raise CanaryError(model, fault)

    async def run(self) -> None:
        """Try each model whenever it was idle for an interval. Does not return."""
        await asyncio.gather(*(self._keep_trying(model) for model in self._tries))

    async def _keep_trying(self, model: Role) -> None:
        interval_s = self._watch.canary_interval_s
        while True:
            idle_s = self._watch.idle_s(model)
            if idle_s < interval_s:
                await asyncio.sleep(interval_s - idle_s)
                continue
            fault = await self._fault(model)
            if fault is not None:
                self._watch.failed_canary(model, fault)
            # also after a success: work that the watch does not hear of must not be tried without end
            await asyncio.sleep(interval_s * RETRY_SHARE)

    async def _fault(self, model: Role) -> str | None:
        """Why the model does not work, in its engine's words; None where it does."""
        try:
            await self._tries[model]()
        except TraumaAPIError as error:
            return str(error.__cause__ or error)
        except Exception as error:  # noqa: BLE001  # whatever it is, the model does not work
            return type(error).__name__
        return None

    def _picture(self) -> NDArray[np.uint8]:
        """Another one each time, because the reader keeps what it made of a picture."""
        noise = np.random.default_rng(next(self._numbers))
        return noise.integers(0, 256, (SIDE_PIXELS, SIDE_PIXELS, 3), dtype=np.uint8)

    async def _score_a_picture(self) -> None:
        await self._triage.score(PictureStack(self._picture()[np.newaxis]))

    async def _write_about_a_picture(self) -> None:
        turns = (Turn("user", (self._picture(), "Describe the picture.")),)
        # the second token is the first that needs the state after the prompt
        await self._reading.generate(GenerationRequest(turns, max_new_tokens=2, use_adapter=True))

    async def _segment_a_slice(self) -> None:
        slice_hu = np.full((1, SIDE_PIXELS, SIDE_PIXELS), AIR_HU, np.int16)
        slice_hu[:, SIDE_PIXELS // 4 : -SIDE_PIXELS // 4, SIDE_PIXELS // 4 : -SIDE_PIXELS // 4] = WATER_HU
        await self._segmentation.segment(slice_hu, SPACING_ZYX_MM)
