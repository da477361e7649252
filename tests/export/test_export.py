"""What is retrained is tested and written; what cannot be is refused in a line."""

import json
import sys
from dataclasses import replace

import numpy as np
import optuna
import pytest
import torch
from torch import nn

import nas_optuna as nas
from nas_optuna.cli import exporting, main
from nas_optuna.errors import ExportError, SettingError
from nas_optuna.evaluators import TrainingResult
from nas_optuna.export import check, export, folder, retraining, shipping
from nas_optuna.export.check import load_source
from nas_optuna.export.programs import traced
from nas_optuna.export.retraining import retrain, schedule_of
from nas_optuna.export.subject import subject_of
from nas_optuna.study_file import load_search
from tests.export.conftest import FINISHED, INFEASIBLE, drifts
from tests.formula import Formula

DIGITS = nas.data.load("digits")


def test_all_is_written_and_said(shipped):
    lines = shipped.said.splitlines()
    told = [line for line in lines if line.startswith("DRIFT") and "latency" not in line]
    assert told == []
    assert shipped.status == any(line.startswith("DRIFT") for line in lines)
    assert {path.name for path in shipped.folder.iterdir()} == set(folder.FILES)
    record = json.loads((shipped.folder / "record.json").read_text())
    test = record["test"]
    assert len(set(test["accuracies"])) == 2
    mean, spread = np.mean(test["accuracies"]), np.std(test["accuracies"], ddof=1)
    assert f"Test accuracy {mean:.4f} ± {spread:.4f} over 2 seeds" in lines[-1]
    assert test["shipped"] == test["accuracies"][0]
    card = (shipped.folder / "README.md").read_text()
    for text in (
        f"{mean:.4f} ± {spread:.4f} (standard deviation over 2 seeds)",
        f"| 0 (shipped) | {test['shipped']:.4f} |",
        "for 3 epochs (the search: 1 on train)",
        f"`model.int8.onnx` has {record['programs']['model.int8.onnx']['accuracy']:.4f}",
        f"| parameters | {record['network']['parameters']:,} | 1,000 |",
        "1,077 training, 360 validation and 360 test samples of 10 classes",
        "Study `tiny`, trial 0",
        f"torch {torch.__version__}",
    ):
        assert text in card


def test_the_code_takes_raw_inputs_and_has_the_accuracy_that_is_told(shipped):
    network = load_source(shipped.folder / "model.py").load()
    mean, scale = torch.from_numpy(DIGITS.mean), torch.from_numpy(DIGITS.scale)
    raw = (DIGITS.test.inputs * scale + mean).round()  # as scikit-learn has them
    with torch.inference_mode():
        normalised = network.normalize(raw.float())
        right = (network(normalised).argmax(1) == DIGITS.test.targets).float().mean()
    torch.testing.assert_close(normalised, DIGITS.test.inputs, rtol=0, atol=1e-5)
    record = json.loads((shipped.folder / "record.json").read_text())
    assert right.item() == pytest.approx(record["test"]["shipped"])


def ship(search, out, monkeypatch, **given):
    """Export trial 0 after a search of one trial; the check is left to the caller."""
    monkeypatch.setattr(shipping, "_checked", lambda folder: ((), 0))
    study = optuna.create_study(directions=search.objective.directions)
    study.optimize(search.objective, n_trials=1)
    return export(study, search.objective, trial=0, out=out, seeds=1, **given)


@pytest.mark.usefixtures("quick")
def test_a_module_is_shipped_without_code(tmp_path, monkeypatch):
    def perceptron(trial):
        hidden = trial.suggest_categorical("hidden", [8])
        frozen = nn.Linear(64, hidden).requires_grad_(False)
        return nn.Sequential(nn.Flatten(), frozen, nn.ReLU(), nn.LazyLinear(10))

    training = nas.evaluators.FullTraining(DIGITS, epochs=1)
    search = nas.Search(name="modules", space=perceptron, evaluator=training)
    done = ship(search, tmp_path / "out", monkeypatch)
    assert not (tmp_path / "out/model.py").exists()
    assert "There is no `model.py`" in (tmp_path / "out/README.md").read_text()
    assert list(done.record["programs"]) == ["model.pt2", "model.onnx"]
    assert done.record["training"]["epochs"] == retraining.LONGER
    assert drifts(tmp_path / "out") == []


