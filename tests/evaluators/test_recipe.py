"""Settings are checked, decay spares vectors, schedules end at zero, seeds stay inside."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from nas_optuna.errors import SettingError, UnknownNameError
from nas_optuna.evaluators import TrainingSettings, pick_device, seeded
from nas_optuna.evaluators.recipe import make_optimizer, make_schedule
from tests.evaluators.networks import cnn


@pytest.mark.parametrize(
    "setting",
    [
        {"batch_size": 1},
        {"learning_rate": 0.0},
        {"momentum": 1.0},
        {"weight_decay": -1e-4},
        {"label_smoothing": 1.0},
    ],
)
def test_values_out_of_range_are_refused_by_name(setting):
    (name,) = setting
    with pytest.raises(SettingError, match=f"{name} must be"):
        TrainingSettings(**setting)


def test_an_unknown_schedule_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'one_cycle'"):
        TrainingSettings(schedule="onecycle")


def test_weight_decay_is_on_kernels_and_matrices_only():
    model = cnn(4, 8)
    decayed, spared = make_optimizer(model, TrainingSettings(weight_decay=0.1)).param_groups
    assert decayed["weight_decay"] == 0.1
    assert spared["weight_decay"] == 0.0
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {"0.weight", "3.weight", "8.weight"}
    assert len(spared["params"]) == 5  # two norms with scale and shift, one bias


def test_frozen_parameters_and_missing_groups_are_fine():
    model = nn.Linear(3, 2, bias=False)
    make_optimizer(model, TrainingSettings(momentum=0.0)).step()
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    groups = make_optimizer(model, TrainingSettings()).param_groups
    assert sum(len(group["params"]) for group in groups) == 2


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 10, 100])
def test_schedules_run_for_any_number_of_steps(schedule, steps):
    settings = TrainingSettings(schedule=schedule, learning_rate=0.5)
    optimizer = make_optimizer(nn.Linear(2, 2), settings)
    rates = []
    plan = make_schedule(optimizer, settings, steps)
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        plan.step()
    assert all(0 <= rate <= 0.5 for rate in rates)
    if steps == 100:
        assert max(rates) == pytest.approx(0.5, rel=1e-3)
        assert rates[-1] < 0.01
        assert rates.index(max(rates)) == pytest.approx(
            30 if schedule == "one_cycle" else 0, abs=1
        )
        momenta = {group["momentum"] for group in optimizer.param_groups}
        assert momenta == {settings.momentum}


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert pick_device("auto").type == expected


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "xpu"])
def test_a_missing_device_is_one_clear_error(device):
    with pytest.raises(SettingError, match="device must be one of this machine") as caught:
        pick_device(device)
    assert "\n" not in str(caught.value)


def test_seeded_decides_the_draws_inside_and_leaves_those_outside():
    device = torch.device("cpu")
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with seeded(7, device) as generator:
        inside = torch.rand(3), torch.rand(3, generator=generator)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(2)
    with seeded(7, device) as generator:
        again = torch.rand(3), torch.rand(3, generator=generator)
    assert all(torch.equal(a, b) for a, b in zip(inside, again, strict=True))


def test_threads_that_seed_take_turns():
    device, entered = torch.device("cpu"), threading.Event()

    def draw():
        with seeded(8, device):
            entered.set()
            return torch.rand(3)

    with seeded(7, device):
        expected = torch.rand(6)
    with ThreadPoolExecutor(1) as thread:
        with seeded(7, device):
            first = torch.rand(3)
            other = thread.submit(draw)
            assert not entered.wait(0.3)  # long enough for one that does not wait for its turn
            second = torch.rand(3)
        assert not torch.equal(other.result(), second)
    assert torch.equal(torch.cat([first, second]), expected)


def test_seeded_restores_after_an_error():
    def draw_and_stop():
        with seeded(7, torch.device("cpu")):
            torch.rand(1)
            raise RuntimeError("stop")

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="stop"):
        draw_and_stop()
    assert torch.equal(before, torch.get_rng_state())
