"""A model of one operator for every line of the operator table, with sensible parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qcompile.core.numerics.affine import weight_limits
from qcompile.targets.tflite.builder import Builder, Options, Quantization, packed
from qcompile.targets.tflite.operator_table import Form, Row, operator_table
from qcompile.targets.tflite.runtime import Kernels, TfliteSession

Shape = tuple[int, ...]
INTEGERS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
ACTIVATION_SCALE = {"int8": 0.05, "uint8": 0.05, "int16": 0.0003}


@dataclass(frozen=True)
class Sample:
    """Shapes of the operands (an array is a constant, an int16/float one of its own type)."""

    inputs: tuple[Shape | np.ndarray, ...]
    outputs: tuple[Shape, ...]
    options: Options | None = None
    low: float = -4.0
    """Least real number that the data take."""
    high: float = 4.0


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def pool(name: str = "Pool2DOptions") -> Options:
    fields = {"padding": 1, "strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
    return Options(name, fields)


def reducer(keep: bool = True) -> Options:
    return Options("ReducerOptions", {"keepDims": keep})


PICTURE = (1, 6, 8, 16)
UNARY = Sample((PICTURE,), (PICTURE,))
BINARY = Sample((PICTURE, PICTURE), (PICTURE,))
REDUCED = Sample((PICTURE, ints(1, 2)), ((1, 1, 1, 16),), reducer())
COMPARED = BINARY
VECTOR = Sample(((1, 64),), ((1, 64),))

CONV = {"padding": 0, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}

SAMPLES: Mapping[str, Sample] = {
    "CONV_2D": Sample(
        (PICTURE, (8, 3, 3, 16), (8,)), ((1, 6, 8, 8),), Options("Conv2DOptions", CONV)
    ),
    "DEPTHWISE_CONV_2D": Sample(
        (PICTURE, (1, 3, 3, 16), (16,)),
        (PICTURE,),
        Options("DepthwiseConv2DOptions", {**CONV, "depthMultiplier": 1}),
    ),
    "TRANSPOSE_CONV": Sample(
        (ints(1, 12, 16, 8), (8, 2, 2, 16), PICTURE, (8,)),
        ((1, 12, 16, 8),),
        Options("TransposeConvOptions", {"padding": 1, "strideH": 2, "strideW": 2}),
    ),
    "FULLY_CONNECTED": Sample(
        ((4, 64), (16, 64), (16,)), ((4, 16),), Options("FullyConnectedOptions", {})
    ),
    "BATCH_MATMUL": Sample(
        ((2, 4, 32), np.random.default_rng(1).uniform(-1, 1, (2, 32, 8))),
        ((2, 4, 8),),
        Options("BatchMatMulOptions", {}),
    ),
    "ADD": Sample(BINARY.inputs, BINARY.outputs, Options("AddOptions", {"potScaleInt16": False})),
    "SUB": Sample(BINARY.inputs, BINARY.outputs, Options("SubOptions", {"potScaleInt16": False})),
    "MUL": Sample(BINARY.inputs, BINARY.outputs, Options("MulOptions", {})),
    "DIV": Sample(BINARY.inputs, BINARY.outputs, Options("DivOptions", {}), 1.0, 4.0),
    "MAXIMUM": Sample(BINARY.inputs, BINARY.outputs, Options("MaximumMinimumOptions", {})),
    "MINIMUM": Sample(BINARY.inputs, BINARY.outputs, Options("MaximumMinimumOptions", {})),
    "SELECT_V2": Sample((PICTURE, PICTURE, PICTURE), (PICTURE,), Options("SelectV2Options", {})),
    "SQUARED_DIFFERENCE": Sample(
        BINARY.inputs, BINARY.outputs, Options("SquaredDifferenceOptions", {})
    ),
    "POW": Sample(BINARY.inputs, BINARY.outputs, Options("PowOptions", {}), 1.0, 2.0),
    "FLOOR_DIV": Sample(BINARY.inputs, BINARY.outputs, Options("FloorDivOptions", {}), 1.0, 4.0),
    "FLOOR_MOD": Sample(BINARY.inputs, BINARY.outputs, Options("FloorModOptions", {}), 1.0, 4.0),
    "NEG": Sample(UNARY.inputs, UNARY.outputs, Options("NegOptions", {})),
    "ABS": Sample(UNARY.inputs, UNARY.outputs, Options("AbsOptions", {})),
    "SQUARE": Sample(UNARY.inputs, UNARY.outputs, Options("SquareOptions", {})),
    "FLOOR": UNARY,
    "CEIL": UNARY,
    "ROUND": UNARY,
    "SIN": UNARY,
    "COS": Sample(UNARY.inputs, UNARY.outputs, Options("CosOptions", {})),
    "SIGN": UNARY,
    "CUMSUM": Sample((PICTURE, np.array(3, np.int32)), (PICTURE,), Options("CumsumOptions", {})),
    "GREATER": Sample(COMPARED.inputs, COMPARED.outputs, Options("GreaterOptions", {})),
    "GREATER_EQUAL": Sample(COMPARED.inputs, COMPARED.outputs, Options("GreaterEqualOptions", {})),
    "LESS": Sample(COMPARED.inputs, COMPARED.outputs, Options("LessOptions", {})),
    "LESS_EQUAL": Sample(COMPARED.inputs, COMPARED.outputs, Options("LessEqualOptions", {})),
    "EQUAL": Sample(COMPARED.inputs, COMPARED.outputs, Options("EqualOptions", {})),
    "NOT_EQUAL": Sample(COMPARED.inputs, COMPARED.outputs, Options("NotEqualOptions", {})),
    "LOGICAL_NOT": Sample(UNARY.inputs, UNARY.outputs, Options("LogicalNotOptions", {})),
    "LOGICAL_AND": Sample(BINARY.inputs, BINARY.outputs, Options("LogicalAndOptions", {})),
    "LOGICAL_OR": Sample(BINARY.inputs, BINARY.outputs, Options("LogicalOrOptions", {})),
    "ARG_MAX": Sample(
        (PICTURE, np.array(3, np.int32)), ((1, 6, 8),), Options("ArgMaxOptions", {"outputType": 2})
    ),
    "ARG_MIN": Sample(
        (PICTURE, np.array(3, np.int32)), ((1, 6, 8),), Options("ArgMinOptions", {"outputType": 2})
    ),
    "QUANTIZE": Sample(UNARY.inputs, UNARY.outputs, Options("QuantizeOptions", {})),
    "DEQUANTIZE": Sample(UNARY.inputs, UNARY.outputs, Options("DequantizeOptions", {})),
    "CAST": Sample(UNARY.inputs, UNARY.outputs, Options("CastOptions", {})),
    "RELU": UNARY,
    "RELU6": UNARY,
    "RELU_N1_TO_1": UNARY,
    "RELU_0_TO_1": UNARY,
    "LEAKY_RELU": Sample(UNARY.inputs, UNARY.outputs, Options("LeakyReluOptions", {"alpha": 0.1})),
    "PRELU": Sample((PICTURE, np.linspace(-0.5, 0.5, 16).reshape(1, 1, 16)), (PICTURE,)),
    "HARD_SWISH": Sample(UNARY.inputs, UNARY.outputs, Options("HardSwishOptions", {})),
    "LOGISTIC": UNARY,
    "TANH": UNARY,
    "SOFTMAX": Sample(VECTOR.inputs, VECTOR.outputs, Options("SoftmaxOptions", {"beta": 1.0})),
    "LOG_SOFTMAX": Sample(VECTOR.inputs, VECTOR.outputs, Options("LogSoftmaxOptions", {})),
    "L2_NORMALIZATION": Sample(VECTOR.inputs, VECTOR.outputs, Options("L2NormOptions", {})),
    "GELU": Sample(UNARY.inputs, UNARY.outputs, Options("GeluOptions", {})),
    "ELU": UNARY,
    "EXP": Sample(UNARY.inputs, UNARY.outputs, Options("ExpOptions", {})),
    "LOG": Sample(UNARY.inputs, UNARY.outputs, None, 0.5, 4.0),
    "SQRT": Sample(UNARY.inputs, UNARY.outputs, None, 0.0, 4.0),
    "RSQRT": Sample(UNARY.inputs, UNARY.outputs, None, 0.5, 4.0),
    "AVERAGE_POOL_2D": Sample((PICTURE,), ((1, 3, 4, 16),), pool()),
    "MAX_POOL_2D": Sample((PICTURE,), ((1, 3, 4, 16),), pool()),
    "MEAN": REDUCED,
    "SUM": REDUCED,
    "REDUCE_MAX": REDUCED,
    "REDUCE_MIN": REDUCED,
    "REDUCE_PROD": Sample((PICTURE, ints(1)), ((1, 1, 8, 16),), reducer()),
    "CONCATENATION": Sample(
        (PICTURE, PICTURE), ((1, 6, 8, 32),), Options("ConcatenationOptions", {"axis": 3})
    ),
    "SPLIT": Sample(
        (np.array(3, np.int32), PICTURE),
        ((1, 6, 8, 8), (1, 6, 8, 8)),
        Options("SplitOptions", {"numSplits": 2}),
    ),
    "SPLIT_V": Sample(
        (PICTURE, ints(4, 12), np.array(3, np.int32)),
        ((1, 6, 8, 4), (1, 6, 8, 12)),
        Options("SplitVOptions", {"numSplits": 2}),
    ),
    "SLICE": Sample(
        (PICTURE, ints(0, 1, 2, 0), ints(1, 4, 5, 16)),
        ((1, 4, 5, 16),),
        Options("SliceOptions", {}),
    ),
    "STRIDED_SLICE": Sample(
        (PICTURE, ints(0, 1, 2, 0), ints(1, 5, 8, 16), ints(1, 1, 1, 1)),
        ((1, 4, 6, 16),),
        Options("StridedSliceOptions", {}),
    ),
    "RESHAPE": Sample(
        (PICTURE, ints(1, 768)), ((1, 768),), Options("ReshapeOptions", {"newShape": ints(1, 768)})
    ),
    "SQUEEZE": Sample(
        (PICTURE,), ((6, 8, 16),), Options("SqueezeOptions", {"squeezeDims": ints(0)})
    ),
    "EXPAND_DIMS": Sample(
        (PICTURE, np.array(0, np.int32)), ((1, *PICTURE),), Options("ExpandDimsOptions", {})
    ),
    "TRANSPOSE": Sample(
        (PICTURE, ints(0, 3, 1, 2)), ((1, 16, 6, 8),), Options("TransposeOptions", {})
    ),
    "GATHER": Sample(
        (PICTURE, ints(3, 0, 5)), ((1, 6, 8, 3),), Options("GatherOptions", {"axis": 3})
    ),
    "EMBEDDING_LOOKUP": Sample((ints(3, 0, 5), (8, 16)), ((3, 16),)),
    "GATHER_ND": Sample(
        ((6, 8), np.array([[0, 1], [5, 7]], np.int32)), ((2,),), Options("GatherNdOptions", {})
    ),
    "BROADCAST_TO": Sample(
        ((1, 1, 8, 16), ints(1, 6, 8, 16)), (PICTURE,), Options("BroadcastToOptions", {})
    ),
    "TILE": Sample((PICTURE, ints(1, 2, 1, 1)), ((1, 12, 8, 16),), Options("TileOptions", {})),
    "REVERSE_V2": Sample((PICTURE, ints(1)), (PICTURE,), Options("ReverseV2Options", {})),
    "PAD": Sample(
        (PICTURE, np.array([[0, 0], [1, 2], [0, 1], [0, 0]], np.int32)),
        ((1, 9, 9, 16),),
        Options("PadOptions", {}),
    ),
    "PADV2": Sample(
        (PICTURE, np.array([[0, 0], [1, 2], [0, 1], [0, 0]], np.int32), np.array([1.5])),
        ((1, 9, 9, 16),),
        Options("PadV2Options", {}),
    ),
    "MIRROR_PAD": Sample(
        (PICTURE, np.array([[0, 0], [1, 2], [0, 1], [0, 0]], np.int32)),
        ((1, 9, 9, 16),),
        Options("MirrorPadOptions", {"mode": 0}),
    ),
    "PACK": Sample(
        (PICTURE, PICTURE), ((2, *PICTURE),), Options("PackOptions", {"valuesCount": 2, "axis": 0})
    ),
    "UNPACK": Sample(
        ((2, 8, 16),), ((8, 16), (8, 16)), Options("UnpackOptions", {"num": 2, "axis": 0})
    ),
    "TOPK_V2": Sample(
        ((2, 16), np.array(3, np.int32)), ((2, 3), (2, 3)), Options("TopKV2Options", {})
    ),
    "DEPTH_TO_SPACE": Sample(
        (PICTURE,), ((1, 12, 16, 4),), Options("DepthToSpaceOptions", {"blockSize": 2})
    ),
    "SPACE_TO_DEPTH": Sample(
        (PICTURE,), ((1, 3, 4, 64),), Options("SpaceToDepthOptions", {"blockSize": 2})
    ),
    "RESIZE_NEAREST_NEIGHBOR": Sample(
        (PICTURE, ints(12, 16)), ((1, 12, 16, 16),), Options("ResizeNearestNeighborOptions", {})
    ),
    "RESIZE_BILINEAR": Sample(
        (PICTURE, ints(12, 16)),
        ((1, 12, 16, 16),),
        Options("ResizeBilinearOptions", {"halfPixelCenters": True}),
    ),
}


@dataclass
class Made:
    """A model and what feeds it."""

    data: bytes
    feeds: dict[str, np.ndarray] = field(default_factory=dict)


def types_of(row: Row, form: Form, sample: Sample) -> tuple[list[str], list[str]]:
    """One element type for every operand: of several that are allowed, the first by name."""

    def pick(wanted: Sequence[frozenset[str]], count: int) -> list[str]:
        return [sorted(wanted[min(i, len(wanted) - 1)])[0] for i in range(count)]

    return pick(form.inputs, len(sample.inputs)), pick(form.outputs, len(sample.outputs))


def make(
    op: str,
    form: Form,
    seed: int = 0,
    *,
    output_range: tuple[float, float] | None = None,
    version: int | None = None,
) -> Made:
    """The model of ``op`` for element types ``form`` on random data.

    Args:
        op: a builtin operator of the table.
        form: element types.
        seed: of the random numbers.
        output_range: real numbers that integer outputs hold where the operator leaves it open.
        version: to register instead of the form's.
    """
    row, sample = operator_table()[op], SAMPLES[op]
    kinds, results = types_of(row, form, sample)
    rng = np.random.default_rng(seed)
    builder = Builder()
    made = Made(b"")
    indices: list[int] = []
    inputs: list[int] = []
    names: list[str] = []
    activation: Quantization | None = None
    for position, (given, kind) in enumerate(zip(sample.inputs, kinds, strict=True)):
        role, name = row.role(position), f"x{position}"
        params = None
        if role == "data" and kind in INTEGERS:
            params = activation_params(kind, sample, rng, activation if row.same else None)
            if isinstance(given, np.ndarray) and not row.same:
                peak = np.abs(given).max() / INTEGERS[kind][1]
                params = Quantization.of(np.float32(peak), np.zeros(()))
            activation = activation or params
        if isinstance(given, np.ndarray):
            array = given.astype(kind) if params is None else to_integers(given, params, kind)
            indices.append(builder.tensor(name, array.shape, kind, params, array))
        elif role in ("weight", "bias"):
            axis = row.weight_axis if role == "weight" else 0
            weight = builder.tensors[indices[1]] if role == "bias" else None
            array, params = constant(given, kind, axis or 0, weight, activation, rng)
            indices.append(builder.tensor(name, given, kind, params, array))
        else:
            indices.append(builder.tensor(name, given, kind, params))
            inputs.append(indices[-1])
            names.append(name)
            made.feeds[name] = feed(given, kind, params, sample, rng)
    outputs = []
    for position, (shape, kind) in enumerate(zip(sample.outputs, results, strict=True)):
        params = None
        if kind in INTEGERS and row.output_role(position) == "data":
            params = output_params(row, kind, activation, output_range)
        outputs.append(builder.tensor(f"y{position}", shape, kind, params))
    builder.operator(op, indices, outputs, sample.options, version=version or form.version)
    labels = (names, [f"y{i}" for i in range(len(outputs))])
    made.data = builder.finish(inputs, outputs, names=labels, description="one operator")
    return made


def activation_params(
    kind: str, sample: Sample, rng: np.random.Generator, like: Quantization | None
) -> Quantization:
    if like is not None:
        return like
    low, high = min(sample.low, 0.0), max(sample.high, 0.0)
    if kind == "int16":
        return Quantization.of(np.float32(max(-low, high) / 32767), np.zeros(()))
    scale = np.float32((high - low) / 255 * rng.uniform(0.9, 1.1))
    lowest = INTEGERS[kind][0]
    return Quantization.of(scale, np.clip(np.rint(lowest - low / scale), lowest, lowest + 255))


def output_params(
    row: Row, kind: str, activation: Quantization | None, span: tuple[float, float] | None
) -> Quantization:
    if kind in row.fixed:
        return Quantization.of(np.float32(row.fixed[kind][0]), np.asarray(row.fixed[kind][1]))
    if row.same and activation is not None:
        return activation
    low, high = span or (-4.0, 4.0)
    low, high = min(low, 0.0), max(high, 1e-3)
    if kind == "int16":
        return Quantization.of(np.float32(max(-low, high) / 32767), np.zeros(()))
    lowest = INTEGERS[kind][0]
    scale = np.float32((high - low) / 255)
    return Quantization.of(scale, np.clip(np.rint(lowest - low / scale), lowest, lowest + 255))


def constant(
    shape: Shape,
    kind: str,
    axis: int,
    weight: object,
    activation: Quantization | None,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Quantization | None]:
    """Elements of a weight or (where ``weight`` is given) a bias, and their parameters."""
    if kind == "float32":
        return rng.normal(0, 0.1, shape).astype(np.float32), None
    if weight is None:
        count = shape[axis]
        scale = rng.uniform(0.5, 1.5, count).astype(np.float32) * np.float32(0.2 / 127)
        params = Quantization.of(scale, np.zeros(count), axis)
        if kind in ("int4", "int2"):
            low, high = weight_limits(kind)
            coarser = scale * np.float32(127 / high)
            integers = rng.integers(low, high + 1, shape)
            return packed(integers, kind), Quantization.of(coarser, np.zeros(count), axis)
        return rng.integers(-127, 128, shape).astype(np.int8), params
    assert activation is not None
    scales = weight.quantization.scale * activation.scale[0]  # type: ignore[attr-defined]
    params = Quantization.of(scales, np.zeros(scales.size), 0)
    return rng.integers(-1000, 1000, shape).astype(kind), params


def to_integers(real: np.ndarray, params: Quantization, kind: str) -> np.ndarray:
    low, high = INTEGERS[kind]
    return np.clip(np.rint(real / params.scale[0]) + params.zero_point[0], low, high).astype(kind)


def feed(
    shape: Shape, kind: str, params: Quantization | None, sample: Sample, rng: np.random.Generator
) -> np.ndarray:
    if kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    real = rng.uniform(sample.low, sample.high, shape)
    if params is not None:
        return to_integers(real, params, kind)
    if kind in ("int32", "int64", "int8"):
        return rng.integers(max(int(sample.low), 1), 9, shape).astype(kind)
    return real.astype(kind)


def float_range(op: str, seed: int = 0) -> tuple[float, float] | None:
    """Least and largest output of the float form, for parameters of the integer forms."""
    row = operator_table()[op]
    form = next((f for f in row.forms if all("float32" in t for t in f.outputs[:1])), None)
    if form is None or any("int8" in t for t in form.inputs):
        return None
    made = make(op, form, seed)
    (result, *_) = TfliteSession(made.data, "builtin").run(made.feeds)
    return float(result.min()), float(result.max())


def run(made: Made, kernels: Kernels) -> list[np.ndarray]:
    return TfliteSession(made.data, kernels).run(made.feeds)
