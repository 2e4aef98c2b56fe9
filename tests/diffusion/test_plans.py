"""What plans promise beside being those of diffusers, which tests/parity compares."""

from dataclasses import replace

import pytest

from latentbrush.diffusion import SAMPLERS, SIGMA_PATHS, PlanConfig, Schedule, Step, find_sampler, make_plan
from latentbrush.diffusion.level import Level, with_level_after
from latentbrush.diffusion.sigmas import sigma_path, sigma_table
from latentbrush.errors import UserError
from latentbrush.request import SAMPLER_CHOICES, SIGMA_CHOICES

DISTILLED = ("lcm", "tcd")  # of 50 steps at most
WITHOUT_FURTHER_ENTRY = ("ddim", "ddpm", "plms", "pndm", "lms", "unipc", "deis", "dpmpp_2s", "dpmpp_3s")
RESTARTING = ("plms", "pndm", "dpmpp_2s", "dpmpp_3s")
"""Whose steps may begin at an earlier level than the one that is asked."""


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_noise_falls_and_the_last_level_is_finished(name, spacing, zero_snr):
    schedule = Schedule(rescale_zero_snr=zero_snr)
    least = float(schedule.alphas_cumprod[0]) ** 0.5
    # through 61, where trailing spacing yields a step too many
    for n_steps in range(4 if name == "pndm" else 1, 51 if name in DISTILLED else 70):
        plan = make_plan(name, schedule, n_steps, PlanConfig(spacing))
        further = spacing == "trailing" and n_steps == 61 and name not in WITHOUT_FURTHER_ENTRY
        more = {"plms": n_steps > 1, "pndm": 9}.get(name, 0)
        assert len(plan.steps) == n_steps + further + more
        for step in plan.steps:
            assert step.next.sigma * step.now.alpha < step.now.sigma * step.next.alpha
            assert step.at is step.now or name in RESTARTING
            assert isinstance(step.now.alpha, float)
        last = plan.steps[-1].next
        assert last.t is None
        if name in ("ddim", "plms", "pndm") and spacing == "trailing":  # down by T // N, which may stop at abar_0
            assert last.alpha in (1.0, least)
        elif name in ("deis", "tcd"):  # which never reach it
            assert last.alpha == pytest.approx(least, rel=1e-6)  # a sigma rounded to float32
        else:
            assert (last.alpha, last.sigma) == (1.0, 0.0)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("n_steps", [0, -3, 1001])
def test_a_number_of_steps_out_of_range(name, n_steps):
    with pytest.raises(UserError, match=f"{n_steps} steps.*1 to {50 if name in DISTILLED else 1000}"):
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
    with pytest.raises(UserError, match=r"'plsm'.*ddim, euler, dpmpp_2m, heun, euler_ancestral, ddpm"):
        find_sampler("plsm")


@pytest.mark.parametrize("name", [name for name, sampler in SAMPLERS.items() if not sampler.eta])
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
        ({"solver_order": 4}, "is 4"),
        ({"solver_type": "rk4"}, "'rk4'.*midpoint, heun"),
        ({"sigmas": "linear"}, "'linear'.*spaced, karras, exponential"),
        ({"original_inference_steps": 0}, "is 0"),
        ({"timestep_scaling": 0.0}, "is 0.0"),
        ({"lambda_min_clipped": float("nan")}, "not a number"),
        ({"variance_type": "learned"}, "'learned'.*fixed_small, fixed_large"),
    ],
)
def test_what_a_plan_configuration_refuses(options, said):
    with pytest.raises(UserError, match=said):
        PlanConfig(**options)


@pytest.mark.capability("image-to-image")
# Those that restart do not cut their steps, but take the blocks of what is left.
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in RESTARTING])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_a_strength_leaves_the_end_of_the_whole_plan(name, spacing):
    """All but the steps are decided on the whole schedule, as the order of DPM++'s last step."""
    for n_steps in (1, 7, 20, 50 if name in DISTILLED else 61):
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


