# %% [markdown]
# # 02 · CPC: predict what comes next, forget the noise
#
# **You derive** why a model of the future spends itself on noise, the density ratio that takes its place, what the choice of negatives makes an encoder forget, and the price of two slips in published code.
#
# **You train** CPC on films whose every cause is known, on six real voices and on patches of pictures, and read out who speaks, what is said, and what is gone.
#
# After this lesson you can
# - name the four parts of CPC and write its loss for $K$ steps ahead;
# - say what $p(x \mid c)$ has to know that $p(x \mid c)/p(x)$ need not;
# - choose negatives so that an encoder keeps, or loses, the speaker;
# - measure how much a context knows of each step ahead, with lesson 01's bound;
# - read a table of probes as table 1 of the paper, and say what its rows control for.
#
# *Before this:* [lesson 01](01_infonce.ipynb). *Papers:* Oord, Li and Vinyals 2018 (CPC); Hénaff et al. 2020 (CPC on pictures); Kharitonov et al. 2021 (varied speech). *Data:* sound packages of Asterisk, the Free Spoken Digit Dataset; both are credited where they are heard.

# %%
from minilip.course import *

device = setup("02_cpc")

# %%
import math

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import Audio, Markdown, display
from sklearn.manifold import TSNE
from torch import nn

from minilip.course import plot
from minilip.course.widgets import panel
from minilip.cpc import CPC, PatchCPC, cpc_loss, overlapping_patches
from minilip.data.motion import MovingScenes
from minilip.data.scenes import Scenes
from minilip.data.speech import RATE, SPEAKERS, VOICE_NAMES, VOICES, Voices
from minilip.evaluation import encode, interval, linear_probe
from minilip.infonce import mi_lower_bound
from minilip.nn import ConvNet
from minilip.nn.sequence import FrameEncoder, frames_of, padded
from minilip.nn.sound import log_mel
from minilip.studies.cpc import digits, voices
from minilip.training import fit

SEEDS = range(budget(cpu=3, quick=1))
generator = torch.Generator(device).manual_seed(2)

# %% [markdown]
# ## 1. A question
#
# Here are the first six frames of a film. Which of the five frames on the right is the next but one?

# %%
world = MovingScenes(size=16, times=12)
film = world.sample(5, generator, identity=torch.tensor([0, 11, 0, 17, 20]))  # two of one object
row = torch.cat([film.frames[0, :6], film.frames[:, 7]])  # (11, 3, 16, 16)
figure = plot.images(row, [f"frame {t + 1}" for t in range(6)] + [f"candidate {i + 1}" for i in range(5)], columns=11)

# %% [markdown]
# It is the first. You saw at once *who* is shown, which leaves the first and the third, and roughly *where* it would be: it runs round a circle. You did not foresee the background, because it flickers at random, nor the grain of the pixels. Nobody could, and you did not need to.
#
# That is a good way to look at speech too. A *speaker* stays, like the object here. A *sound of speech* lasts for some hundredths of a second and half announces the next, like the place. The exact wave carries much more than both, and most of it is noise. The films have a known value for each of the three, so that we can ask an encoder which of them it kept.
#
# ## 2. A first guess, and how it fails
#
# The simplest idea is to predict the next frames themselves. An encoder $g_{\text{enc}}$ turns each frame $x_t$ into a code $z_t$. A recurrent network $g_{\text{ar}}$ sums up the codes so far in a *context* $c_t$. From $c_t$ a linear map draws frame $t + k$, for $k = 1 \dots 4$, and the squared error is its loss.

# %%
AHEAD, CONTEXT = 4, 64
FILM_STEPS, FILM_BATCH = budget(cpu=120, gpu=1000, quick=3), budget(cpu=32, quick=8)


class Painter(nn.Module):
    """The same encoder and context as CPC; linear maps from the context to the pixels of the frames ahead."""

    def __init__(self, encoder, context=CONTEXT, ahead=AHEAD):
        super().__init__()
        self.encoder, self.recurrent = encoder, nn.GRU(encoder.dim, context, batch_first=True)
        self.maps = nn.ModuleList(nn.Linear(context, 3 * 16 * 16) for _ in range(ahead))

    def encode(self, x):
        return self.encoder(x)

    def forward(self, x):
        return self.recurrent(self.encoder(x))[0]

    def loss(self, x):
        c = self(x)  # (B, T, H)
        errors = [(w(c[:, :-k]) - x[:, k:].flatten(2)).square().mean() for k, w in enumerate(self.maps, start=1)]
        return torch.stack(errors).mean(), {}


def frame_encoder():
    return FrameEncoder(ConvNet(8))


def films(g):
    return world.sample(FILM_BATCH, g).frames


def train_on_films(model, batches=films, seed=0, label=""):
    history = fit(model.to(device), batches, FILM_STEPS, lr=3e-3, weight_decay=0.01, seed=seed, label=label)
    return model, history


torch.manual_seed(0)
painter, history = train_on_films(Painter(frame_encoder()), label="predict the pixels")
with torch.no_grad():
    drawn = painter.maps[1](painter(film.frames)[:, 5]).view(5, 3, 16, 16)  # two steps after the sixth frame
figure = plot.images(torch.cat([film.frames[:, 7], drawn]), ["came"] * 5 + ["drawn"] * 5, columns=10)

# %% [markdown]
# The drawings are grey fog with a smear in it. The best drawing under a squared error is the mean of all that may come, and the mean of three backgrounds is grey. Section 4 asks what this network has put into its codes.
#
# ## 3. The idea
#
# Do not draw the future. **Recognise it**: among codes of frames that came and codes of frames that did not, pick the one that came. What cannot be foreseen helps nobody to pick, so it need not be kept.
#
# $$z_t = g_{\text{enc}}(x_t), \qquad c_t = g_{\text{ar}}(z_1, \dots, z_t), \qquad f_k(x_{t+k}, c_t) = \exp(z_{t+k}^\top W_k c_t). \tag{1}$$
#
# $W_k$ is one matrix for each step ahead. The product $W_k c_t$ is a *guess* of the code $z_{t+k}$, and its inner product with a candidate's code is the score. The critic has no other part: whatever makes the right one win has to be in $z$ and $c$. In one line of code: `scores = W_k(c) @ z.T`.
#
# ### 3.1 What a model of the future pays for
#
# Suppose a frame is made of something foreseeable $s$ and of noise $n$ that is independent of all else. A model of $p(x \mid c)$ pays $-\log p(x \mid c)$ nats a frame. In the best case that is the entropy $H(x \mid c)$, and by the chain rule
#
# $$H(x \mid c) = H(s \mid c) + H(n), \qquad\text{but}\qquad I(x; c) = H(x) - H(x \mid c) = H(s) - H(s \mid c) = I(s; c). \tag{2}$$
#
# The noise is in the first and cancels in the second. Here $n$ is the flicker and the grain. A network of finite size, trained for a finite time, works first on what costs most. A density ratio never meets $H(n)$.

