"""The `parameters` text of web UIs: what is written for them, and what is read of theirs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from latentbrush.diffusion import SAMPLERS, SIGMA_PATHS, PlanConfig
from latentbrush.errors import UserError
from latentbrush.formats import (
    Parameters,
    PictureRecord,
    foreign_request,
    load_model,
    parse_comfyui,
    parse_parameters,
    write_parameters,
)
from latentbrush.formats.foreign import foreign_sampler
from latentbrush.formats.parameters import SAMPLER_NAMES, SIGMA_NAMES, parameters_of, schedule_type
from latentbrush.model import LatentDiffusion
from latentbrush.request import Canvas, GuidanceRequest, ImageRequest, ModelRequest, Sampling, Start

pytestmark = pytest.mark.capability("png-parameters")

# As AUTOMATIC1111's documentation and the files on the web have it.
THEIRS = """masterpiece, a (red:1.2) heart \\(suit\\), [thin], <lora:emoji:0.8>
second line
Negative prompt: blurry,
ugly
Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7, Seed: 3512, Size: 24x16, \
Model hash: 6ce0161689, Model: v1-5-pruned, VAE: "a, b: c", Clip skip: 2, Hires upscale: 2, \
Denoising strength: 0.55, Version: v1.9.4"""


def record(index: int = 2, **changes: object) -> PictureRecord:
    request = ImageRequest(
        prompt="a red heart",
        model=ModelRequest(name="/home/x/v1, the first"),
        canvas=Canvas(width=24, height=16),
        sampling=Sampling(sampler="euler_ancestral", steps=20, seed=7, count=5),
        guidance=GuidanceRequest(weight=7.0, negative="파란색"),
    ).model_copy(update=changes)
    weights = {"unet/diffusion_pytorch_model.safetensors": "0123456789" * 6 + "abcd"}
    return PictureRecord.model_validate(
        {"request": request, "index": index, "steps_run": 20, "model": {"weights": weights}}
    )


def written(record: PictureRecord) -> str:
    return write_parameters(parameters_of(record, PlanConfig(spacing="linspace")))


def test_what_is_written() -> None:
    assert written(record()) == (
        "a red heart\n"
        "Negative prompt: 파란색\n"
        "Steps: 20, Sampler: Euler a, Schedule type: Uniform, CFG scale: 7, Seed: 9, Size: 24x16, "
        'Model hash: 0123456789, Model: "v1, the first", RNG: CPU, Version: latentbrush'
    )


def test_a_strength_is_written_where_there_is_a_picture_to_start_from() -> None:
    assert "Denoising strength" not in written(record())
    start = Start(image="0" * 64, strength=0.6)
    assert "Size: 24x16, Model hash: 0123456789, " in written(record(start=start))
    assert ", Denoising strength: 0.6, RNG: CPU" in written(record(start=start))


@pytest.mark.parametrize(
    ("prompt", "negative"),
    [
        ("a red heart", ""),
        ("", "a cat"),
        ("", ""),
        ("two\nlines, and: a colon", "also\ntwo"),
        ('"quoted", 빨간 하트 ❤', "\\"),
        ("a heart (suit) [small] \\(no weight\\)", "((both))"),
        ("Steps: 3, Sampler: DDIM, Seed: 4", "CFG scale: 9, Seed: 4, Size: 1x1"),
    ],
)
def test_our_own_pictures_come_back(model: LatentDiffusion, prompt: str, negative: str) -> None:
    """Through the text, and through their syntax, in which brackets weigh words."""
    parameters = parse_parameters(written(record(prompt=prompt, guidance=GuidanceRequest(weight=7, negative=negative))))
    request, notes = foreign_request(parameters, model, "tiny")
    assert (request.prompt, request.guidance.negative) == (prompt, negative)
    sampling = request.sampling
    assert (sampling.sampler, sampling.steps, sampling.seed, sampling.count) == ("euler_ancestral", 20, 9, 1)
    assert (request.canvas, request.guidance.weight) == (Canvas(width=24, height=16), 7.0)
    # This model's steps have trailing spacing.
    assert [note.split(":")[0] for note in notes] == ["Schedule type", "Model"]


@pytest.mark.parametrize("value", ["plain", "a, b", "a: b", 'say "x", y', "line\nbreak", '"', "\\", 'ends in "', "1x2"])
def test_values_are_quoted_where_they_must_be(value: str) -> None:
    parameters = Parameters("p", "", {"Steps": "1", "Key": value, "Seed": "2"})
    assert parse_parameters(write_parameters(parameters)) == parameters


def test_every_sampler_has_a_name_of_theirs() -> None:
    assert SAMPLER_NAMES.keys() == SAMPLERS.keys()
    assert len(set(SAMPLER_NAMES.values())) == len(SAMPLERS)
    for ours, name in SAMPLER_NAMES.items():
        for told in (ours, name, f"{name} Karras", f"{name} Exponential"):
            assert foreign_sampler(Parameters("", "", {"Sampler": told})) == ours


def test_spacings_by_their_names() -> None:
    karras = PlanConfig(sigmas="karras")
    assert [schedule_type(sampler, karras) for sampler in ("euler", "heun", "dpmpp_2m", "lms")] == ["Karras"] * 4
    assert schedule_type("euler", PlanConfig(sigmas="beta")) == "Beta"
    assert SIGMA_NAMES.keys() == set(SIGMA_PATHS) - {"spaced"}
    assert schedule_type("ddim", karras) == "Automatic"


def test_what_is_read() -> None:
    parameters = parse_parameters(THEIRS.replace("\n", "\r\n"))
    assert parameters.prompt.endswith("<lora:emoji:0.8>\nsecond line")
    assert parameters.negative == "blurry,\nugly"
    assert list(parameters.settings)[:3] == ["Steps", "Sampler", "Schedule type"]
    assert (parameters.settings["VAE"], parameters.settings["Version"]) == ("a, b: c", "v1.9.4")


def test_a_prompt_alone_has_no_settings() -> None:
    assert parse_parameters("a: cat, the: dog") == Parameters("a: cat, the: dog")
    assert parse_parameters("") == Parameters("")


def test_what_cannot_be_done_is_said(model: LatentDiffusion) -> None:
    request, notes = foreign_request(parse_parameters(THEIRS), model, "tiny")
    assert request.prompt == "masterpiece, a red heart (suit), thin, \nsecond line"
    assert request.guidance == GuidanceRequest(weight=7.0, negative="blurry,\nugly")
    assert (request.sampling.sampler, request.sampling.seed) == ("euler_ancestral", 3512)
    assert request.start == Start()
    said = "\n".join(notes)
    for words in (
        "Schedule type: 'Karras': this model's steps are spaced otherwise (SGM Uniform)",
        "'<lora:emoji:0.8>' in the prompt: not loaded here",
        "weights of words in the prompt: all count alike here",
        "Model: 'v1-5-pruned 6ce0161689': painted with tiny",
        "RNG: 'GPU': noise is drawn by the CPU's generator here, so the picture is another",
        "VAE: 'a, b: c': there is no such setting here",
        "Clip skip: '2': there is no such setting here",
        "Hires upscale: '2': there",
        "Denoising strength: '0.55': there",
    ):
        assert words in said
    assert len(notes) == 9


def read(model: LatentDiffusion, settings: str, start: str | None = None) -> tuple[ImageRequest, list[str]]:
    return foreign_request(parse_parameters(f"x\nSteps: 4, RNG: CPU, {settings}"), model, "tiny", start)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("Seed: -1", "Seed: '-1': not a whole number from 0 to 9223372036854775807"),
        ("Seed: " + "9" * 5000, "not a whole number"),
        ("Seed: one", "Seed: 'one'"),
        ("CFG scale: nan", "CFG scale: 'nan': not a finite number"),
        ("CFG scale: 1e999", "CFG scale: '1e999': not a finite number"),
        ("Size: 0x8", "Size: '0x8': not a width and a height in multiples of 2 pixels; painted at 16x24"),
        ("Size: 9x8", "multiples of 2"),
        ("Size: 99999999x2", "multiples of 2"),
        ("Size: 512x512", "Size: '512x512': more than 4 times what this model paints; painted at 16x24"),
        ("Sampler: DPM adaptive", "Sampler: 'DPM adaptive': not one of DDIM, Euler, DPM++ 2M"),
        ("Denoising strength: 0.5", "give the picture to start from with --image"),
        ("Colour: \x1b[31m", "Colour: '\\x1b[31m'"),
        ("Colour: " + "x" * 1000, "xxx...: there is no such setting"),
    ],
)
def test_values_that_cannot_be(model: LatentDiffusion, settings: str, said: str) -> None:
    request, notes = read(model, settings)
    assert len(notes) == 1
    assert said in notes[0]
    assert len(notes[0]) < 400
    assert request.sampling.seed is None
    assert request.guidance.weight is None
    assert request.canvas == Canvas()


def test_steps_that_cannot_be(model: LatentDiffusion) -> None:
    for text in ("-3", "0", "1001", "2.5"):
        request, notes = foreign_request(parse_parameters(f"x\nSteps: {text}, RNG: CPU"), model, "tiny")
        assert request.sampling.steps is None
        assert notes == [f"Steps: '{text}': not a whole number from 1 to 1000"]


def test_settings_that_are_off_are_no_news(model: LatentDiffusion) -> None:
    assert read(model, "Clip skip: 1, ENSD: 0, Version: v1.9, Schedule type: SGM Uniform, Size: 16x16")[1] == []


def test_older_names_of_samplers(model: LatentDiffusion) -> None:
    request, notes = read(model, "Sampler: DPM++ 2M Karras")
    assert request.sampling.sampler == "dpmpp_2m"
    assert [note.split(":")[0] for note in notes] == ["Schedule type"]
    request, notes = read(model, "Sampler: DPM++ 2M SDE Exponential")
    assert request.sampling.sampler == "dpmpp_2m_sde"
    assert [note.split(": this")[0] for note in notes] == ["Schedule type: 'Exponential'"]
    assert read(model, "Sampler: euler_ancestral")[0].sampling.sampler == "euler_ancestral"


def test_automatic_means_what_their_sampler_takes(model: LatentDiffusion) -> None:
    karras = {"spacing": "linspace", "sigmas": "karras"}
    uniform = {"spacing": "linspace"}
    for options, sampler, fits in (
        *((karras, "DPM++ 2M", True), (uniform, "DPM++ 2M", False), (uniform, "Euler", True)),
        *((karras, "DPM2 a", True), (karras, "DPM++ 2M SDE", False), (karras, "Euler", False)),
        ({"sigmas": "exponential"}, "DPM++ 2M SDE", True),
    ):
        changed = LatentDiffusion(model.autoencoder, model.unet, model.text, plan_options=options)
        notes = read(changed, f"Sampler: {sampler}, Schedule type: Automatic")[1]
        assert (notes == []) is fits


def test_a_strength_counts_with_a_picture(model: LatentDiffusion) -> None:
    image = "0" * 64
    assert read(model, "Denoising strength: 0.5", image) == (
        read(model, "")[0].model_copy(update={"start": Start(image=image, strength=0.5)}),
        [],
    )
    request, notes = read(model, "Denoising strength: 7", image)
    assert request.start == Start(image=image)
    assert "from 0 to 1" in notes[0]
    assert read(model, "Denoising strength: 7") == (read(model, "")[0], notes)  # once, and not that it is left out
    request, notes = read(model, "", image)
    assert request.start == Start()
    assert "--image is not used" in notes[0]


def test_our_own_weights_are_known_by_their_hash(folder: Path) -> None:
    own = load_model(folder)
    assert own.origin is not None
    sha256 = own.origin.weights["unet/diffusion_pytorch_model.safetensors"]
    assert read(own, f"Model hash: {sha256[:10]}, Model: another name")[1] == []
    assert len(read(own, f"Model hash: {sha256[:3]}, Model: another name")[1]) == 1


def test_texts_without_end() -> None:
    with pytest.raises(UserError, match="1000000 letters, at most 100000 are read"):
        parse_parameters("x" * 10**6)


@pytest.mark.parametrize(
    "piece", [" ", "a", ":", ",", '"', "a:", 'a:"', 'a:"\\",', '"a, ', "a: b,", "\\", "a: (", "<a", "[", ": 1", "[a:"]
)
def test_hostile_texts_are_read_at_once(model: LatentDiffusion, piece: str) -> None:
    """What repeats must not take time that grows with its square, which here would be minutes."""
    text = piece * (90_000 // len(piece))
    begun = time.perf_counter()
    for whole in (f"Steps: 1, {text}", f"Steps: 1, a: {text}!", f"{text}\nSteps: 1"):
        foreign_request(parse_parameters(whole), model, "tiny")
    assert time.perf_counter() - begun < 5


def graph(**inputs: object) -> dict[str, object]:
    """As ComfyUI's default workflow."""
    sampler = {"seed": 5, "steps": 20, "cfg": 8.0, "sampler_name": "euler", "scheduler": "sgm_uniform", "denoise": 1.0}
    links = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
    return {
        "3": {"class_type": "KSampler", "inputs": {**sampler, **links, **inputs}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 24, "height": 16, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red heart", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "ugly", "clip": ["4", 1]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}},
    }


@pytest.mark.capability("foreign-pictures")
def test_a_plain_graph_of_comfyui(model: LatentDiffusion) -> None:
    request, notes = foreign_request(parse_comfyui(json.dumps(graph()), "x.png"), model, "tiny")
    assert (request.prompt, request.guidance) == ("a red heart", GuidanceRequest(weight=8.0, negative="ugly"))
    assert request.sampling == Sampling(sampler="euler", steps=20, seed=5)
    assert request.canvas == Canvas(width=24, height=16)
    assert notes == ["Model: 'v1-5.safetensors': painted with tiny"]


@pytest.mark.capability("foreign-pictures")
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("dpm_2", "dpm2"), ("dpm_2_ancestral", "dpm2_ancestral"), ("uni_pc_bh2", "unipc"), ("dpmpp_2m", "dpmpp_2m")],
)
def test_samplers_by_comfyui_s_names(theirs: str, ours: str, model: LatentDiffusion) -> None:
    parameters = parse_comfyui(json.dumps(graph(sampler_name=theirs)), "x.png")
    assert foreign_request(parameters, model, "tiny")[0].sampling.sampler == ours


