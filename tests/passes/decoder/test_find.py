"""Decoders are recognized however they are written, and what is none is told why."""

from dataclasses import replace

import onnx_ir as ir
import pytest

from qcompile.passes.decoder.find import find_decoder, search_decoder
from tests.decoders import Shape, canonical, decoder

PLAIN = Shape()


def found(shape: Shape):  # type: ignore[no-untyped-def]
    made = find_decoder(canonical(decoder(shape)).graph)
    assert made is not None
    return made


def test_what_a_decoder_is_made_of() -> None:
    made = found(PLAIN)
    assert (made.heads, made.kv_heads, made.head_size, len(made.layers)) == (4, 2, 16, 2)
    assert made.has_cache
    assert made.norm is not None
    assert made.head is not None
    assert made.embedding is not None
    for i, layer in enumerate(made.layers):
        attention = layer.attention
        assert attention.scale == pytest.approx(0.25)
        assert [v.name for v in _cache(attention)] == [
            f"{prefix}.{i}.{kind}"
            for kind in ("key", "value")
            for prefix in ("past_key_values", "present")
        ]
        assert attention.query.linear is not None
        assert attention.query.rotary is not None
        assert layer.mlp is not None
        assert layer.attention_norm is not None
        assert layer.mlp_norm is not None
        assert layer.mlp.activation == "silu"
        assert layer.mlp.down.output in {v for n in _makers(layer.output) for v in n.inputs}
        assert layer.o.input is attention.output


@pytest.mark.parametrize("rotary", ["half", "interleaved", "partial"])
def test_rotations(rotary: str) -> None:
    made = found(replace(PLAIN, rotary=rotary))
    for layer in made.layers:
        for head in (layer.attention.query, layer.attention.key):
            assert head.rotary is not None
            assert head.rotary.interleaved == (rotary == "interleaved")
            assert head.rotary.dims == (8 if rotary == "partial" else 16)
            assert head.projected is head.rotary.input


def test_no_rotation() -> None:
    attention = found(replace(PLAIN, rotary="", positions=False)).layers[0].attention
    assert attention.query.rotary is None
    assert attention.query.linear is not None


@pytest.mark.parametrize(
    "shape",
    [
        replace(PLAIN, norm="layer", bias=True, gated=False),
        replace(PLAIN, kv_heads=4),
        replace(PLAIN, kv_heads=1, heads=3),
        replace(PLAIN, positions=False),
        replace(PLAIN, cache=False, layers=1),
    ],
)
def test_other_shapes(shape: Shape) -> None:
    made = found(shape)
    assert (made.heads, made.kv_heads) == (shape.heads, shape.kv_heads)
    assert made.has_cache == shape.cache
    layer = made.layers[-1]
    assert layer.attention_norm is not None
    assert layer.attention_norm.kind == shape.norm
    assert layer.mlp is not None
    assert (layer.mlp.gate is not None) == shape.gated
    assert (layer.o.bias is not None) == shape.bias
    linear = layer.attention.key.linear
    assert linear is not None
    assert linear.weight.shape is not None
    assert list(linear.weight.shape) == [shape.hidden, shape.kv_heads * shape.size]


def test_an_encoder_is_none() -> None:
    search = search_decoder(canonical(decoder(replace(PLAIN, causal=False))).graph)
    assert search.decoder is None
    assert "see those behind them" in search.why_not


def test_a_network_without_attention_is_none() -> None:
    graph = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["": 21]> g (float[1,4] x) => (float[1,4] y)'
        " { y = Softmax(x) }"
    ).graph
    assert find_decoder(graph) is None
    assert "four axes" in search_decoder(graph).why_not


def test_scores_that_pass_something_else_are_said() -> None:
    model = canonical(decoder(PLAIN))
    softmax = next(n for n in model.graph if n.op_type == "Softmax")
    capped = ir.node("Tanh", [softmax.inputs[0]], name="cap")
    capped.outputs[0].shape = softmax.inputs[0].shape
    model.graph.insert_before(softmax, capped)
    softmax.replace_input_with(0, capped.outputs[0])
    assert search_decoder(model.graph).why_not.endswith("its scores pass a Tanh")


def test_a_fused_attention_is_said() -> None:
    model = canonical(decoder(PLAIN))
    softmax = next(n for n in model.graph if n.op_type == "Softmax")
    own = ir.node("GroupQueryAttention", [softmax.inputs[0]], domain="com.microsoft", name="own")
    model.graph.insert_after(softmax, own)
    assert "own: the model has GroupQueryAttention" in search_decoder(model.graph).why_not


def _cache(attention):  # type: ignore[no-untyped-def]
    return (
        attention.key.past,
        attention.key.present,
        attention.value.past,
        attention.value.present,
    )


def _makers(value: ir.Value | None) -> list[ir.Node]:
    node = value.producer() if value is not None else None
    return [] if node is None else [node]
