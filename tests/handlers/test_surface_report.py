import json
import re

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator

pytest.importorskip("matplotlib")
pytest.importorskip("plotly")

from voxel_ext.data import lazy_volume
from voxel_ext.engines import TargetBatch
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.handlers.blockwise_report import choose_center, decode_stored, report_blockwise
from voxel_ext.handlers.surface_report import SurfaceReportHandler
from voxel_ext.inferers.blockwise import BlockwiseInferer
from voxel_ext.targets import read_targets
from voxel_ext.transforms.post.targets import ActivateTargetsd
from voxel_ext.visualize.surface_report import drawn_voxels, write_surface_report
from voxel_ext.visualize.target_fields import ShownTarget

TARGETS = {
    "sheet": {"channels": 1, "activation": "sigmoid"},
    "normals": {"channels": 3, "activation": "unit_norm", "oriented": False},
}
SHAPE = (6, 8, 10)


def sample(seed, shape=SHAPE, label=True):
    generator = torch.Generator().manual_seed(seed)
    normals = torch.nn.functional.normalize(torch.randn(3, *shape, generator=generator), dim=0)
    sheet = torch.zeros(1, *shape)
    sheet[:, 1:-1, 2:5] = 1
    noise = 0.2 * torch.randn(3, *shape, generator=generator)
    item = {
        "image": sheet + 0.1 * torch.randn(1, *shape, generator=generator),
        "pred_sheet": 0.8 * sheet,
        "pred_normals": torch.nn.functional.normalize(normals + noise, dim=0),
    }
    return item | ({"label": {"sheet": sheet, "normals": normals * sheet}} if label else {})


def run(path, batches, targets=TARGETS, **options):
    engine = Engine(lambda _engine, batch: batch)
    engine.add_event_handler(Events.STARTED, lambda e: e.state.metrics.update({"val_sheet_dice": 0.875}))
    SurfaceReportHandler(path, targets, **options).attach(engine)
    engine.run(batches, max_epochs=1)
    return path.read_text(encoding="utf-8")


def degrees(item):
    truth, prediction = (x.double().numpy() for x in (item["label"]["normals"], item["pred_normals"]))
    known = (truth != 0).any(0)
    return np.degrees(np.arccos(np.clip(np.abs((truth * prediction).sum(0)[known]), 0, 1)))


def test_page_pools_the_angles_of_all_volumes(tmp_path):
    (tmp_path / "history.jsonl").write_text(json.dumps({"epoch": 1, "train_loss": 0.5}) + "\n", encoding="utf-8")
    samples = [sample(seed) for seed in range(3)]
    page = run(
        tmp_path / "r.html",
        [samples[:2], samples[2:]],
        title="Papyrus",
        max_volumes=1,
        settings={"lr": 0.25},
        history_file=tmp_path / "history.jsonl",
        notes=["A note."],
        pictures=True,
    )
    for text in ("<h1>Papyrus</h1>", "Learning curves", "A note.", "val_sheet_dice", "<dd>0.875</dd>", "0.25"):
        assert text in page
    headings = re.findall("<h2>(.*?)</h2>", page)
    expected = ["Notes", "Learning curves", "Metrics", "Angle errors", "Slice by slice", "Directions", "Volumes"]
    assert headings == [*expected, "Settings"]
    angles = [degrees(item) for item in samples]
    pooled = np.concatenate(angles)
    cells = re.search(r"<td>normals</td>(.*?)</tr>", page).group(1)
    found = [float(cell) for cell in re.findall(r">([0-9.]+)<", cells)]
    below = [(pooled < limit).mean() for limit in (5, 10, 30)]
    assert found == pytest.approx([pooled.size, np.median(pooled), *below, 0], abs=0.06)
    assert found[0] == pooled.size == 3 * 4 * 3 * 10
    for seed, one in enumerate(angles):
        assert f'<th scope="row">volume {seed}</th><td class="number"></td>' in page
        assert f">{np.median(one):.3f}<" in page
    assert page.count("Play</button>") == 3  # two walks, and the viewer of the mask
    assert "the same for v and -v" in page
    assert sorted(file.name for file in tmp_path.glob("*.gif")) == ["volume 0_normals.gif", "volume 0_sheet.gif"]


def test_large_samples_are_cropped_and_a_second_run_counts_anew(tmp_path):
    engine = Engine(lambda _engine, batch: batch)
    handler = SurfaceReportHandler(tmp_path / "r.html", TARGETS, max_size=5, voxel_size=(2, 1, 1))
    handler.attach(engine)
    for _ in range(2):
        engine.run([[sample(0)]], max_epochs=1)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "5 × 5 × 5, the center of 6 × 8 × 10" in page
    # the angles are those of the whole sample
    assert f'<td class="number">{4 * 3 * 10}</td>' in page


