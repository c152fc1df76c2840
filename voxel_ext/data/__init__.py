"""Readers, writers, data lists and data preparation.

Importing this package registers the HDF5 and zarr readers and writers with MONAI's ``LoadImage`` and ``SaveImage``.
"""

from voxel_ext.data.address import VolumeAddress, parse_address
from voxel_ext.data.datalist import list_volumes
from voxel_ext.data.ensure import ensure_dataset
from voxel_ext.data.naming import volume_name
from voxel_ext.data.preparation import prepare_synthetic
from voxel_ext.data.readers import HDF5Reader, ZarrReader, register_readers
from voxel_ext.data.saving import SaveVolume, SaveVolumed
from voxel_ext.data.splitting import datalists, split_volumes
from voxel_ext.data.synthetic_volumes import SyntheticDataset, SyntheticVolumes
from voxel_ext.data.writers import HDF5Writer, ZarrWriter, register_writers

__all__ = [
    "HDF5Reader",
    "HDF5Writer",
    "SaveVolume",
    "SaveVolumed",
    "SyntheticDataset",
    "SyntheticVolumes",
    "VolumeAddress",
    "ZarrReader",
    "ZarrWriter",
    "datalists",
    "ensure_dataset",
    "list_volumes",
    "parse_address",
    "prepare_synthetic",
    "split_volumes",
    "volume_name",
]

register_readers()
register_writers()
