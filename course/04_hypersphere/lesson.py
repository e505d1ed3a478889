# %% [markdown]
# # 04 · Alignment and uniformity: what a contrastive loss asks of the hypersphere
#
# **You derive** the limit of InfoNCE for infinitely many negatives and how fast it is reached, the two measures behind it, why the even distribution alone minimises the second, its exact value on every hypersphere, and what caps have that balls have not.
#
# **You train** encoders onto a circle, a sphere and 64 dimensions by each of the two wishes alone and by both, beside NT-Xent.
#
# After this lesson you can
# - split InfoNCE into a term about pairs and a term about everything, and say how many negatives the split needs;
# - measure alignment and uniformity of any encoder, and read the plane they span;
# - say where the floor of each measure lies, and what a value below the floor means;
# - tell what the temperature trades;
# - explain what mutual information leaves out.
#
# *Before this:* lesson 01 (InfoNCE); [lesson 03](03_simclr.ipynb) (SimCLR) helps. *Papers:* Wang and Isola 2020 (alignment and uniformity); Wang and Liu 2021 (the temperature); Tschannen et al. 2020 (the puzzle); Kent 1977 (a fact about distributions on spheres).

# %%
from minilip.course import *

device = setup("04_hypersphere")

# %%
import math
from functools import partial

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from scipy import special
from scipy.optimize import linprog
from scipy.stats import binom, spearmanr
from sklearn.linear_model import LogisticRegression

from minilip.course import plot
from minilip.course.widgets import panel
from minilip.data.drawing import RGB
from minilip.evaluation import encode
from minilip.hypersphere import alignment, uniformity, uniformity_floor
from minilip.infonce import info_nce_negatives
from minilip.nn.vectors import unit
from minilip.studies.hypersphere import plane as study

SEEDS = range(budget(cpu=3, quick=1))
STEPS = budget(cpu=200, gpu=2000, quick=3)
generator = torch.Generator().manual_seed(4)
double = partial(torch.randn, dtype=torch.double, generator=generator)

# %% [markdown]
# ## 1. A question
#
# You are to hang pictures along a round wall. Nobody tells you what they show. You get them in pairs, and all you know is that the two of a pair have something in common. Where do you hang them, so that a visitor who walks along the wall finds an order?

# %%
views = torch.stack(study.pairs(8, generator))  # (2, 8, 3, 32, 32)
figure = plot.images(views.flatten(0, 1), [""] * 8 + [f"pair {i + 1}" for i in range(8)], columns=8)
plt.show()
shared = math.log(study.CONTENTS)
print(f"{study.CONTENTS} contents: two views of one share log {study.CONTENTS} = {shared:.2f} nats")

# %% [markdown]
# Each column is a pair. The two share a *content*: shape, colour, size and quadrant, one of 192 possibilities. All else is *style*, drawn for each picture anew: the turn, the exact place and size, the background. So we know exactly how much information the two views share, and no encoder can find more.
#
# ## 2. A first guess, and how it fails
#
# Hang the two pictures of a pair side by side. An encoder puts every picture on the unit circle, and we train it to make the squared distance of partners small. The loss is a mean of squares, the best it can be is 0.

# %%
exam = study.Examination()
COLOURS = [tuple(c) for c in RGB.tolist()]


def trained(arm, seed=0, dim=study.DIM, steps=STEPS, label=""):
    model = study.build(arm, seed, dim).to(device)
    history = study.train(model, seed, steps, label=label)
    return model.cpu(), history


def on_circle(ax, z, title):
    """Pictures at their angle, each in its own colour; dots are moved off the circle a little, at random."""
    radius = 1 + 0.16 * torch.rand(len(z), 1, generator=torch.Generator().manual_seed(0))
    colours = [COLOURS[c] for c in exam.content["colour"][: len(z)].tolist()]
    ax.scatter(*(radius * z).T, s=9, c=colours, edgecolors="#555555", linewidths=0.2)
    ax.add_patch(plt.Circle((0, 0), 1, fill=False, color="#777777", linewidth=0.8))
    ax.set(aspect="equal", xticks=[], yticks=[], xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), title=title)
    ax.axis("off")


together, history = trained(study.Arm(uniform=0.0), dim=2, label="partners together")
z = encode(together.project, exam.images[:1000])
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.9))
left.plot(range(1, len(history.loss) + 1), history.loss, color=plot.BLUE)
left.set(xlabel="step", ylabel="mean squared distance of partners", yscale="log")
on_circle(right, z, "1,000 pictures on the circle")
plt.show()
print(f"squared distance of partners {alignment(*(encode(together.project, v) for v in exam.views)):.5f}")

# %% [markdown]
# The loss is nearly perfect, and the wall is bare: all pictures hang on one nail. The first guess asks for something and forbids nothing. This end is called *collapse*.
#
# ## 3. The idea
#
# > Partners close together, and everything as far apart from everything else as the wall allows.
#
# In one line of mathematics and in one line of code, for embeddings $x$ and $y$ of the two views,
#
# $$\underbrace{\mathbb E\,\lVert x - y\rVert^2}_{\text{alignment}} \;+\; \underbrace{\log \mathbb E\, e^{-2\lVert x - x'\rVert^2}}_{\text{uniformity}}, \qquad \texttt{alignment(x, y) + uniformity(x)}.$$
#
# Two pictures close to each other cost up to 1 inside the second mean, two distant ones nothing, so it rests when the crowd has spread. Where does this come from? It is what InfoNCE turns into.
#
# ## 4. Derivation
#
# Letters: $x$, $y$ the unit vectors that the encoder makes of two views of one picture (the slides write $f(x)$ and $f(y)$); $x^-_1, \dots, x^-_M$ those of $M$ other pictures, $x'$ that of any other; $B$ batch, $D$ dimension, $\tau$ temperature, $t$ the sharpness of a Gaussian; $\mu$ the distribution of embeddings, $\sigma$ the even one on the sphere.
#
# ### 4.1 Two terms
#
# Equation (11) of lesson 01, with these letters:
#
# $$\mathcal L_M = \mathbb E\left[-\log\frac{e^{x^\top y/\tau}}{e^{x^\top y/\tau} + \sum_{m=1}^{M} e^{x^\top x^-_m/\tau}}\right]. \tag{1}$$
#
# It grows with $M$ without end: among more candidates it is harder to be right. Subtract $\log M$, which is the same as dividing the sum by $M$, and take the fraction apart:
#
# $$\mathcal L_M - \log M = -\,\mathbb E\,\frac{x^\top y}{\tau} + \mathbb E \log\Big(\frac{e^{x^\top y/\tau}}{M} + \frac1M\sum_{m=1}^M e^{x^\top x^-_m/\tau}\Big). \tag{2}$$
#
# Nothing has been left out so far. (As in lesson 01, the slides' formulas have $\exp(\dots)/\tau$ where the temperature belongs inside.)

# %%
# check (1): the library's InfoNCE on the left, the probability of the partner pair by pair on the right
x, y, negatives = (unit(double(*shape)) for shape in ((4, 6), (4, 6), (9, 6)))
probability, halves = [], []
for i in range(4):
    partner, strangers = math.exp(x[i] @ y[i] / 0.3), [math.exp(x[i] @ n / 0.3) for n in negatives]
    probability.append(partner / (partner + sum(strangers)))
    halves.append(-float(x[i] @ y[i]) / 0.3 + math.log(partner / 9 + sum(strangers) / 9))
loss = info_nce_negatives(x, y, negatives, 0.3)
same("(1)", loss, -sum(map(math.log, probability)) / 4)

# check (2): the same loss without log M on the left, its two terms on the right
same("(2)", loss - math.log(9), sum(halves) / 4)

