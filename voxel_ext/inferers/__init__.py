"""Inference beyond MONAI's inferers."""

from voxel_ext.inferers.blockwise import BlockwiseInferer
from voxel_ext.inferers.reductions import read_reduction
from voxel_ext.inferers.roi import RoiAccumulator, RoiProbabilities, roi_probabilities
from voxel_ext.inferers.roi_inferer import RoiInferer
from voxel_ext.inferers.scaling import LinearScaling, Normalizing, PercentileScaling
from voxel_ext.inferers.volumes import BlockwiseResult, BlockwiseVolumes, infer_volumes

__all__ = [
    "BlockwiseInferer",
    "BlockwiseResult",
    "BlockwiseVolumes",
    "LinearScaling",
    "Normalizing",
    "PercentileScaling",
    "RoiAccumulator",
    "RoiInferer",
    "RoiProbabilities",
    "infer_volumes",
    "read_reduction",
    "roi_probabilities",
]
