"""A list of volumes is predicted one by one, each into a store of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import zarr
from monai.inferers import SlidingWindowInferer

from voxel_ext.data import open_volume
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.inferers import BlockwiseInferer, Normalizing, infer_volumes

WHOLE = (slice(None),) * 3


@pytest.fixture
def network():
    torch.manual_seed(0)
    return torch.nn.Conv3d(1, 1, 3, padding=1)


@pytest.fixture
def volumes(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("b", "a"):
        group = zarr.open_group(tmp_path / f"{name}.zarr", mode="w")
        group.create_array("image", data=rng.integers(0, 255, (12, 10, 11)).astype(np.uint8), chunks=(8, 8, 8))
    return [{"image": str(tmp_path / f"{name}.zarr/image")} for name in ("b", "a")]


def inferer(**options):
    return BlockwiseInferer((8, 8, 8), chunks=(4, 8, 8), progress=False, **options)


def test_each_volume_by_its_own_statistics(tmp_path, network, volumes):
    results = infer_volumes(volumes, network, inferer(), tmp_path / "out", scaling=Normalizing("zscore"))
    assert [result.name for result in results] == ["b", "a"]
    for result, entry in zip(results, volumes, strict=True):
        assert result.store == tmp_path / "out" / f"{result.name}.zarr"
        array = open_volume(entry["image"]).read(WHOLE).astype(np.float32)
        scaled = torch.from_numpy((array - array.mean()) / array.std())[None]
        with torch.no_grad():
            expected = SlidingWindowInferer((8, 8, 8), overlap=0.25, mode="gaussian")(scaled, network)[0]
        np.testing.assert_allclose(open_volume(result.store).read(WHOLE), expected, atol=1e-5)


def test_finished_volumes_are_kept(tmp_path, network, volumes):
    infer_volumes(volumes[:1], network, inferer(), tmp_path / "out")
    file = next(path for path in (tmp_path / "out" / "b.zarr").rglob("*") if path.is_file())
    before = file.stat().st_mtime_ns
    assert len(infer_volumes(volumes, network, inferer(), tmp_path / "out")) == 2
    assert file.stat().st_mtime_ns == before


def test_bad_lists(tmp_path, network, volumes):
    with pytest.raises(MissingDataError, match="no volumes"):
        infer_volumes([], network, inferer(), tmp_path / "out")
    with pytest.raises(InvalidInputError, match="several volumes are called 'b'"):
        infer_volumes([volumes[0], volumes[0]], network, inferer(), tmp_path / "out")
    with pytest.raises(InvalidInputError, match="channels=2"):
        infer_volumes(volumes, network, inferer(), tmp_path / "out", in_channels=2)
    with pytest.raises(InvalidInputError, match=r"scan\.nii\.gz is an image whose axes are"):
        infer_volumes([{"image": "scan.nii.gz"}], network, inferer(), tmp_path / "out", plain_images=False)
    assert not (tmp_path / "out").exists()
