# %% [markdown]
# # 05 · VICReg: two views agree, and nothing is pushed away
#
# **You derive** each of VICReg's three terms from the collapse that it prevents, their gradients, what the covariance term says of the spectrum, and what it asks of the batch.
#
# **You train** it on emoji, take each term away, and watch which collapse follows.
#
# After this lesson you can
# - tell two collapses apart, by a variance and by a rank;
# - say why the variance term has a square root, and why a batch of 16 sees correlations that are not there;
# - read a spectrum of singular values;
# - say in which sense a method without negatives has negatives.
#
# *Before this:* lesson 01 (InfoNCE); [lesson 03](03_simclr.ipynb) (SimCLR) for views and projection heads. *After it:* [05b](05b_mae.ipynb), which needs no second view either. *Papers:* Bardes, Ponce and LeCun 2022 (VICReg); Jing et al. 2022 (dimensional collapse); Garrido et al. 2022 (duality); Roy and Vetterli 2007 (effective rank).

# %%
from minilip.course import *

device = setup("05_vicreg")

# %%
import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from minilip.course import plot
from minilip.course.widgets import panel
from minilip.data.poses import PosedEmoji
from minilip.evaluation import covariance_spectrum, effective_rank
from minilip.studies.lie import learners
from minilip.studies.vicreg import terms as study
from minilip.training import fit, keep_encoder
from minilip.vicreg import VICReg, vicreg_loss, vicreg_terms

# %% [markdown]
# ## 1. A question
#
# Below, each drawing stands above two *views* of it: random crops, mirrored and recoloured by lot. You see at once that a column is one thing. A machine that turned the two views of a picture into one vector would have understood something: what a thing is does not depend on its colour cast or its place.
#
# Lesson 01 and SimCLR teach this by contrast: the other view must be nearer than all other pictures of the batch. But nobody told us that those others are different things. In a batch of animals some of the "negatives" are the same kind of animal. *Can we ask for agreement alone, and push nothing away?*

# %%
pictures = {part: study.drawings(part).to(device) for part in ("train", "test")}  # (3, K, 3, 32, 32)
generator = torch.Generator(device).manual_seed(4)
some = pictures["test"][0, 30::36][:8]
figure = plot.images(
    torch.cat([some, study.view(some, generator), study.view(some, generator)]),
    ["drawing"] * 8 + ["view x"] * 8 + ["view y"] * 8,
)

# %% [markdown]
# ## 2. A first guess, and how it fails
#
# Take it literally: minimise the squared difference between the two views' vectors, and nothing else. `VICReg` has a weight for each of its terms; with two of them at 0 it is our guess.

# %%
torch.manual_seed(0)
guess = VICReg(study.ConvNet(16), dim=128, variance=0.0, covariance=0.0).to(device)
GUESS_STEPS = budget(cpu=30, gpu=100, quick=2)
fit(guess, study.views(pictures["train"], 128), GUESS_STEPS, weight_decay=0.0, label="agreement alone")
found = study.examine(guess, pictures["test"])
print(f"mean squared difference of two views {found['terms'][0]:.2e}")
print(f"mean variance of a dimension          {np.mean(found['z']):.2e}")

# %% [markdown]
# The views agree almost perfectly, and so do all pictures. Every vector is the same: the cheapest agreement is to say nothing. It is the collapse of lesson 07 again, where contrast was the cure.
#
# ## 3. The idea
#
# > Forbid the two ways of saying nothing, on the batch as a whole: no dimension may be constant over the batch, and no two dimensions may say the same.
#
# In mathematics, with a *mean squared difference* $s$ of views, a *hinge* $v$ on the spread of every dimension, and $c$, the squared *covariances* of different dimensions,
#
# $$\mathcal L = \lambda\,s + \mu\,v + \nu\,c, \qquad \lambda = \mu = 25,\ \nu = 1,$$
#
# and in code `25 * s + 25 * v + c`: *variance, invariance, covariance*, VICReg.
#
# ## 4. Derivation
#
# Letters: $B$ pictures in a batch; $x_i, y_i \in \mathbb R^D$ what the network says of the two views of picture $i$; $\bar x$ the mean over the batch; $C$ the covariance matrix of $x$, $D \times D$, divided by $B - 1$; $\lambda_1 \ge \dots \ge \lambda_D$ its eigenvalues. (The weight $\lambda$ has no index.)
#
# ### 4.1 Invariance: what agreement measures
#
# $$s = \frac1{BD}\sum_{i,d}(x_{id} - y_{id})^2. \tag{1}$$
#
# What does it measure? Suppose that dimension $d$ of a view is a part $m$ that belongs to the picture, plus a part that the random view adds, of variance $\sigma^2$. Two views are drawn independently, so $m$ cancels in the difference and the variances add:
#
# $$\mathbb E\,(x - y)^2 = 2\,\sigma^2. \tag{2}$$
#
# So $s$ is twice the variance *within* a picture. It does not ask how much pictures differ. A network can lower it by keeping $m$ and dropping the rest, which we want, or by shrinking everything. The loss prefers neither.

