"""Artificial mitochondria of six known classes of shape, as electron microscopy shows them."""

from voxel_ext.synthetic.mitochondria.classes import CLASSES
from voxel_ext.synthetic.mitochondria.generator import Mitochondria

__all__ = ["CLASSES", "Mitochondria"]
