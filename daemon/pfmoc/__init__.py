"""pfmoc: the ChRIS compute resource of the Mass Open Cloud, one aiohttp daemon."""

__version__ = "0.1.0"
