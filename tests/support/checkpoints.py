"""Copies of checkpoints that a test changes."""

import json
from pathlib import Path

from trauma_api.engines.checkpoints import METADATA_FILE


def without_fingerprint(folder: Path) -> Path:
    """The same folder, whose metadata no longer states its weights' fingerprint, so that they can be others."""
    metadata = json.loads((folder / METADATA_FILE).read_text())
    del metadata["sha256"]
    (folder / METADATA_FILE).write_text(json.dumps(metadata))
    return folder
