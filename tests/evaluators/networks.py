"""Small networks and candidates that the tests of this folder train."""

from collections.abc import Callable

from torch import nn

from nas_optuna.evaluators import Candidate


def quiet(epoch: int, accuracy: float) -> None:
    """A report that nobody reads."""


def candidate(build: Callable[[], nn.Module], key: str = "a") -> Candidate:
    return Candidate(key, {}, None, build)


def cnn(*widths: int, classes: int = 10) -> nn.Module:
    layers: list[nn.Module] = []
    for before, width in zip((1, *widths), widths, strict=False):
        layers += [
            nn.Conv2d(before, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes)
    )


def dropout_mlp(classes: int = 10) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, classes)
    )


class Diverging(nn.Module):
    """Linear, and from the given step on all NaN."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.linear, self.after, self.steps = nn.Linear(64, 10), after, 0

    def forward(self, x):
        if self.training:
            self.steps += 1
        x = self.linear(x.flatten(1))
        return x * float("nan") if self.steps > self.after else x
