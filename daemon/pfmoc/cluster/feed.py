"""What one reader has not been told of yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable


class Feed:
    """Names, each once however often it was added, in the order in which they were added first.

    So a slow reader costs no memory, and sees the last of many changes.

    :param names: to begin with
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names: dict[str, None] = dict.fromkeys(names)
        self._news = asyncio.Event()
        self._news.set()
        self._closed = False

    def add(self, name: str) -> None:
        """Tell of a name."""
        self._names[name] = None
        self._news.set()

    def close(self) -> None:
        """End it."""
        self._closed = True
        self._news.set()

    async def names(self) -> AsyncGenerator[str, None]:
        """Yield names until it is closed."""
        while not self._closed:
            await self._news.wait()
            self._news.clear()
            while self._names and not self._closed:
                name = next(iter(self._names))
                del self._names[name]
                yield name
