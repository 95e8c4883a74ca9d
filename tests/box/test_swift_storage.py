"""The daemon's storage in the real Swift: what is staged, listed, uploaded and removed, and how it bears a Swift that fails."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from harness.box import Box
from harness.pods import Pod
from harness.store_proxy import StoreProxy
from harness.stores import HASTY, SECRET, content_of, fill, identity_of, swift_storage, swift_store
from harness.tenants import Tenant, administrator, sdk_warnings, tenant

from pfmoc.errors import InvalidRequest, NoSuchData, StorageFull, StorageUnavailable, TooLarge
from pfmoc.objects.identity import KeystoneIdentity, V1Identity, application_credential
from pfmoc.objects.rights import Rights
from pfmoc.storage import layout
from pfmoc.storage.base import Inputs
from pfmoc.storage.object_storage import Tuning
from pfmoc.storage.swift import SwiftStorage

pytestmark = sdk_warnings
PAGE = 7


@pytest.fixture(scope="module")
def alice(box: Box) -> Iterator[Tenant]:
    with administrator(box) as admin, tenant(box, admin, "b-storage") as made:
        made.swift.put_container("data")
        yield made


@pytest.fixture
async def storage(box: Box, alice: Tenant, proxy: StoreProxy) -> AsyncIterator[SwiftStorage]:
    async with swift_storage(
        identity_of(box, alice, proxy.url), "data", page=PAGE, limit=40, tuning=Tuning(connections=4)
    ) as made:
        yield made
        await made.store.sweep("")


async def manifest(storage: SwiftStorage, jid: str) -> dict[str, str]:
    """Source of each file of the staged input."""
    places = layout.Places(jid)
    head = json.loads(await storage.store.read(layout.head(places.input)))
    parts = [await storage.store.read(layout.part(places.input, number)) for number in range(head["parts"])]
    return {line["target"]: line["source"] for part in parts for line in layout.lines(part)}


def job(jid: str, *inputs: str, output: str | None = "home/u/out") -> Inputs:
    return Inputs(jid=jid, input_dirs=inputs, output_dir=output)


# Staging


async def test_a_prefix_is_a_directory_and_not_the_beginning_of_a_name(storage):
    await fill(
        storage.store, {"home/u/in/a": "1", "home/u/in/b/c": "2", "home/u/in2/x": "-", "home/u/in.txt": "-", "home/u/in-": "-"}
    )
    staged = await storage.stage(job("one", "/home/u/in/"))
    assert staged.nfiles == 2
    assert await manifest(storage, "one") == {"a": "home/u/in/a", "b/c": "home/u/in/b/c"}


async def test_links_are_followed_within_what_is_permitted_and_cycles_are_cut(storage):
    await fill(
        storage.store,
        {
            "home/u/in/1.chrislink": "home/bob/data/1",
            "home/u/in/10.chrislink": "home/bob/data/10/",
            "home/u/in/file.chrislink": "  home/carl/single.dcm\n",
            "home/bob/data/1/x": "x",
            "home/bob/data/1/back.chrislink": "home/u/in",
            "home/bob/data/10/y": "y",
            "home/bob/data/10/on.chrislink": "PIPELINES/日本",
            "home/carl/single.dcm": "s",
            "home/carl/single.dcm.bak": "-",
            "PIPELINES/日本/p.yml": "p",
        },
    )
    staged = await storage.stage(job("links", "home/u/in"))
    assert await manifest(storage, "links") == {
        "home_bob_data_1/x": "home/bob/data/1/x",
        "home_bob_data_10_/y": "home/bob/data/10/y",
        "home_bob_data_10_/PIPELINES_日本/p.yml": "PIPELINES/日本/p.yml",
        "home_carl/single.dcm": "home/carl/single.dcm",
    }
    assert staged.nfiles == 4
    grants = json.loads(await storage.store.read("key-links/input.json"))["grants"]
    assert {"object": "home/carl/single.dcm"} in grants
    assert all(grant.get("prefix", "/").endswith("/") for grant in grants)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"/home/bob", "must be relative"),
        (b"home/../key-other", "must not contain '..'"),
        (b"..", "must not contain '..'"),
        (b"key-other/incoming", "belongs to the compute resource"),
        (b".pfmoc", "belongs to the compute resource"),
        (b"home/u/in/l.chrislink", "leads to itself"),
        (b"home/u", "holds the job's own output"),
        (b"home/nobody", "leads nowhere"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"x" * 70_000, "is larger than"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_link_that_cannot_be_followed_fails_and_is_named_and_nothing_stays(storage, content, reason):
    await fill(storage.store, {"home/u/in/a": "1", "home/u/in/l.chrislink": content})
    with pytest.raises(InvalidRequest, match=reason) as error:
        await storage.stage(job("bad", "home/u/in"))
    assert "home/u/in/l.chrislink" in error.value.message
    assert not await storage.holds("bad")


@pytest.mark.parametrize("path", ["", "/", "..", "home/../..", "key-other/x", ".pfmoc/segments", "a\nb", "x" * 300, "\ud800"])
def test_paths_that_a_client_may_not_name_are_refused_before_anything(path):
    storage = SwiftStorage(None, None, limit=1)  # type: ignore[arg-type]
    for inputs in (job("j", path), job("j", "in", output=path)):
        with pytest.raises(InvalidRequest):
            storage.check(inputs)
    for jid in ("", "..", "a/b", "a/", "./a"):
        with pytest.raises(InvalidRequest):
            storage.check(job(jid, "in"))
    with pytest.raises(InvalidRequest, match="own output"):
        storage.check(job("j", "home/u"))


async def test_inputs_may_be_objects_several_and_nothing(storage):
    await fill(storage.store, {"a/x": "1", "a/both": "a", "b/both": "b", "c.dcm": "c"})
    assert (await storage.stage(job("many", "a", "b", "c.dcm", "nothing/there"))).nfiles == 4
    assert await manifest(storage, "many") == {"x": "a/x", "both": "b/both", "c.dcm": "c.dcm"}
    assert (await storage.stage(job("none"))).nfiles == 0
    assert (await storage.stage(job("void", "nothing/there"))).nfiles == 0


async def test_objects_that_cannot_be_files_are_named_and_markers_of_directories_are_none(storage, alice):
    alice.swift.put_object("data", "marked/dir/", b"")
    alice.swift.put_object("data", "marked/empty", b"", content_type="application/directory")
    await fill(
        storage.store,
        {"marked/empty/a": "1", "double//slash": "-", "up/../x": "-", "both/a": "1", "both/a-": "2", "both/a/b": "3"},
    )
    assert (await storage.stage(job("marked", "marked"))).nfiles == 1
    for prefix, name in (("double", "double//slash"), ("up", "up/../x"), ("both", "both/a/b")):
        with pytest.raises(InvalidRequest, match=name):
            await storage.stage(job("odd", prefix))
        assert not await storage.holds("odd")


async def test_all_pages_are_read_and_too_many_objects_are_refused(storage):
    await fill(storage.store, {f"many/{number:03}": str(number) for number in range(4 * PAGE)})
    assert (await storage.stage(job("pages", "many"))).nfiles == 4 * PAGE
    await fill(storage.store, {f"many/{number:03}": str(number) for number in range(4 * PAGE, 41)})
    with pytest.raises(TooLarge, match="more than 40 files"):
        await storage.stage(job("pages", "many"))
    await fill(storage.store, {"many/l.chrislink": "c"})
    with pytest.raises(TooLarge):
        await storage.stage(job("pages", "many"))


# Outputs


async def published(storage: SwiftStorage, tmp_path: Any, inputs: Inputs, tree: dict[str, bytes]) -> None:
    await storage.stage(inputs)
    pod = Pod(tmp_path / inputs.jid, await storage.data(inputs, lifetime_s=600))
    for name, content in tree.items():
        (pod.outgoing / name).parent.mkdir(parents=True, exist_ok=True)
        (pod.outgoing / name).write_bytes(content)
    assert (await pod.publish()).status == 0


async def test_outputs_are_listed_archived_uploaded_and_kept_when_the_job_goes(storage, tmp_path):
    tree = {"b": b"b", "a/ü": b"a" * 1000, "empty": b""}
    inputs = job("out")
    await published(storage, tmp_path, inputs, tree)
    assert await storage.listing(Inputs(jid="out"), "any") == sorted(tree)
    files = [file async for file in await storage.archive("out")]
    assert {file.name: b"".join([piece async for piece in file.open()]) for file in files} == tree
    assert await storage.upload(Inputs(jid="out"), "/home/u/out/") == len(tree), "there already"
    for _ in range(2):
        assert await storage.upload(Inputs(jid="out"), "home/u/elsewhere") == len(tree)
    assert await content_of(storage.store, "home/u/elsewhere/") == tree
    for _ in range(2):
        await storage.discard("out")
    assert not await storage.holds("out")
    assert await content_of(storage.store, "home/u/out/") == tree
    for missing in (
        storage.listing(Inputs(jid="out"), "any"),
        storage.upload(Inputs(jid="out"), "home/u/x"),
        storage.archive("out"),
    ):
        with pytest.raises(NoSuchData):
            await missing


async def test_a_job_without_a_place_for_its_outputs_keeps_them_until_it_goes(storage, tmp_path):
    inputs = job("own", output=None)
    await published(storage, tmp_path, inputs, {"x": b"1"})
    assert await content_of(storage.store, "key-own/outgoing/") == {"x": b"1"}
    assert await storage.upload(inputs, "home/u/later") == 1
    await storage.discard("own")
    assert await content_of(storage.store, "home/u/later/") == {"x": b"1"}
    assert not await storage.store.holds("key-own/")


async def test_a_job_that_published_nothing_has_no_files_and_one_that_is_unknown_no_data(storage):
    await storage.stage(job("silent"))
    assert await storage.listing(Inputs(jid="silent"), "any") == []
    assert [file async for file in await storage.archive("silent")] == []
    assert (await storage.seal(job("silent"))).files == 0
    with pytest.raises(NoSuchData):
        await storage.listing(Inputs(jid="unknown"), "any")
    with pytest.raises(NoSuchData):
        await storage.data(job("unknown"), lifetime_s=60)


# Faults


async def test_a_token_that_ends_midway_is_replaced_once_for_all(box, alice, proxy):
    identity = identity_of(box, alice, proxy.url)
    async with swift_storage(identity, "data") as storage:
        await fill(storage.store, {"tok/a": "1"})
        assert identity.logins == 1
        assert identity._session is not None
        alice.cloud.session.delete(
            f"http://127.0.0.1:{box.port(0)}/v3/auth/tokens", headers={"X-Subject-Token": identity._session.token}
        )
        proxy.fail(status=401, times=8)
        await fill(storage.store, {f"tok/{number}": "2" for number in range(8)})
        assert identity.logins == 2
        proxy.fail(status=401, times=2)
        with pytest.raises(StorageUnavailable, match="credentials"):
            await storage.store.read("tok/a")
        await storage.store.sweep("tok/")


async def test_faults_that_pass_are_borne_and_others_are_told_apart(storage, proxy, alice):
    await fill(storage.store, {"fault/large": bytes(range(256)) * 4096})
    proxy.fail(method="GET", status=503, times=2, headers={"Retry-After": "0"})
    proxy.fail(method="GET", path="fault/large", cut=300_000)
    proxy.fail(method="GET", path="fault/large", drip=0.01)
    pieces = [piece async for piece in storage.store.open("fault/large")]
    assert b"".join(pieces) == bytes(range(256)) * 4096
    assert not [fault for fault in proxy.faults if fault.times > 0], "it met them all"
    proxy.fail(method="PUT", cut=0)
    await storage.store.write("fault/again", b"{}")
    with pytest.raises(NoSuchData):
        await storage.store.read("fault/never")
    proxy.fail(method="PUT", status=507)
    with pytest.raises(StorageFull):
        await storage.store.write("fault/full", b"")
    refused = proxy.fail(method="GET", status=503, times=100)
    with pytest.raises(StorageUnavailable, match="it answered 503"):
        await storage.stage(job("faulty", "fault"))
    refused.times = 0
    assert not await storage.holds("faulty")


async def test_the_probe_tells_what_is_wrong(box, alice, storage, proxy):
    await storage.probe()
    assert not await storage.store.holds(".pfmoc/probe")
    async with swift_storage(identity_of(box, alice), "no-such-container") as other:
        with pytest.raises(StorageUnavailable, match="no container 'no-such-container'"):
            await other.probe()
    stranger = KeystoneIdentity(
        auth_url=f"http://127.0.0.1:{box.port(0)}/v3", method=application_credential(id="0" * 32, secret="guess"), patience=HASTY
    )
    async with swift_storage(stranger, "data") as other:
        with pytest.raises(StorageUnavailable, match="Keystone refuses"):
            await other.probe()


# Signing in, and the key of temporary URLs


async def test_an_application_credential_signs_in(box, alice):
    credential = alice.cloud.identity.create_application_credential(alice.user_id, name="b-storage")
    method = application_credential(id=credential.id, secret=credential.secret)
    identity = KeystoneIdentity(auth_url=f"http://127.0.0.1:{box.port(0)}", method=method, region="RegionOne", patience=HASTY)
    async with swift_storage(identity, "data", pod_interface="internal") as storage:
        await storage.probe()
        assert (await storage.store.identity.session()).account("internal").endswith(alice.project_id)
        with pytest.raises(StorageUnavailable, match="no other endpoint"):
            (await identity.session()).account("other")


async def test_version_1_of_signing_in_works(box, alice, tmp_path):
    """The box's Swift has no login of its own, so a front that has one hands out Keystone's tokens."""
    logins: list[str] = []

    async def login(request: web.Request) -> web.Response:
        if request.headers.get("X-Storage-Pass") != "testing" or request.headers.get("X-Storage-User") != "chris:chris1234":
            return web.Response(status=401)
        logins.append(alice.token)
        return web.Response(headers={"X-Storage-Url": alice.account, "X-Auth-Token": alice.token})

    app = web.Application()
    app.router.add_get("/auth/v1.0", login)
    runner = web.AppRunner(app)
    await runner.setup()
    await (site := web.TCPSite(runner, "127.0.0.1", 0)).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/auth/v1.0"
    assert site
    try:
        async with swift_storage(
            V1Identity(auth_url=url, user="chris:chris1234", key="testing", patience=HASTY), "data"
        ) as storage:
            await storage.probe()
            await published(storage, tmp_path, job("v1", output="home/v1"), {"x": b"1"})
            assert await content_of(storage.store, "home/v1/") == {"x": b"1"}
            await storage.discard("v1")
        async with swift_storage(
            V1Identity(auth_url=url, user="chris:chris1234", key="wrong", patience=HASTY), "data"
        ) as storage:
            with pytest.raises(StorageUnavailable, match="Swift refuses"):
                await storage.probe()
    finally:
        await runner.cleanup()
    assert len(logins) == 1


async def test_a_key_of_temporary_urls_is_found_made_or_asked_for(box, alice):
    identity = identity_of(box, alice)
    for name in ("fresh", "given", "taken"):
        alice.swift.put_container(name)
    alice.swift.post_container("given", {"X-Container-Meta-Temp-URL-Key": "others", "X-Container-Meta-Temp-URL-Key-2": "ours"})
    alice.swift.post_container("taken", {"X-Container-Meta-Temp-URL-Key": "one", "X-Container-Meta-Temp-URL-Key-2": "two"})
    async with swift_store(identity, "fresh") as store:
        await Rights(store, key=None, secret=SECRET).ready()
        await Rights(store, key=None, secret=SECRET).ready()
        own, _ = await store.keys()
        assert len(own) == 1
        await Rights(store, key="the operator's", secret=SECRET, slot=2).ready()
        assert (await store.keys())[0]["X-Container-Meta-Temp-Url-Key-2"] == "the operator's"
    async with swift_store(identity, "given") as store:
        await Rights(store, key="ours", secret=SECRET).ready()
    async with swift_store(identity, "taken") as store:
        for key in (None, "another"):
            with pytest.raises(StorageUnavailable, match="SWIFT_TEMPURL_KEY") as error:
                await Rights(store, key=key, secret=SECRET).ready()
            assert "Temp-URL-Key-2:" in error.value.message
            assert "two" not in error.value.message
    alice.swift.post_account({"X-Account-Meta-Temp-URL-Key": "of the account"})
    async with swift_store(identity, "taken") as store:
        await Rights(store, key="of the account", secret=SECRET).ready()
    assert urlsplit(await _address(box, alice)).path.endswith("/data")


async def _address(box: Box, alice: Tenant) -> str:
    async with swift_store(identity_of(box, alice), "data", pod_interface="internal") as store:
        return await store.address()
