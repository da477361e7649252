"""The surrogate: what its model knows, how it keeps limits and workers apart, what it saves."""

import moocore
import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from nas_optuna import samplers
from nas_optuna.errors import SettingError
from nas_optuna.evaluators import FullTraining
from nas_optuna.recording import DIGEST
from nas_optuna.samplers import Settings, surrogate
from nas_optuna.samplers.acquisition import fit, value_bounds, within_limits
from nas_optuna.samplers.features import Encoder, scaled
from nas_optuna.samplers.gaussian import _likelihood, squares
from nas_optuna.samplers.genomes import INTENDED
from nas_optuna.samplers.improvement import REFERENCE, _model, front_gains, gains
from nas_optuna.samplers.outcomes import Outcomes
from nas_optuna.spaces import MacroSpace, NASBench201Space

CELLS = NASBench201Space((1, 8, 8), 10, channels=8, cells_per_stage=1)
MACRO = MacroSpace((1, 8, 8), 10, max_layers=6, widths=(8, 16, 24))


def make(space=CELLS, seed=0, trials=200, *, directions=("maximize",), strategy="surrogate"):
    sampler = samplers.create(strategy, space=space, seed=seed, trials=trials)
    return optuna.create_study(directions=list(directions), sampler=sampler)


def run(study, space, formula, count):
    for _ in range(count):
        trial = study.ask(space.genes)
        study.tell(trial, formula(trial.params))
    return study


def worth(params):
    """Accuracy of a cell by its graph: an isomorphic one has the same."""
    network = CELLS.architecture(params)
    convolutions = sum(dict(n.settings).get("kernel_size") == 3 for n in network.nodes)
    pools = sum(n.operation == "avg_pool2d" for n in network.nodes)
    return network.layers / 20 - 0.02 * abs(convolutions - 17) + 0.01 * pools


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_gradient_of_the_likelihood_is_its_slope(rng):
    points = [rng.normal(size=(12, 3)), rng.normal(size=(12, 2))]
    distances = [np.sqrt(5 * squares(group, group)) for group in points]
    targets, at = rng.normal(size=12), rng.normal(size=5)
    gradient = _likelihood(distances, targets, at)[1]
    for i, step in enumerate(np.eye(5) * 1e-5):
        up, down = (_likelihood(distances, targets, at + sign * step)[0] for sign in (1, -1))
        assert gradient[i] == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-7)


def test_the_model_predicts_the_worth_of_unseen_cells(rng):
    genomes = [CELLS.sample(rng) for _ in range(160)]
    told, asked = scaled(Encoder(CELLS).matrices(genomes), 80)
    values = np.array([worth(genome) for genome in genomes])
    values = (values - values[:80].mean()) / values[:80].std()
    mean, deviation = fit(told, values[:80]).predict(asked)
    assert np.corrcoef(mean, values[80:])[0, 1] > 0.9
    assert (np.abs(mean - values[80:]) < 3 * deviation + 0.3).mean() > 0.9


def test_isomorphic_cells_differ_in_their_genes_alone():
    cell = dict.fromkeys(CELLS.genes, "none") | {"0->3": "skip_connect"}
    a = cell | {"0->1": "nor_conv_3x3", "1->3": "nor_conv_1x1"}
    b = cell | {"0->2": "nor_conv_3x3", "2->3": "nor_conv_1x1"}
    assert CELLS.architecture(a).digest == CELLS.architecture(b).digest
    genes, *graph = Encoder(CELLS).matrices([a, b])
    assert (genes[0] != genes[1]).any()
    assert all((group[0] == group[1]).all() for group in graph)


def test_it_needs_a_fraction_of_the_trials_of_random_search():
    """The best of 15,625 cells by a formula; random search finds it in 60 trials by 3 % a seed."""
    best = {}
    for strategy in ("surrogate", "random"):
        studies = (run(make(seed=s, strategy=strategy), CELLS, worth, 40) for s in range(3))
        best[strategy] = np.mean([study.best_value for study in studies])
    assert best["surrogate"] > best["random"] + 0.005


def test_no_genome_is_proposed_twice():
    study = run(make(), CELLS, worth, 40)
    assert len({str(trial.params) for trial in study.trials}) == 40


def test_isomorphic_networks_are_proposed_once_where_results_are_kept():
    evaluator = FullTraining("digits", epochs=1)
    sampler = samplers.create("surrogate", space=CELLS, evaluator=evaluator)
    study = optuna.create_study(sampler=sampler)
    for _ in range(30):
        trial = study.ask(CELLS.genes)
        digest = CELLS.architecture(trial.params).digest
        trial.set_user_attr(DIGEST, digest)
        study.tell(trial, list(trial.params.values()).count("nor_conv_3x3"))  # to few layers
    digests = [trial.user_attrs[DIGEST] for trial in study.trials]
    assert len(set(digests)) == len(digests)


def test_it_learns_a_limit():
    """Three in four cells break it, and the worth draws to where it is broken."""
    study, broken = make(), []
    for _ in range(40):
        trial = study.ask(CELLS.genes)
        count = sum("conv" in operation for operation in trial.params.values())
        trial.set_constraint("convolutions", count / 1 - 1)
        broken.append(count > 1)
        study.tell(trial, 0.0 if count > 1 else worth(trial.params))
    assert np.mean(broken[:8]) > 0.5
    assert np.mean(broken[20:]) < 0.3


