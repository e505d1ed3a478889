# %% [markdown]
# # 12c · The summary's ProLIP: subspaces, samples and a ball
#
# **You derive** the nearest point of a subspace and what a Gaussian leaves outside it, the variance that a sampled softmax asks for, a bound on the length as a projection and as a price, a way around that bound, and when a masked word can be filled in.
#
# **You train** the summary's whole objective on scenes, with each of its terms left out in turn, and four ways of bounding a length at a learning rate that is too high.
#
# After this lesson you can
# - project onto a span whose vectors are slanted, and say what a residual can and cannot tell;
# - predict from a second derivative which variances a sampled loss leaves;
# - turn an inequality into a projection or into a penalty, and know what each does to the raw vectors;
# - test a sentence of a paper that names no number.
#
# *Before this:* lesson 01 (InfoNCE), [lesson 12](12_prolip.ipynb) (ProLIP as in the paper). *Source:* *the summary*, a short text on ProLIP written by a language model. It shares the paper's name and few of its equations; here it is taken at its word.

# %%
from minilip.course import *

device = setup("12c_constraints")

# %%
import itertools
import math

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import nn

from minilip.clip import CLIP
from minilip.course import plot
from minilip.course.checks.constraints import objective
from minilip.course.widgets import panel
from minilip.data.scenes import ATTRIBUTES, BACKGROUNDS, COLOURS, PLACES, SHAPES, SIZES, Scenes
from minilip.infonce import info_nce
from minilip.nn import BagOfWords, ConvNet
from minilip.nn.tokenizer import MASK, PAD
from minilip.prolip import clip_norm, projection_residual, reparametrise, vib_loss
from minilip.studies.prolip.generality import KINDS, Captions, codes_of, discs, hidden, masked
from minilip.training import fit

NAMES = dict(zip(ATTRIBUTES, (SIZES, COLOURS, SHAPES, PLACES, BACKGROUNDS)))


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


# %% [markdown]
# ## 1. A question
#
# Here are eight pictures of a small world, and under them five sentences. Three could be said of a picture. One contradicts itself. One is no sentence at all. Could a model tell, from the vectors alone, that a sentence describes *nothing that a picture could show*? The summary says so: its inclusion loss "prevents text embeddings from hallucinating unrealistic concepts".

# %%
world = Scenes(size=32)
z = world.sample(8, torch.Generator(device).manual_seed(3))
figure = plot.images(world.render(z), columns=8)
plt.show()
whole = world.caption(z[:1], detail=5)[0]
SENTENCES = ["a shape", "a red circle", whole, "a red blue circle", "left large on bottom a"]
print("\n".join(SENTENCES))

# %% [markdown]
# ## 2. A guess, and how it fails
#
# The simplest guess: a sentence is realistic if its vector is *near a picture*. To try it without a network, take an ideal model of this world. A picture's vector has a 1 for each of its five attributes, 20 entries in all; a caption's vector is the mean of the pictures it fits. Turn that space at random inside 32 dimensions, so that no coordinate means anything.

# %%
every = torch.cartesian_prod(*(torch.arange(k) for k in KINDS.tolist()))  # (576, 5), all kinds of scene
one_hot = torch.cat([F.one_hot(every[:, k], n).double() for k, n in enumerate(KINDS.tolist())], dim=1)  # (576, 20)
turn = torch.linalg.qr(randn(32, 20))[0].T  # (20, 32)
pictures = one_hot @ turn  # (576, 32)


def ideal(**named):
    """The mean of all pictures that fit."""
    fits = torch.ones(576, dtype=torch.bool)
    for attribute, name in named.items():
        fits &= every[:, ATTRIBUTES.index(attribute)] == NAMES[attribute].index(name)
    return pictures[fits].mean(dim=0)


exact = dict(size="small", colour="red", shape="circle", place="at the top left", background="grey")
asked = {"a shape": ideal(), "a red circle": ideal(colour="red", shape="circle"), "all five attributes": ideal(**exact)}
asked["a red blue circle"] = asked["a red circle"] + turn[2 + COLOURS.index("blue")]  # two ones among the colours
asked["noise"] = F.normalize(randn(32, seed=5), dim=0) * pictures[0].norm()
for name, x in asked.items():
    print(f"{name:22} distance to the nearest picture {(pictures - x).norm(dim=1).min():.2f}")

# %% [markdown]
# The guess punishes what is general. *A shape* is far from every single picture, because it is about all of them, and it comes out beyond a caption with a flaw. A mean of pictures is no picture. It is a *combination* of pictures, and that is the idea.
#
# ## 3. The idea
#
# > A caption is grounded if its vector is a combination of the vectors of pictures.
#
# In mathematics: the *residual* $\lVert\mathbf t-\operatorname{Proj}_V(\mathbf t)\rVert$ is 0. In code: `(t - t @ q @ q.T).norm(dim=1)`, with an orthonormal basis $q$.
#
# ## 4. Derivation
#
# Letters: $B$ pairs; $\mathbf v_i,\mathbf t_i\in\mathbb R^D$ picture and caption; $\mu, v$ mean and variance where they are Gaussians; $A$ a matrix with $K$ pictures as columns; $\tau$ temperature; $\gamma$ the bound.
#
# ### 4.1 Inside a subspace
#
# The summary's equation 2 is
#
# $$\mathcal L_{\text{inclusion}} = \mathbb E_{t\sim T}\big[\lVert\mathbf t-\operatorname{Proj}_V(\mathbf t)\rVert_2\big]. \tag{1}$$
#
# The nearest point to $t$ that is a combination of pictures is $Aw$ with the $w$ that minimises $\lVert t-Aw\rVert^2$. Set the derivative to 0: $A^\top(t-Aw) = 0$. In words: what is left over is at right angles to every picture. If the columns are independent, $A^\top A$ can be inverted, and
#
# $$\operatorname{Proj}_V(t) = A(A^\top A)^{-1}A^\top t = QQ^\top t, \qquad A = QR,\quad Q^\top Q = I. \tag{2}$$
#
# The second form follows by inserting $A = QR$: the factors $R$ cancel. It says to make the basis orthonormal first. Without that, $AA^\top t$ counts twice what two pictures share, and is no projection.
#
# The summary samples its captions, $z\sim N(\mu, v)$. With $M = I-QQ^\top$, the vector $Mz$ has mean $M\mu$, and its entry $e$ has variance $\sum_dM_{ed}^2v_d$. Use $\mathbb Ex^2 = (\mathbb Ex)^2+\operatorname{Var}x$, sum over $e$, and note $\sum_eM_{ed}^2 = (M^\top M)_{dd} = M_{dd}$:
#
# $$\mathbb E\lVert Mz\rVert^2 = \lVert M\mu\rVert^2+\sum_dv_d\,M_{dd}. \tag{3}$$
#
# So inclusion on samples also pulls the variance out of the directions that pictures do not use.

# %%
# check (1), (2): slanted vectors; the library on the left, numpy's least squares on the right
basis, t = randn(4, 9) + 1, randn(3, 9, seed=1)
fitted = np.stack([basis.numpy().T @ np.linalg.lstsq(basis.numpy().T, row, rcond=None)[0] for row in t.numpy()])
same("(2)", projection_residual(t, basis), np.linalg.norm(t.numpy() - fitted, axis=1))
wrong = (t - t @ basis.T @ basis).norm(dim=1) / projection_residual(t, basis)
print("with A A^T t in the place of the projection, too long by factors of", *(f"{x:.0f}" for x in wrong))

