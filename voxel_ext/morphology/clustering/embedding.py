"""Features in two dimensions, for a scatter plot."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxel_ext.errors import InvalidInputError, check_option, require
from voxel_ext.morphology.clustering.feature_table import FeatureMatrix

EMBEDDINGS = ("pca", "umap")


def embed(matrix: FeatureMatrix, method: str = "pca", seed: int = 0, **options: Any) -> NDArray[np.float64]:
    """Place objects in a plane.

    Args:
        matrix: scaled features of N objects.
        method: "pca": the first two principal components, in the unit of the features; where there is only one, the
            second coordinate is 0. "umap": UMAP (McInnes et al., 2018), which keeps neighborhoods, not distances.
        seed: of "umap".
        **options: parameters of ``umap.UMAP``, e.g. ``n_neighbors`` (15, or N - 1 where there are fewer objects) and
            ``min_dist`` (0.1); "pca" has none.

    Returns:
        (N, 2) float64.

    Raises:
        InvalidInputError: an unknown method or option, or fewer than 4 objects for "umap".
    """
    check_option("method", method, EMBEDDINGS)
    if method == "umap":
        return _umap(matrix.values, seed, options)
    if options:
        raise InvalidInputError(f"options {sorted(options)} of the embedding 'pca', which has none")
    result = np.zeros((len(matrix), 2))
    if len(matrix) < 2:
        return result
    count = min(2, *matrix.values.shape)
    pca = require("sklearn.decomposition", extra="em").PCA(count, svd_solver="full")
    result[:, :count] = pca.fit_transform(matrix.values)
    return result


def _umap(values: NDArray[np.float64], seed: int, options: dict[str, Any]) -> NDArray[np.float64]:
    import inspect

    if len(values) < 4:
        raise InvalidInputError(f"UMAP of {len(values)} objects; expected at least 4, or the embedding 'pca'")
    estimator = require("umap", extra="em").UMAP
    valid = [name for name in inspect.signature(estimator).parameters if name not in ("n_components", "random_state")]
    for name in options:
        check_option("option of umap", name, valid)
    settings = {"n_neighbors": min(15, len(values) - 1), "n_jobs": 1, **options}
    # the spectral start needs more objects than dimensions of a sparse eigenproblem; random is as good for so few
    settings.setdefault("init", "spectral" if len(values) > 10 else "random")
    try:
        placed = estimator(n_components=2, random_state=seed, **settings).fit_transform(values)
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"UMAP of {len(values)} objects with {settings}: {error}") from error
    return np.asarray(placed, dtype=np.float64)
