"""Programs of the roles that are packages are importable, as they are where they run."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "box" / "files"))
