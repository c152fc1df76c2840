"""Transforms of what a network puts out."""

from voxel_ext.transforms.post.instances import (
    ProbabilityToInstances,
    ProbabilityToInstancesd,
    probability_to_instances,
)

__all__ = ["ProbabilityToInstances", "ProbabilityToInstancesd", "probability_to_instances"]
