"""Elastic deformation against the gradient of the deformed surface's equation."""

import numpy as np
import pytest
import torch
from vector_surfaces import SURFACES, check_normals, degrees, field_of, figures, inner, positions, quadric, random_signs

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.vector import RandElasticVectord, elastic_source, elastic_vectors, smooth_displacement

SHAPE = (40, 44, 42)


def waves(p):
    """A displacement in voxels of the points p (from the center), with gradients of up to 0.3."""
    z, y, x = p
    return torch.stack(
        [2.0 * torch.sin(y / 7 + 0.3), 1.8 * torch.cos(x / 8 + z / 15), -1.5 * torch.sin(z / 6 - y / 20)]
    )


def exact_normals(surface, voxel_size=(1.0, 1.0, 1.0)):
    """Gradient of f(S (y + u(y))), y in physical units, by autograd."""
    sizes = torch.tensor(voxel_size, dtype=torch.float64).view(3, 1, 1, 1)
    p = positions(SHAPE, voxel_size).requires_grad_()
    (gradient,) = torch.autograd.grad(surface.value(p + sizes * waves(p / sizes)).sum(), p)
    return torch.nn.functional.normalize(gradient, dim=0)


@pytest.mark.parametrize("name", SURFACES)
def test_normals_are_those_of_the_deformed_surface(name):
    surface = quadric(name, 14.0)
    field, known = field_of(surface, SHAPE)
    displacement = waves(positions(SHAPE))
    expected, points = exact_normals(surface), elastic_source(displacement).points
    check_normals(elastic_vectors(field, displacement), expected, known, points)
    signed = elastic_vectors(random_signs(field), displacement, oriented=False)
    check_normals(signed, expected, known, points, oriented=False)
    swapped = elastic_vectors(field.flip(0), displacement, component_order="xyz")
    assert torch.equal(swapped.flip(0), elastic_vectors(field, displacement))


def test_voxels_of_unequal_size():
    voxel_size = (1.6, 1.0, 0.7)
    surface = quadric("ellipsoid", 14.0)
    field, known = field_of(surface, SHAPE, voxel_size)
    displacement = waves(positions(SHAPE))
    found = elastic_vectors(field, displacement, voxel_size=voxel_size)
    check_normals(found, exact_normals(surface, voxel_size), known, elastic_source(displacement).points)


@pytest.mark.parametrize("voxel_size", [None, (1.6, 1.0, 0.7)])
def test_directions_stay_in_the_surface(voxel_size):
    """J v is perpendicular to J⁻ᵀ n wherever v is to n, and both are moved by the same map."""
    sizes = voxel_size or (1.0, 1.0, 1.0)
    p = positions(SHAPE, sizes)
    normals, known = field_of(quadric("sphere", 14.0), SHAPE, sizes)
    axis = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64).view(3, 1, 1, 1).expand_as(p)
    center = quadric("sphere", 14.0).c.view(3, 1, 1, 1)
    flow = torch.nn.functional.normalize(torch.linalg.cross(axis, p - center, dim=0), dim=0) * known
    displacement = waves(positions(SHAPE))
    moved = elastic_vectors(flow.float(), displacement, kind="direction", voxel_size=voxel_size)
    across = elastic_vectors(normals, displacement, voxel_size=voxel_size)
    both = (moved != 0).any(0) & (across != 0).any(0) & inner(SHAPE)
    assert both.sum() > 2000
    assert figures(90 - degrees(moved[:, both], across[:, both], oriented=False))[1] < 2


def test_directions_are_the_inverse_of_the_source_jacobian():
    """A field of one direction v becomes G⁻¹ v, with the exact derivatives of the waves."""
    v = torch.tensor([0.6, -0.64, 0.48], dtype=torch.float64)
    found = elastic_vectors(v.float().view(3, 1, 1, 1).expand(3, *SHAPE), waves(positions(SHAPE)), kind="direction")
    p = positions(SHAPE)[:, 4:-4:15, 4:-4:15, 4:-4:15].flatten(1).T
    jacobian = torch.func.vmap(torch.func.jacrev(lambda one: one + waves(one)))(p)
    expected = torch.linalg.solve(jacobian, v.expand(len(p), 3)).T
    picked = found[:, 4:-4:15, 4:-4:15, 4:-4:15].flatten(1)
    assert degrees(picked, expected).max() < 0.5


