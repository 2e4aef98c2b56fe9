"""Every way a model's folder can be broken is an error that names the file, the value and what would do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.formats import load_autoencoder, load_model

pytestmark = pytest.mark.capability("strict-loading")

UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def fails(folder: Path, *parts: str) -> None:
    """Loading is a UserError of one line that has all these parts."""
    with pytest.raises(UserError) as caught:
        load_model(folder)
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def edit(path: Path, changes: dict[str, Any]) -> None:
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps(content))


def reweigh(path: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    state = {key: tensor.clone() for key, tensor in load_file(path).items()}
    change(state)
    save_file(state, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "file",
    [
        "model_index.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
        "latentbrush.json",
        "tokenizer/vocab.json",
        "tokenizer/tokenizer_config.json",
    ],
)
def test_json_that_is_none(file: str, folder: Path) -> None:
    for content in (b"", b"{", b"\xff\xfe", b"[" * 100_000):
        (folder / file).write_bytes(content)
        fails(folder, str(folder / file), "cannot be read as JSON", "again")
    (folder / file).write_text("[1, 2]")
    fails(folder, str(folder / file), "JSON list", "object")
    if file != "latentbrush.json" and not file.startswith("tokenizer/"):
        (folder / file).unlink()
        fails(folder, file.rpartition("/")[2])


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_part_that_is_missing(part: str, folder: Path) -> None:
    shutil.rmtree(folder / part)
    fails(folder, f"{folder / part}")


def test_no_model_at_all(tmp_path: Path) -> None:
    fails(tmp_path, "has no model_index.json (but nothing)", "give the folder")
    (tmp_path / "picture.png").write_text("")
    fails(tmp_path, "has no model_index.json (but picture.png)")
    fails(tmp_path / "nowhere", "nowhere' does not exist", "diffusers folder, a single file or a shipped model")
    with pytest.raises(UserError, match=r"config.json is missing"):
        load_autoencoder(tmp_path)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"unet": ["diffusers", "UNet2DModel"]}, ["unet", "UNet2DModel", "UNet2DConditionModel"]),
        ({"vae": ["diffusers", "VQModel"]}, ["vae", "VQModel", "AutoencoderKL"]),
        ({"text_encoder": ["transformers", "T5EncoderModel"]}, ["T5EncoderModel", "CLIPTextModel"]),
        ({"tokenizer": [None, None]}, ["tokenizer", "CLIPTokenizer or CLIPTokenizerFast"]),
        ({"text_encoder": ["os", "CLIPTextModel"]}, ["text_encoder", "'os'"]),
        ({"text_encoder_2": ["transformers", "CLIPTextModel"]}, ["text_encoder_2", "CLIPTextModelWithProjection"]),
        ({"scheduler": "DDIMScheduler"}, ["scheduler is 'DDIMScheduler'", "a library and a class"]),
        ({"scheduler": ["diffusers", "VQDiffusionScheduler"]}, ["VQDiffusionScheduler", "PNDM", "--sampler ddim|"]),
    ],
)
def test_parts_of_other_classes(changes: dict[str, Any], parts: list[str], folder: Path) -> None:
    edit(folder / "model_index.json", changes)
    fails(folder, "model_index" if "VQD" not in str(changes) else "scheduler_config", *parts)


def test_parts_that_change_nothing(folder: Path) -> None:
    checker = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    edit(folder / "model_index.json", {"safety_checker": checker, "anything_else": [None, None]})
    load_model(folder)


UNSUPPORTED: list[tuple[str, dict[str, Any], str]] = [
    ("unet", {"class_embed_type": "timestep"}, "class_embed_type 'timestep' is not supported; only None"),
    (
        "unet",
        {"addition_embed_type": "image"},
        "addition_embed_type 'image' is not supported; only None or 'text_time'",
    ),
    ("unet", {"addition_embed_type": "text_time"}, "projection_class_embeddings_input_dim is missing"),
    ("unet", {"addition_time_embed_dim": 256}, "addition_time_embed_dim 256 is not supported; only None"),
    ("unet", {"num_class_embeds": True}, "num_class_embeds is True, needed is a whole number"),
    ("unet", {"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift 'scale_shift'"),
    ("unet", {"act_fn": "gelu"}, "act_fn 'gelu' is not supported; only 'silu' or 'swish'"),
    ("unet", {"only_cross_attention": 1}, "only_cross_attention is 1, needed is true or false, once or "),
    ("unet", {"only_cross_attention": [True] * 9}, "needed is true or false, once or "),
    ("unet", {"dual_cross_attention": True}, "dual_cross_attention True"),
    ("unet", {"mid_block_type": None}, "mid_block_type None"),
    ("unet", {"mid_block_type": "UNetMidBlock2D"}, "mid_block_type 'UNetMidBlock2D'"),
    ("unet", {"conv_in_kernel": 1}, "conv_in_kernel 1"),
    ("unet", {"center_input_sample": True}, "center_input_sample True"),
    ("unet", {"time_embedding_type": "fourier"}, "time_embedding_type 'fourier'"),
    ("unet", {"time_embedding_dim": 7}, "time_embedding_dim 7 is not supported; only None or 32"),
    ("unet", {"time_cond_proj_dim": 256}, "time_cond_proj_dim 256"),
    ("unet", {"encoder_hid_dim": 4096}, "encoder_hid_dim 4096"),
    ("unet", {"attention_type": "gated"}, "attention_type 'gated'"),
    ("unet", {"num_attention_heads": 8}, "num_attention_heads 8"),
    ("unet", {"downsample_padding": 0}, "downsample_padding 0"),
    ("unet", {"norm_num_groups": None}, "norm_num_groups is None, needed is a whole number"),
    ("unet", {"norm_num_groups": 3}, "8 channels are not divisible by 3 norm groups"),
    ("unet", {"attention_head_dim": [2, 2, 2]}, "attention_head_dim is [2, 2, 2], needed is one number, or 2"),
    ("unet", {"attention_head_dim": 3}, "8 UNet channels are not divisible by 3 attention heads"),
    ("unet", {"transformer_layers_per_block": [[1], [1]]}, "transformer_layers_per_block is [[1], [1]]"),
    ("unet", {"layers_per_block": [1, 2]}, "layers_per_block is [1, 2], needed is one number for all"),
    ("unet", {"cross_attention_dim": [12, 24]}, "cross_attention_dim is [12, 24]"),
    ("unet", {"sample_size": [8, 16]}, "sample_size is [8, 16]"),
    ("unet", {"down_block_types": ["CrossAttnDownBlock2D", "AttnDownBlock2D"]}, "'AttnDownBlock2D'"),
    ("unet", {"up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"]}, "must mirror the way down"),
    ("unet", {"block_out_channels": "wide"}, "block_out_channels is 'wide', needed is whole numbers"),
    ("unet", {"in_channels": 4.5}, "in_channels is 4.5, needed is a whole number"),
    ("unet", {"in_channels": True}, "in_channels is True"),
    ("unet", {"norm_eps": "small"}, "norm_eps is 'small', needed is a finite number"),
    ("unet", {"use_linear_projection": 1}, "use_linear_projection is 1, needed is true or false"),
    ("unet", {"a_new_idea": 3}, "a_new_idea 3 is unknown here and may change what the model computes"),
    ("vae", {"act_fn": "relu"}, "act_fn 'relu'"),
    ("vae", {"shift_factor": 0.1}, "shift_factor 0.1"),
    ("vae", {"latents_mean": [0.1]}, "latents_mean [0.1]"),
    ("vae", {"latents_std": [0.1]}, "latents_std [0.1]"),
    ("vae", {"use_quant_conv": False}, "use_post_quant_conv True"),
    ("vae", {"down_block_types": ["AttnDownEncoderBlock2D"] * 2}, "down_block_types ['AttnDown"),
    ("vae", {"out_channels": 4}, "out_channels 4 is not supported; only 3"),
    ("vae", {"scaling_factor": 0}, "scaling_factor 0.0 must be finite and above 0"),
    ("vae", {"scaling_factor": None}, "scaling_factor is None"),
    ("vae", {"spatial_compression": 8}, "spatial_compression 8 is unknown"),
    ("text_encoder", {"hidden_act": "relu"}, "hidden_act 'relu' is not supported; only 'quick_gelu' or 'gelu'"),
    ("text_encoder", {"model_type": "clip_vision_model"}, "model_type 'clip_vision_model'"),
    ("text_encoder", {"use_attention_mask": True}, "use_attention_mask True"),
    ("text_encoder", {"num_attention_heads": 5}, "CLIP text width 12 is not divisible by its 5 heads"),
    ("text_encoder", {"rope_theta": 1e4}, "rope_theta 10000.0 is unknown"),
]


@pytest.mark.parametrize(("part", "changes", "message"), UNSUPPORTED)
def test_configurations_that_are_not_supported(part: str, changes: dict[str, Any], message: str, folder: Path) -> None:
    edit(folder / part / "config.json", changes)
    fails(folder, str(folder / part / "config.json"), message)


def test_configurations_that_say_nothing_new(folder: Path) -> None:
    edit(folder / "unet" / "config.json", {"a_new_idea": None, "b": False, "c": [], "_d": 4, "upcast_attention": True})
    edit(folder / "vae" / "config.json", {"force_upcast": False, "shift_factor": 0.0, "latents_mean": None})
    edit(folder / "text_encoder" / "config.json", {"initializer_range": 0.5, "torch_dtype": "float16"})
    load_model(folder)


SCHEDULERS: list[tuple[str, dict[str, Any], str]] = [
    ("DDIMScheduler", {"thresholding": True, "sample_max_value": 0.5}, "quantile 0.995 up to 0.5"),
    ("DDPMScheduler", {"variance_type": "learned"}, "variance_type 'learned' is unknown; choose one of fixed_small"),
    ("DDIMScheduler", {"beta_schedule": "sigmoid"}, "beta_schedule 'sigmoid' is unknown"),
    ("DDIMScheduler", {"prediction_type": "flow"}, "prediction_type 'flow' is not supported; only 'epsilon'"),
    ("DDIMScheduler", {"timestep_spacing": "odd"}, "spacing 'odd' is unknown; choose one of leading"),
    ("DDIMScheduler", {"beta_start": 2.0}, "betas from 2.0 to 0.012"),
    ("DDIMScheduler", {"trained_betas": "many"}, "trained_betas is 'many'"),
    ("DDIMScheduler", {"a_new_idea": 1}, "a_new_idea 1 is unknown"),
    (
        "EulerDiscreteScheduler",
        {"use_beta_sigmas": True, "use_karras_sigmas": True},
        "use_karras_sigmas and use_beta_sigmas exclude each other",
    ),
    ("EulerDiscreteScheduler", {"use_beta_sigmas": True, "sigma_max": 10.0}, "sigma_max 10.0 is not supported"),
    ("EulerDiscreteScheduler", {"interpolation_type": "log_linear"}, "interpolation_type 'log_linear'"),
    ("EulerDiscreteScheduler", {"timestep_type": "continuous"}, "timestep_type 'continuous'"),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver"}, "algorithm_type 'dpmsolver'"),
    (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "solver_order": 3},
        "solver_order 3 with algorithm_type 'sde-dpmsolver++' is not supported",
    ),
    ("DPMSolverMultistepScheduler", {"solver_type": "rk4"}, "solver_type 'rk4' is unknown; choose one of midpoint"),
    ("DPMSolverMultistepScheduler", {"solver_order": 4}, "solver_order is 4; choose 1, 2 or 3"),
    ("DPMSolverMultistepScheduler", {"lambda_min_clipped": "low"}, "lambda_min_clipped is 'low'"),
    ("DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++"}, "algorithm_type 'sde-dpmsolver++'"),
    ("DPMSolverSDEScheduler", {"noise_sampler_seed": 4}, "noise_sampler_seed 4 is not supported"),
    ("UniPCMultistepScheduler", {"predict_x0": False}, "predict_x0 False is not supported"),
    ("UniPCMultistepScheduler", {"disable_corrector": [0]}, "disable_corrector [0] is not supported"),
    ("LCMScheduler", {"original_inference_steps": 0}, "original_inference_steps is 0; choose 1 or more"),
    ("DPMSolverMultistepScheduler", {"use_lu_lambdas": True}, "use_lu_lambdas True"),
    ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True}, "use_flow_sigmas True"),
    ("DPMSolverMultistepScheduler", {"variance_type": "learned"}, "variance_type 'learned'"),
]


@pytest.mark.parametrize(("scheduler", "changes", "message"), SCHEDULERS)
def test_schedulers_that_are_not_supported(scheduler: str, changes: dict[str, Any], message: str, folder: Path) -> None:
    edit(folder / "model_index.json", {"scheduler": ["diffusers", scheduler]})
    edit(folder / "scheduler" / "scheduler_config.json", changes)
    fails(folder, str(folder / "scheduler" / "scheduler_config.json"), message)


def test_a_schedule_that_another_class_does_not_state_is_not_guessed(folder: Path) -> None:
    edit(folder / "model_index.json", {"scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]})
    (folder / "scheduler" / "scheduler_config.json").write_text('{"shift": 3.0}')
    with pytest.raises(UserError, match="FlowMatchEulerDiscreteScheduler states no beta_start"):
        load_model(folder, sampler="euler")
    with pytest.raises(UserError, match="sampler 'plsm' is unknown; choose one of ddim"):
        load_model(folder, sampler="plsm")


def test_tensors_missing_unused_misshaped_or_of_the_wrong_kind(folder: Path) -> None:
    path = folder / UNET_WEIGHTS
    whole = path.read_bytes()

    def spoilt(change: Callable[[dict[str, Tensor]], None], *parts: str) -> None:
        path.write_bytes(whole)
        reweigh(path, change)
        fails(folder, str(path), *parts)

    def half_gone(state: dict[str, Tensor]) -> None:
        for key in sorted(state)[:5]:
            del state[key]

    def renamed(state: dict[str, Tensor]) -> None:
        state["conv_in.mass"] = state.pop("conv_in.weight")

    spoilt(lambda state: state.pop("conv_in.bias"), "lacks 1 tensor: conv_in.bias")  # type: ignore[arg-type]
    spoilt(half_gone, "lacks 5 tensors: ", "conv_in.weight, conv_in.bias, ", ", ...")
    spoilt(renamed, "lacks 1 tensor: conv_in.weight", "holds 1 tensor: conv_in.mass instead")
    spoilt(lambda s: s.update(extra=torch.zeros(1)), "holds 1 tensor: extra that config.json does not ask for")
    spoilt(
        lambda s: s.update({"conv_in.bias": torch.zeros(9)}),
        "disagrees with config.json about the shape of 1 tensor: conv_in.bias [9] instead of [8]",
    )
    spoilt(
        lambda s: s.update({"conv_in.bias": torch.zeros(8, dtype=torch.int32)}),
        "holds 1 tensor: conv_in.bias I32; weights must be one of F16, BF16, F32, F64",
    )


def test_a_tensor_under_two_names(folder: Path) -> None:
    path = folder / "text_encoder" / "model.safetensors"
    reweigh(path, lambda s: s.update({"final_layer_norm.bias": s["text_model.final_layer_norm.bias"].clone()}))
    fails(folder, str(path), "holds 'final_layer_norm.bias' twice")


def test_files_that_are_cut_or_lie(folder: Path) -> None:
    path = folder / UNET_WEIGHTS
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    unsound, other = "is no sound safetensors file", "is neither a safetensors file nor one of torch.save"
    for content, said in (
        (b"", "is empty; copy or download it again"),
        (whole[:5], other),
        (whole[: 8 + header // 2], unsound),
        (whole[:-1], unsound),
        (whole + b"more", unsound),
        ((2**62).to_bytes(8, "little") + whole[8:], unsound),
        ((header + 8).to_bytes(8, "little") + whole[8:], unsound),
        (whole[:8] + b"\xff" * header + whole[8 + header :], other),
        (b"PK\x03\x04" + whole[4:], "is no sound torch.save file"),
        (whole.replace(b'"data_offsets":[0,', b'"data_offsets":[4,', 1), unsound),
    ):
        path.write_bytes(content)
        fails(folder, str(path), said)


@pytest.mark.capability("safe-loading")
def test_weights_that_are_missing(folder: Path) -> None:
    path = folder / UNET_WEIGHTS
    path.rename(path.with_suffix(".pth"))
    fails(folder, str(path), "is missing")


@pytest.mark.capability("sharded-files")
def test_variants(folder: Path) -> None:
    path = folder / UNET_WEIGHTS
    variant = path.with_name("diffusion_pytorch_model.bf16.safetensors")
    path.rename(variant)
    load_model(folder)
    shutil.copy(variant, path.with_name("diffusion_pytorch_model.other.safetensors"))
    fails(folder, "rename the one to use to diffusion_pytorch_model.safetensors", "bf16", "other")
    shutil.copy(variant, path.with_name("diffusion_pytorch_model.fp16.safetensors"))
    load_model(folder)


def shard(folder: Path) -> Path:
    """The UNet's weights in two files with an index; returns the index."""
    path = folder / UNET_WEIGHTS
    state = load_file(path)
    keys = sorted(state)
    places = {}
    for i, part in enumerate((keys[:20], keys[20:])):
        name = f"diffusion_pytorch_model-{i + 1:05}-of-00002.safetensors"
        save_file({key: state[key].clone() for key in part}, path.with_name(name))
        places.update(dict.fromkeys(part, name))
    path.unlink()
    index = path.with_name("diffusion_pytorch_model.safetensors.index.json")
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


