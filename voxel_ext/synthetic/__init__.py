"""Synthetic data with exact ground truth."""

from voxel_ext.synthetic.mitochondria import Mitochondria
from voxel_ext.synthetic.neuropal import NeuroPAL
from voxel_ext.synthetic.optic_lobe import OpticLobe, OpticLobe2D
from voxel_ext.synthetic.sheets import Sheets
from voxel_ext.synthetic.worm import Worm, WormShapeModel

__all__ = [
    "Mitochondria",
    "NeuroPAL",
    "OpticLobe",
    "OpticLobe2D",
    "Sheets",
    "Worm",
    "WormShapeModel",
]
