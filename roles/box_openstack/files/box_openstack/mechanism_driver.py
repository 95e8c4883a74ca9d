"""A network that pretends: every port is bound and ACTIVE, and nothing carries a packet."""

from __future__ import annotations

from typing import Any

from neutron.services.trunk.drivers import base
from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.plugins.ml2 import api


class TrunkDriver(base.DriverBase):  # type: ignore[misc]
    """The trunk plugin refuses to load without a driver."""

    is_loaded = True


class Driver(api.MechanismDriver):  # type: ignore[misc]
    """See the module."""

    def initialize(self) -> None:
        """Register the driver of trunks."""
        self._trunks = TrunkDriver(
            "box",
            (portbindings.VIF_TYPE_OVS,),
            (constants.TYPE_VLAN,),
            agent_type=None,
            can_trunk_bound_port=True,
        )

    @property
    def connectivity(self) -> str:
        """What the binding claims to give."""
        connectivity: str = portbindings.CONNECTIVITY_L2
        return connectivity

    def bind_port(self, context: Any) -> None:
        """Bind a port on its first segment."""
        segment = context.segments_to_bind[0]
        details = {portbindings.CAP_PORT_FILTER: True}
        context.set_binding(segment[api.ID], portbindings.VIF_TYPE_OVS, details, status=constants.PORT_STATUS_ACTIVE)

    def create_port_postcommit(self, context: Any) -> None:
        """Call a router's or a DHCP server's port ACTIVE: it is on no host, so nobody would bind it."""
        port = context.current
        if (port.get("device_owner") or "").startswith("network:"):
            context._plugin.update_port_status(context._plugin_context, port["id"], constants.PORT_STATUS_ACTIVE)  # noqa: SLF001
