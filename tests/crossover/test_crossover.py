"""Workflows that cross compute resources: two real daemons with different storage, and the real command between them."""

from __future__ import annotations

import hashlib
import signal
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness.crossing import (
    IMAGE,
    OldServer,
    ProxyThatBreaks,
    Site,
    launched,
    node,
    run,
    state_of,
    write_resources,
    write_workflow,
)
from harness.daemon import PASSWORD
from harness.http import client
from harness.trees import contents
from harness.waiting import eventually

from pfmoc.backoff import Backoff
from pfmoc.workflow import resources, state, workflow
from pfmoc.workflow.progress import Progress
from pfmoc.workflow.report import Verdict
from pfmoc.workflow.runner import Run, Wanted
from pfmoc.workflow.state import RunState

INPUT = {"ct/head.dcm": b"head" * 1000, "ct/spine.dcm": b"", "mr/\u00fcmlaut knee.dcm": b"knee"}


@pytest.fixture(scope="module")
def daemons(tmp_path_factory):
    """A daemon that takes zips, ``west``, and two that share their storage, ``east`` with copies and ``south`` without."""
    home = tmp_path_factory.mktemp("daemons")
    with ExitStack() as stack:
        sites = {
            "west": Site(home / "west"),
            "east": Site(home / "east", STORAGE_ENV="fslink"),
            "south": Site(home / "south", STORAGE_ENV="filesystem"),
        }
        for site in sites.values():
            stack.callback(site.stop)
        yield SimpleNamespace(**sites)


@pytest.fixture
def sites(tmp_path, daemons):
    west, east, south = daemons.west, daemons.east, daemons.south
    source = tmp_path / "input"
    for name, data in INPUT.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    entries = {"west": {"url": west.url}}
    entries |= {name: {"url": site.url, "shared": str(site.storebase)} for name, site in (("east", east), ("south", south))}
    yield SimpleNamespace(
        **vars(daemons),
        home=tmp_path,
        source=source,
        entries=entries,
        resources=write_resources(tmp_path / "resources.yml", **entries),
        output=tmp_path / "out",
    )
    assert west.leftovers() == east.leftovers() == south.leftovers() == []


def arguments(sites: SimpleNamespace, document: Path, *more: object) -> list[object]:
    return [document, "--input", sites.source, "--output", sites.output, "--resources", sites.resources, "--json", *more]


async def test_the_output_of_a_node_moves_to_where_the_next_one_runs(sites):
    document = write_workflow(
        sites.home / "w.yml",
        node("first", "list", "first", resource="west"),
        node("second", "list", "second", resource="east", parents=["first"]),
        node("third", "list", "third", resource="west", parents=["second"]),
    )
    code, command = await run(sites.home, *arguments(sites, document))
    assert code == 0, command.stderr
    expected = dict(INPUT)
    for name in ("first", "second", "third"):
        found = contents(sites.output / name)
        assert {key: found[key] for key in expected} == expected
        assert set(found) == {*expected, f"{name}.txt"}
        expected = found
    results = command.nodes()
    assert [results[name]["status"] for name in ("first", "second", "third")] == ["done"] * 3
    assert results["second"]["resource"] == "east"
    assert (results["third"]["files"], results["third"]["bytes"]) == (6, sum(map(len, expected.values())))
    # The digest of every file is on record.
    listed = (sites.output / ".pfmoc-run/manifests/third.json").read_text()
    assert all(hashlib.sha256(data).hexdigest() in listed for data in expected.values())
    # Nothing is left where it ran, and no secret in what was written.
    assert sites.west.leftovers() == sites.east.leftovers() == []
    async with client(sites.west.url) as api:
        assert (await api.get(f"pluginjobs/{results['first']['jid']}/")).status == 404
    written = b"".join(path.read_bytes() for path in (sites.output / ".pfmoc-run").rglob("*") if path.is_file())
    assert PASSWORD.encode() not in written + command.stderr.encode() + command.stdout.encode()


@pytest.mark.parametrize("resource", ["west", "east", "south"])
async def test_a_join_reads_each_parent_in_a_directory_of_its_own(sites, resource):
    document = write_workflow(
        sites.home / "w.yml",
        node("seed", "write", "a.txt=one", "b.txt=two", type="fs", resource="west"),
        node("left", "list", "same", resource="east", parents=["seed"]),
        node("right", "list", "same", resource="west", parents=["seed"]),
        node("both", "list", "both", resource=resource, parents=["left", "right", "input"]),
    )
    code, command = await run(sites.home, *arguments(sites, document))
    assert code == 0, command.stderr
    found = contents(sites.output / "both")
    assert found["left/a.txt"] == found["right/a.txt"] == b"one"
    assert found["left/same.txt"] == found["right/same.txt"]
    assert found["input/ct/head.dcm"] == INPUT["ct/head.dcm"]
    assert len(found) == 3 + 3 + len(INPUT) + 1


