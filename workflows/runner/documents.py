"""The two documents: a workflow, and where its input comes from."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path, PurePosixPath
from typing import Annotated, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pfmoc.workflow import workflow
from pfmoc.workflow.documents import NotEmpty

Document = TypeVar("Document", bound=BaseModel)


class DocumentError(Exception):
    """A document cannot be used; the text says where and why."""


class Node(workflow.Node):
    """A node as ``pfmoc run`` has it, less what takes several servers: one parent at most, and no resource."""

    parents: Annotated[tuple[str, ...], Field(max_length=1)] = ()
    resource: None = None

    @property
    def parent(self) -> str | None:
        """The node that it reads from; None for the workflow's input."""
        return next((name for name in self.parents if name != workflow.INPUT), None)


class Workflow(workflow.Workflow):
    """A tree of nodes, each below its parent."""

    resource: None = None
    nodes: Annotated[tuple[Node, ...], NotEmpty]

    @model_validator(mode="after")
    def _is_a_tree(self) -> Self:
        above: set[str] = set()
        for node in self.nodes:
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
