"""Pictures of the outputs of the networks on rotation groups and of those that match the cells of worms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gallery_pictures.entries import Context, Drawn
from gallery_pictures.panels import INK, Panel, figure_of, gray_panel
from gallery_pictures.training import UNTRAINED, Batch, cells, train

from voxel_ext.losses import ContrastiveMatchingLoss, feature_cost, match_cells
from voxel_ext.networks import nets, rotation_group
from voxel_ext.synthetic import WormShapeModel
from voxel_ext.visualize import colors

_TRUNK: dict[str, Any] = {"features": (8, 16, 32), "dilated": False}


def restored(name: str, noise: float) -> Callable[[Context], Drawn]:
    """Draw the cubes around nuclei beside what a network makes of them, after adding noise."""

    def draw(context: Context) -> Drawn:
        torch.manual_seed(context.seed)
        cubes = cells(0, 24 if context.quick else 200)["image"]
        network = getattr(nets, name)("C2:x", **_TRUNK)

        def batch(step: int) -> Batch:
            chosen = cubes[torch.randperm(len(cubes))[:12]]
            return {"input": chosen + noise * torch.randn_like(chosen), "image": chosen}

        def loss(one: Batch) -> torch.Tensor:
            return torch.nn.functional.l1_loss(network(one["input"]), one["image"])

        note = train(network, loss, batch, 200, context)
        clean = cells(1, 24)["image"][5:9]
        given = clean + noise * torch.randn_like(clean)
        with torch.inference_mode():
            output = network(given)
        rows = [[gray_panel("input, z = 8", cube[0, 8], clean) for cube in given]]
        rows.append([gray_panel("output", cube[0, 8], clean) for cube in output])
        if noise:
            rows.append([gray_panel("without noise", cube[0, 8], clean) for cube in clean])
        call = f"{name}('C2:x', features=(8, 16, 32), dilated=False)"
        return Drawn(figure_of(rows, cell=1.8), call, note + " Nuclei of another worm.")

    return draw


def trunk(context: Context) -> Drawn:
    """Draw the maps of GroupTrunk: one per level and element of the group."""
    torch.manual_seed(context.seed)
    network = nets.GroupTrunk("C4:x", depth=3, features=(4, 8, 16)).eval()
    cube = cells(0, 24)["image"][7:8]
    with torch.inference_mode():
        maps = network(cube)
    first = [gray_panel("image, x = 8", cube[0, 0, :, :, 8], axes="zy")]
    for level, one in enumerate(maps):
        middle = one.shape[-1] // 2
        first.append(gray_panel(f"level {level}", one[0, 0, 0, :, :, middle], axes="zy"))
    second = [gray_panel(f"level 0, element {k}", maps[0][0, 0, k, :, :, 8], maps[0][0, 0], "zy") for k in range(4)]
    return Drawn(figure_of([first, second], cell=2.2), "GroupTrunk('C4:x', depth=3, features=(4, 8, 16))", UNTRAINED)


def encoder(context: Context) -> Drawn:
    """Draw the features of a cube and of its turns by GroupEncoder, which are the same."""
    torch.manual_seed(context.seed)
    settings: dict[str, Any] = {"out_features": 24, "mode": "invariant", "mlp": False, "features": (4, 8, 24)}
    group = rotation_group("V")
    cubes = cells(0, 24)["image"][6:9]
    turned = torch.cat([group.act(cube[None], element) for cube in cubes for element in range(group.order)])
    network = nets.GroupEncoder("V", **settings).eval()
    with torch.inference_mode():
        features = network(turned)
    panel = _matrix("features of 3 cubes, each turned by the 4 elements of V", features, "feature", "cube and turn")
    call = f"GroupEncoder('V', {', '.join(f'{key}={value!r}' for key, value in settings.items())})"
    return Drawn(figure_of([[panel]], cell=6), call, f"{UNTRAINED} The 4 rows of a cube are equal.")


def _matrix(title: str, values: torch.Tensor, xlabel: str, ylabel: str) -> Panel:
    """Show a matrix as colors."""

    def paint(axes: Any) -> None:
        axes.imshow(values.numpy(), cmap="viridis", aspect="auto", interpolation="nearest")
        axes.set_xlabel(xlabel, color=INK, fontsize=9)
        axes.set_ylabel(ylabel, color=INK, fontsize=9)
        axes.tick_params(labelsize=7)

    return Panel(title, paint, 0.6)


def matching(context: Context) -> Drawn:
    """Draw two worms and how the features of MatchingNet match their cells."""
    torch.manual_seed(context.seed)
    count = 24 if context.quick else 120
    model, rng = WormShapeModel.load(), np.random.default_rng(context.seed)
    network = nets.MatchingNet(out_features=32, attention_layers=2, attention_width=48, attention_heads=2)
    loss = ContrastiveMatchingLoss()

    def worm() -> torch.Tensor:
        return torch.from_numpy(model.draw(rng)[:count].astype(np.float32))

    def batch(step: int) -> Batch:
        return {"positions": torch.stack([worm(), worm()])}

    def objective(one: Batch) -> torch.Tensor:
        return loss(network(positions=one["positions"]), torch.arange(count))

    note = train(network, objective, batch, 200, context, 1e-3)
    pair = batch(0)["positions"]
    with torch.inference_mode():
        found = match_cells(loss.cost(network(positions=pair)), threads=1)
    right = int((found == torch.arange(count)).sum())
    title = f"{right} of {count} cells are matched with the same cell (gray), the others are red"
    call = "MatchingNet(out_features=32, attention_layers=2, attention_width=48, attention_heads=2)"
    return Drawn(figure_of([[match_panel(title, pair[0].numpy(), pair[1].numpy(), found.numpy())]], cell=9), call, note)


def match_panel(title: str, first: np.ndarray, second: np.ndarray, found: np.ndarray) -> Panel:
    """Show two worms, positions (N, 3), above each other, with a line from each cell to its match; -1 for none."""
    gap = 1.3 * max(np.ptp(first[:, 1]), np.ptp(second[:, 1]))
    upper, lower = first[:, [2, 1]] - first[:, [2, 1]].mean(0), second[:, [2, 1]] - second[:, [2, 1]].mean(0) + (0, gap)

    def paint(axes: Any) -> None:
        for start, end in enumerate(found):
            if end >= 0:
                wrong = start != end
                color = colors.PREDICTION if wrong else colors.NEUTRAL
                axes.plot(*np.stack([upper[start], lower[end]]).T, color=color, lw=0.7, zorder=1 + wrong)
        for points in (upper, lower):
            axes.scatter(points[:, 0], points[:, 1], s=9, color=colors.SIGNAL, linewidths=0, zorder=3)
        axes.invert_yaxis()
        axes.set_xlabel("x (voxels)", color=INK, fontsize=9)
        axes.set_ylabel("y (voxels)", color=INK, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)

    return Panel(title, paint, 0.4)


def multi_level(context: Context) -> Drawn:
    """Draw the costs of matching the cells of two worms on each level of MultiLevelMatchingNet."""
    torch.manual_seed(context.seed)
    features = nets.GroupEncoder(None, features=(4, 8, 16), out_features=16, hidden=32, feature_levels=(0, 1, 2))
    network = nets.MultiLevelMatchingNet(features).eval()
    with torch.inference_mode():
        worms = [network(cells(seed, 24)["image"]) for seed in (0, 1)]
        costs = [feature_cost(a, b) for a, b in zip(*worms, strict=True)]
    names = [f"cost, level {k} of {len(costs)}" for k in range(1, len(costs) + 1)]
    row = [_matrix(name, cost, "cell of worm 2", "cell of worm 1") for name, cost in zip(names, costs, strict=True)]
    call = "MultiLevelMatchingNet(GroupEncoder(None, features=(4, 8, 16), ..., feature_levels=(0, 1, 2)))"
    return Drawn(figure_of([row], cell=3), call, UNTRAINED)


DRAWERS: dict[str, Callable[[Context], Drawn]] = {
    "GroupUNet": restored("GroupUNet", 0.15),
    "GroupAutoEncoder": restored("GroupAutoEncoder", 0.0),
    "GroupTrunk": trunk,
    "GroupEncoder": encoder,
    "MatchingNet": matching,
    "MultiLevelMatchingNet": multi_level,
}
"""By name of the network."""
