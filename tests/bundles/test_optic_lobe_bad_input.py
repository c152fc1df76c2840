"""What goes wrong is said clearly, and nothing half-written stays behind."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from bundle_commands import reason
from optic_lobe_commands import BUNDLE, infer, train

from voxel_ext.handlers import save_checkpoint


def write(path: Path, **arrays: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path.parent


def volume(shape=(24, 24, 24)) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def label(shape=(24, 24, 24)) -> np.ndarray:
    return (volume(shape) > 0.7).astype(np.uint8)


@pytest.fixture(scope="module")
def dataset(tiny_dataset) -> Path:
    return tiny_dataset(BUNDLE)


def test_missing_folder(tmp_path):
    assert "nowhere" in reason(lambda: train(tmp_path, tmp_path / "nowhere"))


def test_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in reason(lambda: train(tmp_path, tmp_path / "empty"))


def test_missing_key_lists_the_keys_there_are(tmp_path):
    folder = write(tmp_path / "d" / "a.h5", volume=volume(), mask=label())
    message = reason(lambda: train(tmp_path, folder))
    assert "a.h5" in message
    assert "volume" in message
    assert "mask" in message
    assert "raw" in message


def test_different_shapes(tmp_path):
    folder = write(tmp_path / "d" / "a.h5", raw=volume(), label=label((24, 24, 20)))
    message = reason(lambda: train(tmp_path, folder))
    assert "(24, 24, 24)" in message
    assert "(24, 24, 20)" in message


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (3.0, "constant")])
def test_nan_and_constant_volumes(tmp_path, value, word):
    image = np.full((24, 24, 24), value, np.float32)
    folder = write(tmp_path / "d" / "a.h5", raw=image, label=label())
    message = reason(lambda: train(tmp_path, folder))
    assert word.lower() in message.lower()
    assert "a.h5" in message


def test_patch_larger_than_the_volume_is_padded(tmp_path):
    folder = write(tmp_path / "d" / "a.h5", raw=volume(), label=label())
    train(tmp_path, folder, patch_size=[32, 32, 32], epochs=1)
    output = infer(tmp_path, folder, patch_size=[32, 32, 32])
    with h5py.File(output / "a_segmentation.h5") as file:
        assert file["segmentation"].shape == (24, 24, 24)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"patch_size": [16, 16, 15]}, ["[16, 16, 15]", "stride of 2", "[16, 16, 16]"]),
        ({"patch_size": [16, 16]}, ["patch_size", "3"]),
        ({"architecture": "unett"}, ["'unett'", "'unet'", "'stacked_hourglass'"]),
        ({"loss_name": "dyce"}, ["'dyce'", "'dice'", "'bce'", "'weighted_bce'", "'boundary_weighted_dice'"]),
        ({"checkpoint_policy": "every"}, ["'every'", "'last'", "'best'", "'all'"]),
        ({"optimizer_name": "adagrad"}, ["'adagrad'", "'adam'", "'rmsprop'"]),
        ({"max_params": 10}, ["max_params", "10"]),
        ({"min_params": 10**9}, ["min_params", "1,000,000,000"]),
        ({"kernel_size": 4}, ["kernel_size", "4"]),
        ({"resume": "/nowhere/checkpoint.pt"}, ["/nowhere/checkpoint.pt"]),
    ],
)
def test_bad_settings(tmp_path, dataset, setting, words):
    message = reason(lambda: train(tmp_path, dataset, **setting))
    for word in words:
        assert word in message
    assert not list((tmp_path / "models").glob("*.pt"))


def test_bad_checkpoints(tmp_path, dataset):
    message = reason(lambda: infer(tmp_path, dataset / "val"))
    assert "model.pt" in message
    train(tmp_path, dataset, epochs=1)
    model = tmp_path / "models" / "model.pt"
    message = reason(lambda: infer(tmp_path, dataset / "val", depth=3))
    assert "another architecture" in message
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    assert "truncated or foreign" in reason(lambda: infer(tmp_path, dataset / "val"))
    save_checkpoint(model, {"text": "hello"})
    assert "no network weights" in reason(lambda: infer(tmp_path, dataset / "val"))
    assert not list((tmp_path / "eval").glob("*segmentation*"))


def test_output_folder_not_writable(tmp_path, dataset):
    (tmp_path / "file").write_text("")
    message = reason(lambda: train(tmp_path, dataset, ckpt_dir=str(tmp_path / "file" / "models")))
    assert "cannot write to the output folder" in message
    assert os.path.join("file", "models") in message