# %% [markdown]
# ### 4.2 The limit
#
# Hold $x$ and $y$ fixed and let $M$ grow. The first summand inside the logarithm is at most $e^{1/\tau}/M$ and vanishes. The second is a mean of $M$ independent numbers, so by the law of large numbers it tends, with probability 1, to its expectation, the *potential* at $x$:
#
# $$P(x) = \mathbb E_{x'}\, e^{x^\top x'/\tau}.$$
#
# A logarithm is continuous, so it tends to $\log P(x)$. May we take the limit inside the outer expectation? Unit vectors have cosines between $-1$ and $1$. So what stands inside the logarithm lies between $e^{-1/\tau}$ and $2e^{1/\tau}$ whatever $M$ is, its logarithm is bounded by a constant, and the theorem of dominated convergence says yes. (For vectors of any length it could fail: here the sphere does its first service.)
#
# $$\lim_{M\to\infty} \mathcal L_M - \log M = \underbrace{-\,\mathbb E\,\frac{x^\top y}{\tau}}_{\text{about partners}} \;+\; \underbrace{\mathbb E_x \log P(x)}_{\text{about everybody}} \;=:\; \mathcal L_\infty. \tag{3}$$
#
# (The slides have $-\log$ in the second term. With that sign the term would reward a crowd.)
#
# ### 4.3 How fast?
#
# Write $a = e^{x^\top y/\tau}$ for the partner, $P + \delta$ for the mean over negatives, $V$ for the variance of one $e^{x^\top x'/\tau}$. Then $\mathbb E\,\delta = 0$, $\mathbb E\,\delta^2 = V/M$, and $\mathbb E\,\delta^3$ is of order $1/M^2$. Expand the logarithm around $P$ to second order:
#
# $$\mathbb E\log\Big(P + \delta + \frac aM\Big) = \log P + \frac1P\cdot\frac aM - \frac1{2P^2}\cdot\frac VM + O\big(M^{-2}\big).$$
#
# So the loss differs from its limit by a *bias of order $1/M$*, and we know its constant:
#
# $$\mathcal L_M - \log M - \mathcal L_\infty = \frac1M\,\mathbb E\Big[\frac{a}{P} - \frac{V}{2P^2}\Big] + O\big(M^{-2}\big). \tag{4}$$
#
# The partner counts as one more close neighbour, which raises the loss; a logarithm is concave, which lowers it. The first is usually the larger one: it says how many strangers the partner outweighs, and for a cold loss that can be as many as $e^{1/\tau}$.

# %%
# check (3), (4): a world of two embeddings, where the number of negatives of the first kind is binomial: no sampling
kinds, chance, tau = torch.tensor([[1.0, 0.0], [0.6, 0.8]]).double(), torch.tensor([0.3, 0.7]).double(), 0.5
e = (kinds @ kinds.T / tau).exp()  # (2, 2); every picture coincides with its partner
P = e @ chance


def exact(M):
    first = torch.arange(M + 1).double()
    inside = (e.diagonal()[:, None] + e[:, :1] * first + e[:, 1:] * (M - first)) / M  # (2, M + 1)
    return float(chance @ (inside.log() @ torch.tensor(binom.pmf(first.numpy(), M, 0.3)))) - 1 / tau


limit = float(chance @ P.log()) - 1 / tau
same("(3), M = 200,000", exact(200_000), limit, tolerance=1e-4)
V = (e - P[:, None]).square() @ chance
same("(4), M = 20,000", 20_000 * (exact(20_000) - limit), chance @ (e.diagonal() / P - V / (2 * P**2)), tolerance=1e-3)

# %% [markdown]
# ### 4.4 Cosines become distances
#
# For unit vectors $\lVert x - y\rVert^2 = 2 - 2\,x^\top y$. Put this into (3), with $t = \frac{1}{2\tau}$:
#
# $$-\frac{x^\top y}{\tau} = t\,\lVert x - y\rVert^2 - \frac1\tau, \qquad P(x) = e^{1/\tau}\;\mathbb E_{x'}\,e^{-t\lVert x - x'\rVert^2}. \tag{5}$$
#
# The constants $\pm 1/\tau$ cancel. One step is left. In (3) the logarithm stands inside the mean over $x$; Wang and Isola move it outside. A logarithm is concave, so by Jensen's inequality this can only raise the value:
#
# $$\mathcal L_\infty \;\le\; t\,\mathcal L_{\text{align}} + \mathcal L_{\text{uniform}}, \qquad
#   \mathcal L_{\text{align}} = \mathbb E\,\lVert x - y\rVert^2, \quad
#   \mathcal L_{\text{uniform}} = \log \mathbb E\,e^{-t\lVert x - x'\rVert^2}, \tag{6}$$
#
# with equality where the potential is the same everywhere. So the two measures are InfoNCE without the sampling, and with $t = 2$ they belong to $\tau = 0.25$ and to the weights 2 and 1. Wang and Isola allow any power $\lVert x - y\rVert^\alpha$, any $t$ and any weights; $\alpha = t = 2$ and weights 1 and 1 are what their code comes with.

# %%
# check (5): the softmax's exponents on the left, a Gaussian of distances on the right
tau, t = 0.4, 1 / 0.8
x, others = unit(double(1, 5)), unit(double(50, 5))
distances = (x - others).square().sum(dim=1)
same("(5)", (others @ x[0] / tau).exp().mean(), math.exp(1 / tau) * (-t * distances).exp().mean())


# check (6): a lumpy world and an even one; the limit (3) on the left
def both_sides(x, y):
    potential = (x @ x.T / tau).exp().mean(dim=1)  # x' may be x itself here: the world is these points
    limit = -(x * y).sum(dim=1).mean() / tau + potential.log().mean()
    gaussian = torch.cdist(x, x).square().mul(-t).exp().mean().log()
    return float(limit), float(t * alignment(x, y) + gaussian)


angles = torch.arange(12).double() * math.pi / 6
even = torch.stack([angles.cos(), angles.sin()], dim=1)
same("(6), even: equal", *both_sides(even, even.roll(1, dims=0)))
print("(6), lumpy: {:.4f} is below {:.4f}".format(*both_sides(unit(double(12, 2) + 1), unit(double(12, 2) + 1))))

# %% [markdown]
# ### 4.5 The floor
#
# The best alignment is 0. What is the best uniformity? Suppose first that embeddings are even, $x, x' \sim \sigma$, and write $s = x^\top x'$. By symmetry $s$ has the distribution of one coordinate of $x$. Its moments follow from a trick without integrals. A Gaussian vector is $r\,x$ with a length $r$ that is independent of its direction. So $\mathbb E\,g_1^{2k} = \mathbb E\,r^{2k}\; \mathbb E\,s^{2k}$, and both Gaussian moments are known:
#
# $$\mathbb E\,s^{2k} = \frac{1\cdot 3\cdots(2k-1)}{D(D+2)\cdots(D+2k-2)}, \qquad \mathbb E\,s^{2k+1} = 0.$$
#
# Now expand $e^{-t\lVert x - x'\rVert^2} = e^{-2t}\,e^{2ts}$ in powers of $s$ and collect:
#
# $$\mathcal L_{\text{uniform}}(\sigma) = -2t + \log\sum_{k=0}^\infty \frac{t^{2k}}{k!\;\frac D2\big(\frac D2+1\big)\cdots\big(\frac D2+k-1\big)} = -2t + \log\Big[\Gamma\big(\tfrac D2\big)\, t^{1-D/2}\, I_{D/2-1}(2t)\Big], \tag{7}$$
#
# where the series is the one that defines the Bessel function $I$. On the circle it is $-2t + \log I_0(2t)$. As $D$ grows, all but the first term vanish: random directions are orthogonal, at squared distance 2, and the floor nears $-2t$, which is $-4$ for $t = 2$.

# %%
# check (7): the library's series on the left, scipy's Bessel function on the right
for D in (2, 3, 64):
    bessel = special.gammaln(D / 2) + (1 - D / 2) * math.log(2) + math.log(special.ive(D / 2 - 1, 4.0))
    same(f"(7), D = {D}", uniformity_floor(D, t=2), bessel)  # ive is I(4) e^-4, so that -2 t is in it
