"""The ``/api/v1/cmd`` services of pfcon, pman and pfioh 2.x: one URL, and a JSON document that says what is wanted (contract 5).

``envelope`` reads a document off the wire and writes the answers, ``documents`` and ``command`` say what it means, ``pfcon``,
``pman`` and ``pfioh`` are the services. What ``coordinate`` does for hours is in ``pfmoc.coordination``, and ``trail`` shows it.
"""

from pfmoc.dialects.cmd.pfcon import CmdPfcon
from pfmoc.dialects.cmd.pfioh import CmdPfioh
from pfmoc.dialects.cmd.pman import CmdPman

__all__ = ["CmdPfcon", "CmdPfioh", "CmdPman"]
