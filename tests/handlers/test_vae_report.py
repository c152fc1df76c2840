import re

import numpy as np
import pytest
import torch
from ignite.engine import Engine

pytest.importorskip("matplotlib")
pytest.importorskip("plotly")

from voxel_ext.errors import InvalidInputError
from voxel_ext.handlers import VAEReportHandler
from voxel_ext.networks.nets import ShapeVAE

CLASSES = ("ball", "rod")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ShapeVAE(1, size=8, latent_size=3, filters=(2, 4), anisotropic_levels=0)


def batches(count=6, channels=1, classes=True):
    """Blocks of random size, two in a batch."""
    rng = np.random.default_rng(0)
    for start in range(0, count, 2):
        image = torch.zeros(2, channels, 8, 8, 8)
        for one in image:
            z, y, x = rng.integers(3, 8, 3)
            one[:, :z, :y, :x] = 1
        batch = {"image": image, "id": torch.arange(start, start + 2) + 10, "chunk": torch.tensor([0, start % 4])}
        yield batch | ({"class": torch.tensor([0, 1])} if classes else {})


def run(path, network, data, **options):
    kept = []

    def step(engine, batch):
        network.eval()
        with torch.no_grad():
            pred = network(batch["image"])
        kept.append(pred)
        engine.state.metrics["val_l1"] = 0.25
        return {"image": batch["image"], "label": batch["image"], "pred": pred}

    engine = Engine(step)
    VAEReportHandler(path, network, **options).attach(engine)
    engine.run(list(data), max_epochs=1)
    return path.read_text(encoding="utf-8"), {key: torch.cat([one[key] for one in kept]) for key in kept[0]}


def test_page_shows_objects_codes_and_figures(tmp_path, network):
    (tmp_path / "history.jsonl").write_text('{"epoch": 1, "val_loss": 0.5}\n{"epoch": 2, "val_loss": 0.4}\n')
    page, output = run(
        tmp_path / "report.html",
        network,
        batches(),
        class_names=CLASSES,
        title="A title",
        settings={"beta": 0.125},
        history_file=tmp_path / "history.jsonl",
    )
    for words in (
        "A title",
        "val_l1",
        "0.125",
        "learning curves",
        "Objects ball 10, rod 11, ball 12",
        "Interpolation between codes",
        "Traversal of the code",
    ):
        assert words in page
    mean, spread = output["mean"], output["log_variance"]
    total = float(((mean**2 + spread.exp() - spread - 1) / 2).sum(1).mean())
    assert f"{total:.1f} nats in all" in page
    # parts of objects are measured, but not shown
    assert "rod 13" not in page
    assert page.count('src="data:image/png;base64,') >= 4
    assert not re.search(r'(src|href)="https?:', page)


def test_table_has_the_errors_of_each_class(tmp_path, network):
    page, output = run(tmp_path / "report.html", network, batches(), class_names=CLASSES)
    images = torch.cat([batch["image"] for batch in batches()])
    errors = (output["reconstruction"] - images).abs().mean((1, 2, 3, 4))
    others = (
        (output["reconstruction"].reshape(3, 2, 1, 8, 8, 8).flip(1).flatten(0, 1) - images).abs().mean((1, 2, 3, 4))
    )
    found, true = output["reconstruction"][:, 0] > 0.5, images[:, 0] > 0.5
    dice = 2 * (found & true).sum((1, 2, 3)) / (found.sum((1, 2, 3)) + true.sum((1, 2, 3)))
    for index, name in enumerate(CLASSES):
        (row,) = re.findall(rf'<th scope="row">{name}</th>(.*?)</tr>', page)
        cells = re.findall(r'<td class="number">(.*?)</td>', row)
        assert cells[0] == "3"
        expected = [float(values[index::2].mean()) for values in (errors, others, dice)]
        assert [float(cell) for cell in cells[1:]] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("contents", ["masked_image", "both"])
def test_contents_with_the_image(tmp_path, contents):
    channels = 2 if contents == "both" else 1
    network = ShapeVAE(channels, size=8, latent_size=2, filters=(2, 4), anisotropic_levels=0)
    page, _ = run(tmp_path / "report.html", network, batches(4, channels), contents=contents, class_names=CLASSES)
    assert ("Dice" in page) == (contents == "both")
    assert "Interpolation" in page


def test_without_classes_or_objects_to_show(tmp_path, network):
    page, _ = run(tmp_path / "report.html", network, batches(4, classes=False))
    assert "object 10" in page
    assert "Interpolation" in page
    page, _ = run(tmp_path / "report.html", network, batches(4), max_objects=0)
    assert "Traversal" not in page
    assert "class 0" in page


def test_at_most_so_many_objects_of_all_classes(tmp_path, network):
    page, _ = run(tmp_path / "report.html", network, batches(6), class_names=CLASSES, max_objects=2)
    assert "Objects ball 10, rod 11" in page
    assert "ball 12" not in page


def test_bad_input(tmp_path, network):
    with pytest.raises(InvalidInputError, match="max_report_objects=-1"):
        VAEReportHandler(tmp_path / "report.html", network, max_objects=-1)
    with pytest.raises(InvalidInputError, match="contents='masks'"):
        VAEReportHandler(tmp_path / "report.html", network, contents="masks")
    engine = Engine(lambda _engine, batch: {"pred": {"reconstruction": batch["image"]}})
    VAEReportHandler(tmp_path / "report.html", network).attach(engine)
    with pytest.raises(InvalidInputError, match="no 'mean'"):
        engine.run(list(batches(2)), max_epochs=1)
