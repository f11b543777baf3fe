"""Other engines on the digits model: their float output is right, their int8 output near."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from sqc.bench import peers
from sqc.bench.compare import Rival
from sqc.bench.static_model import static_model
from sqc.errors import InputError

DIGITS = Path(__file__).parents[2] / "examples" / "digits.onnx"
NEEDS = {"onnxruntime": ("onnxruntime",), "openvino": ("openvino", "nncf")}


def test_unknown_engine() -> None:
    with pytest.raises(InputError, match=r"unknown engine 'turtle'.* onnxruntime, openvino"):
        peers.load_peer("turtle")


def test_missing_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError("no", name="nncf")

    monkeypatch.setattr(peers, "import_module", missing)
    with pytest.raises(InputError, match=r"nncf is not installed: pip install 'sqc\[bench\]'"):
        peers.load_peer("openvino")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", peers.PEERS)
@pytest.mark.parametrize("batch", [1, 2])
def test_outputs(name: str, batch: int) -> None:
    for package in NEEDS[name]:
        pytest.importorskip(package, exc_type=ImportError)
    rng = np.random.default_rng(0)
    samples = [{"image": rng.integers(0, 17, (batch, 1, 8, 8)).astype(np.float32)} for _ in range(4)]
    rival = Rival.prepare(peers.load_peer(name), static_model(DIGITS, batch), samples)
    reference = ReferenceEvaluator(str(DIGITS))
    runners = rival.runners(threads=1)
    assert list(runners) == [f"{name} float", f"{name} int8"]
    for key, runner in runners.items():
        runner.bind(samples)
        for index, sample in enumerate(samples):
            runner.step(index)
            (expected,) = reference.run(None, sample)
            assert isinstance(expected, np.ndarray)
            tolerance = 1e-4 if key.endswith("float") else 0.25 * np.abs(expected).max()
            np.testing.assert_allclose(runner.outputs()["logits"], expected, rtol=1e-4, atol=tolerance)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", peers.PEERS)
def test_methods(name: str, tmp_path: Path) -> None:
    """What they give differs, and is the same after it was written and read; an unknown one is refused."""
    for package in NEEDS[name]:
        pytest.importorskip(package, exc_type=ImportError)
    rng = np.random.default_rng(0)
    samples = [{"image": rng.integers(0, 17, (1, 1, 8, 8)).astype(np.float32)} for _ in range(16)]
    peer = peers.load_peer(name)
    found = []
    for method in peer.methods:
        quantized = peer.quantize(static_model(DIGITS, 1), samples, method)
        (folder := tmp_path / method).mkdir()
        outputs = []
        for model in (quantized, peer.read(peer.save(quantized, folder))):
            runner = peer.load(model, 1, float32=True)
            runner.bind(samples)
            runner.step(0)
            outputs.append(runner.outputs()["logits"])
        np.testing.assert_array_equal(*outputs)
        found.append(outputs[0].tobytes())
    assert found[0] != found[-1]
    with pytest.raises(InputError, match=f"{name} has no method 'turtle' of quantization; it has {peer.methods[0]}, "):
        peer.quantize(static_model(DIGITS, 1), samples, "turtle")


def test_openvino_is_used_without_telemetry(tmp_path: Path) -> None:
    """It would leave an identifier in the user's home."""
    for package in NEEDS["openvino"]:
        pytest.importorskip(package, exc_type=ImportError)
    script = f"""
import numpy as np
from pathlib import Path
from sqc.bench.peers import load_peer
from sqc.bench.static_model import static_model
sample = {{"image": np.ones((1, 1, 8, 8), np.float32)}}
load_peer("openvino").quantize(static_model(Path({str(DIGITS)!r}), 1), [sample])
"""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "NNCF_CI")}
    home = {"HOME": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", script], env={**environment, **home}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert not list(tmp_path.iterdir())
    assert not result.stdout
