import json
import logging

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import ConfusionMatrix, MeanDice, from_engine
from monai.transforms import AsDiscreted

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers.report import ReportHandler, _compact_image, _compact_labels


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
        assert f'<th scope="row">lobe_{i}.h5</th><td class="number">{details[i].item():.3f}</td>' in page
    assert f"<dt>dice</dt><dd>{engine.state.metrics['dice']:.3f}</dd>" in page
    assert "<dt>recall</dt>" in page
    assert page.count('<article class="volume">') == 2
    assert "train_loss" in page
    assert "seed" in page
    assert "/data/set" not in page


def test_what_is_shown_is_what_the_engine_saw(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr("voxel_ext.handlers.report.write_report", lambda *args, **kwargs: seen.update(kwargs))
    rows = samples(3)
    evaluator([ReportHandler(tmp_path / "r.html", max_volumes=5)], rows).run()
    assert [volume["name"] for volume in seen["volumes"]] == ["lobe_0.h5", "lobe_1.h5", "lobe_2.h5"]
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
    assert "lobe_2.h5" in page


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
    with pytest.raises(InvalidInputError, match=f"cannot be written to {path}"):
        ReportHandler(path).attach(Engine(lambda _engine, batch: batch))


def test_bad_input(tmp_path):
    with pytest.raises(InvalidInputError, match="max_volumes=-1"):
        ReportHandler(tmp_path / "r.html", max_volumes=-1)
    handler = ReportHandler(tmp_path / "r.html", pred_key="mask")
    with pytest.raises(InvalidInputError, match=r"no 'mask'; its keys are \['image', 'label', 'pred'\]"):
        evaluator([handler], samples(1)).run()
    rows = samples(1)
    rows[0]["image"][0, 0, 0, 0] = float("nan")
    with pytest.raises(InvalidInputError, match=r"image of 'lobe_0\.h5' has 1 values that are NaN"):
        evaluator([ReportHandler(tmp_path / "r.html")], rows).run()
    assert not list(tmp_path.iterdir())


def test_broken_history(tmp_path, caplog):
    history = tmp_path / "history.jsonl"
    handler = ReportHandler(tmp_path / "r.html", history_file=history)
    history.write_text('{"epoch": 1, "val_loss": 1}\n\n{"epoch": 2, "val_')
    evaluator([handler], samples(1)).run()
    assert "the last line is not complete" in caplog.text
    assert "val_loss" in (tmp_path / "r.html").read_text(encoding="utf-8")
    history.write_text('{"epoch": 1\n{"epoch": 2}\n')
    with pytest.raises(InvalidInputError, match=r"history\.jsonl, line 1"):
        evaluator([handler], samples(1)).run()
    history.write_text("[1]\n")
    with pytest.raises(InvalidInputError, match="expected a JSON object, found list"):
        evaluator([handler], samples(1)).run()
