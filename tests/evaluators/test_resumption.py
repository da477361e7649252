"""A training that was interrupted goes on from its last epoch, and ends as if it had not been."""

import logging
from dataclasses import replace

import optuna
import pytest

import nas_optuna as nas
from nas_optuna.data import Augmentation
from nas_optuna.errors import SettingError
from nas_optuna.evaluators import EarlyStopping, FullTraining, loop
from tests.evaluators.networks import candidate, cnn, dropout_mlp, quiet

SHORT = {"augment": True, "device": "cpu", "batch_size": 128}
EVALUATORS = {
    "FullTraining": FullTraining("digits", epochs=5, **SHORT),
    "cosine": FullTraining("digits", epochs=5, schedule="cosine", momentum=0.0, **SHORT),
    # The best of these epochs is not the last one: its weights must survive too.
    "EarlyStopping": EarlyStopping("digits", max_epochs=9, patience=2, learning_rate=0.8, **SHORT),
}


def keeping(evaluator, folder, **settings):
    """The same with all epochs kept, on data that is augmented."""
    shifted = replace(evaluator.dataset, augmentation=Augmentation(shift=1))
    return replace(
        evaluator, data=shifted, **{"checkpoints": folder, "checkpoint_seconds": 0.0, **settings}
    )


def results(metrics):
    return dict(metrics.values), metrics.epochs, metrics.curve, dict(metrics.notes)


def interrupt_at(last):
    def report(epoch, accuracy):
        if epoch == last:
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize("name", EVALUATORS)
@pytest.mark.parametrize("build", [lambda: cnn(8), dropout_mlp], ids=["batch norm", "dropout"])
def test_interrupted_and_resumed_equals_never_interrupted(name, build, tmp_path, monkeypatch):
    evaluator, network = keeping(EVALUATORS[name], tmp_path), candidate(build)
    whole = keeping(EVALUATORS[name], None).evaluate(network, quiet)
    for last in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            evaluator.evaluate(network, interrupt_at(last))
        assert len(list(tmp_path.glob("*.safetensors"))) == 1
    scored, told = [], []
    score = loop.score
    monkeypatch.setattr(loop, "score", lambda *args: scored.append(1) or score(*args))
    resumed = evaluator.evaluate(network, lambda *news: told.append(news))
    assert results(resumed) == results(whole)
    assert told == list(enumerate(whole.curve, 1))  # the pruner sees the whole curve
    assert len(scored) == whole.epochs - 3  # epochs 1 to 3 were not run again
    assert list(tmp_path.iterdir()) == []


def test_the_time_before_the_interruption_counts(tmp_path):
    evaluator, network = keeping(EVALUATORS["FullTraining"], tmp_path), candidate(lambda: cnn(8))
    with pytest.raises(KeyboardInterrupt):
        evaluator.evaluate(network, interrupt_at(5))
    resumed = evaluator.evaluate(network, quiet)
    whole = evaluator.evaluate(network, quiet)
    assert resumed.seconds > whole.seconds / 4  # one epoch of five, and the four before


def test_a_pruned_training_leaves_nothing(tmp_path):
    def prune(epoch, accuracy):
        if epoch == 3:
            raise optuna.TrialPruned

    with pytest.raises(optuna.TrialPruned):
        keeping(EVALUATORS["FullTraining"], tmp_path).evaluate(candidate(lambda: cnn(8)), prune)
    assert list(tmp_path.iterdir()) == []


def test_a_short_training_is_never_written(tmp_path):
    evaluator = keeping(EVALUATORS["FullTraining"], tmp_path, checkpoint_seconds=60.0)
    with pytest.raises(KeyboardInterrupt):
        evaluator.evaluate(candidate(lambda: cnn(8)), interrupt_at(4))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "other network"])
def test_a_file_that_does_not_fit_is_not_used(damage, tmp_path, caplog):
    evaluator, network = keeping(EVALUATORS["FullTraining"], tmp_path), candidate(lambda: cnn(8))
    whole = keeping(EVALUATORS["FullTraining"], None).evaluate(network, quiet)
    wider = candidate(lambda: cnn(16))
    with pytest.raises(KeyboardInterrupt):
        evaluator.evaluate(wider if damage == "other network" else network, interrupt_at(4))
    (file,) = tmp_path.iterdir()
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        assert results(evaluator.evaluate(network, quiet)) == results(whole)
    assert len(caplog.records) == (damage == "cut")


def test_a_folder_that_cannot_be_written_is_told_of_once(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    evaluator = keeping(EVALUATORS["FullTraining"], tmp_path / "file")
    network = candidate(lambda: cnn(8))
    whole = keeping(EVALUATORS["FullTraining"], None).evaluate(network, quiet)
    with caplog.at_level(logging.WARNING):
        assert results(evaluator.evaluate(network, quiet)) == results(whole)
    (record,) = caplog.records
    assert "goes on without" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_where_a_training_is_kept_changes_no_result():
    plain = FullTraining("digits", epochs=2)
    kept = FullTraining("digits", epochs=2, checkpoints="runs", checkpoint_seconds=1.0)
    assert kept.fingerprint == plain.fingerprint
    with pytest.raises(SettingError, match="checkpoint_seconds"):
        FullTraining("digits", checkpoint_seconds=-1.0)


def test_a_trial_that_is_repeated_goes_on(tmp_path, monkeypatch):
    """All of it: a search is stopped in the middle of a training, and the next run resumes it."""

    def network(trial):
        width = trial.suggest_categorical("width", [8, 16])
        net = nas.ArchitectureBuilder((1, 8, 8), 10)
        return net.build(net.classifier(net.conv2d(net.input, width)))

    evaluator = keeping(FullTraining("digits", epochs=4, device="cpu"), tmp_path / "kept")
    search = nas.Search(
        name="s", space=network, evaluator=evaluator, metrics=("accuracy", "parameters"),
        sampler="random", storage=f"sqlite:///{tmp_path}/nas.db",
    )  # fmt: skip
    study, epochs = search.create(), []
    score = loop.score

    def stop(model, split):
        epochs.append(1)
        if len(epochs) == 4:
            raise KeyboardInterrupt
        return score(model, split)

    monkeypatch.setattr(loop, "score", stop)
    with pytest.raises(KeyboardInterrupt):
        search.optimize(study, trials=1)
    search.optimize(study, trials=1)
    assert len(epochs) == 5  # the fourth one began twice
    stopped, again = study.trials
    assert again.system_attrs["nas:retry_of"] == stopped.number
    assert len(again.user_attrs["nas:curve"]) == len(again.intermediate_values) == 4
