import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import affine_transform

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.spatial.affine import AffineRanges
from voxel_ext.transforms.spatial.bending import RandBend, RandBendd, bending_coefficients
from voxel_ext.transforms.spatial.deformation import Deformation, quadratic_basis, resample

SHAPE = (12, 24, 40)
STILL = {f"{name}_prob": 0.0 for name in ("rotate_xy", "rotate_yz", "rotate_xz", "translate", "scale", "shear")}


def image(shape=SHAPE, channels=1, seed=0):
    return torch.rand(channels, *shape, generator=torch.Generator().manual_seed(seed))


def random_deformation(seed=0, shape=SHAPE):
    state = np.random.RandomState(seed)
    coefficients = bending_coefficients(shape, state.uniform(-5, 5, 5)) + state.normal(size=(3, 3, 3, 5))
    ranges = AffineRanges(rotate_xy_prob=1, rotate_xz_prob=1, scale_prob=1, shear_prob=1, translate_range=(1, 2, 3))
    return Deformation(shape, ranges.draw(state, shape), coefficients)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_agrees_with_simple_itk(mode):
    """The composite of SimpleITK's B-spline of order 2 and an affine map, whose parameters are in the order x, y, z."""
    sitk = pytest.importorskip("SimpleITK")
    deformation, values = random_deformation(), image()[0].numpy()
    reference = sitk.GetImageFromArray(values)
    spline = sitk.BSplineTransformInitializer(reference, [3, 1, 1], order=2)
    spline.SetParameters(tuple(deformation.coefficients[::-1].ravel()))
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(deformation.matrix[::-1, :3][:, ::-1].ravel())
    affine.SetTranslation(deformation.matrix[::-1, 3])
    both = sitk.CompositeTransform(3)
    both.AddTransform(spline)
    both.AddTransform(affine)
    how = sitk.sitkLinear if mode == "bilinear" else sitk.sitkNearestNeighbor
    expected = sitk.GetArrayFromImage(sitk.Resample(reference, reference, both, how, -1.0))
    found = resample(torch.from_numpy(values)[None], *deformation.source(), mode=mode, fill=-1)[0].numpy()
    assert 0.05 < (expected == -1).mean() < 0.6
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_quadratic_basis_is_the_cardinal_b_spline():
    """Inside the axis: a partition of unity, 3/4 at the middle of a cell, 1/2 at both sides of a knot."""
    size, count = 20, 6
    edges = np.linspace(-0.625, 19.625, count - 1)
    inside = torch.linspace(-0.6, 19.6, 50, dtype=torch.float64)
    assert torch.allclose(quadratic_basis(inside, size, count).sum(0), torch.ones(50, dtype=torch.float64))
    knots = quadratic_basis(torch.from_numpy(edges[1:-1]), size, count)
    middles = quadratic_basis(torch.from_numpy((edges[1:] + edges[:-1]) / 2), size, count)
    for cell in range(count - 2):
        np.testing.assert_allclose(middles[cell : cell + 3, cell], [1 / 8, 3 / 4, 1 / 8], atol=1e-12)
    for knot in range(count - 3):
        np.testing.assert_allclose(knots[knot + 1 : knot + 3, knot], [1 / 2, 1 / 2], atol=1e-12)


def midline(deformation):
    """Output points (3, N) that come from the line in the middle of y and z, and where on it they come from."""
    depth, height, width = deformation.shape
    x = torch.linspace(0, width - 1, 4 * width, dtype=torch.float64)
    points = torch.stack([torch.full_like(x, (depth - 1) / 2), torch.full_like(x, (height - 1) / 2), x])
    for _ in range(80):
        source = points + deformation.displacement(points)
        points[1] -= 0.8 * (source[1] - (height - 1) / 2)
    np.testing.assert_allclose(source[1], (height - 1) / 2, atol=1e-3)
    return points, source


@pytest.mark.parametrize("seed", range(6))
def test_bending_keeps_the_length_of_the_midline(seed):
    """Arc length of the bent midline over the length of what lies on it; without compression it is up to 6 % longer."""
    state, shape = np.random.RandomState(seed), (16, 60, 142)
    limit = 0.35 * shape[2] / 3
    bend = state.uniform(-limit, limit, 5)
    points, source = midline(Deformation(shape, np.eye(3, 4), bending_coefficients(shape, bend)))
    bent = float(torch.linalg.vector_norm(points.diff(dim=1), dim=0).sum())
    assert bent / float(source[2, -1] - source[2, 0]) == pytest.approx(1, abs=0.02)


def test_a_gentle_bend_turns_cross_sections_with_the_midline():
    """On the midline the Jacobian is nearly a rotation by the local angle."""
    shape = (16, 60, 142)
    deformation = Deformation(shape, np.eye(3, 4), bending_coefficients(shape, [4, 0, -4, -2, 6]))
    points, _ = midline(deformation)
    columns = []
    for axis in (1, 2):
        step = torch.zeros(3, 1, dtype=torch.float64)
        step[axis] = 1e-3
        ahead, behind = (p + deformation.displacement(p) for p in (points + step, points - step))
        columns.append((ahead - behind)[1:] / 2e-3)
    jacobian = torch.stack(columns, -1).transpose(0, 1)
    square = jacobian.transpose(1, 2) @ jacobian
    np.testing.assert_allclose(square, np.broadcast_to(np.eye(2), square.shape), atol=0.03)
    assert float((jacobian[:, 0, 1] - 0).abs().max()) > 0.1
    np.testing.assert_allclose(jacobian[:, 0, 1], -jacobian[:, 1, 0], atol=0.02)