cosines = unit(double(200_000, 3))[:, 0]
same("(7), D = 3, drawn", uniformity_floor(3, t=2), (4 * cosines - 4).exp().mean().log(), tolerance=0.01)

# %% [markdown]
# ### 4.6 Nobody lies below, and nobody else lies on it
#
# Take any distribution $\mu$ on the sphere. The trick is that a power of a dot product is a dot product of powers: $(x^\top x')^k = \langle x^{\otimes k}, x'^{\otimes k}\rangle$, where $x^{\otimes k}$ has as entries all products of $k$ coordinates. So the mean potential is a sum of squares of *moments* $m_k = \mathbb E\,x^{\otimes k}$:
#
# $$\mathbb E_{x, x' \sim \mu}\; e^{2t\,x^\top x'} = \sum_{k=0}^\infty \frac{(2t)^k}{k!}\, \lVert m_k(\mu)\rVert^2 .$$
#
# Write $\mu = \sigma + (\mu - \sigma)$. The mixed term is $\int P_\sigma\, \mathrm d(\mu - \sigma)$; the even distribution's potential $P_\sigma$ is the same everywhere, and $\mu - \sigma$ has total mass 0, so it is zero. What remains:
#
# $$e^{\mathcal L_{\text{uniform}}(\mu)} = e^{\mathcal L_{\text{uniform}}(\sigma)} + e^{-2t}\sum_{k=1}^\infty \frac{(2t)^k}{k!}\, \lVert m_k(\mu) - m_k(\sigma)\rVert^2. \tag{8}$$
#
# Every coefficient is positive. So $\sigma$ is a minimiser, and a second one would have all moments of $\sigma$, hence the same mean of every polynomial. Polynomials come as close as we like to any continuous function on a sphere (Weierstrass), so it would be $\sigma$. Small $t$ looks at the mean alone ($k = 1$), large $t$ at fine detail. On the circle the moments are Fourier coefficients $\varphi_n = \mathbb E\,e^{in\theta}$, and (8) reads
#
# $$e^{\mathcal L_{\text{uniform}}} = e^{-2t}\Big[I_0(2t) + 2\sum_{n\ge1} I_n(2t)\,|\varphi_n|^2\Big]. \tag{8'}$$

# %%
# check (8): four weighted points on a sphere in 3 dimensions; sigma is a quadrature, exact for polynomials
t, weights, points = 0.5, torch.tensor([0.4, 0.3, 0.2, 0.1]).double(), unit(double(4, 3))
heights, w = (torch.tensor(v) for v in np.polynomial.legendre.leggauss(8))
around = torch.arange(16).double() * math.pi / 8
ring = (1 - heights**2).sqrt()[:, None]
grid = torch.stack([ring * around.cos(), ring * around.sin(), heights[:, None].expand(8, 16)], dim=2).view(-1, 3)
grid_weights = (w / 2).repeat_interleave(16) / 16
series, powers, grid_powers = 0.0, torch.ones(4, 1).double(), torch.ones(128, 1).double()
for k in range(1, 11):
    powers = (powers[:, :, None] * points[:, None]).flatten(1)  # (4, 3^k)
    grid_powers = (grid_powers[:, :, None] * grid[:, None]).flatten(1)  # (128, 3^k)
    series += (2 * t) ** k / math.factorial(k) * float((weights @ powers - grid_weights @ grid_powers).square().sum())
gaussian = (-t * torch.cdist(points, points).square()).exp()
same("(8)", weights @ gaussian @ weights, math.exp(uniformity_floor(3, t)) + math.exp(-2 * t) * series)

# check (8'): seven points on a circle, t = 2
angles = 2 * math.pi * torch.rand(7, generator=generator, dtype=torch.double)
circle = torch.stack([angles.cos(), angles.sin()], dim=1)
n = np.arange(1, 40)
phi = np.abs(np.exp(1j * np.outer(n, angles.numpy())).mean(axis=1)) ** 2
same("(8')", (-2 * torch.cdist(circle, circle).square()).exp().mean(), special.ive(0, 4) + 2 * special.ive(n, 4) @ phi)

# %% [markdown]
# **With the logarithm inside.** InfoNCE's own second term, $\mathbb E_x\log P(x)$, lies below $\log\mathbb E_x P(x)$, so (8) does not settle it. But $\sigma$ minimises it too. Divide by the constant $P_\sigma$: then $e^{x^\top x'/\tau}/P_\sigma$ is the density of a step from $x'$ to $x$. Kent (1977) shows that this step is two equal steps $S$ in a row. For a $\mu$ with density $p$, Jensen's inequality on the second step and $\mathrm{KL}\ge0$ give
#
# $$\mathbb E_{x\sim\mu}\log\frac{P(x)}{P_\sigma} = \int p\,\log S(Sp)\,\mathrm d\sigma \;\ge\; \int p\;S(\log Sp)\,\mathrm d\sigma = \int Sp\,\log Sp\,\mathrm d\sigma \;\ge\; 0. \tag{9}$$

# %%
# check (9): on a circle of 360 places; the Fourier coefficients of half a step are roots of those of the whole one
tau, place = 0.25, np.arange(360) * math.pi / 180
orders = np.arange(1, 60)
root = np.sqrt(special.ive(orders, 1 / tau) / special.ive(0, 1 / tau))
half = 1 + 2 * np.cos(np.outer(place, orders)) @ root  # (360,) the density of S against the even one
S = half[(np.arange(360)[:, None] - np.arange(360)) % 360] / 360
step = np.exp(np.cos(place[:, None] - place) / tau)  # (360, 360)
same("(9), two half steps", S @ S * 360, step / (special.ive(0, 1 / tau) * math.exp(1 / tau)))
p = np.exp(np.random.default_rng(0).normal(size=360))
p /= p.mean()
left, middle = np.mean(p * np.log(S @ S @ p)), np.mean(S @ p * np.log(S @ p))
print(f"S is nowhere below {half.min():.4f}; for a lumpy p: {left:.6f} >= {middle:.6f} >= 0")
assert half.min() > 0 and left >= middle >= 0

# %% [markdown]
# ### 4.7 A batch can lie below the floor
#
# The measure of a batch leaves out the pairs of a vector with itself. Four points in three dimensions can all be at squared distance $\frac{8}{3} > 2$. In general the vectors $x_1, \dots, x_C$ satisfy $\sum_{i, j}\lVert x_i - x_j\rVert^2 = 2C^2 - 2\lVert\sum_i x_i\rVert^2 \le 2C^2$; the mean over $i\ne j$ is at most $\frac{2C}{C-1}$. The exponential is convex, so by Jensen, for any $C$ vectors on any sphere,
#
# $$\mathcal L_{\text{uniform}} \;\ge\; -\frac{2t\,C}{C-1}, \tag{10}$$
#
# with equality for a *regular simplex*, which needs $D \ge C - 1$. This tells the best that any encoder can do in our world. With perfect alignment there are 192 vectors, one for each content, and two random scenes have the same one with probability $1/192$:
#
# $$\mathcal L_{\text{uniform}} \;\ge\; \log\Big(\frac1C + \frac{C-1}{C}\,e^{-2tC/(C-1)}\Big), \qquad C = 192. \tag{11}$$

# %%
# check (10): a regular simplex, made of five corners of a cube's kin; check (11): every scene drawn many times
C = 5
simplex = unit(torch.eye(C).double() - 1 / C)
same("(10)", uniformity(simplex, t=2), -4 * C / (C - 1))
many = simplex.repeat(400, 1)  # with so many, the pairs of a vector with itself count little
same("(11)", uniformity(many, t=2), math.log(1 / C + (C - 1) / C * math.exp(-4 * C / (C - 1))), tolerance=2e-3)
corner = math.log(1 / study.CONTENTS + (1 - 1 / study.CONTENTS) * math.exp(-4 * study.CONTENTS / (study.CONTENTS - 1)))
print(f"the best corner of our world: alignment 0 and uniformity {corner:.2f}")

