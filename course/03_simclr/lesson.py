# %% [markdown]
# # 03 · SimCLR: what two views share
#
# **You derive** NT-Xent and its gradient, why the best critic forgets whatever an augmentation draws anew, and the theorem that separates content from style.
#
# **You train** SimCLR on scenes whose every cause is known, read each cause before and after, and carry what real drawings taught to eight other tasks.
#
# After this lesson you can
# - write the loss from memory, with the right number of candidates, and recognise its value at collapse;
# - say of an augmentation what it will make a network forget, before training;
# - choose between $h$ and $z$, and between two forms of the loss that differ by the place of a logarithm;
# - test whether one representation is better than another on the same examples.
#
# *Before this:* lesson 01 (InfoNCE). *Papers:* Chen et al. 2020 (SimCLR); von Kügelgen et al. 2021 (content and style); Eastwood et al. 2023 (every style).

# %%
from minilip.course import *

device = setup("03_simclr")

# %%
import math

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as V
from scipy.stats import differential_entropy

from minilip.course import plot
from minilip.course.widgets import panel
from minilip.data.emoji import EmojiPairs
from minilip.evaluation import encode, latents_r2, paired_interval, permutation_test
from minilip.nn import ConvNet
from minilip.nn.adjust import adjust_hue
from minilip.nn.augment import random_resized_crop, simclr_view
from minilip.simclr import SimCLR, StructuredSimCLR, nt_xent
from minilip.studies.simclr import content, transfer, views, worlds
from minilip.training import fit

generator = torch.Generator(device).manual_seed(3)

# %% [markdown]
# ## 1. A question
#
# Each column below is one drawing, and under it are two pieces of it, cut, mirrored and recoloured by lot. No pixel of the upper piece is a pixel of the lower. You still see which pieces belong together.

# %%
gallery = EmojiPairs()
names = ["fox", "guitar", "hamburger", "sailboat", "cactus", "rocket", "umbrella", "bicycle"]
drawings = gallery.images[[gallery.row(name) for name in names]].to(device).float() / 255  # (8, 3, 64, 64)
one, two = (simclr_view(drawings, generator, area=(0.3, 1.0), blur=0.0) for _ in range(2))
figure = plot.images(torch.cat([drawings, one, two]), [*names, *[""] * 16], columns=8)
print(gallery.credits["noto"])

# %% [markdown]
# Suppose a network had to find the partner of a piece among hundreds of others. Nobody tells it what is drawn. What would it have to know about the picture? And what would it be better off *not* knowing?
#
# ## 2. A first guess, and how it fails
#
# The simplest thing that could find a partner is no network at all: count colours. A *colour histogram* says how much of each colour there is and nothing about where. Let it look for the partners of 256 drawings, once when views are only cut out, and once when their colours are changed as well.


# %%
def histogram(images):
    """How much there is of each of 4 x 4 x 4 colours. (B, 3, H, W) -> (B, 64)"""
    level = (images.clamp(0, 0.999) * 4).long()  # (B, 3, H, W)
    code = (16 * level[:, 0] + 4 * level[:, 1] + level[:, 2]).flatten(1)  # (B, H W)
    return F.one_hot(code, 64).float().mean(dim=1).sqrt()  # (B, 64) square roots: differences of rare colours count


some = gallery.images[torch.arange(0, 1536, 6)].to(device).float() / 255  # (256, 3, 64, 64), one artist
cuts = [random_resized_crop(some, generator, (0.3, 1.0)) for _ in range(2)]
full = [simclr_view(some, generator, area=(0.3, 1.0)) for _ in range(2)]
for name, pair in (("crops only", cuts), ("crops and colours", full)):
    a, b = (histogram(x) for x in pair)
    found = torch.cdist(a, b).argmin(dim=1) == torch.arange(len(a), device=device)
    print(f"{name:18} a histogram finds {found.float().mean():.0%} of the partners; chance {1 / len(a):.1%}")

# %% [markdown]
# Cut alone, pieces of one drawing betray each other by their colours. A network asked to match them would learn to count colours, which is easy, and stop. Change the colours, and the easy way is closed. So the augmentations are not there to make more data. They decide what can be learned at all.
#
# ## 3. The idea
#
# > Draw two random views of every picture. Let each view find its partner among all the other views of the batch. What the lot changes between two views is useless for that; what it leaves alone is all there is to go by.
#
# In one line of mathematics, for a view $z_i$ with partner $z_{p(i)}$,
#
# $$\text{view } i \text{ chooses view } j \ne i \text{ with probability } P_{ij} = \frac{e^{z_i^\top z_j/\tau}}{\sum_{k\ne i} e^{z_i^\top z_k/\tau}},$$
#
# and in one line of code: `cross_entropy((z @ z.T / tau).fill_diagonal_(-inf), partner)`.
#
# ## 4. Derivation
#
# Letters: $B$ pictures and so $2B$ views; $h = f(x)$ the representation, $z = g(h)/\lVert g(h)\rVert\in\mathbb R^D$ what is compared; $s_{ij} = z_i^\top z_j$; $\tau$ temperature; $p(i)$ the partner of view $i$. A scene's causes are content $c$ and style $s$; a tilde marks the other view.
#
# ### 4.1 NT-Xent
#
# This is InfoNCE of lesson 01 with one change: queries and keys come from the same set. A view must not choose itself, since nothing is closer to it. So it has $2B - 1$ candidates, one right and $2B-2$ wrong. The loss is the mean over all $2B$ choices:
#
# $$\mathcal L = -\frac1{2B}\sum_{i=1}^{2B}\log P_{i\,p(i)} = \frac1{2B}\sum_i\Big[-\frac{s_{i\,p(i)}}\tau + \log\sum_{k\ne i}e^{s_{ik}/\tau}\Big]. \tag{1}$$
#
# Here it is from scratch, beside the library's.


