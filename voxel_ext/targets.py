"""What a multi-task network predicts: the targets, as configs give them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any

from voxel_ext.errors import InvalidInputError, check_option

ACTIVATION_NAMES = ("none", "sigmoid", "softmax", "unit_norm")
"""What can be applied to a target's logits, see ``voxel_ext.networks.activations``."""

VECTOR_LOSSES = ("cosine", "angular")
"""Losses that only vectors have."""

INDEX_LOSSES = ("cross_entropy", "GeneralizedWassersteinDiceLoss", "NACLLoss")
"""Losses, ours and MONAI's, whose truth is indices of classes."""

VALUE_LOSSES = ("mse", "l1", "GlobalMutualInformationLoss", "LocalNormalizedCrossCorrelationLoss", "SSIMLoss")
"""Losses that take real numbers."""

COMPONENT_ORDERS = ("zyx", "xyz")
"""Orders of the components of a vector."""


@dataclass(frozen=True)
class Target:
    """One target of a multi-task network.

    Args:
        name: key in the data, in the network's output and in the names of results.
        channels: of the target and of the logits.
        activation: "none", "sigmoid", "softmax" (over the channels) or "unit_norm" (vectors of length 1).
        weight: factor of its loss in the total, 0 or more.
        loss: name of its loss; None for the one that suits the activation: "cosine" for unit_norm, "cross_entropy" for
            softmax, "bce_dice" otherwise.
        loss_options: further arguments of the loss.
        vector: whether it is a field of vectors, whose components turn with space; None: if its activation is
            unit_norm, or its loss one of angles.
        oriented: of vectors, whether the sign counts; if not, v and -v are the same.
        component_order: of vectors, "zyx" or "xyz": the order in the files and in the results.

    Raises:
        InvalidInputError: a value of the wrong kind or out of range; names the target and the key.
    """

    name: str
    channels: int
    activation: str = "none"
    weight: float = 1.0
    loss: str | None = None
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    vector: bool | None = None
    oriented: bool = True
    component_order: str = "zyx"

    def __post_init__(self) -> None:
        place = f"targets#{self.name}"
        if not isinstance(self.channels, Integral) or isinstance(self.channels, bool) or self.channels < 1:
            raise InvalidInputError(f"{place}#channels={self.channels!r}; expected a whole number of at least 1")
        check_option(f"{place}#activation", self.activation, ACTIVATION_NAMES)
        check_option(f"{place}#component_order", self.component_order, COMPONENT_ORDERS)
        if not isinstance(self.weight, Real) or not self.weight >= 0:
            raise InvalidInputError(f"{place}#weight={self.weight!r}; expected a number of at least 0")
        if not isinstance(self.loss_options, Mapping):
            raise InvalidInputError(f"{place}#loss_options={self.loss_options!r}; expected a mapping")
        if self.is_vector and self.channels != 3:
            raise InvalidInputError(f"{place}#channels={self.channels}; vectors in space have 3 components")
        if self.activation == "softmax" and self.channels < 2:
            raise InvalidInputError(f"{place}#channels={self.channels}; softmax needs at least 2 classes")

    @property
    def is_vector(self) -> bool:
        """Whether it is a field of vectors."""
        if self.vector is not None:
            return bool(self.vector)
        return self.activation == "unit_norm" or self.loss in VECTOR_LOSSES

    @property
    def kind(self) -> str:
        """What its values are: "vectors", "classes", "mask" or "values" (real numbers), by activation and loss."""
        if self.is_vector or self.loss_name in VECTOR_LOSSES:
            return "vectors"
        if self.activation == "softmax" or self.loss_name in INDEX_LOSSES:
            return "classes"
        return "values" if self.activation in ("none", "unit_norm") and self.loss_name in VALUE_LOSSES else "mask"

    @property
    def loss_name(self) -> str:
        """The loss by name, the default one where none is given."""
        defaults = {"unit_norm": "cosine", "softmax": "cross_entropy"}
        return self.loss or defaults.get(self.activation, "bce_dice")


def read_targets(targets: Mapping[str, Mapping[str, Any] | Target]) -> dict[str, Target]:
    """Read the targets of a config.

    Args:
        targets: by name, each a mapping with ``channels`` and other arguments of :class:`Target`, or one of these.

    Returns:
        the targets by name, in the same order.

    Raises:
        InvalidInputError: there are none, one lacks ``channels``, or has an unknown key or a wrong value.
    """
    if not isinstance(targets, Mapping) or not targets:
        raise InvalidInputError(
            f"targets={targets!r}; expected a mapping such as {{'sheet': {{'channels': 1, 'activation': 'sigmoid'}}}}"
        )
    return {str(name): _read_target(str(name), given) for name, given in targets.items()}


def _read_target(name: str, given: Any) -> Target:
    if isinstance(given, Target):
        return given
    if not isinstance(given, Mapping):
        raise InvalidInputError(f"targets#{name}={given!r}; expected a mapping with channels")
    known = [one.name for one in fields(Target) if one.name != "name"]
    for key in given:
        check_option(f"key of targets#{name}", key, known)
    if "channels" not in given:
        raise InvalidInputError(f"targets#{name} has no channels; expected e.g. {{'channels': 1}}, found {dict(given)}")
    return Target(name, **given)


def activations(targets: Mapping[str, Mapping[str, Any] | Target]) -> dict[str, str]:
    """Return the activation of each target, as an inferer takes them."""
    return {name: target.activation for name, target in read_targets(targets).items()}


def storage_types(targets: Mapping[str, Mapping[str, Any] | Target]) -> dict[str, str]:
    """Return the type to store each target's predictions in: uint8 where the activation bounds them, else float16."""
    return {
        name: "float16" if target.activation == "none" else "uint8" for name, target in read_targets(targets).items()
    }


def component_orders(targets: Mapping[str, Mapping[str, Any] | Target]) -> dict[str, str]:
    """Return the order of the components of each target that is a vector field."""
    return {name: target.component_order for name, target in read_targets(targets).items() if target.is_vector}