# %% [markdown]
# ### 4.8 Who is pushed: the temperature
#
# By (14) of lesson 01, InfoNCE shares the push of the query $x_i$ among negatives by a softmax $q_{ij}$ of $x_i^\top x_j/\tau$ in *row* $i$: the colder, the more of it goes to the hardest. Differentiate the uniformity of $B$ vectors: one softmax runs over *all* pairs, and row $i$ gets the share that its potential has in the sum of all,
#
# $$\frac{\partial \mathcal L_{\text{uniform}}}{\partial \lVert x_i - x_j\rVert^2} = -t\,\frac{e^{-t\lVert x_i - x_j\rVert^2}}{\sum_{k\ne l}e^{-t\lVert x_k - x_l\rVert^2}} = -t\;\frac{P_i}{\sum_k P_k}\; q_{ij}, \qquad t = \frac1{2\tau}. \tag{12}$$
#
# Within a row the shares are those of InfoNCE. Between rows they are not: InfoNCE gives every query the same, uniformity gives more to those in a crowd.

# %%
# check (12): autograd through a loop over pairs on the left, softmax times potential on the right
x, tau = unit(double(6, 4)), 0.25
squared = torch.cdist(x, x).square().requires_grad_()
off = ~torch.eye(6, dtype=torch.bool)
total = sum(torch.exp(-2 * squared[i, j]) for i in range(6) for j in range(6) if i != j)
slope = torch.autograd.grad((total / 30).log(), squared)[0]
logits = (x @ x.T / tau).masked_fill(~off, -math.inf)
P = logits.exp().sum(dim=1, keepdim=True)
same("(12)", slope, -2 * P / P.sum() * logits.softmax(dim=1))

# %% [markdown]
# ### 4.9 Why a sphere?
#
# We have used that cosines are bounded and that every place of a sphere looks like every other. There is a third reason, which the slides give in a picture. A *cap* is what lies within some angle of a centre: $\{x : c^\top x \ge \cos\theta\}$. A hyperplane cuts it off,
#
# $$c^\top x - \cos\theta \;\ge\; 0 \text{ inside the cap}, \quad < 0 \text{ everywhere else on the sphere}. \tag{13}$$
#
# So a class that fills a cap can be told from *all the rest* by one linear question, however many other caps there are. In a Euclidean space a class that fills a ball cannot, as soon as it lies in the convex hull of others: a linear function that is positive on all of the hull's corners is positive inside.
#
# The argument has a limit that the slide does not show. If a softmax chooses among *all* classes, disjoint balls are no harder than caps: for balls with centres $c_k$ and radii $r_k$,
#
# $$\lVert x - c_k\rVert^2 - r_k^2 < 0 \text{ in ball } k \text{ alone} \quad\Longrightarrow\quad k = \arg\max_j\; \underbrace{2c_j^\top x - \lVert c_j\rVert^2 + r_j^2}_{\text{linear in } x}, \tag{14}$$
#
# because $\lVert x\rVert^2$ is common to all. So the sphere helps a reader that asks for one class, "is it a cat?", and not one that sorts.

# %%
# check (13), (14): caps and balls of different sizes; who the rule says is inside, and who is
radii, centres = torch.tensor([0.9, 0.3, 0.5]).double(), torch.tensor([[0.0, 0.0], [1.3, 0.0], [0.0, 1.5]]).double()
turn = 2 * math.pi * torch.rand(3, 200, generator=generator, dtype=torch.double)
depth = torch.rand(3, 200, 1, generator=generator, dtype=torch.double).sqrt()
inside = centres[:, None] + radii[:, None, None] * depth * torch.stack([turn.cos(), turn.sin()], dim=2)  # (3, 200, 2)
rule = 2 * inside @ centres.T - centres.square().sum(dim=1) + radii**2
same("(14)", rule.argmax(dim=2), torch.arange(3)[:, None].expand(3, 200))
crowd, centre = unit(double(500, 4)), unit(double(1, 4))[0]
angle = torch.atan2((crowd - crowd @ centre[:, None] * centre).norm(dim=1), crowd @ centre)  # no cosine compared
same("(13)", (crowd @ centre - math.cos(1.2) >= 0).long(), (angle <= 1.2).long())


def separable(points, labels, k):
    """Whether a hyperplane has class k on one side and all others on the other: a linear programme decides."""
    sign = np.where(labels == k, 1.0, -1.0)
    rows = -sign[:, None] * np.concatenate([points, np.ones((len(points), 1))], axis=1)
    return linprog(np.zeros(rows.shape[1]), A_ub=rows, b_ub=-np.ones(len(rows)), bounds=(None, None)).status == 0


CLASSES = 9
labels = np.repeat(np.arange(CLASSES), 30)
lot = np.random.default_rng(1)
turns, depths = 2 * np.pi * lot.random(len(labels)), np.sqrt(lot.random(len(labels)))
cloud = depths[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)  # a disc of radius 1
caps = 2 * np.pi / CLASSES * labels + 0.25 * cloud[:, 0]
caps = np.stack([np.cos(caps), np.sin(caps)], axis=1)
balls = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=2).reshape(-1, 2)[labels] + 0.25 * cloud
judged = {}
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2))
for ax, (name, points) in zip(axes, {"caps on a circle": caps, "balls in a plane": balls}.items()):
    told = [separable(points, labels, k) for k in range(CLASSES)]
    softmax = LogisticRegression(C=1e4, max_iter=5000).fit(points, labels).score(points, labels)
    judged[name] = (sum(told), softmax)
    for k in range(CLASSES):
        ax.scatter(*points[labels == k].T, s=6, color=plot.BLUE if told[k] else plot.RED)
    ax.set(aspect="equal", title=name, xlabel="first coordinate", ylabel="second coordinate")
axes[1].scatter([], [], s=6, color=plot.BLUE, label="a line cuts it off")
axes[1].scatter([], [], s=6, color=plot.RED, label="no line does")
axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()
for name, (told, softmax) in judged.items():
    print(f"{name}: {told} of {CLASSES} classes can be cut off by a line; a softmax over all is right on {softmax:.1%}")

# %% [markdown]
# Look at the red ball in the middle. On the circle no class is in the middle.
#
# ## 5. The method in a few lines


# %%
def alignment_from_scratch(x, y):
    return (x - y).square().sum(dim=1).mean()


def uniformity_from_scratch(x, t=2.0):
    exponents = []
    for i in range(len(x)):
        for j in range(i):  # every pair once, nobody with itself
            exponents.append(-t * (x[i] - x[j]).square().sum())
    return torch.logsumexp(torch.stack(exponents), dim=0) - math.log(len(exponents))


x, y = unit(double(40, 8)), unit(double(40, 8))
same("alignment, and the library's", alignment_from_scratch(x, y), alignment(x, y))
same("uniformity, and the library's", uniformity_from_scratch(x), uniformity(x))

# %%
show(uniformity)

# %% [markdown]
# Two numerical points. The logarithm is taken of a sum of exponentials in one go: for $t = 100$ every single $e^{-t\lVert x - x'\rVert^2}$ is 0 in float32, and the plain formula says $-\infty$. And distances come from one matrix product, after the mean has been taken away, which moves no two points apart.
#
# ## 6. Train
#
# The same tower, head and start for every objective; only the objective differs.
#
# | name | objective | settings here | released code |
# |---|---|---|---|
# | NT-Xent | lesson 03's loss, $2B - 2$ negatives | $\tau = 0.25$ | (a contrastive baseline) |
# | alignment and uniformity | $\lambda_a\mathcal L_{\text{align}} + \lambda_u\frac12[\mathcal L_{\text{uniform}}(x) + \mathcal L_{\text{uniform}}(y)]$ | $\lambda_a = \lambda_u = 1$, $\alpha = t = 2$ | the same |
# | alignment alone, uniformity alone | one of the weights 0 | | |
# | batch, network, steps | | 64; ConvNet, head of two layers, $D = 64$; AdamW, 200 steps here, 400 in the study | 768; small AlexNet, $D = 128$; SGD, 200 epochs of STL-10 |

