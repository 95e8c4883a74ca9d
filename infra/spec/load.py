"""Read a site file, and tell everything that is wrong with it at once."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path as File
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from infra.spec.checks import contradictions
from infra.spec.problems import ITEMS, Path, Problem, Severity, SiteError
from infra.spec.site import Site

ROUNDS = 50
"""How often bad values are taken out and the rest is looked at again: one round suffices but for a validator across fields."""


def load(file: File, *, today: date | None = None) -> tuple[Site, tuple[Problem, ...]]:
    """Read and check a site file.

    :param today: the day that terms are compared with; today (UTC)
    :returns: the site, and what is to be looked at though it stops nothing
    :raises SiteError: with every problem at once
    """
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SiteError([Problem(path=(), cause=f"cannot be read: {cause}", fix="check the path")], str(file)) from error
    expected = file.parent.name if file.name == "site.yml" else None
    return parse(text, file=str(file), name=expected, today=today)


def parse(text: str, *, file: str = "", name: str | None = None, today: date | None = None) -> tuple[Site, tuple[Problem, ...]]:
    """Read and check the text of a site file.

    :param file: its name, for messages
    :param name: the name that the site must have, that of its directory; None: any
    :param today: the day that terms are compared with; today (UTC)
    :returns: the site, and what is to be looked at though it stops nothing
    :raises SiteError: with every problem at once
    """
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        document = _plain(tree) if tree else {}
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        problem = Problem(path=(), cause=f"is not YAML: {error.problem}", fix="correct the line", line=line)
        raise SiteError([problem], file) from error
    except yaml.YAMLError as error:
        raise SiteError([Problem(path=(), cause=f"is not YAML: {error}")], file) from error
    if not isinstance(document, dict):
        raise SiteError([Problem(path=(), cause="is not a mapping", fix="begin with name:")], file)
    problems = list(_repeated(tree, ()))
    site, invalid, dropped = _modelled(document)
    problems += invalid
    if site is not None:
        across = contradictions(site, name=name, today=today or datetime.now(UTC).date())
        problems += [problem for problem, rests in across if not any(_touches(bad, rest) for bad in dropped for rest in rests)]
    lines = [_with_line(problem, tree) for problem in problems]
    lines.sort(key=lambda problem: (problem.severity != Severity.ERROR, problem.line))
    if site is None or any(problem.severity == Severity.ERROR for problem in lines):
        raise SiteError(lines, file)
    return site, tuple(lines)


def _touches(bad: Path, rest: Path) -> bool:
    """Say whether a bad value takes the ground from a check. A place that ends in ``*`` stands for the items of a list, and not
    for what is in them.
    """
    if rest[-1] == ITEMS:
        within = rest[:-1]
        return bad == within[: len(bad)] or (bad[: len(within)] == within and (len(bad) == len(within) + 1 or bad[-1] == "name"))
    length = min(len(bad), len(rest))
    return bad[:length] == rest[:length]


def _plain(node: yaml.Node) -> Any:
    """Make plain values of a tree. Of keys that are repeated the last counts; they are told of separately."""
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _repeated(node: yaml.Node | None, path: Path) -> Iterator[Problem]:
    """Find keys that stand twice in a mapping: YAML takes the last in silence."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                cause = f"stands here twice, first in line {seen[key.value]}"
                yield Problem(path=(*path, key.value), cause=cause, fix="remove one of them", line=key.start_mark.line + 1)
            seen[key.value] = key.start_mark.line + 1
            yield from _repeated(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _repeated(item, (*path, _name_of(item) or index))


def _name_of(node: yaml.Node) -> str | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == "name" and isinstance(value, yaml.ScalarNode):
                return str(value.value)
    return None


def _with_line(problem: Problem, tree: yaml.Node | None) -> Problem:
    """Add the line of the value, or of the nearest that is there."""
    if problem.line or tree is None:
        return problem
    node, line = tree, tree.start_mark.line + 1
    for step in problem.path:
        found = _step(node, step)
        if found is None:
            break
        node, line = found
    return Problem(path=problem.path, cause=problem.cause, fix=problem.fix, severity=problem.severity, line=line)


def _step(node: yaml.Node, step: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((value, key.start_mark.line + 1) for key, value in node.value if key.value == str(step)), None)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            if step == index or (isinstance(step, str) and _name_of(item) == step):
                return item, item.start_mark.line + 1
    return None


def _modelled(document: dict[str, Any]) -> tuple[Site | None, list[Problem], list[Path]]:
    """Build the site; on failure take the bad values out, so that the rest, and what lies across, is checked too."""
    problems: list[Problem] = []
    dropped: list[Path] = []
    rest: Any = document
    for _ in range(ROUNDS):
        try:
            return Site.model_validate(rest), problems, dropped
        except ValidationError as invalid:
            bad = []
            for error in invalid.errors(include_url=False):
                location = _location(rest, error["loc"])
                path = _named(rest, location)
                problem = _problem(error, path, location)
                if problem.where not in {known.where for known in problems}:
                    problems.append(problem)
                missing = error["type"] == "missing"
                dropped.append(path[:-1] if missing else _meant(path, location))
                bad.append(location[:-1] if missing else location)
            if any(not location for location in bad):
                return None, problems, dropped
            rest = _without(rest, set(bad))
    return None, problems, dropped


def _location(document: Any, loc: tuple[int | str, ...]) -> Path:
    """Keep of an error's location what is in the document: pydantic adds names of types, and `[key]` for bad keys."""
    kept: list[int | str] = []
    node = document
    for position, step in enumerate(loc):
        if isinstance(node, dict) and (step in node or (position == len(loc) - 1 and step != "[key]")):
            node = node.get(step)
        elif isinstance(node, (list, tuple)) and isinstance(step, int) and step < len(node):
            node = node[step]
        else:
            continue
        kept.append(step)
    return tuple(kept)


def _named(document: Any, location: Path) -> Path:
    """Say names of list items instead of their positions."""
    path: list[int | str] = []
    node = document
    for step in location:
        if isinstance(node, list) and isinstance(step, int):
            node = node[step]
        else:
            node = node.get(step) if isinstance(node, dict) else None
        name = node.get("name") if isinstance(step, int) and isinstance(node, dict) else None
        path.append(name if isinstance(name, str) and name else step)
    return tuple(path)


def _without(node: Any, bad: set[Path], path: Path = ()) -> Any:
    if isinstance(node, dict):
        return {key: _without(value, bad, (*path, key)) for key, value in node.items() if (*path, key) not in bad}
    if isinstance(node, list):
        return [_without(value, bad, (*path, index)) for index, value in enumerate(node) if (*path, index) not in bad]
    return node


def _near(location: Path) -> str | None:
    """The key that one that is not known may be meant to be."""
    return next(iter(difflib.get_close_matches(str(location[-1]), _fields(location[:-1]), n=1)), None)


def _meant(path: Path, location: Path) -> Path:
    """The place that a bad value was meant for: another one where its key is misspelt."""
    near = _near(location) if location[-1] not in _fields(location[:-1]) else None
    return (*path[:-1], near) if near else path


def _problem(error: Any, path: Path, location: Path) -> Problem:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "site":
        return Problem(path=path, cause=str(context["cause"]), fix=str(context["fix"]))
    if kind == "extra_forbidden":
        known, near = sorted(_fields(location[:-1])), _near(location)
        fix = f"did you mean {near}?" if near else f"remove it; known are {', '.join(known)}" if known else "remove it"
        return Problem(path=path, cause="is not known here", fix=fix)
    described = _described(location)
    if kind == "missing":
        return Problem(path=path, cause="is required", fix=f"set it: {described}" if described else "set it")
    message = error["msg"][:1].lower() + error["msg"][1:]
    shown = "" if isinstance(error["input"], (dict, list)) else f"{error['input']!r}: "
    return Problem(path=path, cause=f"{shown}{message.removeprefix('input ')}", fix=described)


def _models(annotation: Any) -> Iterator[Any]:
    """The types inside an annotation: of ``tuple[Tenant, ...] | None`` it is Tenant."""
    origin = get_origin(annotation)
    if origin is None:
        yield annotation
        return
    if origin in (Union, types.UnionType):
        for each in get_args(annotation):
            yield from _models(each)
    elif origin in (tuple, Mapping):
        yield from _models([each for each in get_args(annotation) if each is not Ellipsis][-1])
    else:
        yield from _models(get_args(annotation)[0])


def _fields(location: Path) -> dict[str, FieldInfo]:
    """The fields of the model at a place; empty where there is none."""
    model: type[BaseModel] = Site
    for step in location:
        if isinstance(step, int) or step not in model.model_fields:
            continue
        found = [
            each
            for each in _models(model.model_fields[step].annotation)
            if isinstance(each, type) and issubclass(each, BaseModel)
        ]
        if not found:
            return {}
        model = found[0]
    return dict(model.model_fields)


def _described(location: Path) -> str:
    """What the field at a place means: the first sentence of its description."""
    names = [step for step in location if isinstance(step, str)]
    while names:
        info = _fields(tuple(names[:-1])).get(names[-1])
        if info is not None:
            text = " ".join((info.description or "").split())
            return text.partition(". ")[0].rstrip(".")
        names.pop()
    return ""
