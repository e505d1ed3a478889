"""Panels: the live figure follows its control, the static picture shows three positions, nothing stays open."""

import base64
import io
import json
import time
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt
import nbclient
import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from minilip.course import plot, widgets

PNG = b"\x89PNG"


def curve(slope, power=1.0):
    if slope == "dgo":
        raise ValueError("unknown word 'dgo'")
    figure, ax = plt.subplots(figsize=(4, 3))
    x = np.linspace(0, 1, 100)
    ax.plot(x, (float(slope) * x) ** power, label="curve")
    ax.set(xlabel="x", ylabel="y", ylim=(0, 3))
    ax.legend()
    if slope == 13:
        raise RuntimeError("half drawn")
    return figure


def slider(**changes):
    return ipywidgets.FloatSlider(**dict(value=1.0, min=0.0, max=3.0, description="slope") | changes)


@pytest.fixture
def bundles(monkeypatch):
    shown = []
    monkeypatch.setattr(widgets, "emit", shown.append)
    return shown


def picture(bundle):
    return Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))


def test_a_panel_is_one_display_with_a_live_and_a_static_half(bundles):
    widgets.panel(curve, slider())
    (bundle,) = bundles
    assert set(bundle) == {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"}
    assert "slope = 0 | slope = 1 | slope = 3" in bundle["text/plain"]
    assert picture(bundle).size[0] == 800 and json.dumps(bundle)
    assert plt.get_fignums() == []


def test_the_static_picture_holds_the_three_figures(bundles):
    widgets.panel(curve, slider())
    shown = np.asarray(picture(bundles[0]).convert("L"), dtype=float)
    left, middle, right = (shown[:, i * 266 : i * 266 + 266] for i in range(3))
    assert not np.array_equal(left, middle) and not np.array_equal(middle, right)
    widgets.panel(curve, slider(), examples=[1.0, 1.0, 1.0])
    same = np.asarray(picture(bundles[1]).convert("L"), dtype=float)
    assert np.abs(same[24:, :266] - same[24:, 266:532]).max() <= 8  # the palette rounds


def test_the_live_figure_follows_its_control():
    control = slider()
    box = widgets.live(curve, control)
    first = bytes(box.children[-1].value)
    control.value = 2.0
    second = bytes(box.children[-1].value)
    assert first.startswith(PNG) and second.startswith(PNG) and first != second
    control.value = 1.0
    assert bytes(box.children[-1].value) == first and box.children[0] is control
    assert plt.get_fignums() == []


def test_an_error_while_playing_is_shown_and_the_figure_stays():
    control = ipywidgets.Text(value="1", description="word")
    box = widgets.live(curve, control)
    _, message, image = box.children
    before = image.value
    control.value = "dgo"
    assert message.value == "ValueError: unknown word 'dgo'" and image.value == before
    control.value = "2"
    assert message.value == "" and image.value != before


def test_an_error_before_playing_is_the_authors():
    with pytest.raises(ValueError, match="dgo"):
        widgets.panel(curve, ipywidgets.Text(value="dgo"))


def test_a_figure_half_drawn_is_closed_and_others_stay_open():
    mine = plt.figure()
    box = widgets.live(curve, control := slider(max=20.0))
    control.value = 13.0
    assert box.children[1].value == "RuntimeError: half drawn"
    assert plt.get_fignums() == [mine.number]
    plt.close(mine)


def test_two_controls_are_passed_in_order(bundles):
    power = ipywidgets.Dropdown(options=[("flat", 0.5), ("steep", 2.0)], value=2.0, description="power")
    seen = []
    widgets.panel(lambda *values: seen.append(values) or curve(*values), slider(), power)
    assert set(seen) == {(0.0, 2.0), (1.0, 2.0), (3.0, 2.0)}
    widgets.panel(curve, slider(), power, examples=[(1.0, 0.5), (1.0, 2.0)])
    assert "slope = 1, power = 0.5 | slope = 1, power = 2" in bundles[1]["text/plain"]


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        (slider(), [0.0, 1.0, 3.0]),
        (slider(value=3.0), [0.0, 1.5, 3.0]),
        (ipywidgets.IntSlider(value=0, min=0, max=5), [0, 2, 5]),
        (ipywidgets.FloatLogSlider(value=0.1, min=-2, max=1, base=10), [0.01, 0.1, 10]),
        (ipywidgets.FloatLogSlider(value=0.01, min=-2, max=2, base=10), [0.01, 1, 100]),
        (ipywidgets.SelectionSlider(options=[2, 4, 8, 16], value=4), [2, 4, 16]),
        (ipywidgets.SelectionSlider(options=[2, 4, 8, 16], value=2), [2, 8, 16]),
        (ipywidgets.Dropdown(options=["a", "b"], value="a"), ["a", "b"]),
        (ipywidgets.Dropdown(options=[("low", 1), ("mid", 5), ("high", 9)], value=5), [1, 5, 9]),
        (ipywidgets.Dropdown(options={"low": 1, "mid": 5, "high": 9}, value=9), [1, 5, 9]),
        (ipywidgets.Text(value="a word"), ["a word"]),
        (ipywidgets.Textarea(value="two words"), ["two words"]),
    ],
)
def test_positions(control, expected):
    values = widgets.positions(control)
    assert values == (pytest.approx(expected) if isinstance(expected[0], float) else expected)
    assert all(type(v) is type(control.value) for v in values)


def test_a_figure_without_pyplot_and_of_any_size(bundles):
    def plain(value):
        figure = Figure(figsize=(2 + value, 2), layout="constrained")
        figure.subplots().plot([0, value])
        return figure

    widgets.panel(plain, slider())
    assert picture(bundles[0]).size[0] == 800


def test_rich_pictures_stay_small(bundles):
    def photographs(seed):
        figure, axes = plt.subplots(4, 4, figsize=(4, 5))
        for ax in axes.flat:
            ax.imshow(np.random.default_rng(int(seed)).random((32, 32, 3)))
        return figure

    for draw in (photographs, curve):
        widgets.panel(draw, slider())
        assert len(base64.b64decode(bundles[-1]["image/png"])) <= 60_000


def test_the_style_of_the_course_changes_no_size(bundles):
    with plt.rc_context():
        plot.style()
        plt.rcParams["savefig.bbox"] = "tight"
        widgets.panel(curve, slider())
    assert picture(bundles[0]).size[0] == 800


def test_a_fast_figure_answers_within_a_fifth_of_a_second():
    box = widgets.live(curve, control := slider())
    took = []
    for value in np.linspace(0, 2.9, 5):
        start = time.process_time()
        control.value = float(value)
        took.append(time.process_time() - start)
    assert min(took) < 0.2 and box.children[1].value == ""


def test_a_plain_script_prints_a_line(capsys):
    widgets.panel(curve, slider())
    assert capsys.readouterr().out == "Panel, live in Jupyter; here slope = 0 | slope = 1 | slope = 3\n"


def test_in_a_notebook():
    source = """
import ipywidgets, matplotlib.pyplot as plt
from minilip.course.widgets import panel
def draw(slope):
    figure, ax = plt.subplots(figsize=(4, 3))
    ax.plot([0, slope])
    return figure
panel(draw, ipywidgets.FloatSlider(value=0.5, max=2.0, description="slope"))"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in (source, "1 + 1")])
    root = Path(__file__).parents[1]
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(root)}}, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs  # one display, and no figure of its own from the inline backend
    assert set(output.data) == {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"}
    assert output.data["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert len(notebook.cells[1].outputs) == 1
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    assert {"FloatSliderModel", "ImageModel", "VBoxModel"} <= {state["model_name"] for state in states}
