"""Array transforms and their dictionary wrappers."""

from voxel_ext.transforms.intensity import ValidateImage, ValidateImaged, check_image
from voxel_ext.transforms.label import ConnectedComponents, ConnectedComponentsd, connected_components

__all__ = [
    "ConnectedComponents",
    "ConnectedComponentsd",
    "ValidateImage",
    "ValidateImaged",
    "check_image",
    "connected_components",
]
