# %% [markdown]
# # 12 · ProLIP: embeddings that know what they don't know
#
# **You derive** the distance between two Gaussians, what a variance does in a contrastive loss and what it cannot do, what it takes for one Gaussian to be inside another, with the integral behind it, and the ELBO's share in the loss.
#
# **You train** ProLIP on scenes, where the right uncertainties can be counted, and compare longer runs that differ in their masking alone.
#
# After this lesson you can
# - turn a vector into a Gaussian, sample it, and send gradients through the sample;
# - predict from one derivative which captions will get the large variances, before any training;
# - compute an overlap of densities by completing the square, and say what its sign can and cannot tell;
# - read a released loss beside its paper, and measure what each difference does.
#
# *Before this:* lesson 01 (InfoNCE), lesson 07 (CLIP and the sigmoid loss). *Papers:* Chun et al. 2025 (ProLIP); Chun 2024 (PCME++); Alemi et al. 2017 (the variational information bottleneck); Kingma and Welling 2014 (reparametrisation).
#
# ProLIP takes two sittings and has an appendix. This one ends with a trained model. [12b](12b_uncertainty.ipynb) puts its uncertainties to use, and to the test. One of our four sources, *the summary*, tells another story under the same name; [12c](12c_constraints.ipynb) builds that one.

# %%
from minilip.course import *

device = setup("12_prolip")

# %%
import itertools
import math

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from scipy.integrate import quad
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch.distributions import Normal, kl_divergence

from minilip.course import plot
from minilip import prolip
from minilip.studies.prolip import examination as prolip_exam
from minilip.studies.prolip import scenes as prolip_study
from minilip.clip import CLIP, siglip_loss, zero_shot_classifier
from minilip.data.scenes import ATTRIBUTES, BACKGROUNDS, COLOURS, DETAILS, PLACES, SHAPES, SIZES, Scenes
from minilip.nn import BagOfWords, ConvNet, TextTransformer, ViT
from minilip.studies.prolip.generality import Captions, codes_of, masked
from minilip.infonce import info_nce
from minilip.prolip import (
    ProLIP,
    csd,
    inclusion,
    inclusion_difference,
    inclusion_loss,
    ppcl_loss,
    reparametrise,
    vib_loss,
)
from minilip.studies.prolip.examination import gaussians
from minilip.nn.tokenizer import Tokenizer
from minilip.training import fit
from minilip.prolip.uncertainty import partial_spearman, uncertainty
from minilip.course.widgets import panel


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


# %% [markdown]
# ## 1. A question
#
# Look at the three rows. All eight pictures of the first row fit the caption *a shape*. So does every other picture of this world. The second row fits *a small red circle at the top left*; there are not many ways to be that. In the third row it is the picture that says less and less: what is under the grey square could be anything.

# %%
world, generator = Scenes(size=32), torch.Generator(device).manual_seed(3)
z = world.sample(4000, generator)
place = z.place()
specific = ((z.shape[:, 0] == 0) & (z.colour[:, 0] == 0) & (z.size[:, 0] == 0) & (place == 2)).nonzero()[:8, 0]
row = z[torch.cat([torch.arange(16, 24, device=device), specific, specific[:1].expand(24 - 8 - len(specific))])]
blur, occluder = row.blur.clone(), row.occluder.clone()
for k, amount in enumerate((0, 0.12, 0.2, 0.3)):
    blur[16 + k] = amount
for k, half in enumerate((0.12, 0.2, 0.28, 0.42)):
    occluder[20 + k] = torch.tensor([*row.position[20 + k, 0].tolist(), half])
under = ["a shape"] + [""] * 7 + ["a small red circle\nat the top left"] + [""] * (len(specific) - 1)
under += ["sharp", "blurred", "more", "more still", "partly hidden", "half", "nearly", "hidden"]
figure = plot.images(world.render(row.with_(blur=blur, occluder=occluder)), under, columns=8)

# %% [markdown]
# Count the *kinds* of scene: 3 shapes, 8 colours, 2 sizes, 4 places, 3 backgrounds make 576. A caption *fits* a kind if nothing in it is wrong. From *a shape* to the full description the number of kinds that fit falls from 576 to 1. Call it $N$, the caption's *generality*.

# %%
NAMES = {"size": SIZES, "colour": COLOURS, "shape": SHAPES, "place": PLACES, "background": BACKGROUNDS}
OPTIONS = {attribute: len(NAMES[attribute]) for attribute in ATTRIBUTES}  # 2, 8, 3, 4, 3
for named in DETAILS:
    caption = world.caption(z[specific[:1]], attributes=named)[0]
    print(f"N = {math.prod(k for a, k in OPTIONS.items() if a not in named):3}   {caption}")

# %% [markdown]
# CLIP gives each of these captions one unit vector. There is no place in it to write $N$. The same holds for the pictures: sharp and hidden get one unit vector each, as if nothing were missing. Can an embedding say what it leaves open?
#
# ## 2. A guess, and how it fails
#
# Two guesses cost nothing. A classifier has a *confidence*, the largest probability of its softmax. And before it is brought to length 1, a vector has a *length*. Perhaps one of these falls when the picture says less.
#
# We train a small CLIP on sharp scenes, for a few seconds, and then show it five sets of pictures.

# %%
tokenizer = Tokenizer(world.caption(z))
CLASSES = [f"{size} {colour} {shape}" for shape in SHAPES for colour in COLOURS for size in SIZES]


def batches(generator):
    latents = world.sample(128, generator)
    return world.render(latents), tokenizer(world.caption(latents), device)


torch.manual_seed(0)
clip = CLIP(ConvNet(16), BagOfWords(len(tokenizer), 64), tokenizer).to(device)
fit(clip, batches, budget(cpu=150, gpu=150, quick=3), lr=3e-3, label="a small CLIP")

n = budget(cpu=500, quick=50)
test = world.sample(n, torch.Generator(device).manual_seed(1))
label = (test.shape * 16 + test.colour * 2 + test.size)[:, 0]


def covered(half):
    return test.with_(occluder=torch.cat([test.position[:, 0], torch.full((n, 1), half, device=device)], dim=1))


SETS = {
    "sharp": world.render(test),
    "blurred": world.render(test.with_(blur=torch.full((n,), 0.3, device=device))),
    "half hidden": world.render(covered(0.25)),
    "hidden, white": world.render(covered(0.7), occluder_colour="white"),
    "noise": torch.rand(n, 3, 32, 32, device=device, generator=generator),
}
clip.eval()
confidence, length, right = {}, {}, {}
with torch.no_grad():
    W, scale = zero_shot_classifier(clip, CLASSES), clip.logit_scale.exp()
    for name, pictures in SETS.items():
        features = clip.image_map(clip.image_tower(pictures))  # (B, D) before normalisation
        p = torch.softmax(scale * F.normalize(features, dim=1) @ W.T, dim=1)  # (B, 48)
        confidence[name], length[name] = p.max(dim=1).values.cpu(), features.norm(dim=1).cpu()
        right[name] = (p.argmax(dim=1) == label).float().cpu()
    two = torch.softmax(scale * F.normalize(features, dim=1) @ W[[0, 18]].T, dim=1).max(dim=1).values.mean()

figure, axes = plt.subplots(1, 2, figsize=(8, 2.7), width_ratios=[1.5, 1])
at = np.arange(len(SETS))
axes[0].barh(at - 0.2, [float(c.mean()) for c in confidence.values()], 0.38, color=plot.ORANGE, label="confidence")
axes[0].barh(at + 0.2, [float(r.mean()) for r in right.values()], 0.38, color=plot.BLUE, label="share named right")
axes[0].set(yticks=at, yticklabels=list(SETS), xlim=(0, 1), xlabel="mean over pictures (chance 1/48)")
axes[0].legend(loc="lower right")
axes[1].barh(at, [float(x.mean()) for x in length.values()], 0.6, color=plot.GREEN)
axes[1].set(yticks=at, yticklabels=[], xlabel="mean length before normalisation")
for ax in axes:
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
plt.show()
print(f"the same noise, asked 'a {CLASSES[0]}' or 'a {CLASSES[18]}' and nothing else: confidence {two:.2f}")
if 0 < float(right["sharp"].sum()) < n:
    area = roc_auc_score(right["sharp"], confidence["sharp"])
    print(f"among sharp pictures, right against wrong by confidence: AUROC {area:.2f}")

