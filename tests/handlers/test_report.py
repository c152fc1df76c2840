import json
import logging
import sys

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import ConfusionMatrix, MeanDice, from_engine
from monai.transforms import AsDiscreted

from voxel_ext.errors import InvalidInputError, MissingDependencyError
from voxel_ext.handlers.report import ReportHandler, _compact_image, _compact_labels, _name, _spacing


@pytest.fixture
def seen(monkeypatch):
    """What the handler gives to the report."""
    arguments = {}
    monkeypatch.setattr("voxel_ext.handlers.report.write_report", lambda *args, **kwargs: arguments.update(kwargs))
    return arguments


class Threshold(torch.nn.Module):
    """A network that knows the answer: 0.5 is the border."""

    def forward(self, image):
        return image - 0.5


def samples(count, shape=(1, 8, 10, 12), label=True):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        image = torch.from_numpy(rng.random(shape).astype(np.float32))
        row = {"image": MetaTensor(image, meta={"filename_or_obj": f"/data/set/lobe_{i}.h5"})}
        if label:
            row["label"] = (image > 0.4 + 0.1 * i).float()
        rows.append(row)
    return rows


def evaluator(handlers, rows, **options):
    metrics = {
        "key_val_metric": {"dice": MeanDice(output_transform=from_engine(["pred", "label"]))},
        "additional_metrics": {
            "recall": ConfusionMatrix(metric_name="recall", output_transform=from_engine(["pred", "label"]))
        },
    }
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(rows), batch_size=2),
        network=Threshold(),
        postprocessing=AsDiscreted(keys="pred", threshold=0.0) if options.get("decollate", True) else None,
        val_handlers=handlers,
        **(metrics if "label" in rows[0] and options.get("decollate", True) else {}),
        **options,
    )


@pytest.mark.parametrize("shape", [(1, 8, 10, 12), (1, 10, 12)])
def test_report_of_a_real_evaluator(tmp_path, caplog, shape):
    path, history = tmp_path / "out" / "report.html", tmp_path / "history.jsonl"
    history.write_text("".join(json.dumps({"epoch": e, "train_loss": 1 / e}) + "\n" for e in (1, 2)))
    handler = ReportHandler(str(path), "Evaluation", settings={"seed": 3}, history_file=history, max_volumes=2)
    engine = evaluator([handler], samples(3, shape))
    with caplog.at_level(logging.INFO, logger="voxel_ext"):
        engine.run()
    assert f"report: {path}" in caplog.text
    page = path.read_text(encoding="utf-8")
    details = engine.state.metric_details["dice"]
    for i in range(3):
        assert f'<th scope="row">lobe_{i}</th><td class="number">{details[i].item():.3f}</td>' in page
    assert f"<dt>dice</dt><dd>{engine.state.metrics['dice']:.3f}</dd>" in page
    assert "<dt>recall</dt>" in page
    assert page.count('<article class="volume">') == 2
    assert "train_loss" in page
    assert "seed" in page
    assert "/data/set" not in page


def test_what_is_shown_is_what_the_engine_saw(tmp_path, seen):
    rows = samples(3)
    evaluator([ReportHandler(tmp_path / "r.html", max_volumes=5)], rows).run()
    assert [volume["name"] for volume in seen["volumes"]] == ["lobe_0", "lobe_1", "lobe_2"]
    for row, volume in zip(rows, seen["volumes"], strict=True):
        image = row["image"][0].numpy()
        np.testing.assert_array_equal(volume["truth"], row["label"][0].numpy())
        np.testing.assert_array_equal(volume["prediction"], image >= 0.5)
        np.testing.assert_allclose(volume["image"] / 255, image, atol=0.02)


def test_without_labels_and_without_history(tmp_path):
    path = tmp_path / "report.html"
    handler = ReportHandler(path, history_file=tmp_path / "absent.jsonl", max_volumes=1)
    evaluator([handler], samples(2, label=False)).run()
    page = path.read_text(encoding="utf-8")
    assert 'data-layer="prediction"' in page
    assert 'data-layer="truth"' not in page
    assert "Learning curves" not in page


def test_batches_that_are_not_decollated(tmp_path):
    path = tmp_path / "report.html"
    evaluator([ReportHandler(path)], samples(3), decollate=False).run()
    page = path.read_text(encoding="utf-8")
    assert page.count('<article class="volume">') == 3
    assert "lobe_2" in page


