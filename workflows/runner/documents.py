"""The two documents: a workflow, and where its input comes from."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
Document = TypeVar("Document", bound=BaseModel)


class DocumentError(Exception):
    """A document cannot be used; the text says where and why."""


class Limits(BaseModel):
    """What a node may use, as ChRIS counts it: millicores, MiB, GPUs, parallel workers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: Annotated[int, Field(ge=1)] = 1000
    memory: Annotated[int, Field(ge=1)] = 1000
    gpu: Annotated[int, Field(ge=0)] = 0
    workers: Annotated[int, Field(ge=1)] = 1


class Node(BaseModel):
    """One run of one plugin, on the output of its parent, or on the workflow's input."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    image: Annotated[str, Field(min_length=1)]
    entrypoint: Annotated[tuple[str, ...], Field(min_length=1)]
    args: tuple[str, ...] = ()
    type: Literal["ds", "fs"] = "ds"
    parents: Annotated[tuple[Name, ...], Field(max_length=1)] = ()
    limits: Limits = Limits()
    env: dict[str, str] = {}

    @property
    def parent(self) -> str | None:
        """The node that it reads from; None for the workflow's input."""
        return self.parents[0] if self.parents else None


class Workflow(BaseModel):
    """A tree of nodes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    description: str = ""
    nodes: Annotated[tuple[Node, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_a_tree(self) -> Self:
        above: set[str] = set()
        for node in self.nodes:
            if node.name in above:
                raise ValueError(f"node {node.name}: there are two of that name")
            if node.parent is not None and node.parent not in above:
                raise ValueError(f"node {node.name}: its parent {node.parent} is not a node above it")
            above.add(node.name)
        return self


class PackagedInput(BaseModel):
    """Files that an installed package carries, and the names under which plugins shall see them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    package: str
    directory: str = "."
    files: Annotated[dict[str, str], Field(min_length=1)]

    @model_validator(mode="after")
    def _stays_inside(self) -> Self:
        for name in self.files:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ValueError(f"files: {name} leads out of the input directory")
        return self

    def collect(self, destination: Path) -> None:
        """Copy the files to ``destination``."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise DocumentError(f"the package {self.package}, which carries the input, is not installed")
        source = Path(spec.submodule_search_locations[0]) / self.directory
        for name, file in self.files.items():
            if not (source / file).is_file():
                raise DocumentError(f"the package {self.package} carries no {self.directory}/{file}")
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, destination / name)


def load(kind: type[Document], path: Path) -> Document:
    """Read and check a document.

    :raises DocumentError: with everything that is wrong with it
    """
    try:
        return kind.model_validate(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise DocumentError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise DocumentError(f"{path}: {error}") from error
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise DocumentError("\n".join(lines)) from error