# check (3): sampled residuals on the left, the closed form with an explicit inverse on the right
logvar, A = randn(1, 9, seed=2) - 1, basis.T
M = torch.eye(9, dtype=torch.double) - A @ torch.linalg.inv(A.T @ A) @ A.T
draws = reparametrise(t[:1].expand(300_000, 9), logvar.expand(300_000, 9), torch.Generator().manual_seed(0))
same("(3)", projection_residual(draws, basis).square().mean(), t[0] @ M @ t[0] + logvar.exp()[0] @ M.diagonal(), 0.01)

# %% [markdown]
# Back to the ideal world. Its 576 pictures span few dimensions: each block of entries sums to 1, so four of 20 columns are implied by the others, and the *rank* is 16. Below, the subspace of the $K$ directions that pictures use most.

# %%
directions = torch.linalg.svd(pictures, full_matrices=True)[2]  # (32, 32), most used first
curves = {
    name: [float(projection_residual(x[None], directions[:k])[0] / x.norm()) for k in range(1, 33)]
    for name, x in asked.items()
}
rank = int(torch.linalg.matrix_rank(pictures))
figure, ax = plt.subplots(figsize=(8, 3))
for (name, curve), colour in zip(curves.items(), plot.PALETTE):
    ax.plot(range(1, 33), curve, color=colour, label=f"{name}: {curve[rank - 1]:.2f} at K = {rank}", marker="o", ms=3)
ax.axvline(rank, color="#777777", linewidth=0.8, linestyle="--")
ax.set(xlabel="K, dimensions of the subspace", ylabel="residual / length", ylim=(-0.03, 1.12))
ax.legend(loc="upper right")
plt.show()

# %% [markdown]
# Read the curves at the dashed line, the rank of the pictures. Every true caption lies inside. The contradiction stands out a little, noise a lot. (It stands out because its colours add up to 2. Half red and half blue would be the mean of two pictures, and inside.) Two limits show as well. Beyond that rank, where the subspace grows to the whole space, everything is inside and (1) says nothing: *as many generic pictures as dimensions* are enough for that. So $K$ has to be chosen. And *a shape* and the full description are equally inside: the residual knows what is possible, not what is *general*.
#
# ### 4.2 What a subspace cannot order
#
# The summary also wants $V\subset V^{\text{masked}}$. For subspaces with orthonormal bases $Q$ and $Q_m$ this has a test. $V$ is inside exactly if each of its vectors is its own projection, $Q_mQ_m^\top Q = Q$; and, as the angles between two subspaces are read from the singular values of $Q_m^\top Q$, exactly if
#
# $$\lVert Q-Q_mQ_m^\top Q\rVert_F^2 = K-\lVert Q_m^\top Q\rVert_F^2 = 0. \tag{4}$$
#
# The middle follows from $\lVert MQ\rVert_F^2 = \operatorname{tr}Q^\top MQ$. Now ask it of the ideal world. Mask the colour in every caption. What is left are means over colours, so the masked captions span a *smaller* space, and it lies inside that of the pictures: the inclusion is the other way round.

# %%
# check (4): residuals on the left; on the right cosines of principal angles, from singular values
Q, Qm = (torch.linalg.qr(randn(9, k, seed=k))[0] for k in (3, 5))
angles = torch.linalg.svdvals(Qm.T @ Q)
same("(4)", projection_residual(Q.T, Qm.T).square().sum(), (1 - angles.square()).sum())

print("masked attribute   rank of the masked captions   V in V^masked: (4)   V^masked in V: (4)")
Q = directions[:rank].T
for k, attribute in enumerate(ATTRIBUTES):
    rest = [a for a in range(5) if a != k]
    kinds, place = every[:, rest].unique(dim=0, return_inverse=True)
    means = torch.stack([pictures[place == i].mean(dim=0) for i in range(len(kinds))])
    size = int(torch.linalg.matrix_rank(means))
    Qm = torch.linalg.svd(means, full_matrices=False)[2][:size].T  # (32, K)
    both = [float(projection_residual(a.T, b.T).square().sum()) for a, b in ((Q, Qm), (Qm, Q))]
    print(f"{attribute:18} {size:27} {both[0]:20.2f} {both[1]:20.2f}")

# %% [markdown]
# To say "the whole is inside the masked" one needs something that grows when less is said: a set of kinds of scene, or the width of a Gaussian. The span of vectors shrinks. We train the term all the same, as the summary has it.
#
# ### 4.3 The variance that a sampled softmax asks for
#
# The summary's contrast is InfoNCE on samples, with $s(\mathbf v,\mathbf t) = \mathbf v^\top\mathbf t$:
#
# $$\mathcal L_{\text{contrast}} = -\frac1B\sum_i\log p_{ii}, \qquad p_{ij} = \frac{e^{\mathbf v_i^\top\mathbf t_j/\tau}}{\sum_ke^{\mathbf v_i^\top\mathbf t_k/\tau}}. \tag{5}$$
#
# Lesson 12 shows that $\mathbb E\,\mathbf v^\top\mathbf t = \mu_v^\top\mu_t$: to first order the contrast does not see variances. To second order it does. For a caption $\mathbf t_j = \mu_j+\sqrt v\,n$ the expectation of $\frac12(\mathbf t_j-\mu_j)^\top H(\mathbf t_j-\mu_j)$ is $\frac12\sum_dH_{dd}v_d$. The second derivative of a log-sum-exp is a variance under its softmax, and $\mathbf t_j$ enters row $i$ through one logit alone, so
#
# $$H_{dd} = \frac{\partial^2\mathcal L}{\partial t_{jd}^2} = \frac1{B\tau^2}\sum_ip_{ij}(1-p_{ij})\,v_{id}^2. \tag{6}$$
#
# This is positive: noise costs. Against it stands the variance term, the divergence from a standard normal with weight $\beta$ and mean over the batch. In each dimension we minimise $\frac12H_{dd}v+\frac\beta{2B}(v-1-\log v)$. The derivative vanishes at
#
# $$v^* = \frac{\beta}{\beta+B\,H_{dd}}. \tag{7}$$
#
# Now read (6) for two captions. One that is decided, with $p_{ij}$ near 0 or 1 for every picture, has $p(1-p)\approx0$ and may be wide. *A shape* gets a moderate $p_{ij}$ from every picture, so it is bent most and has to be *narrow*. Variances that are free to settle measure how sharp the loss is, not how much a caption leaves open, and where the two are related the sign is wrong.

# %%
# check (5): the library on the left, Boltzmann's weights in a loop on the right
V, T, tau = randn(5, 4), randn(5, 4, seed=1), 0.7
weights = [[math.exp(float(V[i] @ T[j]) / tau) for j in range(5)] for i in range(5)]
same("(5)", info_nce(V, T, tau), -sum(math.log(row[i] / sum(row)) for i, row in enumerate(weights)) / 5)

# check (6): autograd's second derivatives on the left, the sum over pictures on the right
H = torch.autograd.functional.hessian(lambda t: info_nce(V, torch.cat([T[:2], t[None], T[3:]]), tau), T[2])
p = torch.tensor([row[2] / sum(row) for row in weights], dtype=torch.double)
curvature = (p * (1 - p)) @ V.square() / (5 * tau**2)  # (D,)
same("(6)", H.diagonal(), curvature)

