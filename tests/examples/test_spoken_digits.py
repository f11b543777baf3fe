"""The recurrent network that the script trains: its gradient, and its int8 form beside float."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest


def test_gradient_is_that_of_the_loss() -> None:
    from spoken_digits import BANDS, initial, loss_and_gradient

    rng = np.random.default_rng(3)
    parameters = {name: array.astype(np.float64) for name, array in initial(rng).items()}
    x, labels = rng.standard_normal((4, 6, BANDS)), np.array([1, 5, 0, 9])
    _, gradient = loss_and_gradient(parameters, x, labels)
    for name, array in parameters.items():
        at = tuple(int(rng.integers(extent)) for extent in array.shape)
        losses = []
        for step in (1e-6, -1e-6):
            moved = array.copy()
            moved[at] += step
            losses.append(loss_and_gradient({**parameters, name: moved}, x, labels)[0])
        assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(gradient[name][at], rel=1e-4, abs=1e-8), name


def test_bands_cover_the_spectrum() -> None:
    from spoken_digits import BANDS, STEPS, energies, mel_bands

    assert (mel_bands().sum(axis=0) > 0).all()
    assert energies(np.full(100_000, 1000, np.int16)).shape == energies(np.zeros(0, np.int16)).shape == (STEPS, BANDS)


@pytest.mark.slow
def test_int8_tells_as_many_right_as_float_but_two() -> None:
    from spoken_digits import compare, export, spoken_digits, train

    folder = os.environ.get("SQC_TEST_DATA")
    if folder is None or not (Path(folder) / "fsdd_spoken_digits").is_dir():
        pytest.skip("SQC_TEST_DATA names no folder with fsdd_spoken_digits")
    training, test = spoken_digits(Path(folder) / "fsdd_spoken_digits")
    in_float, in_int8 = compare(export(train(training)), training, test)
    assert in_float >= 165
    assert in_int8 >= in_float - 2
