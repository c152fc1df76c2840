import numpy as np
import pytest

from voxel_ext.data.vector_codes import decode_vectors, encode_vectors
from voxel_ext.errors import InvalidInputError


@pytest.fixture
def vectors():
    values = np.random.default_rng(0).standard_normal((3, 6, 7, 8)).astype(np.float32)
    values /= np.linalg.norm(values, axis=0)
    values[:, :2] = 0
    values[:, 2, 0, 0], values[:, 2, 0, 1], values[:, 2, 0, 2] = (-1, 0, 0), (0, 1, 0), (0, 0, -1)
    return values


@pytest.mark.parametrize("order", ["zyx", "xyz"])
@pytest.mark.parametrize(
    ("dtype", "bound"), [("float32", 0), ("float16", 2**-11), ("uint8", 1 / 255), ("uint16", 1 / 65535)]
)
def test_round_trip(dtype, bound, order, vectors):
    stored = encode_vectors(vectors, dtype, order)
    assert stored.dtype == dtype
    decoded = decode_vectors(stored, order)
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded[:, :2], 0)
    error = np.abs(decoded - vectors)
    assert error[vectors > bound - 1].max() <= bound * 1.001 + 1e-7
    assert error.max() <= 2 * bound + 1e-7
    assert decoded[:, 2:].any(axis=0).all()  # known vectors stay known


@pytest.mark.parametrize(("dtype", "most"), [(np.uint8, 255), (np.uint16, 65535)])
def test_codes(dtype, most):
    vectors = np.asarray([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 0.28, -0.96]]).T
    middle = round(most / 2 + 0.1)
    expected = [
        [0, 0, 0],
        [most, middle, middle],
        [1, middle, middle],
        [middle, round(1.28 / 2 * most), round(0.04 / 2 * most)],
    ]
    np.testing.assert_array_equal(encode_vectors(vectors, dtype).T, expected)
    foreign = np.asarray([[0], [most], [most]], dtype)
    np.testing.assert_allclose(decode_vectors(foreign)[:, 0], [-1, 1, 1], atol=1e-6)


def test_every_code_but_zero_comes_back():
    codes = np.stack(np.meshgrid(*[np.arange(1, 256, 2)] * 2, [1, 128, 255], indexing="ij")).astype(np.uint8)
    np.testing.assert_array_equal(encode_vectors(decode_vectors(codes), np.uint8), codes)


def test_order_of_components():
    xyz = np.asarray([0.0, 0.6, 0.8], np.float16).reshape(3, 1)
    np.testing.assert_array_equal(decode_vectors(xyz, "xyz")[:, 0], xyz[::-1, 0].astype(np.float32))
    np.testing.assert_array_equal(encode_vectors(xyz, "float16", "xyz"), xyz[::-1])


def test_what_is_refused():
    with pytest.raises(InvalidInputError, match=r"shape \(2, 4\)"):
        decode_vectors(np.zeros((2, 4)))
    with pytest.raises(InvalidInputError, match="int16"):
        decode_vectors(np.zeros((3, 4), np.int16))
    with pytest.raises(InvalidInputError, match="component_order='yxz'"):
        decode_vectors(np.zeros((3, 4)), "yxz")
    with pytest.raises(InvalidInputError, match="dtype of stored vectors='int8'"):
        encode_vectors(np.zeros((3, 4)), np.int8)
    for wrong in (1.5, np.nan):
        with pytest.raises(InvalidInputError, match="cannot be stored as uint8"):
            encode_vectors(np.full((3, 2), wrong), np.uint8)
