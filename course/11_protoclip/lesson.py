# %% [markdown]
# # 11 · ProtoCLIP: prototypes above instances
#
# **You derive** why InfoNCE groups what it was never told belongs together, why k-means settles, what a prototype asks of an image, and how a group of captions becomes a point among images.
#
# **You train** points on a line until groups appear and disappear again, images that learn from captions in a turned space, and one step of ProtoCLIP beside your own.
#
# After this lesson you can
# - say which part of the grouping is done by the loss, which by the encoders, and when the loss undoes it;
# - cluster, translate back and compute the prototype loss in twenty lines, and count what an episode costs;
# - tell which of its parts do not notice where the teacher's space lies, and which one does;
# - read the released code and name the places where it is not what the paper's figure shows.
#
# This is the first of two sittings. The second, [11b](11b_protoclip.ipynb), trains it on real pictures and asks what it buys.
#
# *Before this:* lesson 07 (CLIP: the symmetric loss, its gradient, the learned scale). *Paper:* Chen et al. 2022 (ProtoCLIP). *Also:* Lloyd 1982 (k-means); Arthur and Vassilvitskii 2007 (its seeds).

# %%
from minilip.course import *

device = setup("11_protoclip")

# %%
import math

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from minilip.course import plot
from minilip.studies.protoclip.anchors import CHANCE, MODES, classes, purity, simulate
from minilip.clip import clip_loss
from minilip.data.emoji import EmojiPairs
from minilip.nn import BagOfWords, ConvNet
from minilip.protoclip.clustering import kmeans
from minilip.protoclip import Episodes, ProtoCLIP, back_translate, prototype_loss, soft_targets
from minilip.nn.tokenizer import Tokenizer
from minilip.course.widgets import panel

# %% [markdown]
# ## 1. A question
#
# Six drawings, each over its caption.

# %%
gallery = EmojiPairs()
names = ["strawberry", "cherries", "red apple", "watermelon", "fire engine", "umbrella"]
pictures = gallery.images[[gallery.row(name) for name in names]].float() / 255
figure = plot.images(F.avg_pool2d(pictures, 2), names, columns=6)

# %% [markdown]
# Put them in two heaps. You put four on one heap and two on the other. Nobody told you to: the captions do not say "fruit", and no two of them share a word.
#
# Now look at the six pairs as CLIP does. For the strawberry there is one right caption and five wrong ones, and the five are *equally* wrong. "Cherries" costs as much as "fire engine". The target of the loss is the identity matrix; it has no heaps in it.
#
# Nevertheless, trained models put fruit near fruit. ProtoCLIP's authors ask where that comes from. Their answer: InfoNCE groups *by accident*, through points that they call *anchors*. If it is an accident, it can be done on purpose. We look at the accident first, then at the purpose, and measure both.
#
# ## 2. A first guess, and how it fails
#
# The first guess: the loss does it. To fit 24 captions and 24 images into one space, like must go to like.
#
# A guess about the loss can be tested with the loss alone. Take away the encoders: 24 images and 24 texts are points on a line, and each may move freely. They belong to four classes, which only we know. The logit of image $i$ and text $j$ is minus their squared distance over a temperature. Run InfoNCE, both directions, all pairs in one batch. To see groups, ask each image whether the nearest other image is of its class. The share of those who say yes is the *purity*.

# %%
SEEDS, STEPS = range(budget(cpu=10, quick=2)), budget(cpu=300, quick=40)
COLOURS = (plot.BLUE, plot.RED, plot.GREEN, plot.ORANGE)
motions = {"both free": simulate("both free", SEEDS, STEPS)}


def trajectories(ax, motion, title):
    """Where the images of the first run go, one line each, coloured by the class nobody told the loss."""
    for i, kind in enumerate(classes().tolist()):
        track = motion.images[::4, 0, i, 0]  # every fourth step
        ax.plot(range(0, STEPS + 1, 4), track, color=COLOURS[kind], linewidth=1.2, antialiased=False)
    ax.set_title(title)
    ax.set(xlabel="step", ylabel="position (no unit)")


def ranges(ax, pure, colour, name, steps):
    """The mean of a purity (T + 1, R) over runs as a line; least and greatest as bars at a few steps."""
    ax.plot(pure.mean(dim=1), color=colour, label=name)
    for step in steps:
        ax.plot([step, step], [pure[step].min(), pure[step].max()], color=colour, linewidth=2.5, alpha=0.35)


figure, ax = plt.subplots(figsize=(8, 2.5))
trajectories(ax, motions["both free"], "both free: 24 images, a colour a class")
plt.show()
free = purity(motions["both free"].images, classes())  # (T + 1, R)
start, end = motions["both free"].loss[[0, -1]].mean(dim=1)
found = motions["both free"].found[-1].mean()
print(f"loss {start:.2f} -> {end:.2f} nats; images whose nearest text is their own {found:.2f}")
print(f"purity {free[0].mean():.2f} -> {free[-1].mean():.2f}, by chance {CHANCE:.2f}   (mean of {len(SEEDS)} runs)")

# %% [markdown]
# The loss is satisfied: nearly every image finds its text. The colours are as mixed at the end as at the start.
#
# It could not be otherwise. Deal the classes out anew, at random. Nothing in the simulation changes, because nothing in it reads them. So whatever the points do, an image's nearest neighbour is of its class with the probability that one of the other 23 images is: $5/23 = 0.22$. **The loss alone does not group.** Some part that knows what is alike must help.
#
# ## 3. The idea
#
# That part is the encoder. A network is smooth: two captions about fruit enter it as similar inputs, and even an untrained network sends them to nearby points. Images paired with nearby texts are pulled to nearby places. The text points are the *anchors*: they emerged at random, from a start that nobody chose, and through them the images group.
#
# ProtoCLIP does not wait for anchors to emerge:
#
# > Group the captions of what is known now. Give each group one point among the images. Let an image find its caption's group, as well as its caption.
#
# In one line of mathematics, with $h_i$ the image's vector, $\tilde C_k$ the point of group $k$ and $q_i$ a distribution over groups that says where the caption of $i$ belongs,
#
# $$-\sum_k q_{ik}\,\log\frac{e^{s\,h_i^\top\tilde C_k}}{\sum_l e^{s\,h_i^\top\tilde C_l}},$$
#
# and in one line of code: `cross_entropy(s * h @ C.T, q)`. Everything else is how $\tilde C$ and $q$ are found.
#
# ## 4. Derivation
#
# Letters: $B$ pairs in a batch, $v_i, t_j$ the vectors of image and caption, $P_{ij}$ and $Q_{ij}$ the softmax of the logits along rows and columns, $s$ the logit scale, all as in lesson 07. $N$ items in an *episode*, $D$ dimensions, $K$ groups on each side; $h_n \in \mathbb R^D$ the vector of item $n$ that is grouped, $y_n \in \{1, \dots, K\}$ its group, $C_k$ the centre of group $k$.
#
# ### 4.1 What an image feels
#
# Lesson 07 found the derivative of the loss for a logit, $(P_{ij} + Q_{ij} - 2\delta_{ij})/2B$. The logit is $s\,v_i^\top t_j$, so its derivative for $v_i$ is $s\,t_j$, and by the chain rule
#
# $$\frac{\partial\mathcal L}{\partial v_i} = \frac{s}{2B}\Big[\underbrace{\sum_j P_{ij}t_j}_{\text{text expected}} - \underbrace{t_i\vphantom{\sum_j}}_{\text{true}} \;+\; \sum_j Q_{ij}t_j - t_i\Big]. \tag{1}$$
#
# *Text expected minus text true*, times the scale. Read what is missing: no other image. An image is moved along texts and nothing else; other images matter only for the weights $Q$. This is why texts deserve the name of anchors.
#
# On the line of section 2 the logit is $-(x-y_j)^2/\tau = (-x^2 + 2xy_j - y_j^2)/\tau$. The term $-x^2/\tau$ is the same for all texts $j$ and cancels in the softmax. What is left is linear in $x$, so the row's part of the loss, $f_i(x) = -\log P_{ii}$, has the same form:
#
# $$f_i'(x) = \frac2\tau\big(\mathbb E_{P}\,y - y_i\big), \qquad f_i''(x) = \Big(\frac2\tau\Big)^2\operatorname{Var}_P(y) \ge 0. \tag{2}$$
#
# The second part is the derivative of the first: differentiating an expectation under a softmax gives a covariance with the exponent's slope, here $2y/\tau$.

