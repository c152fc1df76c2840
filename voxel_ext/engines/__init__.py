"""What Ignite and MONAI engines cannot express, as small functions."""

from voxel_ext.engines.optimizers import build_optimizer

__all__ = ["build_optimizer"]
