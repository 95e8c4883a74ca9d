"""The end of a log, bounded in lines and in bytes."""

from __future__ import annotations

LOG_BYTES = 1 << 20
"""The most of a log that an answer holds, however long its lines are. A thousand lines are rarely a tenth of it."""


class Tail:
    """Keeps the last ``LOG_BYTES`` of what it is fed, in memory that does not grow with the rest."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._cut = False

    def feed(self, data: bytes) -> None:
        """Take more."""
        self._data += data
        # Trimmed seldom, for each trim moves what is left.
        if len(self._data) > 2 * LOG_BYTES:
            self._trim()

    def lines(self, count: int) -> str:
        """The last ``count`` lines as text. Bytes that are not UTF-8 are replaced."""
        self._trim()
        data = bytes(self._data)
        if self._cut:
            # The cut may lie within a character: its remaining bytes all begin with the bits 10.
            data = data.lstrip(bytes(range(0x80, 0xC0)))
        if count <= 0:
            return ""
        # Split at line feeds only: str.splitlines would also split at form feeds and the like.
        kept = data.split(b"\n")
        ends_with_newline = kept[-1] == b""
        kept = kept[-(count + ends_with_newline) :]
        return b"\n".join(kept).decode(errors="replace")

    def _trim(self) -> None:
        excess = len(self._data) - LOG_BYTES
        if excess > 0:
            del self._data[:excess]
            self._cut = True
