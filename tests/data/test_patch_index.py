"""Patches that are labeled enough: equal to looking at each of them, and every chunk read once."""

import itertools
from collections import Counter

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from voxel_ext.data import label_scan, patch_counts
from voxel_ext.data.label_scan import scan_blocks, scan_label
from voxel_ext.data.lazy_volume import LazyVolume, open_volume
from voxel_ext.data.patch_index import PatchIndex
from voxel_ext.errors import InvalidInputError, MissingDataError


def bounding_box(labeled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = np.argwhere(labeled)
    return found.min(0), found.max(0) + 1


def by_hand(label, patch, stride, bbox, ratio, ratio_of="patch", ignore=None) -> list[tuple[int, ...]]:
    """The definition: every candidate looked at on its own."""
    labeled = label != 0
    if ignore is not None:
        labeled &= label != ignore
    low, high = bounding_box(labeled)
    low = np.minimum(low, np.subtract(label.shape, patch))
    ranges = [
        [s for s in range(low[a], high[a], stride[a]) if s + patch[a] <= label.shape[a]] for a in range(3)
    ]  # fmt: skip
    valid = []
    for start in itertools.product(*ranges):
        part = labeled[tuple(slice(s, s + p) for s, p in zip(start, patch, strict=True))]
        count = np.count_nonzero(part)
        box = np.prod(np.subtract(*bounding_box(part)[::-1])) if count else 0
        whole = part.size if ratio_of == "patch" else max(box, 1)
        if box / part.size >= bbox and count / whole >= ratio:
            valid.append(tuple(int(s) for s in start))
    return valid


def chunked(label: np.ndarray, chunks: tuple[int, ...]) -> zarr.Array:
    array = zarr.create_array(
        zarr.storage.MemoryStore(), shape=label.shape, dtype=label.dtype, chunks=chunks, fill_value=0
    )
    array[:] = label
    return array


def triple(low: int, high: int) -> st.SearchStrategy[tuple[int, int, int]]:
    return st.tuples(*[st.integers(low, high)] * 3)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=triple(4, 13),
    chunks=st.none() | triple(1, 9),
    patch=triple(1, 6),
    stride=triple(1, 8),
    density=st.sampled_from([0.01, 0.1, 0.5, 1.0]),
    empty=triple(0, 3),
    bbox=st.sampled_from([0.0, 0.3, 0.6, 0.95, 1.0]),
    ratio=st.sampled_from([0.0, 0.02, 0.07, 0.3, 0.8]),
    ratio_of=st.sampled_from(["patch", "bounding_box"]),
    ignore=st.sampled_from([None, 2, 255, -1]),
    block=st.sampled_from([1, 30, 500]),
    slab=st.sampled_from([0, 2000, 10**6]),
)
def test_equals_brute_force(
    seed, shape, chunks, patch, stride, density, empty, bbox, ratio, ratio_of, ignore, block, slab
):
    patch = tuple(np.minimum(patch, shape).tolist())
    random = np.random.default_rng(seed)
    label = np.where(random.random(shape) < density, random.choice([1, 2, 255], shape), 0).astype(np.uint8)
    label[: empty[0]] = label[:, shape[1] - empty[1] :] = label[:, :, : empty[2]] = 0
    labeled = (label != 0) & (label != (0 if ignore is None else ignore))
    index = PatchIndex(patch, stride, bbox, ratio, ratio_of, ignore, progress=False)
    source = label if chunks is None else chunked(label, chunks)
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(label_scan, "BLOCK_VOXELS", block)
        limits.setattr(patch_counts, "SLAB_BYTES", slab)
        if not labeled.any():
            with pytest.raises(InvalidInputError, match="no labeled voxel"):
                index.find(source)
            return
        expected = by_hand(label, patch, stride, bbox, ratio, ratio_of, ignore)
        if not expected:
            with pytest.raises(InvalidInputError, match="Best labeled ratio"):
                index.find(source)
        else:
            found = index.find(source)
            assert found.dtype == np.int64
            assert list(map(tuple, found.tolist())) == expected