def test_a_second_run_starts_anew(tmp_path):
    path = tmp_path / "report.html"
    engine = evaluator([ReportHandler(path, max_volumes=3)], samples(2))
    engine.run()
    engine.run()
    assert path.read_text(encoding="utf-8").count('<article class="volume">') == 2


def test_only_rank_0_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("voxel_ext.handlers.report.idist.get_rank", lambda: 1)
    evaluator([ReportHandler(tmp_path / "no" / "report.html")], samples(2)).run()
    assert not (tmp_path / "no").exists()


def test_names_default_to_numbers(tmp_path):
    path = tmp_path / "r.html"
    engine = Engine(lambda _engine, batch: batch)
    ReportHandler(path).attach(engine)
    engine.run([[{"image": torch.rand(1, 4, 4), "pred": torch.ones(1, 4, 4)}] * 2])
    assert "volume 1 " in path.read_text(encoding="utf-8")


def test_compact_arrays():
    assert _compact_labels(torch.tensor([[0.0, 300.0, -1.0]])).tolist() == [0, 300, 0]
    assert _compact_labels(torch.tensor([[0.0, 1.0]])).dtype == np.uint8
    assert _compact_labels(torch.tensor([[0.2, 0.8]], dtype=torch.bfloat16)).tolist() == [0, 1]
    assert _compact_labels(torch.tensor([[0.9, 0.1], [0.1, 0.9]])).tolist() == [0, 1]
    assert _compact_labels(torch.tensor([[True, False]])).tolist() == [1, 0]
    image = _compact_image(torch.tensor([[[0.0, 60_000.0, 120_000.0]]]), "x")
    assert image.dtype == np.uint8
    assert image.tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("kind", ["folder", "below a file"])
def test_a_path_that_cannot_be_written_is_refused_before_the_run(tmp_path, kind):
    (tmp_path / "file").write_text("")
    path = tmp_path if kind == "folder" else tmp_path / "file" / "report.html"
    with pytest.raises(
        InvalidInputError, match=f"cannot (be written to {path}|write to the output folder {path.parent})"
    ):
        ReportHandler(path).attach(Engine(lambda _engine, batch: batch))


def test_bad_input(tmp_path):
    with pytest.raises(InvalidInputError, match="max_volumes=-1"):
        ReportHandler(tmp_path / "r.html", max_volumes=-1)
    handler = ReportHandler(tmp_path / "r.html", pred_key="mask")
    with pytest.raises(InvalidInputError, match=r"no 'mask'; its keys are \['image', 'label', 'pred'\]"):
        evaluator([handler], samples(1)).run()
    rows = samples(1)
    rows[0]["image"][0, 0, 0, 0] = float("nan")
    with pytest.raises(InvalidInputError, match=r"image of 'lobe_0' has 1 values that are NaN"):
        evaluator([ReportHandler(tmp_path / "r.html")], rows).run()
    assert not list(tmp_path.iterdir())


def test_broken_history(tmp_path):
    history = tmp_path / "history.jsonl"
    history.write_text('{"epoch": 1\n{"epoch": 2}\n')
    with pytest.raises(InvalidInputError, match=r"history\.jsonl, line 1"):
        evaluator([ReportHandler(tmp_path / "r.html", history_file=history)], samples(1)).run()


@pytest.mark.parametrize("library", ["matplotlib", "plotly", "PIL", "imageio"])
def test_a_library_that_is_missing_is_named_before_the_run(tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=f"{library} is needed"):
        ReportHandler(tmp_path / "r.html", pictures=True).attach(Engine(lambda _engine, batch: batch))
    if library == "imageio":
        ReportHandler(tmp_path / "r.html").attach(Engine(lambda _engine, batch: batch))


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("/a/1135_mini.h5/raw", "1135_mini"),
        ("/a/val.h5/data[3]", "val_0003"),
        ("/a/lobe.nii.gz", "lobe"),
        (None, "volume 7"),
    ],
)
def test_volumes_are_named_after_their_address(file, name):
    assert _name(MetaTensor(torch.zeros(1, 2, 2), meta={"filename_or_obj": file} if file else {}), "volume 7") == name


