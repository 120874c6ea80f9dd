"""Decoders of many shapes are rotated: streams, values of heads, what the MLPs read."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.compiler.calibration.collect import collect
from qcompile.passes.decoder.find import find_decoder
from qcompile.passes.prepare.fold_constants import FoldConstants
from qcompile.passes.transform.rotate import Rotate, changed_values, find, request
from qcompile.passes.transform.values import find_values
from qcompile.targets.onnxruntime.executor import OrtExecutor
from tests.decoders import Shape, canonical, decoder

PLAIN = Shape()
RMS = [
    PLAIN,
    replace(PLAIN, bias=True),
    replace(PLAIN, rotary="interleaved"),
    replace(PLAIN, kv_heads=1, heads=3),
    replace(PLAIN, cache=False),
    replace(PLAIN, gated=False),
]


def feeds(model: ir.Model) -> dict[str, np.ndarray]:
    """Five tokens of two texts, and empty caches."""
    ids = np.random.default_rng(0).integers(0, 20, (2, 5))
    made = {}
    for value in model.graph.inputs:
        name, shape = value.name or "", list(value.shape or ())
        if "past" in name:
            made[name] = np.zeros((2, shape[1], 0, shape[3]), np.float32)
        elif "mask" in name:
            made[name] = np.ones((2, 5), np.int64)
        elif "position" in name:
            made[name] = np.arange(5, dtype=np.int64)[None].repeat(2, 0)
        else:
            made[name] = ids.astype(np.int64)
    return made


def factors(model: ir.Model) -> dict[str, np.ndarray]:
    seen = collect(OrtExecutor(), model, request(model), [feeds(model)], threads=1)
    return find(model, seen)


def net(shape: Shape) -> ir.Model:
    """With its head a constant, as it is prepared."""
    model = canonical(decoder(shape))
    FoldConstants()(model)
    return model


@pytest.mark.parametrize("shape", RMS)
def test_the_logits_stay(shape: Shape) -> None:
    model = net(shape)
    before = OrtExecutor().load(model).run(feeds(model))[0]
    found = factors(model)
    values = find_values(model.graph)
    assert len(values) == shape.layers
    assert len(found) == 1 + 2 * shape.layers  # the stream, values and MLPs
    assert set(values) < set(found)
    changed = changed_values(model, found)
    assert {name for one in values.values() for name in one.turned} <= changed
    assert Rotate(found)(model).modified
    after = OrtExecutor().load(model).run(feeds(model))[0]
    assert np.abs(after - before).max() <= 2e-5 * np.abs(before).max()
    assert find_decoder(model.graph) is not None  # so that attentions can still be fused
    assert not Rotate(found)(model).modified


def test_layer_normalization_stands_in_the_way() -> None:
    model = net(replace(PLAIN, norm="layer"))
    assert request(model) == {}


def test_values_that_are_an_output_of_something_else_are_left() -> None:
    model = net(replace(PLAIN, layers=1))
    (values,) = find_values(model.graph).values()
    made = values.maker.outputs[0]
    extra = ir.node("Neg", [made])
    extra.outputs[0].name = "extra"
    extra.outputs[0].type, extra.outputs[0].shape = made.type, made.shape
    model.graph.insert_after(values.maker, extra)
    model.graph.outputs.append(extra.outputs[0])
    assert find_values(model.graph) == {}