# %%
# check (1): autograd on the left, texts weighted by softmaxes on the right
B, s = 7, 6.0
V, T = (F.normalize(torch.randn(B, 4, dtype=torch.double), dim=1) for _ in range(2))
v = V.clone().requires_grad_()
left = torch.autograd.grad(clip_loss(v, T, s), v)[0]  # (B, D)
P, Q = torch.softmax(s * V @ T.T, dim=1), torch.softmax(s * V @ T.T, dim=0)
same("(1)", left, s / (2 * B) * ((P @ T - T) + (Q @ T - T)))

# check (2): difference quotients of the distances' loss on the left, mean and variance of the texts on the right
tau, line_texts, x = 0.4, torch.randn(9, dtype=torch.double), 0.3


def f(x, i=2):
    return float(-F.log_softmax(-((x - line_texts) ** 2) / tau, dim=0)[i])


p = torch.softmax(-((x - line_texts) ** 2) / tau, dim=0)
mean = float(p @ line_texts)
variance = float(p @ (line_texts - mean) ** 2)
same("(2) first ", (f(x + 1e-5) - f(x - 1e-5)) / 2e-5, 2 / tau * (mean - float(line_texts[2])), tolerance=1e-6)
same("(2) second", (f(x + 1e-4) - 2 * f(x) + f(x - 1e-4)) / 1e-8, (2 / tau) ** 2 * variance, tolerance=1e-4)

# %% [markdown]
# ### 4.2 Two images with one caption must meet; with two captions they must part
#
# By (2), $f_i$ is convex, and so it is in $D$ dimensions: the second derivative of $f_i(v) = -s\,v^\top t_i + \log\sum_j e^{s\,v^\top t_j}$ is $s^2$ times the covariance of the texts under $P$. Take two images $v, v'$ with texts $t, t'$, and subtract their gradients. Walk from $v'$ to $v$ in a straight line and add up the second derivative on the way; let $\bar\Sigma$ be the mean covariance along that walk. Then
#
# $$\nabla f(v) - \nabla f'(v') = s^2\,\bar\Sigma\,(v - v') - s\,(t - t'). \tag{3}$$
#
# Let both images follow their gradients, in time $\eta$. Their squared distance changes at the rate
# $\frac{\mathrm d}{\mathrm d\eta}\frac12\lVert v-v'\rVert^2 = -s^2(v-v')^\top\bar\Sigma\,(v-v') + s\,(v-v')^\top(t-t')$.
#
# The first part is never positive. *Two images with the same text can only come closer.* How fast is decided by $\bar\Sigma$, the spread of all the texts between which they still hesitate. That is grouping through an anchor, as a theorem: for this direction of the loss, before vectors are made unit length again.
#
# The second part is what instance discrimination does. As long as $t$ and $t'$ differ at all, however alike they are, the pull does not end at zero distance. It ends where both gradients vanish:
#
# $$s\,\bar\Sigma\,(v - v') = t - t', \qquad\text{on the line}\quad x - x' = \frac{\tau}{2}\,\frac{y - y'}{\overline{\operatorname{Var}}_P(y)}. \tag{4}$$
#
# So in the end the images copy the texts, magnified by one over the spread. And the spread shrinks while the model becomes sure. Therefore expect two phases: first groups form, while $\bar\Sigma$ is large; then they are drawn apart again, while the same loss goes on falling.

# %%
# check (3): two gradients by autograd on the left; the covariance, averaged along the walk, on the right
s, texts = 1.7, torch.randn(9, 4, dtype=torch.double)
a, b = torch.randn(2, 4, dtype=torch.double)


def gradient(v, i):
    v = v.clone().requires_grad_()
    return torch.autograd.grad(-torch.log_softmax(s * texts @ v, dim=0)[i], v)[0]


nodes, weights = np.polynomial.legendre.leggauss(60)  # quadrature on [-1, 1]
walk = 0
for u, weight in zip((nodes + 1) / 2, weights / 2):
    prob = torch.softmax(s * texts @ (b + u * (a - b)), dim=0)
    centred = texts - prob @ texts
    walk = walk + weight * (centred.T * prob) @ centred  # (D, D)
same("(3)", gradient(a, 0) - gradient(b, 3), s**2 * walk @ (a - b) - s * (texts[0] - texts[3]))

# check (4): find the two resting places by bisection, then predict their distance
texts, tau = torch.tensor([-2.0, -1.1, -0.4, 0.1, 0.9, 1.7], dtype=torch.double), 0.8


def spread(x):
    prob = torch.softmax(-((x - texts) ** 2) / tau, dim=0)
    return float(prob @ (texts - prob @ texts) ** 2)


def rest(i, low=-20.0, high=20.0):
    for _ in range(80):
        middle = (low + high) / 2
        expected = torch.softmax(-((middle - texts) ** 2) / tau, dim=0) @ texts
        low, high = (middle, high) if expected < texts[i] else (low, middle)
    return middle


x2, x3 = rest(2), rest(3)
mean_spread = sum(w / 2 * spread(x2 + (u + 1) / 2 * (x3 - x2)) for u, w in zip(nodes, weights))
same("(4)", x3 - x2, tau / 2 * float(texts[3] - texts[2]) / mean_spread)

# %% [markdown]
# ### 4.3 Anchors, run
#
# Now give the texts an encoder: each has an input, near the middle of its class, and a small random network makes a point of it. The images stay free. Whatever groups them must come through the texts. In a third mode both sides have an encoder. This is the idea of the paper's figure 1, (b) to (d); its code is not public, so the sizes are ours. Its part (a) comes first: pairs of two *images*, as in SimCLR, where one encoder makes both points and smoothness alone can group.

# %%
motions |= {mode: simulate(mode, SEEDS, STEPS) for mode in MODES[1:]}
MODE_COLOURS = dict(zip(MODES, (plot.BLACK, plot.PINK, plot.SKY)))
figure, axes = plt.subplots(1, 3, figsize=(8, 3.3), width_ratios=[1, 1, 1.15])
for ax, mode in zip(axes, MODES[1:]):
    trajectories(ax, motions[mode], mode)
axes[1].set_ylabel("")
for number, (mode, motion) in enumerate(motions.items()):
    at = [min(step + 5 * number, STEPS) for step in range(30, STEPS, 80)]
    ranges(axes[2], purity(motion.images, classes()), MODE_COLOURS[mode], mode, at)
plot.line(axes[2], CHANCE, "")
axes[2].set(xlabel="step", ylim=(-0.02, 1.42), yticks=[0, CHANCE, 0.5, 0.75, 1])
axes[2].set_yticklabels(["0", "chance", "0.5", "0.75", "1"])
axes[2].set_title("purity of the images")
axes[2].legend(fontsize=8, loc="upper right")
plt.show()