# %%
# check (2): s, one of 4 places, follows the context with probability 0.7; n, one of 64 flickers; all by enumeration
def entropy(p):
    p = p[p > 0]
    return -(p * p.log()).sum()


follows = torch.full((4, 4), 0.1, dtype=torch.double).fill_diagonal_(0.7)  # p(s | c)
flicker = torch.rand(64, dtype=torch.double).softmax(0)
joint = (follows / 4)[:, :, None] * flicker  # p(c, s, n), contexts uniform: (4, 4, 64)
H_x_given_c = entropy(joint.flatten()) - math.log(4)
same("(2), left", H_x_given_c, -(0.7 * math.log(0.7) + 0.3 * math.log(0.1)) + entropy(flicker))
I_xc = sum(
    float(p) * math.log(float(p) / (0.25 * float(joint[:, s, n].sum())))
    for c in range(4) for s in range(4) for n, p in enumerate(joint[c, s])
)
same("(2), right", I_xc, math.log(4) + (0.7 * math.log(0.7) + 0.3 * math.log(0.1)))
noise = float(entropy(flicker))
print(f"to be paid for: {float(H_x_given_c):.2f} nats a frame, of which {noise:.2f} are noise; shared: {I_xc:.2f}")

# %% [markdown]
# ### 3.2 InfoNCE over future steps, and the proposal
#
# For each $t$ and $k$ we make a line-up: the code that came, and $N - 1$ impostors drawn from a *proposal distribution* $q(x)$. The loss is the cross-entropy of picking the real one, averaged over steps and times:
#
# $$\mathcal L = -\frac1K\sum_{k=1}^K \mathbb E\left[\log\frac{f_k(x_{t+k}, c_t)}{\sum_{x \in X} f_k(x, c_t)}\right]. \tag{3}$$
#
# Lesson 01 found the best critic where impostors come from $p(x)$. Nothing in that proof needs $p$. A place $i$ is the real one with a probability in proportion to $p(x_i \mid c)\prod_{l \ne i} q(x_l)$. Divide by the product over all places:
#
# $$f^\star_k(x, c) \propto \frac{p(x_{t+k} = x \mid c_t)}{q(x)}. \tag{4}$$
#
# So **whoever chooses the impostors chooses the ratio**. Let impostors come from the same speaker $s$ as the real one: $q(x) = p(x \mid s)$. Who hears a context knows the speaker, so $p(x \mid c) = p(x \mid c, s)$, and the ratio to be learnt is $p(x \mid c, s) / p(x \mid s)$. Its expected logarithm is $I(x; c \mid s)$, and the chain rule for information says what went missing:
#
# $$I(x; c) = I(x; s) + I(x; c \mid s). \tag{5}$$
#
# The first term is all that the future has to do with the speaker. Under same-speaker impostors it earns nothing. Under impostors from everybody, it is often the cheapest thing to learn.

# %%
# check (1), (3): the library's loss on the left; exponentials of inner products, one line-up at a time, on the right
z, c = (torch.randn(3, 5, n, dtype=torch.double) for n in (2, 4))  # 3 sequences of 5 times
maps = [torch.nn.Linear(4, 2, bias=False).double() for _ in range(2)]
loss = 0.0
for k, W in enumerate((each.weight.detach() for each in maps), start=1):
    losses = []
    for b, t in ((b, t) for b in range(3) for t in range(5 - k)):
        f = [math.exp(z[i, t + k] @ W @ c[b, t]) for i in range(3)]  # impostors: the other sequences at the same time
        losses.append(-math.log(f[b] / sum(f)))
    loss += sum(losses) / len(losses) / 2
same("(1), (3)", cpc_loss(z, c, maps), loss)

# check (4), (5): two speakers with their own sounds, 3 sounds each step, contexts that know speaker and last sound
torch.manual_seed(0)
sounds = torch.rand(2, 3, 3, dtype=torch.double).add(0.05)
sounds /= sounds.sum(dim=2, keepdim=True)  # p(next | last, speaker)
last = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]], dtype=torch.double)  # p(last | speaker)
p = 0.5 * last[:, :, None] * sounds  # p(s, last, next)
p_next, p_next_s = p.sum(dim=(0, 1)), 2 * p.sum(dim=1)  # (3,), (2, 3)
I_all = (p * (sounds / p_next).log()).sum()
I_within = (p * (sounds / p_next_s[:, None]).log()).sum()
I_speaker = entropy(p_next) - sum(0.5 * entropy(p_next_s[s]) for s in range(2))
same("(5)", I_all, I_speaker + I_within)

# the best critic against 2 impostors of the same speaker, found by gradient descent on every line-up at once
table = torch.zeros(2, 3, 3, dtype=torch.double, requires_grad=True)  # log f
optim = torch.optim.LBFGS(
    [table], max_iter=200, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
)
weight = p[:, :, :, None, None] * p_next_s[:, None, None, :, None] * p_next_s[:, None, None, None, :]  # (2, 3, 3, 3, 3)


def line_ups():
    optim.zero_grad()
    real, first, second = table[..., None, None], table[:, :, None, :, None], table[:, :, None, None, :]
    three = torch.stack(torch.broadcast_tensors(real, first, second))  # (3, 2, 3, 3, 3, 3)
    loss = (weight * (three.logsumexp(0) - three[0])).sum()
    loss.backward()
    return loss


optim.step(line_ups)
learnt, ratio = table.detach(), (sounds / p_next_s[:, None]).log()  # (2, 3, 3) both
free = (learnt - ratio).mean(dim=2, keepdim=True)  # a factor for each context makes no difference to (3)
same("(4)", learnt - free, ratio, tolerance=1e-3)