# check (7): gradient descent on log v on the left, the formula on the right
log_v, beta = torch.zeros(4, dtype=torch.double, requires_grad=True), 0.3
settings = {"max_iter": 200, "tolerance_grad": 1e-12, "tolerance_change": 0, "line_search_fn": "strong_wolfe"}
descent = torch.optim.LBFGS([log_v], **settings)


def to_minimise():
    descent.zero_grad()
    cost = (curvature * log_v.exp() / 2).sum() + beta * vib_loss(torch.zeros_like(log_v)[None], log_v[None]) / 5
    cost.backward()
    return cost


descent.step(to_minimise)
same("(7)", log_v.exp(), beta / (beta + 5 * curvature))

# %% [markdown]
# ### 4.4 A bound on the length
#
# Does a contrast want long vectors at all? Multiply all logits $\ell$ by a scale $a$. The derivative of $\log\sum_je^{a\ell_{ij}}-a\ell_{ii}$ is $\sum_jp_{ij}\ell_{ij}-\ell_{ii}$, which is negative once the true pair beats the average of the others. With products, longer vectors *are* a larger scale, so the loss asks for length without end. With cosines the length does not enter and the loss asks for nothing: its gradient is at right angles to the vector. What happens then is Pythagoras. A step $\Delta\perp\mathbf v$ gives
#
# $$\lVert\mathbf v+\Delta\rVert^2 = \lVert\mathbf v\rVert^2+\lVert\Delta\rVert^2, \tag{8}$$
#
# so lengths drift upwards, unasked. The summary bounds them, for every picture:
#
# $$\lVert\mathbf v\rVert_2\le\gamma\qquad\text{for all }\mathbf v\in V. \tag{9}$$
#
# *Projection.* Go to the nearest allowed point. For $\mathbf v$ outside the ball and any allowed $u$, by the Cauchy-Schwarz inequality $u^\top\mathbf v\le\lVert u\rVert\lVert\mathbf v\rVert$,
#
# $$\lVert u-\mathbf v\rVert^2\ge(\lVert\mathbf v\rVert-\lVert u\rVert)^2\ge(\lVert\mathbf v\rVert-\gamma)^2, \qquad \Pi(\mathbf v) = \mathbf v\,\min\Big(1,\frac\gamma{\lVert\mathbf v\rVert}\Big). \tag{10}$$
#
# Equality needs $u$ parallel to $\mathbf v$ with $\lVert u\rVert = \gamma$: the nearest point keeps the direction and loses length.
#
# *Lagrangian*, as the summary names it. Minimise $\frac12\lVert u-\mathbf v\rVert^2+\frac\lambda2(\lVert u\rVert^2-\gamma^2)$ with a *multiplier* $\lambda\ge0$, the price of length. The slope vanishes at $u = \mathbf v/(1+\lambda)$; the constraint holds; and $\lambda = 0$ unless it is tight (the conditions of Karush, Kuhn and Tucker). If it is tight, $\lVert\mathbf v\rVert/(1+\lambda) = \gamma$:
#
# $$\lambda = \Big(\frac{\lVert\mathbf v\rVert}\gamma-1\Big)_+, \qquad u = \frac{\mathbf v}{1+\lambda} = \Pi(\mathbf v). \tag{11}$$
#
# Where nobody can solve for $\lambda$, one fixes a price: the *penalty* $\rho\,(\lVert\mathbf v\rVert-\gamma)_+^2$. It pulls raw vectors back. A projection inside the network does not: outside the ball $\Pi$ depends on the direction alone, so the gradient is at right angles to $\mathbf v$ and (8) holds. *What goes into the projection keeps growing.*
#
# And there is a way around (9). For any $c > 0$
#
# $$(c\,\mathbf v)^\top(\mathbf t/c) = \mathbf v^\top\mathbf t, \tag{12}$$
#
# so shorter pictures and longer captions give the very same loss. A bound on one side bounds no logit.

# %%
# check (8): the gradient of a cosine loss and of a projected vector; on the left lengths after a step, on the right (8)
free, target = (4 * randn(3, 5, seed=4)).requires_grad_(), randn(3, 5, seed=5)
for name, at in (("cosine", lambda x: F.normalize(x, dim=1)), ("projected", lambda x: clip_norm(x, 1.0))):
    step = -30 * torch.autograd.grad(info_nce(at(free), F.normalize(target, dim=1), 0.1), free)[0]
    after = (free + step).detach().square().sum(dim=1)
    same(f"(8) {name}", after, free.detach().square().sum(dim=1) + step.square().sum(dim=1))

# check (9), (10): the library on the left; on the right the best of 4000 points on the circle, or inside
points = torch.tensor([[0.1], [0.4], [3], [3], [3]]) * randn(5, 2, seed=4)  # some inside, some outside
angle = torch.linspace(0, 2 * math.pi, 4001, dtype=torch.double)[:-1]
allowed = torch.cat([2 * torch.stack([angle.cos(), angle.sin()], dim=1), points[points.norm(dim=1) <= 2]])
best = torch.stack([allowed[(allowed - x).norm(dim=1).argmin()] for x in points])
same("(10)", clip_norm(points, 2.0), best, tolerance=1e-3)

# check (11): on the left the price found by raising it while the bound is broken; on the right the formula
price = torch.zeros(5, dtype=torch.double)
for _ in range(4000):
    u = points / (1 + price[:, None])  # the least point of the Lagrangian at this price
    price = (price + 0.05 * (u.square().sum(dim=1) - 4)).clamp(min=0)
same("(11) price", price, (points.norm(dim=1) / 2 - 1).clamp(min=0))
same("(11) point", u, clip_norm(points, 2.0), tolerance=1e-4)

# check (12): one table of losses with bounded pictures on the left, of the vectors as they were on the right
c = 1 / V.norm(dim=1).max()
same("(12)", info_nce(c * V, T / c, tau), info_nce(V, T, tau))
print(f"longest picture before {1 / c:.2f}, after {(c * V).norm(dim=1).max():.2f}")

# %% [markdown]
# ### 4.5 Masked captions
#
# From "A grey [M] cat [M] a [M] hat", says the summary, the model "reconstructs masked tokens using visual context", and inclusion enforces $V\subset V^{\text{masked}}$. The paper has the second idea only, with Gaussians. There it needs a masked caption to be *more general*, and how one masks decides what is learnt. Let $N$ be the number of the 576 kinds of scene that fit the visible words. Nothing that is left out can make it smaller:
#
# $$N(\text{whole})\le N(\text{masked}) = \prod_{\text{attributes not told}}(\text{number of its values}). \tag{13}$$
#
# Lesson 12 trains three ways of masking. Here we count what each could teach, before any training: its cue, the cue's rank correlation with $N$ among the masked captions, and what the cue says of $N$ in captions as they come.

# %%
captions = Captions(world)
tokenizer = captions.tokenizer
TOLD = torch.full((5, len(tokenizer)), False)  # which words speak of which attribute
for a, names in enumerate((SIZES, COLOURS, SHAPES, ("top", "bottom", "left", "right"), BACKGROUNDS)):
    TOLD[a, [tokenizer.vocabulary.index(name) for name in names]] = True
VERTICAL = torch.tensor([word in ("top", "bottom") for word in tokenizer.vocabulary])
g = torch.Generator().manual_seed(0)
rows = captions.some(every[torch.randint(576, (budget(cpu=3000, quick=300),), generator=g)] + 1, 0.6, g)