def two_views(seed, steps, noise=0.1, tau=0.1, hidden=32):
    """Figure 1(a): 24 items, two noisy views of each, one network for both. -> purity at the start and at the end"""
    generator = torch.Generator().manual_seed(seed)
    items = torch.randn(4, 8, generator=generator)[classes()] + 0.3 * torch.randn(24, 8, generator=generator)
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(8, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 1))
    adam = torch.optim.Adam(net.parameters(), lr=0.03)
    start = purity(net(items).detach(), classes())
    for _ in range(steps):
        x, y = (net(items + noise * torch.randn(24, 8, generator=generator)) for _ in range(2))  # (N, 1) each
        logits = -((x - y.T) ** 2) / tau  # (N, N)
        loss = F.cross_entropy(logits, torch.arange(24)) + F.cross_entropy(logits.T, torch.arange(24))
        adam.zero_grad()
        loss.backward()
        adam.step()
    return float(start), float(purity(net(items).detach(), classes()))


views = np.array([two_views(seed, STEPS) for seed in SEEDS])  # (R, 2)
print(f"two views of one image, one encoder: purity {views[:, 0].mean():.2f} -> {views[:, 1].mean():.2f}", end=" ")
print(f"[{views[:, 1].min():.2f}, {views[:, 1].max():.2f}]\n")

early = min(30, STEPS)
head = f"mean of {len(SEEDS)} runs"
print(f"{head:27} loss  own text   purity: start  step {early}   end   texts, end   end - step {early}")
for mode, motion in motions.items():
    images, texts = purity(motion.images, classes()), purity(motion.texts, classes())  # (T + 1, R) each
    change = images[-1] - images[early]
    print(
        f"{mode:27} {motion.loss[-1].mean():4.2f} {motion.found[-1].mean():9.2f} {images[0].mean():15.2f} "
        f"{images[early].mean():8.2f} {images[-1].mean():5.2f} {texts[-1].mean():12.2f}"
        f"   {change.mean():+.2f} [{change.min():+.2f}, {change.max():+.2f}]"
    )

# %% [markdown]
# Look at the colours in the first two panels, then at the curves.
#
# - **Two views, one encoder** (the first line): no anchor is needed where one smooth network places both points. What it groups was near already.
# - **Both free:** no grouping, at a loss that falls as well. Black stays at chance.
# - **Images free, texts smooth:** the images start at chance and become about as pure as the texts are, far from perfect. They never saw an input. They were grouped *through* the texts.
# - **Both smooth:** grouped almost completely within some thirty steps, more than either encoder was at the start. Each side is the other's anchor.
# - **Later:** with both sides smooth purity falls again while the loss goes on falling, as (4) predicts. With free images the same tendency is within the spread of the runs. The bars are the full range over runs, and they are wide: *which* classes come together is the accident of a random start. (The shake after step 100 in the second panel is the optimiser's: Adam takes long steps where gradients have been small for long.)
#
# Three things follow that a method could do better. Do not leave the anchors to chance. Do not let the last phase undo the first. And let one group act at once, rather than caption by caption.
#
# ### 4.4 What a gap between the two sides does, and what it does not do
#
# In a trained CLIP, images lie in one part of the sphere and captions in another: the *modality gap*. The paper's abstract speaks of *increasing the robustness* of the grouping against it. Let us see for ourselves, for the plainest of gaps: a vector that all texts have in common.
#
# Say an image is $v = (u, -c)/\sqrt{1+c^2}$ and a caption $t = (w, c)/\sqrt{1+c^2}$, where $u, w$ are unit vectors that vary and the last coordinate is the constant offset. Then $v^\top t = (u^\top w - c^2)/(1+c^2)$. The $c^2$ is the same for all pairs and cancels in both softmaxes. What is left is a smaller scale:
#
# $$\mathcal L_s\big(v, t\big) = \mathcal L_{s/(1+c^2)}\big(u, w\big). \tag{5}$$
#
# Does the loss close the gap? Add (1) over all images. The columns of $Q$ are the caption's choices and sum to 1 for each caption, so $\sum_i Q_{ij} = 1$ and their part vanishes. Of the rows remains
#
# $$\sum_i\frac{\partial\mathcal L}{\partial v_i} = \frac{s}{2B}\sum_j\Big(\sum_i P_{ij} - 1\Big)\,t_j, \qquad \sum_j\Big(\sum_i P_{ij} - 1\Big) = B - B = 0. \tag{6}$$
#
# The weights sum to zero, so what all texts have in common drops out. A force that would carry the cloud of images over to the cloud of captions does not exist, before vectors are made unit length. InfoNCE on cosines lives with a gap.

# %%
# check (5): vectors with the offset on the left, without it and at a smaller scale on the right
c = 1.7
u, w = (F.normalize(torch.randn(B, 3, dtype=torch.double), dim=1) for _ in range(2))


def shifted(x, by):
    return F.normalize(torch.cat([x, torch.full((len(x), 1), by, dtype=x.dtype)], dim=1), dim=1)  # (B, D + 1)


same("(5)", clip_loss(shifted(u, -c), shifted(w, c), s), clip_loss(u, w, s / (1 + c**2)))

# check (6): the sum of all images' gradients by autograd on the left, texts weighted by a loop on the right
v, s = torch.randn(B, 4, dtype=torch.double, requires_grad=True), 6.0
t = torch.cat([w, torch.full((B, 1), c)], dim=1)  # (B, D + 1)
total = torch.autograd.grad(clip_loss(v, t, s), v)[0].sum(dim=0)  # (D + 1,)
rows = [[math.exp(s * float(v[i].detach() @ t[j])) for j in range(B)] for i in range(B)]
excess = [sum(row[j] / sum(row) for row in rows) - 1 for j in range(B)]  # sum_i P_ij - 1
same("(6)", total, s / (2 * B) * sum(e * t[j] for j, e in enumerate(excess)))
same("(6) in the direction that all texts share", total[-1], 0.0)

# %% [markdown]
# On the line it is another matter. There the logit is a distance, and a far text is far whatever the others are. By (2), an image moves with $y_i - \mathbb E_P\,y$. From a place far beyond the last text, $P$ has all its mass on that last text: every image has the same variance, zero. By (3) nothing contracts until the gap is closed.
#
# So we run both. On the left the line, where all texts begin at an offset and the offset can be learned away. On the right a circle and cosines, where by (5) an offset $c$ is a temperature $1+c^2$ times as large.

# %%
runs, length = range(budget(cpu=6, quick=2)), budget(cpu=200, quick=30)
figure, axes = plt.subplots(1, 2, figsize=(8, 2.9), sharey=True)
for shade, offset in zip((plot.BLACK, plot.BLUE, plot.RED), (0.0, 2.0, 4.0)):
    line = simulate(MODES[1], runs, length, offset=offset)
    circle = simulate(MODES[1], runs, length, temperature=0.1 * (1 + offset**2), circle=True)
    for ax, motion in zip(axes, (line, circle)):
        at = range(15 + 2 * int(offset), length, 40)
        ranges(ax, purity(motion.images, classes()), shade, f"offset {offset:.0f}", at)
    gap = (line.texts - line.images).mean(dim=(2, 3)).abs().mean(dim=1)  # (T + 1,)
    print(
        f"offset {offset:.0f}: on the line the gap goes {gap[0]:.2f} -> {gap[-1]:.2f} and {line.found[-1].mean():.2f} "
        f"of the images find their text; on the circle {circle.found[-1].mean():.2f}"
    )
for ax, title in zip(axes, ("line: distances", "circle: cosines")):
    plot.line(ax, CHANCE, "")
    ax.set(xlabel="step", ylim=(0, 1.18), yticks=[0, CHANCE, 0.5, 0.75, 1])
    ax.set_yticklabels(["0", "chance", "0.5", "0.75", "1"])
    ax.set_title(title)
