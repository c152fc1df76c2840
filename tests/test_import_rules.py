"""Who may import whom, as CONTRIBUTING.md lays it down, read from the source without importing it."""

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EVERYWHERE = {"errors", "files", "processes", "npz", "hdf5", "hdf5_checks", "__version__"}
FROM_THE_PACKAGE = {
    "errors": set(),
    "files": {"errors"},
    "processes": set(),
    "npz": {"errors"},
    "hdf5": {"errors"},
    "hdf5_checks": {"errors"},
    "targets": set(),
    "networks": {"targets"},
    "losses": {"targets"},
    "metrics": {"targets", "losses"},
    "matching": set(),
    "labeling": {"matching"},
    "morphology": set(),
    "transforms": {"targets", "networks.groups", "networks.activations"},
    "synthetic": {"targets", "networks.groups", "networks.activations", "transforms"},
    "data": {"transforms", "synthetic", "matching", "morphology", "metrics", "targets", "networks.groups"},
    "inferers": {"networks", "labeling", "data", "transforms", "targets"},
}
"""What a part may import of the others; parts that are not named here may import all."""
TENSORS = {"torch", "monai"}
ARRAYS = TENSORS | {"numpy", "scipy", "skimage"}
LIBRARIES = {
    "errors": set(),
    "files": {"filelock"},
    "processes": set(),
    "npz": {"numpy"},
    "hdf5": set(),
    "hdf5_checks": {"numpy"},
    "targets": set(),
    "networks": TENSORS,
    "losses": TENSORS | {"scipy"},
    "metrics": ARRAYS,
    "matching": {"numpy", "scipy"},
    "labeling": {"numpy", "h5py"},
    "transforms": ARRAYS,
    "synthetic": {"numpy", "scipy"},
}
"""What a part may import of other packages when it is loaded."""
OPTIONAL = {
    *("pandas", "pyarrow", "sklearn", "cc3d", "edt", "zmesh", "umap", "trimesh", "kimimaro", "skan"),
    *("dask", "distributed", "matplotlib", "plotly", "imageio", "onnx", "onnxruntime", "onnxscript"),
}
"""Libraries of the extras."""
SOURCES = sorted((ROOT / "voxel_ext").rglob("*.py"))


def part_of(path: Path) -> str:
    """``data`` of ``voxel_ext/data/x.py``, ``errors`` of ``voxel_ext/errors.py``."""
    return path.relative_to(ROOT / "voxel_ext").parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[str, bool]]:
    """Modules that a file imports, and whether that happens when it is loaded."""

    def walk(node: ast.AST, at_load: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, at_load) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                yield from ((f"{child.module}.{alias.name}", at_load) for alias in child.names)
            elif not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
                inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                yield from walk(child, at_load and not inside)

    return walk(ast.parse(path.read_text(encoding="utf-8")), True)


def allowed(module: str, rules: set[str]) -> bool:
    """Whether a module below ``voxel_ext`` is one of those named, or below one."""
    return any(module == rule or module.startswith(f"{rule}.") for rule in rules)


def imports(wrong: Callable[[str, str, bool], bool]) -> list[str]:
    """Imports of the package that are wrong, told by the part that imports, the module, and whether when loaded."""
    return [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in SOURCES
        for module, at_load in imported(path)
        if wrong(part_of(path), module, at_load)
    ]


@pytest.mark.parametrize("part", FROM_THE_PACKAGE)
def test_parts_import_only_what_lies_below_them(part):
    assert part in map(part_of, SOURCES)
    rules = FROM_THE_PACKAGE[part] | EVERYWHERE | {part}

    def above(importer: str, module: str, at_load: bool) -> bool:
        ours = importer == part and module.startswith("voxel_ext.")
        return ours and not allowed(module.removeprefix("voxel_ext."), rules)

    assert imports(above) == []


@pytest.mark.parametrize("part", LIBRARIES)
def test_lower_parts_load_few_libraries(part):
    few = {"voxel_ext", *LIBRARIES[part], *sys.stdlib_module_names}
    assert imports(lambda importer, module, load: load and importer == part and module.split(".")[0] not in few) == []


def test_libraries_of_extras_are_imported_where_they_are_used():
    assert imports(lambda importer, module, load: load and module.split(".")[0] in OPTIONAL) == []


def test_nothing_imports_bundles_scripts_benchmarks_or_tests():
    above = {"bundles", "scripts", "benchmarks", "tests"}
    assert imports(lambda importer, module, load: module.split(".")[0] in above) == []


def test_only_the_command_line_uses_sharing():
    users = {"sharing", "cli", "commands", "workflow", "__main__"}
    commands = ("voxel_ext.sharing", "voxel_ext.cli")
    assert imports(lambda importer, module, load: importer not in users and module.startswith(commands)) == []
