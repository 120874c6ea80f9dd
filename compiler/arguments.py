"""The arguments of a build, named and explained once: for ``build``, ``build_for`` and the CLI."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from qcompile.compiler.data.options import DataSpec
from qcompile.compiler.progress import Progress
from qcompile.compiler.verify.user_metric import MetricFunction


class BuildArguments(TypedDict, total=False):
    """What may be said about a build besides its model, its targets and where it goes.

    What is left out, or None, comes from ``qcompile.toml`` (see ``config``), else from the default
    in brackets.
    """

    data: DataSpec | None
    """Samples that give the ranges; see ``compiler.data.open.open_data``."""
    eval_data: DataSpec | None
    """Samples that accuracy is judged on [a fifth of ``data`` is held out]."""
    scheme: str | None
    """``auto`` (``w8a8``, layers as in ``w8a8-dynamic`` where that keeps more), ``w8a8``,
    ``w8a16``, ``w4a8``, ``w2a8``, ``w8a8-dynamic`` (also w4a8- and w2a8-), ``w8``, ``w4``, ``w3``
    or ``w2`` (integers for weights alone), ``fp16`` or ``float``, and behind each ``+kv8``,
    ``+kv4`` or ``+kv2`` for a decoder's caches, as far as the target has kernels [auto]."""
    simulate: bool
    """Build a scheme that the target has no kernels for as an ONNX file that computes in floats;
    it is unfit to ship."""
    effort: str | None
    """How hard to try: ``fast``, ``balanced`` or ``max`` [balanced]."""
    time_budget: float | str | None
    """Seconds that import, calibration and all searches may take together, or a text like ``5m``
    [as long as it gains]."""
    sensitivity: bool
    """List what each layer's quantization costs, and what it would cost to leave it float."""
    max_drop: float | None
    """Most points of the metric that may be lost."""
    max_latency: str | None
    """Longest median time: ``15ms``, or ``0.8x`` of the float model's."""
    max_size: str | None
    """Largest artefact: ``2MB``, or ``30%`` of the float model."""
    max_off_target: int | None
    """Most nodes that may leave the target: the NPU, XNNPACK, or ONNX Runtime's integer kernels."""
    max_sram: float | str | None
    """Most working memory, ``512KiB``, by the estimate of the target's tool."""
    max_cycles: float | str | None
    """Most cycles of an inference, by the estimate of the target's tool."""
    emit: Sequence[str] | None
    """Further forms of the artefact to write beside it: ``c``, a constant array in C (TFLite);
    ``context``, what QNN compiles of it; ``genai``, what onnxruntime-genai needs to run its
    folder."""
    tokenizer: str | Path | None
    """A tokenizer.json, or its folder: for data that are text, and for ``emit="genai"`` [for that,
    the model's folder]."""
    never_slower: bool
    """Leave float what takes longer as integers, by timing on this machine or the first of
    ``devices``; where neither is the target's kind, by the target's table of costs."""
    ranges: str | None
    """``minmax``, ``percentile``, ``entropy`` or ``mse`` [the best; fast: ``minmax``]."""
    granularity: str | None
    """``tensor``, ``channel``, or where only weights are integers ``group:N``: N elements share a
    scale [chosen layer by layer; groups of 32 below 8 bits]."""
    weights: str | None
    """What weights are stored as: ``int``, ``codebook`` (k-means) or ``pow2``; the last two only
    make the file smaller [int]."""
    symmetry: str | None
    """``symmetric`` or ``asymmetric``: where groups have their zero points [asymmetric]."""
    bits_per_weight: float | None
    """Where only weights are integers: what they may take on average, scales of groups included.
    Widths are mixed by what each weight does to the outputs, which takes samples [the scheme's]."""
    ends: str | None
    """``float``, or the target's activation type, for inputs and outputs [the target's]."""
    io_layout: str | None
    """``nhwc`` or ``nchw``, for TFLite: how pictures are given and taken [nhwc]."""
    shapes: Mapping[str, Sequence[int]] | None
    """Input name -> shape, to fix dimensions that are not known."""
    state: Mapping[str, str] | None
    """Output -> input that takes it at the next sample of a sequence (``compiler.data.state``)."""
    trust_model: bool
    """Read a file that can run code of its own when it is loaded (PyTorch's pickles, Keras'
    Lambda layers)."""
    signature: str | None
    """Which signature of a model that has several."""
    requantize: bool
    """Drop the scales of a model that is quantized already, and build from the float numbers that
    its integers stand for."""
    separate_plans: bool
    """For several targets: a plan for each, instead of one for what they have in common."""
    plan: str | Path | None
    """A saved plan to build from; then no data are needed, and what it was made for (target,
    scheme, ends) is the default."""
    encodings: str | Path | None
    """Scales and zero points that another tool wrote: AIMET's encodings, or ONNX Runtime's
    TensorQuantOverrides as JSON; what it does not give is calibrated."""
    random_data: bool
    """Build on noise if there are no data; the result is unfit to ship."""
    labels: str | Path | None
    """Label file of the samples that accuracy is judged on."""
    class_names: str | Path | None
    """Text file, a class a line in the order of the output, that goes into the artefact."""
    metric: str | MetricFunction | None
    """A metric of your own, a function or ``module:function``; higher is better. See
    ``compiler.verify.user_metric`` for how it is called."""
    config: str | Path | None
    """Configuration file [qcompile.toml, or [tool.qcompile] of pyproject.toml]."""
    seed: int | None
    """Of the held-out share and of the order of samples [0]."""
    threads: int | None
    """Samples in work at a time [the processors here]; no result depends on it."""
    dump_dir: str | Path | None
    """Folder for the graph after each pass."""
    time_passes: bool
    """List the time of each pass in the report."""
    latency: bool
    """Time the artefact beside the float model, if this machine is the target [True]."""
    devices: str | Sequence[str] | None
    """Where the artefact is tried: ``local``, ``qemu:CPU``, ``ssh:user@host``, ``adb:SERIAL`` [in
    this process]."""
    device_timeout: float | str | None
    """Seconds without an answer after which a device is lost [600]."""
    runner: str | Path | None
    """A native program that runs models on a device without Python."""
    device_samples: int | None
    """Most samples that a device runs [all; 8 where it is emulated]."""
    progress: Progress | None
    """Is told of each stage."""


def check_names(given: Mapping[str, Any]) -> None:
    """Refuse what is no argument, as Python does for arguments that stand in a signature.

    Raises:
        TypeError: naming the first unknown one.
    """
    for name in given:
        if name not in BuildArguments.__annotations__:
            raise TypeError(f"build got an unexpected keyword argument {name!r}")