# %%
def from_scratch(z1, z2, temperature):
    """NT-Xent of two views of B pictures, (B, D) each -> scalar"""
    z = torch.cat([z1, z2])  # (2B, D)
    logits = z @ z.T / temperature  # (2B, 2B)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    logits = logits.masked_fill(itself, -math.inf)
    partner = torch.arange(len(z), device=z.device).roll(len(z1))  # B, ..., 2B - 1, 0, ..., B - 1
    return F.cross_entropy(logits, partner)


def by_loops(z1, z2, temperature):
    z, total = [*z1.tolist(), *z2.tolist()], 0.0
    for i in range(len(z)):
        s = [sum(a * b for a, b in zip(z[i], other)) / temperature for other in z]
        total += math.log(sum(math.exp(s[k]) for k in range(len(z)) if k != i)) - s[(i + len(z1)) % len(z)]
    return total / len(z)


# check (1): the library on the left, loops over numbers on the right
B, tau = 5, 0.4
z1, z2 = (F.normalize(torch.randn(B, 3, dtype=torch.double), dim=1) for _ in range(2))
same("(1)", nt_xent(z1, z2, tau), by_loops(z1, z2, tau))
same("from scratch", nt_xent(z1, z2, tau), from_scratch(z1, z2, tau))
show(nt_xent)

# %% [markdown]
# ### 4.2 Two values to know
#
# If a network has collapsed, all $s_{ij}$ are equal, and every view guesses among $2B-1$. If partners coincide and all other views are at right angles, the right candidate has $e^{1/\tau}$ and each of the others $e^0$:
#
# $$\mathcal L_{\text{collapse}} = \log(2B-1), \qquad \mathcal L_{\text{orthogonal}} = \log\big(1 + (2B-2)\,e^{-1/\tau}\big). \tag{2}$$
#
# A run at $B = 128$ that stands at 5.54 has learned nothing: $\log 255 = 5.541$. With $\tau = 0.5$ even the orthogonal value is 3.57, so a loss that "does not go down" may be nearly done.

# %%
# check (2): the loss of such vectors on the left, the formulas on the right
same("(2)", nt_xent(torch.ones(128, 4), torch.ones(128, 4), 0.5), math.log(255))
same("(2)", nt_xent(torch.eye(128), torch.eye(128), 0.5), math.log(1 + 254 * math.exp(-2)))

# %% [markdown]
# ### 4.3 The gradient: chosen minus true, twice
#
# Each $s_{ij}$ appears in two choices, that of $i$ and that of $j$. In (1), row $i$ contributes $P_{ij} - [j = p(i)]$, as in lesson 01, and row $j$ contributes $P_{ji} - [i = p(j)]$. Partners are mutual, so
#
# $$\frac{\partial\mathcal L}{\partial s_{ij}} = \frac{P_{ij} + P_{ji} - 2\,[j = p(i)]}{2B\,\tau} \qquad\text{for each pair } \{i, j\}. \tag{3}$$
#
# Nobody has to say which negatives are hard: a wrong view that is taken for the partner is pushed away in proportion.

# %%
# check (3): autograd through vectors on the left; (3) and the chain rule to the vectors on the right
z = torch.cat([z1, z2]).requires_grad_()
left = torch.autograd.grad(nt_xent(z[:B], z[B:], tau), z)[0]  # (2B, D)
P = torch.softmax((z @ z.T / tau).detach().fill_diagonal_(-math.inf), dim=1)
partner = torch.eye(2 * B, dtype=torch.double).roll(B, dims=1)
G = (P + P.T - 2 * partner) / (2 * B * tau)  # (2B, 2B)
same("(3)", left, G @ z.detach())

# %% [markdown]
# ### 4.4 The place of the logarithm
#
# Code in the wild has $-\log$ of the *mean* of the probabilities $p_i = P_{i\,p(i)}$ in place of the mean of the $-\log p_i$. They are not the same. The logarithm is concave, so by Jensen
#
# $$-\log\frac1{2B}\sum_i p_i \;\le\; \frac1{2B}\sum_i -\log p_i, \tag{4}$$
#
# with equality only if all $p_i$ are equal. What differs is who is listened to. With respect to $\log p_i$ the right side gives every view the weight $\frac1{2B}$. The left side gives
#
# $$-\frac{\partial}{\partial\log p_i}\Big(-\log\frac1{2B}\sum_k p_k\Big) = \frac{p_i}{\sum_k p_k}: \tag{5}$$
#
# views that already find their partner are trained on, those that do not are given up. We train both in section 7.

# %%
# check (4), (5): both losses from one table; autograd on the left, a share on the right
log_p = P.log()[partner.bool()].requires_grad_()  # (2B,)
mean_of_logs, log_of_mean = -log_p.mean(), -log_p.exp().mean().log()
same("(5)", -torch.autograd.grad(log_of_mean, log_p)[0], P[partner.bool()] / P[partner.bool()].sum())
print(f"(4)  -log of the mean {log_of_mean:.4f} <= {mean_of_logs:.4f} mean of -log")

