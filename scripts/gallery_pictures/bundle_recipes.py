"""What each bundle is trained on, and how long, for its picture: 1 to 20 minutes of one core each, or seconds."""

from __future__ import annotations

from typing import Any

from gallery_pictures.bundle_runs import Recipe

_MITOCHONDRIA = {"synthetic_size": [160, 160, 160], "synthetic_objects": 180, "synthetic_volume": [0.02, 0.04]}
_FEW_MITOCHONDRIA = {"synthetic_size": [48, 128, 128], "synthetic_objects": 12, "synthetic_volume": [0.02, 0.03]}
_TINY_MATCHING: dict[str, Any] = {
    "features": [2, 3],
    "hidden": 8,
    "grid": 2,
    "out_features": 12,
    "attention_layers": 1,
    "attention_width": 24,
    "attention_heads": 2,
}

RECIPES = {
    recipe.bundle: recipe
    for recipe in (
        Recipe(
            "optic_lobe_segmentation",
            data={"volume_size": 96, "volumes_per_file": 12, "validation_volumes": 1},
            network={"patch_size": [48, 48, 48]},
            training={"epochs": 10, "batch_size": 4, "learning_rate": 0.005, "patches_per_volume": 8},
        ),
        Recipe(
            "worm_autoencoder",
            data={"cells": 160, "training_worms": 3, "validation_worms": 1},
            training={"target": "turned", "epochs": 5, "cells_per_epoch": 320, "val_cells": 48, "learning_rate": 0.003},
        ),
        Recipe(
            "worm_matching",
            data={"cells": 120, "training_worms": 8, "validation_worms": 2},
            training={"num_cells": 120, "epochs": 15, "pairs_per_epoch": 20},
        ),
        Recipe(
            "neuron_segmentation",
            data={"volume_size": [32, 64, 96], "cells": 60, "training_volumes": 8, "validation_volumes": 1},
            network={"patch_size": [32, 48, 48]},
            training={"epochs": 12, "learning_rate": 0.003, "patches_per_volume": 4},
        ),
        Recipe(
            "cell_labeling",
            training_overlays=("variants/half_hour", "variants/all"),
        ),
        Recipe(
            "surface_multitask",
            data={"volume_size": [64, 64, 64], "training_volumes": 4, "validation_volumes": 1, "kind": "spiral"},
            network={"f_maps": [8, 16, 32], "patch_size": [32, 32, 32]},
            training={"epochs": 8, "iterations_per_epoch": 40, "validation_iterations": 8, "learning_rate": 0.002},
            inference={"chunks": [32, 32, 32], "show_report": False},
        ),
        Recipe(
            "em_shape_vae",
            inference={"max_report_objects": 2},
            inferred="",
        ),
        Recipe(
            "em_point_cloud_autoencoder",
            data=_MITOCHONDRIA,
            training={"epochs": 60, "val_interval": 10},
            inference={"max_report_objects": 2},
            inferred="",
        ),
        Recipe(
            "em_contrastive",
            data=_MITOCHONDRIA,
            training={"epochs": 30, "val_interval": 10, "batch_size": 32},
            inference={"max_report_objects": 2},
            inferred="",
        ),
        Recipe("em_clustering", data=_MITOCHONDRIA, inferred=""),
    )
}
"""By name of the bundle."""

QUICK = {
    recipe.bundle: recipe
    for recipe in (
        Recipe(
            "optic_lobe_segmentation",
            data={"volume_size": 32, "volumes_per_file": 2, "validation_volumes": 1},
            network={"depth": 2, "start_channels": 4, "patch_size": [16, 16, 16]},
            training={"epochs": 1, "batch_size": 2},
        ),
        Recipe(
            "worm_autoencoder",
            data={"cells": 12, "cube_size": 16, "training_worms": 2, "validation_worms": 1},
            network={"features": [2, 3]},
            training={"target": "turned", "epochs": 1, "cells_per_epoch": 24, "val_cells": 12},
        ),
        Recipe(
            "worm_matching",
            data={"cells": 12, "cube_size": 16, "training_worms": 2, "validation_worms": 2},
            network=_TINY_MATCHING,
            training={"num_cells": 12, "pairs_per_epoch": 2, "epochs": 1},
        ),
        Recipe(
            "neuron_segmentation",
            data={"volume_size": [16, 32, 40], "cells": 12, "training_volumes": 2, "validation_volumes": 1},
            network={"f_maps": 4, "num_groups": 2, "num_levels": 2, "patch_size": [16, 16, 16], "min_size": 2},
            training={"epochs": 1, "patches_per_volume": 2},
        ),
        Recipe(
            "cell_labeling",
            data={"volume_size": [12, 24, 40], "cells": 8, "training_animals": 4, "validation_animals": 1},
            network={"f_maps": 4, "num_groups": 2, "num_levels": 2},
            training={"patch_size": [12, 24, 40], "epochs": 1},
            inference={"roi_size": [12, 24, 40]},
        ),
        Recipe(
            "surface_multitask",
            data={
                "volume_size": [32, 32, 32],
                "training_volumes": 2,
                "validation_volumes": 1,
                "chunks": [16, 16, 16],
            },
            network={"f_maps": [8, 16], "patch_size": [16, 16, 16]},
            training={"epochs": 1, "iterations_per_epoch": 2, "validation_iterations": 2},
            inference={"chunks": [16, 16, 16], "show_report": False},
        ),
        Recipe(
            "em_shape_vae",
            data={**_FEW_MITOCHONDRIA, "size": 16},
            network={"size": 16, "latent_size": 3, "filters": [2, 4]},
            training={"epochs": 1, "batch_size": 4},
            inference={"max_report_objects": 2},
            inferred="",
        ),
        Recipe(
            "em_point_cloud_autoencoder",
            data={**_FEW_MITOCHONDRIA, "points": 96},
            network={
                "num_points": 24,
                "latent_size": 4,
                "channels": [8, 12],
                "decoder_channels": [16],
                "val_points": 48,
            },
            training={"epochs": 1, "batch_size": 4, "points": 32},
            inference={"max_report_objects": 2},
            inferred="",
        ),
        Recipe(
            "em_contrastive",
            data={**_FEW_MITOCHONDRIA, "size": 16},
            network={"width": 0.0625, "projector_size": 16, "predictor_size": 8, "size": 16},
            training={"epochs": 1, "batch_size": 4, "warmup_epochs": 0},
            inference={"max_report_objects": 2},
            inferred="",
        ),
        Recipe("em_clustering", data=_FEW_MITOCHONDRIA, inferred=""),
    )
}
"""By name of the bundle, for ``--quick``."""
