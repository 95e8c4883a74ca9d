"""The rules as policies of the SDK."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)

from infra.policy import rules
from infra.policy.plaintext import exposed, raw

Rule = Callable[[str, rules.Props], Iterator[str]]


def policies() -> list[Policy]:
    """All policies of the pack."""
    return [
        _resource("no-world-open-ssh", "Nobody opens SSH to everybody.", rules.world_open_ssh),
        _resource("owner", "Everything tells whose it is.", rules.owner),
        StackValidationPolicy("quota", "Every project has its quotas.", _quotas, EnforcementLevel.MANDATORY),
        _resource("no-privileged-scc", "Nobody gets the constraint 'privileged'.", rules.privileged_grant),
        _resource("no-privileged-pod", "No pod is privileged.", rules.privileged_pod),
        _resource("credential-term", "A credential ends, and within a year.", rules.credential_term),
        PlaintextPolicy(),
    ]


def _resource(name: str, description: str, rule: Rule) -> Policy:
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        if _adopted(args):
            return
        for message in rule(args.resource_type, args.props):
            report(message, None)

    return ResourceValidationPolicy(name, description, validate, EnforcementLevel.MANDATORY)


def _adopted(args: ResourceValidationArgs) -> bool:
    """True when it is taken over as it is (``infra.adopt``): what is wrong with it, the next run finds, which would mend it."""
    return "*" in args.opts.ignore_changes


def _quotas(args: StackValidationArgs, report: ReportViolation) -> None:
    for name, message in rules.without_quota((each.resource_type, each.name) for each in args.resources):
        report(f"{name}: {message}", None)


class PlaintextPolicy(ResourceValidationPolicy):
    """Secrets are marked, so that the engine encrypts them in the state.

    The SDK takes the marks off before a validation, and leaves them on for a remediation, which comes before it. So the
    remediation looks and changes nothing, and the validation reports what it saw.
    """

    def __init__(self) -> None:
        super().__init__(
            "no-plaintext-secret", "Secrets are encrypted in the state.", enforcement_level=EnforcementLevel.REMEDIATE
        )
        self._seen: dict[str, list[str]] = {}

    def remediate(self, args: ResourceValidationArgs) -> None:
        """Look."""
        self._seen[args.urn] = [] if _adopted(args) else list(exposed(args.resource_type, raw(args.props)))

    def validate(self, args: ResourceValidationArgs, report: ReportViolation) -> None:
        """Report."""
        for path in self._seen.pop(args.urn, ()):
            report(f"{path} would be in the state in the clear; wrap it: pulumi.Output.secret(...)", None)
