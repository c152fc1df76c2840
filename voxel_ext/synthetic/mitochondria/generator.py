"""The generator of artificial mitochondria."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.synthetic import _checks as checks
from voxel_ext.synthetic.mitochondria.bodies import Body, Raster, ball_radius, draw_body
from voxel_ext.synthetic.mitochondria.classes import CLASSES, THINNEST
from voxel_ext.synthetic.mitochondria.imaging import Microscope
from voxel_ext.synthetic.mitochondria.placement import Space, is_connected, share_out
from voxel_ext.synthetic.mitochondria.settings import check_objects, check_resolution, check_voxel_size

DRAWS = 25  # bodies drawn for an object until one of them has room
FINEST = (1.0, 1.0, 1.0)  # voxels in nm that are fine enough for all objects
LOWEST_VOLUME = 1e-6  # um^3; the thinnest parts are still more than a nanometer thick
LARGEST = 4.0  # box about a body, which may be twice as long as the body, over the volume
FILL = 0.86  # extent of a single object over that of its cube
_LIMITS = {
    "irregularity": (0, 0.3),
    "gap": (0, 10_000),
    "membrane": (0, 200),
    "cristae": (0, 1),
    "cytoplasm": (0, 2),
    "section_jitter": (0, 0.5),
    "blur": (0, 16),
    "noise": (0, 1),
}


@dataclass(frozen=True, eq=False)
class Mitochondria:
    """Artificial electron-microscopy volume of mitochondria of six classes of shape, with exact ids.

    The classes are ``"spheroid"``, ``"rod"``, ``"curved_tube"`` (an open C or U), ``"branched"`` (a trunk with two or
    three branches), ``"donut"`` (a torus) and ``"sheet"`` (a flattened, bent disc). Bodies are level sets in
    nanometers, turned uniformly at random; their volumes come from one distribution for all classes, so that size does
    not tell them apart. Radii vary smoothly along tubes, and every body is sheared by smooth waves, neither of which
    changes what is known of its volume. A voxel belongs to a body if its center is inside.

    The result depends on the settings and the seed alone. The axis order is (z, y, x), voxel i has its center at the
    coordinate i.

    Args:
        seed: at least 0.
        size: (Z, Y, X) of the volume in voxels, each at least 8.
        objects: their number, shared evenly among ``classes`` (which of them get one more is random), or a mapping of
            names to numbers.
        classes: names of the classes that a number of objects is shared among; a mapping has to keep to them.
        voxel_size: (z, y, x) in nm; the default is that of MitoEM (30, 8, 8), two by two pixels binned to one.
        volume: (lowest, highest) of an object in um^3; the logarithm is uniform between them. That of curved tubes
            and branched ones is met within about a fifth, the others' exactly.
        irregularity: relative spread of the radius along tubes, and slope of the waves; 0 for ideal solids, at most
            0.3.
        gap: lowest distance in nm between the centers of voxels of two objects.
        touch_border: whether the border of the volume may cut objects; otherwise they lie at least one voxel within.
            Of an object that is cut, at least 0.3 is left, in one piece.
        membrane: thickness of the dark outer membrane in nm, 0 to 200; 0 for none.
        cristae: contrast of the cristae over that of the membrane, 0 to 1.
        cytoplasm: contrast of the granules and other membranes outside, 0 to 2.
        section_jitter: standard deviation of the brightness, and of the relative contrast, from section to section.
        blur: standard deviation in voxels of the blur along y and x, 0 to 16.
        noise: standard deviation of the noise, where black is 0 and white 1.

    Raises:
        InvalidInputError: a setting is of the wrong type, outside its limits, or does not fit another.
    """

    seed: int = 0
    _: KW_ONLY
    size: int | Sequence[int] = (64, 192, 192)
    objects: int | Mapping[str, int] = 40
    classes: Sequence[str] = CLASSES
    voxel_size: Sequence[float] = (30.0, 16.0, 16.0)
    volume: Sequence[float] = (0.025, 0.1)
    irregularity: float = 0.12
    gap: float = 32.0
    touch_border: bool = False
    membrane: float = 24.0
    cristae: float = 0.7
    cytoplasm: float = 1.0
    section_jitter: float = 0.015
    blur: float = 0.6
    noise: float = 0.05

    _size: tuple[int, ...] = field(init=False, repr=False)
    _voxel_size: tuple[float, ...] = field(init=False, repr=False)
    _volume: tuple[float, float] = field(init=False, repr=False)
    _counts: int | dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checks.check_integer("seed", self.seed, 0)
        for name, limits in _LIMITS.items():
            checks.check_number(name, getattr(self, name), *limits)
        if not isinstance(self.touch_border, bool):
            raise InvalidInputError(f"touch_border={self.touch_border!r}: expected True or False.")
        object.__setattr__(self, "_size", checks.check_size(self.size, 3))
        object.__setattr__(self, "_voxel_size", check_voxel_size(self.voxel_size))
        object.__setattr__(self, "_volume", checks.check_range("volume", self.volume, LOWEST_VOLUME))
        object.__setattr__(self, "_counts", check_objects(self.objects, self.classes))
        check_resolution(self._voxel_size, THINNEST * ball_radius(self._volume[0] * 1e9), self._volume[0])

    def generate(self) -> dict[str, Any]:
        """Generate the volume of this seed.

        Returns:
            A dictionary of

            - ``image``: (Z, Y, X) float32 from 0 to 1;
            - ``label``: (Z, Y, X) int32 ids, in random order from 1 on; 0 is background;
            - ``classes``: dictionary from id to the name of the class;
            - ``parameters``: settings, and under ``objects_drawn`` a dictionary per id, in order: ``id``, ``class``,
              ``volume_um3`` (closed form of the whole body; None for curved tubes and branched ones), ``voxels``,
              ``center`` (z, y, x in voxels, of the body's own coordinates), ``rotation`` (3, 3), ``scale_nm``,
              ``touches_border``, and its lengths in nm.

        Raises:
            InvalidInputError: there is no room for all objects.
        """
        streams = [np.random.default_rng(stream) for stream in np.random.SeedSequence(self.seed).spawn(4)]
        names, volumes, ids = self._draw_objects(streams[0])
        microscope = self._microscope(self._voxel_size)
        canvas = microscope.background(streams[1], self._size)
        label = np.zeros(self._size, dtype=np.int32)
        space = Space(self._size, self._voxel_size, float(self.gap), self.touch_border)
        records: list[dict[str, Any]] = []
        for name, volume, number in zip(names, volumes, ids, strict=True):
            rng = np.random.default_rng([self.seed, number])
            body, raster, origin, shift = self._place(rng, space, name, volume, len(records))
            window, part = space.window(raster, origin)
            space.take(raster, origin)
            mask = raster.mask[part]
            label[window][mask] = number
            microscope.paint(rng, canvas[window], raster.distance[part])
            records.append(self._record(body, number, mask, window, origin + shift))
        records.sort(key=lambda record: record["id"])
        return {
            "image": microscope.expose(streams[2], canvas),
            "label": label,
            "classes": {record["id"]: record["class"] for record in records},
            "parameters": {**self.settings(), "objects_drawn": records},
        }

    @classmethod
    def single(
        cls,
        class_name: str,
        seed: int = 0,
        *,
        size: int = 64,
        voxel_size: Sequence[float] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Draw one object alone, in the middle of a cube.

        Args:
            class_name: one of the six.
            seed: at least 0.
            size: edge of the cube in voxels, at least 16.
            voxel_size: (z, y, x) in nm; ``None`` for cubic voxels with which a box about the object, which for thin
                ones is up to twice as long as they are, takes up 0.86 of the cube.
            options: of `Mitochondria`, but ``objects``, ``classes``, ``gap`` and ``touch_border``.

        Returns:
            A dictionary of ``image`` (size, size, size) float32, ``mask`` (size, size, size) bool, ``class``,
            ``voxel_size`` (z, y, x) in nm and ``parameters``, as those of an object in `generate`.

        Raises:
            InvalidInputError: the class is not known, an option is not as it should be, or the object is larger than
                the cube with the given voxel size.
        """
        check_option("class_name", class_name, CLASSES)
        checks.check_integer("size", size, 16)
        for name in ("objects", "classes", "gap", "touch_border"):
            if name in options:
                raise InvalidInputError(f"{name}={options[name]!r}: a single object has no such option; leave it out.")
        given = FINEST if voxel_size is None else voxel_size
        alone = cls(seed, size=size, objects={class_name: 1}, voxel_size=given, **options)
        return alone._single(class_name, voxel_size is None)

    def _single(self, name: str, fit: bool) -> dict[str, Any]:
        """One object in the middle of the volume, with cubic voxels that it fits in or those of the settings."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, CLASSES.index(name)]))
        volume = self._draw_volumes(rng, 1)[0]
        body = draw_body(rng, name, volume, self.irregularity)
        low, high = body.bounds()
        size, voxel_size = np.array(self._size), self._voxel_size
        if fit:
            voxel_size = (float((high - low).max() / (size[0] * FILL)),) * 3
            check_resolution(voxel_size, body.solid.thinnest * body.scale, volume)
        center = (size - 1) / 2 - (low + high) / 2 / voxel_size
        origin = np.floor(center).astype(np.int64)
        raster = body.rasterize(voxel_size, center - origin) if self._may_fit(body, voxel_size) else None
        space = Space(self._size, voxel_size, 0.0, False)
        if raster is None or not space.holds(raster, origin):
            raise InvalidInputError(
                f"voxel_size={voxel_size}: an object of class {name!r} of {np.round(high - low).tolist()} nm is larger "
                f"than {self._size} voxels; give a larger voxel_size or size, or a smaller volume."
            )
        window, _ = space.window(raster, origin)
        mask = np.zeros(self._size, dtype=bool)
        mask[window] = raster.mask
        microscope = self._microscope(voxel_size)
        canvas = microscope.background(rng, self._size)
        microscope.paint(rng, canvas[window], raster.distance)
        record = self._record(body, 1, raster.mask, window, center)
        image = microscope.expose(rng, canvas)
        return {"image": image, "mask": mask, "class": name, "voxel_size": voxel_size, "parameters": record}

    def _draw_objects(self, rng: np.random.Generator) -> tuple[list[str], list[float], list[int]]:
        """Classes, volumes in um^3 and ids of the objects, the largest first."""
        counts = self._counts
        if isinstance(counts, int):
            counts = share_out(rng, counts, tuple(self.classes))
        names = [name for name, count in counts.items() for _ in range(count)]
        volumes = self._draw_volumes(rng, len(names))
        ids = (rng.permutation(len(names)) + 1).tolist()
        order = np.argsort(volumes)[::-1].tolist()
        return [names[i] for i in order], [volumes[i] for i in order], [ids[i] for i in order]

    def _draw_volumes(self, rng: np.random.Generator, count: int) -> list[float]:
        low, high = np.log(self._volume)
        return np.exp(rng.uniform(low, high, count)).tolist()

    def _place(
        self, rng: np.random.Generator, space: Space, name: str, volume: float, placed: int
    ) -> tuple[Body, Raster, NDArray[np.int64], NDArray[np.float64]]:
        """A body that has room, its voxels, the voxel of its origin, and the rest of the origin."""
        for _ in range(DRAWS):
            body, shift = draw_body(rng, name, volume, self.irregularity), rng.uniform(0, 1, 3)
            if not self._may_fit(body, self._voxel_size):
                continue
            raster = body.rasterize(self._voxel_size, shift)
            if not is_connected(raster.mask):
                continue
            origin = space.find(rng, raster)
            if origin is not None:
                return body, raster, origin, shift
        raise InvalidInputError(
            f"objects={self.objects!r}: no room was found for an object of class {name!r} of {volume:.3g} um^3 "
            f"after {placed} others in a volume of size={self._size}; ask for fewer or smaller objects (objects, "
            "volume), a smaller gap, or a larger size."
        )

    def _may_fit(self, body: Body, voxel_size: Sequence[float]) -> bool:
        """Whether a body is not so large that its voxels need not be made."""
        low, high = body.bounds()
        return bool(((high - low) / voxel_size <= LARGEST * np.array(self._size)).all())

    def _record(
        self,
        body: Body,
        number: int,
        mask: NDArray[np.bool_],
        window: tuple[slice, ...],
        center: NDArray[np.float64],
    ) -> dict[str, Any]:
        """What is known of an object as Python scalars and lists."""
        voxels = np.argwhere(mask) + [part.start for part in window]
        touches = bool((voxels == 0).any() or (voxels == np.array(self._size) - 1).any())
        drawn = {"voxels": len(voxels), "center": center.tolist(), "touches_border": touches}
        return {"id": number, **body.describe(), **drawn}

    def _microscope(self, voxel_size: tuple[float, ...]) -> Microscope:
        names = ("membrane", "cristae", "cytoplasm", "section_jitter", "blur", "noise")
        return Microscope(voxel_size, *(float(getattr(self, name)) for name in names))

    def settings(self) -> dict[str, Any]:
        """The settings that the result depends on as Python scalars and lists."""
        return {
            "seed": int(self.seed),
            "size": list(self._size),
            "objects": self._counts if isinstance(self._counts, int) else dict(self._counts),
            "classes": list(self.classes),
            "voxel_size": list(self._voxel_size),
            "volume": list(self._volume),
            "touch_border": self.touch_border,
            **{name: float(getattr(self, name)) for name in _LIMITS},
        }
