"""Figures of the course: one style, one colour-blind-safe palette, the same colour for the same method everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from minilip import _check
from minilip.training import History

# Okabe & Ito's eight colours, told apart with every common form of colour blindness; yellow is kept for fills.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
PALETTE = (BLUE, RED, GREEN, ORANGE, PINK, SKY, BLACK)


def style() -> None:
    """Set the course's figure style: 8 inches at 100 dots, so that a figure is 800 pixels wide."""
    plt.rcParams.update(
        {
            "figure.figsize": (8, 3.2),
            "figure.dpi": 100,
            "savefig.dpi": 100,
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": plt.cycler(color=PALETTE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#DDDDDD",
            "grid.linewidth": 0.6,
            "axes.axisbelow": True,
            "axes.titlesize": 11,
            "axes.labelsize": 10,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "image.cmap": "cividis",
        }
    )


def images(
    pictures: Tensor, captions: Sequence[str] | None = None, columns: int = 8, colours: Sequence[str] | None = None
) -> Figure:
    """A grid of pictures, each with its caption under it.

    Args:
        pictures: (N, 3, H, W) float in [0, 1] or uint8.
        captions: N strings.
        columns: pictures in a row.
        colours: of the N captions, for instance to mark right and wrong.
    """
    if pictures.dim() != 4 or pictures.shape[1] != 3:
        _check.fail("pictures", "shape (N, 3, H, W)", tuple(pictures.shape))
    if captions is not None and len(captions) != len(pictures):
        _check.fail("captions", f"one for each of {len(pictures)} pictures", len(captions))
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    lines = max((c.count("\n") + 1 for c in captions), default=0) if captions else 0
    side = 8 / columns
    fig, axes = plt.subplots(rows, columns, figsize=(8, rows * (side + 0.02 + 0.15 * lines)), squeeze=False)
    shown = pictures.detach().cpu()
    shown = shown if shown.dtype == torch.uint8 else shown.float().clamp(0, 1)
    for i, ax in enumerate(axes.flat):
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        for spine in ax.spines.values():
            spine.set_visible(i < len(shown))
            spine.set_color("#DDDDDD")
        if i < len(shown):
            ax.imshow(shown[i].permute(1, 2, 0).numpy(), interpolation="nearest")
            if captions is not None:
                ax.set_xlabel(captions[i], fontsize=8, color=colours[i] if colours else "black")
    return fig


def curves(
    runs: Mapping[str, History],
    floor: float | None = None,
    chance: float | None = None,
    target: float | None = None,
    measure: str = "zero-shot accuracy",
    against: str = "step",
) -> Figure:
    """Training loss (smoothed) and the watched measurement, one colour a run; floor, chance and target as thin lines.

    Args:
        runs: name -> History from `fit`; `watched` values are numbers.
        floor, chance, target: the lowest possible loss, the measurement of a guesser, the measurement aimed at.
        measure: what `watch` measured.
        against: "step" or "seconds" of training.
    """
    _check.choice("against", against, ("step", "seconds"))
    watched = any(h.watched for h in runs.values())
    fig, axes = plt.subplots(1, 2 if watched else 1, figsize=(8, 2.9), squeeze=False)
    for name, history in runs.items():
        width = max(1, len(history.loss) // 50)
        smooth = np.convolve(history.loss, np.ones(width) / width, mode="valid")
        time = np.arange(1, len(history.loss) + 1) if against == "step" else np.array(history.seconds)
        axes[0, 0].plot(time[width - 1 :], smooth, label=name)
        if watched:
            at = [step if against == "step" else seconds for step, seconds, _ in history.watched]
            axes[0, 1].plot(at, [value for *_, value in history.watched], marker="o", markersize=3, label=name)
    unit = "step" if against == "step" else "training time (s)"
    axes[0, 0].set(xlabel=unit, ylabel="loss (nats)")
    line(axes[0, 0], floor, "floor")
    if watched:
        axes[0, 1].set(xlabel=unit, ylabel=measure, ylim=(0, 1.02))
        line(axes[0, 1], chance, "chance")
        line(axes[0, 1], target, "target")
    if len(runs) > 1:
        axes[0, -1].legend()
    return fig


def line(ax: Axes, y: float | None, name: str) -> None:
    """A thin labelled horizontal line, for chance and targets; none where y is None."""
    if y is None:
        return
    ax.axhline(y, color="#777777", linewidth=0.8, linestyle="--")
    ax.annotate(name, (0.01, y), xycoords=("axes fraction", "data"), va="bottom", fontsize=8, color="#555555")


def matrix(
    ax: Axes,
    values: Tensor,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    title: str = "",
    low: float | None = None,
    high: float | None = None,
) -> None:
    """Draw a (R, C) matrix with a colour bar, its rows and columns named."""
    if values.dim() != 2:
        _check.fail("values", "shape (R, C)", tuple(values.shape))
    picture = ax.imshow(values.detach().float().cpu().numpy(), vmin=low, vmax=high, aspect="auto")
    ax.grid(False)
    ax.set_title(title)
    for axis, names, size in ((ax.yaxis, rows, values.shape[0]), (ax.xaxis, columns, values.shape[1])):
        if names is not None:
            axis.set_ticks(range(size), names, fontsize=8)
    if columns is not None and max(map(len, columns)) > 3:
        plt.setp(ax.get_xticklabels(), rotation=35, ha="right", rotation_mode="anchor")
    ax.figure.colorbar(picture, ax=ax, shrink=0.85)


def bars(
    ax: Axes,
    values: Mapping[str, Sequence[float]],
    label: str,
    chance: float | None = None,
    colours: Sequence[str] | None = None,
) -> None:
    """Horizontal bars of means, with every seed as a dot: name -> its measurements."""
    names = list(values)
    means = [float(np.mean(values[n])) for n in names]
    colours = list(colours) if colours else [PALETTE[i % len(PALETTE)] for i in range(len(names))]
    ax.barh(range(len(names)), means, color=colours, alpha=0.75)
    for i, n in enumerate(names):
        ax.plot(values[n], [i] * len(values[n]), "o", color="black", markersize=3)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(label)
    if chance is not None:
        ax.axvline(chance, color="#777777", linewidth=0.8, linestyle="--")
        ax.annotate("chance", (chance, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8)