@pytest.mark.parametrize(("sigma", "magnitude"), [(4.0, 1.33), (8.0, 2.6)])
def test_random_deformation(sigma, magnitude):
    """Against central differences of the deformed equation f(y + u(y)) itself."""
    surface = quadric("ellipsoid", 14.0)
    field, known = field_of(surface, SHAPE)
    transform = RandElasticVectord(
        ("image", "mask"),
        "normals",
        prob=1.0,
        sigma_range=(sigma, sigma),
        magnitude_range=(magnitude, magnitude),
        mode=("bilinear", "nearest"),
    ).set_random_state(3)
    value = surface.value(positions(SHAPE))[None].float()
    result = transform({"image": value, "mask": known[None], "normals": field})
    moved = surface.value(positions(SHAPE) + torch.from_numpy(transform.displacement))
    expected = torch.stack(torch.gradient(moved, edge_order=2))
    points = elastic_source(torch.from_numpy(transform.displacement)).points
    check_normals(result["normals"], expected, known, points)
    assert torch.equal(result["mask"][0], (result["normals"] != 0).any(0))
    center = inner(SHAPE, 5)
    assert (result["image"][0] - moved)[center].abs().max() < 1


@pytest.mark.parametrize("sigma", [3.0, 6.0])
def test_displacement_is_as_large_and_as_smooth_as_asked(sigma):
    """The autocorrelation of white noise under a Gaussian is a Gaussian of √2 times its width."""
    u = smooth_displacement((48, 48, 48), sigma, 2.5, np.random.RandomState(0))
    assert np.abs(u).max() == pytest.approx(2.5, rel=1e-6)
    lag = round(sigma)
    for axis in (1, 2, 3):
        correlation = (u * np.roll(u, lag, axis)).mean() / (u * u).mean()
        assert correlation == pytest.approx(np.exp(-(lag**2) / (4 * sigma**2)), abs=0.08)


@pytest.mark.parametrize("shape", [(16, 16, 16), (24, 40, 32)])
@pytest.mark.parametrize("sigma", [2.0, 4.0])
def test_the_largest_magnitude_does_not_fold(shape, sigma):
    for seed in range(10):
        u = torch.from_numpy(smooth_displacement(shape, sigma, sigma / 3, np.random.RandomState(seed)))
        source = elastic_source(u)
        jacobian = torch.stack([source.column(axis) for axis in range(3)], -1).movedim(0, -2)
        assert torch.linalg.det(jacobian).min() > 0.2


def test_volumes_of_one_slice():
    field = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    result = RandElasticVectord((), "normals", prob=1.0, magnitude_range=(1, 1)).set_random_state(0)({"normals": field})
    assert torch.isfinite(result["normals"]).all()
    still = elastic_vectors(field, torch.zeros_like(field))
    assert torch.allclose(still, torch.nn.functional.normalize(field, dim=0), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"sigma_range": (1.0, 5.0)}, "sigma_range"),
        ({"sigma_range": (9.0, 5.0)}, "sigma_range"),
        ({"sigma_range": (9.0,)}, "sigma_range"),
        ({"magnitude_range": (-1.0, 2.0)}, "magnitude_range"),
        ({"magnitude_range": (0.0, 4.0)}, "could fold"),
        ({"prob": -0.1}, "prob=-0.1"),
        ({"kind": "vector"}, "kind"),
    ],
)
def test_bad_settings_are_refused(settings, match):
    with pytest.raises(InvalidInputError, match=match):
        RandElasticVectord("image", "normals", **settings)


def test_a_displacement_of_another_shape_is_refused():
    with pytest.raises(InvalidInputError, match="expected equal"):
        elastic_vectors(torch.zeros(3, 4, 4, 4), torch.zeros(3, 4, 4, 5))
