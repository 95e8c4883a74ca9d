#!/usr/bin/env python3
"""Entry point of pl-simpledsapp. The tool takes ChRIS's arguments already: ``[options] inputdir outputdir``."""

from __future__ import annotations

import sys

import adapter


def main() -> int:
    """Run the tool with the arguments as they came."""
    adapter.prepare()
    return adapter.run_module("simpledsapp.simpledsapp", sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
