"""What a bundle's docs say agrees with its configs."""

import pytest
from forked_commands import ROOT

from voxel_ext.sharing.bundle import Bundle
from voxel_ext.sharing.checks_docs import check_defaults, check_sections, check_settings
from voxel_ext.sharing.checks_docs_commands import check_commands

BUNDLES = sorted(path.parent.parent.name for path in ROOT.glob("bundles/*/configs/metadata.json"))


@pytest.mark.parametrize("check", [check_sections, check_settings, check_defaults, check_commands])
@pytest.mark.parametrize("bundle", BUNDLES)
def test_docs_agree_with_the_configs(bundle, check):
    found = check(Bundle.open(ROOT / "bundles" / bundle))
    assert found.status == "passed", found.message
