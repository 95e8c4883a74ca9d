"""Logs as engines send them, and the end of one, bounded in lines and in bytes."""

from __future__ import annotations

from collections.abc import Iterator

LOG_BYTES = 1 << 20
"""The most of a log that an answer holds, however long its lines are. A thousand lines are rarely a tenth of it."""


class Tail:
    """Keeps the last bytes of what it is fed, in memory that does not grow with the rest.

    :param most: how many
    """

    def __init__(self, most: int = LOG_BYTES) -> None:
        self._most = most
        self._data = bytearray()
        self._cut = False

    def feed(self, data: bytes) -> None:
        """Take more."""
        self._data += data
        # Trimmed seldom, for each trim moves what is left.
        if len(self._data) > 2 * self._most:
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
        excess = len(self._data) - self._most
        if excess > 0:
            del self._data[:excess]
            self._cut = True


class Frames:
    """Unpacks the two outputs of a container from the one stream in which an engine sends them.

    Each frame has a header of 8 bytes, of which the last four are its length. A frame may come in any number of pieces, and is
    passed on as it comes: its length can be 4 GiB.
    """

    _HEADER = 8

    def __init__(self) -> None:
        self._header = b""
        self._left = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take more of the stream; yields what it holds of the outputs."""
        at = 0
        while at < len(data):
            if self._left:
                part = data[at : at + self._left]
                at += len(part)
                self._left -= len(part)
                yield part
                continue
            wanted = self._HEADER - len(self._header)
            self._header += data[at : at + wanted]
            at += wanted
            if len(self._header) == self._HEADER:
                self._left = int.from_bytes(self._header[4:], "big")
                self._header = b""