# %% [markdown]
# Compare the two bars of each row. The share named right collapses, and the confidence does not follow: in blurred and in half hidden pictures it is about what it is in sharp ones. A softmax says how the candidates compare with *each other*, so its answer depends on the list: offer two names instead of 48 and the confidence in the same noise rises. It cannot say that none of this is in the picture. And for a caption there is no list at all; what are the candidates of *a shape*?
#
# The length has a different fault: nobody asked for it. The loss normalises it away, so its gradient along the vector is 0, and whatever the length becomes is an accident of the network. Here the longest vectors belong to noise and to the white square.
#
# Be fair to the first guess. On pictures like those it was trained with, confidence does separate right answers from wrong ones. The last line says how well: an *AUROC* is the chance that a right answer has more of it than a wrong one, 0.5 for a guess. What it lacks is a meaning that belongs to the embedding alone.
#
# ## 3. The idea
#
# > Give every picture and every caption a Gaussian instead of a vector, as wide as what it leaves open.
#
# In one line of mathematics, with mean $\mu$, variance $v$ and $D$ dimensions,
#
# $$z \sim N\big(\mu, \operatorname{diag}(v)\big), \qquad \text{uncertainty} = \sum_{d=1}^D v_d,$$
#
# and in one line of code: `mu, logvar = unit(W_mu @ cls), W_v @ unc`. A caption *inside* another, such as *a red circle* inside *a shape*, would be a narrow Gaussian inside a wide one. Whether training makes it so, the equations can answer before the experiment.
#
# ## 4. Derivation
#
# Letters: $B$ pairs in a batch; $\mu_i, v_i \in \mathbb R^D$ mean and variance of item $i$, all entries of $v$ positive; the network says $\log v$, so that nothing has to be enforced; $S_i = \sum_d v_{id}$; $s$ the logit scale, $b$ the logit bias; $\delta = \mu_1 - \mu_2$.
#
# ### 4.1 Two stories about one method
#
# The paper and the summary agree on the name of each part and often on nothing else.
#
# | Part | The summary | The paper and its code |
# |---|---|---|
# | Tokens | $[\text{CLS}_v]\to\mu_v,\log\sigma_v^2$ and $[\text{UNC}_t]\to\mu_t,\log\sigma_t^2$ | both tokens in both towers: [CLS] → $\mu$, [UNC] → $\log\sigma^2$ |
# | Use of the Gaussian | samples $\mathbf v, \mathbf t$ | closed forms, no samples |
# | Contrast | softmax with temperature $\tau$, its eq. 1 | one sigmoid a pair, on an expected distance |
# | Inclusion | text inside the subspace of the pictures, its eq. 2 | one Gaussian inside another |
# | Variance | a regulariser that mirrors the ELBO; high means "I don't know" | the KL term of a variational bottleneck |
# | Norm | $\lVert\mathbf v\rVert_2\le\gamma$, its eq. 3 | $\lVert\mu\rVert = 1$ |
# | Masks | reconstruct the masked words, and $V\subset V^{\text{masked}}$ | only the second, for captions and for pictures |
#
# This lesson follows the right column. Samples and the softmax show what the closed forms are for; the rest of the left column is built and trained in [12c](12c_constraints.ipynb).
#
# First the tokens. A Transformer is read at extra tokens. With one, [CLS], a tower returns $(B, D)$. With two, [CLS] and [UNC], it returns $(B, 2, D)$: both look at the same picture through their own attention, one for where it is, one for how wide.

# %%
torch.manual_seed(0)
eye_tower = ViT(32, patch=8, dim=32, depth=1, readouts=2)
word_tower = TextTransformer(len(tokenizer), tokenizer.length, dim=32, depth=1, readouts=2)
tiny = ProLIP(eye_tower, word_tower, tokenizer, dim=12, batch=6).double().eval()
some_images, some_tokens = world.render(z[:6]).double().cpu(), tokenizer(world.caption(z[:6]))
with torch.no_grad():
    read = tiny.image_tower(some_images)  # (B, 2, 32)
    mean, logvar = tiny.image_gaussian(some_images)  # (B, D) each
print("tower", tuple(read.shape), "-> mean", tuple(mean.shape), "and log-variance", tuple(logvar.shape))
print(
    f"lengths of the means {mean.norm(dim=1).min():.3f} to {mean.norm(dim=1).max():.3f}, "
    f"sum of variances at the start {logvar[0].exp().sum():.3f}"
)

# %% [markdown]
# One oddity of the released code belongs here. Its text tower computes the state at [UNC] and then reads the log-variance from somewhere else: from the projected mean, before it is normalised. So [UNC] matters there only through attention. We read the [UNC] state in the text tower. Our image tower is a convolutional network without tokens; mean and log-variance are two linear maps of one feature vector.
#
# ### 4.2 Samples that have gradients
#
# The summary samples. One cannot differentiate a draw. The trick is to move the randomness into a variable that has no parameters, $n\sim N(0, I)$, and to compute the sample from it:
#
# $$z = \mu + \sqrt v\,n, \qquad v = e^{\log v}. \tag{1}$$
#
# This is called *reparametrisation*. For a fixed $n$, $z$ is a differentiable function of $\mu$ and $\log v$, with $\partial z/\partial\mu = 1$ and $\partial z/\partial\log v = \tfrac12\sqrt v\,n = \tfrac12(z-\mu)$. So for any smooth $f$
#
# $$\frac{\partial}{\partial\mu}\mathbb E f(z) = \mathbb E f'(z), \qquad
#   \frac{\partial}{\partial\log v}\mathbb E f(z) = \tfrac12\,\mathbb E\big[f'(z)\,(z-\mu)\big]. \tag{2}$$
#
# To check (2) we need an $f$ whose expectation is known. For $f = \sin$, the real and imaginary parts of $\mathbb E e^{iz} = e^{i\mu - v/2}$ give $\mathbb E\sin z = e^{-v/2}\sin\mu$.


# %%
# check (1): the library and autograd on the left, the formula and its two derivatives on the right
def noise(count):
    return torch.randn(count, 1, dtype=torch.double, generator=torch.Generator().manual_seed(0))


m, log_v = (torch.tensor(x, dtype=torch.double, requires_grad=True) for x in (0.7, -0.5))
one = reparametrise(m.expand(1, 1), log_v.expand(1, 1), torch.Generator().manual_seed(0))
by_hand = 0.7 + math.sqrt(math.exp(-0.5)) * noise(1).item()
same("(1)", (one[0, 0], *torch.autograd.grad(one.sum(), (m, log_v))), (by_hand, 1.0, (by_hand - 0.7) / 2))

# check (2): the closed form's derivatives on the left, means of cos z and of (z - mu) cos z / 2 on the right
expectation = torch.exp(-log_v.exp() / 2) * m.sin()
z_ = 0.7 + math.exp(-0.25) * noise(400_000)
left = torch.stack(torch.autograd.grad(expectation, (m, log_v)))
same("(2)", left, torch.stack([z_.cos().mean(), (z_.cos() * (z_ - 0.7)).mean() / 2]), tolerance=0.01)

# and what training does: autograd through the samples
samples = reparametrise(m.expand(400_000, 1), log_v.expand(400_000, 1), torch.Generator().manual_seed(1))
same("(2) through the samples", torch.stack(torch.autograd.grad(samples.sin().mean(), (m, log_v))), left, 0.01)

# %% [markdown]
# ### 4.3 The summary's contrast, and what it cannot see
#
# The summary's equation 1 is a softmax over the captions of the batch with a temperature $\tau$:
#
# $$\mathcal L_{\text{contrast}} = -\log\frac{e^{s(\mathbf v_i, \mathbf t_i)/\tau}}{\sum_j e^{s(\mathbf v_i, \mathbf t_j)/\tau}}. \tag{3}$$
#
# With $-s(\mathbf v_i, \mathbf t_j)$ as the energy of state $j$, the fraction is Boltzmann's probability of state $i$ at temperature $\tau$. This is InfoNCE of lesson 01, applied to samples.
#
# What does a sample add? Let $s(\mathbf v,\mathbf t) = \mathbf v^\top\mathbf t$ with independent samples. The expectation of a product of independent factors is the product of the expectations:
#
# $$\mathbb E\,\mathbf v^\top\mathbf t = \sum_d\mathbb E\mathbf v_d\;\mathbb E\mathbf t_d = \mu_v^\top\mu_t. \tag{4}$$
#
# The variances are gone. *A dot product, in expectation, is blind to uncertainty.* What is left of it comes from the bend of the loss: $\mathcal L$ is a log-sum-exp of the logits minus one of them, hence convex, and by Jensen's inequality $\mathbb E\mathcal L(\text{logits})\ge\mathcal L(\mathbb E\,\text{logits})$. Samples always cost more than means, and the wider the more, so with (3) alone every variance would shrink to 0. Something has to hold it up; in the summary that is its regulariser (4.11).

# %%
# check (3): the library's InfoNCE on the left, Boltzmann's weights in a loop on the right
V, T, tau = F.normalize(randn(5, 8), dim=1), F.normalize(randn(5, 8, seed=1), dim=1), 0.1
boltzmann = [[math.exp(float(V[i] @ T[j]) / tau) for j in range(5)] for i in range(5)]
same("(3)", info_nce(V, T, tau), -sum(math.log(row[i] / sum(row)) for i, row in enumerate(boltzmann)) / 5)

# check (4): dot products of 200,000 pairs of samples on the left, of the means on the right
g, wide = torch.Generator().manual_seed(1), torch.full((200_000, 8), math.log(0.1), dtype=torch.double)
left = (reparametrise(V[:1].expand(200_000, 8), wide, g) * reparametrise(T[:1].expand(200_000, 8), wide, g)).sum(dim=1)
same("(4)", left.mean(), V[0] @ T[0], tolerance=0.02)
for v0 in (1e-6, 0.003, 0.03):
    width = torch.full((5, 8), math.log(v0), dtype=torch.double)
    costs = [info_nce(reparametrise(V, width, g), reparametrise(T, width, g), tau) for _ in range(300)]
    print(f"variance {v0:<6g} a dimension: loss of samples {torch.stack(costs).mean():.3f}")

