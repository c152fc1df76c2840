import json
import pickle
import re
import shutil

import numpy as np
import pytest
import zarr

from voxel_ext.data import surface_store
from voxel_ext.data.lazy_volume import open_volume
from voxel_ext.data.surface_preparation import PreparedSurface, prepare_surfaces
from voxel_ext.data.surface_settings import SurfaceSettings
from voxel_ext.data.surface_sources import SurfaceInput, find_surface_volumes, read_mesh
from voxel_ext.data.vector_codes import decode_vectors
from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.transforms.surface import normals_from_mask, normals_from_mesh

trimesh = pytest.importorskip("trimesh")

SHAPE = (20, 24, 28)
CENTER = (10, 12, 13)
QUIET = {"progress": False}


def image(seed=0):
    return np.random.default_rng(seed).integers(0, 255, SHAPE).astype(np.uint8)


def ball(radius=7.0):
    offset = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij")) - np.reshape(CENTER, (3, 1, 1, 1))
    return (np.linalg.norm(offset, axis=0) < radius).astype(np.uint8)


def sphere():
    """An icosphere whose file has the coordinates x, y, z in voxels."""
    mesh = trimesh.creation.icosphere(3, radius=7.0)
    mesh.apply_translation(CENTER[::-1])
    return mesh


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(surface_store, "BLOCK", 8)


@pytest.fixture
def masks(tmp_path):
    for part, name, seed in (("train", "a", 0), ("val", "b", 1)):
        (tmp_path / "raw" / part).mkdir(parents=True)
        np.save(tmp_path / "raw" / part / f"{name}.npy", image(seed))
        np.save(tmp_path / "raw" / part / f"{name}_mask.npy", ball() * 3)
    return tmp_path / "raw"


@pytest.fixture
def meshes(tmp_path):
    (tmp_path / "raw").mkdir()
    np.save(tmp_path / "raw" / "a.npy", image())
    sphere().export(tmp_path / "raw" / "a_mesh.ply")
    return tmp_path / "raw"


def stored(path, name):
    return zarr.open_group(str(path), mode="r")[f"{name}/0"]


@pytest.mark.parametrize("method", ["distance", "structure_tensor"])
def test_masks_by_blocks_equal_the_whole(masks, tmp_path, method):
    out = tmp_path / "out"
    options = {"sigma": 1.0, "max_distance": 3.0, "band": 1.0, "voxel_size": (1.5, 1.0, 1.0)}
    report = prepare_surfaces(
        masks, out, method=method, normals_dtype="float32", chunks=(8, 12, 14), **options, **QUIET
    )
    assert report.made == ["train/a.zarr", "val/b.zarr"]
    path = out / "train" / "a.zarr"
    assert np.array_equal(stored(path, "image")[:], image())
    assert np.array_equal(stored(path, "sheet")[:], ball())
    whole = normals_from_mask(ball(), method=method, **options)
    assert whole.any()
    assert np.allclose(stored(path, "normals")[:], whole, atol=1e-6)
    assert stored(path, "normals").chunks == (3, 8, 12, 14)


@pytest.mark.parametrize("method", ["interpolate", "splat"])
def test_meshes_by_blocks_equal_the_whole(meshes, tmp_path, method):
    options = {"normals_dtype": "float32", "chunks": (8, 12, 14), "max_distance": 1.5}
    prepare_surfaces(meshes, tmp_path / "out", source="mesh", method=method, **options, **QUIET)
    vertices, faces = read_mesh(meshes / "a_mesh.ply")
    normals, sheet = normals_from_mesh(vertices, faces, SHAPE, max_distance=1.5, method=method)
    path = tmp_path / "out" / "train" / "a.zarr"
    assert np.array_equal(stored(path, "sheet")[:], sheet)
    assert np.allclose(stored(path, "normals")[:], normals, atol=1e-6)
    offset = np.argwhere(sheet) - CENTER
    truth = offset / np.linalg.norm(offset, axis=1, keepdims=True)
    cosine = (normals[:, sheet == 1].T * truth).sum(axis=1)
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 4  # outward: the file's winding is kept


def test_the_store_is_read_as_volumes_with_voxel_sizes(masks, tmp_path):
    prepare_surfaces(masks, tmp_path / "out", voxel_size=(2, 1, 1), max_distance=4, sigma=1, **QUIET)
    path = tmp_path / "out" / "val" / "b.zarr"
    for name, channels in (("image", 1), ("sheet", 1), ("normals", 3)):
        volume = open_volume(path / name)
        assert volume.shape == (channels, *SHAPE)
        assert volume.voxel_size == (2, 1, 1)
    codes = stored(path, "normals")[:]
    assert codes.dtype == np.uint16
    exact = normals_from_mask(ball(), sigma=1, max_distance=4, voxel_size=(2, 1, 1))
    assert np.allclose(decode_vectors(codes), exact, atol=1e-4)
    assert not decode_vectors(codes)[:, ~exact.any(axis=0)].any()
    marker = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert marker["files"] == ["train/a.zarr", "val/b.zarr"]


