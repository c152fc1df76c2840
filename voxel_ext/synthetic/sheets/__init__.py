"""Artificial stacks and scrolls of thin sheets in a CT scan, with their exact normals."""

from voxel_ext.synthetic.sheets.generator import KINDS, Sheets

__all__ = ["KINDS", "Sheets"]
