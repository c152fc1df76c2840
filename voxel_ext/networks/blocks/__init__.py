"""Building blocks of the networks."""

from voxel_ext.networks.blocks.encoder_decoder import DoubleConvolution, EncoderDecoder, conv_relu_norm

__all__ = ["DoubleConvolution", "EncoderDecoder", "conv_relu_norm"]