@pytest.mark.capability("safe-loading", "sharded-files")
def test_shards_stay_in_their_folder(folder: Path, tmp_path: Path) -> None:
    index = shard(folder)
    load_model(folder)
    places = json.loads(index.read_text())["weight_map"]
    names = sorted(set(places.values()))
    outside = tmp_path / names[0]
    shutil.copy(index.with_name(names[0]), outside)
    for name in (f"../../{names[0]}", str(outside), f"..\\{names[0]}", "..", "."):
        moved = {key: name if value == names[0] else value for key, value in places.items()}
        edit(index, {"weight_map": moved})
        fails(folder, str(index), "leads out of its folder")
    edit(index, {"weight_map": places})
    index.with_name(names[0]).unlink()
    fails(folder, names[0], "is missing, though")
    index.with_name(names[0]).symlink_to(outside)
    fails(folder, str(index.with_name(names[0])), "leads out of its folder")


def test_an_index_tells_the_truth(folder: Path) -> None:
    index = shard(folder)
    places = json.loads(index.read_text())["weight_map"]
    first, last = sorted(set(places.values()))
    edit(index, {"weight_map": {**places, "conv_in.bias": last}})
    fails(folder, str(index), f"'conv_in.bias' in {last}, but it lies in {first}")
    edit(index, {"weight_map": {k: v for k, v in places.items() if k != "conv_in.bias"}})
    fails(folder, str(index), f"'conv_in.bias' in None, but it lies in {first}")
    edit(index, {"weight_map": {**places, "conv_in.more": last}})
    fails(folder, str(index), f"'conv_in.more' in {last}, but it lies in None")
    for wrong in ({}, None, ["a"], {"a": 1}):
        edit(index, {"weight_map": wrong})
        fails(folder, str(index), "has no weight_map")


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("latentbrush.json", {"steps": 0}, "default steps is 0; choose at least 1"),
        ("latentbrush.json", {"steps": "many"}, "steps is 'many', needed is a whole number"),
        ("latentbrush.json", {"width": 17}, "size 17x24 does not fit: both sides must be multiples of 2 pixels"),
        ("latentbrush.json", {"format": 2}, "format 2 is not supported; only 1 is"),
        ("latentbrush.json", {"eta": 7}, "eta is 7.0; choose a number from 0"),
        ("latentbrush.json", {"mood": "good"}, "mood 'good' is unknown"),
        ("latentbrush.json", {"guidance": float("inf")}, "guidance is inf, needed is a finite number"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 9}, "9 exceeds the text tower's 8 positions"),
        (
            "tokenizer/tokenizer_config.json",
            {"added_tokens_decoder": {"514": {"content": "<cat>"}}},
            "the tokeniser knows 515 tokens, the text tower 514",
        ),
    ],
)
def test_parts_that_do_not_fit(file: str, changes: dict[str, Any], message: str, folder: Path) -> None:
    edit(folder / file, changes)
    fails(folder, message)


