"""What jobs have left, as clients may have it: listed, brought to a place in storage, or to be sent as a zip."""

from __future__ import annotations

from pathlib import Path

from pfmoc.jobs.board import Board
from pfmoc.jobs.model import Kind, PluginSpec, inputs_of
from pfmoc.storage.base import ArchiveSource, Inputs, Storage


class Outputs:
    """The outputs of all jobs in one storage."""

    def __init__(self, board: Board, storage: Storage) -> None:
        self._board = board
        self._storage = storage

    async def listing(self, jid: str, job_output_path: str) -> list[str]:
        """Relative names of the output files (storage in the network).

        :raises NoSuchData: no such directory
        """
        return await self._storage.listing(await self._inputs(jid), job_output_path)

    async def upload(self, jid: str, job_output_path: str) -> int | None:
        """Bring the output to a path in storage, unless it is there. Returns how many files are there then.

        None, and nothing is brought, while the plugin job goes on: of an attempt that publishes just now, storage could not tell
        what belongs to it and what an interrupted one has left.

        :raises InvalidRequest: the path is none that a client may name
        :raises NoSuchData: there is no output yet
        """
        self._storage.check(Inputs(jid=jid, output_dir=job_output_path))
        if await self._goes_on(jid):
            return None
        return await self._storage.upload(await self._inputs(jid), job_output_path)

    def zip_root(self, jid: str) -> Path:
        """The directory to send as a zip (storage out of the network).

        :raises NoSuchData: the job has no data
        """
        return self._storage.zip_root(jid)

    async def archive(self, jid: str) -> ArchiveSource:
        """The output to send as a zip (object stores).

        :raises NoSuchData: the job has no data
        """
        return await self._storage.archive(jid, workers=(await self._inputs(jid)).workers)

    async def _goes_on(self, jid: str) -> bool:
        job = await self._board.find(jid, Kind.PLUGIN)
        if self._board.shared and job is not None and not job.phase.terminal:
            job = await self._board.find(jid, Kind.PLUGIN, fresh=True)  # another replica may have seen its end
        return job is not None and not job.phase.terminal

    async def _inputs(self, jid: str) -> Inputs:
        """What is known of a job's data."""
        if self._storage.objects:
            job = await self._board.find(jid, Kind.PLUGIN)
            if job is not None and isinstance(job.spec, PluginSpec):
                return inputs_of(jid, job.spec)
        return Inputs(jid=jid)
