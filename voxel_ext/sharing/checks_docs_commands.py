"""Whether the commands in a bundle's docs name configs, ids and options that exist."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

from voxel_ext.errors import InvalidInputError
from voxel_ext.sharing.bundle import Bundle, read_config
from voxel_ext.sharing.checks_commands import Command, overlaid
from voxel_ext.sharing.checks_docs import DOCS, read_docs
from voxel_ext.sharing.checks_outcome import Check, outcome

_FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_MADE_BY_RUNNING = ("models/", "eval/")


def check_commands(bundle: Bundle) -> Check:
    """Check every ``monai.bundle run`` and every ``--config_file`` in the docs; nothing is run.

    Commands for another bundle, behind a ``cd`` to its folder or in one line with its name, are checked where that
    bundle lies beside this one.
    """
    commands = documented_commands(read_docs(bundle), bundle.name)
    problems = [
        f"{DOCS}: {problem}, in: {command}"
        for command, folder in commands
        if (root := bundle.root.parent / folder).is_dir()
        for problem in _problems(command, root)
    ]
    return outcome("commands", problems, f"{len(commands)} commands")


def documented_commands(docs: str, name: str) -> list[tuple[str, str]]:
    """Return the commands, and parts of commands, that name config files: each with its bundle.

    Args:
        docs: text of the docs.
        name: name of the bundle they belong to.
    """
    found: dict[tuple[str, str], None] = {}
    for block in _FENCED.findall(docs):
        folder = name
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("cd "):
                folder = Path(line[3:].strip()).name
            elif "--config_file" in line:
                found[(line.strip(), folder)] = None
    for line in _FENCED.sub("", docs).splitlines():
        codes = _INLINE.findall(line)
        others = re.findall(r"^\| [^|]+ \| `([a-z0-9_]+)`", line)
        found |= {(code, others[0] if others else name): None for code in codes if "--config_file" in code}
    return list(found)


def _problems(command: str, root: Path) -> list[str]:
    """What does not exist of what a command names."""
    try:
        words = shlex.split(command)
        files = _files(words)
    except (ValueError, SyntaxError) as error:
        return [f"the command cannot be read ({error})"]
    wanted = [file for file in files if not file.startswith(_MADE_BY_RUNNING)]
    missing = [f"there is no {file} in the bundle" for file in wanted if not (root / file).is_file()]
    if missing or not wanted or "run" not in words:
        return missing
    return _run_problems(words[words.index("run") + 1 :], wanted, root)


def _files(words: list[str]) -> list[str]:
    """The config files of a command."""
    value = words[words.index("--config_file") + 1 :][:1]
    if not value:
        raise ValueError("--config_file has no value")
    return [str(file) for file in ast.literal_eval(value[0])] if value[0].startswith("[") else value


def _run_problems(arguments: list[str], files: list[str], root: Path) -> list[str]:
    """What is wrong with the words behind ``run``."""
    from voxel_ext.workflow import check_option_names

    command = Command((files[0],), read_config(root / files[0]))
    for file in files[1:]:
        command = overlaid(command, file, read_config(root / file))
    run_id = arguments[0] if arguments and not arguments[0].startswith("--") else "run"
    problems = [] if run_id in command.content else [f"{run_id!r} is no id of {command.label}"]
    absolute = list(arguments)
    absolute[absolute.index("--config_file") + 1] = str([str(root / file) for file in files])
    try:
        check_option_names(absolute)
    except InvalidInputError as error:
        problems.append(str(error))
    return problems
