"""What a sound looks like before any learning: log-mel spectrum and cepstrum.

Letters: n samples, T frames, F bands.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from minilip import _check

RATE = 8000  # samples a second
WINDOW, HOP, FFT = 200, 80, 256  # samples: 25 ms of sound every 10 ms
FLOOR = 1e-6  # of power; below it is silence
LOW, HIGH = 60.0, 3900.0  # Hz


def log_mel(wave: Tensor, bands: int = 40) -> Tensor:
    r"""The logarithm of the power in F overlapping triangular bands, evenly spaced in mel, every 10 ms.

    $$ s_{tf} = \log\Bigl(\sum_\omega M_{f\omega} \lvert \mathrm{STFT}(x)_{t\omega} \rvert^2 + 10^{-6}\Bigr), \qquad
       \mathrm{mel}(\omega) = 2595 \log_{10}(1 + \omega / 700\,\mathrm{Hz}) $$

    Args:
        wave: (n,) at 8 kHz, floating-point in [-1, 1]; n > 128.
        bands: F.

    Returns:
        (T, F) with T = 1 + n // 80.

    Source: Davis and Mermelstein 1980; lesson 02.
    """
    _check.tensor("wave", wave, 1, floating=True)
    _check.count("bands", bands)
    if len(wave) <= FFT // 2:
        _check.fail("wave", f"more than {FFT // 2} samples", len(wave))
    _check.finite("wave", wave)
    window = torch.hann_window(WINDOW, device=wave.device, dtype=wave.dtype)
    power = torch.stft(wave, FFT, HOP, WINDOW, window, return_complex=True).abs().square()  # (FFT / 2 + 1, T)
    return (mel_bands(bands).to(wave) @ power + FLOOR).log().T.contiguous()  # (T, F)


@lru_cache(maxsize=4)
def mel_bands(bands: int) -> Tensor:
    """Triangles with their tips evenly spaced in mel; each ends where its neighbours have their tips. (F, FFT/2 + 1)"""
    _check.count("bands", bands)
    low, high = (2595 * math.log10(1 + f / 700) for f in (LOW, HIGH))
    tips = 700 * (10 ** (torch.linspace(low, high, bands + 2, dtype=torch.double) / 2595) - 1)  # (F + 2,) Hz
    frequency = torch.linspace(0, RATE / 2, FFT // 2 + 1, dtype=torch.double)
    rise = (frequency - tips[:-2, None]) / (tips[1:-1] - tips[:-2])[:, None]  # (F, FFT / 2 + 1)
    fall = (tips[2:, None] - frequency) / (tips[2:] - tips[1:-1])[:, None]
    return torch.minimum(rise, fall).clamp(min=0).float()


def mfcc(spectrum: Tensor, coefficients: int = 13) -> Tensor:
    r"""Mel-frequency cepstrum: the first coefficients of an orthonormal cosine transform over the bands.

    $$ a_{tm} = \sqrt{\tfrac{2 - [m = 0]}{F}} \sum_{f=0}^{F-1} s_{tf} \cos\bigl(\pi m (f + \tfrac12) / F\bigr) $$

    Args:
        spectrum: (..., F), as from `log_mel`.
        coefficients: at most F.

    Returns:
        (..., coefficients): the outline of the spectrum, without the comb of the voice's pitch.

    Source: Davis and Mermelstein 1980; lesson 02.
    """
    _check.tensor("spectrum", spectrum, floating=True)
    if spectrum.numel() == 0:
        _check.fail("spectrum", "at least one frame", "none")
    _check.finite("spectrum", spectrum)
    bands = spectrum.shape[-1] if spectrum.dim() else 0
    _check.count("coefficients", coefficients)
    if coefficients > bands:
        _check.fail("coefficients", f"at most {bands}, the number of bands", coefficients)
    order = torch.arange(coefficients, device=spectrum.device, dtype=spectrum.dtype)[:, None]
    place = (torch.arange(bands, device=spectrum.device, dtype=spectrum.dtype) + 0.5) / bands
    basis = torch.cos(math.pi * order * place) * math.sqrt(2 / bands)  # (coefficients, F)
    basis[0] /= math.sqrt(2)
    return spectrum @ basis.T


def other_mouth(spectrum: Tensor, generator: torch.Generator) -> Tensor:
    """The same sounds from a longer or shorter throat, by another microphone, with other noise: what is said stays.

    All bands move by up to three places, a smooth curve over the bands is added, and noise to each number; one lot for
    each recording. Frames of zeros are padding and stay.

    Args:
        spectrum: (B, T, F) of logarithms, F >= 8.
        generator: of the lots, on the spectrum's device.

    Source: Kharitonov et al. 2021 (arXiv 2007.00991) vary the past of CPC's speech; the changes are ours. Lesson 02.
    """
    _check.sequences("spectrum", spectrum)
    _check.generator("generator", generator, spectrum.device)
    batch, times, bands = spectrum.shape
    given: dict[str, Any] = {"device": spectrum.device, "dtype": spectrum.dtype}
    if bands < 8:
        _check.fail("spectrum", "at least 8 bands", bands)
    shift = 6 * torch.rand(batch, 1, generator=generator, **given) - 3  # (B, 1) bands
    place = (torch.arange(bands, **given) + shift).clamp(0, bands - 1)  # (B, F)
    low = place.long().clamp(max=bands - 2)
    part = (place - low)[:, None]  # (B, 1, F)
    low = low[:, None].expand(-1, times, -1)  # (B, T, F)
    moved = torch.lerp(spectrum.gather(2, low), spectrum.gather(2, low + 1), part.expand(-1, times, -1))
    order = torch.arange(1, 5, **given)[:, None]  # (4, 1)
    waves = torch.cos(order * math.pi * torch.arange(bands, **given) / (bands - 1)) / order  # (4, F)
    tilt = 0.7 * torch.randn(batch, 4, generator=generator, **given) @ waves  # (B, F)
    noise = 0.3 * torch.randn(spectrum.shape, generator=generator, **given)
    return (moved + tilt[:, None] + noise) * (spectrum != 0).any(dim=2, keepdim=True)
