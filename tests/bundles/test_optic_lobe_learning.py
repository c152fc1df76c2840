"""Longer than the other tests: a short training learns the columns."""

import pytest
from bundle_commands import configs, run_command
from optic_lobe_commands import BUNDLE, FOLDER, places

from voxel_ext.handlers import read_history


@pytest.mark.slow
def test_a_short_training_learns_the_columns(tiny_dataset, tmp_path):
    """The quick start's settings; an untrained network has an IoU below 0.1."""
    dataset = tiny_dataset(BUNDLE, volume_size=96, volumes_per_file=16, validation_volumes=2)
    run_command(
        "training",
        configs(BUNDLE, "train", "variants/quarter_hour"),
        bundle_root=str(FOLDER),
        dataset_dir=str(dataset),
        epochs=8,
        patches_per_volume=6,
        roi_size=[96, 96, 96],
        **places(tmp_path),
    )
    assert max(row["val_iou"] for row in read_history(tmp_path / "models" / "history.jsonl")) > 0.25
