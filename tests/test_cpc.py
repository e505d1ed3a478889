"""CPC: the loss against a loop and published losses, what a context may see, patches, encoders, sounds, films."""

import math

import numpy as np
import pytest
import scipy.fft
import torch
from info_nce import info_nce as published
from torch import nn

from minilip.cpc import CANDIDATES, CPC, PatchCPC, cpc_loss, overlapping_patches
from minilip.data.motion import ORBIT, PLACES, MovingScenes
from minilip.infonce import info_nce
from minilip.nn import ConvNet
from minilip.nn.sequence import FrameEncoder, SpectrumEncoder, Utterance, frames_of, padded, segment_means
from minilip.nn.sound import FFT, HOP, RATE, log_mel, mel_bands, mfcc
from minilip.training import fit


def drawn(b=4, t=7, d=5, h=3, k=3, seed=0):
    """z, c and predictors in float64, with gradients."""
    torch.manual_seed(seed)
    z, c = torch.randn(b, t, d, dtype=torch.double), torch.randn(b, t, h, dtype=torch.double)
    maps = nn.ModuleList(nn.Linear(h, d, bias=False) for _ in range(k)).double()
    return z.requires_grad_(), c.requires_grad_(), maps


def by_loops(z, c, maps, candidates):
    """One context and one step ahead at a time, its candidates picked one by one."""
    (b, t, _), steps = z.shape, []
    for k, w in enumerate(maps, start=1):
        terms = []
        for i in range(b):
            for at in range(t - k):
                guess = w.weight @ c[i, at]
                who = range(b) if candidates != "sequence" else [i]
                when = range(k, t) if candidates != "batch" else [at + k]
                scores = {(j, s): z[j, s] @ guess for j in who for s in when}
                total = torch.stack(list(scores.values())).logsumexp(0)
                terms.append(total - scores[i, at + k])
        steps.append(sum(terms) / len(terms))
    return sum(steps) / len(steps)


@pytest.mark.parametrize("candidates", CANDIDATES)
def test_the_loss_and_its_gradients_are_those_of_a_loop(candidates):
    z, c, maps = drawn()
    ours, theirs = cpc_loss(z, c, maps, candidates), by_loops(z, c, maps, candidates)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    learnt = [z, c, *maps.parameters()]
    for a, b in zip(torch.autograd.grad(ours, learnt), torch.autograd.grad(theirs, learnt), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("candidates", CANDIDATES)
def test_gradcheck(candidates):
    z, c, maps = drawn(3, 4, 2, 2, 2)
    assert torch.autograd.gradcheck(lambda z, c: cpc_loss(z, c, maps, candidates), (z, c))


def test_one_step_ahead_of_two_times_is_info_nce():
    z, c, maps = drawn(6, 2, 5, 3, 1)
    guess = maps[0](c[:, 0])
    torch.testing.assert_close(cpc_loss(z, c, maps), info_nce(guess, z[:, 1], 1.0), rtol=1e-12, atol=1e-12)
    unit = nn.functional.normalize
    same = cpc_loss(unit(z, dim=2), unit(guess, dim=1)[:, None].expand(-1, 2, -1), [nn.Identity()])
    torch.testing.assert_close(same, published(guess, z[:, 1], temperature=1.0), rtol=1e-12, atol=1e-12)


def test_a_guesser_pays_log_n():
    z, c, maps = drawn(6, 5, 4, 3, 2)
    z, c, maps = z.detach(), c.detach(), maps.requires_grad_(False)
    for p in maps.parameters():
        nn.init.zeros_(p)
    assert float(cpc_loss(z, c, maps)) == pytest.approx(math.log(6))
    assert float(cpc_loss(z, c, maps, "sequence")) == pytest.approx((math.log(4) + math.log(3)) / 2)
    assert float(cpc_loss(z, c, maps, "all")) == pytest.approx((math.log(24) + math.log(18)) / 2)


def test_the_order_of_sequences_means_nothing_and_the_order_of_times_does():
    z, c, maps = drawn()
    shuffled = torch.tensor([2, 0, 3, 1])
    for candidates in CANDIDATES:
        want = cpc_loss(z, c, maps, candidates)
        torch.testing.assert_close(cpc_loss(z[shuffled], c[shuffled], maps, candidates), want)
        assert not torch.isclose(cpc_loss(z[shuffled], c, maps, candidates), want)
        assert not torch.isclose(cpc_loss(z.flip(1), c, maps, candidates), want)


def test_what_tells_sequences_apart_helps_against_the_batch_only():
    """An identity that is in all codes and contexts of a sequence: of no use among codes of the same sequence."""
    who = torch.randn(5, 1, 6, dtype=torch.double).expand(5, 8, 6) * 3
    maps = [nn.Identity(), nn.Identity()]
    assert float(cpc_loss(who, who, maps)) < 0.1
    assert float(cpc_loss(who, who, maps, "sequence")) == pytest.approx((math.log(7) + math.log(6)) / 2)


def test_far_scores_and_half_precision_stay_finite():
    z, c, maps = drawn()
    big = cpc_loss((300 * z).detach().float().requires_grad_(), 100 * c.detach().float(), maps.float())
    assert torch.isfinite(big)
    half = cpc_loss(z.detach().bfloat16(), c.detach().bfloat16(), maps.float())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, cpc_loss(z.detach().float(), c.detach().float(), maps), rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"z": torch.zeros(4, 7)}, "z: expected a floating-point tensor of shape"),
        ({"z": torch.full((4, 7, 5), math.nan)}, "z: expected finite"),
        ({"c": torch.zeros(4, 6, 3)}, "c: expected 4 sequences of 7 times"),
        ({"predictors": []}, "predictors: expected one module for each step"),
        ({"predictors": [nn.Linear(3, 5)] * 7}, "z: expected B >= 2, T > 7"),
        ({"predictors": [nn.Linear(3, 4)]}, r"predictors\[0\]: expected a result of shape \(4, 6, 5\)"),
        ({"candidates": "others"}, "candidates: expected one of batch, sequence, all"),
        ({"z": torch.zeros(1, 7, 5), "c": torch.zeros(1, 7, 3)}, "z: expected B >= 2"),
    ],
)
def test_bad_input_is_refused(change, says):
    given = {"z": torch.zeros(4, 7, 5), "c": torch.zeros(4, 7, 3), "predictors": [nn.Linear(3, 5)]}
    with pytest.raises(ValueError, match=says):
        cpc_loss(**{**given, **change})