# %%
contrastive, histories = {}, {}
for seed in SEEDS:
    contrastive[seed], histories[seed] = trained(study.Arm(0.25), seed, label=f"NT-Xent, seed {seed}")
direct, direct_history = trained(study.Arm(), label="alignment and uniformity")

figure, axes = plt.subplots(1, 2, figsize=(8, 2.9))
for name, colour, history in (("NT-Xent, τ = 0.25", plot.BLUE, histories[0]), ("direct", plot.GREEN, direct_history)):
    for ax, measure in zip(axes, ("alignment", "uniformity")):
        ax.plot(range(1, len(history.loss) + 1), history.metrics[measure], color=colour, linewidth=1, label=name)
        ax.set(xlabel="step", ylabel=f"{measure}, of the batch")
plot.line(axes[0], 0, "perfect")
plot.line(axes[1], corner, "best with 192 contents, (11)")
axes[0].legend()
plt.show()

# %% [markdown]
# Both curves fall for both objectives, alignment within some thirty steps, uniformity for longer. (In training, BatchNorm spreads even an untrained batch, so uniformity starts at $-2.2$ and not at 0.) The direct objective ends a little more even and a little less aligned: by (6) its weight on alignment is half of what $\tau = 0.25$ amounts to.
#
# ### The limit, with a trained encoder
#
# Now (3) and (4) with real embeddings. A pool of scenes is the world, so $P(x)$ is a mean over the pool and $\mathcal L_\infty$ is exact. For each $M$ we draw negatives from the pool and compute (1) as it stands.

# %%
POOL, QUERIES = budget(cpu=8192, quick=512), budget(cpu=1024, quick=64)
MS = [4**k for k in range(budget(cpu=7, quick=3))]  # 1 ... 4096
TAUS = (0.05, 0.1, 0.25, 1.0)


