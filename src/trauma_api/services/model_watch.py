"""Which models work: when each last did, whether its last canary failed, and whether their device is lost."""

import math
import time
from collections.abc import Callable
from typing import get_args

from trauma_api.engines.base import Role
from trauma_api.log import get_logger

MODELS: tuple[Role, ...] = get_args(Role)
PATIENCE_INTERVALS = 3
"""A model that has not worked for so many canary intervals is not ready."""

logger = get_logger()


class ModelWatch:
    """What ports and canary see of the models. All count as having worked when the watch begins."""

    def __init__(self, *, canary_interval_s: float = math.inf, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.canary_interval_s = canary_interval_s
        self.device_lost = False
        self._clock_s = clock_s
        self._worked_at_s = dict.fromkeys(MODELS, clock_s())
        self._failing: set[Role] = set()

    def worked(self, model: Role) -> None:
        """An inference of the model has just ended well."""
        self._worked_at_s[model] = self._clock_s()
        self._failing.discard(model)

    def failed_canary(self, model: Role, reason: str) -> None:
        """The model failed on an input that it should work on."""
        logger.error("canary.failed", model=model, reason=reason)
        self._failing.add(model)

    def lose_device(self) -> None:
        """No model of this process works any more."""
        if not self.device_lost:
            logger.critical("device.lost")
        self.device_lost = True

    def idle_s(self, model: Role) -> float:
        """Seconds since the model last worked."""
        return self._clock_s() - self._worked_at_s[model]

    @property
    def ready(self) -> bool:
        """Whether all models can be expected to work."""
        return not self.device_lost and all(self._works(model) for model in MODELS)

    @property
    def detail(self) -> str:
        """When each model last worked, and which one does not."""
        if self.device_lost:
            return "the device that the models run on has failed; the service is stopping"
        return ", ".join(self._state_of(model) for model in MODELS)

    def _works(self, model: Role) -> bool:
        return model not in self._failing and self.idle_s(model) <= PATIENCE_INTERVALS * self.canary_interval_s

    def _state_of(self, model: Role) -> str:
        state = f"{model} {self.idle_s(model):.0f} s ago"
        return f"{state}, its canary failed" if model in self._failing else state
