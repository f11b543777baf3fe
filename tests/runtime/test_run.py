"""Running models: results, checks of arrays, several inputs, outputs and batch sizes."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sqc.codegen.plan import Argument, Program, Step, Tensor
from sqc.errors import CompileError, ExecutionError, InputError, SqcError
from sqc.runtime import Model
from tests.runtime.models import BATCH, CONSTANT, INPUT, OUTPUT, add_two, doubling, in_rounds, one_step, plan, program

Make = Callable[..., Model]


def test_steps_share_the_arena(make: Make, image: np.ndarray) -> None:
    model = make(add_two())
    np.testing.assert_array_equal(model(image), image + 2)
    np.testing.assert_array_equal(model.run({"x": image})["y"], image + 2)
    np.testing.assert_array_equal(model({"x": image}), image + 2)
    assert str(model.inputs[0]) == "x: uint8[64, 256]"
    assert model.description["target"] == "test"


def test_constants_are_aligned_and_read_in_place(make: Make) -> None:
    factor = np.zeros(32, np.float32)
    factor[16] = 3
    at_64 = Argument("constants", 64)
    model = make(plan(program(Step("scale", (INPUT, at_64, OUTPUT), "scale")), constants=factor.tobytes()))
    np.testing.assert_array_equal(model(np.float32([1, 2, 3, 4])), [3, 6, 9, 12])


def test_several_inputs_and_outputs(make: Make) -> None:
    tensors = [Tensor(name, "float32", (4,)) for name in ("a", "b", "p", "q")]
    steps = (
        Step("scale", (Argument("input", 0), Argument("input", 1), OUTPUT), "p"),
        Step("scale", (Argument("input", 1), CONSTANT, Argument("output", 1)), "q"),
    )
    two = Program(tuple(tensors[:2]), tuple(tensors[2:]), steps, 0)
    model = make(plan(two, constants=np.float32([10]).tobytes()))
    a, b = np.float32([1, 2, 3, 4]), np.float32([5, 6, 7, 8])
    p, q = model(a, b)
    np.testing.assert_array_equal(p, a * 5)
    np.testing.assert_array_equal(q, b * 10)
    assert list(model.run({"b": b, "a": a})) == ["p", "q"]
    with pytest.raises(InputError, match=r"unknown: 'c'; missing: 'b'. The model takes 'a', 'b'"):
        model.run({"a": a, "c": b})
    with pytest.raises(InputError, match=r"takes 2 input\(s\) \(a: float32\[4\], b: float32\[4\]\), not 1"):
        model(a)


def test_variants_go_by_shape(make: Make) -> None:
    def batch(size: int) -> Program:
        return program(Step("scale", (INPUT, CONSTANT, OUTPUT), "scale"), shape=(size, 4))

    model = make(plan(batch(1), batch(8), constants=np.float32([2]).tobytes()))
    assert model(np.ones((1, 4), np.float32)).shape == (1, 4)
    assert model(np.ones((8, 4), np.float32)).shape == (8, 4)
    assert [variant.inputs[0].shape for variant in model.variants] == [(1, 4), (8, 4)]
    with pytest.raises(InputError, match=r"input 'x' has shape \(2, 4\), the model takes \(1, 4\) or \(8, 4\)"):
        model(np.ones((2, 4), np.float32))


def test_samples_are_cut_into_the_batches_compiled(make: Make) -> None:
    model = make(doubling(64, 4, 16))
    x = np.arange(200 * 2, dtype=np.float32).reshape(200, 2)
    for count in range(1, 200):
        np.testing.assert_array_equal(model(x[:count]), x[:count] * 2)
        guarded = np.full((count + 1, 2), -1, np.float32)
        model(x[:count], out=guarded[:-1])
        np.testing.assert_array_equal(guarded[-1:], -1)
    assert model.variants[0].samples == 64
    with pytest.raises(InputError, match=r"input 'x' has shape \(0, 2\), the model takes"):
        model(x[:0])
    with pytest.raises(InputError, match="not compiled for batches of 3, so they have no profile"):
        model.profile(x[:3])


def test_wrong_arrays_are_refused(make: Make, image: np.ndarray) -> None:
    model = make(add_two())
    with pytest.raises(InputError, match=r"input 'x' has type float64, the model takes uint8.*astype\(np.uint8\)"):
        model(image.astype(np.float64))
    with pytest.raises(InputError, match=r"input 'x' has shape \(64, 255\), the model takes \(64, 256\)"):
        model(image[:, 1:])
    with pytest.raises(InputError, match="is a list, not a numpy array"):
        model([1, 2])
    with pytest.raises(InputError, match="not 0"):
        model()
    with pytest.raises(InputError, match="type >u2"):
        model(image.astype(">u2"))


def test_arrays_that_are_not_contiguous_are_copied(make: Make, image: np.ndarray) -> None:
    model = make(add_two())
    np.testing.assert_array_equal(model(image[::-1, ::-1]), image[::-1, ::-1] + 2)
    np.testing.assert_array_equal(model(np.asfortranarray(image)), image + 2)
    image.flags.writeable = False
    np.testing.assert_array_equal(model(image), image + 2)


def test_out(make: Make, image: np.ndarray) -> None:
    model = make(add_two())
    out = np.empty(BATCH, np.uint8)
    assert model(image, out=out) is out
    np.testing.assert_array_equal(out, image + 2)
    for wrong in (np.empty(BATCH, np.int8), np.empty((64, 255), np.uint8), out[:, ::-1]):
        with pytest.raises(InputError, match="must be a writable, contiguous"):
            model(image, out=wrong)
    with pytest.raises(InputError, match="shares memory"):
        model(image, out=image)


def test_a_kernel_that_fails_is_an_error(make: Make) -> None:
    with pytest.raises(ExecutionError, match=r"step 0 \(refuse\) failed: ValueError: Mismatched shape"):
        make(one_step("refuse"))(np.zeros(4, np.float32))


def test_kernels_get_workspaces(make: Make) -> None:
    x = np.float32([1, 2, 3, 4])
    np.testing.assert_array_equal(make(one_step("workspace"))(x), x)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets the rounding mode through glibc's numbers")
def test_rounding_mode_of_the_caller_changes_nothing(make: Make) -> None:
    libm = ctypes.CDLL("libm.so.6")
    model = make(one_step("nearest"))
    x = np.float32([0.5, 1.5, 2.5, -0.9])
    upward = 0x800
    assert libm.fesetround(upward) == 0
    try:
        y = model(x)
        assert libm.fegetround() == upward
    finally:
        libm.fesetround(0)
    np.testing.assert_array_equal(y, [0, 2, 2, -1])


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 7])
def test_stages_run_in_rounds(make: Make, threads: int) -> None:
    """Two and four threads share out the rounds, others would not have as many of them each."""
    model = make(in_rounds())
    model.threads = threads
    x = np.arange(32, dtype=np.float32).reshape(16, 2)
    for _ in range(50):
        np.testing.assert_array_equal(model(x), 8 * x)
    steps = model.profile(x, repeat=3)
    assert [step.name for step in steps] == ["first", "second", "third"]
    assert all(step.seconds >= 0 for step in steps) and sum(step.seconds for step in steps) > 0
    np.testing.assert_array_equal(model(x), 8 * x)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_step_that_fails_in_a_round_is_named(make: Make, threads: int) -> None:
    good = in_rounds().programs[0]
    steps = (good.steps[0], replace(good.steps[1], symbol="refuse"), good.steps[2])
    model = make(plan(replace(good, steps=steps)))
    model.threads = threads
    for _ in range(2):
        with pytest.raises(ExecutionError, match=r"step 1 \(second\) failed.*shape"):
            model(np.ones((16, 2), np.float32))


def test_an_error_behind_rounds_leaves_later_runs_right(make: Make) -> None:
    once = program(Step("double_8", (replace(INPUT, stride=32), replace(OUTPUT, stride=32)), "double"), shape=(8, 2))
    failing = Step("refuse", (INPUT, OUTPUT), "refuse")
    both = replace(once, steps=(*once.steps, failing), stages=((1, 2), (1, 1)))
    model = make(plan(both))
    x = np.ones((8, 2), np.float32)
    for _ in range(2):
        out = np.zeros((8, 2), np.float32)
        with pytest.raises(ExecutionError, match=r"step 1 \(refuse\) failed"):
            model(x, out=out)
        np.testing.assert_array_equal(out, 2 * x)


@pytest.mark.parametrize(
    "stages, message",
    [
        (((2, 4),), "stages .* are not those of 3 steps"),
        (((2, 0), (1, 1)), "stages .* are not those of 3 steps"),
        (((2, 600), (1, 1)), "step second: arena has no offset"),
    ],
)
def test_stages_fit_the_steps(stages: tuple[tuple[int, int], ...], message: str) -> None:
    good = in_rounds()
    with pytest.raises(CompileError, match=message):
        replace(good, programs=(replace(good.programs[0], stages=stages),))


def test_profile_names_every_step(make: Make, image: np.ndarray) -> None:
    times = make(add_two()).profile(image, repeat=3)
    assert [time.name for time in times] == ["first", "second"]
    assert all(0 <= time.seconds < 1 for time in times)


def test_a_closed_model_says_so(make: Make, image: np.ndarray) -> None:
    with make(add_two()) as model:
        model(image)
    with pytest.raises(SqcError, match="closed"):
        model(image)
    assert repr(model) == "<sqc.Model, closed>"
