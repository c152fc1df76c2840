"""Synthetic data with exact ground truth."""

from voxel_ext.synthetic.optic_lobe import OpticLobe, OpticLobe2D

__all__ = ["OpticLobe", "OpticLobe2D"]
