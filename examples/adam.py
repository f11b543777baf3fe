"""Training in numpy: Adam, with a learning rate that falls to zero over the steps."""

from __future__ import annotations

import numpy as np

Arrays = dict[str, np.ndarray]


class Adam:
    """Changes ``parameters`` in place, by ``steps`` steps in all (D. Kingma, J. Ba, 2014)."""

    def __init__(self, parameters: Arrays, learning_rate: float, steps: int) -> None:
        self._parameters = parameters
        self._learning_rate, self._steps = learning_rate, steps
        self._first = {name: np.zeros_like(array) for name, array in parameters.items()}
        self._second = {name: np.zeros_like(array) for name, array in parameters.items()}
        self._step = 0

    def step(self, gradient: Arrays) -> None:
        """Change the parameters by a gradient."""
        self._step += 1
        step, parameters, first, second = self._step, self._parameters, self._first, self._second
        rate = self._learning_rate * (1 - (step - 1) / self._steps) * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        for name, g in gradient.items():
            first[name] += np.float32(0.1) * (g - first[name])
            second[name] += np.float32(0.001) * (g * g - second[name])
            parameters[name] -= np.float32(rate) * first[name] / (np.sqrt(second[name]) + np.float32(1e-8))
