"""The cases of ``onnx.backend.test``, as a model file's content and samples to run it on."""

import functools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnx.backend.test
import onnx.version_converter
from onnx import numpy_helper

DATA: Final = Path(onnx.backend.test.__file__).parent / "data"
SAMPLES: Final = 8
NOISE: Final = 0.02
"""Standard deviation of the factors, around 1, that make a sample of another: no sign changes."""

OLDEST_OPSET: Final = 7
WIDE: Final = 4096
NARROW: Final = 256
"""Hidden layers behind the convolutions of AlexNet and VGG: 500 MB of noise would prove no more."""

STRUCTURE: Final = {"Resize": ("roi", "scales"), "Clip": ("min", "max")}
"""Op -> inputs that are floats but say what is computed rather than what it is computed of."""


@dataclass(frozen=True)
class Case:
    """A model, the values of its inputs, and what ONNX says comes out."""

    name: str
    model: onnx.ModelProto
    feeds: Mapping[str, np.ndarray]
    expected: tuple[np.ndarray, ...]
    fixed: tuple[str, ...] = ()
    """Inputs that noise would turn into those of another model."""

    def samples(self, count: int = SAMPLES) -> list[dict[str, np.ndarray]]:
        """The case's own values, then the same with noise on what is float."""
        source = np.random.default_rng(7)
        noisy = [
            {name: self._noisy(name, x, source) for name, x in self.feeds.items()}
            for _ in range(count - 1)
        ]
        return [dict(self.feeds), *noisy]

    def _noisy(self, name: str, x: np.ndarray, source: np.random.Generator) -> np.ndarray:
        if x.dtype != np.float32 or name in self.fixed or not x.size:
            return x
        return (x * (1 + source.normal(scale=NOISE, size=x.shape))).astype(np.float32)


@functools.cache
def node_cases() -> Mapping[str, tuple[Case, ...]]:
    """Op -> the cases of a single node of it with a float input, in ONNX's order."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    found: dict[str, list[Case]] = {}
    for test in collected:
        nodes = test.model.graph.node
        if len(nodes) != 1 or nodes[0].domain or not test.data_sets:
            continue
        inputs, outputs = test.data_sets[0]
        if not all(isinstance(x, np.ndarray | np.generic) for x in (*inputs, *outputs)):
            continue  # sequences and optionals
        if not any(x.dtype == np.float32 for x in inputs):
            continue
        names = [value.name for value in test.model.graph.input]
        op = nodes[0].op_type
        case = Case(
            test.name.removeprefix("test_"),
            test.model,
            dict(zip(names, map(np.asarray, inputs), strict=True)),
            tuple(map(np.asarray, outputs)),
            STRUCTURE.get(op, ()),
        )
        found.setdefault(op, []).append(case)
    return {op: tuple(cases) for op, cases in found.items()}


def with_constants(case: Case) -> Case | None:
    """The case as models have it: all but its first float input constant; None when that is one."""
    graph = case.model.graph
    data = next(v.name for v in graph.input if case.feeds[v.name].dtype == np.float32)
    rest = {name: x for name, x in case.feeds.items() if name != data}
    if not rest:
        return None
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    kept = [v for v in model.graph.input if v.name == data]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(numpy_helper.from_array(x, name) for name, x in rest.items())
    return replace(case, name=f"{case.name}+constants", model=model, feeds={data: case.feeds[data]})


@functools.cache
def stored_cases(kind: str) -> tuple[Case, ...]:
    """The cases of a folder of models with samples, those with a float input.

    Models older than opset 7, which neither ONNX Runtime nor we promise to run, are brought there
    by ONNX's own converter.
    """
    found = []
    for folder in sorted((DATA / kind).glob("test_*")):
        model = onnx.load(str(folder / "model.onnx"))
        if not _takes_floats(model):
            continue
        if model.opset_import[0].version < OLDEST_OPSET:
            model = onnx.version_converter.convert_version(model, OLDEST_OPSET)
            _spread_slopes(model)
        first = folder / "test_data_set_0"
        stored = {v.name for v in model.graph.initializer}
        names = [v.name for v in model.graph.input if v.name not in stored]
        inputs = [_tensor(first / f"input_{i}.pb") for i in range(len(names))]
        outputs = [_tensor(first / f"output_{i}.pb") for i in range(len(model.graph.output))]
        feeds = dict(zip(names, inputs, strict=True))
        found.append(Case(folder.name.removeprefix("test_"), model, feeds, tuple(outputs)))
    return tuple(found)


def _spread_slopes(model: onnx.ModelProto) -> None:
    """Give PRelu's slopes the axes that opset 6 took for granted; the converter forgets to."""
    slopes = {n.input[1] for n in model.graph.node if n.op_type == "PRelu"}
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in model.graph.input}
    (rank,) = {ranks[n.input[0]] for n in model.graph.node if n.op_type == "PRelu"} or {0}
    for tensor in (t for t in model.graph.initializer if t.name in slopes):
        tensor.dims.extend([1] * (rank - 1 - len(tensor.dims)))
    for value in (v for v in model.graph.input if v.name in slopes):
        for _ in range(rank - 1 - len(value.type.tensor_type.shape.dim)):
            value.type.tensor_type.shape.dim.add().dim_value = 1


