"""Gathering in parts of any size, by one process or several, gives what all at once gives."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from latentbrush.data.folder import ImageFolder
from latentbrush.errors import UserError
from latentbrush.evaluation import moments
from latentbrush.evaluation.extractor import ExtractorIdentity, Features
from latentbrush.evaluation.gather import fingerprints, gather
from latentbrush.evaluation.sets import FolderPictures, NpzPictures

pytestmark = pytest.mark.capability("fid", "feature-extractors")
N = 23


class Means:
    """A pure function of a picture: its means over quarters, for places its first row, for classes its corners."""

    identity = ExtractorIdentity("means", "sha256:0", 8, "none", "float32")

    def __call__(self, pictures):
        x = pictures.float()
        return Features(
            torch.nn.functional.avg_pool2d(x, 4).flatten(1), x[:, 0, 0], x[:, :, ::7, ::7].flatten(1)
        )  # fmt: skip


class Pictures:
    name = "noise"

    def __init__(self, count=N, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.all = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)

    def __len__(self):
        return len(self.all)

    def read(self, first, end):
        return self.all[first:end]


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_parts_of_any_size_give_what_all_at_once_gives(batch):
    pictures, means = Pictures(), Means()
    gathered, features = gather(pictures, means, keep=True, batch=batch), means(pictures.all)
    once, places = moments([features.pooled]), moments([features.spatial])
    torch.testing.assert_close(gathered.moments.covariance, once.covariance, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gathered.moments.mean, once.mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(gathered.spatial_moments.covariance, places.covariance, rtol=1e-9, atol=1e-9)
    assert torch.equal(gathered.features, features.pooled)
    assert torch.equal(gathered.logits, features.logits)
    assert (gathered.count, gathered.distinct, gathered.size) == (N, N, (8, 8))


def test_shares_merged_are_the_whole_in_its_order():
    pictures, means = Pictures(), Means()
    shares = [gather(pictures, means, keep=True, batch=4, share=(rank, 3)) for rank in range(3)]
    whole, once = shares[1].merge(shares[2]).merge(shares[0]), gather(pictures, means, keep=True, batch=4)
    assert torch.equal(whole.features, once.features)
    assert whole.digest == once.digest
    torch.testing.assert_close(whole.moments.covariance, once.moments.covariance, rtol=1e-9, atol=1e-9)


def test_a_share_without_pictures_changes_nothing():
    pictures = Pictures(3)
    first, second = (gather(pictures, Means(), batch=4, share=(rank, 2)) for rank in range(2))
    assert second.count == 0
    assert second.merge(first).count == 3


def test_statistics_take_memory_that_does_not_grow(monkeypatch):
    gathered = gather(Pictures(), Means(), batch=4)
    assert not gathered.kept
    with pytest.raises(ValueError, match="not kept"):
        _ = gathered.features


def test_fingerprints_tell_pictures_apart_in_one_bit_anywhere():
    picture = torch.randint(0, 256, (3, 5, 5), dtype=torch.uint8)
    changed = picture.repeat(3 * 25 * 8, 1, 1, 1).flatten(1)
    for i in range(len(changed)):
        changed[i, i // 8] ^= 1 << (i % 8)
    numbers = fingerprints(torch.cat([picture[None].flatten(1), changed]).view(-1, 3, 5, 5))
    assert len(set(numbers.tolist())) == 1 + 3 * 25 * 8
    assert fingerprints(picture[None]) == numbers[0]


def test_fingerprints_of_changes_in_high_bits_do_not_cancel():
    # Sums of plain products would let pairs of high bits cancel: of 28 pairs of bytes, every one must differ.
    base = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    pairs = [base.clone().view(-1) for _ in range(28)]
    places = [(i, j) for i in range(8) for j in range(i)]
    for one, (i, j) in zip(pairs, places, strict=True):
        one[8 * i + 7] = one[8 * j + 7] = 128
    numbers = fingerprints(torch.stack([base.view(-1), *pairs]).view(-1, 1, 8, 8)).tolist()
    assert len(set(numbers)) == 29


def test_equal_pictures_are_counted_once():
    pictures = Pictures()
    pictures.all[5:15] = pictures.all[0]
    assert gather(pictures, Means(), batch=4).distinct == N - 10


def test_features_that_are_not_finite_are_refused_with_their_number():
    class Broken(Means):
        def __call__(self, pictures):
            found = super().__call__(pictures)
            found.pooled[1] = float("nan")
            return found

    with pytest.raises(UserError, match="noise: 1 of 8 pictures have features that are not finite"):
        gather(Pictures(), Broken(), batch=8)


def a_folder(tmp_path, sizes, background="white"):
    for i, size in enumerate(sizes):
        values = np.random.default_rng(i).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        (tmp_path / "deep").mkdir(exist_ok=True)
        Image.fromarray(values).save(tmp_path / "deep" / f"{i}.png")
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    return ImageFolder.found(tmp_path)


def test_a_folder_without_metadata_is_read_by_names(tmp_path):
    pictures = FolderPictures(a_folder(tmp_path, [(6, 4)] * 3))
    assert len(pictures) == 3
    assert pictures.read(0, 3).shape == (3, 3, 4, 6)
    assert torch.equal(pictures.read(2, 3)[0], pictures.read(0, 3)[2])


def test_an_even_selection_of_a_folder(tmp_path):
    folder = a_folder(tmp_path, [(4, 4)] * 6)
    assert FolderPictures(folder, most=3).indices == [0, 2, 4]
    assert FolderPictures(folder, most=9).indices == list(range(6))


def test_mixed_sizes_are_refused_by_name_and_mended_by_a_size(tmp_path):
    folder = a_folder(tmp_path, [(6, 4), (6, 4), (5, 4)])
    pictures = FolderPictures(folder)
    assert len(pictures.read(0, 2)) == 2
    with pytest.raises(UserError, match=r"2\.png has 5x4 pixels, the first of its folder 6x4; .* --size"):
        pictures.read(2, 3)
    assert FolderPictures(folder, size=4).read(0, 3).shape == (3, 3, 4, 4)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no pictures"):
        ImageFolder.found(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        ImageFolder.found(tmp_path / "none")


TWO = """
import sys, torch
sys.path.insert(0, {here!r})
from test_gather import Means, Pictures
from latentbrush.evaluation.gather import gather
from latentbrush.evaluation.processes import processes
with processes() as team:
    whole = team.merged(lambda: gather(Pictures(), Means(), keep=True, batch=4, share=team.share))
    if team.speaks:
        torch.save([team.world, whole.features, whole.moments.covariance, whole.digest], {out!r})
