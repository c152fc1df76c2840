"""The generator of artificial volumes of the fly's optic lobe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from typing import Any

import numpy as np

from voxel_ext.errors import InvalidInputError
from voxel_ext.synthetic import _checks as checks
from voxel_ext.synthetic.optic_lobe import fluorescence
from voxel_ext.synthetic.optic_lobe.columns import Cones, column_labels, consecutive, mean_spacing
from voxel_ext.synthetic.optic_lobe.fluorescence import DENSE, EMPTY, RING
from voxel_ext.synthetic.optic_lobe.imaging import Imaging, image_volume
from voxel_ext.synthetic.optic_lobe.neurites import add_neurites
from voxel_ext.synthetic.optic_lobe.parallel import Workers
from voxel_ext.synthetic.optic_lobe.pose import Lobe, draw_lobe

DENSE_SIGMA = 1.2  # factor on the intensity's sigma for the dense type


@dataclass(frozen=True)
class OpticLobe:
    """Artificial fluorescence volume of visual columns of the fly's optic lobe, with exact ground truth.

    Columns sit on a hexagonal grid on an ellipsoid that is placed at random in the volume and partly cut away. They
    are truncated cones; three of four types hold fluorescent clouds. Neurites, background and noise follow. Defaults
    are those of the data set of https://github.com/michi-d/3dsegmentation (Michael Drews). Lengths are in edges
    of the volume, or in mean spacings of the columns where said to be relative.

    The result depends on the settings and the seed alone: neither on the number of threads or processes nor on
    NumPy's global random state, and it leaves that state as it was. Floating point rounding may differ between kinds
    of processors.

    Args:
        seed: at least 0.
        size: (X, Y, Z) in voxels, or one integer for a cube; at least 8.
        min_points: lowest number of columns that begin inside the volume.
        subdivisions: lowest and highest number of grid points along an edge of the icosahedron.
        scale_range: lowest and highest semi-axis of the ellipsoid.
        shift_range: lowest and highest shift along an axis.
        relative_diameter: diameter of a column at the surface, over the spacing.
        relative_depth: depth of a column, over the spacing.
        type_ratios: of empty, dense, clustered and ring-shaped columns.
        simplify_factor: divides the standard deviations of the clouds.
        baseline_intensity: intensity of a cloud whose logarithm is drawn as 0.
        intensity_sigma_range: lowest and highest standard deviation of the logarithm of the intensity.
        value_sigma: standard deviation of a point's intensity around its cloud's.
        box_size: edge of the box filter in voxels.
        background_sigma: standard deviation of the background's blur in voxels.
        background_factor_range: lowest and highest weight of the background.
        plateau: constant light, over the 99th percentile of the signal.
        gain_range: lowest and highest number of photons at the 99th percentile.
        contrast_range: lowest and highest factor on the standard deviation of the logarithm of the image.
        threads: ``None`` for every core that the process may use, or one thread in a worker process.

    Raises:
        InvalidInputError: a setting is of the wrong type, outside its limits, or a range is not ordered.
    """

    seed: int = 0
    size: int | Sequence[int] = 256
    _: KW_ONLY
    min_points: int = 100
    subdivisions: tuple[int, int] = (8, 15)
    scale_range: tuple[float, float] = (0.7, 1.5)
    shift_range: tuple[float, float] = (-0.5, 0.5)
    relative_diameter: float = 0.70
    relative_depth: float = 2.25
    type_ratios: Sequence[float] = (2, 3, 3, 3)
    simplify_factor: float = 1.25
    baseline_intensity: float = 50.0
    intensity_sigma_range: tuple[float, float] = (0.3, 1.2)
    value_sigma: float = 1.0
    box_size: int = 2
    background_sigma: float = 10.0
    background_factor_range: tuple[float, float] = (0.0005, 0.0025)
    plateau: float = 0.1
    gain_range: tuple[int, int] = (10, 30)
    contrast_range: tuple[float, float] = (0.7, 1.0)
    threads: int | None = None

    def __post_init__(self) -> None:
        ratios = checks.check_sequence("type_ratios", self.type_ratios, 4)
        ratios = [checks.check_number(f"type_ratios[{i}]", ratio, 0) for i, ratio in enumerate(ratios)]
        if sum(ratios) == 0:
            raise InvalidInputError(f"type_ratios={self.type_ratios!r}: expected at least one ratio above 0.")
        size = checks.check_size(self.size, 3)
        checked = {
            "seed": checks.check_integer("seed", self.seed, 0),
            "size": size,
            "min_points": checks.check_integer("min_points", self.min_points, 2),
            "subdivisions": checks.check_range("subdivisions", self.subdivisions, 0, 200, integer=True),
            "scale_range": checks.check_range("scale_range", self.scale_range, 1e-3),
            "shift_range": checks.check_range("shift_range", self.shift_range),
            "type_ratios": tuple(ratios),
            "intensity_sigma_range": checks.check_range("intensity_sigma_range", self.intensity_sigma_range, 0),
            "box_size": checks.check_integer("box_size", self.box_size, 1, min(size)),
            "background_factor_range": checks.check_range("background_factor_range", self.background_factor_range, 0),
            "gain_range": checks.check_range("gain_range", self.gain_range, 1, integer=True),
            "contrast_range": checks.check_range("contrast_range", self.contrast_range, 0),
        }
        for name in ("relative_diameter", "relative_depth", "simplify_factor"):
            checked[name] = checks.check_number(name, getattr(self, name), 1e-3)
        for name in ("baseline_intensity", "value_sigma", "background_sigma", "plateau"):
            checked[name] = checks.check_number(name, getattr(self, name), 0)
        checks.check_threads(self.threads)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size (X, Y, Z) of the volume in voxels."""
        x, y, z = checks.check_size(self.size, 3)
        return x, y, z

    def generate(self) -> dict[str, Any]:
        """Generate the volume of this seed.

        Returns:
            A dictionary of

            - ``image``: (X, Y, Z) float32 intensities;
            - ``label``: (X, Y, Z) ids of the columns from 1 to N, 0 between them; uint16, or int32 for more ids;
            - ``seeds``: (N, 3) float32 middles of the columns in voxels, where voxel i spans [i, i + 1);
            - ``points``, ``radial``: (N, 3) surface point in the unit cube and unit vector along the axis;
            - ``types``: (N,) uint8, 0 empty, 1 dense, 2 clustered, 3 ring;
            - ``parameters``: settings and drawn values as Python scalars and lists.

            Row i is the column with the id i + 1. Columns that own no voxel are not among the N, but are counted in
            ``parameters["n_columns"]``.

        Raises:
            InvalidInputError: no pose with ``min_points`` columns was found.
        """
        streams = np.random.SeedSequence(self.seed).spawn(6)
        rngs = [np.random.default_rng(stream) for stream in streams[:4]]
        lobe = draw_lobe(
            rngs[0],
            min_points=self.min_points,
            subdivisions=self.subdivisions,
            scale_range=self.scale_range,
            shift_range=self.shift_range,
        )
        cones, drawn = self._measure(lobe)
        types = fluorescence.split_types(rngs[1], len(lobe.points), self.type_ratios)
        sigma = float(rngs[1].uniform(*self.intensity_sigma_range))
        with Workers(checks.check_threads(self.threads)) as workers:
            columns = column_labels(cones, self.shape, workers)
            clouds = self._clouds(rngs[2], lobe, cones, types, drawn["spacing"], sigma)
            light = fluorescence.render_clouds(streams[4], clouds, self.shape, self.value_sigma, workers)
            neurites = add_neurites(
                rngs[3],
                light,
                lobe,
                spacing=drawn["spacing"],
                intensity=self.baseline_intensity,
                intensity_sigma=sigma,
            )
            image, imaged = image_volume(streams[5], light, self._imaging(), workers)
        label, present = consecutive(columns, len(lobe.points))
        names = ("n_empty", "n_dense", "n_clustered", "n_ring")
        counts = dict(zip(names, np.bincount(types, minlength=4).tolist(), strict=True))
        parameters = {
            **lobe.parameters,
            **drawn,
            **counts,
            "intensity_sigma": sigma,
            **neurites,
            **imaged,
            "n_labels": len(present),
        }
        return {
            "image": image,
            "label": label,
            "seeds": (cones.middles[present] * self.shape).astype(np.float32),
            "points": lobe.points[present],
            "radial": lobe.radial[present],
            "types": types[present],
            "parameters": {**self.settings(), **parameters},
        }

    def _measure(self, lobe: Lobe) -> tuple[Cones, dict[str, Any]]:
        """The columns of a lobe, and their measures."""
        spacing = mean_spacing(lobe.points)
        depth = spacing * self.relative_depth
        end_spacing = mean_spacing(lobe.points + depth * lobe.radial)
        radius = spacing * self.relative_diameter / 2
        cones = Cones(lobe.points, lobe.radial, radius, radius * end_spacing / spacing, depth)
        drawn = {"n_columns": len(lobe.points), "spacing": spacing, "end_spacing": end_spacing, "depth": depth}
        return cones, {**drawn, "radius": radius, "end_radius": cones.end_radius}

    def _clouds(
        self,
        rng: np.random.Generator,
        lobe: Lobe,
        cones: Cones,
        types: np.ndarray,
        spacing: float,
        sigma: float,
    ) -> fluorescence.Clouds:
        """The clouds of all columns that come near the volume, type by type."""
        groups = []
        for kind in range(EMPTY + 1, RING + 1):
            members = np.flatnonzero(types == kind)
            clouds = fluorescence.draw_clouds(
                rng,
                kind,
                cones.middles[members],
                lobe.frames[members],
                spacing=spacing,
                simplify_factor=self.simplify_factor,
                intensity=self.baseline_intensity,
                intensity_sigma=sigma * (DENSE_SIGMA if kind == DENSE else 1.0),
                size=self.shape,
            )
            groups.append(clouds.reaching(self.shape))
        return fluorescence.concatenate(groups)

    def _imaging(self) -> Imaging:
        return Imaging(
            box_size=self.box_size,
            background_sigma=self.background_sigma,
            background_factor_range=self.background_factor_range,
            plateau=self.plateau,
            gain_range=self.gain_range,
            contrast_range=self.contrast_range,
        )

    def settings(self) -> dict[str, Any]:
        """Every setting that the result depends on, with lists for tuples."""
        settings = {name: value for name, value in asdict(self).items() if name != "threads"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
