"""HAProxy's configuration on disk, with a program that likes it and one that does not."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from box_openshift import configuration
from box_openshift.configuration import KEPT, Configuration, RouterError
from box_openshift.haproxy import Settings
from box_openshift.routes import Served

SETTINGS = {"host": "127.0.0.1", "http": 80, "https": 443, "namespace": "box", "certificate": "/a.crt", "authority": "/ca.crt"}


def put(directory, *hosts, program="true", **settings):
    of = Configuration(directory, Path("/bin", program), Settings(**{**SETTINGS, **settings}))
    return of.put([Served(key=f"p/{host}", host=host, termination="edge", certificate="PEM") for host in hosts])


def current(directory):
    return (directory / "current" / "certificates.list").read_text()


def test_a_configuration_is_written_once_and_readable_by_its_owner_only(tmp_path):
    assert put(tmp_path, "a.org")
    assert not put(tmp_path, "a.org")
    assert (tmp_path / "current").resolve().stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (tmp_path / "current").iterdir())
    # The files name each other by where they really lie.
    named = Path(current(tmp_path).split()[0])
    assert named.read_text() == "PEM"
    assert named.parent == (tmp_path / "current").resolve()


def test_what_haproxy_refuses_does_not_replace_what_it_has(tmp_path):
    put(tmp_path, "a.org")
    for number in range(2 * KEPT):
        with pytest.raises(RouterError):
            put(tmp_path, f"bad{number}.org", program="false")
    assert "a.org" in current(tmp_path)
    assert put(tmp_path, "b.org")
    assert "b.org" in current(tmp_path)
    assert len(list((tmp_path / "generations").iterdir())) == KEPT + 1


def test_a_configuration_of_other_settings_does_not_fit(tmp_path):
    def fits(**settings):
        return Configuration(tmp_path, Path("/bin/true"), Settings(**{**SETTINGS, **settings})).fits

    assert not fits()
    put(tmp_path, "a.org")
    assert fits()
    assert not fits(http=81)


class Master:
    """HAProxy's master, which has another worker after each reload, or never one.

    :param reloads: whether it does as it is told
    """

    def __init__(self, directory, *, reloads) -> None:
        self._reloads = reloads
        self._worker = 100
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(directory / "master.sock"))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:  # closed
                return
            with client:
                if client.recv(100) == b"reload\n":
                    self._worker += self._reloads
                else:
                    workers = f"{self._worker} worker 0 0d 2.6\n# old workers\n99 worker 1 0d 2.6\n# programs\n"
                    client.sendall(f"#<PID> <type>\n1 master 0 0d 2.6\n# workers\n{workers}".encode())

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.mark.parametrize("reloads", [True, False])
def test_a_reload_is_done_when_there_is_another_worker(tmp_path, monkeypatch, reloads):
    monkeypatch.setattr(configuration, "RELOAD_S", 0.2)
    of = Configuration(tmp_path, Path("/bin/true"), Settings(**SETTINGS))
    with pytest.raises(RouterError, match="does not take orders"):
        of.reload()
    master = Master(tmp_path, reloads=reloads)
    try:
        if reloads:
            of.reload()
        else:
            with pytest.raises(RouterError, match="did not reload"):
                of.reload()
    finally:
        master.close()
