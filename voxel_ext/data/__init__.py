"""Readers, writers, data lists and data preparation.

Importing this package registers the HDF5 and zarr readers and writers with MONAI's ``LoadImage`` and ``SaveImage``.
"""

from voxel_ext.data.address import VolumeAddress, parse_address
from voxel_ext.data.block_split import split_by_blocks
from voxel_ext.data.cell_labeling_dataset import LoadCellVolumed, cell_labeling_lists, cell_volume_addresses
from voxel_ext.data.cell_labeling_file import (
    CellVolume,
    list_cell_volumes,
    read_cell_header,
    read_cell_volume,
    write_cell_volume,
)
from voxel_ext.data.cell_labeling_preparation import prepare_cell_labeling
from voxel_ext.data.datalist import list_volumes
from voxel_ext.data.ensure import ensure_dataset, mark_complete
from voxel_ext.data.feature_files import compare_feature_ids, read_feature_folder, read_features, write_features
from voxel_ext.data.grid_patches import GridPatches
from voxel_ext.data.lazy_volume import LazyVolume, open_volume
from voxel_ext.data.mitochondria_synthetic import MitochondriaFiles, prepare_synthetic_mitochondria
from voxel_ext.data.naming import volume_name
from voxel_ext.data.neuron_preparation import prepare_neurons
from voxel_ext.data.neuron_synthetic import prepare_synthetic_neurons
from voxel_ext.data.neuropal_synthetic import prepare_synthetic_neuropal
from voxel_ext.data.object_contents import check_prepared_objects, object_channels, object_feature_name
from voxel_ext.data.object_crops import cut_object, cut_samples
from voxel_ext.data.object_dataset import ObjectDataset, PointCloudDataset
from voxel_ext.data.object_measurement import measure_volume
from voxel_ext.data.object_preparation import ObjectReport, prepare_objects
from voxel_ext.data.object_table import object_statistics
from voxel_ext.data.patch_index import PatchIndex
from voxel_ext.data.point_cloud_preparation import prepare_point_clouds
from voxel_ext.data.preparation import prepare_synthetic
from voxel_ext.data.readers import HDF5Reader, ZarrReader, register_readers
from voxel_ext.data.relabel import Relabeled, relabel_volume
from voxel_ext.data.saving import SaveVolume, SaveVolumed
from voxel_ext.data.scheduling import block_scheduler
from voxel_ext.data.sheet_synthetic import prepare_synthetic_sheets, write_sheets
from voxel_ext.data.slice_folder import list_slices
from voxel_ext.data.splitting import datalists, split_volumes
from voxel_ext.data.surface_data import (
    SurfaceData,
    SurfacePatches,
    surface_evaluation_dataset,
    surface_volume_dataset,
    surface_volumes,
)
from voxel_ext.data.surface_patches import SurfacePatchDataset
from voxel_ext.data.surface_preparation import SurfaceReport, prepare_surfaces
from voxel_ext.data.surface_sources import read_mesh
from voxel_ext.data.surface_volumes import SurfaceVolume, read_surface_volumes
from voxel_ext.data.synthetic_volumes import SyntheticDataset, SyntheticVolumes
from voxel_ext.data.vaa3d import Vaa3DRawReader, open_vaa3d, read_vaa3d, register_vaa3d_reader, write_vaa3d
from voxel_ext.data.vector_codes import decode_vectors, encode_vectors
from voxel_ext.data.volume_statistics import normalization_of
from voxel_ext.data.worm_atlas import (
    align_by_atlas,
    aligned_positions,
    atlas_worms,
    build_atlas,
    compare_pairs,
    name_by_atlas,
)
from voxel_ext.data.worm_cells import WormCellDataset
from voxel_ext.data.worm_checks import list_prepared, require_valid_worms, validate_worms, worm_statistics
from voxel_ext.data.worm_cubes import cut_worm
from voxel_ext.data.worm_file import WormCubes, read_worm, read_worm_header, write_worm
from voxel_ext.data.worm_pairs import WormDataset, WormPairDataset, opposite_roll
from voxel_ext.data.worm_preparation import prepare_worms
from voxel_ext.data.worm_store import WormStore, intensity_statistics, worm_lists
from voxel_ext.data.worm_synthetic import prepare_synthetic_worms
from voxel_ext.data.worm_table import WormTable, read_worm_table, write_worm_table
from voxel_ext.data.writers import HDF5Writer, ZarrWriter, register_writers
from voxel_ext.data.zyx import AsImageFiled, LoadZyxd, reverse_axes

__all__ = [
    "AsImageFiled",
    "CellVolume",
    "GridPatches",
    "HDF5Reader",
    "HDF5Writer",
    "LazyVolume",
    "LoadCellVolumed",
    "LoadZyxd",
    "MitochondriaFiles",
    "ObjectDataset",
    "ObjectReport",
    "PatchIndex",
    "PointCloudDataset",
    "Relabeled",
    "SaveVolume",
    "SaveVolumed",
    "SurfaceData",
    "SurfacePatchDataset",
    "SurfacePatches",
    "SurfaceReport",
    "SurfaceVolume",
    "SyntheticDataset",
    "SyntheticVolumes",
    "Vaa3DRawReader",
    "VolumeAddress",
    "WormCellDataset",
    "WormCubes",
    "WormDataset",
    "WormPairDataset",
    "WormStore",
    "WormTable",
    "ZarrReader",
    "ZarrWriter",
    "align_by_atlas",
    "aligned_positions",
    "atlas_worms",
    "block_scheduler",
    "build_atlas",
    "cell_labeling_lists",
    "cell_volume_addresses",
    "check_prepared_objects",
    "compare_feature_ids",
    "compare_pairs",
    "cut_object",
    "cut_samples",
    "cut_worm",
    "datalists",
    "decode_vectors",
    "encode_vectors",
    "ensure_dataset",
    "intensity_statistics",
    "list_cell_volumes",
    "list_prepared",
    "list_slices",
    "list_volumes",
    "mark_complete",
    "measure_volume",
    "name_by_atlas",
    "normalization_of",
    "object_channels",
    "object_feature_name",
    "object_statistics",
    "open_vaa3d",
    "open_volume",
    "opposite_roll",
    "parse_address",
    "prepare_cell_labeling",
    "prepare_neurons",
    "prepare_objects",
    "prepare_point_clouds",
    "prepare_surfaces",
    "prepare_synthetic",
    "prepare_synthetic_mitochondria",
    "prepare_synthetic_neurons",
    "prepare_synthetic_neuropal",
    "prepare_synthetic_sheets",
    "prepare_synthetic_worms",
    "prepare_worms",
    "read_cell_header",
    "read_cell_volume",
    "read_feature_folder",
    "read_features",
    "read_mesh",
    "read_surface_volumes",
    "read_vaa3d",
    "read_worm",
    "read_worm_header",
    "read_worm_table",
    "relabel_volume",
    "require_valid_worms",
    "reverse_axes",
    "split_by_blocks",
    "split_volumes",
    "surface_evaluation_dataset",
    "surface_volume_dataset",
    "surface_volumes",
    "validate_worms",
    "volume_name",
    "worm_lists",
    "worm_statistics",
    "write_cell_volume",
    "write_features",
    "write_sheets",
    "write_vaa3d",
    "write_worm",
    "write_worm_table",
]

register_readers()
register_vaa3d_reader()
register_writers()
