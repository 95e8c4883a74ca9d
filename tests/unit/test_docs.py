"""The documents: their links lead somewhere, and the files that they speak of are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def anchor(heading: str) -> str:
    """What a heading is called in a link."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path):
    for link in _LINK.findall(document.read_text()):
        if "://" in link:
            continue
        path, _, fragment = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        if fragment:
            assert fragment in {anchor(heading) for heading in _HEADING.findall(target.read_text())}, link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_spoken_of_are_there(document: Path):
    for name in re.findall(r"`((?:daemon|docs|inventories|playbooks|roles|tests|workflows)/[\w./-]+)`", document.read_text()):
        assert (ROOT / name).exists(), name


def test_every_decision_is_listed():
    listed = _LINK.findall((ROOT / "docs" / "decisions" / "README.md").read_text())
    assert sorted(path.name for path in (ROOT / "docs" / "decisions").glob("0*.md")) == sorted(listed)


def test_every_document_is_linked():
    linked = {(each.parent / link.partition("#")[0]).resolve() for each in DOCUMENTS for link in _LINK.findall(each.read_text())}
    assert set(DOCUMENTS) - linked <= {ROOT / "README.md"}
