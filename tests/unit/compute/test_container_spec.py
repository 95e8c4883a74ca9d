"""What an engine is asked to create (contract 7.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pfmoc.compute.base import Limits, Run
from pfmoc.compute.container_spec import container_spec
from pfmoc.data import Mounts
from pfmoc.settings import load

RUN = Run(
    name="name",
    jid="The.Job",
    image="image:1",
    argv=["plugin", "--flag", "/share/incoming", "/share/outgoing"],
    env={"A": "b=c"},
    data=Mounts(incoming=Path("/unused"), outgoing=Path("/unused")),
    limits=Limits(cpu_millicores=1500, memory_mib=300),
)


def spec(limits: Limits = RUN.limits, **environ: str) -> dict[str, Any]:
    settings = load(
        {"APPLICATION_MODE": "development", "CONTAINER_ENV": "podman", "COMPUTE_VOLUME_TYPE": "host", "STOREBASE": "/s"} | environ
    )
    run = Run(**{name: getattr(RUN, name) for name in RUN.__slots__} | {"limits": limits})
    return container_spec(run, settings=settings, incoming=Path("/s/in"), outgoing=Path("/s/out"), daemon="me", cpus_there=4)


def test_the_command_leaves_the_entry_point_of_the_image_alone():
    assert spec()["Cmd"] == list(RUN.argv)
    assert "Entrypoint" not in spec()


def test_the_input_is_read_only():
    assert spec()["HostConfig"]["Mounts"] == [
        {"Type": "bind", "Source": "/s/in", "Target": "/share/incoming", "ReadOnly": True},
        {"Type": "bind", "Source": "/s/out", "Target": "/share/outgoing", "ReadOnly": False},
    ]


def test_labels_tell_whose_run_it_is():
    assert spec(JOB_LABELS="a=b,org.chrisproject.pfmoc.jid=forged")["Labels"] == {
        "a": "b",
        "org.chrisproject.job_type": "plugin",
        "org.chrisproject.pfmoc.jid": "The.Job",
        "org.chrisproject.pfmoc.daemon": "me",
    }


def test_limits_are_hard():
    host = spec()["HostConfig"]
    assert host["NanoCpus"] == 1_500_000_000
    assert host["Memory"] == host["MemorySwap"] == host["MemoryReservation"] == 300 << 20


@pytest.mark.parametrize(("asked", "given"), [(1, 10), (10, 10), (4000, 4000), (4001, 4000), (1_000_000, 4000)])
def test_cpus_are_what_the_engine_can_give(asked: int, given: int):
    assert spec(Limits(cpu_millicores=asked, memory_mib=300))["HostConfig"]["NanoCpus"] == given * 1_000_000


def test_limits_can_be_ignored_but_for_gpus():
    host = spec(Limits(cpu_millicores=1, memory_mib=300, gpus=2), IGNORE_LIMITS="yes")["HostConfig"]
    assert not {"NanoCpus", "Memory", "MemorySwap", "MemoryReservation"} & host.keys()
    assert host["DeviceRequests"] == [{"Driver": "", "Count": 2, "Capabilities": [["gpu"]]}]


def test_no_gpu_is_no_request():
    assert "DeviceRequests" not in spec()["HostConfig"]


@pytest.mark.parametrize(
    ("setting", "user", "groups"),
    [(":", None, None), ("1234:", "1234", None), (":77", None, ["77"]), ("1234:77", "1234", ["77"])],
)
def test_the_group_is_supplementary(setting: str, user: str | None, groups: list[str] | None):
    made = spec(CONTAINER_USER=setting)
    assert made.get("User") == user
    assert made["HostConfig"].get("GroupAdd") == groups


def test_shared_memory_is_in_mebibytes():
    assert spec(SHM_SIZE="512")["HostConfig"]["ShmSize"] == 512 << 20
    assert "ShmSize" not in spec()["HostConfig"]


def test_home_comes_last_so_that_it_holds():
    assert spec(ENABLE_HOME_WORKAROUND="yes")["Env"] == ["A=b=c", "HOME=/tmp"]
    assert spec()["Env"] == ["A=b=c"]


def test_a_plugin_has_no_network_and_few_privileges():
    host = spec()["HostConfig"]
    assert host["NetworkMode"] == "none"
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["CapDrop"] == ["ALL"]
    assert not {"NET_RAW", "MKNOD", "SYS_CHROOT", "SYS_ADMIN", "SETFCAP"} & set(host["CapAdd"])
    assert spec(PFMOC_PLUGIN_NETWORK="bridge")["HostConfig"]["NetworkMode"] == "bridge"


def test_it_is_never_restarted():
    assert spec()["HostConfig"]["RestartPolicy"] == {"Name": "no"}
