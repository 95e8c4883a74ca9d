#!/usr/bin/env python3
"""Entry point of pl-pfdicom_tagextract: ChRIS's ``[options] inputdir outputdir`` in front of the tool's own flags."""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import os
import sys

import adapter

USAGE = """dcm_tagExtract [...] inputdir outputdir
All flags go to pfdicom_tagExtract as they are."""


def main() -> int:
    """Extract the tags of one DICOM file per directory of the tree."""
    words, inputdir, outputdir = adapter.split(sys.argv[1:], USAGE)
    adapter.prepare()
    output = outputdir.resolve()
    # From inside the input: the tool repeats the path it is given, from the root on, below its output.
    os.chdir(inputdir)
    arguments = ["--inputDir", ".", "--outputDir", str(output), *words]
    status = adapter.run_script("pfdicom_tagExtract", arguments)
    if not status and not any(path.is_file() for path in output.rglob("*")):
        # The tool reports an input that it cannot read, and then ends with 0.
        print("dcm_tagExtract: no report was written; does --fileFilter match a DICOM file?", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