def test_x_is_read_next_where_the_next_step_asks():
    levels = [Level(0.1, 0.9, 900.0), Level(0.5, 0.5, 480.0), Level(0.6, 0.4, 450.0), Level(1.0, 0.0)]
    steps = [Step(levels[0], levels[1]), Step(levels[2], levels[3], at=levels[1])]
    assert [level for _, level in with_level_after(steps)] == [levels[1], levels[3]]
    assert (steps[0].at, steps[1].at) == (levels[0], levels[1])


@pytest.mark.parametrize(("n_steps", "strength"), [(3, 1.0), (10, 0.3)])
def test_pndm_wants_four_times_for_its_runge_kutta_steps(n_steps, strength):
    with pytest.raises(UserError, match="pndm starts with four times, and 3 are left"):
        make_plan("pndm", Schedule(), n_steps, None, strength)
    assert make_plan("pndm", Schedule(), 10, None, 0.0).steps == ()


def test_a_block_that_a_strength_cuts_begins_where_x_is():
    plan = make_plan("dpmpp_3s", Schedule(), 9, None, 8 / 9)
    assert plan.steps[0].at == plan.steps[0].now
    assert [step.now == step.at for step in plan.steps] == [True, False, True, False, False, True, False, True]


@pytest.mark.parametrize("name", [name for name, sampler in SAMPLERS.items() if sampler.paths])
@pytest.mark.parametrize("path", SIGMA_PATHS)
def test_every_path_of_sigmas_falls_between_the_schedules_ends(name, path):
    schedule = Schedule()
    for n_steps in (1, 2, 10, 33):
        plan = make_plan(name, schedule, n_steps, replace(find_sampler(name).defaults, sigmas=path))
        ratios = [step.at.sigma / step.at.alpha for step in plan.steps]
        assert len(ratios) == n_steps
        assert ratios == sorted(set(ratios), reverse=True)
        assert 0.02 < ratios[-1] <= ratios[0] < 14.65
        assert all(0 <= step.at.t <= 999 for step in plan.steps)


def test_paths_by_their_definitions():
    table = sigma_table(Schedule())
    high, low = float(table[-1]), float(table[0])
    assert sigma_path("simple", high, low, 4, table).tolist() == table[[999, 749, 499, 249]].tolist()
    uniform = sigma_path("sgm_uniform", high, low, 3, table)
    assert uniform == pytest.approx(table[[999, 666, 333]], rel=1e-6)
    exponential = sigma_path("exponential", high, low, 5, table)
    assert exponential[1:] / exponential[:-1] == pytest.approx((low / high) ** 0.25)
    beta = sigma_path("beta", 1.0, 0.0, 3, table)
    assert beta.tolist() == [1.0, pytest.approx(0.5, abs=1e-15), 0.0]  # the distribution is symmetric
    with pytest.raises(UserError, match="the sigmas ays were found for Stable Diffusion's schedule"):
        sigma_path("ays", 1.0, 0.1, 10, sigma_table(Schedule("linear", 1e-4, 0.02)))


def test_from_pure_noise_heun_and_dpm2_take_a_plain_step():
    for name in ("heun", "dpm2", "dpm2_ancestral"):
        config = PlanConfig("trailing")
        zero, plain = (make_plan(name, Schedule(rescale_zero_snr=zero), 20, config) for zero in (True, False))
        assert [step.mid is None for step in zero.steps] == [True, *[False] * 18, True]
        assert [step.mid is None for step in plain.steps] == [*[False] * 19, True]
        assert (zero.calls, plain.calls) == (38, 39)


@pytest.mark.parametrize("path", ["spaced", "karras", "exponential", "beta"])
def test_middles_of_dpm2_ancestral_lie_between(path):
    """Over long steps, too, where float32 leaves nothing of the way down; published middles are NaN there."""
    for n_steps in (5, 20):
        plan = make_plan("dpm2_ancestral", Schedule("squaredcos_cap_v2"), n_steps, PlanConfig("linspace", sigmas=path))
        for step in plan.steps[:-1]:
            assert step.mid is not None
            assert 0 < step.mid.sigma < step.now.sigma


def test_the_names_known_without_torch_are_those_there_are():
    assert tuple(SAMPLERS) == SAMPLER_CHOICES
    assert SIGMA_PATHS == SIGMA_CHOICES
