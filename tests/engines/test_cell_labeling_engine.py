"""Classes of a training, names of the ROIs of an animal, and the files of an inference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose

from voxel_ext.data import LoadCellVolumed
from voxel_ext.data.cell_labeling_file import CellVolume, write_cell_volume
from voxel_ext.engines import (
    LabelCellsd,
    SaveLabelsd,
    check_classes,
    class_counts,
    prepare_roi_batch,
    rarely_seen,
    trained_classes,
)
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.inferers import RoiInferer
from voxel_ext.labeling import RoiProbabilities, label_greedy, label_optimal, read_labels, read_probabilities

NAMES = ["background", "AVAL", "AVAR", "DVA"]
IDS = (2, 5, 9)
SIZE = (3, 4, 6)


def roi_volume() -> np.ndarray:
    roi = np.zeros(SIZE, np.int32)
    roi[:, :2, :2], roi[:, 2:, :2], roi[:, :, 4:] = IDS
    return roi


def animal_file(path: Path, classes: tuple[int, ...], names: tuple[str, ...] = tuple(NAMES), **changes: Any) -> Path:
    ones = np.ones(3, np.float32)
    fields: dict[str, Any] = {
        "raw": np.zeros((1, *SIZE), np.float32), "roi": roi_volume(), "roi_ids": IDS, "roi_class": classes,
        "roi_weight": ones, "roi_other_weight": ones, "roi_confidence": [3 * (c > 0) for c in classes],
        "class_names": names, "channels": ("TagRFP",),
    }  # fmt: skip
    return write_cell_volume(path, CellVolume(**fields | changes))


def probabilities() -> RoiProbabilities:
    """The two first ROIs compete for AVAL, which the greedy way gives to the first."""
    p = np.array([[0.02, 0.6, 0.37, 0.01], [0.03, 0.55, 0.02, 0.4], [0.0, 0.0, 0.005, 0.995]])
    return RoiProbabilities(
        roi_ids=np.array(IDS),
        probabilities=p,
        sizes=np.array([12, 12, 24]),
        centers=np.array([[1, 0.5, 0.5], [1, 2.5, 0.5], [1, 1.5, 4.5]]),
        confident_counts=np.array([[0, 8, 2, 0], [0, 6, 0, 4], [0, 0, 0, 24]]),
    )


def item(**changes: Any) -> dict[Any, Any]:
    """What the postprocessing gets of one animal."""
    rois = probabilities()
    fields = ("roi_ids", "probabilities", "sizes", "centers", "confident_counts")
    return {
        "name": "worm",
        "image": MetaTensor(torch.rand(1, *SIZE)),
        "roi": MetaTensor(torch.from_numpy(roi_volume())[None]),
        "roi_ids": torch.tensor(IDS),
        "roi_class": torch.tensor([1, 0, 3]),
        "true_class": torch.zeros(3, dtype=torch.int64),
        "pred": {name: torch.from_numpy(getattr(rois, name)) for name in fields},
        **changes,
    }


def test_class_counts(tmp_path: Path) -> None:
    files = [animal_file(tmp_path / "a.h5", (1, 0, 3)), animal_file(tmp_path / "b.h5", (3, 0, 0))]
    counts = class_counts(files)
    assert counts == {"AVAL": 1, "AVAR": 0, "DVA": 2}
    assert list(counts) == NAMES[1:]


def test_class_counts_of_what_is_not_the_same(tmp_path: Path) -> None:
    files = [animal_file(tmp_path / "a.h5", (1, 0, 3)), animal_file(tmp_path / "b.h5", (1, 0, 0), ("background", "X"))]
    with pytest.raises(InvalidInputError, match=r"b\.h5 have different class_names \(4 and 2\)"):
        class_counts(files)
    with pytest.raises(InvalidInputError, match="expected at least one file"):
        class_counts([])
    with pytest.raises(MissingDataError, match=r"none\.h5"):
        class_counts([tmp_path / "none.h5"])


def test_trained_classes(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(json.dumps({"seed": 1, "class_counts": {"DVA": 2, "AVAL": 0}}))
    assert list(trained_classes(tmp_path).items()) == [("DVA", 2), ("AVAL", 0)]
    names = tmp_path / "names.txt"
    names.write_text("background\nAVAR # right\n\nAVAL\n")
    assert list(trained_classes(tmp_path / "nowhere", str(names)).items()) == [("AVAR", None), ("AVAL", None)]


@pytest.mark.parametrize("text", ["{}", "[]", "3", "not JSON", '{"class_counts": [1]}', '{"class_counts": {"A": "x"}}'])
def test_trained_classes_of_damaged_settings(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(InvalidInputError, match=r"settings\.json has no usable class_counts"):
        trained_classes(tmp_path)


def test_classes_of_another_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_classes(["AVAL"], tmp_path)
    assert "cannot be checked" in caplog.text
    (tmp_path / "settings.json").write_text(json.dumps({"class_counts": {"AVAL": 2, "AVAR": 0}}))
    check_classes(["AVAL", "AVAR"], tmp_path)
    with pytest.raises(InvalidInputError, match="class 1 is 'AVAR' in the data and 'AVAL' in the training"):
        check_classes(["AVAR", "AVAL"], tmp_path)
    with pytest.raises(InvalidInputError, match="class 2 is 'nothing' in the data and 'AVAR' in the training"):
        check_classes(["AVAL"], tmp_path)


def test_trained_classes_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"settings\.json does not exist.*train first, or give class_names_file"):
        trained_classes(tmp_path)
    with pytest.raises(MissingDataError, match=r"none\.txt does not exist"):
        trained_classes(tmp_path, str(tmp_path / "none.txt"))


def test_rarely_seen() -> None:
    classes = {"AVAR": 2, "AVAL": 0, "DVA": 3, "AVL": None}
    assert rarely_seen(classes, 3) == ("AVAL", "AVAR")
    assert rarely_seen(classes, 0) == ()
    assert rarely_seen(dict.fromkeys(classes), 100) == ()


@pytest.mark.parametrize(
    "rules", [{}, {"max_probability_decrease": 0.1, "ambiguity_threshold": 0.5}, {"contamination_voxels": 3}]
)
def test_names_in_both_ways(rules: dict[str, Any]) -> None:
    data = item()
    result = LabelCellsd(NAMES, ["TagRFP"], ["DVA"], (0.5, 0.25, 0.25), **rules)(data)
    animal = result["labeling"]
    common = {name: value for name, value in rules.items() if name != "max_probability_decrease"}
    assert animal.greedy == label_greedy(probabilities(), NAMES, rare_classes=["DVA"], **rules)
    assert animal.optimal == label_optimal(probabilities(), NAMES, rare_classes=["DVA"], **common)
    assert next(label for label in animal.greedy if label.roi_id == 9).confidence == 2  # 5 but for its rarity
    assert animal.name == "worm"
    assert animal.channels == ["TagRFP"]
    assert animal.voxel_size == (0.5, 0.25, 0.25)
    np.testing.assert_array_equal(animal.image, data["image"])
    np.testing.assert_array_equal(animal.roi, roi_volume())
    np.testing.assert_array_equal(animal.rois.probabilities, probabilities().probabilities)
    assert "labeling" not in data
    assert set(result) == {*data, "labeling"}


def test_truth() -> None:
    label = LabelCellsd(NAMES, ["TagRFP"])
    assert label(item())["labeling"].truth == {2: "AVAL", 9: "DVA"}
    assert label(item(true_class=torch.tensor([1, 2, 0])))["labeling"].truth == {2: "AVAL", 5: "AVAR"}
    assert label(item(roi_class=torch.zeros(3, dtype=torch.int64)))["labeling"].truth is None
    without = item()
    del without["true_class"], without["roi_class"]
    assert label(without)["labeling"].truth is None


def test_truth_is_named_by_the_file_whose_classes_may_be_others(tmp_path: Path) -> None:
    file = animal_file(tmp_path / "a.h5", (4, 0, 1), ("background", "DVA", "AVL", "AVAL", "RMDγ"))
    data = item(path=str(file), roi_class=torch.tensor([4, 0, 1]))
    assert LabelCellsd(NAMES, ["TagRFP"])(data)["labeling"].truth == {2: "RMDγ", 9: "DVA"}


def test_wrong_names_and_rules() -> None:
    with pytest.raises(InvalidInputError, match=r"the network has 4 classes, but there are 3 class names"):
        LabelCellsd(NAMES[:3], ["TagRFP"])(item())
    for rule in ("max_distanc", "rare_classes", "rois"):
        with pytest.raises(InvalidInputError, match=rf"rule='{rule}'|rule.*'{rule}'"):
            LabelCellsd(NAMES, ["TagRFP"], **{rule: 1})
    with pytest.raises(InvalidInputError, match="min_probability=2"):
        LabelCellsd(NAMES, ["TagRFP"], min_probability=2)(item())


@pytest.mark.parametrize("assignment", ["greedy", "optimal"])
def test_files_of_an_animal(tmp_path: Path, assignment: str) -> None:
    data = LabelCellsd(NAMES, ["TagRFP"])(item())
    labels = getattr(data["labeling"], assignment)
    folder = tmp_path / "new"
    assert SaveLabelsd(folder, NAMES, assignment, probabilities=True)(data) is data
    assert sorted(path.name for path in folder.iterdir()) == ["worm.csv", "worm.npz"]
    saved = [(label.neuron_class, label.roi_id, label.confidence) for label in read_labels(folder / "worm.csv", NAMES)]
    assert saved == [(label.neuron_class, label.roi_id, label.confidence) for label in labels]
    rois, names = read_probabilities(folder / "worm.npz")
    assert names == NAMES
    np.testing.assert_array_equal(rois.probabilities, probabilities().probabilities)
    np.testing.assert_array_equal(rois.roi_ids, IDS)


def test_both_ways_differ_and_probabilities_are_optional(tmp_path: Path) -> None:
    data = LabelCellsd(NAMES, ["TagRFP"], max_distance=1.0)(item())
    SaveLabelsd(tmp_path / "a", NAMES)(data)
    SaveLabelsd(tmp_path / "b", NAMES, "optimal")(data)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["worm.csv"]
    assert (tmp_path / "a" / "worm.csv").read_text() != (tmp_path / "b" / "worm.csv").read_text()
    with pytest.raises(InvalidInputError, match="Did you mean 'optimal'"):
        SaveLabelsd(tmp_path, NAMES, "optimum")


def test_from_a_file_to_a_table(tmp_path: Path) -> None:
    """Items with an entry per ROI, the name and the path survive a data loader and the engine."""
    names = ("background", "DVA", "AVL", "AVAL")
    file = animal_file(tmp_path / "worm.h5", (3, 0, 1), names, raw=np.ones((1, *SIZE), np.float32))
    network = torch.nn.Conv3d(1, 4, 1)
    torch.nn.init.zeros_(network.weight)
    network.bias = torch.nn.Parameter(torch.tensor([0.0, 0.0, 0.0, 9.0]))
    evaluator = SupervisedEvaluator(
        torch.device("cpu"),
        DataLoader(Dataset([{"path": str(file)}], LoadCellVolumed()), batch_size=1),
        network,
        prepare_batch=prepare_roi_batch,
        inferer=RoiInferer(),
        postprocessing=Compose([LabelCellsd(NAMES, ["TagRFP"], max_distance=0), SaveLabelsd(tmp_path, NAMES)]),
    )
    evaluator.run()
    assert isinstance(evaluator.state.output, list)
    (output,) = evaluator.state.output
    assert output["labeling"].truth == {2: "AVAL", 9: "DVA"}
    assert read_labels(tmp_path / "worm.csv", NAMES)[0].neuron_class == "DVA"
