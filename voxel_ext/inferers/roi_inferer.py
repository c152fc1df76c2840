"""Class probabilities of ROIs from a whole volume, without the volume's logits in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from monai.utils import convert_to_tensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.inferers.roi import RoiAccumulator
from voxel_ext.networks.nets.unet3d import UNet3D
from voxel_ext.networks.streaming import can_stream, final_logits, stream_features


class RoiInferer(Inferer):
    """Run a segmentation network on a whole volume and average its class probabilities over each ROI.

    The last decoder of a :class:`~voxel_ext.networks.nets.UNet3D` is computed in slabs of slices, and logits only of
    the voxels of ROIs, so that the peak is about two maps with the channels of the first level, far below the
    (K, D, H, W) logits of many classes. Other networks are run as a whole.

    Args:
        slab: slices of the last decoder at a time (8).
        edge_weight: weight of edge voxels in the mean, see :class:`~voxel_ext.inferers.RoiAccumulator`.
        confident: probability above which a voxel counts as evidence for its class, for contamination.
        class_map: also return the most probable class of every voxel.

    Raises:
        InvalidInputError: ``slab`` is below 1.
    """

    def __init__(
        self, slab: int = 8, edge_weight: float = 0.01, confident: float = 0.75, class_map: bool = False
    ) -> None:
        super().__init__()
        if slab < 1:
            raise InvalidInputError(f"slab={slab}: expected at least one slice")
        self.slab = slab
        self.edge_weight = edge_weight
        self.confident = confident
        self.class_map = class_map

    @torch.no_grad()
    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], roi: torch.Tensor, *args: Any, **kwargs: Any
    ) -> dict[str, torch.Tensor]:
        """Average the class probabilities of one volume over its ROIs, without gradients.

        Args:
            inputs: (1, C, D, H, W) image.
            network: gives (1, K, D, H, W) logits.
            roi: (1, 1, D, H, W) integer ids, 0 for background.
            args: for networks that are not computed in slabs.
            kwargs: the same.

        Returns:
            Tensors with a batch axis of 1: ``roi_ids`` (1, N), ``probabilities`` (1, N, K) float64, ``sizes`` (1, N),
            ``centers`` (1, N, 3), ``confident_counts`` (1, N, K) and, if asked for, ``class_map`` (1, 1, D, H, W)
            int64.

        Raises:
            InvalidInputError: more than one volume, or ROIs of another shape; see also
                :func:`~voxel_ext.networks.streaming.stream_features` and :class:`~voxel_ext.inferers.RoiAccumulator`.
        """
        if inputs.shape[0] != 1 or roi.shape != (1, 1, *inputs.shape[2:]):
            raise InvalidInputError(
                f"the image has the shape {tuple(inputs.shape)} and the ROI volume {tuple(roi.shape)}; expected "
                "(1, C, D, H, W) and (1, 1, D, H, W), one volume at a time"
            )
        inputs = convert_to_tensor(inputs, track_meta=False)
        if isinstance(network, torch.nn.Module) and can_stream(network) and not args and not kwargs:
            accumulator, maps = self._in_slabs(inputs, network, roi[0, 0])
        else:
            logits = network(inputs, *args, **kwargs)
            accumulator = RoiAccumulator(roi[0, 0], logits.shape[1], self.edge_weight, self.confident)
            accumulator.add(logits[0])
            maps = [logits.argmax(1, keepdim=True)] if self.class_map else []
        found = accumulator.result()
        names = ("roi_ids", "probabilities", "sizes", "centers", "confident_counts")
        result = {name: torch.from_numpy(getattr(found, name))[None] for name in names}
        return {**result, "class_map": torch.cat(maps, 2)} if self.class_map else result

    def _in_slabs(
        self, inputs: torch.Tensor, network: UNet3D, roi: torch.Tensor
    ) -> tuple[RoiAccumulator, list[torch.Tensor]]:
        """Logits of the voxels that are needed only: those of ROIs, or a slab of all for the map of classes."""
        accumulator = RoiAccumulator(roi, network.out_channels, self.edge_weight, self.confident)
        plane = roi[0].numel()
        maps = []
        for place, features in stream_features(network, inputs, self.slab):
            rows = features.movedim(1, -1).flatten(0, -2)
            bounds = torch.tensor([place.start * plane, place.stop * plane], device=accumulator.voxels.device)
            first, last = torch.searchsorted(accumulator.voxels, bounds).tolist()
            voxels = accumulator.voxels[first:last]
            local = (voxels - place.start * plane).to(rows.device)
            if self.class_map:
                logits = final_logits(network, rows)
                maps.append(logits.argmax(1).view(1, 1, *features.shape[2:]))
                accumulator.add_voxels(voxels, logits[local], logits=True)
            else:
                accumulator.add_voxels(voxels, final_logits(network, rows[local]), logits=True)
        return accumulator, maps