def test_without_truth_and_without_vectors(tmp_path):
    page = run(tmp_path / "r.html", [[sample(0, label=False)]])
    assert "Angle errors" not in page
    assert "prediction" in page
    assert "on a slice across z, y and x: prediction" in page
    page = run(tmp_path / "s.html", [[sample(0)]], {"sheet": TARGETS["sheet"]})
    assert "Directions" not in page


def test_classes_values_and_nothing_known(tmp_path):
    item = sample(0) | {"pred_parts": torch.rand(3, *SHAPE), "pred_depth": torch.rand(1, *SHAPE)}
    item["label"] = {"parts": torch.ones(1, *SHAPE), "normals": torch.zeros(3, *SHAPE)}
    targets = TARGETS | {
        "parts": {"channels": 3, "activation": "softmax"},
        "depth": {"channels": 1, "loss": "mse"},
    }
    page = run(tmp_path / "r.html", [[item]], targets)
    assert "Angle errors" not in page
    for name in targets:
        assert f">{name}</h3>" in page


def test_an_evaluator_with_targets_as_a_batch(tmp_path):
    class Network(torch.nn.Module):
        def forward(self, x):
            return {"sheet": x, "normals": torch.cat([x, 2 * x, x], 1)}

    item = sample(3)
    row = {"image": item["image"], **item["label"], "name": "scroll <1>", "position": torch.tensor([4, 5, 6])}
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=torch.utils.data.DataLoader([row, row], batch_size=2),
        network=Network(),
        prepare_batch=TargetBatch(TARGETS),
        postprocessing=ActivateTargetsd(TARGETS),
    )
    SurfaceReportHandler(tmp_path / "r.html", TARGETS, max_volumes=1).attach(evaluator)
    evaluator.run()
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "scroll &lt;1&gt; at 4, 5, 6 <" in page
    assert "scroll &lt;1&gt; at 4, 5, 6_1<" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pred_normals": torch.zeros(3, 6, 8, 9)}, r"prediction of target 'normals' has shape \(3, 6, 8, 9\)"),
        ({"pred_sheet": torch.zeros(2, *SHAPE)}, r"prediction of target 'sheet' has shape \(2, 6, 8, 10\)"),
        ({"pred_sheet": None}, "no 'pred_sheet'; it has"),
        ({"image": torch.full((1, *SHAPE), torch.nan)}, "image of 'volume 0' has .* NaN"),
        ({"image": torch.zeros(1, 8, 10)}, "expected the same size"),
    ],
)
def test_bad_samples(tmp_path, change, message):
    with pytest.raises(InvalidInputError, match=message):
        run(tmp_path / "r.html", [[sample(0) | change]])
    assert not (tmp_path / "r.html").exists()


