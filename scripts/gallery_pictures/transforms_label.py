"""Pictures of the transforms of labels and of those behind a network."""

from __future__ import annotations

from typing import Any

from gallery_pictures import samples
from gallery_pictures.panels import Panel
from gallery_pictures.samples import Item
from gallery_pictures.transform_examples import Example, View, both, directions, ids, slices


def numbered(view: View) -> View:
    """Write the number of different ids and the largest into the title."""

    def titled(item: Any, before: Item) -> list[Panel]:
        present = item["label"][item["label"] > 0].unique()
        panel = view(item, before)[0]
        return [panel._replace(title=f"{len(present)} ids from {int(present.min())} to {int(present.max())}")]

    return titled


def channels(key: str, *names: str) -> View:
    """Show the middle slice of each channel."""

    def view(item: Any, before: Item) -> list[Panel]:
        panels = [slices(key, channel=channel)(item, {})[0] for channel in range(len(names))]
        return [panel._replace(title=f"{key}, {name}") for panel, name in zip(panels, names, strict=True)]

    return view


EXAMPLES = {
    "BlobsToMaskd": Example(
        samples.mitochondria,
        {"keys": "label", "boundary": "outer"},
        ids("label"),
        channels("label", "mask", "boundary"),
    ),
    "ConnectedComponentsd": Example(
        samples.mitochondria, {"keys": "mask", "minimum_size": 50}, slices("mask"), ids("mask")
    ),
    "LabelToAffinitiesd": Example(
        samples.mitochondria,
        {"keys": "label", "offsets": ((-3, 0, 0), (0, -3, 0), (0, 0, -3))},
        ids("label"),
        channels("label", "offset (-3, 0, 0)", "(0, -3, 0)", "(0, 0, -3)"),
    ),
    "LabelToBoundaryd": Example(
        samples.mitochondria, {"keys": "label", "mode": "thick"}, ids("label"), channels("label", "boundary")
    ),
    "RelabelConsecutived": Example(samples.scattered_ids, {"keys": "label"}, numbered(ids("label"))),
    "RoiTargetsd": Example(
        samples.labeled_rois,
        {"unlabeled_weight": 0.0},
        ids("roi", under="image"),
        both(ids("label", under="image"), slices("weight")),
    ),
    "SparseLabelWeightsd": Example(
        samples.sparse_nuclei,
        {"keys": "label", "weight_key": "weight"},
        ids("label"),
        both(ids("label"), slices("weight")),
    ),
    "ProbabilityToInstancesd": Example(
        samples.nucleus_probability,
        {"keys": "probability", "threshold": 0.5, "min_distance": 2},
        slices("probability"),
        ids("probability"),
    ),
    "ActivateTargetsd": Example(
        samples.sheet_logits,
        {
            "targets": {
                "sheet": {"channels": 1, "activation": "sigmoid"},
                "normals": {"channels": 3, "activation": "unit_norm"},
            }
        },
        lambda item, before: slices("sheet")(item["pred"], {}) + slices("normals", channel=1)(item["pred"], {}),
        both(slices("pred_sheet"), directions("pred_normals", "pred_sheet")),
    ),
}
"""By name of the transform."""
