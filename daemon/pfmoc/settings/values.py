"""What settings are made of: the reading of their texts, and what all groups of them have in common."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field

MIB = 1 << 20
GIB = 1 << 30


class Group(BaseModel):
    """Settings of one subject. Immutable."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, use_attribute_docstrings=True)


def named(*names: str, **kwargs: Any) -> Any:
    """Declare a field that is read from one variable, or from its older names."""
    return Field(validation_alias=AliasChoices(*names), **kwargs)


def pairs(text: object) -> object:
    """Read ``k=v,k2=v2``; a value may contain ``=``, blanks around are trimmed."""
    if not isinstance(text, str):
        return text
    pairs = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"'{part}' is not key=value")
        pairs[key.strip()] = value.strip()
    return pairs


def words(text: object) -> object:
    """Read ``a,b,c``."""
    return tuple(filter(None, (part.strip() for part in text.split(",")))) if isinstance(text, str) else text


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _ids(text: str) -> str:
    """Check one side of CONTAINER_USER: empty, a number, or ``lo-hi``."""
    low, dash, high = text.partition("-")
    if text and not (_is_id(low) and (not dash or (_is_id(high) and int(low) <= int(high)))):
        raise ValueError(f"'{text}' is neither a number nor a range lo-hi")
    return text


class ContainerUser(BaseModel):
    """``UID:GID``; either side may be empty (the image's own) or a range, from which each job gets a random one."""

    model_config = ConfigDict(frozen=True)

    uid: Annotated[str, AfterValidator(_ids)] = ""
    gid: Annotated[str, AfterValidator(_ids)] = ""

    def draw(self) -> tuple[int | None, int | None]:
        """The user and group for one job; None where the image decides."""
        return _draw(self.uid), _draw(self.gid)


def _draw(text: str) -> int | None:
    if not text:
        return None
    low, _, high = text.partition("-")
    return int(low) + secrets.randbelow(int(high or low) - int(low) + 1)


def user(text: object) -> object:
    """Read ``UID:GID``."""
    if not isinstance(text, str):
        return text
    if text.count(":") != 1:
        raise ValueError("must be UID:GID; either side may be empty or a range lo-hi")
    uid, gid = text.split(":")
    return {"uid": uid.strip(), "gid": gid.strip()}
