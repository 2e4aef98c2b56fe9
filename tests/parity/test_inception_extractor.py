"""FID's Inception as an extractor: bytes of any size in, what torch-fidelity gives out, in float32."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from inception import EVERY, PATH, SIDES
from PIL import Image
from safetensors.torch import save_file
from tiny_inception import drawn_pictures, drawn_weights

from latentbrush.errors import UserError
from latentbrush.evaluation.frechet import frechet_distance
from latentbrush.evaluation.inception_extractor import InceptionExtractor
from latentbrush.evaluation.opening import open_extractor
from latentbrush.evaluation.resize import cleanly_resized
from latentbrush.evaluation.statistics import moments

pytestmark = pytest.mark.capability("feature-extractors")

THEIRS = json.loads(PATH.read_text())


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not named as what it is: content tells."""
    path = tmp_path_factory.mktemp("inception") / "weights"
    save_file({key: tensor.float() for key, tensor in drawn_weights().items()}, path)
    return path


@pytest.fixture(scope="module")
def extractor(path: Path) -> InceptionExtractor:
    found = open_extractor(str(path))
    assert isinstance(found, InceptionExtractor)
    return found


@pytest.mark.parametrize("size", SIDES)
def test_bytes_become_features(size: str, extractor: InceptionExtractor) -> None:
    features = extractor(drawn_pictures(1, *SIDES[size]))
    found = {"pooled": features.pooled, "spatial": features.spatial, "logits": features.logits_or_refuse()}
    for name, ours in found.items():
        theirs = torch.tensor(THEIRS[size][name])
        # Roundings of float32 through the depth of the network.
        torch.testing.assert_close(ours.flatten()[::EVERY], theirs, rtol=0, atol=2e-5 * float(theirs.abs().max()))


def test_it_says_what_it_is(path: Path, extractor: InceptionExtractor) -> None:
    told = extractor.identity
    assert (told.name, told.side, told.precision) == ("Inception", 299, "float32")
    assert "TensorFlow" in told.resize
    clean = InceptionExtractor(path, resize="clean")
    assert clean.identity.digest == told.digest
    assert clean.identity != told
    pictures = drawn_pictures(1)
    assert not torch.allclose(clean(pictures).pooled, extractor(pictures).pooled, atol=1e-3)
    with pytest.raises(UserError, match="resize 'pil' is unknown; choose one of tensorflow, clean"):
        InceptionExtractor(path, resize="pil")  # type: ignore[arg-type]


def test_the_clean_resize_is_pillows_on_numbers() -> None:
    """What clean-fid does: each channel as 32-bit numbers, bicubic, clipped."""
    for side in (64, 20):
        pictures = drawn_pictures(1)
        theirs = [Image.fromarray(c.astype(np.float32)).resize((side, side), 3) for c in pictures[0].numpy()]
        expected = torch.from_numpy(np.stack([np.asarray(c).clip(0, 255) for c in theirs]))
        torch.testing.assert_close(cleanly_resized(pictures, side)[0], expected, rtol=0, atol=1e-3)


@pytest.mark.capability("sfid")
def test_sfid_is_the_distance_of_the_places(extractor: InceptionExtractor) -> None:
    """Against scipy's root, on four of the 2023 numbers, so that six pictures have a covariance of full rank."""
    pictures = drawn_pictures(12, 60, 60)
    pictures[6:] //= 2
    places = extractor(pictures).spatial
    torch.testing.assert_close(extractor(pictures[7:8]).spatial, places[7:8], rtol=0, atol=1e-5)
    varied = places.std(0).topk(4).indices
    first, second = places[:6, varied].double(), places[6:, varied].double()
    ours = frechet_distance(moments([first]), moments([second]))
    m1, m2, s1, s2 = *(x.mean(0).numpy() for x in (first, second)), *(np.cov(x.T.numpy()) for x in (first, second))
    theirs = ((m1 - m2) ** 2).sum() + np.trace(s1 + s2 - 2 * scipy.linalg.sqrtm(s1 @ s2).real)
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert ours > 0.01
