"""Be the router: HAProxy with the configuration that the controllers left.

    python -m box_openshift.serve SETTINGS

SETTINGS is the controllers' file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .configuration import Configuration


def main() -> None:
    """Run the command line."""
    try:
        Configuration.read(json.loads(Path(sys.argv[1]).read_text())["router"]).serve()
    except OSError as error:
        sys.exit(f"The router does not start: {error}")


if __name__ == "__main__":
    main()
