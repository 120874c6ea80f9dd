"""Runners that behave as the real ones, for tests, on the real runtimes: ``peer.py KIND OPTIONS``.

They take the options of the real ones and no others, load the model with the runtime of this
Python, run it, and print in the format of a version. Every start is noted in a file. KIND is one of
``benchmark_model``, ``old_benchmark_model`` (2018: few options, no help), ``perf_test``.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.targets.devices.runners import recorded


def options(argv: list[str], known: str) -> dict[str, str]:
    """``--key=value`` alone, with keys that the help names, as the real parser has it."""
    found = {}
    for word in argv:
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not equals or f"--{key}=" not in known:
            sys.exit(f"ERROR: Unconsumed cmdline flag: {word}")
        found[key] = value
    return found


def benchmark_model(argv: list[str], *, old: bool = False) -> None:
    known = "--graph= --num_threads= --num_runs= --warmup_runs=" if old else recorded.BENCHMARK_HELP
    if argv == ["--help"] and not old:
        print(recorded.BENCHMARK_HELP)
        return
    if argv == ["--help"]:
        sys.exit("Please specify the name of your TF Lite input file with --graph")
    given = options(argv, known)
    from qcompile.targets.tflite.runtime import open_interpreter

    kernels = "xnnpack" if given.get("use_xnnpack") == "true" else "builtin"
    try:
        model = open_interpreter(
            Path(given["graph"]),
            kernels,
            threads=int(given["num_threads"]),  # type: ignore[arg-type]
        )
    except Exception:
        print("ERROR: Failed to load model " + given["graph"], file=sys.stderr)
        sys.exit(1)
    fill(model, given)
    warm = times(int(given["warmup_runs"]), model.invoke)
    runs = times(int(given["num_runs"]), model.invoke)
    log("benchmark_model", given["graph"], len(warm), len(runs))
    mean = f"{np.mean(runs):g}"
    if old:
        print(f"count={len(warm)} curr={warm[-1]}\n")
        print(f"count={len(runs)} first={runs[0]} curr={runs[-1]} min=1 max=2 avg={mean} std=3\n")
        print(f"Average inference timings in us: Warmup: 1, Init: 2, no stats: {mean}")
        return
    if "output_filepath" in given:
        parts = [model.get_tensor(d["index"]).tobytes() for d in model.get_output_details()]
        Path(given["output_filepath"]).write_bytes(b"".join(parts))
    print(
        f"INFO: count={len(runs)} first={runs[0]} curr={runs[-1]} min=1 max=2 avg={mean} std=3 "
        f"p5=1 median={int(np.median(runs))} p95=2\n\n"
        f"INFO: Inference timings in us: Init: 100, First inference: {warm[0]}, "
        f"Warmup (avg): {np.mean(warm):g}, Inference (avg): {mean}",
        file=sys.stderr,
    )


def fill(model: object, given: dict[str, str]) -> None:
    """Inputs of the files, held against the model's sizes, or random ones."""
    details = model.get_input_details()  # type: ignore[attr-defined]
    shapes = given.get("input_layer_shape", "").split(":")
    files = [
        pair.split(":")[1] for pair in given.get("input_layer_value_files", "").split(",") if pair
    ]
    for number, detail in enumerate(details):
        shape, kind = tuple(detail["shape"]), detail["dtype"]
        if files:
            if shapes[number] != ",".join(map(str, shape)):
                sys.exit(f"ERROR: Input tensor #{number} should have another shape")
            data = Path(files[number]).read_bytes()
            if len(data) != np.zeros(shape, kind).nbytes:
                sys.exit(f"FATAL: The size of {files[number]} is {len(data)} bytes.")
            array = np.frombuffer(data, kind).reshape(shape)
        else:
            array = np.random.default_rng(0).integers(0, 99, shape).astype(kind)
        model.set_tensor(detail["index"], array)  # type: ignore[attr-defined]


def perf_test(argv: list[str]) -> None:
    if argv == ["--help"]:
        sys.exit(recorded.PERF_HELP)
    import onnx
    import onnxruntime
    from onnx import numpy_helper

    *flags, model, result = argv
    if flags.pop(flags.index("-s")) != "-s":
        raise AssertionError
    given = dict(zip(flags[::2], flags[1::2], strict=True))
    if (
        set(given) - {"-e", "-m", "-r", "-x", "-o"}
        or given["-e"] != "cpu"
        or given["-m"] != "times"
    ):
        sys.exit("See 'onnxruntime_perf_test --help'.")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = int(given["-x"])
    try:
        session = onnxruntime.InferenceSession(model, settings, ["CPUExecutionProvider"])
    except Exception as error:
        sys.exit(str(error).partition("] : ")[2])
    data = sorted((Path(model).parent / "test_data_set_0").glob("input_*.pb"))
    tensors = [onnx.TensorProto.FromString(path.read_bytes()) for path in data]
    feeds = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}
    if not feeds:
        sys.exit("Run failed:there is no test data for model m")
    session.run(None, feeds)
    runs = times(int(given["-r"]), lambda: session.run(None, feeds))
    log("perf_test", model, 0, len(runs))
    with Path(result).open("a") as file:
        for number, micros in enumerate(runs):
            file.write(f"m,{micros / 1e6:g},158171136,90,{number}\n")
    print(f"Session creation time cost: 0.01 s\nFirst inference time cost: {runs[0] // 1000} ms")
    print(f"Total inference requests: {len(runs)}")
    print(f"Average inference time cost: {np.mean(runs) / 1e3:g} ms")


def times(count: int, run: Callable[[], object]) -> list[int]:
    """Microseconds of runs."""
    found = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        found.append(max(1, round((time.perf_counter() - start) * 1e6)))
    return found


def log(name: str, model: str, warm_up: int, runs: int) -> None:
    affinity = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    folder = Path(model).parent.name
    with Path(os.environ["PEER_STARTS"]).open("a") as file:
        file.write(f"{name} {folder} {warm_up} {runs} {affinity}\n")


if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    if kind == "perf_test":
        perf_test(rest)
    else:
        benchmark_model(rest, old=kind == "old_benchmark_model")
