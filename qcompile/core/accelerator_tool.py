"""The protocol of what compiles an artefact for an accelerator."""

from dataclasses import dataclass
from typing import Protocol

from qcompile.core.accelerator import Offload
from qcompile.core.notes import Note
from qcompile.core.target import Target


@dataclass(frozen=True)
class Accelerated:
    """What an accelerator's tool made of an artefact."""

    data: bytes
    """The file that ships; the same bytes where the tool changes nothing."""
    offload: Offload
    notes: tuple[Note, ...] = ()


class AcceleratorTool(Protocol):
    """Compiles an artefact for an accelerator; ``targets.accelerators`` says which tool is which.

    Equal artefacts give equal bytes, and nothing but the result is left behind.
    """

    def accelerate(self, artefact: bytes, target: Target) -> Accelerated:
        """Compile a finished artefact.

        Raises:
            QCompileError: MISSING_EXTRA that names the extra; ACCELERATOR_REFUSED with the last
                words of the tool.
        """
