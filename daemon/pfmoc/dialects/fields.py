"""Form fields, declared once: what a request may hold, how it is read, and what is said when it is wrong.

A declaration yields the parser here and, as data, is what an API description can be generated from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as declared
from typing import Any

from pfmoc.http import Refusal

MISSING_IN_FORM = "Missing required parameter in the post body"
MISSING_ANYWHERE = "Missing required parameter in the JSON body or the post body or the query string"

Values = Mapping[str, Sequence[Any]]
"""What a request holds for each field: texts from a form, anything JSON knows from a JSON body."""


class BadValue(ValueError):
    """A value that its field cannot take. The text is for the client."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One field of a form."""

    name: str
    type: type[str] | type[int] = str
    many: bool = False
    """True: one value for each repetition, as a list. False: the first repetition counts."""
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    help: str = ""
    """What it means, with its unit: for the API's description."""
    bounds: Mapping[str, Any] = declared(default_factory=dict, compare=False)
    """What is checked further in, as JSON Schema keywords: for the API's description too."""

    def read(self, values: Sequence[Any]) -> Any:
        """Return the field's value.

        :param values: every repetition, at least one
        :raises BadValue: names what is wrong with the first bad one
        """
        if self.many:
            return [self._one(value) for value in values]
        return self._one(values[0])

    def absent(self) -> Any:
        """What the field is when the request has nothing for it."""
        return [] if self.many else self.default

    def _one(self, value: Any) -> Any:
        read = whole_number(value) if self.type is int else text(value)
        if self.choices and read not in self.choices:
            raise BadValue(f"{read} is not a valid choice")
        return read


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldSet:
    """The fields of one kind of request, in the order in which their errors are reported."""

    name: str
    fields: tuple[Field, ...]
    missing: str = MISSING_IN_FORM
    """What is said of a required field that is not there; it differs with where upstream looks for it (contract 1)."""

    @property
    def names(self) -> frozenset[str]:
        """The names that a request is searched for; all others are ignored."""
        return frozenset(field.name for field in self.fields)

    def parse(self, values: Values) -> dict[str, Any]:
        """Return a value for every field.

        :raises Refusal: 400 with a text for each field that is at fault, all at once
        """
        parsed: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for field in self.fields:
            given = values.get(field.name)
            if given is None or (not given and not field.many):
                if field.required:
                    wrong[field.name] = self.missing
                parsed[field.name] = field.absent()
                continue
            try:
                parsed[field.name] = field.read(given)
            except BadValue as bad:
                wrong[field.name] = str(bad)
        if wrong:
            raise Refusal(400, wrong)
        return parsed


def text(value: Any) -> str:
    """Read a text. What cannot stand in a command line, an environment or a file name is refused here, for every field.

    :raises BadValue: not a text, or one that holds NUL or half a surrogate pair
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise BadValue("must be a string")
    if "\0" in value:
        raise BadValue("must not contain a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadValue("must be text that UTF-8 can hold") from None
    return value


def whole_number(value: Any) -> int:
    """Read a whole number; the complaint is Python's own, as upstream's is.

    :raises BadValue: not one
    """
    if isinstance(value, bool) or not isinstance(value, (int, str, float)):
        raise BadValue("must be an integer")
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)  # to JSON 1.0 is as whole as 1
    try:
        return int(str(value))
    except ValueError as error:
        raise BadValue(str(error)) from error