# ---- the method ------------------------------------------------------------------------------------------------------


def test_a_context_has_seen_the_past_and_nothing_else():
    torch.manual_seed(0)
    model = CPC(FrameEncoder(ConvNet(4)).eval(), 6, 2).eval()
    x = torch.rand(2, 5, 3, 16, 16)
    changed = x.clone()
    changed[:, 3] += 1
    before, after = model(x), model(changed)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert (before[:, 3:] != after[:, 3:]).any(dim=2).all()
    codes = (model.encode(x) != model.encode(changed)).any(dim=2)
    assert codes.tolist() == [[False, False, False, True, False]] * 2


def test_a_pair_takes_contexts_of_the_first_and_codes_of_the_second():
    torch.manual_seed(0)
    model = CPC(SpectrumEncoder(4, 6, 5), 6, 2)
    x, y = torch.randn(2, 3, 12, 4)
    want = cpc_loss(model.encode(y), model(x), model.predictors)
    torch.testing.assert_close(model.loss((x, y))[0], want)
    torch.testing.assert_close(model.loss((x, x))[0], model.loss(x)[0])


def test_cpc_learns_who_is_shown():
    torch.manual_seed(0)
    world = MovingScenes(size=8, times=6, noise=0.02)
    model = CPC(FrameEncoder(ConvNet(8)), 16, 2)
    history = fit(model, lambda g: world.sample(8, g).frames, 60, lr=5e-3, progress=False)
    assert sum(history.loss[-10:]) / 10 < 0.75 * math.log(8)


def test_patches_overlap_and_lie_where_they_lay():
    images = torch.arange(2 * 3 * 12 * 12.0).view(2, 3, 12, 12)
    grid = overlapping_patches(images, 4, 2)
    assert grid.shape == (2, 5, 5, 3, 4, 4)
    assert torch.equal(grid[1, 3, 2], images[1, :, 6:10, 4:8])
    assert torch.equal(overlapping_patches(images, 12, 12)[:, 0, 0], images)


@pytest.mark.parametrize(("patch", "stride"), [(4, 3), (4, 5), (13, 1), (0, 1)])
def test_patches_that_do_not_fit_are_refused(patch, stride):
    with pytest.raises(ValueError, match="patch"):
        overlapping_patches(torch.rand(1, 3, 12, 12), patch, stride)


def test_nothing_below_a_patch_reaches_its_context():
    torch.manual_seed(0)
    model = PatchCPC(ConvNet(4), 8, 4, 6, 2)
    z = torch.randn(1, 5, 4, model.dim)
    changed = z.clone()
    changed[:, 3] += 1
    same = (model.context(z) == model.context(changed)).all(dim=3)[0]
    assert same[:3].all() and not same[3:].any()


def test_the_loss_of_a_picture_is_the_loss_of_its_columns():
    torch.manual_seed(0)
    model = PatchCPC(ConvNet(4), 8, 4, 6, 2).eval()
    images = torch.rand(3, 3, 16, 16)
    z = model.encode(images)
    c = model.context(z)
    assert z.shape == (3, 3, 3, model.dim) and c.shape == (3, 3, 3, 6)
    columns = [torch.stack([x[b, :, j] for b in range(3) for j in range(3)]) for x in (z, c)]
    torch.testing.assert_close(model.loss(images)[0], cpc_loss(*columns, model.predictors))
    torch.testing.assert_close(model(images), z.mean(dim=(1, 2)))


# ---- encoders and sounds ---------------------------------------------------------------------------------------------


