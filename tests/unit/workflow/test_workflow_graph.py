from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pfmoc.workflow import graph

graphs = st.dictionaries(
    st.sampled_from("abcdefg"), st.lists(st.sampled_from("abcdefg"), unique=True, max_size=4), min_size=1
).map(lambda found: {node: [parent for parent in parents if parent in found] for node, parents in found.items()})


@given(graphs)
def test_a_circle_is_found_exactly_when_there_is_one(parents):
    circle = graph.cycle(parents)
    if circle:
        assert circle[0] == circle[-1]
        for child_of, child in pairwise(circle):
            assert child_of in parents[child]
    else:
        left = dict(parents)
        while free := [node for node, above in left.items() if not any(parent in left for parent in above)]:
            for node in free:
                del left[node]
        assert not left


@given(graphs)
def test_descendants_are_what_can_be_reached(parents):
    for node in parents:
        found = graph.descendants(parents, node)
        reached, edge = set(), {node}
        while edge:
            edge = {name for name, above in parents.items() if edge.intersection(above)} - reached
            reached |= edge
        assert found == reached
