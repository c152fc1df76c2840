"""Figures, animations and self-contained HTML pages.

Pure functions of NumPy arrays with axes (D, H, W), or (H, W) where a single plane makes sense. The libraries that draw
are imported when a picture is made, not before.
"""

from voxel_ext.visualize.animation import write_animation
from voxel_ext.visualize.cluster_report import write_cluster_report
from voxel_ext.visualize.curves import learning_curves
from voxel_ext.visualize.labeled_projection import LabeledAnimal
from voxel_ext.visualize.neuroglancer_view import view_in_neuroglancer
from voxel_ext.visualize.object_thumbnails import object_thumbnails
from voxel_ext.visualize.render import render_volume
from voxel_ext.visualize.report import write_report
from voxel_ext.visualize.scene import volume_scene
from voxel_ext.visualize.slice_walk import walk_frames, write_walk
from voxel_ext.visualize.slices import slice_figure
from voxel_ext.visualize.surface_report import write_surface_report
from voxel_ext.visualize.vectors import vector_colors, vector_figure
from voxel_ext.visualize.worm_atlas_report import atlas_report
from voxel_ext.visualize.worm_cubes import view_cells
from voxel_ext.visualize.worm_matches import match_scene, naming_scene

__all__ = [
    "LabeledAnimal",
    "atlas_report",
    "learning_curves",
    "match_scene",
    "naming_scene",
    "object_thumbnails",
    "render_volume",
    "slice_figure",
    "vector_colors",
    "vector_figure",
    "view_cells",
    "view_in_neuroglancer",
    "volume_scene",
    "walk_frames",
    "write_animation",
    "write_cluster_report",
    "write_report",
    "write_surface_report",
    "write_walk",
]