# %%
# check (2): a mean over pairs of views on the left, the variance within each picture, from 40 views of it, on the right
m = 3 * torch.randn(2000, 1, dtype=torch.double)  # what belongs to the picture
every = m + 0.7 * torch.randn(2000, 40, dtype=torch.double)  # 40 views each
same("(2)", (every[:, ::2] - every[:, 1::2]).square().mean(), 2 * every.var(dim=1).mean(), tolerance=0.02)

# %% [markdown]
# ### 4.2 Variance: a hinge, and why it has a root
#
# To forbid shrinking, ask each dimension for a standard deviation of at least 1 over the batch. More than 1 earns nothing, or the network would grow for ever:
#
# $$v(x) = \frac1D\sum_d \max\big(0,\ 1 - S_d\big), \qquad S_d = \sqrt{\operatorname{Var}(x_{\cdot d}) + \varepsilon}, \qquad v = \tfrac12\big[v(x) + v(y)\big]. \tag{3}$$
#
# Why the standard deviation, and not the variance itself? Look at the gradient. $\operatorname{Var}$ is a sum of squares over $B-1$, so $\partial\operatorname{Var}/\partial x_{id} = 2(x_{id} - \bar x_d)/(B-1)$; the means' own dependence on $x_{id}$ drops out, since deviations sum to 0. The root brings $1/(2S_d)$. While the hinge is active,
#
# $$\frac{\partial v(x)}{\partial x_{id}} = -\frac{1}{D\,(B-1)}\,\frac{x_{id} - \bar x_d}{S_d}. \tag{4}$$
#
# Each point is pushed away from the mean. Now let the cloud shrink. The numerator shrinks, and so does the denominator: their ratio stays of order 1 until the spread falls to $\sqrt\varepsilon = 0.01$. **The push does not fade as the collapse nears.** Without the root it would be $-2(x_{id}-\bar x_d)/(D(B-1))$, and vanish with the cloud.

# %%
# check (4): autograd on the left, deviations on the right; then the length of the push as a cloud shrinks
B, D = 7, 5
x = (0.4 * torch.randn(B, D, dtype=torch.double)).requires_grad_()
slope = torch.autograd.grad(vicreg_terms(x, x.detach())[1], x)[0]
away = (x - x.mean(dim=0)).detach()
same("(4)", 2 * slope, -away / (D * (B - 1) * (x.detach().var(dim=0) + 1e-4).sqrt()))  # v halves v(x)

spread = np.logspace(-4, -0.1, 60)
cloud = F.normalize(torch.randn(64, 1, dtype=torch.double), dim=0)
cloud = (cloud - cloud.mean()) / cloud.std()  # spread 1
root, plain = [], []
for r in spread:
    z = (r * cloud).requires_grad_()
    for pushes, hinge in ((root, 1 - (z.var(dim=0) + 1e-4).sqrt()), (plain, 1 - z.var(dim=0))):
        pushes.append(float(torch.autograd.grad(hinge.sum(), z)[0].norm()))
figure, ax = plt.subplots(figsize=(8, 2.7))
ax.plot(spread, root, color=plot.BLUE, label="hinge on the standard deviation, (3)")
ax.plot(spread, plain, color=plot.ORANGE, label="hinge on the variance")
ax.axvline(0.01, color="#777777", linewidth=0.8, linestyle="--")
ax.annotate(r"$\sqrt{\varepsilon}$", (0.01, 0.17), xytext=(4, 0), textcoords="offset points", fontsize=9)
ax.set(xscale="log", yscale="log", xlabel="standard deviation of the cloud", ylabel="length of the gradient")
ax.legend()
plt.show()