"""


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path):
    code = TWO.format(here=os.path.dirname(__file__), out=str(tmp_path / "whole.pt"))
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29555"}
    runs = [subprocess.Popen([sys.executable, "-c", code], env={**shared, "RANK": str(rank)}) for rank in range(2)]
    assert [run.wait(120) for run in runs] == [0, 0]
    world, features, covariance, digest = torch.load(tmp_path / "whole.pt", weights_only=True)
    once = gather(Pictures(), Means(), keep=True, batch=4)
    assert world == 2
    assert torch.equal(features, once.features)
    assert digest == once.digest
    torch.testing.assert_close(covariance, once.moments.covariance, rtol=1e-9, atol=1e-9)


@pytest.fixture
def adm_file(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (150, 4, 6, 3), dtype=np.uint8)
    np.savez(tmp_path / "samples.npz", arr_0=values)
    return tmp_path / "samples.npz", torch.from_numpy(values).permute(0, 3, 1, 2)


@pytest.mark.parametrize("parts", [[(0, 150)], [(0, 7), (7, 100), (100, 150)], [(10, 20), (5, 12), (149, 150)]])
def test_the_pictures_of_adms_files_are_read_part_by_part(adm_file, parts):
    path, pictures = adm_file
    held = NpzPictures(path)
    assert len(held) == 150
    for first, end in parts:
        assert torch.equal(held.read(first, end), pictures[first:end])
    assert len(NpzPictures(path, most=9)) == 9
