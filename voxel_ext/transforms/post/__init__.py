"""Transforms of what a network puts out."""

from voxel_ext.transforms.post.instances import (
    ProbabilityToInstances,
    ProbabilityToInstancesd,
    probability_to_instances,
)
from voxel_ext.transforms.post.targets import ActivateTargetsd

__all__ = ["ActivateTargetsd", "ProbabilityToInstances", "ProbabilityToInstancesd", "probability_to_instances"]