def limit_and_losses(model, tau, seed):
    """L_inf, the constant of (4), and L_M - log M for each M."""
    draw = torch.Generator().manual_seed(100 + seed)
    pool = encode(model.project, study.WORLD.render(study.WORLD.sample(POOL, draw))).double()
    x, y = (encode(model.project, v).double() for v in study.pairs(QUERIES, draw))
    positive, logits = (x * y).sum(dim=1) / tau, x @ pool.T / tau  # (Q,), (Q, K)
    log_P = logits.logsumexp(dim=1) - math.log(POOL)
    a, V = (positive - log_P).exp(), (2 * logits).logsumexp(dim=1) - math.log(POOL) - 2 * log_P  # over P, and over P^2
    constant = float((a - (V.exp() - 1) / 2).mean())
    losses = []
    for M in MS:
        repeats = []
        for _ in range(max(1, 1024 // M)):
            chosen = logits.gather(1, torch.randint(POOL, (QUERIES, M), generator=draw))  # (Q, M)
            all_scores = torch.cat([positive[:, None], chosen], dim=1)
            repeats.append(float((all_scores.logsumexp(dim=1) - positive).mean()))
        losses.append(np.mean(repeats) - math.log(M))
    return float((log_P - positive).mean()), constant, np.array(losses)


limits = {(tau, seed): limit_and_losses(contrastive[seed], tau, seed) for tau in TAUS for seed in SEEDS}
off = {tau: [abs(limits[tau, s][2][-1] / limits[tau, s][0] - 1) for s in SEEDS] for tau in TAUS}
figure, ax = plt.subplots(figsize=(8, 3.3))
for tau, colour in zip(TAUS, (plot.RED, plot.ORANGE, plot.BLUE, plot.BLACK)):
    L, constant, losses = limits[tau, 0]
    ax.loglog(MS, np.abs(losses - L), "o", color=colour, label=f"τ = {tau:g}")
    ax.loglog(MS, abs(constant) / np.array(MS), "--", color=colour, linewidth=0.9)
ax.plot([], [], "--", color="#777777", label="equation (4)")
ax.set(xlabel="negatives M", ylabel="|loss - log M - limit| (nats)")
ax.legend(loc="lower left", ncol=2)
plt.show()
for tau in TAUS:
    L, constant, _ = limits[tau, 0]
    print(f"τ = {tau:<5g} limit {L:8.3f} nats; at M = {MS[-1]} off by {np.mean(off[tau]):.2%}; "
          f"by (4), 1 % takes M = {abs(constant / L) / 0.01:,.0f}")

# %% [markdown]
# The dots fall on the dashed lines once $M$ is a few hundred: (4) tells the distance before anything is drawn, and at $M = 4096$ the limit is reached. The two coldest losses have nearly the same line. In this world one stranger in 192 has the partner's content and lies where the partner lies, so $P \gtrsim a/192$, and the constant $a/P$ cannot grow much beyond 192: many means *many against the number of contents*.

# %%
# the same by (4) where no two pictures share a content: 64 dimensions, perfectly even, partners at a cosine of 0.95
for tau in TAUS:
    log_P = 1 / tau + uniformity_floor(study.DIM, 1 / (2 * tau))  # (5)
    log_square = 2 / tau + uniformity_floor(study.DIM, 1 / tau)
    constant = math.exp(0.95 / tau - log_P) - (math.exp(log_square - 2 * log_P) - 1) / 2
    print(f"τ = {tau:<5g} 1 % of the limit takes M = {constant / abs(log_P - 0.95 / tau) / 0.01:,.0f}")

# %% [markdown]
# Without duplicates the partner of a cold loss weighs as much as all strangers of a lifetime. So "InfoNCE is alignment and uniformity" is a statement about warm losses or large batches. A small batch at a low temperature asks something else: whether the partner beats the *nearest* other, (15) of lesson 01.
#
# ### On the circle
#
# Back to the wall. The three objectives, two dimensions, and each picture drawn in its own colour.

# %%
OBJECTIVES = {
    "alignment alone": study.Arm(uniform=0.0),
    "uniformity alone": study.Arm(align=0.0),
    "both": study.Arm(),
}
figure, axes = plt.subplots(1, 3, figsize=(8, 2.9))
for ax, (name, arm) in zip(axes, OBJECTIVES.items()):
    model = together if name == "alignment alone" else trained(arm, dim=2, label=f"circle, {name}")[0]
    z = encode(model.project, exam.images[:1000])
    on_circle(ax, z, f"{name}\nuniformity {abs(float(uniformity(z))):.2f} below 0")
plt.show()
print(f"floor on the circle: {-uniformity_floor(2):.2f} below 0")

# %% [markdown]
# Alignment alone: one nail. Uniformity alone: the wall is used evenly, to the floor, and several colours hang at every place. Some order is left, though nothing asks for it: to a network, similar pictures are similar from the start. Both: just as even, and every colour has a stretch of its own. Nobody told the encoder about colours.
#
# ### On the sphere
#
# With three dimensions there is room for more than a row. **Try this:** choose an objective and turn the sphere (hollow dots are on the far side). Look for whether a colour is one island, several, or everywhere.

# %%
spheres = {
    name: encode(trained(arm, dim=3, label=f"sphere, {name}")[0].project, exam.images[:600])
    for name, arm in OBJECTIVES.items()
}
tint = np.array([COLOURS[c] for c in exam.content["colour"][:600].tolist()])


def sphere(azimuth, objective):  # seen from 20 degrees above, turned by the azimuth
    a, tilt = math.radians(azimuth), math.radians(20)
    z = spheres[objective].numpy()
    right, deep = z[:, 0] * math.cos(a) + z[:, 1] * math.sin(a), -z[:, 0] * math.sin(a) + z[:, 1] * math.cos(a)
    up, near = z[:, 2] * math.cos(tilt) + deep * math.sin(tilt), z[:, 2] * math.sin(tilt) - deep * math.cos(tilt)
    figure, ax = plt.subplots(figsize=(4, 3.6))
    ax.add_patch(plt.Circle((0, 0), 1, fill=False, color="#777777", linewidth=0.8))
    ax.scatter(right[near < 0], up[near < 0], s=16, facecolors="none", edgecolors=tint[near < 0], linewidths=0.7)
    ax.scatter(right[near >= 0], up[near >= 0], s=16, c=tint[near >= 0], edgecolors="#555555", linewidths=0.3)
    ax.set(aspect="equal", xticks=[], yticks=[], xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
    even = float(uniformity(spheres[objective]))
    ax.set_title(f"uniformity {even:.2f}, floor {uniformity_floor(3):.2f}")
    ax.axis("off")
    return figure


turn = widgets.IntSlider(value=30, min=0, max=345, step=15, description="turn", readout_format="d")
which = widgets.Dropdown(options=list(OBJECTIVES), value="both", description="by")
panel(sphere, turn, which, examples=[(30, name) for name in OBJECTIVES])

# %% [markdown]
# Uniformity alone is the lower of the two in the figure, and its picture is the worse one: no measure is good by itself.
#
# ## 7. The plane
#
# Now $D = 64$, 400 steps, three seeds, and many mixtures: weights from alignment alone to uniformity alone, and NT-Xent at several temperatures. On the way, each encoder is measured and a *linear probe* on $h$ is asked for shape and colour, 24 classes, on held-out scenes. This takes minutes and was measured once (`python -m minilip.studies.hypersphere.plane`); the code is what this lesson uses.

# %%
known = study.known()
FAMILIES = {"weights": study.WEIGHTED, "NT-Xent": study.CONTRASTED}
TITLES = {"weights": "weights: share of uniformity", "NT-Xent": "NT-Xent: temperature"}


def ends(names, what):
    """(arms, seeds) of a number measured at the end."""
    return np.array([[run[what] for run in known[name]] for name in names])


def last(names, column):
    """(arms, seeds) of the last entry of the path: 1 alignment, 2 uniformity."""
    return np.array([[run["path"][-1][column] for run in known[name]] for name in names])


low, high = min(p[3] for runs in known.values() for r in runs for p in r["path"]), ends(known, "h").max()
# where labels stand, in points
BESIDE = {"share 0.25": (7, 5), "share 0.5": (7, -11), "tau 0.25": (-2, -12), "tau 0.5": (-6, 7)}
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6))
for ax, (family, arms) in zip(axes, FAMILIES.items()):
    for name in arms:
        for run in known[name]:
            _, a, u, accuracy = np.array(run["path"]).T
            ax.plot(a, u, color="#BBBBBB", linewidth=0.7, zorder=1)
            dots = ax.scatter(a, u, c=accuracy, s=14, vmin=low, vmax=high, zorder=2)
        end = known[name][0]["path"][-1]
        label = name.replace("share ", "").replace("tau ", "τ ")
        ax.annotate(label, end[1:3], xytext=BESIDE.get(name, (6, 3)), textcoords="offset points", fontsize=8)
    ax.plot(0, corner, "*", color=plot.RED, markersize=11, zorder=3)
    ax.set(xlabel="alignment (squared distance)", title=TITLES[family])
axes[0].set_ylabel("uniformity, t = 2")
axes[1].set(xlim=(-0.012, 0.22), ylim=(-3.9, -2.5))  # enlarged: every path begins far above, as on the left
axes[1].plot([], [], "*", color=plot.RED, markersize=9, label="best with 192 contents, (11)")
axes[1].legend(loc="lower right")
figure.colorbar(dots, ax=axes, label="accuracy of the probe, 24 classes")
plt.show()
untrained = np.array([known["tau 0.25"][s]["path"][0][3] for s in range(3)])
print(f"probe of an untrained encoder: {untrained.mean():.3f}")
for name in known:
    a, u = last([name], 1).mean(), last([name], 2).mean()
    h, unscaled, shape = (ends([name], what) for what in ("h", "unscaled", "shape"))
    print(f"{name:18} alignment {a:6.3f}  uniformity {u:6.3f}  probe of h {h.mean():.3f} ± {h.std(ddof=1):.3f}"
          f"  of z, unscaled {unscaled.mean():.3f}  shape {shape.mean():.3f}")

# %% [markdown]
# The right panel is enlarged. Read the left one from its upper left corner. Every path begins there, since an untrained encoder in evaluation mode puts all pictures into one place.
#
# *Alignment alone* stays there. Its $z$ as it is tells nothing: 4 % of 24 classes is chance. Two things are less plain. Magnified coordinate by coordinate, which is what a probe on standardised features does, the tiny cap still has a structure. And $h$, before the head, reads *better* than untrained (0.47 against 0.37): to find two views alike, the tower has to learn what they share, even while the head throws it away.
#
# *Uniformity alone* runs to the lower right. It is more even than any aligned encoder of 192 contents could be, its partners are nearly strangers, and the probe gains 0.02 over an untrained encoder.
#
# The mixtures between a quarter and three quarters do equally well, 0.55 to 0.56, although they lie far apart. So the plane has a wide good region and not one best point. No path reaches the star. What the probe lacks is shape: colour, size and quadrant are read nearly without error by these mixtures, shape in little more than half of the scenes, where a guess has a third.
#
# ## 8. What information cannot see
#
# Lesson 01 ended with a puzzle. Encoders were judged by the bound that their critic certifies, all at $N = 256$, and by a linear probe: among good critics the tighter bound did not belong to the better encoder. And information does not change under any invertible map, while a probe does. What do alignment and uniformity say?
#
# First a map for which we know the answer. A rotation followed by a leaky ReLU can be undone, and it sends a ray to a ray. So, made unit length again, it is an *invertible map of the sphere to itself*. Stack such layers on a trained encoder: every stack carries the same information, by theorem.

# %%
dice = torch.Generator().manual_seed(0)
squares = torch.randn(8, study.DIM, study.DIM, dtype=torch.double, generator=dice)
rotations = torch.linalg.qr(squares)[0]  # (8, D, D)


def scramble(z, layers):
    for r in rotations[:layers]:
        z = unit(F.leaky_relu(z @ r.to(z.dtype), 0.1))
    return z


def unscramble(z, layers):
    for r in rotations[:layers].flip(0):
        z = unit(torch.where(z > 0, z, z / 0.1) @ r.to(z.dtype).T)
    return z


class Scrambled:
    """What `study.certified` needs of an encoder."""

    def __init__(self, model, layers):
        self.project = lambda v: scramble(model.project(v), layers)


LAYERS, FRESH = (0, 8), budget(cpu=(4096, 2048), quick=(256, 256))  # pairs for the critic: to learn, to judge
layout = {}  # (layers, seed) -> alignment, uniformity, probe of z unscaled, certified nats
for seed in SEEDS:
    for k in LAYERS:
        model = Scrambled(contrastive[seed], k)
        x, y = (encode(model.project, v) for v in exam.views)
        z = encode(model.project, exam.images)
        nats = study.certified(model, seed, torch.Generator().manual_seed(5), *FRESH)
        probe = study.unscaled_probe(z, exam.content["class"])
        layout[k, seed] = float(alignment(x, y)), float(uniformity(z)), probe, nats
z = encode(contrastive[0].project, exam.images[:200]).double()
same("scrambled and back", unscramble(scramble(z, 8), 8), unit(z))
layout = {k: np.array([layout[k, s] for s in SEEDS]) for k in LAYERS}  # (seeds, 4)
print(f"views share {shared:.2f} nats")
for k, v in layout.items():
    a, u, probe, nats = v.mean(axis=0)
    print(f"{k} layers: alignment {a:.3f}, uniformity {u:.2f}, probe {probe:.3f}, certified {nats:.2f} nats")

# %% [markdown]
# The critic, which can undo some of the scrambling, certifies nearly what it did. Alignment is no worse either: partners are as close as before. What changes is uniformity, from $-3.3$ to $-0.9$: every leaky ReLU bends the sphere towards one side, and eight of them put all pictures into a narrow cone, where a reader that takes $z$ as it is finds less. Information cannot see the layout; uniformity can.
#
# Now the other half of the puzzle: does the certified information tell the encoders of the plane apart? All were given the same critic, trained on their frozen $z$ and judged at $N = 256$ on fresh pairs. The ceiling is $\log 256 = 5.5$ nats, above the 5.26 that exist.

# %%
names = [n for n in known if n not in ("share 0", "share 1")]
table = {
    "alignment": last(list(known), 1).ravel(), "uniformity": last(list(known), 2).ravel(),
    "bound": ends(list(known), "bound").ravel(), "probe": ends(list(known), "h").ravel(),
}
table["sum"] = table["alignment"] + table["uniformity"]
kept = np.array([name in names for name in known for _ in range(3)])
ranked = {}
for what in ("bound", "sum", "alignment", "uniformity"):
    ranked[what] = spearmanr(table[what], table["probe"])[0], spearmanr(table[what][kept], table["probe"][kept])[0]
figure, axes = plt.subplots(1, 2, figsize=(8, 3.1), sharey=True)
for ax, (what, label) in zip(
    axes, (("bound", "certified by a trained critic, N = 256 (nats)"), ("sum", "alignment + uniformity"))
):
    for family, colour in (("weights", plot.GREEN), ("NT-Xent", plot.BLUE)):
        chosen = [n for n in known if n in FAMILIES[family]]
        x = ends(chosen, "bound") if what == "bound" else last(chosen, 1) + last(chosen, 2)
        ax.scatter(x.ravel(), ends(chosen, "h").ravel(), s=18, color=colour, label=family)
    ax.set(xlabel=label)
axes[0].set_ylabel("accuracy of the probe on h")
axes[0].axvline(shared, color="#777777", linewidth=0.8, linestyle="--", label="all there is")
axes[0].legend(loc="upper left")
plt.show()
for what, (everyone, inner) in ranked.items():
    print(f"rank correlation with the probe, {what:10}: {everyone:+.2f} over {len(kept)} encoders, "
          f"{inner:+.2f} over the {kept.sum()} trained with both wishes")

# %% [markdown]
# The left panel is the story of lesson 01, told with care: one kind of critic, one $N$, frozen embeddings, so that the bound speaks of the encoder alone. Then it ranks these encoders well, and better than the sum of the two measures does. That is worth knowing before one repeats that information explains nothing. What remains of the puzzle stands at the bottom: a collapsed encoder certifies 3.4 of 5.26 nats, *more* than the one with a twentieth of uniformity, 2.8, and it is the worse of the two to read. The critic magnifies what is collapsed; a reader who takes $z$ as it is cannot.
#
# And the measures? In the plane good encoders lie anywhere between alignment 0.02 and 0.48. A weighted sum of two numbers cannot single them out. That both are *needed* is what these runs show; that together they *rank* encoders, they do not.
#
# ## 9. The temperature's trade
#
# A cold NT-Xent pushes hardest at the nearest others, (12), and the nearest others are often scenes of the same class. *Tolerance* (after Wang and Liu) measures what is left to them: how much higher the cosine of two scenes of one class is than that of any two.

# %%
taus = study.TEMPERATURES
cold = list(study.CONTRASTED)
figure, axes = plt.subplots(1, 3, figsize=(8, 2.7))
measured = {
    "uniformity, t = 2": last(cold, 2), "tolerance (cosine)": ends(cold, "tolerance"), "probe on h": ends(cold, "h")
}
for ax, (label, values) in zip(axes, measured.items()):
    ax.semilogx(np.repeat(taus, 3), values.ravel(), "o", color=plot.BLUE, markersize=4)
    ax.semilogx(taus, values.mean(axis=1), color=plot.BLUE, linewidth=1)
    ax.set(xlabel="temperature τ", ylabel=label)
plt.show()

z = encode(contrastive[0].project, exam.images[:1000])
kind = exam.content["class"][:1000]
others = ~torch.eye(1000, dtype=torch.bool)
for tau in taus:
    push = (z @ z.T / tau).masked_fill(~others, -math.inf).softmax(dim=1)  # (1000, 1000), (14) of lesson 01
    share = float((push * (kind[:, None] == kind)).sum(dim=1).mean())
    heard = float(torch.special.entr(push).sum(dim=1).exp().mean())
    print(f"τ = {tau:<5g} {share:6.1%} of the push on others goes to the same class; {heard:5.0f} of 999 are heard")

# %% [markdown]
# Read the first panel with (6). NT-Xent at temperature $\tau$ minimises uniformity at $t = \frac1{2\tau}$. The panel measures at $t = 2$, which belongs to $\tau = 0.25$, and there is the minimum. A colder loss looks at a finer scale: once two pictures are a little apart it has no reason to drive them further, and its classes stay closer together (second panel). So "the colder, the more uniform" is not true of one fixed measure. The trade of uniformity against tolerance is there, along one curve, but the temperature does not run through it in one direction.
#
# The probe likes the cold, down to 0.1. Its weak spot is shape, the last thing to be learnt, and pictures that differ in shape alone are each other's hardest negatives. The printed shares show the price: at $\tau = 0.05$ a third of the push goes to scenes of the same class, which are one in 24, and 16 others are heard.
#
# ## 10. Claims


# %%
def mean_sd(values, digits=3):
    values = np.asarray(values, dtype=float)
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1) if len(values) > 1 else 0:.{digits}f}"


