"""Connected pieces of part of a graph: islands that leave an accelerator, partitions on it."""

from collections.abc import Hashable, Iterable, Sequence

Ends = tuple[Iterable[Hashable], Iterable[Hashable]]
"""What a node reads and what it makes."""


def count_pieces(nodes: Sequence[Ends]) -> int:
    """How many pieces some nodes of a graph form.

    Two nodes hang together when one reads what the other makes. Two that read the same value of a
    node elsewhere, or the same constant, do not: each takes it over for itself.
    """
    makers = {value: index for index, (_, outputs) in enumerate(nodes) for value in outputs}
    above = list(range(len(nodes)))

    def root(index: int) -> int:
        while above[index] != index:
            above[index] = above[above[index]]
            index = above[index]
        return index

    for index, (inputs, _) in enumerate(nodes):
        for value in inputs:
            if value in makers:
                above[root(index)] = root(makers[value])
    return sum(above[index] == index for index in range(len(nodes)))
