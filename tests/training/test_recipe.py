"""Recipes: what is wrong in one is one line that names the key and the value; the repository's own are right."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_world import AUTOENCODER, autoencoder_values, text_to_image_values

from latentbrush import devices, load
from latentbrush.errors import UserError
from latentbrush.nn import AutoencoderKL, CLIPTextModel, UNet
from latentbrush.training import AutoencoderRecipe, TextToImageRecipe, load_recipe, run_recipe
from latentbrush.training.autoencoder import AutoencoderStage

pytestmark = pytest.mark.capability("recipes")

RECIPES = Path(__file__).parents[2] / "recipes"


def write(directory: Path, values: Any) -> Path:
    path = directory / "recipe.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def autoencoder_file(directory: Path) -> Path:
    return write(directory, autoencoder_values(Path("world")))


def text_to_image_file(directory: Path) -> Path:
    return write(directory, text_to_image_values(Path("world"), Path("first")))


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_both_stages_are_read(tmp_path: Path) -> None:
    first = load_recipe(autoencoder_file(tmp_path))
    assert isinstance(first, AutoencoderRecipe)
    assert first.autoencoder.channels == (8, 8)
    second = load_recipe(text_to_image_file(tmp_path))
    assert isinstance(second, TextToImageRecipe)
    assert second.unet.attention == (True,)
    assert second.prediction == "v_prediction"


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("stepz=5", ["recipe.yaml: unknown key 'stepz'; known are seed, data, "]),
        ("data.sise=5", ["data: unknown key 'sise'; known are path, size, captions, family_exponent"]),
        ("optimiser.rate=7", ["optimiser: unknown key 'rate'; known are lr, betas"]),
        ("autoencoder.chanels=7", ["autoencoder", "'chanels'", "channels"]),
        ("data.captions.nam=0.5", ["data.captions", "'nam'", "reordered"]),
        ("steps=many", ["steps", "'many'"]),
        ("steps=0", ["steps", "0"]),
        ("steps=[1]", ["steps", "[1]"]),
        ("batch=-1", ["batch", "-1"]),
        ("seed=-1", ["seed", "-1"]),
        ("ema=1", ["ema", "1"]),
        ("optimiser.lr=0", ["optimiser.lr", "0"]),
        ("optimiser.lr=.inf", ["optimiser.lr", "inf"]),
        ("optimiser.lr=.nan", ["optimiser.lr", "nan"]),
        ("optimiser.betas=[0.9, 1.5]", ["optimiser.betas", "1.5"]),
        ("optimiser.betas=[0, 0, 0]", ["optimiser.betas: Tuple should have at most 2 items after validation, not 3\n"]),
        ("data.path=5", ["data.path: needed is the name of a file or folder, not 5"]),
        ('data.path=""', ["data.path: '' is no name; give that of a folder"]),
        ("optimiser.decay=linear", ["optimiser.decay", "'linear'"]),
        ("autoencoder.channels=[8, x]", ["autoencoder.channels", "'x'"]),
        ("autoencoder.groups=3", ["autoencoder", "8 channels", "3 norm groups"]),
        ("autoencoder.scaling_factor=-1", ["scaling_factor", "-1"]),
        ("autoencoder.quant_convs=false", ["quant_convs", "False"]),
        ("data.size=9", ["recipe.yaml: data.size 9 is not a multiple of the autoencoder's factor 2"]),
        ("data=3", ["data", "3"]),
        ("data.captions.name=0.9", ["data.captions", "1.5"]),
        ("stage=autoencoders", ["stage", "'autoencoders'", "autoencoder, contrastive, text-to-image"]),
        ("stage=[autoencoder]", ["stage", "['autoencoder']"]),
    ],
)
def test_first_stage_refusals_name_key_and_value(override: str, named: list[str], tmp_path: Path) -> None:
    message = refusal(autoencoder_file(tmp_path), override)
    for words in [str(tmp_path / "recipe.yaml"), *named]:
        assert words in f"{message}\n"


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("unet.width=7", ["unet", "'width'", "channels"]),
        ("unet.heads=[3]", ["unet", "8 UNet channels", "3 attention heads"]),
        ("unet.heads=[2, 2]", ["unet", "2 entries", "1 levels"]),
        ("text.dropout=1.5", ["text", "1.5"]),
        ("text.activation=relu", ["text", "relu"]),
        ("schedule.betas=3", ["schedule", "'betas'", "beta_start"]),
        ("schedule.beta_start=0.5", ["schedule", "0.5", "0.012"]),
        ("tokenizer.vocab_size=10", ["tokenizer.vocab_size", "10"]),
        ("prediction=noise", ["prediction", "'noise'"]),
        ("weighting=snr", ["weighting", "'snr'"]),
        ("caption_dropout=2", ["caption_dropout", "2"]),
        ("defaults.steps=1001", ["defaults.steps 1001", "num_train_timesteps", "set at most 1000"]),
        ("schedule.beta_end=0.9", ["schedule", "betas from 0.00085 to 0.9 make abar"]),
        ("defaults.guidance=.inf", ["defaults.guidance", "inf"]),
        ("autoencoder.groups=4", ["autoencoder"]),  # a first stage's key
    ],
)
def test_text_to_image_refusals_name_key_and_value(override: str, named: list[str], tmp_path: Path) -> None:
    message = refusal(text_to_image_file(tmp_path), override)
    for words in named:
        assert words in message


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null"])
def test_what_is_no_regular_file_is_not_read(name: str) -> None:
    """It may never end."""
    with pytest.raises(UserError, match=f"cannot read the recipe {name}: it is no regular file"):
        load_recipe(Path(name))


@pytest.mark.parametrize("key", ["stage", "data", "optimiser", "steps", "batch", "autoencoder"])
def test_a_missing_key_is_named(key: str, tmp_path: Path) -> None:
    values = autoencoder_values(Path("world"))
    del values[key]
    assert key in refusal(write(tmp_path, values))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("stage: [", "cannot read"),
        ("- stage", "not a YAML mapping"),
        ("", "not a YAML mapping"),
        ("steps: 2024-13-45", "cannot read"),  # PyYAML lets datetime's own error out
        ("stage: !!python/object/apply:os.system [true]", "cannot read"),
        ("[" * 500, "cannot read"),
    ],
)
def test_what_is_no_yaml_mapping_is_refused(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(content, encoding="utf-8")
    message = refusal(path)
    assert said in message
    assert str(path) in message


def bomb(levels: int) -> str:
    """Each level is nine times the one before, by aliases."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]" for i in range(levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bomb(11), "aliases (*) are not read"),
        ("m: &m {a: 1}\nn: &n {<<: [*m, *m, *m, *m]}", "aliases (*) are not read"),
        ("a: &a [*a]", "aliases (*) are not read"),
        ("steps: 1\nsteps: 2", "it states 'steps' twice"),
        ("data: {size: 8, 'size': 16}", "it states 'size' twice"),
        ("[" * 5000, "too many levels"),
        ("steps: !!bool x", "its tag (!!)"),
        ('steps: !!int ""', "its tag (!!)"),
        ("steps: !!timestamp x", "its tag (!!)"),
        ("# " + "x" * 2**20, "bytes, at most 1048576 are read"),
    ],
)
def test_yaml_that_never_ends_or_says_no_value(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(content, encoding="utf-8")
    assert said in refusal(path)


def test_only_regular_files_are_recipes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", Path("/dev/zero")):
        message = refusal(path)
        assert str(path) in message
        assert "it is no regular file" in message


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("batch=1000000000000", "batch: "),
        ("batch=1.0e+30", "batch: "),
        ("steps=1000000000000", "steps: "),
        (f"steps=0x{'f' * 5000}", "not <int, too long to be shown>"),
        (f"optimiser.warmup=1{'0' * 400}", "optimiser.warmup: "),
        ("validate_every=10000000000", "validate_every: "),
        ("autoencoder.layers_per_block=1000000000", "layers_per_block 1000000000 is too large; choose at most 100"),
        (f"autoencoder.latent_channels=1{'0' * 400}", "is too large; choose at most 1048576"),
        ("autoencoder.channels=[1099511627776, 8]", "channels 1099511627776 is too large; choose at most 1048576"),
        (f"autoencoder.channels={[8] * 17}", "channels has 17 entries, at most 16 are read"),
        ("steps=!!bool x", "is not a YAML value"),
        ("data.path=*a", "is not a YAML value"),
    ],
)
def test_more_than_can_be_trained(override: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(autoencoder_file(tmp_path), override)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("text.layers=101", "layers 101 is too large; choose at most 100"),
        ("unet.depth=[100]", None),
        ("unet.classes=10000000", "classes 10000000 is too large"),
        ("tokenizer.max_length=1000000", "tokenizer.max_length: "),
        ("schedule.num_train_timesteps=10000000000", "choose 2 to 100000"),
    ],
)
def test_more_than_can_be_trained_of_text_to_image(override: str, said: str | None, tmp_path: Path) -> None:
    path = text_to_image_file(tmp_path)
    if said is None:
        load_recipe(path, [override])
        assert "make 10000 blocks; choose at most 1000" in refusal(path, override, "unet.layers_per_block=100")
    else:
        assert said in refusal(path, override)


