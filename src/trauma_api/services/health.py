"""Readiness by part."""

import asyncio
import os
from typing import TYPE_CHECKING

import anyio.to_thread

from trauma_api.errors import StoreUnavailableError
from trauma_api.schemas.health import PartReadiness, Readiness
from trauma_api.services.gate import ComputeGate
from trauma_api.services.study_storage import StudyStorage

if TYPE_CHECKING:
    from trauma_api.services.store import Store


class HealthService:
    """Asks each part whether it can work."""

    def __init__(self, store: "Store", storage: StudyStorage, gate: ComputeGate, draining: asyncio.Event) -> None:
        self._store = store
        self._storage = storage
        self._gate = gate
        self._draining = draining

    async def readiness(self) -> Readiness:
        """Readiness of every part."""
        parts = [
            PartReadiness(name="models", ready=True, detail="loaded"),
            await self._store_readiness(),
            await self._storage_readiness(),
            self._gate_readiness(),
        ]
        return Readiness(ready=all(part.ready for part in parts), parts=parts)

    async def _store_readiness(self) -> PartReadiness:
        try:
            await self._store.ping()
        except StoreUnavailableError:
            return PartReadiness(name="store", ready=False, detail="Redis does not answer")
        return PartReadiness(name="store", ready=True, detail="answers")

    async def _storage_readiness(self) -> PartReadiness:
        root = self._storage.spool_root
        writable = await anyio.to_thread.run_sync(lambda: os.access(root, os.W_OK))
        return PartReadiness(
            name="storage", ready=writable, detail="writable" if writable else "the study folder cannot be written"
        )

    def _gate_readiness(self) -> PartReadiness:
        state = self._gate.state
        detail = f"jobs {state.admitted}, model calls running {state.running}, waiting {state.waiting}"
        if self._draining.is_set():
            return PartReadiness(name="gate", ready=False, detail="the service is stopping")
        return PartReadiness(name="gate", ready=True, detail=detail)
