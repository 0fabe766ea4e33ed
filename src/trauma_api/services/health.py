"""Readiness by part."""

import asyncio
import os
from typing import TYPE_CHECKING

import anyio.to_thread

from trauma_api.errors import StoreUnavailableError
from trauma_api.imaging.sandbox.client import Sandbox
from trauma_api.schemas.health import PartReadiness, Readiness
from trauma_api.services.gate import ComputeGate
from trauma_api.services.model_watch import ModelWatch
from trauma_api.services.spool import free_bytes
from trauma_api.services.study_storage import StudyStorage

if TYPE_CHECKING:
    from trauma_api.services.store import Store


class HealthService:
    """Asks each part whether it can work."""

    def __init__(
        self,
        store: "Store",
        storage: StudyStorage,
        sandbox: Sandbox,
        gate: ComputeGate,
        watch: ModelWatch,
        draining: asyncio.Event,
        *,
        disk_reserve_bytes: int,
    ) -> None:
        self._store = store
        self._storage = storage
        self._sandbox = sandbox
        self._gate = gate
        self._watch = watch
        self._draining = draining
        self._disk_reserve_bytes = disk_reserve_bytes

    async def readiness(self) -> Readiness:
        """Readiness of every part."""
        parts = [
            PartReadiness(name="models", ready=self._watch.ready, detail=self._watch.detail),
            await self._store_readiness(),
            await self._storage_readiness(),
            self._sandbox_readiness(),
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
        detail = await anyio.to_thread.run_sync(self._storage_fault)
        return PartReadiness(name="storage", ready=detail is None, detail=detail or "writable")

    def _sandbox_readiness(self) -> PartReadiness:
        alive = self._sandbox.alive
        # The next upload starts it again, so traffic need not be turned away.
        return PartReadiness(name="uploads", ready=True, detail="running" if alive else "starts with the next upload")

    def _storage_fault(self) -> str | None:
        root = self._storage.spool_root
        if not os.access(root, os.W_OK):
            return "the study folder cannot be written"
        if free_bytes(root) < self._disk_reserve_bytes:
            return "the disk has less free than the reserve"
        return None

    def _gate_readiness(self) -> PartReadiness:
        state = self._gate.state
        detail = f"jobs {state.admitted}, model calls running {state.running}, waiting {state.waiting}"
        if self._draining.is_set():
            return PartReadiness(name="gate", ready=False, detail="the service is stopping")
        return PartReadiness(name="gate", ready=True, detail=detail)
