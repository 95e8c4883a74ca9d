"""What goes wrong outside of this program, as one sentence with the next step.

Texts come from the engine, the providers and the clients of the clouds. What matches nothing here is shown as it came, cut to
its first line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

EXIT_FAILED = 1
"""The engine, a cloud or the site file: what was asked for did not happen, or not all of it."""
EXIT_REFUSED = 2
"""A guard refused, or the clouds have drifted. A wrong command line has the same status, as everywhere."""
EXIT_UNKNOWN = 3
"""Something could not be looked at."""
EXIT_INTERRUPTED = 130
"""Ended by Ctrl-C."""


class OperatorError(Exception):
    """Something that an operator can do something about.

    :param cause: what is wrong, a sentence's beginning
    :param fix: the next step; empty where the cause says it
    :param code: status that the command exits with
    """

    def __init__(self, cause: str, fix: str = "", *, code: int = EXIT_FAILED) -> None:
        self.cause, self.fix, self.code = cause, fix, code
        super().__init__(f"{cause}; {fix}" if fix else cause)


class Locked(OperatorError):
    """Another operator holds the state.

    :param holders: who, as the engine tells it
    """

    def __init__(self, holders: tuple[Holder, ...]) -> None:
        self.holders = holders
        who = ", ".join(str(holder) for holder in holders) or "another operator"
        super().__init__(
            f"the state is locked by {who}",
            "wait until that has ended and try again; if it has died on another machine, run: python -m infra unlock SITE",
        )


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lock on the state."""

    user: str
    host: str
    pid: int
    since: str

    def __str__(self) -> str:
        return f"{self.user}@{self.host} (process {self.pid}, since {self.since})"


_HOLDER = re.compile(r"created by (?P<user>\S+)@(?P<host>\S+) \(pid (?P<pid>\d+)\) at (?P<since>\S+)")

_URL = r"(https?://[^\s\"']*[^\s\"':;,.)])"

