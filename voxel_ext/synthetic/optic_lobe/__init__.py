"""Artificial volumes and images of the fly's optic lobe."""

from voxel_ext.synthetic.optic_lobe.image import OpticLobe2D
from voxel_ext.synthetic.optic_lobe.volume import OpticLobe

__all__ = ["OpticLobe", "OpticLobe2D"]