async def test_a_failed_node_stops_only_what_depends_on_it(sites):
    document = write_workflow(
        sites.home / "w.yml",
        node("bad", "fail", sites.home / "mended", resource="west"),
        node("after-bad", "list", "x", resource="east", parents=["bad"]),
        node("far-after-bad", "list", "x", resource="east", parents=["after-bad", "good"]),
        node("good", "list", "good", resource="west"),
        node("after-good", "list", "more", resource="east", parents=["good"]),
    )
    code, command = await run(sites.home, *arguments(sites, document))
    assert code == 1
    statuses = {name: result["status"] for name, result in command.nodes().items()}
    skipped = {"after-bad": "skipped", "far-after-bad": "skipped"}
    assert statuses == {"bad": "failed", **skipped, "good": "done", "after-good": "done"}
    assert "the scanner is on fire" in command.nodes()["bad"]["message"]
    assert sites.west.leftovers() == []
    # Mended, the rest of it runs and nothing else does.
    (sites.home / "mended").touch()
    done_before = command.nodes()["good"]["jid"]
    code, command = await run(sites.home, *arguments(sites, document, "--resume"))
    assert code == 0, command.stderr
    assert command.nodes()["good"]["jid"] == done_before
    assert command.nodes()["bad"]["jid"].endswith("-bad-2")
    assert contents(sites.output / "far-after-bad")["after-bad/mended"] == b"mended\n"


async def test_a_download_that_breaks_goes_on_where_it_broke(sites):
    broken = []

    def breaks(request: bytes) -> int | None:
        if b"/file/" in request.partition(b"\r\n")[0] and len(broken) < 2:
            broken.append(request)
            return 3 << 20
        return None

    async with ProxyThatBreaks(sites.west.url, breaks) as proxy:
        write_resources(sites.resources, west={"url": proxy.url})
        document = write_workflow(sites.home / "w.yml", node("noise", "fill", "9", "x", resource="west", args=["9"]))
        code, command = await run(sites.home, *arguments(sites, document))
        assert code == 0, command.stderr
        ranges = [head for head in proxy.heads if b"/file/" in head and b"\r\nRange: bytes=" in head]
        assert proxy.cuts == 2
        assert len(ranges) == 2
        assert b"If-Range" in ranges[0]
    assert command.nodes()["noise"]["bytes"] == 9 << 20


async def test_an_upload_that_breaks_is_made_again_but_not_its_job(sites):
    """The daemon took the job and the answer was lost: the runner asks before it sends everything once more."""
    cut = []

    def breaks(request: bytes) -> int | None:
        if request.startswith(b"POST /api/v1/pluginjobs/") and not cut:
            cut.append(1)
            return 1
        return None

    async with ProxyThatBreaks(sites.west.url, breaks) as proxy:
        write_resources(sites.resources, west={"url": proxy.url})
        document = write_workflow(sites.home / "w.yml", node("first", "list", "first", resource="west"))
        code, command = await run(sites.home, *arguments(sites, document))
        assert code == 0, command.stderr
        assert proxy.cuts == 1
        assert sum(head.startswith(b"POST /api/v1/pluginjobs/") for head in proxy.heads) == 1


async def test_a_killed_run_goes_on(sites):
    gate = sites.home / "gate"
    document = write_workflow(
        sites.home / "w.yml",
        node("first", "list", "first", resource="west"),
        node("held-west", "hold", f"{gate}-w", resource="west", parents=["first"]),
        node("held-east", "hold", f"{gate}-e", resource="east", parents=["first"]),
        node("last", "list", "last", resource="west", parents=["held-west", "held-east"]),
    )
    async with launched(sites.home, *arguments(sites, document)) as command:
        began = [sites.home / "gate-w.began", sites.home / "gate-e.began"]
        await eventually(lambda: all(path.exists() for path in began))
        await eventually(
            lambda: [state_of(sites.output)["nodes"][f"held-{x}"]["phase"] for x in ("west", "east")] == ["running"] * 2
        )
        await command.signalled(signal.SIGKILL)
    for path in began:
        path.unlink()
    before = state_of(sites.output)
    async with launched(sites.home, *arguments(sites, document, "--resume")) as command:
        (sites.home / "gate-w").touch()
        (sites.home / "gate-e").touch()
        assert await command.ended() == 0, command.stderr
    assert not any(path.exists() for path in began), "a job was started a second time"
    assert command.result()["run"] == before["run"]
    assert set(contents(sites.output / "last")) == {"held-west/held", "held-east/held", "last.txt"}
    assert sites.west.leftovers() == sites.east.leftovers() == []


