"""What runs ONNX Runtime with QNN, in a process of its own: its libraries print and may crash."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort

from qcompile.targets.worker import serve

EP = "QNNExecutionProvider"
_QUIET, _ALL = 3, 0


class Qnn:
    """One session at a time."""

    def __init__(self) -> None:
        self._session: ort.InferenceSession | None = None

    def open(
        self,
        model: bytes,
        options: Mapping[str, str],
        fallback: bool,
        verbose: bool,
        context: str,
    ) -> list[tuple[int, str, str, str]]:
        """Load a model for the HTP.

        Args:
            model: an ONNX file.
            options: of the provider, in QNN's words.
            fallback: let the processor run what QNN does not take.
            verbose: print why a node is not taken.
            context: where to write the compiled context, an ONNX file; empty to write none.

        Returns:
            For each node the piece it is part of, who runs that, the node's own name and its op.
        """
        made = ort.SessionOptions()
        made.log_severity_level = _ALL if verbose else _QUIET
        entries = {
            "session.record_ep_graph_assignment_info": "1",
            "session.disable_cpu_ep_fallback": "0" if fallback else "1",
        }
        if context:
            entries |= {
                "ep.context_enable": "1",
                "ep.context_embed_mode": "1",
                "ep.context_file_path": context,
            }
        for key, value in entries.items():
            made.add_session_config_entry(key, value)
        made.add_provider_for_devices(*self._provider(options))
        self._session = ort.InferenceSession(model, made)
        groups = self._session.get_provider_graph_assignment_info()
        placed = []
        for index, group in enumerate(groups):
            placed += [
                (index, group.ep_name, node.name, node.op_type) for node in group.get_nodes()
            ]
        return placed

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run the model that is open."""
        assert self._session is not None
        return [np.asarray(x) for x in self._session.run(None, dict(feeds))]

    def _provider(self, options: Mapping[str, str]) -> tuple[list[Any], dict[str, str]]:
        import onnxruntime_qnn

        if not any(device.ep_name == EP for device in ort.get_ep_devices()):
            ort.register_execution_provider_library(EP, onnxruntime_qnn.get_library_path())
        devices = [device for device in ort.get_ep_devices() if device.ep_name == EP]
        return devices, {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), **options}


def main() -> None:
    """Serve until the host is gone."""
    qnn = Qnn()
    serve({"open": qnn.open, "run": qnn.run})
