"""Differentiable search as a sampler: what it proposes, and that nothing it learned is lost."""

import logging
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from filelock import FileLock
from optuna.trial import TrialState

import nas_optuna as nas
from nas_optuna import samplers
from nas_optuna.data import from_arrays, load
from nas_optuna.errors import SettingError
from nas_optuna.samplers.bilevel import BilevelSettings, BilevelTraining
from nas_optuna.samplers.darts import DartsSampler, middle
from nas_optuna.spaces import MacroSpace, MixedSpace, NASBench201Space
from nas_optuna.storage import ownership
from nas_optuna.storage.artifacts import artifact_directory

SPACE = NASBench201Space((1, 8, 8), 10, channels=2, cells_per_stage=1)
TRIALS = 5
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # asks outside `optimize`


def few_digits():
    whole = load("digits").train
    return from_arrays(whole.inputs[:200].numpy(), whole.targets[:200].numpy(), name="few")


DATA = few_digits()


def sampler(space=SPACE, epochs=3):
    return DartsSampler(space, DATA, BilevelSettings(epochs=epochs, batch_size=32), seed=1)


def create(url):
    storage = nas.storage.open(url) if url else optuna.storages.InMemoryStorage()
    study = optuna.create_study(
        study_name="s", storage=storage, directions=["maximize", "minimize"], sampler=sampler()
    )
    study.set_metric_names(["accuracy", "parameters"])
    return study


def go_on(study, trials=1, *, afresh=False):
    """Tell a formula's values; `afresh` with a new sampler, as a new process has."""
    for _ in range(trials):
        if afresh:
            study.sampler = sampler()
        trial = study.ask()
        SPACE(trial)
        study.tell(trial, [trial.number / 10, len(set(trial.params.values()))])
    return [t.params for t in study.get_trials(deepcopy=False) if t.state is TrialState.COMPLETE]


@pytest.fixture(scope="module")
def expected():
    """What a study in memory proposes that nothing ever disturbs."""
    return go_on(create(None), TRIALS)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'nas.db'}"


@pytest.fixture
def epochs(monkeypatch):
    """Numbers of the epochs that are trained, as they are trained."""
    trained, train = [], BilevelTraining.train_epoch

    def watched(self, weights):
        trained.append(self.epoch)
        return train(self, weights)

    monkeypatch.setattr(BilevelTraining, "train_epoch", watched)
    return trained


def weights_file(study):
    (file,) = artifact_directory(study._storage).glob("*.safetensors")
    return file


def test_a_trial_trains_one_epoch_until_the_last(epochs):
    go_on(create(None), TRIALS)
    assert epochs == [0, 1, 2]


def test_it_trains_where_a_space_asks_without_computing(expected):
    study = create(None)
    with torch.device("meta"):
        assert go_on(study, 2) == expected[:2]


def test_no_genome_is_proposed_twice(expected):
    assert len({tuple(params.values()) for params in expected}) == TRIALS


def test_the_first_proposal_is_what_the_alphas_prefer():
    ours = sampler()
    study = create(None)
    study.sampler = ours
    (params,) = go_on(study)
    logits = ours._memory(study)._training.network.logits()
    assert params == SPACE.derive(logits)


def test_killed_and_resumed_equals_never_killed(
    storage_url, expected, epochs, tmp_path, monkeypatch
):
    monkeypatch.setenv("NAS_OPTUNA_ARTIFACTS", str(tmp_path / "files"))
    study = create(storage_url)
    for _ in range(2):
        go_on(study, afresh=True)
    dead = study.ask()  # killed after one of its questions
    dead.suggest_categorical("0->1", SPACE.operations)
    study._storage.set_trial_state_values(dead._trial_id, TrialState.FAIL)
    ownership.retry(study, study.trials[dead.number])
    while len(go_on(study, afresh=True)) < TRIALS:
        pass
    told = [t.params for t in study.get_trials(deepcopy=False) if t.state is TrialState.COMPLETE]
    assert told == expected
    assert epochs == [0, 1, 2]  # none was trained twice
    assert len(list((tmp_path / "files").glob("*.safetensors"))) == 1


