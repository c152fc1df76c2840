"""Class probabilities of ROIs from a whole volume, without the volume's logits in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from monai.inferers import Inferer
from monai.utils import convert_to_tensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.inferers.roi import RoiAccumulator
from voxel_ext.networks.streaming import can_stream, stream_features


class RoiInferer(Inferer):
    """Run a segmentation network on a whole volume and average its class probabilities over each ROI.

    The last decoder of a :class:`~voxel_ext.networks.nets.UNet3D` is computed in slabs of slices and its output used
    at once, so that the peak is about two maps with the channels of the first level, far below the (K, D, H, W)
    logits of many classes. Other networks are run as a whole.

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
        accumulator: RoiAccumulator | None = None
        maps: list[torch.Tensor] = []
        for place, logits in self._slabs(inputs, network, *args, **kwargs):
            if accumulator is None:
                accumulator = RoiAccumulator(roi[0, 0], logits.shape[1], self.edge_weight, self.confident)
            accumulator.add(logits[0], place.start)
            if self.class_map:
                maps.append(logits.argmax(1, keepdim=True))
        assert accumulator is not None  # as a volume has at least one slice
        found = accumulator.result()
        names = ("roi_ids", "probabilities", "sizes", "centers", "confident_counts")
        result = {name: torch.from_numpy(getattr(found, name))[None] for name in names}
        return {**result, "class_map": torch.cat(maps, 2)} if self.class_map else result

    def _slabs(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """The logits (1, K, d, H, W) and where they belong along z."""
        if isinstance(network, torch.nn.Module) and can_stream(network) and not args and not kwargs:
            for place, features in stream_features(network, inputs, self.slab):
                yield place, network.final_conv(features)
        else:
            yield slice(0, inputs.shape[2]), network(inputs, *args, **kwargs)