axes[0].set_ylabel("purity of the images")
axes[0].legend(loc="upper right", ncols=3, fontsize=8)
plt.show()

# %% [markdown]
# On the line the gap delays the grouping. When it is large it spoils more than that: from an offset of 4 the gap is not closed within the run, and most images never find their text. On the circle the curves lie within one another's range: a constant offset does *not* break the grouping. Two honest remarks. Adam divides a gradient by its own size, so it hides that the forces are $1+c^2$ times as small; and CLIP learns $s$, so it can take the factor back, until $s$ meets its limit of 100.
#
# So the gap that hurts is not the shift. It is what else tends to come with it: a text space whose directions are not those of the image space. That is a turn, and we meet it in 4.9.
#
# ### 4.5 Finding groups: k-means, and why it settles
#
# Given $N$ vectors, place $K$ centres so that the sum of squared distances to the nearest centre is small. That sum is called the *inertia*, $J = \sum_n\lVert h_n - C_{y_n}\rVert^2$. *K-means* repeats two steps: each point takes the nearest centre; each centre moves to the mean of its points.
#
# The first step cannot raise $J$: every point exchanges its distance for the smallest there is. For the second, let a group have $m$ points with mean $\bar h$, and let $c$ be any other place for its centre. Write $h - c = (h - \bar h) + (\bar h - c)$ and square. The mixed term is $2(\bar h - c)^\top\sum(h - \bar h)$, and that sum is zero: this is the step worth remembering. So
#
# $$\sum_{n}\lVert h_n - c\rVert^2 = \sum_n\lVert h_n - \bar h\rVert^2 + m\,\lVert\bar h - c\rVert^2, \tag{7}$$
#
# which is least at $c = \bar h$. Neither step raises $J$, and there are finitely many ways to label $N$ points, so after finitely many rounds nothing changes any more. Where it has settled, labels and centres confirm each other:
#
# $$y_n = \arg\min_k\lVert h_n - C_k\rVert^2 \quad\text{and}\quad C_k = \text{mean of } \{h_n : y_n = k\}. \tag{8}$$
#
# It need not be the best place. It is one that no single step improves.

# %%
# check (7): distances on the left; mean, its distances, and one more term on the right
group, c = torch.randn(11, 3, dtype=torch.double), torch.tensor([0.4, -2.0, 1.0], dtype=torch.double)
mean = group.mean(dim=0)
around = 11 * group.var(dim=0, correction=0).sum()
same("(7)", sum(torch.dist(h, c) ** 2 for h in group), around + 11 * torch.dist(mean, c) ** 2)


def lloyd(x, centroids):
    """K-means step by step. Yields (what was done, centroids (K, D), labels (N,))."""
    labels = None
    while True:
        nearest = torch.cdist(x, centroids).argmin(dim=1)  # (N,)
        if labels is not None and torch.equal(nearest, labels):
            return
        labels = nearest
        yield "assign", centroids, labels
        centroids = torch.stack([x[labels == k].mean(dim=0) for k in range(len(centroids))])  # (K, D)
        yield "update", centroids, labels


points = torch.randn(400, 5, dtype=torch.double)
inertias = [float((points - C[y]).square().sum()) for _, C, y in lloyd(points, points[:8])]
same("(7) inertia, largest rise", max(0.0, np.diff(inertias).max()), 0.0)
first = " ".join(f"{j:.0f}" for j in inertias[:8])
print(f"inertia after each of {len(inertias)} half steps: {first} ... {inertias[-1]:.0f}, never up")

# check (8): where the library has settled, labels by brute force and means by a loop confirm each other
C, y = kmeans(points, 8, torch.Generator().manual_seed(0), iterations=200)
same("(8) labels", torch.cdist(points, C).argmin(dim=1).double(), y.double())
same("(8) means ", C, torch.stack([points[y == k].mean(dim=0) for k in range(8)]))

# %% [markdown]
# ### 4.6 Where to start: seeds in proportion to squared distance
#
# Since it only ever improves, the start decides. Suppose there really are $K$ groups of equal size, far apart, and we take $K$ points blindly. To hit each group once has the probability $K!/K^K$, which for $K = 8$ is 0.24 %. Two centres that share a group seldom separate again. (Exercise 11.2 seeds both ways and counts.)
#
# *K-means++* draws the next seed with a probability in proportion to the squared distance from the nearest seed so far. Why squared? Two points of one group, with mean $\bar h$: $\lVert h - h'\rVert^2 = \lVert(h-\bar h) - (h'-\bar h)\rVert^2$, and the mixed term is zero on average. So a point of a group that has a seed is on average $2\sigma^2$ away from it, if $\sigma^2$ is the mean squared distance to the mean. A point of another group, whose mean lies $R$ away, is $R^2 + 2\sigma^2$ away. With $m$ groups seeded, the next seed is wasted on one of them with probability
#
# $$\frac{m\cdot2\sigma^2}{m\cdot2\sigma^2 + (K-m)(R^2+2\sigma^2)} \qquad\text{instead of}\quad \frac mK. \tag{9}$$
#
# Close to zero when groups are tight. Our `kmeans` draws several candidates each time and keeps the one that lowers the inertia most, the *greedy* variant.

# %%
# check (9): groups at the corners of a simplex; shares of actual squared distances on the left, the formula beside
K, D, R, sigma = 8, 512, 2.0, 1.0
generator = torch.Generator().manual_seed(0)
corners = torch.eye(K, D, dtype=torch.double) * R / 2**0.5  # R apart
kind = torch.arange(K).repeat_interleave(30)  # (N,)
x = corners[kind] + sigma / D**0.5 * torch.randn(len(kind), D, generator=generator, dtype=torch.double)
groups = torch.stack([torch.randperm(K, generator=generator)[:3] for _ in range(100)])  # (100, m)
seeds = 30 * groups + torch.randint(30, (100, 3), generator=generator)  # one point of each of m = 3 groups
squared = torch.cdist(x, x)[seeds].square().amin(dim=1)  # (100, N) distances to the nearest seed
taken = (kind[seeds][:, :, None] == kind).any(dim=1)  # (100, N)
wasted = (squared * taken).sum(dim=1) / squared.sum(dim=1)
within, across = 2 * sigma**2, R**2 + 2 * sigma**2
same("(9)", wasted.mean(), 3 * within / (3 * within + (K - 3) * across), tolerance=0.05)

# %% [markdown]
# ### 4.7 A prototype is a class that nobody named
#
# Say the groups are found, and group $k$ has a point $\tilde C_k$ in the space of the student, its *prototype*. The student, an image $h$, chooses among the $K$ prototypes by a softmax, and should choose as $q$ says:
#
# $$\mathcal L = -\sum_k q_k\log p_k, \qquad p_k = \frac{e^{s\,h^\top\tilde C_k}}{\sum_l e^{s\,h^\top\tilde C_l}}, \qquad \frac{\partial\mathcal L}{\partial h} = s\sum_k (p_k - q_k)\,\tilde C_k. \tag{10}$$
#
# It is the cross-entropy of a classifier with $K$ classes, whose weights are not learned but are the prototypes. The gradient is (1) over again, *prototype expected minus prototype due*, with one anchor for a whole group. A hundred captions that differ a little pull in a hundred directions; a prototype pulls all their images in one. By (3), with $t = t'$, they can only come closer. That is what is meant by making the grouping efficient.
#
# How low can it go? Add and subtract $\sum_k q_k\log q_k$:
#
# $$\mathcal L = H(q) + \mathrm{KL}(q\,\Vert\,p) \;\ge\; H(q). \tag{11}$$
#
# With one-hot $q$ the floor is 0. With soft targets it is their entropy, and a learner who does not know it will wait for a loss that cannot come.

