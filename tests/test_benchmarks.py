"""The benchmarks run, and compare like with like."""

import re

import numpy as np
import torch

from benchmarks import clip_time, losses, renderer
from minilip.data.scenes import Scenes


def test_losses_agree_and_take_turns():
    spent = losses.times(32, 8, repeats=2)
    assert list(spent) == list(losses.contenders(2)) and all(len(t) == 2 for t in spent.values())


def test_peak_memory_sees_the_table():
    used = {name: losses.peak(name, 2048, 16) for name in ("open_clip", "tiled, 128")}
    table = 2048**2 * 4 / 2**20
    assert used["open_clip"] > 3 * table and used["tiled, 128"] < 0.7 * table


def test_pil_draws_the_same_pictures():
    world = Scenes(32)
    latents = world.sample(60, torch.Generator().manual_seed(0))
    ours = world.render(latents).permute(0, 2, 3, 1).numpy()
    drawn = renderer.Drawn(latents)
    theirs = np.stack([np.asarray(drawn.draw(i)) for i in range(60)]) / 255
    assert np.abs(ours - theirs).mean() < 0.01
    assert np.abs(ours - theirs).mean(axis=(1, 2, 3)).max() < 0.03


def test_clip_reports_a_median():
    table = clip_time.report(quick=True)
    assert re.search(r"\| median \| not reached \| not reached \| 0\.\d{3} \|", table)
