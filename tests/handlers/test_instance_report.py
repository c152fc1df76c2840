import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events

pytest.importorskip("matplotlib")
pytest.importorskip("plotly")

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers.instance_report import InstanceReportHandler


def sample(seed, truth=True):
    rng = np.random.default_rng(seed)
    labels = np.zeros((1, 6, 12, 16), np.int32)
    labels[0, 1:4, 2:6, 2 : 6 + seed], labels[0, 2:5, 7:11, 8:14] = 3, 400
    image = labels * 0 + (labels > 0) * 5.0 + rng.random(labels.shape)
    row = {"image": torch.from_numpy(image.astype(np.float32)), "pred_instances": torch.from_numpy(labels)}
    return row | ({"instances": torch.from_numpy(np.where(labels == 3, 1, 0))} if truth else {})


def run(path, samples, **options):
    engine = Engine(lambda _engine, batch: batch)
    engine.add_event_handler(Events.STARTED, lambda e: e.state.metrics.update({"AP": 0.625}))
    InstanceReportHandler(path, **options).attach(engine)
    engine.run(samples, max_epochs=1)
    return path.read_text(encoding="utf-8")


def test_page_has_colors_counts_and_metrics(tmp_path):
    page = run(tmp_path / "r.html", [[sample(0)], [sample(1)], [sample(2)]], max_volumes=1, settings={"lr": 0.25})
    assert page.count('<article class="volume">') == 1
    # volumes that are not shown are counted
    for seed in range(3):
        sizes = [3 * 4 * (4 + seed), 3 * 4 * 6]
        low, high = np.percentile(sizes, (5, 95))
        numbers = [2, round(np.median(sizes)), round(low), round(high), min(sizes), max(sizes)]
        cells = "".join(f'<td class="number">{number}</td>' for number in numbers)
        assert f"<tr><td>volume {seed}</td><td>predicted</td>{cells}</tr>" in page
        assert f'<tr><td>volume {seed}</td><td>true</td><td class="number">1</td>' in page
    for text in ("predicted instances", "true outlines", "instance %{customdata}", "<dd>0.625</dd>", "0.25"):
        assert text in page


def test_without_truth_and_a_batch_that_is_not_decollated(tmp_path):
    one, two = sample(0, truth=False), sample(1, truth=False)
    # planes
    batch = {key: torch.stack([one[key][:, 2], two[key][:, 2]]) for key in one}
    page = run(tmp_path / "r.html", [batch], max_volumes=1, pictures=True)
    assert "volume 1</td><td>predicted" in page
    assert "<td>true</td>" not in page
    assert "true outlines" not in page
    assert (tmp_path / "volume 0.png").exists()


def test_other_keys_and_a_second_run(tmp_path):
    rows = [[{"img": s["image"], "lab": s["instances"], "p": s["pred_instances"].float()}] for s in map(sample, (0, 1))]
    engine = Engine(lambda _engine, batch: batch)
    handler = InstanceReportHandler(tmp_path / "r.html", image_key="img", label_key="lab", pred_key="p", max_volumes=0)
    handler.attach(engine)
    engine.run(rows, max_epochs=1)
    engine.run(rows, max_epochs=1)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count("<td>predicted</td>") == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pred_instances": torch.zeros(2, 6, 12, 16)}, r"'pred_instances' of 'volume 0' has shape \(2, 6, 12, 16\)"),
        ({"pred_instances": torch.full((1, 6, 12, 16), 0.5)}, "'pred_instances' of 'volume 0' has fractions"),
    ],
)
def test_what_are_no_instance_ids(tmp_path, change, message):
    with pytest.raises(InvalidInputError, match=message):
        run(tmp_path / "r.html", [[sample(0) | change]])
    assert not (tmp_path / "r.html").exists()


def test_an_output_without_instances_is_named(tmp_path):
    with pytest.raises(InvalidInputError, match="no 'pred_instances'; its keys are"):
        run(tmp_path / "r.html", [[{"image": torch.zeros(1, 4, 4, 4)}]])
