"""Every sampler takes the most steps that its budget of network calls allows, and asks the network so often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from latentbrush.errors import UserError
from latentbrush.model import LatentDiffusion
from latentbrush.pipeline import paint, plan_of
from latentbrush.request import SAMPLER_CHOICES
from latentbrush.studies.steps import ROUTES, Route, parse_routes
from latentbrush.studies.steps.routes import ORDERS, request_for, way_within

pytestmark = pytest.mark.capability("studies")

TWICE = {"heun", "dpm2", "dpm2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde"}


@pytest.fixture
def asked(tiny: LatentDiffusion) -> Iterator[list[int]]:
    """The batch of every call of the network."""
    sizes: list[int] = []

    def count(module: Any, arguments: tuple[Any, ...]) -> None:
        sizes.append(len(arguments[0]))

    handle = tiny.unet.register_forward_pre_hook(count)
    yield sizes
    handle.remove()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_calls_are_what_the_network_is_asked(route: Route, tiny: LatentDiffusion, asked: list[int]) -> None:
    for budget in (5, 14):
        way = way_within(tiny, route, budget, None)
        if way is None:
            assert (route.sampler, budget) == ("pndm", 5)  # three Runge-Kutta steps take twelve
            continue
        asked.clear()
        paint(tiny, ["red", "blue", "cat"], [1, 2, 3], way.request)
        assert len(asked) == way.calls <= budget
        assert set(asked) == {6}  # both branches of the guidance are one call
        assert way.steps < way.calls or route.sampler not in {*TWICE, "pndm"}
        # One step more would not fit.
        assert plan_of(tiny, request_for(tiny, route, way.steps + 1, None)).calls > budget


def test_a_sampler_without_steps_enough_is_left_out(tiny: LatentDiffusion) -> None:
    assert way_within(tiny, Route("pndm"), 12, None) is None
    found = way_within(tiny, Route("pndm"), 13, None)
    assert found is not None
    assert (found.steps, found.calls) == (4, 13)
    lcm = way_within(tiny, Route("lcm"), 80, None)  # distilled in 50
    assert lcm is not None
    assert lcm.calls == 50


def test_all_samplers_take_part_and_have_an_order_unless_they_draw(tiny: LatentDiffusion) -> None:
    assert {route.sampler for route in ROUTES} == set(SAMPLER_CHOICES)
    assert {route.sampler for route in ROUTES if not route.draws(tiny)} == set(ORDERS)


def test_what_draws_is_the_plans_to_say(make_model: Callable[..., LatentDiffusion]) -> None:
    assert Route("tcd").draws(make_model())
    assert not Route("ddim").draws(make_model())
    assert Route("ddim").draws(make_model(plan_options={"eta": 0.5}))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_what_draws_is_what_asks_for_noise(
    route: Route, tiny: LatentDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = way_within(tiny, route, 14, None)
    assert way is not None
    drawn, real = [], torch.randn

    def counting(*sizes: Any, **options: Any) -> torch.Tensor:
        drawn.append(sizes)
        return real(*sizes, **options)

    monkeypatch.setattr(torch, "randn", counting)
    paint(tiny, ["red"], [1], way.request)
    assert (len(drawn) > 1) == route.draws(tiny)  # the first is where it begins


def test_names_are_read_and_refused() -> None:
    assert parse_routes("ddim, heun-karras") == (Route("ddim"), Route("heun", "karras"))
    with pytest.raises(UserError, match="sampler 'dimm' is unknown; choose one of ddim"):
        parse_routes("ddim,dimm")
    with pytest.raises(UserError, match="sigmas 'carras' of 'heun-carras' are unknown; choose one of spaced, karras"):
        parse_routes("heun-carras")
    with pytest.raises(UserError, match="ddim is named twice"):
        parse_routes("ddim,heun,ddim")


def test_a_path_that_a_sampler_has_not_is_refused(tiny: LatentDiffusion) -> None:
    with pytest.raises(UserError, match="'karras' for ddim, which has no path of sigmas"):
        way_within(tiny, Route("ddim", "karras"), 5, None)