# %% [markdown]
# ### 4.4 A distance that sees it
#
# A squared distance is not blind. Let $z_i\sim N(\mu_i, v_i)$ and $z_j\sim N(\mu_j, v_j)$, independent. In dimension $d$ their difference is a Gaussian too, with mean $\mu_{id}-\mu_{jd}$ and variance $v_{id}+v_{jd}$. For any random number, $\mathbb E x^2 = (\mathbb E x)^2 + \operatorname{Var}x$. Sum over dimensions:
#
# $$d_{ij} = \mathbb E\lVert z_i - z_j\rVert^2 = \lVert\mu_i-\mu_j\rVert^2 + \sum_d(v_{id}+v_{jd}) = \lVert\mu_i-\mu_j\rVert^2 + S_i + S_j. \tag{5}$$
#
# This is the *closed-form sampled distance* of PCME++: what one would get from infinitely many samples, without drawing one.

# %%
# check (5): a million pairs of samples on the left, the closed form on the right
mu, logv = randn(2, 6), randn(2, 6, seed=1) - 1
draws = [Normal(mu[k], (logv[k] / 2).exp()).sample((1_000_000,)) for k in range(2)]
same("(5)", (draws[0] - draws[1]).square().sum(dim=1).mean(), csd(mu[:1], logv[:1], mu[1:], logv[1:])[0, 0], 0.01)

# %% [markdown]
# ### 4.5 The paper's contrast: one question for each pair
#
# Lesson 07 met SigLIP, which asks of every pair of the batch: do these two belong together? ProLIP asks the same, with the expected distance in place of the cosine. For unit means $\lVert\mu_i-\mu_j\rVert^2 = 2-2\mu_i^\top\mu_j$, so $1-\tfrac12d_{ij} = \mu_i^\top\mu_j-\tfrac12(S_i+S_j)$, and the *probabilistic pairwise contrastive loss* is
#
# $$\mathcal L_{\text{PPCL}} = -\frac1B\sum_{i,j}\log\sigma\big(y_{ij}\,\ell_{ij}\big), \qquad
#   \ell_{ij} = s\big(\mu_i^\top\mu_j-\tfrac12S_i-\tfrac12S_j\big)+b, \qquad y_{ij} = \begin{cases}+1 & i=j\\-1 & i\ne j.\end{cases} \tag{6}$$
#
# With $S = 0$ it is SigLIP's loss. A start, too, can be computed by hand. At the released constants ($D = 768$, $\log v = -10$, $s = 1/0.07$, $b = -10$), and with means that are orthogonal to each other, as random ones nearly are, every logit is the same number $-10-s\cdot768\,e^{-10} = -10.50$. The $B$ true pairs cost $\log(1+e^{10.50})\approx10.50$ each, the others next to nothing:
#
# $$\mathcal L_{\text{start}} = \log\big(1+e^{-\ell}\big)+(B-1)\log\big(1+e^{\ell}\big), \qquad \ell = b-s\,D\,e^{\log v}. \tag{7}$$

# %%
# check (6): the library on the left, a loop over pairs on the right; then the limit without variance
lv, lt, s, b = 0.3 * randn(5, 8, seed=2) - 4, 0.3 * randn(5, 8, seed=3) - 4, 9.0, -1.5
total = 0.0
for i, j in itertools.product(range(5), repeat=2):
    logit = b + s * sum(float(V[i, d] * T[j, d]) - math.exp(lv[i, d]) / 2 - math.exp(lt[j, d]) / 2 for d in range(8))
    total += math.log1p(math.exp(-logit if i == j else logit))
same("(6)", ppcl_loss(V, lv, T, lt, s, b), total / 5)
none = torch.full_like(V, -60.0)
same("(6) no variance, and SigLIP", ppcl_loss(V, none, T, none, s, b), siglip_loss(V, T, s, b))

# check (7): 64 pairs of orthogonal means at the released constants, and the formula
axes = torch.eye(128, 768, dtype=torch.double)
start = torch.full((64, 768), -10.0, dtype=torch.double)
shifted = -10 - 768 * math.exp(-10) / 0.07
by_hand = math.log1p(math.exp(-shifted)) + 63 * math.log1p(math.exp(shifted))
same("(7)", ppcl_loss(axes[:64], start, axes[64:], start, 1 / 0.07, -10.0), by_hand)

# %% [markdown]
# The start also warns us. With $\log v = 0$ instead of $-10$ each side would have $S = 768$ and the logits would be about $-11\,000$: no cosine could be heard. That is why the variance of ProLIP has to begin tiny. Our models begin near $S = 0.06$ a side.
#
# ### 4.6 What the contrast teaches the variance
#
# In (6) the variances of item $i$ appear only through $S_i$, and $S_i$ shifts *all* logits of row $i$ by the same amount. It is a bias, one for each item. With $p_{ij} = \sigma(\ell_{ij})$ and $t_{ij} = 1$ for true pairs, 0 otherwise, the derivative of each term of (6) is $\partial\mathcal L/\partial\ell_{ij} = (p_{ij}-t_{ij})/B$, and $\partial\ell_{ij}/\partial S_i = -s/2$. So
#
# $$\frac{\partial\mathcal L_{\text{PPCL}}}{\partial S_i} = \frac{s}{2B}\Big(\sum_jt_{ij}-\sum_jp_{ij}\Big) = \frac s{2B}\Big(1-\sum_jp_{ij}\Big). \tag{8}$$
#
# Gradient descent makes $S_i$ *grow* exactly when $\sum_jp_{ij} > 1$: when item $i$ expects more matches in the batch than it has. It stops when the expected number of matches is right.
#
# Now compare two captions in a batch of $B = 256$ with $b = -\log(B-1)$. *A shape* goes with every picture equally well, so the best mean for it is at right angles to all, cosine 0. Each of its logits is $b$, and $\sigma(-\log(B-1)) = 1/B$ exactly, so $\sum_jp_{ij} = 1$. It needs no variance at all. *A small red circle at the top left* has a high cosine with its picture, and the scale that makes it high lifts hundreds of half-similar pictures too. It has to push 255 of them down, and a variance does that for all of them at once.
#
# > Trained by the contrast alone, the specific caption gets the large variance and the general one gets none. The order is backwards.

# %%
# check (8): autograd on the left, sigmoids counted on the right
lv_ = lv.clone().requires_grad_()
slope = torch.autograd.grad(ppcl_loss(V, lv_, T, lt, s, b), lv_)[0] / lv.exp()  # (B, D) dL/dv, alike in all dimensions
expected = [
    sum(1 / (1 + math.exp(-b - s * float(V[i] @ T[j] - (lv[i].exp() + lt[j].exp()).sum() / 2))) for j in range(5))
    for i in range(5)
]
same("(8)", slope, torch.tensor([[s / 10 * (1 - e)] * 8 for e in expected], dtype=torch.double))

# %% [markdown]
# We can ask the loss itself, without a network. Take 192 kinds of scene (the background left out) and all 540 captions that name some of their attributes. Give each a free unit mean and a free $S$. Minimise the *exact expectation* of (6) over random batches of 256, each picture described by a random subset of its attributes: true pairs weigh $p(x, c)$, others $(B-1)\,p(x)\,p(c)$.

# %%
kinds = torch.tensor(list(itertools.product(*map(range, (3, 8, 2, 4)))))  # (192, 4)
described = torch.tensor(list(itertools.product(*(range(-1, k) for k in (3, 8, 2, 4)))))  # (540, 4), -1 is not named
fits = ((described == -1) | (described == kinds[:, None])).all(dim=-1)  # (192, 540)
generality = fits.sum(dim=0)  # (540,) N
joint = fits.float() / fits.sum()  # each picture has 16 captions
others = 255 * joint.sum(dim=1, keepdim=True) * joint.sum(dim=0)  # (192, 540)


def what_the_contrast_wants(seed, steps, dim=32):
    g = torch.Generator().manual_seed(seed)
    x, c = (torch.randn(k, dim, generator=g).requires_grad_() for k in (192, 540))
    log_Sx, log_Sc = (torch.full((k, 1), math.log(0.06)).requires_grad_() for k in (192, 540))
    log_s = torch.tensor(math.log(1 / 0.07)).requires_grad_()
    descent = torch.optim.Adam([x, c, log_Sx, log_Sc, log_s], lr=0.03)
    for _ in range(steps):
        cosine = F.normalize(x, dim=1) @ F.normalize(c, dim=1).T  # (192, 540)
        logits = log_s.exp() * (cosine - log_Sx.exp() / 2 - log_Sc.exp().T / 2) - math.log(255)
        loss = (joint * F.softplus(-logits) + others * F.softplus(logits)).sum()
        descent.zero_grad()
        loss.backward()
        descent.step()
    return log_Sc.detach().exp()[:, 0], cosine.detach()


S, cosine = what_the_contrast_wants(0, budget(cpu=400, quick=20))
orders = [float(spearmanr(S, generality).statistic)]
for seed, dim in budget(cpu=((1, 32), (2, 32), (0, 16), (0, 128)), quick=()):
    orders.append(float(spearmanr(what_the_contrast_wants(seed, 400, dim)[0], generality).statistic))