def sparse_label(shape=(40, 36, 44)) -> np.ndarray:
    """A thin wavy sheet."""
    y, x = np.indices(shape[1:])
    sheet = (shape[0] / 2 + 6 * np.sin(x / 6) + y / 8).astype(int)
    z = np.arange(shape[0])[:, None, None]
    return ((z >= sheet) & (z < sheet + 2)).astype(np.uint8)


class CountingStore(zarr.storage.WrapperStore):
    """Counts what is asked for, and what of it is there."""

    asked: Counter
    given: Counter

    async def get(self, key, prototype, byte_range=None):
        value = await super().get(key, prototype, byte_range)
        self.asked[key] += 1
        self.given[key] += value is not None
        return value


def test_each_stored_chunk_is_read_once():
    label = sparse_label()
    store = CountingStore(zarr.storage.MemoryStore())
    store.asked, store.given = Counter(), Counter()
    chunks = (8, 8, 8)
    array = zarr.create_array(
        store, shape=label.shape, dtype="uint8", chunks=chunks, fill_value=0, config={"write_empty_chunks": False}
    )
    array[:] = label
    stored = [key for key, _ in itertools.groupby(sorted(store._store._store_dict)) if key.startswith("c/")]
    assert 0 < len(stored) < 5 * 5 * 6  # sparse
    volume = open_volume(array)
    store.asked.clear()
    store.given.clear()
    found = PatchIndex(16, 4, 0.2, 0.02, progress=False).find(volume)
    assert len(found) > 100
    asked = {key: count for key, count in store.asked.items() if key.startswith("c/")}
    assert set(asked.values()) == {1}
    assert {key for key in asked if store.given[key]} == set(stored)


@pytest.mark.parametrize("chunks", [(8, 8, 8), (5, 7, 64), (64, 1, 64), None])
def test_blocks_are_whole_chunks_and_cover_the_volume_once(chunks, monkeypatch):
    monkeypatch.setattr(label_scan, "BLOCK_VOXELS", 5000)
    shape = (20, 30, 41)
    times = np.zeros(shape, int)
    for box in scan_blocks(shape, chunks):
        times[box] += 1
        for part, chunk, length in zip(box, chunks or (1, 1, 1), shape, strict=True):
            assert part.start % chunk == 0
            assert part.stop % chunk == 0 or part.stop == length
    assert (times == 1).all()
    sizes = [np.prod([part.stop - part.start for part in box]) for box in scan_blocks(shape, chunks)]
    assert 1000 < max(sizes) <= max(5000, np.prod(np.minimum(chunks or 1, shape)))


def test_a_volume_is_read_in_blocks_only(monkeypatch):
    label = sparse_label()
    sizes = []
    read = LazyVolume.read

    def counted(self, box):
        values = read(self, box)
        sizes.append(values.size)
        return values

    monkeypatch.setattr(LazyVolume, "read", counted)
    monkeypatch.setattr(label_scan, "BLOCK_VOXELS", 1000)
    PatchIndex(16, 4, 0.2, 0.02, progress=False).find(label)
    assert sum(sizes) == label.size
    assert max(sizes) <= 1000


def test_large_spool_goes_to_a_file_and_gives_the_same(monkeypatch):
    label = (np.random.default_rng(0).random((40, 40, 40)) < 0.3).astype(np.uint8)
    index = PatchIndex(8, 8, 0.9, 0.3, progress=False)
    expected = index.find(label)
    monkeypatch.setattr(label_scan, "SPOOL_BYTES", 100)
    monkeypatch.setattr(label_scan, "BLOCK_VOXELS", 2000)
    with scan_label(open_volume(label), progress=False) as bits:
        assert bits._file._rolled  # in a file on disk
        assert sum(int(block.sum()) for _, block in bits.blocks(0, 40)) == label.sum()
        assert sum(int(block.sum()) for _, block in bits.blocks(3, 17)) == label[3:17].sum()
    np.testing.assert_array_equal(index.find(label), expected)


