"""The benchmarks run, and compare like with like."""

import sys

import numpy as np
import pytest
import torch

from benchmarks import __main__ as main
from benchmarks import clip_time, losses, renderer, target
from minilip.data.scenes import Scenes


def test_losses_agree_and_take_turns():
    spent = losses.times(32, 8, repeats=2)
    assert list(spent) == list(losses.contenders(2)) and all(len(t) == 2 for t in spent.values())


def test_losses_of_views_agree_and_the_slower_ratio_is_told():
    spent = losses.times(32, 8, 3, losses.of_views)
    assert list(spent) == [losses.LIGHTLY, losses.PLAIN, losses.TILED, losses.FAST]
    cells, worst = losses.compared({losses.LIGHTLY: [2.0, 4.0, 8.0], losses.FAST: [1.0, 3.0, 9.0]}, losses.LIGHTLY)
    assert cells == ["4 / 2 ms (1.00 / 1.00)", "3 / 1 ms (0.75 / 0.50)"] and worst == 0.75


def test_a_loss_that_differs_is_not_timed(monkeypatch):
    monkeypatch.setattr(losses, "clip_loss", lambda image, text, scale, tile=None: (scale * image * text).sum())
    with pytest.raises(AssertionError, match="do not agree"):
        losses.times(32, 8, repeats=1)


def test_peak_memory_sees_the_one_table_of_the_fast_path():
    table = 4096**2 * 4 / 2**20  # 64 MiB: large beside what the allocator keeps for later
    assert 0.95 * table < losses.peak(losses.FAST, 4096, 16) < 2 * table


def test_pil_draws_the_same_pictures():
    world = Scenes(renderer.SIZE)
    latents = world.sample(60, torch.Generator().manual_seed(0))
    drawn = renderer.Drawn(latents)
    apart = (world.render(latents) - torch.stack([drawn[i] for i in range(60)])).abs().mean(dim=(1, 2, 3))  # (60,)
    assert apart.mean() < 0.01 and apart.max() < 0.03
    assert drawn.draw(0).size == (32, 32) and np.asarray(drawn.draw(0)).std() > 0


def test_every_way_to_make_pictures_is_compared():
    table = renderer.report(quick=True).splitlines()
    assert len(table) == 2 + 3 * (2 if torch.get_num_threads() > 1 else 1) + 2
    loop, loader = (line.split(" | ") for line in table[-2:])
    assert loop[2] == "1.0" and loader[3] == "1.0 |"


def test_clip_time_says_when_a_target_is_out_of_reach():
    lines = clip_time.report(quick=True).splitlines()
    assert "| median | not reached | not reached |" in "\n".join(lines) and lines[-1].endswith("**missed**")


def test_first_is_the_first_time_above_the_share():
    history = clip_time.History(watched=[(25, 1.0, 0.5), (50, 2.0, 0.96), (75, 3.0, 0.94), (100, 4.0, 0.99)])
    assert [clip_time.first(history, share) for share in (0.95, 0.99, 1.0)] == [2.0, 4.0, float("inf")]


def test_target():
    assert target("x", 0.45, 0.45) == "- x: 0.45, target at most 0.45: met"
    assert target("x", 0.4504, 0.45).endswith("**missed**")


def test_one_section_of_the_page_changes_at_a_time(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(main.README.read_text(encoding="utf-8"), encoding="utf-8")
    for name in main.SECTIONS:
        main.write(page, name, "old")
    before = page.read_text(encoding="utf-8")
    main.write(page, "renderer", r"new \1")
    assert page.read_text(encoding="utf-8").splitlines() == [
        r"new \1" if i == before.splitlines().index("<!-- renderer -->") + 2 else line
        for i, line in enumerate(before.splitlines())
    ]
    assert list(tmp_path.iterdir()) == [page]
    page.write_text("no markers", encoding="utf-8")
    with pytest.raises(SystemExit, match="expected the markers"):
        main.write(page, "clip", "new")


def test_quick_writes_nothing(monkeypatch, capsys):
    before = main.README.read_bytes()
    monkeypatch.setattr(sys, "argv", ["benchmarks", "renderer", "--quick"])
    main.main()
    assert main.README.read_bytes() == before and ", load " in capsys.readouterr().out
