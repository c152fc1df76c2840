"""The gallery has a picture of everything public, and can be made piece by piece."""

import inspect
import io
import json
import sys
from pathlib import Path

import pytest
from monai.transforms import Transform
from PIL import Image

import voxel_ext.networks.nets
import voxel_ext.synthetic
import voxel_ext.transforms
from voxel_ext.errors import InvalidInputError

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import gallery  # noqa: E402
from gallery_pictures.all_entries import all_entries, chosen  # noqa: E402
from gallery_pictures.entries import SECTIONS, Drawn, Entry, summary  # noqa: E402
from gallery_pictures.folder import Gallery  # noqa: E402
from gallery_pictures.montage import docs_pictures  # noqa: E402


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return all_entries()


def names(entries: list[Entry], section: str) -> list[str]:
    return sorted(entry.name for entry in entries if entry.section == section)


def classes(package) -> list[str]:
    return sorted(name for name in package.__all__ if inspect.isclass(getattr(package, name)))


def test_every_dictionary_transform_has_a_picture(entries):
    package = voxel_ext.transforms
    exported = [
        name for name in classes(package) if name.endswith("d") and issubclass(getattr(package, name), Transform)
    ]
    assert len(exported) > 20
    assert names(entries, "Transforms") == [name for name in exported if not hasattr(package, f"{name}d")]


def test_every_network_has_a_picture(entries):
    assert names(entries, "Networks") == classes(voxel_ext.networks.nets)


def test_every_generator_has_a_picture(entries):
    assert names(entries, "Synthetic data") == classes(voxel_ext.synthetic)


def test_every_bundle_has_a_picture_and_settings_for_it(entries):
    from gallery_pictures.bundle_recipes import QUICK, RECIPES

    bundles = sorted(path.parents[1].name for path in (SCRIPTS.parent / "bundles").glob("*/configs/metadata.json"))
    assert names(entries, "Bundles") == bundles == sorted(QUICK) == sorted(RECIPES)


def test_the_docs_of_every_bundle_show_a_small_picture():
    pictures = docs_pictures()
    assert sorted(pictures) == sorted(path.name for path in (SCRIPTS.parent / "bundles").iterdir() if path.is_dir())
    assert all(path.stat().st_size <= 200_000 for path in pictures.values())
    assert (SCRIPTS.parent / "bundles" / "gallery.png").stat().st_size <= 500_000


def test_every_picture_has_a_name_of_its_own_and_a_line(entries):
    assert len({entry.name for entry in entries}) == len(entries)
    assert all(entry.section in SECTIONS and len(entry.shows) > 15 for entry in entries)


def test_summary_of_a_wrapper_is_that_of_its_array_transform():
    package = voxel_ext.transforms
    assert summary(package.RandBendd, package) == summary(package.RandBend, package)
    assert "`" not in summary(package.ProbabilityToInstancesd, package)


def run(out: Path, *words: str) -> int:
    return gallery.main([str(out), "--quick", *words])


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A gallery with one picture of each section."""
    out = tmp_path_factory.mktemp("gallery") / "pictures"
    only = ["RandFlipVectord", "Sheets", "UNet", "em_shape_vae"]
    assert run(out, "--only", *only, "--work", str(out.parent / "work")) == 0
    return out


def test_pictures_of_all_sections(made):
    page = (made / "index.html").read_text()
    for name in ("RandFlipVectord", "Sheets", "UNet", "em_shape_vae"):
        with Image.open(made / f"{name}.png") as picture:
            assert picture.width > 200
            assert len(picture.convert("RGB").getcolors(1 << 20)) > 10
        assert f'src="{name}.png"' in page
    assert "RandFlipVectord(keys=" in page
    assert "monai.bundle run training" in page
    assert "http" not in page
    with Image.open(made / "bundles.png") as montage:
        assert montage.width == 4 * 380


def test_pictures_that_are_there_are_kept(made):
    before = (made / "Sheets.png").stat().st_mtime_ns
    assert run(made, "--only", "Sheets") == 0
    assert (made / "Sheets.png").stat().st_mtime_ns == before
    assert run(made, "--only", "Sheets", "--overwrite") == 0
    assert (made / "Sheets.png").stat().st_mtime_ns > before
    assert 'src="UNet.png"' in (made / "index.html").read_text()


def test_commands_that_have_ended_are_not_repeated(made):
    work = made.parent / "work"
    weights = work / "em_shape_vae" / "models" / "model.pt"
    assert set(json.loads((work / "em_shape_vae" / "done.json").read_text())) == {"prepare", "training", "inference"}
    before = weights.stat().st_mtime_ns
    assert run(made, "--only", "em_shape_vae", "--overwrite", "--work", str(work)) == 0
    assert weights.stat().st_mtime_ns == before


def test_an_unknown_name_is_refused_before_anything_is_made(tmp_path, capsys):
    assert run(tmp_path / "out", "--only", "RandBend") == 2
    assert "Did you mean 'RandBendd'?" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_section_is_a_name(entries):
    assert names(chosen(entries, ["Bundles"]), "Bundles") == names(entries, "Bundles")
    assert len(chosen(entries, ["Bundles", "UNet"])) == len(names(entries, "Bundles")) + 1


def test_a_folder_that_is_no_gallery_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert run(tmp_path, "--only", "Sheets") == 2
    assert "is not a gallery and not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_damaged_record_is_refused(tmp_path):
    (tmp_path / "gallery.json").write_text("[")
    with pytest.raises(InvalidInputError, match="not the record of a gallery"):
        Gallery.open(tmp_path)


def test_text_is_escaped(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    page = Gallery.open(tmp_path / "out")
    page.add(Entry("Networks", "Net", "<b>one</b>", lambda context: None), Drawn(stream.getvalue(), "Net('<i>')"))
    assert "<b>one" not in page.write_index().read_text()
    assert "<i>" not in page.write_index().read_text()
