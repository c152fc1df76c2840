"""Networks: nothing but tensors in, tensors out."""

from voxel_ext.networks.freezing import freeze
from voxel_ext.networks.groups import RotationGroup, rotation_group
from voxel_ext.networks.sizes import check_parameter_count, check_spatial_size

__all__ = ["RotationGroup", "check_parameter_count", "check_spatial_size", "freeze", "rotation_group"]
