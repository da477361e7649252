"""The controller: that it learns, from whom, and that what it learned is never lost."""

import functools
import time
from itertools import combinations, pairwise

import numpy as np
import optuna
import pytest
import sqlalchemy as sa
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

import nas_optuna.storage
from nas_optuna import samplers
from nas_optuna.errors import SettingError
from nas_optuna.samplers.controller import Controller
from nas_optuna.samplers.questions import Asked, question
from nas_optuna.samplers.reinforce import ANSWERS, ReinforceSampler, _Episode
from nas_optuna.samplers.rewards import (
    HypervolumeImprovement,
    MnasNet,
    RandomWeights,
    standings,
)
from nas_optuna.storage import engine_of, ownership
from tests.storage.processes import together

MAX, MIN = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
REWARDS = [HypervolumeImprovement(), RandomWeights(), MnasNet(targets=(5.0,))]
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # asks outside `optimize`

CELL = {f"edge{i}": ["none", "skip", "pool", "conv", "separable"] for i in range(6)}


def ask_cell(trial):
    """15,625 cells; the accuracy has main effects and one of neighbours."""
    chosen = [CELL[name].index(trial.suggest_categorical(name, CELL[name])) for name in CELL]
    pairs = sum(a == b for a, b in pairwise(chosen))
    return sum(chosen) - 1.5 * pairs


def ask_branches(trial):
    """Every name belongs to its branch; the best branch is not the best on average."""
    kind = trial.suggest_categorical("kind", ["plain", "residual", "dense"])
    layers = trial.suggest_int(f"{kind}.layers", 1, 6)
    value = {"plain": 2.0, "residual": 0.0, "dense": 1.0}[kind] - layers
    for layer in range(layers):
        width = trial.suggest_categorical(f"{kind}.{layer}.width", [8, 16, 32, 64])
        value += {8: 0.0, 16: 0.5, 32: 1.0, 64: 2.5 if kind == "residual" else 0.7}[width]
    return value


def study_with(sampler, storage=None, directions=("maximize",), name="s"):
    return optuna.create_study(
        study_name=name,
        storage=storage,
        sampler=sampler,
        directions=list(directions),
        load_if_exists=True,
    )


def values_of(sampler, ask, trials, directions=("maximize",)):
    study = study_with(sampler, directions=directions)
    study.optimize(ask, n_trials=trials)
    return np.array([t.values for t in study.get_trials(deepcopy=False)])


def params_of(study):
    return [t.params for t in study.get_trials(deepcopy=False)]


@pytest.mark.parametrize("ask", [ask_cell, ask_branches])
def test_it_learns_which_answers_pay(ask):
    random = values_of(samplers.create("random", seed=0), ask, 200)
    late = [values_of(ReinforceSampler(seed=seed), ask, 120)[-30:].mean() for seed in range(4)]
    gain = (np.mean(late) - random.mean()) / random.std()
    assert gain > 1  # the mean of as many random ones has a standard error of 0.12


@pytest.mark.parametrize("reward", REWARDS, ids=lambda reward: type(reward).__name__)
def test_every_reward_teaches_two_objectives(reward):
    """On average over late trials accuracy rises or cost falls against random ones, or both."""

    def ask(trial):
        return ask_cell(trial) + 20, 1 + sum(v == "conv" for v in trial.params.values())

    directions = ("maximize", "minimize")
    random = values_of(samplers.create("random", seed=0), ask, 200, directions)
    late = values_of(ReinforceSampler(seed=0, reward=reward), ask, 120, directions)[-40:]
    gain = (late.mean(axis=0) - random.mean(axis=0)) / random.std(axis=0) * [1, -1]
    assert gain.sum() > 0.8  # the mean of 40 random ones has a standard error of 0.22


def test_weights_steer_the_controller():
    """With one objective's weight near 1 it wants that objective."""

    def ask(trial):
        chosen = [trial.suggest_int(f"x{i}", 0, 3) for i in range(4)]
        return sum(chosen), sum(chosen)  # the one is maximised, the other minimised

    study = study_with(
        ReinforceSampler(seed=1, reward=RandomWeights()), directions=("maximize", "minimize")
    )
    study.optimize(ask, n_trials=150)
    late = study.get_trials(deepcopy=False)[70:]
    first = [t.system_attrs[ANSWERS]["weights"][0] for t in late]
    assert np.corrcoef(first, [t.values[0] for t in late])[0, 1] > 0.4


