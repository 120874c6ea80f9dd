"""Layers that could find their scales as they run, where they do enough of the work."""

import onnx
import onnx_ir as ir

from qcompile.compiler.search.regions import REASON, dynamic_layers
from qcompile.core.macs import macs
from qcompile.targets.catalog import load_target
from tests.compiler.small import cnn, mlp

ORT = load_target("ort-x86-vnni")


def loaded(proto: onnx.ModelProto) -> ir.Model:
    for index, node in enumerate(proto.graph.node):
        node.name = node.name or f"n{index}"
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def test_every_matrix_product_with_a_weight():
    graph = loaded(mlp()).graph
    found = dynamic_layers(graph, ORT)
    assert set(found) == {node.name for node in graph if macs(node)}
    assert set(found.values()) == {REASON}


def test_the_last_layer_of_a_convolutional_network_is_not_worth_it():
    assert dynamic_layers(loaded(cnn()).graph, ORT) == {}


def test_a_target_without_such_kernels():
    assert dynamic_layers(loaded(mlp()).graph, load_target("tflite-micro")) == {}
