"""What lifting and group convolutions share: filters, their expansion and its cache, and the checks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from voxel_ext.errors import InvalidInputError, check_option
from voxel_ext.networks.groups import RotationGroup, rotation_group
from voxel_ext.networks.layers.conv_geometry import check_at_least, resolve_padding, uneven_axis
from voxel_ext.networks.layers.filter_expansion import expand_filters, expansion_index, gather_filters
from voxel_ext.networks.layers.folded_conv import FoldedConv3d

PADDING_MODES = ("zeros", "circular")


class GroupConvolution(nn.Module):
    """Base of :class:`LiftingConv3d` and :class:`GroupConv3d`, which has the arguments; not to be used itself."""

    __jit_unused_properties__ = ("group",)
    __jit_ignored_attributes__ = ("_cache", "_warned")
    if TYPE_CHECKING:  # TorchScript cannot read annotations that are kept as text
        lifting: bool
        index: torch.Tensor
        inverse: torch.Tensor

    def __init__(
        self,
        group: str | RotationGroup,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        turns = rotation_group(group)
        self.group_name = turns.name
        self.order = turns.order
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = turns.check_axes("kernel_size", kernel_size)
        self.stride = turns.check_axes("stride", stride)
        self.dilation = turns.check_axes("dilation", dilation)
        check_at_least(1, in_channels=in_channels, out_channels=out_channels, kernel_size=self.kernel_size)
        check_at_least(1, stride=self.stride, dilation=self.dilation)
        self.padding = resolve_padding(turns, padding, self.kernel_size, self.stride, self.dilation)
        check_at_least(0, padding=self.padding)
        self.padding_mode = check_option("padding_mode", padding_mode, PADDING_MODES)
        group_axis = () if self.lifting else (turns.order,)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *group_axis, *self.kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.register_buffer("index", expansion_index(turns, self.kernel_size, self.lifting), persistent=False)
        self.register_buffer("inverse", turns.inverse.clone(), persistent=False)
        self._warned = False
        self._cache: tuple[Any, ...] | None = None
        self.reset_parameters()

    @property
    def group(self) -> RotationGroup:
        """The group of the layer."""
        return rotation_group(self.group_name)

    @torch.jit.unused
    def reset_parameters(self) -> None:
        """Draw He-uniform weights with the true fan-in, Cin·|G|·k³ (Cin·k³ when lifting); the bias is zero."""
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @torch.jit.unused
    def expanded_filters(self, dtype: torch.dtype | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Filters and bias of the plain convolution that computes the same.

        Args:
            dtype: type to cast the weights to before; None keeps theirs.

        Returns:
            (Cout·|G|, Cin·|G|, kz, ky, kx), without |G| in the second axis when lifting, and (Cout·|G|,) or None. Both
            are differentiable with respect to ``weight`` and ``bias``.
        """
        bias = None if self.bias is None else self.bias.to(dtype).repeat_interleave(self.order)
        return expand_filters(self.weight.to(dtype), self.index, self.inverse), bias

    @torch.jit.unused
    def fold(self) -> FoldedConv3d:
        """Return the plain convolution that computes the same, with its own copy of the filters, for export."""
        with torch.no_grad():
            weight, bias = self.expanded_filters()
        conv = nn.Conv3d(
            weight.shape[1],
            weight.shape[0],
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            bias=bias is not None,
            padding_mode=self.padding_mode,  # type: ignore[arg-type]
            device="meta",
        )
        conv.weight = nn.Parameter(weight)
        if bias is not None:
            conv.bias = nn.Parameter(bias)
        return FoldedConv3d(conv, self.order).train(self.training)

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return (
            f"{self.group_name}, {self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, bias={self.bias is not None}, "
            f"padding_mode={self.padding_mode!r}"
        )

    def train(self, mode: bool = True) -> GroupConvolution:
        """Set the mode and forget the filters expanded for evaluation."""
        self._cache = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}

    def _apply(self, fn: Any, recurse: bool = True) -> GroupConvolution:
        self._cache = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._cache = None
        super()._load_from_state_dict(*args, **kwargs)

    def _convolve(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve (B, C, D, H, W), C being the expanded width, to (B, Cout, |G|, D', H', W')."""
        if torch.jit.is_scripting():
            shared = self.bias
            weight = gather_filters(self.weight, self.index)
            bias = None if shared is None else shared.repeat_interleave(self.order)
        else:
            weight, bias = self._current_filters()
        padding = self.padding
        if self.padding_mode == "circular":
            x = F.pad(x, [padding[2], padding[2], padding[1], padding[1], padding[0], padding[0]], mode="circular")
            padding = (0, 0, 0)
        y = F.conv3d(x, weight, bias, self.stride, padding, self.dilation)
        return y.view(y.shape[0], self.out_channels, self.order, y.shape[2], y.shape[3], y.shape[4])

    @torch.jit.unused
    def _current_filters(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Expand the filters; in evaluation without gradients only when they changed since the last call.

        A change is seen by the version counter of the parameters, so not if made through ``.data`` in place; ``eval()``
        then makes it seen.
        """
        weight, bias = self.weight, self.bias
        kind = weight.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        if self.training or not self._cacheable():
            return self.expanded_filters(dtype)
        stamp = (weight._version, weight.data_ptr(), dtype, None if bias is None else bias._version)
        cache = self._cache
        if cache is None or cache[0] is not weight or cache[1] is not bias or cache[2] != stamp:
            with torch.inference_mode(False), torch.no_grad():  # so that autograd can use them later
                cache = self._cache = (weight, bias, stamp, *self.expanded_filters(dtype))
        return cache[3], cache[4]

    def _cacheable(self) -> bool:
        """Whether the parameters are ordinary ones that no gradient, graph or function transform asks for."""
        if torch.jit.is_tracing() or torch.compiler.is_compiling():
            return False
        differentiated = torch.is_grad_enabled()
        for parameter in (self.weight, self.bias):
            if parameter is None:
                continue
            if type(parameter) is not nn.Parameter or parameter.is_inference():
                return False
            if differentiated and parameter.requires_grad:
                return False
        return True

    @torch.jit.unused
    def _check_input(self, x: torch.Tensor, shape: tuple[int | None, ...], wanted: str) -> None:
        """Refuse a wrong shape, and warn once if the stride breaks equivariance."""
        if torch.jit.is_tracing():
            return
        if x.dim() != len(shape) or any(
            want is not None and have != want for have, want in zip(x.shape, shape, strict=True)
        ):
            hint = ""
            if x.dim() == 6 and len(shape) == 6 and x.shape[2] != self.order:
                hint = f" The group {self.group_name} has {self.order} elements, axis 2 has {x.shape[2]}."
            elif x.dim() == 5 and len(shape) == 6:
                hint = " A map without a group axis is lifted by LiftingConv3d first."
            raise InvalidInputError(
                f"{type(self).__name__} of {self.group_name} expects {wanted}, got {tuple(x.shape)}.{hint}"
            )
        if not self._warned and self.stride != (1, 1, 1) and not torch.compiler.is_compiling():
            self._check_stride(x.shape[-3:])

    def _check_stride(self, size: Sequence[int]) -> None:
        axis = uneven_axis(self.group, size, self.kernel_size, self.stride, self.padding, self.dilation)
        if axis is not None:
            self._warned = True
            warnings.warn(
                f"{type(self).__name__} with stride {self.stride} is not exactly equivariant on size {tuple(size)}: "
                f"along {axis} the size + 2·padding - dilation·(kernel - 1) - 1 is not a multiple of the stride. "
                "Use another size or padding, or stride 1 and pooling.",
                stacklevel=4,
            )
