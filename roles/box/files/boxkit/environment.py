"""The environment that a service gets."""

from __future__ import annotations

import os

from boxkit.layout import MARK
from boxkit.service import Service


def environment_of(service: Service) -> dict[str, str]:
    """Only what is named, so that what happens to be set in somebody's shell configures nothing."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", MARK) if name in os.environ}
    return {"LANG": "C.UTF-8", **inherited, **service.environment}
