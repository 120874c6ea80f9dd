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
    SIGNS,
    STATIC_SCHEMES,
    WEIGHT_FORMS,
    WEIGHT_ONLY,
    SchemeName,
    full_name,
)
from qcompile.core.target import Target

SCHEMES: Final[tuple[str, ...]] = get_args(SchemeName)
AUTO: Final = "auto"
"""``w8a8``, in which layers may find the scales of their activations as the model runs."""
EFFORTS: Final = ("fast", "balanced", "max")
GRANULARITIES: Final = ("tensor", "channel")
BY_TOKEN: Final = "token"
"""A granularity of activations that are quantized as the model runs."""
GROUP: Final = "group:"
"""What a granularity of groups begins with; the elements that share a scale follow."""
SYMMETRIES: Final = ("symmetric", "asymmetric")
ENDS: Final = ("float", "int8", "uint8", "int16")
_MOST_POWER_BITS: Final = 4
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


def check_granularity(asked: str | None, scheme: str, *, tokens: bool = False) -> str | None:
    """A granularity, if it is one that weights of the scheme can have.

    Args:
        asked: by the user.
        scheme: its name.
        tokens: whether the target is to give tokens scales of their own.

    Raises:
        QCompileError: BAD_OPTION.
    """
    if asked is None or asked in GRANULARITIES:
        return asked
    if asked == BY_TOKEN and not scheme.endswith("-dynamic"):
        raise QCompileError(
            Code.BAD_OPTION,
            f"--granularity {asked}: {scheme} finds no scales as the model runs",
            hint="it goes with w8a8-dynamic",
        )
    if asked == BY_TOKEN:
        return asked
    if not asked.startswith(GROUP):
        check_choice("--granularity", asked, (*GRANULARITIES, BY_TOKEN, f"{GROUP}N"))
    size = asked.removeprefix(GROUP)
    if not size.isdecimal() or int(size) < 1:
        raise QCompileError(
            Code.BAD_OPTION,
            f"--granularity {asked}: a group has a number of elements",
            hint="as in group:32",
        )
    if scheme not in WEIGHT_ONLY and not (tokens and scheme in LOW_BIT_TOKENS):
        raise QCompileError(
            Code.BAD_OPTION,
            f"--granularity {asked}: the kernels of {scheme} take a scale a tensor or channel",
            hint=f"groups go with {', '.join(WEIGHT_ONLY)}",
        )
    return f"{GROUP}{int(size)}"


def check_weights(form: str, scheme: str, granularity: str | None) -> str:
    """What weights are stored as, if the scheme can have them so.

    Raises:
        QCompileError: BAD_OPTION.
    """
    if check_choice("--weights", form, WEIGHT_FORMS) == "int":
        return form
    if scheme not in WEIGHT_ONLY:
        what, hint = f"{scheme} computes with its weights", f"it is for {', '.join(WEIGHT_ONLY)}"
    elif scheme in SIGNS:
        what, hint = "signs need no table", "w2 --weights codebook"
    elif granularity is not None and granularity not in GRANULARITIES:
        what, hint = (
            f"tables are for a tensor or a channel, not {granularity}",
            "--granularity tensor",
        )
    elif form == "pow2" and WEIGHT_ONLY[scheme] > _MOST_POWER_BITS:
        what = "more exponents than four bits have keep nothing more"
        hint = "w4 --weights pow2, or w8 --weights codebook"
    else:
        return form
    raise QCompileError(Code.BAD_OPTION, f"--weights {form}: {what}", hint=hint)


def check_form(form: str, target: Target) -> None:
    """Hold a form of stored weights to what the target's runtime can read.

    Raises:
        QCompileError: SCHEME_UNSUPPORTED.
    """
    if form not in target.weight_forms:
        raise QCompileError(
            Code.SCHEME_UNSUPPORTED,
            f"--weights {form}: {target.name} has no operator that reads weights through a table, "
            "and does not look them up when it loads a model",
            hint=f"it takes {', '.join(target.weight_forms)}",
        )


def read_bits(asked: float | None, scheme: str, form: str) -> float | None:
    """What weights may take on average; None where nothing was asked.

    Raises:
        QCompileError: BAD_OPTION.
    """
    if asked is None:
        return None
    if scheme not in WEIGHT_ONLY or form != "int":
        what = f"{scheme} has no widths to mix" if form == "int" else f"{form} has none to mix"
        raise QCompileError(
            Code.BAD_OPTION,
            f"--bits-per-weight {asked:g}: {what}",
            hint="it is for --scheme w4, or another that stores weights in integers alone",
        )
    if not 0 < asked <= 32:
        raise QCompileError(Code.BAD_OPTION, f"--bits-per-weight {asked:g} is no number of bits")
    return asked


def read_symmetry(asked: str | None, scheme: str, *, tokens: bool = False) -> bool | None:
    """Whether groups are to have their zero point in the middle; None where nothing was asked.

    The arguments are those of ``check_granularity``.

    Raises:
        QCompileError: BAD_OPTION.
    """
    if asked is None:
        return None
    check_choice("--symmetry", asked, SYMMETRIES)
    if scheme not in WEIGHT_ONLY and not (tokens and scheme in LOW_BIT_TOKENS):
        raise QCompileError(
            Code.BAD_OPTION,
            f"--symmetry {asked}: the kernels of {scheme} say where its zero points lie",
            hint=f"it is for {', '.join(WEIGHT_ONLY)}",
        )
    return asked == SYMMETRIES[0]


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
