import asyncio
import json
import os

import pytest
from harness.daemon import running
from harness.http import PLUGIN, client, connection, head, pairs, raw
from harness.waiting import eventually
from harness.zips import zipped

MALFORMED = "The browser (or proxy) sent a request that this server could not understand."
TOO_LARGE = "The data value transmitted exceeds the capacity limit."
BOUNDARY = "a-boundary"


def multipart(*parts, end=True):
    """Parts as (name, filename or None, bytes)."""
    out = []
    for name, filename, data in parts:
        disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
        out += [f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode(), data, b"\r\n"]
    return b"".join(out) + (f"--{BOUNDARY}--\r\n".encode() if end else b"")


MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def post(token, body, *, path="/api/v1/pluginjobs/", headers=(), length=None):
    declared = [("Content-Length", len(body) if length is None else length)]
    return head("POST", path, [("Authorization", f"Bearer {token}"), *declared, *headers]) + body


@pytest.fixture
def spooled(storebase):
    return lambda: list(storebase.rglob("*.part"))


@pytest.fixture(autouse=True)
def nothing_left(storebase):
    yield
    assert not list(storebase.rglob("*.part"))


@pytest.fixture
async def innetwork(tmp_path):
    (tmp_path / "storeBase" / "in").mkdir(parents=True)
    (tmp_path / "storeBase" / "out").mkdir()
    async with running(tmp_path, STORAGE_ENV="filesystem") as daemon, client(daemon.url) as api:
        api.daemon = daemon
        yield api


JOB = {**PLUGIN, "jid": "j", "input_dirs": ["in"], "output_dir": "out"}


async def started(api, reply):
    reply.expect(201)
    (run,) = api.daemon.compute.started
    return run


@pytest.mark.parametrize("encoding", ["urlencoded", "multipart", "json", "json, numbers and scalars"])
async def test_every_encoding_means_the_same(innetwork, encoding):
    match encoding:
        case "urlencoded":
            reply = await innetwork.post("pluginjobs/", JOB)
        case "multipart":
            parts = [(name, None, value.encode()) for name, value in pairs(JOB)]
            reply = await innetwork.send("POST", "pluginjobs/", data=multipart(*parts), headers=MULTIPART)
        case "json":
            document = {
                name: [str(item) for item in value] if isinstance(value, list) else str(value) for name, value in JOB.items()
            }
            reply = await innetwork.send("POST", "pluginjobs/", json=document)
        case _:
            document = {**JOB, "input_dirs": "in", "args_path_flags": None, "unknown": {"deep": []}}
            reply = await innetwork.send(
                "POST", "pluginjobs/", data=json.dumps(document), headers={"Content-Type": "application/vnd.x+json"}
            )
    run = await started(innetwork, reply)
    assert list(run.argv) == [*PLUGIN["entrypoint"], *PLUGIN["args"], "/share/incoming", "/share/outgoing"]
    assert run.env == {"CHRIS_JID": "x", "CHRIS_USER_TOKEN": "tell-nobody"}


async def test_the_bogus_file_of_the_command_line_client_is_ignored(innetwork):
    parts = [(name, None, value.encode()) for name, value in pairs(JOB)]
    body = multipart(*parts, ("data_file", "data_file", b"1000"), ("other", "x.bin", b"\xff" * 100_000), ("jid", None, b"second"))
    run = await started(innetwork, await innetwork.send("POST", "pluginjobs/", data=body, headers=MULTIPART))
    assert run.jid == "j"


async def test_texts_arrive_as_they_were_sent(innetwork):
    args = ["", " ", "a,b", "ü ∂", "a=b&c", "\r\n", "--" + BOUNDARY, "%41", "+", "💡"]
    run = await started(innetwork, await innetwork.post("pluginjobs/", {**JOB, "args": args}))
    assert list(run.argv[2:-2]) == args
    parts = [(name, None, value.encode()) for name, value in pairs({**JOB, "jid": "k", "args": args})]
    (await innetwork.send("POST", "pluginjobs/", data=multipart(*parts), headers=MULTIPART)).expect(201)
    assert list(innetwork.daemon.compute.started[-1].argv[2:-2]) == args


