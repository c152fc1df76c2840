"""Tables and commands are read from a bundle's docs."""

import pytest

from voxel_ext.sharing.checks_docs import documented_defaults, is_default
from voxel_ext.sharing.checks_docs_commands import documented_commands

DOCS = """
| value | default | what |
| --- | --- | --- |
| `seed` | 0 | random |
| `low`, `high` | 1, 2.5 | limits |
| `resume`, `again` | false | both |
| `key`, `name` | `a` or `b`, c, d | unclear |
| `file.json` | 1 | no setting |

Give `--config_file configs/train.json` or `python -m x`.

```
python -m monai.bundle run a --config_file configs/a.json \\
    --b 1
cd ../other
python -m monai.bundle run --config_file configs/b.json
```

| x | `third` | `run --config_file c.json` |
"""


def test_defaults_are_read_row_by_row():
    assert documented_defaults(DOCS) == [
        ("seed", "0"),
        ("low", "1"),
        ("high", "2.5"),
        ("resume", "false"),
        ("again", "false"),
        ("key", None),
        ("name", None),
    ]


def test_commands_are_read_with_their_bundle():
    assert documented_commands(DOCS, "mine") == [
        ("python -m monai.bundle run a --config_file configs/a.json      --b 1", "mine"),
        ("python -m monai.bundle run --config_file configs/b.json", "other"),
        ("--config_file configs/train.json", "mine"),
        ("run --config_file c.json", "third"),
    ]


@pytest.mark.parametrize(
    ("text", "value", "same"),
    [
        ("0.001", 1e-3, True),
        ("0.01", 1e-3, False),
        ("0", False, False),
        ("false", False, True),
        ("null", None, True),
        ("none", None, False),
        ("`adam`", "adam", True),
        ("`adamw`", "adam", False),
        ("empty", "", True),
        ("adam", "", False),
        ("[1, 2]", [1, 2], True),
        ("[1, 3]", [1, 2], False),
        ("[`a`, `b`]", ["a", "b"], True),
        ("`a` or `b`", ["a", "b"], True),
        ("[1, 2", [1, 2], False),
        ("whatever follows", "$@a + 1", True),
        ("whatever follows", {"a": 1}, True),
    ],
)
def test_defaults_are_compared_by_value(text, value, same):
    assert is_default(text, value) is same
