"""The role's package is importable, as it is where it runs."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "roles" / "box_openshift" / "files"))
