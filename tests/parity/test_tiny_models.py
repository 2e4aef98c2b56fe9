"""Whole models whose vae is a tiny autoencoder (TAESD): painted through it as diffusers paints, both in float64."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image
from test_img2img_pictures import GUIDE, STRENGTHS
from test_pictures import PUBLISHED, compare, opened, ours, theirs, wanted
from test_tiny_autoencoder import tiny_taesd
from tiny import tiny_pipeline

from latentbrush import Start, generate, load
from latentbrush.errors import UserError
from latentbrush.formats import convert, save_model, summarise

pytestmark = [
    pytest.mark.capability("other-autoencoder"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
