"""The one error type of qcompile, its codes, and the exit code each ends in."""

from enum import Enum, IntEnum


class Exit(IntEnum):
    """Exit codes of the command line, part of its contract."""

    OK = 0
    GATE = 1
    USAGE = 2
    MODEL = 3
    RUNTIME = 4
    INTERNAL = 5


class Code(Enum):
    """Stable identifiers of everything that can go wrong: ``(slug, exit code)``."""

    # usage, configuration, data or output
    BAD_OPTION = ("bad-option", Exit.USAGE)
    BAD_CONFIG = ("bad-config", Exit.USAGE)
    UNKNOWN_TARGET = ("unknown-target", Exit.USAGE)
    BAD_TARGET_FILE = ("bad-target-file", Exit.USAGE)
    MODEL_NOT_FOUND = ("model-not-found", Exit.USAGE)
    MODEL_UNREADABLE = ("model-unreadable", Exit.USAGE)
    NO_DATA = ("no-data", Exit.USAGE)
    DATA_NOT_FOUND = ("data-not-found", Exit.USAGE)
    DATA_EMPTY = ("data-empty", Exit.USAGE)
    DATA_UNREADABLE = ("data-unreadable", Exit.USAGE)
    DATA_SHAPE = ("data-shape", Exit.USAGE)
    DATA_TYPE = ("data-type", Exit.USAGE)
    DATA_NAMES = ("data-names", Exit.USAGE)
    DATA_VALUES = ("data-values", Exit.USAGE)
    BAD_LABELS = ("bad-labels", Exit.USAGE)
    BAD_METRIC = ("bad-metric", Exit.USAGE)
    BAD_PLAN = ("bad-plan", Exit.USAGE)
    PLAN_MISMATCH = ("plan-mismatch", Exit.USAGE)
    BAD_ENCODINGS = ("bad-encodings", Exit.USAGE)
    OUTPUT_NOT_A_FILE = ("output-not-a-file", Exit.USAGE)
    OUTPUT_IS_INPUT = ("output-is-input", Exit.USAGE)
    OUTPUT_UNWRITABLE = ("output-unwritable", Exit.USAGE)
    MISSING_EXTRA = ("missing-extra", Exit.USAGE)
    UNKNOWN_DEVICE = ("unknown-device", Exit.USAGE)
    DEVICE_NOT_PREPARED = ("device-not-prepared", Exit.USAGE)
    # the model is not supported
    NOT_A_MODEL = ("not-a-model", Exit.MODEL)
    MODEL_TRUNCATED = ("model-truncated", Exit.MODEL)
    MODEL_INVALID = ("model-invalid", Exit.MODEL)
    MODEL_CYCLIC = ("model-cyclic", Exit.MODEL)
    EXTERNAL_DATA = ("external-data", Exit.MODEL)
    OPSET_UNSUPPORTED = ("opset-unsupported", Exit.MODEL)
    UNKNOWN_OP = ("unknown-op", Exit.MODEL)
    SHAPE_NOT_STATIC = ("shape-not-static", Exit.MODEL)
    SHAPE_CONFLICT = ("shape-conflict", Exit.MODEL)
    NOTHING_TO_QUANTIZE = ("nothing-to-quantize", Exit.MODEL)
    SCHEME_UNSUPPORTED = ("scheme-unsupported", Exit.MODEL)
    UNTRUSTED_MODEL = ("untrusted-model", Exit.MODEL)
    IMPORT_FAILED = ("import-failed", Exit.MODEL)
    # runtime or device
    RUNTIME_REFUSED = ("runtime-refused", Exit.RUNTIME)
    RUNTIME_FAILED = ("runtime-failed", Exit.RUNTIME)
    RUNTIME_TOO_OLD = ("runtime-too-old", Exit.RUNTIME)
    DEVICE_UNFIT = ("device-unfit", Exit.RUNTIME)
    DEVICE_LOST = ("device-lost", Exit.RUNTIME)
    MISSING_RUNTIME = ("missing-runtime", Exit.RUNTIME)
    ACCELERATOR_REFUSED = ("accelerator-refused", Exit.RUNTIME)
    # our own fault
    INTERNAL = ("internal", Exit.INTERNAL)

    @property
    def slug(self) -> str:
        """The identifier as it is printed and as it stands in reports."""
        return self.value[0]

    @property
    def exit(self) -> Exit:
        """The exit code of the command line that ends in this error."""
        return self.value[1]


class QCompileError(Exception):
    """An input that cannot be compiled, and what to do about it.

    Args:
        code: which kind of error; decides the exit code.
        message: what is wrong, in one sentence that names the file, value or option.
        node: the node of the user's model it concerns, if any.
        hint: what the user can do about it, if we know.
    """

    def __init__(
        self, code: Code, message: str, *, node: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.node = node
        self.hint = hint

    def __str__(self) -> str:
        where = f" (node {self.node})" if self.node else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"[{self.code.slug}] {self.message}{where}{hint}"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive pickling by themselves; workers send errors back.
        return _rebuild, (self.code, self.message, self.node, self.hint)


def _rebuild(code: Code, message: str, node: str | None, hint: str | None) -> QCompileError:
    return QCompileError(code, message, node=node, hint=hint)