# %% [markdown]
# The blue line is flat over two decades, the orange one falls with the cloud. Left of $\sqrt\varepsilon$ both fade: the $\varepsilon$ that keeps the root's slope finite at 0 also makes a full collapse a place that gradients do not leave. And its price is known in advance. All vectors equal: $s = c = 0$ and $S_d = \sqrt\varepsilon$, so
#
# $$\mathcal L_{\text{collapse}} = 25\,\big(1 - \sqrt{10^{-4}}\big) = 24.75. \tag{5}$$
#
# A run whose loss stays near 24.75 has collapsed. It is the first thing to know about a VICReg curve.

# %%
# check (5): the library's loss of one point on the left, the number on the right
point = torch.full((6, 4), -3.0, dtype=torch.double)
same("(5)", vicreg_loss(point, point), 25 * (1 - 0.01))

# %% [markdown]
# ### 4.3 Covariance: the collapse that variance does not see
#
# The hinge looks at one dimension at a time. Let all $D$ dimensions be copies of one: each has its variance, $s$ may be 0, $v$ is 0, and a vector of 128 numbers says one. This is *dimensional collapse*. What tells copies from news is the covariance of two dimensions, so
#
# $$c(x) = \frac1D\sum_{d\ne e} C_{de}^2, \qquad c = c(x) + c(y). \tag{6}$$
#
# Here is what it measures. The squares of *all* entries of a symmetric matrix sum to the squares of its eigenvalues, $\sum_{de} C_{de}^2 = \operatorname{tr} C^2 = \sum_d\lambda_d^2$. Take away the diagonal. If every dimension has the same variance $w$, then $\sum_d C_{dd}^2 = D w^2$, and the mean eigenvalue is $\operatorname{tr} C/D = w$ as well. A sum of squares minus $D$ times the squared mean is a sum of squared deviations:
#
# $$c(x) = \frac1D\sum_d(\lambda_d - w)^2. \tag{7}$$
#
# **The covariance term is the variance of the spectrum.** It is 0 when the cloud is equally wide in all directions, and largest, $(D-1)\,w^2$, when one direction has it all.

# %%
# check (1), (3), (6): the library's three terms on the left; numpy's covariance and plain sums on the right
x, y = torch.randn(2, 12, 5, dtype=torch.double)
s = sum((a - b) ** 2 for a, b in zip(x.flatten().tolist(), y.flatten().tolist())) / (12 * 5)
v = c = 0.0
for z in (x, y):
    C = np.cov(z.numpy().T)
    v += sum(max(0.0, 1 - (C[d, d] + 1e-4) ** 0.5) for d in range(5)) / 5 / 2
    c += sum(C[d, e] ** 2 for d in range(5) for e in range(5) if d != e) / 5
same("(1), (3), (6)", vicreg_terms(x, y), (s, v, c))

# check (7): covariances on the left, eigenvalues from singular values on the right; a cloud of equal variances, w = 1.7
x = torch.randn(30, 6, dtype=torch.double) @ torch.randn(6, 6, dtype=torch.double)
x = 1.7**0.5 * (x - x.mean(dim=0)) / x.std(dim=0)
same("(7)", vicreg_terms(x, x)[2] / 2, (covariance_spectrum(x) - 1.7).square().mean())
copies = x[:, :1].expand(-1, 6)
same("(7), copies", vicreg_terms(copies, copies)[2] / 2, 5 * 1.7**2)

# %% [markdown]
# Its gradient. Write $\tilde x = x - \bar x$ and $C^{0}$ for $C$ with its diagonal set to 0. Each $C_{de}$ stands twice in (6), $\partial C_{de}/\partial x_{id} = \tilde x_{ie}/(B-1)$, and the square brings another 2:
#
# $$\frac{\partial c(x)}{\partial x_i} = \frac{4}{D\,(B-1)}\,C^{0}\,\tilde x_i. \tag{8}$$
#
# A dimension is moved *against* what the others predict of it: where $d$ and $e$ rise together, picture $i$'s $x_{id}$ is pulled down in proportion to its $\tilde x_{ie}$. No picture is compared with another.

# %%
# check (8): autograd on the left, a matrix product on the right
x = torch.randn(9, 4, dtype=torch.double, requires_grad=True)
slope = torch.autograd.grad(vicreg_terms(x, x.detach())[2], x)[0]
away = (x - x.mean(dim=0)).detach()
off = torch.tensor(np.cov(away.numpy().T)) * (1 - torch.eye(4))
same("(8)", slope, 4 / (4 * 8) * away @ off)

