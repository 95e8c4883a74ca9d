"""Submissions whose upload breaks, from either side."""

from __future__ import annotations

import io
import zipfile

import pytest
from aiohttp import web

from pfmoc.storage.workers import Stop
from pfmoc.workflow.dialects import Pfcon5, ServerInfo
from pfmoc.workflow.inputs import Tree, joined
from pfmoc.workflow.manifest import survey
from pfmoc.workflow.problems import Damaged, Refused
from pfmoc.workflow.transport import ZipTransport

DATA = bytes(range(256)) * (3 << 12)
JOB = {"compute": {"status": "started", "message": "", "logs": ""}}


@pytest.fixture
def source(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/large").write_bytes(DATA)
    return Tree(tmp_path / "in", survey(tmp_path / "in", Stop()))


@pytest.fixture
def submit(server, source):
    info = ServerInfo(dialect="", version="", innetwork=False, storage="zipfile", requires_copy=False, requires_upload=False)
    transport = ZipTransport(Pfcon5(server, info))
    fields = {"jid": "j", "args": ["--a", "b c"], "env": []}
    return lambda moved=lambda *_: None: transport.submit("j", fields, joined({"one": source}), moved=moved)


class JobsThatDropTheBody:
    """Cuts the connection within the first body, then takes the next; knows no job before."""

    def __init__(self, *, drops: int) -> None:
        self.drops = drops
        self.forms = []
        self.lengths = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/auth-token/"):
            return web.json_response({"token": "t"})
        if request.method == "GET":
            return web.json_response({"message": "No such job"}, status=404)
        self.lengths.append(request.content_length)
        if self.drops:
            self.drops -= 1
            await request.content.read(1 << 20)
            request.transport.abort()
            return web.Response()
        form = [(part.name, await part.read()) async for part in await request.multipart()]
        self.forms.append(form)
        return web.json_response(JOB, status=201)


async def test_an_upload_that_breaks_is_made_again_whole(script, submit, monkeypatch):
    server = JobsThatDropTheBody(drops=2)
    monkeypatch.setattr(script, "handle", server)
    seen = []
    assert (await submit(lambda *so_far: seen.append(so_far))).status == "started"
    (form,) = server.forms
    assert [name for name, _ in form] == ["jid", "args", "args", "data_file"]
    assert [data for name, data in form if name == "args"] == [b"--a", b"b c"]
    with zipfile.ZipFile(io.BytesIO(form[-1][1])) as archive:
        assert archive.read("large") == DATA
    assert len(set(server.lengths)) == 1
    assert server.lengths[0] > len(DATA)
    assert seen[-1][1] == seen[-1][2] == len(form[-1][1])


async def test_what_changed_on_this_side_is_no_fault_of_the_network(script, submit, source, monkeypatch):
    server = JobsThatDropTheBody(drops=0)
    monkeypatch.setattr(script, "handle", server)
    (source.root / "large").write_bytes(DATA[::-1])
    with pytest.raises(Damaged, match="changed since it was fetched"):
        await submit()
    assert server.forms == []


async def test_a_refusal_while_the_body_is_sent_is_heard(script, submit):
    script.answer = lambda _: web.json_response({"message": {"image": "is bad"}}, status=400)
    with pytest.raises(Refused, match="image: is bad"):
        await submit()
    assert script.log("POST") == ["jobs/"]
