"""Clouds for the mock tier: every resource that the program makes is kept, and one that is not known is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pulumi

OUTPUTS: dict[str, dict[str, Any]] = {
    "openstack:blockstorage/quoteSetV3:QuoteSetV3": {},
    "openstack:compute/flavor:Flavor": {"flavorId": "{id}"},
    "openstack:compute/flavorAccess:FlavorAccess": {},
    "openstack:compute/instance:Instance": {"accessIpV4": "192.168.0.10"},
    "openstack:compute/quotaSetV2:QuotaSetV2": {},
    "openstack:compute/serverGroup:ServerGroup": {},
    "openstack:identity/applicationCredential:ApplicationCredential": {"secret": "made by Keystone"},
    "openstack:identity/groupV3:GroupV3": {},
    "openstack:identity/project:Project": {},
    "openstack:identity/roleAssignment:RoleAssignment": {},
    "openstack:identity/user:User": {},
    "openstack:identity/userMembershipV3:UserMembershipV3": {},
    "openstack:loadbalancer/quota:Quota": {},
    "openstack:networking/network:Network": {},
    "openstack:networking/quotaV2:QuotaV2": {},
    "openstack:networking/router:Router": {},
    "openstack:networking/routerInterface:RouterInterface": {},
    "openstack:networking/secGroup:SecGroup": {},
    "openstack:networking/secGroupRule:SecGroupRule": {},
    "openstack:networking/subnet:Subnet": {},
    "openstack:objectstorage/accountV1:AccountV1": {},
    "openstack:objectstorage/container:Container": {},
    "kubernetes:core/v1:LimitRange": {},
    "kubernetes:core/v1:Namespace": {},
    "kubernetes:core/v1:NodePatch": {},
    "kubernetes:core/v1:PersistentVolumeClaim": {},
    "kubernetes:core/v1:ResourceQuota": {},
    "kubernetes:core/v1:Secret": {},
    "kubernetes:core/v1:ServiceAccount": {},
    "kubernetes:kueue.x-k8s.io/v1beta1:ClusterQueue": {},
    "kubernetes:kueue.x-k8s.io/v1beta1:LocalQueue": {},
    "kubernetes:kueue.x-k8s.io/v1beta1:ResourceFlavor": {},
    "kubernetes:kueue.x-k8s.io/v1beta1:WorkloadPriorityClass": {},
    "kubernetes:machine.openshift.io/v1beta1:MachineSet": {},
    "kubernetes:networking.k8s.io/v1:NetworkPolicy": {},
    "kubernetes:rbac.authorization.k8s.io/v1:Role": {},
    "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding": {},
    "kubernetes:route.openshift.io/v1:Route": {},
    "kubernetes:scheduling.k8s.io/v1:PriorityClass": {},
    "pulumi-python:dynamic/kubernetes:SharedList": {},
    "pulumi:providers:kubernetes": {},
    "pulumi:providers:openstack": {},
}
"""What the clouds know, and what each adds to the inputs."""

LOOKUPS = {
    "openstack:identity/getRole:getRole": "role",
    "openstack:identity/getUser:getUser": "user",
    "openstack:networking/getNetwork:getNetwork": "network",
}


SIGNATURE = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}
"""How the engine marks a secret."""


def unwrapped(value: Any) -> Any:
    """A value without the marks of what is secret in it."""
    if isinstance(value, dict):
        return (
            unwrapped(value["value"])
            if value.items() >= SIGNATURE.items()
            else {key: unwrapped(each) for key, each in value.items()}
        )
    return [unwrapped(each) for each in value] if isinstance(value, list) else value


class NotKnownToTheMock(Exception):
    """The program makes something that these clouds do not have."""


@dataclass
class Made:
    """A resource as the engine was asked for it."""

    type: str
    name: str
    inputs: dict[str, Any]
    provider: str | None
    secret: frozenset[str]
    """Inputs that hold a secret, at the top."""


@dataclass
class MockClouds(pulumi.runtime.Mocks):
    """Keeps what is made. Ids are ``<name>-id``, and those of things looked up ``<kind>:<name>``."""

    made: list[Made] = field(default_factory=list)
    exported: dict[str, Any] = field(default_factory=dict)
    """The stack's outputs."""

    def new_resource(self, args):
        if args.typ.startswith("pfmoc:"):
            return "", args.inputs
        if args.typ not in OUTPUTS:
            raise NotKnownToTheMock(f"{args.typ} ({args.name})")
        if args.resource_id:  # looked up, and not made
            return args.resource_id, {**args.inputs, "metadata": {"name": args.resource_id, "uid": f"{args.resource_id}-uid"}}
        inputs = {key: unwrapped(value) for key, value in args.inputs.items()}
        secret = frozenset(key for key, value in args.inputs.items() if inputs[key] != value)
        self.made.append(Made(args.typ, args.name, inputs, args.provider or None, secret))
        made = f"{args.name}-id"
        outputs = {key: value.format(id=made) for key, value in OUTPUTS[args.typ].items()}
        return made, {**args.inputs, **outputs}

    def call(self, args):
        if args.token not in LOOKUPS:
            raise NotKnownToTheMock(args.token)
        name = args.args.get("name") or args.args.get("uniqueId")
        return {**args.args, "id": f"{LOOKUPS[args.token]}:{name}"}, []

    def of(self, kind: str) -> dict[str, Made]:
        """What was made of a kind, the last part of its type, by name."""
        return {each.name: each for each in self.made if each.type.rpartition(":")[2] == kind}

    def one(self, kind: str, name: str) -> dict[str, Any]:
        """The inputs of a resource."""
        return self.of(kind)[name].inputs