# %% [markdown]
# ### 4.4 How many directions are left: the effective rank
#
# A rank counts eigenvalues that are not 0, and in practice none is. The *effective rank* asks instead how many equal directions would be as spread out. Let $p_d = \lambda_d/\sum_e\lambda_e$ be the share of direction $d$. Shares are probabilities, and the exponential of an entropy is a number of equal alternatives:
#
# $$\operatorname{erank}(x) = \exp\Big(-\sum_d p_d\log p_d\Big), \tag{9}$$
#
# 1 for a line, $K$ for $K$ equal directions. It is blind to size. So look at two numbers: the *variance* says whether there is a cloud at all, the *effective rank* in how many directions.

# %%
# check (9): clouds of 3 equal directions in 8 dimensions, of any size
flat = torch.linalg.qr(torch.randn(40, 3, dtype=torch.double) - 0.0)[0]  # orthonormal columns
flat = flat - flat.mean(dim=0)
flat = flat @ torch.linalg.inv(torch.linalg.cholesky(flat.T @ flat)).T  # and centred
turn = torch.linalg.qr(torch.randn(8, 8, dtype=torch.double))[0][:3]
same("(9)", (effective_rank(flat @ turn), effective_rank(1e-3 * flat @ turn)), (3.0, 3.0))

# %% [markdown]
# ### 4.5 What the batch is for
#
# VICReg needs a batch to estimate $C$. How large? Let the dimensions be truly independent with variance 1. The right answer is $c = 0$. But a covariance from $B$ samples is not exactly 0: it is a mean of products of independent deviations, with variance $1/(B-1)$. There are $D(D-1)$ such entries in each view, divided by $D$, and two views:
#
# $$\mathbb E\,c = \frac{2\,(D-1)}{B-1} \quad\text{for a network that has nothing to mend.} \tag{10}$$
#
# With $D = 128$ that is 16.9 at $B = 16$ and 1.0 at $B = 256$. The loss of a small batch is dominated by correlations that are not there. (SimCLR's need of a large batch is another: it wants negatives. Section 7 measures both.)

# %%
# check (10): 400 batches of independent Gaussians on the left
for B in (16, 256):
    draws = [vicreg_terms(*torch.randn(2, B, 32, dtype=torch.double))[2] for _ in range(budget(cpu=400, quick=150))]
    same(f"(10), B = {B}", torch.stack(draws).mean(), 2 * 31 / (B - 1), tolerance=0.05)

# %% [markdown]
# ### 4.6 Negatives by another name
#
# VICReg compares dimensions, $D \times D$ numbers. Contrastive losses compare pictures, $B \times B$ numbers. Yet for any matrix $\tilde x$, since $\operatorname{tr}(PQ) = \operatorname{tr}(QP)$,
#
# $$\sum_{d,e}\big(\tilde x^\top\tilde x\big)_{de}^2 = \operatorname{tr}\big(\tilde x^\top\tilde x\,\tilde x^\top\tilde x\big) = \operatorname{tr}\big(\tilde x\,\tilde x^\top\tilde x\,\tilde x^\top\big) = \sum_{i,j}\big(\tilde x\,\tilde x^\top\big)_{ij}^2. \tag{11}$$
#
# On the left stand squared covariances, on the right squared inner products of *pictures*. The two losses differ in what they leave out, which is the diagonal: variances on the left, squared lengths on the right. With both diagonals held fixed, to lower the covariances of dimensions is to lower the inner products of pictures. Garrido et al. build a duality of contrastive and non-contrastive methods on this. "Without negatives" means that none is named.

# %%
# check (11): D x D on the left, B x B on the right
x = torch.randn(20, 6, dtype=torch.double)
same("(11)", (x.T @ x).square().sum(), sum(float(x[i] @ x[j]) ** 2 for i in range(20) for j in range(20)))

# %% [markdown]
# ## 5. Code
#
# The method in a cell, with the letters of the formulas.


# %%
def my_vicreg(x, y, eps=1e-4):
    """The three terms of (1), (3) and (6), unweighted. x, y (B, D) -> three scalars"""
    s = (x - y).square().mean()
    v = c = 0.0
    for z in (x, y):
        S = (z.var(dim=0) + eps).sqrt()  # (D,)
        v = v + F.relu(1 - S).mean() / 2
        away = z - z.mean(dim=0)  # (B, D)
        C = away.T @ away / (len(z) - 1)  # (D, D)
        c = c + (C.square().sum() - C.diagonal().square().sum()) / len(C)
    return s, v, c


