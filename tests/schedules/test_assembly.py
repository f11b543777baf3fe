"""What LLVM makes of the kernels: the instructions that were meant, from registers, without contraction."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sqc.schedules import Kernel, Target, Tunable, lower
from sqc.schedules._tvm import assembly
from sqc.schedules.microkernel import STREAM_AHEAD, Tile
from tests.schedules.cases import Case, check


def convolution(target: str, channels: int, groups: int = 1, pixels: int = 14, *, table: bool = False) -> Kernel:
    case = Case()
    x = case.u8(1, pixels, pixels, channels)
    weights = case.s8(channels, channels // groups, 3, 3)
    acc = case.emit("qconv2d", x, weights, case.bias(channels), pads=(1, 1, 1, 1), groups=groups, layout="NHWC")
    levels = case.requantize(acc, 1e5, case.u8(*acc.type.shape))
    if table:
        case.lookup(levels)
    return lower(case.op(), Target.parse(target), case.arrays)


def innermost(text: str, instruction: str) -> list[str]:
    """The instructions of the shortest loop that holds ``instruction``."""
    lines = [line.strip() for line in text.splitlines()]
    code = [line for line in lines if line and not line.startswith((".loc", ".Ltmp", ".cfi", ".p2align"))]
    loops = []
    for end, line in enumerate(code):
        if match := re.match(r"j\w+\s+(\.LBB\w+)", line):
            label = match[1] + ":"
            if label in code[:end]:
                loops.append(code[code.index(label) : end])
    return min((loop for loop in loops if any(instruction in line for line in loop)), key=len)


def assembly_of_pairs(kernel: Kernel) -> str:
    """That of the best tile with an even number of vectors: of an odd one, the last is packed alone."""
    assert isinstance(kernel.problem, Tunable)
    tile = next(tile for tile in kernel.problem.tiles(kernel.target) if tile.rows * tile.vectors % 2 == 0)
    return assembly(kernel.problem.schedule(kernel.target, tile), kernel.target)


@pytest.mark.parametrize(
    ("target", "instruction"),
    [
        ("x86-64-v3", "vpmaddwd"),
        ("skylake-avx512", "vpmaddwd"),
        ("alderlake", "vpdpbusd"),
        ("avxvnni-evex", "vpdpbusd"),
        ("znver4", "vpdpbusd"),
    ],
)
def test_accumulators_stay_in_registers(target: str, instruction: str) -> None:
    kernel = convolution(target, 64)
    loop = innermost(assembly(kernel.scheduled, kernel.target), instruction)
    assert sum(instruction in line for line in loop) >= 8
    assert not any("(%rsp)" in line for line in loop)


@pytest.mark.parametrize("rows", [64, 80, 300])
@pytest.mark.parametrize("target", ["icelake-server", "znver5"])
def test_accumulators_of_few_columns_stay_in_registers(target: str, rows: int) -> None:
    """Of which only a part becomes results."""
    case = Case()
    acc = case.emit("qfully_connected", case.u8(rows, 256), case.s8(4, 256), case.bias(4))
    case.requantize(acc, 1e5)
    kernel = lower(case.op(), Target.parse(target), case.arrays)
    loop = innermost(assembly(kernel.scheduled, kernel.target), "vpdpbusd")
    assert not any("%zmm" in line and "(%rsp)" in line for line in loop)


@pytest.mark.parametrize("target", ["cascadelake", "icelake-server", "znver4"])
@pytest.mark.parametrize("groups", [1, 64])
def test_vnni_is_used_at_full_width(target: str, groups: int) -> None:
    kernel = convolution(target, 64, groups)
    products = re.findall(r"vpdpbusd\s.*", assembly(kernel.scheduled, kernel.target))
    assert products and all("%zmm" in line for line in products)


@pytest.mark.parametrize("block", [148, 1372])
def test_addresses_stay_out_of_vectors(block: int) -> None:
    """Image rows of 37 pixels, which tiles of four go across."""
    case = Case()
    acc = case.emit(
        "qconv2d", case.u8(1, 75, 75, 4), case.s8(64, 4, 3, 3), case.bias(64), strides=(2, 2), layout="NHWC"
    )
    case.requantize(acc, 1e5, case.u8(*acc.type.shape))
    kernel = lower(case.op(), Target.parse("icelake-server"), case.arrays)
    assert isinstance(kernel.problem, Tunable)
    scheduled = kernel.problem.schedule(kernel.target, Tile(4, 4, block, 1))
    loop = innermost(assembly(scheduled, kernel.target), "vpdpbusd")
    assert sum("vpdpbusd" in line for line in loop) == 16
    assert not any(re.match(r"vpextr|vmovd\s|vpaddd", line) for line in loop)


@pytest.mark.parametrize("groups", [1, 64])
def test_avx512_without_vnni_widens_at_full_width(groups: int) -> None:
    kernel = convolution("skylake-avx512", 64, groups)
    text = assembly(kernel.scheduled, kernel.target)
    products = re.findall(r"vpmaddwd\s.*", text)
    assert products and all("%zmm" in line for line in products)
    assert "vpdpbusd" not in text and "vpmaddubsw" not in text


@pytest.mark.parametrize("target", ["alderlake", "sierraforest"])
@pytest.mark.parametrize("groups", [1, 64])
def test_avx_vnni_is_encoded_without_avx512(target: str, groups: int) -> None:
    kernel = convolution(target, 64, groups)
    text = assembly(kernel.scheduled, kernel.target)
    products = re.findall(r".*vpdpbusd\s.*", text)
    assert products and all("{vex}" in line and "%ymm" in line for line in products)
    assert "%zmm" not in text and "%ymm16" not in text and "%k1" not in text


@pytest.mark.parametrize(("rows", "depth", "products"), [(64, 256, 4), (16, 256, 2), (50, 40, 4)])
def test_tiles_stay_in_registers(rows: int, depth: int, products: int) -> None:
    case = Case()
    acc = case.emit("qfully_connected", case.u8(rows, depth), case.s8(96, depth), case.bias(96))
    case.requantize(acc, 1e5)
    kernel = lower(case.op(), Target.parse("sapphirerapids-amx"), case.arrays)
    text = assembly(kernel.scheduled, kernel.target)
    assert "vpdpbusd" not in text
    configure, *rest = re.findall(r"(ldtilecfg|tileloadd|tdpbusd|tilestored|tilerelease)\s(.*)", text)
    assert configure[0] == "ldtilecfg"
    steps = [name for name, _ in rest]
    assert steps[:products] == ["tileloadd"] * products and steps[-1] == "tilerelease"
    assert steps[-1 - products : -1] == ["tilestored"] * products
    sums = {operands.split(", ")[-1] for name, operands in rest if name == "tdpbusd"}
    assert len(sums) == products
    assert {operands.split(",")[0] for name, operands in rest if name == "tilestored"} == sums


def test_few_rows_are_left_to_vectors() -> None:
    case = Case()
    case.emit("qfully_connected", case.u8(8, 64), case.s8(96, 64), case.bias(96))
    kernel = lower(case.op(), Target.parse("sapphirerapids-amx"), case.arrays)
    text = assembly(kernel.scheduled, kernel.target)
    assert "vpdpbusd" in text and "tdpbusd\t" not in text.replace("vpdpbusd", "")


@pytest.mark.parametrize("target", ["x86-64-v3", "znver3", "icelake-server"])
def test_nothing_is_contracted(target: str) -> None:
    kernel = convolution(target, 16)
    assert "vfm" not in assembly(kernel.scheduled, kernel.target)


@pytest.mark.parametrize("target", ["cascadelake", "icelake-server", "znver4"])
@pytest.mark.parametrize(("channels", "groups"), [(64, 1), (64, 64)])
def test_results_are_packed(target: str, channels: int, groups: int) -> None:
    """Several vectors at once, whether they lie side by side or belong to neighbouring pixels."""
    text = assembly_of_pairs(convolution(target, channels, groups))
    assert "vpackssdw" in text and "vpackuswb" in text
    assert not re.search(r"vpmov\w*db\s", text)


@pytest.mark.parametrize(("channels", "groups"), [(64, 1), (64, 64)])
def test_tables_are_read_by_whole_registers(channels: int, groups: int) -> None:
    text = assembly_of_pairs(convolution("znver4", channels, groups, table=True))
    assert "vperm" in text
    # One mask, of the indices from 128 on, a read.
    assert len(re.findall(r"vpmovb2m\s", text)) == len(re.findall(r"vpackuswb\s", text)) > 0


@pytest.mark.parametrize("rows", [1, 49])
def test_products_of_levels_are_packed(rows: int) -> None:
    case = Case()
    acc = case.emit("qmul", case.u8(rows, 64), case.u8(1, 64))
    case.emit("requantize", acc, case.multiplier(1e-3), scale=0.125, zero_point=7)
    kernel = lower(case.op(), Target.parse("znver4"), case.arrays)
    text = assembly(kernel.scheduled, kernel.target)
    assert "vpackuswb" in text and not re.search(r"vpmov\w*db\s|vrndscaleps\s", text)


def test_weights_that_few_rows_share_are_prefetched() -> None:
    kernel = convolution("znver4", 64, pixels=7)
    assert "prefetch" in assembly(kernel.scheduled, kernel.target)


@pytest.mark.parametrize("rows", [1, 3])
def test_weights_that_are_read_once_come_into_the_first_cache(rows: int) -> None:
    """Whatever vector of weights a step reads, it asks for the one that follows so far ahead."""
    text = assembly(*_tiled(Tile(rows, 4, rows), rows))
    asked = re.findall(r"prefetcht0\s+(-?\d*)(\(\S+\))", text)
    read = re.findall(r"(?:vpdpbusd|vmovdqu64)\s+(-?\d*)(\(\S+\)), %zmm", text)
    assert len(asked) >= 4 and "prefetcht1" not in text
    assert {(int(offset or 0), base) for offset, base in asked} <= {
        (int(offset or 0) + STREAM_AHEAD, base) for offset, base in read
    }


def test_many_tiles_ask_for_a_share_of_the_next_weights_each() -> None:
    asks = re.compile(r"prefetcht1\s+\S*\(%\w+,")
    text = assembly(*_tiled(Tile(4, 4, 196)))
    before = text[: text.index("vpdpbusd")]
    assert len(asks.findall(text)) == len(asks.findall(before)) == 128 // 49 + 1
    assert not asks.search(assembly(*_tiled(Tile(2, 8, 196))))  # no weights follow


def _tiled(tile: Tile, rows: int = 196) -> tuple[Any, Target]:
    case = Case()
    acc = case.emit("qfully_connected", case.u8(rows, 128), case.s8(128, 128), case.bias(128))
    case.requantize(acc, 1e5)
    kernel = lower(case.op(), Target.parse("icelake-server"), case.arrays)
    assert isinstance(kernel.problem, Tunable)
    return kernel.problem.schedule(kernel.target, tile), kernel.target


def test_weights_of_large_depthwise_kernels_stay_where_they_are() -> None:
    """All pixels of a row read the 160 vectors of weights of a group; none is copied to the stack first."""
    case = Case()
    acc = case.emit(
        "qconv2d",
        case.u8(1, 7, 7, 576),
        case.s8(576, 1, 5, 5),
        case.bias(576),
        pads=(2,) * 4,
        groups=576,
        layout="NHWC",
    )
    case.requantize(acc, 5e4)
    kernel = lower(case.op(), Target.parse("znver4"), case.arrays)
    text = assembly(kernel.scheduled, kernel.target)
    assert len(re.findall(r"vpdpbusd\s", text)) == 160
    assert len(re.findall(r"vmov(?:aps|dqa64)\s+%zmm\d+, \d*\(%rsp\)", text)) < 32


def test_what_is_spilled_lies_within_lines_of_cache() -> None:
    case = Case()
    acc = case.emit(
        "qconv2d", case.u8(1, 14, 14, 64), case.s8(64, 1, 3, 3), case.bias(64), pads=(1, 1, 1, 1), groups=64,
        layout="NHWC",
    )  # fmt: skip
    case.requantize(acc, 3e4)
    kernel = lower(case.op(), Target.parse("icelake-server"), case.arrays)
    text = assembly(kernel.scheduled, kernel.target)
    assert "andq\t$-64, %rsp" in text
    assert re.search(r"vmova\w+\t%zmm\d+, -?\d+\(%rsp\)", text), "by aligned moves"


@pytest.mark.parametrize("target", ["skylake-avx512", "icelake-server"])
def test_no_store_of_results_has_a_mask(target: str) -> None:
    """With one of a single lane it would write four bytes (LLVM issue 179489); nor where tiles reach over the edge."""
    case = Case()
    x, window = case.u8(2, 7, 37, 25), {"strides": (1, 2), "pads": (1, 1, 2, 2), "groups": 25, "layout": "NHWC"}
    case.requantize(case.emit("qconv2d", x, case.s8(25, 1, 3, 3), case.bias(25), **window), 3e4)
    kernel = check(case, target)
    assert not re.search(r"vpmovus\w*b\s.*\{%k", assembly(kernel.scheduled, kernel.target))
