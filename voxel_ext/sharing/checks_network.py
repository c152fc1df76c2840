"""Whether a bundle's network computes what the metadata say, and can be exported. These run the bundle's configs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from voxel_ext.sharing.bundle import METADATA, Bundle
from voxel_ext.sharing.checks_docs import DOCS, read_docs
from voxel_ext.sharing.checks_outcome import DOES_NOT_APPLY, Check, outcome


def check_net_in_out(bundle: Bundle) -> Check:
    """Run MONAI's ``verify_net_in_out``: channels and data type of the output, as the metadata describe it."""
    from monai.bundle import verify_net_in_out

    from voxel_ext.workflow import root_cause

    name = "network"
    if bundle.network_id is None:
        return Check(name, DOES_NOT_APPLY, "the bundle has no network")
    file = bundle.configs["inference"]
    try:
        verify_net_in_out(
            net_id=bundle.network_id,
            meta_file=str(bundle.root / METADATA),
            config_file=str(file),
            bundle_root=str(bundle.root),
        )
    except Exception as error:  # whatever the bundle's own network raises is what there is to report
        cause = root_cause(error)
        where = f"{file.relative_to(bundle.root)}: {bundle.network_id}"
        return outcome(name, [f"{where} does not fit {METADATA}: {type(cause).__name__}: {cause}"], "")
    return outcome(name, [], f"{bundle.network_id} fits network_data_format")


def check_torchscript(bundle: Bundle) -> Check:
    """Export the network to TorchScript in a temporary folder, with random weights where there are none."""
    from voxel_ext.sharing.export import export_network
    from voxel_ext.workflow import root_cause

    name = "TorchScript"
    if bundle.network_id is None:
        return Check(name, DOES_NOT_APPLY, "the bundle has no network")
    weights = bundle.root / "models" / "model.pt"
    with tempfile.TemporaryDirectory() as folder:
        try:
            checkpoint = weights if weights.is_file() else _random_weights(bundle, Path(folder) / "model.pt")
            export = export_network(bundle.root, Path(folder), checkpoint=checkpoint, formats=["torchscript"])[0]
        except Exception as error:  # whatever the bundle's own network raises is what there is to report
            cause = root_cause(error)
            return outcome(name, [f"{bundle.network_id}: {type(cause).__name__}: {cause}"], "")
    if export.path is not None:
        used = "models/model.pt" if checkpoint == weights else "random weights"
        return outcome(name, [], f"{bundle.network_id} with {used}, largest difference {export.difference:.1e}")
    if "TorchScript" in read_docs(bundle):
        return Check(name, DOES_NOT_APPLY, f"{export.reason}; {DOCS} says so")
    return outcome(name, [f"{bundle.network_id}: {export.reason}; {DOCS} should say so"], "")


def _random_weights(bundle: Bundle, file: Path) -> Path:
    """Write the weights of a network as it is made."""
    import torch
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(bundle.configs["inference"]))
    parser["bundle_root"] = str(bundle.root)
    assert bundle.network_id is not None
    torch.save(parser.get_parsed_content(bundle.network_id).state_dict(), file)
    return file
