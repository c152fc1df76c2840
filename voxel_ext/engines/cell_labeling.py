"""From the class probabilities of an animal's ROIs to names, and the files of an inference."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import Transform
from monai.utils import CommonKeys, convert_data_type

from voxel_ext.data.cell_labeling_dataset import check_same_classes
from voxel_ext.data.cell_labeling_file import read_cell_header
from voxel_ext.data.neuron_names import BACKGROUND, read_class_names
from voxel_ext.errors import InvalidInputError, MissingDataError, check_option
from voxel_ext.files import read_json
from voxel_ext.labeling import (
    LabelRules,
    RoiProbabilities,
    label_greedy,
    label_optimal,
    rare_classes,
    write_labels,
    write_probabilities,
)
from voxel_ext.visualize.labeled_projection import LabeledAnimal

logger = logging.getLogger(__name__)

ASSIGNMENTS = ("greedy", "optimal")
_ROI_ITEMS = ("roi_ids", "probabilities", "sizes", "centers", "confident_counts")


def class_counts(files: Sequence[str | os.PathLike[str]]) -> dict[str, int]:
    """Count how many ROIs of prepared animals are labeled with each class.

    Args:
        files: prepared animals of the same classes.

    Returns:
        the count of each class, background left out, also where it is 0.

    Raises:
        InvalidInputError: no files; classes or channels that differ; a damaged file.
    """
    names, _ = check_same_classes(files)
    counts: Counter[str] = Counter()
    for file in files:
        counts.update(names[number] for number in read_cell_header(file).roi_class.tolist() if number)
    return {name: counts[name] for name in names[1:]}


def trained_classes(ckpt_dir: str | os.PathLike[str], class_names_file: str = "") -> dict[str, int | None]:
    """Return the classes that a network tells apart, in the order of its channels after the background.

    Args:
        ckpt_dir: folder of the checkpoints, where training left ``settings.json`` with the number of examples.
        class_names_file: a text file with one name a line instead, for weights that come without settings.

    Returns:
        name -> how many ROIs training had with it; None where that is not known.

    Raises:
        MissingDataError: there is neither.
        InvalidInputError: the settings have no classes, or the file of names cannot be used.
    """
    if class_names_file:
        names = read_class_names(class_names_file)
        return dict.fromkeys(name for name in names if name != BACKGROUND)
    file = Path(ckpt_dir) / "settings.json"
    if not file.is_file():
        raise MissingDataError(
            f"{file} does not exist, so the names of the classes are not known; train first, or give class_names_file, "
            "a text file with one name a line in the order of the network's channels"
        )
    try:
        settings = read_json(file, dict, "a settings file")
        return {str(name): int(count) for name, count in settings["class_counts"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InvalidInputError(f"{file} has no usable class_counts ({error!r}); train with this bundle") from error


def label_channels(ckpt_dir: str | os.PathLike[str], class_names_file: str, untrained: int) -> int:
    """Return the number of a network's channels: the background and the classes that it tells apart.

    Args:
        ckpt_dir: see :func:`trained_classes`.
        class_names_file: see :func:`trained_classes`.
        untrained: the number where there is neither, to look at the network without weights; the metadata's.

    Raises:
        InvalidInputError: the settings have no classes, or the file of names cannot be used.
    """
    if not class_names_file and not (Path(ckpt_dir) / "settings.json").is_file():
        return untrained
    return 1 + len(trained_classes(ckpt_dir, class_names_file))


def check_classes(names: Iterable[str], ckpt_dir: str | os.PathLike[str]) -> None:
    """Refuse data whose classes are not those that the network was trained with, in the same order.

    Args:
        names: classes of the data, without the background.
        ckpt_dir: folder of the checkpoints; without ``settings.json``, as for converted weights, nothing is known.

    Raises:
        InvalidInputError: the classes differ (says where first), or the settings cannot be used.
    """
    if not (Path(ckpt_dir) / "settings.json").is_file():
        logger.warning("%s has no settings.json: the order of the classes cannot be checked", ckpt_dir)
        return
    given, trained = list(names), list(trained_classes(ckpt_dir))
    if given != trained:
        pairs = itertools.zip_longest(given, trained, fillvalue="nothing")
        at, (first, second) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        raise InvalidInputError(
            f"the data has {len(given)} classes and the network in {ckpt_dir} was trained with {len(trained)}: class "
            f"{at + 1} is {first!r} in the data and {second!r} in the training; prepare the data with the names of the "
            "training (class_names_file)"
        )


def check_class_names(checkpoint: str | os.PathLike[str], class_names: Sequence[str]) -> None:
    """Refuse names whose number is not that of the channels that a network's weights give.

    Args:
        checkpoint: weights of one of the 3D U-Nets.
        class_names: of the channels, the background first.

    Raises:
        MissingDataError: there is no such file.
        CheckpointError: it cannot be read.
        InvalidInputError: the numbers differ.
    """
    from voxel_ext.handlers.weights import read_weights

    last = read_weights(checkpoint).get("final_conv.weight")
    if last is not None and len(last) != len(class_names):
        raise InvalidInputError(
            f"{checkpoint} tells {len(last)} classes apart, the background included, but there are "
            f"{len(class_names)} names with it; give class_names_file with the names of its training, one a line"
        )


def rarely_seen(classes: Mapping[str, int | None], min_examples: int) -> tuple[str, ...]:
    """Return the classes that training saw fewer than ``min_examples`` times; none where the counts are not known."""
    return rare_classes({name: count for name, count in classes.items() if count is not None}, min_examples)


class LabelCellsd(Transform):
    """Give every ROI of an animal a name, in both ways, from the output of a :class:`~voxel_ext.inferers.RoiInferer`.

    It adds ``labeling``, a :class:`~voxel_ext.visualize.LabeledAnimal` with the labels, the probabilities and what is
    known of the truth: ``true_class`` where it is given, else the annotation ``roi_class``. These are named after the
    animal's own file (item ``path``) if there is one, which may have other classes than the network.

    Args:
        class_names: of the K channels of the network, the background first.
        channels: names of the image's channels.
        rare: names that training saw too rarely to be trusted; their confidence is at most 2.
        voxel_size: µm along (z, y, x), for pictures.
        pred_key: item with the output of the inferer.
        rules: further arguments of :func:`~voxel_ext.labeling.label_greedy`, used by
            :func:`~voxel_ext.labeling.label_optimal` as far as it has them.

    Raises:
        InvalidInputError: a rule has an unknown name.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        channels: Sequence[str],
        rare: Sequence[str] = (),
        voxel_size: Sequence[float] | None = None,
        pred_key: str = CommonKeys.PRED,
        **rules: Any,
    ) -> None:
        shared = [rule.name for rule in dataclasses.fields(LabelRules) if rule.name != "rare_classes"]
        for name in rules:
            check_option("rule", name, ["max_distance", "max_probability_decrease", *shared])
        self.class_names = list(class_names)
        self.channels = list(channels)
        self.voxel_size = voxel_size
        self.pred_key = pred_key
        self.rules = {**rules, "rare_classes": tuple(rare)}
        self.shared_rules = {name: self.rules[name] for name in (*shared, "rare_classes") if name in self.rules}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with ``labeling``.

        Raises:
            InvalidInputError: the network has another number of classes than there are names, or a rule is out of
                range.
        """
        pred = data[self.pred_key]
        rois = RoiProbabilities(**{name: convert_data_type(pred[name], np.ndarray)[0] for name in _ROI_ITEMS})
        if rois.probabilities.shape[1] != len(self.class_names):
            raise InvalidInputError(
                f"the network has {rois.probabilities.shape[1]} classes, but there are {len(self.class_names)} class "
                "names, the background included; give the names it was trained with"
            )
        animal = LabeledAnimal(
            name=str(data["name"]),
            image=convert_data_type(data[CommonKeys.IMAGE], np.ndarray)[0],
            channels=self.channels,
            roi=convert_data_type(data["roi"], np.ndarray)[0][0],
            greedy=label_greedy(rois, self.class_names, **self.rules),
            optimal=label_optimal(rois, self.class_names, **self.shared_rules),
            truth=self._truth(data),
            rois=rois,
            voxel_size=self.voxel_size,
        )
        return {**data, "labeling": animal}

    def _truth(self, data: Mapping[Hashable, Any]) -> dict[int, str] | None:
        classes = next((data[key] for key in ("true_class", "roi_class") if key in data and data[key].any()), None)
        if classes is None:
            return None
        names = read_cell_header(data["path"]).class_names if "path" in data else self.class_names
        pairs = zip(data["roi_ids"].tolist(), classes.tolist(), strict=True)
        return {roi: names[number] for roi, number in pairs if number}


class SaveLabelsd(Transform):
    """Write the labels of an animal as ``<name>.csv`` and, if asked for, all probabilities as ``<name>.npz``.

    Args:
        output_dir: the folder to write to.
        class_names: of the network's channels, the background first.
        assignment: "greedy" or "optimal".
        probabilities: also write the probability of every class of every ROI.

    Raises:
        InvalidInputError: the assignment is neither.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        class_names: Sequence[str],
        assignment: str = "greedy",
        probabilities: bool = False,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.assignment = check_option("assignment", assignment, ASSIGNMENTS)
        self.probabilities = probabilities

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        """Write the files and return ``data``.

        Raises:
            OSError: the folder cannot be written to.
        """
        animal: LabeledAnimal = data["labeling"]
        labels = animal.greedy if self.assignment == "greedy" else animal.optimal
        assert labels is not None  # as LabelCellsd makes them
        assert animal.rois is not None
        write_labels(self.output_dir / f"{animal.name}.csv", labels)
        if self.probabilities:
            write_probabilities(self.output_dir / f"{animal.name}.npz", animal.rois, self.class_names)
        logger.info("%s: %d ROIs -> %s.csv", animal.name, len(labels), self.output_dir / animal.name)
        return data