def test_equal_control_values_bend_nothing():
    np.testing.assert_allclose(bending_coefficients(SHAPE, [3.0] * 5), 0, atol=1e-10)


def test_the_sign_of_the_bend():
    """y displacement is the control values' spline: a positive one takes from larger y."""
    shape = (8, 30, 90)
    bend = np.array([-6, 0, 6, 0, -6.0])
    x = torch.linspace(0, 89, 30, dtype=torch.float64)
    points = torch.stack([torch.full_like(x, 3.5), torch.full_like(x, 14.5), x])
    found = Deformation(shape, np.eye(3, 4), bending_coefficients(shape, bend)).displacement(points)
    expected = torch.from_numpy(bend - bend.mean()) @ quadratic_basis(x, 90, 5)
    np.testing.assert_allclose(found[1], expected, atol=0.3)
    np.testing.assert_allclose(found[0], 0, atol=1e-12)


def test_without_size_nothing_moves():
    still = RandBend(prob=1, bend_limit=0, jitter=0, **STILL).set_random_state(0)
    values = image(channels=2)
    assert torch.allclose(still(values), values, atol=1e-5)
    assert still.deformation is not None


def test_where_nothing_is_drawn_the_input_is_returned():
    values = image()
    data = {"image": values}
    assert RandBend(prob=0, **STILL)(values) is values
    assert RandBendd("image", prob=0, **STILL)(data)["image"] is values


@pytest.mark.parametrize("order", [0, 1])
def test_affine_agrees_with_scipy(order):
    bend = RandBend(prob=0, rotate_xy_prob=1, scale_prob=1, shear_prob=1, translate_range=(1, 2, 3)).set_random_state(2)
    values = image(shape=(14, 20, 30)) + 3
    found = bend(values, mode=["nearest", "bilinear"][order], padding=0.0)[0].numpy()
    matrix = bend.deformation.matrix
    expected = affine_transform(values[0].double().numpy(), matrix[:, :3], matrix[:, 3], order=order, cval=0.0)
    # SciPy fills beyond the outermost centers, here the outer half of a voxel is inside
    known = expected != 0
    assert 0.3 < known.mean() < 1
    assert (np.abs(found - expected)[known] < 1e-3).mean() > 0.999


