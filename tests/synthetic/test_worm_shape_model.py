"""The statistical shape model of worms: alignment, fit, draws and files."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from voxel_ext.errors import InvalidInputError, MissingDataError
from voxel_ext.synthetic.worm.alignment import align_worms, nearest_distances, push_apart, turn_about_x
from voxel_ext.synthetic.worm.shape_model import PACKAGED, WormShapeModel

CELLS = 30
NAMES = [f"cell{i}" for i in range(CELLS)]
SCRIPT = Path(__file__).parents[2] / "scripts" / "build_worm_shape_statistics.py"
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "worm_coordinates"


def run_script(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def base_worm(rng, cells=CELLS):
    """Cells in a long and thin box, none very near another."""
    return push_apart(rng.normal(size=(cells, 3)) * [15, 25, 300], np.full(cells, 12.0))


def model(**changes):
    rng = np.random.default_rng(0)
    mean = base_worm(rng)
    mean -= mean.mean(axis=0)
    components = np.linalg.qr(rng.normal(size=(CELLS * 3, 2)))[0].T.reshape(2, CELLS, 3)
    values = {
        "names": tuple(NAMES),
        "mean": mean,
        "components": components,
        "standard_deviations": np.array([30.0, 12.0]),
        "noise": np.full((CELLS, 3), 0.5),
        "limits": np.stack([mean - 200, mean + 200]),
        "spacing": np.full(CELLS, 1e-3),
        "pose_factor": np.zeros((9, 9)),
        "credit": "nobody",
    }
    return WormShapeModel(**{**values, **changes})


def test_turn_about_x_is_a_rotation_by_180_degrees_that_keeps_the_centroid():
    worm = base_worm(np.random.default_rng(0)) + np.array([60, 70, 800])
    turned = turn_about_x(worm)
    about = worm - worm.mean(axis=0)
    rotation = np.diag([-1.0, -1.0, 1.0])
    assert np.linalg.det(rotation) == 1
    np.testing.assert_allclose(turned - worm.mean(axis=0), about @ rotation, atol=1e-9)
    np.testing.assert_allclose(turn_about_x(turned), worm, atol=1e-9)


def test_alignment_undoes_rolls_shifts_and_linear_maps():
    rng = np.random.default_rng(1)
    shape = base_worm(rng)
    turns = np.array([False, True, True, False, True])
    worms = []
    for turned in turns:
        linear = np.eye(3) + rng.normal(size=(3, 3)) * [[0.05, 0.05, 0.05], [0.05, 0.05, 0.05], [0.003, 0.003, 0.05]]
        worm = shape @ linear
        worms.append((turn_about_x(worm) if turned else worm) + rng.normal(size=3) * 50)
    aligned, maps, found = align_worms(np.stack(worms))
    np.testing.assert_array_equal(found, turns)
    np.testing.assert_allclose(aligned, np.broadcast_to(aligned[0], aligned.shape), atol=1e-8)
    np.testing.assert_allclose(maps.mean(axis=0), np.eye(3), atol=1e-9)
    for worm, linear, turned in zip(worms, maps, turns, strict=True):
        centered = worm - worm.mean(axis=0)
        np.testing.assert_allclose(aligned[0] @ linear, centered * ([-1, -1, 1] if turned else 1), atol=1e-8)


def test_push_apart_reaches_the_spacing_and_leaves_the_others():
    points = np.array([[0.0, 0, 0], [0, 0, 2], [0, 0, 50], [9, 9, 90], [9, 9, 90]])
    moved = push_apart(points, np.array([6.0, 6, 6, 4, 8]))
    assert np.linalg.norm(moved[0] - moved[1]) == pytest.approx(6, rel=0.02)
    np.testing.assert_allclose(moved[:2].mean(axis=0), points[:2].mean(axis=0))
    np.testing.assert_array_equal(moved[2], points[2])
    assert np.linalg.norm(moved[3] - moved[4]) == pytest.approx(4, rel=0.02)  # the smaller spacing of the pair counts


def test_fit_recovers_the_model_that_the_worms_were_drawn_from():
    truth, rng = model(), np.random.default_rng(2)
    worms = np.stack([truth.draw(rng) for _ in range(400)])
    fitted = WormShapeModel.fit(worms, NAMES, components=2)
    # an affine alignment takes away the part of the variation that is an affine map of the mean worm
    affine = np.concatenate([truth.mean, np.ones((CELLS, 1))], axis=1)
    left = np.eye(CELLS) - affine @ np.linalg.pinv(affine)
    kept = np.einsum("ij,kja->kia", left, truth.components * truth.standard_deviations[:, None, None])
    expected = np.linalg.svd(kept.reshape(2, -1), full_matrices=False)
    np.testing.assert_allclose(fitted.mean, truth.mean, atol=3.0)
    np.testing.assert_allclose(fitted.standard_deviations, expected[1], rtol=0.12)
    overlap = np.linalg.svd(fitted.components.reshape(2, -1) @ expected[2].T)[1]
    assert overlap.min() > 0.98
    assert np.sqrt((fitted.noise**2).mean()) == pytest.approx(0.5, rel=0.15)


def test_fit_takes_the_variation_of_length_as_pose():
    rng = np.random.default_rng(3)
    shape = base_worm(rng)
    lengths = 1 + 0.1 * rng.standard_normal(200)
    worms = np.stack([shape * [1, 1, length] + rng.normal(size=shape.shape) * 0.01 for length in lengths])
    fitted = WormShapeModel.fit(worms, NAMES, components=1)
    covariance = fitted.pose_factor @ fitted.pose_factor.T
    assert np.sqrt(covariance[8, 8]) == pytest.approx(lengths.std() / lengths.mean(), rel=0.02)
    drawn = np.array([np.ptp(fitted.draw(rng)[:, 2]) for _ in range(300)])
    extents = np.ptp(worms[:, :, 2], axis=1)
    assert drawn.mean() == pytest.approx(extents.mean(), rel=0.02)
    assert drawn.std() == pytest.approx(extents.std(), rel=0.15)


def test_draw_has_mean_and_variance_of_the_model():
    truth, rng = model(), np.random.default_rng(4)
    drawn = np.stack([truth.draw(rng) for _ in range(1500)])
    variance = 0.25 + np.einsum("k,kia->ia", truth.standard_deviations**2, truth.components**2)
    error = np.sqrt(variance / len(drawn))
    assert (np.abs(drawn.mean(axis=0) - truth.mean) < 4.5 * error).all()
    np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=0.2)


def test_draw_stays_within_the_limits_and_scale_0_is_the_mean():
    tight = model(limits=np.stack([model().mean - 1, model().mean + 1]))
    rng = np.random.default_rng(5)
    assert max(np.abs(tight.draw(rng) - tight.mean).max() for _ in range(20)) <= 1 + 1e-9
    np.testing.assert_array_equal(tight.draw(rng, scale=0), tight.mean)


def test_saved_model_draws_the_same_worm(tmp_path):
    truth = model()
    truth.save(tmp_path / "model.npz")
    loaded = WormShapeModel.load(tmp_path / "model.npz")
    assert (loaded.names, loaded.credit) == (truth.names, "nobody")
    np.testing.assert_allclose(
        loaded.draw(np.random.default_rng(6)), truth.draw(np.random.default_rng(6)), rtol=0, atol=0.1
    )
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]


def test_packaged_model_is_small_credits_its_source_and_is_like_real_worms():
    assert PACKAGED.stat().st_size < 300_000
    packaged, rng = WormShapeModel.load(), np.random.default_rng(7)
    assert "ChengYuChuan/MA_FeatureLearning" in packaged.credit
    assert "MIT" in packaged.credit
    assert packaged.names[0] == "ADAL"
    assert packaged.names[-1] == "Z4"
    worms = np.stack([packaged.draw(rng) for _ in range(12)])
    assert worms.shape == (12, 558, 3)
    distances = np.stack([nearest_distances(worm) for worm in worms])
    assert distances.min() > 6
    assert 14 < distances.mean() < 15
    extents = np.ptp(worms, axis=1)
    for axis, (low, high) in enumerate([(43, 79), (71, 100), (1280, 1860)]):
        assert low <= extents[:, axis].min()
        assert extents[:, axis].max() <= high


@pytest.mark.skipif(not REAL.is_dir(), reason="the real coordinates are not beside the project")
def test_script_rebuilds_the_packaged_statistics(tmp_path, monkeypatch):
    output = tmp_path / "statistics.npz"
    run_script(monkeypatch, REAL, "--output", output)
    rebuilt, packaged = WormShapeModel.load(output), WormShapeModel.load()
    assert rebuilt.names == packaged.names
    np.testing.assert_allclose(rebuilt.mean, packaged.mean, atol=1e-2)
    np.testing.assert_allclose(rebuilt.standard_deviations, packaged.standard_deviations, rtol=1e-3)


def test_script_builds_a_model_from_coordinate_files(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(8)
    shape = base_worm(rng)
    for number in range(4):
        worm = shape + rng.normal(size=shape.shape)
        rows = [f"{i + 1}\t{NAMES[i]}\t{x:f}\t{y:f}\t{z:f}\t{i + 1}" for i, (z, y, x) in enumerate(worm)]
        header = "label_number\tlabel_name\tx\ty\tz\tAligned_No"
        (tmp_path / f"worm_{number}.txt").write_text("\n".join([header, *rows]) + "\n")
    output = tmp_path / "out.npz"
    run_script(monkeypatch, tmp_path, "--components", 2, "--output", output)
    assert "4 worms, 30 cells, 2 components" in capsys.readouterr().out
    built = WormShapeModel.load(output)
    assert "in 4 L1" in built.credit
    np.testing.assert_allclose(built.mean, shape - shape.mean(axis=0), atol=4)
    with pytest.raises(SystemExit, match="1"):
        run_script(monkeypatch, tmp_path / "empty", "--output", output)
    assert "no file in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("positions", "names", "components", "match"),
    [
        (np.zeros((2, 5, 3)), list("abcde"), 1, "at least 3 worms"),
        (np.zeros((4, 5, 2)), list("abcde"), 1, r"shape \(4, 5, 2\)"),
        (np.full((4, 5, 3), np.nan), list("abcde"), 1, r"positions\[0, 0\] is not finite"),
        (np.zeros((4, 5, 3)), list("abcd"), 1, "4 different names for 5 cells"),
        (np.zeros((4, 5, 3)), list("aabcd"), 1, "4 different names for 5 cells"),
        (np.zeros((4, 5, 3)), list("abcde"), 4, "components=4"),
    ],
)
def test_fit_names_what_is_wrong(positions, names, components, match):
    with pytest.raises(InvalidInputError, match=match):
        WormShapeModel.fit(positions, names, components=components)


def test_bad_files_and_arrays_are_named(tmp_path):
    with pytest.raises(MissingDataError, match=r"absent\.npz"):
        WormShapeModel.load(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("not an array")
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    (tmp_path / "cut.npz").write_bytes(PACKAGED.read_bytes()[:5000])
    for name in ("text.npz", "other.npz", "cut.npz"):
        with pytest.raises(InvalidInputError, match=f"{name} is not a shape model"):
            WormShapeModel.load(tmp_path / name)
    with pytest.raises(InvalidInputError, match=r"noise of the shape model has the shape \(2, 3\)"):
        model(noise=np.zeros((2, 3)))
