# %% [markdown]
# # 05b · MAE: hide most of a picture, and paint it
#
# **You derive** the masking and why it is fair, what a loss on hidden patches asks and does not ask, why the best answer is blurred, positions made of waves, and what an encoder saves that sees a quarter.
#
# **You train** a masked autoencoder on emoji with plain and with normalised pixels, and read stored runs at four mask ratios with a linear probe and with fine-tuning.
#
# After this lesson you can
# - write masking and its undoing in three lines, and say why it needs two argsorts;
# - say what visible patches of a reconstruction mean, and which pictures of normalised models borrow from the answer;
# - count the multiplications of a Transformer;
# - explain why a linear probe and fine-tuning can disagree.
#
# *Before this:* [lesson 05](05_vicreg.ipynb) (VICReg). *Papers:* He, Chen, Xie, Li, Dollár and Girshick 2022 (MAE); Vaswani et al. 2017 (positions); Dosovitskiy et al. 2021 (ViT).

# %%
from minilip.course import *

device = setup("05b_mae")

# %%
import itertools
import math
import time

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from minilip.course import plot
from minilip.course.widgets import panel
from minilip.data.poses import PosedEmoji
from minilip.evaluation import linear_probe
from minilip.mae import MAE, mae_loss, patchify, random_masking, sincos_positions, unpatchify
from minilip.nn.transformer import Block
from minilip.studies.lie import learners
from minilip.studies.mae import digits as study
from minilip.training import fit, keep_encoder

# %% [markdown]
# ## 1. A question
#
# Three quarters of each drawing are hidden, in squares of 4 x 4 pixels. Below is the whole. Cover the lower row, and try: where does the outline go on? What colour is behind the grey?
#
# You could say much about what is hidden. To say it, you used what you know of drawings: symmetry, outlines that close, areas of one colour, faces with two eyes. *Can a machine be made to learn such things by being asked to paint what it does not see?* No second view is needed, no other picture of the batch, no label.

# %%
posed = PosedEmoji()
held = posed.unknown.nonzero().squeeze(1)[24:224].to(device)  # drawings that training never shows
upright = posed.angles.abs().argmin(dim=1).to(device)  # (N,) the pose nearest to upright
whole = (posed.images.to(device)[held, upright[held]].float() / 255)  # (200, 3, 32, 32)
PATCH, P = 4, 64


def greyed(images, mask, patch=PATCH):
    """Hidden patches in grey. images (B, 3, H, H), mask (B, P), 1 where hidden"""
    x = patchify(images, patch)  # (B, P, N)
    return unpatchify(torch.where(mask[:, :, None] == 1, torch.full_like(x, 0.55), x), patch)


noise = torch.rand(len(whole), P, generator=torch.Generator(device).manual_seed(3), device=device)
_, mask, _ = random_masking(noise, 16)
figure = plot.images(torch.cat([greyed(whole, mask)[:8], whole[:8]]), ["a quarter"] * 8 + ["the whole"] * 8)

# %% [markdown]
# ## 2. A first guess, and how it fails
#
# The oldest idea is an *autoencoder*: squeeze a picture through a network and ask for the picture back. Take a network of patches: each patch of 48 numbers becomes a token of 64, and from the token the 48 numbers are to come back. We do not even have to train it; least squares gives the best linear answer.

# %%
x = patchify(whole, PATCH)  # (200, 64, 48)
token = x @ torch.randn(48, 64, generator=torch.Generator().manual_seed(0)).to(device)  # (200, 64, 64) any map
back = torch.linalg.lstsq(token.flatten(0, 1).double().cpu(), x.flatten(0, 1).double().cpu()).solution  # (64, 48)
error = (token.flatten(0, 1).double().cpu() @ back - x.flatten(0, 1).double().cpu()).square().mean()
print(f"mean squared error of the copy {error:.1e}; each token has looked at its own patch and at no other")