@pytest.mark.parametrize("pivot", ["center", "corner"])
def test_what_the_affine_map_leaves_in_place(pivot):
    """Turns leave the center, scale and shear the pivot."""
    center = (np.array(SHAPE) - 1) / 2
    none = {name: value for name, value in STILL.items() if name not in ("scale_prob", "shear_prob")}
    matrix = AffineRanges(**none, scale_prob=1, shear_prob=1, pivot=pivot).draw(np.random.RandomState(0), SHAPE)
    fixed = center if pivot == "center" else np.zeros(3)
    np.testing.assert_allclose(matrix @ [*fixed, 1], fixed, atol=1e-9)
    turn = AffineRanges(**{**STILL, "rotate_xz_prob": 1, "rotate_xz_sigma": 20}, pivot=pivot)
    matrix = turn.draw(np.random.RandomState(0), SHAPE)
    np.testing.assert_allclose(matrix @ [*center, 1], center, atol=1e-9)
    np.testing.assert_allclose(matrix[:, :3] @ matrix[:, :3].T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(matrix[1, :3], [0, 1, 0], atol=1e-12)


def test_affine_draws_have_the_given_spread():
    state = np.random.RandomState(0)
    shift = AffineRanges(**{**STILL, "translate_prob": 0.5}, translate_range=(2, 4, 8))
    drawn = [shift.draw(state, SHAPE) for _ in range(600)]
    offsets = np.array([matrix[:, 3] for matrix in drawn if matrix is not None])
    assert 0.4 < len(offsets) / 600 < 0.6
    np.testing.assert_allclose(np.abs(offsets).max(0), [2, 4, 8], rtol=0.05)
    np.testing.assert_allclose(offsets.std(0), np.array([2, 4, 8]) / np.sqrt(3), rtol=0.1)
    turn = AffineRanges(**{**STILL, "rotate_yz_prob": 1}, rotate_yz_sigma=15)
    matrices = np.array([turn.draw(state, SHAPE) for _ in range(600)])
    angles = np.degrees(np.arctan2(matrices[:, 0, 1], matrices[:, 1, 1]))
    assert angles.std() == pytest.approx(15, rel=0.1)


def test_channels_together_as_alone():
    values = image(channels=3)
    together = RandBend(prob=1).set_random_state(4)(values)
    for channel in range(3):
        alone = RandBend(prob=1).set_random_state(4)(values[channel : channel + 1])
        assert torch.equal(alone[0], together[channel])


def test_label_and_image_stay_in_step_and_ids_stay_ids():
    z, y, x = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    ids = (1 + x // 8 + 10 * (y // 8) + 1000 * (z // 6)).astype(np.int64)[None] * 100_000_007
    smooth = torch.from_numpy(np.sin(x / 6) + np.cos(y / 5) + z / 12).float()[None]
    bend = RandBendd(["label", "image"], prob=1, jitter=1, mode=["nearest", "bilinear"]).set_random_state(1)
    result = bend({"image": smooth, "label": ids, "other": 5})
    assert result["label"].dtype == np.int64
    assert set(np.unique(result["label"])) <= {0, *np.unique(ids)}
    assert result["other"] == 5
    mask = RandBendd(["image", "mask"], prob=1, jitter=1, mode=["bilinear", "nearest"], padding=[-9, 0])
    result = mask.set_random_state(1)({"image": smooth, "mask": (smooth > 0.8).to(torch.uint8)})
    assert ((result["image"] > 0.8) == (result["mask"] == 1)).float().mean() > 0.95
    assert 0.1 < result["mask"].float().mean() < 0.9


def test_independent_of_the_order_of_keys_and_of_the_global_state():
    data = {"a": image(seed=1), "b": image(seed=2)}
    first = RandBendd(["a", "b"], prob=1).set_random_state(3)(data)
    np.random.seed(0)  # noqa: NPY002
    second = RandBendd(["b", "a"], prob=1).set_random_state(3)(data)
    assert all(torch.equal(first[key], second[key]) for key in data)
    assert not torch.allclose(first["a"], data["a"])
    assert not torch.equal(first["a"], RandBendd(["a"], prob=1).set_random_state(4)(data)["a"])


def test_fill_is_each_channels_median_or_what_is_asked():
    values = image(channels=2)
    values[1] += 10
    away = {**STILL, "translate_prob": 1}
    far = RandBend(prob=0, **away, translate_range=(0, 0, 1000)).set_random_state(0)
    medians = values.flatten(1).median(1).values
    moved = far(values)
    assert abs(far.deformation.matrix[2, 3]) > SHAPE[2]
    assert torch.equal(moved, medians.view(2, 1, 1, 1).expand_as(moved))
    assert far(values, padding=0.5, randomize=False).unique().tolist() == [0.5]
    assert far((values * 9).int(), mode="nearest", randomize=False).unique().tolist() == [0]


def test_metadata_and_types_are_kept():
    meta = MetaTensor(image(), affine=torch.diag(torch.tensor([2.0, 1, 1, 1])), meta={"filename_or_obj": "worm.h5"})
    bend = RandBend(prob=1).set_random_state(0)
    moved = bend(meta)
    assert isinstance(moved, MetaTensor)
    assert moved.meta["filename_or_obj"] == "worm.h5"
    assert torch.equal(moved.affine, meta.affine)
    array = bend(meta.numpy(), randomize=False)
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, moved.numpy())
    assert bend(image() > 0.5, mode="nearest").dtype == torch.bool


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: RandBend(rotate_xy_probability=1), "Did you mean 'rotate_xy_prob'"),
        (lambda: RandBend(prob=1.5), "prob=1.5"),
        (lambda: RandBend(bend_limit=-1), "bend_limit=-1"),
        (lambda: RandBend(control_points=0), "control_points=0"),
        (lambda: RandBend(scale_prob=-1), "scale_prob=-1"),
        (lambda: RandBend(shear_xy_sigma=-0.1), "shear_xy_sigma=-0.1"),
        (lambda: RandBend(translate_range=(1, 2)), r"translate_range=\(1, 2\)"),
        (lambda: RandBend(pivot="origin"), "pivot='origin'"),
        (lambda: RandBend()(torch.zeros(1, 8, 8)), r"\(1, 8, 8\), which cannot be bent"),
        (lambda: RandBend()(torch.zeros(1, 4, 4, 4), mode="cubic"), "mode='cubic'"),
        (lambda: RandBendd("image", padding="mean"), "padding='mean'"),
        (lambda: RandBendd(["a", "b"])({"a": image(), "b": image((8, 8, 8))}), r"'b' has the shape \(1, 8, 8, 8\)"),
        (lambda: Deformation(SHAPE, np.eye(3)), r"\(3, 3\)"),
        (lambda: Deformation(SHAPE, np.eye(3, 4), np.zeros((3, 2, 3, 5))), r"\(3, 2, 3, 5\)"),
        (lambda: bending_coefficients(SHAPE, [1, 2]), r"\(2,\)"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InvalidInputError, match=words):
        call()


def test_the_last_deformation_is_for_one_shape():
    bend = RandBend(prob=1).set_random_state(0)
    bend(image())
    with pytest.raises(InvalidInputError, match=r"\(12, 24, 40\)"):
        bend(image((8, 8, 8)), randomize=False)


def test_a_missing_key():
    data = {"image": image()}
    with pytest.raises(KeyError, match="label"):
        RandBendd(["image", "label"])(data)
    assert RandBendd(["image", "label"], prob=1, allow_missing_keys=True)(data)["image"].shape == (1, *SHAPE)
