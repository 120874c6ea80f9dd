"""Costs of operators as floats and as integers: writes the table that ``--never-slower`` reads.

``python -m tests.benchmarks.costs --target NAME > targets/costs/NAME.toml``, on a machine that is
one. Chains of equal layers are built by the compiler itself, with integer ends, and timed beside
the float chain; what a border costs is the time of float ends over that of integer ones.
"""

import argparse
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from qcompile.compiler.api import build
from qcompile.compiler.verify.clock import time_here
from qcompile.core.ends import FloatEnds
from qcompile.targets.backends import backend_of
from qcompile.targets.catalog import load_target
from qcompile.targets.devices.device import TimingPlan
from qcompile.targets.host import host_target, runs_here

LAYERS = 6
PLAN = TimingPlan(1.0)


@dataclass(frozen=True)
class Case:
    """A chain of one kind of layer."""

    kind: str
    work: int
    """Of one layer."""
    model: onnx.ModelProto
    scheme: str = "w8a8"


def convolution(kind: str, channels: int, side: int, kernel: int, group: int) -> Case:
    """A chain of convolutions with Relu, as many channels in as out."""
    shape = [1, channels, side, side]
    nodes, constants, rng = [], [], np.random.default_rng(0)
    for i in range(LAYERS):
        weight = rng.normal(size=(channels, channels // group, kernel, kernel))
        weight /= np.sqrt(weight[0].size)
        constants.append(numpy_helper.from_array(weight.astype(np.float32), f"w{i}"))
        constants.append(numpy_helper.from_array(np.full(channels, 0.1, np.float32), f"b{i}"))
        pads = [kernel // 2] * 4
        names = [f"v{i}", f"w{i}", f"b{i}"]
        nodes.append(helper.make_node("Conv", names, [f"c{i}"], pads=pads, group=group))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"v{i + 1}"]))
    work = channels * (channels // group) * kernel * kernel * side * side
    return Case(kind, work, _model(nodes, constants, shape))


def product(kind: str, width: int, rows: int, scheme: str = "w8a8") -> Case:
    """A chain of square fully connected layers."""
    nodes, constants, rng = [], [], np.random.default_rng(0)
    for i in range(LAYERS):
        weight = rng.normal(size=(width, width)) / np.sqrt(width)
        constants.append(numpy_helper.from_array(weight.astype(np.float32), f"w{i}"))
        constants.append(numpy_helper.from_array(np.full(width, 0.1, np.float32), f"b{i}"))
        nodes.append(helper.make_node("Gemm", [f"v{i}", f"w{i}", f"b{i}"], [f"v{i + 1}"]))
    return Case(kind, width * width * rows, _model(nodes, constants, [rows, width]), scheme)


def elementwise(kind: str, channels: int, side: int) -> Case:
    """A chain of one operator without weights, behind a cheap convolution that makes integers."""
    shape = [1, channels, side, side]
    inputs = {"add": 2, "mul": 2}
    ops = {"add": "Add", "mul": "Mul", "pool": "AveragePool", "sigmoid": "Sigmoid"}
    attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]} if kind == "pool" else {}
    nodes = []
    for i in range(LAYERS):
        read = [f"v{i}", "v0"][: inputs.get(kind, 1)]
        nodes.append(helper.make_node(ops[kind], read, [f"v{i + 1}"], **attributes))
    return Case(kind, channels * side * side, _model(nodes, [], shape))