def test_a_crop_keeps_what_is_beyond_it_in_mind(masks, tmp_path):
    crop, options = ((4, 15), (5, 20), (0, 14)), {"sigma": 1.0, "max_distance": 3.0, "normals_dtype": "float32"}
    prepare_surfaces(masks, tmp_path / "out", crop=crop, chunks=(4, 8, 8), **options, **QUIET)
    box = tuple(slice(*pair) for pair in crop)
    path = tmp_path / "out" / "train" / "a.zarr"
    assert np.array_equal(stored(path, "image")[:], image()[box])
    whole = normals_from_mask(ball(), sigma=1.0, max_distance=3.0)
    assert np.allclose(stored(path, "normals")[:], whole[(slice(None), *box)], atol=1e-6)


def test_ignored_voxels_keep_their_value(masks, tmp_path):
    mask = ball()
    mask[:, :, 20:] = 9
    np.save(masks / "train" / "a_mask.npy", mask)
    prepare_surfaces(masks, tmp_path / "out", ignore_value=9, **QUIET)
    path = tmp_path / "out" / "train" / "a.zarr"
    assert np.array_equal(stored(path, "sheet")[:], mask)
    assert not stored(path, "normals")[:, :, :, 20:].any()


def test_channels_of_the_image_are_kept(tmp_path):
    np.save(tmp_path / "i.npy", np.stack([image(0), image(1)]))
    np.save(tmp_path / "m.npy", ball())
    volumes = [{"name": "v", "image": str(tmp_path / "i.npy"), "mask": str(tmp_path / "m.npy"), "part": "val"}]
    prepare_surfaces(None, tmp_path / "out", volumes, chunks=(8, 8, 8), **QUIET)
    path = tmp_path / "out" / "val" / "v.zarr"
    assert np.array_equal(stored(path, "image")[:], np.stack([image(0), image(1)]))
    assert open_volume(path / "image").shape == (2, *SHAPE)


def test_several_meshes_in_micrometers_with_offset(tmp_path):
    np.save(tmp_path / "i.npy", image())
    volumes = [{"name": "v", "image": str(tmp_path / "i.npy"), "mesh": []}]
    for index, shift in enumerate(((0, 0, 0), (0, 0, 9))):
        mesh = trimesh.creation.icosphere(2, radius=4.0)
        mesh.apply_translation(np.add(CENTER, shift)[::-1] - (4, 4, 4))
        mesh.apply_scale(0.5)
        mesh.export(tmp_path / f"{index}.obj")
        volumes[0]["mesh"].append(str(tmp_path / f"{index}.obj"))
    options = {"source": "mesh", "mesh_unit": "micrometer", "voxel_size": (0.5, 0.5, 0.5), "offset": (4, 4, 4)}
    prepare_surfaces(None, tmp_path / "out", volumes, max_distance=1, **options, **QUIET)
    sheet = stored(tmp_path / "out" / "train" / "v.zarr", "sheet")[:]
    assert sheet[10, 12, [9, 17, 18, 26]].all()
    assert not sheet[10, 12, [13, 22]].any()


def test_a_reference_decides_the_sign(meshes, tmp_path):
    options = {"source": "mesh", "reference": (0, 1, 0), "normals_dtype": "float32"}
    prepare_surfaces(meshes, tmp_path / "out", **options, **QUIET)
    normals = stored(tmp_path / "out" / "train" / "a.zarr", "normals")[:]
    assert normals.any()
    assert (normals[1] >= 0).all()


def test_what_is_there_is_kept_and_other_settings_are_refused(masks, tmp_path):
    out = tmp_path / "out"
    prepare_surfaces(masks, out, **QUIET)
    shutil.rmtree(out / "val" / "b.zarr")
    again = prepare_surfaces(masks, out, **QUIET)
    assert (again.made, again.kept) == (["val/b.zarr"], ["train/a.zarr"])
    with pytest.raises(InvalidInputError, match=r"sigma is 2.0 there, 1.0 now.*overwrite=True"):
        prepare_surfaces(masks, out, sigma=1.0, **QUIET)
    assert len(prepare_surfaces(masks, out, sigma=1.0, overwrite=True, **QUIET).made) == 2
    np.save(masks / "train" / "a_mask.npy", ball(5.0))
    with pytest.raises(InvalidInputError, match="made with other settings"):
        prepare_surfaces(masks, out, sigma=1.0, **QUIET)
    np.save(masks / "train" / "a_mask.npy", ball())
    shutil.copytree(out / "train" / "a.zarr", out / "train" / "c.zarr")
    with pytest.raises(InvalidInputError, match=r"do not belong.*c\.zarr"):
        prepare_surfaces(masks, out, sigma=1.0, overwrite=True, **QUIET)