# %% [markdown]
# ### 3.3 What a bilinear critic can say
#
# By (4) the table of log ratios of $N$ contexts and $N$ candidates has to be matched by $Z\,W_k\,C^\top$, up to a constant for each context. Such a product has
#
# $$\operatorname{rank}(Z\,W_k\,C^\top) \le \min(D, H), \tag{6}$$
#
# however large $N$ is. The length $D$ of a code is how many independent things it may say about its future. That is the bottleneck that a painter lacks: its maps end in 768 pixels.

# %%
# check (6): singular values on the left, the smaller of D and H on the right
z, c, W = (torch.randn(*shape, dtype=torch.double) for shape in ((50, 5), (50, 7), (5, 7)))
same("(6)", float((torch.linalg.svdvals(z @ W @ c.T) > 1e-9).sum()), float(min(5, 7)))

# %% [markdown]
# ### 3.4 How much a context knows of each step
#
# Lesson 01's bound holds for each step by itself:
#
# $$I(x_{t+k}; c_t) \ge \log N - \mathcal L_k. \tag{7}$$
#
# It needs impostors from $p(x)$. What we get from same-speaker impostors bounds $I(x; c \mid s)$ in (5) instead. For a Markov chain both sides can be had exactly.

# %%
# check (7): a chain that steps on with probability 0.8; the exact ratio as critic, all line-ups of N = 3
chain = 0.8 * torch.eye(5, dtype=torch.double).roll(1, 1) + 0.2 / 5
for k in (1, 2, 4):
    ahead = torch.linalg.matrix_power(chain, k)  # p(x_{t+k} | x_t), uniform marginals
    exact = (ahead / 5 * (5 * ahead).log()).sum()
    one, two = ahead[:, :, None, None], ahead[:, None, :, None]
    loss = (ahead[:, :, None, None] / 125 * ((one + two + ahead[:, None, None, :]) / one).log()).sum()
    bound = mi_lower_bound(float(loss), candidates=3)
    print(f"{k} ahead: bound {bound:.3f} <= {float(exact):.3f} nats")
    assert bound <= exact
w = 3 * one / (one + two + ahead[:, None, None, :])
gap = (one / 125 * (5 * one / w).log()).sum()  # by lesson 01's (9), what is missing is a divergence
same("(7), with its gap", bound + gap, exact)

# %% [markdown]
# ## 4. From scratch
#
# With impostors from the batch, the line-up of sequence $b$ at time $t$ and step $k$ is: the codes of all $B$ sequences at time $t + k$. Every code serves as one sequence's answer and as everybody else's impostor.


# %%
def my_cpc_loss(z, c, predictors):
    """z (B, T, D) codes, c (B, T, H) contexts, K maps H -> D -> nats"""
    total = 0.0
    for k, W in enumerate(predictors, start=1):
        guess = W(c[:, :-k])  # (B, T - k, D) what is expected at t + k
        future = z[:, k:]  # (B, T - k, D) what came
        scores = torch.einsum("btd,jtd->tbj", guess, future)  # (T - k, B, B) row: context, column: candidate
        real = torch.arange(z.shape[0], device=z.device).expand(scores.shape[0], -1)  # (T - k, B)
        total = total + F.cross_entropy(scores.transpose(1, 2), real)  # classes in the second place
    return total / len(predictors)


model = CPC(frame_encoder(), CONTEXT, AHEAD).to(device)
with torch.no_grad():
    z, c = model.encode(film.frames), model(film.frames)
    same("from scratch and the library's", my_cpc_loss(z, c, model.predictors), cpc_loss(z, c, model.predictors))
show(cpc_loss)

# %% [markdown]
# The library has two more kinds of candidates: `"sequence"`, this sequence's own codes at other times, and `"all"`, both together. The model around it is an encoder, a GRU and $K$ linear maps:

# %%
show(CPC)

# %% [markdown]
# ## 5. Train
#
# Five arms, one network. What differs is the loss or its candidates:
#
# | arm | loss | candidates | by (5) it is paid for |
# |---|---|---|---|
# | pixels | squared error, section 2 | none | all that lowers the error |
# | any object | (3) | the batch | $I(x; c)$ |
# | one object | (3) | the batch, all films show one object | $I(x; c \mid s)$ |
# | one film | (3) | other times of the film | $I(x; c \mid \text{film})$ |
# | wrong axis | softmax over contexts | the batch | see section 8 |
#
# Weights: none; $D = 32$, $H = 64$, $K = 4$ throughout, AdamW with 0.003.


# %%
def one_object(g):
    who = torch.randint(24, (1,), generator=g, device=g.device).expand(FILM_BATCH)
    return world.sample(FILM_BATCH, g, identity=who).frames


class WrongAxis(CPC):
    """Softmax over the contexts of each candidate, as in a widely copied re-implementation."""

    def loss(self, x):
        z, c = self.encode(x), self(x)
        losses = []
        for k, W in enumerate(self.predictors, start=1):
            scores = torch.einsum("btd,jtd->tbj", W(c[:, :-k]), z[:, k:])  # (T - k, B, B)
            real = torch.arange(len(x), device=x.device).repeat(scores.shape[0])
            losses.append(F.cross_entropy(scores.mT.flatten(0, 1), real))  # rows are candidates now
        return torch.stack(losses).mean(), {}


def arm(name):
    encoder = frame_encoder()
    if name == "pixels":
        return Painter(encoder), films
    if name == "wrong axis":
        return WrongAxis(encoder, CONTEXT, AHEAD), films
    candidates = "sequence" if name == "one film" else "batch"
    return CPC(encoder, CONTEXT, AHEAD, candidates), one_object if name == "one object" else films


ARMS = ("pixels", "any object", "one object", "one film", "wrong axis")
COLOURS = dict(zip(("random", *ARMS), (plot.BLACK, plot.RED, plot.BLUE, plot.ORANGE, plot.GREEN, plot.PINK)))
trained, curves = {}, {}
for name in ARMS:
    for seed in SEEDS:
        torch.manual_seed(seed)
        model, batches = arm(name)
        trained[name, seed], curves[name, seed] = train_on_films(model, batches, seed, f"{name}, seed {seed}")

figure, ax = plt.subplots(figsize=(8, 2.8))
for name in ARMS[1:4]:
    ax.plot(np.mean([curves[name, s].loss for s in SEEDS], axis=0), label=name, color=COLOURS[name])
