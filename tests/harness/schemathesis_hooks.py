"""What schemathesis must know of the API beyond its description. Loaded by schemathesis itself (``SCHEMATHESIS_HOOKS``)."""

from __future__ import annotations

import schemathesis
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import negative_data_rejection
from schemathesis.specs.openapi.formats import Binary

from harness.zips import zipped
from pfmoc.dialects.pfcon6 import PLUGIN

_ZIPS = [zipped({}), zipped({"a.txt": b"a"}), zipped({"d/e/f": b"x" * 1000, "d/g": b""})]
_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_LISTS = [field.name for field in PLUGIN.fields if field.many]

# The one binary field is the input of a plugin.
schemathesis.openapi.format("binary", st.sampled_from(_ZIPS).map(Binary))


@schemathesis.check
def refused_data(ctx, response, case):
    """``negative_data_rejection``, but for what is accepted on purpose."""
    job = case.path.split("/")[3] != "auth-token"
    if job and case.media_type == "application/json":
        return None  # read as a form is: a number for a text, a text for a number, one value for a list
    if case.method == "DELETE" and case.path.split("/")[3] != "jobs":
        return None  # 204 for whatever is not there, and so for what cannot be (contract 2.5)
    body = case.body if isinstance(case.body, dict) else {}
    if case.media_type in _FORMS and any(not isinstance(body.get(name, []), list) for name in _LISTS):
        return None  # a form has no types, and one repetition is a list of one
    return negative_data_rejection(ctx, response, case)
