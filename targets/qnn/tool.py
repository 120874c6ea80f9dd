"""What QNN takes of an artefact, and the context that it compiles of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import onnx

from qcompile.core.accelerator import Offload, OffNode
from qcompile.core.accelerator_tool import Accelerated
from qcompile.core.errors import Code, QCompileError
from qcompile.core.notes import Note
from qcompile.core.pieces import count_pieces
from qcompile.core.scratch import scratch_folder
from qcompile.core.target import Target
from qcompile.targets.qnn.session import QnnSession, is_installed

TO: Final = "HTP"
_QUANTIZERS: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})
_UNSAID: Final = "QNN left it to the processor and did not say why"


@dataclass(frozen=True)
class Qnn:
    """See ``core.accelerator.AcceleratorTool``; the QDQ file ships as it is.

    The device compiles it as it loads; ``context`` does that beforehand.
    """

    def accelerate(self, artefact: bytes, target: Target) -> Accelerated:
        """Have QNN say which nodes it takes, with its reason for each that it leaves.

        Without the plugin a note says that nothing looked: the file is none the worse for it.

        Raises:
            QCompileError: ACCELERATOR_REFUSED with QNN's words when it does not finish the graph.
        """
        if not is_installed():
            note = (
                "what QNN takes was not looked at: pip install 'qcompile-edge[qnn]' has its plugin"
            )
            graph = onnx.load_from_string(artefact).graph
            nodes = sum(node.op_type not in _QUANTIZERS for node in graph.node)
            unseen = Offload(to=TO, nodes=nodes, on=nodes, partitions=1, islands=0)
            return Accelerated(artefact, unseen, (Note("warning", note),))
        session = QnnSession(artefact, _options(target), fallback=True, explain=True)
        try:
            return Accelerated(artefact, _offload(artefact, session))
        finally:
            session.close()

    def context(self, artefact: bytes, target: Target) -> bytes:
        """Compile an artefact: an ONNX file of one EPContext node that holds QNN's binary.

        For a certain chip say ``htp_arch`` or ``soc_model`` in the target's options. Its bytes are
        equal for equal artefacts and versions of QNN.

        Raises:
            QCompileError: MISSING_EXTRA; ACCELERATOR_REFUSED with QNN's words, also when it does
                not take the whole graph.
        """
        with scratch_folder() as folder:
            path = folder / "context.onnx"
            QnnSession(artefact, _options(target), context=path).close()
            if not path.is_file():
                raise QCompileError(Code.ACCELERATOR_REFUSED, "QNN wrote no context")
            return path.read_bytes()


def _options(target: Target) -> Mapping[str, str]:
    return {} if target.accelerator is None else target.accelerator.options


def _offload(artefact: bytes, session: QnnSession) -> Offload:
    """Nodes but for quantizers, which are the borders, unless one runs where nothing else does."""
    nodes = onnx.load_from_string(artefact).graph.node
    made = {node.name: node for node in nodes}
    working = [p for p in session.placed if p.op not in _QUANTIZERS]
    on, off = [p for p in working if p.on], [p for p in working if not p.on]
    reason = {p.name: session.reasons.get(p.name, _UNSAID) for p in off}
    value = {p.name: made[p.name].output[0] if p.name in made else p.name for p in off}
    return Offload(
        to=TO,
        nodes=len(working),
        on=len(on),
        partitions=len({p.group for p in session.placed if p.on}),
        islands=_islands(nodes, {p.name for p in off}),
        off=tuple(OffNode(value[p.name], p.op, reason[p.name]) for p in off),
        source=session.name,
    )


def _islands(nodes: Sequence[onnx.NodeProto], names: set[str]) -> int:
    """How many connected pieces some nodes form; quantizers between them do not part them."""
    behind = {node.output[0]: node.input[0] for node in nodes if node.op_type in _QUANTIZERS}

    def source(value: str) -> str:
        while value in behind:
            value = behind[value]
        return value

    chosen = [node for node in nodes if node.name in names]
    return count_pieces([([source(v) for v in node.input], list(node.output)) for node in chosen])
