import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.groups import rotation_group
from voxel_ext.transforms import RandWormRotation, RandWormRotationd, rotate_about_x


def cube(size=9, channels=2, seed=0):
    return torch.rand(channels, size, size, size, generator=torch.Generator().manual_seed(seed))


def matrix(angle):
    """Rotation about x of (z, y, x): 90 degrees take z to y."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("angle", [0, 90, 180, 270, -90])
def test_right_angles_are_the_group_elements(size, angle):
    group = rotation_group("C4:x")
    wanted = torch.from_numpy(np.rint(matrix(angle))).long()
    (element,) = [g for g in range(group.order) if torch.equal(group.matrices[g], wanted)]
    image = cube(size)
    assert torch.allclose(rotate_about_x(image, angle), group.act(image, element), atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8, 8), (7, 9, 5)])
def test_any_angle_agrees_with_scipy(shape):
    """(g f)(p) = f(R⁻¹ p) about the center, linear, outside the smallest value."""
    angle = 33.0
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(1)) + 3
    inverse = matrix(-angle)
    center = (np.array(shape) - 1) / 2
    expected = affine_transform(
        image[0].numpy().astype(np.float64),
        inverse,
        offset=center - inverse @ center,
        order=1,
        mode="grid-constant",
        cval=float(image.min()),
    )
    np.testing.assert_allclose(rotate_about_x(image, angle)[0].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("padding", ["background", "border", "reflection"])
def test_a_constant_stays_constant(padding):
    image = torch.full((2, 8, 8, 8), 4.5)
    assert torch.allclose(rotate_about_x(image, 27, padding), image, atol=1e-5)


def test_without_an_angle_only_group_elements_come_and_all_of_them():
    group = rotation_group("V")
    image = cube(6)
    images = [group.act(image, g) for g in range(4)]
    turn = RandWormRotation(group="V", max_angle=0).set_random_state(0)
    seen = set()
    for _ in range(60):
        turned = turn(image)
        seen |= {g for g in range(4) if torch.equal(turned, images[g])}
        assert any(torch.equal(turned, candidate) for candidate in images)
    assert seen == {0, 1, 2, 3}


def test_first_the_angle_then_the_element():
    turn = RandWormRotation(group="S4").set_random_state(3)
    image = cube()
    turned = turn(image)
    assert turn.element != 0
    assert abs(turn.angle) > 1
    expected = rotation_group("S4").act(rotate_about_x(image, turn.angle), turn.element)
    assert torch.equal(turned, expected)


def test_angles_fill_the_range():
    turn = RandWormRotation(group=None, max_angle=30).set_random_state(0)
    angles = []
    for _ in range(500):
        turn.randomize()
        angles.append(turn.angle)
    assert -30 <= min(angles) < -28
    assert 28 < max(angles) <= 30
    assert abs(np.mean(angles)) < 3


def test_all_keys_are_turned_alike_and_others_left():
    turn = RandWormRotationd(["image", "label"]).set_random_state(1)
    image = cube()
    result = turn({"image": image, "label": 2 * image, "other": image})
    assert torch.allclose(result["label"], 2 * result["image"], atol=1e-5)
    assert not torch.allclose(result["image"], image)
    assert result["other"] is image


def test_same_seed_same_turn_and_prob_zero_none():
    image = cube()
    first, second = (RandWormRotationd("image").set_random_state(5)({"image": image}) for _ in range(2))
    assert torch.equal(first["image"], second["image"])
    assert torch.equal(RandWormRotation(prob=0)(image), image)


def test_the_type_stays():
    turned = RandWormRotation().set_random_state(0)(cube().numpy())
    assert isinstance(turned, np.ndarray)
    assert turned.dtype == np.float32
    assert isinstance(RandWormRotation()(cube()), torch.Tensor)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: RandWormRotation(group="S5"), "S5"),
        (lambda: RandWormRotation(max_angle=200), "max_angle=200"),
        (lambda: RandWormRotation(padding="zero"), "'background'"),
        (lambda: rotate_about_x(torch.zeros(4, 4, 4), 10), r"\(4, 4, 4\)"),
        (lambda: RandWormRotation(group="S4")(torch.zeros(1, 4, 4, 6)), "size of the cube"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InvalidInputError, match=words):
        call()
