"""Judge a network by weights that a supernet lends it, after one more epoch of its own."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from nas_optuna.architecture import Architecture
from nas_optuna.data import DataSet, batch_count, load
from nas_optuna.errors import SettingError
from nas_optuna.evaluators.base import Candidate, Evaluator, Report, digest_of
from nas_optuna.evaluators.checkpoint import alone
from nas_optuna.evaluators.loop import SCORING_BATCH, score, train
from nas_optuna.evaluators.recipe import TrainingSettings, pick_device, require
from nas_optuna.evaluators.supernet_training import Supernet, SupernetPlan, train_supernet
from nas_optuna.metrics import METRICS, Metrics
from nas_optuna.models import SharedWeights, calibrate
from nas_optuna.operations import operation
from nas_optuna.spaces import UNBUILDABLE, Space, as_space

DIRECTORY = Path(".nas_optuna/supernets")
_SAMPLES = 8  # genomes whose networks stand for the space's code


@dataclass(frozen=True)
class WeightSharing(TrainingSettings, Evaluator):
    """Judges a network with the weights of a supernet, which is trained once for all.

    All networks of the space share weights: by the name of a node, its operation and its settings
    but for the width, where wide tensors are cut for narrow nodes (see
    `nas_optuna.models.SharedWeights`). They are trained by fairly dealt paths (see
    `nas_optuna.evaluators.paths`) at the first use, or by `prepare`; every later study of the
    same space, data and settings finds them in the directory. A training that was killed goes on
    after its last epoch. Then a network costs next to nothing: a copy of its weights is trained
    for one epoch, its statistics of batch norms are estimated on a few training samples, and it
    is scored on the validation part.

    Weights that fit the mean over all paths favour networks that need little of one another's
    nodes: in a cell those with a convolution from its input straight to its output, over deep
    ones. The epoch of its own takes part of that back (short trainings from a supernet's weights:
    Lu et al. 2020, "NSGANetV2"); it goes through the data in the same order for all networks, so
    that chance does not tell them apart. `finetune=0` leaves it out, as Guo et al. 2020 do
    ("Single Path One-Shot Neural Architecture Search with Uniform Sampling"): an evaluation is
    then one pass over the validation part.

    The accuracy is good to rank by and not what a training of the network's own would reach:
    train the front before you choose. Equal networks that a space writes with nodes of other
    names have other weights, so results are not kept by digest.

    A weight learns when its node, operation and settings are dealt. A space that asks much of each
    node (kernel, stride, activation) splits its weights many ways and needs more epochs; one
    whose networks may lack norms needs a lower learning rate, 0.05 or less.

    Args:
        data: A data set, or its name or path for `nas_optuna.data.load`.
        space: The space that is searched, or a function `trial -> Architecture`.
        epochs: Passes over the training part; each trains `paths` networks on every batch.
        paths: Networks per step. Their gradients are summed; with as many as most genes have
            choices, each step trains every choice of each gene.
        finetune: Epochs for which each network is trained on its own before it is scored.
        calibration: Samples by which statistics of batch norms are estimated.
        seed: Decides initial weights, paths, order and augmentation.
        directory: Where supernets are kept.

    The other settings are those of `TrainingSettings`.

    Raises:
        SettingError: A setting is out of its range.

    Example:
        >>> from nas_optuna.spaces import NASBench201Space
        >>> space = NASBench201Space((1, 8, 8), channels=8, cells_per_stage=1)
        >>> sorted(WeightSharing("digits", space).provides)
        ['accuracy', 'loss']
    """

    name: ClassVar[str] = "WeightSharing"
    provides: ClassVar[frozenset[str]] = frozenset({"accuracy", "loss"})
    cacheable: ClassVar[bool] = False

    data: DataSet | str | Path
    space: Space | Callable[[Any], Any]
    _: KW_ONLY
    epochs: int = 80
    paths: int = 5
    finetune: int = 1
    calibration: int = 1024
    seed: int = 0
    directory: str | Path = DIRECTORY

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (
            ("epochs", 1), ("paths", 1), ("finetune", 0), ("calibration", 2),
        ):  # fmt: skip
            value = getattr(self, name)
            require(name, value, f"at least {least}", holds=value >= least)

    @cached_property
    def dataset(self) -> DataSet:
        """The data; loaded at the first use if it was given by name."""
        return self.data if isinstance(self.data, DataSet) else load(self.data)

    def identity(self) -> Mapping[str, Any]:
        """Every setting that changes results, as JSON values."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("device", "directory"):
            del own[name]
        own["data"] = self.dataset.fingerprint
        own["augment"] = asdict(self.dataset.augmentation) if self.augment else None
        own["space"] = self._space.fingerprint
        own["networks"] = self._networks
        return own

    def on(self, device: str | torch.device) -> Self:
        """Return a copy that works on `device`."""
        return replace(self, data=self.dataset, device=device)

    @property
    def file(self) -> Path:
        """Where the supernet is kept."""
        of_networks = ("finetune", "calibration")
        settings = {name: v for name, v in self.identity().items() if name not in of_networks}
        return Path(self.directory).expanduser() / f"{digest_of(settings)}.safetensors"

    def prepare(self) -> None:
        """Train the supernet, if nobody has; `evaluate` would do it at its first call."""
        _ = self.supernet

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """Judge a candidate; the first one waits until the supernet is trained.

        Args:
            candidate: The network.
            report: Never told anything: an epoch or two are no curve to prune by.

        Raises:
            SettingError: The candidate is a module, or of another space.
        """
        supernet = self.supernet
        began = time.perf_counter()
        network, untrained = self._extract(supernet.shared, candidate)
        notes = {"supernet": self.file.stem}
        stopped = self._train_further(network)
        if stopped:
            notes["stopped"] = stopped
        calibrate(network, self._calibration)
        result = score(network, self.dataset.to(supernet.shared.device).validation)
        worst = METRICS["loss"].worst
        if untrained:
            notes["untrained"] = ", ".join(untrained)
        return Metrics(
            {
                "accuracy": result.accuracy,
                "loss": result.loss if result.loss < worst else worst,  # NaN is no value
            },
            epochs=self.finetune + sum(map(len, self._calibration)) / len(self.dataset.train),
            seconds=time.perf_counter() - began,
            notes=notes,
        )

    def _train_further(self, network: nn.Module) -> str:
        """Train a network on its own; say why it ended early, if it did."""
        if not self.finetune:
            return ""
        data = self.dataset
        return train(
            network,
            data.train,
            self,
            epochs=self.finetune,
            seed=self.seed,  # not one for each network: chance is to be the same for all
            augmentation=data.augmentation,
        ).stopped

    @cached_property
    def supernet(self) -> Supernet:
        """The trained supernet, from its file or, if there is none, from its training."""
        plan = SupernetPlan(
            space=self._space,
            data=self.dataset,
            settings=self,
            epochs=self.epochs,
            paths=self.paths,
            seed=self.seed,
        )
        with alone(self.file), _shown(self.epochs) as watch:
            return train_supernet(plan, self.file, watch)

    @cached_property
    def _space(self) -> Space:
        data = self.dataset
        return as_space(self.space, input_shape=data.input_shape, num_classes=data.num_classes)

    @cached_property
    def _networks(self) -> str:
        """Stands for the code of the space: a digest of some of its networks, with all names."""
        rng = np.random.default_rng(0)
        digest = hashlib.sha256()
        for _ in range(_SAMPLES):
            try:
                made = self._space.architecture(self._space.sample(rng))
            except UNBUILDABLE:
                continue
            if not isinstance(made, Architecture):
                raise _no_names(self._space.name)
            digest.update(made.to_json().encode())
        return digest.hexdigest()[:16]

    @cached_property
    def _calibration(self) -> list[Tensor]:
        """Inputs from the training part, the same ones for all networks; not augmented."""
        device = pick_device(self.device)
        train = self.dataset.train
        chosen = np.random.default_rng(self.seed).permutation(len(train))[: self.calibration]
        inputs = train.inputs[torch.from_numpy(chosen).to(train.inputs.device)].to(device)
        return list(inputs.tensor_split(batch_count(len(inputs), SCORING_BATCH)))

    def _extract(
        self, shared: SharedWeights, candidate: Candidate
    ) -> tuple[nn.Module, Sequence[str]]:
        """The candidate's network with shared weights, and the nodes that they are not for."""
        network = candidate.architecture
        if network is None:
            raise _no_names(self._space.name)
        missing = shared.missing(network)
        weighted = [node.name for node in network.nodes if operation(node.operation).weighted]
        if weighted and len(missing) == len(weighted):
            raise SettingError(
                f"The supernet of {self._space.name} has no weights for {network!r}; give "
                "WeightSharing the space that is searched."
            )
        return shared.extract(network), missing


def _no_names(space: str) -> SettingError:
    return SettingError(
        f"WeightSharing needs Architectures, whose nodes have names to share weights by, and "
        f"{space} returns a module; describe the networks with nas.ArchitectureBuilder."
    )


@contextmanager
def _shown(epochs: int) -> Iterator[Callable[[Supernet], None]]:
    """Show a bar while a supernet is trained, if there is a terminal to show it on."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Training the supernet", total=epochs)
        yield lambda net: bar.update(task, completed=net.epoch)
