"""Building blocks of the networks."""

from voxel_ext.networks.blocks.cell_attention import CellAttentionBlock, RelativeAttention
from voxel_ext.networks.blocks.encoder_decoder import DoubleConvolution, EncoderDecoder, conv_relu_norm
from voxel_ext.networks.blocks.group_blocks import BlockSettings, ConvolutionBlock, DilatedBlock, ResidualBlock
from voxel_ext.networks.blocks.group_descriptor import GroupDescriptor

__all__ = [
    "BlockSettings",
    "ConvolutionBlock",
    "DilatedBlock",
    "GroupDescriptor",
    "ResidualBlock",
    "CellAttentionBlock",
    "DoubleConvolution",
    "EncoderDecoder",
    "RelativeAttention",
    "conv_relu_norm",
]
