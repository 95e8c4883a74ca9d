"""Give a plugin, which may run as another user, write access to its output directory, and nobody else more than needed."""

from __future__ import annotations

import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from pfmoc.settings import Settings

_log = logging.getLogger(__name__)

_ALL = 0o777


@dataclass(frozen=True, kw_only=True, slots=True)
class Handover:
    """Who will write to an output directory.

    :param same_user: plugins run as the daemon's own user (the ``process`` environment): nothing needs to be done
    :param by_path: plugins are another user's processes: they come to their directories by the paths, not by mounts
    :param uid: the one user that all plugins run as; None when images, or chance, decide
    """

    same_user: bool
    by_path: bool = False
    uid: int | None = None
    gid: int | None = None

    def make(self, path: Path) -> None:
        """Make a job's output directory.

        It is given to the plugin's user when that is known and the daemon is root. Else it must be open to all: an image may
        bring any user, and rootless engines shift them. What keeps other users of this host out then is the directory above
        (``private_mode``); a container enters by its mount and needs no way through that.
        """
        path.mkdir(mode=0o755, exist_ok=True)  # whoever asks for the output while the input is staged makes it too
        if self.same_user:
            return
        if self.uid is not None and os.geteuid() == 0:
            os.chown(path, self.uid, -1 if self.gid is None else self.gid)
            path.chmod(0o755)
        elif self.uid is None or self.uid != os.geteuid():
            path.chmod(_ALL)

    def open(self, path: Path) -> None:
        """Let the plugin write to a user's directory that exists already.

        The owner stays who it is, for the ChRIS backend must manage it afterwards. Where the daemon may not change it, the
        operator has seen to it, or the plugin will say so.
        """
        found = path.stat()
        if self.same_user or self.uid == found.st_uid or stat.S_IMODE(found.st_mode) == _ALL:
            return
        try:
            path.chmod(_ALL)
        except PermissionError:
            _log.debug("left the mode of an output directory as it is: it belongs to user %d", found.st_uid)

    def private_mode(self) -> int:
        """Mode of a job's directory: closed to others.

        But where the daemon is not root, the engine may be a root that a file server takes for nobody, and must pass through.
        """
        return 0o700 if os.geteuid() == 0 and not self.by_path else 0o711


def handover(settings: Settings) -> Handover:
    """Read from the settings who plugins run as."""
    user = settings.container_user
    process, another = settings.container_env == "process", bool(user.uid or user.gid)
    return Handover(
        same_user=process and not another,
        by_path=process and another,
        uid=int(user.uid) if user.uid.isdigit() else None,
        gid=int(user.gid) if user.gid.isdigit() else None,
    )
