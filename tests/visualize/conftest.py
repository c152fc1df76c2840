import numpy as np
import pytest


@pytest.fixture
def ball():
    """Image, instance labels and a shifted prediction of two balls, (12, 20, 28)."""
    z, y, x = np.indices((12, 20, 28))
    first = (z - 5) ** 2 + (y - 8) ** 2 + (x - 8) ** 2 < 16
    second = (z - 6) ** 2 + (y - 12) ** 2 + (x - 20) ** 2 < 16
    labels = first.astype(np.int32) + 2 * second.astype(np.int32)
    image = (labels > 0) * 10.0 + np.random.default_rng(0).normal(size=labels.shape)
    return image.astype(np.float32), labels, np.roll(labels > 0, 2, axis=2)
