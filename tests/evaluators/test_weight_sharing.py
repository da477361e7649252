"""Weight sharing: trained once, by all paths alike; killed, it goes on; judged by one pass."""

import dataclasses
import os
import signal
from functools import partial
from threading import Event, Thread

import numpy as np
import optuna
import pytest
import torch
from safetensors.torch import save_file

import nas_optuna as nas
from nas_optuna.data import Split, load
from nas_optuna.errors import ArchitectureError, SettingError, SpaceError, StorageError
from nas_optuna.evaluators import Candidate, TrainingSettings, WeightSharing, score
from nas_optuna.evaluators.checkpoint import alone, load_checkpoint, save_checkpoint
from nas_optuna.evaluators.loop import train
from nas_optuna.evaluators.supernet_training import Supernet, SupernetPlan, train_supernet
from nas_optuna.liveness import heard_by
from nas_optuna.metrics import METRICS
from nas_optuna.models import build, calibrate
from nas_optuna.spaces import FunctionSpace, MLPSpace
from tests.evaluators.networks import candidate, cnn, quiet
from tests.spaces.test_function import module

DIGITS = load("digits")


def small(trial):
    """Two places with two or three operations each, and a width."""
    net = nas.ArchitectureBuilder((1, 8, 8), num_classes=10)
    width = trial.suggest_categorical("width", [4, 8])
    x = net.conv2d(net.input, width, stride=2, name="stem")
    for place in range(2):
        kernel = trial.suggest_categorical(f"kernel{place}", [0, 1, 3])
        if kernel:
            x = net.conv2d(x, width, kernel, name=f"conv{place}")
    return net.build(net.classifier(x))


def broken(trial):
    """Cannot be built if the answer is not 1."""
    if trial.suggest_categorical("kernel0", [1, 3]) != 1:
        raise ValueError("too large")
    return small(optuna.trial.FixedTrial({"width": 4, "kernel0": 1, "kernel1": 0}))


def never(trial):
    trial.suggest_categorical("kernel0", [1, 3])
    raise ValueError("not today")


SPACE = FunctionSpace(small, input_shape=(1, 8, 8), num_classes=10)


def sharing(directory, space=small, **settings):
    return WeightSharing(DIGITS, space, directory=directory, **{"epochs": 2, **settings})


def of(params, space=SPACE):
    network = space.architecture(params)
    return Candidate(network.digest, params, network, partial(build, network))


def with_inputs(change):
    inputs, targets = DIGITS.train.inputs, DIGITS.train.targets
    return dataclasses.replace(DIGITS, train=Split(change(inputs), targets))


def flat(inputs):
    return inputs.flatten(1)


WIDE = of({"width": 8, "kernel0": 3, "kernel1": 1})
NARROW = of({"width": 4, "kernel0": 0, "kernel1": 3})


def plan(**changes):
    settings = TrainingSettings(**changes.pop("settings", {}))
    return SupernetPlan(
        **{
            "space": SPACE,
            "data": DIGITS,
            "settings": settings,
            "epochs": 3,
            "paths": 2,
            "seed": 0,
            **changes,
        }
    )


def test_the_supernet_is_trained_once_and_reused(tmp_path):
    first = sharing(tmp_path)
    first.prepare()
    written = first.file.stat().st_mtime_ns
    judged = first.evaluate(WIDE, quiet)
    assert judged.values["accuracy"] > 0.3  # 0.5 or so; chance is 0.1
    assert judged.epochs == pytest.approx(1 + 1024 / 1077)
    later = dataclasses.replace(first, calibration=512)  # it changes no weight
    assert later.fingerprint != first.fingerprint
    later.prepare()
    again = dataclasses.replace(first).evaluate(WIDE, quiet)
    assert again.values == judged.values
    assert first.file.stat().st_mtime_ns == written
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".lock", ".safetensors"]


def test_an_evaluation_without_finetuning_is_calibration_and_one_pass(tmp_path):
    """And the order of evaluations does not matter: none changes the shared weights."""
    judge = sharing(tmp_path, finetune=0, calibration=256)
    one, two = (judge.evaluate(each, quiet).values for each in (WIDE, NARROW))
    other = dataclasses.replace(judge)
    assert [other.evaluate(each, quiet).values for each in (NARROW, WIDE)] == [two, one]
    network = judge.supernet.shared.extract(WIDE.architecture)
    chosen = np.random.default_rng(0).permutation(len(DIGITS.train))[:256]
    calibrate(network, [DIGITS.train.inputs[chosen]])
    assert score(network, DIGITS.validation).accuracy == one["accuracy"]


