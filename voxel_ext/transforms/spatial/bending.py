"""Random bending of a volume along the worm's body axis, with a random affine map, in one resampling."""

from __future__ import annotations

import inspect
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_dst_type, convert_to_tensor, ensure_tuple_rep
from numpy.typing import ArrayLike, NDArray

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.transforms.spatial.affine import AffineRanges, check_probability
from voxel_ext.transforms.spatial.deformation import MODES, Deformation, quadratic_basis, resample

Padding = str | float | None


def bending_coefficients(shape: Sequence[int], bend: ArrayLike) -> NDArray[np.float64]:
    r"""B-spline coefficients that bend a body lying along x in the plane of x and y, and keep its length.

    With u(x) the quadratic B-spline of the control values ``bend`` less their mean, and θ its angle, tan θ = u'(x), the
    body's midline comes to lie on y = center - u(x). Output points map to input points by

    .. math:: x \mapsto \int^x \frac{d\xi}{\cos\theta(\xi)} - d \sin\theta, \qquad
              y \mapsto \mathrm{center} + d \cos\theta, \qquad d = y - \mathrm{center} + u(x),

    the least-squares fit of which by B-splines these coefficients are. On the midline its Jacobian is the turn by θ:
    arc length is kept, and cross-sections stand upright on the midline. The coefficients' mean along x is zero.

    Args:
        shape: (D, H, W).
        bend: (n + 2,), y displacement of each control point along x, in voxels, for n cells along x.

    Returns:
        (3, 3, 3, n + 2) in voxels: component (z, y, x), control points along z, y, x; see :class:`Deformation`.

    Raises:
        InvalidInputError: fewer than three control values, or a shape without three axes.
    """
    values = np.asarray(bend, dtype=np.float64)
    if values.ndim != 1 or len(values) < 3 or len(shape) != 3:
        raise InvalidInputError(
            f"bend of shape {values.shape} for a volume of shape {tuple(shape)}; expected (n + 2,), n of at least 1, "
            "for (D, H, W)"
        )
    _, height, width = shape
    positions = torch.linspace(-0.5, width - 0.5, 16 * len(values) + 1, dtype=torch.float64)
    basis = quadratic_basis(positions, width, len(values)).numpy().T
    x = positions.numpy()
    u = basis @ (values - values.mean())
    angle = np.arctan(np.gradient(u, x, edge_order=2))
    length = np.concatenate([[0.0], np.cumsum(np.diff(x) * (1 / np.cos(angle[1:]) + 1 / np.cos(angle[:-1])) / 2)])
    # displacements at the center of y, and their growth per voxel of y
    middle = np.stack([u * np.cos(angle), length - x - u * np.sin(angle)])
    growth = np.stack([np.cos(angle) - 1, -np.sin(angle)])
    fit = np.linalg.pinv(basis)
    rows = np.arange(-1, 2) * (height + 0.25)
    coefficients = np.zeros((3, 3, 3, len(values)))
    coefficients[1:] = ((middle @ fit.T)[:, None] + (growth @ fit.T)[:, None] * rows[:, None])[:, None]
    coefficients[2] -= coefficients[2].mean()
    return coefficients


class RandBend(RandomizableTransform):
    """Bend, turn, scale, shear and shift a volume at random in one resampling, as AutoCellLabeler was trained.

    The volume is bent first (:func:`bending_coefficients`, every control value uniform in ± ``bend_limit`` cells),
    every B-spline coefficient is jittered, and then the affine map (:class:`AffineRanges`) is applied. Where nothing
    is drawn the input is returned as it is.

    Args:
        prob: probability of bending and jitter; the affine parts have probabilities of their own.
        bend_limit: largest y displacement of a control point, in cells of W / ``control_points`` voxels.
            0.4 with jitter 10 and prob 0.8 is AutoCellLabeler's, 0.35 with 5 and 0.2 SegmentationNet's.
        jitter: standard deviation of what is added to every coefficient along z, y and x, in voxels.
        control_points: cells along x.
        affine: any of :class:`AffineRanges`, by name.

    Raises:
        InvalidInputError: an unknown name, a probability outside [0, 1], a negative size, no control point.
    """

    def __init__(
        self,
        prob: float = 0.8,
        bend_limit: float = 0.4,
        jitter: float = 10.0,
        control_points: int = 3,
        **affine: Any,
    ) -> None:
        super().__init__(check_probability("prob", prob))
        for name, value in (("bend_limit", bend_limit), ("jitter", jitter)):
            if not 0 <= value < math.inf:
                raise InvalidInputError(f"{name}={value!r}; expected a number that is not negative")
        if isinstance(control_points, bool) or not isinstance(control_points, int) or control_points < 1:
            raise InvalidInputError(f"control_points={control_points!r}; expected an integer of at least 1")
        for name in affine:
            check_option("argument", name, inspect.signature(AffineRanges).parameters)
        self.bend_limit, self.jitter, self.control_points = float(bend_limit), float(jitter), control_points
        self.affine = AffineRanges(**affine)
        self.deformation: Deformation | None = None

    def randomize(self, data: Sequence[int]) -> Deformation | None:  # type: ignore[override]
        """Draw a deformation, keep it as ``deformation``, and return it.

        Args:
            data: (D, H, W).

        Returns:
            None where no part was drawn.
        """
        super().randomize(None)
        shape = (int(data[0]), int(data[1]), int(data[2]))
        coefficients = self._coefficients(shape) if self._do_transform else None
        matrix = self.affine.draw(self.R, shape)
        nothing = matrix is None and coefficients is None
        self.deformation = (
            None if nothing else Deformation(shape, np.eye(3, 4) if matrix is None else matrix, coefficients)
        )
        return self.deformation

    def _coefficients(self, shape: Sequence[int]) -> NDArray[np.float64]:
        limit = self.bend_limit * shape[2] / self.control_points
        coefficients = bending_coefficients(shape, self.R.uniform(-limit, limit, self.control_points + 2))
        return coefficients + self.jitter * self.R.normal(size=coefficients.shape)

    def __call__(
        self, img: NdarrayOrTensor, mode: str = "bilinear", padding: Padding = None, randomize: bool = True
    ) -> NdarrayOrTensor:
        """Return the deformed image, of the type of ``img`` and on its device.

        Args:
            img: (C, D, H, W).
            mode: "bilinear" gives float32, "nearest" keeps the values and their type (16-bit unsigned becomes int32).
            padding: what comes in from outside: a number, or "median", each channel's (the lower of the middle two);
                None is "median" for "bilinear" and 0 for "nearest".
            randomize: False to deform as the last time.

        Raises:
            InvalidInputError: another number of axes, unknown mode or padding, or another shape than last time.
        """
        check_option("mode", mode, MODES)
        if not isinstance(padding, int | float | None):
            check_option("padding", padding, ["median"])
        _check_volume(img)
        deformation = self.randomize(img.shape[1:]) if randomize else self.deformation
        if deformation is None:
            return img
        if deformation.shape != tuple(img.shape[1:]):
            raise InvalidInputError(
                f"an image of shape {tuple(img.shape)}, but the deformation drawn last is for {deformation.shape}"
            )
        source = deformation.source(img.device if isinstance(img, torch.Tensor) else "cpu")
        return _apply(img, source, mode, padding)


