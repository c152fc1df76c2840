"""What a bundle's configs call at their start: clear errors, checks of the settings, data for a first run."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from voxel_ext.errors import InvalidInputError, MissingDataError, VoxelExtError, check_option
from voxel_ext.files import read_json

logger = logging.getLogger(__name__)

MONAI_OPTIONS = (
    "run_id",
    "init_id",
    "final_id",
    "meta_file",
    "config_file",
    "logging_file",
    "tracking",
    "args_file",
)
"""Options of ``monai.bundle run`` itself."""


def start(*output_folders: str | os.PathLike[str]) -> None:
    """What every command of a bundle does first: clear errors, packages, known options, writable output folders.

    Without folders it writes nothing. In a process other than ``monai.bundle`` errors stay as Python shows them, and
    options are not checked.

    Args:
        output_folders: see :func:`check_writable`.

    Raises:
        InvalidInputError: an option is not known, or a folder cannot be written to.
        MissingDependencyError: packages that the bundle needs are missing or too old.
    """
    if _is_bundle_command():
        end_with_the_reason()
    check_packages()
    check_option_names()
    check_writable(*output_folders)


def end_with_the_reason() -> None:
    """Let a failing command end with the line that says what is wrong.

    MONAI reports an error inside a config as a chain of exceptions that ends with the config item. After this call the
    last line on the terminal is the first voxel_ext error of that chain, or else its first cause.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.__excepthook__(kind, error, trace)
        reason = root_cause(error)
        if reason is not error:
            sys.stderr.write(f"\n{type(reason).__name__}: {reason}\n")

    sys.excepthook = hook


def root_cause(error: BaseException) -> BaseException:
    """Return what a user should read of the chain of causes of ``error``.

    That is the first :class:`VoxelExtError`, or else the first error of the operating system, or else the innermost.
    """
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    for kind in (VoxelExtError, OSError):
        for item in chain:
            if isinstance(item, kind):
                return item
    return chain[-1]


def check_writable(*folders: str | os.PathLike[str]) -> None:
    """Make the output folders and write a test file into each, before any long work starts.

    Raises:
        InvalidInputError: a folder cannot be made or written to; names it and says why.
    """
    for folder in map(Path, folders):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(b"\0" * 4096)
        except OSError as error:
            raise InvalidInputError(f"cannot write to the output folder {folder}: {error.strerror or error}") from error


def check_patch_size(size: Sequence[int], spatial_dims: int, stride: int, name: str = "patch_size") -> None:
    """Check that patches have one size per axis, each divisible by the network's stride.

    Args:
        size: voxels per axis.
        spatial_dims: 2 or 3.
        stride: by how much the network reduces the size at its coarsest level.
        name: the config value that ``size`` comes from.

    Raises:
        InvalidInputError: otherwise; gives the nearest sizes that fit.
    """
    sizes = list(size) if isinstance(size, Sequence) else [size]
    if len(sizes) != spatial_dims or not all(isinstance(number, int) and number > 0 for number in sizes):
        raise InvalidInputError(f"{name}={size} must be a list of {spatial_dims} positive whole numbers")
    if any(number % stride for number in sizes):
        from voxel_ext.networks.sizes import nearest_sizes

        below, above = nearest_sizes(sizes, stride)
        raise InvalidInputError(
            f"{name}={sizes} is not divisible by the network's stride of {stride} along every axis; "
            f"the nearest that fit are {below} and {above}"
        )


def check_share(name: str, value: object) -> float:
    """Read a config value that is a number between 0 and 1, both excluded.

    Raises:
        InvalidInputError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise InvalidInputError(f"{name}={value!r} must be a number between 0 and 1, both excluded")
    return float(value)


def switch(name: str, value: object) -> bool:
    """Read a config value that is true or false; on the command line ``true`` arrives as a text.

    Raises:
        InvalidInputError: it is neither.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise InvalidInputError(f"{name}={value!r} must be true or false")


def switch_or_path(name: str, value: object) -> bool | str:
    """Read a config value that is true, false or a path.

    Raises:
        InvalidInputError: it is none of these.
    """
    if isinstance(value, str) and value and value.lower() not in ("true", "false"):
        return value
    return switch(name, value)


def check_option_names(arguments: Sequence[str] | None = None) -> None:
    """Refuse options on the command line of ``monai.bundle`` that no config has: MONAI would add them unseen.

    Args:
        arguments: the command line without the program; default: that of this process, if it is ``monai.bundle run``.

    Raises:
        InvalidInputError: an option is neither MONAI's nor a value of the config files; gives the nearest name.
    """
    from monai.bundle import ConfigParser

    given = _given_options(arguments)
    files = _config_files(given)
    if not files:
        return
    known = dict.fromkeys(MONAI_OPTIONS)
    for file in files:
        known |= dict.fromkeys(re.split("#|::", key)[0] for key in ConfigParser.load_config_file(file))
    for name in given:
        if not name.startswith("_meta_"):
            check_option("option", re.split("#|::", name)[0], known)


def check_packages(arguments: Sequence[str] | None = None) -> None:
    """Check the packages that the metadata of the command's bundle name; nothing where there are no metadata.

    Args:
        arguments: see :func:`check_option_names`.

    Raises:
        MissingDependencyError: packages are missing or too old; names all of them and the command that installs them.
        InvalidInputError: the metadata cannot be read.
    """
    from voxel_ext.sharing.requirements import check_requirements_of

    check_requirements_of(_config_files(_given_options(arguments)))


