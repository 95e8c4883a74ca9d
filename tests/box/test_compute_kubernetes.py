"""Plugins as Jobs of the box's cluster: what becomes of them, what is said of it, and what is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from harness import pools
from harness.cluster import BUSYBOX_PPC64LE, claim
from harness.images import write_archive
from harness.kube_lab import SECRETS, all_ended, opened, run, settings_for, start_all, tickets
from harness.waiting import eventually, until
from kubernetes import client

from pfmoc.compute import kubernetes
from pfmoc.compute.base import Limits, RunState
from pfmoc.compute.kubernetes_site import UID_RANGE
from pfmoc.data import Mounts
from pfmoc.errors import ComputeConflict, InvalidRequest

E_MACHINE, EM_S390 = 18, 22
"""Where an ELF file says for which processor it is, and one that no machine of ours is or plays."""


@pytest.fixture
def settings(box, namespace):
    """Of a namespace under Pod Security ``restricted``."""
    return settings_for(box.kubeconfig, namespace)


async def test_each_end_has_its_reason(cluster, namespace, settings):
    """And nothing secret is anywhere but in the Secret; and nothing is left after removal."""
    eats = "x=0123456789abcdef; while :; do x=$x$x; done"
    runs = [
        run("ok", 'cat "$1/in" && echo && echo $(id -u) $(id -g) && echo out > "$2/out"'),
        run("code", "echo to-stderr >&2; exit 3"),
        run("hungry", eats),
        run("no-program", argv=["/no/such/program"]),
        run("no-image", image="localhost/no/such:1"),
        run("no-reference", image="localhost/UPPER:1"),
        run("no-pull", data=tickets("fail")),
        run("no-publish", 'touch "$2/fail"'),
        run("no-both", 'touch "$2/fail"; exit 4'),
        run("two", 'echo "$JOB_COMPLETION_INDEX"', limits=Limits(number_of_workers=2, cpu_millicores=50, memory_mib=32)),
        run("power", "uname -m", image=BUSYBOX_PPC64LE, arch="ppc64le"),
    ]
    # The namespace is an OpenShift project: a controller gives it user ids of its own.
    until(lambda: UID_RANGE in (cluster.core.read_namespace(namespace).metadata.annotations or {}), what="the user ids")
    async with opened(settings) as compute:
        for each in runs:
            assert (await compute.start(each)).state is RunState.PENDING
        ends = await all_ended(compute, [each.name for each in runs], deadline_s=180)
        assert {name: (seen.state, seen.exit_code) for name, seen in ends.items()} == {
            "ok": (RunState.SUCCEEDED, 0),
            "code": (RunState.FAILED, 3),
            "hungry": (RunState.FAILED, 137),
            "no-program": (RunState.FAILED, 128),
            "no-image": (RunState.FAILED, None),
            "no-reference": (RunState.FAILED, None),
            "no-pull": (RunState.FAILED, None),
            "no-publish": (RunState.FAILED, 0),
            "no-both": (RunState.FAILED, 4),
            "two": (RunState.SUCCEEDED, 0),
            "power": (RunState.SUCCEEDED, 0),
        }
        for name, words in {
            "ok": ["finished"],
            "code": ["exited with code 3"],
            "hungry": ["OOMKilled"],
            "no-program": ["localhost/busybox:1", "cannot be started", "/no/such/program"],
            "no-image": ["localhost/no/such:1", "ErrImagePull"],
            "no-reference": ["localhost/UPPER:1", "InvalidImageName"],
            "no-pull": ["pull failed: the store says no"],
            "no-publish": ["publish failed: the store says no"],
            "no-both": ["exited with code 4; publish failed: the store says no"],
        }.items():
            assert not [word for word in words if word not in ends[name].message], ends[name].message
        # The group is 0.
        uid = cluster.core.read_namespace(namespace).metadata.annotations[UID_RANGE].partition("/")[0]
        assert await compute.logs("ok", tail=10) == f"{SECRETS[0]}\n{uid} 0\n"
        assert await compute.logs("code", tail=10) == "to-stderr\n"
        assert await compute.logs("two", tail=10) == "==> worker 0 <==\n0\n==> worker 1 <==\n1\n"
        assert await compute.logs("power", tail=10) == "ppc64le\n"
        assert await compute.logs("no-image", tail=10) == ""
        ok = ends["ok"]
        assert (ok.jid, ok.digest, ok.record) == ("jid-ok", "d", json.dumps({"jid": "jid-ok"}))
        assert ok.stages is not None
        assert (ok.stages.node, None in (ok.stages.waiting, ok.stages.pull, ok.stages.plugin, ok.stages.publish)) == (
            "box-0",
            False,
        )
        assert datetime.fromisoformat(ok.timestamp).utcoffset() is not None
        seen = [*everything(cluster, namespace), *map(repr, ends.values()), repr(runs)]
        assert not [secret for secret in SECRETS for text in seen if secret in text]
        await asyncio.gather(*(compute.remove(each.name) for each in runs))
        assert list(await compute.runs()) == []
        assert await compute.inspect("ok") is None
    assert left(cluster, namespace) == []


def everything(cluster, namespace: str) -> list[str]:
    """All that the API tells of Jobs, pods and Events."""
    lists = (cluster.batch.list_namespaced_job, cluster.core.list_namespaced_pod, cluster.core.list_namespaced_event)
    return [listing(namespace, _preload_content=False).data.decode() for listing in lists]


def left(cluster, namespace: str) -> list[str]:
    """Names of the Jobs, pods and Secrets that are there."""
    lists = (cluster.batch.list_namespaced_job, cluster.core.list_namespaced_pod, cluster.core.list_namespaced_secret)
    return [thing.metadata.name for listing in lists for thing in listing(namespace).items]


async def test_two_replicas_start_a_run_once_and_know_the_same(cluster, namespace, settings):
    async with opened(settings) as one, opened(settings) as other:
        each = run("once", 'echo begun; sleep 2; echo done; touch "$2/x"')
        starts = [replica.start(each) for replica in (one, other) for _ in range(10)]
        assert {seen.jid for seen in await asyncio.gather(*starts)} == {"jid-once"}
        assert len(cluster.batch.list_namespaced_job(namespace).items) == 1
        assert len(cluster.core.list_namespaced_secret(namespace).items) == 1
        for replica in (one, other):
            with pytest.raises(ComputeConflict, match="something else"):
                await replica.start(run("once", "exit 1", digest="another"))
        following = asyncio.create_task(collected(other, "once"))
        ends = await asyncio.gather(all_ended(one, ["once"]), all_ended(other, ["once"]))
        assert ends[0]["once"].state is RunState.SUCCEEDED
        assert ends[0]["once"].message == ends[1]["once"].message
        assert await following == b"begun\ndone\n"
    async with opened(settings) as anew:
        asked = count_requests(anew)
        for _ in range(100):
            seen = await anew.inspect("once")
        assert seen is not None
        assert (seen.state, seen.jid, seen.record) == (RunState.SUCCEEDED, "jid-once", json.dumps({"jid": "jid-once"}))
        assert [found.name for found in await anew.runs()] == ["once"]
        assert asked == []
        assert (await anew.start(each)).state is RunState.SUCCEEDED
        await anew.remove("once")
        await anew.remove("once")
        assert (await anew.start(run("once", "exit 5"))).state is RunState.PENDING
        assert (await all_ended(anew, ["once"]))["once"].exit_code == 5


async def collected(compute, name: str) -> bytes:
    return b"".join([chunk async for chunk in compute.follow(name)])


def count_requests(compute) -> list[str]:
    """Every question that is put to the cluster from now on."""
    asked: list[str] = []
    plain = compute.cluster.request

    async def request(verb: str, path: str, **more):
        if path != "/version":
            asked.append(f"{verb} {path}")
        return await plain(verb, path, **more)

    compute.cluster.request = request
    return asked


async def test_what_keeps_a_run_waiting_is_told_and_can_be_mended(cluster, namespace, box):
    cluster.core.create_namespaced_resource_quota(
        namespace, {"metadata": {"name": "q"}, "spec": {"hard": {"requests.cpu": "1m"}}}
    )
    # It holds for nothing until a controller has counted what is there.
    until(lambda: cluster.core.read_namespaced_resource_quota("q", namespace).status.hard, what="the quota to hold")
    settings = settings_for(box.kubeconfig, namespace, PFMOC_GPU_PRODUCTS="NVIDIA-NOWHERE")
    async with opened(settings) as compute:
        await compute.start(run("quota"))
        await says(compute, "quota", "exceeded quota: q")
        cluster.core.delete_namespaced_resource_quota("q", namespace)
        gpu = Limits(cpu_millicores=50, memory_mib=32, gpus=1)
        await compute.start(run("gpu", limits=gpu))
        await says(compute, "gpu", "Unschedulable: 0/1 nodes are available")
        await compute.remove("gpu")
        assert await compute.inspect("gpu") is None
        with pytest.raises(InvalidRequest, match="gpu_limit"):
            await compute.start(run("gpus", limits=Limits(cpu_millicores=50, memory_mib=32, gpus=17)))
        with pytest.raises(InvalidRequest, match="arch"):
            await compute.start(run("arch", arch="no such"))
        # The Job controller tries again after 10 s or so.
        assert (await all_ended(compute, ["quota"]))["quota"].state is RunState.SUCCEEDED


async def says(compute, name: str, words: str) -> None:
    async def said() -> bool:
        seen = await compute.inspect(name)
        return seen is not None and seen.state is RunState.PENDING and words in seen.message

    await eventually(said, what=f"{name} to say {words}", deadline_s=60)


async def test_a_run_that_takes_too_long_is_ended(box, namespace, settings, monkeypatch):
    monkeypatch.setattr(kubernetes, "OVERDUE_S", 5)
    async with opened(settings) as compute:
        await compute.start(run("heeds", 'trap "exit 9" TERM; touch "$2/x"; echo begun; while :; do sleep 0.1; done'))
        await compute.start(run("does-not", "echo begun; while :; do sleep 0.1; done"))
        for name in ("heeds", "does-not"):
            await eventually(lambda name=name: at(compute, name, "running"), what=name, deadline_s=90)
            await eventually(lambda name=name: compute.logs(name, tail=1), what=f"{name} to have begun")
    # Only now: on a busy machine it may take longer than that until a pod begins.
    async with opened(settings_for(box.kubeconfig, namespace, PFMOC_JOB_DEADLINE_S="6")) as compute:
        ends = await all_ended(compute, ["heeds", "does-not"])
        assert {seen.message.partition(";")[0] for seen in ends.values()} == {
            "DeadlineExceeded: it took longer than the 6 s that a job may"
        }
        assert {name: (seen.state, seen.exit_code) for name, seen in ends.items()} == {
            "heeds": (RunState.FAILED, 9),
            "does-not": (RunState.FAILED, 137),
        }
        stages = ends["heeds"].stages
        assert stages is not None
        assert stages.publish is not None


PHASES = {
    "ended": run("ended"),
    "pulling": run("pulling", data=tickets("slow-1000")),
    # Process 1 does not heed SIGTERM.
    "running": run("running", "sleep 1000; sleep 1000"),
    # A publisher that has its signal cannot be hurried; the real one stops when its ticket is withdrawn.
    "publishing": run("publishing", 'echo 8 > "$2/slow"'),
}
"""Runs that come to these phases, and stay in them, or long enough."""
MESSAGES = {"pulling": "pulling its input", "running": "running", "publishing": "publishing its output", "ended": "finished"}


async def test_a_run_can_be_removed_in_every_phase_and_twice(cluster, namespace, settings):
    async with opened(settings) as compute:
        await compute.start(run("begun"))
        await asyncio.gather(compute.remove("begun"), compute.remove("begun"))
        for name, each in PHASES.items():
            await compute.start(each)
            if name != "publishing":
                await eventually(lambda name=name: at(compute, name, MESSAGES[name]), what=name, deadline_s=60)
        await eventually(lambda: at(compute, "publishing", MESSAGES["publishing"]), what="publishing", deadline_s=60)
        # Four at once, and for a busy machine: the deadline of one removal is 30 s.
        await asyncio.gather(*(compute.remove(name) for name in PHASES))
        assert left(cluster, namespace) == []
        await asyncio.gather(*(compute.remove(name) for name in PHASES))


async def at(compute, name: str, message: str) -> bool:
    seen = await compute.inspect(name)
    return seen is not None and seen.message == message


async def test_twenty_at_once_on_the_real_node(settings):
    runs = [run(f"many-{number}", f'cat "$1/in"; echo {number}') for number in range(20)]
    async with opened(settings) as compute:
        await asyncio.gather(*(compute.start(each) for each in runs))
        ends = await all_ended(compute, [each.name for each in runs], deadline_s=240)
        assert {seen.state for seen in ends.values()} == {RunState.SUCCEEDED}
        logs = await asyncio.gather(*(compute.logs(each.name, tail=5) for each in runs))
        assert logs == [f"{SECRETS[0]}{number}\n" for number in range(20)]
        await asyncio.gather(*(compute.remove(each.name) for each in runs))


POOLS = [
    {"name": "gpus", "count": 4, "cpu": 64, "gpu": {"product": "NVIDIA-A100-SXM4-80GB", "count": 8}},
    {"name": "power9", "count": 4, "arch": "ppc64le"},
]


@pytest.fixture
def simulated(box) -> Iterator[None]:
    with pools.simulated(box, POOLS):
        yield


async def test_three_hundred_at_once_on_simulated_nodes(box, namespace, simulated):
    settings = settings_for(box.kubeconfig, namespace, PFMOC_GPU_PRODUCTS="Tesla-V100,NVIDIA-A100-SXM4-80GB")
    limits = Limits(cpu_millicores=10, memory_mib=32)
    runs = [
        *(run(f"gpu-{number}", limits=Limits(cpu_millicores=10, memory_mib=32, gpus=1)) for number in range(100)),
        *(run(f"power-{number}", arch="ppc64le", image="localhost/real-power:1", limits=limits) for number in range(200)),
    ]
    # The real node could emulate them, so these go where only real ones are.
    selector = settings.model_copy(update={"node_selector": {"box.chrisproject.org/node": "simulated"}})
    async with opened(selector) as compute:
        await start_all(compute, runs)
        ends = await all_ended(compute, [each.name for each in runs], deadline_s=240)
        assert {seen.state for seen in ends.values()} == {RunState.SUCCEEDED}
        assert len(await compute.runs()) == 300
        nodes = {seen.name.partition("-")[0] + " " + seen.stages.node.rpartition("-")[0] for seen in ends.values() if seen.stages}
        assert len(nodes) == 2, nodes


async def test_what_the_cluster_itself_ends_runs_again(cluster, box, namespace):
    """A run whose node is lost; not one that takes more of its node's disk than it may."""
    settings = settings_for(box.kubeconfig, namespace, PFMOC_GPU_PRODUCTS="NVIDIA-A100-SXM4-80GB")
    gpu = Limits(cpu_millicores=50, memory_mib=32, gpus=1)
    async with opened(settings) as compute:
        said: dict[str, list[str]] = {}
        listening = asyncio.create_task(listen(compute, said))
        # The kubelet looks once a minute.
        await compute.start(run("full", "dd if=/dev/zero of=/share/outgoing/big bs=1M count=60; sleep 300"))
        await compute.start(run("lost", limits=gpu))
        await eventually(lambda: lasting(cluster, namespace, "lost-") == 1, deadline_s=30)
        with pools.simulated(box, [{**POOLS[0], "name": "two", "count": 2}]):
            await eventually(lambda: "running" in said.get("lost", ()), deadline_s=60)
            cluster.core.delete_node(await where(compute, "lost"))
            ends = await all_ended(compute, ["lost", "full"], deadline_s=200)
        assert [message for message in said["lost"] if "runs again after its node was lost" in message]
        assert (ends["lost"].state, ends["full"].state) == (RunState.SUCCEEDED, RunState.FAILED)
        assert 'Evicted: Usage of EmptyDir volume "outgoing" exceeds the limit "32Mi"' in ends["full"].message
        listening.cancel()


