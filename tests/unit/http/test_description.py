import json

import pytest
from fakes.compute import FakeCompute
from harness.daemon import launched, running, settings_for
from harness.http import client
from openapi_spec_validator import OpenAPIV31SpecValidator

from pfmoc import __version__
from pfmoc.app import Daemon

MODES = ["zipfile", "filesystem", "fslink"]
KUBECONFIG = {
    "current-context": "x",
    "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "x"}],
}


def described(home, **overrides):
    daemon = Daemon(settings_for(home, **overrides), compute=FakeCompute())
    (app, *_) = daemon._applications(daemon.settings.endpoints)
    mounted = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource.canonical.startswith("/api/v1/") and route.method not in ("HEAD", "OPTIONS")
    }
    return daemon.describe(), {(method, path) for method, path in mounted if path.endswith("/")}


def operations(document):
    return {(method.upper(), path): each for path, methods in document["paths"].items() for method, each in methods.items()}


def body(document, path, media="multipart/form-data"):
    return document["paths"][path]["post"]["requestBody"]["content"][media]["schema"]


@pytest.mark.parametrize("storage", MODES)
@pytest.mark.parametrize("dialects", ["pfcon6", "pfcon5", "pfcon6,pfcon5", "pfcon5,pfcon4,pfcon6"])
def test_it_is_openapi_and_describes_every_mounted_route_and_nothing_else(tmp_path, storage, dialects):
    if "pfcon4" in dialects and storage != "zipfile":
        return
    document, mounted = described(tmp_path, STORAGE_ENV=storage, PFMOC_DIALECTS=dialects)
    OpenAPIV31SpecValidator(document).validate()
    assert set(operations(document)) == mounted
    assert document["info"]["version"] == __version__


def test_only_what_is_on_is_described(tmp_path):
    document, mounted = described(tmp_path, PFMOC_DIALECTS="pfcon6,pfcon4,pman")
    assert {tag["name"] for tag in document["tags"]} == {"all", "pfcon 6"}
    left_out = {path for _, path in mounted} - set(document["paths"])
    assert {path.split("/")[3] for path in left_out} >= {"jobs"}
    assert "/api/v1/jobs/" not in document["paths"]


@pytest.mark.parametrize("storage", MODES)
def test_every_operation_and_field_is_explained(tmp_path, storage):
    document, _ = described(tmp_path, STORAGE_ENV=storage)
    every = operations(document)
    assert len({each["operationId"] for each in every.values()}) == len(every)
    for each in every.values():
        assert each["summary"]
        assert each["description"]
        for content in each.get("requestBody", {"content": {}})["content"].values():
            assert all(field["description"] for field in content["schema"]["properties"].values())


def test_generations_spell_the_first_status_differently(tmp_path):
    schemas = described(tmp_path)[0]["components"]["schemas"]
    words = {number: schemas[f"Compute{number}"]["properties"]["status"]["enum"][0] for number in (5, 6)}
    assert words == {5: "notstarted", 6: "notStarted"}
    assert len(schemas["Compute6"]["required"]) == 7


def test_what_a_plugin_job_needs_depends_on_the_storage(tmp_path):
    needed = {}
    for storage in MODES:
        document, _ = described(tmp_path, STORAGE_ENV=storage)
        for path in ("pluginjobs", "jobs"):
            required = body(document, f"/api/v1/{path}/")["required"]
            needed[storage, path] = {"input_dirs", "output_dir", "data_file", "args"} & set(required)
    assert needed == {
        ("zipfile", "pluginjobs"): {"data_file"},
        ("zipfile", "jobs"): {"data_file", "args"},
        ("filesystem", "pluginjobs"): {"input_dirs", "output_dir"},
        ("filesystem", "jobs"): {"input_dirs", "output_dir", "args"},
        ("fslink", "pluginjobs"): {"output_dir"},
        ("fslink", "jobs"): {"input_dirs", "output_dir", "args"},
    }


def test_bounds_are_those_of_this_server(tmp_path):
    fields = body(described(tmp_path, PFMOC_GPUS=2)[0], "/api/v1/pluginjobs/")["properties"]
    assert (fields["gpu_limit"]["minimum"], fields["gpu_limit"]["maximum"]) == (0, 2)
    assert (fields["memory_limit"]["minimum"], fields["cpu_limit"]["maximum"]) == (6, 1_000_000)


