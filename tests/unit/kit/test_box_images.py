"""Images for the box's cluster: made of programs, told by digest, named as their archive names them."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from harness.images import write_archive

ROLES = Path(__file__).resolve().parents[3] / "roles"
PROGRAM = ROLES / "box_kubernetes/files/images.py"

# What `ctr` does with its images, as far as the program can see: a JSON file of digests by name.
CTR = """\
#!{python}
import json, pathlib, re, sys, tarfile
words = sys.argv[sys.argv.index("images") + 1:]
store = pathlib.Path({store!r})
images = json.loads(store.read_text()) if store.exists() else {{}}
if words[0] == "list":
    print("REF TYPE DIGEST SIZE PLATFORMS LABELS")
    for name, digest in images.items():
        print(name, "application/vnd.oci.image.manifest.v1+json", digest, "1.0 MiB linux/amd64 -")
elif words[0] == "import":
    base = next(word.partition("=")[2] for word in words if word.startswith("--base-name="))
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|*") as tar:
        index = next(json.load(tar.extractfile(entry)) for entry in tar if entry.name.endswith("index.json"))
    for entry in index["manifests"]:
        notes = entry.get("annotations", {{}})
        tag = notes.get("org.opencontainers.image.ref.name", "")
        names = [notes["io.containerd.image.name"]] if "io.containerd.image.name" in notes else []
        names += [f"{{base}}:{{tag}}"] if re.fullmatch("[a-z0-9.]+", tag) and not names else []
        names += [f"{{base}}@{{entry['digest']}}"] if "--digests" in words else []
        for name in names:
            images[name] = entry["digest"]
            print(f"unpacking {{name}} ({{entry['digest']}})...done")
elif words[0] == "tag":
    images[words[-1]] = images[words[-2]]
elif words[0] == "remove":
    del images[words[-1]]
store.write_text(json.dumps(images))
"""
NSENTER = """\
#!/bin/sh
[ "$1" = --target=123 ] || exit 9
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Run the program against a runtime that is a file; what it loads and the names that the runtime has then."""
    programs = tmp_path / "bin"
    programs.mkdir()
    store = tmp_path / "store.json"
    for name, text in (("ctr", CTR.format(python=sys.executable, store=str(store))), ("nsenter", NSENTER)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", str(ROLES / "plugin_images/files"))
    (tmp_path / "sandbox.pid").write_text("123")

    def run(*arguments: str, made: object = (), archives: object = ()) -> tuple[list[str], set[str]]:
        specification = {
            "ctr": str(programs / "ctr"),
            "sandbox": str(tmp_path / "sandbox.pid"),
            "record": str(tmp_path / "images.json"),
            "made": made,
            "archives": archives,
        }
        done = subprocess.run(
            [sys.executable, PROGRAM, *arguments],
            input=json.dumps(specification, default=str),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        names = set(json.loads(store.read_text())) if store.exists() else set()
        return json.loads(done.stdout)["loaded"], names

    return run


@pytest.fixture
def program(tmp_path):
    file = tmp_path / "program"
    file.write_text("#!/bin/sh\necho one; echo two\n")
    file.chmod(0o755)
    return file


def recipe(program: Path, **more: object) -> dict[str, object]:
    return {"reference": "localhost/some:1", "architecture": "amd64", "files": {"bin/program": str(program)}} | more


def test_an_image_is_made_of_programs_once_and_again_when_they_change(load, program):
    assert load("--check", made=[recipe(program)]) == (["localhost/some:1"], set())
    assert load(made=[recipe(program)]) == (["localhost/some:1"], {"localhost/some:1"})
    assert load(made=[recipe(program)])[0] == []
    assert load("--check", made=[recipe(program)])[0] == []
    program.write_text("#!/bin/sh\n")
    assert load("--check", made=[recipe(program)])[0] == ["localhost/some:1"]
    assert load(made=[recipe(program)])[0] == ["localhost/some:1"]
    assert load(made=[recipe(program, entrypoint=["/bin/program"])])[0] == ["localhost/some:1"]


def test_what_the_runtime_lost_is_given_again(load, program, tmp_path):
    load(made=[recipe(program)])
    (tmp_path / "store.json").write_text("{}")
    assert load(made=[recipe(program)]) == (["localhost/some:1"], {"localhost/some:1"})


def test_a_name_that_was_given_to_another_image_meanwhile_is_taken_back(load, program, tmp_path):
    load(made=[recipe(program)])
    other = tmp_path / "other.tar"
    write_archive(other, "localhost/some:1", {"other": program})
    assert load(archives=[other])[0] == ["localhost/some:1"]
    assert load(made=[recipe(program)])[0] == ["localhost/some:1"]


def test_an_image_holds_the_applets_and_texts_and_a_directory_for_anyone(program, tmp_path):
    sys.path[:0] = [str(ROLES / "plugin_images/files"), str(PROGRAM.parent)]
    try:
        import images  # noqa: PLC0415 - found only now
    finally:
        del sys.path[:2]
    made = images.Recipe(**recipe(program, applets=str(program), text={"etc/passwd": "root"}, directories=["tmp"]))
    images.make(made, tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as archive:
        index = json.load(archive.extractfile("./index.json"))
        assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == "localhost/some:1"
        manifest = json.load(archive.extractfile(blob(index["manifests"][0])))
        assert json.load(archive.extractfile(blob(manifest["config"])))["architecture"] == "amd64"
        with tarfile.open(fileobj=archive.extractfile(blob(manifest["layers"][0]))) as layer:
            found = {member.name: member for member in layer}
    assert {name for name, member in found.items() if member.linkname == "busybox"} == {"bin/one", "bin/two"}
    assert found["bin/program"].mode == 0o755
    assert found["tmp"].mode == 0o1777
    assert found["etc/passwd"].size == len("root")


def blob(descriptor: dict[str, str]) -> str:
    return f"./blobs/sha256/{descriptor['digest'].removeprefix('sha256:')}"


def test_an_archive_as_podman_writes_it_is_loaded_under_its_name_once(load, program, tmp_path):
    archive = tmp_path / "archive.tar"
    write_archive(archive, "localhost/archive:1", {"bin/sh": program})
    assert load(archives=[archive]) == (["localhost/archive:1"], {"localhost/archive:1"})
    assert load(archives=[archive])[0] == []


@pytest.mark.parametrize("name", ["latest", ""], ids=["tag", "nothing"])
def test_an_archive_without_a_full_name_is_refused_and_leaves_nothing(load, program, tmp_path, name):
    archive = tmp_path / "archive.tar"
    write_archive(archive, name, {"bin/sh": program})
    with pytest.raises(RuntimeError, match=r"archive\.tar holds no image with a full name: save it by its name and tag"):
        load(archives=[archive])
    assert json.loads((tmp_path / "store.json").read_text()) == {}


def test_what_is_no_archive_is_said_to_be_none(load, tmp_path):
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(RuntimeError, match="file could not be opened successfully"):
        load(archives=[tmp_path / "text"])