class Killed(BaseException):
    """What stands for SIGKILL within this process."""


async def run_here(sites: SimpleNamespace, document: Path, output: Path) -> dict[str, Verdict]:
    """Run, or go on, in this process."""
    plan = workflow.load(document)
    registered = resources.load(sites.resources, environ={})
    assigned = dict(workflow.assigned(plan, registered, path=document))
    wanted = Wanted(source=sites.source, output=output, parallel=4, keep=False, backoff=Backoff(first_s=0.01, longest_s=0.05))
    with state.held(output) as directory:
        begun = state.resumed(directory, digest=plan.digest, resources=assigned)
        begun = begun or state.begun(directory, workflow=plan.name, digest=plan.digest, resources=assigned)
        run = Run(plan, wanted, state=begun, resources=registered, progress=Progress())
        await run.prepare()
        await run.go()
        return {name: result.status for name, result in run.results.items()}


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("resource", ["west", "east"])
async def test_a_crash_at_any_step_loses_nothing_and_runs_nothing_twice(sites, monkeypatch, resource, written):
    """The run dies at its first write of the state, then at its second, and so on: just before it, or just after."""
    save = RunState.save
    for crash_at in count(1):
        output, ran = sites.home / f"out-{crash_at}", sites.home / f"ran-{crash_at}"
        document = write_workflow(sites.home / "w.yml", node("only", "count", ran, resource=resource))
        left = crash_at

        def dying(state: RunState) -> None:
            nonlocal left
            left -= 1
            if written or left:
                save(state)
            if not left:
                raise Killed

        monkeypatch.setattr(RunState, "save", dying)
        crashed = False
        try:
            verdicts = await run_here(sites, document, output)
        except* Killed:
            crashed = True
        monkeypatch.setattr(RunState, "save", save)
        if crashed:
            verdicts = await run_here(sites, document, output)
        assert verdicts == {"only": Verdict.DONE}
        assert contents(output / "only") == INPUT
        assert ran.read_text() == "ran\n"
        assert sites.west.leftovers() == sites.east.leftovers() == []
        if not crashed:
            assert crash_at > 6
            return


async def test_ctrl_c_ends_the_jobs(sites):
    gate = sites.home / "gate"
    document = write_workflow(
        sites.home / "w.yml",
        node("first", "list", "first", resource="west"),
        node("held-west", "hold", f"{gate}-w", resource="west", parents=["first"]),
        node("held-east", "hold", f"{gate}-e", resource="east", parents=["first"]),
        node("last", "list", "last", resource="west", parents=["held-west"]),
    )
    async with launched(sites.home, *arguments(sites, document)) as command:
        await eventually(lambda: (sites.home / "gate-w.began").exists() and (sites.home / "gate-e.began").exists())
        assert await command.signalled(signal.SIGINT) == 130, command.stderr
    results = command.nodes()
    assert {name: result["status"] for name, result in results.items()} == {
        "first": "done", "held-west": "interrupted", "held-east": "interrupted", "last": "interrupted",
    }  # fmt: skip
    for site, name in ((sites.west, "held-west"), (sites.east, "held-east")):
        async with client(site.url) as api:
            assert (await api.get(f"pluginjobs/{results[name]['jid']}/")).status == 404
    assert sites.west.leftovers() == sites.east.leftovers() == []
    # What was ended is begun again.
    (sites.home / "gate-w").touch()
    (sites.home / "gate-e").touch()
    code, command = await run(sites.home, *arguments(sites, document, "--resume"))
    assert code == 0, command.stderr
    assert command.nodes()["first"]["jid"] == results["first"]["jid"]


async def test_a_finished_output_that_changed_is_noticed(sites):
    document = write_workflow(
        sites.home / "w.yml",
        node("first", "list", "first", resource="west"),
        node("bad", "fail", "x", resource="west", parents=["first"]),
    )
    code, _ = await run(sites.home, *arguments(sites, document))
    assert code == 1
    (sites.output / "first/first.txt").write_text("somebody was here")
    code, command = await run(sites.home, *arguments(sites, document, "--resume"))
    assert code == 2
    assert "first.txt: changed since it was fetched" in command.stderr


