"""What Swift has of its accounts and containers, compared with what was last applied, and written again.

The OpenStack provider never reads back metadata: quotas and signing keys. Of ACLs it reads those that are there, so one that was
taken away stays in the state as if it were not. Versioning and storage policy it reads itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import swiftclient

from infra.clients import openstack_connection, sentences, swift_connection
from infra.drift import HIDDEN, MISSING, Finding, Verdict, unsealed
from infra.failures import OperatorError
from infra.guards import CONTAINER, PROJECT
from infra.spec import Site

ACCOUNT = "openstack:objectstorage/accountV1:AccountV1"
ACLS = {"containerRead": "X-Container-Read", "containerWrite": "X-Container-Write"}
"""The program's inputs, and Swift's headers."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """A header that says something about a container or an account.

    :param field: the program's input
    :param value: what it should be; empty for what must not be there
    """

    field: str
    name: str
    value: str

    @property
    def secret(self) -> bool:
        """True when it must not be shown."""
        return "key" in self.field.lower()

    def found(self, headers: Mapping[str, str]) -> str:
        """What Swift has.

        :param headers: Swift's answer, names in lower case
        """
        return headers.get(self.name.lower(), "")

    def agrees(self, there: str) -> bool:
        """True when that is what it should be. Elements of an ACL stand in any order."""
        return _elements(there) == _elements(self.value) if self.field in ACLS else there == self.value


def _elements(acl: str) -> set[str]:
    return {element.strip() for element in acl.split(",") if element.strip()}


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What was last applied to a container, or to an account, or was to be: of a change that failed the engine has the new values
    among the outputs, and would not try them again.

    :param urn: in the state
    :param project: the project's id
    :param container: the container's name; empty for an account
    :param metadata: keys as the program has them, values plain, empty for what must not be there
    :param acls: likewise, by the program's names; none for an account
    """

    urn: str
    project: str
    container: str
    metadata: Mapping[str, str]
    acls: Mapping[str, str]

    @property
    def resource(self) -> str:
        """Its name in the program."""
        return self.urn.split("::", 3)[3]

    def headers(self) -> Iterator[Header]:
        """All that Swift should say of it."""
        head = "X-Container-Meta-" if self.container else "X-Account-Meta-"
        for key, value in sorted(self.metadata.items()):
            yield Header(field=f"metadata.{key}", name=head + key, value=value)
        for field, value in self.acls.items():
            yield Header(field=field, name=ACLS[field], value=value)


def kept(resources: Iterable[Mapping[str, Any]]) -> list[Kept]:
    """Find in a state, secrets plain, what Swift should have."""
    everything = list(resources)
    projects = {
        str(each["urn"]).split("::", 3)[3]: str(each["id"]) for each in everything if each["type"] == PROJECT and each.get("id")
    }
    found = []
    for each in everything:
        inputs = each.get("inputs") or {}
        last = inputs | (each.get("outputs") or {})
        metadata = {str(key): str(unsealed(value)) for key, value in (unsealed(last.get("metadata")) or {}).items()}
        if each["type"] == CONTAINER and not each.get("delete"):
            project = projects.get(metadata.get("Pfmoc-Tenant", ""), "")
            if not project:  # adopted, and nothing of it applied yet
                continue
            name = str(inputs.get("name") or "")
            acls = {field: str(unsealed(last.get(field)) or "") for field in ACLS}
            found.append(Kept(urn=each["urn"], project=project, container=name, metadata=metadata, acls=acls))
        elif each["type"] == ACCOUNT:
            project = str(unsealed(inputs.get("projectId")) or "")
            found.append(Kept(urn=each["urn"], project=project, container="", metadata=metadata, acls={}))
    return found


def compared(wanted: Kept, headers: Mapping[str, str]) -> list[Finding]:
    """Compare it with what Swift has.

    :param headers: Swift's answer, names in lower case
    """
    return [
        Finding(
            verdict=Verdict.DRIFTED,
            kind=_kind(wanted),
            name=wanted.resource,
            why="changed in the cloud",
            field=each.field,
            wanted=(HIDDEN if each.secret else each.value) if each.value else MISSING,
            found=(HIDDEN if each.secret else there) if there else MISSING,
            urn=wanted.urn,
        )
        for each in wanted.headers()
        for there in (each.found(headers),)
        if not each.agrees(there)
    ]


def _kind(wanted: Kept) -> str:
    return "Container" if wanted.container else "AccountV1"


def read_back(site: Site, resources: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """Read from Swift what the provider does not, and compare it.

    :param resources: the state's, secrets plain
    """
    everything = kept(resources)
    if not everything:
        return []
    try:
        connection = openstack_connection(site)
        return [finding for each in everything for finding in _read(connection, each)]
    except OperatorError as error:
        return [Finding(verdict=Verdict.UNKNOWN, kind="Container", name="all containers", why=error.cause)]


def unseen(site: Site, resources: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """What ``up`` mends though the engine does not see it: a finding for each container and account.

    :param resources: the state's, secrets plain
    """
    drifted = (finding for finding in read_back(site, resources) if finding.verdict == Verdict.DRIFTED)
    return sorted({finding.name: finding for finding in drifted}.values(), key=lambda finding: finding.name)


def mend(site: Site, resources: Iterable[Mapping[str, Any]]) -> list[str]:
    """Write to Swift again what was last applied, where it is no longer so: the engine does not see that it is not.

    :param resources: the state's, secrets plain
    :returns: what was mended, a sentence each
    :raises OperatorError: when Swift does not take it
    """
    everything = kept(resources)
    mended: list[str] = []
    connection: Any = openstack_connection(site) if everything else None
    for wanted in everything:
        findings = _read(connection, wanted)
        if not findings or findings[0].verdict == Verdict.UNKNOWN:
            continue
        headers = {each.name: each.value for each in wanted.headers()}
        with sentences(wanted.resource):
            swift = swift_connection(connection, wanted.project)
            if wanted.container:
                swift.post_container(wanted.container, headers)
            else:
                swift.post_account(headers)
        mended.append(f"mended {wanted.resource}: {', '.join(finding.field for finding in findings)}")
    return mended


def _read(connection: Any, wanted: Kept) -> list[Finding]:
    try:
        with sentences():
            swift = swift_connection(connection, wanted.project)
            try:
                headers = swift.head_container(wanted.container) if wanted.container else swift.head_account()
            except swiftclient.ClientException as error:
                if error.http_status == 404:  # the engine's look has it as gone
                    return []
                raise
    except OperatorError as error:
        return [Finding(verdict=Verdict.UNKNOWN, kind=_kind(wanted), name=wanted.resource, why=error.cause)]
    return compared(wanted, headers)
