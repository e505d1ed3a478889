# %% [markdown]
# # 04 · Alignment and uniformity: exercises
#
# Eight exercises on [lesson 04](../notebooks/04_hypersphere.ipynb), about two hours in all. Fill in the cells, run the check under each. A check tells you what it thinks went wrong. If you are stuck, run `hint("hypersphere.…")` in a cell of its own: three hints an exercise, each says more. After a failed check the notebook goes on with the library's version, so that you can skip and come back.

# %%
from minilip.course import *

device = setup("04_hypersphere")

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from minilip.course import plot
from minilip.hypersphere import uniformity_floor
from minilip.infonce import info_nce_negatives
from minilip.nn.vectors import unit
from minilip.studies.hypersphere import plane as study

generator = torch.Generator().manual_seed(0)

# %% [markdown]
# ## 4.1 How far partners lie apart
#
# $\frac1B\sum_i\lVert x_i - y_i\rVert^\alpha$. The vectors come as they are. Where two views coincide, the loss is as low as it gets and its gradient has to stay finite, for $\alpha = 1$ too.


# %%
# Exercise 4.1 · implement · 10 min · difficulty 1 of 5
# Teaches the first measure, and a square root whose slope is infinite.
def my_alignment(x, y, alpha):
    """Mean distance of partners to the power alpha. x (B, D), y (B, D), alpha > 0 -> scalar"""
    ### BEGIN SOLUTION
    return (x - y).norm(dim=1).pow(alpha).mean()
    ### END SOLUTION


my_alignment = check("hypersphere.alignment", my_alignment).use
# hint("hypersphere.alignment")

# %% [markdown]
# Unit vectors that have nothing to do with each other: which number do you expect for $\alpha = 2$, whatever $D$ is?

# %%
for dim in (3, 300):
    x, y = (unit(torch.randn(2000, dim, generator=generator)) for _ in range(2))
    print(f"D = {dim:3}: {float(my_alignment(x, y, 2.0)):.3f}")

# %% [markdown]
# ## 4.2 How even they are spread
#
# $\log\frac{2}{B(B-1)}\sum_{i<j}e^{-t\lVert x_i - x_j\rVert^2}$: distinct pairs, each once. The vectors come as they are. For $t = 400$ every single exponential is 0 in float32; measure and gradient have to be right there too.


# %%
# Exercise 4.2 · implement · 15 min · difficulty 3 of 5
# Teaches the second measure: which pairs count, in which order mean and logarithm come, and how not to underflow.
def my_uniformity(x, t):
    """Log of the mean Gaussian potential of distinct pairs. x (B, D), t > 0 -> scalar"""
    ### BEGIN SOLUTION
    exponents = -t * torch.pdist(x).square()  # (B (B - 1) / 2,)
    return torch.logsumexp(exponents, dim=0) - math.log(len(exponents))
    ### END SOLUTION


my_uniformity = check("hypersphere.uniformity", my_uniformity).use
# hint("hypersphere.uniformity")

# %% [markdown]
# A crowd that drifts from one place to everywhere. Where does the curve end, and which line does it never cross?

# %%
noise = torch.randn(600, 3, generator=generator)
widths = torch.logspace(-2, 2, 25)
spread = [float(my_uniformity(unit(torch.tensor([1.0, 0, 0]) + w * noise), 2.0)) for w in widths]
figure, ax = plt.subplots(figsize=(6, 2.6))
ax.semilogx(widths, spread, color=plot.BLUE)
plot.line(ax, uniformity_floor(3), "floor on the sphere")
ax.set(xlabel="noise added before the vectors are made unit length", ylabel="uniformity, t = 2")
plt.show()

