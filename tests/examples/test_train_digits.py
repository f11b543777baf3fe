"""The digits network as committed, and the script that trained it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from tests.examples.conftest import EXAMPLES

pytest.importorskip("sklearn")

MODEL = EXAMPLES / "digits.onnx"


def test_the_committed_model_is_small_and_right() -> None:
    from train_digits import digits

    assert MODEL.stat().st_size < 200_000
    model = onnx.load(str(MODEL))
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    _, test = digits()
    (logits,) = ReferenceEvaluator(model).run(None, {"image": test.images})
    assert isinstance(logits, np.ndarray)
    assert (logits.argmax(axis=1) == test.labels).mean() >= 0.97


def test_splits_are_disjoint_and_always_the_same() -> None:
    from train_digits import digits

    training, test = digits()
    assert (len(training.labels), len(test.labels)) == (1297, 500)
    again, _ = digits()
    np.testing.assert_array_equal(training.images, again.images)
    seen = {image.tobytes() for image in training.images}
    assert not any(image.tobytes() in seen for image in test.images)


def test_gradient_is_that_of_the_loss() -> None:
    from train_digits import initial, loss_and_gradient

    rng = np.random.default_rng(3)
    parameters = {name: array.astype(np.float64) for name, array in initial(rng).items()}
    images, labels = rng.uniform(0, 16, (4, 1, 8, 8)), np.array([1, 5, 0, 9])
    _, gradient = loss_and_gradient(parameters, images, labels)
    for name, array in parameters.items():
        at = tuple(int(rng.integers(extent)) for extent in array.shape)
        step = 1e-7
        losses = []
        for sign in (1, -1):
            moved = array.copy()
            moved[at] += sign * step
            losses.append(loss_and_gradient({**parameters, name: moved}, images, labels)[0])
        assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(gradient[name][at], rel=1e-4, abs=1e-6), name
