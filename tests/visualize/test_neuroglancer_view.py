import io
import sys
import urllib.request
import zlib

import numpy as np
import pytest
import zarr

from voxel_ext.errors import InvalidInputError, MissingDependencyError
from voxel_ext.visualize import view_in_neuroglancer


@pytest.fixture
def volumes():
    labels = np.zeros((6, 10, 12), np.uint64)
    labels[1:4, 2:6, 3:9] = 2**62 + 1
    labels[4:6, 7:9, 1:4] = 5
    image = np.random.default_rng(0).integers(0, 255, labels.shape, np.uint8)
    return image, labels, (labels > 5).astype(np.uint8) + (labels > 0)


def chunk(viewer, layer, start, end):
    """A box of a layer as the viewer's page asks for it."""
    token = viewer.state.layers[layer].source[0].url.rsplit("/", 1)[1]
    server = str(viewer).split("/v/")[0]
    places = "/".join(",".join(map(str, corner)) for corner in (start, end))
    with urllib.request.urlopen(f"{server}/neuroglancer/npz/{token}/1,1,1/{places}") as answer:
        return np.load(io.BytesIO(zlib.decompress(answer.read())))


def test_missing_package_is_named(monkeypatch, volumes):
    monkeypatch.setitem(sys.modules, "neuroglancer", None)
    with pytest.raises(MissingDependencyError, match="pip install neuroglancer"):
        view_in_neuroglancer(*volumes, (30, 16, 16))


@pytest.fixture
def viewer(volumes, tmp_path):
    pytest.importorskip("neuroglancer")
    image, labels, clusters = volumes
    stored = zarr.create_array(str(tmp_path / "labels.zarr"), shape=labels.shape, chunks=(4, 4, 4), dtype=labels.dtype)
    stored[:] = labels
    return view_in_neuroglancer(image, tmp_path / "labels.zarr", clusters, (30, 16, 8), n_clusters=1)


def test_chunks_are_those_of_the_volumes(viewer, volumes):
    for name, volume in zip(("image", "labels", "clusters"), volumes, strict=True):
        found = chunk(viewer, name, (1, 2, 3), (5, 10, 12))
        np.testing.assert_array_equal(found, volume[1:5, 2:10, 3:12])
    assert chunk(viewer, "labels", (1, 2, 3), (2, 3, 4)).item() == 2**62 + 1


def test_dimensions_are_in_nanometers(viewer):
    space = viewer.state.dimensions
    assert list(space.names) == ["z", "y", "x"]
    assert set(space.units) == {"m"}
    np.testing.assert_allclose(space.scales, [30e-9, 16e-9, 8e-9])
    assert viewer.state.layers["clusters"].layer.segment_colors[1] == "#3b82f6"


def test_bad_input(volumes):
    pytest.importorskip("neuroglancer")
    image, labels, clusters = volumes
    with pytest.raises(InvalidInputError, match=r"\(clusters\) has shape \(3, 10, 12\)"):
        view_in_neuroglancer(image, labels, clusters[:3], (30, 16, 16))
    with pytest.raises(InvalidInputError, match="expected integers"):
        view_in_neuroglancer(image, labels, clusters.astype(float), (30, 16, 16))
    with pytest.raises(InvalidInputError, match="voxel size"):
        view_in_neuroglancer(image, labels, clusters)
