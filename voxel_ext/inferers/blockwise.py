"""Inference on volumes that do not fit into memory, window by window, block by block."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer
from monai.networks.utils import eval_mode

from voxel_ext.data.lazy_volume import LazyVolume, open_volume
from voxel_ext.data.scheduling import SerialScheduler, block_scheduler
from voxel_ext.errors import InvalidInputError, check_counts, check_sizes
from voxel_ext.inferers.block_output import BlockOutput, check_names, check_values, read_outputs
from voxel_ext.inferers.block_plan import BlockPlan, check_tile, choose_tile
from voxel_ext.inferers.block_run import run_blocks, sendable
from voxel_ext.inferers.block_state import BlockState
from voxel_ext.inferers.block_store import is_single
from voxel_ext.inferers.fingerprints import describe, describe_network
from voxel_ext.inferers.in_memory import infer_in_memory
from voxel_ext.inferers.predict import Predictor
from voxel_ext.inferers.sweep import SweepJob, named_block
from voxel_ext.inferers.windows import WindowGrid, check_padding, check_window_settings


class BlockwiseInferer(Inferer):
    """Sliding-window inference from file to file, for volumes of any size.

    The result equals that of ``monai.inferers.SlidingWindowInferer`` with the same ``roi_size``, ``overlap``, ``mode``,
    ``sigma_scale``, ``padding_mode`` and ``cval``. It is cut into blocks: slabs (one row of chunks along z) of tiles in
    the plane. Windows are added to sums of a tile that span only as many planes as a window; planes that no later
    window reaches are divided by the sum of weights, activated, reduced, and written when a slab is complete. So the
    memory needed does not depend on the extent along z. A block is written by one task, whole chunks at a time, without
    locks; windows are batched in the same way and added in the same order whichever process does it, so that the files
    are the same to the byte however the work is shared (with the same number of torch threads in each process, on the
    same kind of device) and however often it was killed and continued. Where windows overlap, a task begins with the
    layers of windows that reach into its first slab from before; tasks are made so long that this is little.

    The result is made in ``<store>.partial`` and renamed when it is complete. A network that gives one tensor makes
    ``store`` an OME-Zarr 0.5 image (zarr format 3); one that gives a mapping makes a group with an image per target,
    ``store/<target>``. The array is (D, H, W), or (C, D, H, W) of several channels. Voxels that no window covers,
    because all of theirs were empty, are 0.

    Args:
        roi_size: (d, h, w) of a window in voxels, or one number.
        overlap: of neighboring windows, in [0, 1), one number or three (0.25, MONAI's default).
        mode: "gaussian" or "constant" weights within a window.
        sw_batch_size: windows in a batch (1).
        sigma_scale: standard deviation of the Gaussian as a fraction of the window (0.125, MONAI's default).
        padding_mode: of volumes smaller than a window: "constant", "reflect", "replicate" or "circular".
        cval: value of "constant" padding (0).
        activations: "none", "sigmoid", "softmax" or "unit_norm", of all targets or by target. On blended logits.
        reductions: None, "argmax", "threshold" (0.5), "threshold:0.3" or a number (the threshold), of all targets or by
            target; applied after the activation; stored as uint8 (argmax of more than 256 channels: uint16).
        targets: names of those wanted of a network that gives a mapping; None for all.
        output_dtype: "float32", "float16" or "uint8", of all targets or by target. uint8: sigmoid and softmax
            round(255 v); unit_norm [-1, 1] onto 1..255, with (0, 0, 0) for vectors of length 0, see
            ``voxel_ext.data.vector_codes``.
        component_order: of vectors in the result, "zyx" or "xyz", of all targets or by target; those of the network are
            zyx.
        chunks: (d, h, w) of the result (64, 64, 64).
        tile: (h, w) of tiles, multiples of ``chunks``; None: whole planes, or as many equal parts as keep the buffers
            below ``max_buffer_bytes``.
        max_buffer_bytes: of sums, slabs and regions read ahead, in each process (2 GiB).
        mask: array or address of a volume of the same size; windows in which it is 0 are not computed.
        minimum_intensity: windows without a voxel above it (as stored, before ``transform``) are not computed.
        transform: gets (C, d, h, w) float32 regions of the input and returns the same shape, e.g. a normalization with
            given bounds. What it makes of a voxel must not depend on the region.
        device: where the network runs; it is moved there. None: where its parameters are.
        amp: run the network with automatic mixed precision; sums are float32.
        prefetch: layers of windows that a thread reads ahead (2).
        resume: go on from the blocks that an earlier run with the same settings finished, and return a complete result
            of the same settings as it is. False: begin anew.
        overwrite: replace a result of other settings, at the end; finished blocks of other settings are removed.
        num_workers: processes on this machine (0: this one); see :func:`~voxel_ext.data.scheduling.block_scheduler`.
        scheduler: None, "dask", or the address of a Dask cluster whose workers see the same files.
        devices: one per process, in turn; several of them without ``num_workers`` start a process for each.
        voxel_size: (z, y, x) in micrometers; None for that of the input.
        progress: show a progress bar.

    Raises:
        InvalidInputError: a setting is out of range or unknown; names it.
    """

    def __init__(
        self,
        roi_size: Sequence[int] | int,
        overlap: float | Sequence[float] = 0.25,
        mode: str = "gaussian",
        sw_batch_size: int = 1,
        sigma_scale: float | Sequence[float] = 0.125,
        padding_mode: str = "constant",
        cval: float = 0.0,
        activations: str | Mapping[str, str] = "none",
        reductions: Any = None,
        targets: Sequence[str] | None = None,
        output_dtype: str | Mapping[str, str] = "float32",
        component_order: str | Mapping[str, str] = "zyx",
        chunks: Sequence[int] | int = (64, 64, 64),
        tile: Sequence[int] | int | None = None,
        max_buffer_bytes: int = 2**31,
        mask: Any = None,
        minimum_intensity: float | None = None,
        transform: Callable[[Any], Any] | None = None,
        device: torch.device | str | None = None,
        amp: bool = False,
        prefetch: int = 2,
        resume: bool = True,
        overwrite: bool = False,
        num_workers: int = 0,
        scheduler: str | None = None,
        devices: Sequence[torch.device | str] | None = None,
        voxel_size: Sequence[float] | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__()
        self.roi_size, self.overlap = check_window_settings(roi_size, overlap, mode, padding_mode)
        self.chunks = check_sizes("chunks", chunks)
        self.tile = None if tile is None else check_sizes("tile", tile, 2)
        check_counts({"sw_batch_size": 1}, sw_batch_size=sw_batch_size, prefetch=prefetch, num_workers=num_workers)
        if isinstance(targets, str) or (targets is not None and not targets):
            raise InvalidInputError(f"targets={targets!r}; expected a list of at least one name, or None for all")
        check_values(activations, reductions, output_dtype, component_order)
        self.mode, self.sigma_scale, self.padding_mode, self.cval = mode, sigma_scale, padding_mode, cval
        self.activations, self.reductions = activations, reductions
        self.output_dtype, self.component_order = output_dtype, component_order
        self.targets = None if targets is None else list(targets)
        self.max_buffer_bytes, self.mask, self.minimum_intensity = max_buffer_bytes, mask, minimum_intensity
        self.transform, self.amp, self.prefetch, self.sw_batch_size = transform, amp, prefetch, sw_batch_size
        self.resume, self.overwrite, self.scheduler, self.progress = resume, overwrite, scheduler, progress
        self.device = None if device is None else torch.device(device)
        self.devices = [torch.device(one) for one in devices or ()]
        self.num_workers = num_workers or (len(self.devices) if len(self.devices) > 1 and not scheduler else 0)
        self.voxel_size = voxel_size

    def __call__(  # type: ignore[override]
        self,
        source: Any,
        network: Callable[..., Any],
        store: str | os.PathLike[str] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Predict a volume.

        Args:
            source: address or array of a volume (C, D, H, W) or (D, H, W), see
                :func:`~voxel_ext.data.lazy_volume.open_volume`, or one that was opened by it. Without ``store``, a
                tensor (B, C, D, H, W), as any MONAI inferer gets it.
            network: gives logits (B, C, d, h, w) for windows, or a mapping of names to such tensors. It is in eval mode
                meanwhile where there is a ``store``.
            store: folder of the result.
            args: for the network, after the windows.
            kwargs: the same.

        Returns:
            the path of the result. Without ``store``: a tensor (B, C, D, H, W), or a dict of them, float32, with
            activations and reductions if any were set.

        Raises:
            InvalidInputError: a volume, network or setting that does not fit; a target that the network does not have;
                or a result of other settings that may not be overwritten (says what differs).
            MissingDataError: the source does not exist.
            VoxelExtError: the network, reading or writing failed (names the block); another run is writing ``store``; a
                worker was lost. What is finished is kept.
        """
        if store is None:
            return infer_in_memory(self, source, network, *args, **kwargs)
        if isinstance(source, torch.Tensor):
            if source.ndim == 5:
                raise InvalidInputError(
                    f"a batch of shape {tuple(source.shape)} cannot be stored; give one volume (C, D, H, W)"
                )
            source = source.detach().cpu().numpy()
        path = Path(os.path.abspath(store))
        volume = source if isinstance(source, LazyVolume) else open_volume(source, name="source")
        mask = None if self.mask is None else self._open_mask(volume)
        with eval_mode(network):  # type: ignore[arg-type]
            return self._store(volume, mask, network, path, args, kwargs)

    def _store(
        self,
        volume: LazyVolume,
        mask: LazyVolume | None,
        network: Callable[..., Any],
        path: Path,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Path:
        grid = WindowGrid(volume.spatial_shape, self.roi_size, self.overlap)
        check_padding(grid, self.padding_mode, volume.address)
        scheduler = block_scheduler(self.scheduler, self.num_workers)
        devices = self.devices or [self._device(network)]
        outputs = self._outputs(volume, Predictor(network, devices[0], self.amp, args, kwargs))
        plan = self._plan(grid, volume, outputs)
        state = BlockState(path)
        job = SweepJob(
            plan=plan,
            outputs=outputs,
            single=is_single([output.name for output in outputs]),
            store=path,
            volume=volume,
            mask=mask,
            network=network
            if isinstance(scheduler, SerialScheduler)
            else sendable(network, self.transform, args, kwargs),
            args=args,
            kwargs=kwargs,
            devices=devices,
            amp=self.amp,
            sw_batch_size=self.sw_batch_size,
            mode=self.mode,
            sigma_scale=self.sigma_scale,
            padding_mode=self.padding_mode,
            cval=self.cval,
            minimum_intensity=self.minimum_intensity,
            transform=self.transform,
            prefetch=self.prefetch,
        )
        settings = self._settings(job, network)
        voxel_size = self.voxel_size or volume.voxel_size
        with state.locked():
            run_blocks(job, state, settings, voxel_size, scheduler, self.resume, self.overwrite, self.progress)
        return path

    def _outputs(self, volume: LazyVolume, predict: Predictor) -> list[BlockOutput]:
        """Ask the network, by an empty window, what it gives."""
        shape = (1, volume.shape[0], *self.roi_size)
        if isinstance(predict.network, torch.nn.Module):
            predict.network.to(predict.device)
        with named_block(f"the network on an empty window {shape} (B, C, d, h, w) for {volume.address}"):
            found = predict(torch.zeros(shape))
        names = sorted(found)
        check_names(
            names,
            targets=self.targets,
            activations=self.activations,
            reductions=self.reductions,
            output_dtype=self.output_dtype,
            component_order=self.component_order,
        )
        wanted = {name: found[name].shape[1] for name in names if self.targets is None or name in self.targets}
        return read_outputs(wanted, self.activations, self.reductions, self.output_dtype, self.component_order)

    def _plan(self, grid: WindowGrid, volume: LazyVolume, outputs: list[BlockOutput]) -> BlockPlan:
        depth, height, width = (min(pair) for pair in zip(self.chunks, grid.size, strict=True))
        chunks = (depth, height, width)
        if self.tile is not None:
            return BlockPlan(grid, chunks, check_tile((self.tile[0], self.tile[1]), grid, chunks))
        channels = (volume.shape[0], sum(output.channels for output in outputs))
        stored = sum(output.stored_channels * output.stored_dtype.itemsize for output in outputs)
        return BlockPlan(
            grid, chunks, choose_tile(grid, chunks, channels, stored, self.prefetch, self.max_buffer_bytes)
        )

    def _settings(self, job: SweepJob, network: Callable[..., Any]) -> dict[str, Any]:
        """All that the bytes of the result depend on, for JSON."""
        names = ("overlap", "sw_batch_size", "mode", "sigma_scale", "padding_mode", "cval", "minimum_intensity", "amp")
        return {
            "source": job.volume.fingerprint(),
            "mask": None if job.mask is None else job.mask.fingerprint(),
            "roi_size": list(self.roi_size),
            **{name: describe(getattr(self, name)) for name in names},
            "transform": describe(self.transform),
            "network": describe_network(network),
            "arguments": describe([list(job.args), job.kwargs]) if job.args or job.kwargs else None,
            "outputs": {output.name: output.settings() for output in job.outputs},
            "chunks": list(job.plan.chunks),
            "tile": list(job.plan.tile),
            "voxel_size": describe(self.voxel_size or job.volume.voxel_size),
        }

    def _open_mask(self, volume: LazyVolume) -> LazyVolume:
        mask = self.mask if isinstance(self.mask, LazyVolume) else open_volume(self.mask, name="mask")
        if mask.spatial_shape != volume.spatial_shape:
            raise InvalidInputError(
                f"the mask {mask.address} is {mask.spatial_shape}, but {volume.address} is {volume.spatial_shape} "
                "(z, y, x); expected the same"
            )
        return mask

    def _device(self, network: Any) -> torch.device:
        parameters = network.parameters() if isinstance(network, torch.nn.Module) else iter(())
        first = next(parameters, None)
        return self.device or (torch.device("cpu") if first is None else first.device)