async def test_a_run_that_gives_way_to_another_runs_again(cluster, box, namespace):
    settings = settings_for(box.kubeconfig, namespace, PFMOC_GPU_PRODUCTS="NVIDIA-A100-SXM4-80GB")
    all_of_them = Limits(cpu_millicores=50, memory_mib=32, gpus=8)
    classes = client.SchedulingV1Api(cluster.api)
    classes.create_priority_class({"metadata": {"name": namespace}, "value": 1000})
    try:
        async with opened(settings) as compute:
            said: dict[str, list[str]] = {}
            listening = asyncio.create_task(listen(compute, said))
            await compute.start(run("low", limits=all_of_them))
            await eventually(lambda: lasting(cluster, namespace, "low-") == 1, deadline_s=30)
            with pools.simulated(box, [{**POOLS[0], "name": "one", "count": 1}]):
                await eventually(lambda: "running" in said.get("low", ()), deadline_s=60)
                await compute.start(run("high", limits=all_of_them, priority=namespace))
                ends = await all_ended(compute, ["low", "high"], deadline_s=180)
            assert {seen.state for seen in ends.values()} == {RunState.SUCCEEDED}
            assert [message for message in said["low"] if message.startswith("runs again after Preempted")]
            assert not [message for message in said["high"] if "again" in message]
            listening.cancel()
    finally:
        classes.delete_priority_class(namespace)


