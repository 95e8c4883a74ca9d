"""A volume backend that pretends: volumes are rows of Cinder's database, and hold no bytes."""

from __future__ import annotations

from typing import Any

from cinder.volume import driver

CAPACITY_GB = 100_000


class Driver(driver.VolumeDriver):  # type: ignore[misc]
    """See the module."""

    VERSION = "1.0"
    CI_WIKI_NAME = "none"

    def check_for_setup_error(self) -> None:
        """There is nothing to set up."""

    def _update_volume_stats(self) -> None:
        self._stats = {
            "volume_backend_name": self.configuration.volume_backend_name,
            "vendor_name": "box",
            "driver_version": self.VERSION,
            "storage_protocol": "iSCSI",
            "total_capacity_gb": CAPACITY_GB,
            "free_capacity_gb": CAPACITY_GB,
            "provisioned_capacity_gb": 0,
            "reserved_percentage": 0,
            "max_over_subscription_ratio": 20,
            "thin_provisioning_support": True,
            "multiattach": True,
            "QoS_support": True,
            "online_extend_support": True,
        }

    def get_volume_stats(self, refresh: bool = False) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002 - Cinder's signature
        """What the scheduler goes by: there is always room."""
        self._update_volume_stats()
        return self._stats

    def _do_nothing(self, *_arguments: Any, **_named: Any) -> None:
        return None

    create_volume = delete_volume = extend_volume = _do_nothing
    create_snapshot = delete_snapshot = _do_nothing
    create_volume_from_snapshot = create_cloned_volume = _do_nothing
    ensure_export = create_export = remove_export = _do_nothing
    terminate_connection = copy_image_to_volume = _do_nothing

    def clone_image(self, *_arguments: Any, **_named: Any) -> tuple[dict[str, Any], bool]:
        """Say that the volume holds the image, so that nothing is downloaded."""
        return {}, True

    def retype(self, *_arguments: Any, **_named: Any) -> tuple[bool, None]:
        """Any type is as good as any other."""
        return True, None

    def initialize_connection(self, volume: Any, _connector: Any) -> dict[str, Any]:
        """Where a hypervisor would find the volume."""
        target = {
            "target_discovered": False,
            "target_portal": "127.0.0.1:3260",
            "target_iqn": f"iqn.2010-10.org.openstack:{volume.id}",
            "target_lun": 1,
            "volume_id": volume.id,
            "discard": False,
        }
        return {"driver_volume_type": "iscsi", "data": target}
