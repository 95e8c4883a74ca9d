"""The operator's command lines: options, sentences, exit statuses. The engine is a program in its place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.engine import looked, said, step, urn

import infra.__main__ as command
from infra import commands
from infra.commands import drift, preview, up
from infra.drift import Finding, Verdict
from infra.failures import OperatorError

ROOT = Path(__file__).resolve().parents[3]
PROJECT = "openstack:identity/project:Project"
SERVER = "openstack:compute/instance:Instance"
IN_POOL = {"metadata": {"pfmoc_pool": "gpu", "pfmoc_tenant": "chris"}}

ENGINE = """#!/usr/bin/env python3
import json, pathlib, sys
here = pathlib.Path(__file__).parent
words = sys.argv[4:]
with (here / "asked").open("a") as asked:
    asked.write(" ".join(words) + "\\n")
if "--event-log" in words:
    name = "destroy-preview" if "--preview-only" in words else words[0]
    log = here / f"{name}.jsonl"
    if log.exists():
        pathlib.Path(words[words.index("--event-log") + 1]).write_text(log.read_text())
        if "failed" in log.read_text():
            sys.exit(255)
elif words[:2] == ["stack", "init"]:
    state = here.parent / "pulumi" / "state" / ".pulumi" / "stacks" / "pfmoc"
    state.mkdir(parents=True)
    (state / f"{words[2]}.json").write_text("{}")
elif words[:2] == ["stack", "export"]:
    print(json.dumps({"deployment": {"resources": []}}))
elif words[:2] == ["stack", "output"]:
    print(json.dumps({"inventory": {"all": {}}, "secrets": {}}))
