"""Folders that diffusers saved open here, and folders saved here open in diffusers, with equal weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMParallelScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from tiny import BETAS, Kind, save_tiny_pipeline, tiny_autoencoder
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from latentbrush.diffusion import make_plan
from latentbrush.errors import UserError
from latentbrush.formats import load_autoencoder, load_model, save_autoencoder, save_model

pytestmark = pytest.mark.capability("diffusers-folders")

KINDS: list[Kind] = ["sd1", "sd2"]
SCHEDULERS: list[tuple[type, dict[str, Any]]] = [
    (DDIMScheduler, {}),
    (DDIMScheduler, {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True}),
    (DDIMScheduler, {"set_alpha_to_one": True, "clip_sample": True, "steps_offset": 0}),
    (DDIMScheduler, {"trained_betas": [0.001 * (i + 1) for i in range(20)], "num_train_timesteps": 20}),
    (EulerDiscreteScheduler, {}),
    (EulerDiscreteScheduler, {"timestep_spacing": "leading", "final_sigmas_type": "sigma_min"}),
    (DPMSolverMultistepScheduler, {}),
    (DPMSolverMultistepScheduler, {"solver_order": 1, "euler_at_final": True, "beta_schedule": "linear"}),
    (DPMSolverMultistepScheduler, {"lower_order_final": False, "timestep_spacing": "trailing"}),
    (DPMSolverMultistepScheduler, {"use_karras_sigmas": True, "beta_schedule": "squaredcos_cap_v2"}),
    (EulerDiscreteScheduler, {"use_karras_sigmas": True}),
    (HeunDiscreteScheduler, {"use_karras_sigmas": True}),
    (HeunDiscreteScheduler, {"timestep_spacing": "trailing", "clip_sample": True}),
    (EulerAncestralDiscreteScheduler, {"rescale_betas_zero_snr": True}),
    (DDPMScheduler, {"variance_type": "fixed_large"}),
    (DDIMScheduler, {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 2.0}),
    (PNDMScheduler, {"skip_prk_steps": True}),
    (PNDMScheduler, {"skip_prk_steps": False, "set_alpha_to_one": True, "timestep_spacing": "trailing"}),
    (LMSDiscreteScheduler, {"use_karras_sigmas": True}),
    (KDPM2DiscreteScheduler, {"use_exponential_sigmas": True}),
    (KDPM2AncestralDiscreteScheduler, {"timestep_spacing": "trailing"}),
    (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"}),
    (DPMSolverMultistepScheduler, {"solver_order": 3, "use_beta_sigmas": True}),
    (DPMSolverMultistepScheduler, {"lambda_min_clipped": -5.1, "beta_schedule": "squaredcos_cap_v2"}),
    (DPMSolverSinglestepScheduler, {"solver_order": 3, "solver_type": "heun"}),
    (DPMSolverSinglestepScheduler, {"lower_order_final": True}),
    (UniPCMultistepScheduler, {"solver_order": 3, "solver_type": "bh1", "final_sigmas_type": "sigma_min"}),
    (DEISMultistepScheduler, {"solver_order": 3}),
    (LCMScheduler, {"original_inference_steps": 100, "timestep_scaling": 5.0}),
    (TCDScheduler, {}),
]
CASES = [("sd1", *case) for case in SCHEDULERS] + [("sd2", *case) for case in SCHEDULERS[1::5]]


def parts(pipeline: StableDiffusionPipeline) -> dict[str, nn.Module]:
    return {"unet": pipeline.unet, "vae": pipeline.vae, "text_encoder": pipeline.text_encoder}


def same_weights(a: nn.Module, b: nn.Module, *, through: torch.dtype = torch.float32) -> None:
    first, second = a.state_dict(), b.state_dict()
    assert list(first) == list(second) or first.keys() == second.keys()
    for key, tensor in first.items():
        assert second[key].dtype == torch.float32
        assert torch.equal(tensor.to(through).float(), second[key]), key


@pytest.mark.parametrize(("kind", "scheduler", "changes"), CASES)
def test_from_diffusers_and_back(kind: Kind, scheduler: type, changes: dict[str, Any], tmp_path: Path) -> None:
    theirs = save_tiny_pipeline(tmp_path / "theirs", kind, scheduler, **changes)
    model = load_model(tmp_path / "theirs")
    assert model.prediction == theirs.scheduler.config.prediction_type
    assert torch.equal(model.schedule.alphas_cumprod[:-1].float(), theirs.scheduler.alphas_cumprod[:-1])
    save_model(model, tmp_path / "ours")
    again = StableDiffusionPipeline.from_pretrained(tmp_path / "ours")
    for name, part in parts(theirs).items():
        same_weights(part, parts(again)[name])
    assert again.safety_checker is None
    assert type(again.scheduler) is scheduler
    ignored = {"_diffusers_version", "_use_default_values"}
    for key, value in theirs.scheduler.config.items():
        assert key in ignored or again.scheduler.config[key] == value, key
    prompts = ["a red cat", "", "빨간 하트 " * 20]
    for pipeline in (theirs, again):
        expected = pipeline.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")
        assert torch.equal(model.text.tokenizer.encode(prompts), expected.input_ids)
    # The pipelines' own scheduler, as StableDiffusionPipeline has corrected it.
    # Three Runge-Kutta steps and a first multistep one are the least that PNDM can take.
    for steps in (4, 5, 13) if model.sampler == "pndm" else (1, 5, 13):
        theirs.scheduler.set_timesteps(steps)
        plan = make_plan(model.sampler, model.schedule, steps, model.plan_config())
        once = theirs.scheduler.timesteps[:: theirs.scheduler.order]  # Heun's list has them twice
        times = [float(t) for t in once if t >= 0]
        assert [step.at.t for step in plan.steps] == pytest.approx(times, rel=1e-6)  # float32 beside float64


@pytest.mark.capability("half-precision-files")
@pytest.mark.parametrize("kind", KINDS)
def test_halves_open_in_diffusers_with_default_arguments(kind: Kind, tmp_path: Path) -> None:
    theirs = save_tiny_pipeline(tmp_path / "theirs", kind)
    model = load_model(tmp_path / "theirs")
    save_model(model, tmp_path / "halves", dtype=torch.float16)
    # Without a dtype diffusers keeps unet and vae as float32, too: all parts must agree to paint.
    again = StableDiffusionPipeline.from_pretrained(tmp_path / "halves")
    for name, part in parts(theirs).items():
        same_weights(part, parts(again)[name], through=torch.float16)
    again.set_progress_bar_config(disable=True)
    picture = again("a red cat", num_inference_steps=2, output_type="np").images
    assert picture.shape == (1, 32, 32, 3)
    ours = load_model(tmp_path / "halves")
    for mine, half in zip(model.unet.parameters(), ours.unet.parameters(), strict=True):
        assert half.dtype == torch.float32
        assert torch.equal(mine.half().float(), half)


@pytest.mark.capability("sharded-files")
def test_variants_and_shards_of_diffusers_open(tmp_path: Path) -> None:
    pipeline = save_tiny_pipeline(tmp_path / "plain", "sd2")
    plain = load_model(tmp_path / "plain")
    pipeline.save_pretrained(tmp_path / "variant", variant="fp16")
    assert not (tmp_path / "variant" / "unet" / "diffusion_pytorch_model.safetensors").exists()
    pipeline.save_pretrained(tmp_path / "shards")
    pipeline.unet.save_pretrained(tmp_path / "sharded", max_shard_size="100KB")
    assert len(list((tmp_path / "sharded").glob("*-of-*.safetensors"))) > 2
    for file in (tmp_path / "shards" / "unet").iterdir():
        file.unlink()
    for file in (tmp_path / "sharded").iterdir():
        file.rename(tmp_path / "shards" / "unet" / file.name)
    for name in ("variant", "shards"):
        other = load_model(tmp_path / name)
        for mine, yours in zip(plain.unet.parameters(), other.unet.parameters(), strict=True):
            assert torch.equal(mine, yours)


@pytest.mark.parametrize("kind", KINDS)
def test_each_part_opens_alone_with_its_own_class(kind: Kind, tmp_path: Path) -> None:
    theirs = save_tiny_pipeline(tmp_path / "theirs", kind)
    save_model(load_model(tmp_path / "theirs"), tmp_path / "ours")
    encoder, info = CLIPTextModel.from_pretrained(tmp_path / "ours" / "text_encoder", output_loading_info=True)
    same_weights(theirs.text_encoder, encoder)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "ours" / "tokenizer")
    assert encoder.config.eos_token_id == tokenizer.eos_token_id
    tokens = tokenizer(["a red cat"], padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        mine, yours = (part(tokens).last_hidden_state for part in (encoder, theirs.text_encoder))
    assert torch.equal(mine, yours)


@pytest.mark.compatible("vae", "folder", "save")
def test_an_autoencoder_alone_goes_both_ways(tmp_path: Path) -> None:
    theirs = tiny_autoencoder(scaling_factor=0.5, layers_per_block=1)
    theirs.save_pretrained(tmp_path / "theirs")
    save_autoencoder(load_autoencoder(tmp_path / "theirs"), tmp_path / "ours")
    again, info = AutoencoderKL.from_pretrained(tmp_path / "ours", output_loading_info=True)
    same_weights(theirs, again)
    assert not any(info.values())
    assert again.config.scaling_factor == 0.5


def test_a_scheduler_that_is_not_here_can_be_replaced(tmp_path: Path) -> None:
    save_tiny_pipeline(tmp_path, "sd2", DDIMParallelScheduler, set_alpha_to_one=False)
    with pytest.raises(UserError, match=r"DDIMParallelScheduler .*DDIMScheduler.*--sampler ddim\|euler\|dpmpp_2m"):
        load_model(tmp_path)
    model = load_model(tmp_path, sampler="euler")
    expected = EulerDiscreteScheduler.from_config(
        json.loads((tmp_path / "scheduler" / "scheduler_config.json").read_text())
    )
    expected.set_timesteps(7)
    assert model.prediction == "v_prediction"
    assert model.plan_config().spacing == expected.config.timestep_spacing == "leading"
    assert model.plan_config("ddim").set_alpha_to_one is False
    plan = make_plan("euler", model.schedule, 7, model.plan_config())
    assert [step.at.t for step in plan.steps] == expected.timesteps.tolist()


def test_unsupported_scheduler_options_can_be_replaced(tmp_path: Path) -> None:
    save_tiny_pipeline(tmp_path, "sd1", DPMSolverMultistepScheduler, use_lu_lambdas=True)
    with pytest.raises(UserError, match=r"use_lu_lambdas True is not supported.*--sampler"):
        load_model(tmp_path)
    assert load_model(tmp_path, sampler="dpmpp_2m").sampler == "dpmpp_2m"


def test_karras_sigmas_are_kept_by_another_sampler_and_their_range_is_the_schedules(tmp_path: Path) -> None:
    save_tiny_pipeline(tmp_path, "sd1", EulerDiscreteScheduler, use_karras_sigmas=True, sigma_min=0.1)
    with pytest.raises(UserError, match=r"sigma_min 0\.1 is not supported"):
        load_model(tmp_path)
    assert load_model(tmp_path, sampler="dpmpp_2m").plan_config().sigmas == "karras"


def test_heuns_scheduler_does_not_know_zero_snr(tmp_path: Path) -> None:
    pipeline = save_tiny_pipeline(tmp_path / "first", "sd2", DDIMScheduler, rescale_betas_zero_snr=True)
    model = load_model(tmp_path / "first", sampler="heun")
    with pytest.raises(UserError, match=r"rescale_zero_snr cannot be saved for the sampler heun.*another sampler"):
        save_model(model, tmp_path / "second")
    pipeline.scheduler = HeunDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.save_pretrained(tmp_path / "third")
    assert load_model(tmp_path / "third").schedule.rescale_zero_snr is False


def test_what_a_scheduler_carries_along_from_another_is_ignored(tmp_path: Path) -> None:
    pipeline = save_tiny_pipeline(tmp_path / "first", "sd1", UniPCMultistepScheduler)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.save_pretrained(tmp_path / "second")
    assert load_model(tmp_path / "second").sampler == "euler"


def test_a_scheduler_file_that_says_little_has_its_classes_defaults(tmp_path: Path) -> None:
    save_tiny_pipeline(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": "Another"}))
    for scheduler in (
        DDIMScheduler,
        DDPMScheduler,
        DPMSolverMultistepScheduler,
        EulerAncestralDiscreteScheduler,
        EulerDiscreteScheduler,
        HeunDiscreteScheduler,
    ):
        index["scheduler"] = ["diffusers", scheduler.__name__]
        (tmp_path / "model_index.json").write_text(json.dumps(index))
        model, theirs = load_model(tmp_path), StableDiffusionPipeline.from_pretrained(tmp_path).scheduler
        assert torch.equal(model.schedule.alphas_cumprod.float(), theirs.alphas_cumprod)
        config = model.plan_config()
        assert config.spacing == theirs.config.timestep_spacing
        assert config.steps_offset == theirs.config.steps_offset
        for key in ("set_alpha_to_one", "final_sigmas_type", "solver_order", "lower_order_final"):
            assert key not in theirs.config or getattr(config, key) == theirs.config[key]
    assert BETAS["beta_start"] != 0.0001  # else the file's defaults and Stable Diffusion's could be mistaken
