"""The model card: what is shipped, how good it is, what it costs, and where it comes from."""

from __future__ import annotations

from typing import Any

from nas_optuna.constraints import LIMITS
from nas_optuna.report.tables import format_value

_MOST_NUMBERS = 8  # of a mean that is printed; longer ones are in record.json

_ABOUT = {
    "model.py": "the network as code; needs only torch",
    "weights.safetensors": "its weights",
    "model.pt2": "for `torch.export.load`",
    "model.onnx": "ONNX: `input` to `logits`, any number of samples",
    "model.int8.onnx": "the same with 8-bit integers, quantized after training",
    "samples.npz": "test samples (normalised), their classes and the network's logits",
    "record.json": "all numbers of this page, and more",
    "check.py": "checks that the files still do what they did",
}


def write_card(record: dict[str, Any]) -> str:
    """Write a record as a page of Markdown.

    Args:
        record: From `make_record`.
    """
    search, data = record["search"], record["data"]
    parts = [
        f"# {data['name']}: the network of trial {search['trial']} of study {search['study']}",
        _summary(record),
        "## Files",
        _files(record),
        "## Use",
        _use(record),
        "## Accuracy",
        _accuracy(record),
        "## Costs",
        _costs(record),
        "## Data",
        _data(record),
        "## Limits of this network",
        _caveats(record),
        "## Where it comes from",
        _provenance(record),
    ]
    return "\n\n".join(parts) + "\n"


def _plus_minus(record: dict[str, Any]) -> str:
    test = record["test"]
    seeds = len(test["accuracies"])
    if test["spread"] is None:
        return f"{test['mean']:.4f} (one seed, so its spread is unknown)"
    return f"{test['mean']:.4f} ± {test['spread']:.4f} (standard deviation over {seeds} seeds)"


def _summary(record: dict[str, Any]) -> str:
    network = record["network"]
    return (
        f"Classifies inputs of shape {tuple(network['input']['shape'])} "
        f"({network['input']['dtype']}) into {record['data']['classes']} classes, with "
        f"{network['parameters']:,} parameters. Test accuracy {_plus_minus(record)}; the network "
        f"in this folder has {record['test']['shipped']:.4f}."
    )


def _files(record: dict[str, Any]) -> str:
    own = {**record["programs"], "weights.safetensors": None}
    names = [n for n in _ABOUT if n in own or n in ("samples.npz", "record.json", "check.py")]
    lines = [f"- `{name}`: {_ABOUT[name]}" for name in names]
    if "model.py" not in own:
        lines.append(
            "- There is no `model.py`: the space returned a module of its author's own, whose "
            "code is where it was. `weights.safetensors` is its state dictionary."
        )
    lines.append(
        "\n`python check.py` loads every file and compares it with the record; it needs torch, "
        "onnxruntime and numpy, and ends with status 1 if anything drifted."
    )
    return "\n".join(lines)


def _use(record: dict[str, Any]) -> str:
    stats = record["data"]["mean"] is not None
    if "model.py" in record["programs"]:
        raw = "network.normalize(raw)" if stats else "inputs"
        code = f"from model import load\n\nnetwork = load()\nlogits = network({raw})"
    else:
        code = (
            'import torch\n\nnetwork = torch.export.load("model.pt2").module()\n'
            f"logits = network({'(raw - mean) / scale' if stats else 'inputs'})"
        )
    return f"```python\n{code}\n```\n\n{_normalisation(record)}"


def _normalisation(record: dict[str, Any]) -> str:
    mean, scale = record["data"]["mean"], record["data"]["scale"]
    if mean is None:
        return "Inputs are taken as they are."
    where = "`record.json` (`data`) holds both"
    if len(_flat(mean)) <= _MOST_NUMBERS:
        shown = (", ".join(f"{x:.6g}" for x in _flat(values)) for values in (mean, scale))
        where = "mean {}; scale {}".format(*shown)
    return (
        "All files take inputs normalised by the training data, `(raw - mean) / scale` for each "
        f"channel or feature: {where}. Classes are numbered from 0 in sorted order."
    )


def _flat(values: Any) -> list[float]:
    if isinstance(values, list):
        return [number for value in values for number in _flat(value)]
    return [values]