among_times = np.mean([math.log(world.times - k) for k in range(1, AHEAD + 1)])
ax.axhline(math.log(FILM_BATCH), color="#777777", linewidth=0.8, linestyle="--", label=f"chance, log {FILM_BATCH}")
ax.axhline(among_times, color="#777777", linewidth=0.8, linestyle=":", label="chance, one film")
ax.set(xlabel="step", ylabel="loss (nats)", ylim=(0, None))
ax.legend(ncols=5, loc="lower left")
plt.show()

# %% [markdown]
# Losses with different candidates cannot be compared: the line-ups are of different size and difficulty. Look only at how far each falls below its own chance.
#
# ## 6. What was kept
#
# A linear probe reads four things from frozen codes and contexts of fresh films: **who** (24 objects), **where** (8 places), **which way** it runs (2; no single frame shows it), and the **background** of the frame (3; nothing foresees it).

# %%
LABELS = {  # the field of a film, and chance
    "who": ("identity", 1 / 24),
    "where": ("place", 1 / 8),
    "which way": ("clockwise", 1 / 2),
    "background": ("background", 1 / 3),
}
EXAM = budget(cpu=200, gpu=1000, quick=60)
exam = [world.sample(EXAM, torch.Generator(device).manual_seed(s)) for s in (90, 91)]
TIMES = slice(5, None, 3)  # contexts that have seen a few frames


def probe(of, label, films=exam):
    """Accuracy on the second set of films of a linear head trained on the first."""
    x, y = [], []
    for f in films:
        with torch.no_grad():
            x.append(of(f.frames)[:, TIMES].flatten(0, 1))
        values = getattr(f, label)
        values = values[:, None].expand(-1, world.times) if values.dim() == 1 else values
        y.append(values[:, TIMES].flatten())
    return linear_probe(x[0], y[0], x[1], y[1], strength=0.1)


torch.manual_seed(0)
untrained = CPC(frame_encoder(), CONTEXT, AHEAD).to(device).eval()
read = {}  # (arm, part, label) -> one accuracy a seed
for label, (field, _) in LABELS.items():
    for part in ("code", "context"):
        read["random", part, label] = [probe(untrained.encode if part == "code" else untrained, field)]
        for name in ARMS:
            chosen = [trained[name, s] for s in SEEDS]
            read[name, part, label] = [probe(m.encode if part == "code" else m, field) for m in chosen]

shown = ("random", *ARMS[:4])
figure, axes = plt.subplots(1, 4, figsize=(8, 3.0), sharey=True)
for ax, (label, (_, chance)) in zip(axes, LABELS.items()):
    for i, name in enumerate(shown):
        for part, marker, shift in (("code", "o", -0.15), ("context", "s", 0.15)):
            values = read[name, part, label]
            fill = COLOURS[name] if part == "context" else "white"
            ax.plot([i + shift] * len(values), values, marker, color=COLOURS[name], markersize=5, markerfacecolor=fill)
    ax.axhline(chance, color="#777777", linewidth=0.8, linestyle="--")
    ax.set(title=label, ylim=(0, 1.02))
    ax.set_xticks(range(len(shown)), shown, rotation=60, ha="right", fontsize=8)
axes[0].set_ylabel("linear probe, accuracy")
plt.show()

# %% [markdown]
# Open circles are codes $z$, full squares contexts $c$, dashes chance; one mark a seed.
#
# - **Background**, the right panel: it is what pixels are made of, and the painter's codes keep it. CPC's codes lose most of it, its contexts lose nearly all. Nothing in the loss asks for it.
# - **Which way**: a code cannot know, because it has seen one frame. CPC's contexts do. The painter's context does not, with the same network and as many steps: by (2) its loss is busy elsewhere.
# - **Where**: all kinds of CPC know.
# - **Who**: the painter knows it as well as CPC with impostors of any object does. With impostors from the same object or the same film it falls below the random network, as (5) says. It is not forbidden to keep it. It earns nothing.
#
# ## 7. How far ahead
#
# By (7) each step's loss is a bound on what the context knows of that step, here with $N = 64$ candidates from fresh films. The slider shows the choice itself: one film, one context, eight candidates.


# %%
def bounds(model, one_identity, n=64):
    """log N - loss for each step ahead, on fresh films."""
    g, found = torch.Generator(device).manual_seed(55), []
    with torch.no_grad():
        for _ in range(budget(cpu=6, quick=1)):
            who = torch.randint(24, (1,), generator=g, device=g.device).expand(n) if one_identity else None
            x = world.sample(n, g, identity=who).frames
            z, c = model.encode(x), model(x)
            scores = [W(c[:, 4]) @ z[:, 4 + k].T for k, W in enumerate(model.predictors, start=1)]  # K of (N, N)
            losses = [F.cross_entropy(s, torch.arange(n, device=device)) for s in scores]
            found.append(mi_lower_bound(torch.stack(losses), n).cpu())
    return torch.stack(found).mean(dim=0)


certified = {
    name: torch.stack([bounds(trained[name, s], name == "one object") for s in SEEDS])
    for name in ("any object", "one object")
}
figure, ax = plt.subplots(figsize=(8, 2.6))
for name, values in certified.items():
    for seed, one in zip(SEEDS, values):
        ax.plot(range(1, AHEAD + 1), one, "o-", color=COLOURS[name], markersize=4, label=None if seed else name)
plot.line(ax, math.log(64), "ceiling, log 64")
ax.set(xlabel="steps ahead k", ylabel="bound (nats)", xticks=range(1, AHEAD + 1), ylim=(0, 4.4))
ax.legend(loc="lower left")
plt.show()

chooser = trained["any object", 0]
line_up = world.sample(8, torch.Generator(device).manual_seed(31))
with torch.no_grad():
    z, c = chooser.encode(line_up.frames), chooser(line_up.frames)


def choice(k):
    with torch.no_grad():
        chances = torch.softmax(chooser.predictors[k - 1](c[0, 5]) @ z[:, 5 + k].T, dim=0).cpu()
    fig, axes = plt.subplots(2, 8, figsize=(4.4, 2.2), height_ratios=(1, 1.2))
    for i in range(8):
        axes[0, i].imshow(line_up.frames[i, 5 + k].permute(1, 2, 0).cpu())
        axes[1, i].bar([0], [chances[i]], color=plot.ORANGE if i == 0 else plot.BLUE)
        axes[1, i].set(ylim=(0, 1), xticks=[], yticks=[0, 1] if i == 0 else [])
        axes[0, i].set(xticks=[], yticks=[])
        axes[0, i].grid(False)
    axes[1, 0].set_ylabel("chance")
    fig.suptitle(f"frame 6 + {k}; the real one is orange", fontsize=9)
    return fig