@pytest.mark.parametrize(
    ("told", "workers", "gpus"),
    [
        ({"CONTAINER_ENV": "process", "PFMOC_GPUS": 0}, 1, 0),
        ({"CONTAINER_ENV": "kubernetes", "VOLUME_NAME": "claim"}, 1000, 0),
        ({"CONTAINER_ENV": "kubernetes", "VOLUME_NAME": "claim", "PFMOC_GPU_PRODUCTS": "A100"}, 1000, 16),
        ({"CONTAINER_ENV": "kubernetes", "VOLUME_NAME": "claim", "PFMOC_GPUS": 4}, 1000, 4),
    ],
)
def test_bounds_are_those_of_the_environment_and_of_the_site(tmp_path, told, workers, gpus):
    (tmp_path / "kubeconfig").write_text(json.dumps(KUBECONFIG))
    site = {"PFMOC_MAX_CPU_M": 4000, "PFMOC_MAX_MEMORY_MIB": 8192, "KUBECONFIG": tmp_path / "kubeconfig"}
    document, _ = described(tmp_path, STORAGE_ENV="filesystem", **site, **told)
    for path in ("pluginjobs", "jobs"):
        fields = body(document, f"/api/v1/{path}/")["properties"]
        assert [
            (fields[name]["minimum"], fields[name]["maximum"])
            for name in ("number_of_workers", "cpu_limit", "memory_limit", "gpu_limit")
        ] == [(1, workers), (1, 4000), (6, 8192), (0, gpus)]
        assert fields["gpu_product"]["enum"] == (["", "A100"] if "PFMOC_GPU_PRODUCTS" in told else [""])


def test_a_container_engine_may_refuse_with_a_status_of_its_own(tmp_path):
    answers = described(tmp_path)[0]["paths"]["/api/v1/pluginjobs/"]["post"]["responses"]
    assert {"201", "400", "401", "404", "408", "409", "413", "415", "500", "503", "504", "507", "4XX"} <= set(answers)


async def test_it_is_served_to_everybody_and_may_be_kept(tmp_path):
    async with running(tmp_path) as daemon, client(daemon.url, log_in=False) as api:
        reply = (await api.get("openapi.json")).expect(200)
        assert reply.headers["Content-Type"] == "application/json"
        assert reply.json() == daemon.describe()
        kept = {"If-None-Match": reply.headers["ETag"]}
        assert ((await api.get("openapi.json", headers=kept)).expect(304)).body == b""
        assert (await api.get("openapi.json", headers={"If-None-Match": '"other"'})).status == 200
        assert (await api.send("HEAD", "openapi.json")).status == 200
        assert (await api.send("POST", "openapi.json")).status == 405


async def test_it_is_served_where_its_dialects_are(tmp_path):
    async with running(tmp_path, PFMOC_DIALECTS="pfcon6,pman", PFMOC_LISTENERS="pfcon5@0,pman@0") as daemon:
        six, five, none = daemon.urls
        async with client(six) as api:
            assert "/api/v1/pluginjobs/" in (await api.get("openapi.json")).json()["paths"]
        async with client(five, log_in=False) as api:
            assert "/api/v1/pluginjobs/" not in (await api.get("openapi.json")).json()["paths"]
        async with client(none, log_in=False) as api:
            assert (await api.get("openapi.json")).status == 404


async def test_the_command_prints_it_and_makes_nothing(tmp_path):
    home = tmp_path / "home"
    environ = {"PORT": "0", "PFMOC_HOST": "127.0.0.1"}
    async with launched(home, "openapi", environ=environ) as printed:
        assert await printed.process.wait() == 0
    assert operations(json.loads(printed.log.read_text()))
    assert [path.name for path in home.iterdir()] == [printed.log.name]


async def test_the_command_names_wrong_settings(tmp_path):
    async with launched(tmp_path, "openapi", STORAGE_ENV="swift2") as printed:
        assert await printed.process.wait() == 2
    assert printed.log.read_text().startswith("pfmoc: STORAGE_ENV: ")


async def test_the_reference_of_settings_is_printed(tmp_path):
    async with launched(tmp_path, "settings") as printed:
        assert await printed.process.wait() == 0
    assert printed.log.read_text().startswith("# Settings of the daemon")
