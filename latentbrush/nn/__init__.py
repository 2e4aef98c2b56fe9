"""The networks: tensors in, tensors out. No file, and no randomness but dropout and initialisation."""

from latentbrush.nn.autoencoder import AutoencoderConfig, AutoencoderKL, Posterior
from latentbrush.nn.bert import LDMBertConfig, LDMBertModel
from latentbrush.nn.class_token import ClassToken, ClassTokenConfig
from latentbrush.nn.clip import CLIPTextConfig, CLIPTextModel, ProjectedTextConfig, ProjectedTextModel
from latentbrush.nn.clip_model import CLIPConfig, CLIPModel
from latentbrush.nn.clip_vision import CLIPVisionConfig, CLIPVisionModel
from latentbrush.nn.condition import Condition
from latentbrush.nn.first_stage import FirstStage, posterior_of
from latentbrush.nn.inception import Inception, InceptionFeatures
from latentbrush.nn.lpips import LPIPS
from latentbrush.nn.pixels import PixelConfig, Pixels
from latentbrush.nn.safety import SafetyChecker, SafetyConfig, SafetyScores
from latentbrush.nn.tiling import tiled_decode, tiled_encode
from latentbrush.nn.tiny_autoencoder import TinyAutoencoder, TinyConfig
from latentbrush.nn.unet import UNet, UNetConfig
from latentbrush.nn.unet2d import UNet2D, UNet2DConfig
from latentbrush.nn.vq import Quantised, VQAutoencoder, VQConfig

__all__ = [
    "LPIPS",
    "AutoencoderConfig",
    "AutoencoderKL",
    "CLIPConfig",
    "CLIPModel",
    "CLIPTextConfig",
    "CLIPTextModel",
    "CLIPVisionConfig",
    "CLIPVisionModel",
    "ClassToken",
    "ClassTokenConfig",
    "Condition",
    "FirstStage",
    "Inception",
    "InceptionFeatures",
    "LDMBertConfig",
    "LDMBertModel",
    "PixelConfig",
    "Pixels",
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
    "UNet2D",
    "UNet2DConfig",
    "UNetConfig",
    "VQAutoencoder",
    "VQConfig",
    "posterior_of",
    "tiled_decode",
    "tiled_encode",
]
