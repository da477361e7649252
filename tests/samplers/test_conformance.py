"""Optuna's own conformance suite over every strategy of the table; a new one joins by itself."""

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)

from nas_optuna import samplers

TRIALS = 80  # the smallest population, so that 12 finished trials are past every warm-up
WARM_UP = 12


class Warm(BaseSampler):
    """Runs a strategy past its warm-up, then gives its whole proposal as a relative one.

    The suite takes it that a joint draw covers every parameter. NSGA-II leaves mutated ones to
    independent draws, and random search all: what counts is what a trial would get.
    """

    def __init__(self, inner):
        self.inner = inner
        self.warming = False

    def before_trial(self, study, trial):
        self.inner.before_trial(study, trial)

    def infer_relative_search_space(self, study, trial):
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(self, study, trial, search_space):
        warm = self.warming or len(study.get_trials(deepcopy=False)) >= WARM_UP
        if search_space and not warm:
            return self._after_warm_up(study, search_space)
        proposal = self.inner.sample_relative(study, trial, search_space)
        return proposal | {
            name: self.inner.sample_independent(study, trial, name, distribution)
            for name, distribution in search_space.items()
            if name not in proposal
        }

    def sample_independent(self, study, trial, name, distribution):
        return self.inner.sample_independent(study, trial, name, distribution)

    def after_trial(self, study, trial, state, values):
        self.inner.after_trial(study, trial, state, values)

    def reseed_rng(self):
        self.inner.reseed_rng()

    def _after_warm_up(self, study, search_space):
        self.warming = True
        for _ in range(WARM_UP):
            trial = study.ask(search_space)
            study.tell(trial, sum(trial.params.values()))
        trial_id = study._storage.create_new_trial(study._study_id)
        proposal = self.sample_relative(study, study._storage.get_trial(trial_id), search_space)
        self.warming = False
        return proposal


@pytest.fixture(params=sorted(samplers.names()))
def strategy(request):
    return request.param


class TestBasic(BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self, strategy):
        return lambda: samplers.create(strategy, seed=0, trials=TRIALS)


class TestRelative(RelativeSamplerTestCase):
    @pytest.fixture
    def sampler(self, strategy):
        return lambda: Warm(samplers.create(strategy, seed=0, trials=TRIALS))


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_the_warm_up_really_reaches_joint_draws(name):
    """Guards the suite above: without joint draws it would only test independent ones."""
    study = optuna.create_study(sampler=samplers.create(name, seed=0, trials=TRIALS))
    space = {gene: optuna.distributions.FloatDistribution(0, 1) for gene in "abcd"}
    for _ in range(WARM_UP):
        trial = study.ask(space)
        study.tell(trial, sum(trial.params.values()))
    assert study.ask().relative_params
