import itertools
import subprocess
import sys

import pytest

from voxel_ext.errors import InvalidInputError, MissingDependencyError, check_option, require
from voxel_ext.workflow import check_patch_size, check_writable, root_cause


def test_root_cause_is_our_error_or_the_innermost():
    def chain(*errors: Exception) -> Exception:
        for outer, inner in itertools.pairwise(errors):
            outer.__cause__ = inner
        return errors[0]

    ours = InvalidInputError("the reason")
    assert root_cause(chain(RuntimeError("config"), ours, KeyError("detail"))) is ours
    innermost = KeyError("x")
    assert root_cause(chain(RuntimeError("config"), ValueError("y"), innermost)) is innermost


def test_command_ends_with_the_reason():
    script = (
        "from voxel_ext.workflow import end_with_the_reason\n"
        "from voxel_ext.errors import InvalidInputError\n"
        "end_with_the_reason()\n"
        "try:\n    raise InvalidInputError('depth=0')\n"
        "except InvalidInputError as e:\n    raise RuntimeError('Failed to evaluate ConfigExpression') from e\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "InvalidInputError: depth=0"


def test_output_folder_is_made_or_named_in_the_error(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match=r"cannot write to the output folder .*file"):
        check_writable(tmp_path / "file" / "folder")


def test_patch_size():
    check_patch_size([64, 32, 8], 3, 8)
    with pytest.raises(InvalidInputError, match=r"\[60, 32\].*stride of 8.*\[56, 32\] and \[64, 32\]"):
        check_patch_size([60, 32], 2, 8)
    with pytest.raises(InvalidInputError, match="3 positive whole numbers"):
        check_patch_size([64, 64], 3, 8)
    with pytest.raises(InvalidInputError, match="2 positive whole numbers"):
        check_patch_size([64, 0], 2, 8)


def test_options_and_optional_libraries():
    assert check_option("name", "b", ["a", "b"]) == "b"
    with pytest.raises(InvalidInputError, match=r"name='best ' is not known; .*Did you mean 'best'"):
        check_option("name", "best ", ["best", "last"])
    with pytest.raises(MissingDependencyError, match=r"pip install 'voxel_ext\[viz\]'"):
        require("no_such_library.part", "viz")
