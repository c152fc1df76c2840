import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from voxel_ext.errors import InvalidInputError
from voxel_ext.visualize import write_report
from voxel_ext.visualize.viewer import viewer_frames


class Page(HTMLParser):
    """Tags, texts and scripts of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts, self.scripts, self.styles, self._in = [], [], [], [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in = tag

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        {"script": self.scripts, "style": self.styles}.get(self._in, self.texts).append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def attributes(self, *names):
        return [value for _, attrs in self.tags for name, value in attrs.items() if name in names]


@pytest.fixture
def full(tmp_path, ball):
    image, truth, prediction = ball
    path = write_report(
        tmp_path / "new" / "report.html",
        "<script>alert(1)</script> & $title ${style}",
        settings={"seed": 0, "optimizer": {"name": "Adam", "lr": 0.00012345}, "<i>": "</td><img src=x>", "none": {}},
        history=[{"epoch": e, "train_loss": 1 / e, "<u>": e} for e in (1, 2)],
        metrics={"iou": 0.51234, "<b>": float("nan")},
        metric_rows=[{"name": "one </script>", "iou": 0.25}, {"iou": 0.75, "dice": 0.9}],
        volumes=[
            {"name": "one </script><b>", "image": image, "truth": truth, "prediction": prediction},
            {"name": "plane", "image": image[5], "prediction": prediction[5]},
            {"name": "bare", "image": image, "voxel_size": (2, 1, 1)},
        ],
        notes=["a <em>note</em>"],
    )
    return path, Page(path)


def test_everything_is_on_the_page(full):
    _, page = full
    for text in ("a <em>note</em>", "optimizer::lr 0.00012345", "optimizer::name Adam", "iou 0.512", "n/a", "0.250"):
        assert text in page.text
    for text in ("all volumes", "volume 1", "12 × 20 × 28", "20 × 28", "train_loss", "none {}"):
        assert text in page.text
    assert page.text.startswith("<script>alert(1)</script> & $title ${style}")


def test_what_the_user_gives_never_becomes_markup(full):
    _, page = full
    tags = [tag for tag, _ in page.tags]
    assert not {"i", "b", "u", "em"} & set(tags)
    assert {"src": "x"} not in [attrs for _, attrs in page.tags]
    # plotly, 1 scene, 3 viewers, the page's own; the third volume is beyond the scenes
    assert tags.count("script") == 6
    assert not any("alert(1)" in script for script in page.scripts)


def test_needs_no_network(full):
    _, page = full
    assert all(value.startswith(("data:", "#")) for value in page.attributes("src", "href", "xlink:href", "action"))
    assert not any(re.search(r"@import|url\((?!#)", style) for style in page.styles)
    own = [script for script in page.scripts if "plotly.js v" not in script[:200]]
    assert len(own) == len(page.scripts) - 1
    assert not any(re.search(r"https?:|fetch\(|XMLHttpRequest|import\(|cdn", script) for script in own)
    assert "cdn.plot.ly" not in "".join(page.attributes("src"))
    # the button of plotly that sends data away is off
    assert sum('"showSendToCloud": false' in script for script in own) == 1


def test_every_picture_has_an_alternative_text_and_decodes(full):
    _, page = full
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == (3 + 1) + (2 + 1) + (1 + 1)
    for attrs in pictures:
        assert attrs["alt"]
        assert decode(attrs["src"], "RGBA").size


def test_sliders_cover_the_slices(full):
    _, page = full
    ranges = [attrs["max"] for tag, attrs in page.tags if tag == "input" and attrs["type"] == "range"]
    assert ranges == ["11", "0", "11"]
    frames = [json.loads(script) for script in page.scripts if script.startswith('{"slices"')]
    assert [len(frame["image"]) for frame in frames] == [12, 1, 12]
    assert frames[0]["slices"] == list(range(12))
    assert [set(frame) - {"slices", "start", "image"} for frame in frames] == [
        {"truth", "prediction"},
        {"prediction"},
        set(),
    ]


def decode(url, mode):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert(mode))


def test_layers_are_where_the_masks_are(ball):
    image, truth, prediction = ball
    frames = viewer_frames(image, {"truth": truth, "prediction": prediction.astype(np.int32)}, (1, 1, 1))
    for index in (0, 5, 8):
        for name, labels in (("truth", truth), ("prediction", prediction)):
            layer = decode(frames[name][index], "RGBA")
            np.testing.assert_array_equal(layer[..., 3] > 0, labels[index] > 0)
    gray = decode(frames["image"][5], "L").astype(float)
    assert gray[labels[5] & (truth[5] > 0)].mean() > gray[truth[5] == 0].mean() + 80
    fullest = ((truth > 0).sum(axis=(1, 2)) + prediction.sum(axis=(1, 2))).argmax()
    assert frames["start"] == fullest


def test_large_volumes_are_thinned():
    frames = viewer_frames(np.random.default_rng(0).random((200, 500, 30)).astype(np.float32), {}, (1, 1, 1))
    assert len(frames["image"]) == 96
    assert frames["slices"][-1] <= 199
    assert max(decode(frames["image"][0], "L").shape) <= 384


def test_rows_alone_are_averaged_where_defined(tmp_path):
    path = write_report(
        tmp_path / "r.html",
        "t",
        metric_rows=[{"name": "a", "iou": 0.2}, {"name": "b", "iou": 0.6}, {"iou": float("nan")}],
    )
    text = Page(path).text
    assert "iou 0.400" in text
    assert "all volumes 0.400 a 0.200 b 0.600 volume 2 n/a" in text


def test_long_settings_are_folded_and_searchable(tmp_path):
    path = write_report(tmp_path / "r.html", "t", settings={f"key{i}": i for i in range(40)})
    tags = [tag for tag, _ in Page(path).tags]
    assert "details" in tags
    assert "search" in Page(path).attributes("type")


def test_without_3d_there_is_no_plotly(tmp_path, ball):
    path = write_report(tmp_path / "r.html", "t", volumes=[{"name": "plane", "image": ball[0][0]}])
    assert path.stat().st_size < 1_000_000


def test_empty_masks_and_constant_volumes(tmp_path):
    volume = np.ones((5, 6, 7))
    path = write_report(
        tmp_path / "r.html",
        "t",
        volumes=[{"name": "v", "image": volume, "truth": volume * 0, "prediction": volume > 2}],
    )
    assert "the prediction is empty" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (
            {"name": "v", "image": np.ones((2, 3, 4)), "truth": np.ones((2, 3))},
            r"truth of volume 'v' has shape \(2, 3\)",
        ),
        ({"name": "v", "image": np.full((2, 3), np.nan)}, "image of volume 'v' has 6 values that are NaN"),
        ({"name": "v"}, r"volumes\[0\] has the keys \['name'\]"),
        ({"name": "v", "image": np.ones((2, 3)), "mask": 1}, "prediction"),
    ],
)
def test_bad_volumes_leave_the_previous_report(tmp_path, volume, message):
    path = tmp_path / "report.html"
    path.write_text("before")
    with pytest.raises(InvalidInputError, match=message):
        write_report(path, "t", volumes=[volume])
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
