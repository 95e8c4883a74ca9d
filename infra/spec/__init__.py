"""The site file: models, checks, errors. Needs nothing but pydantic and PyYAML, so that playbooks can ask it too."""

from infra.spec.load import load, parse
from infra.spec.problems import Problem, Severity, SiteError
from infra.spec.site import Site

__all__ = ["Problem", "Severity", "Site", "SiteError", "load", "parse"]
