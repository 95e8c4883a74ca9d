"""How the engine is run: a program in its place tells what it was given."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from harness.waiting import until
from pulumi.automation.errors import CommandError

from infra.engine import Engine, Installation, settings_of, without_credentials
from infra.failures import OperatorError
from infra.spec import Site
from infra.stack import Place, SiteStack

ROOT = Path(__file__).resolve().parents[3]


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def engine(tmp_path):
    def make(text: str, **kwargs) -> Engine:
        return Engine(Installation(program=program(tmp_path / "bin" / "pulumi", text)), {"MINE": "1"}, **kwargs)

    return make


def test_a_secret_goes_in_by_stdin(engine, tmp_path):
    made = engine('echo "$@"; cat').execute(["config", "set", "--secret", "seed"], cwd=str(tmp_path), stdin="word")
    assert made.stdout == "--non-interactive --color never config set --secret seed\nword"


def test_credentials_of_the_environment_do_not_reach_it(engine, tmp_path, monkeypatch):
    monkeypatch.setenv("OS_CLOUD", "other")
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", "/x/clouds.yaml")
    assert engine('echo "$OS_CLOUD,$OS_CLIENT_CONFIG_FILE,$MINE"').execute([], cwd=str(tmp_path)).stdout == ",/x/clouds.yaml,1"
    assert without_credentials({"OS_PASSWORD": "x", "HOME": "/"}) == {"HOME": "/"}


def test_a_failure_is_the_automation_apis(engine, tmp_path):
    with pytest.raises(CommandError, match="no such stack"):
        engine("echo no such stack >&2; exit 255").run([], str(tmp_path), {})


def test_events_are_told_and_debug_is_not(engine, tmp_path):
    text = """while [ "$1" != --event-log ]; do shift; done
echo '{"a": 1}' >> "$2"
printf '{"diagnosticEvent": {"severity": "debug"}}\\n{"b"' >> "$2"
echo ": 2}" >> "$2\""""
    events: list = []
    engine(text).events(["up"], cwd=str(tmp_path), on_event=events.append)
    assert events == [{"a": 1}, {"b": 2}]


OPERATOR = """
import sys
from pathlib import Path
from infra.engine import Engine, Installation, Interrupted
engine = Engine(Installation(program=Path(sys.argv[1])), {}, lambda times: print("heard", times, flush=True))
try:
    engine.execute(["up"], cwd="/")
except Interrupted as ended:
    sys.exit(ended.code)
"""