@pytest.mark.parametrize("damage", ["gone", "cut", "changed"])
def test_lost_weights_are_trained_again(url, expected, epochs, damage, caplog):
    study = create(url)
    go_on(study, 2)
    file = weights_file(study)
    if damage == "gone":
        file.unlink()
    else:
        body = bytearray(file.read_bytes())
        body[-1] ^= 1
        file.write_bytes(body[:-100] if damage == "cut" else body)
    with caplog.at_level(logging.WARNING, "nas_optuna"):
        assert go_on(study, TRIALS - 2, afresh=True) == expected
    (record,) = [r for r in caplog.records if "trained again" in r.message]
    assert file.name in record.getMessage()
    assert epochs == [0, 1, 0, 1, 2]


def test_a_damaged_state_is_refused_and_made_again(url, expected):
    study = create(url)
    go_on(study, 2)
    with ownership.backend_of(study._storage).engine.begin() as connection:
        connection.exec_driver_sql("UPDATE nas_states SET payload = x'00'")
    with pytest.warns(UserWarning, match="'darts' for the study 's' is damaged"):
        assert go_on(study, TRIALS - 2, afresh=True) == expected


def test_while_another_process_trains_the_newest_alphas_are_used(url, epochs):
    study = create(url)
    go_on(study, 1)
    file = next(artifact_directory(study._storage).glob("*.lock"))
    with FileLock(file, thread_local=False, is_singleton=False):
        assert len(go_on(study, 1, afresh=True)) == 2
        assert epochs == [0]
    go_on(study, 1, afresh=True)
    assert epochs == [0, 1, 2]


def test_of_threads_that_share_a_study_in_memory_one_trains_and_the_others_sample(monkeypatch):
    study, trained, train = create(None), [], BilevelTraining.train_epoch

    def watched(self, weights):
        trained.append(self.epoch)
        if len(trained) == 1:  # in the middle of an epoch
            with ThreadPoolExecutor(1) as thread:
                assert len(thread.submit(go_on, study).result()) == 1
        return train(self, weights)

    monkeypatch.setattr(BilevelTraining, "train_epoch", watched)
    assert len(go_on(study)) == 2
    assert trained == [0]
    go_on(study)
    assert trained == [0, 1, 2]


CHILD = """
import sys
import nas_optuna as nas
import tests.samplers.test_darts as t
from nas_optuna.samplers.bilevel import BilevelTraining
train = BilevelTraining.train_epoch
def told(self, weights):
    loss = train(self, weights)
    print(self.epoch, flush=True)
    return loss
BilevelTraining.train_epoch = told
study = t.create(sys.argv[1]) if sys.argv[2] == "new" else t.again(sys.argv[1])
t.go_on(study, t.TRIALS - len(study.trials) if sys.argv[2] == "new" else 1)
"""


def again(url):
    return optuna.load_study(study_name="s", storage=nas.storage.open(url), sampler=sampler())


def child(url, kind):
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, url, kind],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )


def test_training_goes_on_from_its_last_epoch_after_kill_9(url, expected):
    process = child(url, "new")
    assert process.stdout.readline() == "1\n"
    assert process.stdout.readline() == "2\n"  # trained, and perhaps not written yet
    process.send_signal(signal.SIGKILL)
    process.wait()
    study = again(url)
    ownership.reap(study)
    process = child(url, "old")
    first = int(process.communicate()[0].split()[0])
    assert first in (2, 3)  # never from the start
    study = again(url)
    ownership.reap(study)
    told = go_on(study, TRIALS - sum(t.state is TrialState.COMPLETE for t in study.trials))
    assert sorted(map(str, told)) == sorted(map(str, expected))


