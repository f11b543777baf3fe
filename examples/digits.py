"""The main job: compile the digits network to int8 and classify real handwritten digits with it.

    python examples/digits.py [digits.so]

Calibrates on digits of the training split, then runs the 500 test digits through the float and the int8 library and
prints accuracy, latency, and where the int8 library was written.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from train_digits import Split, digits

import sqc

MODEL = Path(__file__).parent / "digits.onnx"
CALIBRATION_DIGITS = 200


def evaluate(model: sqc.Model, test: Split) -> tuple[float, float]:
    """Top-1 accuracy, and the median seconds for one image."""
    images = [image[np.newaxis] for image in test.images]
    model(images[0])
    right = 0
    seconds: list[float] = []
    for image, label in zip(images, test.labels, strict=True):
        start = time.perf_counter()
        logits = model(image)
        seconds.append(time.perf_counter() - start)
        right += int(logits.argmax() == label)
    return right / len(images), float(np.median(seconds))


def main() -> None:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "digits.so")
    training, test = digits()

    start = time.perf_counter()
    graph = sqc.import_onnx(MODEL)
    calibration = sqc.calibrate(graph, [training.images[:CALIBRATION_DIGITS]])
    compiled = sqc.compile(graph, calibration)
    compiled.save(path)
    seconds = time.perf_counter() - start

    float_accuracy, float_latency = evaluate(sqc.compile(graph).load(threads=1), test)
    int8_accuracy, int8_latency = evaluate(sqc.load(path, threads=1), test)
    print(f"{len(test.labels)} test digits      top-1   median latency")
    print(f"float32             {float_accuracy:6.1%}   {float_latency * 1e6:8.1f} us")
    print(f"int8                {int8_accuracy:6.1%}   {int8_latency * 1e6:8.1f} us")
    print(f"{compiled.report.int8_share:.1%} of the multiply-accumulates run in int8")
    print(f"compiled in {seconds:.1f} s to {path.resolve()} ({path.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
