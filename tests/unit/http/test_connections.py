import asyncio
import logging

import psutil
import pytest
from harness.daemon import running
from harness.http import client, connection, head, raw
from harness.waiting import eventually

from pfmoc import server
from pfmoc.errors import StartError

MALFORMED = b'{"message": "The browser (or proxy) sent a request that this server could not understand."}\n'


def close(*headers):
    return [*headers, ("Connection", "close")]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"secret garbage\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nbad header secret\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfcsecret", 400),
        (head("GET", "/secret" + "x" * 20_000), 431),
        (head("GET", "/livez", [("X", "secret" * 5_000)]), 431),
        (head("GET", "/livez", [("X", "secret" * 200_000)]), 431),
        (head("GET", "/livez", [(f"X-{number}", "secret") for number in range(10_000)]), 400),
        (head("POST", "/api/v1/jobs/", [("Content-Length", 5), ("Transfer-Encoding", "chunked")]) + b"0\r\n\r\nGET /secret", 400),
        (head("POST", "/api/v1/jobs/", [("Content-Length", 5), ("Content-Length", 6)]) + b"secret", 400),
        (head("POST", "/api/v1/jobs/", [("Content-Length", "-5")]) + b"secret", 400),
        (head("POST", "/api/v1/jobs/", [("Content-Length", "0x5")]) + b"secret", 400),
        (head("POST", "/api/v1/jobs/", [("Transfer-Encoding", "chunked, identity")]) + b"secret", 400),
    ],
)
async def test_what_is_not_http_is_refused_in_few_words_and_one_record(daemon, caplog, request_bytes, status):
    caplog.set_level(logging.INFO)
    answer = await raw(daemon.url, request_bytes)
    assert answer.split()[1] == str(status).encode()
    assert answer.endswith(MALFORMED)
    assert b"Server: pfmoc\r\n" in answer
    assert b"secret" not in answer
    records = [record for record in caplog.records if record.name != "pfmoc.access"]
    assert [record.getMessage() for record in records] == ["not a request"]
    assert records[0].exc_info is None
    (access,) = await eventually(
        lambda: [record for record in caplog.records if record.name == "pfmoc.access"], what="the access log"
    )
    assert access.__dict__["status"] == status


async def test_a_head_that_stalls_or_drips_meets_its_deadline(daemon):
    await raw(daemon.url)  # nothing at all
    await raw(daemon.url, b"GET /livez HT")
    async with connection(daemon.url) as (reader, writer):
        ended = asyncio.create_task(reader.read())
        writer.write(b"GET /livez HTTP/1.1\r\n")
        while not ended.done():
            writer.write(b"X: y\r\n")
            await asyncio.wait([ended], timeout=0.1)


async def test_an_idle_connection_is_closed_in_time(daemon):
    async with connection(daemon.url) as (reader, writer):
        writer.write(head("GET", "/livez"))
        answer = await asyncio.wait_for(reader.read(), 20)
    assert answer.count(b"HTTP/1.1 200 OK") == 1


async def test_a_client_that_does_not_read_is_dropped(tmp_path):
    async with running(tmp_path, PFMOC_BODY_IDLE_S="0.3") as daemon, client(daemon.url) as api:
        pipeline = head("GET", "/metrics") * 3000  # some 40 MB of answers
        async with connection(daemon.url) as (reader, writer):
            reader._transport.pause_reading()
            writer.write(pipeline)
            listener = daemon.metrics
            await eventually(lambda: listener.registry.get_sample_value("process_open_fds") is not None, what="metrics")
            await eventually(lambda: writer.transport.is_closing() or _gone(writer), what="the daemon to close the connection")
        (await api.get("pluginjobs/")).expect(200)


def _gone(writer):
    writer.write(b"")
    try:
        return writer.transport.get_extra_info("socket").getpeername() is None
    except OSError:
        return True


async def test_thousands_of_idle_connections_do_not_hurt(daemon, api):
    server.raise_descriptor_limit()
    process = psutil.Process()
    before, memory = process.num_fds(), process.memory_info().rss
    loop = asyncio.get_running_loop()
    host, port = daemon.url.removeprefix("http://").split(":")
    transports = [(await loop.create_connection(asyncio.Protocol, host, int(port)))[0] for _ in range(2000)]
    (await api.get("/livez")).expect(200)
    assert process.memory_info().rss - memory < 2000 * 50_000
    await eventually(lambda: all(transport.is_closing() for transport in transports), what="idle connections to be closed")
    await eventually(lambda: process.num_fds() <= before + 5, what="descriptors to come back")


async def test_a_taken_port_is_one_clear_line(tmp_path, daemon):
    port = daemon.url.rsplit(":", 1)[1]
    with pytest.raises(StartError, match=rf"PORT: cannot listen on 127\.0\.0\.1:{port}: Address already in use"):
        async with running(tmp_path / "second", PORT=port):
            pass
    assert not (tmp_path / "second" / "state").exists()


def test_an_address_that_is_not_ours_is_said():
    with pytest.raises(StartError, match=r"cannot listen on 192\.0\.2\.1"):
        server.bind("192.0.2.1", 0)
    with pytest.raises(StartError, match=r"PFMOC_HOST: no-such-host\.invalid cannot be bound"):
        server.bind("no-such-host.invalid", 0)


def test_localhost_is_the_address_everybody_expects():
    sock = server.bind("localhost", 0)
    assert server.url_of(sock).startswith("http://127.0.0.1:")
    sock.close()


def test_ipv6():
    sock = server.bind("::1", 0)
    assert server.url_of(sock) == f"http://[::1]:{sock.getsockname()[1]}"
    sock.close()