def test_segments_are_the_means_of_equal_parts():
    codes = torch.arange(24.0).view(1, 12, 2)
    want = torch.cat([codes[0, a:b].mean(0) for a, b in ((0, 3), (3, 6), (6, 10))])
    torch.testing.assert_close(segment_means(codes, torch.tensor([10]), 3)[0], want)
    torch.testing.assert_close(segment_means(codes, torch.tensor([12]), 1)[0], codes[0].mean(0))
    torch.testing.assert_close(segment_means(codes, torch.tensor([1]), 2)[0], codes[0, 0].repeat(2))


def test_padding_counts_for_nothing():
    torch.manual_seed(0)
    sounds = [torch.randn(n, 4) for n in (6, 20, 40)]
    x = padded(sounds, 24)
    assert frames_of(x).tolist() == [6, 20, 24]
    read = Utterance(_Same(4), 3)
    assert read.dim == 12
    torch.testing.assert_close(read(x)[1], segment_means(sounds[1][None], torch.tensor([20]), 3)[0])


class _Same(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, x):
        return x


def test_a_code_of_sound_sees_an_eighth_of_a_second():
    torch.manual_seed(0)
    model = SpectrumEncoder(4, 32, 5)
    x = torch.randn(1, 60, 4, requires_grad=True)
    z = model(x)
    assert z.shape == (1, 30, 5)
    z[0, 15].sum().backward()
    seen = x.grad[0].abs().sum(1).nonzero().flatten()
    assert seen.tolist() == list(range(25, 37))  # frames 30 and 31 are in its middle


@pytest.mark.parametrize("tone", [200.0, 440.0, 1000.0, 3000.0])
def test_a_tone_is_loudest_in_its_own_band(tone):
    wave = torch.sin(2 * math.pi * tone * torch.arange(4000) / RATE)
    spectrum = log_mel(wave)
    assert spectrum.shape == (1 + 4000 // HOP, 40)
    frequency = torch.linspace(0, RATE / 2, FFT // 2 + 1)
    peak = frequency[mel_bands(40)[int(spectrum[20].argmax())].argmax()]
    assert abs(float(peak) - tone) < 0.08 * tone + RATE / FFT


def test_twice_as_loud_is_the_same_step_in_every_band():
    torch.manual_seed(0)
    wave = torch.randn(4000).double()
    torch.testing.assert_close(
        log_mel(2 * wave) - log_mel(wave), torch.full((51, 40), 2 * math.log(2)).double(), atol=1e-3, rtol=0
    )


def test_bands_cover_all_frequencies_evenly():
    bands = mel_bands(40)
    inside = torch.linspace(0, RATE / 2, FFT // 2 + 1)
    inner = (inside > 150) & (inside < 3700)
    torch.testing.assert_close(bands.sum(0)[inner], torch.ones(int(inner.sum())))


def test_the_cepstrum_is_scipy_s_cosine_transform():
    torch.manual_seed(0)
    s = torch.randn(9, 40, dtype=torch.double)
    want = scipy.fft.dct(s.numpy(), type=2, norm="ortho", axis=1)[:, :13]
    np.testing.assert_allclose(mfcc(s).numpy(), want, atol=1e-12)


# ---- films -----------------------------------------------------------------------------------------------------------


def test_a_film_shows_what_its_causes_say():
    world = MovingScenes(size=24, times=12, noise=0.0)
    films = world.sample(20, torch.Generator().manual_seed(0), identity=torch.arange(20))
    assert films.frames.shape == (20, 12, 3, 24, 24) and torch.equal(films.identity, torch.arange(20))
    ground = films.frames[..., :1, :1].flatten(3).mean(2)[..., 0]  # (B, T) the corner shows the background
    for b in films.background.unique():
        assert float(ground[films.background == b].std()) < 1e-5
    axis = (torch.arange(24) + 0.5) / 12 - 1
    cover = (films.frames - films.frames[..., :1, :1]).abs().sum(2)  # (B, T, H, W)
    x = (cover.sum(2) * axis).sum(2) / cover.sum((2, 3))
    y = -(cover.sum(3) * axis).sum(2) / cover.sum((2, 3))
    assert float((x.hypot(y) - ORBIT).abs().max()) < 0.05
    place = (torch.atan2(y, x) % (2 * math.pi) * PLACES / (2 * math.pi)).long()
    assert float((place == films.place).float().mean()) > 0.95
    turn = torch.atan2(y, x).diff(dim=1)
    turn = (turn + math.pi) % (2 * math.pi) - math.pi
    assert torch.equal((turn.mean(1) < 0).long(), films.clockwise)


def test_a_background_that_does_not_flicker_stays():
    films = MovingScenes(8, 5, flicker=False).sample(30, torch.Generator().manual_seed(0))
    assert bool((films.background == films.background[:, :1]).all()) and len(films.background.unique()) == 3
    flickering = MovingScenes(8, 5).sample(30, torch.Generator().manual_seed(0)).background
    assert bool((flickering != flickering[:, :1]).any())
