"""Joining feature tables by id, against a plain dictionary, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from voxel_ext.errors import InvalidInputError
from voxel_ext.morphology.clustering import check_ids, join_features, missing_ids

BIG = 2**62


def tables(seed=0, count=9):
    rng = np.random.default_rng(seed)
    ids = rng.permutation(np.r_[np.arange(1, count - 1), BIG, BIG + 1])
    size = pd.DataFrame({"id": ids, "volume_um3": rng.random(count)})
    other = rng.permutation(ids)
    shape = pd.DataFrame({"id": other, "a": rng.random(count), "b": rng.random(count)})
    return {"sizef": size, "shapef": shape}


def by_id(table):
    return {int(row.id): [float(one) for one in row[2:]] for row in table.itertuples()}


def test_rows_are_joined_by_id():
    given = tables()
    matrix = join_features(given)
    size, shape = by_id(given["sizef"]), by_id(given["shapef"])
    assert matrix.ids.dtype == np.int64
    assert matrix.ids.tolist() == sorted(size)
    assert matrix.values.tolist() == [size[key] + shape[key] for key in sorted(size)]
    assert matrix.columns == ("sizef.volume_um3", "shapef.a", "shapef.b")
    assert matrix.block("shapef").tolist() == [shape[key] for key in sorted(size)]


def test_order_of_rows_does_not_matter():
    given = tables()
    shuffled = {name: table.sample(frac=1, random_state=3) for name, table in given.items()}
    one, other = join_features(given), join_features(shuffled)
    assert np.array_equal(one.ids, other.ids)
    assert np.array_equal(one.values, other.values)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.uint64])
def test_ids_of_any_integer_type(kind):
    table = pd.DataFrame({"id": np.array([3, 1, 2], kind), "v": [3.0, 1.0, 2.0]})
    assert join_features({"f": table}).values[:, 0].tolist() == [1, 2, 3]


def test_neighboring_ids_above_two_to_53_stay_apart():
    ids = [2**53, 2**53 + 1, 2**63 - 1, 2**63 - 2]
    matrix = join_features({"f": pd.DataFrame({"id": ids, "v": [0.0, 1.0, 2.0, 3.0]})})
    assert matrix.ids.tolist() == [2**53, 2**53 + 1, 2**63 - 2, 2**63 - 1]
    assert matrix.values[:, 0].tolist() == [0, 1, 3, 2]


def test_chosen_features_in_the_given_order():
    matrix = join_features(tables(), features=["shapef", "sizef"])
    assert list(matrix.blocks) == ["shapef", "sizef"]
    assert join_features(tables(), features=["sizef"]).columns == ("sizef.volume_um3",)


def test_booleans_and_nullable_integers_are_numbers():
    table = pd.DataFrame({"id": [1, 2], "flag": [True, False], "n": pd.array([5, 7], dtype="Int64")})
    assert join_features({"f": table}).values.tolist() == [[1, 5], [0, 7]]


def different():
    left = pd.DataFrame({"id": [1, 2, 3], "v": [1.0, 2.0, 3.0]})
    right = pd.DataFrame({"id": [2, 3, 4], "w": [20.0, np.nan, 40.0]})
    return {"left": left, "right": right}


def test_ids_that_differ_are_listed():
    with pytest.raises(InvalidInputError, match=r"'left' lacks 1: 4; 'right' lacks 1: 1; .*missing='impute'"):
        join_features(different())
    found = missing_ids({name: table["id"] for name, table in different().items()})
    assert {name: ids.tolist() for name, ids in found.items()} == {"left": [4], "right": [1]}
    assert missing_ids({"a": [1, 2], "b": [2, 1]}) == {}


def test_long_lists_are_shortened():
    one, other = (pd.DataFrame({"id": np.arange(1, n), "v": 0.0}) for n in (101, 2))
    with pytest.raises(InvalidInputError, match=r"'b' lacks 99: 2, 3, .*21 and 79 more"):
        join_features({"a": one, "b": other})


def test_drop_keeps_complete_objects():
    matrix = join_features(different(), missing="drop")
    assert matrix.ids.tolist() == [2]
    assert matrix.values.tolist() == [[2, 20]]


def test_impute_takes_medians():
    matrix = join_features(different(), missing="impute")
    assert matrix.ids.tolist() == [1, 2, 3, 4]
    assert matrix.values.tolist() == [[1, 30], [2, 20], [3, 30], [2, 40]]


def test_nan_names_object_and_feature():
    given = tables()
    given["shapef"].loc[given["shapef"]["id"] == BIG, "b"] = np.nan
    with pytest.raises(InvalidInputError, match=rf"shapef\.b of object {BIG};"):
        join_features(given)


def bad(**columns):
    return {"f": pd.DataFrame(columns)}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (bad(id=[1.0, 2.0], v=[0, 1]), "the ids are float64"),
        (bad(id=[1, 1, 2, 2], v=[0, 1, 2, 3]), "more than one row has the id 1, 2"),
        (bad(id=[0, 1], v=[0, 1]), "the ids are 0 to 1; expected 1 to"),
        (bad(id=np.array([1, 2**63], np.uint64), v=[0, 1]), "expected 1 to 2\\^63 - 1"),
        (bad(v=[0, 1]), "expected rows, a column 'id'"),
        (bad(id=[1, 2]), "at least one of values"),
        (bad(id=np.array([], int), v=np.array([])), "has 0 rows"),
        (bad(id=[1, 2], v=["rod", "sheet"]), "'f': the column 'v' is .* not numbers"),
        (bad(id=[1, 2], v=[0, np.inf]), "'f' has infinite values: v of object 2"),
    ],
)
def test_bad_tables(given, message):
    with pytest.raises(InvalidInputError, match=message):
        join_features(given)


def test_bad_settings():
    with pytest.raises(InvalidInputError, match=r"missing='skip' is not known; expected one of 'error'"):
        join_features(tables(), missing="skip")
    with pytest.raises(InvalidInputError, match=r"feature='shapf' is not known.*Did you mean 'shapef'"):
        join_features(tables(), features=["shapf"])
    with pytest.raises(InvalidInputError, match="expected at least one, each once"):
        join_features(tables(), features=["sizef", "sizef"])
    with pytest.raises(InvalidInputError, match="expected at least one"):
        join_features({})
    with pytest.raises(InvalidInputError, match="feature='x' is not known"):
        join_features(tables()).block("x")


def test_nothing_to_impute_from_or_left():
    given = bad(id=[1, 2], v=[np.nan, np.nan], w=[0.0, 1.0])
    with pytest.raises(InvalidInputError, match=r"f\.v is missing for 2 of 2 objects; there is no median"):
        join_features(given, missing="impute")
    with pytest.raises(InvalidInputError, match="every object lacks a feature"):
        join_features(given, missing="drop")


def test_check_ids_keeps_values():
    assert check_ids(np.array([5, 2**63 - 1], np.uint64), "x").tolist() == [5, 2**63 - 1]
    with pytest.raises(InvalidInputError, match="x: the ids are int64 of shape"):
        check_ids(np.ones((2, 2), np.int64), "x")
