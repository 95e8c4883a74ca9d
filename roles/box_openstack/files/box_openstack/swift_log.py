"""Swift's log on standard error, where the supervisor takes it. Swift itself knows syslog only."""

from __future__ import annotations

import logging
import sys
from typing import Any

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def to_stderr(
    conf: dict[str, str],  # noqa: ARG001 - Swift's signature of a custom handler
    name: str,  # noqa: ARG001
    log_to_console: bool,  # noqa: ARG001, FBT001
    log_route: str,  # noqa: ARG001
    fmt: str,  # noqa: ARG001
    logger: logging.Logger,
    adapted_logger: Any,  # noqa: ARG001
) -> None:
    """Replace the handlers of a logger."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.__stderr__)
    handler.setFormatter(logging.Formatter(FORMAT))
    logger.addHandler(handler)