def _accuracy(record: dict[str, Any]) -> str:
    training, test, search = record["training"], record["test"], record["search"]
    rows = ["| seed | test accuracy | test loss |", "|---|---|---|"]
    rows += [
        f"| {seed}{' (shipped)' if seed == training['shipped_seed'] else ''} | {accuracy:.4f} "
        f"| {loss:.4f} |"
        for seed, accuracy, loss in zip(
            training["seeds"], test["accuracies"], test["losses"], strict=True
        )
    ]
    told = search["accuracy"]
    said = [
        f"Trained from scratch on train + validation for {training['epochs']} epochs (the search: "
        f"{training['search_epochs']} on train), from each seed. The test part was looked at once "
        "for each network, after its training; the network of the first seed is shipped, so that "
        "the choice does not go by the test part.",
        f"Mean {_plus_minus(record)}.",
    ]
    if training["learning_rate_halved"]:
        rate, halved = training["settings"]["learning_rate"], training["learning_rate_halved"]
        times = "once" if halved == 1 else f"{halved} times"
        said.append(
            f"The learning rate is {rate:g}, that of the search halved {times}: with more the "
            "training diverged."
        )
    if told is not None:
        said.append(f"In the search it had {told:.4f} on the validation part.")
    int8 = record["programs"].get("model.int8.onnx")
    if int8:
        said.append(
            f"`model.int8.onnx` has {int8['accuracy']:.4f} on the test part, the network it was "
            f"made of {test['shipped']:.4f}."
        )
    return "\n".join(rows) + "\n\n" + " ".join(said)


def _costs(record: dict[str, Any]) -> str:
    network, search, latency = record["network"], record["search"], record["latency"]
    of_limit = {LIMITS[name]: limit for name, limit in search["limits"].items()}
    values = {name: network[name] for name in ("parameters", "flops", "memory_mb", "layers")}
    told = search["latency"]
    values["latency_ms"] = told["median_ms"] if told else latency["median_ms"]
    values["accuracy"] = record["test"]["shipped"]
    rows = ["| metric | value | limit of the search |", "|---|---|---|"]
    for name, value in values.items():
        limit = f"{of_limit[name]:,g}" if name in of_limit else ""
        label = "accuracy (test)" if name == "accuracy" else name
        rows.append(f"| {label} | {format_value(name, value)} | {limit} |")
    text = (
        f"Latency of a batch of {latency['batch_size']}, measured when this was written: "
        f"{latency['median_ms']:.4g} ms (interquartile range {latency['iqr_ms']:.2g} ms) on "
        f"{latency['machine']}."
    )
    if told:
        by = f"predicted by {told['table']}" if "table" in told else "measured"
        text += (
            f" In the search: {told['median_ms']:.4g} ms, {by}, on {told['device']}, "
            f"threads: {told['threads']}."
        )
    return "\n".join(rows) + f"\n\n{text}"


def _data(record: dict[str, Any]) -> str:
    data = record["data"]
    return (
        f"{data['name']}: {data['train']:,} training, {data['validation']:,} validation and "
        f"{data['test']:,} test samples of {data['classes']} classes. SHA-256 of the content: "
        f"`{data['fingerprint']}`."
    )


def _caveats(record: dict[str, Any]) -> str:
    return (
        "It was trained and tested on the data above and on nothing else: on other inputs its "
        "accuracy is unknown, and its logits are no calibrated probabilities. The latency holds "
        "for the machine and batch size named above. `samples.npz` holds samples of the test "
        "part: leave it out where the data may not be passed on (`check.py` needs it)."
    )


def _provenance(record: dict[str, Any]) -> str:
    search, versions = record["search"], record["versions"]
    made = ", ".join(f"{name} {version}" for name, version in versions.items())
    values = ", ".join(
        f"{name} {format_value(name, value)}" for name, value in search["values"].items()
    )
    return "\n".join(
        [
            f"- Study `{search['study']}`, trial {search['trial']}, network "
            f"`{search['network']}`: {values}.",
            f"- Seeds {', '.join(map(str, record['training']['seeds']))}; settings of the "
            "training are in `record.json`.",
            f"- Written {record['made']} with {made}.",
        ]
    )
