"""Gates on what leaves a target, and on what its tool estimates, as a user sets them."""

from dataclasses import dataclass
from typing import Final

from qcompile.compiler.budgets import BYTES, read_amount
from qcompile.core.errors import Code, QCompileError

CYCLES: Final = {"": 1.0, "k": 1e3, "m": 1e6}


@dataclass(frozen=True, kw_only=True)
class OffLimits:
    """Gates on what leaves the target, and on what its tool estimates; None is no gate."""

    max_off_target: int | None = None
    """Most nodes that may leave it."""
    max_sram: float | None = None
    """Most bytes of working memory."""
    max_cycles: float | None = None
    """Most cycles of one inference."""

    @property
    def any(self) -> bool:
        """Whether anything was asked."""
        return (self.max_off_target, self.max_sram, self.max_cycles) != (None, None, None)


def off_limits(
    off_target: int | None, sram: float | str | None, cycles: float | str | None
) -> OffLimits:
    """The limits as a user writes them: ``0``, ``512KiB``, ``2M``.

    Raises:
        QCompileError: BAD_OPTION for what cannot be read.
    """
    if off_target is not None and off_target < 0:
        raise QCompileError(Code.BAD_OPTION, f"--max-off-target must be 0 or more: {off_target}")
    amounts = (
        ("--max-sram", sram, BYTES, "512KiB or 2MB"),
        ("--max-cycles", cycles, CYCLES, "200000 or 2M"),
    )
    most = [None if given is None else read_amount(o, given, u, f) for o, given, u, f in amounts]
    return OffLimits(max_off_target=off_target, max_sram=most[0], max_cycles=most[1])