own = (cosine * fits).sum(dim=0) / generality  # (540,) mean cosine of a caption with the pictures it fits
figure, axes = plt.subplots(1, 2, figsize=(8, 2.9))
for ax, y, name in ((axes[0], S, "S, sum of variances"), (axes[1], own, "cosine with fitting pictures")):
    ax.plot(generality, y, "o", color=plot.SKY, markersize=3, alpha=0.5)
    levels = generality.unique()
    ax.plot(levels, [float(y[generality == k].mean()) for k in levels], "o-", color=plot.BLUE, label="mean")
    ax.set_xscale("log", base=2)
    ax.set(xlabel="N, number of the 192 kinds that fit", ylabel=name)
    ax.axhline(0, color="#777777", linewidth=0.8)
axes[0].legend()
plt.show()
print("rank correlation of S with N, three random starts:", "  ".join(f"{r:+.2f}" for r in orders[:3]))
print("with 16 and with 128 dimensions in place of 32:", "  ".join(f"{r:+.2f}" for r in orders[3:]))

# %% [markdown]
# Each dot is a caption. On the left, $S$ falls with $N$: *a shape*, at the far right, has nearly none. On the right is the reason: only specific captions have cosines high enough to need holding down. (That of *a shape* is not quite 0: it makes up for the variances of the pictures.) No network, no shortage of data and no bad luck is involved; it is what the loss asks for. Nor is it a matter of settings: with 16, 32 and 128 dimensions and 3000 steps, two starts each, the correlation was between −0.84 and −0.66.
#
# A model that is to have its uncertainties the right way round needs a second teacher. Both sources call it inclusion, and mean different things by it. The summary's is a matter of subspaces, [12c](12c_constraints.ipynb); the paper's follows.

# %% [markdown]
# ### 4.7 Inside a Gaussian
#
# What is wanted has a direction: is Gaussian 1 inside Gaussian 2? ProLIP's measure starts from the integral of $p_1^2\,p_2$, the overlap in which the first counts twice. We want it in closed form. In one dimension, three steps.
#
# *Square the first.* Squaring doubles the exponent, which halves the variance, and the constants are collected:
#
# $$N(x;\mu_1,v_1)^2 = \frac{e^{-(x-\mu_1)^2/v_1}}{2\pi v_1} = \frac{N(x;\mu_1,v_1/2)}{2\sqrt{\pi v_1}}. \tag{9}$$
#
# *Multiply by the second.* The trick is to complete the square in $x$. For variances $\alpha,\beta$ and centres $a_1, a_2$, let $\frac1\gamma = \frac1\alpha+\frac1\beta$ and $c = \gamma\big(\frac{a_1}\alpha+\frac{a_2}\beta\big)$. Then
#
# $$\frac{(x-a_1)^2}\alpha+\frac{(x-a_2)^2}\beta = \frac{(x-c)^2}\gamma+\frac{(a_1-a_2)^2}{\alpha+\beta}. \tag{10}$$
#
# Compare powers of $x$: $x^2$ has $\frac1\gamma$ on both sides, $x$ has $-2\frac c\gamma$. What remains is the constant $\frac{a_1^2}\alpha+\frac{a_2^2}\beta-\frac{c^2}\gamma$. Multiply it by $\frac1\gamma$: the terms $\frac{a_1^2}{\alpha^2}$ and $\frac{a_2^2}{\beta^2}$ cancel and $\frac{(a_1-a_2)^2}{\alpha\beta}$ is left. Times $\gamma = \frac{\alpha\beta}{\alpha+\beta}$ this is the last term. (The rule $\frac1\gamma = \frac1\alpha+\frac1\beta$ is also how a belief is updated by evidence in Bayesian inference: precisions add.)
#
# *Integrate.* The part with $x$ is a Gaussian around $c$ and integrates to $\sqrt{2\pi\gamma}$. With the constants of both densities, $\frac{\sqrt{2\pi\gamma}}{2\pi\sqrt{\alpha\beta}} = \frac1{\sqrt{2\pi(\alpha+\beta)}}$, so what is left is again a Gaussian, $N(a_1; a_2,\alpha+\beta)$. Insert $\alpha = v_1/2$, $\beta = v_2$ and take the logarithm. Densities with diagonal covariance are products over dimensions, so the logarithms add:
#
# $$\log\int p_1^2\,p_2\,dx = -\sum_d\Big[\tfrac12\log4\pi v_1+\tfrac12\log\pi(v_1+2v_2)+\frac{\delta^2}{v_1+2v_2}\Big]. \tag{11}$$

# %%
# check (9), (10) at a few points, then (11) against numerical integration in float64
x, v1, v2, a1, a2 = 0.37, 0.8, 1.7, 0.4, -0.9
p1, half_as_wide = (Normal(a1, math.sqrt(v)).log_prob(torch.tensor(x)).exp() for v in (v1, v1 / 2))
middle = math.exp(-((x - a1) ** 2) / v1) / (2 * math.pi * v1)
same("(9)", (p1**2, middle), (middle, half_as_wide / (2 * math.sqrt(math.pi * v1))))
gamma = 1 / (1 / v1 + 1 / v2)
c = gamma * (a1 / v1 + a2 / v2)
same("(10)", (x - a1) ** 2 / v1 + (x - a2) ** 2 / v2, (x - c) ** 2 / gamma + (a1 - a2) ** 2 / (v1 + v2))


def by_quadrature(m1, l1, m2, l2):
    """log of the integral of p1^2 p2, one dimension after another; the densities are written out."""
    logarithm = 0.0
    for m, l, n, k in zip(*(x.tolist() for x in (m1, l1, m2, l2))):

        def integrand(x):
            p1 = math.exp(-((x - m) ** 2) / (2 * math.exp(l))) / math.sqrt(2 * math.pi * math.exp(l))
            p2 = math.exp(-((x - n) ** 2) / (2 * math.exp(k))) / math.sqrt(2 * math.pi * math.exp(k))
            return p1 * p1 * p2

        ends = m - 12 * math.exp(l / 2), m + 12 * math.exp(l / 2)
        logarithm += math.log(quad(integrand, *ends, epsabs=0, epsrel=1e-12, limit=400)[0])
    return logarithm


g1, g2 = (0.5 * randn(1, 4), 0.6 * randn(1, 4, seed=1)), (0.5 * randn(1, 4, seed=2), 0.6 * randn(1, 4, seed=3))
same("(11)", by_quadrature(g1[0][0], g1[1][0], g2[0][0], g2[1][0]), inclusion(*g1, *g2)[0], tolerance=1e-10)

# %% [markdown]
# ### 4.8 The difference, and what its sign knows
#
# The overlap with the first counted twice is large for every pair that is near. To see a direction, compare it with the other way round. Subtract (11) from itself with 1 and 2 exchanged. With $r = v_2/v_1$, in each dimension,
#
# $$H(1\subset2) = \log\frac{\int p_1^2p_2}{\int p_1p_2^2} = \sum_d\Big[\tfrac12\log\frac{r(r+2)}{2r+1}+\delta^2\Big(\frac1{v_2+2v_1}-\frac1{v_1+2v_2}\Big)\Big]. \tag{12}$$
#
# When is it positive? The fraction in the logarithm exceeds 1 if $r(r+2) > 2r+1$, and the bracket can be put on one denominator:
#
# $$r(r+2)-(2r+1) = r^2-1, \qquad \frac1{v_2+2v_1}-\frac1{v_1+2v_2} = \frac{v_2-v_1}{(v_2+2v_1)(v_1+2v_2)}. \tag{13}$$
#
# Both have the sign of $r-1$. In one dimension, *the sign of $H$ says which variance is larger, and nothing else*. Where the means are does not matter. Worse: a larger distance makes $H$ larger, more certain of the inclusion of something that is farther away.

# %%
# check (12): two quadratures on the left, the library on the right
left = by_quadrature(g1[0][0], g1[1][0], g2[0][0], g2[1][0]) - by_quadrature(g2[0][0], g2[1][0], g1[0][0], g1[1][0])
same("(12)", left, inclusion_difference(*g1, *g2)[0], tolerance=1e-9)

# check (13): both equalities at a generic r; then 200,000 random pairs in one dimension: how often does the sign of H
# differ from that of v2 - v1?
r = v2 / v1
same(
    "(13)",
    (r * (r + 2) - (2 * r + 1), 1 / (v2 + 2 * v1) - 1 / (v1 + 2 * v2)),
    ((r - 1) * (r + 1), (v2 - v1) / (2 * v1**2 + 5 * v1 * v2 + 2 * v2**2)),
)
pairs = [2 * randn(200_000, 1, seed=k) for k in range(4)]
H = inclusion_difference(*pairs)
same("(13) share of other signs", (H.sign() != (pairs[3] - pairs[1]).sign()[:, 0]).double().mean(), 0.0)
farther = inclusion_difference(pairs[0] + (pairs[0] - pairs[2]), *pairs[1:])  # twice the distance
same("(13) share where distance made |H| smaller", (farther * H.sign() < H * H.sign() - 1e-12).double().mean(), 0.0)

