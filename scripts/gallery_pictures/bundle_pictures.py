"""A picture of what each bundle's own commands make of small synthetic data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gallery_pictures import bundle_objects, bundle_volumes, bundle_worms
from gallery_pictures.bundle_recipes import QUICK, RECIPES
from gallery_pictures.bundle_runs import BUNDLES, Recipe, train_and_infer
from gallery_pictures.entries import Context, Drawn, Entry

DRAWERS: dict[str, Callable[[Path], bytes]] = {
    "optic_lobe_segmentation": bundle_volumes.optic_lobe,
    "worm_autoencoder": bundle_worms.autoencoder,
    "worm_matching": bundle_worms.matching,
    "neuron_segmentation": bundle_volumes.neurons,
    "cell_labeling": bundle_worms.labeling,
    "surface_multitask": bundle_volumes.surfaces,
    "em_shape_vae": bundle_objects.shape_vae,
    "em_point_cloud_autoencoder": bundle_objects.point_clouds,
    "em_contrastive": bundle_objects.contrastive,
    "em_clustering": bundle_objects.clustering,
}
"""By name of the bundle: from the folder of its work to a PNG file."""


def entries() -> list[Entry]:
    """An entry for each bundle."""
    return [Entry("Bundles", name, description(name), _drawer(name)) for name in DRAWERS]


def description(name: str) -> str:
    """What a bundle does, the first sentence of its metadata."""
    metadata = json.loads((BUNDLES / name / "configs" / "metadata.json").read_text(encoding="utf-8"))
    return str(metadata["description"]).split(". ")[0].rstrip(".") + "."


def _drawer(name: str) -> Callable[[Context], Drawn]:
    def draw(context: Context) -> Drawn:
        recipe = (QUICK if context.quick else RECIPES)[name]
        if name == "em_clustering":
            folder = bundle_objects.measure_and_cluster(recipe, context.work, context.quick)
            return Drawn(
                DRAWERS[name](folder), _commands(recipe, ("prepare", "features", "clustering")), "Nothing is trained."
            )
        folder = train_and_infer(recipe, context.work)
        return Drawn(DRAWERS[name](folder), _commands(recipe, ("prepare", "training", "inference")), _note(folder))

    return draw


def _commands(recipe: Recipe, names: tuple[str, ...]) -> str:
    """The commands of a bundle with what differs from its defaults."""
    given = {"prepare": recipe.data, "training": {**recipe.network, **recipe.training}}
    given["inference"] = {**recipe.network, **recipe.inference}
    lines = []
    for name in names:
        config = f"configs/{'train' if name == 'training' else name}.json"
        if name == "training" and recipe.training_overlays:
            files = [config, *(f"configs/{overlay}.json" for overlay in recipe.training_overlays)]
            config = f'"{files}"'.replace(" ", "")
        options = "".join(f" --{key} {_word(value)}" for key, value in given.get(name, {}).items())
        lines.append(f"python -m monai.bundle run {name} --config_file {config}{options}")
    return "\n".join(lines)


def _word(value: Any) -> str:
    text = str(value).replace(" ", "")
    return f"'{text}'" if isinstance(value, list) else text


def _note(folder: Path) -> str:
    """How long the network was trained, from the history of the training."""
    from voxel_ext.handlers import read_history

    rows = read_history(folder / "models" / "history.jsonl")
    files = len(list((folder / "data" / "train").glob("*")))
    amount = {0: "a synthetic volume", 1: "a synthetic file"}.get(files, f"{files} synthetic files")
    return f"Trained for {len(rows)} epochs on {amount}: what the bundle is for, not how good it can be."
