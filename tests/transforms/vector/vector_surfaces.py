"""Quadrics with their exact normals, on voxels of any size, before and after an affine map."""

import itertools
from dataclasses import dataclass

import torch

SURFACES = ("sphere", "ellipsoid", "plane", "cylinder")


@dataclass
class Quadric:
    """f(p) = (p - c)ᵀ Q (p - c) + b · (p - c) - r, p from the volume's center in physical units (z, y, x)."""

    q: torch.Tensor
    b: torch.Tensor
    c: torch.Tensor
    r: float

    def value(self, p):
        d = p - self.c.view(3, *[1] * (p.dim() - 1))
        return torch.einsum("i...,ij,j...->...", d, self.q, d) + torch.einsum("i,i...->...", self.b, d) - self.r

    def gradient(self, p):
        d = p - self.c.view(3, *[1] * (p.dim() - 1))
        return 2 * torch.einsum("ij,j...->i...", self.q, d) + self.b.view(3, *[1] * (p.dim() - 1))

    def normals(self, p):
        return torch.nn.functional.normalize(self.gradient(p), dim=0)

    def distance(self, p):
        """First-order distance to the surface."""
        return self.value(p) / self.gradient(p).norm(dim=0).clamp(min=1e-9)

    def moved(self, matrix, shift=(0.0, 0.0, 0.0)):
        """The surface after p -> M p + t."""
        matrix = torch.as_tensor(matrix, dtype=torch.float64)
        back = torch.linalg.inv(matrix)
        shift = torch.as_tensor(shift, dtype=torch.float64)
        return Quadric(back.T @ self.q @ back, back.T @ self.b, matrix @ self.c + shift, self.r)


def quadric(name, size=16.0):
    """A surface in the middle of a volume of about three times ``size`` across."""

    def tensor(*values):
        return torch.tensor(values, dtype=torch.float64)

    zero, center = tensor(0, 0, 0), tensor(0.8, -1.3, 0.4)
    if name == "sphere":
        return Quadric(torch.eye(3, dtype=torch.float64), zero, center, size**2)
    if name == "ellipsoid":
        return Quadric(torch.diag(tensor(0.75, 1.0, 1.4)), zero, center, size**2)
    if name == "cylinder":
        return Quadric(torch.diag(tensor(1, 0, 1)), zero, center, size**2)
    return Quadric(torch.zeros(3, 3, dtype=torch.float64), tensor(0.48, -0.6, 0.64), center, 0.0)


def positions(shape, voxel_size=(1.0, 1.0, 1.0)):
    """(3, D, H, W) float64, from the volume's center."""
    lines = [
        (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) * one
        for size, one in zip(shape, voxel_size, strict=True)
    ]
    return torch.stack(torch.meshgrid(*lines, indexing="ij"))


def band(surface, p, width=3.0):
    """Voxels near the surface, (D, H, W) bool."""
    return surface.distance(p).abs() < width


def field_of(surface, shape, voxel_size=(1.0, 1.0, 1.0), width=3.0):
    """(3, D, H, W) float32 normals in a band about the surface, and that band."""
    p = positions(shape, voxel_size)
    known = band(surface, p, width)
    return (surface.normals(p) * known).float(), known


def degrees(found, expected, oriented=True):
    """Angle between vectors (3, N)."""
    cosine = (found.double() * expected.double()).sum(0) / (found.double().norm(dim=0) * expected.double().norm(dim=0))
    return torch.rad2deg(torch.acos((cosine if oriented else cosine.abs()).clamp(-1, 1)))


def inner(shape, margin=2):
    """Voxels away from the volume's borders, (D, H, W) bool."""
    result = torch.zeros(tuple(shape), dtype=torch.bool)
    result[tuple(slice(margin, size - margin) for size in shape)] = True
    return result


def random_signs(field, seed=0):
    """The same field with the sign of every vector drawn anew."""
    signs = torch.randint(0, 2, field.shape[1:], generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return field * signs


def surrounded(known, points):
    """Points (3, D, H, W) of which all eight neighbors are known, (D, H, W) bool."""
    result = torch.ones(known.shape, dtype=torch.bool)
    for corner in itertools.product((0, 1), repeat=3):
        lower = points.floor().long() + torch.tensor(corner).view(3, 1, 1, 1)
        sizes = torch.tensor(known.shape).view(3, 1, 1, 1)
        index = lower.clamp(min=torch.zeros_like(sizes), max=sizes - 1)
        result &= known[tuple(index)] & (index == lower).all(0)
    return result


def check_normals(found, expected, known, points, oriented=True):
    """Angles below 2 degrees: 99 % of all known voxels, all of them in the middle of what was known.

    Args:
        found: (3, D, H, W) moved field, which must be of unit length.
        expected: (3, D, H, W) exact normals.
        known: (D, H, W) where the field was known before.
        points: (3, D, H, W) where the voxels come from.
        oriented: whether signs count.
    """
    there = (found != 0).any(0) & inner(found.shape[1:])
    median, high, _ = figures(degrees(found[:, there], expected[:, there], oriented))
    assert there.sum() > 2000
    assert median < 0.2
    assert high < 2
    middle = there & surrounded(known, points)
    assert middle.sum() > 0.6 * there.sum()
    assert degrees(found[:, middle], expected[:, middle], oriented).max() < 1
    assert (found[:, there].norm(dim=0) - 1).abs().max() < 1e-5


def figures(angles):
    """Median, 99th percentile, largest."""
    return angles.median().item(), angles.quantile(0.99).item(), angles.max().item()
