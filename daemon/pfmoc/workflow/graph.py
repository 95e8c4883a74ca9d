"""The shape of a workflow: who comes after whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Parents = Mapping[str, Sequence[str]]
"""The parents of each node."""


def cycle(parents: Parents) -> list[str]:
    """Return the nodes of a cycle, the first repeated at its end; empty when there is none."""
    done: set[str] = set()
    for start in parents:
        trail: list[str] = []
        stack = [(start, iter(parents[start]))] if start not in done else []
        on_trail = {start}
        trail.append(start)
        while stack:
            node, rest = stack[-1]
            for parent in rest:
                if parent in on_trail:
                    return [*trail[trail.index(parent) :], parent][::-1]
                if parent in parents and parent not in done:
                    stack.append((parent, iter(parents[parent])))
                    trail.append(parent)
                    on_trail.add(parent)
                    break
            else:
                done.add(node)
                on_trail.discard(node)
                stack.pop()
                trail.pop()
    return []


def descendants(parents: Parents, node: str) -> set[str]:
    """Every node that depends on one, directly or not."""
    found: set[str] = set()
    grown = True
    while grown:
        grown = False
        for name, above in parents.items():
            if name not in found and (node in above or not found.isdisjoint(above)):
                found.add(name)
                grown = True
    return found