@pytest.mark.parametrize("encoding", ["multipart", "urlencoded"])
async def test_there_is_no_cap_on_the_number_of_arguments(innetwork, encoding):
    args = [f"value-{number}" for number in range(50_000)]
    fields = pairs({**JOB, "args": args})
    if encoding == "multipart":
        body = multipart(*[(name, None, value.encode()) for name, value in fields])
        reply = await innetwork.send("POST", "pluginjobs/", data=body, headers=MULTIPART)
    else:
        reply = await innetwork.post("pluginjobs/", {**JOB, "args": args})
    run = await started(innetwork, reply)
    assert list(run.argv[2:-2]) == args


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{", "application/json"),
        (b"", "application/json"),
        (b"[]", "application/json"),
        (b'"x"', "application/json"),
        (b"null", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"\xff", "application/json"),
        (b"jid=%ff", "application/x-www-form-urlencoded"),
        (b"jid=\xff", "application/x-www-form-urlencoded"),
        (b"", "multipart/form-data; boundary=x"),
        (b"garbage", "multipart/form-data; boundary=x"),
        (b"--x\r\nno colon\r\n\r\n\r\n--x--", "multipart/form-data; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="jid"\r\n\r\ncut', "multipart/form-data; boundary=x"),
        (b"--x--", "multipart/form-data"),
        (b"--x--", "multipart/form-data; boundary="),
    ],
)
async def test_a_body_that_cannot_be_read_is_a_400(api, body, content_type):
    for path in ("pluginjobs/", "jobs/", "copyjobs/", "uploadjobs/", "deletejobs/"):
        reply = await api.send("POST", path, data=body, headers={"Content-Type": content_type})
        assert (reply.status, reply.message) == (400, MALFORMED)


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/octet-stream", "multipart/mixed; boundary=x"])
async def test_another_content_type_holds_no_fields(api, content_type):
    reply = await api.send("POST", "deletejobs/", data=b"jid=a", headers={"Content-Type": content_type})
    assert (reply.status, reply.message) == (400, {"jid": "Missing required parameter in the post body"})


async def test_a_field_that_is_not_utf8_is_named(api):
    reply = await api.send("POST", "deletejobs/", data=multipart(("jid", None, b"\xff")), headers=MULTIPART)
    assert (reply.status, reply.message) == (400, {"jid": "must be UTF-8"})


async def test_compressed_bodies_are_refused(api):
    reply = await api.send("POST", "deletejobs/", data=b"x" * 100, headers={"Content-Encoding": "gzip"})
    assert reply.status == 415


async def test_wrong_json_types_name_the_field_and_are_never_a_500(api):
    document = {**PLUGIN, "jid": {"a": 1}, "cpu_limit": True, "image": 1.5, "args": [["a"]], "type": 7, "gpu_limit": "NaN"}
    reply = (await api.send("POST", "pluginjobs/", json=document)).expect(400)
    assert reply.message == {
        "jid": "must be a string",
        "args": "must be a string",
        "cpu_limit": "must be an integer",
        "gpu_limit": "invalid literal for int() with base 10: 'NaN'",
        "image": "must be a string",
        "type": "7 is not a valid choice",
    }


async def test_a_job_without_its_zip_gets_the_general_sentence(api):
    for path in ("pluginjobs/", "jobs/"):
        for kwargs in ({"data": None, "json": {**PLUGIN, "jid": "a"}}, {"fields": {**PLUGIN, "jid": "a"}}):
            reply = await api.post(path, **kwargs)
            assert (reply.status, reply.message) == (400, MALFORMED)


async def test_only_the_first_file_counts(api, daemon):
    parts = [(name, None, value.encode()) for name, value in pairs({**PLUGIN, "jid": "a"})]
    files = [("data_file", "x", zipped({"first": b"1"})), ("data_file", "x", zipped({"second": b"2"}))]
    (await api.send("POST", "pluginjobs/", data=multipart(*files, *parts), headers=MULTIPART)).expect(201)
    assert [path.name for path in daemon.compute.started[0].mounts.incoming.iterdir()] == ["first"]


# Limits


async def test_fields_have_a_limit_together_and_memory_stays_flat(tmp_path):
    async with running(tmp_path, PFMOC_MAX_FORM_BYTES="100000") as daemon, client(daemon.url) as api:
        big = b"x" * 100_001
        bodies = [
            (multipart(("image", None, big)), MULTIPART),
            (multipart(("unknown", None, big)), MULTIPART),
            (multipart(*[("args", None, b"")] * 30_000), MULTIPART),
            (b"image=" + big, {"Content-Type": "application/x-www-form-urlencoded"}),
            (b'{"image":"' + big + b'"}', {"Content-Type": "application/json"}),
        ]
        for body, headers in bodies:
            reply = await api.send("POST", "pluginjobs/", data=body, headers=headers)
            assert (reply.status, reply.message) == (413, TOO_LARGE)
        (await api.get("pluginjobs/")).expect(200)


async def test_a_body_over_the_limit_is_refused_by_its_declared_length_or_where_it_gets_there(tmp_path):
    async with running(tmp_path, PFMOC_MAX_UPLOAD_BYTES="200000") as daemon, client(daemon.url) as api:
        answer = await raw(daemon.url, post(api.token, b"", length=10**15, headers=list(MULTIPART.items())))
        assert b" 413 " in answer.split(b"\r\n")[0]

        async def endless():
            yield multipart(end=False) + f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="data_file"\r\n\r\n'.encode()
            for _ in range(30):
                yield b"x" * 10_000

        reply = await api.send("POST", "pluginjobs/", data=endless(), headers=MULTIPART)
        assert (reply.status, reply.message) == (413, TOO_LARGE)
    assert not list((tmp_path / "storeBase").rglob("*.part"))


