"""The generator of artificial images: a hexagonal lattice of spots, the optic lobe seen from above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError
from voxel_ext.synthetic import _checks as checks
from voxel_ext.synthetic.optic_lobe.columns import consecutive
from voxel_ext.synthetic.optic_lobe.fluorescence import LOG_MEAN, voxel_index

Array = NDArray[np.float64]

ATTEMPTS = 1000
READ_NOISE = 0.1  # over the standard deviation of the photon numbers
DEFAULT_SCALE = (1.152, 1.92)  # 0.9 and 1.5 times 1.28, for lengths given for an image of 100 pixels


@dataclass(frozen=True)
class OpticLobe2D:
    """Artificial fluorescence image of visual columns of the fly's optic lobe in cross section, with ground truth.

    Spots, either rings or Gaussian clouds, sit on a hexagonal lattice that is distorted, cut along a line, turned and
    scaled at random. Blur, background and noise follow. Defaults are those of
    https://github.com/michi-d/3dsegmentation (Michael Drews). Lengths are in pixels at scale 1.

    The result depends on the settings and the seed alone, not on NumPy's global random state.

    Args:
        seed: at least 0.
        size: (X, Y) in pixels, or one integer for a square; at least 8.
        min_spots: lowest number of spots in the image.
        scale_range: lowest and highest factor on every length and on the number of points.
        spacing: distance of neighboring spots along the lattice vectors.
        radius: of a spot in the ground truth.
        angle: between the lattice vectors in degrees.
        angle_range: lowest and highest value added to ``angle``.
        random_cut: remove the spots on one side of a random line.
        random_rotation: turn the lattice by a random angle.
        ring_fraction: fraction of spots that are rings; ``None`` draws it from 0 to 1.
        points: of a spot.
        gaussian_sigma: standard deviation of a Gaussian spot.
        ring_radius: of a ring.
        ring_sigma: standard deviation of a ring's radius.
        baseline_intensity: intensity of a spot whose logarithm is drawn as 0.
        intensity_sigma: standard deviation of the logarithm of a spot's intensity.
        value_sigma: standard deviation of a point's intensity around its spot's.
        box_size: edge of the box filter.
        blur_size: width of the Gaussian blur's window.
        background_size: width of the background's Gaussian window, in pixels at any scale.

    Raises:
        InvalidInputError: a setting is of the wrong type, outside its limits, or a range is not ordered.
    """

    seed: int = 0
    size: int | Sequence[int] = 128
    _: KW_ONLY
    min_spots: int = 1
    scale_range: tuple[float, float] = DEFAULT_SCALE
    spacing: float = 10.0
    radius: float = 3.5
    angle: float = 60.0
    angle_range: tuple[float, float] = (-10.0, 30.0)
    random_cut: bool = True
    random_rotation: bool = True
    ring_fraction: float | None = None
    points: int = 10
    gaussian_sigma: float = 2.0
    ring_radius: float = 3.5
    ring_sigma: float = 0.1
    baseline_intensity: float = 50.0
    intensity_sigma: float = 0.5
    value_sigma: float = 5.0
    box_size: int = 2
    blur_size: int = 5
    background_size: int = 21

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            "seed": checks.check_integer("seed", self.seed, 0),
            "size": checks.check_size(self.size, 2),
            "min_spots": checks.check_integer("min_spots", self.min_spots, 0),
            "scale_range": checks.check_range("scale_range", self.scale_range, 1e-2),
            "angle": checks.check_number("angle", self.angle, 1, 179),
            "angle_range": checks.check_range("angle_range", self.angle_range, 1 - self.angle, 179 - self.angle),
        }
        if self.ring_fraction is not None:
            checked["ring_fraction"] = checks.check_number("ring_fraction", self.ring_fraction, 0, 1)
        for name in ("spacing", "radius"):
            checked[name] = checks.check_number(name, getattr(self, name), 0.5)
        for name in ("gaussian_sigma", "ring_radius", "ring_sigma", "baseline_intensity", "intensity_sigma"):
            checked[name] = checks.check_number(name, getattr(self, name), 0)
        checked["value_sigma"] = checks.check_number("value_sigma", self.value_sigma, 0)
        for name in ("points", "box_size", "blur_size", "background_size"):
            checked[name] = checks.check_integer(name, getattr(self, name), 1)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def shape(self) -> tuple[int, int]:
        """Size (X, Y) of the image in pixels."""
        x, y = checks.check_size(self.size, 2)
        return x, y

    def generate(self) -> dict[str, Any]:
        """Generate the image of this seed.

        Returns:
            A dictionary of

            - ``image``: (X, Y) float32 intensities; read noise may make them slightly negative;
            - ``label``: (X, Y) ids of the spots from 1 to N, 0 between them; uint16, or int32 for more ids;
            - ``seeds``: (N, 2) float32 centers in pixels, where pixel i spans [i, i + 1); row i has the id i + 1;
            - ``rings``: (N,) which spots are rings;
            - ``parameters``: settings and drawn values as Python scalars and lists.

        Raises:
            InvalidInputError: no lattice with ``min_spots`` spots was found in 1000 draws.
        """
        streams = [np.random.default_rng(stream) for stream in np.random.SeedSequence(self.seed).spawn(3)]
        centers, drawn = self._draw_lattice(streams[0])
        fraction = float(streams[1].uniform(0, 1)) if self.ring_fraction is None else self.ring_fraction
        rings = streams[1].uniform(size=len(centers)) < fraction
        light = self._draw_spots(streams[1], centers, rings, drawn["scale"])
        image, read_noise = self._image(streams[2], light, drawn["scale"])
        label, present = consecutive(disc_labels(centers, self.radius * drawn["scale"], self.shape), len(centers))
        drawn = {**drawn, "drawn_ring_fraction": fraction, "read_noise_sigma": read_noise, "n_labels": len(present)}
        return {
            "image": image.astype(np.float32),
            "label": label,
            "seeds": centers[present].astype(np.float32),
            "rings": rings[present],
            "parameters": {**self.settings(), **drawn},
        }

    def _draw_lattice(self, rng: np.random.Generator) -> tuple[Array, dict[str, Any]]:
        """Draw lattices until ``min_spots`` centers (N, 2) lie inside the image; returns them and the drawn values."""
        size = np.asarray(self.shape, dtype=float)
        for attempt in range(1, ATTEMPTS + 1):
            scale, angle = rng.uniform(*self.scale_range), np.radians(self.angle + rng.uniform(*self.angle_range))
            support, direction, rotation = rng.uniform(0, size), rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
            spots = lattice(self.spacing * scale, angle, float(np.linalg.norm(size)) / 2) + size / 2
            if self.random_cut:
                spots = spots[(spots - support) @ [np.cos(direction), np.sin(direction)] > 0]
            if self.random_rotation:
                sine, cosine = np.sin(rotation), np.cos(rotation)
                spots = (spots - size / 2) @ np.array([[cosine, -sine], [sine, cosine]]) + size / 2
            spots = spots[((spots >= 0) & (spots < size)).all(axis=1)]
            if len(spots) >= self.min_spots:
                drawn = {"attempts": attempt, "scale": scale, "lattice_angle": float(np.degrees(angle))}
                drawn |= {"cut_point": support.tolist(), "cut_direction": direction, "rotation": rotation}
                return spots, drawn
        raise InvalidInputError(
            f"min_spots={self.min_spots}: no lattice with so many spots in {ATTEMPTS} draws with size={self.shape}, "
            f"spacing={self.spacing}, scale_range={self.scale_range}; lower min_spots or spacing."
        )

    def _draw_spots(self, rng: np.random.Generator, centers: Array, rings: NDArray[np.bool_], scale: float) -> Array:
        """Light (X, Y) of all spots: the center, then its points; later ones overwrite earlier ones."""
        shape = (len(centers), max(int(self.points * scale), 1))
        intensity = self.baseline_intensity * rng.lognormal(LOG_MEAN, self.intensity_sigma, len(centers))
        distance, angle = rng.normal(self.ring_radius, self.ring_sigma, shape), rng.uniform(0, 2 * np.pi, shape)
        ring = np.stack([np.cos(angle) * distance, np.sin(angle) * distance], axis=-1)
        offset = scale * np.where(rings[:, None, None], ring, rng.normal(0, self.gaussian_sigma, (*shape, 2)))
        values = intensity[:, None] + rng.normal(0, self.value_sigma, shape)
        points = np.concatenate([centers[:, None], centers[:, None] + offset], axis=1)
        values = np.concatenate([intensity[:, None], values], axis=1)
        inside, index = voxel_index(points.reshape(-1, 2), self.shape)
        light = np.zeros(self.shape)
        light.reshape(-1)[index] = values.reshape(-1)[inside]
        return light

    def _image(self, rng: np.random.Generator, light: Array, scale: float) -> tuple[Array, float]:
        """Box filter, blur, background, Poisson and read noise; returns the image and the read noise's sigma."""
        from scipy.ndimage import uniform_filter

        width = max(int(self.box_size * scale), 1)
        image = window_blur(uniform_filter(light, width, mode="mirror"), previous_odd(self.blur_size * scale))
        image = np.maximum(image, 0)
        image = image + window_blur(image, previous_odd(self.background_size)) + image.mean()
        counts = rng.poisson(image).astype(float)
        sigma = READ_NOISE * float(counts.std())
        return counts + rng.normal(0, sigma, counts.shape), sigma

    def settings(self) -> dict[str, Any]:
        """Every setting that the result depends on, with lists for tuples."""
        settings = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def lattice(spacing: float, angle: float, reach: float) -> Array:
    """Points (N, 2) of a lattice around the origin.

    Args:
        spacing: length of both lattice vectors, which are (0, 1) and (sin angle, cos angle) times it.
        angle: between the lattice vectors in radians.
        reach: every lattice point within this distance of the origin is included.
    """
    count = int(np.ceil(reach / (spacing * np.sin(angle))))
    first, second = np.meshgrid(np.arange(-count, count + 1), np.arange(-count, count + 1), indexing="ij")
    vectors = spacing * np.array([[0.0, 1.0], [np.sin(angle), np.cos(angle)]])
    return np.stack([first.ravel(), second.ravel()], axis=1) @ vectors