x, y = torch.randn(2, 12, 5, dtype=torch.double)
same("my_vicreg, the library", my_vicreg(x, y), vicreg_terms(x, y))
show(vicreg_terms)

# %% [markdown]
# Two things around it. An *expander* $g$ stands between the representation $h = f(\text{picture})$ that is kept and the $z = g(h)$ that the loss sees: Linear, BatchNorm, ReLU, twice, and a last Linear. The vectors are **not** normalised: unit vectors cannot have variance 1 in every dimension. Second, under several processes the terms need the **whole** batch, because a covariance of a batch is not the mean of the covariances of its halves, whose own means have been subtracted. So `VICReg.loss` gathers $x$ and $y$ first.

# %%
x, y = torch.randn(2, 16, 6, dtype=torch.double)
halves = [vicreg_terms(x[i : i + 8], y[i : i + 8]) for i in (0, 8)]
for name, whole, half in zip(("invariance", "variance", "covariance"), vicreg_terms(x, y), zip(*halves)):
    print(f"{name:11} whole batch {whole:.4f}, mean of two halves {sum(half) / 2:.4f}")
show(VICReg.loss)

# %% [markdown]
# Only the invariance, a mean over pictures, is the same. The halves overstate the covariance, as (10) says.
#
# ## 6. Train, and take a term away
#
# The bed: emoji by three artists at 32 x 32 pixels. Nothing is labelled. A fifth of the concepts, by whole families, is held out, and *all* that follows is read on those. Two readings of $h$: **view**, whether a new view of a drawing finds the drawing among all 918 (R@1, chance 0.001), and **artists**, whether a drawing finds the same concept by another artist among 306 (R@10, chance 0.033).
#
# | arm | $\lambda$ | $\mu$ | $\nu$ | what it is for |
# |---|---|---|---|---|
# | VICReg | 25 | 25 | 1 | the whole |
# | no invariance | 0 | 25 | 1 | views need not agree |
# | no variance | 25 | 0 | 1 | shrinking is free |
# | no covariance | 25 | 25 | 0 | copies are free |
# | SimCLR | – | – | – | NT-Xent of lesson 03, $\tau = 0.2$, the same tower and views |
# | untrained | – | – | – | what the architecture gives away |
#
# Tower: four convolutions, $h \in \mathbb R^{64}$. $D = 128$ (64 for SimCLR). $B = 128$, no weight decay. Here each arm trains for some steps with one seed, to watch it; the numbers come from longer runs over three seeds, stored by `python -m minilip.studies.vicreg.terms`.

# %%
SEEN = budget(cpu=128 * 100, gpu=study.PICTURES, quick=256)
NAMES = ("VICReg", "no invariance", "no variance", "no covariance")
ALL = (*NAMES, "SimCLR", "untrained")
COLOUR = dict(zip(ALL, (plot.BLUE, plot.GREEN, plot.RED, plot.ORANGE, plot.PINK, plot.BLACK)))
models, histories = {}, {}
for name in NAMES:
    arm = study.ARMS[name]._replace(pictures=SEEN)
    models[name], histories[name] = study.train(arm, 0, pictures["train"])

figure, axes = plt.subplots(1, 3, figsize=(8, 2.9))
for ax, term in zip(axes, ("invariance", "variance", "covariance")):
    for name in NAMES:
        ax.plot(histories[name].metrics[term], color=COLOUR[name], label=name)
    ax.set(xlabel="step", title=f"{term}, unweighted", yscale="linear" if term == "variance" else "log")
plot.line(axes[1], 0.99, "collapse, 0.99")
axes[1].set_ylim(0, 1.12)
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
plt.show()

# %% [markdown]
# Take the panels from left to right. Views agree best where nothing is said (red). The variance term tells why: red stays at 0.99, the collapse, while orange, without the covariance, comes down *fastest*. To give a hundred copies a variance is easy. The last panel shows the price, on a logarithmic scale. Green spends both terms well and agrees about nothing.
#
# ## 7. Look
#
# ### The spectrum
#
# Eigenvalues of the covariance of $z$ on held-out drawings, from the stored runs, the mean over seeds on a logarithmic scale. The height of a curve is size, its slope is collapse.