# %% [markdown]
# In $D$ dimensions the sum in (12) may contain both signs, and then the means do act: they weigh the dimensions that say yes against those that say no. How much of the sign is left for the order of variances? We draw pairs of Gaussians and compare the sign of $H$ with the sign of $\sum_d(\log v_2-\log v_1)$. *Concentric* pairs share their mean, *apart* have random unit means, *ordered* are apart and the second is wider by half a nat in every dimension, on average. The table after the next subsection has the answer.
#
# ### 4.9 The released code counts a factor twice
#
# In the released code the logarithm in the place of (11) is built from $-2\ell_1-\ell_2$, with $\ell = \log v$. The logarithm of $p_1^2p_2$ has $-\ell_1-\frac12\ell_2$ there, since a density is divided by $\sqrt v$ and not by $v$. Elsewhere the code uses $e^{-\ell}$ as an inverse variance, so the normaliser alone is doubled. Then
#
# $$H_{\text{released}} = H+\tfrac12\sum_d(\ell_2-\ell_1) = H+\tfrac12\sum_d\log r. \tag{14}$$
#
# Does it change a verdict? By (13) each dimension of $H$ has the sign of $\log r$, and so has what is added. *In one dimension no verdict changes*; in the sum over dimensions a few do. What changes is the slope. Near $r = 1$, $\frac{d}{d\log r}\frac12\log\frac{r(r+2)}{2r+1} = \frac12\big(1+\frac r{r+2}-\frac{2r}{2r+1}\big) = \frac13$, and the released one is $\frac13+\frac12 = \frac56$, two and a half times as steep.


# %%
def released(m1, l1, m2, l2):
    """The logarithm as the released code builds it, by dimension: one polynomial in x, its square completed."""
    a = torch.exp(-l1) + torch.exp(-l2) / 2
    b = 2 * m1 * torch.exp(-l1) + m2 * torch.exp(-l2)
    c = m1**2 * torch.exp(-l1) + m2**2 * torch.exp(-l2) / 2
    return -2 * l1 - l2 - a.log() / 2 + b**2 / (4 * a) - c  # (B, D)


# check (14)
doubled = (released(*g1, *g2) - released(*g2, *g1)).sum(dim=1)
same("(14)", doubled - inclusion_difference(*g1, *g2), sum((b - a) / 2 for a, b in zip(g1[1][0], g2[1][0]))[None])
near = torch.tensor([[1e-4]], dtype=torch.double)
origin = torch.zeros(1, 1, dtype=torch.double)
slopes = (
    inclusion_difference(origin, origin, origin, near)[0],
    (released(origin, origin, origin, near) - released(origin, near, origin, origin))[0, 0],
)
same("(14) slopes at r = 1", torch.stack(slopes) / 1e-4, torch.tensor([1 / 3, 5 / 6]).double(), tolerance=1e-3)

D, count = 64, 4000
centre, elsewhere = F.normalize(randn(count, D), dim=1), F.normalize(randn(count, D, seed=1), dim=1)
l1, l2 = 0.5 * randn(count, D, seed=2) - 7, 0.5 * randn(count, D, seed=3) - 7
shapes_of_pairs = {"concentric": (centre, l1, centre, l2), "apart": (centre, l1, elsewhere, l2)}
shapes_of_pairs["apart, ordered"] = (centre, l1, elsewhere, l2 + 0.5)
print(f"{D} dimensions, {count} pairs         sign of H = sign of      released verdict changes")
print("                            sum of log r   sum of v    in a dimension   in the sum")
for name, (m1, a, m2, b_) in shapes_of_pairs.items():
    H = inclusion_difference(m1, a, m2, b_)
    H_dim = torch.cat([inclusion_difference(*(x[:, d : d + 1] for x in (m1, a, m2, b_)))[:, None] for d in range(D)], 1)
    R_dim = released(m1, a, m2, b_) - released(m2, b_, m1, a)  # (B, D)
    agree = [(H.sign() == o.sum(dim=1).sign()).double().mean() for o in (b_ - a, b_.exp() - a.exp())]
    change = [(x.sign() != y.sign()).double().mean() for x, y in ((H_dim, R_dim), (H, R_dim.sum(dim=1)))]
    print(f"{name:26} {agree[0]:12.1%} {agree[1]:10.1%} {change[0]:16.1%} {change[1]:12.1%}")

# %% [markdown]
# The columns on the left answer 4.8. Around a common mean, $H$ is the order of the log-variances and little else. Apart and with independent widths, the means outvote it in about three pairs of ten. As soon as one side is wider on the whole, nothing outvotes the variances any more. The columns on the right are about the doubled factor: no dimension, and at most a few pairs in a hundred, change their verdict.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3))
log_r = torch.linspace(-2, 2, 81, dtype=torch.double)[:, None]
still = torch.zeros_like(log_r)
for distance, colour in ((0, plot.BLUE), (1, plot.ORANGE), (2, plot.GREEN)):
    H = inclusion_difference(still + distance, still, still, log_r)
    axes[0].plot(log_r, H, color=colour, label=f"distance {distance}")
steep = released(still, still, still, log_r) - released(still, log_r, still, still)
axes[0].plot(log_r, steep, "--", color=plot.BLUE, label="released, distance 0")
axes[0].set(xlabel="log r = log v₂ − log v₁", ylabel="H(1 ⊂ 2) in one dimension")
axes[0].legend(loc="upper left", fontsize=8)
for scale, colour in ((1, plot.PINK), (10, plot.SKY), (1000, plot.RED)):
    cost = torch.stack([inclusion_loss(still[:1], still[:1], still[:1], x[None], scale) for x in log_r]) / scale
    axes[1].plot(log_r, cost, color=colour, label=f"scale {scale}")
axes[1].set(xlabel="log r = log v₂ − log v₁", ylabel="inclusion loss / scale (nats)")
axes[1].legend()
for ax in axes:
    ax.axvline(0, color="#777777", linewidth=0.8)
plt.show()

# %% [markdown]
# Left: all curves pass through 0 at the same point, where the variances are equal, however far apart the means are. Right: the loss made of it, which comes next.
#
# ### 4.10 The loss, and a constant that decides what it is
#
# The loss asks for $H > 0$ in every dimension, through a very steep sigmoid, and with variances widened by a constant $\epsilon$. With the constants of the released scripts:
#
# $$\mathcal L(1\subset2) = -\frac1{BD}\sum_{i,d}\log\sigma(1000\,H_{id}), \qquad H_{id}\text{ with }v\,e^{-\epsilon}\text{ in place of }v,\qquad\epsilon = -20. \tag{15}$$
#
# Two limits help to read it. First, $-\log\sigma(1000\,x)\approx1000\max(0,-x)$: a *hinge*, the red line above. It costs nothing where the order is right. Second, what $\epsilon$ does. The first term of $H$ depends on the ratio $r$ alone, and $e^{-\epsilon}$ cancels in a ratio. The second term is $\delta^2$ over a variance, so it is multiplied by $e^{\epsilon}$:
#
# $$H_\epsilon = \tfrac12\log\frac{r(r+2)}{2r+1}+e^{\epsilon}\,\delta^2\Big(\frac1{v_2+2v_1}-\frac1{v_1+2v_2}\Big). \tag{16}$$
#
# $e^{-20} = 2\cdot10^{-9}$: the means are switched off. The gradients show how far.

# %%
# check (15): the library on the left; on the right the mean over dimensions of log(1 + exp(-scale H)), H from integrals
scale, eps, wider = 3.0, -1.0, [(mean, logvar + 1.0) for mean, logvar in (g1, g2)]
(m_1, l_1), (m_2, l_2) = (tuple(x[0, :, None] for x in pair) for pair in wider)  # (D, 1) each
H_d = [by_quadrature(*q) - by_quadrature(q[2], q[3], q[0], q[1]) for q in zip(m_1, l_1, m_2, l_2)]
same("(15)", inclusion_loss(*g1, *g2, scale, eps), sum(math.log1p(math.exp(-scale * h)) for h in H_d) / len(H_d), 1e-9)

# check (16): widened variances on the left, the formula on the right; then the hinge
r = (g2[1] - g1[1]).exp()
v1, v2, delta = g1[1].exp(), g2[1].exp(), g1[0] - g2[0]
for eps in (0.0, -3.0):
    formula = (r * (r + 2) / (2 * r + 1)).log() / 2 + math.exp(eps) * delta**2 * (1 / (v2 + 2 * v1) - 1 / (v1 + 2 * v2))
    same(f"(16) eps {eps:g}", inclusion_difference(g1[0], g1[1] - eps, g2[0], g2[1] - eps), formula.sum(dim=1))
    same(f"the hinge, eps {eps:g}", inclusion_loss(*g1, *g2, 1e4, eps), 1e4 * np.maximum(0, -formula.numpy()).mean())

m1, m2 = (F.normalize(randn(128, 64, seed=k), dim=1).requires_grad_() for k in (0, 1))
la, lb = (math.log(0.06 / 64) + 0.3 * randn(128, 64, seed=k) for k in (2, 3))
la.requires_grad_()
print("  eps   length of the gradient to the means   to the log-variances")
for eps in (0.0, -10.0, -20.0):
    to_mean, to_logvar = torch.autograd.grad(inclusion_loss(m1, la, m2, lb, eps=eps), (m1, la))
    print(f"{eps:5g}   {to_mean.norm():32.1e}   {to_logvar.norm():20.1e}")