def test_worker_processes_give_the_same(tmp_path):
    label = sparse_label()
    path = tmp_path / "a.zarr"
    zarr.create_array(path, name="sheet", shape=label.shape, dtype="uint8", chunks=(16, 16, 16))[:] = label
    settings_ = ((12, 16, 8), None, 0.2, 0.05)
    here = PatchIndex(*settings_, progress=False).find(f"{path}/sheet")
    there = PatchIndex(*settings_, num_workers=1, progress=False).find(f"{path}/sheet")
    np.testing.assert_array_equal(here, there)
    assert list(map(tuple, here)) == by_hand(label, (12, 16, 8), (6, 8, 4), 0.2, 0.05)


def test_default_thresholds_and_stride():
    label = np.zeros((24, 24, 24), np.uint8)
    label[4:, 4:, 4:] = 1
    found = PatchIndex(8, progress=False).find(label)
    assert found.tolist() == [list(start) for start in itertools.product((4, 8, 12, 16), repeat=3)]


def test_label_with_a_channel_axis():
    label = sparse_label()
    index = PatchIndex(12, None, 0.2, 0.02, progress=False)
    np.testing.assert_array_equal(index.find(label[None]), index.find(label))


def test_no_valid_patch_names_the_best_ones():
    label = np.zeros((8, 8, 16), np.uint8)
    label[0, 0, 0] = label[3, 3, 3] = 1  # patch (0, 0, 0): box of 64, 2 labeled
    label[4:6, 4:6, 8:10] = 1  # box of 8, 8 labeled
    with pytest.raises(InvalidInputError) as error:
        PatchIndex(4, 4, 0.95, 0.3, progress=False).find(label)
    assert "min_labeled_ratio=0.3" in str(error.value)
    assert "min_bbox_percent=0.95" in str(error.value)
    assert "Best labeled ratio 0.125 at (4, 4, 8) (bounding box there 0.125)" in str(error.value)
    assert "best bounding box 1 at (0, 0, 0) (labeled ratio there 0.03125)" in str(error.value)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"patch_size": 0}, "patch_size=0"),
        ({"patch_size": (4, 4)}, r"patch_size=\(4, 4\)"),
        ({"patch_size": 4, "stride": (2, 2, 0.5)}, "stride="),
        ({"patch_size": 4, "min_bbox_percent": 95}, "min_bbox_percent=95"),
        ({"patch_size": 4, "min_labeled_ratio": -0.1}, "min_labeled_ratio=-0.1"),
        ({"patch_size": 4, "ratio_of": "box"}, "ratio_of='box'"),
        ({"patch_size": 4, "ignore_label": "2"}, "ignore_label='2'"),
        ({"patch_size": 4, "num_workers": -1}, "num_workers=-1"),
    ],
)
def test_bad_settings(values, match):
    with pytest.raises(InvalidInputError, match=match):
        PatchIndex(**values)


def test_a_label_that_begins_late_has_its_patch_at_the_end():
    late = np.zeros((4, 8, 9))
    late[:, 2:, 7:] = 1
    index = PatchIndex((4, 8, 4), min_bbox_percent=0, progress=False)
    assert index.find(late).tolist() == [[0, 0, 5]]


def test_bad_labels(tmp_path):
    index = PatchIndex((4, 8, 4), progress=False)
    with pytest.raises(InvalidInputError, match=r"label has the shape \(8, 7, 8\).*smaller than a patch"):
        index.find(np.ones((8, 7, 8)))
    with pytest.raises(InvalidInputError, match="3 channels"):
        index.find(np.ones((3, 8, 8, 8)))
    with pytest.raises(InvalidInputError, match=r"all are 0$"):
        index.find(np.zeros((8, 8, 8)))
    with pytest.raises(InvalidInputError, match="all are 0 or the ignored 1"):
        PatchIndex(4, ignore_label=1, progress=False).find(np.ones((8, 8, 8)))
    with pytest.raises(MissingDataError, match=r"nothing\.zarr"):
        index.find(tmp_path / "nothing.zarr")
