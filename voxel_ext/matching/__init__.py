"""Classical matching of worms on positions alone: assignment, alignment, coherent point drift and the atlas."""

from voxel_ext.matching.alignment import (
    PolynomialMap,
    affine_fit,
    polynomial_basis,
    polynomial_fit,
    roll_candidates,
    roll_positions,
)
from voxel_ext.matching.assignment import assign, assignment_margin
from voxel_ext.matching.atlas import AtlasAlignment, AtlasNaming, WormAtlas
from voxel_ext.matching.consensus import combined_cost, name_by_references
from voxel_ext.matching.drift import DriftResult, coherent_point_drift
from voxel_ext.matching.pairs import PairMatch, match_positions

__all__ = [
    "AtlasAlignment",
    "AtlasNaming",
    "DriftResult",
    "PairMatch",
    "PolynomialMap",
    "WormAtlas",
    "affine_fit",
    "assign",
    "assignment_margin",
    "coherent_point_drift",
    "combined_cost",
    "match_positions",
    "name_by_references",
    "polynomial_basis",
    "polynomial_fit",
    "roll_candidates",
    "roll_positions",
]