for name, widening in (("in order, v2 > v1", 1.0), ("violated, v2 < v1", -1.0)):
    for scale in (1.0, 1000.0):
        place_1 = torch.tensor([[0.1]], dtype=torch.double, requires_grad=True)
        inclusion_loss(place_1, origin - 2, origin, origin - 2 + widening, scale, 0.0).backward()
        force = -place_1.grad[0, 0]
        print(f"eps 0, {name}, scale {scale:4g}: force on mean 1, which is at 0.1 right of mean 2: {force:+.2g}")

# %% [markdown]
# With $\epsilon = -20$ the loss is a hinge on the order of log-variances, dimension by dimension, and nothing else. With $\epsilon = 0$ the means do take part, and the last four lines show how. Where the order is violated, the loss can be lowered by making $\delta^2$ smaller, so the means are pulled *together*. Where it is in order, a larger $\delta^2$ helps, and they are pushed *apart*; at scale 1000 that push has died away, at scale 1 it is there. Neither is inclusion: a thing should come closer to what contains it, whichever is wider at the moment. With the means switched off, this loss cannot teach *what* is inside what, only which of the two is wider. What a test of inclusion needs besides is the subject of 12b, section 3.

# %% [markdown]
# ### 4.11 The variance term: the ELBO's share
#
# The contrast of 4.3 shrinks variances to 0, the one of 4.5 uses them as a bias. The variance term keeps them near a standard. It comes from the *evidence lower bound*, ELBO. Let $x$ be what we observe, with a hidden code $z$, prior $p(z) = N(0, I)$ and any density $q(z)$, the encoder's. Multiply and divide by $q$, and use Jensen's inequality for the concave logarithm, which is the trick:
#
# $$\log p(x) = \log\mathbb E_q\Big[\frac{p(x\mid z)\,p(z)}{q(z)}\Big]\ge\mathbb E_q\log\frac{p(x\mid z)\,p(z)}{q(z)} = \underbrace{\mathbb E_q\log p(x\mid z)}_{\text{how well }z\text{ explains }x}-\underbrace{\mathrm{KL}\big(q\,\Vert\,p\big)}_{\text{what the code costs}}. \tag{17}$$
#
# What the bound loses is $\log p(x)-\mathbb E_q\log\frac{p(z\mid x)\,p(x)}{q(z)} = \mathrm{KL}(q\,\Vert\,p(z\mid x))$, the distance from $q$ to what one would believe of $z$ after seeing $x$.
#
# In ProLIP the place of the first term is taken by the contrast, and the cost stays. This exchange is called the *variational information bottleneck*. The cost is an expectation of $\log q-\log p$ under $q = N(\mu, v)$. In each dimension $\log q-\log p = -\frac12\log v-\frac{(z-\mu)^2}{2v}+\frac{z^2}2$, and with $\mathbb E(z-\mu)^2 = v$ and $\mathbb Ez^2 = \mu^2+v$,
#
# $$\mathrm{KL}\big(N(\mu,v)\,\Vert\,N(0,I)\big) = \tfrac12\sum_d\big(\mu_d^2+v_d-1-\log v_d\big). \tag{18}$$
#
# The released code halves $\log v$ before it enters: with $\ell' = \ell/2$ each dimension pays $\frac12(\mu^2+e^{\ell'}-1-\ell')$. That is the KL of a Gaussian that has the *standard deviation* in the place of the variance. Both have their minimum at $\ell = 0$, and their slopes for small variances differ by a factor of 2:
#
# $$\tfrac12(e^\ell-1-\ell)\Big|_{\ell=-10} = 4.500, \qquad \tfrac12(e^{\ell/2}-1-\ell/2)\Big|_{\ell=-10} = 2.003. \tag{19}$$

# %%
# check (17): a world with a known answer: z ~ N(0, 1), x = z + noise of variance 1/2, so p(x) = N(0, 3/2)
observed, evidence = torch.tensor(1.2).double(), Normal(0.0, math.sqrt(1.5)).log_prob(torch.tensor(1.2).double())
for name, (m, v) in {"a poor q": (0.0, 1.0), "a better q": (0.6, 0.5), "the posterior": (0.8, 1 / 3)}.items():
    q, p, posterior = Normal(m, math.sqrt(v)), Normal(0.0, 1.0), Normal(0.8, math.sqrt(1 / 3))

    def logarithm(z):  # of the fraction in (17)
        z = torch.tensor(z, dtype=torch.double)
        return Normal(z, math.sqrt(0.5)).log_prob(observed) + p.log_prob(z) - q.log_prob(z)

    def under_q(f):
        return quad(
            lambda z: f(z) * math.exp(q.log_prob(torch.tensor(z, dtype=torch.double))), m - 12, m + 12, epsabs=1e-11
        )[0]

    explains = -math.log(math.pi) / 2 - ((observed - m) ** 2 + v)  # E log N(x; z, 1/2)
    bound = explains - kl_divergence(q, p)
    same(f"(17) {name}", (under_q(lambda z: float(logarithm(z).exp())), under_q(logarithm)), (evidence.exp(), bound))
    same("     lost", evidence - bound, kl_divergence(q, posterior))

# check (18): the library on the left, torch's divergence on the right
mu, logv = randn(6, 5), randn(6, 5, seed=1)
same("(18)", vib_loss(mu, logv), kl_divergence(Normal(mu, (logv / 2).exp()), Normal(0.0, 1.0)).sum(dim=1).mean())

# check (19): the library on the left, arithmetic on the right; then both slopes at l = 0
same(
    "(19) halved",
    vib_loss(mu, logv / 2),
    kl_divergence(Normal(mu, (logv / 4).exp()), Normal(0.0, 1.0)).sum(dim=1).mean(),
)
zero, ten = torch.zeros(1, 1, dtype=torch.double), torch.full((1, 1), -10.0, dtype=torch.double)
same("(19)", (vib_loss(zero, ten), vib_loss(zero, ten / 2)), ((math.exp(-10) + 9) / 2, (math.exp(-5) + 4) / 2))
for halved in (1, 2):
    least = zero.clone().requires_grad_()
    vib_loss(zero, least / halved).backward()
    same(f"(19) slope at log v = 0, log v divided by {halved}", least.grad[0, 0], 0.0)

# %% [markdown]
# The summary expects that high variance triggers "I don't know" states. (18) shows that the term pulls *every* variance towards 1, of clear pictures as of blurred ones. It sets a level. The differences between items have to come from elsewhere.

# %% [markdown]
# ## 5. The method in twenty lines
#
# The whole objective of a batch, with $v$ for pictures, $t$ for captions, $m$ for masked copies:
#
# $$\mathcal L = \mathcal L_{\text{PPCL}}+\alpha\,\mathcal L(v\subset t)+\alpha_m\big[\mathcal L(v\subset v^m)+\mathcal L(t\subset t^m)\big]+\beta\big[\mathrm{KL}_v+\mathrm{KL}_t\big], \tag{20}$$
#
# the contrast (6), the inclusion loss (15) of a picture in its caption and of whole inputs in masked ones, and the bottleneck (18). A Gaussian is a pair `(mu, l)`.


# %%
def inside(mu1, l1, mu2, l2, scale=1000, eps=-20):
    v1, v2, r = l1.exp(), l2.exp(), (l2 - l1).exp()                                                   # (B, D)
    H = (r * (r + 2) / (2 * r + 1)).log() / 2                                                         # (B, D)
    H = H + math.exp(eps) * (mu1 - mu2) ** 2 * (1 / (v2 + 2 * v1) - 1 / (v1 + 2 * v2))
    return F.softplus(-scale * H).mean()


def prolip_from_scratch(image, text, masked_image, masked_text, s, b, alpha, alpha_m, beta):
    (mu_v, l_v), (mu_t, l_t), M = image, text, len(masked_image[0])
    S_v, S_t = l_v.exp().sum(dim=1, keepdim=True), l_t.exp().sum(dim=1, keepdim=True)                 # (B, 1)
    logits = s * (mu_v @ mu_t.T - S_v / 2 - S_t.T / 2) + b                                            # (B, B)
    ppcl = (F.softplus(logits).sum() - logits.diagonal().sum()) / len(logits)                         # eq. (6)
    in_masked = inside(mu_v[:M], l_v[:M], *masked_image) + inside(mu_t[:M], l_t[:M], *masked_text)    # eq. (15)
    vib = sum((mu**2 + l.exp() - 1 - l).sum(dim=1).mean() / 2 for mu, l in (image, text))             # eq. (18)
    return ppcl + alpha * inside(mu_v, l_v, mu_t, l_t) + alpha_m * in_masked + beta * vib             # eq. (20)


covered_images = some_images[:2].clone()
covered_images[:, :, 8:24, 8:24] = 0.5
fewer_words = tokenizer(["a circle", "a red shape"])
with torch.no_grad():
    four = [tiny.image_gaussian(some_images), tiny.text_gaussian(some_tokens)]
    four += [tiny.image_gaussian(covered_images), tiny.text_gaussian(fewer_words)]
    weights = tiny.alpha, tiny.alpha, tiny.beta
    left = prolip_from_scratch(*four, tiny.logit_scale.exp(), tiny.logit_bias, *weights)
    right, parts = tiny.loss((some_images, some_tokens, covered_images, fewer_words))
