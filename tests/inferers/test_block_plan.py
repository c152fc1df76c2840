"""Windows, blocks and tasks: against MONAI's list of windows, and by counting."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices
from monai.inferers.utils import _get_scan_interval

from voxel_ext.inferers.block_plan import BlockPlan, choose_tile, tile_bytes
from voxel_ext.inferers.fingerprints import describe
from voxel_ext.inferers.windows import WindowGrid

sizes = st.tuples(*[st.integers(1, 40)] * 3)
overlaps = st.tuples(*[st.floats(0, 0.95)] * 3)


def make_plan(size, roi, overlap, chunks, tiles=(1, 1)):
    chunks = tuple(map(min, chunks, size))
    return BlockPlan(WindowGrid(size, roi, overlap), chunks, (tiles[0] * chunks[1], tiles[1] * chunks[2]))


@given(sizes, sizes, overlaps)
@settings(deadline=None, max_examples=50)
def test_windows_are_those_of_monai(size, roi, overlap):
    grid = WindowGrid(size, roi, overlap)
    padded = tuple(map(max, size, roi))
    wanted = dense_patch_slices(padded, roi, _get_scan_interval(padded, roi, 3, overlap))
    found = list(itertools.product(*map(grid.starts, range(3))))
    assert found == [tuple(part.start for part in window) for window in wanted]
    assert tuple(map(sum, zip(size, grid.before, grid.after, strict=True))) == padded


@given(sizes, sizes, overlaps, sizes, st.tuples(st.integers(1, 3), st.integers(1, 3)), st.data())
@settings(deadline=None, max_examples=50)
def test_every_block_is_in_one_task(size, roi, overlap, chunks, tiles, data):
    plan = make_plan(size, roi, overlap, chunks, tiles)
    blocks = set(itertools.product(range(len(plan.tiles)), range(plan.num_slabs)))
    finished = data.draw(st.sets(st.sampled_from(sorted(blocks))))
    workers = data.draw(st.sampled_from([1, 2, 5, None]))
    tasks = plan.tasks(finished, workers)
    covered = [(task.tile, slab) for task in tasks for slab in range(task.first, task.stop)]
    assert sorted(covered) == sorted(blocks - finished)
    seen = np.zeros(size, int)
    for tile, slab in blocks:
        seen[slice(*plan.planes(slab, slab + 1)), slice(*plan.tiles[tile].y), slice(*plan.tiles[tile].x)] += 1
    assert (seen == 1).all()


@given(sizes, sizes, overlaps, sizes)
@settings(deadline=None, max_examples=50)
def test_a_block_gets_exactly_the_windows_that_reach_into_it(size, roi, overlap, chunks):
    plan = make_plan(size, roi, overlap, chunks)
    tile, planes = plan.tiles[-1], plan.planes(plan.num_slabs - 1, plan.num_slabs)
    spans, before = (planes, tile.y, tile.x), plan.grid.before
    wanted = [
        start
        for start in itertools.product(*map(plan.grid.starts, range(3)))
        if all(start[i] - before[i] < spans[i][1] and start[i] - before[i] + roi[i] > spans[i][0] for i in range(3))
    ]
    assert [(z, *column) for z in plan.layers(planes) for column in plan.columns(tile)] == wanted


@pytest.mark.parametrize(("workers", "count"), [(1, 1), (2, 8), (4, 16), (None, 16)])
def test_tasks_are_few_for_each_worker_but_not_too_short(workers, count):
    # windows of 32 every 16: a slab of 16 planes has one layer of its own and one from before, so tasks have 4 slabs
    plan = make_plan((1024, 16, 16), (32, 16, 16), (0.5, 0, 0), (16, 16, 16))
    assert len(plan.tasks((), workers)) == count


def test_tiles_are_as_large_as_memory_allows():
    grid, chunks = WindowGrid((4096, 1000, 700), (32, 32, 32), (0.5, 0.5, 0.5)), (32, 64, 64)
    whole = tile_bytes(grid, chunks, [1000, 700], (1, 4), 4, 2)
    assert choose_tile(grid, chunks, (1, 4), 4, 2, whole) == (1000, 700)
    half = choose_tile(grid, chunks, (1, 4), 4, 2, whole - 1)
    assert half == (512, 700)
    small = choose_tile(grid, chunks, (1, 4), 4, 2, whole // 20)
    assert tile_bytes(grid, chunks, list(small), (1, 4), 4, 2) <= whole // 20
    assert all(length % 64 == 0 for length in small)
    assert choose_tile(grid, chunks, (1, 4), 4, 2, 1) == (64, 64)
    # the extent along z does not count
    assert tile_bytes(WindowGrid((9, 1000, 700), *_rest(grid)), chunks, [64, 64], (1, 4), 4, 2) == tile_bytes(
        grid, chunks, [64, 64], (1, 4), 4, 2
    )


def _rest(grid):
    return grid.roi_size, grid.overlap


class Scale:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor


def test_descriptions_tell_functions_apart_by_their_values():
    assert describe(Scale(np.ones(3))) == describe(Scale(np.ones(3)))
    different = [Scale(1), Scale(2), Scale(np.ones(3)), Scale(np.zeros(3)), Scale, None, "Scale", Scale(1).__call__]
    texts = [str(describe(one)) for one in different]
    assert len(set(texts)) == len(texts)
    assert not any("0x" in text for text in texts)
