"""What plans promise beside being those of diffusers, which tests/parity compares."""

import pytest

from latentbrush.diffusion import SAMPLERS, PlanConfig, Schedule, Step, find_sampler, make_plan
from latentbrush.diffusion.level import Level, with_level_after
from latentbrush.errors import UserError


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_noise_falls_and_the_last_level_is_finished(name, spacing, zero_snr):
    schedule = Schedule(rescale_zero_snr=zero_snr)
    least = float(schedule.alphas_cumprod[0]) ** 0.5
    for n_steps in range(1, 70):  # through 61, where trailing spacing yields a step too many
        plan = make_plan(name, schedule, n_steps, PlanConfig(spacing))
        further = spacing == "trailing" and n_steps == 61 and name not in ("ddim", "ddpm")
        assert len(plan.steps) == n_steps + further
        for step in plan.steps:
            assert step.next.sigma * step.now.alpha < step.now.sigma * step.next.alpha
            assert step.at is step.now
            assert isinstance(step.now.alpha, float)
        last = plan.steps[-1].next
        assert last.t is None
        if name == "ddim" and spacing == "trailing":  # which goes down by T // N and may stop at abar_0
            assert last.alpha in (1.0, least)
        else:
            assert (last.alpha, last.sigma) == (1.0, 0.0)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("n_steps", [0, -3, 1001])
def test_a_number_of_steps_out_of_range(name, n_steps):
    with pytest.raises(UserError, match=f"{n_steps} steps.*1 to 1000"):
        make_plan(name, Schedule(), n_steps)


def test_an_offset_beyond_the_schedule():
    with pytest.raises(UserError, match=r"1000 steps with steps_offset 1 start at time 1000.*999"):
        make_plan("ddim", Schedule(), 1000, PlanConfig(steps_offset=1))


@pytest.mark.parametrize("spacing", ["leading", "linspace"])
def test_dpmpp_refuses_to_visit_a_time_twice(spacing):
    with pytest.raises(UserError, match=r"1000 steps.*at most 999"):
        make_plan("dpmpp_2m", Schedule(), 1000, PlanConfig(spacing))
    assert len(make_plan("dpmpp_2m", Schedule(), 999, PlanConfig(spacing)).steps) == 999


def test_an_unknown_sampler_is_answered_with_the_known():
    with pytest.raises(UserError, match=r"'plms'.*ddim, euler, dpmpp_2m, heun, euler_ancestral, ddpm"):
        find_sampler("plms")


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "ddim"])
def test_eta_is_not_silently_dropped(name):
    with pytest.raises(UserError, match=f"eta is 0.5, but {name}"):
        make_plan(name, Schedule(), 10, PlanConfig(eta=0.5))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"spacing": "karras"}, "'karras'.*leading, trailing, linspace"),
        ({"steps_offset": -1}, "-1"),
        ({"eta": 1.5}, "1.5"),
        ({"eta": float("nan")}, "nan"),
        ({"final_sigmas_type": "one"}, "'one'.*zero, sigma_min"),
        ({"solver_order": 3}, "is 3"),
        ({"variance_type": "learned"}, "'learned'.*fixed_small, fixed_large"),
    ],
)
def test_what_a_plan_configuration_refuses(options, said):
    with pytest.raises(UserError, match=said):
        PlanConfig(**options)


@pytest.mark.capability("image-to-image")
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_a_strength_leaves_the_end_of_the_whole_plan(name, spacing):
    """All but the steps are decided on the whole schedule, as the order of DPM++'s last step."""
    for n_steps in (1, 7, 20, 61):
        whole = make_plan(name, Schedule(), n_steps, PlanConfig(spacing))
        for strength in (0.0, 0.01, 0.3, 0.5, 0.99, 1.0):
            plan = make_plan(name, Schedule(), n_steps, PlanConfig(spacing), strength)
            run = int(n_steps * strength)
            assert plan.steps == (whole.steps[n_steps - run :] if run else ())
            assert (plan.start_scale, plan.options) == (whole.start_scale, whole.options)
        assert plan == whole


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_out_of_range(name, strength):
    with pytest.raises(UserError, match=f"strength is {strength}.*from 0 .* to 1"):
        make_plan(name, Schedule(), 10, None, strength)


def test_x_is_read_next_where_the_next_step_starts():
    levels = [Level(0.1, 0.9, 900.0), Level(0.5, 0.5, 480.0), Level(0.6, 0.4, 450.0), Level(1.0, 0.0)]
    steps = [Step(levels[0], levels[1]), Step(levels[2], levels[3], at=levels[1])]
    assert [level for _, level in with_level_after(steps)] == [levels[2], levels[3]]
    assert (steps[0].at, steps[1].at) == (levels[0], levels[1])
