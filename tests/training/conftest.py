"""The training scripts import each other by name, as Python does for a script's own folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))
