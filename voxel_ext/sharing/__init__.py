"""Giving a bundle to others: open, check, export, pack and unpack it."""

from voxel_ext.sharing.bundle import Bundle
from voxel_ext.sharing.verify import Check, format_checks, verify_bundle

__all__ = ["Bundle", "Check", "format_checks", "verify_bundle"]
