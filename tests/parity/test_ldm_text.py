"""LDM's own text-to-image model beside diffusers: its tower, its tokens, and whole pictures, latents at every step.

Networks 1e-9 relative in float64; pictures with the tolerances of test_pictures.py, whose reasons hold here, too.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    LDMTextToImagePipeline,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from diffusers.pipelines.latent_diffusion import pipeline_latent_diffusion
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_networks import close
from test_pictures import PUBLISHED, compare, ours
from tiny_ldm import VOCABULARY, tiny_bert, tiny_bert_tokenizer, tiny_ldm, write_vocabulary
from tokenizers import Tokenizer as BackendTokenizer
from torch import Tensor
from transformers import BertTokenizer

from latentbrush import Canvas, GuidanceRequest, ImageRequest, Sampling, load
from latentbrush.conditioning import WordPieceTokenizer, spell
from latentbrush.errors import UserError
from latentbrush.files import read_json, write_json
from latentbrush.formats import load_tokenizer, save_model, summarise
from latentbrush.formats.bert import read_bert_config
from latentbrush.formats.fields import Fields
from latentbrush.formats.keys import LDM_BERT
from latentbrush.formats.network import fields_of
from latentbrush.model import LatentDiffusion
from latentbrush.nn import LDMBertModel

pytestmark = [
    pytest.mark.capability("bert-text", "text-to-image"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

PROMPT, SEEDS = "A red café cat on the sofa, painting's heart!", [0, 1, 2]
# Those that start from unit noise and read it as it is: the pipeline knows no other.
SCHEDULERS = [
    DDIMScheduler,
    PNDMScheduler,
    DPMSolverMultistepScheduler,
    UniPCMultistepScheduler,
    DEISMultistepScheduler,
]
PART_FILES = {"bert": "model", "unet": "diffusion_pytorch_model", "vqvae": "diffusion_pytorch_model"}
TEXTS = [
    "",
    "A RED CAFÉ cat",
    "paints painting paintly, undo!",
    "it's a dog... 0 1",
    "빨간 猫猫\t\n cat\u0000dog\u00a0on",
    "[MASK] [CLS] a[SEP]b [PAD]",
    "x" * 101 + " cat",
    "the cat " * 60,
    "\ud55c e\u0301 \u1e9e İ",
]


def wanted(steps: int, weight: float, width: int = 64, height: int = 64) -> ImageRequest:
    return ImageRequest(
        prompt=PROMPT,
        canvas=Canvas(width=width, height=height),
        sampling=Sampling(steps=steps, seed=SEEDS[0], count=len(SEEDS)),
        guidance=GuidanceRequest(weight=weight),
    )


def theirs(pipeline: LDMTextToImagePipeline, request: ImageRequest) -> tuple[list[Tensor], np.ndarray]:
    """Latents after every step, which only the scheduler can tell, and the pictures."""
    steps: list[Tensor] = []
    whole_step = pipeline.scheduler.step

    def step(*args: Any, **options: Any) -> Any:
        out = whole_step(*args, **options)
        steps.append(out.prev_sample.clone())
        return out

    with mock.patch.object(pipeline.scheduler, "step", step, create=True):
        images = pipeline(
            [request.prompt] * len(SEEDS),
            width=request.canvas.width,
            height=request.canvas.height,
            num_inference_steps=request.sampling.steps,
            guidance_scale=request.guidance.weight,
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in SEEDS],
        ).images
    return steps, np.stack([np.asarray(image) for image in images]).astype(int)


@pytest.fixture(scope="module", params=SCHEDULERS, ids=lambda scheduler: scheduler.__name__)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("ldm")
    changes = {"skip_prk_steps": True} if request.param is PNDMScheduler else {}
    pipeline = tiny_ldm(0, request.param, **changes)
    pipeline.save_pretrained(folder)
    return load(folder, dtype=torch.float64), pipeline.to(torch.float64)


@pytest.mark.compatible("ldm-text", "folder")
@pytest.mark.parametrize("call", [(7, 1.0, 64, 64), (7, 6.0, 48, 64), (2, 6.0, 64, 64), (2, 1.0, 64, 40)])
def test_pictures(pair: tuple[LatentDiffusion, LDMTextToImagePipeline], call: Any) -> None:
    model, pipeline = pair
    request = wanted(*call)
    compare(ours(model, request), theirs(pipeline, request), PUBLISHED)


def test_the_offset_is_the_file_s_own(tmp_path: Path) -> None:
    """StableDiffusionPipeline takes 1 whatever is stated; this one does not."""
    pipeline = tiny_ldm(3, steps_offset=0)
    pipeline.save_pretrained(tmp_path)
    model, request = load(tmp_path, dtype=torch.float64), wanted(2, 6.0)
    assert model.plan_config().steps_offset == 0
    compare(ours(model, request), theirs(pipeline.to(torch.float64), request), PUBLISHED)
    save_model(model, tmp_path / "again")
    assert load(tmp_path / "again").plan_config().steps_offset == 0


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ldm")
    tiny_ldm().save_pretrained(folder)
    return folder


def test_defaults_are_the_pipeline_s(saved: Path) -> None:
    model = load(saved)
    assert (model.defaults.steps, model.defaults.guidance, model.defaults.width) == (50, 1.0, 64)
    assert model.sampler == "ddim"
    assert summarise(saved).family == "latent diffusion (LDM), text-to-image"


def test_the_tower(saved: Path) -> None:
    model, tower = load(saved, dtype=torch.float64), tiny_bert().double()
    tokens = torch.randint(len(VOCABULARY), (3, 77), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        close(model.text.encoder(tokens), tower(tokens)[0])
        close(model.text.encoder(tokens[:, :5]), tower(tokens[:, :5])[0])
        last = tokens.clone()
        last[:, -1] = (last[:, -1] + 1) % len(VOCABULARY)
        # Nothing is hidden: what comes last is seen from the first place on.
        assert float((model.text.encoder(last) - model.text.encoder(tokens))[:, 0].abs().max()) > 1e-6
    with pytest.raises(ValueError, match=r"n up to 77, not \(1, 78\)"):
        model.text.encoder(torch.zeros(1, 78, dtype=torch.int64))


@pytest.mark.compatible("ldm-text", "save")
@pytest.mark.capability("diffusers-folders")
def test_folders_go_both_ways(saved: Path, tmp_path: Path) -> None:
    model = load(saved)
    save_model(model, tmp_path / "ours")
    again = LDMTextToImagePipeline.from_pretrained(tmp_path / "ours")
    for part, stem in PART_FILES.items():
        first, second = (load_file(folder / part / f"{stem}.safetensors") for folder in (saved, tmp_path / "ours"))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
        state = getattr(again, part).state_dict()
        assert all(torch.equal(state[key], first[key]) for key in first)
    index, written = read_json(saved / "model_index.json"), read_json(tmp_path / "ours/model_index.json")
    assert {key: index[key] for key in PART_FILES} == {key: written[key] for key in PART_FILES}
    assert index.keys() == written.keys()
    assert again.tokenizer(PROMPT).input_ids == tiny_bert_tokenizer()(PROMPT).input_ids
    request = wanted(2, 6.0)
    compare(
        ours(load(tmp_path / "ours", dtype=torch.float64), request), theirs(again.to(torch.float64), request), PUBLISHED
    )


def _ids(texts: list[str]) -> list[list[int]]:
    found = tiny_bert_tokenizer()(texts, padding="max_length", max_length=77, truncation=True)
    return [list(ids) for ids in found.input_ids]


@pytest.mark.parametrize("kind", ["vocab.txt", "tokenizer.json"])
def test_tokens(kind: str, saved: Path, tmp_path: Path) -> None:
    folder = write_vocabulary(tmp_path) if kind == "vocab.txt" else saved / "tokenizer"
    assert (folder / kind).is_file()
    tokenizer = WordPieceTokenizer.from_folder(folder, max_length=77)
    assert tokenizer.encode(TEXTS).tolist() == _ids(TEXTS)
    tokenizer.save(tmp_path / "again")
    assert WordPieceTokenizer.from_folder(tmp_path / "again", max_length=77).encode(TEXTS).tolist() == _ids(TEXTS)


@pytest.mark.parametrize(
    ("key", "rule"),
    [("strip_accents", "strip_accents"), ("tokenize_chinese_chars", "handle_chinese_chars")],
)
def test_rules_that_two_files_state(key: str, rule: str, saved: Path, tmp_path: Path) -> None:
    """The normalizer is what the tokenizers library goes by, the configuration what transformers goes by."""
    folder = tmp_path / "tokenizer"
    shutil.copytree(saved / "tokenizer", folder)
    content, config = read_json(folder / "tokenizer.json"), read_json(folder / "tokenizer_config.json")
    for value in (True, False):
        content["normalizer"][rule] = value
        write_json(folder / "tokenizer.json", content)
        write_json(folder / "tokenizer_config.json", config | {key: value})
        texts = ["A RED CAFÉ cat", "빨간 猫猫"]
        wanted = BertTokenizer.from_pretrained(folder)(texts, padding="max_length", max_length=77, truncation=True)
        assert BackendTokenizer.from_file(str(folder / "tokenizer.json")).encode(texts[0]).ids == [
            token for token, seen in zip(wanted.input_ids[0], wanted.attention_mask[0], strict=True) if seen
        ]
        assert WordPieceTokenizer.from_folder(folder, max_length=77).encode(texts).tolist() == wanted.input_ids
        write_json(folder / "tokenizer_config.json", config | {key: not value})
        with pytest.raises(UserError, match=f"{key} {not value} is not what tokenizer.json says, {rule} {value}"):
            WordPieceTokenizer.from_folder(folder, max_length=77)
    write_json(folder / "tokenizer_config.json", {name: config[name] for name in config if name != key})
    with pytest.raises(UserError, match=f"{key} (True|None) is not what tokenizer.json says, {rule} False"):
        WordPieceTokenizer.from_folder(folder, max_length=77)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("abcdeghinoprstuf ,.'!-É猫빨間\u0301\t[]MASK0129🎨"), max_size=40))
def test_any_text(text: str) -> None:
    tokenizer = WordPieceTokenizer({token: i for i, token in enumerate(VOCABULARY)}, max_length=77)
    assert tokenizer.encode([text]).tolist() == _ids([text])


def test_a_prompt_can_be_spelt(saved: Path) -> None:
    spelling = spell(load_tokenizer(saved), "Painting a CAFÉ")
    assert [(token.piece, token.text) for token in spelling.tokens] == [
        ("paint", "Paint"),
        ("##ing", "ing"),
        ("a", "a"),
        ("caf", "CAF"),
        ("##e", "É"),
    ]
    long = "cat " * 80
    assert spell(load_tokenizer(saved), long).left_out == long[75 * 4 :]


def _changed(folder: Path, tmp_path: Path, name: str, **fields: Any) -> Path:
    shutil.copytree(folder, tmp_path / "model")
    path = tmp_path / "model" / name
    write_json(path, read_json(path) | fields)
    return tmp_path / "model"


@pytest.mark.capability("strict-loading", "one-line-errors")
@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        (
            "bert/config.json",
            {"activation_function": "relu"},
            "activation_function 'relu' is not supported; only 'gelu'",
        ),
        (
            "bert/config.json",
            {"head_dim": 6},
            "disagrees with config.json about the shape of 8 tensors: .*q_proj.weight",
        ),
        ("bert/config.json", {"head_dim": 0}, "LDM's BERT head_width 0 must be at least 1"),
        ("bert/config.json", {"num_hidden_layers": 3}, "num_hidden_layers is 3, needed is 2, as encoder_layers"),
        ("bert/config.json", {"relative": True}, "relative True is unknown here"),
        ("bert/config.json", {"vocab_size": 30}, "the shape of 3 tensors: model.embed_tokens.weight"),
        ("tokenizer/tokenizer_config.json", {"padding_side": "left"}, "padding_side 'left' is not supported"),
        ("tokenizer/tokenizer_config.json", {"do_lower_case": False}, "do_lower_case False is not what tokenizer.json"),
        ("tokenizer/tokenizer_config.json", {"do_lower_case": 1}, "do_lower_case is 1, needed is true or false"),
        (
            "tokenizer/tokenizer_config.json",
            {"cls_token": "[BOS]"},
            "added token '.CLS.' with number 2 is none of BERT's",
        ),
        ("tokenizer/tokenizer.json", {"model": {"type": "BPE"}}, "holds a 'BPE' tokeniser; needed is BERT's"),
        *(
            ("tokenizer/tokenizer.json", {"model": {"type": "WordPiece", "vocab": vocab}}, "no vocabulary of tokens")
            for vocab in ({"a": 7}, {"a": 0.0}, {"a": 0, "b": True}, {"a": "0"}, {"a": None}, {"a": [0]}, [0], None)
        ),
        (
            "model_index.json",
            {"bert": ["transformers", "BertModel"]},
            "only latent_diffusion's LDMBertModel is supported",
        ),
        ("model_index.json", {"tokenizer": ["transformers", "CLIPTokenizer"]}, "only transformers's BertTokenizer or"),
        ("model_index.json", {"vqvae": ["diffusers", "VQModel"]}, "only diffusers's AutoencoderKL is supported"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, fields: dict[str, Any], said: str, saved: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said) as refused:
        load(_changed(saved, tmp_path, name, **fields))
    assert "\n" not in str(refused.value)


def test_a_vocabulary_that_is_missing_or_broken(saved: Path, tmp_path: Path) -> None:
    folder = _changed(saved, tmp_path, "model_index.json")
    (folder / "tokenizer/tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"has no vocab.txt and no tokenizer.json; put BERT's vocabulary"):
        load(folder)
    (folder / "tokenizer/vocab.txt").write_text("[PAD]\ncat\ncat\n")
    with pytest.raises(UserError, match="has 3 lines of 2 different tokens"):
        load(folder)
    (folder / "tokenizer/vocab.txt").write_text("[PAD]\ncat\n")
    with pytest.raises(UserError, match=r"the special token '.CLS.' is not among the 2 of the vocabulary"):
        load(folder)
    write_vocabulary(folder / "tokenizer")
    with (folder / "tokenizer/vocab.txt").open("a") as file:
        file.write("more\n")
    with pytest.raises(UserError, match="the tokeniser knows 39 tokens, the text tower 38"):
        load(folder)


@pytest.mark.compatible("ldm-text", "size")
def test_the_published_size(tmp_path: Path) -> None:
    """The shapes, keys and number of parameters of diffusers' tower of its own defaults."""
    with torch.device("meta"):
        oracle = pipeline_latent_diffusion.LDMBertModel(pipeline_latent_diffusion.LDMBertConfig())
    oracle.config.save_pretrained(tmp_path)
    config = read_bert_config(fields_of(tmp_path / "config.json"))
    assert config == read_bert_config(Fields(Path("config.json"), {}))
    with torch.device("meta"):
        tower = LDMBertModel(config)
    shapes = {LDM_BERT.theirs(name): tensor.shape for name, tensor in tower.state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in oracle.state_dict().items()}
    assert all(LDM_BERT.ours(LDM_BERT.theirs(name)) == name for name in tower.state_dict())
    assert sum(parameter.numel() for parameter in tower.parameters()) == sum(p.numel() for p in oracle.parameters())
