"""Encoders of sequences: a code for each moment.

Letters: B sequences, T times, D length of a code, F bands of a spectrum, S segments.
Every encoder has `.dim`, the length D of a code; a code has seen its own moment and a few neighbours, no more.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilip import _check


class FrameEncoder(nn.Module):
    """A tower for pictures applied to each frame of a film by itself. (B, T, 3, H, W) -> (B, T, D)

    Args:
        tower: (n, 3, H, W) -> (n, D), with D in `.dim`.
    """

    def __init__(self, tower: nn.Module):
        super().__init__()
        self.tower, self.dim = tower, _check.width("tower", tower)

    def forward(self, frames: Tensor) -> Tensor:
        _check.tensor("frames", frames, 5, floating=True)
        return self.tower(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])  # (B, T, D)


class SpectrumEncoder(nn.Module):
    """Four convolutions over the frames of a spectrum; the second halves their number. (B, T, F) -> (B, T/2, D)

    A code has seen 12 frames, an eighth of a second of speech.

    Args:
        bands: F; width: channels; dim: D.
    """

    def __init__(self, bands: int = 40, width: int = 96, dim: int = 64):
        super().__init__()
        for name, value in (("bands", bands), ("width", width), ("dim", dim)):
            _check.count(name, value)
        self.bands, self.dim = bands, dim
        self.layers = nn.Sequential(
            nn.Conv1d(bands, width, 5, padding=2),
            nn.ReLU(),
            nn.Conv1d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv1d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(width, dim, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        _check.sequences("x", x)
        if x.shape[2] != self.bands or x.shape[1] < 2:
            _check.fail("x", f"shape (B, T, {self.bands}), T >= 2", tuple(x.shape))
        return self.layers(x.transpose(1, 2)).transpose(1, 2)  # (B, T / 2, D)


def segment_means(codes: Tensor, lengths: Tensor, segments: int) -> Tensor:
    """The mean code of each of S equal parts of a sequence, one after the other: what was said first, and what later.

    Args:
        codes: (B, T, D), of which the first `lengths` (B,) int64 >= 1 are real and the rest is padding.
        segments: S; 1 for one mean over all.

    Returns:
        (B, S D). A sequence with fewer than S times repeats some.
    """
    _check.sequences("codes", codes)
    _check.count("segments", segments)
    _check.labels("lengths", lengths, len(codes), codes.shape[1] + 1)
    if int(lengths.min()) < 1:
        _check.fail("lengths", "at least 1", int(lengths.min()))
    part = torch.arange(segments, device=codes.device)
    first = part * lengths[:, None] // segments  # (B, S)
    last = torch.maximum((part + 1) * lengths[:, None] // segments, first + 1)  # (B, S), excluded
    time = torch.arange(codes.shape[1], device=codes.device)
    inside = (time >= first[..., None]) & (time < last[..., None])  # (B, S, T)
    weights = inside / inside.sum(dim=2, keepdim=True)
    return (weights.to(codes.dtype) @ codes).flatten(1)  # (B, S D)


class Utterance(nn.Module):
    """One vector for a recording: segment means of the codes or contexts of its frames. (B, T, F) -> (B, S D)

    Recordings are padded to one length by frames of zeros, which count for nothing.

    Args:
        codes: (B, T, F) -> (B, T / 2, D), with D in `.dim`: an encoder, or a `CPC` whose contexts are read.
        segments: S.
    """

    def __init__(self, codes: nn.Module, segments: int = 5):
        super().__init__()
        _check.count("segments", segments)
        self.codes, self.segments = codes, segments
        self.dim = segments * _check.width("codes", codes)

    def forward(self, x: Tensor) -> Tensor:
        codes = self.codes(x)  # (B, T / 2, D)
        lengths = frames_of(x) * codes.shape[1] // x.shape[1]
        return segment_means(codes, lengths.clamp(min=1), self.segments)


def frames_of(x: Tensor) -> Tensor:
    """How many frames of a padded spectrum are real: up to the last that is not all zeros. (B, T, F) -> (B,) int64"""
    _check.sequences("x", x)
    time = torch.arange(1, x.shape[1] + 1, device=x.device)
    return ((x != 0).any(dim=2) * time).amax(dim=1)  # (B,)


def padded(sequences: list[Tensor], times: int) -> Tensor:
    """Sequences (T_i, F) cut to T times or filled up with zeros. -> (B, T, F)"""
    _check.count("times", times)
    if not isinstance(sequences, (list, tuple)) or not sequences:
        _check.fail("sequences", "a list of tensors, at least one", _check.described(sequences))
    for i, x in enumerate(sequences):
        _check.embeddings(f"sequences[{i}]", x)
        if x.shape[1] != sequences[0].shape[1]:
            _check.fail(f"sequences[{i}]", f"{sequences[0].shape[1]} columns, as the first", x.shape[1])
    return torch.stack([F.pad(x[:times], (0, 0, 0, times - len(x[:times]))) for x in sequences])  # (B, T, F)
