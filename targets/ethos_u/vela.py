"""Compiles TFLite models for Arm Ethos-U by Vela, and reads what it says of them."""

from dataclasses import dataclass

from qcompile.core.accelerator import Accelerated
from qcompile.core.errors import Code, QCompileError
from qcompile.core.target import Target


@dataclass(frozen=True)
class Vela:
    """See ``core.accelerator.AcceleratorTool``."""

    def accelerate(self, artefact: bytes, target: Target) -> Accelerated:
        """Compile a TFLite file."""
        raise QCompileError(
            Code.MISSING_EXTRA,
            f"{target.name} needs Vela",
            hint="pip install 'qcompile-edge[ethos-u]'",
        )
