"""The pack, as the engine runs it: ``pulumi up --policy-pack infra/policy``. The operator's commands always add it."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The engine runs this file from its own directory; imports begin at the repository.
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT / "infra" / "policy")]

from pulumi_policy import EnforcementLevel, PolicyPack  # noqa: E402

from infra.policy.pack import policies  # noqa: E402

PolicyPack(name="pfmoc", enforcement_level=EnforcementLevel.MANDATORY, policies=policies())
