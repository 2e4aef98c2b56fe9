"""Ways from noise to a picture: samplers with a path of sigmas, in the steps whose network calls fit a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from latentbrush.diffusion import find_sampler
from latentbrush.errors import UserError
from latentbrush.model import LatentDiffusion
from latentbrush.request import SAMPLER_CHOICES, SIGMA_CHOICES, GuidanceRequest, ImageRequest, Sampling
from latentbrush.resolving import plan_of, resolve

__all__ = ["ORDERS", "ROUTES", "Route", "Way", "parse_routes", "way_within"]

ORDERS = {
    **dict.fromkeys(("ddim", "euler"), 1),
    **dict.fromkeys(("heun", "dpm2", "dpmpp_2m", "dpmpp_2s", "deis"), 2),
    **dict.fromkeys(("dpmpp_3m", "dpmpp_3s", "unipc"), 3),
    **dict.fromkeys(("plms", "pndm", "lms"), 4),
}
"""Of convergence, as published, of the samplers that solve the probability flow as they stand in the registry."""
DISTILLED = ("lcm", "tcd")
"""Samplers of networks that were distilled to end the way at every call; on others they are shown for comparison."""


@dataclass(frozen=True)
class Route:
    """A sampler and its path of sigmas, None for the model's own. `name`: 'heun', 'heun-karras', ..."""

    sampler: str
    sigmas: str | None = None

    @property
    def name(self) -> str:
        return self.sampler if self.sigmas is None else f"{self.sampler}-{self.sigmas}"

    def draws(self, model: LatentDiffusion) -> bool:
        """Is noise added on the way, so that many steps lead to no one picture?"""
        sampler = find_sampler(self.sampler)
        return model.plan_config(self.sampler, self.sigmas).eta > 0 if sampler.eta else sampler.draws


ROUTES = (
    *(Route(name) for name in SAMPLER_CHOICES),
    *(Route(name, "karras") for name in ("euler", "heun", "dpmpp_2m")),
)


def parse_routes(text: str) -> tuple[Route, ...]:
    """Names with commas between them. UserError for an unknown one, or one that is named twice."""
    routes = []
    for name in text.split(","):
        sampler, _, sigmas = name.strip().partition("-")
        find_sampler(sampler)
        if sigmas and sigmas not in SIGMA_CHOICES:
            raise UserError(f"sigmas {sigmas!r} of {name!r} are unknown; choose one of {', '.join(SIGMA_CHOICES)}")
        routes.append(Route(sampler, sigmas or None))
    twice = {route.name for route in routes if routes.count(route) > 1}
    if twice:
        raise UserError(f"{sorted(twice)[0]} is named twice; name every sampler once")
    return tuple(routes)


@dataclass(frozen=True)
class Way:
    """A route in so many steps, which ask the network `calls` times for a picture; `budget`: the calls allowed."""

    route: Route
    budget: int
    steps: int
    calls: int
    request: ImageRequest

    @property
    def name(self) -> str:
        return f"{self.route.name}-{self.budget}"


def way_within(model: LatentDiffusion, route: Route, budget: int, guidance: float | None) -> Way | None:
    """The route in most steps that ask the network no more than `budget` times; None where its fewest ask more.

    UserError for a route that the model cannot take at all.
    """
    model.plan_config(route.sampler, route.sigmas)
    for steps in range(min(budget, model.schedule.num_train_timesteps), 0, -1):
        try:
            request = request_for(model, route, steps, guidance)
        except UserError:  # this sampler has no plan of so many steps: PNDM of 3, LCM of 60
            continue
        calls = plan_of(model, request).calls
        if calls <= budget:
            return Way(route, budget, steps, calls, request)
    return None


def request_for(model: LatentDiffusion, route: Route, steps: int, guidance: float | None) -> ImageRequest:
    """The model's own size, without a seed or words of its own. UserError where it has no plan of so many steps."""
    sampling = Sampling(sampler=route.sampler, sigmas=route.sigmas, steps=steps, seed=0)
    return resolve(model, ImageRequest(prompt="", sampling=sampling, guidance=GuidanceRequest(weight=guidance)))


def ways_of(
    model: LatentDiffusion, routes: Sequence[Route], budgets: Sequence[int], guidance: float | None
) -> tuple[Way, ...]:
    """All routes within all budgets, as far as there are such."""
    found = (way_within(model, route, budget, guidance) for route in routes for budget in budgets)
    return tuple(way for way in found if way is not None)
