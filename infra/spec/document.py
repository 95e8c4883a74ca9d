"""The site file for readers: its JSON Schema, and its reference as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from infra.spec.site import Site

HEAD = """# The site file

`inventories/<site>/site.yml` says what a site is: its clouds, tenants, node pools and daemon. Pulumi makes the clouds match it,
and Ansible reads it too. Every field but `name` has a default. A key that is not known is an error.

`python -m infra validate <site>` tells everything that is wrong with a file, with line, cause and fix; `--json` is for programs.
The [JSON Schema](site.schema.json) is for editors. [The operator's commands](infra.md) make a site of it.

This page is made by `python -m infra reference`, the schema by `python -m infra schema`.
"""


def schema() -> str:
    """The JSON Schema of a site file."""
    document = Site.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **document}, indent=2) + "\n"


def reference() -> str:
    """The reference of a site file, as Markdown: a table for each model."""
    definitions = Site.model_json_schema()
    lines = [HEAD]
    lines += _section("Site", definitions, Site)
    for name, model in _models(Site, {"Site"}):
        lines += _section(name, definitions["$defs"][name], model)
    return "\n".join(lines)


def _models(model: type[BaseModel], seen: set[str]) -> Iterator[tuple[str, type[BaseModel]]]:
    """The models below one, each once, in the order of the fields that name them first."""
    below = []
    for info in model.model_fields.values():
        for each in _inside(info.annotation):
            if each.__name__ not in seen:
                seen.add(each.__name__)
                below.append(each)
    for each in below:
        yield each.__name__, each
        yield from _models(each, seen)


def _inside(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in getattr(annotation, "__args__", ()):
        yield from _inside(each)


def _section(name: str, definition: dict[str, Any], model: type[BaseModel]) -> list[str]:
    about = " ".join((model.__doc__ or "").split())
    lines = [f"## {name}", "", about, "", "| Field | Type | Default | Meaning |", "|---|---|---|---|"]
    for field, info in model.model_fields.items():
        meaning = " ".join((info.description or "").split()).replace("|", "\\|")
        default = "**required**" if info.is_required() else _value(info.get_default(call_default_factory=True))
        lines.append(f"| `{field}` | {_type(definition['properties'][field])} | {default} | {meaning} |")
    return [*lines, ""]


def _value(value: Any) -> str:
    if value is None or value == "" or value is PydanticUndefined:
        return ""
    if isinstance(value, BaseModel):
        return "its defaults"
    if isinstance(value, tuple):
        plain = [each.model_dump(exclude_defaults=True, mode="json") if isinstance(each, BaseModel) else each for each in value]
        return f"`{json.dumps(plain)}`" if value else "none"
    return f"`{json.dumps(value)}`" if value != {} else "none"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return " \\| ".join(f"`{each}`" for each in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"] if each.get("type") != "null")
    if schema["type"] == "array":
        items = schema.get("prefixItems", [])
        return f"{len(items)} of {_type(items[0])}" if items else f"list of {_type(schema['items'])}"
    if schema["type"] == "object":
        return f"map to {_type(schema['additionalProperties'])}"
    return _SCALARS[schema.get("format", schema["type"])]


_SCALARS = {"integer": "number", "string": "text", "boolean": "true or false", "date": "date"}
