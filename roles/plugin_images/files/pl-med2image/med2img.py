#!/usr/bin/env python3
"""Entry point of pl-med2image: ChRIS's ``[options] inputdir outputdir`` in front of med2image's own flags.

The tool converts the files of one directory; a ChRIS input is a tree. So each directory of the tree that holds a
matching file is one run of the tool, and its output keeps its place in the tree. Under --convertOnlySingleDICOM
each matching file is a run of its own: files of different sizes can then share a directory.
"""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import adapter

USAGE = """med2img [--inputFileSubStr TEXT] [--outputFileType png|jpg] [--convertOnlySingleDICOM] [...] inputdir outputdir
Other flags go to med2image as they are."""


def runs(options: argparse.Namespace, inputdir: Path, outputdir: Path) -> Iterator[list[str]]:
    """Yield the part of med2image's arguments that differs from run to run."""
    done: set[Path] = set()
    for file in sorted(path for path in inputdir.rglob("*") if path.is_file()):
        if options.inputFileSubStr not in file.name:
            continue
        if not options.convertOnlySingleDICOM:
            if file.parent in done:
                continue
            done.add(file.parent)
        output = outputdir / file.parent.relative_to(inputdir)
        stem = f"{file.stem}.{options.outputFileType}"
        yield ["--inputDir", str(file.parent), "--inputFile", file.name, "--outputDir", str(output), "-o", stem]


def main() -> int:
    """Convert everything that matches; the status is that of the first run that failed."""
    words, inputdir, outputdir = adapter.split(sys.argv[1:], USAGE)
    parser = argparse.ArgumentParser(prog="med2img", usage=USAGE, add_help=False, allow_abbrev=False)
    parser.add_argument("--inputFileSubStr", default="")
    parser.add_argument("--outputFileType", default="png")
    parser.add_argument("--convertOnlySingleDICOM", action="store_true")
    options, common = parser.parse_known_args(words)
    common += ["--outputFileType", options.outputFileType]
    common += ["--convertOnlySingleDICOM"] * options.convertOnlySingleDICOM
    adapter.prepare()
    statuses = [adapter.run_script("med2image", [*run, *common]) for run in runs(options, inputdir, outputdir)]
    if not statuses:
        print(f"med2img: no file under {inputdir} has {options.inputFileSubStr!r} in its name", file=sys.stderr)
        return 1
    return next((status for status in statuses if status), 0)


if __name__ == "__main__":
    sys.exit(main())