# %% [markdown]
# Perfect, and worthless: the token's map was drawn by lot. Whoever is shown the answer copies it. A picture has great redundancy; to learn what it is redundant *with*, the answer has to be taken away.
#
# ## 3. The idea
#
# > Show a quarter of the patches, ask for the other three quarters, and grade nothing else.
#
# With $m_i = 1$ for a hidden patch, $x_i$ its pixels and $y_i$ the answer: $\mathcal L = \frac{\sum_i m_i \lVert y_i - x_i\rVert^2/N}{\sum_i m_i}$; in code `(m * (y - x).square().mean(2)).sum() / m.sum()`.
#
# The network has two parts of unequal size. The *encoder*, a Transformer that will be kept, gets the visible patches **only**: hidden ones are not zeroed but absent. The *decoder*, small and thrown away afterwards, gets the encoder's tokens put back in their places, with one learned vector, the *mask token*, in every gap, and paints.
#
# ## 4. Derivation
#
# Letters: $B$ pictures; $P$ patches of a picture, $N = 3\cdot\text{patch}^2$ numbers each; $K$ patches are kept; $D$ the encoder's width; $m$ the mask.
#
# ### 4.1 A fair draw
#
# Which $K$ patches? Every choice should be equally likely, and no Python loop over pictures. The trick: give each patch a uniform random number $\epsilon_i$, and keep the $K$ lowest. The $\epsilon_i$ are independent and alike, so each of their $P!$ orders has the same probability, and a set of $K$ patches comes first in $K!\,(P-K)!$ of them:
#
# $$\Pr(\text{kept} = S) = \frac{K!\,(P-K)!}{P!} = \binom PK^{-1} \quad\text{for every } S \text{ of } K \text{ patches}. \tag{1}$$

# %%
# check (1): how often each pair of 5 comes, in 100,000 draws, on the left; one over the number of pairs on the right
kept, _, _ = random_masking(torch.rand(100_000, 5, generator=torch.Generator().manual_seed(0)), 2)
kept = kept.sort(dim=1).values
share = [float((kept == torch.tensor(pair)).all(dim=1).double().mean()) for pair in itertools.combinations(range(5), 2)]
same("(1)", torch.tensor(share), torch.full((10,), 1 / math.comb(5, 2)), tolerance=0.03)

# %% [markdown]
# Two things follow. Each patch is hidden with probability $1 - K/P$; and since $\sum_i m_i = P - K$ is no random number, the loss over random masks is, for given errors $e_i$, *unbiased* for their mean over all patches:
#
# $$\mathbb E_m\,\frac{\sum_i m_i e_i}{\sum_i m_i} = \frac{1}{P-K}\sum_i\frac{P-K}{P}\,e_i = \frac1P\sum_i e_i. \tag{2}$$
#
# Had each patch been hidden by its own coin, the denominator would vary from picture to picture, and so would the encoder's number of tokens: no batch could be made of them.
#
# And to put the tokens back? `order = argsort(noise)` says which patch comes first, second, ... We need the opposite, at which place patch $i$ came: the *inverse permutation*. Sorting the order sorts it back, so
#
# $$\text{restore} = \operatorname{argsort}(\operatorname{argsort}(\epsilon)), \qquad \text{restore}[\text{order}[r]] = r. \tag{3}$$

# %%
# check (2): the mean over all 70 masks on the left; check (3): places looked up on the left, 0, 1, 2, ... on the right
e = torch.rand(8, dtype=torch.double)
each = [e[list(hidden)].mean() for hidden in itertools.combinations(range(8), 4)]
same("(2)", torch.stack(each).mean(), e.mean())
epsilon = torch.rand(3, 7)
order = torch.stack([torch.tensor(sorted(range(7), key=row.tolist().__getitem__)) for row in epsilon])
same("(3)", random_masking(epsilon, 2)[2].gather(1, order), torch.arange(7).expand(3, 7))

# %% [markdown]
# ### 4.2 Only what was hidden
#
# $$\mathcal L = \frac{\sum_{b,i} m_{bi}\,\frac1N\lVert y_{bi} - t_{bi}\rVert^2}{\sum_{b,i} m_{bi}}, \qquad
#   \frac{\partial\mathcal L}{\partial y_{bi}} = \frac{2\,m_{bi}\,(y_{bi} - t_{bi})}{N\sum m}. \tag{4}$$
#
# The gradient at a visible patch is exactly 0. Nothing is asked there, so nothing is learnt there: the decoder's answer for a patch that was *shown* is whatever comes out. In pictures of raw outputs visible patches look **worse** than painted ones. That is no fault, and it is no mystery; section 7 measures it.

# %%
# check (4): autograd on the left, the formula on the right
y, t = torch.randn(2, 2, 6, 12, dtype=torch.double)
m = random_masking(torch.rand(2, 6), 2)[1].double()
y.requires_grad_()
slope = torch.autograd.grad(mae_loss(y, t, m, normalize=False), y)[0]
right = [2 * m[b, i] * (y - t)[b, i] / (12 * 8) for b in range(2) for i in range(6)]
same("(4)", slope, torch.stack(right).view(2, 6, 12))

