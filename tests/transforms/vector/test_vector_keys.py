"""What all the transforms share: keys, draws, kinds of arrays, and bad input."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from voxel_ext.errors import InvalidInputError
from voxel_ext.transforms.vector import (
    RandAffineVectord,
    RandCubeRotationVectord,
    RandElasticVectord,
    RandFlipVectord,
    RandRotate90Vectord,
)

SETTINGS = {
    RandFlipVectord: {},
    RandRotate90Vectord: {"prob": 1.0},
    RandCubeRotationVectord: {"reflections": True},
    RandAffineVectord: {"prob": 1.0, "rotate_range": 1.0, "scale_range": 0.2, "shear_range": 0.1, "translate_range": 1},
    RandElasticVectord: {"prob": 1.0, "sigma_range": (4, 6), "magnitude_range": (0.5, 1)},
}
TRANSFORMS = pytest.mark.parametrize("transform", SETTINGS)
INTERPOLATING = (RandAffineVectord, RandElasticVectord)


def make(transform, keys=("image",), vector_keys=("normals",), **settings):
    return transform(keys, vector_keys, **(SETTINGS[transform] | settings))


def data(shape=(8, 8, 8), seed=0):
    generator = torch.Generator().manual_seed(seed)
    field = torch.nn.functional.normalize(torch.randn(3, *shape, generator=generator), dim=0)
    field = field * (torch.rand(shape, generator=generator) < 0.6)
    return {"image": torch.rand(1, *shape, generator=generator), "normals": field, "other": "kept"}


@TRANSFORMS
def test_a_seed_determines_all_draws_and_draws_differ(transform):
    items = data()
    first, second = (make(transform).set_random_state(7) for _ in range(2))
    one, two = ([t(items) for _ in range(8)] for t in (first, second))
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["normals"], b["normals"])
        assert a["other"] == "kept"
    assert len({a["normals"].numpy().tobytes() for a in one}) > 3
    other = [make(transform).set_random_state(8)(items)["normals"]]
    assert not all(torch.equal(a["normals"], b) for a, b in zip(one, other, strict=False))


@TRANSFORMS
def test_one_draw_for_all_keys(transform):
    items = data()
    items |= {"again": items["normals"].clone(), "mask": (items["normals"] != 0).any(0, keepdim=True)}
    settings = {"mode": ("bilinear", "nearest")} if transform in INTERPOLATING else {}
    turn = make(transform, ("image", "mask"), ("normals", "again"), **settings).set_random_state(1)
    for _ in range(6):
        result = turn(items)
        assert torch.equal(result["normals"], result["again"])
        assert torch.equal(result["mask"][0], (result["normals"] != 0).any(0))


@TRANSFORMS
def test_a_key_in_both_is_a_vector(transform):
    items = data()
    both = make(transform, ("image", "normals"), ("normals",)).set_random_state(2)
    once = make(transform).set_random_state(2)
    for _ in range(3):
        assert torch.equal(both(items)["normals"], once(items)["normals"])


@TRANSFORMS
def test_component_orders_agree_and_may_differ_per_key(transform):
    items = data()
    items["swapped"] = items["normals"].flip(0)
    turn = make(transform, (), ("normals", "swapped"), component_order=("zyx", "xyz")).set_random_state(2)
    for _ in range(4):
        result = turn(items)
        assert torch.equal(result["normals"], result["swapped"].flip(0))


@TRANSFORMS
def test_arrays_tensors_and_metatensors_agree(transform):
    items = data()
    affine = torch.diag(torch.tensor([0.5, 0.5, 2.0, 1.0], dtype=torch.float64))
    arrays = {key: value.numpy() for key, value in items.items() if key != "other"}
    metas = {key: MetaTensor(value, affine=affine) for key, value in items.items() if key != "other"}
    expected, found, meta = (make(transform).set_random_state(4)(one) for one in (items, arrays, metas))
    for key in ("image", "normals"):
        assert type(expected[key]) is torch.Tensor
        assert isinstance(found[key], np.ndarray)
        np.testing.assert_array_equal(found[key], expected[key].numpy())
        assert isinstance(meta[key], MetaTensor)
        assert torch.equal(meta[key].as_tensor(), expected[key])
        assert torch.equal(meta[key].affine, affine)


@TRANSFORMS
def test_the_input_is_left_alone(transform):
    items = data()
    copies = {key: value.clone() for key, value in items.items() if key != "other"}
    turn = make(transform).set_random_state(0)
    for _ in range(3):
        turn(items)
    for key, value in copies.items():
        assert torch.equal(items[key], value)


@TRANSFORMS
def test_prob_zero_does_nothing(transform):
    items = data()
    result = make(transform, prob=0.0)(items)
    assert torch.equal(result["image"], items["image"])
    assert torch.equal(result["normals"], items["normals"])


@pytest.mark.parametrize("transform", [RandRotate90Vectord, *INTERPOLATING])
def test_prob_is_the_share_of_calls(transform):
    items = data((4, 4, 4))
    turn = make(transform, prob=0.3).set_random_state(0)
    changed = sum(not torch.equal(turn(items)["normals"], items["normals"]) for _ in range(200))
    assert 40 < changed < 80


@TRANSFORMS
def test_unequal_sizes_are_kept(transform):
    items = data((4, 6, 9))
    turn = make(transform).set_random_state(0)
    for _ in range(5):
        assert turn(items)["normals"].shape == (3, 4, 6, 9)


@TRANSFORMS
def test_missing_keys(transform):
    items = data()
    with pytest.raises(KeyError, match="absent"):
        make(transform, vector_keys=("normals", "absent"))(items)
    allowed = make(transform, ("absent",), ("normals", "gone"), allow_missing_keys=True)
    assert "absent" not in allowed(items)
    assert make(transform, ("a",), ("b",), allow_missing_keys=True)(items) == items


@TRANSFORMS
def test_bad_items_are_refused(transform):
    items = data()
    turn = make(transform)
    with pytest.raises(InvalidInputError, match=r"'normals' has the shape \(2, 8, 8, 8\)"):
        turn(items | {"normals": torch.zeros(2, 8, 8, 8)})
    with pytest.raises(InvalidInputError, match=r"'normals' has the type torch.uint8"):
        turn(items | {"normals": torch.zeros(3, 8, 8, 8, dtype=torch.uint8)})
    with pytest.raises(InvalidInputError, match=r"'image' has the shape \(8, 8, 8\)"):
        turn(items | {"image": torch.zeros(8, 8, 8)})
    with pytest.raises(InvalidInputError, match=r"'normals' has the shape \(3, 8, 8, 9\), but 'image'"):
        turn(items | {"normals": torch.zeros(3, 8, 8, 9)})


@TRANSFORMS
def test_bad_settings_are_refused(transform):
    with pytest.raises(InvalidInputError, match="component_order='zxy'"):
        make(transform, component_order="zxy")
    with pytest.raises(InvalidInputError, match="component_order"):
        make(transform, component_order=("zyx", "xyz", "zyx"))
    with pytest.raises(InvalidInputError, match="prob=2"):
        make(transform, prob=2)
    with pytest.raises(InvalidInputError, match="both empty"):
        make(transform, (), ())


def test_settings_per_key_of_interpolation():
    items = data()
    items |= {"label": (items["image"] * 9).to(torch.uint8), "tangents": items["normals"].clone()}
    turn = RandAffineVectord(
        ("image", "label"),
        ("normals", "tangents"),
        prob=1.0,
        scale_range=(0.5, 0, 0),
        mode=("bilinear", "nearest"),
        padding_mode=("border", "zeros"),
        kind=("normal", "direction"),
        oriented=(True, False),
    ).set_random_state(0)
    result = turn(items)
    assert result["image"].dtype == torch.float32
    assert result["label"].dtype == torch.uint8
    assert set(result["label"].unique().tolist()) <= set(items["label"].unique().tolist()) | {0}
    assert not torch.allclose(result["normals"].abs(), result["tangents"].abs(), atol=1e-2)
    with pytest.raises(InvalidInputError, match="mode="):
        RandAffineVectord(("image", "label"), "normals", mode=("nearest",) * 3)