panel(choice, widgets.IntSlider(value=2, min=1, max=AHEAD, description="k"))

# %% [markdown]
# Blue: impostors of any object. Orange: of the same object. The blue bound is higher by what the object itself tells, $I(x; s)$ in (5), as far as the critics have learnt it. Both fall with $k$: the object's speed jitters, so that its place is soon uncertain. A larger $k$ makes the task harder and more abstract: what can be foreseen far ahead changes slowly. Oord et al. predict twelve steps of a hundredth of a second.
#
# ## 8. Two slips in published code
#
# **Softmax over the wrong axis.** A widely copied re-implementation normalises the table of scores over the contexts, while its accuracy looks among the candidates. What does that loss learn? Candidates choose contexts, so by (4), with the roles exchanged, the best critic is $p(c \mid x)/p(c)$. But
#
# $$\frac{p(c \mid x)}{p(c)} = \frac{p(x, c)}{p(x)\,p(c)} = \frac{p(x \mid c)}{p(x)}: \tag{8}$$
#
# the same ratio. What is free is a factor for each *candidate* instead of one for each context. So picking among candidates may suffer, because the factors differ, and the representation need not.

# %%
# check (8): any joint table; the two ratios come from normalising different axes
joint = torch.rand(4, 6, dtype=torch.double)
joint /= joint.sum()
same("(8)", (joint / joint.sum(0)) / joint.sum(1, keepdim=True), (joint / joint.sum(1, keepdim=True)) / joint.sum(0))


def picked(model):
    """How often the real one of 64 is picked two steps ahead."""
    g = torch.Generator(device).manual_seed(56)
    x = world.sample(64, g).frames
    with torch.no_grad():
        scores = model.predictors[1](model(x)[:, 5]) @ model.encode(x)[:, 7].T
    return float((scores.argmax(dim=1).cpu() == torch.arange(64)).float().mean())


axis = {name: [picked(trained[name, s]) for s in SEEDS] for name in ("any object", "wrong axis")}
for name, values in axis.items():
    probes = {label: np.mean(read[name, "context", label]) for label in ("who", "where", "which way")}
    print(f"{name:11} picks the real one: {np.mean(values):.2f};", ", ".join(f"{k} {v:.2f}" for k, v in probes.items()))

# %% [markdown]
# Right: the real one is picked less often, and the three probes are where they were. A loss that is not what its paper says need not ruin what is read out; it ruins the number by which one watches the training.
#
# **The positive among its own negatives.** The released code for speech draws $M = 128$ negatives from all $B$ windows and their $T$ times. For time $t$ it leaves out time $t$ in every window. What should be left out is the answer, time $t + k$ of the own window, and that stays in. Each negative is the answer with probability $\pi = 1/(B(T-1))$. With $J$ copies of the answer among the negatives, even a perfect critic can only share its belief among them:
#
# $$\mathcal L \ge \mathbb E\,\log(1 + J), \qquad J \sim \text{Binomial}(M, \pi). \tag{9}$$

# %%
# check (9): negatives drawn as in the released code and a critic that is certain; the binomial sum on the right
B, T, M = 8, 116, 128
g = torch.Generator().manual_seed(0)
t, k, rounds = 30, 5, 20_000
when = (torch.randint(1, T, (rounds, M), generator=g) + t) % T  # never t
whose = torch.randint(B, (rounds, M), generator=g)
copies = ((whose == 0) & (when == t + k)).sum(dim=1).double()
certain = torch.cat([torch.full((rounds, 1), 50.0), 50 * ((whose == 0) & (when == t + k)).double()], dim=1).double()
drawn = F.cross_entropy(certain, torch.zeros(rounds, dtype=torch.long))
pi = 1 / (B * (T - 1))
exact = sum(math.comb(M, j) * pi**j * (1 - pi) ** (M - j) * math.log1p(j) for j in range(1, 12))
same("(9)", drawn, exact, tolerance=0.05)
print(f"B = {B}, T = {T}: in {float((copies > 0).double().mean()):.1%} of line-ups; {exact:.3f} nats that nobody earns")

# %% [markdown]
# That is little, and it shrinks as the batch grows. It is a floor under the loss, and no reason for a bad representation.
#
# ## 9. Real speech
#
# Six voices say the same 491 prompts for telephone exchanges, in five languages. Allison speaks two languages; Italian has two voices. So *voice*, *language* and *what is said* can be asked for separately. Here is one prompt in four of them.

# %%
speech = Voices()
prompt = speech.prompt_names.index("digits/7")
for v in (0, 1, 3, 4):
    wave = speech[v * len(speech.prompt_names) + prompt][: int(0.8 * RATE)]
    print(f"{VOICE_NAMES[v]}: {VOICES[v].credit}")
    display(Audio(wave.numpy(), rate=RATE, normalize=False))

# %% [markdown]
# CPC reads *log-mel spectra*: the power in 40 bands, every hundredth of a second, on a logarithmic scale. (The paper starts from raw samples and trains for days; a spectrum is where a laptop can begin.) A code spans an eighth of a second, one comes every two hundredths, and $K = 12$ codes ahead are predicted. Loudness is taken out by subtracting each recording's mean. We train on half of the prompts for a short while and look at the others, which neither the network nor the picture has been fitted on.

# %%
SHOWN = budget(cpu=60, quick=6)
some = torch.randperm(len(speech.prompt_names), generator=torch.Generator().manual_seed(1))[: 2 * SHOWN]
rows = (torch.arange(len(VOICES))[:, None] * len(speech.prompt_names) + some).flatten()  # voice by voice
spectra = [log_mel(speech[i][: 2 * RATE]) for i in rows.tolist()]
spectra = padded([s - s.mean() for s in spectra], 200).to(device)  # (N, 200, 40)
frames = frames_of(spectra)
fitted = (torch.arange(len(rows)) % (2 * SHOWN) < SHOWN).to(device)  # the first half of the prompts
long = (fitted & (frames >= 96)).nonzero()[:, 0]