@pytest.mark.parametrize("name", ["west", "east"])
async def test_pfcon_5_is_spoken_where_there_is_no_pfcon_6(sites, name):
    """The daemon speaks both; a proxy that knows no pfcon 6 makes an old one of it."""
    async with OldServer(sites.entries[name]["url"]) as old:
        write_resources(sites.resources, **{name: {**sites.entries[name], "url": old.url}})
        document = write_workflow(
            sites.home / "w.yml",
            node("first", "list", "first"),
            node("second", "list", "second", parents=["first"]),
        )
        code, command = await run(sites.home, *arguments(sites, document))
        assert code == 0, command.stderr
        assert old.heads[-1].startswith("DELETE /api/v1/jobs/")
        assert old.heads.count("POST /api/v1/jobs/") == 2
    assert len(contents(sites.output / "second")) == len(INPUT) + 2


async def test_what_cannot_be_reached_fails_only_its_own_nodes(sites):
    """One resource is down, another's storage is nowhere on this machine: each says so, and the rest is done."""
    entries = {**sites.entries, "east": {"url": sites.east.url}, "north": {"url": "http://127.0.0.1:9", "patience": 0.1}}
    write_resources(sites.resources, **entries)
    document = write_workflow(
        sites.home / "w.yml",
        node("down", "list", "x", resource="north"),
        node("unseen", "list", "x", resource="east"),
        node("good", "list", "good", resource="west"),
    )
    code, command = await run(sites.home, *arguments(sites, document))
    assert code == 1
    results = command.nodes()
    assert results["good"]["status"] == "done"
    assert "north does not answer" in results["down"]["message"]
    assert "'shared' in the resources file" in results["unseen"]["message"]
    # With both mended the run goes on.
    write_resources(sites.resources, **{**sites.entries, "north": sites.entries["west"]})
    code, command = await run(sites.home, *arguments(sites, document, "--resume"))
    assert code == 0, command.stderr


async def test_jobs_and_data_are_kept_when_that_is_asked_for(sites):
    document = write_workflow(sites.home / "w.yml", node("first", "list", "first", resource="west"))
    code, command = await run(sites.home, *arguments(sites, document, "--keep"))
    assert code == 0, command.stderr
    jid = command.nodes()["first"]["jid"]
    async with client(sites.west.url) as api:
        assert (await api.get(f"pluginjobs/{jid}/")).json()["compute"]["status"] == "finishedSuccessfully"
        assert f"key-{jid}/outgoing/first.txt" in sites.west.leftovers()
        await api.post("deletejobs/", {"jid": jid})
        await eventually(lambda: sites.west.leftovers() == [])


async def test_the_table_and_the_lines(sites):
    document = write_workflow(
        sites.home / "w.yml",
        node("first", "list", "first", resource="west"),
        node("bad", "fail", sites.home / "never", resource="south", parents=["first"]),
    )
    every = arguments(sites, document)
    every.remove("--json")
    code, command = await run(sites.home, *every)
    assert code == 1
    assert "first: submitting to west" in command.stderr
    assert "bad: failed: finishedWithError" in command.stderr
    rows = [line.split("\u2502") for line in command.stdout.splitlines()]
    assert [[cell.strip() for cell in row[1:5]] for row in rows if len(row) > 5] == [
        ["first", "west", IMAGE, "done"],
        ["bad", "south", IMAGE, "failed"],
    ]
    assert "the scanner is on fire" in command.stdout
    assert "--resume goes on with this run" in command.stdout


async def test_problems_of_both_documents_are_told_before_anything_is_done(sites):
    document = write_workflow(sites.home / "w.yml", node("a", "list", "x", resource="nowhere", color="red"))
    (sites.home / "password").chmod(0o644)
    code, command = await run(sites.home, *arguments(sites, document))
    assert code == 2
    assert "nodes[0].color: there is no such field" in command.stderr
    assert command.stderr.count("others may read it; chmod 600") == 3
    assert not sites.output.exists()
    (sites.home / "password").chmod(0o600)
    document = write_workflow(sites.home / "w.yml", node("a", "list", "x", resource="west"))
    code, command = await run(sites.home, *arguments(sites, document, "--output", sites.source / "out"))
    assert (code, "lies within the input" in command.stderr) == (2, True)


async def test_an_output_directory_that_is_taken_is_left_alone(sites):
    document = write_workflow(sites.home / "w.yml", node("first", "list", "first", resource="west"))
    (sites.output / "first").mkdir(parents=True)
    code, command = await run(sites.home, *arguments(sites, document))
    assert (code, "first: exists already" in command.stderr) == (2, True)
    (sites.output / "first").rmdir()
    assert (await run(sites.home, *arguments(sites, document)))[0] == 0
    code, command = await run(sites.home, *arguments(sites, document))
    assert (code, "holds a run already" in command.stderr) == (2, True)