RULES: tuple[tuple[str, str, str], ...] = (
    # What matches; the cause; the fix. {0}, {1} are the groups.
    (
        r"incorrect passphrase|passphrase must be set|cipher: message authentication failed",
        "the passphrase does not open the stack's secrets",
        "give the one that the stack was made with, by $PULUMI_CONFIG_PASSPHRASE_FILE or in the file that"
        " `python -m infra env SITE` names",
    ),
    (
        r"no resource plugin '?(?:pulumi-resource-)?([\w.@-]+)|could not (?:find|load) plugin for provider '?([\w.@-]+)"
        r"|(?:resource )?plugin '?([\w.@-]+)'? (?:\[?[\w.-]*\]? )?(?:was )?not found",
        "the engine has no plugin {0}",
        "install it: make box, or: pulumi plugin install resource NAME VERSION",
    ),
    (
        r"[Cc]loud ['\"]?([\w.-]+)['\"]? (?:was )?not found|could not find cloud:? ['\"]?([\w.-]+)",
        "clouds.yaml has no entry '{0}'",
        "add it (here, in ~/.config/openstack, /etc/openstack, or where $OS_CLIENT_CONFIG_FILE says); for the box: make box",
    ),
    (
        r"context ['\"]([^'\"]+)['\"] does not exist|no context exists with the name:? ['\"]?([^'\"\s]+)"
        r"|[Ee]xpected object with name ([\w./-]+) in .*contexts",
        "the kubeconfig has no context '{0}'",
        "set clouds.openshift.context to one of: oc config get-contexts -o name",
    ),
    (
        r"Invalid kube-?config file|failed to parse kubeconfig data"
        r"|no configuration has been provided|unable to load Kubernetes client configuration",
        "there is no usable kubeconfig",
        "set $KUBECONFIG or clouds.openshift.kubeconfig to one that has the site's context",
    ),
    (
        _URL + r"[^\n]*(?:no such host|[Nn]ame or service not known|NameResolutionError|server misbehaving)"
        r"|lookup ([\w.-]+)[^\n]*(?:no such host|server misbehaving)",
        "the name in {0} is not known to DNS",
        "check the address in clouds.yaml or the kubeconfig, and that this machine may ask for it",
    ),
    (
        r"(?:" + _URL + r"[^\n]*)?(?:connection refused|Connection refused|ECONNREFUSED)",
        "nothing listens at {0}",
        "check the address in clouds.yaml or the kubeconfig, and that the service runs; for the box: make box-status",
    ),
    (
        r"(?:" + _URL + r"[^\n]*)?(?:i/o timeout|[Tt]imed out|deadline exceeded|Client\.Timeout|[Nn]o route to host)",
        "{0} does not answer",
        "check the network between here and there, and that the service runs",
    ),
    (
        r"(?:" + _URL + r"[^\n]*)?(?:x509:|CERTIFICATE_VERIFY_FAILED|certificate verify failed)",
        "the certificate of {0} is not trusted",
        "name its authority: cacert in clouds.yaml, certificate-authority in the kubeconfig",
    ),
    (
        r"The request you have made requires authentication|Authentication failed|HTTP 401|401 Unauthorized"
        r"|\(401\)|[Uu]nauthorized|must be logged in to the server"
        r"|asked for the client to provide credentials",
        "the cloud does not take these credentials",
        "check user and password of the entry in clouds.yaml, and the user of the kubeconfig's context; they may have expired",
    ),
    (
        r"([\w:.@-]+)(?: \"[^\"]*\")? is forbidden: User \"([^\"]+)\" cannot (\w+) resource \"([\w./-]+)\"",
        "the user {1} may not {2} {3} in the cluster",
        "use a context of a cluster administrator, or have one grant it: oc adm policy add-cluster-role-to-user",
    ),
    (
        r"You are not authorized to perform the requested action:? ?([\w:-]*)|HTTP 403|403 Forbidden|\(403\)"
        r"|disallowed by policy|Access was denied",
        "the cloud does not let this user do that{0}",
        "the entry in clouds.yaml must be of an administrator of the cloud, for account quotas with Swift's reseller admin role",
    ),
    (
        r"the federated user '([^']+)' cannot be looked up: (?:.|\n)*returned no results",
        "Keystone knows no federated user '{0}'",
        "it knows them from their first sign-in on: have the user sign in once, or take the user out until then; the id must be"
        " the provider's, often the e-mail address",
    ),
    (
        r"the Keystone user '([^']+)' cannot be looked up: (?:.|\n)*returned no results",
        "Keystone has no user '{0}' who may sign in",
        "correct the name (openstack user list), have the user enabled, or give source: federated or local; federated users must"
        " sign in once before they are known",
    ),
    (
        r"the (Keystone role|external network) '([^']+)' cannot be looked up: (?:.|\n)*returned no results",
        "there is no {0} '{1}'",
        "correct the name: openstack role list, openstack network list --external",
    ),
    (
        r"(?:openstack:\w+/get(\w+):|openstack_[a-z]+_(\w+?)_v\d query )(?:.|\n)*returned no results",
        "what was looked up is not there: {0}",
        "correct the names in the site file; federated users must sign in once before Keystone knows them",
    ),
    (
        r"[Uu]nable to find (image|flavor|network|keypair) with name '?([^\s'\",;]+)",
        "OpenStack has no {0} '{1}' that this project may use",
        "correct the name in the site file: openstack {0} list; or have it shared with the project",
    ),
    (
        r"(?:DELETE [^\s\]]*/v1/[^\s\]/]+/([^\s\]?]+)\][^\n]*409"
        r"|deleting (?:openstack_)?objectstorage_container_v1 ['\"]([^'\"]+)(?:.|\n)*409)",
        "Swift does not delete the container {0}: there are objects in it",
        "delete or move them first: swift list {0}; old versions count too; or name it: --allow container/TENANT/{0}",
    ),
    (
        r"Conflict occurred attempting to store (\w+) - [^\"]*?(?:name is|with name) ([^\s,\"]+)",
        "Keystone has a {0} of the name {1} already, which is not of this stack",
        "choose another name, or take over what is there: python -m infra adopt SITE TENANT",
    ),
    (
        r"^\s*code: -9\b()",
        "the engine was killed",
        "run it again: what it was just making is looked for, and is not made twice",
    ),
    (
        r"configured Kubernetes cluster is unreachable|cluster is unreachable",
        "the OpenShift cluster cannot be reached",
        "check the context's server in the kubeconfig: oc --context CONTEXT get --raw /readyz",
    ),
    (
        r"(\d+) pending operations?",
        "the last run was ended in the midst of {0} operations",
        "look at what they were: pulumi stack export; then run up again",
    ),
)
"""What is known to go wrong. The first that matches counts, so the plainer a text, the lower it stands."""


