import subprocess
import sys

import pytest

import voxel_ext


def test_import_loads_no_library():
    script = "import sys, voxel_ext; print([m for m in ('torch', 'monai', 'numpy', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sub_packages_load_on_first_use():
    assert voxel_ext.errors.InvalidInputError is not None
    assert {"data", "handlers", "synthetic"} <= set(dir(voxel_ext))
    with pytest.raises(AttributeError, match="no_such_part"):
        _ = voxel_ext.no_such_part


def test_packages_load_nothing_above_them():
    """Neither what uses them, nor libraries that MONAI does not load anyway; labeling not even MONAI.

    The libraries of the `viz` extra are loaded only where a picture is made.
    """
    above = ("voxel_ext.engines", "voxel_ext.handlers", "voxel_ext.visualize", "matplotlib")
    script = (
        "import sys, voxel_ext.labeling; print([m for m in ('torch', 'monai', 'scipy') if m in sys.modules]); "
        "import monai; known = set(sys.modules); import voxel_ext.transforms, voxel_ext.losses, voxel_ext.metrics; "
        f"print([m for m in {('voxel_ext.data', 'h5py', *above)} if m in sys.modules and m not in known]); "
        f"import voxel_ext.inferers; print([m for m in {above} if m in sys.modules and m not in known]); "
        "import voxel_ext.data, voxel_ext.handlers, voxel_ext.visualize; "
        "print([m for m in ('plotly', 'imageio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]", "[]", "[]"]
