"""What the command lines have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from infra.console import err
from infra.sites import short, site_file
from infra.spec import Severity, Site, load

SiteArgument = Annotated[str, typer.Argument(metavar="SITE", envvar="SITE", help="A name below inventories/, or a site file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show all that the engine says.")]
RefreshOption = Annotated[
    bool, typer.Option(help="Look at the clouds first, and repair what was changed by hand; else trust the state.")
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="RESOURCE",
        help="Let this resource be deleted with its data, or shrunk below its use, as the site file's allow_destroy does:"
        " tenant/chris, container/chris/data, node-pool/gpu, 'tenant/*'. May be repeated.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The site that a command line names."""

    site: Site
    file: Path


def asked(name: str, *, warn: bool = True) -> Asked:
    """Read the site that a command line names, and tell on stderr what is to be looked at.

    :raises SiteError: when the file is wrong
    """
    file = site_file(name)
    site, problems = load(file)
    for problem in problems:
        if warn and problem.severity == Severity.WARNING:
            err.print(problem.text(short(file)))
    return Asked(site=site, file=file)
