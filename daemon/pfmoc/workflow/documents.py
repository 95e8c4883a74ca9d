"""Documents that people write: YAML, read strictly, with every problem told at once and where it is."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence, Sized
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ValidationError

from pfmoc.workflow.problems import Problems

T = TypeVar("T", bound=Sized)
Model = TypeVar("Model", bound=BaseModel)

NAME_MAX = 40
_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?")


def _is_name(text: str) -> str:
    if len(text) > NAME_MAX or not _NAME.fullmatch(text):
        raise ValueError(
            f"must hold only small letters, digits, '-' and '_', begin and end with a letter or digit, in at most {NAME_MAX}"
        )
    return text


def _is_not_empty(found: T) -> T:
    if not found:
        raise ValueError("must not be empty")
    return found


Name = Annotated[str, AfterValidator(_is_name)]
"""Names become parts of job ids and directories."""
NotEmpty = AfterValidator(_is_not_empty)
"""Says so only of what is otherwise right."""

_PLAIN = {
    "string_type": "must be text; put it in quotes",
    "extra_forbidden": "there is no such field",
    "missing": "is missing",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
}
"""What pydantic says, in the words of the document."""


class Named(Protocol):
    """Something that has a name."""

    @property
    def name(self) -> str:
        """Its name."""


N = TypeVar("N", bound=Named)


def unique_names(items: tuple[N, ...]) -> tuple[N, ...]:
    """Check that no two items have one name.

    :raises ValueError: names all that occur twice
    """
    names = [item.name for item in items]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"these names occur more than once: {', '.join(twice)}")
    return items


def read_yaml(path: Path) -> Any:
    """Read a YAML document.

    :raises Problems: it cannot be read, is no YAML, or has a key twice in one mapping
    """
    try:
        text = path.read_text(encoding="utf-8")
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except OSError as error:
        raise Problems([f"{path}: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise Problems([f"{path}: is not UTF-8 text"]) from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f":{mark.line + 1}:{mark.column + 1}"
        raise Problems([f"{path}{where}: {getattr(error, 'problem', None) or 'is no YAML document'}"]) from None


def validated(model: type[Model], data: Any, *, path: Path) -> Model:
    """Check a document against its model.

    :raises Problems: one line for each problem, ``file: nodes[2].image: what is wrong``
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False, include_context=False, include_input=False):
            what = _PLAIN.get(problem["type"], problem["msg"].removeprefix("Value error, "))
            where = location(problem["loc"])
            lines.append(f"{path}: {where}: {what}" if where else f"{path}: {what}")
        raise Problems(lines) from None


def location(parts: Sequence[int | str]) -> str:
    """Write a place in a document as people do: ``nodes[2].image``."""
    text = ""
    for part in parts:
        if part != "[key]":  # of a mapping: its name was the part before
            text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's own
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is twice in one mapping", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)