def test_networks_larger_than_the_memory(tmp_path: Path) -> None:
    """Linux would grant it and then kill the run."""
    recipe = load_recipe(autoencoder_file(tmp_path), ["autoencoder.channels=[1048576, 1048576]"])
    with pytest.raises(UserError, match=r"weights of the networks take .* GB of memory, more than the .* GB here"):
        run_recipe(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", ["autoencoder", "text-to-image"])
def test_pictures_larger_than_the_memory(
    stage: str, world: Path, first_stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = autoencoder_values(world) if stage == "autoencoder" else text_to_image_values(world, first_stage)
    recipe = load_recipe(write(tmp_path, values), ["data.size=1024"])
    monkeypatch.setattr(devices, "computer_memory", lambda: 60e6)
    with pytest.raises(UserError, match=r"pictures of \d+x\d+ pixels take .* more than the 0\.06 GB here; choose a"):
        run_recipe(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_step_that_finds_no_memory_is_one_line(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, step: int) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(AutoencoderStage, "loss", full)
    with pytest.raises(UserError, match="not enough memory for this recipe; choose a smaller batch"):
        run_recipe(load_recipe(write(tmp_path, autoencoder_values(world))), tmp_path / "run")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    assert str(tmp_path / "absent.yaml") in refusal(tmp_path / "absent.yaml")
    assert str(tmp_path) in refusal(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"stage: \xff")
    assert "latin.yaml" in refusal(tmp_path / "latin.yaml")


def test_overrides_change_values_at_any_depth(tmp_path: Path) -> None:
    recipe = load_recipe(
        autoencoder_file(tmp_path), ["steps=7", "optimiser.lr=1e-4", "data.captions.korean=0.2", "data.path=a=b"]
    )
    assert (recipe.steps, recipe.optimiser.lr, recipe.data.path) == (7, 1e-4, Path("a=b"))
    # Later ones win.
    assert load_recipe(autoencoder_file(tmp_path), ["steps=7", "steps=8"]).steps == 8


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("steps", "not of the form a.b=c"),
        ("=3", "not of the form a.b=c"),
        ("optimiser.=3", "not of the form a.b=c"),
        ("optimiser..lr=3", "not of the form a.b=c"),
        ("steps=[", "not a YAML value"),
        ("steps=2024-13-45", "not a YAML value"),
        ("seed.low=3", "'seed' holds a value"),
        ("optimiser.lr.low=3", "'lr' holds a value"),
    ],
)
def test_a_bad_override_is_quoted(override: str, said: str, tmp_path: Path) -> None:
    message = refusal(autoencoder_file(tmp_path), override)
    assert said in message
    assert repr(override) in message


def parameters(*networks: torch.nn.Module) -> int:
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


COUNTS = {"emoji": (3_146_219, 7_380_272, 2_127_552), "emoji-64": (2_569_479, 14_468_196, 2_127_552)}
"""Autoencoder, UNet and text tower, as measured; a change of a recipe changes what the README says of it."""


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_the_repository_s_recipes_load_and_fit_together(name: str) -> None:
    recipes = {path.name: load_recipe(path) for path in sorted(RECIPES.glob("*.yaml"))}
    alone = {"emoji-clip.yaml", "emoji-vq-autoencoder.yaml"}
    assert set(recipes) == alone | {f"{n}{part}.yaml" for n in COUNTS for part in ("", "-autoencoder")}
    first, second = recipes[f"{name}-autoencoder.yaml"], recipes[f"{name}.yaml"]
    assert isinstance(first, AutoencoderRecipe)
    assert isinstance(second, TextToImageRecipe)
    assert second.first_stage == Path(f"runs/{name}-autoencoder/model")
    assert second.unet.in_channels == second.unet.out_channels == first.autoencoder.latent_channels
    assert second.unet.sample_size * first.autoencoder.factor == second.data.size == first.data.size
    assert second.unet.context_width == second.text.width
    assert second.tokenizer.vocab_size <= second.text.vocab_size
    assert second.tokenizer.max_length <= second.text.max_positions
    with torch.device("meta"):
        autoencoder = parameters(AutoencoderKL(first.autoencoder))
        unet, text = parameters(UNet(second.unet)), parameters(CLIPTextModel(second.text))
    assert (autoencoder, unet, text) == COUNTS[name]
    # What ships must stay small: in half precision under 40 MB.
    assert autoencoder + unet + text < 20e6


def test_the_recipes_for_an_accelerator_run_as_they_stand(world: Path, tmp_path: Path) -> None:
    """All but the numbers of steps and samples, and the tower, which another run trains."""
    small = [f"data.path={world}", "batch=2", "steps=1", "optimiser.warmup=0"]
    run_recipe(load_recipe(RECIPES / "emoji-64-autoencoder.yaml", small), tmp_path / "first")
    small += [f"first_stage={tmp_path / 'first' / 'model'}", "text_from=null", "tokenizer.vocab_size=530"]
    small += ["defaults.steps=1"]
    run_recipe(load_recipe(RECIPES / "emoji-64.yaml", small), tmp_path / "second")
    assert load(tmp_path / "second" / "model").factor == 4


def test_a_first_stage_without_quant_convs_is_named_whole(tmp_path: Path) -> None:
    values = autoencoder_values(Path("world"), autoencoder={**AUTOENCODER, "quant_convs": False})
    assert "make it true" in refusal(write(tmp_path, values))
