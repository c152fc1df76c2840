"""The synthetic volumes that the transforms are shown on, as items with tensors (C, Z, Y, X)."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from voxel_ext.morphology.point_clouds import sample_point_cloud
from voxel_ext.synthetic import Mitochondria, NeuroPAL, Sheets, Worm
from voxel_ext.transforms import instances_to_sparse_labels

Item = dict[str, Any]


def _tensor(array: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(array)).to(dtype)[None]


@functools.cache
def _neuropal() -> dict[str, Any]:
    return NeuroPAL(seed=3, size=(32, 80, 176), cells=90, threads=1).generate()


@functools.cache
def _mitochondria() -> dict[str, Any]:
    return Mitochondria(
        seed=1, size=(32, 112, 112), objects=12, volume=(0.016, 0.02), voxel_size=(24, 16, 16)
    ).generate()


@functools.cache
def _sheets() -> dict[str, Any]:
    return Sheets(seed=4, size=64, kind="spiral", spacing=13, thickness=5, tilt=10, gaps=0.1, noise=0.2).generate()


@functools.cache
def _worm() -> dict[str, Any]:
    return Worm(seed=0, cells=120, threads=1).generate()


def worm() -> Item:
    """The head of a worm: one channel ``image`` from 0 to 1, and ``label`` with the ids of the nuclei."""
    animal = _neuropal()
    image = _tensor(animal["image"].sum(0))
    return {"image": image / image.max(), "label": _tensor(animal["label"], torch.int64)}


def mitochondria() -> Item:
    """Electron microscopy: ``image`` from 0 to 1, ``label`` with ids and ``mask``."""
    volume = _mitochondria()
    label = _tensor(volume["label"], torch.int64)
    return {"image": _tensor(volume["image"]), "label": label, "mask": (label > 0).to(torch.uint8)}


def one_mitochondrion() -> Item:
    """The largest object: ``image`` and ``mask`` of it alone, in a cube of 64 voxels along y and x."""
    item = mitochondria()
    ids, counts = item["label"][item["label"] > 0].unique(return_counts=True)
    item["mask"] = (item["label"] == ids[counts.argmax()]).to(torch.uint8)
    center = item["mask"][0].nonzero().float().mean(0)
    corner = [int(np.clip(float(c) - 32, 0, 48)) for c in center[1:]]
    window = (..., slice(corner[0], corner[0] + 64), slice(corner[1], corner[1] + 64))
    return {"image": item["image"][window], "mask": item["mask"][window]}


def scattered_ids() -> Item:
    """Mitochondria whose ids are large and far apart."""
    label = mitochondria()["label"]
    return {"label": torch.where(label > 0, label * 977 + 12, 0)}


def sheets() -> Item:
    """A scroll: ``image``, ``sheet`` (mask) and ``normals`` (3, Z, Y, X), components (z, y, x)."""
    volume = _sheets()
    return {
        "image": _tensor(volume["image"]),
        "sheet": _tensor(volume["sheet"], torch.uint8),
        "normals": torch.as_tensor(volume["normals"]),
    }


def sheet_logits() -> Item:
    """What a network gives for a scroll: ``pred`` with noisy logits of ``sheet`` and ``normals``."""
    item = sheets()
    noise = torch.Generator().manual_seed(0)
    sheet = 8 * (item["sheet"].float() - 0.5) + torch.randn(item["sheet"].shape, generator=noise)
    normals = 3 * item["normals"] + 0.3 * torch.randn(item["normals"].shape, generator=noise)
    return {"image": item["image"], "pred": {"sheet": sheet, "normals": normals}}


def nucleus_probability() -> Item:
    """A probability of foreground, as a network gives it for the nuclei of a worm's head."""
    from scipy import ndimage

    label = worm()["label"]
    smooth = ndimage.gaussian_filter((label[0].numpy() > 0).astype(np.float32), 0.8)
    return {"image": worm()["image"], "probability": torch.from_numpy(np.clip(1.2 * smooth, 0, 1))[None]}


def sparse_nuclei() -> Item:
    """Labels as a person draws them: ``label`` 0 not labeled, 1 nucleus, 2 background, 3 gap."""
    item = worm()
    sparse = instances_to_sparse_labels(item["label"][0].numpy(), background_distance=8)
    return {"image": item["image"], "label": _tensor(sparse, torch.uint8)}


def labeled_rois() -> Item:
    """The nuclei of a worm's head, of each third of which the class is known: ``roi`` and the tables of the ROIs."""
    label = worm()["label"]
    ids = torch.unique(label[label > 0])
    known = ids % 3 == 0
    return {
        "image": worm()["image"],
        "roi": label,
        "roi_ids": ids,
        "roi_class": torch.where(known, ids, 0),
        "roi_weight": torch.where(known, 100.0 + 900.0 * (ids % 2), 1.0),
        "roi_other_weight": torch.where(known, 0.3, 1.0),
    }


def nucleus_cube() -> Item:
    """The cube of voxels around a nucleus of a worm."""
    volume = _worm()
    center = np.rint(volume["positions"][60]).astype(int)
    window = tuple(slice(c - 20, c + 20) for c in center)
    image = _tensor(volume["image"][window])
    return {"image": image / image.max()}


def points() -> Item:
    """Points on the surface of the largest mitochondrion."""
    return {"points": sample_point_cloud(one_mitochondrion()["mask"][0].numpy(), 4096, (24.0, 16.0, 16.0))}


def damaged() -> Item:
    """An image with values that are not numbers."""
    image = mitochondria()["image"].clone()
    image[:, :, 30:50, 40:70] = float("nan")
    return {"image": image}


def wrong_classes() -> Item:
    """A label with a class that is none of three."""
    mask = mitochondria()["mask"].long()
    return {"image": mitochondria()["image"], "label": torch.where(mitochondria()["label"] == 3, 7, mask)}