@pytest.mark.capability("foreign-pictures")
def test_a_longer_graph_of_comfyui(model: LatentDiffusion) -> None:
    """Another node before the sampler's conditioning; a seed that a node makes; a second sampler; a circle."""
    longer = graph(positive=["8", 0], seed=["2", 0], denoise=0.5, sampler_name="uni_pc", scheduler=[[]])
    longer["8"] = {"class_type": "ControlNetApply", "inputs": {"strength": 1, "conditioning": ["6", 0]}}
    longer["10"] = {"class_type": "KSampler", "inputs": {"model": ["10", 0]}}
    parameters = parse_comfyui(json.dumps(longer), "x.png")
    assert parameters.prompt == "a red heart"
    assert parameters.settings["Seed"] == "from another node"
    notes = foreign_request(parameters, model, "tiny")[1]
    keys = sorted(note.split(":")[0] for note in notes)
    assert keys == [
        *("Denoising strength", "Further KSamplers", "Model", "Node ControlNetApply"),
        *("Sampler", "Schedule type", "Seed"),
    ]


@pytest.mark.capability("foreign-pictures")
def test_nodes_that_take_both_sides_keep_them_apart(model: LatentDiffusion) -> None:
    both = graph(positive=["8", 0], negative=["8", 1], model=["11", 0])
    both["8"] = {
        "class_type": "ControlNetApplyAdvanced",
        "inputs": {"positive": ["6", 0], "negative": ["7", 0], "control_net": ["12", 0], "image": ["13", 0]},
    }
    both["11"] = {"class_type": "LoraLoader", "inputs": {"model": ["4", 0], "clip": ["4", 1], "lora_name": "x"}}
    both["12"] = {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "y"}}
    both["13"] = {"class_type": "LoadImage", "inputs": {"image": "z.png"}}
    request, notes = foreign_request(parse_comfyui(json.dumps(both), "x.png"), model, "tiny")
    assert (request.prompt, request.guidance.negative) == ("a red heart", "ugly")
    assert sorted(notes) == [
        "Model: 'v1-5.safetensors': painted with tiny",
        "Node ControlNetApplyAdvanced: '1 in the graph': not done here",
        "Node ControlNetLoader: '1 in the graph': not done here",
        "Node LoadImage: '1 in the graph': not done here",
        "Node LoraLoader: '1 in the graph': not done here",
    ]


