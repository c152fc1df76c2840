"""Sliding-window inference of a batch in memory, by MONAI, with the settings of a block-wise inferer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from monai.inferers import sliding_window_inference

from voxel_ext.errors import InvalidInputError
from voxel_ext.inferers.block_output import SINGLE, check_names, for_target
from voxel_ext.inferers.reductions import read_reduction
from voxel_ext.networks.activations import activate

if TYPE_CHECKING:
    from voxel_ext.inferers.blockwise import BlockwiseInferer


def infer_in_memory(
    inferer: BlockwiseInferer, inputs: Any, network: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Predict a batch of volumes.

    Args:
        inferer: has the settings; those about stores, blocks and empty windows do not count here.
        inputs: (B, C, D, H, W).
        network: gives logits for windows.
        args: for the network.
        kwargs: the same.

    Returns:
        a tensor (B, C, D, H, W), or a dict of them.

    Raises:
        InvalidInputError: not such a tensor, or a target that the network does not have.
    """
    if not isinstance(inputs, torch.Tensor) or inputs.ndim != 5:
        what = tuple(inputs.shape) if isinstance(inputs, torch.Tensor) else type(inputs).__name__
        raise InvalidInputError(f"without a store, expected a tensor (B, C, D, H, W), found {what}; give a store")
    if inferer.transform is not None:
        inputs = torch.stack([torch.as_tensor(inferer.transform(one)) for one in inputs]).to(inputs.device)
    device = inferer.device or inputs.device
    with torch.autocast(device.type, enabled=inferer.amp):
        found = sliding_window_inference(
            inputs,
            inferer.roi_size,
            inferer.sw_batch_size,
            network,
            inferer.overlap,
            inferer.mode,
            inferer.sigma_scale,
            inferer.padding_mode,
            inferer.cval,
            device,
            inputs.device,
            False,
            None,
            None,
            None,
            -1,
            False,
            *args,
            **kwargs,
        )
    if not isinstance(found, Mapping):
        check_names([SINGLE], targets=inferer.targets)
        return _finish(inferer, SINGLE, found) if isinstance(found, torch.Tensor) else found
    check_names(list(found), targets=inferer.targets, activations=inferer.activations, reductions=inferer.reductions)
    names = [name for name in found if inferer.targets is None or name in inferer.targets]
    return {name: _finish(inferer, name, found[name]) for name in names}


def _finish(inferer: BlockwiseInferer, name: str, logits: torch.Tensor) -> torch.Tensor:
    activation = for_target(inferer.activations, name, "none")
    reduction = read_reduction(for_target(inferer.reductions, name, None))
    values = logits if activation == "none" else activate(logits, activation)
    if reduction is None:
        return values
    return torch.stack([reduction(one).to(torch.float32) for one in values])