def _is_bundle_command() -> bool:
    return sys.argv[0].endswith(os.path.join("monai", "bundle", "__main__.py"))


def _given_options(arguments: Sequence[str] | None) -> dict[str, str]:
    """The options on a command line of ``monai.bundle``, by name; none if this process is another program."""
    if arguments is None:
        arguments = sys.argv[1:] if _is_bundle_command() else ()
    given: dict[str, str] = {}
    for position, argument in enumerate(arguments):
        if argument.startswith("--") and len(argument) > 2:
            name, equals, value = argument[2:].partition("=")
            following = arguments[position + 1] if position + 1 < len(arguments) else ""
            given[name.replace("-", "_")] = value if equals else following
    return given


def _config_files(options: Mapping[str, str]) -> list[str]:
    """The config files that the options name; none where further options stand in a file."""
    if "config_file" not in options or "args_file" in options:
        return []
    return [file.strip(" '\"") for file in options["config_file"].strip("[]").split(",")]


_OF_THE_NETWORK = (
    "architecture",
    "spatial_dims",
    "depth",
    "start_channels",
    "gamma",
    "group",
    "features",
    "normalization",
    "distance",
    "lower_percentile",
    "upper_percentile",
    "channel_wise",
    "channels",
    "in_channels",
    "out_channels",
    "f_maps",
    "num_levels",
    "num_groups",
    "layer_order",
    "kernel_size",
    "pool_size",
    "flavor",
    "targets",
    "squeeze_excitation",
    "se_reduction",
    "downsampling",
    "upsampling",
    "deep_supervision",
    "shared_decoder_levels",
    "normalization_bounds",
    "contents",
    "size",
    "align",
    "latent_size",
    "filters",
    "anisotropic_levels",
    "norm",
    "num_points",
    "input_transform",
    "decoder",
    "decoder_channels",
    "variational",
    "variant",
    "encoder",
    "width",
    "stem_size",
    "stem_stride",
    "stem_pool",
    "projector_size",
    "predictor_size",
)
"""Settings that must be the same in training and in use."""


def run_settings(ckpt_dir: str | os.PathLike[str], settings: Mapping[str, object]) -> dict[str, object]:
    """Return the settings to report beside a trained network: those it was trained with, then those of this command.

    Settings of this command that differ from the training's are logged as a warning: a network must see its input
    prepared as in training.

    Args:
        ckpt_dir: folder of the checkpoints, where training left ``settings.json``; nothing is added without it.
        settings: those of this command.

    Raises:
        InvalidInputError: ``settings.json`` cannot be read.
    """
    file = Path(ckpt_dir) / "settings.json"
    if not file.is_file():
        return dict(settings)
    trained = read_json(file, dict, "a settings file")
    for name in (*_OF_THE_NETWORK, "seed", "validation_fraction"):
        if name in trained and name in settings and trained[name] != settings[name]:
            logger.warning("%s was %r in training, is now %r", name, trained[name], settings[name])
    return {"training": trained, "this command": dict(settings)}


def first_process() -> bool:
    """Tell whether this process is the first, or the only one, of a training; only that one writes logs."""
    from torch import distributed

    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def local_rank() -> int:
    """Return the number of this process among those of this machine, as ``torchrun`` gives it.

    Raises:
        InvalidInputError: the command was not started by ``torchrun``.
    """
    rank = os.environ.get("LOCAL_RANK")
    if rank is None:
        raise InvalidInputError(
            "training on several devices is started by torchrun: torchrun --nproc_per_node=2 -m monai.bundle run ..."
        )
    return int(rank)


def prepared_dataset(
    dataset_dir: str | os.PathLike[str],
    prepared_dir: str | os.PathLike[str],
    prepare_config: str | Sequence[str],
    bundle_root: str | os.PathLike[str],
    **overrides: object,
) -> str:
    """Return the data set to use: the given one, or else the bundle's synthetic one, made first if need be.

    Args:
        dataset_dir: the user's folder or file; empty for the synthetic data.
        prepared_dir: where the bundle's ``run prepare`` puts its data.
        prepare_config: the config file (or files) of ``run prepare``.
        bundle_root: passed on to it.
        overrides: further config values for it.

    Raises:
        MissingDataError: ``dataset_dir`` was given and does not exist or is empty; or it was not given and there is no
            ``prepare_config``, as in a folder other than the bundle's.
    """
    from voxel_ext.data import ensure_dataset

    files = [prepare_config] if isinstance(prepare_config, str) else list(prepare_config)
    absent = [file for file in files if not os.path.isfile(file)]
    if absent and not dataset_dir:
        raise MissingDataError(
            f"{absent[0]} does not exist, so the bundle's synthetic data cannot be found or made. Set bundle_root, "
            f"which is {str(bundle_root)!r}, to the folder of the bundle, or dataset_dir to that of your data"
        )

    def prepare(output_dir: str) -> None:
        from monai.bundle import ConfigParser

        parser = ConfigParser()
        parser.read_config(files)
        parser.update({"bundle_root": str(bundle_root), "dataset_dir": output_dir, **overrides})
        parser.get_parsed_content("prepare")

    return ensure_dataset(dataset_dir, prepared_dir, prepare)
