"""Maps on a rotation group to feature vectors: invariant, on a grid, or on a grid in the frame of each element."""

import torch
from torch import nn

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.networks.groups import rotation_group

MODES = ("grid", "invariant", "oriented")
SPATIAL_POOLINGS = ("mean", "max", "mean+max")
GROUP_POOLINGS = ("max", "mean")


def orientation_index(group: str, grid: int) -> torch.Tensor:
    """Return where each voxel of a grid, turned back by each element, comes from.

    Args:
        group: name of a rotation group.
        grid: voxels along each axis of the grid.

    Returns:
        (|G|, grid ** 3) int64: for a grid t, ``t.flatten()[index[g]]`` is (g^-1 t) flattened.
    """
    elements = rotation_group(group)
    return elements.grid_permutation(grid)[elements.inverse]


def pool_elements(x: torch.Tensor, reduction: str) -> torch.Tensor:
    """Take the maximum or mean over axis 1 of (B, |G|, ...)."""
    return x.amax(1) if reduction == "max" else x.mean(1)


class GroupDescriptor(nn.Module):
    """Map of a trunk to one vector per group element, or to a single one.

    With f(g) the map of element g, of C channels, and P the average pooling to ``grid`` voxels along each axis:

    - ``"grid"``: P f(g), flattened. Keeps the layout; changes when the image is turned.
    - ``"invariant"``: f(g), pooled over all voxels. No layout is kept.
    - ``"oriented"``: o(g) = g^-1 P f(g), flattened: each element's map is turned back into that element's own frame.
      A trunk obeys f(h x)(g) = h f(x)(h^-1 g), and P commutes with turns, hence

          o(h x)(g) = g^-1 h P f(x)(h^-1 g) = (h^-1 g)^-1 P f(x)(h^-1 g) = o(x)(h^-1 g).

      Turning the image only permutes the vectors, and what is pooled over the group is invariant though the layout is
      kept.

    With ``pool_group="before"`` the vectors are pooled over the group here (``"grid"`` and ``"invariant"``: the maps,
    before they are pooled over space); with ``"after"`` all |G| are returned, so that a network can
    be applied to each and its results pooled by :func:`pool_elements`. Both are invariant in the last two modes.

    Args:
        group: name of a rotation group, or None for a plain CNN.
        channels: channels C of the map.
        mode: ``"grid"``, ``"invariant"`` or ``"oriented"`` (needs a group).
        grid: voxels of the grid along each axis; not used by ``"invariant"``.
        spatial_pooling: ``"mean"``, ``"max"`` or ``"mean+max"`` (both, concatenated), of ``"invariant"``.
        group_pooling: ``"max"`` or ``"mean"`` over the group.
        pool_group: ``"before"`` or ``"after"``; means nothing without a group.

    Attributes:
        length: features of each vector: C, 2 C for ``"mean+max"``, or C * grid ** 3.

    Raises:
        InvalidInputError: an argument is not valid.
    """

    index: torch.Tensor  # for TorchScript, which needs it evaluated: no postponed annotations in this file

    def __init__(
        self,
        group: str | None,
        channels: int,
        mode: str = "grid",
        grid: int = 4,
        spatial_pooling: str = "mean",
        group_pooling: str = "max",
        pool_group: str = "before",
    ) -> None:
        super().__init__()
        self.mode = check_option("mode", mode, MODES)
        self.spatial_pooling = check_option("spatial_pooling", spatial_pooling, SPATIAL_POOLINGS)
        self.group_pooling = check_option("group_pooling", group_pooling, GROUP_POOLINGS)
        self.pool_first = check_option("pool_group", pool_group, ("before", "after")) == "before"
        if mode == "oriented" and group is None:
            raise InvalidInputError(
                'mode="oriented" needs a group; expected mode="grid" or "invariant" for a plain CNN'
            )
        if isinstance(grid, bool) or not isinstance(grid, int) or grid < 1:
            raise InvalidInputError(f"grid={grid!r} is not valid; expected an integer of at least 1")
        self.plain = group is None
        self.grid = grid
        index = torch.zeros(0, 0, dtype=torch.long)
        if mode == "oriented" and group is not None:
            index = orientation_index(group, grid)
        self.register_buffer("index", index, persistent=False)
        vectors = 2 if spatial_pooling == "mean+max" else 1
        self.length = channels * (vectors if mode == "invariant" else grid**3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, |G|, D, H, W), or (B, C, D, H, W) of a plain CNN, to (B, |G| or 1, length)."""
        if self.plain:
            x = x.unsqueeze(2)
        elif self.pool_first and self.mode != "oriented":
            x = pool_elements(x.transpose(1, 2), self.group_pooling).unsqueeze(2)
        y = self._pool_space(x) if self.mode == "invariant" else self._grid(x)
        y = y.transpose(1, 2).flatten(2)
        if self.pool_first and self.mode == "oriented":
            y = pool_elements(y, self.group_pooling).unsqueeze(1)
        return y

    def _pool_space(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(3)
        if self.spatial_pooling == "mean":
            return x.mean(3)
        if self.spatial_pooling == "max":
            return x.amax(3)
        return torch.cat([x.mean(3), x.amax(3)], dim=1)

    def _grid(self, x: torch.Tensor) -> torch.Tensor:
        y = _average_to_grid(x.flatten(1, 2), self.grid).view(x.shape[0], x.shape[1], x.shape[2], -1)
        if self.mode == "oriented":
            y = y.gather(3, self.index.expand(y.shape[0], y.shape[1], -1, -1))
        return y


def _average_to_grid(x: torch.Tensor, grid: int) -> torch.Tensor:
    """Average (B, C, D, H, W) to (B, C, grid, grid, grid); by windows of one size where they fit, which ONNX has."""
    size = [x.shape[2], x.shape[3], x.shape[4]]
    if size[0] % grid == 0 and size[1] % grid == 0 and size[2] % grid == 0:
        return nn.functional.avg_pool3d(x, [size[0] // grid, size[1] // grid, size[2] // grid])
    return nn.functional.adaptive_avg_pool3d(x, grid)
