"""What ``python -m voxel_ext`` can do: a file per command.

A command is a function whose arguments are those of the command line, and which returns a
:class:`~voxel_ext.commands.line.Job`. Libraries are imported when the job is done, so that help is fast.
"""

from voxel_ext.commands.convert_checkpoint import convert_checkpoint
from voxel_ext.commands.generate import generate, help_on_generator
from voxel_ext.commands.line import Command
from voxel_ext.commands.pack import pack
from voxel_ext.commands.report import report
from voxel_ext.commands.unpack import unpack
from voxel_ext.commands.verify import verify

COMMANDS = {
    "generate": Command(generate, help_on_generator),
    "report": Command(report),
    "pack": Command(pack),
    "unpack": Command(unpack),
    "verify": Command(verify),
    "convert_checkpoint": Command(convert_checkpoint),
}
"""By name, in the order in which they are listed."""