async def test_a_program_for_another_processor_is_named(box, namespace, settings, tmp_path):
    """For one that nothing here emulates: the Job asks for a node of this machine's kind, and the image lies."""
    program = tmp_path / "sh"
    content = bytearray((box.toolchain / "bin/busybox").read_bytes())
    content[E_MACHINE] = EM_S390
    program.write_bytes(content)
    program.chmod(0o755)
    archive = tmp_path / "image.tar"
    write_archive(archive, "localhost/test/foreign:1", {"bin/sh": program})
    await asyncio.to_thread(box.make, "box-image", f"F={archive}")
    async with opened(settings) as compute:
        await compute.start(run("foreign", argv=["/bin/sh"], image="localhost/test/foreign:1"))
        seen = (await all_ended(compute, ["foreign"]))["foreign"]
        assert seen.state is RunState.FAILED
        assert seen.message.startswith("image localhost/test/foreign:1: cannot be started: "), seen.message
        assert "exec format error" in seen.message.lower()


async def listen(compute, said: dict[str, list[str]]) -> None:
    async for seen in compute.watch():
        said.setdefault(seen.name, []).append(seen.message)


def lasting(cluster, namespace: str, prefix: str) -> int:
    """Have the pods of these runs last, on simulated nodes; return how many there are."""
    found = [pod for pod in cluster.core.list_namespaced_pod(namespace).items if pod.metadata.name.startswith(prefix)]
    for pod in found:
        notes = {"metadata": {"annotations": {"box.chrisproject.org/run": "150s"}}}
        cluster.core.patch_namespaced_pod(pod.metadata.name, namespace, notes)
    return len(found)


