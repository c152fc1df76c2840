"""Transforms of vector fields: the voxels move and the vectors turn with them."""

from voxel_ext.transforms.vector.affine import RandAffineVectord, affine_source, affine_vectors, rotation_matrix
from voxel_ext.transforms.vector.cube_rotation import RandCubeRotationVectord, turn_vectors, turn_volume
from voxel_ext.transforms.vector.elastic import (
    RandElasticVectord,
    elastic_source,
    elastic_vectors,
    smooth_displacement,
)
from voxel_ext.transforms.vector.flip import RandFlipVectord, flip_vectors
from voxel_ext.transforms.vector.resample import SourceMap, move_scalars, move_vectors
from voxel_ext.transforms.vector.rotate90 import RandRotate90Vectord, rotate90_vectors

__all__ = [
    "RandAffineVectord",
    "RandCubeRotationVectord",
    "RandElasticVectord",
    "RandFlipVectord",
    "RandRotate90Vectord",
    "SourceMap",
    "affine_source",
    "affine_vectors",
    "elastic_source",
    "elastic_vectors",
    "flip_vectors",
    "move_scalars",
    "move_vectors",
    "rotate90_vectors",
    "rotation_matrix",
    "smooth_displacement",
    "turn_vectors",
    "turn_volume",
]
