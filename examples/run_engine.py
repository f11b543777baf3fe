"""Run a quantized model in one engine and nothing else: the process whose memory ``memory.py`` measures.

    python examples/run_engine.py ENGINE FILE INPUT.npz [--runs 20] [--hold]

``none`` for ENGINE only reads the input, which is what the others are compared with.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

import numpy as np

ENGINES = ("sqc", "onnxruntime", "openvino")


def prepare(engine: str, file: str, feeds: dict[str, np.ndarray]) -> Callable[[], object]:
    """Load the model in ``file`` for one thread; gives what runs it on ``feeds``. Imports no other engine."""
    if engine == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, feeds)
    if engine == "openvino":
        os.environ["CI"] = "true"  # no telemetry
        import openvino

        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}
        request = openvino.Core().compile_model(file, "CPU", hints).create_infer_request()
        return lambda: request.infer(feeds, share_inputs=True, share_outputs=True)
    import sqc

    model = sqc.load(file, threads=1)
    return lambda: model.run(feeds)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a quantized model in one engine.")
    parser.add_argument("engine", choices=("none", *ENGINES))
    parser.add_argument("file")
    parser.add_argument("input", help="an .npz with one array an input")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument(
        "--hold", action="store_true", help="say 'ready' after the runs, then wait for the end of stdin"
    )
    arguments = parser.parse_args()
    with np.load(arguments.input) as stored:
        feeds = {name: stored[name] for name in stored.files}
    if arguments.engine != "none":
        run = prepare(arguments.engine, arguments.file, feeds)
        for _ in range(arguments.runs):
            run()
    if arguments.hold:
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
