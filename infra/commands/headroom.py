"""``headroom``: what tenants are granted, against what there is."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from kubernetes.client import CoreV1Api
from openstack.exceptions import raise_from_response

from infra.clients import TIMEOUT_S, kubernetes_client, openstack_connection, sentences
from infra.commands.options import JsonOption, SiteArgument, asked
from infra.console import out, print_json, table, tell
from infra.failures import EXIT_REFUSED, EXIT_UNKNOWN, OperatorError
from infra.headroom import ARCHITECTURES, Amounts, Row, compare, declared, of_nodes, of_providers
from infra.spec import Site

DeclaredOption = Annotated[bool, typer.Option("--declared", help="Count the site file's node pools, and ask no cloud.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("headroom")(headroom)


def headroom(site: SiteArgument, *, from_file: DeclaredOption = False, as_json: JsonOption = False) -> None:
    """Compare what tenants are granted with what there is, for each architecture and each GPU product.

    Exit status: 0 all fits, 2 more of something is granted than there is, 3 something could not be looked at.
    """
    found = asked(site, warn=False).site
    rows = compare(found, openshift=declared(found), openstack=None) if from_file else _asked_of_the_clouds(found)
    if from_file:
        rows = [row for row in rows if row.cloud == "openshift"]
    if as_json:
        print_json({"site": found.name, "declared": from_file, "rows": [row.document() for row in rows]})
    else:
        _show(rows)
    states = {row.state for row in rows}
    if "over" in states or "unknown" in states:
        raise typer.Exit(EXIT_REFUSED if "over" in states else EXIT_UNKNOWN)


def _asked_of_the_clouds(site: Site) -> list[Row]:
    openshift = openstack = None
    for cloud in ("openshift", "openstack"):
        try:
            if cloud == "openshift" and site.clouds.openshift:
                openshift = _nodes(site)
            if cloud == "openstack" and site.clouds.openstack and "compute" in site.clouds.openstack.services:
                openstack = _hypervisors(site)
        except OperatorError as error:
            tell(f"{cloud}: {error}")
    return compare(site, openshift=openshift, openstack=openstack)


def _nodes(site: Site) -> Amounts:
    with sentences("the nodes"), kubernetes_client(site) as client:
        api: Any = CoreV1Api(client)
        return of_nodes(json.loads(api.list_node(_preload_content=False, _request_timeout=TIMEOUT_S).data)["items"])


def _hypervisors(site: Site) -> Amounts:
    with sentences("Placement"), openstack_connection(site) as connection:

        def ask(path: str) -> dict[str, Any]:
            answer = connection.placement.get(path, microversion="1.6")
            raise_from_response(answer)
            return dict(answer.json())

        bases = [f"/resource_providers/{each['uuid']}" for each in ask("/resource_providers")["resource_providers"]]
        return of_providers((ask(f"{base}/inventories")["inventories"], ask(f"{base}/traits")["traits"]) for base in bases)


def _show(rows: list[Row]) -> None:
    known = sorted({arch for row in rows for arch in row.there} | set(ARCHITECTURES))
    shown = table("Cloud", "What", *known, "All", "Granted", "Free", "")
    for column in shown.columns[2:-1]:
        column.justify = "right"
    for row in rows:
        there = [str(row.there.get(arch, "")) for arch in known]
        total = str(sum(row.there.values())) if row.there else "?"
        granted = "no limit" if row.granted is None else str(row.granted)
        shown.add_row(row.cloud, row.what, *there, total, granted, "" if row.free is None else str(row.free), row.state)
    out.print(shown)
