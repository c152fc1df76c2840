"""The graph of a skeleton: branches between ends and junctions, without spurs."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_FORWARD = [(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1) if (z, y, x) > (0, 0, 0)]
_SMALLEST_LOOP = 3


@dataclass
class SkeletonGraph:
    """Branches of a skeleton, in nm.

    Attributes:
        position: of each node, (3,).
        radius: of each node, the largest distance to the outside in it.
        single: nodes without branches: skeletons of one voxel.
        branches: by number: first node, last node and the points between them, with the nodes', (P, 3).
    """

    position: list[NDArray[np.float64]]
    radius: list[float]
    single: list[int] = field(default_factory=list)
    branches: dict[int, tuple[int, int, NDArray[np.float64]]] = field(default_factory=dict)

    def degrees(self) -> NDArray[np.int64]:
        """(nodes,) number of branches that end at each node; a loop ends twice at its node."""
        ends = [node for first, last, _ in self.branches.values() for node in (first, last)]
        return np.bincount(np.array(ends, np.int64), minlength=len(self.radius))

    def prune(self, reach: float, margin: float = 0.0) -> None:
        """Remove spurs, shortest in proportion first, and join the branches on both sides of where they were.

        A spur is a branch with a free end that reaches, with the radius at its end, at most ``reach`` times the radius
        of the junction plus ``margin`` away from it: a corner or roughness of the surface rather than a part of it.

        Args:
            reach: in radii of the junction.
            margin: added to radii, in nm.
        """
        at: list[set[int]] = [set() for _ in self.radius]
        for number, (first, last, _) in self.branches.items():
            at[first].add(number)
            at[last].add(number)
        for node in range(len(at)):
            self._join(node, at)
        spurs = [spur for number in self.branches if (spur := self._as_spur(number, at, margin))]
        heapify(spurs)
        while spurs and spurs[0][0] <= reach:
            _, number, points = heappop(spurs)
            if number not in self.branches or len(self.branches[number][2]) != points:
                continue  # joined since
            first, last, _ = self.branches.pop(number)
            for node in (first, last):
                at[node].discard(number)
                kept = self._join(node, at)
                if kept is not None and (spur := self._as_spur(kept, at, margin)):
                    heappush(spurs, spur)

    def _as_spur(self, number: int, at: list[set[int]], margin: float) -> tuple[float, int, int] | None:
        """Return the reach of a branch from a junction to an end, its number and number of points; None for others."""
        first, last, points = self.branches[number]
        if first == last or (len(at[first]) > 1) == (len(at[last]) > 1):
            return None
        end, junction = (first, last) if len(at[first]) == 1 else (last, first)
        return (path_length(points) + self.radius[end]) / (self.radius[junction] + margin), number, len(points)

    def _join(self, node: int, at: list[set[int]]) -> int | None:
        """Make one branch of the two at a node that has only these, unless one of them is a loop; return which."""
        if len(at[node]) != 2:
            return None
        kept, gone = sorted(at[node])
        (a, b, one), (c, d, other) = self.branches[kept], self.branches[gone]
        if a == b or c == d:
            return None
        if a == node:
            a, one = b, one[::-1]
        if d == node:
            d, other = c, other[::-1]
        joined: NDArray[np.float64] = np.concatenate([one, other[1:]])
        self.branches[kept] = (a, d, joined)
        del self.branches[gone]
        at[node].clear()
        at[d].discard(gone)
        at[d].add(kept)
        return kept


def path_length(points: NDArray[np.float64]) -> float:
    """Length of a path (P, 3)."""
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def skeleton_graph(
    skeleton: NDArray[np.bool_], depth: NDArray[np.floating], voxel_size: tuple[float, float, float]
) -> SkeletonGraph:
    """Make the graph of a skeleton from its voxels and their 26 neighbors.

    Neighboring voxels with three or more neighbors are one junction, at their centroid: the triangles of edges that
    voxels around a junction make neither add length nor loops. A loop without a junction has one node.

    Args:
        skeleton: (D, H, W), lines one voxel wide.
        depth: (D, H, W) distances to the outside in nm.
        voxel_size: (z, y, x) in nm.
    """
    neighbors = _neighbors(skeleton)
    places = np.argwhere(skeleton).astype(np.float64) * voxel_size
    depths = depth[skeleton].astype(np.float64)
    groups = _nodes(neighbors)
    node_of = np.full(len(places), -1)
    for number, voxels in enumerate(groups):
        node_of[voxels] = number
    graph = SkeletonGraph([places[g].mean(axis=0) for g in groups], [float(depths[g].max()) for g in groups])
    for first, last, path in _paths(neighbors, node_of.tolist()):
        if first == last and len(path) - 2 < _SMALLEST_LOOP:
            continue
        points = places[path]
        points[0], points[-1] = graph.position[first], graph.position[last]
        graph.branches[len(graph.branches)] = (first, last, points)
    graph.single = np.flatnonzero(graph.degrees() == 0).tolist()
    return graph


def _neighbors(skeleton: NDArray[np.bool_]) -> list[list[int]]:
    """For each voxel of a skeleton the numbers of its neighbors."""
    numbers = np.full(np.array(skeleton.shape) + 2, -1)
    inside = numbers[1:-1, 1:-1, 1:-1]
    count = int(np.count_nonzero(skeleton))
    inside[skeleton] = np.arange(count)
    places = np.argwhere(skeleton) + 1
    found: list[list[int]] = [[] for _ in range(count)]
    for step in _FORWARD:
        others = numbers[tuple((places + step).T)]
        for one in np.flatnonzero(others >= 0).tolist():
            found[one].append(int(others[one]))
            found[int(others[one])].append(one)
    return found


def _nodes(neighbors: list[list[int]]) -> list[list[int]]:
    """Groups of voxels that are nodes: junctions, ends, single voxels, and a voxel of each loop without any."""
    groups: list[list[int]] = []
    seen = [False] * len(neighbors)

    def flood(start: int, junctions: bool) -> list[int]:
        seen[start], group, edge = True, [start], [start]
        while edge:
            for other in neighbors[edge.pop()]:
                if not seen[other] and (not junctions or len(neighbors[other]) > 2):
                    seen[other] = True
                    group.append(other)
                    edge.append(other)
        return group

    for voxel, near in enumerate(neighbors):
        if len(near) > 2 and not seen[voxel]:
            groups.append(flood(voxel, junctions=True))
        elif len(near) < 2:
            groups.append([voxel])
    seen = [False] * len(neighbors)
    for group in list(groups):
        if not seen[group[0]]:
            flood(group[0], junctions=False)
    for voxel in range(len(neighbors)):
        if not seen[voxel]:
            flood(voxel, junctions=False)
            groups.append([voxel])
    return groups


def _paths(neighbors: list[list[int]], node_of: list[int]) -> list[tuple[int, int, list[int]]]:
    """Paths of voxels from node to node, each once."""
    paths: list[tuple[int, int, list[int]]] = []
    walked: set[tuple[int, int]] = set()
    for start, node in enumerate(node_of):
        if node < 0:
            continue
        for second in neighbors[start]:
            if node_of[second] == node or (start, second) in walked:
                continue
            path = [start, second]
            while node_of[path[-1]] < 0:
                one, other = neighbors[path[-1]]
                path.append(other if one == path[-2] else one)
            walked.update(pairwise(path))
            walked.update(pairwise(path[::-1]))
            paths.append((node, node_of[path[-1]], path))
    return paths