def cases() -> Iterator[Case]:
    """What is measured."""
    for channels, side in ((8, 12), (32, 14), (64, 28), (128, 28)):
        yield convolution("conv", channels, side, 3, 1)
    for channels, side in ((16, 12), (64, 14), (128, 28), (256, 28)):
        yield convolution("pointwise", channels, side, 1, 1)
    for channels, side in ((16, 8), (64, 14), (128, 28), (128, 56)):
        yield convolution("depthwise", channels, side, 3, channels)
    for channels, side in ((32, 14), (64, 28), (128, 28)):
        yield convolution("grouped", channels, side, 3, 4)
    for width in (64, 128, 512, 1024):
        yield product("gemv", width, 1)
    for width, rows in ((64, 16), (128, 32), (384, 64), (1024, 32)):
        yield product("gemm", width, rows)
        yield product("dynamic", width, rows, "w8a8-dynamic")
    for kind in ("add", "mul", "pool", "sigmoid"):
        for channels, side in ((16, 8), (64, 14), (64, 56)):
            yield elementwise(kind, channels, side)


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.costs", description=__doc__)
    parser.add_argument("--target", default=host_target())
    target = load_target(parser.parse_args().target)
    if not runs_here(target):
        print(f"this machine is not one that {target.name} is made for", file=sys.stderr)
        return 1
    points: dict[str, list[tuple[float, float, float]]] = {}
    for case in cases():
        floats, integers, border = measure(case, target.name)
        print(f"{case.kind} {case.work}: {floats:.2f} {integers:.2f} us", file=sys.stderr)
        points.setdefault(case.kind, []).append((case.work, floats, integers))
        if border is not None:
            points.setdefault("border", []).append((border[0], 0.0, border[1]))
    points["other"] = points["add"]
    print(written(target.name, points), end="")
    return 0


def measure(case: Case, target: str) -> tuple[float, float, tuple[float, float] | None]:
    """Microseconds of a layer as floats and as integers; elements and cost of a border."""
    backend = backend_of(load_target(target).runtime)
    shape = [d.dim_value for d in case.model.graph.input[0].type.tensor_type.shape.dim]
    feeds = {"v0": np.random.default_rng(1).normal(size=shape).astype(np.float32)}
    with tempfile.TemporaryDirectory() as scratch:
        path, data = Path(scratch) / "chain.onnx", Path(scratch) / "data.npz"
        onnx.save(case.model, path)
        np.savez(data, v0=np.concatenate([feeds["v0"]] * 8) if shape[0] == 1 else feeds["v0"])
        static = case.scheme == "w8a8"
        common = {"target": target, "scheme": case.scheme, "effort": "fast", "latency": False}
        common |= {"random_data": True} if static else {}
        ends = [load_target(target).activations.dtype, "float"] if static else ["float"]
        made = {e: build(path, ends=e if static else None, **common).artefact for e in ends}
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        raw = build(path, target=target, scheme="float", latency=False).artefact
    loaded = {"float model": FloatEnds(backend.open(raw), backend.facts(raw).ends)}
    for end, artefact in made.items():
        loaded[end] = FloatEnds(backend.open(artefact), backend.facts(artefact).ends)
    fed = {name: [one.feeds(feeds)] for name, one in loaded.items()}
    timed = time_here({name: one.session for name, one in loaded.items()}, fed, PLAN)
    us = {name: 1e6 * float(np.median(seconds)) for name, seconds in timed.seconds.items()}
    border = None
    if static and case.kind in {"conv", "pointwise"}:
        border = (float(np.prod(shape)), max(us["float"] - us[ends[0]], 0.0) / 2)
    return (us["float model"] - CALL) / LAYERS, (us[ends[0]] - CALL) / LAYERS, border


CALL = 4.0
"""Microseconds that a run takes besides its layers, about."""


def written(target: str, points: dict[str, list[tuple[float, float, float]]]) -> str:
    """The table as TOML."""
    evidence = (
        f"python -m tests.benchmarks.costs --target {target}: chains of {LAYERS} equal layers with "
        f"integer ends, one thread, ONNX Runtime {ort.__version__}, medians in microseconds"
    )
    lines = [f'target = "{target}"', f'evidence = """\n{evidence}"""']
    for kind, rows in sorted(points.items()):
        merged: dict[float, tuple[float, float]] = {}
        for work, floats, integers in sorted(rows):
            merged[work] = (floats, integers)
        lines += ["", f"[kinds.{kind}]", f"work = {[int(w) for w in merged]}"]
        for name, index in (("float_us", 0), ("integer_us", 1)):
            lines.append(f"{name} = {[round(max(t[index], 0.0), 2) for t in merged.values()]}")
    return "\n".join(lines) + "\n"


def _model(
    nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], shape: list[int]
) -> onnx.ModelProto:
    first = helper.make_tensor_value_info("v0", TensorProto.FLOAT, shape)
    last = helper.make_tensor_value_info(f"v{LAYERS}", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "chain", [first], [last], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
