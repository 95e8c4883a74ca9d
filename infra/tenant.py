"""A tenant's project on OpenStack.

Not managed here, on purpose: users that Keystone gets from elsewhere (they are looked up, never made or removed); their
passwords; what the tenant makes itself with its quota; the object store, which names other tenants in its ACLs and so needs all
of them first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import pulumi
from pulumi_openstack import identity

from infra.keys import Keys
from infra.members import Members, MembersArgs
from infra.network import TenantNetwork, TenantNetworkArgs
from infra.providers import OpenStack, tags
from infra.quotas import Quotas, QuotasArgs
from infra.roster import Mark
from infra.spec import names
from infra.spec.openstack import ApplicationCredential, OpenStackTenant
from infra.spec.tenant import Tenant as TenantSpec


@dataclass(frozen=True, kw_only=True)
class TenantArgs:
    """What a tenant's project is made of.

    :param site: the site's name
    :param today: the day that a credential's days are counted from, when it is made
    :param quarantined: nobody but the program has rights in it, and no more can be made; all it has stays
    """

    tenant: TenantSpec
    site: str
    cloud: OpenStack
    keys: Keys
    today: date
    quarantined: Mark | None = None


class Tenant(pulumi.ComponentResource):
    """Project, service user, members, quotas, networks, application credential."""

    project_id: pulumi.Output[str]
    user_ids: Mapping[str, pulumi.Output[str]]
    """Ids of the tenant's users, by name."""
    passwords: Mapping[str, pulumi.Output[str]]
    """Passwords of users that were made here, by name."""
    credential: identity.ApplicationCredential | None

    def __init__(self, name: str, args: TenantArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pfmoc:infra:Tenant", name, None, opts)
        if args.tenant.openstack is None:
            raise ValueError(f"the tenant {name} has no project on OpenStack")
        tenant, spec = args.tenant, args.tenant.openstack
        self.spec = tenant
        child = pulumi.ResourceOptions(parent=self, provider=args.cloud.admin)
        domain = spec.domain or args.cloud.spec.domain
        project = identity.Project(
            name,
            name=names.project(tenant),
            domain_id=domain,
            description=tenant.description,
            # In quarantine too: for a project that is disabled there are no tokens, so what is in it could be neither looked at
            # nor deleted. What closes it is that nobody has a role there.
            enabled=True,
            tags=[*tags(args.site, tenant.name), *_since(args.quarantined)],
            opts=child,
        )
        self.project_id = project.id
        members = Members(
            name,
            MembersArgs(
                tenant=tenant,
                project_id=project.id,
                domain=domain,
                cloud=args.cloud,
                keys=args.keys,
                closed=args.quarantined is not None,
            ),
            pulumi.ResourceOptions(parent=self),
        )
        self.user_ids, self.passwords = members.user_ids, members.passwords
        self.provider = self._inside(name, args, spec, domain, child)
        Quotas(
            name,
            QuotasArgs(
                quotas=spec.quotas,
                services=args.cloud.spec.services,
                project_id=project.id,
                in_use=args.quarantined.in_use if args.quarantined else None,
            ),
            pulumi.ResourceOptions(parent=self, providers=[args.cloud.admin]),
        )
        network = TenantNetworkArgs(tenant=tenant, project_id=project.id, cloud=args.cloud, tags=tags(args.site, tenant.name))
        self.network = TenantNetwork(name, network, pulumi.ResourceOptions(parent=self, providers=[args.cloud.admin]))
        self.credential = None if args.quarantined else self._credential(name, spec.application_credential, args.today)
        self.register_outputs({"projectId": self.project_id, "credentialId": self.credential.id if self.credential else None})

    def _inside(
        self, name: str, args: TenantArgs, spec: OpenStackTenant, domain: str, child: pulumi.ResourceOptions
    ) -> pulumi.ProviderResource:
        """Make the service user, and the provider that acts as it."""
        password = args.keys.derive("service-user", args.tenant.name)
        user = identity.User(
            f"{name}-service",
            name=names.service_user(args.tenant),
            domain_id=domain,
            default_project_id=self.project_id,
            description=f"Makes containers, servers and credentials of {names.project(args.tenant)}",
            password=password,
            ignore_change_password_upon_first_use=True,
            ignore_password_expiry=True,
            opts=child,
        )
        self.service_user_id = user.id
        roles = [
            identity.RoleAssignment(
                f"{name}-service-{role}",
                user_id=user.id,
                project_id=self.project_id,
                role_id=args.cloud.role_id(role),
                opts=child,
            )
            for role in spec.service_roles
        ]
        return args.cloud.inside(
            f"{name}-project",
            project_id=self.project_id,
            user=user.name,
            domain=domain,
            password=password,
            opts=pulumi.ResourceOptions(parent=self, depends_on=roles),
        )

    def _credential(self, name: str, spec: ApplicationCredential | None, today: date) -> identity.ApplicationCredential | None:
        """Make the application credential.

        Whatever makes it another one is in its name, here and in Keystone, so that the new one is there before the old goes, and
        so that what is ignored in the life of one does not reach the next: the day of one that is counted in days, and the
        roles, of which Keystone reports the implied ones too.
        """
        if spec is None:
            return None
        day = today + timedelta(days=spec.valid_days) if spec.valid_days is not None else spec.expires_at
        if day is None:
            raise ValueError("an application credential has either expires_at or valid_days")
        term = [] if spec.valid_days is not None else [f"{day:%Y%m%d}"]
        made = "-".join(["pfmoc", *spec.roles, str(spec.generation), *term])
        return identity.ApplicationCredential(
            f"{name}-{made}",
            name=made,
            description=f"pfmoc, for {self.spec.name}",
            roles=list(spec.roles),
            expires_at=datetime.combine(day, time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            unrestricted=False,
            opts=pulumi.ResourceOptions(
                parent=self,
                provider=self.provider,
                ignore_changes=["expiresAt", "roles"] if spec.valid_days is not None else ["roles"],
                additional_secret_outputs=["secret"],
            ),
        )


def _since(mark: Mark | None) -> list[str]:
    return [f"pfmoc-quarantined={mark.since}"] if mark else []
