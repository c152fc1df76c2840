"""Readers of volumes for ``benchmarks.fuzz``: Vaa3D, HDF5, zarr, images, slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz_child import Reader
from voxel_ext.data import (
    HDF5Reader,
    Vaa3DRawReader,
    ZarrReader,
    open_volume,
    write_vaa3d,
)
from voxel_ext.data.prepared_file import write_prepared
from voxel_ext.data.worm_volumes import load_volume
from voxel_ext.data.zarr_io import create_image, multiscale_attributes

SHAPE = (5, 6, 7)
SIZE = (0.5, 0.25, 0.25)


def volume(kind: str = "u2") -> Any:
    """A small volume."""
    return np.random.default_rng(0).integers(0, 200, SHAPE).astype(kind)


def make_vaa3d(folder: Path) -> Sequence[Path]:
    """Both byte orders and both kinds of headers."""
    files = [
        write_vaa3d(folder / "a.raw", volume("u1")),
        write_vaa3d(folder / "b.v3draw", np.stack([volume()] * 2), size_bytes=2),
    ]
    return [*files, write_vaa3d(folder / "c.raw", volume("f4"), byte_order="big")]


def make_hdf5(folder: Path) -> Sequence[Path]:
    """Chunks and none, filters and none."""
    import h5py

    write_prepared(folder / "a.h5", {"raw": volume()}, {"made": 1}, SIZE)
    with h5py.File(folder / "b.h5", "w") as file:
        file.create_dataset("group/raw", data=volume("f4"))
    with h5py.File(folder / "c.h5", "w", libver="latest") as file:
        options = {
            "chunks": (2, 3, 4),
            "shuffle": True,
            "fletcher32": True,
            "compression": "lzf",
            "maxshape": (None,) * 3,
        }
        file.create_dataset("raw", data=volume("i4"), **options)
        file["raw"].attrs["element_size_um"] = SIZE
    return [folder / f"{name}.h5" for name in "abc"]


def make_zarr2(folder: Path) -> Sequence[Path]:
    """Format 2 with several codecs, an OME-Zarr 0.4 image among them."""
    import numcodecs
    import zarr

    codecs = {"a": numcodecs.Blosc("lz4"), "b": numcodecs.GZip(), "c": numcodecs.Zstd(), "d": numcodecs.LZ4()}
    for name, codec in codecs.items():
        group = zarr.open_group(str(folder / f"{name}.zarr"), mode="w", zarr_format=2)
        group.create_array("0", data=volume(), chunks=(3, 4, 4), compressors=codec)
        group.attrs.update(multiscale_attributes("0", SIZE, False)["ome"])
    return [folder / f"{name}.zarr" for name in codecs]


def make_zarr3(folder: Path) -> Sequence[Path]:
    """Format 3, OME-Zarr 0.5, shards, several codecs."""
    import zarr
    from zarr.codecs import BloscCodec, GzipCodec

    create_image(folder / "a.zarr", SHAPE, "u2", (3, 4, 4), SIZE)[:] = volume()
    write_prepared(folder / "b.zarr", {"raw": volume("f4")}, {"made": 1}, SIZE)
    group = zarr.open_group(str(folder / "c.zarr"), mode="w", zarr_format=3)
    sharded = group.create_array("raw", shape=(6, 6, 8), dtype="i4", chunks=(3, 3, 4), shards=(6, 6, 8))
    sharded[:] = 3
    sharded[1] = 7
    for name, codec in (("d", BloscCodec(cname="zstd")), ("e", GzipCodec())):
        group = zarr.open_group(str(folder / f"{name}.zarr"), mode="w", zarr_format=3)
        group.create_array("raw", data=volume(), chunks=(3, 4, 4), compressors=codec)
    return [folder / f"{name}.zarr" for name in "abcde"]


def make_images(folder: Path) -> Sequence[Path]:
    """NumPy, NIfTI, TIFF (plain, compressed, ImageJ), NRRD and MetaImage."""
    import itk
    import nibabel
    import tifffile

    np.save(folder / "a.npy", volume())
    for name in ("b.nii", "c.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(volume("i2"), np.eye(4)), folder / name)
    tifffile.imwrite(folder / "d.tif", volume())
    tifffile.imwrite(folder / "e.tif", volume(), compression="zlib")
    tifffile.imwrite(
        folder / "f.tif", volume(), imagej=True, resolution=(4, 4), metadata={"spacing": 0.5, "unit": "um"}
    )
    for name in ("g.nrrd", "h.mha"):
        itk.imwrite(itk.image_from_array(volume()), str(folder / name), compression=True)
    return sorted(folder.iterdir())


def make_slices(folder: Path) -> Sequence[Path]:
    """Folders of PNG and TIFF slices."""
    import tifffile
    from PIL import Image

    for name in ("png", "tif"):
        (folder / name).mkdir()
    for number, values in enumerate(volume("u1")[:3]):
        Image.fromarray(values).save(folder / "png" / f"s{number}.png")
        tifffile.imwrite(folder / "tif" / f"s{number}.tif", values)
    return [folder / "png", folder / "tif"]


def read_lazily(path: Path) -> None:
    """Open, and read a box and the fingerprint."""
    opened = open_volume(path)
    opened.read([slice(0, min(length, 8)) for length in opened.spatial_shape])
    opened.fingerprint()


def _load(reader: Any, path: Path) -> object:
    return reader.get_data(reader.read(path))


READERS = (
    Reader("vaa3d", make_vaa3d, lambda path: _load(Vaa3DRawReader(), path)),
    Reader("hdf5", make_hdf5, lambda path: _load(HDF5Reader(), path)),
    Reader("hdf5_lazy", make_hdf5, read_lazily),
    Reader("zarr2", make_zarr2, lambda path: _load(ZarrReader(), path)),
    Reader("zarr3", make_zarr3, lambda path: _load(ZarrReader(), path)),
    Reader("zarr_lazy", lambda folder: [*make_zarr2_and_3(folder)], read_lazily),
    Reader("images_lazy", make_images, read_lazily),
    Reader("images", lambda folder: [path for path in make_images(folder) if path.suffix != ".npy"], load_volume),
    Reader("slices", make_slices, read_lazily),
)


def make_zarr2_and_3(folder: Path) -> Sequence[Path]:
    """Stores of both formats."""
    for name in ("2", "3"):
        (folder / name).mkdir()
    return [*make_zarr2(folder / "2"), *make_zarr3(folder / "3")]
