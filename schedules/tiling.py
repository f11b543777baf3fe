"""The model that picks tiles without tuning: estimated cycles, least wins.

The estimates need only rank tiles. They count what binds an inner loop (arithmetic, loads), what a tile costs besides
(epilogue, addresses), what staging costs, and how evenly the tasks spread over a few threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from typing import TypeAlias

from sqc.schedules.conv2d import Convolution
from sqc.schedules.depthwise import Depthwise
from sqc.schedules.depthwise_columns import column_taps, shared_rows
from sqc.schedules.depthwise_groups import DepthwiseGroups, group_channels
from sqc.schedules.epilogue import Epilogue
from sqc.schedules.fully_connected import MatrixProduct
from sqc.schedules.indexed_product import IndexedProduct
from sqc.schedules.intrinsics import LANES, Dot, column, dot, listed_dot, packed_dot
from sqc.schedules.matmul import Product
from sqc.schedules.microkernel import STACK_BYTES, Tile, round_up, vector_lanes
from sqc.schedules.packed_product import PackedProduct
from sqc.schedules.target import Core, Target

AnyProduct: TypeAlias = Convolution | IndexedProduct | MatrixProduct | PackedProduct | Product
"""The problems that come down to products of matrices."""

THREADS = (2, 4, 8)
"""Kernels shall spread evenly over these numbers of threads."""
LAUNCH_CYCLES = 6_000.0
"""What a parallel loop has to save each thread."""
TASK_CYCLES = 40.0
FIRST_CACHE = 24_576
"""Bytes that stay in a cache of first level beside what passes through it."""
SECOND_CACHE = 1 << 19
"""Bytes that stay in a cache of second level."""
EXCHANGED = 0.15
"""Cycles for a byte that a thread gets from another core's cache, or that another thread reads from memory as well."""


@dataclass(frozen=True)
class Costs:
    """Cycles that a tile costs, fitted to times measured on a core of that kind (``examples/fit_costs.py``).

    What depends on bytes is per byte that has to come from beyond the first cache, other than staging.
    """

    epilogue: Mapping[int, float]
    """Per accumulator vector, by the lanes that are computed at once."""
    crowd: float
    """Per accumulator vector more, where so many are held that the next tile's products cannot overlap them."""
    operand: float
    """Per accumulator vector and further operand of the epilogue."""
    tile: float
    address: float
    """Per row whose activations lie at an irregular distance."""
    weights: float
    panel: float
    """Like ``weights``, of a panel that every tile reads again, in order, so that much of it comes in time."""
    distant: float
    """More per byte that comes from beyond the second cache."""
    activations: float
    results: float
    staging: float
    step: StepCosts | None = None
    """Of a step of the inner loop, where products take bytes as they are in vectors of 512 bits."""


@dataclass(frozen=True)
class StepCosts:
    """Cycles of one step of the inner loop: what binds is arithmetic, loads, or the wait for an accumulator."""

    product: float
    """Per accumulator vector."""
    weights: float
    """Per vector of weights."""
    activation: float
    """Per row: four activations, broadcast by the dot product itself."""
    address: float
    """Per row beyond eight at an irregular distance, whose address is loaded too."""
    least: float


COSTS: Mapping[Core, Costs] = {
    "zen3": Costs(
        {16: 9.0}, crowd=0.0, operand=0.0, tile=12.0, address=6.0,
        weights=0.06, panel=0.02, distant=0.0, activations=0.0, results=0.0, staging=0.05,
    ),
    "zen4": Costs(
        {16: 3.0, 32: 2.4, 64: 2.2}, crowd=0.5, operand=1.4, tile=0.9, address=0.6,
        weights=0.011, panel=0.0037, distant=0.0, activations=0.007, results=0.009, staging=0.07,
        step=StepCosts(1.0, weights=1.5, activation=0.15, address=1.0, least=3.0),
    ),
    "golden_cove": Costs(
        {16: 1.4, 32: 1.5, 64: 0.95}, crowd=0.0, operand=2.9, tile=8.0, address=3.0,
        weights=0.01, panel=0.011, distant=0.039, activations=0.02, results=0.012, staging=0.056,
        step=StepCosts(0.40, weights=1.04, activation=0.44, address=0.44, least=4.0),
    ),
    "zen5": Costs(
        {16: 1.0, 32: 1.2, 64: 0.76}, crowd=1.6, operand=1.05, tile=0.0, address=0.61,
        weights=0.0025, panel=0.002, distant=0.01, activations=0.002, results=0.003, staging=0.057,
        step=StepCosts(0.42, weights=1.08, activation=0.47, address=0.06, least=4.3),
    ),
}  # fmt: skip
"""Zen 3 with AVX2, the others with AVX-512 VNNI (Golden Cove: Emerald Rapids)."""


