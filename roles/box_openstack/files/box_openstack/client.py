"""The clients of this environment, as programs: ``client.py openstack ...``, ``client.py swift ...``.

``swift`` finds its cloud as ``openstack`` does, by ``OS_CLOUD`` and clouds.yaml, which it does not know of itself.
"""

from __future__ import annotations

import importlib
import os
import sys

CLIENTS = {"openstack": "openstackclient.shell", "swift": "swiftclient.shell"}
"""What they are called, and the module whose ``main`` they are."""


def name_the_cloud() -> None:
    """Tell ``swift`` by variables what an entry of clouds.yaml says, unless some say already where it is to go."""
    if not os.environ.get("OS_CLOUD") or {"OS_AUTH_URL", "OS_STORAGE_URL", "ST_AUTH"} & os.environ.keys():
        return
    from openstack.config import OpenStackConfig  # noqa: PLC0415 - `openstack` loads its own
    from openstack.exceptions import ConfigException  # noqa: PLC0415 - the same

    try:
        entry = OpenStackConfig().get_one()
    except ConfigException as error:
        sys.exit(f"swift: {error}")
    told = {**entry.auth, "auth_type": entry.config["auth_type"], "region_name": entry.region_name}
    if told["auth_type"] in ("password", "v3password"):
        del told["auth_type"]  # it is the default, and swift knows no name for it
    os.environ |= {f"OS_{name.upper()}": value for name, value in told.items() if value}
    os.environ.setdefault("OS_IDENTITY_API_VERSION", "3")


def main() -> None:
    """Be the client that the first word names."""
    name = sys.argv.pop(1)
    sys.argv[0] = name
    if name == "swift":
        name_the_cloud()
    sys.exit(importlib.import_module(CLIENTS[name]).main())


if __name__ == "__main__":
    main()
