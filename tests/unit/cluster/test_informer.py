"""An informer against an API server that misbehaves."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from fakes.api_server import ApiServer
from harness.waiting import eventually
from hypothesis import given, settings
from hypothesis import strategies as st

from pfmoc.backoff import Backoff
from pfmoc.cluster import client as client_module
from pfmoc.cluster import informer as module
from pfmoc.cluster import watch as watch_module
from pfmoc.cluster.client import Cluster
from pfmoc.cluster.errors import ClusterUnavailable
from pfmoc.cluster.informer import Informer

PODS = "/api/v1/namespaces/x/pods"
FAST = Backoff(first_s=0.01, longest_s=0.05, factor=2.0)


def pod(name: str, value: object = 0, **metadata: object) -> dict[str, object]:
    return {"metadata": {"name": name, **metadata}, "value": value}


@asynccontextmanager
async def informed(server: ApiServer, *, pulse_s: float = 10.0, watch_s: int = 30, backoff: Backoff = FAST):
    async with (
        Cluster(server.access, deadline_s=0.5, pulse_s=pulse_s) as cluster,
        Informer(cluster, PODS, lambda thing: thing["value"], watch_s=watch_s, backoff=backoff) as informer,
    ):
        await informer.wait_synced(5)
        await eventually(lambda: server.watching)
        yield informer


@pytest.fixture
async def server():
    async with ApiServer() as server:
        yield server


async def test_it_knows_what_is_there_and_what_changes(server):
    server.create(PODS, pod("a", 1))
    async with informed(server) as informer:
        assert informer.items() == [("a", 1)]
        server.create(PODS, pod("b", 2))
        await eventually(lambda: informer.get("b") == 2)
        server.create(PODS, pod("a", 3))
        await eventually(lambda: informer.get("a") == 3)
        server.delete(PODS, "a")
        await eventually(lambda: informer.items() == [("b", 2)])
        assert informer.age_s is None
        assert (server.asked(watch=False), server.asked(watch=True)) == (1, 1)


async def test_a_listing_is_read_page_by_page(server, monkeypatch):
    monkeypatch.setattr(module, "PAGE", 7)
    for number in range(30):
        server.create(PODS, pod(f"p{number}", number))
    async with informed(server) as informer:
        assert sorted(informer.values()) == list(range(30))
        assert server.asked(watch=False) == 5


async def test_too_old_a_version_is_listed_anew(server):
    server.create(PODS, pod("a", 1))
    server.create(PODS, pod("gone", 1))
    async with informed(server) as informer:
        server.history.clear()
        server.things[PODS].pop("gone")
        server.things[PODS]["a"]["value"] = 2
        server.things[PODS]["a"]["metadata"]["resourceVersion"] = str(server.version + 1)
        server.version += 2
        server.forget_history()
        await eventually(lambda: informer.items() == [("a", 2)])
        assert informer.lists == 2
        await eventually(lambda: informer.age_s is None)


async def test_who_is_always_too_late_lists_ever_more_seldom(server):
    pauses: list[int] = []

    class Counted(Backoff):
        def pauses(self):
            for number in range(6):
                pauses.append(number)
                yield 0.001 if number < 5 else 3600.0

    server.create(PODS, pod("a", 1))
    async with informed(server, backoff=Counted()) as informer:
        server.oldest = 10**9
        server.cut_watches()
        await eventually(lambda: len(pauses) == 6, what="six failures one after the other")
        assert pauses == list(range(6)), "a listing that succeeds is no end of the trouble as long as the watch does not"
        assert server.asked(watch=False) <= 6
        assert informer.items() == [("a", 1)]
        assert informer.age_s is not None


@pytest.mark.parametrize("status", [403, 404, 409, 422, 429, 500, 503])
async def test_a_listing_that_is_refused_forgets_nothing_and_is_made_again(server, status):
    server.create(PODS, pod("a", 1))
    async with informed(server) as informer:
        server.answers = [(status, "0")] * 4
        server.forget_history()
        await eventually(lambda: not server.answers)
        assert informer.items() == [("a", 1)]
        server.create(PODS, pod("a", 2))
        await eventually(lambda: informer.items() == [("a", 2)])
        await eventually(lambda: informer.age_s is None)


async def test_a_cut_line_is_taken_up_without_a_listing(server):
    async with informed(server) as informer:
        server.cut_watches()
        server.create(PODS, pod("a", 1))
        await eventually(lambda: informer.get("a") == 1)
        await eventually(lambda: informer.age_s is None)
        assert informer.lists == 1


async def test_a_stall_is_found(server, monkeypatch):
    monkeypatch.setattr(watch_module, "GRACE_S", 0.1)
    async with informed(server, watch_s=1) as informer:
        server.mute_watches = True
        server.create(PODS, pod("a", 1))
        await eventually(lambda: informer.age_s is not None, deadline_s=5)
        assert "silent" in informer.trouble
        server.mute_watches = False
        await eventually(lambda: informer.get("a") == 1)


def test_a_stall_is_found_within_a_minute():
    assert module.WATCH_S * 7 / 6 + watch_module.GRACE_S + watch_module.BEGINS_S < 60


async def test_a_frozen_server_leaves_answers_and_their_age(server, monkeypatch):
    monkeypatch.setattr(client_module, "PULSE_DEADLINE_S", 0.1)
    server.create(PODS, pod("a", 1))
    async with informed(server, pulse_s=0.05) as informer:
        server.frozen = True
        began = asyncio.get_running_loop().time()
        age = await eventually(lambda: informer.age_s, deadline_s=10)
        assert 0 < age < asyncio.get_running_loop().time() - began + 1
        assert informer.get("a") == 1
        server.create(PODS, pod("a", 2))
        server.frozen = False
        await eventually(lambda: informer.get("a") == 2)
        await eventually(lambda: informer.age_s is None)


async def test_a_large_object_passes(server):
    async with informed(server) as informer:
        server.create(PODS, pod("big", "x" * (2 << 20)))
        await eventually(lambda: informer.get("big"))
        assert len(informer.get("big")) == 2 << 20
        assert informer.lists == 1


async def test_an_object_without_end_is_given_up(server, monkeypatch):
    monkeypatch.setattr(watch_module, "OBJECT_MAX", 1 << 16)
    async with informed(server) as informer:
        server.create(PODS, pod("big", "x" * (1 << 20)))
        await eventually(lambda: informer.get("big"), deadline_s=5)  # by the listing that follows
        assert informer.lists > 1


async def test_events_that_come_twice_or_late_change_nothing(server):
    async with informed(server) as informer:
        server.repeats = 3
        told = []
        informer.on_change(lambda name, before, after: told.append((name, before, after)))
        old = server.create(PODS, pod("a", 1))
        server.create(PODS, pod("a", 2))
        server.send(PODS, "MODIFIED", old)
        server.delete(PODS, "a")
        server.send(PODS, "ADDED", old)
        server.create(PODS, pod("end", 0))
        await eventually(lambda: informer.get("end") is not None)
        assert informer.get("a") is None
        assert told == [("a", None, 1), ("a", 1, 2), ("a", 2, None), ("end", None, 0)]


async def test_a_late_farewell_does_not_concern_the_next_of_that_name(server):
    async with informed(server) as informer:
        old = server.create(PODS, pod("a", 1))
        server.delete(PODS, "a")
        server.create(PODS, pod("a", 2))
        server.send(PODS, "DELETED", old)
        server.create(PODS, pod("end", 0))
        await eventually(lambda: informer.get("end") is not None)
        assert informer.get("a") == 2


async def test_own_writes_are_known_at_once_and_only_if_they_are_news(server):
    async with informed(server) as informer:
        first = server.create(PODS, pod("a", 1))
        informer.put(first)
        assert informer.get("a") == 1
        server.create(PODS, pod("a", 2))
        await eventually(lambda: informer.get("a") == 2)
        informer.put(first)
        assert informer.get("a") == 2
        informer.forget("a")
        assert informer.get("a") is None
        informer.put(first)
        assert informer.get("a") is None


async def test_rubbish_is_survived(server):
    async with informed(server) as informer:
        server.send(PODS, "MODIFIED", {"metadata": {}})
        server.create(PODS, pod("a", 1))
        await eventually(lambda: informer.get("a") == 1)
        server.version += 1
        server.send(PODS, "MODIFIED", {"metadata": {"name": "b", "resourceVersion": "9999999"}})  # has no value to reduce
        await eventually(lambda: informer.trouble)
        await eventually(lambda: informer.age_s is None)


async def test_a_cluster_that_was_put_back_is_believed(server):
    server.create(PODS, pod("a", 5))
    server.version = 5000
    server.create(PODS, pod("later", 1))
    async with informed(server) as informer:
        server.version = 200
        server.history.clear()
        server.things[PODS].clear()
        server.create(PODS, pod("a", 4))
        server.oldest = 10**9
        server.cut_watches()
        await eventually(lambda: informer.items() == [("a", 4)])
        server.oldest = 0
        await eventually(lambda: informer.age_s is None)


async def test_before_the_first_listing_nothing_is_denied(server):
    server.proxy_says = 503
    async with Cluster(server.access) as cluster, Informer(cluster, PODS, lambda thing: thing, backoff=FAST) as informer:
        with pytest.raises(ClusterUnavailable, match="could not be listed"):
            await informer.wait_synced(0.1)
        assert not informer.synced
        assert informer.age_s is not None


EVENTS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["set", "delete"])), max_size=12)


@given(EVENTS, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_whatever_the_order_the_last_one_counts(steps, random):
    """Every event arrives at least once, in any order, some twice: what is kept is what the cluster has in the end."""
    version, there, events = 100, {}, []
    for name, step in steps:
        version += 1
        if step == "set":
            there[name] = version
            events.append(("MODIFIED", name, version))
        elif name in there:
            del there[name]
            events.append(("DELETED", name, version))
    late = events + [event for event in events if random.random() < 0.5]
    random.shuffle(late)
    informer = Informer(None, PODS, lambda thing: int(thing["metadata"]["resourceVersion"]))  # type: ignore[arg-type]
    for kind, name, at in late:
        informer._hear(kind, {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(at)}})
    assert dict(informer.items()) == there