# Clients that send before they listen


async def test_an_early_401_reaches_a_client_that_sends_everything_first(api, daemon):
    body = os.urandom(30 << 20)
    async with connection(daemon.url) as (reader, writer):
        writer.write(head("POST", "/api/v1/pluginjobs/", [("Content-Length", len(body)), *MULTIPART.items()]))
        writer.write(body)
        await writer.drain()  # returns once the daemon has taken nearly all of it
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"Connection: close" not in answer
        await reader.readexactly(len(b'{"message": "Missing authorization header."}\n'))
        writer.write(head("GET", "/livez", [("Connection", "close")]))  # and the connection is still good
        assert b"200 OK" in await asyncio.wait_for(reader.read(), 20)


@pytest.mark.parametrize("path", ["/api/v1/pluginjobs", "/api/v1/nope/", "/api/v1/pluginjobs/a/", "/api/v1/auth-token/"])
async def test_bodies_nobody_wants_are_drained_too(daemon, path):
    body = b"x" * (2 << 20)
    request = head("POST", path, [("Content-Length", len(body)), ("Content-Type", "text/plain")])
    answer = await raw(daemon.url, request, body, head("GET", "/livez", [("Connection", "close")]))
    assert answer.count(b"HTTP/1.1 ") == 2
    assert answer.endswith(b'{"live": true}\n')


async def test_leave_to_send_is_given_after_auth_and_not_without(api, daemon):
    fields = b"jid=a"
    expect = [("Expect", "100-continue"), ("Content-Type", "application/x-www-form-urlencoded"), ("Content-Length", len(fields))]
    async with connection(daemon.url) as (reader, writer):
        writer.write(head("POST", "/api/v1/deletejobs/", [("Authorization", f"Bearer {api.token}"), *expect]))
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(fields)
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 201 ")
    answer = await raw(daemon.url, head("POST", "/api/v1/deletejobs/", expect))
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"Connection: close\r\n" in answer
    answer = await raw(daemon.url, head("POST", "/api/v1/deletejobs", expect))
    assert answer.startswith(b"HTTP/1.1 308 ")


# Clients that stall, or leave


async def test_a_silent_body_ends_in_a_408(api, daemon, spooled):
    answer = await raw(
        daemon.url, post(api.token, multipart(("jid", None, b"a"), end=False), length=10**6, headers=list(MULTIPART.items()))
    )
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"Connection: close\r\n" in answer
    await eventually(lambda: not spooled(), what="the spool to be empty")


async def test_a_body_that_drips_ends_in_a_408(api, daemon):
    async with connection(daemon.url) as (reader, writer):
        writer.write(post(api.token, b"jid=", length=10**6, headers=[("Content-Type", "application/x-www-form-urlencoded")]))
        # Not to the end: a drop that meets the closing of the connection resets it.
        answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
        while not answer.done():
            writer.write(b"a")
            await asyncio.wait([answer], timeout=0.05)
        assert (await answer).startswith(b"HTTP/1.1 408 ")


async def test_a_slow_but_honest_body_is_received(innetwork):
    innetwork.daemon.settings.__dict__["body_idle_s"] = 2
    body = multipart(*[(name, None, value.encode()) for name, value in pairs(JOB)], ("pad", "pad", b"x" * 30_000))

    async def slowly():
        for start in range(0, len(body), 3000):
            yield body[start : start + 3000]
            await asyncio.sleep(0.25)

    (await innetwork.send("POST", "pluginjobs/", data=slowly(), headers=MULTIPART)).expect(201)


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(api, daemon, spooled):
    async with connection(daemon.url) as (_, writer):
        part = multipart(("data_file", "x", b"x" * 3_000_000), end=False)
        writer.write(post(api.token, part, length=10**9, headers=list(MULTIPART.items())))
        await eventually(spooled, what="the upload to begin")
    await eventually(lambda: not spooled(), what="the upload to be dropped")
    await eventually(lambda: daemon._in_flight == 0, what="the request to end")


@pytest.mark.parametrize(("at_once", "status"), [(True, 400), (False, 408)])
async def test_a_broken_chunked_body_is_refused(api, daemon, at_once, status):
    request = head(
        "POST",
        "/api/v1/deletejobs/",
        [("Authorization", f"Bearer {api.token}"), ("Transfer-Encoding", "chunked"), ("Content-Type", "application/json")],
    )
    async with connection(daemon.url) as (reader, writer):
        writer.write(request)
        if not at_once:
            await eventually(lambda: daemon._in_flight, what="the request to begin")
        writer.write(b'5\r\n{"a":\r\nXYZ\r\n')
        answer = await asyncio.wait_for(reader.read(), 20)
    assert answer.split()[1] == str(status).encode()
    assert b"XYZ" not in answer
