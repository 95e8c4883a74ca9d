"""The daemon's storage and the mover over S3, which Swift speaks as well."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator

import pytest
from harness.box import Box
from harness.pods import Pod
from harness.store_proxy import StoreProxy
from harness.stores import MEBIBYTE, content_of, fill, s3_store
from harness.tenants import Tenant, administrator, sdk_warnings, tenant
from harness.waiting import eventually

from pfmoc.errors import NoSuchData, StorageUnavailable
from pfmoc.objects.s3 import S3Store
from pfmoc.objects.sigv4 import Signer
from pfmoc.storage.base import Inputs
from pfmoc.storage.object_storage import Tuning
from pfmoc.storage.s3 import S3Storage

pytestmark = sdk_warnings
PAGE = 5
TUNING = Tuning(connections=4, patience_s=20, publish_s=30, segment_above=6 * MEBIBYTE, segment_bytes=5 * MEBIBYTE)
INPUTS = Inputs(jid="Job.1", input_dirs=["home/u/in"], output_dir="home/u/out")
TREE = {
    "plain": b"plain",
    "a b/ü/日本語.txt": b"2",
    "odd/%41 &?#+;=@:'\"\\<>~*(),!$": b"odd",
    "empty": b"",
    "large": os.urandom(2 * MEBIBYTE),
}


@pytest.fixture(scope="module")
def alice(box: Box) -> Iterator[Tenant]:
    with administrator(box) as admin, tenant(box, admin, "b-s3") as made:
        made.swift.put_container("bucket")
        yield made


@pytest.fixture
async def storage(box: Box, alice: Tenant, proxy: StoreProxy) -> AsyncIterator[S3Storage]:
    storage = S3Storage(s3_store(box, alice, "bucket", proxy=proxy.url, page=PAGE), limit=1000, tuning=TUNING)
    await storage.store.sweep("")
    yield storage
    await storage.close()


async def test_a_job_goes_all_the_way(storage, tmp_path, proxy):
    await storage.probe()
    await fill(storage.store, {f"home/u/in/{name}": content for name, content in TREE.items()})
    await fill(storage.store, {"home/u/in2/x": b"-", "home/u/in/l.chrislink": b"home/bob", "home/bob/y": b"y"})
    assert (await storage.stage(INPUTS)).nfiles == len(TREE) + 1
    pod = Pod(tmp_path, await storage.data(INPUTS, lifetime_s=600))
    proxy.fail(method="GET", path="/in/", status=503)
    proxy.fail(method="GET", path="/large", cut=MEBIBYTE)
    pulled = await pod.pull()
    assert pulled.status == 0, pulled
    assert pod.pulled() == TREE | {"home_bob/y": b"y"}
    for name, content in TREE.items():
        (pod.outgoing / name).parent.mkdir(parents=True, exist_ok=True)
        (pod.outgoing / name).write_bytes(content)
    (pod.outgoing / "dropped.chrislink").write_text("home")
    proxy.fail(method="PUT", path="/out/", status=500)
    proxy.fail(method="PUT", path="/large", headers={"ETag": '"' + "0" * 32 + '"'})
    published = await pod.publish()
    assert published.status == 0, published
    assert await content_of(storage.store, "home/u/out/") == TREE
    assert await storage.listing(INPUTS, "any") == sorted(TREE)
    assert (await storage.seal(INPUTS)).dropped_links == 1
    files = [file async for file in await storage.archive(INPUTS.jid)]
    assert {file.name: b"".join([piece async for piece in file.open()]) for file in files} == TREE
    assert await storage.upload(INPUTS, "home/u/out") == len(TREE)
    assert await storage.upload(INPUTS, "home/u/copied") == len(TREE)
    assert await content_of(storage.store, "home/u/copied/") == TREE
    await storage.discard(INPUTS.jid)
    assert not await storage.holds(INPUTS.jid)
    with pytest.raises(NoSuchData):
        await storage.listing(INPUTS, "any")


async def test_large_outputs_go_in_parts(storage, tmp_path, proxy):
    await storage.stage(INPUTS)
    pod = Pod(tmp_path, await storage.data(INPUTS, lifetime_s=600))
    content = os.urandom(12 * MEBIBYTE)
    (pod.outgoing / "huge & <odd>").write_bytes(content)
    proxy.fail(method="PUT", path="partNumber=2", status=503)
    published = await pod.publish()
    assert published.status == 0, published
    assert proxy.count("PUT", "partNumber=") == 4
    assert await storage.store.read("home/u/out/huge & <odd>") == content
    await storage.discard(INPUTS.jid)


async def test_a_pod_that_pulls_has_addresses_and_no_key_and_they_end(storage, alice, tmp_path):
    await fill(storage.store, {"home/u/in/one": b"1"})
    await storage.stage(INPUTS)
    tickets = await storage.data(INPUTS, lifetime_s=2)
    assert storage._s3.signer.secret_key not in tickets.pull
    assert storage._s3.signer.secret_key not in repr(tickets) + repr(storage._s3.signer)
    assert json.loads(tickets.publish)["s3"]["secret_key"] == storage._s3.signer.secret_key
    pod = Pod(tmp_path, tickets)

    async def refused() -> bool:
        return (await pod.pull()).message["error"] == "the job's ticket to the store has expired"

    await eventually(refused, what="the addresses to end", deadline_s=60)


async def test_cancel_and_faults_are_as_with_swift(storage, tmp_path, proxy, box, alice):
    await storage.stage(INPUTS)
    pod = Pod(tmp_path, await storage.data(INPUTS, lifetime_s=600))
    (pod.outgoing / "x").write_text("x")
    await storage.withdraw(INPUTS.jid)
    ended = await pod.publish()
    assert (ended.status, ended.message["files"]) == (0, 0)
    refused = proxy.fail(status=503, times=100)
    with pytest.raises(StorageUnavailable, match="it answered 503"):
        await storage.listing(INPUTS, "any")
    refused.times = 0
    stranger = S3Store(endpoint=proxy.url, bucket="bucket", signer=Signer(access_key="nobody", secret_key="guessed"))
    with pytest.raises(StorageUnavailable, match="credentials"):
        await stranger.check()
    await stranger.close()
    missing = s3_store(box, alice, "no-such-bucket")
    with pytest.raises(StorageUnavailable, match="no bucket"):
        await missing.check()
    await missing.close()