class RandBendd(RandomizableTransform, MapTransform):
    """Dictionary version of :class:`RandBend`: one draw and one map of voxels for all keys and channels.

    Args:
        keys: items (C, D, H, W), all of the same (D, H, W).
        prob: see :class:`RandBend`.
        bend_limit: see :class:`RandBend`.
        jitter: see :class:`RandBend`.
        control_points: see :class:`RandBend`.
        mode: "bilinear" or "nearest" (labels), one for all keys or one per key.
        padding: see :meth:`RandBend.__call__`, one for all keys or one per key.
        allow_missing_keys: do not complain about a key of ``keys`` that is not there.
        affine: any of :class:`AffineRanges`, by name.

    Raises:
        InvalidInputError: as :class:`RandBend`; unknown mode or padding.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.8,
        bend_limit: float = 0.4,
        jitter: float = 10.0,
        control_points: int = 3,
        mode: str | Sequence[str] = "bilinear",
        padding: Padding | Sequence[Padding] = None,
        allow_missing_keys: bool = False,
        **affine: Any,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, 1.0)
        self.bend = RandBend(prob, bend_limit, jitter, control_points, **affine)
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        self.padding = ensure_tuple_rep(padding, len(self.keys))
        for one in self.mode:
            check_option("mode", one, MODES)
        for one in self.padding:
            if not isinstance(one, int | float | None):
                check_option("padding", one, ["median"])

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandBendd:
        """Draw from another seed from now on."""
        super().set_random_state(seed, state)
        self.bend.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the items at ``keys`` deformed alike.

        Raises:
            InvalidInputError: an item that is not (C, D, H, W), or whose (D, H, W) differs from another key's.
        """
        result = dict(data)
        items = list(self.key_iterator(result, self.mode, self.padding))
        if not items:
            return result
        first = items[0][0]
        for key, _, _ in items:
            _check_volume(result[key], f"{key!r}")
            if result[key].shape[1:] != result[first].shape[1:]:
                raise InvalidInputError(
                    f"{key!r} has the shape {tuple(result[key].shape)}, but {first!r} {tuple(result[first].shape)}; "
                    "expected the same (D, H, W)"
                )
        deformation = self.bend.randomize(result[first].shape[1:])
        if deformation is None:
            return result
        sources: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        for key, mode, padding in items:
            device = str(result[key].device) if isinstance(result[key], torch.Tensor) else "cpu"
            if device not in sources:
                sources[device] = deformation.source(device)
            result[key] = _apply(result[key], sources[device], mode, padding)
        return result


def _check_volume(img: NdarrayOrTensor, name: str = "the image") -> None:
    if img.ndim != 4:
        raise InvalidInputError(f"{name} has shape {tuple(img.shape)}, which cannot be bent; expected (C, D, H, W)")


def _apply(
    img: NdarrayOrTensor, source: tuple[torch.Tensor, torch.Tensor], mode: str, padding: Padding
) -> NdarrayOrTensor:
    tensor = convert_to_tensor(img, dtype=torch.float32 if mode == "bilinear" else None, track_meta=False)
    median = padding == "median" or (padding is None and mode == "bilinear")
    fill = tensor.flatten(1).float().median(1).values if median else float(padding or 0)
    result = resample(tensor, *source, mode=mode, fill=fill)
    dtype: Any = result.dtype if isinstance(img, torch.Tensor) else result.numpy().dtype
    return convert_to_dst_type(result, img, dtype=dtype)[0]


RandBendD = RandBendDict = RandBendd