def test_limits_come_before_worth():
    told = [np.array([[0.0], [1.0], [2.0], [3.0]])]
    violations = np.array([-0.5, -0.4, 0.4, 0.5])
    scores = within_limits(np.array([0.0, 9.0]), told, violations, [np.array([[0.1], [3.0]])])
    assert scores[0] > scores[1]


def test_what_runs_is_not_worth_as_much_any_more():
    told = [np.array([[0.0], [1.0], [2.0]])]
    asked = [np.array([[2.0]])]
    targets = np.array([-1.0, 1.0, np.nan])
    nobody = np.zeros(3, dtype=bool)
    without = value_bounds([told[0][:2]], targets[:2], nobody[:2], asked)
    assert value_bounds(told, targets, nobody, asked) < without
    pruned = np.array([False, False, True])
    assert value_bounds(told, targets, pruned, asked) <= value_bounds(told, targets, nobody, asked)


def test_workers_are_sent_to_different_networks():
    study = run(make(), CELLS, worth, 12)
    trials = [study.ask(CELLS.genes) for _ in range(6)]
    assert len({CELLS.architecture(trial.params).digest for trial in trials}) == 6


def test_a_retry_tries_what_was_intended():
    study = run(make(), CELLS, worth, 10)
    intended = CELLS.sample(np.random.default_rng(5))
    study.add_trial(create_trial(state=TrialState.WAITING, system_attrs={INTENDED: intended}))
    assert study.ask(CELLS.genes).params == intended


def test_the_front_is_covered():
    """Depth against width: each end of the front and something between is found."""

    def formula(params):
        network = MACRO.architecture(params)
        return 1 - 0.7**network.layers, network.layers

    study = run(make(MACRO, directions=("maximize", "minimize")), MACRO, formula, 40)
    layers = {trial.values[1] for trial in study.best_trials}
    random = make(MACRO, directions=("maximize", "minimize"), strategy="random")
    run(random, MACRO, formula, 40)
    assert layers >= {trial.values[1] for trial in random.best_trials}


def test_a_gain_is_the_hypervolume_that_a_candidate_adds(rng):
    front, asked = rng.random((20, 3)), rng.random((30, 3))
    reference = [REFERENCE] * 3
    before = moocore.hypervolume(front, ref=reference)
    for candidate, gain in zip(asked, gains(front, asked), strict=True):
        added = moocore.hypervolume([*front, candidate], ref=reference) - before
        assert gain == pytest.approx(added) if added > 1e-9 else gain <= 1e-9


def test_of_candidates_that_add_nothing_the_nearest_to_the_front_comes_first():
    front = np.array([[0.0, 0.5], [0.5, 0.0]])
    near, far, beyond = gains(front, np.array([[0.51, 0.1], [0.9, 0.9], [2.0, 2.0]]))
    assert 0 > near > far > beyond


def test_a_cost_that_is_a_sum_is_modelled_without_the_logarithm(rng):
    points = [rng.normal(size=(50, 4))]
    cost = points[0].sum(axis=1)
    assert not _model(points, cost)[1].logarithmic
    assert _model(points, np.exp(2 * cost))[1].logarithmic


def test_a_part_of_the_front_that_is_tried_is_worth_less():
    told = [np.array([[0.0], [1.0], [2.0], [3.0], [3.1]])]
    losses = np.array([[0.0, 3.0], [1.0, 2.0], [2.0, 1.1], [3.0, 1.0], [np.nan, np.nan]])
    running, asked = np.array([False] * 4 + [True]), [np.array([[-1.0], [3.2]])]
    alone = front_gains([told[0][:4]], losses[:4], running[:4], asked)
    beside = front_gains(told, losses, running, asked)
    assert beside[1] < alone[1]
    assert beside[0] > beside[1]


def warm_study():
    return run(make(strategy="random", seed=1), CELLS, worth, 40)


def test_a_warm_start_begins_with_good_networks():
    warm = optuna.create_study(
        direction="minimize",  # other directions, as those of other scores may be
        sampler=surrogate.create(Settings(space=CELLS, seed=3), warm=warm_study()),
    )
    run(warm, CELLS, lambda params: -worth(params), 6)
    cold = run(make(seed=3), CELLS, worth, 6)
    assert -np.mean([t.value for t in warm.trials]) > np.mean([t.value for t in cold.trials])


def test_a_warm_start_needs_trials():
    with pytest.raises(SettingError, match="two feasible trials"):
        surrogate.create(Settings(space=CELLS), warm=make())


def test_a_study_of_failures_goes_on():
    study = make()
    for _ in range(12):
        trial = study.ask(CELLS.genes)
        trial.set_constraint("build", 1.0)
        study.tell(trial, 0.0)
    assert not Outcomes.of(study).feasible.any()


def test_a_space_of_two_networks_is_used_up_without_an_error():
    study = optuna.create_study(sampler=samplers.create("surrogate", trials=8))
    for _ in range(8):
        trial = study.ask()
        study.tell(trial, trial.suggest_int("width", 1, 2))
    assert {trial.params["width"] for trial in study.trials} == {1, 2}
