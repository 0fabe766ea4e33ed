"""The installed command in a process of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

COMMAND = str(Path(sys.executable).parent / "trauma-api")
START_LIMIT_S = 90


def environment(**changes: str) -> dict[str, str]:
    """The environment of a child: nothing of ours that configures the service."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRAUMA_")}
    return {**kept, **changes}


def trauma_api(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [COMMAND, *arguments], env=environment(**(env or {})), capture_output=True, text=True, timeout=120, check=False
    )


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def served(log: Path, **env: str) -> Iterator[str]:
    """``trauma-api serve`` on a free port, with all that it writes in ``log``. Yields its URL."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [COMMAND, "serve", "--port", str(port)], env=environment(**env), stdout=output, stderr=subprocess.STDOUT
        )
        try:
            _wait_for(url, process)
            yield url
        finally:
            process.terminate()
            process.wait(20)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the service ended"
        try:
            httpx.get(f"{url}/healthz").raise_for_status()
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the service did not start")