# %%
# check (10): autograd on the left; (11): the library's loss on the left, entropy and divergence of torch on the right
K, D, s = 6, 5, 9.0
h, prototypes = (F.normalize(torch.randn(n, D, dtype=torch.double), dim=1) for n in (8, K))
q = torch.softmax(torch.randn(8, K, dtype=torch.double), dim=1)
student = h.clone().requires_grad_()
left = torch.autograd.grad(8 * prototype_loss(student, prototypes, q, s), student)[0]  # the loss is a mean over 8
p = torch.softmax(s * h @ prototypes.T, dim=1)
same("(10)", left, torch.stack([s * sum((p[i, k] - q[i, k]) * prototypes[k] for k in range(K)) for i in range(8)]))
entropy = torch.distributions.Categorical(q).entropy().mean()
same("(11)", prototype_loss(h, prototypes, q, s), entropy + F.kl_div(p.log(), q, reduction="batchmean"))

# %% [markdown]
# ### 4.8 Soft targets, and how a group can lose to its neighbour
#
# A group of berries and a group of apples have more in common than berries and umbrellas. ProtoCLIP tells the student so. The teacher's own centres $C$ are compared with each other, at a temperature $\tau_y$ of their own:
#
# $$q_{ik} = \frac{e^{C_{y_i}^\top C_k/\tau_y}}{\sum_l e^{C_{y_i}^\top C_l/\tau_y}}. \tag{12}$$
#
# A large $\tau_y$ makes all groups equally right, with entropy $\log K$. A small one leaves only the largest product. The released recipe takes $\tau_y = 0.01$. One expects the largest product to be that with itself, $C_{y}^\top C_y = \lVert C_y\rVert^2$. Is it?
#
# The vectors $h$ have length 1. Their means do not. Put $c = 0$ in (7) and divide by $m$: the left side is 1, so
#
# $$\lVert C_k\rVert^2 = 1 - \sigma_k^2, \qquad \sigma_k^2 = \text{mean of } \lVert h_n - C_k\rVert^2 \text{ in the group}. \tag{13}$$
#
# *The wider a group, the shorter its centre.* Let $\gamma$ be the cosine between two centres. The own group wins against its neighbour $k$ only if
#
# $$\lVert C_y\rVert > \gamma\,\lVert C_k\rVert. \tag{14}$$
#
# A wide group beside a tight one in nearly the same direction loses: its members are taught to choose the neighbour. With unit vectors in place of $C$ that could not happen, since then (14) reads $1 > \gamma$. The released code does not make them unit vectors, and neither does our library, which follows it.

# %%
# check (12): the library on the left, exponentials one by one on the right
C, y, tau_y = torch.randn(4, 3, dtype=torch.double), torch.tensor([2, 0, 3]), 0.7
shares = [[math.exp(float(C[own] @ other) / tau_y) for other in C] for own in y]
same("(12)", soft_targets(C, y, tau_y), torch.tensor([[e / sum(row) for e in row] for row in shares]), tolerance=1e-6)

# check (13): lengths on the left, widths on the right
x = F.normalize(torch.randn(300, 8, dtype=torch.double), dim=1)
C, y = kmeans(x, 9, torch.Generator().manual_seed(0), iterations=200)
widths = torch.stack([x[y == k].var(dim=0, correction=0).sum() for k in range(9)])
same("(13)", C.square().sum(dim=1), 1 - widths)

# check (14): two centres whose cosine is fixed; the wide one shrinks until the library's target prefers its neighbour
gamma, long = 0.8, 0.9
direction = torch.tensor([[1.0, 0.0], [gamma, (1 - gamma**2) ** 0.5]], dtype=torch.double)


def prefers_itself(length):
    C = direction * torch.tensor([[length], [long]], dtype=torch.double)
    return bool(soft_targets(C, torch.tensor([0]), 0.01)[0].argmax() == 0)


low, high = 0.01, 1.0
for _ in range(50):
    low, high = (low, (low + high) / 2) if prefers_itself((low + high) / 2) else ((low + high) / 2, high)
same("(14) the length at which it turns", low, gamma * long, tolerance=1e-6)

head = "24 tight groups, each near a wide one"
print(f"\n{head:40}{'tau_y':>7}{'entropy (log 48 = 3.87)':>26}{'own group is the largest':>28}")
D, each = 32, 40
tight = F.normalize(torch.randn(24, D), dim=1)
wide = F.normalize(tight + 0.45 * F.normalize(torch.randn(24, D), dim=1), dim=1)  # cosine 0.9 with its tight one
middles = torch.cat([tight, wide]).repeat_interleave(each, dim=0)  # (N, D)
radius = torch.tensor([0.2, 1.0]).repeat_interleave(24 * each)[:, None]  # (N, 1)
x = middles + radius / D**0.5 * torch.randn(48 * each, D)
C, y = kmeans(F.normalize(x, dim=1), 48, torch.Generator().manual_seed(0))
for name, centres in (("centres as they are", C), ("made unit vectors", F.normalize(C, dim=1))):
    for tau_y in (1.0, 0.1, 0.01):
        q = soft_targets(centres, y, tau_y)
        own = (q.argmax(dim=1) == y).float().mean()
        print(f"{name:40}{tau_y:7}{-torch.xlogy(q, q).sum(dim=1).mean():21.2f} nats{own:28.2f}")

# %% [markdown]
# The last column is the share of items whose own group is the target's largest entry. With centres as they are, a large part of the items in wide groups is told that the neighbour is right; no temperature repairs that, since it changes no order. At the recipe's $\tau_y = 0.01$ the entropy is next to nothing: these soft targets are nearly one-hot, and where (14) fails they are one-hot in the wrong place. The groups here were made to show it. Among groups of equal width it does not happen.
#
# ### 4.9 Back translation: the teacher gives the labels, the student the places
#
# The teacher for the images are the captions. Their centres $C^T$ lie among the captions. What should the image choose among? The plain answer, $\tilde C = C^T$, asks the image to lie where captions lie: it mixes grouping with aligning the two spaces. *Prototypical back translation* (PBT) asks only for the grouping. Take from the teacher nothing but the labels $y$, and ask where in the student's own space $K$ points serve these groups best:
#
# $$\tilde C = \arg\min_{c_1,\dots,c_K}\sum_n\lVert h_n - c_{y_n}\rVert^2, \qquad \tilde C_k = \text{mean of } \{h_n : y_n = k\}. \tag{15}$$
#
# The sum falls apart into one sum for each group, and (7) says where each is least. So PBT is the second step of k-means, with labels from somebody else. If somebody else is the student itself, and k-means has settled, then by (8)
#
# $$\text{own labels: } \tilde C_k = C_k, \tag{16}$$
#
# and nothing was lost in translation.
#
# What does the student see of the teacher? Only who is grouped with whom. Let the teacher's space be turned and moved, and embedded in more dimensions: $x_n \mapsto A x_n + b$ with $A^\top A = I$. All distances stay, so k-means from the same random numbers makes the same choices, so
#
# $$y(Ax + b) = y(x) \;\Rightarrow\; \tilde C,\ p \text{ and the loss with one-hot } q \text{ are the same}. \tag{17}$$
#
# The names of the groups do not matter either: exchange two of them in $y$, and the rows of $\tilde C$ and the columns of $q$ are exchanged with them. More generally, any one-to-one map of the teacher's space will do that leaves the labels what they are. One that tears groups apart will not.
#
# Two things are *not* included. Without PBT the student compares itself with $C^T$. Then (10) moves $h$ along differences of the teacher's centres, $\sum_k(p_k - q_k)\,C^T_k$. A shift $b$ still cancels, because the weights sum to zero. A turn does not, and of another number of dimensions the product does not exist. And the *soft targets* (12) see the shift even with PBT:
#
# $$(C_y + b)^\top(C_k + b) = C_y^\top C_k + b^\top C_k + \text{terms without } k, \tag{18}$$
#
# so groups that lie along $b$ are preferred by everybody. An encoder whose vectors all share a direction has such a $b$.

