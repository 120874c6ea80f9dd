"""Runs an onnx_ir model as it is written: no optimizations, one thread."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from qcompile.targets.onnxruntime.executor import OrtExecutor, open_session, session_options


def run_plain(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a model, every node as written."""
    return OrtExecutor().load(model, optimize=False).run(feeds)


def run_bytes(
    artefact: bytes, feeds: Mapping[str, np.ndarray], *, optimize: bool = False
) -> list[np.ndarray]:
    """The outputs of a finished model; integer sums are exact."""
    return open_session(artefact, session_options(exact=True, optimize=optimize)).run(feeds)
