"""Everything that shapes a build, in one record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, get_args

from qcompile.compiler.budgets import Limit
from qcompile.compiler.device_options import DeviceOptions
from qcompile.compiler.encodings.importing import GivenEncodings
from qcompile.compiler.genai.known import Known
from qcompile.compiler.importers.options import ImportOptions
from qcompile.compiler.off_limits import OffLimits
from qcompile.compiler.saved_plan import SavedPlan
from qcompile.compiler.verify.user_metric import UserMetric
from qcompile.core.errors import Code, QCompileError
from qcompile.core.intersection import intersect, unsigned
from qcompile.core.schemes import (
    LOW_BIT_TOKENS,
    STATIC_SCHEMES,
    WEIGHT_ONLY,
    SchemeName,
    full_name,
)
from qcompile.core.target import Target

SCHEMES: Final[tuple[str, ...]] = get_args(SchemeName)
AUTO: Final = "auto"
"""``w8a8``, in which layers may find the scales of their activations as the model runs."""
EFFORTS: Final = ("fast", "balanced", "max")
GROUP: Final = "group:"
"""What a granularity of groups begins with; the elements that share a scale follow."""
ENDS: Final = ("float", "int8", "uint8", "int16")
_BYTES: Final = ("uint8", "int8")
LAYOUTS: Final = ("nhwc", "nchw")


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """What the graph passes need to know of a build."""

    scheme: str = "w8a8"
    """One of ``core.schemes.SchemeName``."""
    kv: str = ""
    """How a decoder's keys and values are stored: one of ``core.schemes.CACHES``, or as floats."""
    ranges: str | None = None
    """Name of a range method in ``passes.plan.ranges.table``; None leaves it to the effort."""
    granularity: str | None = None
    """Scales of weights: ``tensor`` or ``channel`` where possible, ``group:N`` where only weights
    are integers; None chooses by layer. ``token``: of activations, as the model runs."""
    weights: str = "int"
    """What weights are stored as: one of ``core.schemes.WEIGHT_FORMS``."""
    symmetric: bool | None = None
    """Whether groups have their zero point in the middle; None chooses."""
    ends: str = "float"
    """Type of the model's float inputs and outputs in the artefact."""
    threads: int = 2
    """Samples in work at a time; no result depends on it."""
    dump_dir: Path | None = None
    effort: str = "fast"
    """How hard to try for accuracy: one of ``EFFORTS``."""
    encodings: GivenEncodings | None = None
    """Scales and zero points from a file; what it does not give is calibrated."""
    auto: bool = False
    """Whether layers of a static scheme may become dynamic where that keeps more."""
    tokens: bool = False
    """Whether what finds its scales as the model runs has one a token, in the graph itself."""
    time_budget: float | None = None
    """Seconds that a search may take; None for as long as it gains."""
    bits_per_weight: float | None = None
    """What all stored weights may take on average, scales included; widths are chosen by what
    each does to the outputs. None gives all the scheme's."""
    partial: Path | None = None
    """Folder beside the output where a long search keeps what it has done, to be taken up again."""

    @property
    def needs_data(self) -> bool:
        """Whether activations get scales at build time."""
        return self.scheme in STATIC_SCHEMES

    @property
    def learns(self) -> bool:
        """Whether anything rests on samples, where there are some."""
        return self.needs_data or self.weight_bits > 0 or self.tokens or bool(self.kv)

    @property
    def name(self) -> str:
        """As the user gives it: with the caches."""
        return full_name(self.scheme, self.kv)

    @property
    def weight_bits(self) -> int:
        """Bits of a weight, where only weights are integers; else 0."""
        simulated = LOW_BIT_TOKENS.get(self.scheme, 0) if self.tokens else 0
        return WEIGHT_ONLY.get(self.scheme, simulated)

    @property
    def group(self) -> int | None:
        """Elements that share a scale, where groups were asked for."""
        asked = self.granularity or ""
        return int(asked.removeprefix(GROUP)) if asked.startswith(GROUP) else None


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """The options of ``qcompile build``, checked."""

    targets: tuple[Target, ...]
    ends: tuple[str, ...]
    """Type of the ends in the artefact of each target."""
    scheme: Scheme
    raw_bytes: bool = False
    """Whether ends of bytes were asked for by name, so that an app may feed raw pixels."""
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    separate_plans: bool = False
    """A plan for each target instead of one for what they have in common."""
    plan: SavedPlan | None = None
    random_data: bool = False
    without_data: bool = False
    """``-d none``: build the best that needs no samples."""
    scheme_named: bool = True
    """Whether the user asked for this very scheme, so that no other may be taken."""
    seed: int = 0
    time_passes: bool = False
    latency: bool = True
    metric: UserMetric | None = None
    """The user's own, to judge accuracy by."""
    io_layout: str | None = None
    """Order of axes of the ends, for runtimes that store channels last; None for the runtime's."""
    class_names: Path | None = None
    """Text file, a class a line, for the app that uses the artefact."""
    sensitivity: bool = False
    """List what each layer costs as integers and as float."""
    max_drop: float | None = None
    """Most points of the metric that may be lost."""
    max_latency: Limit | None = None
    """Longest median time, in milliseconds or of the float model's."""
    max_size: Limit | None = None
    """Largest artefact, in bytes or of the float model's size."""
    off_limits: OffLimits = field(default_factory=OffLimits)
    """Gates on what leaves the target, and on what its tool estimates."""
    never_slower: bool = False
    """Leave float what takes longer as integers."""
    emit: tuple[str, ...] = ()
    """Further forms of the artefact: keys of ``compiler.emit.SUFFIXES``."""
    known: Known | None = None
    """Of a language model, what its client must know; for the form ``genai``."""
    devices: DeviceOptions = field(default_factory=DeviceOptions)
    """Where the artefact is tried."""
    importing: ImportOptions = field(default_factory=ImportOptions)
    """How a model that is no ONNX file is read."""
    requantize: bool = False
    """Drop the scales of a model that is quantized already, and find new ones."""

    def apart(self) -> "list[BuildOptions]":
        """The options of a build for each target alone."""
        return [
            replace(
                self,
                targets=(target,),
                ends=(end,),
                scheme=replace(self.scheme, ends=end),
                separate_plans=False,
            )
            for target, end in zip(self.targets, self.ends, strict=True)
        ]

    @property
    def has_budgets(self) -> bool:
        """Whether anything was asked of the artefact that may leave layers float."""
        return (self.max_drop, self.max_latency, self.max_size) != (None, None, None)

    @property
    def effort(self) -> str:
        """How hard to try for accuracy."""
        return self.scheme.effort

    @property
    def target(self) -> Target:
        """What the plan is made for: all that the targets have in common, in U8."""
        return unsigned(intersect(self.targets))


def check_choice(option: str, value: str, known: Sequence[str]) -> str:
    """The value, if it is one of the known ones.

    Raises:
        QCompileError: BAD_OPTION that lists them.
    """
    if value not in known:
        raise QCompileError(
            Code.BAD_OPTION, f"{option} {value!r} is not known", hint=f"known: {', '.join(known)}"
        )
    return value


def ends_of(asked: str | None, target: Target) -> str:
    """Type of the ends: the one asked for if the target's activations have it, else its default.

    Of bytes either type will do: they hold the same numbers, 128 apart.

    Raises:
        QCompileError: BAD_OPTION for an integer type that the target's kernels do not take.
    """
    if asked is None:
        return target.ends
    check_choice("--io", asked, ENDS)
    own = target.activations.dtype
    bytes_too = _BYTES if own in _BYTES else ()
    if asked not in {"float", own, *bytes_too}:
        raise QCompileError(
            Code.BAD_OPTION,
            f"--io {asked}: activations of {target.name} are {own}",
            hint=" or ".join(f"--io {kind}" for kind in (*(bytes_too or (own,)), "float")),
        )
    return asked