def test_several_processes_share_one_training(url):
    create(url)
    children = [child(url, "old") for _ in range(3)]
    outputs = [process.communicate(timeout=120)[0].split() for process in children]
    assert [process.returncode for process in children] == [0, 0, 0]
    trained = sorted(int(epoch) for output in outputs for epoch in output)
    assert trained == list(range(1, len(trained) + 1))  # each epoch once


def test_tpe_answers_what_is_no_choice_of_an_operation():
    space = MixedSpace((1, 8, 8), 10, max_stages=2, max_cells=1, widths=(2, 4))
    study = optuna.create_study(direction="maximize", sampler=sampler(space))
    widths = set()
    for _ in range(6):
        trial = study.ask()
        space(trial)
        widths.add(trial.params["stage0.width"])
        study.tell(trial, 0.5)
    assert widths == {2, 4}


def test_an_enqueued_trial_trains_nothing(epochs):
    study = create(None)
    study.enqueue_trial(dict.fromkeys(SPACE.genes, "nor_conv_1x1"))
    (params,) = go_on(study)
    assert set(params.values()) == {"nor_conv_1x1"}
    assert epochs == []


def test_a_search_runs_with_it_from_the_name_alone(url):
    search = nas.Search(
        name="d",
        space=SPACE,
        evaluator=nas.evaluators.FullTraining(DATA, epochs=1),
        metrics=("accuracy", "parameters"),
        sampler="darts",
        trials=2,
        storage=url,
    )
    study = search.create()
    search.optimize(study)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 2


def test_costs_among_the_objectives_join_the_loss():
    ours = sampler()
    assert ours._cost_weights([], 0) == {}
    drawn = [ours._cost_weights(["flops", "parameters"], epoch) for epoch in range(50)]
    together = np.array([sum(weights.values()) for weights in drawn])
    assert 0 <= together.min() < 0.2
    assert 0.8 < together.max() <= 1


@pytest.mark.parametrize("partial_channels", [1, 2])
def test_partial_channels_make_the_supernet_smaller(url, partial_channels):
    study = create(url)
    settings = BilevelSettings(epochs=1, batch_size=64, partial_channels=partial_channels)
    study.sampler = DartsSampler(SPACE, DATA, settings, seed=1)
    trial = study.ask()
    SPACE(trial)
    kept = sum(f.stat().st_size for f in artifact_directory(study._storage).rglob("*"))
    assert (kept < 80_000) == (partial_channels == 2)  # headers of the file are most of it


@pytest.mark.parametrize("space", [None, MacroSpace((1, 8, 8), 10, max_layers=3)])
def test_with_nothing_to_relax_it_is_tpe_and_says_so(space, caplog):
    with caplog.at_level(logging.WARNING, "nas_optuna"):
        assert "tpe" in repr(samplers.create("darts", space=space))
    assert "is tpe here" in caplog.text


def test_a_space_without_a_choice_of_an_operation_is_told():
    with pytest.raises(SettingError, match=r"mark one by ArchitectureBuilder\.choose"):
        sampler(MacroSpace((1, 8, 8), 10, max_layers=3))


def test_without_data_it_says_what_to_pass():
    with pytest.raises(SettingError, match="pass evaluator="):
        samplers.create("darts", space=SPACE)


def test_a_training_that_breaks_down_is_told(monkeypatch):
    monkeypatch.setattr(BilevelTraining, "train_epoch", lambda *_: float("nan"))
    with pytest.raises(SettingError, match="loss of the supernet is nan"):
        go_on(create(None))


def test_the_middle_of_a_space_is_a_genome():
    space = MixedSpace((1, 8, 8), 10)
    assert space.architecture(middle(space.genes)).shapes["logits"] == (10,)
    assert middle({"rate": optuna.distributions.FloatDistribution(0, 1)}) == {"rate": 0.5}


def test_the_device_of_the_evaluator_is_taken():
    evaluator = nas.evaluators.FullTraining(DATA, epochs=1, device="cpu")
    made = samplers.create("darts", space=SPACE, evaluator=evaluator)
    assert made._device == torch.device("cpu")