def disc_labels(centers: Array, radius: float, size: Sequence[int]) -> NDArray[np.int32]:
    """Ids (X, Y) of discs: a pixel has the id of the nearest center (N, 2) if that is nearer than ``radius``, or 0.

    Ids are 1 to N; pixel i has its center at i + 0.5.
    """
    from scipy.spatial import cKDTree

    if len(centers) == 0:
        return np.zeros(tuple(size), dtype=np.int32)
    pixels = np.stack(np.meshgrid(*(np.arange(length) + 0.5 for length in size), indexing="ij"), axis=-1)
    _, index = cKDTree(centers).query(pixels, distance_upper_bound=radius)
    return np.where(index < len(centers), index + 1, 0).astype(np.int32)


def window_blur(image: Array, width: int) -> Array:
    """Gaussian blur of an image in an odd window, with sigma 0.3 ((width − 1) / 2 − 1) + 0.8 and mirrored borders."""
    from scipy.ndimage import gaussian_filter

    sigma = 0.3 * ((width - 1) / 2 - 1) + 0.8
    return gaussian_filter(image, sigma, mode="mirror", radius=width // 2)


def previous_odd(value: float) -> int:
    """The greatest odd integer below ``value`` + 1, at least 1: 5.8 gives 5, 7 gives 7, 7.2 gives 7."""
    return max(int(np.ceil(value / 2) * 2 - 1), 1)
