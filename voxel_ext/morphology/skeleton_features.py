"""Length, branches and ends of an object's skeleton."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import MissingDependencyError, check_option
from voxel_ext.morphology.crops import check_mask, tight_crop
from voxel_ext.morphology.object_columns import check_voxel_size
from voxel_ext.morphology.skeleton_graph import SkeletonGraph, path_length, skeleton_graph
from voxel_ext.morphology.thickness import depth_map
from voxel_ext.morphology.thinning import thin

METHODS = ("thinning", "teasar")
"""How skeletons are made, see :func:`skeleton_features`."""

_NAMES = (
    "skeleton_length_nm",
    "skeleton_longest_path_nm",
    "skeleton_branch_points",
    "skeleton_end_points",
    "skeleton_loops",
)
_SPUR_REACH = 2.0  # in radii of the junction
_SMOOTHING = 1.5  # of paths, in the voxel size's largest side


def skeleton_features(
    mask: ArrayLike, voxel_size: Sequence[float] = (1, 1, 1), method: str = "thinning"
) -> dict[str, float]:
    """Measure the skeleton of an object.

    With ``"thinning"`` the object is thinned to lines in the order of the depth in nm (see
    :func:`~voxel_ext.morphology.thinning.thin`), so that voxels need not be cubes. Branches that reach less than twice
    the radius (plus a voxel) of their junction are left out. Paths are smoothed by a Gaussian of 1.5 times the voxel
    size's largest side, as steps from voxel to voxel are up to 13 % longer than a line. The radius at each free end is
    added to the length: rods have their whole length, a ball its diameter, a ring 2 pi R, to a few percent. Junctions
    nearer to each other than the radius are one branch point. Flat objects, many times wider than thick, have skeletons
    like trees, whose length depends on their outline.

    ``"teasar"`` is that of kimimaro (Sato et al. 2000), which has to be installed separately as its license is the GPL:
    trees from surface to surface, without loops; lengths are of steps from voxel to voxel, not smoothed, and a single
    voxel has 0.

    Args:
        mask: (D, H, W), not 0 inside the object.
        voxel_size: (z, y, x) in nm.
        method: one of :data:`METHODS`.

    Returns:
        ``skeleton_length_nm``; ``skeleton_longest_path_nm``, the longest of the shortest ways between two nodes (for
        skeletons with loops: the longest found by going to the farthest node twice); ``skeleton_branch_points``;
        ``skeleton_end_points``, and ``skeleton_loops``. All finite: a single voxel has the length of its shortest side,
        and neither ends nor branches.

    Raises:
        InvalidInputError: an empty mask, or one of another shape or type; a voxel size or method that is not valid.
        MissingDependencyError: edt, or for ``"teasar"`` kimimaro, is not installed.
    """
    check_option("method", method, METHODS)
    crop, _ = tight_crop(check_mask(mask))
    size = check_voxel_size(voxel_size)
    if method == "teasar":
        return _teasar_features(crop, size)
    depth = depth_map(crop, size)
    graph = skeleton_graph(thin(crop, depth), depth, size)
    graph.prune(_SPUR_REACH, max(size))
    return _graph_features(graph, size)


def _graph_features(graph: SkeletonGraph, voxel_size: tuple[float, float, float]) -> dict[str, float]:
    degrees = graph.degrees()
    radius = np.array(graph.radius)
    radius -= min(voxel_size) ** 2 / (
        2 * radius
    )  # depths are to a voxel's center: half a voxel too much at the surface
    lengths = {
        number: path_length(_smooth(points, first == last, voxel_size))
        for number, (first, last, points) in graph.branches.items()
    }
    tips = np.where(degrees == 1, radius, 0.0)
    balls = 2 * radius[graph.single]
    nodes = int(np.count_nonzero(degrees))
    parts, longest = _longest_path(graph, lengths, tips)
    values = (
        sum(lengths.values()) + tips.sum() + balls.sum(),
        max([longest, *balls.tolist()]),
        _count_branch_points(graph, degrees, lengths),
        np.count_nonzero(degrees == 1),
        len(lengths) - nodes + parts,
    )
    return {name: float(value) for name, value in zip(_NAMES, values, strict=True)}


def _smooth(points: NDArray[np.float64], closed: bool, voxel_size: tuple[float, float, float]) -> NDArray[np.float64]:
    """Smooth a path, with its ends kept; a closed one all around."""
    from scipy.ndimage import gaussian_filter1d

    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    count = max(math.ceil(along[-1] / min(voxel_size)), 1) + 1
    even = np.linspace(0, along[-1], count)
    path = np.stack([np.interp(even, along, points[:, axis]) for axis in range(3)], axis=1)
    sigma = _SMOOTHING * max(voxel_size) / (even[1] - even[0])
    if closed:
        ring = gaussian_filter1d(path[:-1], sigma, axis=0, mode="wrap")
        return np.concatenate([ring, ring[:1]])
    width = math.ceil(4 * sigma)
    # odd around each end, so that it stays
    wide = np.pad(path, [(width, width), (0, 0)], mode="reflect", reflect_type="odd")
    return gaussian_filter1d(wide, sigma, axis=0)[width : width + count]


def _count_branch_points(graph: SkeletonGraph, degrees: NDArray[np.int64], lengths: dict[int, float]) -> int:
    """Count junctions of three or more branches; those inside each other's ball are one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    near = [
        (first, last)
        for number, (first, last, _) in graph.branches.items()
        if min(degrees[first], degrees[last]) > 2 and lengths[number] < max(graph.radius[first], graph.radius[last])
    ]
    rows, columns = np.array(near, np.intp).reshape(-1, 2).T
    links = coo_array((np.ones(len(near)), (rows, columns)), shape=(len(degrees),) * 2)
    _, group = connected_components(links, directed=False)
    return len(np.unique(group[degrees > 2]))


