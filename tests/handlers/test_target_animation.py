import io

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events

pytest.importorskip("PIL")

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers.target_animation import TargetAnimationHandler

TARGETS = {
    "sheet": {"channels": 1, "activation": "sigmoid"},
    "normals": {"channels": 3, "activation": "unit_norm"},
    "parts": {"channels": 2, "activation": "softmax"},
}


def sample(depth=7, label=True):
    shape = (depth, 8, 10)
    generator = torch.Generator().manual_seed(depth)
    item = {"image": torch.rand(1, *shape, generator=generator)}
    for name, target in TARGETS.items():
        item[f"pred_{name}"] = torch.rand(target["channels"], *shape, generator=generator)
    truth = {name: torch.rand(1 if name == "parts" else t["channels"], *shape).round() for name, t in TARGETS.items()}
    return item | ({"label": truth} if label else {})


def validator(**options):
    engine = Engine(lambda _engine, batch: batch)
    TargetAnimationHandler(TARGETS, **options).attach(engine)
    return engine


def validate(engine, batches, epoch):
    """Run as MONAI's Evaluator does: one epoch, counted as the trainer's."""
    engine.state.max_epochs = epoch
    engine.state.epoch = epoch - 1
    engine.state.iteration = 0
    engine.run(batches, max_epochs=epoch, epoch_length=len(batches))


def events(folder):
    log = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    return {tag: log.Images(tag) for tag in log.Tags()["images"]}


def test_an_animation_per_target_and_validation(tmp_path):
    engine = validator(log_dir=tmp_path)
    for epoch in (1, 2, 3):
        validate(engine, [[sample(7), sample(9)], [sample(9)]], epoch)
    found = events(tmp_path)
    assert sorted(found) == ["animation_normals", "animation_parts", "animation_sheet"]
    for images in found.values():
        assert sorted(image.step for image in images) == [1, 2, 3]
        for image in images:
            with Image.open(io.BytesIO(image.encoded_image_string)) as picture:
                assert (picture.format, picture.n_frames) == ("GIF", 7)
                assert picture.size == (image.width, image.height)


def test_interval_and_the_size_of_the_box(tmp_path):
    engine = validator(log_dir=tmp_path, interval=2, max_size=4)
    for epoch in (1, 2, 3, 4):
        validate(engine, [[sample(40, label=False)]], epoch)
    for images in events(tmp_path).values():
        assert sorted(image.step for image in images) == [2, 4]
        with Image.open(io.BytesIO(images[0].encoded_image_string)) as picture:
            assert picture.n_frames == 4


def test_at_most_32_slices_and_colors_differ(tmp_path):
    engine = validator(log_dir=tmp_path)
    validate(engine, [[sample(50)]], 1)
    with Image.open(io.BytesIO(events(tmp_path)["animation_normals"][0].encoded_image_string)) as picture:
        assert picture.n_frames == 32
        frame = np.asarray(picture.convert("RGB")).astype(int)
    assert (frame[..., 0] != frame[..., 2]).any()


def test_a_run_without_samples_writes_nothing(tmp_path):
    engine = validator(log_dir=tmp_path / "log")
    engine.fire_event(Events.STARTED)
    engine.fire_event(Events.EPOCH_COMPLETED)
    assert not (tmp_path / "log").exists()


def test_bad_settings_and_samples(tmp_path):
    for options, message in (({"interval": 0}, "interval=0"), ({"max_size": 0}, "max_size=0"), ({"fps": 0}, "fps=0")):
        with pytest.raises(InvalidInputError, match=message):
            TargetAnimationHandler(TARGETS, tmp_path, **options)
    item = sample()
    del item["pred_parts"]
    with pytest.raises(InvalidInputError, match="no 'pred_parts'"):
        validate(validator(log_dir=tmp_path), [[item]], 1)