@pytest.mark.capability("foreign-pictures")
def test_words_before_zeros_have_no_say(model: LatentDiffusion) -> None:
    zeros = graph(negative=["8", 0])
    zeros["8"] = {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["6", 0]}}
    request, notes = foreign_request(parse_comfyui(json.dumps(zeros), "x.png"), model, "tiny")
    assert (request.prompt, request.guidance.negative) == ("a red heart", "")
    assert "Node ConditioningZeroOut: '1 in the graph': not done here" in notes


@pytest.mark.capability("foreign-pictures")
def test_a_graph_over_a_picture_is_no_news(model: LatentDiffusion) -> None:
    over = graph(latent_image=["8", 0], denoise=0.5)
    over["8"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    over["10"] = {"class_type": "LoadImage", "inputs": {"image": "z.png"}}
    parameters = parse_comfyui(json.dumps(over), "x.png")
    assert foreign_request(parameters, model, "tiny", "0" * 64)[1] == ["Model: 'v1-5.safetensors': painted with tiny"]


@pytest.mark.parametrize(
    "text",
    ["", "not json", "[" * 100_000, "[1]", "null", "{}", '{"3": 1}', '{"3": {"class_type": "KSamplerAdvanced"}}'],
)
def test_other_graphs_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"^x\.png: ") as caught:
        parse_comfyui(text, "x.png")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "inputs", [None, 3, [], {}, {"positive": ["3", 0], "latent_image": [3, 3], "model": ["no", 1]}]
)
def test_samplers_that_are_told_nothing(model: LatentDiffusion, inputs: object) -> None:
    text = json.dumps({"3": {"class_type": "KSampler", "inputs": inputs}})
    request, notes = foreign_request(parse_comfyui(text, "x.png"), model, "tiny")
    assert (request.prompt, request.sampling, notes) == ("", Sampling(), [])