@pytest.mark.parametrize(("before", "after"), [REWARDS[:2], REWARDS[1::-1]])
def test_a_study_goes_on_with_another_reward(before, after):
    """Trials that were conditioned on other weights are not learned from; later ones are."""

    def ask(trial):
        return ask_cell(trial), sum(v == "conv" for v in trial.params.values())

    directions = ("maximize", "minimize")
    study = study_with(ReinforceSampler(batch=3, reward=before), directions=directions)
    study.optimize(ask, n_trials=4)
    study.sampler = ReinforceSampler(batch=3, reward=after)
    with pytest.warns(UserWarning, match="with other settings; it is refused"):
        study.optimize(ask, n_trials=2)
    controller = study.sampler._memory.controller
    assert not controller.heads.any()  # as at the start: all that ended were the other's
    study.optimize(ask, n_trials=3)
    assert study.sampler._memory.controller.heads.any()


@pytest.mark.parametrize("way", ["constraint", "pruned"])
def test_infeasible_and_pruned_trials_teach(way):
    def ask(trial):
        value = ask_cell(trial)
        bad = trial.params["edge2"] in ("none", "skip", "pool")
        if way == "constraint":
            trial.set_constraint("limit", 1.0 if bad else -1.0)
        elif bad:
            raise optuna.TrialPruned
        return value

    study = study_with(ReinforceSampler(seed=0))
    study.optimize(ask, n_trials=100)
    late = [p["edge2"] in ("none", "skip", "pool") for p in params_of(study)[-40:]]
    assert np.mean(late) < 0.3  # 0.6 of random ones


def test_no_trial_is_repeated_while_others_are_left():
    study = study_with(ReinforceSampler(seed=0))
    study.optimize(
        lambda trial: trial.suggest_int("x", 0, 4) + trial.suggest_categorical("y", [1, 2, 3]),
        n_trials=18,
    )
    genomes = [tuple(p.values()) for p in params_of(study)]
    assert len(set(genomes[:15])) == 15
    assert set(genomes[15:]) <= set(genomes[:15])


def test_no_running_trial_is_repeated():
    def ask(trial):
        return trial.suggest_int("x", 0, 2), trial.suggest_int("y", 0, 4)

    study = study_with(ReinforceSampler(seed=0))
    study.tell(first := study.ask({"x": IntDistribution(0, 2), "y": IntDistribution(0, 4)}), 0)
    genomes = [tuple(first.params.values()), *(ask(study.ask()) for _ in range(14))]
    assert len(set(genomes)) == 15


def test_answers_of_others_do_not_count_as_its_own():
    study = study_with(ReinforceSampler(seed=0))
    study.enqueue_trial({"edge0": "conv", "edge3": "none"})
    study.optimize(ask_cell, n_trials=1)
    (trial,) = study.trials
    assert set(trial.system_attrs[ANSWERS]["own"]) == set(CELL) - {"edge0", "edge3"}
    assert sorted(_Episode.of(trial, 0).own) == [1, 2, 4, 5]
    study.sampler = samplers.create("random")
    study.optimize(ask_cell, n_trials=1)
    assert _Episode.of(study.trials[1], 0) is None


def test_a_retried_trial_keeps_what_was_its_own():
    study = study_with(ReinforceSampler(seed=0))
    study.enqueue_trial({"edge1": "conv"})
    dead = study.ask()
    for name in list(CELL)[:3]:
        dead.suggest_categorical(name, CELL[name])
    study.tell(dead, state=TrialState.FAIL)
    ownership.retry(study, study.trials[0])
    study.optimize(ask_cell, n_trials=1)
    before, after = (t.system_attrs[ANSWERS]["own"] for t in study.trials)
    assert set(before) == {"edge0", "edge2"}
    assert set(after) == set(CELL) - {"edge1"}
    assert {name: after[name] for name in before} == before


def improved(own, advantage=1.0, entropy=0.0):
    """Weights of the heads before and after an update from one episode of two answers."""
    steps = [(question(name, IntDistribution(0, 3)), 1) for name in "ab"]
    controller = Controller(conditions=0, seed=0)
    for asks, _ in steps:
        controller.meet(asks.key, asks.count)
    episode = _Episode(0, np.empty(0), steps, own)
    before = controller.heads.detach().clone()
    ReinforceSampler(entropy=entropy)._improve(controller, [episode], np.array([advantage]))
    return before, controller.heads.detach()


def test_only_own_answers_have_a_gradient():
    before, after = improved({1: float(np.log(0.25))}, entropy=0.01)
    assert torch.equal(before[:4], after[:4])
    assert after[5, -1] > 0 > after[4, -1]  # more of the answer that paid, less of the others


@pytest.mark.parametrize(("chance", "advantage"), [(0.1, 1.0), (0.9, -1.0)])
def test_the_ratio_of_a_stale_answer_is_clipped(chance, advantage):
    """The controller went further than the clip allows since the answer was drawn."""
    before, after = improved({0: float(np.log(chance))}, advantage)
    assert torch.equal(before, after)