def pieces(g):
    chosen = long[torch.randint(len(long), (32,), generator=g, device=g.device)]
    first = (torch.rand(32, generator=g, device=g.device) * (frames[chosen] - 95)).long()
    return spectra[chosen[:, None], first[:, None] + torch.arange(96, device=device)]  # (32, 96, 40)


torch.manual_seed(0)
listener = CPC(voices.SpectrumEncoder(width=voices.WIDTH, dim=voices.DIM), voices.CONTEXT, voices.AHEAD).to(device)
fit(listener, pieces, budget(cpu=100, gpu=1000, quick=2), lr=2e-3, weight_decay=0.01, label="CPC on voices")
fresh = ~fitted
seen = [voices.read(spectra.cpu()[fresh.cpu()], m) for m in ("log-mel", listener.cpu())]
hers = speech.voice[rows][fresh.cpu()]
figure, axes = plt.subplots(1, 2, figsize=(8, 3.8))
for ax, vectors, title in zip(axes, seen, ("log-mel, mean and deviation", "CPC, mean and deviation")):
    vectors = (vectors - vectors.mean(0)) / vectors.std(0).clamp(min=1e-6)
    flat = TSNE(perplexity=min(20, len(vectors) // 4), random_state=0, init="pca").fit_transform(vectors.numpy())
    for v, name in enumerate(VOICE_NAMES):
        ax.scatter(*flat[hers == v].T, s=7, color=plot.PALETTE[v], label=name)
    ax.set(title=title, xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, markerscale=2)
plt.show()

# %% [markdown]
# One dot is one recording of an unseen prompt, coloured by its voice, as in the paper's figure 2. Nobody told CPC how many voices there are. The small islands of all colours are tones and silence. The left half is a warning: some studio voices form clouds in plain statistics of the spectrum already, and after a hundred steps CPC's clouds are no tighter. What CPC adds has to be counted, and counted against that.
#
# ### 9.1 The paper's table, on our bed
#
# Table 1 of the paper, on LibriSpeech: phones (41 classes) random initialisation 27.6, MFCC 39.7, CPC 64.6, supervised 74.6 %; speakers (251) 1.87, 17.6, 97.4, 98.5 %. Ours, from two stored studies (their modules say what is trained and how; three seeds a row that trains): **voices**, on 147 prompts that nothing has heard, and **digits** of six more speakers, each of whom is held out in turn from the head that names the digits. MFCC are the first 13 coefficients of a cosine transform of the log-mel bands.

# %%
said, told = voices.TABLE.known(), digits.TABLE.known()


def of_voices(row, key):
    """One accuracy a seed, and a 95 % interval over the recordings of all seeds."""
    strings = [run[key] for run in said.get(row, []) if run[key]]
    if not strings:
        return None
    hits = np.array([[int(h) for h in s] for s in strings])  # (S, N)
    return hits.mean(axis=1), interval(hits.mean(axis=0))


def of_digits(row, key):
    """The same for the digits: the mean over the six speakers; the interval takes speakers, who are few, at random."""
    runs = [run[key] for run in told[row] if run[key]]
    if not runs:
        return None
    hits = np.array([digits.shares(run) for run in runs])  # (S, 6)
    return hits.mean(axis=1), interval(hits.mean(axis=0))


def cell(found):
    if found is None:
        return "–"
    mean, (low, high) = found
    return f"{np.mean(mean):.3f} [{low:.3f}, {high:.3f}]"


COLUMNS = {  # what is asked, and of which study
    "voice (6)": (of_voices, "voice"),
    "language (5)": (of_voices, "language"),
    "prompt (147)": (of_voices, "prompt"),
    "digit (10)": (of_digits, "digit"),
    "speaker (5)": (of_digits, "speaker"),
}
TABLE = {  # name of a row: its names in the two studies, and whether encoders go on learning with labels
    "random initialisation": ("random", "random", False),
    "log-mel": ("log-mel", "log-mel", False),
    "MFCC": ("MFCC", "MFCC", False),
    "CPC, frozen": ("any voice", "CPC", False),
    "CPC, speaker never heard": (None, "CPC, five speakers", False),
    "CPC, fine-tuned": ("any voice", "CPC", True),
    "supervised": ("random", "random", True),
}
lines = ["| | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
for name, (voiced, digit, tuned) in TABLE.items():
    found = []
    for of, key in COLUMNS.values():
        if tuned:
            key = "tuned" if key in ("voice", "digit") else None  # the two that were trained for
        found.append(None if key is None else of(voiced if of is of_voices else digit, key))
    lines.append(f"| {name} | " + " | ".join(map(cell, found)) + " |")
Markdown("\n".join(lines))

# %% [markdown]
# Every number is an accuracy on what neither CPC's labels nor the head has seen, with a 95 % interval in brackets: over recordings for the voices, over the six speakers for the digits. "Prompt" has no head: the nearest recording of the other Italian voice has to be the same prompt. "Supervised" and "fine-tuned" are one and the same training of encoder, recurrent network and head, from random weights and from CPC's. In the row "speaker never heard", of one seed, CPC is trained six times, each time without the speaker whose digits are then asked for; in the other rows of CPC it has heard them, without labels.
#
# Read it from the baselines down. On six studio voices a linear head on spectrum statistics is already right nine times in ten, and on *random* codes more often still, so that no method has much room (and 14 of the 491 prompts are tones or silence, without any voice). On digits the MFCC row is the one to beat, not the random one. "Supervised" is no ceiling here: a hundred and fifty steps from scratch fit five speakers, and not the sixth. From CPC's weights the same steps do: 0.770 against 0.665. That is where CPC earns something here that no spectrum gives. The strictest row is the sobering one: where CPC has never heard the speaker, the head is right in 0.701 and not 0.749, below log-mel. What unlabelled speech of a new speaker buys is, here, most of what CPC gains over random codes.

# %%
def each_speaker(row, key="digit"):
    """The mean over seeds for each speaker held out."""
    return np.array([digits.shares(run[key]) for run in told[row]]).mean(axis=0)  # (6,)


by_speaker = {row: each_speaker(row) for row in ("log-mel", "MFCC", "random", "CPC")}
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.0), width_ratios=(3, 2))
for i, (row, values) in enumerate(by_speaker.items()):
    left.plot(np.arange(6) + 0.12 * (i - 1.5), values, "o^sD"[i], color=plot.PALETTE[i], label=row, markersize=5)
left.set_xticks(range(6), SPEAKERS)
left.set(xlabel="speaker held out", ylabel="digit, accuracy", ylim=(0.3, 1))
left.legend(ncols=2, loc="lower right")
for i, row in enumerate(voices.CANDIDATES):
    for key, marker, colour in (("voice", "o", plot.BLUE), ("prompt", "s", plot.RED)):
        values = digits.shares([run[key] for run in said[row]])
        right.plot([i] * len(values), values, marker, color=colour, label=key if i == 0 else None)
right.set_xticks(range(3), [row.replace(" ", "\n") for row in voices.CANDIDATES])
right.set(xlabel="impostors come from", ylabel="accuracy", ylim=(0, 1.02), xlim=(-0.4, 2.4))
right.legend(loc="center left", bbox_to_anchor=(0, 0.62))
plt.show()
print("held-out digits:", {row: round(float(v.mean()), 3) for row, v in by_speaker.items()})

# %% [markdown]
# **Left:** the mean over six hides that speakers differ far more than rows do. CPC is ahead of MFCC on george and nicolas, and its settings were chosen on those two; on the four others it is behind. So the honest reading of its mean is "no better than MFCC". **Right:** the same question as in section 6, on real voices. Where impostors come from one voice, or from the recording itself, the voice is read less well, and the *prompt* better: what (5) takes from one side it leaves for the other.
#
# ## 10. Pictures
#
# A picture has no time, but an order of rows will do. Hénaff et al. cut it into overlapping patches, encode each by itself, and let the context of patch $(i, j)$, which has seen its row and those above, pick the codes of the patches below it: $z_{i+k,j}$. Impostors are patches of the same row in other places and pictures.

# %%
scenes = Scenes(size=32)
picture = scenes.render(scenes.sample(1, torch.Generator(device).manual_seed(5)))
grid = overlapping_patches(picture, 8, 4)[0]  # (7, 7, 3, 8, 8)
figure = plot.images(grid[::2].flatten(0, 1), columns=7)

# %%
PATCH_STEPS = budget(cpu=100, gpu=1500, quick=2)
LABELLED = budget(cpu=600, quick=60)
sets = [scenes.sample(LABELLED, torch.Generator(device).manual_seed(s)) for s in (70, 71)]
x, x_test = (scenes.render(s) for s in sets)


def some_pictures(g):
    return scenes.render(scenes.sample(budget(cpu=24, quick=4), g))


patch_probe = {}  # (row, label) -> one accuracy a seed
for seed in SEEDS:
    torch.manual_seed(seed)
    eye = PatchCPC(ConvNet(8), ahead=3).to(device)
    for row in ("random", "CPC"):
        if row == "CPC":
            fit(eye, some_pictures, PATCH_STEPS, lr=3e-3, seed=seed, label=f"patches, seed {seed}")
        a, b = (encode(eye.eval(), v) for v in (x, x_test))
        for label in ("shape", "colour", "size"):
            y, y_test = (getattr(s, label)[:, 0] for s in sets)
            patch_probe.setdefault((row, label), []).append(linear_probe(a, y, b, y_test, strength=0.1))
for label, chance in (("shape", 3), ("colour", 8), ("size", 2)):
    values = {row: f"{np.mean(patch_probe[row, label]):.3f}" for row in ("random", "CPC")}
    print(f"{label:7} chance {1 / chance:.3f}; mean code of a random tower {values['random']}, of CPC {values['CPC']}")

# %% [markdown]
# The probe reads the mean of a picture's codes. Colour needs no learning: it survives any convolution. Size gains most: a patch of eight pixels does not show it, but it is what tells how far down an object goes. Shape, which a mean over small patches nearly hides, is read badly before and after. The paper works on ImageNet with a tower a thousand times as large.
#
# ## 11. Claims


# %%
def mean_sd(values, digits=2):
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.{digits}f}"


