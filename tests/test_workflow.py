import itertools
import subprocess
import sys

import pytest

from voxel_ext.errors import InvalidInputError, MissingDependencyError, check_option, require
from voxel_ext.workflow import (
    check_option_names,
    check_patch_size,
    check_writable,
    local_rank,
    root_cause,
    run_settings,
    switch,
    switch_or_path,
)


def test_root_cause_is_our_error_or_the_innermost():
    def chain(*errors: Exception) -> Exception:
        for outer, inner in itertools.pairwise(errors):
            outer.__cause__ = inner
        return errors[0]

    ours = InvalidInputError("the reason")
    assert root_cause(chain(RuntimeError("config"), ours, KeyError("detail"))) is ours
    full = OSError(28, "cannot write a.h5: the disk is full")
    assert root_cause(chain(RuntimeError("config"), full, OSError(28, "No space left"))) is full
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
    with pytest.raises(InvalidInputError, match="roi_size=64 must be a list of 2 positive whole numbers"):
        check_patch_size(64, 2, 8, "roi_size")
    with pytest.raises(InvalidInputError, match="2 positive whole numbers"):
        check_patch_size([64, 0], 2, 8)


def test_switches_take_what_the_command_line_gives():
    assert [switch("resume", value) for value in (True, False, "true", "False")] == [True, False, True, False]
    assert [switch_or_path("resume", value) for value in ("true", False, "a.pt")] == [True, False, "a.pt"]
    for value in (1, None, ""):
        with pytest.raises(InvalidInputError, match=r"resume=.* must be true or false"):
            switch_or_path("resume", value)
    with pytest.raises(InvalidInputError, match="amp='yes' must be true or false"):
        switch("amp", "yes")


def test_misspelt_options_are_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"learning_rate": 1, "train": {}}')
    (tmp_path / "b.json").write_text('{"epochs": 1}')
    files = ["run", "training", "--config_file", f"['{tmp_path}/a.json', '{tmp_path}/b.json']"]
    check_option_names([*files, "--learning_rate", "2", "--epochs=3", "--train#x", "1", "--logging_file", "False"])
    with pytest.raises(InvalidInputError, match=r"option='learning_rat' is not known.*Did you mean 'learning_rate'"):
        check_option_names([*files, "--learning_rat", "2"])
    with pytest.raises(InvalidInputError, match="option='trian'"):
        check_option_names([*files, "--trian::x=3"])
    check_option_names(["run", "--args_file", "args.json", "--anything", "1"])


def test_settings_of_the_training_go_into_the_report(tmp_path, caplog):
    assert run_settings(tmp_path, {"gamma": 1}) == {"gamma": 1}
    trained = '{"align": true, "decoder": "mlp", "stem_stride": 2, "f_score_threshold": 1}'
    (tmp_path / "settings.json").write_text(trained)
    with caplog.at_level("WARNING"):
        run_settings(tmp_path, {"align": False, "decoder": "folding", "stem_stride": 1, "f_score_threshold": 2})
    assert [record.args[0] for record in caplog.records] == ["align", "decoder", "stem_stride"]
    (tmp_path / "settings.json").write_text('{"gamma": 0.5, "epochs": 3}')
    with caplog.at_level("WARNING"):
        found = run_settings(tmp_path, {"gamma": 1, "epochs": 100})
    assert found == {"training": {"gamma": 0.5, "epochs": 3}, "this command": {"gamma": 1, "epochs": 100}}
    assert "gamma was 0.5 in training, is now 1" in caplog.text
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(InvalidInputError, match=r"settings\.json is not a settings file"):
        run_settings(tmp_path, {})


def test_local_rank(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_rank() == 3
    monkeypatch.delenv("LOCAL_RANK")
    with pytest.raises(InvalidInputError, match="torchrun"):
        local_rank()


def test_options_and_optional_libraries():
    assert check_option("name", "b", ["a", "b"]) == "b"
    with pytest.raises(InvalidInputError, match=r"name='best ' is not known; .*Did you mean 'best'"):
        check_option("name", "best ", ["best", "last"])
    with pytest.raises(MissingDependencyError, match=r"pip install 'voxel_ext\[viz\]'"):
        require("no_such_library.part", "viz")