def test_ctrl_c_asks_the_engine_once_to_end(tmp_path):
    made = program(
        tmp_path / "pulumi",
        f"trap 'echo asked >> {tmp_path}/said; exit 1' INT; touch {tmp_path}/ready; while :; do sleep 0.05; done",
    )
    # Signals reach the main thread only, and a test may run in another.
    words = [sys.executable, "-c", OPERATOR, str(made)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        until((tmp_path / "ready").exists, what="the engine runs")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == "heard 1\n"
    assert (tmp_path / "said").read_text() == "asked\n"


def test_the_engine_on_path_comes_first_but_the_toolchains_own_brings_its_settings(tmp_path):
    toolchain = tmp_path / "toolchain"
    with pytest.raises(OperatorError, match="no Pulumi engine"):
        Installation.found({"PATH": "/nowhere"}, toolchain)
    own = program(toolchain / "bin" / "pulumi", "")
    (toolchain / "pulumi.env").write_text("# settings\nPULUMI_HOME=/own\nPULUMI_SKIP_UPDATE_CHECK=true\n")
    assert Installation.found({"PATH": "/nowhere"}, toolchain).environment["PULUMI_HOME"] == "/own"
    assert Installation.found({"PATH": str(own.parent), "PULUMI_HOME": "/mine"}, toolchain).environment["PULUMI_HOME"] == "/mine"
    other = program(tmp_path / "other" / "pulumi", "")
    assert Installation.found({"PATH": str(other.parent)}, toolchain) == Installation(program=other)
    assert settings_of(tmp_path / "none") == {}


def test_where_the_state_is(tmp_path):
    site = Site(name="small")
    usual = Place.of(site, {}, tmp_path)
    assert usual.environment == {
        "PULUMI_BACKEND_URL": f"file://{tmp_path}/state?metadata=skip",
        "PULUMI_CONFIG_PASSPHRASE_FILE": f"{tmp_path}/passphrases/small",
    }
    assert usual.has("small") is False
    stacks = tmp_path / "state" / ".pulumi" / "stacks" / "pfmoc"
    stacks.mkdir(parents=True)
    (stacks / "small.json.gz").touch()
    assert usual.has("small") is True
    elsewhere = Site.model_validate({"name": "small", "state": {"url": "s3://bucket"}})
    told = Place.of(elsewhere, {"PULUMI_CONFIG_PASSPHRASE": "x"}, tmp_path)
    assert (told.backend, told.passphrase, told.has("small")) == ("s3://bucket", None, None)
    assert Place.of(elsewhere, {"PULUMI_BACKEND_URL": "file:///x"}, tmp_path).backend == "file:///x?metadata=skip"
    assert Place.of(elsewhere, {"PULUMI_BACKEND_URL": "file:///x?a=b"}, tmp_path).backend == "file:///x?a=b"


LOCKED = "the stack is currently locked by 1 lock(s).\n  file:///l: created by ann@{host} (pid {pid}) at now"


@pytest.fixture
def stack(tmp_path, engine):
    """A stack whose first operation meets a lock; a second one does not, once the lock was taken away."""

    def make(pid: int) -> tuple[SiteStack, list[str]]:
        lock = LOCKED.format(host=os.uname().nodename, pid=pid)
        text = f"""echo "$3 $4" >> {tmp_path}/asked
case "$*" in *cancel*) touch {tmp_path}/free;; esac
[ -e {tmp_path}/free ] || {{ echo '{lock}' >&2; exit 255; }}"""
        told: list[str] = []
        place = Place(backend=f"file://{tmp_path}", passphrase=None)
        return SiteStack(Site(name="small"), tmp_path / "small.yml", place, engine(text), told.append), told

    return make


def test_the_lock_of_a_dead_engine_is_taken_away(stack, tmp_path):
    made, told = stack(2**22 + 1)
    made.up()
    assert [line.split()[-1] for line in (tmp_path / "asked").read_text().splitlines()] == ["up", "cancel", "up"]
    assert "took away the lock" in told[0]


def test_so_it_is_where_a_state_is_put_in_place_of_another(stack, tmp_path):
    made, told = stack(2**22 + 1)
    made.import_state({})
    asked = [line.split()[3:5] for line in (tmp_path / "asked").read_text().splitlines()]
    assert len(asked) == 3
    assert "took away the lock" in told[0]


def test_the_lock_of_a_living_one_is_not(stack, tmp_path):
    living = program(tmp_path / "pulumi", "while :; do sleep 0.05; done")
    with subprocess.Popen([living]) as process:
        until(lambda: "pulumi" in Path(f"/proc/{process.pid}/comm").read_text(), what="the program runs")
        made, _ = stack(process.pid)
        with pytest.raises(OperatorError, match=f"locked by ann@.* \\(process {process.pid}"):
            made.up()
        process.kill()
    assert "cancel" not in (tmp_path / "asked").read_text()


def test_a_passphrase_is_made_for_its_owner_only(tmp_path, engine, monkeypatch):
    monkeypatch.setattr("infra.stack.WORK", tmp_path)
    told: list[str] = []
    place = Place(backend=f"file://{tmp_path}/state", passphrase=tmp_path / "passphrases" / "small")
    text = f'cat > {tmp_path}/in; echo "$@" >> {tmp_path}/asked'
    SiteStack(Site(name="small"), tmp_path / "small.yml", place, engine(text), told.append).ensure()
    assert stat.S_IMODE(place.passphrase.stat().st_mode) == 0o600
    assert len(place.passphrase.read_text()) > 32
    asked = (tmp_path / "asked").read_text()
    assert "stack init small" in asked
    assert "config set --secret pfmoc:seed" in asked
    assert "config set --plaintext pfmoc:site --stack small" in asked
    assert [sentence.split()[1] for sentence in told] == ["a", "the"]


SETTINGS = "config: {pfmoc:seed: {secure: c}}\nencryptionsalt: old\n"


@pytest.fixture
def without_state(tmp_path, engine, monkeypatch):
    """A stack with settings whose state is not where it is looked for; what the engine was asked."""
    monkeypatch.setattr("infra.stack.WORK", tmp_path)

    def make(name: str = "small", *, passphrase: bool | None) -> SiteStack:
        (tmp_path / f"Pulumi.{name}.yaml").write_text(SETTINGS)
        file = tmp_path / "passphrase"
        if passphrase:
            file.write_text("word")
        place = Place(backend=f"file://{tmp_path}/state", passphrase=None if passphrase is None else file)
        text = f'cat > /dev/null; echo "$@" >> {tmp_path}/asked'
        return SiteStack(Site(name=name), tmp_path / "small.yml", place, engine(text), lambda _: None)

    return make


@pytest.mark.parametrize("name", ["small", "box"])
@pytest.mark.parametrize("passphrase", [True, None])
def test_settings_of_a_state_that_is_gone_are_used(tmp_path, without_state, name, passphrase):
    without_state(name, passphrase=passphrase).ensure()
    assert (tmp_path / f"Pulumi.{name}.yaml").read_text() == SETTINGS
    asked = (tmp_path / "asked").read_text()
    assert f"stack init {name}" in asked
    assert "pfmoc:seed" not in asked, "another seed would be another password for everybody"


def test_without_their_passphrase_nothing_is_made(tmp_path, without_state):
    with pytest.raises(OperatorError, match="passphrase of the stack small is not here"):
        without_state(passphrase=False).ensure()
    assert (tmp_path / "Pulumi.small.yaml").read_text() == SETTINGS
    assert not (tmp_path / "asked").exists()
    assert not (tmp_path / "state").exists()


def test_but_a_box_comes_and_goes(tmp_path, without_state):
    without_state("box-small", passphrase=False).ensure()
    assert not (tmp_path / "Pulumi.box-small.yaml").exists()
    assert (tmp_path / ".Pulumi.box-small.yaml.old").read_text() == SETTINGS
    assert "config set --secret pfmoc:seed" in (tmp_path / "asked").read_text()


def test_what_is_meant_holds_when_the_engine_has_begun(tmp_path, stack, monkeypatch):
    monkeypatch.setattr("infra.stack.WORK", tmp_path)
    made, _ = stack(2**22 + 1)
    (tmp_path / "free").touch()
    made.intents.write("quarantine", "{}")
    assert made.intents.open
    made.up()
    assert not made.intents.open


def test_a_state_without_its_passphrase_is_not_opened(tmp_path, engine, monkeypatch):
    monkeypatch.setattr("infra.stack.WORK", tmp_path)
    (tmp_path / "Pulumi.small.yaml").write_text("encryptionsalt: old\n")
    place = Place(backend=f"file://{tmp_path}", passphrase=tmp_path / "passphrase")
    stacks = tmp_path / ".pulumi" / "stacks" / "pfmoc"
    stacks.mkdir(parents=True)
    (stacks / "small.json").write_text("{}")
    made = SiteStack(Site(name="small"), tmp_path / "small.yml", place, engine("exit 1"), lambda _: None)
    for ask in (made.ensure, made.require):
        with pytest.raises(OperatorError, match="passphrase of the stack small is not here"):
            ask()
    (stacks / "small.json").unlink()
    with pytest.raises(OperatorError, match="has no state"):
        made.require()


def test_the_state_and_its_outputs_are_read(tmp_path, engine, monkeypatch):
    monkeypatch.setattr("infra.stack.WORK", tmp_path)
    (tmp_path / "Pulumi.small.yaml").write_text("config: {pfmoc:seed: {secure: c}, pfmoc:site: s}\n")
    root = {"urn": "u", "type": "pulumi:pulumi:Stack", "outputs": {"tenants": {}, "secrets": "sealed"}}
    text = f"""echo "$*" >> {tmp_path}/asked; case "$*" in
*export*) echo '{json.dumps({"deployment": {"resources": [root]}})}';;
*output*) echo '{{"secrets": "plain"}}';;
up*) ;;
*) echo 'error: incorrect passphrase' >&2; exit 255;;
esac"""
    place = Place(backend=f"file://{tmp_path}", passphrase=None)
    made = SiteStack(Site(name="small"), tmp_path / "small.yml", place, engine(text), lambda _: None)
    assert made.resources() == [root]
    assert made.outputs() == root["outputs"]
    made.up()
    made.resources()
    asked = [line.split()[3:5] for line in (tmp_path / "asked").read_text().splitlines()]
    assert [words[1] for words in asked] == ["export", "--yes", "export"], "the state is read once, and again after a change"
    assert made.outputs(secrets=True) == {"secrets": "plain"}
    assert made.config() == {"pfmoc:site": "s"}
    with pytest.raises(OperatorError, match="passphrase does not open"):
        made.run(["stack"])