def _longest_path(graph: SkeletonGraph, lengths: dict[int, float], tips: NDArray[np.float64]) -> tuple[int, float]:
    """Number of components with branches, and the longest way found in any of them, with the radii at free ends."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components, dijkstra

    count = len(tips) + len(lengths)
    edges = {}  # each branch has a node in its middle, so that there are neither loops nor parallel edges
    for middle, (number, (first, last, _)) in enumerate(graph.branches.items(), len(tips)):
        edges[first, middle] = edges[last, middle] = max(lengths[number] / 2, 1e-12)
    rows, columns = np.array(list(edges), np.intp).reshape(-1, 2).T
    ways = coo_array((list(edges.values()), (rows, columns)), shape=(count, count)).tocsr()
    _, group = connected_components(ways, directed=False)
    ends = np.concatenate([tips, np.zeros(len(lengths))])
    starts = [int(np.flatnonzero(group == part)[0]) for part in np.unique(group[len(tips) :])]
    longest = 0.0
    for start in starts:
        away = dijkstra(ways, directed=False, indices=start) + ends
        far = int(np.where(np.isfinite(away), away, -1.0).argmax())
        away = dijkstra(ways, directed=False, indices=far) + ends
        longest = max(longest, float(away[np.isfinite(away)].max() + ends[far]))
    return len(starts), longest


def _teasar_features(crop: NDArray[np.bool_], voxel_size: tuple[float, float, float]) -> dict[str, float]:
    try:
        import kimimaro
    except ImportError as error:
        raise MissingDependencyError(
            f"method='teasar' needs kimimaro, which could not be imported ({error}); install it with: pip install "
            "kimimaro (its license is the GPL), or use method='thinning'"
        ) from error
    # with background all around; soma rules, which are for cell bodies, are off
    settings = {
        "scale": 1.5,
        "const": 2 * max(voxel_size),
        "pdrf_scale": 100000,
        "pdrf_exponent": 4,
        "soma_detection_threshold": math.inf,
    }
    volume = np.pad(crop, 1).astype(np.uint8)
    found = kimimaro.skeletonize(
        volume, settings, anisotropy=voxel_size, dust_threshold=0, fix_borders=False, progress=False
    )
    if 1 not in found:
        return dict.fromkeys(_NAMES, 0.0)
    vertices, edges = np.asarray(found[1].vertices, np.float64), np.asarray(found[1].edges)
    steps = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
    degrees = np.bincount(edges.ravel(), minlength=len(vertices))
    branches = {number: (int(a), int(b), vertices[[a, b]]) for number, (a, b) in enumerate(edges)}
    graph = SkeletonGraph(list(vertices), [0.0] * len(vertices), branches=branches)
    _, longest = _longest_path(graph, dict(enumerate(steps.tolist())), np.zeros(len(vertices)))
    values = (steps.sum(), longest, (degrees > 2).sum(), (degrees == 1).sum(), 0)
    return {name: float(value) for name, value in zip(_NAMES, values, strict=True)}
