"""Vision models of transformers as extractors: features are those of its own classes, pictures prepared as by its own
processors.

The processors' resize of bytes differs by 1 of 255 at the most, as in test_extractor.py; where pictures have the size,
features agree to the roundings of float32.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as peer
from PIL import Image
from safetensors.torch import load_file, save_file
from test_clip_folders import edit
from tiny import randomise
from tiny_clip import their_clip
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.evaluation.clip_extractor import CLIPExtractor
from latentbrush.evaluation.opening import open_extractor
from latentbrush.evaluation.preprocessing import read_preprocessing
from latentbrush.evaluation.vision_folder import VisionExtractor
from latentbrush.origin import sha256_of

pytestmark = pytest.mark.capability("feature-extractors")

SIDE = 28
SHAPE: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
TOKENS: dict[str, Any] = {**SHAPE, "intermediate_size": 40, "image_size": SIDE, "patch_size": 7}
SCALE: dict[str, Any] = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
SQUARE: dict[str, Any] = {**SCALE, "size": {"height": SIDE, "width": SIDE}, "resample": 3}


def configs() -> dict[str, Any]:
    registers = {"num_register_tokens": 4}
    return {
        # Of a size of its own: DINOv2 stretches its positions.
        "dinov2": peer.Dinov2Config(**SHAPE, image_size=42, patch_size=7),
        "dinov2-registers": peer.Dinov2WithRegistersConfig(**SHAPE, **registers, image_size=SIDE, patch_size=7),
        "vit": peer.ViTConfig(**TOKENS),
        "siglip": peer.SiglipVisionConfig(**TOKENS),
        "clip": peer.CLIPVisionConfig(**TOKENS),
        "convnext": peer.ConvNextConfig(hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], patch_size=2),
    }


def folder(path: Path, kind: str = "vit", processor: dict[str, Any] | None = None, **options: Any) -> Any:
    """A tiny model with every parameter random, saved by transformers, and what prepares pictures for it."""
    model = peer.AutoModel.from_config(configs()[kind]).eval()
    randomise(model, 4)
    model.save_pretrained(path, **options)
    peer.ViTImageProcessorPil(**SQUARE).save_pretrained(path)
    if processor is not None:
        (path / "preprocessor_config.json").write_text(json.dumps(processor))
    return model


def pictures(count: int = 3, height: int = SIDE, width: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def scaled(bytes_: Tensor) -> Tensor:
    mean, std = (torch.tensor(SCALE[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))
    return (bytes_ / 255 - mean) / std


@pytest.mark.parametrize("kind", configs())
@torch.inference_mode()
def test_features_are_transformers_own(kind: str, tmp_path: Path) -> None:
    model = folder(tmp_path, kind)
    extractor = open_extractor(tmp_path)
    assert isinstance(extractor, VisionExtractor)
    features, theirs = extractor(pictures()), model(pixel_values=scaled(pictures()))
    torch.testing.assert_close(features.pooled, theirs.pooler_output)
    assert features.logits is None
    if kind == "dinov2":
        torch.testing.assert_close(features.pooled, theirs.last_hidden_state[:, 0])
    if kind == "convnext":
        places = theirs.last_hidden_state.permute(0, 2, 3, 1)[..., :7].flatten(1)
    else:
        before = {"dinov2-registers": 5, "siglip": 0}.get(kind, 1)
        places = theirs.last_hidden_state[:, before:, :7].flatten(1)
        assert places.shape == (3, 16 * 7)
    torch.testing.assert_close(features.spatial, places)


@torch.inference_mode()
def test_without_its_pooler_it_is_the_mean_over_tokens(tmp_path: Path) -> None:
    """transformers would draw the pooler's weights at random, other ones each time."""
    model = folder(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "pooler" not in k}, tmp_path / "model.safetensors", {"format": "pt"})
    theirs = model(pixel_values=scaled(pictures())).last_hidden_state.mean(1)
    torch.testing.assert_close(open_extractor(tmp_path)(pictures()).pooled, theirs)


