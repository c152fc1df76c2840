"""Names of the features of objects: groups of classical ones, EManalysis' names of them, and learned ones."""

from __future__ import annotations

from collections.abc import Sequence

from voxel_ext.errors import InvalidInputError, check_option

FEATURE_GROUPS = {
    "size": ("voxels", "volume_um3", "equivalent_diameter_nm"),
    "distance": ("nearest_neighbor_nm", "mean_neighbor_nm", "neighbors_in_radius", "neighbor_density_per_um3"),
    "density": ("block_objects", "block_volume_fraction"),
    "sphericity": ("sphericity",),
    "surface_to_volume": ("surface_area_um2", "surface_to_volume_per_um"),
    "shape": (
        "major_axis_nm",
        "middle_axis_nm",
        "minor_axis_nm",
        "elongation",
        "flatness",
        "extent",
        "euler_number",
        "solidity",
        "mean_curvature_per_um",
        "mean_curvature_std_per_um",
        "gaussian_curvature_per_um2",
        "gaussian_curvature_std_per_um2",
    ),
    "skeleton": (
        "skeleton_length_nm",
        "skeleton_longest_path_nm",
        "skeleton_branch_points",
        "skeleton_end_points",
        "skeleton_loops",
    ),
    "thickness": ("inscribed_radius_nm", "mean_depth_nm"),
    "intensity": ("intensity_mean", "intensity_std", "intensity_min", "intensity_max"),
    "slices": ("slice_circularity", "slice_path_nm", "slice_surface_to_volume_per_um"),
}
"""Groups of features, and the columns of each."""

CROP_GROUPS = ("sphericity", "surface_to_volume", "shape", "skeleton", "thickness", "slices")
"""Groups that need each object's mask; the others, and parts of ``shape``, come from statistics of all objects."""

ALIASES = {
    "sizef": "size",
    "distf": "distance",
    "circf": "sphericity",
    "slenf": "skeleton",
    "surface_to_volumef": "surface_to_volume",
    "spatial_densityf": "density",
}
"""EManalysis' names of groups. The definitions are those of the groups; EManalysis' own of ``circf``, ``slenf`` and
``surface_to_volumef``, slice by slice, are the group ``slices``."""

LEARNED = {
    "shapef": "em_shape_vae",
    "texturef": "em_shape_vae with --contents masked_image",
    "shape_texturef": "em_shape_vae with --contents both",
    "ptcf": "em_point_cloud_autoencoder",
    "clf": "em_contrastive",
}
"""Features that a network computes, and the bundle (with its options) whose ``run inference`` writes them."""


def name_features(features: str | Sequence[str], image: bool) -> dict[str, str]:
    """Return the group of each name.

    Args:
        features: ``"all"``, or one or several names of :data:`FEATURE_GROUPS` or :data:`ALIASES`.
        image: whether there is an image; without, ``"all"`` has no ``intensity``.

    Returns:
        group by name, in the order asked for.

    Raises:
        InvalidInputError: a name that is not known, or of a learned feature (says which bundle computes it);
            ``intensity`` asked for without an image; none at all.
    """
    names = [features] if isinstance(features, str) else list(features)
    if not names:
        raise InvalidInputError(
            f"features={features!r} is empty; expected 'all' or some of {', '.join(FEATURE_GROUPS)}"
        )
    if names == ["all"]:
        return {name: name for name in FEATURE_GROUPS if image or name != "intensity"}
    for name in names:
        if isinstance(name, str) and name in LEARNED:
            bundle = LEARNED[name]
            raise InvalidInputError(
                f"features has {name!r}, which a network computes: train the bundle {bundle} and run, in its folder, "
                "python -m monai.bundle run inference --config_file configs/inference.json; leave it out here"
            )
        check_option("features", name, [*FEATURE_GROUPS, *ALIASES, *(["all"] if len(names) == 1 else [])])
    if "intensity" in names and not image:
        raise InvalidInputError("features has 'intensity', but there is no image; give image, or leave it out")
    return {name: ALIASES.get(name, name) for name in names}