def beyond(a, b):
    """Paired over seeds: the mean difference exceeds two standard deviations."""
    d = np.asarray(a) - np.asarray(b)
    return bool(len(d) > 1 and d.mean() > 2 * d.std(ddof=1))


def contexts(name, label):
    return read[name, "context", label]


def rows_of(names, label):
    return ", ".join(f"{name} {mean_sd(contexts(name, label))}" for name in names)


claim(
    "cpc-noise",
    says="CPC discards low-level information and noise that a model of p(x|c) keeps",
    source="Oord et al. 2018, sec. 1; the slides; eq. (2)",
    measured="background from the codes, chance 0.33: "
    + ", ".join(f"{n} {mean_sd(read[n, 'code', 'background'])}" for n in ("pixels", "any object"))
    + f", random {read['random', 'code', 'background'][0]:.2f}",
    holds=beyond(read["pixels", "code", "background"], read["any object", "code", "background"]),
    note=f"films of 16 x 16 pixels, {FILM_STEPS} steps, the same encoder and GRU; squared error for p(x|c); 3 seeds",
)
claim(
    "cpc-shared",
    says="and keeps what the future shares with the past",
    source="Oord et al. 2018, sec. 1; eq. (2)",
    measured="which way it runs, from contexts, chance 0.5: "
    + rows_of(("pixels", "any object", "one film"), "which way"),
    holds=beyond(contexts("any object", "which way"), contexts("pixels", "which way")),
    note="no single frame shows it",
)
claim(
    "cpc-negatives-films",
    says="negatives of the same speaker keep the speaker out of the representation",
    source="eq. (5); Oord et al. 2018, sec. 3.1, compare sources of negatives",
    measured="who, from contexts, chance 0.04: "
    + rows_of(("any object", "one object", "one film"), "who")
    + f", random {contexts('random', 'who')[0]:.2f}",
    holds=all(beyond(contexts("any object", "who"), contexts(n, "who")) for n in ("one object", "one film")),
    note="films; both kinds of close negatives must fall below negatives of any object",
)


def hits_of(row):
    """Of each unseen recording, how often its voice is named rightly over the seeds."""
    return np.array([[int(h) for h in run["voice"]] for run in said[row]]).mean(axis=0)


