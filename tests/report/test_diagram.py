"""Pictures of architectures as files: complete, safe and quick, in SVG and PNG alike."""

import io
import subprocess
import sys
import time
from collections import Counter
from xml.etree import ElementTree

import pytest
from matplotlib.image import imread

from nas_optuna import ArchitectureBuilder, report
from nas_optuna.architecture import INPUT
from nas_optuna.errors import SettingError
from nas_optuna.operations import OPERATIONS
from nas_optuna.report import labels
from nas_optuna.report.layout import arrange
from nas_optuna.report.outline import outline
from nas_optuna.report.paint import Text, paint
from tests.report.networks import SPACES, SVG, blocks, drawn_edges, marks, sample


@pytest.mark.parametrize("name", SPACES)
def test_svg_holds_every_drawn_node_and_edge_once(name):
    architecture = sample(name, 1)
    svg = report.diagram_svg(architecture)
    drawn = outline(architecture)
    names = Counter(g.get("data-name") for g in marks(svg, "node"))
    assert names.keys() <= {INPUT, *(node.name for node in architecture.nodes)}
    assert set(names.values()) == {1}
    edges = drawn_edges(svg)
    assert edges == Counter((link.source, link.target) for link in drawn.links)
    assert {name for edge in edges for name in edge} == names.keys()


def test_svg_without_repeats_holds_the_whole_architecture():
    activations = ("relu", "gelu", "silu")
    architecture = blocks(3, change=lambda i: {"activation": activations[i]})
    svg = report.diagram_svg(architecture)
    assert [g.get("data-name") for g in marks(svg, "node")] == [
        INPUT,
        *(node.name for node in architecture.nodes),
    ]
    edges = {(source, node.name) for node in architecture.nodes for source in node.inputs}
    assert drawn_edges(svg) == Counter(edges)


def test_text_is_escaped_and_nothing_runs():
    net = ArchitectureBuilder((4, 8, 8), 10)
    with net.scope("<script>alert(1)</script> & 'co' \"$x^2$\" \x00"):
        x = net.conv2d(net.input, 4, name="<b onload=x>")
        x = net.conv2d(x, 4, name=" ")
    architecture = net.build(net.classifier(x))
    svg = report.diagram_svg(architecture)
    root = ElementTree.fromstring(svg)
    plain = {f"{SVG}{tag}" for tag in ("svg", "g", "title", "rect", "path", "text")}
    assert {element.tag for element in root.iter()} <= plain
    attributes = {key for element in root.iter() for key in element.keys()}  # noqa: SIM118
    assert not {
        key for key in attributes if key.startswith("on") or key in ("href", "id", "style")
    }
    texts = [element.text or "" for element in root.iter(f"{SVG}text")]
    assert any(
        "<script>alert(1)</script> & 'co' \"$x^2$\" \N{REPLACEMENT CHARACTER}" in t for t in texts
    )
    assert report.diagram_png(architecture)


def test_a_node_shows_operation_shape_and_settings():
    net = ArchitectureBuilder((3, 9, 9), 10)
    x = net.conv2d(net.input, 32, 5, stride=2, name="stem")
    svg = report.diagram_svg(net.build(net.classifier(x)))
    (node,) = [g for g in marks(svg, "node") if g.get("data-name") == "stem"]
    times = labels.TIMES
    assert [t.text for t in node.iter(f"{SVG}text")] == [
        f"conv 5{times}5, 32, /2, norm, relu",
        "stem",
        f"32{times}5{times}5",
    ]
    assert "dilation=1" in node.find(f"{SVG}title").text


def test_the_legend_tells_what_is_there():
    (legend,) = marks(report.diagram_svg(blocks(1)), "legend")
    words = [text.text for text in legend.iter(f"{SVG}text")]
    assert words == [
        "input", "convolution", "pooling, reshape", "linear, embedding", "join", "skip connection",
    ]  # fmt: skip


def test_every_operation_has_a_label():
    x = {"channels": 8, "features": 8, "height": 4, "width": 4, "vocabulary": 9}
    x |= {"gene": "edge", "choices": "skip|conv", "groups": 2}
    for name, operation in OPERATIONS.items():
        needed = {key: value for key, value in x.items() if key in operation.settings}
        assert all(labels.label(name, needed)), name


def test_png_is_the_same_picture(tmp_path):
    architecture = blocks(5)
    content = report.diagram_png(architecture, tmp_path / "network.png")
    assert (tmp_path / "network.png").read_bytes() == content
    pixels = imread(io.BytesIO(content), format="png")[..., :3]
    painting = paint(arrange(outline(architecture)))
    sharpness = pixels.shape[1] / painting.width
    assert pixels.shape[0] == pytest.approx(painting.height * sharpness, abs=2)
    fills = {"input": "#e2e8f0", "logits": "#ebe5fd", "block0.first": "#dbeafe"}
    for mark in painting.marks:
        if mark.role == "node" and mark.names[0] in fills:
            box = mark.shapes[0]
            # Just within the left side, where no text stands.
            x, y = box.x + 5 - painting.left, box.y + box.height / 2 - painting.top
            colour = pixels[int(y * sharpness), int(x * sharpness)] * 255
            hex_digits = fills.pop(mark.names[0])
            assert list(colour) == pytest.approx(list(bytes.fromhex(hex_digits[1:])), abs=1)
    assert not fills
    words = {
        shape.text for mark in painting.marks for shape in mark.shapes if isinstance(shape, Text)
    }
    svg = ElementTree.fromstring(report.diagram_svg(architecture))
    assert words == {element.text for element in svg.iter(f"{SVG}text")}


@pytest.mark.parametrize("name", ["darts", "dense", "nasbench201", "20 layers"])
def test_each_picture_takes_less_than_a_second(name):
    architecture = sample(name, 0)
    report.diagram_png(blocks(1))  # loads matplotlib
    for draw in (report.diagram_svg, report.diagram_png):
        start = time.process_time()  # other processes on the machine do not count
        draw(architecture)
        assert time.process_time() - start < 1.0, draw


def test_svg_needs_no_torch_or_matplotlib_and_is_always_the_same():
    code = (
        "import sys, hashlib, nas_optuna.report as report\n"
        "from nas_optuna import Architecture\n"
        "svg = report.diagram_svg(Architecture.from_json(sys.stdin.read()))\n"
        "print(hashlib.sha256(svg.encode()).hexdigest())\n"
        "print([name for name in ('torch', 'matplotlib') if name in sys.modules])\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            input=sample("darts", 0).to_json(),
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
    assert printed.pop().splitlines()[1] == "[]"


def test_png_without_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "nas_optuna.report.raster", raising=False)
    with pytest.raises(SettingError, match=r"needs matplotlib; pip install nas-optuna\[plots\]"):
        report.diagram_png(blocks(1))
