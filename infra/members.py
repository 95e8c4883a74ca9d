"""Who may do what in a tenant's project: a group for each role, with the users in it.

Groups rather than users get the roles, so that a federation mapping can put people in by the group's name before they first
sign in. Not managed here: users of other sources, which are looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_openstack import identity

from infra.keys import Keys
from infra.providers import OpenStack
from infra.spec import names
from infra.spec.tenant import Tenant, User


@dataclass(frozen=True, kw_only=True)
class MembersArgs:
    """Whose members, and where.

    :param domain: id of the Keystone domain of the project
    :param closed: nobody has a role, and those who were made here cannot sign in
    """

    tenant: Tenant
    project_id: pulumi.Input[str]
    domain: str
    cloud: OpenStack
    keys: Keys
    closed: bool = False


class Members(pulumi.ComponentResource):
    """Users, groups, roles."""

    user_ids: Mapping[str, pulumi.Output[str]]
    passwords: Mapping[str, pulumi.Output[str]]

    def __init__(self, name: str, args: MembersArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pfmoc:infra:Members", name, None, opts)
        child = pulumi.ResourceOptions(parent=self, provider=args.cloud.admin)
        ids: dict[str, pulumi.Output[str]] = {}
        passwords: dict[str, pulumi.Output[str]] = {}
        for user in args.tenant.users:
            if user.source == "local":
                passwords[user.name] = args.keys.derive("user", args.tenant.name, user.name)
                made = identity.User(
                    f"{name}-{user.name}",
                    name=user.name,
                    domain_id=args.domain,
                    default_project_id=args.project_id,
                    description=f"Of the tenant {args.tenant.name}",
                    password=passwords[user.name],
                    enabled=not args.closed,
                    opts=child,
                )
                ids[user.name] = made.id
            else:
                ids[user.name] = _found(user, args)
        for role in sorted({role for user in args.tenant.users for role in user.openstack_roles}):
            group = identity.GroupV3(
                f"{name}-{role}",
                name=names.group(args.tenant, role),
                domain_id=args.domain,
                description=f"Those with the role {role} in {names.project(args.tenant)}",
                opts=child,
            )
            if not args.closed:
                identity.RoleAssignment(
                    f"{name}-{role}",
                    group_id=group.id,
                    project_id=args.project_id,
                    role_id=args.cloud.role_id(role),
                    opts=child,
                )
            for user in args.tenant.users:
                if role in user.openstack_roles:
                    identity.UserMembershipV3(f"{name}-{role}-{user.name}", group_id=group.id, user_id=ids[user.name], opts=child)
        self.user_ids, self.passwords = ids, passwords
        self.register_outputs({"userIds": ids})


def _found(user: User, args: MembersArgs) -> pulumi.Output[str]:
    federation = args.cloud.spec.federation
    if user.source == "federated":
        named = user.federated
        idp = (named and named.idp) or (federation and federation.idp)
        protocol = (named and named.protocol) or (federation.protocol if federation else "openid")
        if not idp:
            raise ValueError(f"no identity provider is named for the user {user.name}")
        return args.cloud.federated_user_id(named.unique_id if named else user.name, idp=idp, protocol=protocol)
    return args.cloud.user_id(user.name, args.domain)
