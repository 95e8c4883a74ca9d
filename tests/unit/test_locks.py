import asyncio

from pfmoc.locks import KeyedLocks


async def test_one_holder_a_key_and_nothing_is_kept():
    locks = KeyedLocks()
    inside: list[str] = []

    async def work(key: str) -> None:
        async with locks.hold(key):
            assert key not in inside
            inside.append(key)
            for _ in range(3):
                await asyncio.sleep(0)
            inside.remove(key)

    await asyncio.gather(*(work(key) for key in "aabbab" * 5))
    assert not locks._entries