# %% [markdown]
# ### 4.3 Why answers are blurred
#
# Let $V$ be what is visible. Among all functions of $V$, which makes the squared error smallest? Write $\mu(V) = \mathbb E[t\mid V]$ and split $t - y = (t - \mu) + (\mu - y)$. Given $V$, the second bracket is fixed and the first has mean 0, so the cross term is 0:
#
# $$\mathbb E\,\lVert t - y(V)\rVert^2 = \underbrace{\mathbb E\,\lVert t - \mu(V)\rVert^2}_{\text{no model can lower it}} + \mathbb E\,\lVert\mu(V) - y(V)\rVert^2. \tag{5}$$
#
# The best painter paints the *mean of all that could be there*. Where an edge could run here or there, that is a grey ramp. Blur is not a weakness of the network; it is what a squared error asks for.

# %%
# check (5): a world of 3 visible states and 4 hidden values; all pairs enumerated on the left
p = torch.rand(3, 4, dtype=torch.double)
p /= p.sum()
t, answer = torch.randn(4, dtype=torch.double), torch.randn(3, dtype=torch.double)
mu = (p * t).sum(dim=1) / p.sum(dim=1)  # E[t | V]
left = sum(float(p[v, k] * (t[k] - answer[v]) ** 2) for v in range(3) for k in range(4))
spread = (p * t**2).sum(dim=1) / p.sum(dim=1) - mu**2  # Var[t | V], as a difference of moments
same("(5)", left, (p.sum(dim=1) * (spread + (mu - answer).square())).sum())

# %% [markdown]
# ### 4.4 Normalised pixels
#
# The paper's better target takes each patch's own mean and deviation away:
#
# $$t_i = \frac{x_i - \bar x_i}{\sqrt{\operatorname{Var}(x_i) + 10^{-6}}}, \qquad
#   \frac1N\lVert t_i\rVert^2 = \frac{N-1}{N}\,\frac{\operatorname{Var}(x_i)}{\operatorname{Var}(x_i) + 10^{-6}}. \tag{6}$$
#
# The variance is the unbiased one, over $N - 1$; the sum of squared deviations is $(N-1)\operatorname{Var}$, which gives the right-hand side. So answering 0 everywhere costs $(N-1)/N$ on patches with some structure, and 0 on patches of one colour. How bright or how strong a patch is no longer counts, only its pattern. That also means that the answer **cannot be shown** as a picture without a mean and a deviation from somewhere. Released figures take them from the *true* patch: an information leak, harmless if it is said.

# %%
# check (6): the library's loss of the answer 0 on the left, one patch after the other on the right
x = torch.rand(1, 3, 12, dtype=torch.double) * torch.tensor([1.0, 1e-3, 0.0], dtype=torch.double)[:, None]
everything = torch.ones(1, 3)
right = [11 / 12 * np.var(row, ddof=1) / (np.var(row, ddof=1) + 1e-6) for row in x[0].numpy()]
same("(6)", mae_loss(torch.zeros_like(x), x, everything), np.mean(right))

# %% [markdown]
# ### 4.5 Where a patch lies
#
# Attention does not know the order of its tokens, and with patches missing it could not count. So every token gets a vector that says where it lies. MAE's is fixed: sines and cosines of column $c$ and row $r$ at $D/4$ frequencies $\omega$. Two properties make it work. By $\cos a\cos b + \sin a\sin b = \cos(a - b)$,
#
# $$p(r, c)^\top p(r', c') = \sum_\omega\big[\cos\omega(c - c') + \cos\omega(r - r')\big]: \tag{7}$$
#
# how alike two positions are depends on the *step* between them alone, wherever it is taken. And a step of $\Delta$ columns turns each pair $(\sin\omega c, \cos\omega c)$ by the angle $\omega\Delta$, a linear map that is the same everywhere. (A group that acts by rotations at several frequencies: lesson 06 is about nothing else.)

