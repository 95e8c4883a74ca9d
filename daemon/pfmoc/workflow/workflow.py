"""The workflow document: nodes, what each runs, on what it depends, and where it runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from pfmoc.workflow import graph
from pfmoc.workflow.documents import Name, NotEmpty, read_yaml, unique_names, validated
from pfmoc.workflow.problems import Problems

INPUT = "input"
"""Stands for the workflow's own input among the parents of a node, and so is no name for one."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _is_argument(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    return text


def _is_variable(text: str) -> str:
    if not _VARIABLE.fullmatch(text):
        raise ValueError("must be the name of an environment variable: letters, digits and '_'")
    return text


Argument = Annotated[str, AfterValidator(_is_argument)]
Variable = Annotated[str, AfterValidator(_is_variable)]


class Limits(BaseModel):
    """What a node may use, as ChRIS counts it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: Annotated[int, Field(ge=1)] = 1000
    """Millicores."""
    memory: Annotated[int, Field(ge=1)] = 1000
    """MiB."""
    gpu: Annotated[int, Field(ge=0)] = 0
    gpu_product: str | None = None
    """Which GPUs, of those that the compute resource has; only a pfmoc lets one choose."""
    workers: Annotated[int, Field(ge=1)] = 1


class Node(BaseModel):
    """One run of one plugin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    image: Annotated[str, NotEmpty]
    entrypoint: Annotated[tuple[Argument, ...], NotEmpty]
    """The plugin's program, and its first arguments."""
    args: tuple[Argument, ...] = ()
    args_path_flags: tuple[Argument, ...] = ()
    """Flags whose value is replaced by the input directory."""
    type: Literal["ds", "fs", "ts"] = "ds"
    parents: tuple[str, ...] = ()
    """Nodes whose output it reads; ``input`` for the workflow's own. With none, a ds node reads the workflow's input."""
    limits: Limits = Limits()
    env: dict[Variable, Argument] = {}
    resource: str | None = None
    """Name of the compute resource; the workflow's when absent."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Where its input comes from: names of nodes, and ``input``."""
        return self.parents or (() if self.type == "fs" else (INPUT,))

    @field_validator("name")
    @classmethod
    def _is_no_word(cls, name: str) -> str:
        if name == INPUT:
            raise ValueError(f"'{INPUT}' stands for the input of the workflow and names no node")
        return name

    @field_validator("parents")
    @classmethod
    def _are_different(cls, parents: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(parents)) != len(parents):
            raise ValueError("names one parent twice")
        return parents

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if self.type == "fs" and self.parents:
            raise ValueError("a node of type fs reads no input, so it has no parents")
        if self.type == "ts" and not self.parents:
            raise ValueError("a node of type ts joins others, so it needs parents")
        return self


class Workflow(BaseModel):
    """The whole document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    description: str = ""
    resource: str | None = None
    """Compute resource of every node that names none; the only one there is when absent."""
    nodes: Annotated[tuple[Node, ...], NotEmpty]

    _unique = field_validator("nodes")(unique_names)

    @property
    def parents(self) -> dict[str, tuple[str, ...]]:
        """The nodes that each node waits for."""
        return {node.name: tuple(name for name in node.sources if name != INPUT) for node in self.nodes}

    @property
    def reads_input(self) -> bool:
        """True when some node reads the input of the workflow."""
        return any(INPUT in node.sources for node in self.nodes)

    @property
    def digest(self) -> str:
        """SHA-256 of all that it says."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def load(path: Path) -> Workflow:
    """Read a workflow.

    :raises Problems: all that is wrong with it
    """
    workflow = validated(Workflow, read_yaml(path), path=path)
    wrong = [
        f"{path}: node {name}: parents: there is no node {parent!r}"
        for name, parents in workflow.parents.items()
        for parent in parents
        if parent not in workflow.parents
    ]
    if circle := graph.cycle(workflow.parents):
        wrong.append(f"{path}: the nodes depend on each other in a circle: {' -> '.join(circle)}")
    if wrong:
        raise Problems(wrong)
    return workflow


def assigned(workflow: Workflow, resources: Collection[str], *, path: Path) -> Mapping[str, str]:
    """Say which resource each node runs on.

    :raises Problems: a resource is not registered, or none is named and there are several
    """
    only = next(iter(resources)) if len(resources) == 1 else None
    known = ", ".join(sorted(resources))
    found: dict[str, str] = {}
    wrong = []
    for node in workflow.nodes:
        name = node.resource or workflow.resource or only
        if name is None:
            wrong.append(f"{path}: node {node.name}: names no resource; registered are {known}")
        elif name not in resources:
            wrong.append(f"{path}: node {node.name}: resource {name!r} is not registered; registered are {known}")
        else:
            found[node.name] = name
    if wrong:
        raise Problems(wrong)
    return found