def test_bad_settings(tmp_path):
    for options, message in (
        ({"max_volumes": -1}, "max_volumes=-1"),
        ({"max_size": 0}, "max_size=0"),
        ({"voxel_size": (1, 1)}, "voxel_size"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            SurfaceReportHandler(tmp_path / "r.html", TARGETS, **options)
    with pytest.raises(InvalidInputError, match="is a folder"):
        SurfaceReportHandler(tmp_path, TARGETS).attach(Engine(lambda _e, _b: None))
    with pytest.raises(InvalidInputError, match=r"volumes\[0\] has the keys \['name'\]"):
        write_surface_report(tmp_path / "r.html", [{"name": "a"}])


def test_where_vectors_are_drawn():
    targets = read_targets(TARGETS)
    vectors, mask = np.zeros((3, 2, 2, 2)), np.zeros((2, 2, 2), np.uint8)
    vectors[1, 0], mask[:, 1] = 1, 1
    known = {"normals": ShownTarget(targets["normals"], vectors, vectors + 1)}
    np.testing.assert_array_equal(drawn_voxels(known, "normals"), vectors[1] == 1)
    predicted = {"normals": ShownTarget(targets["normals"], None, vectors)}
    np.testing.assert_array_equal(drawn_voxels(predicted, "normals"), vectors[1] == 1)
    masked = predicted | {"sheet": ShownTarget(targets["sheet"], None, mask)}
    np.testing.assert_array_equal(drawn_voxels(masked, "normals"), mask == 1)


class TwoTargets(torch.nn.Module):
    """Logits that are positive where the image is above 0.5, and vectors along x."""

    def forward(self, x):
        return {"sheet": 20 * (x - 0.5), "normals": torch.cat([0 * x, 0 * x, x + 1], 1)}


def volume_with_a_corner():
    image = np.zeros((24, 20, 130), np.float32)
    image[4:10, 6:12, 100:112] = 1
    return image


def two_targets(store, image, **options):
    inferer = BlockwiseInferer(
        (8, 8, 8),
        0.0,
        activations={"sheet": "sigmoid", "normals": "unit_norm"},
        chunks=(16, 16, 16),
        voxel_size=(2, 1, 1),
        progress=False,
        **options,
    )
    return inferer(image, TwoTargets(), store)


def test_blockwise_report_shows_where_the_mask_is(tmp_path):
    image = volume_with_a_corner()
    store = two_targets(tmp_path / "a.zarr", image, output_dtype="uint8")
    page = report_blockwise(
        [("first", image, store), ("second", image, store)], TARGETS, tmp_path / "r.html", max_volumes=1, max_size=16
    ).read_text(encoding="utf-8")
    # the last of three blocks along x, 66:130, has all of the mask
    assert "16 × 16 × 16, of 24 × 20 × 130, the box z 4:20, y 2:18, x 90:106" in page
    assert "2 volumes were computed; 1 of them are shown." in page
    assert page.count("Play</button>") == 3


@pytest.mark.parametrize(
    "options",
    [
        {"output_dtype": "uint8"},
        {"output_dtype": "float16"},
        {"output_dtype": {"normals": "uint8"}, "reductions": {"sheet": "threshold"}},
    ],
)
def test_stored_targets_are_decoded(tmp_path, options):
    image = volume_with_a_corner()
    store = two_targets(tmp_path / "a.zarr", image, **options)
    targets = read_targets(TARGETS)
    outputs = json.loads(lazy_settings(store))["outputs"]
    box = (slice(0, 24), slice(0, 20), slice(64, 130))
    sheet = lazy_volume.open_volume(store / "sheet")
    np.testing.assert_array_equal(
        decode_stored(targets["sheet"], sheet.read(box), outputs["sheet"]), image[..., 64:] > 0.5
    )
    normals = lazy_volume.open_volume(store / "normals").read(box)
    found = decode_stored(targets["normals"], normals, outputs["normals"])
    np.testing.assert_allclose(np.abs(found - np.array([0, 0, 1])[:, None, None, None]).max(), 0, atol=0.01)


def lazy_settings(store):
    import zarr

    return zarr.open_group(str(store), mode="r").attrs["settings"]


def test_blockwise_report_of_one_output_as_classes(tmp_path):
    network = torch.nn.Conv3d(1, 3, 1)
    image = volume_with_a_corner()
    store = BlockwiseInferer((8, 8, 8), 0.0, activations="softmax", reductions="argmax", progress=False)(
        image, network, tmp_path / "b.zarr"
    )
    targets = {"parts": {"channels": 3, "activation": "softmax"}}
    page = report_blockwise([("v", image, store)], targets, tmp_path / "r.html", max_size=12)
    assert "12 × 12 × 12, of 24 × 20 × 130, the box z 6:18, y 4:16, x 59:71" in page.read_text(encoding="utf-8")
    with pytest.raises(InvalidInputError, match="one tensor; expected one target"):
        report_blockwise([("v", image, store)], TARGETS, tmp_path / "s.html")
    with pytest.raises(InvalidInputError, match=r"is \(24, 20, 130\), but the input v is \(24, 20, 129\)"):
        report_blockwise([("v", image[..., 1:], store)], targets, tmp_path / "s.html")
    assert not (tmp_path / "s.html").exists()


def test_center_of_a_mask():
    targets = read_targets(TARGETS)
    stored = {"activation": "sigmoid", "reduction": None, "dtype": "uint8"}
    values = np.full((70, 64, 300), 127, np.uint8)
    volume = lazy_volume.open_volume(values)
    assert choose_center(volume, targets["sheet"], stored) is None
    values[0, 5, 290] = 128
    assert choose_center(volume, targets["sheet"], stored) == (32, 32, 268)
    values[69, 5, 0:2] = 128
    assert choose_center(volume, targets["sheet"], stored) == (38, 32, 32)


def test_blockwise_report_refuses_other_stores(tmp_path):
    with pytest.raises(MissingDataError, match=r"a\.zarr does not exist"):
        report_blockwise([("v", np.zeros((4, 4, 4)), tmp_path / "a.zarr")], TARGETS, tmp_path / "r.html")
    import zarr

    zarr.open_group(str(tmp_path / "b.zarr"), mode="w")
    with pytest.raises(InvalidInputError, match=r"b\.zarr is no result of BlockwiseInferer"):
        report_blockwise([("v", np.zeros((4, 4, 4)), tmp_path / "b.zarr")], TARGETS, tmp_path / "r.html")
    with pytest.raises(InvalidInputError, match="max_size=0"):
        report_blockwise([], TARGETS, tmp_path / "r.html", max_size=0)
