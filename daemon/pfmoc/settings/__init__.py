"""Settings, read once from the environment at start.

Names and defaults are upstream's (contract 7.1); older names are read too. What is new is called ``PFMOC_*``. With nothing set at
all the daemon is *embedded*: one machine, loopback, local storage, jobs as processes, development credentials.
"""

from pfmoc.settings.fields import ContainerEnv, Settings, StorageEnv
from pfmoc.settings.load import DEV_PASSWORD, DEV_SECRET, DEV_USER, EMBEDDED_HOME, SettingsError, load
from pfmoc.settings.values import GIB, MIB, ContainerUser

__all__ = [
    "DEV_PASSWORD",
    "DEV_SECRET",
    "DEV_USER",
    "EMBEDDED_HOME",
    "GIB",
    "MIB",
    "ContainerEnv",
    "ContainerUser",
    "Settings",
    "SettingsError",
    "StorageEnv",
    "load",
]