def run(storage, trials, seed=3, directions=("maximize", "minimize")):
    """What a new process does."""
    study = study_with(ReinforceSampler(seed=seed, batch=5), storage, directions)
    study.optimize(lambda t: (ask_cell(t), t.number % 3), n_trials=trials)
    return study


def test_a_new_process_learns_nothing_twice(storage_url, monkeypatch):
    run(nas_optuna.storage.open(storage_url), 21)
    learned = []
    monkeypatch.setattr(ReinforceSampler, "_improve", lambda *args: learned.append(args))
    run(nas_optuna.storage.open(storage_url), 1)
    assert not learned


@pytest.mark.parametrize("way", ["damaged", "lost", "copied", "weights that are no numbers"])
def test_a_state_is_rebuilt_from_the_trials(tmp_path, way):
    whole = params_of(run(None, 34))
    url = f"sqlite:///{tmp_path}/nas.db"
    storage = nas_optuna.storage.open(url)
    study = run(storage, 22)
    if way == "copied":
        storage = nas_optuna.storage.open(f"sqlite:///{tmp_path}/copy.db")
        optuna.copy_study(from_study_name="s", from_storage=url, to_storage=storage)
    elif way == "weights that are no numbers":
        states = study.sampler._memory._states
        stored = states.load()
        stored.state.arrays["weights"][0] = np.nan
        assert states.store(stored.state, stored.version)
    else:
        change = {"damaged": "UPDATE nas_states SET payload = x'00'"}.get(way)
        with engine_of(storage).begin() as connection:
            connection.execute(sa.text(change or "DELETE FROM nas_states"))
    if way in ("damaged", "weights that are no numbers"):
        with pytest.warns(UserWarning, match="refused and rebuilt from the trials") as caught:
            run(storage, 1)
        assert len(caught) == 1
    else:
        run(storage, 1)
    assert params_of(run(storage, 11)) == whole


def work(url):
    run(nas_optuna.storage.open(url), 15, directions=("maximize", "minimize"))


def test_processes_learn_from_each_other(storage_url):
    """Each trial is learned from once; what is left is less than a batch for each process."""
    storage = nas_optuna.storage.open(storage_url)
    study = study_with(ReinforceSampler(seed=3, batch=5), storage, ("maximize", "minimize"))
    assert together(work, 3, storage_url) == [None] * 3
    study.optimize(lambda t: (ask_cell(t), 0), n_trials=1)
    learned = sorted(study.sampler._memory.learned)
    assert learned == list(range(45))
    # What is tried elsewhere is not tried too. What has ended may be repeated where others took
    # the last answers of a branch between two questions.
    trials = study.get_trials(deepcopy=False)
    for one, other in combinations(trials, 2):
        apart = other.datetime_start >= one.datetime_complete
        assert apart or one.params != other.params
    assert len({tuple(t.params.values()) for t in trials}) > 42


def test_threads_share_it():
    study = study_with(ReinforceSampler(seed=0, batch=5))
    study.optimize(ask_cell, n_trials=40, n_jobs=3)
    assert all(set(t.system_attrs[ANSWERS]["own"]) == set(CELL) for t in study.trials)