def fitting(tokens):
    """Eq. (13), for visible words in any order: half a place, such as "top", leaves two of four. (B, L) -> (B,)"""
    told = [TOLD[a][tokens].any(dim=1) for a in (0, 1, 2, 4)]
    halves = [(TOLD[3] & half)[tokens].any(dim=1) for half in (VERTICAL, ~VERTICAL)]
    factors = zip([*told, *halves], (2, 8, 3, 3, 2, 2))
    return torch.stack([torch.where(yes, 1, k) for yes, k in factors]).prod(dim=0)


# check (13): on the left the product; on the right the kinds are searched for the visible words of deleted captions
some = masked(captions, rows[:40], "words", g)
full = [set(row.tolist()) for row in captions.tokens[captions.full]]
fillers = {tokenizer.vocabulary.index(word) for word in ("a", "an", "at", "the", "on", "background", "shape", "[PAD]")}
counted = [sum((set(row.tolist()) - fillers) <= kind for kind in full) for row in some]
same("(13)", fitting(some).double(), torch.tensor(counted, dtype=torch.double))


def length(tokens):
    return (tokens != PAD).sum(dim=1)


whole = captions.tokens[rows]
print("                     rank correlation of the cue with N        N grows")
print("masking              in training     captions as they come     in all pairs  at equal length")
for name, cue in (("tokens", lambda x: (x == MASK).sum(dim=1)), ("words", lambda x: -length(x)), ("attributes", None)):
    general = masked(captions, rows, name, g)
    if cue is None:
        # The cue is which attributes are missing; the product over them is N itself.
        in_training = as_they_come = "+1.00"
    else:
        in_training = f"{spearmanr(cue(general), fitting(general)).statistic:+.2f}"
        silent = name == "tokens"
        as_they_come = "no mask" if silent else f"{spearmanr(cue(whole), fitting(whole)).statistic:+.2f}"
    grows = fitting(general) > fitting(whole)
    equal = grows & (length(general) == length(whole)) & (name != "tokens")
    print(
        f"{name:20} {in_training:>11} {as_they_come:>25} {grows.double().mean():16.0%} {equal.double().mean():16.0%}"
    )
print("words  captions  N from  to")
for n in captions.words.unique().tolist():
    fits = captions.fits[captions.words == n]
    print(f"{n:5}  {len(fits):8}  {int(fits.min()):6}  {int(fits.max())}")

# %% [markdown]
# The number of masks says little about $N$, and captions as they come have none. Length does better, since general captions are short; but the lower table says what length leaves open: a factor of 12 to 16 at 3, 7 and 11 words, of 3 or 4 at the other lengths. And deletion never shows a pair of equal length in which $N$ grows. Subsets of attributes do.
#
# **Filling in the words.** Write captions as a table, a row for each scene and a column for each word, with holes. Filling them is *matrix completion*, and it works if the table has a low rank $R$, that is if it is $UV^\top$ with $R$ numbers for each row and each column:
#
# $$\min_{U,V}\sum_{(i,w)\text{ seen}}\big(X_{iw}-u_i^\top v_w\big)^2:\qquad\text{for fixed }V,\quad u_i = \Big(\sum_{w\text{ seen}}v_wv_w^\top\Big)^{-1}\sum_{w\text{ seen}}X_{iw}v_w, \tag{14}$$
#
# and the same for $V$ in turn: *alternating least squares*. An $n\times m$ table of rank $R$ has $R(n+m-R)$ free numbers, so at least that many entries have to be seen.


# %%
def complete(X, seen, rank, rounds, ridge=1e-3):
    """Fill the holes of X (n, m) by alternating least squares; seen is 1 or 0."""
    V = randn(X.shape[1], rank)  # (m, R)
    for _ in range(rounds):
        U = torch.linalg.solve(torch.einsum("nm,mr,ms->nrs", seen, V, V) + ridge * torch.eye(rank), seen * X @ V)
        V = torch.linalg.solve(torch.einsum("nm,nr,ns->mrs", seen, U, U) + ridge * torch.eye(rank), (seen * X).T @ U)
    return U @ V.T  # (n, m)


# check (14): one half-step on the left, numpy's least squares on the seen entries of each row on the right
X, W = randn(7, 9), randn(9, 2, seed=1)
seen = (torch.rand(7, 9, generator=torch.Generator().manual_seed(1)) < 0.7).double()
left = torch.linalg.solve(torch.einsum("nm,mr,ms->nrs", seen, W, W), seen * X @ W)
same("(14)", left, np.stack([np.linalg.lstsq(W[k.bool()].numpy(), x[k.bool()].numpy())[0] for x, k in zip(X, seen)]))

shares = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
figure, ax = plt.subplots(figsize=(8, 2.8))
for rank_, colour in zip((2, 4, 8), plot.PALETTE):
    truth, errors = randn(60, rank_) @ randn(rank_, 20, seed=1) / rank_**0.5, []  # (60, 20)
    for share in shares:
        runs = []
        for seed in range(budget(cpu=3, quick=1)):
            seen = (torch.rand(60, 20, generator=torch.Generator().manual_seed(seed)) < share).double()
            holes = (complete(truth, seen, rank_, budget(cpu=25, quick=2)) - truth)[seen == 0]
            runs.append(float(holes.norm() / truth[seen == 0].norm()))
        errors.append(np.median(runs))
    needed = rank_ * (80 - rank_) / 1200
    ax.plot(shares, errors, "o-", color=colour, label=f"rank {rank_}, at least\n{needed:.0%} needed")
    ax.axvline(needed, color=colour, linewidth=0.8, linestyle="--")
ax.axhline(1, color="#777777", linewidth=0.8, linestyle="--")
ax.annotate("as bad as filling in 0", (0.9, 1.15), fontsize=8, color="#555555", ha="right", va="bottom")
ax.set(xlabel="share of the 60 by 20 table that is seen", ylabel="relative error on the holes", yscale="log")
ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
plt.show()

# %% [markdown]
# To the right of its dashed line, after a margin, each curve falls by orders of magnitude. To the left of it the filled-in numbers are as bad as none: "low-rank approximations", as the summary says, are the condition.
#
# Our captions do not meet it. Around its mean the table of scenes and words has rank 15 of 20 columns, because the five attributes are drawn independently. Then, whatever the other words $w$, the best guess of a masked $y$ among $k$ values is right with
#
# $$\mathbb E\max_yp(y\mid w) = \max_yp(y) = \frac1k. \tag{15}$$
#
# No completion from words can do better. The picture can, and in the language of tables its features are further columns, always seen. That much of the summary's sentence is a matter of where the information is. Section 5 trains it.

# %%
# check (15): the exact best guess from all other words on the left, 1 / k on the right
joint = torch.ones(KINDS.tolist(), dtype=torch.double) / 576
same("(15)", [joint.amax(dim=a).sum() for a in range(5)], [1 / k for k in KINDS.tolist()])