def test_finetuning_is_a_training_that_begins_with_shared_weights(tmp_path):
    """And the order of evaluations does not matter here either."""
    judge = sharing(tmp_path, epochs=1, finetune=2, calibration=256)
    one, two = (judge.evaluate(each, quiet) for each in (WIDE, NARROW))
    assert one.epochs == pytest.approx(2 + 256 / 1077)
    other = dataclasses.replace(judge)
    assert [other.evaluate(each, quiet).values for each in (NARROW, WIDE)] == [
        two.values,
        one.values,
    ]
    plain = dataclasses.replace(judge, finetune=0)
    assert plain.file == judge.file  # the supernet is the same
    assert plain.fingerprint != judge.fingerprint
    # One epoch of two paths leaves much to learn: two of its own add 0.2 or more.
    assert one.values["accuracy"] > plain.evaluate(WIDE, quiet).values["accuracy"] + 0.1
    again = judge.supernet.shared.extract(WIDE.architecture)
    train(again, DIGITS.train, judge, epochs=2, seed=0)
    calibrate(again, judge._calibration)
    assert score(again, DIGITS.validation).accuracy == one.values["accuracy"]


def test_a_finetuning_that_diverges_is_noted(tmp_path):
    sharing(tmp_path, epochs=1).prepare()
    nothing = with_inputs(lambda inputs: inputs * torch.nan)
    judge = WeightSharing(nothing, small, epochs=1, directory=tmp_path)  # finds that supernet
    metrics = judge.evaluate(WIDE, quiet)
    assert metrics.notes["stopped"] == "nan"
    assert metrics.values["loss"] == METRICS["loss"].worst


def start(function):
    """Run a function in a process of its own; return the process's number."""
    pid = os.fork()
    if pid:
        return pid
    try:
        function()
        os._exit(0)
    finally:
        os._exit(1)


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_training_killed_in_the_middle_ends_as_if_it_had_not_been(tmp_path, caplog):
    def kill(net):
        if net.epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    path = tmp_path / "killed.safetensors"
    assert ended(start(lambda: train_supernet(plan(), path, kill))) == -signal.SIGKILL
    path.with_suffix(".new").write_bytes(b"half a file")  # as if killed while writing
    assert Supernet.load(path, 0, torch.device("cpu")).epoch == 2
    epochs = []
    resumed = train_supernet(plan(), path, lambda net: epochs.append(net.epoch))
    assert epochs == [2, 3]
    assert "goes on after epoch 2 of 3" in caplog.text
    whole = train_supernet(plan(), tmp_path / "whole.safetensors")
    assert resumed.losses == whole.losses
    expected = whole.shared.state()
    assert all(torch.equal(t, expected[key]) for key, t in resumed.shared.state().items())
    assert set(expected) == set(resumed.shared.state())
    assert whole.losses[-1] < whole.losses[0] < 3


def test_two_workers_train_it_once(tmp_path):
    path, log = tmp_path / "shared.safetensors", tmp_path / "log"

    def work():
        with alone(path):
            train_supernet(plan(epochs=2), path, note)

    def note(net):
        with log.open("a") as file:
            file.write(f"{net.epoch}\n")

    workers = [start(work) for _ in range(2)]
    assert [ended(worker) for worker in workers] == [0, 0]
    assert log.read_text().split() == ["0", "1", "2", "2"]


def test_each_epoch_of_a_supernet_is_a_sign_of_life(tmp_path):
    signs = []
    with heard_by(lambda: signs.append(1)):
        sharing(tmp_path, epochs=3).prepare()
    assert len(signs) == 3


def test_a_worker_that_waits_for_a_supernet_gives_signs_of_life(tmp_path):
    """The other one goes on until it hears of it."""
    path, begun, heard = tmp_path / "shared.safetensors", Event(), Event()

    def work():
        with alone(path):
            begun.set()
            heard.wait(60)

    other = Thread(target=work)
    other.start()
    assert begun.wait(60)
    with heard_by(heard.set), alone(path):
        assert heard.is_set()
    other.join()


def test_a_loss_that_is_not_finite_ends_it_and_loses_nothing(tmp_path):
    path = tmp_path / "nan.safetensors"
    space = MLPSpace((64,), 10, max_layers=2, widths=(8,), batch_norm=(False,))
    calm = plan(space=space, data=with_inputs(flat), epochs=1)
    before = train_supernet(calm, path).shared.state()
    wild = dataclasses.replace(calm, epochs=2, settings=TrainingSettings(learning_rate=1e30))
    with pytest.raises(
        SettingError, match=r"loss is nan in epoch 2; lower .* still holds epoch 1"
    ):
        train_supernet(wild, path)
    kept = Supernet.load(path, 0, torch.device("cpu"))
    assert kept.epoch == 1
    assert all(torch.equal(t, before[key]) for key, t in kept.shared.state().items())


