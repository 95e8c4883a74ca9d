"""``python -m infra``: what an operator asks of a site.

``validate``, ``schema`` and ``reference`` need nothing but pydantic and PyYAML: a machine that only checks files has no more. The
other commands (``infra.commands``) are imported when one of them is asked for.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from infra.sites import short, site_file
from infra.spec import Problem, Severity, SiteError, load
from infra.spec.document import reference, schema

LIGHT = ("validate", "schema", "reference")
NEEDS = "the commands of the clouds need more packages; install them: uv sync --inexact --group infra"


def main(argv: list[str] | None = None) -> int:
    """Do what the command line asks. 0: well; 1: it failed; 2: the command line is wrong, or as the command says."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] and words[0] in LIGHT:
        return describe(words)
    try:
        commands = importlib.import_module("infra.commands")
    except ModuleNotFoundError as error:
        sys.stderr.write(f"error: there is no Python package {error.name}; {NEEDS}\n")
        return describe(["--help"]) if words in ([], ["--help"]) else 1
    return int(commands.run(words))


def describe(words: list[str]) -> int:
    """Check a site file, or describe all of them."""
    parser = argparse.ArgumentParser(prog="python -m infra", description="Check and describe the sites of this repository.")
    commands = parser.add_subparsers(dest="command", required=True)
    validate = commands.add_parser("validate", help="tell everything that is wrong with a site file")
    validate.add_argument("site", help="a site of inventories/, or a file")
    validate.add_argument("--json", action="store_true", help="for programs")
    commands.add_parser("schema", help="print the JSON Schema of a site file")
    commands.add_parser("reference", help="print the reference of a site file, as Markdown")
    arguments = parser.parse_args(words)
    if arguments.command == "schema":
        sys.stdout.write(schema())
        return 0
    if arguments.command == "reference":
        sys.stdout.write(reference())
        return 0
    return check(site_file(arguments.site), as_json=arguments.json)


def check(file: Path, *, as_json: bool) -> int:
    """Tell what is wrong with a site file."""
    problems: tuple[Problem, ...]
    try:
        site, problems = load(file)
        name = site.name
    except SiteError as error:
        name, problems = "", error.problems
    bad = any(problem.severity == Severity.ERROR for problem in problems)
    if as_json:
        document = {"file": str(file), "valid": not bad, "problems": [problem.document() for problem in problems]}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return int(bad)
    for problem in problems:
        sys.stderr.write(problem.text(short(file)) + "\n")
    if not bad:
        sys.stdout.write(f"{short(file)}: the site {name} is sane\n")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