# %% [markdown]
# ### 4.5 The best critic forgets style
#
# Now the heart of the lesson. Suppose a picture is made in two steps: first its *content* $c$, say a shape; then its *style* $s$, say a colour, which may depend on the content: $p(c, s) = p(c)\,p(s\mid c)$. That is an arrow from cause to effect, and bananas are mostly yellow. A drawing function turns $(c, s)$ into a picture and loses nothing. An augmentation keeps $c$ and draws the style anew with probability $1 - \rho$, keeping it otherwise: a *soft intervention* on the style. So the other view of $(c, s)$ has
#
# $$p(\tilde c, \tilde s\mid c, s) = [\tilde c = c]\,\big(\rho\,[\tilde s = s] + (1-\rho)\,p(\tilde s\mid c)\big). \tag{6}$$
#
# Lesson 01 showed what the best critic is: the ratio $\frac{p(\tilde x\mid x)}{p(\tilde x)}$, up to a factor that depends on $x$ alone. The views have the distribution of the pictures, $p(\tilde x) = p(\tilde c)\,p(\tilde s\mid\tilde c)$: what is kept had it, and what is drawn anew is drawn from it. Divide:
#
# $$\frac{p(\tilde x\mid x)}{p(\tilde x)} = \frac{[\tilde c = c]}{p(c)}\Big(\frac{\rho\,[\tilde s = s]}{p(s\mid c)} + 1 - \rho\Big). \tag{7}$$
#
# Look at $\rho = 0$, where the style is always drawn anew. The bracket is 1, and **the style has cancelled, although it depends on the content**. A network that solves the task perfectly has nothing to gain from colour once it knows the shape.

# %%
# a small world: three contents, two styles, six pictures
p_c = torch.tensor([0.5, 0.3, 0.2], dtype=torch.double)  # 3 contents
p_s = torch.tensor([[0.7, 0.3], [0.5, 0.5], [0.3, 0.7]], dtype=torch.double)  # p(s | c), 2 styles


def critic(rho):
    """Right side of (7). -> (6, 6), rows and columns are pictures (c, s)"""
    table = torch.zeros(3, 2, 3, 2, dtype=torch.double)
    for c in range(3):
        table[c, :, c, :] = (rho * torch.eye(2) / p_s[c] + 1 - rho) / p_c[c]
    return table.reshape(6, 6)