def beyond_noise(differences):
    return bool(len(differences) > 1 and np.mean(differences) > 2 * np.std(differences, ddof=1))


def end(name, what):
    return ends([name], what)[0]


def both(name):
    return last([name], 1)[0], last([name], 2)[0]


claim(
    "hypersphere-limit",
    says="InfoNCE - log M tends to alignment plus uniformity as M grows",
    source="Wang and Isola 2020, abstract; the slides; eq. (3)",
    measured=f"off by, at M = {MS[-1]}, mean and worst seed: "
    + ", ".join(f"τ = {tau:g}: {np.mean(off[tau]):.2%}, {max(off[tau]):.2%}" for tau in TAUS),
    holds=max(max(off[tau]) for tau in TAUS) < 0.01,
    note="holds if within 1 % at every temperature and seed; a world of 192 contents: where no two pictures share one, "
    "a cold loss needs more negatives than there are pictures, by (4)",
)
a, u = both("share 0")
claim(
    "hypersphere-collapse",
    says="alignment alone collapses",
    source="eq. (6) without its second term",
    measured=f"uniformity {mean_sd(u)}; probe of z as it is {mean_sd(end('share 0', 'unscaled'))} (chance 0.042), "
    f"with coordinates magnified to variance 1 {mean_sd(end('share 0', 'z'))}, of h {mean_sd(end('share 0', 'h'))}; "
    f"untrained h {mean_sd(untrained)}",
    holds=bool((u > -0.1).all()),
    note="holds if uniformity stays above -0.1; a probe that magnifies still reads what is left in the tiny cap",
)
a, u = both("share 1")
claim(
    "hypersphere-spread",
    says="uniformity alone spreads without structure",
    source="eq. (6) without its first term",
    measured=f"uniformity {mean_sd(u)}, floor {uniformity_floor(study.DIM):.3f}; alignment {mean_sd(a)}, strangers 2; "
    f"probe of h {mean_sd(end('share 1', 'h'))}, untrained {mean_sd(untrained)}",
    holds=bool((u < corner).all()) and not beyond_noise(end("share 1", "h") - untrained),
    note="holds if more even than any aligned encoder of 192 contents can be, and the probe no better than untrained "
    "beyond noise",
)
mixed = {n: end(n, "h") for n in study.WEIGHTED}
best = max(mixed, key=lambda n: mixed[n].mean())
edges = np.maximum(mixed["share 0"], mixed["share 1"])
claim(
    "hypersphere-both",
    says="both properties are needed",
    source="Wang and Isola 2020; the slides",
    measured="probe of h by the share of uniformity: " + ", ".join(f"{n[6:]}: {mean_sd(v)}" for n, v in mixed.items()),
    holds=all(beyond_noise(mixed[n] - edges) for n in ("share 0.25", "share 0.5", "share 0.75")),
    note="holds if each of the three middle mixtures beats the better of the two ends",
)
matched = {tau: (end(f"bound of tau {tau:g}", "h"), end(f"tau {tau:g}", "h")) for tau in (0.25, 0.1)}
claim(
    "hypersphere-direct",
    says="optimising the two directly gives representations comparable to, or better than, contrastive learning",
    source="Wang and Isola 2020, abstract",
    measured="probe of h, direct against NT-Xent of the same sharpness: "
    + "; ".join(f"t = {1 / (2 * tau):g}: {mean_sd(d)} against {mean_sd(c)}" for tau, (d, c) in matched.items())
    + f"; weights 1 and 1 with t = 2 {mean_sd(mixed['share 0.5'])}; all temperatures: "
    + ", ".join(f"{n[4:]}: {mean_sd(end(n, 'h'))}" for n in cold),
    holds=not any(beyond_noise(c - d) for d, c in matched.values()),
    note="holds if NT-Xent is ahead by more than noise at neither sharpness; weights t and 1, as in (6)",
)
a, u = both("bound of tau 0.25")
a_, u_ = both("tau 0.25")
claim(
    "hypersphere-bound",
    says="with weights t and 1 the direct objective stands for InfoNCE at τ = 1 / (2 t)",
    source="eq. (6)",
    measured=f"τ = 0.25: alignment {mean_sd(a_)}, uniformity {mean_sd(u_)}; its bound: {mean_sd(a)}, {mean_sd(u)}",
    holds=abs(u.mean() - u_.mean()) < 0.05 and abs(a.mean() - a_.mean()) < 0.05,
    note="holds if both measures end within 0.05; mixtures of other weights end up to 0.45 apart",
)
claim(
    "hypersphere-agreement",
    says="both measures agree strongly with downstream performance",
    source="Wang and Isola 2020, abstract",
    measured=f"rank correlation of their sum with the probe {ranked['sum'][0]:+.2f} over {len(kept)} encoders, "
    f"{ranked['sum'][1]:+.2f} without the two ends; of the bound on information {ranked['bound'][0]:+.2f} and "
    f"{ranked['bound'][1]:+.2f}; "
    f"alignment by itself {ranked['alignment'][0]:+.2f}, uniformity {ranked['uniformity'][0]:+.2f}",
    holds=ranked["sum"][1] < -0.7,
    note="holds if below -0.7 without the ends, the harder number; the sum has the weights of the released code",
)
claim(
    "hypersphere-invertible",
    says="representations of the same information can differ in alignment, uniformity and worth",
    source="Tschannen et al. 2020, section 3.1, on the sphere",
    measured="; ".join(
        f"{k} layers: alignment {mean_sd(v[:, 0])}, uniformity {mean_sd(v[:, 1], 2)}, probe {mean_sd(v[:, 2])}, "
        f"bound {mean_sd(v[:, 3], 2)}"
        for k, v in layout.items()
    ),
    holds=beyond_noise(layout[0][:, 2] - layout[8][:, 2]) and beyond_noise(layout[8][:, 1] - layout[0][:, 1]),
    note="that the information is the same follows from invertibility; holds if eight layers cost probe and uniformity",
)
even, tolerant = last(cold, 2).mean(axis=1), ends(cold, "tolerance").mean(axis=1)
claim(
    "hypersphere-temperature",
    says="a colder loss is more uniform and less tolerant of similar samples; a temperature between serves best",
    source="Wang and Liu 2021, abstract",
    measured="τ = " + ", ".join(f"{t:g}" for t in taus) + ": uniformity " + ", ".join(f"{v:.2f}" for v in even)
    + "; tolerance " + ", ".join(f"{v:.3f}" for v in tolerant)
    + "; probe " + ", ".join(mean_sd(end(n, "h")) for n in cold),
    holds=bool((np.diff(even) > 0).all() and (np.diff(tolerant) > 0).all())
    and any(all(beyond_noise(end(n, "h") - end(e, "h")) for e in (cold[0], cold[-1])) for n in cold[1:-1]),
    note="holds if both are monotone in τ and one of the middle temperatures beats both ends; uniformity is at t = 2, "
    "which by (6) belongs to τ = 0.25",
)
claim(
    "hypersphere-caps",
    says="well-clustered classes are linearly separable on the hypersphere and not in Euclidean space",
    source="the slides, figure 2; eqs. (13), (14)",
    measured=f"of nine classes {judged['caps on a circle'][0]} caps and {judged['balls in a plane'][0]} balls are cut "
    "off by a line; "
    f"a softmax over all classes: {judged['caps on a circle'][1]:.1%} and {judged['balls in a plane'][1]:.1%}",
    holds=judged["caps on a circle"][0] == CLASSES > judged["balls in a plane"][0],
    note="true of one class against the rest; a linear softmax separates disjoint balls as well, by (14)",
)

