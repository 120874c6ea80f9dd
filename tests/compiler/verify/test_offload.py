"""What leaves the target: told of the user's own nodes, weighed, and held to limits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.off_limits import OffLimits
from qcompile.compiler.report.model import BuildReport
from qcompile.compiler.verify.offload import judge_offload
from qcompile.core.accelerator import Offload, OffNode
from qcompile.core.errors import Code, QCompileError
from tests.compiler import small

OFF = Offload(
    to="Chip",
    nodes=5,
    on=3,
    partitions=2,
    islands=1,
    off=(OffNode("a", "SIN", "no"), OffNode("b", "COS", "no")),
    estimates={"cycles": 2000.0, "sram_bytes": 4096.0},
    source="Tool 1",
)


def gates(found: Offload = OFF, **limits: float) -> list[tuple[str, bool, float]]:
    judged = judge_offload(OffLimits(**limits), found)  # type: ignore[arg-type]
    return [(gate.name, gate.passed, gate.value) for gate in judged]


def test_limits_hold_up_to_the_figure_itself() -> None:
    assert gates() == []
    assert gates(max_off_target=1) == [("max-off-target", False, 2)]
    assert gates(max_off_target=2) == [("max-off-target", True, 2)]
    assert gates(max_sram=4095, max_cycles=2000) == [
        ("max-sram", False, 4096),
        ("max-cycles", True, 2000),
    ]


def test_an_arena_is_working_memory() -> None:
    arena = replace(OFF, estimates={"arena_bytes": 100.0})
    assert gates(arena, max_sram=99) == [("max-sram", False, 100)]


def test_a_limit_on_what_no_tool_estimates_is_refused() -> None:
    for limit in ("max_cycles", "max_sram"):
        with pytest.raises(QCompileError, match=f"--{limit.replace('_', '-')} needs") as caught:
            gates(replace(OFF, estimates={}), **{limit: 1.0})
        assert caught.value.code is Code.BAD_OPTION


def report(folder: Path, **options: object) -> BuildReport:
    """Of a model with a float node that hangs between two convolutions."""
    text = """net (float["N", 8, 6, 6] x) => (float["N", 8, 6, 6] y) {
        a = Conv (x, w)
        b = Sin (a)
        c = Abs (b)
        y = Conv (c, w)
    }"""
    model = small.text_model(text, {"w": small.weights(0, 8, 8, 1, 1)})
    model.graph.node[1].name = "the_sine"
    x = np.random.default_rng(1).normal(size=(8, 8, 6, 6)).astype(np.float32)
    np.savez(folder / "x.npz", x=x)
    path = small.saved(model, folder)
    return small.built(path, data=folder / "x.npz", **options).report


def test_a_build_names_the_user_s_nodes_and_the_plan_s_reason(tmp_path: Path) -> None:
    built = report(tmp_path)
    offload = built.offload
    assert offload is not None
    assert [(node.name, node.op) for node in offload.off] == [
        ("the_sine", "Sin"),
        ("Abs", "Abs"),
    ]
    reasons = {node.name: node.reason for node in built.coverage.float_nodes}
    assert [node.reason for node in offload.off] == [reasons["the_sine"], reasons["Abs"]]
    assert (offload.on, offload.partitions, offload.islands) == (2, 2, 1)
    assert offload.off_macs_share == 0
    assert built.passed


def test_a_layer_left_float_takes_its_share_of_the_work_with_it(tmp_path: Path) -> None:
    built = report(tmp_path, scheme="float")
    assert built.offload is not None
    assert built.offload.on == 0
    assert built.offload.off_macs_share == 1


@pytest.mark.litert
def test_work_is_found_behind_what_was_fused_into_it(tmp_path: Path) -> None:
    """TFLite's float CONV_2D does the Relu too, and is called by its result."""
    path = small.saved(small.cnn(), tmp_path)
    for target in ("tflite-arm64", "ort-x86-avx2"):
        built = small.built(path, target=target, scheme="float", shapes={"x": (1, 3, 8, 8)}).report
        assert built.offload is not None
        assert built.offload.off_macs_share == 1, target


def test_a_build_beyond_the_limit_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "m.onnx"
    built = report(tmp_path, out=out, max_off_target=1)
    assert [(gate.name, gate.passed) for gate in built.gates] == [("max-off-target", False)]
    assert not built.passed
    assert list(out.parent.iterdir()) == []
    assert report(tmp_path, out=out, max_off_target=2).passed
    assert out.is_file()


def test_where_the_model_runs_at_home_its_cost_is_measured(tmp_path: Path) -> None:
    """Whether ONNX Runtime's profile is asked: with times, and for something that is off."""
    from qcompile.targets.host import host_target

    here = report(tmp_path, target=host_target(), latency=True)
    share = here.measured.off_share
    assert share is not None
    assert 0 < share < 1
    assert report(tmp_path, target=host_target()).measured.off_share is None
