"""What all models of the site file share."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from infra.spec.problems import wrong


class Model(BaseModel):
    """Frozen, and closed: a key that is not known is an error and not a surprise."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_QUALIFIED = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]i?)?B?")
_UNITS = {"": 1}
for _power, _letter in enumerate("KMGTP", start=1):
    _UNITS |= {_letter: 1000**_power, f"{_letter}i": 1024**_power}


def _dns_label(text: str) -> str:
    if not _LABEL.fullmatch(text):
        raise wrong(
            f"'{text}' cannot be a name in Kubernetes and in a host name",
            "use lower-case letters, digits and '-', beginning and ending with a letter or digit",
        )
    return text


def _label_key(text: str) -> str:
    if not _QUALIFIED.fullmatch(text):
        raise wrong(f"'{text}' cannot be the key of a Kubernetes label", "write [prefix/]name, the name of at most 63 characters")
    return text


def _label_value(text: str) -> str:
    if not _VALUE.fullmatch(text):
        raise wrong(
            f"'{text}' cannot be the value of a Kubernetes label",
            "use at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
        )
    return text


def _bytes(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if not match:
        raise wrong(
            f"'{value}' is not an amount of bytes", "write a whole number, or a number with KiB, MiB, GiB, TiB, PiB or KB ... PB"
        )
    return int(float(match[1]) * _UNITS[match[2] or ""])


def _cidr(text: str) -> str:
    try:
        ip_network(text)
    except ValueError as error:
        raise wrong(
            f"'{text}' is not a network: {error}", "write ADDRESS/PREFIX with no host bits set, such as 192.168.0.0/24"
        ) from None
    return text


def network(text: str) -> IPv4Network | IPv6Network:
    """Read a checked CIDR."""
    return ip_network(text)


Name = Annotated[str, Field(min_length=1, max_length=45), AfterValidator(_dns_label)]
"""A DNS label of at most 45 characters: what NERC leaves of the 63 for suffixes."""
LabelKey = Annotated[str, AfterValidator(_label_key)]
LabelValue = Annotated[str, AfterValidator(_label_value)]
Cidr = Annotated[str, AfterValidator(_cidr)]
Text = Annotated[str, Field(min_length=1, max_length=255)]
Limit = Annotated[int, Field(ge=-1)]
"""A quota of OpenStack: -1 is without limit."""
Count = Annotated[int, Field(ge=0)]
Port = Annotated[int, Field(ge=1, le=65535)]
Bytes = Annotated[
    int,
    BeforeValidator(_bytes),
    Field(ge=0),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\d+(\.\d+)?\s*([KMGTP]i?)?B?$"}]},
        mode="validation",
    ),
]
"""Bytes: a whole number, or text with a unit (``500 GiB``)."""