same("(20) from scratch, and minilip.prolip.ProLIP", left, right)
print("   ".join(f"{name} {value:.3f}" for name, value in parts.items()))

# %% [markdown]
# The third line uses $\operatorname{softplus}(-\ell) = \operatorname{softplus}(\ell)-\ell$: softplus of *all* logits minus the logits of the true pairs. In the library:

# %%
show(prolip.csd)

# %%
show(prolip.ppcl_loss)

# %%
show(inclusion_loss)

# %%
show(prolip.ProLIP.loss)

# %% [markdown]
# **What was released, and what we train.** The released scripts and our runs differ in more than size:
#
# | | released, ViT-B/16 | here |
# |---|---|---|
# | $D$; batch $B$ | 768; 16 384 | 64; 256 |
# | $\alpha$, picture in caption | $10^{-7}$ | 0.02 |
# | $\alpha_m$, whole in masked | $10^{-3}$ | 0.02 |
# | $\beta$ | $10^{-4}$ | $10^{-4}$ |
# | what $\beta$ multiplies | (18) with half of $\log v$, *mean* over batch and dimensions | (18), mean over the batch, *sum* over dimensions |
# | inclusion: scale, $\epsilon$; normaliser | 1000, −20; counted twice (4.9) | 1000, −20; counted once |
# | masked copies of | an eighth of the batch | an eighth of the batch |
# | masked captions | [MASK] for 3 tokens in 4 | arms "attributes", "deleted words", "[MASK] tokens"; or none |
# | masked pictures | a quarter of the patches left out, the same ones for all | under a box of one random colour |
# | start: $\log v$, $s$, $b$ | −10, 1/0.07, −10 | $\log(0.06/D) = -6.97$, 1/0.07, $-\log(B-1)$ |
# | image tower | [CLS] and [UNC] | convolutions, no tokens |
#
# Our inclusion weighs 20 times as much for masked copies, and $2\cdot10^5$ times for pictures in captions. A sum at the $\beta$ of a mean weighs $D$ times as much: a factor of 768 at their size, 64 at ours, before the halving of (19). So no arm below is the released recipe.
#
# ## 6. Two Gaussians to play with
#
# Gaussian 1, in blue, stays, with a standard deviation of 1. Move Gaussian 2, in orange, away from it, and change its width. Circles are drawn at one and two standard deviations; a bar that ends at the frame goes on beyond it. Three things to try. Widen 2 around 1: the difference $H$ turns positive, 1 is inside 2. Then move 2 away: the overlap falls without limit, and $H$ *rises*. Last, make 2 narrower than 1 and move again: the sign of $H$ has turned, and distance makes it more negative.

# %%
LIMIT = 10.0


def two_gaussians(distance, width):
    one = torch.zeros(1, 2), torch.zeros(1, 2)  # standard deviation 1
    other = torch.tensor([[distance, 0.0]]), torch.full((1, 2), 2 * math.log(width))
    H = float(inclusion_difference(*one, *other))
    both = float(inclusion(*one, *other)), float(inclusion(*other, *one))
    bars = {
        "d, eq. (5)": float(csd(*one, *other)),
        "log ∫p₁²p₂": both[0],
        "log ∫p₁p₂²": both[1],
        "H": H,
        "O, their mean": sum(both) / 2,
    }
    figure, (plane, ax) = plt.subplots(2, 1, figsize=(3.8, 4), height_ratios=[1, 1.1])
    for centre, sd, colour, name in ((0, 1, plot.BLUE, "1"), (distance, width, plot.ORANGE, "2")):
        for k in (1, 2):
            plane.add_patch(plt.Circle((centre, 0), k * sd, color=colour, fill=k == 1, alpha=0.35 if k == 1 else 0.9))
        plane.annotate(name, (centre + (-0.5 if name == "1" else 0.75 * sd), 0), ha="center", va="center", fontsize=12)
    plane.set(xlim=(-5, 9), ylim=(-4.5, 4.5), xticks=[], yticks=[], aspect="equal")
    colours = [plot.BLACK, plot.BLUE, plot.ORANGE, plot.GREEN if H > 0 else plot.RED, plot.PINK]
    ax.barh(range(5), [max(-LIMIT, min(LIMIT, x)) for x in bars.values()], color=colours, alpha=0.75)
    for k, x in enumerate(bars.values()):
        ax.annotate(f"{x:.1f}", (0.3 if x < 0 else -0.3, k), ha="left" if x < 0 else "right", va="center", fontsize=9)
    ax.set(yticks=range(5), yticklabels=list(bars), xlim=(-LIMIT, LIMIT), ylim=(4.6, -0.6))
    ax.grid(axis="y", visible=False)
    return figure


panel(
    two_gaussians,
    widgets.FloatSlider(0.0, min=0, max=4, step=0.25, description="distance", continuous_update=False),
    widgets.FloatSlider(2.0, min=0.4, max=2.2, step=0.2, description="width of 2", continuous_update=False),
    examples=[(0.0, 2.0), (3.0, 2.0), (3.0, 0.6)],
)

# %% [markdown]
# ## 7. A world in which the right answer is known
#
# On photographs nobody knows how ambiguous a caption is. Here we do: $N$ is a product. So we can ask not only whether the uncertainties look plausible but whether they are right.
#
# All 2160 captions of our world are in one table: each of the 5 attributes is named with one of its values, or not named. One caption in seven is *held out*: no picture is ever described by it in the training below, whole or masked. Training draws a scene, names each attribute with probability 0.6, and spoils some pictures (15 % blurred, 15 % partly under a grey square). An eighth of each batch has masked copies: the picture under a box of a random colour, and the same scene described with fewer attributes.

# %%
captions = Captions(Scenes())
draw = torch.Generator().manual_seed(0)
seen = world.sample(6, draw)
whole = captions.some(codes_of(seen), 0.6, draw)
print(f"{len(captions.texts)} captions, {int(captions.held.sum())} of them held out\n")
for row in whole[:4].tolist():
    print(f"N = {int(captions.fits[row]):3}  {captions.texts[row]}")
    for masking in ("attributes", "words", "tokens"):
        copy = masked(captions, torch.tensor([row]), masking, draw)
        print(f"         {masking:10}  {captions.tokenizer.decode(copy)[0]}")

# %%
show(prolip_study.batches)

# %% [markdown]
# Every model starts from the same image tower: a CLIP as in lesson 07, which has learned to tell a square from a circle. (Captions with gaps teach shapes slowly.)

# %%
captions.to(device)
tower = prolip_study.start(captions, 0, budget(cpu=250, gpu=700, quick=2))
model, history = prolip_study.train("ProLIP", captions, 0, budget(cpu=300, gpu=900, quick=2), tower)
model, captions = model.cpu(), captions.to(torch.device("cpu"))

figure, axes = plt.subplots(1, 3, figsize=(8, 2.5))
for ax, names in zip(axes, (("ppcl",), ("image in text", "image in masked", "text in masked"), ("vib",))):
    for name, colour in zip(names, plot.PALETTE):
        curve = np.convolve(history.metrics[name], np.ones(budget(cpu=10, quick=1)) / budget(cpu=10, quick=1), "valid")
        ax.plot(curve, color=colour, label=name)
    ax.set(xlabel="step")
    if len(names) > 1:
        ax.set(yscale="log", ylim=(1e-3, None))
    ax.legend(fontsize=8)
axes[0].set_ylabel("nats")
plt.show()

# %% [markdown]
# From left to right: the contrast falls as always. The inclusion losses of whole in masked fall by orders of magnitude, as the order becomes right for more and more pairs and dimensions. That of a picture in its caption is gone within fifty steps, off the scale: captions are wider than pictures as a whole. The cost of the code, at a weight of $10^{-4}$, falls by a fifth.
#
# Which captions does this model find most certain, and which least? Look before the statistics.

# %%
S_t = uncertainty(gaussians(model, captions.tokens)[1])
order = S_t.argsort()
for name, rows in (
    ("least uncertain", order[:4]),
    ("in the middle", order[1078:1082]),
    ("most uncertain", order[-4:]),
):
    print(name)
    for row in rows.tolist():
        print(f"   S = {S_t[row]:.4f}   N = {int(captions.fits[row]):3}   {captions.texts[row]}")

percent = S_t.argsort().argsort().double() / (len(S_t) - 1)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.1))
for ax, x, name in (
    (axes[0], captions.fits, "N, kinds of scene that fit"),
    (axes[1], captions.words, "words in the caption"),
):
    jitter = 2 ** (0.16 * randn(len(x))) if x is captions.fits else 0.15 * randn(len(x))
    shifted = x * jitter if x is captions.fits else x + jitter
    for rows, colour, label in (
        (~captions.held, plot.SKY, "trained, one in three"),
        (captions.held, plot.RED, "held out"),
    ):
        shown = rows.nonzero()[:: 3 if label.startswith("trained") else 1, 0]
        ax.plot(shifted[shown], percent[shown], "s", color=colour, markersize=1.5, antialiased=False, label=label)
    ax.set(xlabel=name, ylabel="percentile of S")
