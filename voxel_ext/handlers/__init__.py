"""Ignite event handlers: progress, random states, history, checkpoints, early stopping, report."""

from voxel_ext.handlers.blockwise_report import report_blockwise
from voxel_ext.handlers.checkpoint import CheckpointHandler
from voxel_ext.handlers.collapse_monitor import CollapseMonitorHandler
from voxel_ext.handlers.contrastive_report import ContrastiveReportHandler
from voxel_ext.handlers.early_stopping import ResumableEarlyStopHandler
from voxel_ext.handlers.epoch_seed import EpochSeedHandler
from voxel_ext.handlers.gradient import GradientHandler
from voxel_ext.handlers.history import HistoryHandler, read_history
from voxel_ext.handlers.instance_report import InstanceReportHandler
from voxel_ext.handlers.knn_monitor import KNNMonitorHandler
from voxel_ext.handlers.labeling_metrics import LabelingMetricsHandler
from voxel_ext.handlers.labeling_report import LabelingReportHandler
from voxel_ext.handlers.loss_parts import LossPartsHandler
from voxel_ext.handlers.loss_schedule import LossEpochHandler
from voxel_ext.handlers.object_features import FeatureTableHandler
from voxel_ext.handlers.pixel_wise_iou import PixelWiseMeanIoUHandler
from voxel_ext.handlers.point_cloud_report import PointCloudReportHandler
from voxel_ext.handlers.progress import ProgressBarHandler
from voxel_ext.handlers.reconstruction_file import ReconstructionFileHandler
from voxel_ext.handlers.reconstruction_report import ReconstructionReportHandler
from voxel_ext.handlers.report import ReportHandler
from voxel_ext.handlers.shape_metrics import shape_metrics
from voxel_ext.handlers.shared import SharedHandlers
from voxel_ext.handlers.surface_report import SurfaceReportHandler
from voxel_ext.handlers.target_animation import TargetAnimationHandler
from voxel_ext.handlers.target_metrics import other_metrics, pick_metric, target_metrics
from voxel_ext.handlers.vae_report import VAEReportHandler
from voxel_ext.handlers.weights import load_trunk, load_weights, read_checkpoint, save_checkpoint
from voxel_ext.handlers.worm_matching import WormMatchingHandler
from voxel_ext.handlers.worm_reconstruction import WormReconstructionHandler
from voxel_ext.handlers.worm_report import WormReportHandler

__all__ = [
    "CheckpointHandler",
    "CollapseMonitorHandler",
    "ContrastiveReportHandler",
    "EpochSeedHandler",
    "FeatureTableHandler",
    "GradientHandler",
    "HistoryHandler",
    "InstanceReportHandler",
    "KNNMonitorHandler",
    "LabelingMetricsHandler",
    "LabelingReportHandler",
    "LossEpochHandler",
    "LossPartsHandler",
    "PixelWiseMeanIoUHandler",
    "PointCloudReportHandler",
    "ProgressBarHandler",
    "ReconstructionFileHandler",
    "ReconstructionReportHandler",
    "ReportHandler",
    "ResumableEarlyStopHandler",
    "SharedHandlers",
    "SurfaceReportHandler",
    "TargetAnimationHandler",
    "VAEReportHandler",
    "WormMatchingHandler",
    "WormReconstructionHandler",
    "WormReportHandler",
    "load_trunk",
    "load_weights",
    "other_metrics",
    "pick_metric",
    "read_checkpoint",
    "read_history",
    "report_blockwise",
    "save_checkpoint",
    "shape_metrics",
    "target_metrics",
]
