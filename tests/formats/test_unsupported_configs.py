"""Configurations of networks and schedulers that are not supported: an error that names the file and the value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from spoiling import edit, fails

from latentbrush.errors import UserError
from latentbrush.formats import load_model

pytestmark = pytest.mark.capability("strict-loading")


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
