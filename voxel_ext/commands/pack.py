"""``pack``: a bundle as one file."""

from __future__ import annotations

from fire.decorators import SetParseFn

from voxel_ext.commands.line import Job


@SetParseFn(str, "bundle", "target", "weights", "sample", "variants")
def pack(
    bundle: str,
    target: str,
    *,
    weights: str | None = None,
    sample: str | None = None,
    variants: str = "",
    export: bool = True,
    run_configs: bool | None = None,
    overwrite: bool = False,
) -> Job:
    """Pack a bundle, its weights and this package into one .zip file.

    The archive holds the bundle's folder with its weights, the wheel of voxel_ext, the network as
    TorchScript (and ONNX where it can be exported), and a manifest with versions and checksums. Where it
    is unpacked, the bundle runs once the wheel is installed; START.md in it tells the commands.

    Example: python -m voxel_ext pack bundles/optic_lobe_segmentation optic_lobe.zip

    Args:
        bundle: the bundle's folder.
        target: the .zip file to write.
        weights: the weight file to pack. Default models/model.pt of the bundle.
        sample: a file or folder to pack as a sample to run inference on.
        variants: overlays of the bundle that the weights were trained with, by name: a,b.
        export: also pack the network as TorchScript and ONNX.
        run_configs: whether the configs, which can run any code, may be executed: exports and the check that the
            weights fit need it. Default: only those of the bundles that came with this package.
        overwrite: replace TARGET if it is there.
    """

    def work() -> None:
        from voxel_ext.sharing.pack import pack_bundle

        pack_bundle(
            bundle,
            target,
            weights=weights,
            sample=sample,
            variants=[name for name in variants.split(",") if name],
            export=export,
            run_configs=run_configs,
            overwrite=overwrite,
        )

    return Job(work)