# check (6): how often each other view follows in a million draws, on the left; the formula on the right
rho = 0.3
x = torch.multinomial((p_c[:, None] * p_s).flatten(), 1_000_000, replacement=True)  # picture 2 c + s
new = torch.multinomial(p_s[x // 2], 1)[:, 0]  # a style drawn anew
other = 2 * (x // 2) + torch.where(torch.rand(len(x)) < rho, x % 2, new)
counts = torch.bincount(6 * x + other, minlength=36).view(6, 6).double()
follows = torch.block_diag(*(rho * torch.eye(2, dtype=torch.double) + (1 - rho) * p for p in p_s))
same("(6)", counts / counts.sum(dim=1, keepdim=True), follows, tolerance=0.02)

# check (7): every pair of pictures, enumerated, on the left; the formula on the right
both = torch.zeros(6, 6, dtype=torch.double)  # p(x, other view), built one event at a time
for c in range(3):
    for s in range(2):
        both[2 * c + s, 2 * c + s] += p_c[c] * p_s[c, s] * rho
        for new in range(2):
            both[2 * c + s, 2 * c + new] += p_c[c] * p_s[c, s] * (1 - rho) * p_s[c, new]
same("(7)", both / (both.sum(dim=1, keepdim=True) * both.sum(dim=0)), critic(rho))

# %% [markdown]
# Move $\rho$. At 0 there are three flat blocks, one a content, and no trace of style. As $\rho$ grows, the diagonal rises inside each block, highest where the style is rare: a style that is often kept helps to find the partner, and the best critic uses it.


# %%
def draw(rho):
    figure, ax = plt.subplots(figsize=(3.4, 2.9))
    pictures = [f"c{c} s{s}" for c in range(3) for s in range(2)]
    plot.matrix(ax, critic(rho), pictures, pictures, low=0, high=12)
    ax.set(title="best critic (a ratio)", xlabel="other view", ylabel="view")
    return figure


panel(draw, widgets.FloatSlider(0.3, min=0.0, max=0.6, step=0.05, description="kept ρ"))

# %% [markdown]
# ### 4.6 The theorem, and the idea of its proof
#
# By (7), styles that are *sometimes* kept are used by the best critic. Von Kügelgen et al. prove that content can be isolated even then, if agreement is demanded exactly. Latents are continuous now, drawing is smooth and invertible, and content has $n_c$ dimensions. Each style must have some positive chance to be changed, with a density around where it was. Take any encoder $g$ into the cube $(0, 1)^{n_c}$ that minimises
#
# $$\mathbb E\,\lVert g(x) - g(\tilde x)\rVert^2 - H\big(g(x)\big), \tag{8}$$
#
# agreement minus entropy. Then $g(x)$ is an invertible function of the content alone: *block-identified*. The idea, in three steps.
#
# 1. **The minimum can be reached.** There is a map that agrees exactly and fills the cube evenly: send the first content to the share of contents below it, $u_1 = P(c_1' < c_1)$, the second to $u_2 = P(c_2' < c_2\mid c_1)$, and so on. It ignores style, so agreement is exact. It is uniform, because stretching by a cumulative distribution cancels the density: that is (9). So every minimiser agrees exactly and is uniform.
# 2. **Exact agreement forbids style.** If $g$ moved with some style at some point, it would be strictly monotone in it on a small neighbourhood. Interventions reach into that neighbourhood with positive probability, and there the two views would disagree.
# 3. **Uniformity forbids losing content.** What is left is a smooth map from $n_c$ contents to $n_c$ numbers that turns a positive density into an even one. Wherever it folded or flattened, the density would pile up.
#
# The stretching of step 1, with $p$ the density of the contents:
#
# $$\Big|\det\frac{\partial u}{\partial c}\Big| = p(c). \tag{9}$$
#
# The contrastive loss does both parts: the numerator asks for agreement, and the denominator for spread, as lesson 04 derives. But at a finite temperature it only *weighs* the one against the other, and on the sphere, with $D$ of our choice. So what the theorem says of (8) has to be measured for (1).

# %%
# check (8): content and styles even on (0, 1); drawn on the left, by hand on the right. Evenly spread content costs 0
c, s, s_other = torch.rand(3, 200_000, dtype=torch.double)
uneven = differential_entropy(c.square().numpy())  # agrees exactly, and crowds near 0: the density of c^2 is 1 / (2 c)
same("(8), content crowded", -uneven, 1 - math.log(2), tolerance=0.03)
a = 0.2  # of the style in a code that stays even: (c + a s) mod 1
leak = ((c + a * s) % 1 - (c + a * s_other) % 1).square().mean() - differential_entropy(((c + a * s) % 1).numpy())
same("(8), style let in", leak, a / 3 - a**2 / 6, tolerance=0.05)

# check (9): autograd's Jacobian on the left, the density of two correlated contents on the right
r, standard = 0.8, torch.distributions.Normal(torch.zeros((), dtype=torch.double), 1)


def even(c):
    return torch.stack([standard.cdf(c[0]), standard.cdf((c[1] - r * c[0]) / math.sqrt(1 - r**2))])


points = torch.randn(4, 2, dtype=torch.double)
left = torch.stack([torch.autograd.functional.jacobian(even, c).det().abs() for c in points])
covariance = torch.tensor([[1, r], [r, 1]], dtype=torch.double)
density = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=torch.double), covariance).log_prob(points).exp()
same("(9)", left, density)

# %% [markdown]
# ### 4.7 A space for every style
#
# Throwing style away is right only if no later task asks for it. Eastwood et al. keep it, sorted. Besides the space $z_0$ for content there is one space $z_m$ for each of $M$ styles. The trick is in the views: view $x_0$ shares no style with $x$, view $x_m$ shares style $m$ and no other. On $x_m$ style $m$ helps, and only there:
#
# $$\mathcal L = \ell\big(z_0, z_0'\big) + \frac1M\sum_{m=1}^M \ell\big([z_0, z_m],\,[z_0', z_m']\big), \tag{10}$$
#
# with $\ell$ from (1), and $'$ the other view. Since $[z_0, z_m]^\top[z_0', z_m'] = z_0^\top z_0' + z_m^\top z_m'$, a space only has to add what the content's space does not say. They use another loss for agreement and joint entropy; the $M+1$ spaces and the shared draws are theirs.

# %%
# check (10): the library's loss on the left, sums of products and a log-sum-exp on the right
torch.manual_seed(0)
small = StructuredSimCLR(ConvNet(4), styles=2, dim=3, temperature=0.5).double().eval()
batch = [torch.rand(4, 3, 16, 16, dtype=torch.double) for _ in range(4)]  # x, x_0, x_1, x_2
space = [small.project(x) for x in batch]  # (3, 4, 3) each: spaces, pictures, dimensions


def term(other, used):
    s = sum(torch.cat([space[0][m], other[m]]) @ torch.cat([space[0][m], other[m]]).T for m in used) / 0.5
    away = s.masked_fill(torch.eye(8, dtype=torch.bool), -math.inf).logsumexp(dim=1)
    return (away - torch.cat([s.diagonal(4), s.diagonal(-4)])).mean()


same("(10)", small.loss(batch)[0], term(space[1], [0]) + (term(space[2], [0, 1]) + term(space[3], [0, 2])) / 2)

# %% [markdown]
# ## 5. Augmentations, batched
#
# A view is a crop with a flip, then changes of brightness, contrast, saturation and hue in random order, then sometimes grey, sometimes a blur. Ours work on a whole batch on the device that trains, each picture with its own amounts. Torchvision changes one picture, or all alike; given the same amount both must agree.

# %%
turn = torch.linspace(-0.4, 0.4, 8, device=device)
ours = adjust_hue(drawings, turn)
theirs = torch.stack([V.adjust_hue(x, float(t)) for x, t in zip(drawings, turn)])
same("hue, ours and torchvision's", ours, theirs)
show(simclr_view)

# %% [markdown]
# ## 6. The model
#
# The tower $f$ gives $h$, the head $g$ gives $z$; only $h$ is kept. Both views pass in one batch, so that batch normalisation sees them alike.

# %%
show(SimCLR.loss)

# %% [markdown]
# ## 7. Train
#
# Our scenes obey 4.5. *Content* is the shape and its radius. *Style* is colour, which leans to the shape (circles to red and green, squares to blue and yellow, triangles to purple and orange), background, position and angle. The intervention is exact: it draws styles anew and renders the scene again.

# %%
z = worlds.sample(8, generator)
again = worlds.intervene(z, worlds.STYLES, generator)
figure = plot.images(torch.cat([worlds.WORLD.render(each) for each in (z, again)]), columns=8)
show(worlds.intervene)

# %% [markdown]
# How much of a cause can be read from features? Fit a regression on some scenes and ask on others for the share of variance explained, $R^2$: 1 is a perfect reading, 0 no better than naming the mean. We use a kernel regression, which finds a cause in any smooth form; a linear one would miss what is bent.

# %%
STEPS = budget(cpu=1200, gpu=2000, quick=4)
EXAMINED = budget(cpu=(600, 400), quick=(60, 60))


def read(features):
    g = torch.Generator(device).manual_seed(11)
    drawn = [worlds.sample(n, g) for n in EXAMINED]
    x = [encode(features, worlds.WORLD.render(each)) for each in drawn]
    return latents_r2(x[0], worlds.causes(drawn[0]), x[1], worlds.causes(drawn[1]))


torch.manual_seed(0)
model = SimCLR(ConvNet(16), dim=8, temperature=0.3).to(device)
model.eval()
first = read(model)


def batches(generator):
    z = worlds.sample(64, generator)
    return tuple(worlds.WORLD.render(worlds.intervene(z, worlds.STYLES, generator)) for _ in range(2))


history = fit(
    model,
    batches,
    STEPS,
    lr=3e-3,
    watch=lambda m: read(m.project)["shape"],
    every=max(1, STEPS // 4),
    label="all styles drawn anew",
)
last = read(model.project)
figure = plot.curves({"SimCLR": history}, chance=0.0, measure="R² of the shape, from z")
plot.line(figure.axes[0], math.log(127), "collapse, log(2B - 1)")
print("from h before training: " + ", ".join(f"{name} {r2:.2f}" for name, r2 in first.items()))
print("from z after training:  " + ", ".join(f"{name} {r2:.2f}" for name, r2 in last.items()))

# %% [markdown]
# Left: the loss leaves its collapsed value within a few steps. Right: the shape is read from $z$ only slowly, since it takes edges and corners. Compare the two printed lines: an untrained network gives away background and position at once, and these are what training makes $z$ forget. The stored runs below have 2,000 steps or more.
#
# ## 8. Look
#
# ### 8.1 What each set of augmentations keeps
#
# The table names what was trained; all numbers below are means over 3 seeds, stored, and made by `python -m minilip.studies.simclr.content`, `.views` and `.transfer`.
#
# | name | the two views differ in | objective | size |
# |---|---|---|---|
# | all styles | colour, background, position, angle, always | (1) | 2,000 steps of 64 scenes, $D = 8$, $\tau = 0.3$ |
# | ..., twice as long | the same | (1) | 4,000 steps: added when the shape was still rising |
# | ..., kept at times | the same, each style left alone with probability $\rho = 0.25$ | (1) | as the first |
# | colour and background | these two, always; position and angle never | (1) | as the first |
# | crops and colours | SimCLR's views of one rendered scene | (1) | as the first |
# | structured | all, but for the shared style | (10), $M = 3$ | 700 steps of 48 |
# | SimCLR, artists, log of the mean | views of an emoji; of the same concept by two artists; as SimCLR | (1); (1); left of (4) | 250 steps of 96, $D = 32$, $\tau = 0.2$ |
# | supervised | views of an emoji | its subgroup, cross-entropy | the same |

# %%
runs = content.known()
LATENTS = (*worlds.CONTENT, *worlds.STYLES)


def r2(arm, when="after", space="z"):
    """(seeds, latents)"""
    return np.array([[run[when][space][name] for name in LATENTS] for run in runs[arm]])


rows = {"untrained, h": r2("all styles", "before", "h"), "untrained, z": r2("all styles", "before")}
for arm in (name for name in runs if name != "structured"):
    rows[f"{arm}, z"] = r2(arm)
rows["all styles, h"] = r2("all styles", space="h")
rows["crops and colours, h"] = r2("crops and colours", space="h")


def heat(ax, rows, columns, title=""):
    table = torch.tensor(np.stack([np.mean(v, axis=0) for v in rows.values()]))
    plot.matrix(ax, table, list(rows), list(columns), title, low=0, high=1)
    for i, values in enumerate(table.tolist()):
        for j, v in enumerate(values):
            ink = "white" if v < 0.6 else "black"
            ax.text(j, i, f"{max(v, 0):.2f}", ha="center", va="center", fontsize=8, color=ink)


figure, ax = plt.subplots(figsize=(8, 0.34 * len(rows) + 1.2))
heat(ax, rows, LATENTS, "R² of each latent, 3 seeds")
ax.axvline(len(worlds.CONTENT) - 0.5, color="white", linewidth=2)
plt.show()

# %% [markdown]
# Left of the white line is content. Read the first row: an untrained network's $h$ gives away every style but the angle, and of the content only the radius. Then *all styles*: content is read from $z$, and style is not; the shape comes last, and takes twice the steps to reach 0.94. (What is left of the colour is no leak: it is what the true shape alone gives away, because the colour leans to it.) *Kept at times* is the theorem's case: a style that survives in a quarter of the views is not worth a place in $z$ either. Where *colour and background* are all that changes, they are all that is forgotten: the position now finds the partner, and the shape is hardly needed. Now *crops and colours*, SimCLR's own views: **what an augmentation leaves alone is content**, whatever we call it. Jitter bends colours but does not exchange them, and a jittered black background is still black: colour and background stay in $z$, they are the easiest way to find a partner, and again the shape is left out. A crop blurs a position without hiding it.
#
# Now compare $z$ with $h$ of the same network, in the *all styles* rows. Position is gone from $z$ and still in $h$. The loss never sees $h$; the head can drop a style on its own. That is why later tasks read $h$.
#
# ### 8.2 Every style in its place

# %%
spaces = ("content", *content.KEPT)
blocks = {f"space of {name}": r2("structured", space=name) for name in spaces}
blocks["h"] = r2("structured", space="h")
figure, ax = plt.subplots(figsize=(8, 2.9))
heat(ax, blocks, LATENTS, "structured: R² of each latent from each space, 3 seeds")
plt.show()

# %% [markdown]
# Go down the columns of colour, background and position: each is bright in its own space and nearly dark in the two others'. So every style has been found, without a label. Two things are less clean. The content's space keeps about half of the colour and some of the position, after 700 steps. And go down the radius: it is read from every space. Nothing in (10) forbids a style's space to repeat content; a joined product only makes repetition useless. The entropy that Eastwood et al. maximise *jointly* is meant to forbid it.
#
# ### 8.3 Crop against colour
#
# The paper's best known figure composes pairs of augmentations. On emoji, with the colour histogram of section 2 in mind: what do crops bring without colours, and colours without crops?

# %%
cells = views.known()
figure, axes = plt.subplots(1, 2, figsize=(8, 2.9))
for ax, what, title in zip(
    axes, ("across artists", "animals"), ("same concept, other artist: R@10", "animal silhouettes: accuracy")
):
    grid = torch.tensor([[np.mean([run[what] for run in cells[a, s]]) for s in views.STRENGTHS] for a in views.AREAS])
    plot.matrix(ax, grid, ["none", "≥ 50 %", "≥ 20 %"], ["none", "0.5", "1.0"], title)
    ax.set(xlabel="strength of the colours", ylabel="area of the crop")
    middle = (grid.min() + grid.max()) / 2
    for i in range(3):
        for j in range(3):
            ink = "white" if grid[i, j] < middle else "black"
            ax.text(j, i, f"{grid[i, j]:.3f}", ha="center", va="center", color=ink)
plt.show()

# %% [markdown]
# Left: can a drawing find the same concept by another artist, among concepts never trained on? Right: silhouettes, where colour means nothing. Brighter is better within a panel; the two bars have different ranges, so read the numbers. On the left the bright cells compose a crop with a colour change, as in the paper, and either alone is *worse than neither*. A network that is offered a short cut takes it: with crops alone it found nearly every partner in training. On the right nothing of the kind: silhouettes have no colours to be fooled by, and composing brings them no more than no augmentation does.
#
# ### 8.4 Carried to other tasks
#
# Table 8 of the paper carries one network to twelve data sets. Ours carries what the training emoji taught to eight: three factors of scenes, groups and artists of emoji whose concepts were held out, two sets of digits, and animal silhouettes. *Linear* is a logistic regression on frozen $h$; *fine-tuned* trains everything, from 1,000 labelled examples.

# %%
table = transfer.known()
tests = {name: table["random"][0]["n"][name] for name in transfer.SETS}
kinds = [("linear", s) for s in ("SimCLR", "supervised", "random")] + [("tuned", s) for s in transfer.TUNED]
scores = {(k, s): {n: transfer.hits(table[s], k, n).mean(axis=0) for n in transfer.SETS} for k, s in kinds}  # (N,)
lines = ["| | " + " | ".join(transfer.SETS) + " |", "|---" * (len(transfer.SETS) + 1) + "|"]
for kind in ("linear", "tuned"):
    group = [(k, s) for k, s in kinds if k == kind]
    cellss = {key: [] for key in group}
    for name in transfer.SETS:
        best = max(group, key=lambda key: scores[key][name].mean())
        for key in group:
            p = permutation_test(scores[key][name], scores[best][name], draws=budget(cpu=2000, quick=100))
            value = f"{100 * scores[key][name].mean():.1f}"
            cellss[key].append(f"**{value}**" if key == best or p > 0.05 else value)
    lines += [f"| {k.replace('tuned', 'fine-tuned')}, {s} | " + " | ".join(v) + " |" for (k, s), v in cellss.items()]
from IPython.display import Markdown

Markdown("\n".join(lines))

# %% [markdown]
# Per cent right, means over three seeds. Bold, as in the paper: not significantly worse than the best of its block ($p > 0.05$, permutation test). The test asks how often swapping the two models' results example by example, by the toss of a coin, moves their means as far apart as they are. It pairs examples, so that hard ones hurt both alike.
#
# The row to look at is the one the paper's *linear* block does not have: random. A network that has learned nothing, read linearly, sets the height above which learning begins; where it is bold, what was learned did not help a linear reader. CIFAR-10 belongs in this table too, as photographs: `python -m minilip.studies.simclr.transfer --cifar10` measures it where torchvision can fetch it.

# %%
try:
    found = transfer.known(("cifar10",))
except LookupError:
    print("CIFAR-10 has not been measured here: it needs a connection to its authors' server")
else:
    for start in transfer.STARTS:
        print(f"CIFAR-10, {start}: linear {transfer.hits(found[start], 'linear', 'cifar10').mean():.3f}")

# %% [markdown]
# ### 8.5 Four artists, a real style
#
# Emoji have a style that nobody rendered: who drew them. If the second view is the same concept *by another artist*, the artist is intervened on, and by (7) should be forgotten, while concepts should be found across artists.

# %%
def accuracy_of(start, name, kind="linear"):
    """(3,) by seed"""
    return transfer.hits(table[start], kind, name).mean(axis=1)


artist = {s: accuracy_of(s, "emoji, artist") for s in ("random", "SimCLR", "artists")}
across = {s: np.array([run["across artists"] for run in table[s]]) for s in ("random", "SimCLR", "artists")}
figure, axes = plt.subplots(1, 2, figsize=(8, 2.2))
labels = {"random": "untrained", "SimCLR": "two views of one drawing", "artists": "views by two artists"}
colours = ["#999999", plot.BLUE, plot.GREEN]
plot.bars(axes[0], {labels[s]: v for s, v in artist.items()}, "who drew it: accuracy from h", 1 / 4, colours)
plot.bars(axes[1], {labels[s]: v for s, v in across.items()}, "the same concept by another artist: R@10", None, colours)
axes[1].set_yticklabels([])
plt.show()

# %% [markdown]
# Right: do positives by two artists teach what two drawings of one thing share? The claim below says by how much. Left: whether the artist is gone from $h$ is another question, and 8.1 has shown that $h$ is the wrong place to expect it.
#
# ## 9. Claims
#
# What the papers say, and what we measured, over 3 seeds. Where a claim says "all", its hardest case decides.


# %%
def spread(values):
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def above(values, least=0.0):
    return bool(np.mean(values) - 2 * np.std(values, ddof=1) > least)


inside, outside = slice(0, 2), slice(2, None)  # of LATENTS: content and style
after, longer, soft = (r2(arm) for arm in ("all styles", "all styles, twice as long", "all styles, kept at times"))
h_before = r2("all styles", "before", "h")
floor = content.floor()


def hardest(values):
    """The content that is read worst and the style that is read best, means over seeds."""
    means = values.mean(axis=0)
    worst, best = means[inside].argmin(), 2 + means[outside].argmax()
    return f"content at least {means[worst]:.2f} ({LATENTS[worst]}), style at most {means[best]:.2f} ({LATENTS[best]})"


def isolated(values):
    """In every seed: each content at 0.9 or above, each style at 0.3 or below."""
    return bool(values[:, inside].min() >= 0.9 and values[:, outside].max() <= 0.3)


claim(
    "simclr-content",
    says="augmentations that intervene on all style isolate content from style",
    source="von Kügelgen et al. 2021",
    measured=f"R² from z: {hardest(longer)}; after half of the steps: {hardest(after)}",
    holds=isolated(longer),
    note="holds if each content is at least 0.9 and each style at most 0.3 in every seed, after 4,000 steps; the steps "
    "were doubled because the shape was still rising; the true content alone gives the colour "
    f"{floor['colour']:.2f}, because it leans to the shape",
)
claim(
    "simclr-soft",
    says="it is enough that each style changes with positive probability",
    source="von Kügelgen et al. 2021, on soft interventions; section 4.6",
    measured=f"each style kept in a quarter of the views: {hardest(soft)}; never kept: {hardest(after)}",
    holds=bool(
        soft[:, outside].max() <= 0.3
        and above(soft[:, inside].mean(axis=1) - after[:, inside].mean(axis=1), -0.05)
    ),
    note="holds if each style is at most 0.3 in every seed and content is not more than 0.05 behind; 2,000 steps each",
)
turned = h_before[:, outside].mean(axis=1) - h_before[:, inside].mean(axis=1)
claim(
    "simclr-before",
    says="before training the order is the reverse",
    source="our control",
    measured=f"untrained h: style {spread(h_before[:, outside].mean(axis=1))}, content "
    f"{spread(h_before[:, inside].mean(axis=1))}; style without the angle {h_before[:, 2:5].mean():.2f}; "
    f"untrained z: {r2('all styles', 'before')[:, outside].mean():.2f} and "
    f"{r2('all styles', 'before')[:, inside].mean():.2f}",
    holds=above(turned),
    note="no untrained network reads an angle, and every one reads a radius",
)
kept = np.array([[run["after"][space]["position"] for space in ("h", "z")] for run in runs["all styles"]])


def duel(a, b):
    """Sets on which a is significantly ahead of b, and behind (p <= 0.05), and the mean difference."""
    gain = {n: a[n].mean() - b[n].mean() for n in transfer.SETS}
    p = {n: permutation_test(a[n], b[n], draws=budget(cpu=2000, quick=100)) for n in transfer.SETS}
    clear = [n for n in transfer.SETS if p[n] <= 0.05]
    return [n for n in clear if gain[n] > 0], [n for n in clear if gain[n] < 0], np.mean(list(gain.values()))


from_z = {n: transfer.hits(table["SimCLR"], "linear z", n).mean(axis=0) for n in transfer.SETS}
ahead, behind, mean = duel(scores["linear", "SimCLR"], from_z)
claim(
    "simclr-h",
    says="the representation before the head serves later tasks better than the one after it",
    source="Chen et al. 2020, sec. 4.2",
    measured=f"linear accuracy from h minus from z {mean:+.3f}; significantly ahead on {len(ahead)} of 8, behind on "
    f"{len(behind)}; R² of the position from h {kept[:, 0].mean():.2f}, from z {kept[:, 1].mean():.2f}",
    holds=len(ahead) == len(transfer.SETS),
    note="holds if significantly ahead on every set; h has 64 numbers, z 32",
)
corner = {k: np.array([run["across artists"] for run in cells[k]]) for k in cells}
best_alone = np.maximum(corner[0.2, 0.0], corner[1.0, 0.5])
claim(
    "simclr-composition",
    says="crop and colour together teach more than either alone",
    source="Chen et al. 2020, fig. 5",
    measured=f"R@10 across artists: both {spread(corner[0.2, 0.5])}, crop {spread(corner[0.2, 0.0])}, colour "
    f"{spread(corner[1.0, 0.5])}, neither {spread(corner[1.0, 0.0])}",
    holds=above(corner[0.2, 0.5] - best_alone),
    note="emoji of 32 x 32 pixels, 150 steps; the paper asks for ImageNet's classes",
)
ahead, behind, mean = duel(scores["linear", "SimCLR"], scores["linear", "supervised"])
claim(
    "simclr-linear",
    says="read linearly, SimCLR transfers as well as a supervised network",
    source="Chen et al. 2020, table 8",
    measured=f"significantly ahead on {len(ahead)} of 8 ({', '.join(ahead) or 'none'}), behind on {len(behind)} "
    f"({', '.join(behind) or 'none'}); mean difference {mean:+.3f}",
    holds=len(behind) <= len(ahead),
    note="holds if ahead at least as often as behind; labels here are the emoji's subgroups",
)
low = {
    n: paired_interval(scores["tuned", "SimCLR"][n], scores["tuned", "random"][n], draws=budget(cpu=1000, quick=20))
    for n in transfer.SETS
}
claim(
    "simclr-tuned",
    says="fine-tuned, SimCLR beats random initialisation on every set",
    source="Chen et al. 2020, table 8",
    measured="; ".join(f"{n} [{a:+.3f}, {b:+.3f}]" for n, (a, b) in low.items()),
    holds=all(a > 0 for a, _ in low.values()),
    note="95 % paired intervals over examples, three seeds averaged; learning rate chosen for the random start",
)
ahead, behind, mean = duel(scores["linear", "SimCLR"], scores["linear", "random"])
claim(
    "simclr-random-linear",
    says="what SimCLR learned is worth more than an untrained network, read linearly",
    source="our control",
    measured=f"{mean:+.3f}; significantly ahead on {len(ahead)} of 8 (not on "
    f"{', '.join(n for n in transfer.SETS if n not in ahead) or 'none'}), behind on {len(behind)}",
    holds=len(ahead) == len(transfer.SETS),
    note="holds if significantly ahead on every set; 1,150 concepts by three artists are all that it learned from",
)
logs = np.array([accuracy_of("log of the mean", n) - accuracy_of("SimCLR", n) for n in transfer.SETS])  # (8, 3)
claim(
    "simclr-log-mean",
    says="-log of the mean does as well as the mean of -log",
    source="an issue of a public implementation: CIFAR-10 77.0 against 76.1, CIFAR-100 42.1 against 42.2",
    measured=f"linear accuracy, mean over 8 sets: {spread(logs.mean(axis=0))} in its favour",
    holds=bool(abs(logs.mean()) <= 0.02),
    note="holds if the difference is within 0.02",
)
less = artist["SimCLR"] - artist["artists"]
claim(
    "simclr-artists",
    says="an artist who changes between the views is forgotten, the concept is not",
    source="von Kügelgen et al. 2021, on a real style",
    measured=f"accuracy of the artist from h {spread(artist['SimCLR'])} to {spread(artist['artists'])} (untrained "
    f"{np.mean(artist['random']):.3f}, chance 0.25); R@10 across artists {spread(across['SimCLR'])} to "
    f"{spread(across['artists'])}",
    holds=above(less) and above(across["artists"] - across["SimCLR"]),
    note="one of the four artists was never trained on; h, not z",
)
own = np.array([[run["after"][s][s] for s in content.KEPT] for run in runs["structured"]])
others = np.array(
    [[run["after"][a][b] for a in content.KEPT for b in content.KEPT if a != b] for run in runs["structured"]]
)
left = np.array([run["after"]["content"]["colour"] for run in runs["structured"]])
repeats = np.array([[run["after"][s]["radius"] for s in content.KEPT] for run in runs["structured"]])
claim(
    "simclr-structured",
    says="structured augmentations recover every style in a space of its own",
    source="Eastwood et al. 2023",
    measured=f"R² of a style in its own space at least {own.mean(axis=0).min():.2f}, in another style's at most "
    f"{others.mean(axis=0).max():.2f}; but the content's space gives the colour with {left.mean():.2f}, and the style "
    f"spaces give the radius with {repeats.mean():.2f}",
    holds=bool(own.mean(axis=0).min() >= 0.9 and others.mean(axis=0).max() <= 0.3),
    note="holds if at least 0.9 and at most 0.3; NT-Xent on joined spaces, where they maximise a joint entropy",
)

# %% [markdown]
# ## 10. Doubts
#
# **What the released code does differently**
# - It returns the sum of two cross-entropies, each over $B$ views: exactly twice (1). A loss of 11.08 at $B = 128$ is the same collapse.
# - Its head has three layers, not the paper's two, with batch normalisation in each; ours has two, also with batch normalisation.
# - Its temperature is 0.1 by default and 0.5 in the command for CIFAR-10. A published number without its temperature says little.
# - Batch statistics are shared by all devices. Otherwise the network can recognise which views were normalised together.
# - A well-known port steps its cosine schedule once an epoch but gives it the length of a loader; and it blurs every view.
#
# **What goes wrong in practice**
# - Views come interleaved, $a_1, b_1, a_2, b_2, \dots$, and the loss expects $a_1, a_2, \dots, b_1, b_2, \dots$ The loss still falls: it learns to match strangers. Exercise 3.2.
# - The loss stays near $\log(2B-1)$ for a while: normal at the start, collapse if it lasts.
# - A probe that is far too good: the backbone was not frozen.
# - An augmentation that destroys what the task needs. Flips and 6 and 9, hue and flowers: by (7) it is forgotten.
#
# **What our world makes easy.** The interventions are exact, and content and style are ours to choose. Real augmentations change pixels, and what they leave alone is found out by measuring, as in 8.1.
#
# **Read on:** lesson 04 takes the loss apart into agreement and spread. Lesson 05 does without negatives. Lesson 06 keeps what changes between the views, as a group.
#
# **Now you:** [exercises 03](../exercises/03_simclr.ipynb), with [solutions](../solutions/03_simclr.ipynb).
