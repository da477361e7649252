"""Words for an operation, as people in the field write them: `conv 3x3, 32, /2, relu`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nas_optuna.operations import Operation, Setting, Shape, operation

TIMES = "\N{MULTIPLICATION SIGN}"

# The first word found in an operation's name tells its kind; `other` is for what users register.
_KINDS = {
    "conv": "convolution",
    "factorized": "convolution",
    "pool": "pooling, reshape",
    "resize": "pooling, reshape",
    "flatten": "pooling, reshape",
    "linear": "linear, embedding",
    "embedding": "linear, embedding",
    "position": "linear, embedding",
    "attention": "attention",
    "excite": "attention",
    "norm": "activation, norm",
    "activation": "activation, norm",
    "dropout": "activation, norm",
    "add": "join",
    "concat": "join",
}
KINDS = ("input", *dict.fromkeys(_KINDS.values()), "other", "unused")

_SHORTER = {"2d": "", "squeeze_excite": "squeeze-excite", "_": " ", "separable": "sep"}
_PLAIN = ("channels", "features")  # the number alone says it
_PLACED = (  # shown in the head of a label or at its ends
    "kernel_size", "height", "width", "kind", "norm", "activation", "preactivation",
)  # fmt: skip


def kind(name: str) -> str:
    """Kind of an operation, which gives its colour: one of `KINDS`.

    Example:
        >>> kind("separable_conv2d"), kind("add"), kind("fourier_mixing")
        ('convolution', 'join', 'other')
    """
    return next((kind for word, kind in _KINDS.items() if word in name), "other")


def label(name: str, settings: Mapping[str, Setting]) -> list[str]:
    """Say an operation in a few short parts, in the order in which it computes.

    Args:
        name: Name in the table of operations.
        settings: Its settings; most are left out where they have their default value.

    Example:
        >>> label("conv2d", {"channels": 32, "stride": 2})[1:]
        ['32', '/2', 'norm', 'relu']
        >>> label("activation", {"kind": "gelu"})
        ['gelu']
    """
    known = operation(name)
    complete = known.complete(settings)
    parts = [_head(name, complete), *_middle(known, complete)]
    norm = ["norm"] if complete.get("norm") else []
    activation = [str(complete["activation"])] if "activation" in complete else []
    activation = [] if activation == ["none"] else activation
    if complete.get("preactivation"):
        return [*activation, *parts, *norm]
    return [*parts, *norm, *activation]


def _head(name: str, complete: Mapping[str, Setting]) -> str:
    if name == "activation":
        return str(complete["kind"])
    for long, short in _SHORTER.items():
        name = name.replace(long, short)
    for key in ("kind", "groups"):
        if isinstance(complete.get(key), str):
            name = f"{complete[key]} {name}"
    for sides in (("kernel_size", "kernel_size"), ("height", "width")):
        if complete.get(sides[0]):
            name += f" {complete[sides[0]]}{TIMES}{complete[sides[1]]}"
    return name


def _middle(known: Operation, complete: Mapping[str, Setting]) -> Iterator[str]:
    for name, value in complete.items():
        if name in _PLACED or value == known.settings[name] or value == "depthwise":
            continue
        if name == "stride":
            yield f"/{value}"
        elif isinstance(value, bool):
            yield _words(name) if value else f"no {_words(name)}"
        else:
            says_it = name in _PLAIN or isinstance(value, str)
            yield str(value) if says_it else f"{_words(name)} {value}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def shape_text(shape: Shape) -> str:
    """Write a shape without the batch: channels, height, width with signs for times.

    Example:
        >>> shape_text((10,))
        '10'
    """
    return TIMES.join(map(str, shape))


def text_width(text: str, size: float) -> float:
    """Width in pixels of a line of sans-serif text, on the wide side of common fonts.

    Args:
        text: The line.
        size: Font size in pixels.
    """
    return size * sum(_advance(character) for character in text)


def _advance(character: str) -> float:
    # Of DejaVu Sans, the widest of the usual fallbacks, in units of the font size, rounded up.
    if character in "'ijlIJ ,./:;|f-":
        return 0.36
    if character in '()[]t!r"*_szc' or character == "\N{EN DASH}":
        return 0.52
    if character.islower() and character not in "mw":
        return 0.62
    if character.isdigit():
        return 0.64
    return 0.8 if character.isupper() and character not in "MW" else 1.0