# %%
# check (15): a thousand gradient steps on the left, means on the right
h, y = F.normalize(torch.randn(60, 4, dtype=torch.double), dim=1), torch.randint(5, (60,))
places = torch.zeros(5, 4, dtype=torch.double, requires_grad=True)
for _ in range(1000):
    slope = torch.autograd.grad((h - places[y]).square().sum(), places)[0]
    with torch.no_grad():
        places -= 0.02 * slope
same("(15)", places, back_translate(h, y, 5))

# check (16): translated to itself
C, own = kmeans(h, 5, torch.Generator().manual_seed(0), iterations=200)
same("(16)", back_translate(h, own, 5), C)

# check (17): a teacher of 6 dimensions, and the same teacher turned, moved, in 10 dimensions
teacher = torch.randn(60, 6, dtype=torch.double)
A, shift = torch.linalg.qr(torch.randn(10, 6, dtype=torch.double))[0], torch.randn(10, dtype=torch.double)
choices, targets = [], []
for space in (teacher, teacher @ A.T + 3 * shift):
    C, y = kmeans(space, 5, torch.Generator().manual_seed(0))
    choices.append(torch.softmax(9.0 * h @ back_translate(h, y, 5).T, dim=1))
    targets.append((C, y))
same("(17)", choices[1], choices[0])

# check (18): the library's targets of the moved centres on the left, logits corrected by hand on the right
(C, y), (moved, _) = targets
bias = C @ (A.T @ (3 * shift))  # (K,) b^T C_k as seen from the teacher's own space
same("(18)", soft_targets(moved, y, 2.0), torch.softmax((C[y] @ C.T + bias) / 2.0, dim=1))
print(f"    targets changed by up to {(soft_targets(moved, y, 2.0) - soft_targets(C, y, 2.0)).abs().max():.2f}")

# %% [markdown]
# **What happens without PBT.** A small world shows it: 240 images that move freely and 240 captions that stay, in six groups, in 16 dimensions. Both have the same structure, but the captions' space is turned by an angle, in eight planes at once. The only loss is the prototype loss, images as students. We watch two things: the *width* $\sigma^2$ of the images' groups as the captions label them, which should fall; and the cosine of an image with its caption, the alignment.