def test_a_job_can_go_to_another_process(tmp_path):
    volume = SurfaceInput("v", "train", "i.npy", ("m.npy",))
    job = PreparedSurface(volume, tmp_path / "v.zarr", SurfaceSettings(max_distance=4.0, reference=[[1.0, 2.0, 3.0]]))
    assert pickle.loads(pickle.dumps(job)) == job
    assert job.name == "train/v"


def test_a_volume_with_an_error_stops_no_other_and_leaves_nothing(masks, tmp_path):
    np.save(masks / "train" / "a_mask.npy", ball()[:-1])
    with pytest.raises(InvalidInputError, match=r"1 of 2 volumes.*\n.*train/a.*\(19, 24, 28\).*\(20, 24, 28\)"):
        prepare_surfaces(masks, tmp_path / "out", **QUIET)
    assert (tmp_path / "out" / "val" / "b.zarr").exists()
    assert not (tmp_path / "out" / "dataset.json").exists()
    assert [path.name for path in (tmp_path / "out" / "train").glob("*")] == []


@pytest.mark.parametrize("kind", ["empty", "truncated", "nan"])
def test_bad_masks(masks, tmp_path, kind):
    path = masks / "train" / "a_mask.npy"
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:500])
    else:
        np.save(path, np.full(SHAPE, 0.0 if kind == "empty" else np.nan))
    expected = {"empty": "no voxel of", "truncated": "a_mask.npy", "nan": "not finite"}[kind]
    with pytest.raises(InvalidInputError, match=expected):
        prepare_surfaces(masks, tmp_path / "out", **QUIET)


def test_meshes_outside_of_the_volume(meshes, tmp_path):
    with pytest.raises(InvalidInputError, match=r"outside of .*a\.npy.*component_order"):
        prepare_surfaces(meshes, tmp_path / "out", source="mesh", offset=(100, 0, 0), **QUIET)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "points"}, "source='points'"),
        ({"method": "interpolate"}, "method='interpolate'"),
        ({"sigmma": 2}, "Did you mean 'sigma'"),
        ({"sigma": -1}, "sigma=-1"),
        ({"source": "mesh", "component_order": "zxy"}, "component_order='zxy'"),
        ({"source": "mesh", "mesh_unit": "mm"}, "mesh_unit='mm'"),
        ({"source": "mesh", "scale": (1, 2)}, r"scale=\[1, 2\]"),
        ({"ignore_value": 1}, "ignore_value=1"),
        ({"voxel_size": (1, 1, 0)}, "voxel_size"),
        ({"chunks": (8, 8)}, "chunks"),
        ({"crop": ((0, 4), (4, 4), (0, 4))}, "crop"),
        ({"normals_dtype": "int8"}, "int8"),
        ({"reference": (1, 2)}, "reference"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"volumes": []}, "exactly one"),
    ],
)
def test_wrong_options(masks, tmp_path, options, message):
    with pytest.raises(InvalidInputError, match=message):
        prepare_surfaces(masks, tmp_path / "out", **options, **QUIET)


@pytest.mark.parametrize(
    ("volumes", "message"),
    [
        ([], "volumes is empty"),
        ([{"name": "a", "image": "a.npy"}], "no mask"),
        ([{"name": "a/b", "image": "a.npy", "mask": "m.npy"}], "a/b"),
        ([{"name": "a", "image": "a.npy", "mask": "m.npy", "part": "test"}], "part='test'"),
        ([{"name": "a", "image": "a.npy", "label": "m.npy"}], "label"),
        ([{"name": "a", "image": "a.npy", "mask": "m.npy"}] * 2, "twice"),
        (["a.npy"], "expected a mapping"),
        ([{"name": "a", "image": "a.npy", "mask": "m.npy"}], r"train/a: m\.npy does not exist"),
    ],
)
def test_wrong_lists(tmp_path, volumes, message):
    with pytest.raises(InvalidInputError, match=message):
        prepare_surfaces(None, tmp_path / "out", volumes, **QUIET)


def test_folders(masks, tmp_path):
    found = find_surface_volumes(masks, "mask")
    assert [(one.part, one.name) for one in found] == [("train", "a"), ("val", "b")]
    with pytest.raises(MissingDataError, match=r"no partner.*a\.npy"):
        find_surface_volumes(masks, "mesh")
    (masks / "val" / "b.npy").unlink()
    with pytest.raises(MissingDataError, match=r"no partner.*b_mask\.npy"):
        find_surface_volumes(masks, "mask")
    with pytest.raises(MissingDataError, match="does not exist"):
        find_surface_volumes(tmp_path / "nowhere", "mask")
    (tmp_path / "none").mkdir()
    with pytest.raises(MissingDataError, match="no volumes"):
        find_surface_volumes(tmp_path / "none", "mask")


