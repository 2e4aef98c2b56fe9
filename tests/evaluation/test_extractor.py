"""Extractors: the shipped CLIP's, and what one must say of itself."""

import numpy as np
import pytest
import torch
from PIL import Image

from latentbrush.errors import UserError
from latentbrush.evaluation.clip_extractor import CLIPExtractor
from latentbrush.evaluation.extractor import Features
from latentbrush.evaluation.resize import resized

pytestmark = pytest.mark.capability("feature-extractors")


def some_pictures(count: int, side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("side", [20, 32, 77])
@pytest.mark.parametrize(
    ("how", "filter_"), [("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)]
)
def test_pictures_are_resized_as_pillow_does(side, how, filter_):
    pictures = some_pictures(3, 48)
    ours = resized(pictures, side, how)
    theirs = np.stack(
        [np.asarray(Image.fromarray(p.permute(1, 2, 0).numpy()).resize((side, side), filter_)) for p in pictures]
    )
    assert (ours.int() - torch.from_numpy(theirs).permute(0, 3, 1, 2).int()).abs().max() <= 1


def test_a_picture_of_the_size_stays_as_it_is():
    pictures = some_pictures(2, 32)
    assert resized(pictures, 32) is pictures


def test_the_shipped_clip_gives_unit_vectors_and_says_what_it_is():
    extractor = CLIPExtractor()
    features = extractor(some_pictures(5, 40))
    assert features.pooled.shape == (5, 128)
    torch.testing.assert_close(features.pooled.norm(dim=1), torch.ones(5))
    told = extractor.identity
    assert told.digest.startswith("sha256:")
    assert len(told.digest) == 7 + 64
    assert (told.side, told.precision) == (32, "float32")


def test_a_batch_changes_nothing_but_roundings():
    extractor, pictures = CLIPExtractor(), some_pictures(7, 32)
    alone = torch.cat([extractor(picture[None]).pooled for picture in pictures])
    torch.testing.assert_close(extractor(pictures).pooled, alone, rtol=0, atol=1e-6)


def test_what_an_extractor_has_not_is_refused_by_name():
    features = Features(torch.zeros(1, 2))
    with pytest.raises(UserError, match="IS needs classes"):
        features.logits_or_refuse()
