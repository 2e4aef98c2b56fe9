"""A recipe says what to train, on what and how: one YAML file, every key known, every value checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from latentbrush.data.emoji import CaptionMix
from latentbrush.diffusion import Prediction, Schedule, Weighting
from latentbrush.errors import UserError, one_line, short
from latentbrush.formats.fields import MOST
from latentbrush.nn import AutoencoderConfig, CLIPTextConfig, CLIPVisionConfig, UNetConfig, VQConfig
from latentbrush.training.limits import MOST_BATCH, MOST_STEPS, MOST_TOKENS, refuse_endless
from latentbrush.training.plain_yaml import parse_yaml, read_yaml

__all__ = [
    "AnyRecipe",
    "AutoencoderRecipe",
    "CodebookRecipe",
    "ContrastiveRecipe",
    "DataRecipe",
    "FirstStageRecipe",
    "OptimiserRecipe",
    "TextToImageRecipe",
    "TokenizerRecipe",
    "VQAutoencoderRecipe",
    "load_recipe",
]


def _known_fields(config: type) -> BeforeValidator:
    """Dataclasses take no `extra="forbid"` of their own: refuse the keys they do not have."""
    names = [field.name for field in fields(config)]

    def check(value: Any) -> Any:
        _refuse_unknown(value, names)
        return value

    return BeforeValidator(check)


def _refuse_unknown(value: Any, names: Iterable[str]) -> None:
    unknown = sorted(set(value) - set(names), key=str) if isinstance(value, dict) else []
    if unknown:
        raise ValueError(f"unknown key {short(unknown[0])}; known are {', '.join(names)}")


def _not_empty(value: Any) -> Any:
    if value == "":  # Path("") would be the current folder
        raise ValueError("'' is no name; give that of a folder, . for the current one")
    return value


Folder = Annotated[Path, BeforeValidator(_not_empty)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        """pydantic refuses unknown keys, too, but does not say which there are."""
        _refuse_unknown(values, cls.model_fields)
        return values


class DataRecipe(_Strict):
    """An emoji world on white: `size` pixels a side, drawn with the named captions."""

    path: Folder
    size: int = Field(ge=8, le=1024)
    captions: Annotated[CaptionMix, _known_fields(CaptionMix)] = CaptionMix()
    family_exponent: float = Field(0.5, ge=0.0, le=1.0)


Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class OptimiserRecipe(_Strict):
    """AdamW (Loshchilov & Hutter 2019) with a linear warm-up, then constant or cosine to zero."""

    lr: float = Field(gt=0.0)
    betas: tuple[Beta, Beta] = (0.9, 0.99)
    weight_decay: float = Field(0.0, ge=0.0)
    warmup: int = Field(0, ge=0, le=MOST_STEPS)
    decay: Literal["constant", "cosine"] = "cosine"
    clip: float = Field(1.0, gt=0.0)


class _Stage(_Strict):
    """What every stage says. `precision`: of its matrix products; weights, EMA and losses are always float32."""

    seed: int = Field(0, ge=0, lt=2**31)
    data: DataRecipe
    optimiser: OptimiserRecipe
    steps: int = Field(ge=1, le=MOST_STEPS)
    batch: int = Field(ge=1, le=MOST_BATCH)
    ema: float = Field(0.999, ge=0.0, lt=1.0)
    precision: Literal["float32", "bfloat16"] = "float32"
    validate_every: int = Field(200, ge=1, le=MOST_STEPS)
    checkpoint_every: int = Field(200, ge=1, le=MOST_STEPS)


class _FirstStage(_Stage):
    """What every first stage says: L1 + `gradient` * L1 of the finite differences + `perceptual` * the distance over
    the layers of an image tower + what its regulariser adds.

    `perceptual_from`: the CLIP whose tower that is, by a shipped one's name or a folder.
    """

    stage: Literal["autoencoder"]
    gradient: float = Field(0.5, ge=0.0)
    perceptual: float = Field(0.0, ge=0.0)
    perceptual_from: Annotated[str, BeforeValidator(_not_empty)] = "emoji-clip"
    augment: float = Field(0.5, ge=0.0, le=1.0, description="share of crops, flips and recoloured pictures")

    def _fits(self, factor: int) -> None:
        """ValueError for what would fail in the first step."""
        if self.data.size % factor:
            raise ValueError(f"data.size {self.data.size} is not a multiple of the autoencoder's factor {factor}")


class AutoencoderRecipe(_FirstStage):
    """The first stage with KL regularisation: `kl` * KL a latent dimension (LDM, section 3.1)."""

    regulariser: Literal["kl"] = "kl"
    autoencoder: Annotated[AutoencoderConfig, _known_fields(AutoencoderConfig), AfterValidator(refuse_endless)]
    kl: float = Field(1e-6, ge=0.0)

    @model_validator(mode="after")
    def _can_be_finished(self) -> AutoencoderRecipe:
        """What would otherwise fail in the first step, or after the last."""
        self._fits(self.autoencoder.factor)
        if not self.autoencoder.quant_convs:
            raise ValueError("autoencoder.quant_convs False leaves no place for the latents' statistics; make it true")
        return self


class CodebookRecipe(_Strict):
    """How entries come to latents (VQ-VAE, van den Oord et al. 2017).

    `rule`: `learned`, by the codebook loss, or `ema`, to the moving average of the latents nearest to them, of
    `decay` (appendix A.1). `restart_after`: an entry that is the nearest of no latent for so many steps takes the
    place of a random one of the batch; 0 for never.
    """

    rule: Literal["learned", "ema"] = "learned"
    decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.99
    restart_after: Annotated[int, Field(ge=0, le=MOST_STEPS)] = 100


class VQAutoencoderRecipe(_FirstStage):
    """The first stage with vector quantisation: codebook loss + `commitment` * commitment loss (VQ-VAE, equation 3)."""

    regulariser: Literal["vq"]
    autoencoder: Annotated[VQConfig, _known_fields(VQConfig), AfterValidator(refuse_endless)]
    commitment: float = Field(0.25, ge=0.0)
    codebook: CodebookRecipe = CodebookRecipe()

    @model_validator(mode="after")
    def _can_be_trained(self) -> VQAutoencoderRecipe:
        self._fits(self.autoencoder.factor)
        return self


FirstStageRecipe = AutoencoderRecipe | VQAutoencoderRecipe
REGULARISERS: Mapping[str, type[AutoencoderRecipe] | type[VQAutoencoderRecipe]] = {
    "kl": AutoencoderRecipe,
    "vq": VQAutoencoderRecipe,
}


class TokenizerRecipe(_Strict):
    """A byte-level BPE vocabulary trained on the captions."""

    vocab_size: Annotated[int, Field(ge=514, le=MOST)] = 4096
    max_length: Annotated[int, Field(ge=4, le=MOST_TOKENS)] = 32


class ContrastiveRecipe(_Stage):
    """CLIP: a text and an image tower that learn which caption belongs to which picture."""

    stage: Literal["contrastive"]
    tokenizer: TokenizerRecipe = TokenizerRecipe()
    text: Annotated[CLIPTextConfig, _known_fields(CLIPTextConfig), AfterValidator(refuse_endless)]
    vision: Annotated[CLIPVisionConfig, _known_fields(CLIPVisionConfig), AfterValidator(refuse_endless)]
    projection: int = Field(128, ge=1, le=MOST)

    @model_validator(mode="after")
    def _parts_fit(self) -> ContrastiveRecipe:
        """What would otherwise fail in the first step."""
        if self.vision.image_size != self.data.size:
            raise ValueError(f"vision.image_size {self.vision.image_size} is not data.size {self.data.size}")
        if self.vision.channels != 3:
            raise ValueError(f"vision.channels {self.vision.channels}; pictures have 3")
        if self.batch < 2:
            raise ValueError("batch 1 leaves no other picture to tell apart; take at least 2")
        check_vocabulary(self.text, self.tokenizer)
        return self


def check_vocabulary(text: CLIPTextConfig, tokenizer: TokenizerRecipe) -> None:
    """ValueError unless the text tower has a row for every token and a place for every position."""
    for held, wanted, names in (
        (text.vocab_size, tokenizer.vocab_size, "text.vocab_size {} is below tokenizer.vocab_size {}"),
        (text.max_positions, tokenizer.max_length, "text.max_positions {} is below tokenizer.max_length {}"),
    ):
        if held < wanted:
            raise ValueError(names.format(held, wanted))


class DefaultsRecipe(_Strict):
    """What the finished model paints with unless told otherwise."""

    steps: Annotated[int, Field(ge=1)] = 30
    guidance: Annotated[float, Field(ge=0.0)] = 3.0


class TextToImageRecipe(_Stage):
    """A latent diffusion model on a finished first stage, its text tower trained jointly.

    `first_stage`: None for none, in pixels themselves, which a study trains; the command refuses it, since no folder
    of diffusers' has a place for a CLIP without a first stage.
    `text_from`: the finished model of a contrastive run, whose text tower and tokeniser are taken to start
    from; None trains both from nothing.
    """

    stage: Literal["text-to-image"]
    first_stage: Folder | None
    text_from: Folder | None = None
    tokenizer: TokenizerRecipe = TokenizerRecipe()
    text: Annotated[CLIPTextConfig, _known_fields(CLIPTextConfig), AfterValidator(refuse_endless)]
    text_lr_scale: float = Field(1.0, ge=0.0)
    unet: Annotated[UNetConfig, _known_fields(UNetConfig), AfterValidator(refuse_endless)]
    schedule: Annotated[Schedule, _known_fields(Schedule)] = Schedule()
    prediction: Prediction = "v_prediction"
    timestep_shift: float = Field(1.0, gt=0.0)
    weighting: Weighting = "uniform"
    min_snr_gamma: float = Field(5.0, gt=0.0)
    min_snr_floor: float = Field(0.0, ge=0.0)
    caption_dropout: float = Field(0.1, ge=0.0, le=1.0)
    defaults: DefaultsRecipe = DefaultsRecipe()

    @model_validator(mode="after")
    def _can_be_sampled(self) -> TextToImageRecipe:
        """Sampling starts at the last level, which at zero SNR some settings cannot or do not learn, and visits
        each at most once."""
        steps, most = self.defaults.steps, self.schedule.num_train_timesteps
        if steps > most:
            raise ValueError(f"defaults.steps {steps} exceed the schedule's num_train_timesteps; set at most {most}")
        if self.schedule.rescale_zero_snr and self.prediction == "epsilon":
            raise ValueError("prediction epsilon learns nothing at zero SNR; choose v_prediction")
        zero = self.schedule.rescale_zero_snr and self.prediction == "v_prediction"
        if zero and self.weighting == "min_snr" and self.min_snr_floor == 0:
            raise ValueError("weighting min_snr is 0 at zero SNR, where sampling starts; set min_snr_floor above 0")
        return self


AnyRecipe = FirstStageRecipe | ContrastiveRecipe | TextToImageRecipe
STAGES: Mapping[str, type[AutoencoderRecipe] | type[ContrastiveRecipe] | type[TextToImageRecipe]] = {
    "autoencoder": AutoencoderRecipe,
    "contrastive": ContrastiveRecipe,
    "text-to-image": TextToImageRecipe,
}


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> AnyRecipe:
    """Read a recipe; each override is "a.b=c", c being YAML. UserError naming the file, the key and the limit."""
    try:
        values = read_yaml(path)
    except FileNotFoundError:
        raise UserError(f"there is no recipe {path}; the repository's recipes/ has some to start from") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the recipe {path}: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"the recipe {path} is not a YAML mapping; it must begin with a key such as stage:")
    for override in overrides:
        _override(values, override)
    stage = _choice(path, "stage", values.get("stage"), STAGES)
    kind: type[AnyRecipe] = STAGES[stage]
    if stage == "autoencoder":
        kind = REGULARISERS[_choice(path, "regulariser", values.get("regulariser", "kl"), REGULARISERS)]
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(f"recipe {path}: {one_line(error)}") from None


def _choice(path: Path, key: str, value: object, known: Mapping[str, object]) -> str:
    if not isinstance(value, str) or value not in known:
        raise UserError(f"recipe {path}: {key} {short(value)} is unknown; choose one of {', '.join(known)}")
    return value


def _override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not all(key.split(".")):
        raise UserError(f"--set {override!r} is not of the form a.b=c")
    try:
        value = parse_yaml(text)
    except ValueError:
        raise UserError(f"--set {override!r}: {text!r} is not a YAML value") from None
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise UserError(f"--set {override!r}: {parent!r} holds a value, not keys")
    values[last] = value
