"""LDM's class-conditional and inpainting models beside a plain loop over diffusers' own networks and schedulers, which
has no pipelines for them. In float64, with the tolerances of test_pictures.py; latents after every step.

The inpainting loop does as CompVis's script: black under the mask, the mask from -1 to 1 behind the latents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, PNDMScheduler
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from safetensors.torch import load_file, save_file
from test_pictures import PUBLISHED, compare
from tiny_ldm_files import (
    CLASSES,
    INPAINTING_UNET,
    STAGE,
    TINY_TOKENS,
    shrunk,
    state,
    table,
    their_inpainting_unet,
    their_token_unet,
    their_vq,
)
from torch import Tensor

from latentbrush import Canvas, GuidanceRequest, ImageRequest, Sampling, Start, UserError, generate, load
from latentbrush.formats import outline_model, save_model, summarise
from latentbrush.formats.ldm_families import FAMILIES
from latentbrush.model import LatentDiffusion
from latentbrush.pipeline import resolve
from latentbrush.viewing import painting_memory

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TEXT, CLASS, INPAINTING = FAMILIES
SEEDS, LABEL = [3, 4, 5], 5
IMAGE, MASK = "0" * 64, "1" * 64
WEIGHTS = "diffusion_pytorch_model.safetensors"
SCHEDULERS: dict[str, Callable[..., Any]] = {
    "ddim": lambda **betas: DDIMScheduler(set_alpha_to_one=False, clip_sample=False, steps_offset=1, **betas),
    "euler": lambda **betas: EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1, **betas),
    "dpmpp_2m": lambda **betas: DPMSolverMultistepScheduler(timestep_spacing="leading", steps_offset=1, **betas),
    "plms": lambda **betas: PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1, **betas),
}
Network = Callable[[Tensor, Any], Tensor]


def scheduler_of(family: Any, name: str) -> Any:
    schedule = family.schedule
    betas = {"beta_start": schedule.beta_start, "beta_end": schedule.beta_end, "beta_schedule": "scaled_linear"}
    return SCHEDULERS[name](**betas)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shrunk(CLASS, tmp_path_factory.mktemp("ldm") / "classes", **TINY_TOKENS)
    save_file(state(their_token_unet()), folder / "unet" / WEIGHTS)
    save_file(state(their_vq()), folder / "vqvae" / WEIGHTS)
    save_file({"embedding.weight": table()}, folder / "class_token" / WEIGHTS)
    return folder


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    stage = replace(STAGE, mid_attention=False)
    folder = shrunk(INPAINTING, tmp_path_factory.mktemp("ldm") / "inpainting", unet=INPAINTING_UNET, stage=stage)
    save_file(state(their_inpainting_unet()), folder / "unet" / WEIGHTS)
    save_file(state(their_vq(mid_block_add_attention=False)), folder / "vqvae" / WEIGHTS)
    return folder


def sampled(network: Network, scheduler: Any, steps: int, shape: tuple[int, ...], eta: float = 0.0) -> list[Tensor]:
    """Latents after every step; each picture draws from a generator of its own."""
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    x = randn_tensor((len(SEEDS), *shape), generators, dtype=torch.float64)
    scheduler.set_timesteps(steps)
    x = x * scheduler.init_noise_sigma
    options = {"eta": eta, "generator": generators} if isinstance(scheduler, DDIMScheduler) else {}
    path = []
    for t in scheduler.timesteps:
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x, **options).prev_sample
        path.append(x)
    return path


def painted(vq: Any, latents: Tensor) -> np.ndarray:
    pixels = (vq.decode(latents).sample / 2 + 0.5).clamp(0, 1)
    return (pixels.permute(0, 2, 3, 1).numpy() * 255).round().astype(int)


def ours(model: LatentDiffusion, request: ImageRequest, images: Any = None) -> tuple[list[Tensor], np.ndarray]:
    seen: list[Tensor] = []

    def on_step(x: Tensor, *_: Any) -> Tensor:
        seen.append(x.clone())
        return x

    pictures = generate(model, request, on_step, images)
    return seen, np.stack([np.asarray(picture.image) for picture in pictures]).astype(int)


def of_class(steps: int, weight: float | None, sampler: str | None = None, **more: Any) -> ImageRequest:
    return ImageRequest(
        prompt="",
        label=LABEL,
        canvas=Canvas(width=32, height=24),
        sampling=Sampling(steps=steps, seed=SEEDS[0], count=len(SEEDS), sampler=sampler),
        guidance=GuidanceRequest(weight=weight),
        **more,
    )


def class_network(weight: float) -> Network:
    unet, rows = their_token_unet().double(), table().double()

    def told(x: Tensor, t: Any, label: int) -> Tensor:
        context = rows[torch.full((len(x), 1), label)]
        return unet(x, t, encoder_hidden_states=context).sample

    def network(x: Tensor, t: Any) -> Tensor:
        empty = told(x, t, CLASSES)
        return empty + weight * (told(x, t, LABEL) - empty)

    return network


@pytest.mark.compatible("ldm-class", "folder")
@pytest.mark.capability("class-token", "class-to-image", "classifier-free-guidance")
@pytest.mark.parametrize(("steps", "weight"), [(2, 1.0), (2, 3.0), (7, 1.0), (7, 3.0)])
@pytest.mark.parametrize("sampler", SCHEDULERS)
@torch.no_grad()
def test_pictures_of_a_class(sampler: str, steps: int, weight: float, classes: Path) -> None:
    model = load(classes, dtype=torch.float64)
    path = sampled(class_network(weight), scheduler_of(CLASS, sampler), steps, (3, 6, 8))
    expected = path, painted(their_vq().double(), path[-1])
    compare(ours(model, of_class(steps, weight, sampler)), expected, PUBLISHED)


@pytest.mark.capability("class-token")
@torch.no_grad()
def test_pictures_with_noise_on_the_way(classes: Path) -> None:
    model = load(classes, dtype=torch.float64)
    model.plan_options["eta"] = 0.6
    path = sampled(class_network(2.0), scheduler_of(CLASS, "ddim"), 6, (3, 6, 8), eta=0.6)
    compare(ours(model, of_class(6, 2.0)), (path, painted(their_vq().double(), path[-1])), PUBLISHED)


@pytest.mark.capability("class-token", "class-to-image")
def test_what_a_class_model_is_told(classes: Path) -> None:
    model = load(classes)
    assert (model.task, model.defaults.steps, model.defaults.guidance) == ("class-to-image", 50, 3.0)
    assert summarise(classes).classes == CLASSES
    assert resolve(model, of_class(2, None)).guidance.weight == 3.0
    assert set(painting_memory(outline_model(classes), 32, 32).weights) >= {"unet", "vae", "text"}
    for change, said in (
        ({"label": CLASSES}, "the label is 7, but the model paints one of 7 classes; give a label from 0 to 6"),
        ({"label": None}, "there is no label, but the model paints one of 7 classes"),
        ({"prompt": "cat"}, "the prompt is 'cat', but the model reads no words"),
        ({"guidance": GuidanceRequest(negative="cat")}, "the negative prompt is 'cat', but the model reads no words"),
    ):
        with pytest.raises(UserError, match=said):
            resolve(model, of_class(2, 3.0).model_copy(update=change))


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def mask() -> Image.Image:
    """Its edges are not those of latent cells; greys on both sides of the half."""
    grey = np.zeros((32, 32), np.uint8)
    grey[5:18, 9:27], grey[6:10, 9:27], grey[2:4] = 255, 128, 127
    return Image.fromarray(grey)


def painting(steps: int, *, paste: bool = False, sampler: str | None = None, strength: float = 1.0) -> ImageRequest:
    return ImageRequest(
        prompt="",
        canvas=Canvas(width=32, height=32),
        sampling=Sampling(steps=steps, seed=SEEDS[0], count=len(SEEDS), sampler=sampler),
        start=Start(image=IMAGE, mask=MASK, paste=paste, strength=strength),
    )


@pytest.mark.compatible("ldm-inpainting", "folder")
@pytest.mark.capability("inpainting-model")
@pytest.mark.parametrize("steps", [2, 7])
@pytest.mark.parametrize("sampler", SCHEDULERS)
@torch.no_grad()
def test_inpainting(sampler: str, steps: int, inpainting: Path) -> None:
    model = load(inpainting, dtype=torch.float64)
    unet, vq = their_inpainting_unet().double(), their_vq(mid_block_add_attention=False).double()
    holes = torch.from_numpy((np.asarray(mask(), dtype=np.float64) / 255 >= 0.5).astype(np.float64))[None, None]
    pixels = torch.from_numpy(np.asarray(photo(), dtype=np.float64) / 255).permute(2, 0, 1)[None]
    visible = vq.encode(2.0 * ((1.0 - holes) * pixels) - 1.0).latents
    beside = torch.cat([visible, F.interpolate(2.0 * holes - 1.0, size=visible.shape[-2:])], dim=1)

    def network(x: Tensor, t: Any) -> Tensor:
        return unet(torch.cat([x, beside.expand(len(x), -1, -1, -1)], dim=1), t).sample

    path = sampled(network, scheduler_of(INPAINTING, sampler), steps, (3, 8, 8))
    images = {IMAGE: photo(), MASK: mask()}
    compare(ours(model, painting(steps, sampler=sampler), images), (path, painted(vq, path[-1])), PUBLISHED)


@pytest.mark.capability("inpainting-model")
def test_what_an_inpainting_model_is_given(inpainting: Path) -> None:
    model, images = load(inpainting), {IMAGE: photo(), MASK: mask()}
    assert (model.task, model.defaults.guidance) == ("inpainting", 1.0)
    kept = np.asarray(mask()) < 128
    _, pictures = ours(model, painting(2, paste=True), images)
    assert all((picture[kept] == np.asarray(photo())[kept]).all() for picture in pictures)
    assert any((picture[~kept] != np.asarray(photo())[~kept]).any() for picture in pictures)
    assert ours(model, painting(4, strength=0.5), images)[1].shape == pictures.shape
    with pytest.raises(UserError, match="it needs a picture and a mask"):
        resolve(model, painting(2).model_copy(update={"start": Start()}))
    with pytest.raises(UserError, match="the prompt is 'cat', but the model"):
        resolve(model, painting(2).model_copy(update={"prompt": "cat"}))
    assert painting_memory(outline_model(inpainting), 32, 32).activations["unet"] > 0


@pytest.mark.capability("diffusers-folders", "strict-loading")
@pytest.mark.parametrize("kind", ["classes", "inpainting"])
def test_folders_are_written_as_they_were_read(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = request.getfixturevalue(kind)
    save_model(load(folder), tmp_path / "again")
    for path in sorted(folder.rglob("*.*")):
        other = tmp_path / "again" / path.relative_to(folder)
        if path.suffix == ".json":
            assert other.read_text() == path.read_text(), path.name
        else:
            first, second = load_file_sorted(path), load_file_sorted(other)
            assert list(first) == list(second)
            assert all(torch.equal(first[key], second[key]) for key in first)


def load_file_sorted(path: Path) -> dict[str, Tensor]:
    return dict(sorted(load_file(path).items()))
