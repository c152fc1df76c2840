"""Artificial NeuroPAL heads: four-channel volumes of neurons whose names are known."""

from voxel_ext.synthetic.neuropal.cells import head_cells
from voxel_ext.synthetic.neuropal.colors import CHANNELS, color_code
from voxel_ext.synthetic.neuropal.generator import NeuroPAL

__all__ = ["CHANNELS", "NeuroPAL", "color_code", "head_cells"]
