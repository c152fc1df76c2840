"""Pictures of the outputs of the networks that encode objects: codes, features and reconstructions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from gallery_pictures.entries import Context, Drawn
from gallery_pictures.panels import Panel, cloud_panel, figure_of, rgb_panel, scatter_panel
from gallery_pictures.training import Batch, objects, train

from voxel_ext.losses import PointCloudLoss, VAELoss, self_supervised_loss
from voxel_ext.morphology.point_clouds import normalize_points, sample_point_cloud
from voxel_ext.networks import nets
from voxel_ext.transforms import RandPose
from voxel_ext.visualize import colors
from voxel_ext.visualize.shape_report import object_tile


def shape_vae(context: Context) -> Drawn:
    """Draw objects and what ShapeVAE restores from their codes."""
    torch.manual_seed(context.seed)
    size = 16 if context.quick else 24
    cubes, classes = objects(12 if context.quick else 60, size)
    network = nets.ShapeVAE(size=size, latent_size=12, filters=(8, 16, 32), anisotropic_levels=0)
    loss = VAELoss("bce")

    def batch(step: int) -> Batch:
        return {"image": cubes[torch.randperm(len(cubes))[:12]]}

    note = train(network, lambda one: loss(network(one["image"]), one["image"]), batch, 250, context)
    first = [classes.index(name) for name in sorted(set(classes))][:6]
    with torch.inference_mode():
        restored = network(cubes[first])["reconstruction"].numpy()
    inputs = [_tile(classes[number], cubes[number].numpy(), colors.SIGNAL) for number in first]
    outputs = [_tile("restored", cube, colors.PREDICTION) for cube in restored]
    call = f"ShapeVAE(size={size}, latent_size=12, filters=(8, 16, 32), anisotropic_levels=0)"
    return Drawn(figure_of([inputs, outputs], cell=1.6), call, f"{note} The objects are those of the training.")


def _tile(title: str, cube: np.ndarray, color: str) -> Panel:
    return rgb_panel(title, object_tile(np.clip(cube, 0, 1), ["mask"], color), axes="")


def point_cloud(context: Context) -> Drawn:
    """Draw point clouds and what PointCloudAutoEncoder restores from their codes."""
    torch.manual_seed(context.seed)
    cubes, classes = objects(12 if context.quick else 60, 16 if context.quick else 24)
    clouds = torch.stack([torch.from_numpy(_cloud(cube[0].numpy())) for cube in cubes])
    network = nets.PointCloudAutoEncoder(256, 16, (32, 64, 128), decoder_channels=(128, 256))
    loss = PointCloudLoss()

    def batch(step: int) -> Batch:
        return {"points": clouds[torch.randperm(len(clouds))[:12]]}

    note = train(network, lambda one: loss(network(one["points"]), one["points"]), batch, 600, context, 2e-3)
    first = [classes.index(name) for name in sorted(set(classes))][:4]
    with torch.inference_mode():
        restored = network(clouds[first])["reconstruction"]
    inputs = [cloud_panel(classes[number], clouds[number]) for number in first]
    outputs = [cloud_panel("restored", cloud) for cloud in restored]
    call = "PointCloudAutoEncoder(256, 16, (32, 64, 128), decoder_channels=(128, 256))"
    return Drawn(figure_of([inputs, outputs], cell=2.4), call, f"{note} The objects are those of the training.")


def _cloud(inside: np.ndarray) -> np.ndarray:
    points = sample_point_cloud(inside > 0.5, 256)
    return np.asarray(normalize_points(points)[0], np.float32)


def _siamese(context: Context) -> tuple[nets.SimSiam, str, torch.Tensor, list[str]]:
    """A network trained on two views of objects, the line on its training, the objects and their classes."""
    torch.manual_seed(context.seed)
    cubes, classes = objects(12 if context.quick else 60, 16)
    network = nets.SimSiam(
        encoder="resnet10",
        width=0.125,
        stem_size=3,
        stem_pool=False,
        projector_size=32,
        predictor_size=16,
        variant="simclr",
    )
    pose = RandPose(reflections=True, scale_range=(0.7, 1.05))
    pose.set_random_state(context.seed)
    loss = self_supervised_loss("simclr", 0.2)

    def batch(step: int) -> Batch:
        chosen = cubes[torch.randperm(len(cubes))[:24]]
        return {name: torch.stack([torch.as_tensor(pose(one)) for one in chosen]) for name in ("view1", "view2")}

    note = train(network, lambda one: loss(network(one["view1"], one["view2"])), batch, 120, context, 1e-3)
    return network, note, cubes, classes


_SIAMESE = (
    "SimSiam(encoder='resnet10', width=0.125, stem_size=3, stem_pool=False, projector_size=32, predictor_size=16, "
    "variant='simclr')"
)


def _map(features: torch.Tensor) -> np.ndarray:
    """The first two principal components of features (N, F)."""
    centered = features - features.mean(0)
    return (centered @ torch.linalg.svd(centered, full_matrices=False).Vh[:2].T).numpy()


def siamese(context: Context) -> Drawn:
    """Draw the features of objects by SimSiam's encoder, which saw no classes."""
    network, note, cubes, classes = _siamese(context)
    with torch.inference_mode():
        places = _map(network.encode(cubes))
    panel = scatter_panel(
        f"features of {len(cubes)} objects, by class", places, classes, "principal component 1", "component 2"
    )
    return Drawn(figure_of([[panel]], cell=5), _SIAMESE, f"{note} No step saw a class.")


def feature_network(context: Context) -> Drawn:
    """Draw how far the features of turned objects lie from those of the unturned, without and with the mean."""
    network, note, cubes, _ = _siamese(context)
    panels = []
    with torch.inference_mode():
        for turns in (False, True):
            features = nets.FeatureNetwork(network, turns=turns)
            places = _map(torch.cat([features(cubes[:12].rot90(k, (3, 4))) for k in range(4)]))
            title = f"turns={turns}: 12 objects, each turned 4 times"
            panels.append(
                scatter_panel(title, places, [f"object {k % 12:02d}" for k in range(48)], "component 1", "component 2")
            )
    call = f"FeatureNetwork({_SIAMESE}, turns=True)"
    return Drawn(
        figure_of([panels], cell=5), call, f"{note} With the mean over turns the four points of an object are one."
    )


DRAWERS: dict[str, Callable[[Context], Drawn]] = {
    "ShapeVAE": shape_vae,
    "PointCloudAutoEncoder": point_cloud,
    "SimSiam": siamese,
    "FeatureNetwork": feature_network,
}
"""By name of the network."""
