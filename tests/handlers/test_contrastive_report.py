"""The report on features of objects."""

import h5py
import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose, Lambdad, RandGaussianNoised

from voxel_ext.data import ObjectDataset
from voxel_ext.engines import prepare_two_views
from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers import ContrastiveReportHandler
from voxel_ext.transforms import TwoViewsd


class Sums(torch.nn.Module):
    """Features that tell the objects apart: sums over the planes of each axis."""

    def forward(self, x: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        return torch.cat([x.sum((1, *[axis for axis in (2, 3, 4) if axis != kept])) for kept in (2, 3, 4)], 1)


def write_objects(path, count=6, classes=True, chunks=0):
    cubes = np.zeros((count + chunks, 1, 8, 8, 8), np.float16)
    for index, cube in enumerate(cubes):
        cube[0, 1 : 3 + index % 3, 2:6, 2:5] = 1
    with h5py.File(path, "w") as file:
        file["volumes"] = cubes
        file["id"] = np.r_[np.arange(1, count + 1), np.full(chunks, count)]
        file["chunk"] = np.r_[np.zeros(count, int), np.arange(1, chunks + 1)]
        file["scale"] = np.ones(len(cubes))
        if classes:
            file["class"] = np.arange(len(cubes)) % 3
            file.attrs["class_names"] = '["alpha", "beta", "gamma"]'
    return path


def run(dataset, handler, views=False):
    named = Lambdad("pred", lambda features: {"features": features}, track_meta=False)
    evaluator = SupervisedEvaluator(
        torch.device("cpu"),
        DataLoader(dataset, batch_size=4),
        Sums(),
        val_handlers=[handler],
        decollate=False,
        **({"prepare_batch": prepare_two_views} if views else {"postprocessing": named}),
    )
    evaluator.run()


def test_report_of_the_networks_output(tmp_path):
    dataset = ObjectDataset(write_objects(tmp_path / "objects.h5", chunks=2))
    handler = ContrastiveReportHandler(tmp_path / "out" / "report.html", dataset, title="<features>", notes=["a note"])
    run(dataset, handler)
    page = (tmp_path / "out" / "report.html").read_text()
    for words in ("&lt;features&gt;", "Map of the features", "Nearest neighbors", "a note", "6 objects"):
        assert words in page
    assert "Two views" not in page


def test_report_by_a_function_with_views_and_without_classes(tmp_path):
    noise = Compose([RandGaussianNoised("image", prob=1.0)])
    path = write_objects(tmp_path / "objects.h5", classes=False)
    dataset = ObjectDataset(path, transform=TwoViewsd(noise, seed=0))
    handler = ContrastiveReportHandler(
        tmp_path / "report.html", dataset, encode=Sums(), max_objects=2, max_map_objects=5
    )
    run(dataset, handler, views=True)
    page = (tmp_path / "report.html").read_text()
    for words in ("Map of the features", "5 objects", "Nearest neighbors", "Two views"):
        assert words in page


def test_an_object_without_intensities_is_drawn_empty(tmp_path):
    path = write_objects(tmp_path / "objects.h5")
    with h5py.File(path, "r+") as file:
        file["volumes"][2] = 0
    run(ObjectDataset(path), ContrastiveReportHandler(tmp_path / "report.html", ObjectDataset(path)))
    assert "Nearest neighbors" in (tmp_path / "report.html").read_text()


def test_bad_input(tmp_path):
    dataset = ObjectDataset(write_objects(tmp_path / "objects.h5"))
    with pytest.raises(InvalidInputError, match="max_map_objects=1;"):
        ContrastiveReportHandler(tmp_path / "report.html", dataset, max_map_objects=1)
    with pytest.raises(InvalidInputError, match="max_report_objects=-1"):
        ContrastiveReportHandler(tmp_path / "report.html", dataset, max_objects=-1)
    with pytest.raises(InvalidInputError, match="it is a folder"):
        run(dataset, ContrastiveReportHandler(tmp_path, dataset))
    with pytest.raises(InvalidInputError, match="no 'codes'"):
        run(dataset, ContrastiveReportHandler(tmp_path / "report.html", dataset, key="codes"))
