#!/usr/bin/env python3
"""Write an image that is a shell, as an archive.

archive.py REFERENCE BUSYBOX ARCHIVE
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

import oci_layout


def main() -> None:
    """Run the command line."""
    reference, busybox, archive = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        layout = Path(scratch)
        shell = {Path(busybox).resolve(): "bin/sh"}
        oci_layout.add_image(oci_layout.Layout(layout), reference, trees=shell, environment={}, labels={})
        with tarfile.open(archive, "w") as tar:
            tar.add(layout, arcname=".")


if __name__ == "__main__":
    main()