axes[0].set_xscale("log", base=2)
axes[0].legend(markerscale=2, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=8)
plt.show()
spread = S_t.max() - S_t.min()
print(f"S runs from {S_t.min():.3f} to {S_t.max():.3f}, that is {spread / S_t.mean():.0%} of its mean")
with torch.no_grad():
    print(f"and in a logit, half of s times that: {float(model.logit_scale.exp()) * spread / 2:.2f}")
print(f"rank correlation of S with N, held out: {prolip_exam.generality(model, captions)['held']:.2f}")

# %% [markdown]
# Each dot is a caption. The figure shows ranks, and ranks hide how small the differences are: from the most certain caption to the least, say the printed lines, $S$ changes by a few hundredths. Nearly all of it is common to all captions. What is judged from here on is an *order*.
#
# Left: uncertainty rises with the number of scenes that fit, and the held-out captions follow the same band. Right: it falls with the number of words, as a length would. Is it generality or brevity? That needs a control: at *one* length, does $S$ still follow $N$? A *partial* rank correlation asks this of all lengths at once: regress the ranks of both on the ranks of the length, and correlate what is left.

# %%
show(partial_spearman)

# %% [markdown]
# ### 7.1 What the masking decides, over three seeds
#
# The inclusion loss is told that the whole is narrower than the masked, and no more. A network looks for whatever tells the two apart, and the cheapest cue wins. Three ways to mask a caption offer three cues:
#
# - *attributes*: describe the scene again with fewer attributes, so that *circle* becomes *shape*. The cue is which of them are missing, that is $N$;
# - *deleted words*: three words in four are left out. The cue is length;
# - *[MASK] tokens*: three words in four are replaced by [MASK], as the released code does. The cue is the number of masks. A real caption has none.
#
# ([12c](12c_constraints.ipynb) counts how much each cue knows of $N$ before any training.) The run above is short. Below are longer ones (900 steps, three seeds), made by the very same functions: `python -m minilip.studies.prolip.scenes` repeats them, in an hour and a half on two cores. Four arms differ in this one thing. Their weights are those of section 5; without inclusion $\alpha = \alpha_m = 0$.

# %%
study = prolip_study.known()


def each(arm, *path):
    """One number a seed."""
    found = study[arm]
    for name in path:
        found = [result[name] for result in found]
    return found


def span(values, digits=2, percent=False):
    """Median, and the range over seeds."""
    middle, low, high = np.median(values), min(values), max(values)
    if percent:
        return f"{middle:.1%} ({low:.1%} to {high:.1%})"
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


NAMES_OF = {
    "ProLIP": "attributes",
    "words deleted": "deleted words",
    "[MASK] tokens": "[MASK] tokens",
    "no inclusion": "no inclusion",
}
COLOURS_OF = dict(zip(NAMES_OF, (plot.BLUE, plot.GREEN, plot.ORANGE, plot.RED)))
MARKERS = dict(zip(NAMES_OF, "os^v"))
figure, ax = plt.subplots(figsize=(8, 3.2))
for arm, colour in COLOURS_OF.items():
    curves = each(arm, "captions", "by scenes")
    levels = sorted(float(k) for k in curves[0])
    middle = [np.median([c[f"{k:g}"] for c in curves]) for k in levels]
    ax.plot(levels, middle, MARKERS[arm] + "-", color=colour, markersize=4, label=NAMES_OF[arm])
ax.axhline(0.5, color="#777777", linewidth=0.8, linestyle="--")
ax.set_xscale("log", base=2)
ax.set(xlabel="N, kinds of scene that fit the caption", ylabel="percentile of S, median of 3 seeds")
ax.legend(title="masked copies by", fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
plt.show()

print("rank correlations, median (range) of 3 seeds")
columns = {
    "all": "S with N, all",
    "held": "held out",
    "held, given length": "given length",
    "length": "S with brevity, all",
}
print(f"{'masked copies':15}" + "".join(f"{title:>23}" for title in columns.values()))
for arm, name in NAMES_OF.items():
    print(f"{name:15}" + "".join(f"{span(each(arm, 'captions', k)):>23}" for k in columns))

# %% [markdown]
# Four losses that differ in one thing, and the order of uncertainties goes from backwards to right. Read the table from its last row up.
#
# - **Without inclusion** the correlation is strongly negative: *a shape* is the most certain of all captions. This is (8), seen in a trained network.
# - **[MASK] tokens** change nothing here. The network learned to tell whole from masked, its inclusion loss is small, and real captions have no masks. What is left is the contrast. (This is the released mask in a world of 27 words, at our weights. It is not the released recipe.)
# - **Deleted words** remove the reversal, but teach brevity, and not even that well: the last column is weak, and at equal length the order is backwards. A caption of three words left over from ten (*at on background*) is like no real caption.
# - **Attribute subsets** teach generality, on captions that were never seen too, and most of it survives the control for length.
#
# One more control, and it stings. What if the network merely counts how many attributes are named? Naming a colour (one of 8) should say more than naming a size (one of 2). At equal length *and* equal number of attributes:

# %%
print("S with N, held out, given length and number of attributes")
for arm, name in NAMES_OF.items():
    print(f"{name:15}{span(each(arm, 'captions', 'held, given length and attributes')):>24}")

# %% [markdown]
# Little is left for the best of them, 0.17. So the honest sentence is: *its uncertainty knows how many attributes a caption leaves open, and only faintly how much each of them would have told.* Every attribute is dropped with the same probability, and the hinge (15) asks only for an order between a caption and a part of it. It never compares a missing colour with a missing size.

# %% [markdown]
# ## 8. Claims

# %%
held, partial = each("ProLIP", "captions", "held"), each("ProLIP", "captions", "held, given length")
hardest = each("ProLIP", "captions", "held, given length and attributes")
brevity = each("ProLIP", "captions", "length")
claim(
    "generality",
    says="shorter texts are more uncertain; here: uncertainty rises with generality",
    source="ProLIP, abstract",
    measured=f"rank correlation of S with N on held-out captions {span(held)}; given the length {span(partial)}; "
    f"given length and number of attributes {span(hardest)}; of S with brevity, all captions, {span(brevity)}",
    holds=min(held + brevity) > 0.5 and min(partial) > 0.3 and min(hardest) > 0,
    note="3 seeds; scenes, where N is known; masked by attribute subsets, our recipe; S differs by a few hundredths",
)
claim(
    "beyond-counting",
    says="(our question) S knows how much an attribute tells, not only how many are named",
    source="section 7.1",
    measured=f"rank correlation of S with N, held-out captions, given length and number of attributes {span(hardest)}",
    holds=min(hardest) > 0.3,
    note="the same bar as for the length alone; no masking compares a missing colour with a missing size",
)
tokens, released = (each("[MASK] tokens", "captions", f"held{more}") for more in ("", ", given length"))
claim(
    "mask-tokens",
    says="inclusion of original in masked inputs aligns uncertainty with intuition",
    source="ProLIP, abstract; released code: 3 of 4 tokens replaced",
    measured=f"rank correlation of S with N on held-out captions {span(tokens)}; given the length {span(released)}",
    holds=UNTESTABLE,
    note="here: 27 words, weights of 0.02 in place of 1e-3 and 1e-7, and a loss whose cue no real caption shows",
)
alone, alone_given = (each("no inclusion", "captions", f"held{more}") for more in ("", ", given length"))
claim(
    "contrast-alone",
    says="(derived here, 4.6) the contrast alone orders captions backwards",
    source="eq. (8)",
    measured=f"rank correlation of S with N on held-out captions {span(alone)}; given the length {span(alone_given)}",
    holds=max(alone) < 0,
    note="PPCL and the bottleneck only; at one length the order is weaker, and not the same in every seed",
)

# %% [markdown]
# ## 9. What the released code does, and what goes wrong
#
# - **The inclusion formula** doubles a normaliser (4.9), **the KL** halves a log-variance (4.11), **the text's [UNC] state** is computed and not used (4.1).
# - **Masking:** a number that is meant as the share of tokens to drop, 0.75, is handed to the image tower as the share to *keep*. Captions lose three quarters, pictures one quarter. One set of patches is drawn for the whole sub-batch.
# - **Several devices:** for each neighbour in the ring the loss is called again, so the bottleneck and the inclusion terms are added once more, the latter between pictures and captions that do not belong together.
# - **The weight of picture-in-caption** is $10^{-7}$. In our runs, at 0.02, that term is 0 after the first steps: captions are wider than pictures by then.
#
# In practice:
#
# - *The first loss is in the hundreds:* log-variances start too high. Keep $s\,S/2$ below one logit at the start, that is $\log v = \log(0.06/D)$.
# - *Uncertainty is upside down:* look at what your masking removes, and whether a real input ever looks like the masked one.
# - *Uncertainty follows length:* control for it, and for whatever else your general examples have in common.
# - *Uncertainties look alike:* they are. Most of $S$ is common to all and acts as a bias. Compare ranks.
#
# **Further reading.** Chun et al. 2021 (PCME, where it began, with samples); Vilnis and McCallum 2015 on words as Gaussians, where "inside" had its first try.
#
# **Exercises:** [12 · ProLIP](../exercises/12_prolip.ipynb). **Next:** [12b](12b_uncertainty.ipynb), what to do with an uncertainty.