@pytest.mark.parametrize("content", [b"no safetensors", b""])
def test_a_damaged_file_is_named(tmp_path, content):
    judge = sharing(tmp_path)
    judge.file.write_bytes(content)
    with pytest.raises(StorageError, match=f"{judge.file.name} cannot be read .*delete it"):
        judge.prepare()


@pytest.mark.parametrize("folder", ["a-file", "a-file/below", "/proc"])
def test_a_folder_that_cannot_be_written_is_named_and_not_waited_for(tmp_path, folder):
    (tmp_path / "a-file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be written .*; choose another directory"):
        sharing(tmp_path / folder).prepare()


def test_a_checkpoint_of_another_format_is_not_taken(tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, {"x": torch.zeros(2)}, {"epoch": 1})
    assert load_checkpoint(path)[1] == {"epoch": 1}
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(StorageError, match="format None, not 1"):
        load_checkpoint(path)
    with pytest.raises(StorageError, match="cannot be written"):
        save_checkpoint(tmp_path / "a.safetensors" / "b", {}, {})


def test_functions_that_return_modules_are_refused(tmp_path):
    with pytest.raises(SettingError, match="module returns a module; describe the networks with"):
        sharing(tmp_path, module).prepare()
    with pytest.raises(SettingError, match="small returns a module"):
        sharing(tmp_path).evaluate(candidate(lambda: cnn(4)), quiet)


def test_networks_of_another_space_are_refused_and_new_nodes_marked(tmp_path):
    judge = sharing(tmp_path)
    other = MLPSpace((64,), 10, max_layers=1)
    stranger = of(other.sample(np.random.default_rng(0)), other)
    with pytest.raises(SettingError, match=r"no weights for .*the space that is searched"):
        judge.evaluate(dataclasses.replace(stranger), quiet)
    net = nas.ArchitectureBuilder((1, 8, 8), num_classes=10)
    x = net.conv2d(net.conv2d(net.input, 8, stride=2, name="stem"), 8, name="new")
    network = net.build(net.classifier(x))
    extended = Candidate(network.digest, {}, network, partial(build, network))
    assert judge.evaluate(extended, quiet).notes["untrained"] == "new"
    assert "untrained" not in judge.evaluate(WIDE, quiet).notes


def test_genomes_that_cannot_be_built_are_passed_over(tmp_path):
    judge = sharing(tmp_path, broken, epochs=1, paths=1)
    assert len(judge.supernet.losses) == 1
    assert judge.supernet.dealt == 2 * 17  # every second one of two
    with pytest.raises(SpaceError, match=r"None of 200 genomes .*: not today"):
        sharing(tmp_path, never).prepare()


def test_a_path_that_fails_is_named(tmp_path):
    """As an error of its own: a RuntimeError would pass for one of the trial's network."""
    with pytest.raises(ArchitectureError, match="A path of the supernet fails, <Architecture"):
        train_supernet(plan(data=with_inputs(flat)), tmp_path / "a.safetensors")


def test_what_changes_the_supernet_names_another_file(tmp_path):
    judge = sharing(tmp_path)
    others = [
        sharing(tmp_path, **change)
        for change in ({"epochs": 3}, {"paths": 1}, {"seed": 1}, {"learning_rate": 0.01})
    ]
    others.append(sharing(tmp_path, lambda trial: small(trial)))
    files = {each.file for each in (judge, *others)}
    assert len(files) == len(others) + 1
    assert judge.on("cpu").file == judge.file
    elsewhere = dataclasses.replace(judge, directory=tmp_path / "other")
    assert elsewhere.fingerprint == judge.fingerprint


@pytest.mark.parametrize("name", ["epochs", "paths", "finetune", "calibration"])
def test_settings_are_checked(tmp_path, name):
    with pytest.raises(SettingError, match=f"{name} must be at least"):
        sharing(tmp_path, **{name: -1})


def test_a_study_of_a_function(tmp_path):
    judge = sharing(tmp_path, epochs=1)
    objective = nas.Objective(small, judge, metrics=("accuracy", "parameters"))
    study = optuna.create_study(
        directions=objective.directions,
        sampler=nas.samplers.create("random", space=objective.space, seed=0),
    )
    study.optimize(objective, n_trials=4)
    for trial in study.trials:
        assert trial.user_attrs["nas:notes"]["supernet"] == judge.file.stem
        assert "nas:infeasible" not in trial.user_attrs
        again = judge.evaluate(of(trial.params), quiet)
        assert again.values["accuracy"] == trial.values[0]
