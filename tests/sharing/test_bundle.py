"""Opening a bundle's folder."""

import pytest
from packed_bundles import METADATA, ROOT, little_bundle, write

from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.sharing.bundle import Bundle


def test_a_bundle_of_the_project():
    bundle = Bundle.open(ROOT / "bundles" / "worm_matching")
    assert (bundle.name, bundle.network_id, bundle.is_ours) == ("worm_matching", "network_def", True)
    assert list(bundle.configs) == ["atlas", "evaluating", "inference", "prepare", "training"]
    assert bundle.configs["evaluating"].name == "evaluate.json"
    assert bundle.variants["s4"] == bundle.root / "configs" / "variants" / "s4.json"


def test_a_bundle_without_a_network():
    bundle = Bundle.open(ROOT / "bundles" / "em_clustering")
    assert bundle.network_id is None
    assert {"features", "clustering"} <= set(bundle.configs)


def test_a_bundle_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(little_bundle(tmp_path))
    bundle = Bundle.open(".")
    assert (bundle.name, bundle.version, bundle.is_ours) == ("little", "0.1.2", False)
    assert bundle.metadata == METADATA


def test_the_network_that_gives_a_tensor_goes_first(tmp_path):
    folder = little_bundle(tmp_path)
    write(folder / "configs" / "inference.json", {"network_def": {}, "tensor_network_def": {}, "run": []})
    assert Bundle.open(folder).network_id == "tensor_network_def"


def test_configs_in_yaml_are_read(tmp_path):
    folder = little_bundle(tmp_path)
    write(folder / "configs" / "train.yaml", "network_def: {}\nrun: []\n")
    assert Bundle.open(folder).configs["training"].suffix == ".yaml"


def test_no_bundle(tmp_path):
    with pytest.raises(MissingDataError, match=r"has no configs/metadata\.json"):
        Bundle.open(tmp_path)
    with pytest.raises(MissingDataError, match="nothing is no folder"):
        Bundle.open(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not a config file"), ("[" * 100_000, "is not a config file"), ("[]", "holds a list"), ("{}", "version")],
)
def test_unreadable_metadata(tmp_path, text, message):
    write(tmp_path / "configs" / "metadata.json", text)
    with pytest.raises(InvalidInputError, match=message):
        Bundle.open(tmp_path)


def test_an_unreadable_config(tmp_path):
    folder = little_bundle(tmp_path)
    write(folder / "configs" / "train.yaml", "a: [")
    with pytest.raises(InvalidInputError, match=r"train\.yaml is not a config file"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "more than 100000 values, or more than 100 levels"),
        ("a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)), "values"),
        ("1: 2", "1 is no id"),
        ("null: 2", "None is no id"),
    ],
)
def test_configs_that_no_bundle_has(tmp_path, text, message):
    folder = little_bundle(tmp_path)
    write(folder / "configs" / "train.yaml", text)
    with pytest.raises(InvalidInputError, match=message):
        Bundle.open(folder)
