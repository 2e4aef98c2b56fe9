"""What the shapes of an autoencoder's or a text tower's tensors tell of it, where nothing else does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latentbrush.errors import UserError
from latentbrush.formats.clip_configs import write_projected_text_config
from latentbrush.formats.configs import write_autoencoder_config, write_text_config
from latentbrush.formats.fields import MOST_LAYERS, MOST_LEVELS
from latentbrush.formats.store import TensorFile
from latentbrush.nn import AutoencoderConfig, CLIPTextConfig, ProjectedTextConfig

__all__ = ["Guess", "autoencoder_config", "text_config"]

HEAD = 64
"""Numbers of an attention head in every published CLIP."""
OPENAI = 768
"""The width of OpenAI's text tower, which has an activation of its own."""


@dataclass(frozen=True)
class Guess:
    """A part's config.json, as diffusers or transformers would have it; `doubt`: what of it no shape tells."""

    config: Mapping[str, Any]
    told: str
    doubt: str


def autoencoder_config(file: TensorFile, prefix: str, like: AutoencoderConfig | None) -> Guess:
    """From CompVis's keys behind `prefix`. `like`: from where scale, size and groups are taken; None for Stable
    Diffusion 1's."""
    keys, other = file.entries.keys(), AutoencoderConfig() if like is None else like

    def count(name: str, most: int) -> int:
        return next((i for i in range(most) if prefix + name.format(i) not in keys), most)

    levels = count("encoder.down.{}.block.0.conv1.weight", MOST_LEVELS)
    channels = [_shape(file, f"{prefix}encoder.down.{level}.block.0.conv1.weight")[0] for level in range(levels)]
    try:
        config = AutoencoderConfig(
            channels=tuple(channels),
            latent_channels=_shape(file, f"{prefix}decoder.conv_in.weight")[1],
            layers_per_block=count("encoder.down.0.block.{}.conv1.weight", MOST_LAYERS),
            mid_attention=f"{prefix}encoder.mid.attn_1.q.weight" in keys,
            groups=other.groups,
            in_channels=_shape(file, f"{prefix}encoder.conv_in.weight")[1],
            quant_convs=f"{prefix}quant_conv.weight" in keys,
            scaling_factor=other.scaling_factor,
            sample_size=other.sample_size,
        )
    except ValueError as error:
        raise UserError(f"{file.path}: {error}; give the folder of its settings (--config)") from None
    whose = "as of Stable Diffusion 1 and 2; --config for another" if like is None else "as the model's"
    doubt = f"scaling_factor {config.scaling_factor} is assumed, {whose}"
    return Guess(write_autoencoder_config(config), "an autoencoder, by its keys and shapes", doubt)


def text_config(file: TensorFile, prefix: str, projection: str) -> Guess:
    """From transformers' keys behind `prefix`; `projection`: the key of the tower's, if the file has one."""
    vocabulary, width = _shape(file, f"{prefix}embeddings.token_embedding.weight")
    block = f"{prefix}encoder.layers.{{}}.mlp.fc1.weight"
    layers = next((i for i in range(MOST_LAYERS) if block.format(i) not in file.entries), MOST_LAYERS)
    try:
        config = CLIPTextConfig(
            vocab_size=vocabulary,
            width=width,
            layers=layers,
            heads=max(1, width // HEAD),
            mlp_width=_shape(file, block.format(0))[0],
            max_positions=_shape(file, f"{prefix}embeddings.position_embedding.weight")[0],
            activation="quick_gelu" if width == OPENAI else "gelu",
        )
    except ValueError as error:
        raise UserError(f"{file.path}: {error}; give the folder of its settings (--config)") from None
    doubt = f"{config.heads} heads and {config.activation} are assumed; --config for others"
    bos, eos = max(0, vocabulary - 2), vocabulary - 1
    if projection in file.entries:
        projected = ProjectedTextConfig(config, _shape(file, projection)[0])  # whose texts end where the highest id is
        told = write_projected_text_config(projected, bos_id=bos, pad_id=eos)
        return Guess(told, "a CLIP text tower with its projection, by its keys and shapes", doubt)
    told = write_text_config(config, bos_id=bos, eos_id=eos, pad_id=eos)
    return Guess(told, "a CLIP text tower, by its keys and shapes", doubt)


def _shape(file: TensorFile, key: str) -> tuple[int, ...]:
    """Of a matrix or a convolution. UserError where there is none."""
    entry = file.entries.get(key)
    if entry is None or len(entry.shape) < 2:
        raise UserError(f"{file.path} has no sound {key}; get the whole file, or give its settings (--config)")
    return entry.shape
