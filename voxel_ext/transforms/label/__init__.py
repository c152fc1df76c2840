"""Transforms of label volumes."""

from voxel_ext.transforms.label.connected_components import (
    ConnectedComponents,
    ConnectedComponentsd,
    connected_components,
)

__all__ = ["ConnectedComponents", "ConnectedComponentsd", "connected_components"]