# %%
# check (7): inner products on the left, cosines of steps on the right
D = 16
position = sincos_positions(6, D).double().view(6, 6, D)
omega = [10000 ** (-4 * i / D) for i in range(D // 4)]
pairs = [((0, 1), (3, 5)), ((2, 0), (5, 4)), ((4, 4), (4, 1))]  # the first two are the same step
right = [sum(math.cos(w * (c - d)) + math.cos(w * (r - q)) for w in omega) for (r, c), (q, d) in pairs]
same("(7)", torch.stack([position[a] @ position[b] for a, b in pairs]), torch.tensor(right))

# %% [markdown]
# ### 4.6 What the unequal halves save
#
# Count multiplications. In a block of width $D$ with $L$ tokens, queries, keys and values take $3D^2$ a token, the output map $D^2$, the two layers of the MLP $4D^2$ each. Attention takes $L D$ a token for the scores and $L D$ for the mean of the values:
#
# $$\text{block}(L) = 12\,L\,D^2 + 2\,L^2 D. \tag{8}$$
#
# With the quarter that is kept, the first part falls to a quarter and the second to a sixteenth. The decoder sees all $P$ tokens, which is why it has to be small.

# %%
# check (8): multiplications that hooks see in the linear layers, and in the two products of attention, on the left
counted = []


def count(module, given, result):
    counted.append(result.numel() * module.in_features)


def multiplications(blocks, tokens, dim):
    counted.clear()
    hooks = [layer.register_forward_hook(count) for layer in blocks.modules() if isinstance(layer, torch.nn.Linear)]
    z = blocks(torch.randn(1, tokens, dim))
    q = torch.randn(z.shape[1], dim)
    scores = q @ q.T  # (L, L): each entry D multiplications, and each row then weighs L rows of D
    for hook in hooks:
        hook.remove()
    return sum(counted) + 2 * scores.numel() * dim


def formula(tokens, dim, depth):
    return depth * (12 * tokens * dim**2 + 2 * tokens**2 * dim)


same("(8)", float(multiplications(Block(32, 4), 17, 32)), float(formula(17, 32, 1)))
fastest = {}
for label, tokens in (("the 16 kept patches", 17), ("all 64 patches", 65)):
    blocks = torch.nn.Sequential(*(Block(64, 4) for _ in range(3))).to(device)
    z = torch.randn(128, tokens, 64, device=device)
    blocks(z).sum().backward()
    seconds = []
    for _ in range(budget(cpu=5, quick=1)):
        began = time.perf_counter()
        blocks(z).sum().backward()
        float(blocks[0].out.bias.grad[0])  # waits for a GPU
        seconds.append(time.perf_counter() - began)
    fastest[label] = min(seconds)
    print(f"{label}: {formula(tokens, 64, 3) / 1e6:.1f} million multiplications a picture")
ratio = formula(65, 64, 3) / formula(17, 64, 3)
print(f"{ratio:.1f} times fewer; [CLS] is a token too, so it is not quite 4 and more")
print(f"in time, forward and backward: {fastest['all 64 patches'] / fastest['the 16 kept patches']:.1f} times")

# %% [markdown]
# ## 5. Code
#
# Masking and the loss, from scratch.


# %%
def my_masking(noise, keep):
    order = noise.argsort(dim=1)  # (B, P)
    restore = order.argsort(dim=1)  # (B, P)
    return order[:, :keep], (restore >= keep).float(), restore


def my_mae_loss(y, x, mask):
    """Normalised targets. y, x (B, P, N), mask (B, P) -> scalar"""
    t = (x - x.mean(dim=2, keepdim=True)) / (x.var(dim=2, keepdim=True) + 1e-6).sqrt()  # (B, P, N)
    return (mask * (y - t).square().mean(dim=2)).sum() / mask.sum()


epsilon, y, x = torch.rand(4, 9), torch.randn(4, 9, 12), torch.rand(4, 9, 12)
same("my_masking", my_masking(epsilon, 3), random_masking(epsilon, 3))
same("my_mae_loss", my_mae_loss(y, x, my_masking(epsilon, 3)[1]), mae_loss(y, x, random_masking(epsilon, 3)[1]))
show(MAE.predict)

# %% [markdown]
# ## 6. Train
#
# The 720 known drawings of lesson 06, upright, lightly moved and recoloured. For this notebook they are halved to 16 x 16 pixels: 16 patches, of which 8 are kept. (At 32 x 32 and a quarter kept, as in the question above, the steps that fit here do not get beyond what a position looks like on average.) Two models differ in the target alone.
#
# | model | target | loss on | $K/P$ | encoder | decoder |
# |---|---|---|---|---|---|
# | plain | pixels | hidden patches | 8/16 | 2 blocks, $D = 48$ | 1 block of 48 |
# | normalised | (6) | hidden patches | 8/16 | the same | the same |
#
# Two rivals do not learn: to answer with each position's mean over training pictures, and with the nearest visible patch.

# %%
rows = (~posed.unknown).nonzero().squeeze(1).to(device)
poses = posed.images.to(device)
halved = F.avg_pool2d(poses[torch.arange(len(upright), device=device), upright].float() / 255, 2)  # (N, 3, 16, 16)


def batch(generator, size=64):
    r = rows[torch.randint(len(rows), (size,), generator=generator, device=device)]
    return learners.view(halved[r], generator)  # (B, 3, 16, 16)


TRAIN_STEPS = budget(cpu=1000, gpu=4000, quick=2)
models, histories = {}, {}
for name, normalize in (("plain", False), ("normalised", True)):
    torch.manual_seed(0)
    models[name] = MAE(16, PATCH, 48, 2, 4, decoder_dim=48, mask=0.5, normalize=normalize).to(device)
    histories[name] = fit(models[name], batch, TRAIN_STEPS, lr=5e-3, label=name)

# %%
unseen = halved[held]  # (200, 3, 16, 16) drawings that training never shows
generator = torch.Generator(device).manual_seed(9)
noise = torch.rand(len(unseen), 16, generator=generator, device=device)
_, mask, _ = random_masking(noise, 8)
past = patchify(torch.cat([batch(generator) for _ in range(8)]), PATCH)  # (512, 16, 48) of training drawings
now = patchify(unseen, PATCH)  # (200, 16, 48)
grid = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij"), dim=-1).view(16, 2).to(device)
far = (grid[:, None] - grid[None]).square().sum(dim=-1).float()  # (16, 16) squared distances of patches
nearest = (far + 1e3 * mask[:, None, :]).argmin(dim=2)  # (200, 16) the nearest patch that is visible


def target(x, normalize):
    return (x - x.mean(2, keepdim=True)) / (x.var(2, keepdim=True) + 1e-6).sqrt() if normalize else x


figure, axes = plt.subplots(1, 2, figsize=(8, 2.8))
floor = {}
for ax, (name, model) in zip(axes, models.items()):
    mean = target(past, model.normalize).mean(dim=0)  # (16, 48)
    near = target(now, model.normalize).gather(1, nearest[:, :, None].expand(-1, -1, 48))
    with torch.no_grad():
        y, _ = model.predict(unseen, noise)
    floor[name] = {
        "MAE": float(mae_loss(y, now, mask, model.normalize)),
        "position's mean": float(mae_loss(mean.expand_as(now), now, mask, model.normalize)),
        "nearest visible": float(mae_loss(near, now, mask, model.normalize)),
    }
    width = min(20, TRAIN_STEPS)
    smooth = np.convolve(histories[name].loss, np.ones(width) / width, mode="valid")
    ax.plot(range(width, width + len(smooth)), smooth, color=plot.BLUE)
    plot.line(ax, floor[name]["position's mean"], "position's mean")
    ax.set(xlabel="step", ylabel="loss of hidden patches", title=f"{name} pixels", yscale="log")
plt.show()
for name, row in floor.items():
    print(f"unknown drawings, {name:10}", ", ".join(f"{k} {v:.4f}" for k, v in row.items()))

# %% [markdown]
# The loss drops to the dashed line within a hundred steps: what a *position* looks like on average is learnt at once. To use *this* picture's visible patches takes ten times as long, and is still going on at the end. (A loss that "hangs" near 0.5 on a small data set is a common report; it is this plateau.) The printed numbers are of drawings that training never showed; there the gain over the position's mean is smaller than on the curve.
#
# ### An encoder for lesson 06
#
# Lesson 06 can start from a masked autoencoder of its own size: 32 x 32 pixels, a quarter of 64 patches kept, drawings in all the poses that its training may show. These few steps make one, with normalised pixels, and keep it in the cache folder.

# %%
allowed = posed.trained.float().to(device)


def posed_batch(generator):
    r = rows[torch.randperm(len(rows), generator=generator, device=device)[:128]]
    p = torch.multinomial(allowed[r], 1, generator=generator).squeeze(1)  # (B,)
    return learners.view(poses[r, p].float() / 255, generator)  # (B, 3, 32, 32)


torch.manual_seed(0)
for_06 = MAE(size=32, patch=4, dim=64, depth=3, heads=4).to(device)
STEPS_06 = budget(cpu=60, gpu=4000, quick=2)
history = fit(for_06, posed_batch, STEPS_06, lr=3e-3, label="for lesson 06")
if not quick():
    about = f"MAE with normalised pixels, lesson 05b, {STEPS_06} steps on emoji in poses"
    print("kept as", keep_encoder("05b-mae", for_06, about).name)
print(f"loss {history.loss[0]:.2f} at the start, {np.mean(history.loss[-5:]):.2f} at the end")

# %% [markdown]
# ## 7. Look
#
# ### Pictures, and who knew what

# %%
show_rows, captions = [greyed(unseen, mask)[:8]], ["a half"] * 8
with torch.no_grad():
    y = {name: model.predict(unseen, noise)[0] for name, model in models.items()}  # (200, 16, 48) each
mean, deviation = now.mean(2, keepdim=True), (now.var(2, keepdim=True) + 1e-6).sqrt()  # of the TRUE patches
visible = (1 - mask)[:, :, None]
seen_patches = visible.sum(1, keepdim=True)
guess_mean, guess_deviation = ((z * visible).sum(1, keepdim=True) / seen_patches for z in (mean, deviation))
painted = {
    "plain": y["plain"],
    "normalised,\ntrue moments": mean + deviation * y["normalised"],
    "answer 0,\ntrue moments": mean + 0 * y["normalised"],
    "normalised,\nown moments": guess_mean + guess_deviation * y["normalised"],
}
pixel_error = {}
for name, z in painted.items():
    z = torch.where(mask[:, :, None] == 1, z, now)  # visible patches as they are
    pixel_error[name.replace("\n", " ")] = float(mae_loss(z, now, mask, normalize=False))
    show_rows.append(unpatchify(z, PATCH)[:8])
    captions += [name] * 8
figure = plot.images(torch.cat([*show_rows, unseen[:8]]), captions + ["the whole"] * 8)
for name, value in pixel_error.items():
    print(f"{name:24} mean squared error of hidden pixels {value:.4f}")

# %% [markdown]
# Compare rows three and four. The *answer 0* knows nothing at all, and shows the right brightness everywhere once each patch has its true mean. Its error of pixels is printed beside that of the plain model, which was trained on pixels and had no answer sheet. The fifth row takes mean and deviation from the visible patches instead; that is what the normalised model could paint by itself. The plain model paints colours of its own, blurred as (5) says.
#
# ### Visible patches look worse

# %%
with torch.no_grad():
    raw = models["plain"].predict(unseen, noise)[0]
hidden_error, seen_error = (float(mae_loss(raw, now, part, normalize=False)) for part in (mask, 1 - mask))
figure = plot.images(
    torch.cat([greyed(unseen, mask)[:6], unpatchify(raw, PATCH)[:6]]),
    ["shown"] * 6 + ["raw output"] * 6,
    columns=6,
)
print(f"mean squared error: hidden patches {hidden_error:.3f}, patches that were shown {seen_error:.3f}")
known = study.known()


def stored(name, key):
    """(seeds, ...) of an arm, on held-out digits."""
    return np.array([run[key] for run in known[name]])


for name in ("mask 0.75", "loss everywhere"):
    print(f"digits, {name:15} hidden {stored(name, 'hidden').mean():.3f}, shown {stored(name, 'seen').mean():.3f}")

# %% [markdown]
# In the lower row you can tell which patches were *shown*: they are the odd ones. By (4) nothing has ever been asked of them. On the stored digits their error is larger than that of answering 0. Ask about all patches, and copying what was shown is learnt almost perfectly.
#
# ### A panel: how much is hidden
#
# The plain model was trained with half of the patches hidden. Move the slider. With little hidden it paints small gaps between many hints, with 0.9 from one patch. Look at what is lost first, the colour, the outline, or the place.

# %%
def draw(part):
    model = models["plain"]
    trained_with, model.keep = model.keep, max(1, int(16 * (1 - part)))
    try:
        with torch.no_grad():
            y, hidden = model.predict(unseen[:3], noise[:3])
    finally:
        model.keep = trained_with
    x = patchify(unseen[:3], PATCH)
    z = unpatchify(torch.where(hidden[:, :, None] == 1, y, x), PATCH)
    figure, axes = plt.subplots(2, 3, figsize=(4, 2.8))
    for ax, picture in zip(axes.flat, torch.cat([greyed(unseen[:3], hidden), z])):
        ax.imshow(picture.clamp(0, 1).permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
        ax.set_axis_off()
    return figure


slider = widgets.FloatSlider(value=0.5, min=0.1, max=0.9, step=0.1, description="hidden")
panel(draw, slider, examples=(0.3, 0.5, 0.9))

# %% [markdown]
# ## 8. What is learned: two readers, four ratios
#
# The mask ratio is measured where many runs are affordable: the 8 x 8 handwritten digits of scikit-learn, 16 patches of 2 x 2 pixels. 1,000 digits train the encoder without their labels. Two readers then judge it on 497 others, with the mean of the patches' states as features. The *linear probe* fits a logistic regression on the frozen features. *Fine-tuning* trains encoder and head together, 200 steps. Both get 10 labels of each digit, or all 1,000.
#
# All is stored by `python -m minilip.studies.mae.digits`, three seeds. "Untrained" is the same network as it starts: its fine-tuning is supervised learning from scratch, in the same 200 steps. That is few, so there is a harder rival: from scratch with labels in as many steps as masking (1,200) and fine-tuning have together.

# %%
(train_x, train_y), (test_x, test_y) = study.digits("train"), study.digits("test")
few = [study.few(train_y, seed) for seed in study.SEEDS]
pixels = [linear_probe(train_x[r].flatten(1), train_y[r], test_x.flatten(1), test_y) for r in few]
figure, axes = plt.subplots(1, 2, figsize=(8, 3.0), sharey=True)
for ax, at, title in zip(axes, (0, 1), ("100 labels", "1,000 labels")):
    for reader, colour in (("probe", plot.BLUE), ("fine-tuned", plot.RED)):
        each = np.array([stored(f"mask {mask_}", reader)[:, at] for mask_ in study.MASKS])  # (ratios, seeds)
        ax.plot(study.MASKS, each.mean(axis=1), color=colour, label=reader)
        ax.plot(study.MASKS, each, "o", color=colour, markersize=3)
        ax.axhline(stored("untrained", reader)[:, at].mean(), color=colour, linewidth=0.8, linestyle="--")
    ax.set(xlabel="part of the patches hidden", title=title, ylim=(0.3, 1.0))
    ax.set_xticks(study.MASKS, study.MASKS)
axes[0].set_ylabel("accuracy on held-out digits")
axes[0].legend(title="dashed: untrained", loc="lower left")
plt.show()
long = np.array(study.known_scratch())  # (seeds, 2)
print(f"a logistic regression on the raw pixels, 100 labels: {np.mean(pixels):.3f}")
print("accuracy with 100 and with 1,000 labels:")
together = study.STEPS + study.TUNING_STEPS
print(f"from scratch, {together} steps with labels: {long[:, 0].mean():.3f} {long[:, 1].mean():.3f}")
for name in study.ARMS:
    probe, tuned = stored(name, "probe").mean(axis=0), stored(name, "fine-tuned").mean(axis=0)
    print(f"{name:16} probe {probe[0]:.3f} {probe[1]:.3f}   fine-tuned {tuned[0]:.3f} {tuned[1]:.3f}")

# %% [markdown]
# Compare each line with its own dashes. With 1,000 labels the two readers disagree about one and the same encoder: the probe has gained little over an untrained network, fine-tuning much. What masking teaches is there, but not as a linear function of the last layer, which was made for a decoder. With 100 labels both gain, and three seeds do not tell which gains more.
#
# The mean is highest at one half hidden, for both readers, not at three quarters. A digit of 16 patches with one visible (0.9) is not a riddle but a blank, and its probe falls below that of an untrained network. What ratio makes a good riddle depends on how redundant pictures are.
#
# Now the rivals. Raw pixels beat every probe of the left panel: these digits are nearly linear in their pixels. And with labels for all 1,400 steps, the comparison of equal time, the same network wins clearly over masking and fine-tuning. The bed can rank arms against each other; it cannot show that MAE is worth its price.
#
# ## 9. Claims


# %%
def mean_sd(values):
    return f"{np.mean(values):+.3f} ± {np.std(values, ddof=1):.3f}"


def beyond_noise(values):
    return bool(np.mean(values) - 2 * np.std(values, ddof=1) > 0)


first, last = (stored(name, "fine-tuned")[:, 0] for name in ("untrained", "mask 0.75"))
gain = {r: stored("mask 0.75", r)[:, 0] - stored("untrained", r)[:, 0] for r in ("probe", "fine-tuned")}
more = [stored("mask 0.75", r) - stored("untrained", r) for r in ("fine-tuned", "probe")]
more = more[0] - more[1]  # (seeds, 2)
claim(
    "mae-finetune",
    says="pretraining by masking improves fine-tuning over training from scratch",
    source="He et al. 2022, sec. 4",
    measured=f"100 labels, mask 0.75: gain {mean_sd(gain['fine-tuned'])}; "
    f"{last.mean():.3f} against {first.mean():.3f}; over scratch in equal total steps {mean_sd(last - long[:, 0])}; "
    f"logistic regression on raw pixels {np.mean(pixels):.3f}",
    holds=beyond_noise(gain["fine-tuned"]) and beyond_noise(last - long[:, 0]),
    note="holds if both gains exceed two standard deviations: at 200 steps of fine-tuning for both, and against "
    f"{together} steps with labels and no masking",
)
claim(
    "mae-probe",
    says="fine-tuning gains more from masking than a linear probe does",
    source="our question, after He et al. 2022, sec. 4",
    measured="mask 0.75, fine-tuning's gain minus the probe's: "
    + ", ".join(f"{n} labels {mean_sd(more[:, i])}" for i, n in enumerate(("100", "1,000")))
    + f"; the probe alone gains {mean_sd(gain['probe'])} with 100",
    holds=beyond_noise(more[:, 0]) and beyond_noise(more[:, 1]),
    note="gains over the untrained network, paired by seed; holds if both exceed two standard deviations",
)
by_ratio = {r: np.array([stored(f"mask {m}", r)[:, 0] for m in study.MASKS]) for r in ("probe", "fine-tuned")}
best = {r: study.MASKS[int(v.mean(axis=1).argmax())] for r, v in by_ratio.items()}
claim(
    "mae-ratio",
    says="a high mask ratio, about 75 %, is best for both readers",
    source="He et al. 2022, fig. 5",
    measured=f"best of {study.MASKS}: {best['probe']} for the probe, {best['fine-tuned']} for fine-tuning; "
    + "; ".join(f"{r} " + " ".join(f"{x:.3f}" for x in v.mean(axis=1)) for r, v in by_ratio.items()),
    holds=best["probe"] == best["fine-tuned"] == 0.75,
    note="16 patches of 8 x 8 pixels here, 196 of 224 x 224 there: less to infer a digit from",
)
target_gain = {r: stored("mask 0.75", r)[:, 0] - stored("plain pixels", r)[:, 0] for r in gain}
claim(
    "mae-normalised",
    says="normalised pixels are the better target",
    source="He et al. 2022, table 1d",
    measured=", ".join(f"{r} {mean_sd(v)}" for r, v in target_gain.items()) + " (normalised minus plain, 100 labels)",
    holds=all(beyond_noise(v) for v in target_gain.values()),
    note="holds if both exceed two standard deviations; patches of 4 pixels have little pattern to keep",
)
all_patches = {r: stored("mask 0.75", r)[:, 0] - stored("loss everywhere", r)[:, 0] for r in gain}
claim(
    "mae-hidden-only",
    says="a loss on hidden patches alone is better than one on all",
    source="He et al. 2022, sec. 3",
    measured=", ".join(f"{r} {mean_sd(v)}" for r, v in all_patches.items())
    + f"; error of shown patches {stored('mask 0.75', 'seen').mean():.2f} against "
    f"{stored('loss everywhere', 'seen').mean():.2f}",
    holds=all(beyond_noise(v) for v in all_patches.values()),
    note="holds if both exceed two standard deviations; a quarter of the patches is what the two losses differ in",
)
claim(
    "mae-encoder",
    says="an encoder that skips hidden patches needs 3 times less computation or better",
    source="He et al. 2022, sec. 3 and table 2; (8)",
    measured=f"{formula(65, 64, 3) / 1e6:.1f} against {formula(17, 64, 3) / 1e6:.1f} million multiplications: "
    f"{ratio:.1f} times",
    holds=ratio > 3,
    note="of the encoder alone, counted; the decoder works on all patches in both",
)

# %% [markdown]
# ## 10. Doubts
#
# **What released code does, and what to know when reading it**
# - Figures of models with normalised pixels use the true patch's mean and deviation. Without them the output looks like coloured noise.
# - The released encoder-only checkpoints have no decoder: they cannot paint.
# - The variance of (6) is the unbiased one. The order of numbers in a patch is row, column, colour.
# - The published linear probe puts a BatchNorm without parameters before the head: features of a masked autoencoder have very unequal scales. Ours standardises.
# - The recipe is 800 epochs at a batch of 4,096 with crops and mirroring only. Ours sees 77,000 digits of 8 x 8 pixels, and 64,000 small drawings.
#
# **What goes wrong in practice**
# - *The loss hangs at once:* the plateau of section 6, the mean of each position. More steps, not another loss.
# - *One argsort for two:* `order` in place of `restore` puts tokens in wrong places. The loss still falls, to the mean of all patches.
# - *The visible patches look broken:* they should.
# - *A probe that falls while training goes on:* not by itself a bad encoder. Fine-tune before judging.
#
# **Read on:** Assran et al. 2023 (I-JEPA) predict the *representations* of hidden blocks instead of pixels. Lesson 06 starts from the encoder kept here.
#
# **Now you:** [exercises 05b](../exercises/05b_mae.ipynb), with [solutions](../solutions/05b_mae.ipynb).
