"""Artificial worms: drawn or given positions of nuclei, rendered as a label volume and an intensity volume."""

from voxel_ext.synthetic.worm.generator import Worm
from voxel_ext.synthetic.worm.shape_model import WormShapeModel

__all__ = ["Worm", "WormShapeModel"]
