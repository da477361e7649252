"""Progressive complexity: what is open when, whatever is wrapped."""

import math
import statistics
import time

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from nas_optuna import samplers
from nas_optuna.errors import SettingError
from nas_optuna.samplers.progressive import GROWTH, STAGES, ProgressiveSampler, opened, schedule
from nas_optuna.spaces import MacroSpace, NASBench201Space
from nas_optuna.spaces.drawing import cardinality, contains

MACRO = MacroSpace((1, 8, 8), 10, max_layers=8)
TRIALS = 200


def search(sampler, genes, trials):
    study = optuna.create_study(sampler=sampler)
    for _ in range(trials):
        trial = study.ask(genes)
        study.tell(trial, float(trial.number % 7))
    return [trial.params for trial in study.get_trials(deepcopy=False)]


@pytest.mark.parametrize(
    ("gene", "share", "part"),
    [
        (CategoricalDistribution("abcde"), 0.1, CategoricalDistribution("a")),
        (CategoricalDistribution("abcde"), 0.5, CategoricalDistribution("abc")),
        (CategoricalDistribution((False, True)), 0.5, CategoricalDistribution((False,))),
        (CategoricalDistribution((False, True)), 0.7, CategoricalDistribution((False, True))),
        (IntDistribution(0, 3), 0.2, IntDistribution(0, 0)),
        (IntDistribution(8, 64, step=8), 0.5, IntDistribution(8, 32, step=8)),
        (IntDistribution(1, 1024, log=True), 0.5, IntDistribution(1, 32, log=True)),
        (FloatDistribution(0, 2), 0.3, FloatDistribution(0, 0.6)),
        (FloatDistribution(0, 1, step=0.25), 0.5, FloatDistribution(0, 0.5, step=0.25)),
        (FloatDistribution(1e-4, 1, log=True), 0.5, FloatDistribution(1e-4, 1e-2, log=True)),
    ],
)
def test_the_simple_part_of_a_gene(gene, share, part):
    found = opened(gene, share)
    assert type(found) is type(part)
    if isinstance(part, FloatDistribution):
        assert math.isclose(found.high, part.high)
        assert (found.low, found.step, found.log) == (part.low, part.step, part.log)
    else:
        assert found == part
    assert opened(gene, 1) is gene


def test_of_ten_choices_the_stages_open_as_many_as_they_say():
    gene = CategoricalDistribution(tuple("abcdefghij"))
    assert [cardinality(opened(gene, stage / 10)) for stage in STAGES] == list(STAGES)


def test_stages_too_small_to_search_in_are_left_out():
    """One cell, one, and 64 are fewer than 200 trials; of three operations there are 729."""
    stages = schedule(NASBench201Space().genes, TRIALS)
    assert [(stage.start, stage.share) for stage in stages] == [(0, 0.5), (10, 0.7), (20, 1)]


def test_a_space_smaller_than_the_budget_is_all_open():
    genes = {"width": CategoricalDistribution((8, 16, 32))}
    assert [(stage.start, stage.share) for stage in schedule(genes, TRIALS)] == [(0, 1)]


@pytest.mark.parametrize("space", [MACRO, None])
@pytest.mark.parametrize("inner", ["random", "tpe", "nsga2"])
def test_what_is_closed_is_not_proposed_and_at_last_all_is_open(inner, space):
    wrapped = samplers.create(inner, seed=1, trials=TRIALS)
    genes = None if space is None else MACRO.genes
    sampler = ProgressiveSampler(wrapped, seed=1, trials=TRIALS, genes=genes)
    asked = search(sampler, MACRO.genes, 60)
    stages = schedule(MACRO.genes, TRIALS)
    assert len(stages) > 3
    assert stages[-1].start == round(GROWTH * TRIALS)
    for i, params in enumerate(asked):
        share = max(stage.share for stage in stages if stage.start <= i)
        if space is None and i == 0:
            share = STAGES[0] / STAGES[-1]  # no question is known yet
        for name, value in params.items():
            assert contains(opened(MACRO.genes[name], share), value), (i, name)
    closed = {name: opened(gene, stages[-2].share) for name, gene in MACRO.genes.items()}
    late = asked[stages[-1].start :]
    assert any(not contains(closed[name], v) for params in late for name, v in params.items())


def test_simple_networks_come_first():
    """Shallow, narrow, without skip connections; means of the first and the last trials."""
    random = samplers.create("random", seed=0)
    sampler = ProgressiveSampler(random, seed=0, trials=TRIALS, genes=MACRO.genes)
    asked = search(sampler, MACRO.genes, 60)
    early, late = asked[:5], asked[-40:]
    for name in ("layers", "layer0.width", "layer7.skip"):
        means = [statistics.mean(params[name] for params in part) for part in (early, late)]
        assert means[0] < means[1]
    assert {params["layer7.skip"] for params in early} == {0}


def test_replaced_values_are_uniform_over_the_open_part():
    gene = {"x": IntDistribution(0, 999)}
    inner = optuna.samplers.PartialFixedSampler({"x": 999}, optuna.samplers.RandomSampler(seed=0))
    sampler = ProgressiveSampler(inner, seed=0, trials=500, genes=gene, stages=(5, 10), growth=1)
    drawn = [params["x"] for params in search(sampler, gene, 500)]
    assert max(drawn) == 499
    # 4 standard errors of a mean of 500 uniform draws from 0 to 499
    assert abs(statistics.mean(drawn) - 249.5) < 26


def test_once_all_is_open_the_wrapped_strategy_is_heard():
    genes = NASBench201Space().genes
    plain = search(samplers.create("random", seed=3), genes, 40)
    ours = search(
        ProgressiveSampler(samplers.create("random", seed=3), seed=3, trials=TRIALS), genes, 40
    )
    assert ours[20:] == plain[20:]
    assert ours[:20] != plain[:20]


def test_what_it_adds_to_the_wrapped_strategy_is_little():
    """Of the 5 ms a trial that are allowed, also while stages grow and no space is given."""

    def seconds(sampler):
        began = time.process_time()
        search(sampler, MACRO.genes, 60)
        return (time.process_time() - began) / 60

    plain = seconds(samplers.create("random"))
    growing = seconds(ProgressiveSampler(samplers.create("random"), seed=0, trials=1000))
    assert growing - plain < 0.005


@pytest.mark.parametrize("stages", [(), (0, 1), (1, 3, 2), (1, 1)])
def test_stages_that_do_not_grow_are_refused(stages):
    with pytest.raises(SettingError, match="stages must grow"):
        ProgressiveSampler(samplers.create("random"), seed=0, trials=10, stages=stages)


def test_growth_beyond_the_budget_is_refused():
    with pytest.raises(SettingError, match="growth is a share"):
        ProgressiveSampler(samplers.create("random"), seed=0, trials=10, growth=1.5)
