"""What Ignite and MONAI engines cannot express, as small functions."""

from voxel_ext.engines.batches import TargetBatch, prepare_roi_batch, prepare_weighted_batch
from voxel_ext.engines.cell_labeling import (
    LabelCellsd,
    SaveLabelsd,
    check_class_names,
    check_classes,
    class_counts,
    label_channels,
    rarely_seen,
    trained_classes,
)
from voxel_ext.engines.clustering_inputs import FeatureTables, read_feature_tables
from voxel_ext.engines.clustering_outputs import (
    check_cluster_files,
    report_clustering,
    write_cluster_masks,
    write_clustering,
)
from voxel_ext.engines.clustering_results import DescribedClusters, describe_clusters
from voxel_ext.engines.labeled_objects import LabeledObjects, find_objects
from voxel_ext.engines.object_clustering import ClusteredObjects, cluster_objects
from voxel_ext.engines.optimizers import build_optimizer
from voxel_ext.engines.schedules import build_lr_scheduler
from voxel_ext.engines.two_views import (
    check_batch_size,
    check_key_metric,
    classes_known,
    prepare_two_views,
    scaled_learning_rate,
)
from voxel_ext.engines.worm_matching import CellMatches, WormFeatures, match_worms, name_worm
from voxel_ext.engines.worm_pairs import WormPairLoss, prepare_worm_pairs, prepare_worms

__all__ = [
    "CellMatches",
    "ClusteredObjects",
    "DescribedClusters",
    "FeatureTables",
    "LabelCellsd",
    "LabeledObjects",
    "SaveLabelsd",
    "TargetBatch",
    "WormFeatures",
    "WormPairLoss",
    "build_lr_scheduler",
    "build_optimizer",
    "check_batch_size",
    "check_class_names",
    "check_classes",
    "check_cluster_files",
    "check_key_metric",
    "class_counts",
    "classes_known",
    "cluster_objects",
    "describe_clusters",
    "find_objects",
    "label_channels",
    "match_worms",
    "name_worm",
    "prepare_roi_batch",
    "prepare_two_views",
    "prepare_weighted_batch",
    "prepare_worm_pairs",
    "prepare_worms",
    "rarely_seen",
    "read_feature_tables",
    "report_clustering",
    "scaled_learning_rate",
    "trained_classes",
    "write_cluster_masks",
    "write_clustering",
]