# %% [markdown]
# ## 5. The whole objective
#
# All terms of the summary, on samples $\mathbf v = \Pi(\mu_v+\sqrt{v_v}\,n)$ and $\mathbf t = \mu_t+\sqrt{v_t}\,n'$:
#
# $$\mathcal L = \mathcal L_{\text{contrast}}+\lambda_1\,\mathbb E\lVert\mathbf t-\operatorname{Proj}_V\mathbf t\rVert+\beta\,\mathrm{KL}-\lambda_w\log p(w\mid\mathbf v,\mathbf t^{\text{masked}})+\lambda_m\,\mathbb E\lVert\mathbf v-\operatorname{Proj}_{V^{\text{masked}}}\mathbf v\rVert. \tag{16}$$
#
# | Term | Summary | Here | Weight | Arm without it |
# |---|---|---|---|---|
# | contrast | eq. 1 | (5) on samples, $\tau = 0.1$ | 1 | no contrast |
# | inclusion | eq. 2 | (1) on samples | $\lambda_1 = 0.1$ | no inclusion |
# | variance | 2.4, "mirrors the ELBO" | divergence from $N(0, I)$, both sides | $\beta = 10^{-3}$ | no variance |
# | length | eq. 3 | (10) on pictures, $\gamma = 1$ | none | no bound |
# | masked words | section 4 | cross-entropy of the word, from $\mathbf v$ and $\mathbf t^{\text{masked}}$ | $\lambda_w = 0.3$ | no words |
# | $V\subset V^{\text{masked}}$ | section 4 | (1) with the roles changed | $\lambda_m = 0.1$ | no masked |
#
# The summary gives no weights, and does not say what $V$ is. We take the $K = 16$ leading directions of the means of the batch. All 128 pictures would span all $D = 32$ dimensions (4.1), and the term would be 0. The subspace is not differentiated: otherwise pictures could move to where captions are, and grounding would go the wrong way. The masked word is one attribute of the caption; which attribute, the decoder is told, as grammar tells a reader of "a [M] circle".
#
# In code, with `noise` given so that it can be checked, the first four terms are these lines:


# %%
def leading(x, k=16):
    """The k directions that the rows of x use most, not differentiated. (B, D) -> (D, k)"""
    return torch.linalg.eigh(x.detach().T @ x.detach())[1][:, -k:]


def first_terms(mu_v, logvar_v, mu_t, logvar_t, noise, Q, gamma, tau, lambda_1, beta):
    v, t = mu_v + (logvar_v / 2).exp() * noise[0], mu_t + (logvar_t / 2).exp() * noise[1]  # (B, D)
    v = v / (v.norm(dim=1, keepdim=True) / gamma).clamp(min=1)  # into the ball
    logits = v @ t.T / tau  # (B, B)
    contrast = (logits.logsumexp(dim=1) - logits.diagonal()).mean()
    inclusion = (t - t @ Q @ Q.T).norm(dim=1).mean()
    kl = sum((m**2 + x.exp() - 1 - x).sum(dim=1).mean() / 2 for m, x in ((mu_v, logvar_v), (mu_t, logvar_t)))
    return contrast + lambda_1 * inclusion + beta * kl


# check (16): these lines on the left, the library's parts (exercise 12c.4) on the right
parts = [randn(6, 8, seed=k) for k in range(4)]
Q = leading(parts[0], 3)
numbers = (1.5, 0.5, 0.3, 0.1)
noise = randn(2, 6, 8, seed=7)
same("(16)", first_terms(*parts, noise, Q, *numbers), objective(*parts, noise, Q.T, *numbers))
show(projection_residual)
show(clip_norm)

# %% [markdown]
# ## 6. Train
#
# Towers are small. A convolutional network learns from whole captions (lesson 07's loss) and is then frozen; 4000 scenes are passed through it once. What is trained is an MLP on its features, a bag of words, and a decoder.

# %%
SPOILT, D, BATCH = Scenes(blur=0.15, occlusion=0.15), 32, 128
captions.to(device)
torch.manual_seed(0)
eye = CLIP(ConvNet(16), BagOfWords(len(tokenizer), 64), tokenizer).to(device)


def named_in_full(generator):
    scenes = SPOILT.sample(BATCH, generator)
    return SPOILT.render(scenes), captions.tokens[captions.row(codes_of(scenes))]


fit(eye, named_in_full, budget(cpu=150, quick=3), lr=3e-3, label="a tower for pictures")


def seen_by(pictures):
    with torch.no_grad():
        return torch.cat([eye.image_tower(part) for part in pictures.split(250)])  # (N, 64)


g = torch.Generator(device).manual_seed(7)
scenes = SPOILT.sample(budget(cpu=4000, quick=400), g)
raw, codes = seen_by(SPOILT.render(scenes)), codes_of(scenes)
centre, spread = raw.mean(dim=0), raw.std(dim=0) + 1e-6
features = (raw - centre) / spread  # (N, 64)

TOLD_BY = torch.where(TOLD.any(dim=0), TOLD.long().argmax(dim=0), -1).to(device)  # (words,) attribute, or -1
FIRST = F.pad(KINDS.cumsum(0)[:-1], (1, 0)).to(device)  # the first of each attribute's values, of 20
OWN = torch.full((5, 20), -math.inf, device=device)  # an attribute's own values
for a in range(5):
    OWN[a, FIRST[a] : FIRST[a] + KINDS[a]] = 0


def hide(tokens, attribute):
    """[MASK] in the place of the words of one attribute. (B, L), (B,) -> (B, L)"""
    return torch.where(TOLD_BY[tokens] == attribute[:, None], MASK, tokens)


def batches(generator):
    i = torch.randint(len(features), (BATCH,), generator=generator, device=device)
    rows = captions.some(codes[i], 0.6, generator)
    told = captions.codes[rows]  # (B, 5)
    attribute = torch.multinomial((told > 0) + 1e-9, 1, generator=generator)[:, 0]  # one that the caption names
    value = FIRST[attribute] + told.gather(1, attribute[:, None])[:, 0] - 1
    value = torch.where(rows == 0, -100, value)  # "a shape" names none: nothing to fill in
    tokens = captions.tokens[rows]
    return features[i], tokens, hide(tokens, attribute), attribute, value


# %%
WEIGHTS = {"contrast": 1.0, "inclusion": 0.1, "variance": 1e-3, "words": 0.3, "masked": 0.1}


class Summary(nn.Module):
    """The summary's ProLIP. bound: "pictures" as in (9), "both", "penalty" or "none"."""

    def __init__(self, bound="pictures", gamma=1.0, tau=0.1, **weights):
        super().__init__()
        self.bound, self.gamma, self.tau, self.weights = bound, gamma, tau, WEIGHTS | weights
        self.image = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 2 * D))
        self.text = nn.Sequential(BagOfWords(len(tokenizer), 64), nn.Linear(64, 2 * D))
        self.fill = nn.Sequential(nn.Linear(2 * D, 64), nn.GELU(), nn.Linear(64, 20))
        for head in (self.image[-1], self.text[-1]):
            nn.init.constant_(head.bias[D:], -5.0)  # narrow at first, or no product could be heard

    def images(self, x):
        return self.image(x).chunk(2, dim=1)  # mean, log-variance (B, D) each

    def texts(self, tokens):
        return self.text(tokens).chunk(2, dim=1)

    def bounded(self, v, t):
        v = clip_norm(v, self.gamma) if self.bound in ("pictures", "both") else v
        return v, clip_norm(t, self.gamma) if self.bound == "both" else t

    def loss(self, batch):
        x, tokens, general, attribute, value = batch
        n = len(x)
        (mv, lv), (mt, lt) = self.images(x), self.texts(torch.cat([tokens, general]))
        sampled = (m + (log_v / 2).exp() * torch.randn_like(m) for m, log_v in ((mv, lv), (mt, lt)))
        raw, t = sampled
        v, t = self.bounded(raw, t)
        t, t_masked = t[:n], t[n:]
        Q, Q_masked = leading(mv), leading(mt[n:])
        guess = self.fill(torch.cat([v, t_masked], dim=1)) + OWN[attribute]  # (B, 20)
        terms = {
            "contrast": info_nce(v, t, self.tau),
            "inclusion": (t - t @ Q @ Q.T).norm(dim=1).mean(),
            "variance": vib_loss(mv, lv) + vib_loss(mt, lt),
            "words": F.cross_entropy(guess, value),
            "masked": (v - v @ Q_masked @ Q_masked.T).norm(dim=1).mean(),
        }
        loss = sum(self.weights[name] * term for name, term in terms.items())
        if self.bound == "penalty":
            loss = loss + (raw.norm(dim=1) - self.gamma).clamp(min=0).square().mean()
        return loss, terms | {"picture": raw.norm(dim=1).mean(), "caption": t.norm(dim=1).mean()}