# %% [markdown]
# ## 4.3 The limit
#
# Equation (3) for a world of $K$ pictures that are all given. You get the cosines of $B$ pairs, and for each $x$ its cosines with the $K$ pictures of the world. At $\tau = 0.01$ exponents reach $\pm100$; the result and its gradients stay finite.
#
# <details><summary>The proof in steps</summary>
#
# 1. Take $\log M$ off (1): it divides the sum in the denominator by $M$, which gives (2).
# 2. The partner's share inside the logarithm is at most $e^{1/\tau}/M$ and vanishes.
# 3. The rest is a mean of $M$ independent numbers with expectation $P(x)$: law of large numbers.
# 4. The logarithm is continuous at $P(x) \ge e^{-1/\tau} > 0$.
# 5. All logarithms lie between $-\frac1\tau$ and $\frac1\tau + \log 2$, so limit and expectation may change places.
# </details>


# %%
# Exercise 4.3 · prove · 20 min · difficulty 3 of 5
# Teaches what InfoNCE becomes with infinitely many negatives: where the mean stands, and where the logarithm.
def my_limit(positive, others, temperature):
    """lim L_M - log M, in nats. cosines of pairs (B,), cosines with the world (B, K), tau > 0 -> scalar"""
    ### BEGIN SOLUTION
    log_potential = torch.logsumexp(others / temperature, dim=1) - math.log(others.shape[1])  # (B,)
    return (log_potential - positive / temperature).mean()
    ### END SOLUTION


my_limit = check("hypersphere.limit", my_limit).use
# hint("hypersphere.limit")

# %% [markdown]
# ## 4.4 How many negatives are many?
#
# The constant of (4): $\mathbb E\big[\frac aP - \frac V{2P^2}\big]$, with $a = e^{x^\top y/\tau}$ and $P$, $V$ the mean and variance of $e^{x^\top x'/\tau}$ over the $K$ pictures of the world (all of them: divide by $K$). At $\tau = 0.01$ these exponentials leave the range of float32 while the ratios are moderate numbers: the result has to be right there.
#
# <details><summary>The proof in steps</summary>
#
# 1. Write $S = \frac1M\sum_m e^{x^\top x_m^-/\tau} = P + \delta$ with $\mathbb E\,\delta = 0$, $\mathbb E\,\delta^2 = \frac VM$.
# 2. $\log\big(S + \frac aM\big) = \log P + \frac{\delta + a/M}{P} - \frac{(\delta + a/M)^2}{2P^2} + \dots$
# 3. Expectations: the first order gives $\frac{a}{PM}$, the second $-\frac{V}{2P^2M}$.
# 4. What is left ($\frac{a^2}{M^2}$, $\mathbb E\,\delta^3$, ...) is of order $\frac1{M^2}$. Average over $x$ and $y$.
# </details>


# %%
# Exercise 4.4 · prove · 25 min · difficulty 4 of 5
# Teaches the bias of a logarithm of a mean, and how many negatives a loss needs to be at its limit.
def my_bias(positive, others, temperature):
    """The constant of the 1/M term. cosines of pairs (B,), cosines with the world (B, K), tau > 0 -> scalar"""
    ### BEGIN SOLUTION
    top = others.max(dim=1, keepdim=True).values  # (B, 1) a common factor of each row, which cancels
    e = ((others - top) / temperature).exp()  # (B, K)
    a, P = ((positive - top[:, 0]) / temperature).exp(), e.mean(dim=1)  # (B,) each
    return (a / P - e.var(dim=1, unbiased=False) / (2 * P**2)).mean()
    ### END SOLUTION


my_bias = check("hypersphere.bias", my_bias).use
# hint("hypersphere.bias")

# %% [markdown]
# Your two functions predict the loss for every number of negatives. Here they are put to the test; the last column should near 1 as $M$ grows.