# %% [markdown]
# ## 11. Doubts
#
# **What the slides and the released code do differently**
# - The slides' limit has $-\log$ in the second term, and a temperature outside the exponential. (3) has both put right.
# - The paper's $\mathcal L_{\text{uniform}}$ is an expectation over independent pairs, in which a point may meet itself. The code leaves self-pairs out, treats the two views apart and averages. Partners are no pair in it: they would pull against alignment. By (10) the code's number can lie below the paper's minimum; with 768 pictures it hardly does.
# - The code takes the mean of exponentials and then the logarithm. For $t = 2$ that is safe. For large $t$, or vectors that are not unit length, it is $-\infty$; users report losses of $-50$ to $-200$, which are vectors somebody forgot to normalise. A uniformity below $-2t$ in a large batch means that.
# - `lightly`'s loss normalises inside, has $t = 1$ by default where the authors have 2, and its text calls the normalisation L1 where the code does L2. Values of two repositories are comparable only at one $t$.
# - The released STL-10 run reads the layer *before* the one that is trained (83.19 % with weights 1 and 1), as we read $h$.
#
# **What goes wrong in practice**
# - *Uniformity alone is reported as quality.* The most uniform encoder of our plane is the worst.
# - *Collapse hides behind a probe that standardises.* See the first end of the plane: look at the measure, not only at the accuracy.
# - *Measures of a training batch.* Dropout, BatchNorm and augmentation are on. Measure in evaluation mode, on held-out pairs.
# - *Comparing uniformity across dimensions.* The floor moves with $D$: from $-1.58$ on the circle to nearly $-4$.
# - *Even over the sphere is not even over the classes.* If classes differ in size, so do their shares of the sphere.
#
# **Not here.** One world, small networks, 400 steps. That a measure agrees with a probe over encoders of one family does not make it a way to choose between families.
#
# **Read on:** Wang and Isola 2020 for real vision and language data; Wang and Liu 2021 for the temperature; Chen, Luo and Li 2021 for other priors than the even one. Lesson 05 asks for spread coordinate by coordinate, without any negatives.
#
# **Now you:** [exercises 04](../exercises/04_hypersphere.ipynb), with [solutions](../solutions/04_hypersphere.ipynb).