STEPS, SEEDS = budget(cpu=200, quick=3), budget(cpu=(0, 1, 2), quick=(0,))


def train(seed, lr=3e-3, **how):
    torch.manual_seed(seed)
    model = Summary(**how).to(device)
    return model, fit(model, batches, STEPS, lr=lr, seed=seed, clip=1e6, label=f"{how or 'full'}, seed {seed}")


ARMS = {"full": {}}
ARMS |= {f"no {name}": {name: 0.0} for name in WEIGHTS} | {"no bound": {"bound": "none"}}
runs = {arm: [train(seed, **how) for seed in SEEDS] for arm, how in ARMS.items()}
history = runs["full"][0][1]
figure, ax = plt.subplots(figsize=(8, 2.8))
for (name, weight), colour in zip(WEIGHTS.items(), plot.PALETTE):
    ax.plot(np.array(history.metrics[name]) * weight, color=colour, linewidth=1, label=f"{name}, × {weight:g}")
plot.line(ax, math.log(BATCH), "contrast of a blind guess")
ax.set(xlabel="step", ylabel="share of the loss (nats)", yscale="log")
ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
plt.show()

# %% [markdown]
# The contrast carries the loss. It cannot come near 0: many captions of a batch fit many of its pictures.
#
# ## 7. Each term left out
#
# All that follows is measured on 500 new scenes and on captions that were never trained on, and with means, not samples. *Accuracy*: the full description among 576, chance 0.2 %. *Residual*: of a held-out caption to the 16 leading directions of the new pictures, over its length. *Three AUROCs* of that residual, true captions against: the same caption with a second, contradicting value; as many random words; vectors of noise. 0.5 is a guess. *Ambiguity*: rank correlation of a caption's variance with $N$. *Hidden*: of a picture's variance with the share of the object under a chequered disc.

# %%
test = world.sample(budget(cpu=500, quick=60), torch.Generator(device).manual_seed(11))
clean, codes_test, g = world.render(test), codes_of(test), torch.Generator(device).manual_seed(1)
covered = discs(clean, test.position[:, 0], 0.7 * torch.rand(len(clean), generator=g, device=device))
share = hidden(test, clean, covered).cpu()
seen_clean, seen_covered = ((seen_by(x) - centre) / spread for x in (clean, covered))

one_word = [a for a in range(5) if a != 3]
true_rows = (captions.held & (captions.codes[:, one_word] > 0).any(dim=1)).nonzero()[:, 0]
true = captions.tokens[true_rows]  # (M, L)
other = (captions.codes[true_rows][:, one_word] > 0).double().argmax(dim=1)  # the first attribute that is named
contradiction, random = F.pad(true, (0, 1), value=PAD), true.clone()
for i, row in enumerate(true_rows.tolist()):
    a = one_word[int(other[i])]
    values = list(NAMES.values())[a]
    second = values[int(captions.codes[row, a]) % len(values)]  # the next value: never the one that is named
    contradiction[i, int((true[i] != PAD).sum())] = tokenizer.vocabulary.index(second)
drawn = torch.randint(3, len(tokenizer), true.shape, generator=g, device=device)
random = torch.where(true == PAD, PAD, drawn)
noise = torch.randn(len(true), D, generator=g, device=device)
print("true:         ", tokenizer.decode(true[5:6])[0])
print("contradiction:", tokenizer.decode(contradiction[5:6])[0])
print("random:       ", tokenizer.decode(random[5:6])[0])


@torch.no_grad()
def examine(model):
    (mv, _), (mt, log_t) = model.images(seen_clean), model.texts(captions.tokens)
    own, full = captions.row(codes_test), captions.full
    Q = leading(mv).T

    def outside(x):
        return (projection_residual(x, Q) / x.norm(dim=1)).cpu()

    inside = outside(model.texts(true)[0])
    rivals = [outside(x) for x in (model.texts(contradiction)[0], model.texts(random)[0], noise)]
    right = []
    for a in range(5):
        hole = torch.full((len(own),), a, device=device)
        v, t = model.bounded(mv, model.texts(hide(captions.tokens[own], hole))[0])
        guess = (model.fill(torch.cat([v, t], dim=1)) + OWN[a]).argmax(dim=1) - FIRST[a]
        right.append(float((guess == codes_test[:, a] - 1).double().mean()))
    holes = torch.arange(len(own), device=device) % 5
    Q_masked = leading(model.texts(hide(captions.tokens[own], holes))[0]).T
    S, held = log_t.exp().sum(dim=1).cpu(), captions.held.cpu()
    S_image = model.images(seen_covered)[1].exp().sum(dim=1).cpu()
    aurocs = [roc_auc_score([0] * len(inside) + [1] * len(x), torch.cat([inside, x])) for x in rivals]
    return {
        "accuracy": float((full[(mv @ mt[full].T).argmax(dim=1)] == own).double().mean()),
        "residual": float(inside.mean()),
        **dict(zip(("contradiction", "random words", "noise"), map(float, aurocs))),
        "ambiguity": float(spearmanr(S[held], captions.fits.cpu()[held]).statistic),
        "hidden": float(spearmanr(S_image, share).statistic),
        "words": right,
        "S": [float(x) for x in (S.min(), S.median(), S.max())],
        "in masked": float((projection_residual(mv, Q_masked) / mv.norm(dim=1)).mean()),
        "residual, contradiction": float(rivals[0].mean()),
    }


found = {arm: [examine(model) for model, _ in of_seed] for arm, of_seed in runs.items()}


def span(values, digits=2):
    """Median, and the range over seeds."""
    return f"{np.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def each(arm, key):
    return [r[key] for r in found[arm]]


COLUMNS = ("accuracy", "residual", "contradiction", "random words", "noise", "ambiguity", "hidden")
print("medians, and ranges below them" + f"\n{'':14}" + "".join(f"{c:>16}" for c in COLUMNS))
for arm in ARMS:
    print(f"{arm:14}" + "".join(f"{np.median(each(arm, c)):16.2f}" for c in COLUMNS))
    print(f"{'':14}" + "".join(f"{min(each(arm, c)):9.2f} to {max(each(arm, c)):.2f}".rjust(16) for c in COLUMNS))
low, middle, high = np.median(each("full", "S"), axis=0)
print(f"S of captions, full: from {low:.3f} over a median of {middle:.3f} to {high:.3f}")