def explained(text: str) -> OperatorError:
    """Say what a text of the engine, a provider or a client means.

    :param text: what they wrote, whole
    """
    plain = _plain(text)
    holders = tuple(
        Holder(user=found["user"], host=found["host"], pid=int(found["pid"]), since=found["since"])
        for found in _HOLDER.finditer(plain)
    )
    if "currently locked by" in plain:
        return Locked(holders)
    for pattern, cause, fix in RULES:
        found = re.search(pattern, plain)
        if found:
            groups = [group or "" for group in found.groups()]
            return OperatorError(_filled(cause, groups), _filled(fix, groups))
    return OperatorError(first_sentence(plain), "run it with --verbose to see all that the engine said")


def _filled(cause: str, groups: list[str]) -> str:
    """Put what was found into a sentence. ``{0}`` is the first that was found, whichever alternative it stands in."""
    named = [group for group in groups if group]
    if cause == "the cloud does not let this user do that{0}":
        return cause.format(f" ({named[0]})" if named else "")
    if "{1}" in cause:
        return cause.format(*groups)
    return cause.format(*(named or ["the service"]))


def first_sentence(text: str) -> str:
    """The line that says most: of a traceback the end, else the first with an error in it, else the first.

    "1 error occurred:" says nothing; what it announces stands in a list below.
    """
    # The Automation API puts these before what the engine wrote.
    bare = re.sub(r"^ (code: -?\d+$|std(out|err): )", "", _after_traceback(text), flags=re.MULTILINE)
    bare = re.sub(r"\d+ errors? occurred:\s*(\* )?", "", bare)
    lines = [line.strip(" *\t") for line in bare.splitlines() if line.strip(" *\t")]
    told = [line for line in lines if re.match(r"error:", line, re.IGNORECASE) and len(line) > len("error: ")]
    line = next(iter(told or lines), "the engine failed and said nothing")
    # The second is how gRPC tells what the kit's own provider raised.
    return re.sub(r"^(error|[\w.]*(Exception|Error)|Exception calling application): ", "", line, flags=re.IGNORECASE)


def _after_traceback(text: str) -> str:
    """What an exception says, without where it came from."""
    head, mark, rest = text.rpartition("Traceback (most recent call last):")
    if not mark:
        return text
    lines = rest.splitlines()
    last = max((number for number, line in enumerate(lines) if line.startswith("  File ")), default=-1)
    said = [line for line in lines[last + 1 :] if line and not line.startswith("    ")]
    return "\n".join(said) or head


def _plain(text: str) -> str:
    """Text without the engine's colours, and with urllib3's way to name a server made an address."""
    plain = re.sub(r"\x1b\[[0-9;]*m|<\{%[^%]*%\}>", "", text)
    return re.sub(r"(HTTPS?)ConnectionPool\(host='([^']+)', port=(\d+)\)", lambda m: f"{m[1].lower()}://{m[2]}:{m[3]}", plain)


NOISE = re.compile(r"(preview|update|refresh|destroy) failed|.*context canceled", re.DOTALL)
"""Errors that only say that there were others."""


def diagnostics(events: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Errors that an event stream tells: what they are about (a URN, or nothing), and the text."""
    told = [
        (str(each.get("severity")), str(each.get("urn") or ""), _plain(str(each.get("message") or "")).strip())
        for event in events
        for each in (event.get("diagnosticEvent") or {},)
        if not each.get("ephemeral")
    ]
    # Of a cluster that is out of reach the error says only that; why it is, stands in a warning.
    why = [text for severity, _, text in told if severity == "warning" and "cluster is unreachable" in text]
    return [
        (urn, why[0] if why and "unreachable cluster" in text else text)
        for severity, urn, text in told
        if severity == "error" and text and not NOISE.fullmatch(text)
    ]