@torch.inference_mode()
def test_of_a_model_of_words_and_pictures_the_tower(tmp_path: Path) -> None:
    text = {**SHAPE, "intermediate_size": 40, "vocab_size": 20, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    model = peer.SiglipModel(peer.SiglipConfig(text_config=text, vision_config=TOKENS)).eval()
    randomise(model.vision_model, 4)
    model.save_pretrained(tmp_path)
    peer.ViTImageProcessorPil(**SQUARE).save_pretrained(tmp_path)
    theirs = model.vision_model(pixel_values=scaled(pictures())).pooler_output
    torch.testing.assert_close(open_extractor(tmp_path)(pictures()).pooled, theirs)


def test_a_whole_clip_is_read_without_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = their_clip(tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    monkeypatch.setitem(sys.modules, "transformers", None)
    whole, shards = (open_extractor(tmp_path / name) for name in ("whole", "shards"))
    assert isinstance(whole, CLIPExtractor)
    assert torch.equal(whole(pictures()).pooled, shards(pictures()).pooled)
    assert whole.identity.digest != shards.identity.digest  # of all the files


@pytest.mark.parametrize(
    "processor",
    [
        peer.ViTImageProcessorPil(**{**SQUARE, "resample": 2}),
        peer.BitImageProcessorPil(**SCALE, size={"shortest_edge": 33}, crop_size={"height": 28, "width": 24}),
        peer.SiglipImageProcessorPil(**SCALE, size={"height": 20, "width": 30}),
    ],
)
@pytest.mark.parametrize("size", [(41, 57), (57, 41), (20, 90), (33, 33)])
def test_pictures_are_prepared_as_by_transformers(processor: Any, size: tuple[int, int], tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    # Bytes that no filter clips between its two passes, whose order Pillow chooses by what is cheaper.
    some = pictures(2, *size) // 2 + 64
    ours = read_preprocessing(tmp_path / "preprocessor_config.json")(some)
    images = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in some]
    theirs = processor(images, return_tensors="pt")["pixel_values"]
    step = 1 / 255 / min(SCALE["image_std"])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1.001 * step)


def test_it_says_what_it_is(tmp_path: Path) -> None:
    folder(tmp_path / "one")
    one = open_extractor(tmp_path / "one").identity
    assert (one.name, one.side, one.precision) == ("vit one", SIDE, "float32")
    assert one.resize == "bicubic, antialiased, 28x28, mean 0.5 0.4 0.3, std 0.2 0.3 0.4"
    assert one.digest == f"sha256:{sha256_of(tmp_path / 'one' / 'model.safetensors')}"
    edit(tmp_path / "one" / "preprocessor_config.json", lambda content: content.update(image_mean=[0.5, 0.5, 0.5]))
    assert open_extractor(tmp_path / "one").identity != one


@torch.inference_mode()
def test_the_digest_is_of_all_shards(tmp_path: Path) -> None:
    folder(tmp_path / "whole")
    folder(tmp_path / "shards", max_shard_size="10KB")
    shards = sorted((tmp_path / "shards").glob("*.safetensors"))
    assert len(shards) > 1
    whole, parts = (open_extractor(tmp_path / name) for name in ("whole", "shards"))
    assert torch.equal(whole(pictures()).pooled, parts(pictures()).pooled)
    assert parts.identity.digest not in {whole.identity.digest, *(f"sha256:{sha256_of(shard)}" for shard in shards)}
    last = load_file(shards[-1])
    save_file({key: tensor + 1 for key, tensor in last.items()}, shards[-1], {"format": "pt"})
    assert open_extractor(tmp_path / "shards").identity.digest != parts.identity.digest


STATED = {**SQUARE, "do_resize": True}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resample": 1}, r"resample is 1, needed is 2 \(bilinear\) or 3 \(bicubic\)"),
        ({"resample": None}, "resample is None"),
        ({"image_std": [0.5]}, "image_std is .*needed is three numbers"),
        ({"size": {"longest_edge": 28}}, "size is .* needed is a height and a width, or a shortest_edge"),
        ({"size": 28, "do_center_crop": True, "crop_size": 28}, "size is 28, needed is"),
        ({"size": {"height": 28, "width": 10**6}}, "from 1 to 4096"),
        ({"do_center_crop": True, "crop_size": 0}, "crop_size is 0"),
        ({"do_center_crop": True, "crop_size": 40}, "the middle 40x40 of pictures of 28x28 cannot be cut"),
        ({"do_resize": False}, "do_resize False is not supported"),
        ({"rescale_factor": 0.5}, "rescale_factor is 0.5"),
        ({"crop_pct": 0.875}, "crop_pct 0.875 is unknown here"),
        ({"size": {"height": 14, "width": 14}}, r"cannot read pictures \(3, 3, 14, 14\) .*correct the size in prep"),
    ],
)
def test_what_is_not_understood_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder(tmp_path, processor=STATED | change)
    with pytest.raises(UserError, match=said) as caught:
        open_extractor(tmp_path)(pictures())
    assert "\n" not in str(caught.value)


def test_old_files_state_one_number(tmp_path: Path) -> None:
    folder(tmp_path, processor=STATED | {"size": SIDE})
    assert open_extractor(tmp_path).identity.side == SIDE


@pytest.mark.parametrize("missing", ["resample", "image_mean"])
def test_nothing_is_guessed(missing: str, tmp_path: Path) -> None:
    folder(tmp_path, processor={key: value for key, value in STATED.items() if key != missing})
    with pytest.raises(UserError, match=f"{missing} is missing"):
        open_extractor(tmp_path)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    folder(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("embeddings.cls_token")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 tensor: embeddings.cls_token of ViTModel"):
        open_extractor(tmp_path)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder(tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model.safetensors is missing; get the folder with its weights as safetens"):
        open_extractor(tmp_path)


def test_no_code_of_a_folder_is_run(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nOwnConfig = OwnModel = None\n")
    own = {"auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}, "model_type": "own"}
    edit(tmp_path / "config.json", lambda content: content.update(own))
    with pytest.raises(UserError, match="cannot be opened with transformers"):
        open_extractor(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_model_of_words_is_refused(tmp_path: Path) -> None:
    config = peer.BertConfig(**SHAPE, intermediate_size=40, vocab_size=20)
    peer.BertModel(config).save_pretrained(tmp_path)
    peer.ViTImageProcessorPil(**SQUARE).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a BertModel, which reads no pictures"):
        open_extractor(tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "elsewhere")
    (tmp_path / "model" / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="leads out of its folder"):
        open_extractor(tmp_path / "model")


def test_without_transformers_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'latentbrush\[features\]'"):
        open_extractor(tmp_path)
