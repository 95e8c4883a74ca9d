"""What an object store's input consists of: the same as of a file system with the same tree."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from fakes.objects import MemoryStorage, MemoryStore
from hypothesis import given, settings
from hypothesis import strategies as st

from pfmoc.errors import InvalidRequest, TooLarge
from pfmoc.storage import layout
from pfmoc.storage.base import Inputs
from pfmoc.storage.gather import Gathering
from pfmoc.storage.gather_objects import HasLinks, plain
from pfmoc.storage.links import BadLink, Expansion, Files
from pfmoc.storage.paths import StoreBase
from pfmoc.storage.workers import Stop

DIRECTORIES = ("in", "in2", "a/1", "a/10", "b")
LIMIT = 60
FILES = st.tuples(st.sampled_from(DIRECTORIES), st.sampled_from(["x", "y", "ü/z"]))
LINKS = st.tuples(
    st.sampled_from(DIRECTORIES), st.sampled_from(["k", "l"]), st.sampled_from([*DIRECTORIES, "a/1/x", "a/", "b/x"])
)


async def gathered(tree: dict[str, bytes], *inputs: str) -> dict[str, str] | str:
    store = MemoryStore(tree)
    storage = MemoryStorage(store, limit=LIMIT)
    try:
        staged = await storage.stage(Inputs(jid="j", input_dirs=inputs, output_dir="out"))
    except (InvalidRequest, TooLarge) as error:
        assert not await storage.holds("j")
        return type(error).__name__
    head = json.loads(store.objects["key-j/input.json"])
    lines = [line for number in range(head["parts"]) for line in layout.lines(store.objects[layout.part("key-j/input", number)])]
    for line in lines:
        grant = head["grants"][line["grant"]]
        assert line["source"] == grant["object"] if "object" in grant else line["source"].startswith(grant["prefix"])
        assert grant.get("prefix", "/").endswith("/")
    assert staged.nfiles <= len(tree)
    return {line["target"]: line["source"] for line in lines}


def on_disk(tree: dict[str, bytes], *inputs: str) -> dict[str, str] | str:
    with tempfile.TemporaryDirectory() as root:
        for name, content in tree.items():
            path = Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        try:
            gathering = Gathering(storebase=StoreBase(Path(root)), output="out", limit=LIMIT, stop=Stop())
            tops = [(path, gathering.add(path)) for path in inputs]
            expansion = Expansion(files=Files(gathering.found.files), links=gathering.found.links, limit=LIMIT, stop=Stop())
            for path, is_directory in tops:
                (expansion.add_directory if is_directory else expansion.add_file)(path)
        except BadLink:
            return "InvalidRequest"
        except TooLarge:
            return "TooLarge"
        return expansion.placed


@settings(max_examples=150)
@given(
    files=st.sets(FILES, max_size=10),
    links=st.sets(LINKS, max_size=5),
    inputs=st.sampled_from([("in",), ("in", "b"), ("a",), ("in", "in2")]),
)
async def test_a_store_and_a_disk_with_the_same_tree_give_the_same_input(files, links, inputs):
    tree = {f"{directory}/{name}": b"" for directory, name in files}
    tree |= {f"{directory}/{name}.chrislink": target.encode() for directory, name, target in links}
    tree |= {f"{path}/there": b"" for path in inputs}
    assert await gathered(tree, *inputs) == on_disk(tree, *inputs)


@given(names=st.sets(st.text("ab-/0", min_size=1, max_size=5).filter(lambda name: "//" not in name and name.strip("/") == name)))
async def test_a_file_that_is_a_directory_as_well_is_found_while_listing(names):
    store = MemoryStore({f"in/{name}": b"" for name in names})
    clash = any(other.startswith(f"{name}/") for name in names for other in names)
    try:
        found = [entry.name async for entry in plain(store, "in", limit=1000)]
    except BadLink:
        assert clash
    else:
        assert not clash
        assert sorted(found) == sorted(store.objects)


async def test_a_listing_with_links_and_one_that_is_too_long_end_at_once():
    with pytest.raises(HasLinks):
        _ = [entry async for entry in plain(MemoryStore({"in/a.chrislink": b"b"}), "in", limit=5)]
    with pytest.raises(TooLarge):
        _ = [entry async for entry in plain(MemoryStore({f"in/{number}": b"" for number in range(9)}), "in", limit=5)]


async def test_a_large_input_is_written_in_parts_and_none_of_it_is_kept(monkeypatch):
    monkeypatch.setattr(layout, "PART_BYTES", 2000)
    tree = {f"in/{number:04}": b"" for number in range(500)}
    store = MemoryStore(tree, page=100)
    storage = MemoryStorage(store, limit=1000)
    assert (await storage.stage(Inputs(jid="j", input_dirs=["in"], output_dir="out"))).nfiles == 500
    assert json.loads(store.objects["key-j/input.json"])["parts"] > 20
    assert max(len(content) for name, content in store.objects.items() if name.startswith("key-j/input/")) < 2200
    await storage.discard("j")
    assert store.objects == tree
