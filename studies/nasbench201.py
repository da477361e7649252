"""NAS-Bench-201 from its table: 15,625 trained cells, so that a search takes seconds."""

import nas_optuna as nas

search = nas.Search(
    name="nasbench201",
    space=nas.spaces.NASBench201Space(),
    evaluator=nas.evaluators.Tabular.nasbench201("cifar10"),
    metrics=("accuracy", "latency_ms"),
    sampler="nsga2",
    trials=200,
)
