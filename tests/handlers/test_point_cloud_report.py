"""The report about point clouds: which objects, what it says of them, and the way between two codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers import PointCloudReportHandler
from voxel_ext.losses import ChamferLoss
from voxel_ext.visualize.point_clouds import CloudPair, cloud_pairs, cloud_path

NAMES = ["rod", "donut"]


def batches(classes=True):
    """Two batches of three objects; the code of the object i is (i, 0)."""
    generator = torch.Generator().manual_seed(0)
    for start in range(0, 6, 3):
        ids = torch.arange(start, start + 3)
        points, made = torch.rand(2, 3, 20, 3, generator=generator).unbind()
        latent = torch.stack([ids.float(), torch.zeros(3)], dim=1)
        batch = {"points": points, "id": ids} | ({"class": ids % 3 - 1} if classes else {})
        yield batch, {"pred": {"reconstruction": made, "latent": latent}}


def run(path, data, **options):
    """Run an evaluator; return the codes that were decoded, and the page."""
    decoded = []

    def decode(codes):
        decoded.append(codes)
        return torch.zeros(len(codes), 5, 3)

    def step(engine, pair):
        engine.state.batch = pair[0]
        return pair[1]

    engine = Engine(step)
    handler = PointCloudReportHandler(path, decode, **options)
    handler.attach(engine)
    engine.add_event_handler(Events.STARTED, lambda: engine.state.metrics.update(f_score=0.625))
    engine.run(list(data))
    return decoded, path.read_text()


def test_the_page_shows_objects_with_class_and_distance(tmp_path):
    data = list(batches())
    _, page = run(tmp_path / "report.html", data, class_names=NAMES, max_objects=6, title="Clouds & codes")
    assert "Clouds &amp; codes" in page
    assert "0.625" in page
    distance = ChamferLoss(squared=False, weights=(0.5, 0.5), reduction="none")
    for batch, output in data:
        far = distance(output["pred"]["reconstruction"], batch["points"])
        for index, number in enumerate(batch["id"].tolist()):
            known = (["", "rod, ", "donut, "])[number % 3]
            assert f"object {number}, {known}distance {float(far[index]):.3f}" in page


def test_classes_without_names_and_none_at_all(tmp_path):
    assert "object 2, class 1," in run(tmp_path / "a.html", batches(), max_objects=6)[1]
    assert "object 2, distance" in run(tmp_path / "b.html", batches(classes=False), max_objects=6)[1]


def test_the_way_leads_between_the_codes_farthest_apart(tmp_path):
    ((codes,), page) = run(tmp_path / "report.html", batches(), class_names=NAMES, max_objects=6)
    np.testing.assert_allclose(codes[:, 0], np.linspace(0, 5, 6), atol=1e-6)
    assert not codes[:, 1].any()
    assert "from object 0 (left) to object 5, donut (right)" in page


def test_some_objects_are_drawn_the_same_ones_each_time(tmp_path):
    first, second = (run(tmp_path / f"{name}.html", batches(), max_objects=2)[0][0] for name in "ab")
    assert torch.equal(first, second)
    decoded, page = run(tmp_path / "c.html", batches(), max_objects=1)
    assert not decoded
    assert page.count("<img") == 1
    assert "<img" not in run(tmp_path / "d.html", batches(), max_objects=0)[1]


def test_bad_settings_and_outputs(tmp_path):
    with pytest.raises(InvalidInputError, match="max_report_objects=-1"):
        PointCloudReportHandler(tmp_path / "report.html", torch.nn.Identity(), max_objects=-1)
    with pytest.raises(InvalidInputError, match="no 'latent'"):
        run(
            tmp_path / "report.html",
            ((batch, {"pred": {"reconstruction": out["pred"]["reconstruction"]}}) for batch, out in batches()),
        )


def test_pictures_are_of_clouds():
    cloud = np.zeros((4, 3), np.float32)
    assert "object &lt;1&gt;" in cloud_pairs([CloudPair("object <1>", cloud, cloud)])
    assert cloud_path([cloud, np.full((4, 3), np.nan)], "a", "b").count("<img") == 1
    with pytest.raises(InvalidInputError, match="at least one pair"):
        cloud_pairs([])
    with pytest.raises(InvalidInputError, match=r"shape \(4, 2\)"):
        cloud_pairs([CloudPair("a", cloud, cloud[:, :2])])
    with pytest.raises(InvalidInputError, match="1 point clouds make no path"):
        cloud_path([cloud], "a", "b")