# %%
known = study.known()


def stored(name, key):
    """(seeds, ...) of an arm."""
    return np.array([run[key] for run in known[name]])


figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), width_ratios=(1.5, 1))
for name in (*NAMES, "SimCLR"):
    spectrum = stored(name, "z").mean(axis=0)
    left.plot(range(1, len(spectrum) + 1), spectrum.clip(1e-12), color=COLOUR[name], label=name)
left.set(xscale="log", yscale="log", ylim=(1e-11, 1e3))
left.set(xlabel="direction, widest first", ylabel="variance of z along it")
left.legend(loc="lower left", fontsize=8)
plot.bars(
    right,
    {name: stored(name, "rank z") for name in (*NAMES, "SimCLR")},
    "effective rank of z",
    colours=[COLOUR[n] for n in (*NAMES, "SimCLR")],
)
plt.show()
for name in (*NAMES, "SimCLR", "untrained"):
    s, v, c = stored(name, "terms").mean(axis=0)
    print(f"{name:13}  s {s:9.2e}  v {v:5.3f}  c {c:9.2e}  25 s + 25 v + c = {25 * s + 25 * v + c:7.2f}")

# %% [markdown]
# Two collapses, as different as can be. *No variance*: the red curve lies orders of magnitude below all others, while its rank looks healthy. The rank alone would have missed it, and the loss in the last column is the 24.75 of (5). *No covariance*: one direction holds nearly everything, and the variance term is 0. The variance alone would have missed it.
#
# The whole VICReg lies between. Its variance term has stopped near a half, not at 0: with these weights and this little training, agreement and decorrelation pull against it.
#
# ### What is learned

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 2.7))
for ax, key, label in zip(axes, ("view", "artists"), ("drawing from a view, R@1", "concept by another artist, R@10")):
    plot.bars(ax, {name: stored(name, key) for name in ALL}, label, colours=[COLOUR[n] for n in ALL])
axes[1].set_yticklabels([])
plt.show()

# %% [markdown]
# Against the *untrained* tower, which reads more than one might think. For "view" only the whole gains clearly, and each missing term costs. For "artists" VICReg's gain over no training lies within the noise of three seeds; look how far apart the dots of the untrained tower are. SimCLR gains about 0.2. Section 9 has the numbers.
#
# ### The batch
#
# Every run sees the same 19,200 pictures, so a batch of 16 takes 16 times the steps of a batch of 256; the learning rate follows $\sqrt B$.

# %%
SIZES = (16, 64, 128, 256)


def at_size(method, size, key="view"):
    return stored(method if size == 128 else f"{method}, B = {size}", key)


figure, axes = plt.subplots(1, 2, figsize=(8, 2.8))
for method in ("VICReg", "SimCLR"):
    for ax, key in zip(axes, ("view", "artists")):
        each = np.array([at_size(method, size, key) for size in SIZES])  # (sizes, seeds)
        ax.plot(SIZES, each.mean(axis=1), color=COLOUR[method], label=method)
        ax.plot(SIZES, each, "o", color=COLOUR[method], markersize=3)
for ax, key, label in zip(axes, ("view", "artists"), ("R@1 of the drawing", "R@10 of the concept")):
    ax.set(xscale="log", xlabel="batch B", ylabel=label, ylim=(0, None))
    ax.set_xticks(SIZES, SIZES)
    ax.minorticks_off()
    ax.axhline(stored("untrained", key).mean(), color="#777777", linewidth=0.8, linestyle="--", label="untrained")
axes[0].legend(loc="lower right")
plt.show()

# %% [markdown]
# At an equal number of pictures a large batch is no help to either method: it means fewer steps. VICReg falls from 16 to 256, SimCLR hardly moves before 256. What (10) predicts for VICReg at $B = 16$, a covariance term that is mostly noise, does not show as a loss of quality here. The noise is new in every batch and may average out over many steps; batch and steps are not separated by this bed.
#
# ### A panel: the covariance weight
#
# Here the points are free, no network: 48 points in 12 dimensions start as a cloud that is wide in two directions only, and follow the gradient of $25\,v + \nu\,c$ for 60 steps. Move $\nu$. At 0 the variance term alone lifts what is there: the spectrum keeps its two directions. From about 1 on it turns flat. Watch the effective rank.

