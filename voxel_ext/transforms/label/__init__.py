"""Transforms of label volumes."""

from voxel_ext.transforms.label.affinities import LabelToAffinities, LabelToAffinitiesd, label_affinities
from voxel_ext.transforms.label.boundaries import (
    BlobsToMask,
    BlobsToMaskd,
    LabelToBoundary,
    LabelToBoundaryd,
    label_boundaries,
)
from voxel_ext.transforms.label.connected_components import (
    ConnectedComponents,
    ConnectedComponentsd,
    connected_components,
)
from voxel_ext.transforms.label.instance_gaps import instances_to_sparse_labels
from voxel_ext.transforms.label.relabel import RelabelConsecutive, RelabelConsecutived, relabel_consecutive
from voxel_ext.transforms.label.roi_targets import RoiTargetsd
from voxel_ext.transforms.label.sparse_labels import SparseLabelWeights, SparseLabelWeightsd, sparse_label_weights
from voxel_ext.transforms.label.targets import CheckTargetsd

__all__ = [
    "BlobsToMask",
    "BlobsToMaskd",
    "CheckTargetsd",
    "ConnectedComponents",
    "ConnectedComponentsd",
    "LabelToAffinities",
    "LabelToAffinitiesd",
    "LabelToBoundary",
    "LabelToBoundaryd",
    "RelabelConsecutive",
    "RelabelConsecutived",
    "RoiTargetsd",
    "SparseLabelWeights",
    "SparseLabelWeightsd",
    "connected_components",
    "instances_to_sparse_labels",
    "label_affinities",
    "label_boundaries",
    "relabel_consecutive",
    "sparse_label_weights",
]
