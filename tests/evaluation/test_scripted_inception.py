"""FID's Inception as a program: the call that the published file takes, on a small one of our own."""

import pytest
import torch
from torch import nn

from latentbrush.errors import UserError
from latentbrush.evaluation.inception_extractor import ScriptedInception, is_torchscript
from latentbrush.evaluation.inception_score import inception_score
from latentbrush.evaluation.opening import open_extractor

pytestmark = [
    pytest.mark.capability("feature-extractors"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]


class Program(nn.Module):
    """Channels' means, spread over as many numbers as Inception's; classes by a layer with a bias."""

    def __init__(self, width: int = 2048) -> None:
        super().__init__()
        self.spread, self.output = nn.Linear(3, width), nn.Linear(width, 1008)

    def forward(self, img: torch.Tensor, return_features: bool = False, no_output_bias: bool = False) -> torch.Tensor:
        features = self.spread((img.to(torch.float32).mean(dim=[2, 3]) - 128) / 128)
        if return_features:
            return features
        logits = torch.matmul(features, self.output.weight.t())
        return torch.softmax(logits if no_output_bias else logits + self.output.bias, dim=1)


class WithoutClasses(nn.Module):
    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        return img


class Failing(nn.Module):
    def forward(self, img: torch.Tensor, return_features: bool = False, no_output_bias: bool = False) -> torch.Tensor:
        return img.reshape(7, 11)


def saved(module, path):
    torch.jit.script(module).save(str(path))
    return path


def pictures(count=5, side=20):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


@pytest.fixture
def program():
    torch.manual_seed(0)
    return Program().eval()


def test_features_and_logits_are_the_programs(program, tmp_path):
    # By its content, not its name.
    extractor = open_extractor(str(saved(program, tmp_path / "inception.bin")))
    assert isinstance(extractor, ScriptedInception)
    features = extractor(pictures())
    with torch.no_grad():
        pooled = program(pictures(), return_features=True)
        torch.testing.assert_close(features.pooled, pooled)
        unbiased = pooled @ program.output.weight.T
    torch.testing.assert_close(features.logits.softmax(1), unbiased.softmax(1))
    assert inception_score(features.logits, 1)[0] == pytest.approx(inception_score(unbiased, 1)[0])
    assert features.spatial is None
    told = extractor.identity
    assert (told.side, told.precision, len(told.digest)) == (299, "float32", 7 + 64)


def test_a_chance_that_vanishes_still_has_a_logarithm(program, tmp_path):
    with torch.no_grad():
        program.output.weight[3] = 1e4 * program.spread.bias
    features = ScriptedInception(saved(program, tmp_path / "i.pt"))(pictures())
    assert features.logits.isfinite().all()
    assert inception_score(features.logits, 1)[0] >= 1


def test_where_nobody_wants_classes_none_are_computed(program, tmp_path):
    features = ScriptedInception(saved(program, tmp_path / "i.pt"), classes=False)(pictures())
    assert features.logits is None


def test_the_clean_resize_is_done_before(program, tmp_path):
    path = saved(program, tmp_path / "i.pt")
    clean, own = (ScriptedInception(path, resize=way) for way in ("clean", "tensorflow"))
    assert clean.identity != own.identity
    assert "clean-fid" in clean.identity.resize
    sharp = pictures(2, 400)
    # Both have the means of nearly the same colours.
    torch.testing.assert_close(clean(sharp).pooled, own(sharp).pooled, rtol=0, atol=0.01)
    assert not torch.equal(clean(sharp).pooled, own(sharp).pooled)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (WithoutClasses(), r"takes \['self', 'img', 'return_features'\], not no_output_bias; give FID's"),
        (Program(64), r"gave \(5, 64\), needed is \(5, 2048\)"),
        (Failing(), r"failed on pictures \(5, 3, 20, 20\) \(.*shape"),
    ],
)
def test_another_program_is_refused(module, said, tmp_path):
    path = saved(module, tmp_path / "program.pt")
    with pytest.raises(UserError, match=said) as caught:
        ScriptedInception(path)(pictures())
    assert "\n" not in str(caught.value)


def test_what_is_no_program_is_refused(program, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("hello")
    for name in ("weights.pt", "text.pt", "absent.pt"):
        assert not is_torchscript(tmp_path / name)
        with pytest.raises(UserError, match=r"no TorchScript program; give FID's inception-2015-12-05.pt"):
            ScriptedInception(tmp_path / name)


def test_a_cut_program_is_refused(program, tmp_path):
    import zipfile

    path, cut = saved(program, tmp_path / "i.pt"), tmp_path / "cut.pt"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(cut, "w") as part:
        for name in whole.namelist():
            if "data/" not in name:
                part.writestr(name, whole.read(name))
    with pytest.raises(UserError, match="cannot be loaded as TorchScript"):
        ScriptedInception(cut)