# %% [markdown]
# Look down a column, against the first row.
#
# - *Residual.* The term does what it says: true captions come to lie almost inside. Without it a third of their length sticks out. It costs no accuracy here and brings none.
# - *Contradictions* come to lie inside just as well, and the residual cannot tell them from true captions. The text tower has learned to put nearly whatever it reads into the subspace. Random words still stand out, more than without the term. Vectors of noise stand out under every loss, so that test says nothing about inclusion.
# - *Ambiguity.* Next to no relation with $N$, in any arm. By (7) free variances would have the sign wrong; those of a tower trained for 200 steps have none. Nothing in (16) tells a general caption from a specific one.
# - *Hidden.* Here the variance does know something: pictures under larger covers get more of it. It needs the variance term, and nobody asked for it.
# - *No contrast:* everything else is satisfied, and accuracy is at chance. It carries the method.
#
# The last line has the scale: $S$ is about a hundredth, beside means of length one and more. (6) has pressed the variances down.
#
# ## 8. Play with the subspace
#
# The residuals of true captions, contradictions and random words, for the full model and for any number of directions. Move $K$ from 1 to 32. Look for a $K$ at which the first two part.

# %%
model = runs["full"][0][0]
with torch.no_grad():
    axes_of = torch.linalg.eigh(model.images(seen_clean)[0].T @ model.images(seen_clean)[0])[1].flip(1).T  # (D, D)
    embedded = {"true": true, "contradiction": contradiction, "random words": random}
    embedded = {name: model.texts(tokens)[0] for name, tokens in embedded.items()}


def residuals(k):
    outside = {n: (projection_residual(x, axes_of[:k]) / x.norm(dim=1)).cpu() for n, x in embedded.items()}
    edges = np.linspace(0, max(float(r.max()) for r in outside.values()), 31)
    figure, ax = plt.subplots(figsize=(4, 2.6))
    for (name, r), colour in zip(outside.items(), (plot.BLUE, plot.ORANGE, plot.BLACK)):
        ax.hist(r, bins=edges, histtype="step", color=colour, label=name)
    ax.set(xlabel="residual / length", ylabel="captions")
    ax.legend(loc="upper right", fontsize=8)
    return figure


slider = widgets.IntSlider(value=16, min=1, max=31, description="K", continuous_update=False)
panel(residuals, slider, examples=(4, 16, 28))

# %% [markdown]
# ## 9. Does the bound stabilise?
#
# "Stabilizes training by preventing embedding magnitudes from diverging." We train at learning rates that are too high, ten and thirty times ours, with the bound as a projection of the pictures (the summary's), of both sides, as a penalty with $\rho = 1$, and without. Gradients are not clipped. A run *trains* if all its numbers stay finite and it ends below the contrast of a blind guess, $\log128$. A *spike* is a step at which the contrast is half a nat above the median of the 20 before.

# %%
BOUNDS = {"none": plot.BLACK, "pictures": plot.BLUE, "both": plot.GREEN, "penalty": plot.ORANGE}
RATES = (0.03, 0.1)
shaken, shown = {}, {}
for rate, bound, seed in itertools.product(RATES, BOUNDS, SEEDS):
    try:
        model, history = train(seed, lr=rate, bound=bound)
    except FloatingPointError as error:
        row = {"trains": False, "stopped": str(error).partition(":")[0]}
    else:
        c = np.array(history.metrics["contrast"])
        spikes = sum(c[i] > np.median(c[i - 20 : i]) + 0.5 for i in range(20, len(c)))
        last = float(c[-20:].mean())
        row = {"trains": last < math.log(BATCH), "contrast": last, "spikes": int(spikes)}
        row |= {side: float(np.mean(history.metrics[side][-20:])) for side in ("picture", "caption")}
        shown.setdefault((rate, bound), history)
    shaken.setdefault((rate, bound), []).append(row)

figure, axes = plt.subplots(1, 2, figsize=(8, 2.8))
for bound, colour in BOUNDS.items():
    if (RATES[0], bound) in shown:
        for ax, side in zip(axes, ("picture", "caption")):
            ax.plot(shown[RATES[0], bound].metrics[side], color=colour, label=bound, linewidth=1.2)
axes[0].set(xlabel="step, learning rate 0.03", ylabel="pictures, before Π (length)", yscale="log")
axes[1].set(xlabel="step, learning rate 0.03", ylabel="captions (length)", yscale="log")
axes[1].legend(title="bound", loc="center left", bbox_to_anchor=(1.01, 0.5))
plt.show()


def over(rate, bound, key, digits=1):
    values = [r[key] for r in shaken[rate, bound] if key in r]
    return span(values, digits) if values else "none ended"


print(f"{'rate':6}{'bound':10}{'train':>8}" + "".join(f"{k:>20}" for k in ("contrast", "spikes", "picture", "caption")))
for (rate, bound), rows_ in shaken.items():
    cells = [over(rate, bound, key) for key in ("contrast", "spikes", "picture", "caption")]
    trains = f"{sum(r['trains'] for r in rows_):>3} of {len(rows_)}"
    print(f"{rate:<6}{bound:10}{trains}" + "".join(f"{c:>20}" for c in cells))

# %% [markdown]
# At tenfold rate every run trains. Without a bound the contrast spikes once or twice, with any of the three it does not: this much of the sentence holds, and the penalty does it as well as the projection. But look at the left figure. What the picture encoder puts out is *longest* where it is bounded by a projection, three times as long as without a bound, as (8) predicts. The penalty is the one that keeps it near $\gamma$. On the right is (12): with the pictures bounded, captions take over, and are twice as long as without.
#
# At thirtyfold rate one run in three trains, whatever the bound. It saves nobody. Samples have a second way to overflow, $e^{\log v}$, and a bound that acts on the sample comes too late for it.
#
# ## 10. Filling in the words
#
# Which of the five attributes does the decoder name right, with the picture? And from the other words alone? The rival is a logistic regression on all other words of the full description, trained on as many captions and judged on the same new scenes.

# %%
picture_alone = np.median(each("full", "words"), axis=0)
bag = F.one_hot(captions.tokens[captions.row(codes)], len(tokenizer)).sum(dim=1)  # (N, words)
bag_test = F.one_hot(captions.tokens[captions.row(codes_test)], len(tokenizer)).sum(dim=1)
from_words = []
for a in range(5):
    keep = (~TOLD[a]).to(device)
    rival = LogisticRegression(max_iter=200).fit((bag * keep).cpu().numpy(), codes[:, a].cpu().numpy())
    from_words.append(rival.score((bag_test * keep).cpu().numpy(), codes_test[:, a].cpu().numpy()))
print("masked        chance   from the other words   with the picture")
for a, name in enumerate(ATTRIBUTES):
    print(f"{name:12} {1 / int(KINDS[a]):7.2f} {from_words[a]:22.2f} {span([r[a] for r in each('full', 'words')]):>18}")

# %% [markdown]
# The other words are at chance in all rows, as (15) says. With the picture four attributes are filled in, nearly always. The shape is not: after 150 steps the frozen tower does not see it, and no decoder reads from a picture what its encoder left out. So the sentence holds as far as the encoder sees.
#
# ## 11. A basis?
#
# "Encoders implement nonlinear transformations akin to basis decompositions." Of the last layer this is exact: with features $f(x)\in\mathbb R^K$ and columns $w_k$ of its matrix,
#
# $$\mu(x) = Wf(x)+b = b+\sum_kf_k(x)\,w_k, \tag{17}$$
#
# fixed directions, with coefficients that depend on the input in a nonlinear way. Of the whole encoder it would mean that a caption's vector is a sum of one vector for each thing it names. That can be measured: fit such a sum on the captions of training, and ask what share of the variance of held-out captions it explains.

