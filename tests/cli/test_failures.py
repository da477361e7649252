"""What goes wrong while a study runs: it is said, what was finished is kept, and a run goes on."""

import numpy as np
import optuna

from tests.cli.conftest import SMALL

BROKEN = "if getattr(trial, 'study', None) and trial.number == 1: oops\n    net = "


def states(folder):
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{folder}/nas.db")
    return [(t.state.name, t.values) for t in study.trials]


def test_a_loss_that_is_nan_is_a_finished_trial_that_says_so(folder, call):
    wild = "epochs=2, learning_rate=1e30"
    (folder / "small.py").write_text(SMALL.replace("epochs=2", wild))
    run = call(folder, "run", "small.py", "--trials", 2)
    assert (run.status, run.err) == (0, "")
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{folder}/nas.db")
    trained = [t for t in study.trials if "nas:curve" in t.user_attrs]
    assert trained
    for trial in trained:
        assert trial.state is optuna.trial.TrialState.COMPLETE
        assert trial.user_attrs["nas:notes"]["stopped"] == "nan"
        assert 0 <= trial.values[0] < 0.5
    shown = call(folder, "show", "small.py", "--trial", trained[0].number)
    assert "stopped nan" in " ".join(shown.out.split())


def test_an_error_in_a_space_keeps_what_was_finished_and_the_mended_file_goes_on(folder, call):
    (folder / "small.py").write_text(SMALL.replace("net = ", BROKEN, 1))
    assert call(folder, "run", "small.py").status == 1
    (kept, failed) = states(folder)
    assert (kept[0], failed[0]) == ("COMPLETE", "FAIL")
    (folder / "small.py").write_text(SMALL)
    resumed = call(folder, "resume", "small.py", "--trials", 2)
    assert (resumed.status, resumed.err) == (0, "")
    after = states(folder)
    assert after[:2] == [kept, failed]
    assert [state for state, _ in after[2:]] == ["COMPLETE"] * 2


def test_data_that_has_gone_bad_leaves_the_study_as_it_was(folder, call):
    rng = np.random.default_rng(0)
    arrays = {"inputs": rng.normal(size=(120, 1, 8, 8)), "targets": np.arange(120) % 10}
    np.savez(folder / "mine.npz", **arrays)
    (folder / "small.py").write_text(SMALL.replace('"digits"', '"mine.npz"'))
    assert call(folder, "run", "small.py", "--trials", 2).status == 0
    before = states(folder)
    arrays["inputs"][3, 0, 2, 1] = np.nan
    np.savez(folder / "mine.npz", **arrays)
    spoilt = call(folder, "resume", "small.py")
    (folder / "mine.npz").unlink()
    gone = call(folder, "resume", "small.py")
    for done, text in ((spoilt, "NaN"), (gone, "mine.npz")):
        assert done.status == 1
        assert done.out == ""
        assert (done.err.startswith("error: "), done.err.count("\n")) == (True, 1)
        assert text in done.err
    assert states(folder) == before