def light_names() -> list[str]:
    """The architectures whose weights are left out of the wheel."""
    return sorted(path.stem for path in (DATA / "light").glob("*.onnx"))


def light_case(name: str) -> Case:
    """An architecture with weights of noise that keep the size of what they pass on.

    In the file ConstantOfShape nodes stand for the weights, all of one number: the outputs of such
    a network say nothing. ONNX's own outputs are for those weights, so there are none here.
    """
    model = onnx.load(str(DATA / "light" / f"{name}.onnx"))
    graph = model.graph
    stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    source = np.random.default_rng(3)
    block = source.standard_normal(1 << 20, np.float32)
    kept = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    roles = {name: (node.op_type, i) for node in kept for i, name in enumerate(node.input)}
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            op, place = roles[node.output[0]]
            shape = tuple(int(n) for n in stored[node.input[0]])
            if op == "Gemm":
                shape = tuple(NARROW if n == WIDE else n for n in shape)
            values = _weights(op, place, shape, np.resize(block, shape))
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    (data,) = (v for v in graph.input if v.name not in stored)
    shape = tuple(d.dim_value for d in data.type.tensor_type.shape.dim)
    feeds = {data.name: source.standard_normal(shape, np.float32)}
    _take_scores(graph)
    return Case(name, model, feeds, ())


def _take_scores(graph: onnx.GraphProto) -> None:
    """Leave out the last Softmax: of a thousand classes each gets less than its step of a 256th,
    and where a network that was not trained enlarges its input, one class gets all.
    """
    if graph.node[-1].op_type == "Softmax":
        scores = graph.node[-1].input[0]
        del graph.node[-1], graph.output[:]
        graph.output.append(onnx.helper.make_empty_tensor_value_info(scores))
        graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def _weights(op: str, place: int, shape: tuple[int, ...], noise: np.ndarray) -> np.ndarray:
    if place == 1 and op in {"Conv", "Gemm"}:
        return noise * np.float32((2 / np.prod(shape[1:])) ** 0.5)
    if (op, place) in {("BatchNormalization", 1), ("BatchNormalization", 4), ("Mul", 1)}:
        return np.abs(1 + noise / 8)  # scales and variances
    return noise / 8


def _takes_floats(model: onnx.ModelProto) -> bool:
    stored = {v.name for v in model.graph.initializer}
    types = [v.type.tensor_type for v in model.graph.input if v.name not in stored]
    return any(t.elem_type == onnx.TensorProto.FLOAT for t in types)


def _tensor(path: Path) -> np.ndarray:
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)