def test_torch_is_left_as_it_was():
    torch.manual_seed(5)
    expected, threads = torch.rand(1), torch.get_num_threads()
    torch.manual_seed(5)
    values_of(ReinforceSampler(seed=0, batch=5), ask_cell, 12)
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    "wrong", [{"batch": 0}, {"epochs": 0}, {"learning_rate": 0.0}, {"entropy": -1.0}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        ReinforceSampler(**wrong)


@pytest.mark.parametrize(
    ("distribution", "count", "exact"),
    [
        (CategoricalDistribution(["a", True, None, 2.5]), 4, True),
        (IntDistribution(3, 11, step=4), 3, True),
        (IntDistribution(-5, 1000), 16, False),
        (IntDistribution(1, 4096, log=True), None, False),
        (FloatDistribution(0.1, 0.7, step=0.2), 4, True),
        (FloatDistribution(0.0, 5.0, step=0.01), 16, False),
        (FloatDistribution(-1.0, 3.0), 16, False),
        (FloatDistribution(1e-5, 1e-1, log=True), 16, False),
    ],
)
def test_choices_and_values_belong_together(distribution, count, exact):
    asks = question("x", distribution)
    assert asks.count == (count or asks.count) <= 16
    assert asks.exact == exact
    seen = set()
    for choice in range(asks.count):
        for place in (0.0, 0.3, 0.999):
            value = asks.value(choice, place)
            assert distribution._contains(distribution.to_internal_repr(value))
            assert asks.choice(value) == choice
            seen.add(value)
    if exact:
        assert len(seen) == asks.count


def test_true_is_not_one():
    assert question("x", CategoricalDistribution([1, 0])).value(0, 0.0) is not True
    assert question("x", CategoricalDistribution([True, False])).value(0, 0.0) is True


def test_a_trial_that_failed_halfway_blocks_no_more_than_itself():
    a, b = (question(name, IntDistribution(0, 1)) for name in "ab")
    asked = Asked()
    asked.add([(a, 0)])
    assert asked.spent([], a) == {0}
    asked.add([(a, 0), (b, 1)])
    assert asked.spent([], a) == set()
    assert asked.spent([(a, 0)], b) == {1}


def test_an_unknown_question_is_answered_uniformly():
    controller = Controller(conditions=2, seed=0)
    chances = controller.answer([], question("x", IntDistribution(0, 3)), np.array([0.3, 0.7]))
    assert chances.tolist() == [0.25] * 4


def told(values=None, *, state=TrialState.COMPLETE, violation=None, curve=None):
    attrs = {} if violation is None else {"constraints:limit": violation}
    return create_trial(
        state=state, values=values, system_attrs=attrs, intermediate_values=curve or {}
    )


def order(trials, directions, reward=None, weights=()):
    shares = standings(trials, directions, reward or HypervolumeImprovement(), np.array(weights))
    return np.argsort(-shares, kind="stable").tolist(), shares


def test_feasible_trials_stand_before_pruned_and_these_before_infeasible_ones():
    pruned = functools.partial(told, state=TrialState.PRUNED)
    trials = [
        told([1.0], violation=2.0),
        pruned(curve={1: 0.9, 2: 0.3}),
        told([0.1], violation=-1.0),
        told([9.0], violation=0.5),
        pruned(curve={1: 0.4}),
        told([0.5]),
        told([float("inf")]),
        pruned(),
    ]
    found, shares = order(trials, [MAX])
    assert found == [5, 2, 4, 1, 7, 3, 0, 6]
    assert shares.max() < 1
    assert shares.min() > 0
    assert order(trials, [MIN])[0] == [2, 5, 1, 4, 7, 3, 0, 6]


def test_equal_trials_share_their_places():
    assert order([told([1.0]), told([1.0]), told([0.0])], [MAX])[1].tolist() == [
        2 / 3,
        2 / 3,
        1 / 6,
    ]


def test_mnasnet_is_the_papers_formula():
    scores = MnasNet(targets=(80.0,), exponent=-0.07)(
        np.array([[0.75, 80.0], [0.75, 160.0]]), [MAX, MIN], np.empty(0)
    )
    assert scores == pytest.approx([0.75, 0.75 * 2**-0.07])
    with pytest.raises(SettingError, match="an accuracy to maximise and 1 costs"):
        MnasNet(targets=(80.0,))(np.ones((1, 2)), [MIN, MIN], np.empty(0))


def test_hypervolume_improvement_ranks_by_layer_then_contribution():
    trials = [told(v) for v in ([1.0, 1.0], [0.9, 0.9], [0.0, 0.0], [0.2, 0.9], [0.95, 0.97])]
    scores = HypervolumeImprovement()(
        np.array([t.values for t in trials]), [MAX, MIN], np.empty(0)
    )
    front = {0, 1, 2, 4}  # [0.2, 0.9] costs what [0.9, 0.9] does and is worse
    assert min(scores[list(front)]) > scores[3]
    assert scores[2] == max(scores)


def test_random_weights_want_the_heavy_objective():
    trials = [told(v) for v in ([1.0, 9.0], [0.8, 4.0], [0.1, 1.0])]
    assert order(trials, [MAX, MIN], RandomWeights(), [0.99, 0.01])[0] == [0, 1, 2]
    assert order(trials, [MAX, MIN], RandomWeights(), [0.01, 0.99])[0] == [2, 1, 0]
    assert order(trials, [MAX, MIN], RandomWeights(), [0.5, 0.5])[0][0] == 1


def test_a_proposal_costs_a_few_milliseconds():
    """At 300 finished trials; the median of what is asked, learning included, in memory."""
    study = study_with(ReinforceSampler(seed=0))
    study.optimize(ask_cell, n_trials=300)
    times = []
    for _ in range(21):
        began = time.process_time()
        trial = study.ask()
        ask_cell(trial)
        times.append(time.process_time() - began)
        study.tell(trial, 0.0)
    assert np.median(times) < 0.1
