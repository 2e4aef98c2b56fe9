"""Statistics as .npz: ours come back equal, others' are read, and what is broken or hostile is refused in one line."""

import io
import zipfile

import numpy as np
import pytest
import torch

from latentbrush.errors import UserError
from latentbrush.evaluation import statistics_file
from latentbrush.evaluation.extractor import ExtractorIdentity
from latentbrush.evaluation.frechet import frechet_distance
from latentbrush.evaluation.statistics import Moments, moments
from latentbrush.evaluation.statistics_file import (
    FeatureStatistics,
    pictures_held,
    pictures_in,
    read_statistics,
    write_statistics,
)

pytestmark = pytest.mark.capability("feature-statistics-files")

IDENTITY = ExtractorIdentity("Inception", "sha256:" + "0" * 64, 299, "bilinear", "float32")


def drawn(count, width, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def equal(first: Moments, second: Moments) -> bool:
    same = torch.equal(first.mean, second.mean) and torch.equal(first.covariance, second.covariance)
    return same and first.count == second.count


def some() -> FeatureStatistics:
    return FeatureStatistics(moments([drawn(20, 6)]), moments([drawn(20, 9)]), drawn(20, 6), IDENTITY, 20)


def test_what_is_written_comes_back_equal(tmp_path):
    stored, path = some(), tmp_path / "s.npz"
    write_statistics(path, stored)
    found = read_statistics(path)
    assert equal(found.pooled, stored.pooled)
    assert equal(found.spatial, stored.spatial)
    assert torch.equal(found.features, stored.features)
    assert (found.identity, found.count) == (IDENTITY, 20)
    assert [p.name for p in tmp_path.iterdir()] == ["s.npz"]


@pytest.mark.parametrize("part", ["pooled", "spatial", "features"])
def test_a_part_alone(part, tmp_path):
    write_statistics(tmp_path / "s.npz", FeatureStatistics(**{part: getattr(some(), part)}))
    found = read_statistics(tmp_path / "s.npz")
    assert getattr(found, part) is not None
    assert sum(value is not None for value in vars(found).values()) == 1


def test_others_read_ours_as_they_read_theirs(tmp_path):
    """ADM's evaluator and clean-fid take these keys of np.load; neither allows pickles."""
    write_statistics(tmp_path / "s.npz", some())
    with np.load(tmp_path / "s.npz") as file:
        assert "mu" in list(file.keys())
        for mean, covariance, width in (("mu", "sigma", 6), ("mu_s", "sigma_s", 9)):
            features = drawn(20, width).double().numpy()
            np.testing.assert_allclose(file[mean], features.mean(0), rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(file[covariance], np.cov(features, rowvar=False), rtol=1e-12, atol=1e-12)
        assert file["feats"].shape == (20, 6)
        assert file["feats"].dtype == np.float32


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_adms_file(save, tmp_path):
    """Pictures beside the statistics, in no order of ours."""
    features, places = drawn(30, 4).double().numpy(), drawn(30, 5).double().numpy()
    pictures = np.arange(7 * 5 * 4 * 3, dtype=np.uint8).reshape(7, 5, 4, 3)
    statistics = {"mu": features.mean(0), "sigma": np.cov(features, rowvar=False)}
    spatial = {"mu_s": places.mean(0), "sigma_s": np.cov(places, rowvar=False)}
    save(tmp_path / "adm.npz", pictures, **statistics, **spatial)
    found = read_statistics(tmp_path / "adm.npz")
    assert (found.count, found.identity, found.features) == (None, None, None)
    assert found.pooled.count == 0
    assert frechet_distance(found.pooled, moments([torch.from_numpy(features)])) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(found.spatial, moments([torch.from_numpy(places)])) == pytest.approx(0, abs=1e-10)
    assert pictures_held(tmp_path / "adm.npz") == (7, 5, 4)
    batches = list(pictures_in(tmp_path / "adm.npz", batch=3))
    assert [tuple(batch.shape) for batch in batches] == [(3, 3, 5, 4), (3, 3, 5, 4), (1, 3, 5, 4)]
    assert torch.equal(torch.cat(batches), torch.from_numpy(pictures).permute(0, 3, 1, 2))


def test_clean_fids_files(tmp_path):
    features = drawn(10, 4).numpy()
    np.savez_compressed(tmp_path / "kid.npz", feats=features)
    assert torch.equal(read_statistics(tmp_path / "kid.npz").features, torch.from_numpy(features))
    # In float32, by columns, the other way round in memory: all are numpy's.
    sigma = np.asfortranarray(np.cov(features, rowvar=False).astype(">f4"))
    sigma[0, 1] = sigma[1, 0]
    np.savez_compressed(tmp_path / "fid.npz", mu=features.mean(0), sigma=sigma)
    found = read_statistics(tmp_path / "fid.npz").pooled
    np.testing.assert_array_equal(found.covariance.numpy(), sigma.astype(float))
    assert found.mean.dtype == torch.float64


def test_a_matrix_by_columns_is_not_turned(tmp_path):
    features = np.asfortranarray(drawn(3, 2).numpy())
    np.savez(tmp_path / "s.npz", feats=features)
    np.testing.assert_array_equal(read_statistics(tmp_path / "s.npz").features.numpy(), features)


EYE = np.eye(3)
BAD = {
    "no sigma": ({"mu": np.zeros(3)}, "has mu and not sigma"),
    "no mean": ({"sigma_s": EYE}, "has sigma_s and not mu_s"),
    "unlike widths": ({"mu": np.zeros(2), "sigma": EYE}, r"mu \(2,\) and sigma \(3, 3\) are no mean"),
    "a number": ({"mu": np.zeros(()), "sigma": np.zeros(())}, r"mu \(\) and sigma \(\) are no mean"),
    "nan": ({"mu": np.full(3, np.nan), "sigma": EYE}, "mu holds numbers that are not finite"),
    "infinite": ({"mu": np.zeros(3), "sigma": np.full((3, 3), np.inf)}, "sigma holds numbers that are not finite"),
    "not symmetric": ({"mu": np.zeros(3), "sigma": np.triu(np.ones((3, 3)))}, "sigma is no covariance"),
    "negative": ({"mu": np.zeros(3), "sigma": -EYE}, "sigma is no covariance"),
    "whole numbers": ({"mu": np.zeros(3, int), "sigma": EYE}, r"mu is int64 \(3,\), needed are floating-point"),
    "empty": ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, "features of 1 to 32768 numbers"),
    "features of one axis": ({"feats": np.zeros(3)}, r"feats \(3,\) are no features"),
    "no features": ({"feats": np.zeros((0, 3))}, r"feats is float64 \(0, 3\), but features of 1 to"),
    "objects": ({"feats": np.array([[{}]])}, "feats' cannot be read .*Python objects, which could run code"),
    "pictures": ({"arr_0": np.zeros((1, 2, 2, 3), np.uint8)}, "neither mu and sigma nor feats .* it holds pictures"),
    "other things": ({"weights": EYE}, r"\(but 'weights'\); give a file of statistics"),
    "no count": ({"feats": EYE, "count": np.array(0)}, r"count is int64 \(\), needed is a whole number from 2"),
    "many counts": ({"feats": EYE, "count": np.array([1, 2])}, r"count is int64 \(2,\)"),
    "no extractor": ({"feats": EYE, "extractor": np.array("{}")}, "describes no extractor"),
    "empty extractor": ({"feats": EYE, "extractor": np.array("")}, "extractor"),
    "bytes": ({"feats": EYE, "extractor": np.array(b"{}")}, "needed is one text"),
    "endless": ({"feats": EYE, "extractor": np.array("[" * 10**4)}, "describes no extractor"),
    "another kind": (
        {"feats": EYE, "extractor": np.array('{"name": 1, "digest": "", "side": 1, "resize": "", "precision": ""}')},
        "a field is of another kind",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_statistics_is_refused(name, tmp_path):
    arrays, said = BAD[name]
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(UserError, match=said) as caught:
        read_statistics(tmp_path / "s.npz")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "s.npz") in str(caught.value)


def header(shape, kind="<f8"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


def literal(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


LONG = b"\x93NUMPY\x02\x00" + (2**25).to_bytes(4, "little") + b" " * 2**25
HOSTILE = {
    "a bomb": ({"feats.npy": header((2**22, 2)) + bytes(2**26 + 1)}, r"it has \d+ bytes, not"),
    "too short": ({"feats.npy": header((4, 2)) + bytes(3)}, r"it has \d+ bytes, not"),
    "a long header": ({"feats.npy": LONG}, "its header has 33554432 bytes, at most 16384"),
    "too wide": ({"feats.npy": header((1, 2**16)) + bytes(2**19)}, "but features of 1 to 32768 numbers are read"),
    "not numpy": ({"feats.npy": b"hello, this is no array"}, "cannot be read"),
    "code": ({"feats.npy": header((1, 1), "|O") + b"cos\nsystem\n"}, "Python objects"),
    "a negative shape": ({"feats.npy": header((-1, -1)) + bytes(8)}, r"its shape \(-1, -1\) is none"),
    "a deep header": ({"feats.npy": literal(b"(" * 10**4)}, "cannot be read"),
    "a deeper header": ({"feats.npy": literal(b"-" * 16000 + b"1")}, "cannot be read"),
    "an open header": ({"feats.npy": literal(b"{'descr': '''")}, "cannot be read"),
    "another header": ({"feats.npy": literal(b"{'descr': [], 'fortran_order': 3, 'shape': None}")}, "cannot be read"),
    "a large shape": ({"feats.npy": header((10**30, 10**30))}, r"it has \d+ bytes, not"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_is_refused(name, tmp_path):
    members, said = HOSTILE[name]
    with zipfile.ZipFile(tmp_path / "s.npz", "w", zipfile.ZIP_DEFLATED) as file:
        for member, content in members.items():
            file.writestr(member, content)
    with pytest.raises(UserError, match=said) as caught:
        read_statistics(tmp_path / "s.npz")
    assert "\n" not in str(caught.value)


def test_a_size_that_no_computer_has_is_refused_before_it_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("latentbrush.devices.computer_memory", lambda: 1e5)
    np.savez(tmp_path / "s.npz", mu=np.zeros(100), sigma=np.eye(100))
    with pytest.raises(UserError, match=r"the numbers sigma of .* take 0.00016 GB of memory"):
        read_statistics(tmp_path / "s.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_of_one_name_and_cut_files_are_refused(tmp_path):
    np.savez(tmp_path / "s.npz", feats=np.ones((40, 3)))
    whole = (tmp_path / "s.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "flipped.npz").write_bytes(whole.replace(np.ones(1).tobytes(), np.zeros(1).tobytes(), 1))
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as file:
        file.writestr("feats.npy", b"")
        file.writestr("feats.npy", b"")
    for name, said in {"cut": "no sound .npz", "flipped": "CRC", "twice": "two arrays", "absent": "No such"}.items():
        with pytest.raises(UserError, match=said):
            read_statistics(tmp_path / f"{name}.npz")


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 4, 4, 4), np.uint8), r"arr_0 is uint8 \(2, 4, 4, 4\), needed are pictures"),
        (np.zeros((2, 4, 4, 3)), "arr_0 is float64"),
        (np.zeros((0, 4, 4, 3), np.uint8), "needed are pictures"),
        (np.zeros((1, 1001, 1000, 3), np.uint8), "pictures of 1001x1000 have too many pixels, at most 1 million"),
    ],
)
def test_what_is_no_pictures_is_refused(array, said, tmp_path, monkeypatch):
    monkeypatch.setattr(statistics_file, "MAX_PIXELS", 10**6)
    np.savez(tmp_path / "s.npz", array)
    with pytest.raises(UserError, match=said):
        next(pictures_in(tmp_path / "s.npz"))
    np.savez(tmp_path / "none.npz", mu=np.zeros(2))
    with pytest.raises(UserError, match="has no arr_0"):
        next(pictures_in(tmp_path / "none.npz"))


def test_a_disk_that_refuses_leaves_what_was_there(tmp_path, monkeypatch):
    write_statistics(tmp_path / "s.npz", some())
    before = (tmp_path / "s.npz").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(UserError, match="No space left"):
        write_statistics(tmp_path / "s.npz", FeatureStatistics(features=drawn(2, 2)))
    assert (tmp_path / "s.npz").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s.npz"]


def test_nothing_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="no statistics to write"):
        write_statistics(tmp_path / "s.npz", FeatureStatistics(identity=IDENTITY, count=2))