# %%
def teach(translate, degrees, steps=80, n=240, dim=16, k=6):
    """-> (steps + 1, 2): mean squared distance to the mean of the own group; cosine with the own caption."""
    generator = torch.Generator().manual_seed(0)
    middles, kind = torch.randn(k, dim, generator=generator), torch.arange(n) % k
    angle = math.radians(degrees)
    plane = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turn = torch.block_diag(*[plane] * (dim // 2))  # (D, D)
    text = F.normalize(middles[kind] + 0.5 * torch.randn(n, dim, generator=generator), dim=1) @ turn.T  # (N, D)
    C, y = kmeans(text, k, generator)
    free = middles[kind] + 1.5 * torch.randn(n, dim, generator=generator)  # (N, D)
    rows = []
    for _ in range(steps + 1):
        free.requires_grad_()
        h = F.normalize(free, dim=1)
        own = back_translate(h.detach(), y, k)
        rows.append([float(v.detach().sum(dim=1).mean()) for v in ((h - own[y]).square(), h * text)])
        loss = n * prototype_loss(h, own if translate else C, y, 14.3)
        free = (free - 0.2 * torch.autograd.grad(loss, free)[0]).detach()
    return np.array(rows)


figure, axes = plt.subplots(1, 2, figsize=(8, 3.1))
last_widths = {}
for degrees, colour in zip((0, 60, 120, 180), plot.PALETTE):
    for translate in (True, False):
        rows = teach(translate, degrees, budget(cpu=80, quick=8))
        last_widths.setdefault(degrees, []).append(rows[-1, 0])
        for ax, values in zip(axes, rows.T):
            ax.plot(values, color=colour, linestyle="-" if translate else "--")
            if translate:
                ax.plot([], [], color=colour, label=f"turned by {degrees}°")
for style, name in (("-", "with PBT"), ("--", "without")):
    axes[1].plot([], [], color="#555555", linestyle=style, label=name)
axes[0].set(xlabel="step", ylabel="width of the images' groups", ylim=(0, 1))
axes[1].set(xlabel="step", ylabel="cosine with the own caption", ylim=(-1.02, 1.02))
figure.legend(*axes[1].get_legend_handles_labels(), loc="outside upper center", ncols=6, fontsize=8)
plt.show()
for degrees, (with_pbt, without) in last_widths.items():
    print(f"{degrees:3}°: width at the end {with_pbt:.3f} with PBT, {without:.3f} without")

# %% [markdown]
# Solid lines, left: with PBT the four angles give one curve, so that three of the four lie under the last. The images group equally fast whatever the captions' space looks like. On the right, the alignment keeps its sign and nearly its size. Dashed: without PBT the images walk to where the captions are. If the two spaces are not turned at all this costs the groups a little width, and at 60° no more. At 120° they first get wider, and at 180° they are taken apart before they can be put together again on the other side. There the prototype loss does the work of alignment, which CLIP's own loss does already.
#
# This is a picture of the argument, with points that move freely and no CLIP loss beside. Whether a trained model gains is for section 7 and what follows.
#
# An *external teacher* follows for free. The labels may come from any model that has seen the captions, a sentence encoder trained on text alone, with any number of dimensions. Images and captions both learn its groups, each through its own back translation.
#
# ### 4.10 The whole objective
#
# $$\mathcal L = \mathcal L_{\text{CLIP}} + \frac w2\big[\mathcal L(h^I; y^T) + \mathcal L(h^T; y^I)\big] + \frac e2\big[\mathcal L(h^I; y^E) + \mathcal L(h^T; y^E)\big]. \tag{19}$$
#
# $\mathcal L(h^I; y^T)$: images are students, captions the teacher; and the other way round. $E$ is the external teacher. The released weights are $w = e = 1$. Four details decide whether it works.
#
# - **Two spaces.** CLIP's loss reads $v, t$, as before. Groups live behind a *projection head*, a small network with batch normalisation, $h = \text{head}(v)$ made unit. Instances want to be told apart and groups want to be together; in one space they would quarrel, as 4.2 shows. The vectors used after training are $v$ and $t$.
# - **One start.** The two heads begin as copies of one another, and are free to differ afterwards.
# - **Two scales.** The prototype loss has a learned $s$ of its own, from $1/0.07$, kept in $[1, 100]$. Choosing one of $K$ groups and one of $B$ captions are not equally hard, and by lesson 07 the gradient of $s$ is *expected minus true* for each.
# - **Fixed targets.** Labels, centres, prototypes and $q$ are computed once and then held while the student learns. No gradient flows into them: the student moves towards points that stay where they are until the next episode.
#
# ### 4.11 Episodes: clustering a stream that never ends
#
# Labels go stale as the model learns, so they must be renewed; and nobody can cluster all of the web, again and again. The *online episodic* answer: draw $N$ items, extract their vectors with the model as it is, in evaluation mode; cluster; translate back; train on the same items once; forget them; draw the next $N$. The first episode, the *warm-up*, is CLIP alone, since groups of an untrained model are not worth learning.
#
# The items are drawn *with replacement* from $M$. One item is missed by one draw with probability $1 - 1/M$, so the expected share of different items among the $N$ drawn is
#
# $$\frac MN\Big[1 - \Big(1 - \frac1M\Big)^N\Big]. \tag{20}$$
#
# If $N$ is a tenth of $M$ that is 95 %. An item that is drawn twice sits in the episode twice, with the same label up to augmentation.
#
# **Memory:** the vectors and labels of one episode, $N(2D + 2)$ numbers for the two sides, however large $M$ is. **Time:** let $F$ be the operations of both towers on one pair. Training costs $3F$: forward once, and backward twice as much, for the gradients of inputs and of weights. Extraction costs $F$. An iteration of k-means compares $N$ points with $K$ centres at $2D$ operations each, a multiplication and an addition for each dimension; with $I$ iterations on two sides, $4IKD$ for each item. So
#
# $$\frac{\text{extra}}{\text{training}} = \frac{F + 4IKD}{3F} = \frac13 + \frac{4IKD}{3F}. \tag{21}$$
#
# Keep $r$ items a group, $K = N/r$. Then an episode's clustering costs in proportion to $NK = N^2/r$. Clustering all $M$ items at once costs $M^2/r$. In episodes it is $M/N$ times $N^2/r$, that is $MN/r$: *linear in the stream*, and cheaper by the factor $M/N$.

# %%
# check (20): shares of different items in real draws on the left
M, N = 5000, 500
left = np.mean([len(torch.randint(M, (N,)).unique()) / N for _ in range(400)])
same("(20)", left, M / N * (1 - (1 - 1 / M) ** N), tolerance=0.01)


def operations(work):
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


# the k-means term of (21): what torch counts for one more iteration, against 2 N K D (one side; plus 2 N K for |C|^2)
N, K, D = 2048, 48, 64
x = F.normalize(torch.randn(N, D), dim=1)
one, two = (operations(lambda n=n: kmeans(x, K, torch.Generator().manual_seed(0), n)) for n in (1, 2))
same("(21) one iteration", two - one, 2 * N * K * (D + 1))

tower, batch = ConvNet(32), torch.rand(64, 3, 32, 32, requires_grad=True)  # an input that wants its gradient too
forward = operations(lambda: tower(batch)) / 64
trained = operations(lambda: tower(batch).sum().backward()) / 64
same("(21) the third: extraction over training", forward / trained, 1 / 3)
without = operations(lambda: tower(batch.detach()).sum().backward()) / 64
print(f"our image tower: {forward / 1e6:.1f} million operations forward; {without / forward:.2f} times that to train")
for name, k, d, iterations, starts, cost in (
    ("here: K = 48, D = 64, 20 iterations", 48, 64, 20, 1, forward),
    ("the release: K = 20,000, D = 128, 20 iterations, 3 starts", 20_000, 128, 20, 3, None),
):
    clustering = 4 * iterations * starts * k * d
    beside = f" = {clustering / (3 * cost):.2f} of training, image tower alone" if cost else ""
    print(f"{name}: clustering {clustering / 1e6:,.1f} million operations an item{beside}")

# %% [markdown]
# Training is a little under three forward passes, since the first layer needs no gradient for the picture. At our size the clustering is small beside the third for extraction. At the release's size it is 0.6 billion operations for each item: more, but still less than one forward pass of a ResNet-50, some 8 billion. The released README gives 1.84 days against CLIP's 1.03 for the same number of samples on one 2080 Ti. Operations alone do not explain that factor of 1.8; equation (21) leaves out that every picture is also loaded and augmented twice.
#
# ### 4.12 What the released code does
#
# - **The external teacher's targets are one-hot**, always: the temperature for that term is hard-wired off. $\tau_y = 0.01$ applies to the two terms between images and captions.
# - **Plain k-means** on unit vectors, images and captions apart; centres and prototypes stay inside the sphere, of lengths by (13).
# - **A group without members** has the zero vector as its prototype, and stays in the softmax with logit 0. That is more than a prototype with a negative product gets.
# - **20,000 groups for 200,000 items:** ten items a group. Its k-means library asks for at least 39 and warns.
# - **Extraction** runs in evaluation mode, but on augmented pictures: what is grouped is not quite what is trained on.
# - **The teacher's sentence vectors** are means over all 77 positions, padding included, which is a slip: a short sentence is mostly padding. Then 1,024 dimensions are reduced to 64 by principal components.
# - **Another slip:** one line that should cut the centres to their number cuts the wrong axis. It does no harm as long as the sizes agree. Checkpoints load only if the projection heads are asked for.
# - **The end of training:** after a set epoch, CLIP's loss alone with the image tower's rate at zero, in the recipe the last two of 400 episodes.
# - **Another difference:** the baseline's augmentation is a crop of 90 to 100 %; ProtoCLIP's run adds stronger crops, colour and blur. Part of a difference between the two may come from there.
#
# ## 5. From scratch
#
# One episode, both directions, in twenty lines. Letters as above; `at` are the positions of a batch in its episode.


# %%
def episode(h_image, h_text, k, tau_y, generator):  # (N, D) each
    (C_image, y_image), (C_text, y_text) = (kmeans(h, k, generator) for h in (h_image, h_text))  # (K, D), (N,) each

    def translate(h, y):
        member = F.one_hot(y, k).to(h.dtype)  # (N, K)
        return member.T @ h / member.sum(dim=0).clamp(min=1)[:, None]  # (K, D)

    def targets(C, y):
        return torch.softmax(C[y] @ C.T / tau_y, dim=1)  # (N, K)

    for_images = translate(h_image, y_text), targets(C_text, y_text)
    for_texts = translate(h_text, y_image), targets(C_image, y_image)
    return for_images, for_texts


def protoclip(v, t, h_image, h_text, at, sides, w, s_pairs, s_groups):  # (B, D) four times, (B,)
    logits, pairs = s_pairs * v @ t.T, torch.arange(len(v))  # (B, B)
    loss = (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
    for h, (prototypes, q) in zip((h_image, h_text), sides):
        loss = loss + w / 2 * F.cross_entropy(s_groups * h @ prototypes.T, q[at])  # (B, K) logits
    return loss


# %% [markdown]
# The same weights, the same random numbers, the library:

# %%
labels = [gallery.labels[c] for c in gallery.concepts[:96]]
images, tokenizer = F.avg_pool2d(gallery.images[:96].float() / 255, 4), Tokenizer(labels)  # (96, 3, 16, 16)
tokens = tokenizer(labels)
torch.manual_seed(0)
tiny = ProtoCLIP(ConvNet(8), BagOfWords(len(tokenizer), 16), tokenizer, dim=16, k=7, projected=8, hidden=32, weight=2.0)

tiny.eval()
with torch.no_grad():
    extracted = tiny.project(images, tokens)  # (N, 8) each
sides = episode(*extracted, 7, 0.01, torch.Generator().manual_seed(5))
tiny.episode([(images, tokens)], torch.Generator().manual_seed(5))
tiny.train()
at = torch.tensor([3, 17, 40, 41, 95, 60, 8, 22])
batch = images[at], tokens[at]
mine = protoclip(
    tiny.encode_image(batch[0]), tiny.encode_text(batch[1]), *tiny.project(*batch), at, sides, 2.0,
    tiny.logit_scale.exp(), tiny.prototype_scale.exp(),
)  # fmt: skip
gradient = torch.autograd.grad(mine, tiny.image_map.weight)[0]

theirs, terms = tiny.loss((*batch, at))
same("one step of ProtoCLIP", mine, theirs)
same("and its gradient     ", gradient, torch.autograd.grad(theirs, tiny.image_map.weight)[0])
print({name: round(float(value), 3) for name, value in terms.items()})

# check (19) with all of its terms: an external teacher of 20 dimensions, weights that are not 1
torch.manual_seed(1)
taught = ProtoCLIP(
    ConvNet(8), BagOfWords(len(tokenizer), 16), tokenizer, dim=16, k=7, projected=8, hidden=32, weight=2.0,
    external=3.0,
)  # fmt: skip
sentences = torch.randn(96, 20)
taught.eval()
with torch.no_grad():
    h_image, h_text = taught.project(images, tokens)
    sides = episode(h_image, h_text, 7, 0.01, torch.Generator().manual_seed(5))
taught.episode([(images, tokens)], torch.Generator().manual_seed(5), sentences)
taught.train()
y_teacher = taught.groups["labels"][2]  # (N,) one group of the teacher for each item
members = [
    [h[y_teacher == k].mean(dim=0) if (y_teacher == k).any() else 0 * h[0] for k in range(7)]
    for h in (h_image, h_text)
]
by_hand = protoclip(
    taught.encode_image(batch[0]), taught.encode_text(batch[1]), *taught.project(*batch), at, sides, 2.0,
    taught.logit_scale.exp(), taught.prototype_scale.exp(),
)  # fmt: skip
for h, centres in zip(taught.project(*batch), members):
    logits = taught.prototype_scale.exp() * h @ torch.stack(centres).T  # (B, K)
    by_hand = by_hand + 3.0 / 2 * F.cross_entropy(logits, y_teacher[at])
same("(19)", taught.loss((*batch, at))[0], by_hand)

# %%
show(back_translate)

# %%
show(soft_targets)

# %%
show(ProtoCLIP.episode)

# %%
show(ProtoCLIP.loss)

# %%
show(Episodes)

# %% [markdown]
# ## 6. An episode, step by step
#
# **Try it yourself.** Below is a world of two dimensions: images on the left, their captions on the right, four groups. Move the slider from the left: the first stages cluster the *captions*, from seeds that were drawn badly, two in one group. Watch the red star wander. At the last two stages look at the images: the captions' labels colour them, and the prototypes appear in *their* cloud. Which images get a colour that their place would not have given them?

# %%
generator = torch.Generator().manual_seed(3)
kind = torch.arange(80) % 4
middles = torch.tensor([[0.0, 1.0], [1.1, 0.2], [-0.9, 0.0], [0.2, -1.0]])
image = middles[kind] @ torch.tensor([[0.5, 0.8], [-0.8, 0.5]]) + 0.42 * torch.randn(80, 2, generator=generator)
text = middles[kind] + 0.27 * torch.randn(80, 2, generator=generator)
image, text = image + torch.tensor([-2.4, 0.0]), text + torch.tensor([2.2, 0.0])
start = text[[76, 36, 35, 34]]
stages = [("seeds", start, None), *lloyd(text, start)]
last = stages[-1]
stages += [("labels go over", *last[1:]), ("prototypes", *last[1:])]


def draw(number):
    name, centres, labels = stages[number]
    colours = [COLOURS[k] for k in labels.tolist()] if labels is not None else "#AAAAAA"
    on_images = number >= len(stages) - 2
    figure, ax = plt.subplots(figsize=(4.4, 4))
    ax.scatter(*text.T, c=colours, s=22, marker="s", linewidths=0)
    ax.scatter(*image.T, c=colours if on_images else "#AAAAAA", s=28, linewidths=0)
    ax.scatter(*centres.T, c=COLOURS, s=240, marker="*", edgecolors="black", linewidths=1)
    if number == len(stages) - 1:
        prototypes = back_translate(image, labels, 4)
        for h, k in zip(image, labels.tolist()):
            ax.plot(*torch.stack([h, prototypes[k]]).T, color=COLOURS[k], linewidth=0.5, alpha=0.6)
        ax.scatter(*prototypes.T, c=COLOURS, s=240, marker="*", edgecolors="black", linewidths=1, zorder=3)
    ax.set(xlim=(-4.5, 4.2), ylim=(-2.6, 2.2))
    ax.axis("off")
    ax.text(-2.4, -2.5, "images", ha="center", fontsize=15)
    ax.text(2.2, -2.5, "captions", ha="center", fontsize=15)
    ax.set_title(name, fontsize=16)
    return figure


slider = widgets.IntSlider(value=0, min=0, max=len(stages) - 1, description="stage", continuous_update=False)
panel(draw, slider, examples=[0, len(stages) - 3, len(stages) - 1])

# %% [markdown]
# Left picture: two seeds share the upper group, and the group at the right has none. Middle: settled; the red centre has moved over, and each group has one. In the right picture the stars on the left are the captions' groups, translated. The captions' cloud could be moved, turned or mirrored, and the stars among the images would not stir: this is (17). Some images sit deep inside another colour. K-means on images alone would have given them the other label. Their captions know better, or are mistaken; the student is told to follow either way.

# %% [markdown]
# ## 7. Claims
#
# What the first sitting can judge; the claims about real pictures are in [11b](11b_protoclip.ipynb).

# %%
end = {mode: purity(motion.images, classes())[-1] for mode, motion in motions.items()}  # (R,) each
words = {mode: f"{v.mean():.2f} [{v.min():.2f}, {v.max():.2f}]" for mode, v in end.items()}
claim(
    "anchors",
    says="InfoNCE groups similar representations indirectly, through anchors that emerge at random within a modality",
    source="ProtoCLIP, abstract and figure 1",
    measured=f"purity of free images, texts smooth: {words[MODES[1]]}; texts free too: {words[MODES[0]]}; "
    f"chance {CHANCE:.2f}",
    holds=bool(end[MODES[1]].mean() - 2 * end[MODES[1]].std() / len(SEEDS) ** 0.5 > end[MODES[0]].mean()),
    note=f"{len(SEEDS)} runs, mean [range]; 24 points on a line; holds if two standard errors of the mean stay above "
    "free texts",
)
falls = purity(motions[MODES[2]].images, classes())
falls = (falls[-1] - falls[early]).numpy()
claim(
    "late-phase",
    says="(ours) the same loss draws the groups apart again later",
    source="eq. (4)",
    measured=f"both smooth, purity at the end less at step {early}: {falls.mean():+.2f}, in {(falls < 0).sum()} of "
    f"{len(falls)} runs it falls, in {(falls > 0).sum()} it rises",
    holds=bool(falls.mean() + 2 * falls.std(ddof=1) / len(falls) ** 0.5 < 0),
    note="this world only; holds if two standard errors of the mean lie below 0",
)
claim(
    "gap-circle",
    says="a modality gap weakens the grouping",
    source="ProtoCLIP, abstract: robustness against the modality gap",
    measured="on the circle an offset is a temperature (5); on the line an offset of 4 is not closed within the run",
    holds=UNTESTABLE,
    note="a constant offset is the plainest of gaps, and cosines do not feel it; the gap of a trained model is more",
)

# %% [markdown]
# ## 8. What goes wrong, and further reading
#
# What the released code does differently from the paper stands in 4.12. In practice:
#
# - *The prototype loss stands still at a floor above 0:* look at the entropy of the targets (11) before you look for a bug.
# - *All items fall into few groups:* cluster on unit vectors, check group sizes, and wait for the warm-up to end.
#
# **Further reading.** Chen et al. 2022, *Prototypical Contrastive Language Image Pretraining*; Caron et al. 2018 (DeepCluster) and 2020 (SwAV), for clusters as targets in vision; Li et al. 2021, *Prototypical Contrastive Learning of Unsupervised Representations*; Arthur and Vassilvitskii 2007 on seeds.
#
# **Now you:** [exercises 11](../exercises/11_protoclip.ipynb). **Next sitting:** [11b](11b_protoclip.ipynb).