# %%
world = unit(torch.randn(500, 16, generator=generator, dtype=torch.double))
x = world[:200]
y = unit(x + 0.1 * torch.randn(200, 16, generator=generator, dtype=torch.double))
for tau in (1.0, 0.2):
    limit, constant = (float(f((x * y).sum(dim=1), x @ world.T, tau)) for f in (my_limit, my_bias))
    for M in (100, 1000):
        negatives = world[torch.randint(500, (budget(cpu=40, quick=4), 200, M), generator=generator)]
        losses = [float(info_nce_negatives(x, y, n, tau)) - math.log(M) for n in negatives]
        found = sum(losses) / len(losses) - limit
        ratio = found * M / constant
        print(f"τ = {tau:g}, M = {M:5}: off by {found:+.5f} nats, predicted {constant / M:+.5f}, ratio {ratio:.2f}")

# %% [markdown]
# ## 4.5 Below the floor
#
# Nine unit vectors in 16 dimensions, spread as well as nine vectors can be, and $t = 3$. Which value does the uniformity of this batch have? Decide, then run the next cell.

# %%
# Exercise 4.5 · predict · 10 min · difficulty 2 of 5
# Teaches what a batch can do that a distribution cannot: a number.
### BEGIN SOLUTION
lowest = -2 * 3 * 9 / 8
### END SOLUTION
lowest = check("hypersphere.simplex", lowest).use
# hint("hypersphere.simplex")

# %%
nine = torch.randn(9, 16, generator=generator, dtype=torch.double, requires_grad=True)
for _ in range(budget(cpu=400, quick=400)):  # spread them by gradient descent
    slope = torch.autograd.grad(my_uniformity(F.normalize(nine, dim=1), 3.0), nine)[0]
    nine = (nine - 0.3 * slope).detach().requires_grad_()
found = float(my_uniformity(F.normalize(nine, dim=1).detach(), 3.0))
floor = uniformity_floor(16, 3)
print(f"found {found:.3f}, predicted {lowest:.3f}; the floor of a distribution in 16 dimensions is {floor:.3f}")

# %% [markdown]
# ## 4.6 Balls have linear scores too
#
# Caps can be cut off one by one, balls cannot. But a softmax does not cut one by one. For disjoint balls with centres $c_k$ and radii $r_k$, write the scores of (14), linear in $x$, of which the largest belongs to the ball that $x$ lies in.
#
# <details><summary>The proof in steps</summary>
#
# 1. $x$ lies in ball $k$ when $\lVert x - c_k\rVert^2 - r_k^2 < 0$. The balls are disjoint, so for the others this number is positive.
# 2. So ball $k$ has the smallest of the numbers $\lVert x - c_j\rVert^2 - r_j^2$.
# 3. Multiply out: $\lVert x\rVert^2 - 2c_j^\top x + \lVert c_j\rVert^2 - r_j^2$. The first term is the same for all $j$: leave it out.
# 4. Turn the sign: the largest $2c_j^\top x - \lVert c_j\rVert^2 + r_j^2$ wins.
# </details>


# %%
# Exercise 4.6 · prove · 15 min · difficulty 3 of 5
# Teaches where the argument for the sphere ends: one class against the rest, or all at once.
def my_ball_scores(x, centres, radii):
    """x (N, D), centres (K, D), radii (K,) -> scores (N, K), linear in x"""
    ### BEGIN SOLUTION
    return 2 * x @ centres.T - centres.square().sum(dim=1) + radii.square()
    ### END SOLUTION


my_ball_scores = check("hypersphere.balls", my_ball_scores).use
# hint("hypersphere.balls")

# %%
centres, radii = torch.tensor([[0.0, 0.0], [1.1, 0.3], [-0.9, 0.9], [0.1, -1.2]]), torch.tensor([0.7, 0.35, 0.5, 0.4])
grid = torch.stack(torch.meshgrid(torch.linspace(-2, 2, 200), torch.linspace(-2, 2, 200), indexing="xy"), dim=2)
winner = my_ball_scores(grid.view(-1, 2), centres, radii).argmax(dim=1).view(200, 200)
figure, ax = plt.subplots(figsize=(3.4, 3.2))
ax.contourf(grid[..., 0], grid[..., 1], winner, levels=[-0.5, 0.5, 1.5, 2.5, 3.5],
            colors=[plot.SKY, plot.ORANGE, plot.GREEN, plot.PINK], alpha=0.5)