falls = {row: interval(hits_of("any voice") - hits_of(row)) for row in ("one voice", "one recording")}
claim(
    "cpc-negatives-voices",
    says="the same, on real speech",
    source="eq. (5)",
    measured="voice (6), unseen prompts: "
    + ", ".join(f"{row} {cell(of_voices(row, 'voice'))}" for row in voices.CANDIDATES)
    + f"; log-mel {of_voices('log-mel', 'voice')[0].mean():.3f}; any voice minus "
    + ", ".join(f"{row} [{low:+.3f}, {high:+.3f}]" for row, (low, high) in falls.items()),
    holds=all(low > 0 for low, _ in falls.values()),
    note="both must fall, paired by recording; "
    + ", ".join(f"{row}: {len(said[row])} seeds" for row in voices.CANDIDATES),
)
over_random = interval(hits_of("any voice") - hits_of("random"))
claim(
    "cpc-voice",
    says="a linear head on CPC names the speaker (97.4 %) where one on random codes cannot (1.87 %)",
    source="Oord et al. 2018, table 1",
    measured=f"voice (6), unseen prompts: CPC {cell(of_voices('any voice', 'voice'))}, "
    f"random {cell(of_voices('random', 'voice'))}, log-mel {cell(of_voices('log-mel', 'voice'))}; "
    f"CPC minus random [{over_random[0]:+.3f}, {over_random[1]:+.3f}]",
    holds=hits_of("any voice").mean() >= 0.95 and over_random[0] > 0,
    note="holds if CPC is at 0.95 or above and better than random codes, paired by recording; six studio voices are "
    "told apart by their spectra, so that random codes are far from helpless; the paper has 251 speakers",
)
best = {row: of_digits(row, "digit")[0].mean() for row in ("log-mel", "MFCC", "random")}
hardest = max(best, key=best.get)
gain = by_speaker["CPC"] - by_speaker[hardest]
low, high = interval(gain)
over_log_mel = interval(by_speaker["CPC"] - by_speaker["log-mel"])
claim(
    "cpc-digits",
    says="a linear head on CPC names what is said better than on spectra or random codes",
    source="Oord et al. 2018, table 1 (phones: 27.6 random, 39.7 MFCC, 64.6 CPC, 74.6 supervised)",
    measured=f"digits of a held-out speaker: CPC {cell(of_digits('CPC', 'digit'))}; "
    + ", ".join(f"{k} {v:.3f}" for k, v in best.items())
    + f"; CPC minus {hardest} {gain.mean():+.3f} [{low:+.3f}, {high:+.3f}], "
    + f"minus log-mel [{over_log_mel[0]:+.3f}, {over_log_mel[1]:+.3f}]",
    holds=low > 0,
    note="against the best of the three, interval over six speakers; CPC has heard the held-out speaker without "
    f"labels ({each_speaker('CPC, five speakers').mean():.3f} where it has not, one seed), and its settings were "
    "chosen on two of the six; "
    f"{len(told['CPC'])} seeds; 22 minutes of speech against 100 hours",
)
tuned, scratch = (each_speaker(row, "tuned") for row in ("CPC", "random"))
low, high = interval(tuned - scratch)
claim(
    "cpc-finetune",
    says="pre-training with CPC helps a network that is then trained with labels",
    source="Hénaff et al. 2020 (pictures); not in Oord et al., table 1",
    measured=f"digits of a held-out speaker: fine-tuned {tuned.mean():.3f}, from scratch {scratch.mean():.3f}, "
    f"difference {(tuned - scratch).mean():+.3f} [{low:+.3f}, {high:+.3f}]",
    holds=low > 0,
    note="interval over six speakers; 150 steps of each; CPC has heard the held-out speaker without labels; "
    f"{len(told['CPC'])} and {len(told['random'])} seeds",
)
claim(
    "cpc-axis",
    says="a softmax over the wrong axis makes a worse representation",
    source="an issue of the re-implementation; eq. (8)",
    measured=f"real one of 64 picked: right axis {mean_sd(axis['any object'])}, wrong {mean_sd(axis['wrong axis'])}; "
    + "; ".join(f"{k}: {rows_of(('any object', 'wrong axis'), k)}" for k in ("who", "where", "which way")),
    holds=all(beyond(contexts("any object", k), contexts("wrong axis", k)) for k in ("who", "where", "which way")),
    note="by (8) both losses learn the same ratio up to a factor; all three probes must fall",
)
claim(
    "cpc-pictures",
    says="patch CPC learns features that a linear probe reads classes from",
    source="Hénaff et al. 2020, table 1",
    measured="; ".join(
        f"{k}: random tower {mean_sd(patch_probe['random', k])}, CPC {mean_sd(patch_probe['CPC', k])}"
        for k in ("shape", "colour", "size")
    ),
    holds=beyond(patch_probe["CPC", "shape"], patch_probe["random", "shape"]),
    note=f"rendered scenes, {PATCH_STEPS} steps, mean of patch codes; must gain on shape",
)

# %% [markdown]
# ## 12. Doubts
#
# **What the released code does differently**
# - The paper's score is $z^\top W_k c$. The released code for speech takes the *mean* over coordinates of the product, a division by $D$ that acts as a temperature, and by default replaces each $W_k$ by a small Transformer.
# - Its 128 negatives are the same for all twelve steps, and may contain the answer: (9). "Negatives of the same speaker" is no option of its loss but of the sampler that fills the batch, as in our arm *one object*.
# - A small Keras example asks yes or no of one pair at a time, by a sigmoid of a mean: not InfoNCE, and users report accuracies at chance.
# - Dropout after the recurrent network was reported as harmful by users of a version for text.
#
# **What differs here.** Log-mel input instead of raw samples; 22 to 141 minutes of speech instead of 100 hours; minutes of training. The held-out digits have been heard by CPC, without labels, in all rows of the table but one (`python -m minilip.studies.cpc.digits`).
#
# **What goes wrong in practice**
# - *The loss is low and the codes know only who speaks.* Impostors from everywhere make that the cheapest answer. Look at (5), then at your sampler.
# - *The context peeks.* A bidirectional network or a convolution that is not causal sees the answer: the loss falls to 0 at once.
# - *Padding.* Frames of zeros are equal in all recordings, so that no context can pick among them: a floor under the loss.
# - *A table without baselines.* Random weights and spectra are two rows that cost nothing, and the second is hard to beat.
#
# **Read on:** Poole et al. 2019 for what the bound can show; Kharitonov et al. 2021 for views of sound, which lead to [lesson 03](03_simclr.ipynb), where views of pictures take the place of the future.
#
# **Now you:** [exercises 02](../exercises/02_cpc.ipynb), with [solutions](../solutions/02_cpc.ipynb).
