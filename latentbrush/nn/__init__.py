"""The networks: tensors in, tensors out. No file, and no randomness but dropout and initialisation."""

from latentbrush.nn.autoencoder import AutoencoderConfig, AutoencoderKL, Posterior
from latentbrush.nn.clip import CLIPTextConfig, CLIPTextModel, ProjectedTextConfig, ProjectedTextModel
from latentbrush.nn.clip_model import CLIPConfig, CLIPModel
from latentbrush.nn.clip_vision import CLIPVisionConfig, CLIPVisionModel
from latentbrush.nn.condition import Condition
from latentbrush.nn.safety import SafetyChecker, SafetyConfig, SafetyScores
from latentbrush.nn.tiling import tiled_decode, tiled_encode
from latentbrush.nn.tiny_autoencoder import TinyAutoencoder, TinyConfig
from latentbrush.nn.unet import UNet, UNetConfig
from latentbrush.nn.vq import Quantised, VQAutoencoder, VQConfig

__all__ = [
    "AutoencoderConfig",
    "AutoencoderKL",
    "CLIPConfig",
    "CLIPModel",
    "CLIPTextConfig",
    "CLIPTextModel",
    "CLIPVisionConfig",
    "CLIPVisionModel",
    "Condition",
    "Posterior",
    "ProjectedTextConfig",
    "ProjectedTextModel",
    "Quantised",
    "SafetyChecker",
    "SafetyConfig",
    "SafetyScores",
    "TinyAutoencoder",
    "TinyConfig",
    "UNet",
    "UNetConfig",
    "VQAutoencoder",
    "VQConfig",
    "tiled_decode",
    "tiled_encode",
]