for c, r in zip(centres, radii):
    ax.add_patch(plt.Circle(c.tolist(), float(r), fill=False, color="black"))
ax.set(aspect="equal", xlabel="first coordinate", ylabel="second coordinate", title="who has the largest score")
plt.show()

# %% [markdown]
# Every ball lies in a region of its own, the one in the middle too. Which of the regions could a *single* hyperplane have cut off?
#
# ## 4.7 Whom a cold loss pushes
#
# NT-Xent pushes vector $i$ away from the others with shares $\operatorname{softmax}_{j\ne i}(z_i^\top z_j/\tau)$. Which part of the push goes to vectors of $i$'s own class? The mean over $i$. The vectors come as they are; at $\tau = 0.01$ the exponentials overflow and the shares do not.


# %%
# Exercise 4.7 · break · 20 min · difficulty 3 of 5
# Teaches the trade of the temperature: hard negatives are often of the same class.
def my_push(z, labels, temperature):
    """Mean share of the push that goes to the own class. z (B, D), labels (B,), tau > 0 -> a number in [0, 1]"""
    ### BEGIN SOLUTION
    logits = z @ z.T / temperature  # (B, B)
    logits.fill_diagonal_(-math.inf)  # nobody pushes itself
    own = labels[:, None] == labels  # (B, B)
    return (logits.softmax(dim=1) * own).sum(dim=1).mean()
    ### END SOLUTION


my_push = check("hypersphere.push", my_push).use
# hint("hypersphere.push")

# %% [markdown]
# Now break it. Eight classes as clusters on a sphere, tighter and tighter. Explain in a sentence each: (a) where the curves start on the right and why, (b) why a *good* representation is punished more by a cold loss than a bad one, (c) what labels would change (that is supervised contrastive learning).

# %%
labels = torch.arange(8).repeat_interleave(30)
middles = unit(torch.randn(8, 16, generator=generator))
jitter = torch.randn(240, 16, generator=generator)
figure, ax = plt.subplots(figsize=(6, 2.8))
taus = torch.logspace(-1.7, 1, 30)
for width, colour in ((1.0, plot.BLUE), (0.3, plot.GREEN), (0.1, plot.RED)):
    z = unit(middles[labels] + width * jitter)
    ax.semilogx(taus, [float(my_push(z, labels, float(t))) for t in taus], color=colour, label=f"noise {width:g}")
ax.axhline(29 / 239, color="#777777", linewidth=0.8, linestyle="--", label="29 of 239 others")
ax.set(xlabel="temperature τ", ylabel="share of push on the own class", ylim=(0, 1.05))
ax.legend()
plt.show()

# %% [markdown]
# ## 4.8 A mixture of your own

# %%
# Exercise 4.8 · explore · 25 min · difficulty 3 of 5
# Which weights, powers and sharpness serve the probe? Choose on the part "val", and one comparison at a time.
### BEGIN SOLUTION
arms = {"t = 2": study.Arm(), "t = 0.5": study.Arm(t=0.5), "t = 8": study.Arm(t=8.0)}
### END SOLUTION
if arms is not ...:
    exam = study.Examination("val")
    for name, arm in arms.items():
        model = study.build(arm, seed=0)
        study.train(model, seed=0, steps=budget(cpu=150, gpu=400, quick=2), label=name)
        alignment, uniformity, probe = exam.glance(model)
        print(f"{name:10} alignment {alignment:.3f}, uniformity at t = 2 {uniformity:.3f}, probe {probe:.3f}")

# %% [markdown]
# **Rubric.** A good answer (a) changes one thing at a time and says what it expects before it runs, (b) compares measures at one $t$, whatever $t$ was trained with, (c) repeats with another seed before it believes a difference, (d) chooses on "val" and reports the choice on "test" once, (e) says where in the plane its encoders lie and whether the probe follows.

# %%
progress()