@pytest.mark.parametrize(
    ("suffix", "options"), [("obj", {}), ("ply", {"encoding": "binary"}), ("ply", {"encoding": "ascii"})]
)
def test_mesh_files_round_trip(tmp_path, suffix, options):
    mesh, path = sphere(), tmp_path / f"m.{suffix}"
    mesh.export(path, **options)
    vertices, faces = read_mesh(path)
    assert len(faces) == len(mesh.faces)
    order = np.lexsort(vertices.round(3).T)
    expected = mesh.vertices[:, ::-1]
    assert np.allclose(vertices[order], expected[np.lexsort(expected.round(3).T)], atol=1e-3)
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    assert (np.einsum("nc,nc->n", np.cross(b - a, c - a), a - CENTER) > 0).all()


@pytest.mark.parametrize(("order", "scale"), [("zyx", 1.0), ("xyz", 2.0), ("zyx", (1, -1, 1)), ("xyz", (1, 1, -2))])
def test_normals_point_to_the_side_they_point_to_in_the_file(tmp_path, order, scale):
    trimesh.creation.icosphere(1, radius=7.0).export(tmp_path / "m.ply")
    vertices, faces = read_mesh(tmp_path / "m.ply", order, scale, (3, 4, 5))
    a, b, c = (vertices[faces[:, corner]] - (3, 4, 5) for corner in range(3))
    assert (np.einsum("nc,nc->n", np.cross(b - a, c - a), a) > 0).all()


def test_columns_of_mesh_files(tmp_path):
    (tmp_path / "m.obj").write_text("v 1 2 3\nv 4 2 3\nv 1 5 3\nv 4 5 3\nf 1 2 4 3\n")
    xyz, faces = read_mesh(tmp_path / "m.obj", scale=(10, 1, 1), offset=(0, 0, 0.5))
    assert sorted(map(tuple, xyz)) == [(30, 2, 1.5), (30, 2, 4.5), (30, 5, 1.5), (30, 5, 4.5)]
    assert len(faces) == 2
    zyx, _ = read_mesh(tmp_path / "m.obj", "zyx")
    assert sorted(map(tuple, zyx)) == [(1, 2, 3), (1, 5, 3), (4, 2, 3), (4, 5, 3)]


def damaged(folder, kind):
    sphere().export(folder / "b.ply")
    sphere().export(folder / "t.ply", encoding="ascii")
    binary, text = (folder / "b.ply").read_bytes(), (folder / "t.ply").read_text().splitlines(keepends=True)
    return {
        "binary.ply": binary[: len(binary) // 2],
        "lines.ply": "".join(text[:-100]).encode(),
        "vertices.ply": "".join(text[:400]).encode(),
        "noise.ply": bytes(np.random.default_rng(0).integers(0, 256, 500, dtype=np.uint8)),
        "noise.obj": bytes(np.random.default_rng(0).integers(0, 256, 500, dtype=np.uint8)),
        "empty.obj": b"",
        "empty.ply": b"",
        "points.obj": b"v 0 0 0\nv 1 0 0\nv 0 1 0\n",
        "index.obj": b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 7\n",
        "words.obj": b"v 0 0 0\nv x 0 0\nv 0 1 0\nf 1 2 3\n",
        "nan.obj": b"v 0 0 0\nv nan 0 0\nv 0 1 0\nf 1 2 3\n",
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["binary.ply", "lines.ply", "vertices.ply", "noise.ply", "noise.obj", "empty.obj", "empty.ply", "points.obj",
     "index.obj", "words.obj", "nan.obj"],
)  # fmt: skip
def test_damaged_mesh_files(tmp_path, kind):
    (tmp_path / kind).write_bytes(damaged(tmp_path, kind))
    with pytest.raises(InvalidInputError, match=re.escape(kind)):
        read_mesh(tmp_path / kind)


def test_mesh_files_that_are_missing_or_of_another_kind(tmp_path):
    with pytest.raises(MissingDataError, match=r"m\.ply does not exist"):
        read_mesh(tmp_path / "m.ply")
    with pytest.raises(InvalidInputError, match=r"m\.stl.*\.obj, \.ply"):
        read_mesh(tmp_path / "m.stl")
    (tmp_path / "m.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(InvalidInputError, match="other than zero"):
        read_mesh(tmp_path / "m.obj", scale=0)
    with pytest.raises(InvalidInputError, match="offset"):
        read_mesh(tmp_path / "m.obj", offset=(1, 2))