# %%
start = torch.randn(48, 2, generator=torch.Generator().manual_seed(1)) @ torch.randn(
    2, 12, generator=torch.Generator().manual_seed(2)
)
start = 0.3 * start + 0.02 * torch.randn(48, 12, generator=torch.Generator().manual_seed(3))


def follow(nu, steps=60):
    z = start.clone().requires_grad_()
    for _ in range(steps):
        _, v, c = vicreg_terms(z, z)
        slope = torch.autograd.grad(25 * v + nu * c, z)[0]
        z = (z - 2.0 * slope / max(1.0, float(slope.norm()))).detach().requires_grad_()
    return z.detach()


def draw(nu):
    z = follow(nu)
    figure, ax = plt.subplots(figsize=(4, 2.6))
    for cloud, colour, name in ((start, plot.SKY, "start"), (z, plot.BLUE, "after 60 steps")):
        ax.plot(range(1, 13), covariance_spectrum(cloud), "o-", color=colour, markersize=3, label=name)
    ax.set(yscale="log", ylim=(1e-4, 30), xlabel="direction", ylabel="variance")
    ax.set_title(f"effective rank {effective_rank(z):.1f}")
    ax.legend(loc="lower left")
    return figure


panel(draw, widgets.FloatSlider(value=1.0, min=0.0, max=4.0, step=0.25, description="nu"), examples=(0.0, 0.25, 4.0))

# %% [markdown]
# ## 8. An encoder for lesson 06
#
# Lesson 06 asks how a drawing's *turning* acts on a representation, and can start from an encoder made here. It needs that lesson's own tower and its own pictures: known drawings in the poses that its training may show, under views that never turn. These few steps make one, and keep it in the cache folder (without pickled code). More steps make a better one.

# %%
posed = PosedEmoji()
rows = (~posed.unknown).nonzero().squeeze(1).to(device)
poses, allowed = posed.images.to(device), posed.trained.float().to(device)


def posed_views(generator):
    """Two pose-free views of 128 known drawings, each in a pose that training may show."""
    r = rows[torch.randperm(len(rows), generator=generator, device=device)[:128]]
    p = torch.multinomial(allowed[r], 1, generator=generator).squeeze(1)  # (B,)
    x = poses[r, p].float() / 255  # (B, 3, 32, 32)
    return learners.view(x, generator), learners.view(x, generator)


torch.manual_seed(0)
for_06 = VICReg(learners.Tower(), dim=256).to(device)
STEPS_06 = budget(cpu=60, gpu=2000, quick=2)
history = fit(for_06, posed_views, STEPS_06, weight_decay=0.0, label="for lesson 06")
if not quick():
    kept = keep_encoder("05-vicreg", for_06.tower, f"VICReg, lesson 05, {STEPS_06} steps on emoji in poses")
    print("kept as", kept.name)
print(f"loss {history.loss[0]:.2f} at the start, {np.mean(history.loss[-5:]):.2f} at the end (a collapse: 24.75)")

# %% [markdown]
# ## 9. Claims
#
# Three seeds, held-out drawings. Differences are paired by seed; "±" is a standard deviation over seeds.


# %%
def mean_sd(values):
    return f"{np.mean(values):+.3f} ± {np.std(values, ddof=1):.3f}"


def beyond_noise(values):
    return bool(np.mean(values) - 2 * np.std(values, ddof=1) > 0)


