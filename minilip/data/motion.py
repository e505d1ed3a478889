"""Moving scenes: short films of one object, with what stays, what changes and what is mere noise known for each frame.

Letters: B films, T frames, H = W frame size in pixels. Angles in radians, lengths in half-widths of a frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from minilip import _check
from minilip.data.latents import BACKGROUNDS, COLOURS, SHAPES, Latents
from minilip.data.scenes import Scenes

PLACES = 8  # eighths of the circle on which the object runs
ORBIT, RADIUS = 0.5, 0.36  # of the object's path, and of the object
SPEED, JITTER = (0.25, 0.55), 0.12  # radians a frame, uniform in the film; standard deviation from frame to frame


@dataclass(frozen=True)
class Films:
    """Frames and the causes of each."""

    frames: Tensor  # (B, T, 3, H, W) float32 in [0, 1]
    identity: Tensor  # (B,) who: 0 ... 23, shape times 8 + colour; the same in all frames, as a speaker is
    place: Tensor  # (B, T) where: eighth of the circle; momentary and half foreseeable, as a sound of speech is
    clockwise: Tensor  # (B,) 1 where the object runs clockwise: no single frame shows it
    background: Tensor  # (B, T) index into BACKGROUNDS, drawn anew for each frame: nothing foresees it


class MovingScenes:
    r"""An endless, seeded world of films: one object runs round a circle while the background flickers.

    $$ \varphi_{t+1} = \varphi_t \pm v + \epsilon_t, \qquad v \sim U(0.25, 0.55), \quad
       \epsilon_t \sim \mathcal N(0, 0.12^2) $$

    >>> films = MovingScenes(size=16, times=6).sample(3, torch.Generator().manual_seed(0))
    >>> films.frames.shape
    torch.Size([3, 6, 3, 16, 16])

    Args:
        size: H, at least 8.
        times: T, at least 2.
        noise: standard deviation of each pixel's own noise.
        flicker: whether backgrounds change from frame to frame; else one stays for the film.

    Raises:
        ValueError: an argument is out of range.

    Source: the course's own stand-in for speech: speaker, sound and noise have known counterparts. Lesson 02.
    """

    def __init__(self, size: int = 16, times: int = 16, noise: float = 0.1, flicker: bool = True):
        _check.count("size", size, 8)
        _check.count("times", times, 2)
        if _check.number("noise", noise) < 0:
            _check.fail("noise", "a finite standard deviation of at least 0", noise)
        self.size, self.times, self.noise, self.flicker = size, times, noise, bool(flicker)

    def sample(self, n: int, generator: torch.Generator, identity: Tensor | None = None) -> Films:
        """B films on the generator's device, every cause uniform and independent.

        Args:
            n: B.
            generator: of all that is drawn.
            identity: (B,) int64, to choose who is shown.
        """
        _check.count("n", n)
        _check.generator("generator", generator)
        device, t = generator.device, self.times

        def integers(high: int, *shape: int) -> Tensor:
            return torch.randint(high, shape, generator=generator, device=device)

        who = integers(len(SHAPES) * len(COLOURS), n)  # (B,)
        if identity is not None:
            _check.labels("identity", identity, n, len(SHAPES) * len(COLOURS))
            who = identity.to(device)
        start, speed = torch.rand(2, n, 1, generator=generator, device=device)  # (B, 1) each
        clockwise = integers(2, n)  # (B,)
        step = (SPEED[0] + (SPEED[1] - SPEED[0]) * speed) * (1 - 2 * clockwise[:, None])  # (B, 1)
        drift = JITTER * torch.randn(n, t, generator=generator, device=device).cumsum(dim=1)
        time = torch.arange(t, device=device)
        phase = (2 * math.pi * start + step * time + drift) % (2 * math.pi)  # (B, T)
        background = integers(len(BACKGROUNDS), n, t if self.flicker else 1).expand(n, t)  # (B, T)
        position = ORBIT * torch.stack([phase.cos(), phase.sin()], dim=-1)  # (B, T, 2)
        rows = n * t
        scenes = Latents(
            shape=(who // len(COLOURS)).repeat_interleave(t)[:, None],
            colour=(who % len(COLOURS)).repeat_interleave(t)[:, None],
            size=torch.zeros(rows, 1, dtype=torch.int64, device=device),
            radius=torch.full((rows, 1), RADIUS, device=device),
            position=position.reshape(rows, 1, 2),
            angle=torch.zeros(rows, 1, device=device),
            background=background.flatten(),
            relation=torch.full((rows,), -1, device=device),
            blur=torch.zeros(rows, device=device),
            occluder=torch.zeros(rows, 3, device=device),
        )
        frames = Scenes(self.size, noise=self.noise).render(scenes, generator)  # (B T, 3, H, W)
        place = (phase * (PLACES / (2 * math.pi))).long().clamp(max=PLACES - 1)  # (B, T)
        return Films(frames.unflatten(0, (n, t)), who, place, clockwise, background)
