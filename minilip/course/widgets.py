"""A figure with a control: live in Jupyter, and as a picture of three positions wherever there is no kernel."""

import base64
import io
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from minilip.course.showing import emit

WIDTH = 800  # pixels of the static picture
LIMIT = 60_000  # bytes of it


def panel(draw: Callable[..., Figure], *controls: ipywidgets.Widget, examples: Sequence[Any] | None = None) -> None:
    """Show `draw(value)` under a control, redrawn whenever the control moves.

    One display holds both the live panel and, for readers without a kernel, a static picture of several positions side
    by side. What `draw` raises while the reader plays is shown under the control; the last figure stays.

    Args:
        draw: the values of the controls, in order -> a matplotlib figure, best about 4 inches wide.
        controls: one, two at most: sliders, a dropdown, a text box, each with its `description`.
        examples: the values shown in the static picture, tuples where there are two controls; without it the least,
            the current and the largest value of the first control, the second staying where it is.
    """
    if examples is None:
        now = [control.value for control in controls[1:]]
        examples = [(value, *now) for value in positions(controls[0])]
    elif len(controls) == 1:
        examples = [(value,) for value in examples]
    labels = [", ".join(f"{c.description} = {_word(v)}" for c, v in zip(controls, e, strict=True)) for e in examples]
    emit(
        {
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": live(draw, *controls).model_id,
            },
            "image/png": base64.b64encode(side_by_side(draw, examples, labels)).decode(),
            "text/plain": f"Panel, live in Jupyter; here {' | '.join(labels)}",
        }
    )


def live(draw: Callable[..., Figure], *controls: ipywidgets.Widget) -> ipywidgets.VBox:
    """The controls above their figure, which follows them."""

    def now() -> bytes:
        return png(draw, *(control.value for control in controls))

    def redraw(_change: Any) -> None:
        try:
            picture.value, message.value = now(), ""
        except Exception as error:  # a word outside the vocabulary must not end the play
            message.value = traceback.format_exception_only(error)[-1].strip()

    # A box stretches what is in it: without this the figure grows to the width of the cell, and blurs.
    own_size = ipywidgets.Layout(align_self="flex-start", max_width="100%")
    message, picture = ipywidgets.Label(), ipywidgets.Image(value=now(), format="png", layout=own_size)
    for control in controls:
        control.observe(redraw, names="value")
    return ipywidgets.VBox([*controls, message, picture])


def positions(control: ipywidgets.Widget) -> list[Any]:
    """The least, the current (or, where it is one of the ends, a middle) and the largest value of a control."""
    if options := getattr(control, "options", None):
        pairs = options.items() if isinstance(options, dict) else options
        values = [o[1] if isinstance(o, tuple) else o for o in pairs]  # (label, value) or value
        low, high, middle = values[0], values[-1], values[len(values) // 2]
    elif hasattr(control, "base"):  # a logarithmic slider: min and max are exponents
        low, high = control.base**control.min, control.base**control.max
        middle = control.base ** ((control.min + control.max) / 2)
    elif hasattr(control, "min"):
        low, high = control.min, control.max
        middle = type(control.value)((low + high) / 2)
    else:
        return [control.value]
    values = [low, middle if control.value in (low, high) else control.value, high]
    return [v for i, v in enumerate(values) if v not in values[:i]]


def png(draw: Callable[..., Figure], *values: Any, width: int | None = None) -> bytes:
    """The figure as PNG, `width` pixels wide or of its own size; no figure stays open, whatever happens."""
    with _closing_figures(), plt.rc_context({"savefig.bbox": "standard", "savefig.dpi": "figure"}):
        figure, buffer = draw(*values), io.BytesIO()
        figure.savefig(buffer, format="png", dpi=width / figure.get_figwidth() if width else "figure")
    return buffer.getvalue()


def side_by_side(draw: Callable[..., Figure], examples: Sequence[tuple], labels: Sequence[str]) -> bytes:
    """One PNG of the figures for several values, each under its label."""
    width, bar = WIDTH // len(examples), 24
    pictures = [plt.imread(io.BytesIO(png(draw, *values, width=width))) for values in examples]  # (H, W, 4)

    def together() -> Figure:
        height = bar + max(len(p) for p in pictures)
        whole = plt.figure(figsize=(WIDTH / 100, height / 100), dpi=100, layout="none")
        for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            whole.figimage(picture, i * width, height - bar - len(picture))
            whole.text((i + 0.5) * width / WIDTH, 1 - bar / 2 / height, label, ha="center", va="center", fontsize=9)
        return whole

    image = Image.open(io.BytesIO(png(together))).convert("RGB")
    for colours in (256, 64, 16):
        buffer = io.BytesIO()
        image.quantize(colours).save(buffer, format="png", optimize=True)
        if buffer.tell() <= LIMIT:
            break
    return buffer.getvalue()


@contextmanager
def _closing_figures() -> Iterator[None]:
    """Close what is opened inside: the inline backend would show a figure left open under the next cell."""
    before = set(plt.get_fignums())
    try:
        yield
    finally:
        for number in set(plt.get_fignums()) - before:
            plt.close(number)


def _word(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)
