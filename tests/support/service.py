"""A service on a real socket: streams are only real there."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI

from trauma_api.app import create_app
from trauma_api.container import Container, Engines
from trauma_api.settings import Settings


@dataclass(frozen=True)
class RunningService:
    """Where it listens, and what is behind it."""

    url: str
    app: FastAPI

    @property
    def container(self) -> Container:
        """The service's parts."""
        container: Container = self.app.state.container
        return container

    def wait_until_idle(self, timeout_s: float = 10.0) -> None:
        """Wait until no job holds a place in the gate and no model call runs."""
        deadline = time.monotonic() + timeout_s
        while self.container.gate.state.admitted or self.container.gate.state.running:
            assert time.monotonic() < deadline, f"still busy: {self.container.gate.state}"
            time.sleep(0.02)


@contextmanager
def run_service(settings: Settings, engines: Engines) -> Iterator[RunningService]:
    """Serve on a free loopback port, in a thread with its own event loop."""
    app = create_app(settings, engines)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the service did not start"
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield RunningService(f"http://127.0.0.1:{port}", app)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the service did not stop"
