"""Activations against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.activations import activate


def test_formulas():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, 6)
    x = logits.double().numpy()
    assert np.allclose(activate(logits, "none"), x)
    assert np.allclose(activate(logits, "sigmoid"), 1 / (1 + np.exp(-x)), atol=1e-6)
    assert np.allclose(activate(logits, "softmax"), np.exp(x) / np.exp(x).sum(1, keepdims=True), atol=1e-6)
    assert np.allclose(activate(logits, "unit_norm"), x / np.sqrt((x**2).sum(1, keepdims=True)), atol=1e-6)


def test_zero_vectors_stay_zero_and_half_becomes_float32():
    assert torch.equal(activate(torch.zeros(1, 3, 2, 2, 2), "unit_norm"), torch.zeros(1, 3, 2, 2, 2))
    assert activate(torch.ones(1, 1, 2, 2, dtype=torch.float16), "sigmoid").dtype == torch.float32


def test_unknown():
    with pytest.raises(InvalidInputError, match="activation='tanh'"):
        activate(torch.zeros(1, 1, 2, 2, 2), "tanh")
