"""Building blocks of the networks."""

from voxel_ext.networks.blocks.cell_attention import CellAttentionBlock, RelativeAttention
from voxel_ext.networks.blocks.encoder_decoder import DoubleConvolution, EncoderDecoder, conv_relu_norm
from voxel_ext.networks.blocks.group_blocks import BlockSettings, ConvolutionBlock, DilatedBlock, ResidualBlock
from voxel_ext.networks.blocks.group_descriptor import GroupDescriptor
from voxel_ext.networks.blocks.residual_se import EXCITATIONS, ResidualSEBlock, excitation_layer

__all__ = [
    "EXCITATIONS",
    "BlockSettings",
    "CellAttentionBlock",
    "ConvolutionBlock",
    "DilatedBlock",
    "DoubleConvolution",
    "EncoderDecoder",
    "GroupDescriptor",
    "RelativeAttention",
    "ResidualBlock",
    "ResidualSEBlock",
    "conv_relu_norm",
    "excitation_layer",
]
