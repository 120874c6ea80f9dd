"""Float nodes of ONNX Runtime's own graph, and the islands they form."""

from qcompile.targets.onnxruntime.offload import offload
from tests.targets.onnxruntime.test_prove import AVX2, CONV, artefact, qdq


def test_a_graph_of_integer_kernels_leaves_nothing() -> None:
    found = offload(artefact(CONV + qdq("c", "y").replace("y_d", "y")), AVX2)
    assert (found.to, found.nodes, found.on) == ("integer kernels", 1, 1)
    assert (found.partitions, found.islands, found.off) == (1, 0, ())
    assert found.source.startswith("onnxruntime ")


def test_two_islands_between_three_integer_pieces() -> None:
    body = (
        CONV.replace("c =", "c1 =")
        + qdq("c1", "p")
        + "t = Tanh (p_d)\n u = Sin (t)\n"
        + qdq("u", "u")
        + "k = MaxPool <kernel_shape = [2, 2]> (u_d)\n"
        + qdq("k", "k")
        + "y = Cos (k_d)"
    )
    found = offload(artefact(body), AVX2)
    assert [(node.name, node.op) for node in found.off] == [
        ("t", "Tanh"),
        ("u", "Sin"),
        ("y", "Cos"),
    ]
    assert all(node.reason for node in found.off)
    assert (found.nodes, found.on, found.islands, found.partitions) == (5, 2, 2, 2)
