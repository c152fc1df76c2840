"""What a bundle's docs say agrees with its configs."""

import json
import re

import pytest
from bundle_commands import ROOT

BUNDLES = sorted(path.parent.parent.name for path in ROOT.glob("bundles/*/configs/metadata.json"))
SECTIONS = ["Model", "Data", "Commands", "Settings", "Performance", "Limits", "License", "References"]
INTERNAL = {"imports", "settings", "initialize", "run", "finalize", "bundle_root"}


def values(bundle: str) -> dict[str, object]:
    """Top-level values of the configs that a user may set: numbers, texts, lists, switches; no components."""
    found: dict[str, object] = {}
    for name in ("inference", "prepare", "train"):
        config = json.loads((ROOT / "bundles" / bundle / "configs" / f"{name}.json").read_text())
        found |= {k: v for k, v in config.items() if k not in INTERNAL and not isinstance(v, dict)}
    return {k: v for k, v in found.items() if not (isinstance(v, list) and v and is_component(v[0]))}


def is_component(item: object) -> bool:
    """Whether an item of a list is to be instantiated or evaluated, as in the lists of handlers and of commands."""
    return isinstance(item, dict) or (isinstance(item, str) and item.startswith("$"))


def components(bundle: str) -> set[str]:
    return {
        key
        for name in ("inference", "prepare", "train")
        for key in json.loads((ROOT / "bundles" / bundle / "configs" / f"{name}.json").read_text())
    }


@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_setting_is_documented(bundle):
    docs = (ROOT / "bundles" / bundle / "docs" / "README.md").read_text()
    documented = set(re.findall(r"`([a-z0-9_]+)`", docs))
    derived = {k for k, v in values(bundle).items() if isinstance(v, str) and v.startswith(("$", "@"))}
    assert set(values(bundle)) - derived <= documented


@pytest.mark.parametrize("bundle", BUNDLES)
def test_documented_defaults_are_the_configs(bundle):
    docs = (ROOT / "bundles" / bundle / "docs" / "README.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| `?([^|`]+)`? \|", docs, re.MULTILINE)
    assert len(rows) > 10
    for name, default in rows:
        value = values(bundle).get(name)
        if name not in values(bundle):
            assert name in components(bundle), f"{name} is in no config"
        elif isinstance(value, bool) or value is None:
            assert default.strip() == json.dumps(value), name
        elif isinstance(value, (int, float)):
            assert float(default) == value, name


@pytest.mark.parametrize("bundle", BUNDLES)
def test_sections_in_order(bundle):
    docs = (ROOT / "bundles" / bundle / "docs" / "README.md").read_text()
    assert re.findall(r"^## (.+)$", docs, re.MULTILINE) == SECTIONS


@pytest.mark.parametrize("bundle", BUNDLES)
def test_version_stands_in_the_changelog(bundle):
    metadata = json.loads((ROOT / "bundles" / bundle / "configs" / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