@pytest.mark.usefixtures("quick")
def test_tokens_are_shipped_as_they_are(tmp_path, monkeypatch):
    tokens = np.random.default_rng(0).integers(0, 12, (200, 6))
    data = nas.data.from_arrays(tokens, tokens[:, 0] % 3, name="tokens")
    space = nas.spaces.TransformerSpace((6,), 3, vocabulary=12, widths=(8,), max_layers=1)
    # What it costs does not need a training, and a search without one may name another.
    search = nas.Search(name="tokens", space=space, evaluator=Formula(), metrics=("parameters",))
    training = nas.evaluators.FullTraining(data, epochs=2)
    done = ship(search, tmp_path / "out", monkeypatch, training=training, epochs=1)
    assert done.record["network"]["input"] == {"shape": [6], "dtype": "int64"}
    assert (done.record["data"]["mean"], done.record["search"]["accuracy"]) == (None, None)
    assert "normalize" not in (tmp_path / "out/model.py").read_text()
    assert drifts(tmp_path / "out") == []


def test_an_interrupted_export_goes_on(study_file, tmp_path, monkeypatch):
    search = load_search(study_file)
    candidate = subject_of(search.load(), search.objective, FINISHED).candidate
    schedule = schedule_of(search.evaluator, epochs=1, seeds=2)
    begun = []

    def dies(*args, **kwargs):
        begun.append(kwargs["seed"])
        if len(begun) == 2:
            raise KeyboardInterrupt
        return train(*args, **kwargs)

    train = retraining.train
    monkeypatch.setattr(retraining, "train", dies)
    with pytest.raises(KeyboardInterrupt):
        retrain(candidate, schedule, tmp_path, lambda line: None)
    said = []
    _, again = retrain(candidate, schedule, tmp_path, said.append)
    assert begun == [0, 1, 1]
    assert [one.seed for one in again] == [0, 1]
    _, whole = retrain(candidate, schedule, tmp_path / "other", said.append)
    assert [one.accuracy for one in again] == [one.accuracy for one in whole]
    for one, other in zip(again, whole, strict=True):
        assert all(torch.equal(one.state[name], other.state[name]) for name in one.state)
    longer = replace(schedule, epochs=2, seeds=(0,))
    retrain(candidate, longer, tmp_path, said.append)
    assert "seed 0: training for 2 epochs" in said  # what is kept is for its own schedule


def test_ctrl_c_is_told(study_file, tmp_path, monkeypatch, capfd):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "export", interrupted)
    with pytest.raises(SystemExit) as end:
        main(["export", str(study_file), "--trial", "0", "--out", str(tmp_path / "out")])
    assert end.value.code == 130
    assert capfd.readouterr().out == "Interrupted: the same command goes on with what is done.\n"


def test_files_appear_whole_and_the_record_last(tmp_path):
    out = tmp_path / "out"
    unfinished = folder.claim(out)
    assert folder.claim(out) == unfinished  # after an interruption
    staging = unfinished / "files"
    staging.mkdir()
    (staging / "record.json").write_text(json.dumps({"format": folder.FORMAT}))
    (out / "model.int8.onnx").write_text("of an earlier export")
    folder.publish(staging, out)
    folder.finish(out)
    assert [path.name for path in out.iterdir()] == ["record.json"]
    folder.claim(out)  # written anew
    folder.finish(out)
    (out / "thesis.tex").write_text("")
    with pytest.raises(ExportError, match=r"holds 'thesis.tex' beside an export"):
        folder.claim(out)