elif words[0] == "config" and words[1] != "set":
    print("{}")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with an engine that tells the events in ``<operation>.jsonl``, and a site without clouds."""
    engine = tmp_path / "bin" / "pulumi"
    engine.parent.mkdir()
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    monkeypatch.setenv("PFMOC_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", f"{engine.parent}:/usr/bin:/bin")
    monkeypatch.setattr("infra.stack.WORK", tmp_path)
    monkeypatch.setattr("infra.stack.POLICIES", ())
    for name in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "small.yml").write_text("name: small\n")
    return tmp_path


@pytest.fixture
def run(here, capsys):
    """Run a command on the site; its status, stdout and stderr."""

    def run_it(*words: str) -> tuple[int, str, str]:
        code = commands.run([words[0], str(here / "small.yml"), *words[1:]])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_it


def tells(here: Path, operation: str, *events) -> None:
    """Have the engine tell events."""
    (here / "bin" / f"{operation}.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def asked(here: Path) -> list[str]:
    """The operations that the engine was asked for."""
    lines = (here / "bin" / "asked").read_text().splitlines()
    return [line.split()[0] for line in lines if "--event-log" in line]


def test_up_makes_everything(run, here):
    tells(here, "preview", step("create", PROJECT, "chris", new={}))
    done = {"resOutputsEvent": {"metadata": {"op": "create", "urn": urn(PROJECT, "chris")}}}
    tells(here, "up", step("create", PROJECT, "chris", new={}), done)
    code, out, err = run("up", "--yes")
    assert code == 0
    assert asked(here) == ["preview", "up"]
    assert "1 changes made" in out
    (line,) = [line for line in err.splitlines() if "created" in line]
    assert line.split()[:3] == ["created", "Project", "chris"]
    assert (here / "pulumi" / "inventories" / "small" / "pulumi.yml").exists()


def test_up_asks_before_it_does_anything(run, here):
    tells(here, "preview", step("create", PROJECT, "chris", new={}))
    code, _, err = run("up")
    assert code == 1
    assert "nobody is there to be asked" in err
    assert asked(here) == ["preview"]


def test_up_refuses_to_delete_servers(run, here):
    tells(here, "preview", step("delete", SERVER, "gpu-0", old=IN_POOL, id_="s1"))
    code, _, err = run("up", "--yes")
    assert code == 2
    assert "node-pool/gpu would be deleted with 1 servers" in err
    assert asked(here) == ["preview"]


def test_up_does_what_is_named(run, here):
    tells(here, "preview", step("delete", SERVER, "gpu-0", old=IN_POOL, id_="s1"))
    code, _, _ = run("up", "--yes", "--allow", "node-pool/gpu")
    assert code == 0
    assert asked(here) == ["preview", "up"]


def test_preview_shows_what_would_be_refused(run, here):
    tells(here, "preview", step("delete", SERVER, "gpu-0", old=IN_POOL, id_="s1"))
    code, out, _ = run("preview", "--json")
    document = json.loads(out)
    assert code == 2
    assert document["changes"][0]["op"] == "delete"
    assert document["refused"] == [{"resource": "node-pool/gpu", "why": "would be deleted with 1 servers"}]
    assert run("preview", "--allow", "tenant/chris")[0] == 0


def test_preview_shows_what_up_mends_in_swift(run, here, monkeypatch):
    mended = Finding(verdict=Verdict.DRIFTED, kind="Container", name="chris-data", why="", field="containerRead", urn="urn:x")
    monkeypatch.setattr(preview, "unseen", lambda *_: [mended])
    tells(here, "preview", step("same", PROJECT, "chris", old={}, new={}))
    code, out, _ = run("preview")
    assert code == 0
    assert "~ of Swift's metadata: chris-data" in out
    assert "small: 1 changes, 0 refused" in out
    assert json.loads(run("preview", "--json")[1])["changes"] == [
        {"op": "update", "kind": "Container", "name": "chris-data", "urn": "urn:x"}
    ]


def test_destroy_refuses_too(run, here):
    run("preview")
    tells(here, "destroy-preview", step("delete", SERVER, "gpu-0", old=IN_POOL, id_="s1"))
    code, _, err = run("destroy", "--yes")
    assert code == 2
    assert "refused, and nothing was done" in err
    code, out, _ = run("destroy", "--yes", "--allow", "tenant/*")
    assert code == 0
    assert "what stays" in out
    assert asked(here) == ["preview", "destroy", "destroy", "destroy"]


@pytest.mark.parametrize(
    ("events", "code", "word"),
    [
        ([step("same", PROJECT, "chris", old={}, new={})], 0, "in step"),
        (
            [looked(PROJECT, "chris", before={"enabled": True}, now=None), step("create", PROJECT, "chris", new={})],
            2,
            "drifted",
        ),
        (
            [
                looked(PROJECT, "chris", before={}, now={}),
                said("error", "HTTP 401", urn(PROJECT, "b")),
                said("error", "preview failed"),
            ],
            3,
            "unknown",
        ),
    ],
)
def test_drift_is_three_valued(run, here, events, code, word):
    run("preview")
    tells(here, "preview", *events)
    found, out, _ = run("drift")
    assert found == code
    assert f"small: {word}" in out
    document = json.loads(run("drift", "--json")[1])
    assert document["verdict"] == word
    assert len(document["findings"]) == (0 if code == 0 else 1)


def test_what_was_not_looked_at_at_all_is_an_error(run, here):
    run("preview")
    tells(here, "preview", said("error", "error: incorrect passphrase: preview failed"))
    code, _, err = run("drift")
    assert code == 3
    assert err.startswith("error: the passphrase does not open the stack's secrets; ")


@pytest.mark.parametrize("name", ["drift", "destroy", "unlock"])
def test_without_a_state_nothing_is_made(run, here, name):
    code, _, err = run(name)
    assert code == 1
    assert "has no state" in err
    assert not (here / "pulumi").exists()


def test_unlock(run, here):
    run("preview")
    assert run("unlock", "--yes")[0] == 0
    assert "cancel --yes small" in (here / "bin" / "asked").read_text()


def test_the_environment_for_plain_pulumi(run, here, monkeypatch):
    monkeypatch.setenv("OS_CLOUD", "box")
    code, out, _ = run("env")
    assert code == 0
    assert out.splitlines()[0] == "unset OS_CLOUD"
    assert f"export PULUMI_BACKEND_URL='file://{here}/pulumi/state?metadata=skip'" in out


def test_a_wrong_site_file_never_reaches_the_engine(run, here):
    (here / "small.yml").write_text("name: small\nx: 1\n")
    code, _, err = run("up", "--yes")
    assert code == 1
    assert "x: is not known here" in err
    assert not (here / "bin" / "asked").exists()


def test_no_stack_trace(run, monkeypatch):
    def failing(*_args, **_kwargs):
        raise OperatorError("the cloud is gone", "look for it", code=3)

    for module in (drift, preview, up):
        monkeypatch.setattr(module, "opened", failing)
    for name in ("drift", "preview", "up"):
        assert run(name) == (3, "", "error: the cloud is gone; look for it\n")


def test_a_wrong_command_line(capsys):
    assert commands.run(["up"]) == 2
    assert commands.run(["no-such-command"]) == 2
    capsys.readouterr()


def test_every_command_says_what_it_is_for(capsys):
    assert commands.run(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in commands.NAMES)


@pytest.mark.parametrize("words", [["validate", "box"], ["schema"], ["reference"]])
def test_files_are_checked_without_the_clouds_packages(words):
    blocked = "sys.modules.update(dict.fromkeys(('typer', 'rich', 'pulumi', 'openstack', 'kubernetes', 'swiftclient')))"
    program = f"import sys; {blocked}; import infra.__main__ as it; sys.exit(it.main({words!r}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_without_the_clouds_packages_the_others_say_so():
    program = "import sys; sys.modules['typer'] = None; import infra.__main__ as it; sys.exit(it.main(['drift', 'box']))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "uv sync --inexact --group infra" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_hands_on(monkeypatch):
    monkeypatch.setattr(commands, "run", len)
    assert command.main(["drift", "box"]) == 2
