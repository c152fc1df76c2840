"""Normals of surfaces that a mask or a mesh gives."""

from voxel_ext.transforms.surface.normals_from_mask import mask_normals_halo, normals_from_mask, signed_distance
from voxel_ext.transforms.surface.normals_from_mesh import SurfaceMesh, normals_from_mesh, vertex_normals
from voxel_ext.transforms.surface.orientation import orient_normals
from voxel_ext.transforms.surface.structure_tensor import structure_tensor_normals

__all__ = [
    "SurfaceMesh",
    "mask_normals_halo",
    "normals_from_mask",
    "normals_from_mesh",
    "orient_normals",
    "signed_distance",
    "structure_tensor_normals",
    "vertex_normals",
]
