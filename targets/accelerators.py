"""Which tool serves which accelerator; a tool is loaded when it is asked for."""

from qcompile.core.accelerator import Tool
from qcompile.core.accelerator_tool import AcceleratorTool
from qcompile.core.errors import Code, QCompileError


def accelerator_tool(tool: Tool) -> AcceleratorTool:
    """The tool that a target file names in its table ``[accelerator]``.

    Raises:
        QCompileError: BAD_TARGET_FILE for a tool that is not known.
    """
    match tool:
        case "vela":
            from qcompile.targets.ethos_u.vela import Vela

            return Vela()
        case "tflm":
            from qcompile.targets.tflm.tool import Tflm

            return Tflm()
        case "qnn":
            from qcompile.targets.qnn.tool import Qnn

            return Qnn()
        case _:
            raise QCompileError(Code.BAD_TARGET_FILE, f"accelerator tool {tool!r} is not known")
