"""Products and look-ups become block kernels: what they give, what is stored once, what stays."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompile.passes.quantize.insert_stored import InsertStored
from qcompile.targets.onnxruntime.block_weights import ACCURACY_LEVEL, BlockWeights
from qcompile.targets.onnxruntime.lower import lower
from qcompile.targets.onnxruntime.prove import optimized_graph
from tests.passes.prepare.checking import inits, ops, parse, rand, unchanged
from tests.passes.stored import TARGET, decoder, planned
from tests.targets.onnxruntime.running import run_bytes, run_plain

FEEDS = {"i": np.asarray([3, 59, 0, 17], np.int64)}


def stored(model: ir.Model, bits: int = 4, group: int | None = 32, **how: object) -> ir.Model:
    InsertStored(planned(model, bits, group, **how))(model)  # type: ignore[arg-type]
    return model


def sqnr(wanted: np.ndarray, got: np.ndarray) -> float:
    return 10 * float(np.log10((wanted**2).sum() / max(((wanted - got) ** 2).sum(), 1e-30)))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("group", "granularity"), [(32, None), (64, None), (None, "channel")])
def test_the_kernels_give_what_the_qdq_graph_gives(bits, symmetric, group, granularity):
    model = stored(decoder(), bits, group, symmetric=symmetric, granularity=granularity)
    wanted = run_plain(model, FEEDS)[0]
    ends = [(v.name, v.dtype) for v in model.graph.outputs]
    assert BlockWeights()(model).modified
    found = set(ops(model))
    assert "DequantizeLinear" not in found
    assert {"MatMulNBits", "GatherBlockQuantized"} <= found
    assert found.isdisjoint({"MatMul", "Gemm", "Gather"})
    assert [(v.name, v.dtype) for v in model.graph.outputs] == ends
    # Activations are rounded to 8 bits a block: about 40 dB a product, of which four follow.
    assert sqnr(wanted, run_plain(model, FEEDS)[0]) > 33
    unchanged(BlockWeights(), model)


def test_every_product_is_fast_and_says_its_size():
    model = stored(decoder())
    BlockWeights()(model)
    for node in model.graph:
        if node.op_type == "MatMulNBits":
            assert node.attributes["accuracy_level"].as_int() == ACCURACY_LEVEL == 4
    gemm = next(n for n in model.graph if len(n.inputs) > 5)
    assert gemm.inputs[5] is not None and gemm.inputs[5].name == "b"
    assert (gemm.attributes["K"].as_int(), gemm.attributes["N"].as_int()) == (72, 80)


def test_look_ups_are_exact():
    body = "g (int64[n] i) => (float[n, 64] y) { y = Gather (t, i) }"
    model = stored(parse(body, {"t": rand(60, 64)}))
    wanted = run_plain(model, FEEDS)[0]
    BlockWeights()(model)
    assert np.array_equal(run_plain(model, FEEDS)[0], wanted)
    assert inits(model)["t_blocks"].shape == (60, 32)


def test_a_tied_table_is_stored_once():
    model = stored(decoder())
    BlockWeights()(model)
    reshape = next(n for n in model.graph if n.op_type == "Reshape")
    head = list(model.graph)[-1]
    table = next(n for n in model.graph if n.op_type == "GatherBlockQuantized")
    assert reshape.inputs[0] is head.inputs[1]
    assert table.inputs[2] is head.inputs[2]
    assert table.inputs[3] is head.inputs[3]


def test_symmetric_codes_have_no_zero_points():
    model = stored(decoder(), symmetric=True)
    BlockWeights()(model)
    assert not [name for name in inits(model) if name.endswith("zero_points")]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_they_are_the_kernels_of_the_finished_file(bits, tmp_path: Path):
    model = stored(decoder(), bits)
    artefact = lower(model, TARGET.under(f"w{bits}"))
    assert ir.from_proto(onnx.load_from_string(artefact)).opset_imports[""] <= 21
    kernels = {node.op_type for node in optimized_graph(artefact).node}
    assert {"MatMulNBits", "GatherBlockQuantized"} <= kernels
    assert kernels.isdisjoint({"DequantizeLinear", "MatMul", "Gemm", "FusedMatMul", "Gather"})
    assert np.isfinite(run_bytes(artefact, FEEDS, optimize=True)[0]).all()


STAYS = {
    "a bias that is no vector": "y = Gemm (x, d, m)",
    "a factor": "y = Gemm <alpha = 2.0> (x, d)",
    "a transposed activation": "t = Transpose <perm = [1, 0]> (x) y = Gemm <transA = 1> (t, d)",
    "columns": "y = Gather <axis = 1> (e, j)",
    "rows of half a block": "y = Gather (e, j)",
    "a product with no weight": "y = MatMul (x, x)",
}


@pytest.mark.parametrize("body", STAYS.values(), ids=STAYS)
def test_what_stays(body: str):
    model = parse(
        f"""g (float[40, 40] x) => (float[a, b] y) {{
            d = DequantizeLinear <axis = 0, block_size = 32> (c, s, z)
            e = DequantizeLinear <axis = 1, block_size = 32> (c, u, v)
            {body}
        }}""",
        {
            "c": np.ones((40, 40), np.uint8),
            "s": np.ones((2, 40), np.float32), "z": np.zeros((2, 40), np.uint8),
            "u": np.ones((40, 2), np.float32), "v": np.zeros((40, 2), np.uint8),
            "m": rand(40, 40), "j": np.asarray([1, 2], np.int64),
        },
    )  # fmt: skip
    unchanged(BlockWeights(), model)


def test_rows_of_an_odd_number_of_blocks():
    """The block of the smallest file may not be one that divides a row: a smaller one does."""
    body = "g (int64[n] i) => (float[n, 80] y) { y = Gather (t, i) }"
    model = stored(parse(body, {"t": rand(60, 80)}))
    wanted = run_plain(model, FEEDS)[0]
    BlockWeights()(model)
    assert ops(model) == ["GatherBlockQuantized"]
    assert np.array_equal(run_plain(model, FEEDS)[0], wanted)
