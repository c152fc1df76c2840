"""``python -m voxel_ext``."""

import sys

from voxel_ext.cli import main

if __name__ == "__main__":
    sys.exit(main())
