"""Networks: nothing but tensors in, tensors out."""

from voxel_ext.networks.sizes import check_parameter_count, check_spatial_size

__all__ = ["check_parameter_count", "check_spatial_size"]
