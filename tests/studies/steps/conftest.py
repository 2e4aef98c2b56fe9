"""A study of a tiny model on the made-up world, with an extractor whose features are the colours of quarters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from made_up_emoji import make_emoji_folder
from quarters import Quarters

from latentbrush.data.folder import ImageFolder
from latentbrush.model import LatentDiffusion, ModelDefaults
from latentbrush.studies.steps import StepsStudy, parse_routes

MakeStudy = Callable[..., StepsStudy]
SMALL = ModelDefaults(steps=2, guidance=2.0, width=16, height=16)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> ImageFolder:
    return ImageFolder(make_emoji_folder(tmp_path_factory.mktemp("made-up") / "emoji"))


@pytest.fixture(scope="session")
def tiny(make_model: Callable[..., LatentDiffusion]) -> LatentDiffusion:
    return make_model(defaults=SMALL)


@pytest.fixture
def make_study(world: ImageFolder, tiny: LatentDiffusion) -> MakeStudy:
    def make(**options: Any) -> StepsStudy:
        model, extractor = options.pop("model", tiny), options.pop("extractor", Quarters())
        routes = parse_routes(options.pop("samplers", "ddim,heun,euler_ancestral"))
        settings = {"pictures": 5, "budgets": (2, 5), "converged": 12, **options}
        return StepsStudy(model, world, extractor, routes=routes, **settings)

    return make
