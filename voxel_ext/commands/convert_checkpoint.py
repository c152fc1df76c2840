"""``convert_checkpoint``: weights of pytorch-3dunet for the bundles."""

from __future__ import annotations

from fire.decorators import SetParseFn

from voxel_ext.commands.line import Job


@SetParseFn(str, "source", "target")
def convert_checkpoint(
    source: str,
    target: str,
    *,
    layer_order: str | None = None,
    num_groups: int | None = None,
    pool_size: int | tuple[int, int, int] | None = None,
    flavor: str | None = None,
) -> Job:
    """Convert a .pytorch checkpoint of pytorch-3dunet into a bundle's weight file.

    Writes TARGET, a plain state dict, and beside it a file with the suffix .json: a config overlay with
    the network's settings. Reads checkpoints of wolny/pytorch-3dunet and flavell-lab/pytorch-3dunet:
    UNet3D, ResidualUNet3D, ResidualUNetSE3D, UNet2D and ResidualUNet2D. No code in the file is executed.

    Architecture, channels, levels and kernel are seen in the file. What is not seen in the file are the
    options below: give what the network was trained with (model section of its training config), or it
    will give other results.

    Example: python -m voxel_ext convert_checkpoint best_checkpoint.pytorch models/model.pt --num_groups 16

    Args:
        source: the .pytorch file.
        target: the weight file to write, for example models/model.pt.
        layer_order: layers of each convolution: c convolution, g group norm, b batch norm, r ReLU, l LeakyReLU, e ELU;
            the activation is not seen in the file. Default gcr; must be given where the norm does not come first.
        num_groups: groups of the group norms. Default 8.
        pool_size: pooling, one number or z,y,x. Default 2, of networks with flat kernels 1,2,2.
        flavor: flavell (LeakyReLU with slope 0.1, default) or wolny (0.01), of a plain U-Net with the letter l. Of
            residual networks it is seen in the file.
    """

    def work() -> None:
        from voxel_ext.convert import convert_checkpoint as convert

        convert(source, target, layer_order, num_groups, pool_size, flavor)

    return Job(work)