# %%
# check (17): the encoder on the left, a sum over columns in a loop on the right
basis_error, additive = [], []
for model, _ in runs["full"]:
    with torch.no_grad():
        inner, head = model.text[0](captions.tokens), model.text[1]
        mean = model.texts(captions.tokens)[0]
        summed = head.bias[:D] + sum(inner[:, k : k + 1] * head.weight[:D, k] for k in range(inner.shape[1]))
    basis_error.append(float((summed - mean).abs().max() / mean.abs().max()))
    named = torch.cat([F.one_hot(captions.codes[:, a], int(KINDS[a]) + 1) for a in range(5)], dim=1).cpu().numpy()
    held, y = captions.held.cpu().numpy(), mean.cpu().numpy()
    sums = LinearRegression().fit(named[~held], y[~held])
    left_over = ((sums.predict(named[held]) - y[held]) ** 2).sum() / ((y[held] - y[held].mean(axis=0)) ** 2).sum()
    additive.append(float(1 - left_over))
same("(17)", summed[:50], mean[:50])
print("share of held-out captions explained by a sum of one vector for each named value:", span(additive))

# %% [markdown]
# ## 12. Claims

# %%
claim(
    "hallucination",
    says="inclusion prevents text embeddings from hallucinating unrealistic concepts",
    source="the summary, 2.3",
    measured=f"AUROC of the residual against true captions: contradictions {span(each('full', 'contradiction'))}, "
    f"random words {span(each('full', 'random words'))}, noise {span(each('full', 'noise'))}; without inclusion "
    f"{span(each('no inclusion', 'contradiction'))}, {span(each('no inclusion', 'random words'))}, "
    f"{span(each('no inclusion', 'noise'))}",
    holds=min(each("full", "contradiction")) > 0.7,
    note="judged on contradictions, the likeliest hallucination",
)
claim(
    "grounded",
    says="inclusion keeps text features in the space of the pictures",
    source="the summary, 2.3",
    measured=f"residual of held-out captions {span(each('full', 'residual'))} of their length, without the term "
    f"{span(each('no inclusion', 'residual'))}; of contradictions {span(each('full', 'residual, contradiction'))}",
    holds=max(each("full", "residual")) < min(each("no inclusion", "residual")),
    note="accuracy " + span(each("full", "accuracy")) + ", without it " + span(each("no inclusion", "accuracy")),
)
spikes = {b: [r.get("spikes", math.inf) for r in shaken[RATES[0], b]] for b in BOUNDS}
claim(
    "fewer-spikes",
    says="the L2 constraint stabilizes training",
    source="the summary, 2.5",
    measured=f"spikes in {STEPS} steps at learning rate 0.03: "
    + ", ".join(f"{b} {over(RATES[0], b, 'spikes', 0)}" for b in BOUNDS),
    holds=all(b < a for a, b in zip(spikes["none"], spikes["pictures"])) if max(spikes["none"]) else UNTESTABLE,
    note="fewer in every seed; every run trains, with or without. The row below has the harder test",
)
trained = {b: sum(r["trains"] for r in shaken[RATES[1], b]) for b in BOUNDS}
claim(
    "saves-a-run",
    says="... and saves a run that would fail",
    source="the summary, 2.5",
    measured=f"runs that train, of {len(SEEDS)}, at learning rate 0.1: "
    + ", ".join(f"{b} {k}" for b, k in trained.items()),
    holds=trained["pictures"] > trained["none"] if trained["none"] < len(SEEDS) else UNTESTABLE,
    note="small towers, AdamW; what overflows first may be a variance, which the bound does not reach",
)
lengths = {b: [r["picture"] for r in shaken[RATES[0], b] if "picture" in r] for b in BOUNDS}
claim(
    "magnitudes",
    says="the constraint prevents embedding magnitudes from diverging",
    source="the summary, 2.5",
    measured="length of what the picture encoder puts out, learning rate 0.03: "
    + ", ".join(f"{b} {over(RATES[0], b, 'picture')}" for b in BOUNDS),
    holds=max(lengths["pictures"], default=math.inf) < min(lengths["none"], default=0.0),
    note="what enters the score is bounded by construction; what is put out is not (4.4)",
)
claim(
    "i-dont-know",
    says="high variance triggers 'I don't know' for ambiguous inputs",
    source="the summary, 2.4",
    measured=f"rank correlation of a caption's variance with N {span(each('full', 'ambiguity'))}; "
    f"of a picture's with the hidden share {span(each('full', 'hidden'))}",
    holds=min(each("full", "ambiguity")) > 0.3 and min(each("full", "hidden")) > 0.3,
    note="held-out captions; the paper's loss and masks are measured in lesson 12",
)
gain = [min(w - x for w, x in zip(r, from_words)) for r in each("full", "words")]
claim(
    "words",
    says="masked tokens are reconstructed using visual context",
    source="the summary, 4",
    measured="; ".join(
        f"{n} {span([r[a] for r in each('full', 'words')])} ({from_words[a]:.2f} from words)"
        for a, n in enumerate(ATTRIBUTES)
    ),
    holds=min(gain) > 0.1,
    note="judged on the hardest, the shape, which the frozen tower does not see. Words of real captions predict each "
    "other, these do not",
)
masked_gain = [a - b for a, b in zip(each("full", "ambiguity"), each("no masked", "ambiguity"))]
claim(
    "masked-subspace",
    says="inclusion enforces V ⊂ V^masked",
    source="the summary, 4",
    measured=f"residual of new pictures to the span of masked captions {span(each('full', 'in masked'))} of their "
    f"length, without the term {span(each('no masked', 'in masked'))}",
    holds=max(each("full", "in masked")) < min(each("no masked", "in masked")),
    note="the letter of it: a smaller residual in every seed. What it is for is the next row",
)
claim(
    "masked-generality",
    says="... and so the variance knows what a general caption is",
    source="the summary, 4; section 4.2",
    measured=f"with the term the rank correlation of a caption's variance with N changes by {span(masked_gain)}",
    holds=min(masked_gain) > 0,
    note="holds if it rises in every seed; a subspace says nothing about a variance",
)
claim(
    "basis",
    says="encoders are akin to basis decompositions",
    source="the summary, 1",
    measured=f"last layer: exact to {max(basis_error):.0e}; whole encoder: a sum of one vector for each named value "
    f"explains {span(additive)} of held-out captions",
    holds=min(additive) > 0.99,
    note="judged on the encoder; a bag of words, which begins with a sum",
)

# %% [markdown]
# ## 13. What goes wrong
#
# - *The residual is 0 for everything:* as many pictures in the basis as dimensions. Choose $K$ below the rank.
# - *The residual of the batch explodes or is not a number:* basis vectors that are nearly parallel, and $A^\top A$ inverted. Use QR or least squares.
# - *Raw lengths grow although they are clipped:* a projection inside the network has no pull along the vector. Add a penalty, or divide by the length and learn one scale, as the paper does.
# - *One side is bounded and logits still grow:* (12). Bound both, or the logits.
# - *Uncertainties shrink to nothing:* samples in a softmax cost curvature (6). The weight $\beta$ alone decides the level, and (7) what it measures.
#
# What the summary calls an orchestra is a sum; each term was left out here on its own. Terms can also stand in for each other, and no table of single omissions shows that.
#
# **Further reading.** Chun et al. 2025 (ProLIP), whose equations lesson 12 follows; Boyd and Vandenberghe 2004 on projections and multipliers; Candès and Recht 2009 on matrix completion; Kingma and Welling 2014 on the ELBO and its samples.
#
# **Exercises:** [12c · constraints](../exercises/12c_constraints.ipynb).