untrained = stored("untrained", "view")
gain = {name: stored(name, "view") - untrained for name in (*NAMES, "SimCLR")}
s, v, c = stored("no variance", "terms").T
claim(
    "vicreg-variance",
    says="without the variance term the embeddings collapse to a point",
    source="Bardes et al. 2022, the reason for eq. 1; (5)",
    measured=f"25 s + 25 v + c = {np.mean(25 * s + 25 * v + c):.2f} of 24.75; "
    f"view R@1 against untrained {mean_sd(gain['no variance'])}",
    holds=bool((np.abs(25 * s + 25 * v + c - 24.75) < 0.25).all()) and bool((gain["no variance"] < 0).all()),
    note="holds if within 0.25 of 24.75 and below the untrained tower, in every seed",
)
ranks_ = stored("no covariance", "rank z"), stored("VICReg", "rank z")
claim(
    "vicreg-covariance",
    says="without the covariance term the dimensions repeat each other",
    source="Bardes et al. 2022, the reason for eq. 3; Jing et al. 2022",
    measured=f"effective rank of z {ranks_[0].mean():.2f}, with the term {ranks_[1].mean():.2f}, of 128",
    holds=bool((ranks_[0] < 1.5).all() and (ranks_[1] > 2 * ranks_[0]).all()),
    note="holds if below 1.5 without and at least twice that with, in every seed; with it 128 dimensions still say "
    f"{ranks_[1].mean():.0f} things",
)
lost = gain["VICReg"] - gain["no invariance"]
claim(
    "vicreg-invariance",
    says="agreement of the views is what makes the representation invariant",
    source="Bardes et al. 2022, eq. 5",
    measured=f"view R@1: what the invariance term adds {mean_sd(lost)}",
    holds=beyond_noise(lost),
    note=f"the other two terms alone, against the untrained tower: {mean_sd(gain['no invariance'])}",
)
artists = stored("VICReg", "artists") - stored("untrained", "artists")
claim(
    "vicreg-learns",
    says="VICReg learns representations that are useful beyond its views",
    source="Bardes et al. 2022, sec. 5",
    measured=f"against untrained: view R@1 {mean_sd(gain['VICReg'])}, "
    f"concept by another artist R@10 {mean_sd(artists)}",
    holds=beyond_noise(gain["VICReg"]) and beyond_noise(artists),
    note="holds if both gains exceed two standard deviations; 150 steps of a small tower on 3,450 drawings here",
)
behind = stored("VICReg", "view") - stored("SimCLR", "view"), stored("VICReg", "artists") - stored("SimCLR", "artists")
claim(
    "vicreg-simclr",
    says="without negatives as good as with them",
    source="our question, after Bardes et al. 2022, sec. 5",
    measured=f"VICReg minus SimCLR at B = 128: view {mean_sd(behind[0])}, artists {mean_sd(behind[1])}",
    holds=bool(behind[0].mean() > -0.02 and behind[1].mean() > -0.02),
    note="holds if at most 0.02 behind in both; equal pictures and views, weights as published, nothing tuned for "
    "either beyond one learning rate",
)
drop = {m: at_size(m, 128) - at_size(m, 16) for m in ("VICReg", "SimCLR")}
swing = {m: np.ptp([at_size(m, b).mean() for b in SIZES]) for m in drop}
claim(
    "vicreg-batch",
    says="VICReg is less sensitive to the batch size than a contrastive loss",
    source="our question, after (10) and lesson 01",
    measured="view R@1 at B = 128 minus B = 16: "
    + ", ".join(f"{m} {mean_sd(d)}" for m, d in drop.items())
    + "; largest minus smallest mean over four sizes: "
    + ", ".join(f"{m} {d:.3f}" for m, d in swing.items()),
    holds=bool(swing["VICReg"] < swing["SimCLR"]),
    note="equal pictures: small batches take more steps, so batch and steps are not told apart",
)

# %% [markdown]
# ## 10. Doubts
#
# **What the released code does differently from the paper's text**
# - The variance term is *halved* (a mean over the two views), the covariance term is a *sum* over them. Users have asked why. Ours does the same, and so do lightly and pytorch-metric-learning.
# - The invariance is a mean over the $D$ dimensions too. The paper's symbols read as a sum over them.
# - The covariance divides by the *configured* batch minus one, and the loader keeps a smaller last batch, whose covariances are then too small.
# - Its recipe is far from ours: an expander of 8192-8192-8192, LARS at a batch of 2048, asymmetric blur and solarisation, warm-up of 10 epochs. Wide expanders are part of the method: many functions of $h$ that do not correlate.
#
# **What goes wrong in practice**
# - *The loss stays at 24.75:* collapsed. Look at $v$ before anything else.
# - *The covariance term falls to 0:* not a success. A collapsed cloud has no covariances either. That it *rises slowly* while the invariance falls is the normal picture.
# - *It explodes in the first steps:* reported without warm-up. The terms are squares of unbounded outputs.
# - *Inputs are normalised:* unit vectors of 128 dimensions have a variance near 1/128, so that the hinge can never be satisfied.
# - *A rank without a variance, or the other way round:* section 7.
#
# **Read on:** Zbontar et al. 2021 (Barlow Twins) ask the *cross*-correlation of the views to be the identity, one matrix for all three terms. [Lesson 05b](05b_mae.ipynb) drops the second view. Lesson 06 starts from such encoders.
#
# **Now you:** [exercises 05](../exercises/05_vicreg.ipynb), with [solutions](../solutions/05_vicreg.ipynb).
