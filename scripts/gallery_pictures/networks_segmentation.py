"""Pictures of the outputs of the networks that segment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from gallery_pictures.entries import Context, Drawn, call_text
from gallery_pictures.panels import Panel, direction_panel, figure_of, gray_panel, mask_panel
from gallery_pictures.training import Batch, nuclei, sheets, spots, train
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from voxel_ext.losses import MultiTaskLoss
from voxel_ext.networks import nets

_VOLUME = (16, 32, 64)
_TARGETS = {
    "sheet": {"channels": 1, "activation": "sigmoid"},
    "normals": {"channels": 3, "activation": "unit_norm", "weight": 0.75, "oriented": False},
}


def _prediction(image: torch.Tensor, truth: torch.Tensor, probability: torch.Tensor) -> list[Panel]:
    """Planes: the image, the probability, and the mask with the outline of the truth."""
    overlay = mask_panel("prediction, truth outlined", probability > 0.5, image, truth=truth)
    return [gray_panel("image", image), gray_panel("probability", probability, [0, 1]), overlay]


def flat(name: str, **settings: Any) -> Callable[[Context], Drawn]:
    """Draw a network that segments images of the optic lobe in cross section."""

    def draw(context: Context) -> Drawn:
        torch.manual_seed(context.seed)
        network = getattr(nets, name)(spatial_dims=2, **settings)

        def loss(batch: Batch) -> torch.Tensor:
            output = network(batch["image"])
            maps = output if isinstance(output, list) else [output]
            return torch.stack([cross_entropy(one, batch["mask"]) for one in maps]).mean()

        note = train(network, loss, lambda step: _stacked(step, spots), 250, context, 1e-2)
        test = spots(1000)
        with torch.inference_mode():
            probability = network(test["image"]).sigmoid()
        row = _prediction(test["image"][0, 0], test["mask"][0, 0], probability[0, 0])
        return Drawn(figure_of([row]), call_text(name, {"spatial_dims": 2, **settings}), note)

    return draw


def _stacked(step: int, sample: Callable[[int], Batch], pool: int = 24, size: int = 4) -> Batch:
    """A batch out of a pool of samples."""
    chosen = [sample((step * size + k) % pool) for k in range(size)]
    return {key: torch.cat([one[key] for one in chosen]) for key in chosen[0]}


def solid(name: str, **settings: Any) -> Callable[[Context], Drawn]:
    """Draw a network that segments the nuclei of a worm's head."""

    def draw(context: Context) -> Drawn:
        torch.manual_seed(context.seed)
        network = getattr(nets, name)(**settings)

        def loss(batch: Batch) -> torch.Tensor:
            return cross_entropy(network(batch["image"]), batch["mask"], pos_weight=torch.tensor(3.0))

        note = train(network, loss, lambda step: _stacked(step, lambda seed: nuclei(seed, _VOLUME), 6, 2), 120, context)
        test = nuclei(1000, _VOLUME)
        with torch.inference_mode():
            probability = network(test["image"]).sigmoid()
        middle = int(test["mask"][0, 0].sum((1, 2)).argmax())
        row = _prediction(test["image"][0, 0, middle], test["mask"][0, 0, middle], probability[0, 0, middle])
        return Drawn(figure_of([row]), call_text(name, settings), note)

    return draw


def _multitask(context: Context) -> tuple[torch.nn.Module, str, Batch]:
    """A network trained on sheets and their normals, the line on its training, and a test volume."""
    torch.manual_seed(context.seed)
    size = 16 if context.quick else 32
    network = nets.MultiTaskUNet(_TARGETS, f_maps=(8, 16, 32), num_groups=4)
    objective = MultiTaskLoss(_TARGETS)

    def loss(batch: Batch) -> torch.Tensor:
        return objective(network(batch["image"]), batch)

    note = train(network, loss, lambda step: _stacked(step, lambda seed: sheets(seed, size), 8, 2), 150, context)
    return network, note, sheets(1000, size)


def multitask(context: Context) -> Drawn:
    """Draw the sheets and normals of MultiTaskUNet."""
    network, note, test = _multitask(context)
    with torch.inference_mode():
        output = network(test["image"])
    middle = int(test["sheet"][0, 0].sum((1, 2)).argmax())
    truth, mask = test["sheet"][0, 0, middle], output["sheet"][0, 0, middle] > 0
    image = test["image"][0, 0, middle]
    rows = [
        [
            gray_panel("image", image),
            mask_panel("sheet, truth outlined", mask, image, truth=truth),
        ],
        [
            direction_panel("true normals", test["normals"][0, :, middle].numpy(), truth),
            direction_panel("predicted normals", output["normals"][0, :, middle].numpy(), truth),
        ],
    ]
    settings = {"targets": _TARGETS, "f_maps": (8, 16, 32), "num_groups": 4}
    return Drawn(figure_of(rows), call_text("MultiTaskUNet", settings), note + " Red, green, blue: |x|, |y|, |z|.")


def tensor_network(context: Context) -> Drawn:
    """Draw the channels of a MultiTaskUNet whose targets are one tensor."""
    network, note, test = _multitask(context)
    whole = nets.TensorNetwork(network, ["sheet", "normals"])
    with torch.inference_mode():
        output = whole(test["image"])[0]
    middle = int(test["sheet"][0, 0].sum((1, 2)).argmax())
    names = ("channel 0: sheet", "channel 1: normals z", "channel 2: normals y", "channel 3: normals x")
    panels = [gray_panel(name, output[k, middle]) for k, name in enumerate(names)]
    row = [gray_panel("image", test["image"][0, 0, middle]), *panels[:1]]
    return Drawn(
        figure_of([[*row, panels[1]], panels[2:]]), "TensorNetwork(MultiTaskUNet(...), ['sheet', 'normals'])", note
    )


_UNET = {"in_channels": 1, "out_channels": 1, "f_maps": 8, "num_groups": 4, "num_levels": 3}
DRAWERS: dict[str, Callable[[Context], Drawn]] = {
    "UNet": flat("UNet", depth=3, start_channels=8),
    "StackedHourglass": flat("StackedHourglass", num_stacks=2, depth=3, start_channels=8),
    "UNet3D": solid("UNet3D", **_UNET),
    "ResidualUNet3D": solid("ResidualUNet3D", **_UNET),
    "ResidualUNetSE3D": solid("ResidualUNetSE3D", **_UNET),
    "MultiTaskUNet": multitask,
    "TensorNetwork": tensor_network,
}
"""By name of the network."""