async def where(compute, name: str) -> str:
    seen = await compute.inspect(name)
    return seen.stages.node if seen and seen.stages else ""


async def test_data_on_a_volume_that_the_daemon_shares(cluster, box, namespace):
    cluster.core.create_namespaced_persistent_volume_claim(namespace, claim("storebase", "ReadWriteMany"))
    mount = Path("/var/local/storeBase")
    settings = settings_for(box.kubeconfig, namespace, STORAGE_ENV="fslink", VOLUME_NAME="storebase", STOREBASE_MOUNT=str(mount))
    async with opened(settings) as compute:
        assert compute.shared
        makes = run("makes", 'echo shared > "$2/file"', data=Mounts(incoming=mount / "a/in", outgoing=mount / "a/out"))
        await compute.start(makes)
        assert (await all_ended(compute, ["makes"]))["makes"].state is RunState.SUCCEEDED
        reads = run("reads", 'cat "$1/file"; touch "$1/x"', data=Mounts(incoming=mount / "a/out", outgoing=mount / "b/out"))
        await compute.start(reads)
        seen = (await all_ended(compute, ["reads"]))["reads"]
        assert (seen.state, seen.message) == (RunState.FAILED, "exited with code 1")
        assert "shared\n" in await compute.logs("reads", tail=5)
        assert seen.stages is not None
        assert (seen.stages.pull, seen.stages.publish) == (None, None)