def test_files_of_one_name_are_told_apart(tmp_path, seen):
    rows = samples(3)
    for i in (0, 2):
        rows[i]["image"].meta["filename_or_obj"] = f"/data/set{i}/lobe.h5/raw"
    evaluator([ReportHandler(tmp_path / "r.html", max_volumes=5)], rows).run()
    assert [volume["name"] for volume in seen["volumes"]] == ["lobe", "lobe_1", "lobe_2"]


@pytest.mark.parametrize(
    ("affine", "given", "expected"),
    [
        (np.diag([3, 2, 0.5, 1]), None, [3, 2, 0.5]),
        (np.diag([3, 2, 0.5, 1]), (1, 1, 2), (1, 1, 2)),
        # rows and columns of another order and sign
        (np.array([[0, 0, -0.5, 9], [0, 2, 0, 9], [3, 0, 0, 9], [0, 0, 0, 1]]), None, [3, 2, 0.5]),
        (np.array([[1, 0, 0, 9], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), None, None),
    ],
)
def test_voxel_size_comes_from_the_affine(tmp_path, seen, affine, given, expected):
    rows = samples(1)
    rows[0]["image"].affine = torch.as_tensor(affine, dtype=torch.float64)
    evaluator([ReportHandler(tmp_path / "r.html", voxel_size=given)], rows).run()
    assert seen["volumes"][0]["voxel_size"] == expected


def test_voxel_size_of_a_plane_and_of_a_plain_tensor():
    affine = torch.tensor([[0, 0, 1, 0], [0, 2, 0, 0], [4, 0, 0, 0], [0, 0, 0, 1.0]])
    assert _spacing(MetaTensor(torch.zeros(1, 2, 2), affine=affine), 2) == [4, 2]
    assert _spacing(MetaTensor(torch.zeros(1, 2, 2), affine=torch.diag(torch.tensor([3, 2, 1.0]))), 2) == [3, 2]
    assert _spacing(torch.zeros(1, 2, 2), 2) is None


@pytest.mark.parametrize("voxel_size", [(1, 0, 1), (1,), (1, 1, 1, 1), (1, -1)])
def test_a_wrong_voxel_size_is_refused_at_once(tmp_path, voxel_size):
    with pytest.raises(InvalidInputError, match="positive numbers"):
        ReportHandler(tmp_path / "r.html", voxel_size=voxel_size)


def test_a_voxel_size_of_other_axes_ends_the_run_at_the_first_volume(tmp_path):
    engine = evaluator([ReportHandler(tmp_path / "r.html", voxel_size=(1, 1))], samples(3))
    with pytest.raises(InvalidInputError, match="3 positive numbers"):
        engine.run()
    assert engine.state.iteration == 1


def test_pictures_beside_the_report(tmp_path):
    rows = samples(2)
    rows[0]["image"].affine = torch.diag(torch.tensor([2.0, 1, 1, 1]))
    evaluator([ReportHandler(tmp_path / "r.html", max_volumes=1, pictures=True)], rows).run()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lobe_0.gif", "lobe_0.png", "r.html"]
    assert len(iio.imread(tmp_path / "lobe_0.gif")) == 8
    # the signal alone, and with the mask
    height, width = iio.imread(tmp_path / "lobe_0.png").shape[:2]
    assert width == 2 * height


def test_picture_of_a_plane(tmp_path):
    evaluator([ReportHandler(tmp_path / "r.html", pictures=True)], samples(1, (1, 10, 12), label=False)).run()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lobe_0.png", "r.html"]
    assert iio.imread(tmp_path / "lobe_0.png").size


def test_channels_without_a_background(tmp_path, seen):
    scores = torch.tensor([[0.9, 0.2, 0.6], [0.1, 0.4, 0.8]])
    assert _compact_labels(scores, include_background=False).tolist() == [1, 0, 2]
    assert _compact_labels(scores > 0.5, include_background=False).tolist() == [1, 0, 1]
    assert _compact_labels(scores).tolist() == [0, 1, 1]
    engine = Engine(lambda _engine, batch: batch)
    ReportHandler(tmp_path / "r.html", include_background=False).attach(engine)
    volume = scores[:, None]
    engine.run([[{"image": torch.rand(1, 1, 3), "pred": volume, "label": volume.round()}]])
    assert seen["volumes"][0]["prediction"].tolist() == [[1, 0, 2]]
    assert seen["volumes"][0]["truth"].tolist() == [[1, 0, 1]]
