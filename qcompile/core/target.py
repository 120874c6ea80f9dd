"""The description of a target: what a runtime on a chip can do, as data.

A description is a TOML file in ``targets/descriptions``; this module says what may stand in it, and
``core.target_file`` reads it. Passes and back ends read it, none of them knows a chip by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from qcompile.core.accelerator import Accelerator
from qcompile.core.errors import Code, QCompileError
from qcompile.core.schemes import CacheName, SchemeName, WeightForm, split_scheme

InputRole = Literal["activation", "weight", "operand", "bias", "other"]
"""``operand`` is a weight when it is constant and an activation when it is computed (MatMul);
``other`` is never quantized (a shape, an index, a condition)."""


@dataclass(frozen=True)
class FixedOutput:
    """Output parameters that an integer kernel insists on, for the target's activation type."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class ScaleRatio:
    """Scales that an integer kernel takes; ``passes.plan.scale_ratios`` keeps plans inside.

    The ratio is ``low`` or more and less than ``high``.
    """

    of: Literal["product", "each"]
    """Product of the scales of the inputs over that of the output (a weight counts as an input);
    or each input's over the output's."""
    low: float
    high: float


@dataclass(frozen=True)
class OpRule:
    """What the target does with one op when its ends are quantized."""

    kernels: tuple[str, ...] = ()
    """Op types in the runtime's own optimized graph that prove it runs as integers."""
    inputs: tuple[InputRole, ...] = ("activation",)
    """Role of each input; the last one stands for all that follow."""
    outputs: Literal["first", "all"] = "first"
    """Which outputs the integer kernel has: the first alone, which excludes a node whose other
    outputs are read; or all, each of which must then be read and quantized."""
    absorbs: tuple[str, ...] = ()
    """What right behind the op its output quantizer (Relu, Clip) or its bias (Add) can do."""
    same_parameters: bool = False
    """Input and output must carry equal parameters (the op only moves integers)."""
    fixed_output: FixedOutput | None = None
    scale_ratio: ScaleRatio | None = None
    """Outside it the runtime refuses the model or takes a slower kernel; none when all will do."""
    float_output: bool = False
    """Whether the kernel can also give floats, so that a float reader needs no output quantizer."""
    float_at_a_point: bool = False
    """The same for a Conv of one tap on a picture of one position, which is a matrix product."""
    per_channel: bool = False
    """Whether the weight may have a scale an output channel."""
    wide_weights: bool = False
    """Whether its weights are of the type ``Numbers.wide``: the kernel takes no narrower ones."""
    constants: bool = False
    """Whether an activation input may be a constant, quantized per-tensor."""
    table: bool = False
    """Whether a constant that it looks up rows in can be stored in integers, and the rows that
    were read dequantized behind it."""
    weights_only: tuple[str, ...] = ()
    """Kernels that read a weight, or rows of a table, of integers and compute in floats; empty when
    there is none."""
    weights_unless: str = ""
    """Why there is none, of an op that has weights."""
    dynamic: tuple[str, ...] = ()
    """Kernels that quantize the activation as they run; empty when there is none."""
    dynamic_where: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)
    """What ``where`` is for the rule, for these kernels."""
    most_inputs: int = 0
    """How many inputs the fast kernel takes, where an op of any number can be done in steps; 0 for
    all."""
    where: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)
    """Attribute values for which the rule holds (``mode = ["nearest"]``), others stay float. A
    list is written with commas (``dilations = ["1,1"]``); an absent attribute is its default,
    which must be among the allowed ones."""
    ranks: tuple[int, ...] = ()
    """Ranks of the first input for which the rule holds; empty for all."""
    unless: str = ""
    """The sentence for a node that ``where`` or ``ranks`` excludes."""
    conditions: tuple[str, ...] = ()
    """What a node must meet to run on the accelerator, in the words of its tool, which looks after
    them itself: plans do not."""
    leaves: str = ""
    """Why its kernels leave the accelerator for the processor; empty where one does not."""

    def role(self, index: int) -> InputRole:
        """Role of input number ``index``."""
        return self.inputs[min(index, len(self.inputs) - 1)]


@dataclass(frozen=True)
class Saturation:
    """A multiply-add that sums products in a type too small for them.

    ``products`` products of an activation in ``[0, activation_high]`` and a weight are added
    before the sum is widened; the sum saturates at ``low`` and ``high``.
    """

    products: int
    low: int
    high: int
    activation_high: int
    pairing: Mapping[str, str] = field(default_factory=dict)
    """Op kind -> which products the kernel adds; ``any`` when it is not known, ``none`` when the
    kernel for that kind does not saturate. ``core.numerics.saturation`` defines the names."""
    alternative_cost: Mapping[str, float] = field(default_factory=dict)
    """Op kind -> time of a layer with the weights' ``alternative`` type, which does not saturate,
    relative to the same layer with the usual type. A kind that is not named has no alternative."""
    worth: float = 0.0
    """How many dB of a layer's weights justify one more unit of its time: the alternative is taken
    where safe scales would lose more than ``worth * (alternative_cost - 1)``."""


@dataclass(frozen=True)
class Numbers:
    """Type of a role, and whether its zero point is in the middle."""

    dtype: str
    symmetric: bool = False
    granularity: tuple[str, ...] = ("tensor",)
    groups: tuple[int, ...] = ()
    """Of weights: how many elements may share a scale, with a granularity of ``group``."""
    narrow: bool = False
    """Of weights that alone are integers: codes begin at 1, as many below the middle as above."""
    multiple: int = 1
    """Of such weights: a column has a multiple of so many inputs, or it takes the type ``wide``."""
    alternative: str | None = None
    """A second type of the same width that the kernels take as well (U8 beside S8 weights)."""
    wide: str | None = None
    """Of weights: the type where kernels do not take ``dtype``, which is so for ops whose rule says
    ``wide_weights`` and for weights without an axis of output channels (stacks of matrices)."""