@dataclass(frozen=True)
class Work:
    """``batch`` matrices of ``rows`` x ``columns`` accumulators, each a sum of ``steps`` dot products.

    A block consists of whole units of ``unit`` rows (a row of pixels), or of all rows; if ``whole``, only of all. A
    register tile does not pass a multiple of ``group`` columns. ``inputs`` is the size of all activations,
    ``staged(block)`` gives the bytes that are staged for a block (0: none), ``epilogue`` is what follows the sums,
    ``product`` what they are made of. Vectors of columns share activations unless each ``lists`` its own.
    """

    batch: int
    rows: int
    columns: int
    steps: int
    unit: int
    group: int
    inputs: int
    epilogue: Epilogue
    staged: Callable[[int], int]
    product: Dot
    whole: bool = False
    lists: bool = False

    @cached_property
    def activations(self) -> int:
        """Bytes that the kernel reads and writes besides weights."""
        return self.inputs + self.batch * self.rows * self.columns * (1 + len(self.epilogue.operands))

    @cached_property
    def weights(self) -> int:
        """The size of all weights, as they are packed."""
        return round_up(self.columns, LANES) * self.steps * self.product.weight_bytes

    def divides(self, parts: int, column_tiles: int) -> bool:
        """Whether the columns, ``column_tiles`` tiles of them, can be split in ``parts``."""
        if self.columns % LANES and self.rows > 1:
            # Only within one task can the tiles before the last, incomplete one go without tests.
            return parts == 1
        # Weights are filled up to whole vectors only; and a part consists of whole groups.
        grouped = self.group < self.columns
        return column_tiles % parts == 0 and not (grouped and self.columns // parts % self.group)

    def blocks(self, tile: Tile) -> int:
        """How many blocks of rows there are."""
        return self.batch * -(-self.rows // tile.block)

    def scattered(self, rows: int) -> bool:
        """Whether the activations of ``rows`` neighbouring rows lie at irregular distances."""
        if self.unit == 1:
            # Only rows beyond the last, which repeat it.
            return self.rows % rows != 0 and not self.staged(1)
        return self.unit % rows != 0


def ranked(work: Work, target: Target) -> list[Tile]:
    """All candidates, the least estimate first."""
    costs = COSTS[target.core]
    estimates: list[tuple[float, Tile]] = []
    for rows, vectors in register_tiles(target):
        if (rows > work.rows and rows > 1) or (vectors > 1 and work.group % (vectors * LANES)):
            continue
        # LLVM keeps vectors of which a part is used in the first half of the registers, and the rest in memory.
        if work.columns < LANES and 2 * rows > target.registers:
            continue
        cycles = register_tile_cycles(work, rows, vectors, target, costs)
        for tile in candidates(work, rows, vectors):
            task = task_cycles(work, tile, cycles, costs)
            estimates.append((spread(work.blocks(tile), tile.parts, task, work.activations, work.weights), tile))
    return [tile for _, tile in sorted(estimates, key=itemgetter(0))]


def candidates(work: Work, rows: int, vectors: int) -> Iterator[Tile]:
    """All tiles that the model compares, of a register tile."""
    column_tiles = -(-work.columns // (vectors * LANES))
    parts = [n for n in range(1, 33) if work.divides(n, column_tiles)]
    step = math.lcm(rows, work.unit)
    units = () if work.whole else (1, 2, 3, 4, 6, 7, 8, 12, 14, 16, 28, 32, 48, 64)
    blocks = {step * n for n in units if step * n < work.rows}
    for block in sorted(blocks | {round_up(work.rows, rows)}):
        if block != step and work.staged(block) > STACK_BYTES and any(b < block for b in blocks):
            continue
        yield from (Tile(rows, vectors, block, n) for n in parts)


def register_tile_cycles(work: Work, rows: int, vectors: int, target: Target, costs: Costs) -> float:
    """Cycles of one register tile whose operands are close by."""
    accumulators, scattered = rows * vectors, work.scattered(rows)
    per_vector = costs.epilogue[work.epilogue.lanes(vectors * LANES, target)]
    per_vector += costs.operand * len(work.epilogue.operands) + costs.crowd * min(1.0, accumulators / 24)
    around = costs.tile + accumulators * per_vector + (costs.address * rows if scattered else 0.0)
    read = rows * vectors if work.lists else rows
    return work.steps * step_cycles(rows, vectors, read, target, work.product, costs, scattered=scattered) + around


def task_cycles(work: Work, tile: Tile, register_tile: float, costs: Costs) -> float:
    """Cycles of a task, with those of a register tile."""
    product = work.product
    column_tiles = -(-work.columns // (tile.columns * tile.parts))
    row_tiles = tile.block // tile.rows
    cycles = column_tiles * row_tiles * register_tile
    step_bytes = product.depth * (2 if product.widens else 1)
    panel = work.steps * tile.columns * product.weight_bytes
    if panel > FIRST_CACHE:
        cycles += column_tiles * row_tiles * panel * costs.panel
    elif column_tiles * panel > FIRST_CACHE:
        cycles += column_tiles * panel * costs.weights
    if costs.distant:
        cycles += distant_bytes(work, tile) * costs.distant
    rows = tile.block * work.steps * step_bytes
    if column_tiles > 1 and max(rows, (rows + panel) / 2) > FIRST_CACHE:
        cycles += column_tiles * rows * costs.activations
    results = tile.block * work.columns * (1 + len(work.epilogue.operands))
    if column_tiles > 1 and results > FIRST_CACHE:
        # A line of 64 bytes that several tiles write in part comes and goes as often.
        cycles += results * costs.results * max(1.0, 64 / tile.columns)
    return cycles + work.staged(tile.block) * costs.staging


def distant_bytes(work: Work, tile: Tile) -> float:
    """Bytes that a task reads from beyond the second cache, on average.

    Tasks go through the larger operand once, part by part or block by block, and through the other one each time. Only
    other images are counted on to find a part still there: blocks of one image would be cut too small.
    """
    part = round_up(work.columns, LANES) // tile.parts * work.steps * work.product.weight_bytes
    block = work.inputs / work.blocks(tile)
    if part * tile.parts > work.inputs:
        weights = part / work.batch if part <= SECOND_CACHE else part
        return (weights if part * tile.parts > SECOND_CACHE else 0) + (block if work.inputs > SECOND_CACHE else 0)
    again = -(-work.columns // (tile.columns * tile.parts)) if block > SECOND_CACHE else 1 / tile.parts
    return block * again + (part if part * tile.parts > SECOND_CACHE else 0)


def spread(blocks: int, parts: int, cycles: float, activations: int = 0, weights: int = 0) -> float:
    """The cycles of all tasks on one thread, plus a share of what several threads spend together.

    A task, of ``cycles``, has one of ``blocks`` of rows and one of ``parts`` of channels. Threads share out blocks
    first. Layers before and after do so too, so that a thread whose blocks are its own finds its part of all
    ``activations``, a number of bytes; but each of these threads reads all ``weights``.
    """
    cycles += TASK_CYCLES
    tasks = blocks * parts

    def together(threads: int) -> float:
        shares = min(blocks, threads)
        exchanged = activations * (threads / shares - 1) + weights * (shares - 1)
        launch = LAUNCH_CYCLES if tasks > 1 else 0.0
        return threads * (math.ceil(tasks / threads) * cycles + launch) + exchanged * EXCHANGED

    return tasks * cycles + sum(map(together, THREADS)) / len(THREADS) / 2


def step_cycles(
    rows: int, vectors: int, read: int, target: Target, product: Dot, costs: Costs, *, scattered: bool
) -> float:
    """Cycles of one step of a register tile's inner loop, with so many reads of four activations.

    ``scattered`` rows need an address each.
    """
    if product.packed:
        unpacked = replace(product, depth=product.depth // 2, packed=False)
        cycles = step_cycles(rows, vectors, read, target, unpacked, costs, scattered=scattered)
        return 2 * cycles + 0.5 * vectors * LANES / product.lanes
    if product.saturates:
        return max(3 * rows * vectors * (LANES // product.lanes) / 3, 3.0)
    if target.isa == "avx2":
        arithmetic = 4 * rows * vectors + 2 * vectors
        return max(arithmetic / 4, (arithmetic + rows + 2 * vectors) / 5.5)
    if target.isa == "avx512bw":
        return max((2 * rows * vectors + vectors) / 2, (rows + vectors) / 2, 2.0)
    if target.isa == "avxvnni":
        return max(rows * vectors, (rows + 2 * vectors) / 2, 3.0)
    step = costs.step
    assert step is not None
    loads = step.weights * vectors + step.activation * read + (step.address * max(0, rows - 8) if scattered else 0)
    return max(step.product * rows * vectors, loads, step.least)


def register_tiles(target: Target) -> Iterator[tuple[int, int]]:
    """The (rows, vectors) whose accumulators fit into registers beside what the inner loop needs."""
    for vectors in (1, 2, 3, 4):
        for rows in range(1, 25):
            halves = LANES * 4 // target.vector_bytes
            if target.isa == "avx2":
                # Products pass through registers before they are added.
                fits = 2 * rows * vectors <= (12 if vectors == 1 else 8)
            else:
                fits = (rows + 1) * vectors * halves + (1 if target.has_vnni else 2) <= target.registers - 1
            if fits:
                yield rows, vectors


def product_tiles(problem: AnyProduct, target: Target) -> list[Tile]:
    """The tiles of a product, the best by estimate first."""
    return ranked(work_of(problem, target), target)


def work_of(problem: AnyProduct, target: Target) -> Work:
    """What the estimates know of a problem."""
    if isinstance(problem, Convolution):
        return _convolution_work(problem, target)
    if isinstance(problem, IndexedProduct):
        return _indexed_work(problem, target)
    if isinstance(problem, Product):
        return _computed_work(problem, target)
    return _matrix_work(problem, packed_dot(target) if isinstance(problem, PackedProduct) else dot(target))


def _matrix_work(problem: MatrixProduct | PackedProduct, product: Dot) -> Work:
    depth = round_up(problem.depth, product.depth)
    staged = product.widens or depth != problem.depth
    row_bytes = depth * (2 if product.widens else 1) if staged else 0
    return Work(
        1,
        problem.rows,
        problem.columns,
        depth // product.depth,
        unit=1,
        group=round_up(problem.columns, LANES),
        inputs=problem.rows * problem.depth,
        epilogue=problem.epilogue,
        staged=lambda block: block * row_bytes,
        product=product,
    )


def _computed_work(problem: Product, target: Target) -> Work:
    """Of a product of computed operands: rows stay together, as columns do."""
    product = dot(target)
    *lead, rows, columns = problem.shape
    steps = -(-problem.depth // product.depth)
    row_bytes = steps * product.depth * (2 if product.widens else 1) if problem.stages(target) else 0
    return Work(
        math.prod(lead),
        rows,
        columns,
        steps,
        unit=1,
        group=round_up(columns, LANES),
        inputs=math.prod(lead) * rows * problem.depth,
        epilogue=problem.epilogue,
        staged=lambda block: block * row_bytes,
        product=product,
        whole=True,
    )


def _convolution_work(problem: Convolution, target: Target) -> Work:
    product, window = dot(target), problem.window
    taps = window.kernel[0] * (1 if problem.joins_taps(product.depth) else window.kernel[1])
    staged = problem.stages(target)
    oh, ow = window.output
    return Work(
        problem.batch,
        oh * ow,
        problem.groups * problem.columns,
        taps * problem.tap_depth(product.depth) // product.depth,
        unit=ow,
        group=problem.columns if problem.groups > 1 else round_up(problem.columns, LANES),
        inputs=problem.input_bytes,
        epilogue=problem.epilogue,
        staged=lambda block: problem.stage_bytes(block, target) if staged else 0,
        product=product,
    )


def _indexed_work(problem: IndexedProduct, target: Target) -> Work:
    return Work(
        1,
        problem.rows,
        problem.columns,
        problem.groups,
        unit=problem.pixels.extents[1],
        group=round_up(problem.columns, LANES),
        inputs=problem.images * problem.stride,
        epilogue=problem.epilogue,
        staged=lambda block: 0,
        product=listed_dot(target),
        lists=True,
    )


def depthwise_tiles(problem: Depthwise, target: Target) -> list[Tile]:
    """The tiles of a depthwise convolution, the best by estimate first.

    ``rows`` are pixels of one row, ``block`` is in rows of pixels, ``vectors`` make up sixteen channels.
    """
    window = problem.window
    oh, ow = window.output
    channel_tiles = -(-problem.channels // LANES)
    together = shared_rows(window, column(target))
    dots = -(-column_taps(window, column(target)) // column(target).depth)
    width = LANES // column(target).lanes

    def tile_cycles(pixels: int) -> int:
        # Columns of inputs are interleaved once for all outputs that see them; then come products and epilogues.
        columns = window.span(pixels, 1)
        return width * (columns * 4 * dots + together * pixels * (window.kernel[1] * dots + 4))

    def cycles(tile: Tile) -> float:
        tiles = tile.block // together * -(-ow // tile.rows) * -(-channel_tiles // tile.parts)
        channels = round_up(problem.channels, LANES) // tile.parts
        staged = window.span(tile.block, 0) * window.span(round_up(ow, tile.rows), 1) * channels
        if staged > STACK_BYTES:
            return math.inf
        # Copied by whole vectors. What exceeds the first cache, or is cut out of wider pixels, is read more slowly.
        per_byte = 1.6 / vector_lanes(channels) + (0.03 if staged < 32_768 else 0.06)
        task = tiles * tile_cycles(tile.rows) * (1.0 if tile.parts == 1 else 1.1) + staged * per_byte
        return spread(problem.batch * -(-oh // tile.block), tile.parts, task)

    parts = [n for n in (1, 2, 3, 4, 6, 8, 12, 16) if n == 1 or problem.channels % (n * LANES) == 0]
    blocks = sorted({round_up(n, together) for n in (1, 2, 4, 7, 8, 14, 16, 28, oh) if n <= oh})
    vectors = LANES // column(target).lanes
    pixels = range(min(ow, 7 if together < 3 else 4), 0, -1)
    tiles = [Tile(count, vectors, block, part) for block in blocks for part in parts for count in pixels]
    return sorted(tiles, key=cycles)


def depthwise_group_tiles(problem: DepthwiseGroups, target: Target) -> list[Tile]:
    """The tiles of a depthwise convolution by groups of channels, the best by estimate first; see above."""
    window, format, joined = problem.window, column(target), problem.joined(target)
    oh, width = window.output[0], window.output[1] // joined
    group, channels = group_channels(target), joined * problem.channels
    together, dots = shared_rows(window, format), -(-column_taps(window, format) // format.depth)
    groups = -(-channels // group)
    activations = problem.batch * problem.channels * (math.prod(window.input) + math.prod(window.output))
    # Layers around make six channels of one, and are split by rows unless weights outweigh activations.
    by_rows = problem.batch * math.prod(window.output) >= problem.channels / 6

    def tile_cycles(pixels: int) -> float:
        columns = window.span(pixels, 1) if joined == 1 else pixels * window.kernel[1]
        unpacks = 8 * dots * columns
        products = 4 * dots * together * pixels * window.kernel[1]
        return (unpacks + products + 17 * together * pixels) / 2 + 5

    def cycles(tile: Tile) -> float:
        tiles = tile.block // together * -(-width // tile.rows) * -(-groups // tile.parts)
        staged = 0
        if problem.stages(tile, target):
            staged = window.span(tile.block, 0) * problem.phases(target) * problem.stage_row(tile, target)
        if staged > STACK_BYTES:
            return math.inf
        per_byte = 0.03 if staged < FIRST_CACHE else 0.08
        per_byte += 0.5 / problem.stage_lanes(tile, target)
        blocks, task = problem.batch * -(-oh // tile.block), tiles * tile_cycles(tile.rows) + staged * per_byte
        return spread(blocks, tile.parts, task, activations if by_rows else 0)

    # Parts consist of whole groups.
    parts = [n for n in range(1, 17) if n == 1 or (joined == 1 and channels % (n * group) == 0)]
    blocks = sorted({round_up(n, together) for n in (1, 2, 4, 7, 8, 14, 16, 28, oh) if n <= oh})
    pixels = [n for n in (1, 2) if n <= width and (n == 1 or n * together <= 4)]
    tiles = [Tile(count, 4, block, part) for block in blocks for part in parts for count in pixels]
    return sorted(tiles, key=cycles)