def test_the_schedule_follows_the_evaluator():
    training = nas.evaluators.EarlyStopping(DIGITS, max_epochs=7, learning_rate=0.05)
    proxy = nas.evaluators.ProxyTask(training, data_fraction=0.5, epochs=2)
    schedule = schedule_of(proxy, epochs=None, seeds=3)
    assert (schedule.epochs, schedule.search_epochs, schedule.seeds) == (21, 7, (0, 1, 2))
    assert schedule.settings.learning_rate == 0.05
    assert len(schedule.rest) == len(DIGITS.train) + len(DIGITS.validation)
    scored = schedule_of(nas.evaluators.ZeroCost(DIGITS, "naswot"), epochs=4, seeds=1)
    assert (scored.data, scored.epochs) == (DIGITS, 4)
    shared = nas.evaluators.WeightSharing(DIGITS, lambda trial: None, epochs=80)
    assert schedule_of(shared, epochs=None, seeds=1).epochs < 80  # those are the supernet's
    with pytest.raises(SettingError, match="seeds must be at least 1, got 0"):
        schedule_of(training, epochs=None, seeds=0)


def test_what_cannot_be_traced_is_refused_before_the_training(tmp_path, monkeypatch):
    class Choosy(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            return self.linear(x.flatten(1)) * (2 if x.shape[0] > 7 else 1)

    def network(trial):
        trial.suggest_categorical("one", [1])
        return Choosy()

    training = nas.evaluators.FullTraining(DIGITS, epochs=1)
    search = nas.Search(name="choosy", space=network, evaluator=training, metrics=("accuracy",))
    monkeypatch.setattr(shipping, "retrain", lambda *args: pytest.fail("trained"))
    with pytest.raises(ExportError, match="cannot trace Choosy for any number of samples") as no:
        ship(search, tmp_path / "out", monkeypatch)
    assert "\n" not in str(no.value)


def test_a_diverging_training_gets_a_lower_learning_rate(study_file, tmp_path, monkeypatch):
    search = load_search(study_file)
    candidate = subject_of(search.load(), search.objective, FINISHED).candidate
    schedule = schedule_of(replace(search.evaluator, learning_rate=0.4), epochs=1, seeds=2)

    def fragile(model, *args, seed, **kwargs):
        settings = args[1]
        diverges = settings.learning_rate > 0.3 or (seed == 1 and settings.learning_rate > 0.15)
        return TrainingResult(1, (), None, "nan" if diverges else "")

    monkeypatch.setattr(retraining, "train", fragile)
    said = []
    used, trained = retrain(candidate, schedule, tmp_path, said.append)
    assert (used.settings.learning_rate, used.halvings, len(trained)) == (0.1, 2, 2)
    told = [line for line in said if "diverged" in line]
    assert [line.split(":")[0][-26:] for line in told] == [
        "seed 0 diverged in epoch 1", "seed 1 diverged in epoch 1",
    ]  # fmt: skip
    assert told[1].endswith("all anew with a learning_rate of 0.1")


def test_a_training_that_always_diverges_is_told(study_file, tmp_path):
    search = load_search(study_file)
    candidate = subject_of(search.load(), search.objective, FINISHED).candidate
    schedule = schedule_of(replace(search.evaluator, learning_rate=1e9), epochs=1, seeds=1)
    with pytest.raises(ExportError, match=r"seed 0 diverged in epoch 1, even with .*e\+07; lower"):
        retrain(candidate, schedule, tmp_path, lambda line: None)


@pytest.fixture
def call(study_file, tmp_path, monkeypatch, capfd):
    """Exports a trial of the study by the command line; returns status and error."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        with pytest.raises(SystemExit) as end:
            main(["export", str(study_file), *map(str, words)])
        printed = capfd.readouterr()
        assert printed.out == ""
        return end.value.code, printed.err

    return call


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--trial", 77, "--out", "new"), "has no trial 77; it has 0 to"),
        (("--trial", INFEASIBLE, "--out", "new"), "Trial 1 is infeasible: max_parameters 1,000"),
        (("--trial", FINISHED, "--out", "file"), "file is a file; --out wants a folder"),
        (("--trial", FINISHED, "--out", "."), "holds 'file' and is no export"),
        (("--trial", FINISHED, "--out", "file/new"), "cannot be written"),
        (("--trial", FINISHED), "Missing option '--out'"),
        (("--trial", FINISHED, "--out", "new", "--seeds", 0), "'--seeds'"),
        (("--trial", FINISHED, "--out", "new", "--name", "other"), "no study 'other'"),
    ],
)
def test_wrong_input_is_one_line(call, tmp_path, words, text):
    (tmp_path / "file").write_text("")
    status, said = call(*words)
    assert status in (1, 2)
    assert said.count("\n") == 1
    assert text in said
    assert not (tmp_path / "new").exists()


def test_a_missing_extra_is_one_line(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    status, said = call("--trial", FINISHED, "--out", "new")
    assert (status, said.count("\n")) == (1, 1)
    assert "onnxscript is not installed" in said
    assert "pip install 'nas-optuna[export]'" in said


def test_trials_that_are_no_networks_are_refused(study_file):
    search = load_search(study_file)
    study = optuna.create_study(directions=search.objective.directions)
    study.add_trial(optuna.trial.create_trial(values=[1, 1, 1]))
    study.ask()
    with pytest.raises(ExportError, match="Trial 0 holds no network"):
        subject_of(study, search.objective, 0)
    with pytest.raises(ExportError, match="Trial 1 is running; export one that finished"):
        subject_of(study, search.objective, 1)


def test_a_search_without_data_is_refused():
    with pytest.raises(ExportError, match="nothing to train on: Formula has no data") as no:
        schedule_of(Formula(), epochs=None, seeds=1)
    assert "ProxyHealth" in str(no.value)


def test_data_of_another_shape_is_refused(study_file, tmp_path):
    search = load_search(study_file)
    rows = nas.data.from_arrays(np.random.default_rng(0).normal(size=(50, 3)), np.arange(50) % 2)
    with pytest.raises(ExportError, match=r"inputs of shape \(1, 8, 8\) and 10 classes"):
        export(
            search.load(), search.objective, trial=FINISHED, out=tmp_path / "out",
            training=nas.evaluators.FullTraining(rows),
        )  # fmt: skip


def test_changed_code_is_refused(tmp_path):
    training = nas.evaluators.FullTraining(DIGITS, epochs=1)

    def made_of(width):
        def network(trial):
            trial.suggest_categorical("one", [1])
            return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, 10))

        return network

    objective = nas.Objective(made_of(4), training, metrics=("parameters",))
    study = optuna.create_study(directions=objective.directions)
    study.optimize(objective, n_trials=1)
    trial = study.get_trials(deepcopy=False)[0]
    trial.user_attrs["nas:digest"] = "of other code"
    with pytest.raises(ExportError, match="its code was changed since"):
        subject_of(study, objective, 0)


def test_a_check_that_cannot_run_is_told(copy):
    (copy / "check.py").write_text("import nothing_like_it")
    with pytest.raises(ExportError, match=r"could not be run: .* 'nothing_like_it'"):
        shipping._checked(copy)


def test_one_trace_serves_all_sizes_of_a_batch():
    program = traced(nn.Linear(3, 2).eval(), torch.zeros(2, 3)).module()
    assert [len(program(torch.zeros(n, 3))) for n in (1, 2, 9)] == [1, 2, 9]
    assert check.BATCH > 9


def test_the_reference_of_a_cheap_evaluator_retrains(tmp_path, monkeypatch):
    file = tmp_path / "cheap.py"
    file.write_text("""
import nas_optuna as nas

search = nas.Search(
    name="cheap",
    space=nas.spaces.NASBench201Space((1, 8, 8)),
    evaluator=nas.evaluators.ZeroCost("digits", "naswot"),
    metrics=("proxy",),
    health=nas.ProxyHealth(nas.evaluators.FullTraining("digits", epochs=9)),
    storage="sqlite:///nas.db",
)
""")
    monkeypatch.chdir(tmp_path)
    load_search(file).create()
    given = {}

    def exported(*args, **kwargs):
        given.update(kwargs)
        raise ExportError("Enough.")

    monkeypatch.setattr(exporting, "export", exported)
    with pytest.raises(SystemExit):
        main(["export", str(file), "--trial", "0", "--out", "out"])
    assert schedule_of(given["training"], epochs=None, seeds=1).search_epochs == 9