@dataclass(frozen=True)
class Target:
    """A runtime on a kind of chip."""

    name: str
    title: str
    runtime: str
    min_runtime: str
    activations: Numbers
    weights: Numbers
    bias: Numbers
    ops: Mapping[str, OpRule]
    float_ops: Mapping[str, str] = field(default_factory=dict)
    """Op -> why it has no integer kernel."""
    schemes: tuple[SchemeName, ...] = ("w8a8", "w8a8-dynamic", "float")
    """What the runtime has kernels for."""
    half_without_data: bool = False
    """Whether a build without data stores weights in float16 where little would become integer."""
    without: Mapping[str, str] = field(default_factory=dict)
    """Scheme that it has none for -> why."""
    weight_forms: tuple[WeightForm, ...] = ("int",)
    """What weights may be stored as where only they are integers: it looks up codes of tables when
    it loads a model, as it folds all that is computed of constants alone."""
    attention: str = ""
    """The operator that does a decoder's attention, rotation and cache included; empty where there
    is none, and plain operators do (``passes.decoder.fuse_attention`` knows its form)."""
    caches: tuple[CacheName, ...] = ()
    """How it can store a decoder's keys and values (``w4+kv8``)."""
    simulates: tuple[SchemeName, ...] = ()
    """Schemes that it has no kernels for and that can be built to be looked at: as an ONNX file
    whose integers are computed with as floats."""
    simulated: bool = False
    """Whether this is the target under such a scheme (``under``)."""
    variants: Mapping[str, "Target"] = field(default_factory=dict)
    """Scheme -> the target as it is under that scheme, where it has a table ``[scheme.NAME]``."""
    cost: str = ""
    """What to know before a build under this scheme, one sentence; builds warn with it."""
    machines: tuple[str, ...] = ()
    """``platform.machine()`` values this target runs on."""
    features: tuple[str, ...] = ()
    """Instruction-set features the machine must have."""
    max_opset: int = 21
    """The newest opset that ``min_runtime`` loads."""
    max_ir_version: int = 10
    static_shapes: bool = False
    dynamic_scales: Literal["tensor", "row", "token"] = "tensor"
    """What has a scale of its own where matrix products find their scales as they run: the whole
    tensor; each row, which the kernel sees to; each row, which is written into the graph."""
    unroll: int = 0
    """The longest sequence of an LSTM or GRU that is written out step by step, where the runtime
    has no operator that does the same; 0 where it has."""
    ends: str = "float"
    float_stem: bool = False
    """Whether the first layers of a network on pictures, up to a depthwise one, take no longer in
    floats than in integers (``passes.plan.patterns.stem``)."""
    sum_bits: int = 32
    """Bits that a sum of products, its bias included, must fit in."""
    saturation: Saturation | None = None
    accelerator: Accelerator | None = None
    """What compiles its artefacts for an NPU; None where the runtime alone runs them."""
    conditions: tuple[str, ...] = ()
    """As ``OpRule.conditions``, for nodes of every kind."""
    evidence: str = ""
    """How the facts in the file were obtained, and what was not measured."""

    def under(self, scheme: str, *, simulate: bool = False) -> "Target":
        """The target as it is under a scheme: kernels of other types may have other rules.

        Args:
            scheme: one of ``SchemeName``, with caches or without.
            simulate: take a scheme of ``simulates`` as well. The artefact is then an ONNX file for
                ONNX Runtime on any machine, which computes in floats: no sum saturates.

        Raises:
            QCompileError: SCHEME_UNSUPPORTED with the schemes it takes.
        """
        scheme, cache = split_scheme(scheme)
        if cache and cache not in self.caches:
            raise QCompileError(
                Code.SCHEME_UNSUPPORTED,
                f"{self.name} cannot store keys and values in {cache.removeprefix('kv')} bits",
                hint=f"it takes {', '.join(self.caches) or 'caches of floats'}",
            )
        if scheme in self.schemes:
            return self.variants.get(scheme, self)
        if simulate and scheme in self.simulates:
            variant = self.variants.get(scheme, self)
            weights = replace(variant.weights, alternative=None)
            return replace(
                variant, runtime="onnxruntime", simulated=True, saturation=None, weights=weights
            )
        hint, why = f"it takes {', '.join(self.schemes)}", self.without.get(scheme, "")
        if scheme in self.simulates and not simulate:
            hint += f"; --simulate builds {scheme} to be looked at, not to ship"
        raise QCompileError(
            Code.SCHEME_UNSUPPORTED,
            ": ".join(filter(None, (f"{self.name} has no kernels for {scheme}", why))),
            hint=hint,
        )

    def by_token(self) -> "Target":
        """The target with a scale a token where scales are found as the model runs."""
        is_kernel = self.dynamic_scales == "row"
        return self if is_kernel else replace(self, dynamic_scales="token")

    @property
    def wide(self) -> "Target | None":
        """The target as it is for single nodes with int16 activations; None where it has none."""
        return self.variants.get("w8a16") if "w8a16" in self.schemes else None

    def rule(self, op: str) -> OpRule | None:
        """The rule of an op, or None when it stays float."""
        return self.ops.get(op)

    def why_float(self, op: str) -> str:
        """One sentence on why an op without a rule stays float."""
        return self.float_ops.get(op, f"{op} is not in the operator table of {self.name}")