def test_networks_that_do_not_fit(folder: Path) -> None:
    """Each sound in itself, but from unlike models."""
    config = folder / "unet" / "config.json"
    plain, path = json.loads(config.read_text()), folder / UNET_WEIGHTS
    weights = path.read_bytes()
    edit(config, {"num_class_embeds": 10})
    fails(folder, "lacks 1 tensor: class_embedding.weight")
    reweigh(path, lambda s: s.update({"class_embedding.weight": torch.zeros(10, 32)}))
    fails(folder, "the UNet wants a label of its 10 classes beside the text")
    path.write_bytes(weights)
    config.write_text(json.dumps({**plain, "in_channels": 6}))
    reweigh(path, lambda s: s.update({"conv_in.weight": torch.zeros(8, 6, 3, 3)}))
    fails(folder, "from 6 to 4 channels, the autoencoder's latents have 4")
    config.write_text(json.dumps({**plain, "cross_attention_dim": 5}))
    path.write_bytes(weights)

    def narrower(state: dict[str, Tensor]) -> None:
        for key, tensor in state.items():
            if "attn2.to_k" in key or "attn2.to_v" in key:
                state[key] = tensor[:, :5].clone()

    reweigh(path, narrower)
    fails(folder, "a context of width 5, the text tower writes 12")
