#!/usr/bin/env bash
# Install, then run the first bundle end to end on a small synthetic data set: prepare, train, evaluate, infer, report.
# Uses the active virtual environment or makes .venv; uses a GPU where there is one. See scripts/install.sh for settings.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/install.sh
install_project viz

cd bundles/optic_lobe_segmentation
out=quickstart
data=$out/data
places=(--ckpt_dir "$out/models" --log_path "$out/runs" --output_dir "$out/evaluation")
variant=configs/variants/quarter_hour.json

step() { printf '\n== %s\n' "$1"; }
run() { python -m monai.bundle run "$@"; }

step "1/4 prepare: synthetic fly optic lobes with exact ground truth"
run prepare --config_file configs/prepare.json --dataset_dir "$data" \
    --volume_size 96 --volumes_per_file 16 --validation_volumes 2

step "2/4 train: a small U-Net"
run training --config_file "['configs/train.json','$variant']" --dataset_dir "$data" "${places[@]}" \
    --epochs 12 --patches_per_volume 6 --roi_size "[96,96,96]"

step "3/4 evaluate: metrics on volumes never trained on"
run evaluating --config_file "['configs/train.json','$variant','configs/evaluate.json']" --dataset_dir "$data" "${places[@]}" \
    --roi_size "[96,96,96]"

step "4/4 infer: segmentations as files"
run inference --config_file "['configs/inference.json','$variant']" --dataset_dir "$data/val" \
    --ckpt_dir "$out/models" --output_dir "$out/segmentations" --roi_size "[96,96,96]"

printf '\nDone. Open the reports in a browser:\n  %s\n  %s\n' \
    "$PWD/$out/evaluation/report.html" "$PWD/$out/segmentations/report.html"
printf 'Segmentations: %s\n' "$PWD/$out/segmentations"
