"""What a bundle's docs say agrees with its configs."""

import json
import re

import pytest
from bundle_commands import ROOT

BUNDLES = sorted(path.parent.parent.name for path in ROOT.glob("bundles/*/configs/metadata.json"))
SECTIONS = ["Model", "Data", "Commands", "Settings", "Performance", "Limits", "License", "References"]
COMMANDS = ("inference", "prepare", "train", "features", "clustering", "view")
INTERNAL = {"imports", "settings", "initialize", "run", "finalize", "bundle_root"}


def configs_of(bundle: str) -> list[dict[str, object]]:
    """The configs of a bundle's commands, without overlays."""
    folder = ROOT / "bundles" / bundle / "configs"
    files = [folder / f"{name}.json" for name in COMMANDS]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def values(bundle: str) -> dict[str, list[object]]:
    """Defaults of the top-level values that a user may set: numbers, texts, lists, switches; no components."""
    found: dict[str, list[object]] = {}
    for config in configs_of(bundle):
        for key, value in config.items():
            component = isinstance(value, dict) or (isinstance(value, list) and value and is_component(value[0]))
            if key not in INTERNAL and not component:
                found.setdefault(key, []).append(value)
    return found


def is_component(item: object) -> bool:
    """Whether an item of a list is to be instantiated or evaluated, as in the lists of handlers and of commands."""
    return isinstance(item, dict) or (isinstance(item, str) and item.startswith("$"))


def components(bundle: str) -> set[str]:
    return {key for config in configs_of(bundle) for key in config}


def is_default(text: str, value: object) -> bool:
    """Whether the docs' text is a value, as far as that can be told."""
    if isinstance(value, bool) or value is None:
        return text == json.dumps(value)
    try:
        return not isinstance(value, (int, float)) or float(text) == value
    except ValueError:
        return False


@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_setting_is_documented(bundle):
    docs = (ROOT / "bundles" / bundle / "docs" / "README.md").read_text()
    documented = set(re.findall(r"`([a-z0-9_]+)`", docs))
    derived = {k for k, v in values(bundle).items() if isinstance(v[-1], str) and v[-1].startswith(("$", "@"))}
    assert set(values(bundle)) - derived <= documented


@pytest.mark.parametrize("bundle", BUNDLES)
def test_documented_defaults_are_the_configs(bundle):
    docs = (ROOT / "bundles" / bundle / "docs" / "README.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| `?([^|`]+)`? \|", docs, re.MULTILINE)
    assert len(rows) > 10
    for name, default in rows:
        found = values(bundle).get(name)
        if found is None:
            assert name in components(bundle), f"{name} is in no config"
        else:
            assert any(is_default(default.strip(), value) for value in found), name


@pytest.mark.parametrize("bundle", BUNDLES)
def test_sections_in_order(bundle):
    docs = (ROOT / "bundles" / bundle / "docs" / "README.md").read_text()
    assert re.findall(r"^## (.+)$", docs, re.MULTILINE) == SECTIONS


@pytest.mark.parametrize("bundle", BUNDLES)
def test_version_stands_in_the_changelog(bundle):
    metadata = json.loads((ROOT / "bundles" / bundle / "configs" / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
