# %% [markdown]
# # 02 · CPC: exercises
#
# Seven exercises on [lesson 02](../notebooks/02_cpc.ipynb), about an hour and a half in all. Fill in the cells, run the check under each. A check tells you what it thinks went wrong. If you are stuck, run `hint("cpc.…")` in a cell of its own: three hints an exercise, each says more. After a failed check the notebook goes on with the library's version, so that you can skip and come back.

# %%
from minilip.course import *

device = setup("02_cpc")

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from minilip.course import plot
from minilip.cpc import CPC
from minilip.data.motion import MovingScenes
from minilip.data.scenes import Scenes
from minilip.evaluation import linear_probe
from minilip.nn import ConvNet
from minilip.nn.sequence import FrameEncoder
from minilip.training import fit

world = MovingScenes(size=16, times=12)
exam = [world.sample(budget(cpu=200, quick=60), torch.Generator(device).manual_seed(s)) for s in (1, 2)]

# %% [markdown]
# ## 2.1 The loss
#
# Equation (3) with candidates from the batch. `W[k - 1]` is the map for $k$ steps ahead. The loss is the mean over sequences and times of each step, then over steps. Scores can be several hundred: loss and gradients have to stay finite.


# %%
# Exercise 2.1 · implement · 20 min · difficulty 3 of 5
# Teaches which code belongs to which context, and over which axis a context chooses.
def my_cpc_loss(z, c, W):
    """Nats. z (B, T, D) codes, c (B, T, H) contexts, W (K, D, H), K < T -> scalar"""
    ### BEGIN SOLUTION
    losses = []
    for k in range(1, len(W) + 1):
        guess = c[:, :-k] @ W[k - 1].T  # (B, T - k, D)
        scores = torch.einsum("btd,jtd->tbj", guess, z[:, k:])  # (T - k, B, B)
        real = torch.arange(len(z), device=z.device).repeat(len(scores))  # ((T - k) B,)
        losses.append(F.cross_entropy(scores.flatten(0, 1), real))
    return torch.stack(losses).mean()
    ### END SOLUTION


my_cpc_loss = check("cpc.cpc_loss", my_cpc_loss).use
# hint("cpc.cpc_loss")

# %%
z, c, W = torch.randn(8, 6, 5), torch.randn(8, 6, 4), torch.zeros(3, 5, 4)
print(f"maps that are zero: {float(my_cpc_loss(z, c, W)):.4f}; log 8 = {math.log(8):.4f}")

# %% [markdown]
# ## 2.2 What a speaker's own impostors leave to be learnt
#
# Prove (5) on paper, where the context $c$ gives the speaker $s$ away: $I(x; c) = I(x; s) + I(x; c \mid s)$. Then compute both terms from a table $p(s, c, x)$, for any table. A table may have zeros.
#
# <details><summary>The proof in steps</summary>
#
# 1. The chain rule for two causes: $I(x; (s, c)) = I(x; s) + I(x; c \mid s)$. It is $\log\frac{p(x \mid s, c)}{p(x)} = \log\frac{p(x \mid s)}{p(x)} + \log\frac{p(x \mid s, c)}{p(x \mid s)}$, averaged.
# 2. If $s$ is a function of $c$, then $p(x \mid s, c) = p(x \mid c)$: to know both is to know $c$.
# 3. So the left side of 1 is $I(x; c)$.
# </details>


# %%
# Exercise 2.2 · prove · 20 min · difficulty 3 of 5
# Teaches what impostors of the same speaker take away, in nats.
def my_information_split(p):
    """p(s, c, x), (S, C, X), sums to one -> tensor of two numbers, I(x; s) and I(x; c | s) in nats"""
    ### BEGIN SOLUTION
    x, s_x, s, s_c = p.sum((0, 1)), p.sum(1), p.sum((1, 2)), p.sum(2)  # (X,), (S, X), (S,), (S, C)
    speaker = (torch.xlogy(s_x, s_x) - torch.xlogy(s_x, s[:, None] * x)).sum()
    within = (torch.xlogy(p, p * s[:, None, None]) - torch.xlogy(p, s_c[:, :, None] * s_x[:, None])).sum()
    return torch.stack([speaker, within])
    ### END SOLUTION


my_information_split = check("cpc.information_split", my_information_split).use
# hint("cpc.information_split")

# %%
p = torch.zeros(2, 6, 4)
for s in range(2):  # six contexts, three of each speaker
    p[s, 3 * s : 3 * s + 3] = torch.rand(3, 4) + torch.tensor([1.0, 0.2, 0.2, 1.0 + s])
p /= p.sum()
whole = (torch.xlogy(p.sum(0), p.sum(0)) - torch.xlogy(p.sum(0), p.sum((0, 2))[:, None] * p.sum((0, 1)))).sum()
speaker, within = my_information_split(p)
print(f"I(x; c) = {whole:.4f} = {speaker:.4f} + {within:.4f}")

# %% [markdown]
# ## 2.3 The answer among the impostors
#
# Draw $M$ negatives, each of which is the answer itself with probability $\pi$. What does a critic pay that knows the answer for certain? It is (9). Where the released code for speech stands is printed below.


# %%
# Exercise 2.3 · break · 15 min · difficulty 3 of 5
# Teaches what a slip in the sampling costs, and to compute the floor of a loss before blaming the model.
def my_floor(negatives, share):
    """E log(1 + J) in nats for J ~ Binomial(M, pi). M a whole number up to 200, 0 < pi < 1 -> a number"""
    ### BEGIN SOLUTION
    m = int(negatives)
    return sum(math.comb(m, j) * share**j * (1 - share) ** (m - j) * math.log1p(j) for j in range(m + 1))
    ### END SOLUTION


my_floor = check("cpc.floor", my_floor).use
# hint("cpc.floor")

# %%
for windows in (1, 8, 64):
    print(f"B = {windows:2} windows of 116 codes, 128 negatives: floor {my_floor(128, 1 / (windows * 115)):.4f} nats")

# %% [markdown]
# ## 2.4 Who is it?
#
# Train CPC on films of objects of all kinds, and on batches that all show one object. A linear head then reads *who* is shown from the contexts. From the first training to the second, does its accuracy rise, fall or stay? Decide by (5) before you run the next cell.

# %%
# Exercise 2.4 · predict · 5 min · difficulty 2 of 5
# Teaches to foresee what impostors make an encoder forget: "rises", "falls" or "stays"?
### BEGIN SOLUTION
who = "falls"
### END SOLUTION
who = check("cpc.speaker", who).use
# hint("cpc.speaker")


# %%
def train_and_ask(one_object, seed=0, candidates="batch"):
    torch.manual_seed(seed)
    model = CPC(FrameEncoder(ConvNet(8)), 64, 4, candidates).to(device)

    def batches(g):
        n = budget(cpu=32, quick=6)
        identity = torch.randint(24, (1,), generator=g, device=g.device).expand(n) if one_object else None
        return world.sample(n, g, identity).frames

    fit(model, batches, budget(cpu=130, gpu=1000, quick=2), lr=3e-3, weight_decay=0.01, label="CPC")
    with torch.no_grad():
        read = [model(f.frames)[:, 6] for f in exam]
    labels = {"who": "identity", "which way": "clockwise"}
    return {
        k: linear_probe(read[0], getattr(exam[0], v), read[1], getattr(exam[1], v), 0.1) for k, v in labels.items()
    }


for one_object in (False, True):
    print("one object" if one_object else "any object", train_and_ask(one_object))

# %% [markdown]
# ## 2.5 Patches that overlap
#
# A picture becomes a grid of square patches, read from the top left; a new one begins every `stride` pixels. No loop is needed.


# %%
# Exercise 2.5 · implement · 15 min · difficulty 2 of 5
# Teaches to cut pictures without copying them in a loop, and that a reshape moves no pixel.
def my_patches(images, patch, stride):
    """(B, 3, H, W) -> (B, R, C, 3, P, P) with R = (H - P) / stride + 1, and C alike"""
    ### BEGIN SOLUTION
    grid = images.unfold(2, patch, stride).unfold(3, patch, stride)  # (B, 3, R, C, P, P)
    return grid.permute(0, 2, 3, 1, 4, 5)
    ### END SOLUTION


my_patches = check("cpc.patches", my_patches).use
# hint("cpc.patches")

# %%
scenes = Scenes(size=32)
picture = scenes.render(scenes.sample(1, torch.Generator(device).manual_seed(3)))
figure = plot.images(my_patches(picture, 16, 8)[0].flatten(0, 1), columns=3)

# %% [markdown]
# ## 2.6 A bound for each step
#
# `scores[k]` is the table of scores of step $k + 1$, rows contexts, columns candidates, the real ones on the diagonal. Return the bound (7) of each step. Scores may differ by 150.


# %%
# Exercise 2.6 · implement · 10 min · difficulty 2 of 5
# Teaches to read off a trained model how far ahead its contexts know anything.
def my_step_bounds(scores):
    """(K, N, N) -> (K,) nats"""
    ### BEGIN SOLUTION
    beliefs = scores.log_softmax(dim=2).diagonal(dim1=1, dim2=2)  # (K, N) log-probability of the real one
    return math.log(scores.shape[1]) + beliefs.mean(dim=1)
    ### END SOLUTION


my_step_bounds = check("cpc.step_bounds", my_step_bounds).use
# hint("cpc.step_bounds")

# %%
torch.manual_seed(0)
model = CPC(FrameEncoder(ConvNet(8)), 64, 6).to(device)
SIZE, STEPS = budget(cpu=32, quick=6), budget(cpu=130, gpu=1000, quick=2)
fit(model, lambda g: world.sample(SIZE, g).frames, STEPS, lr=3e-3, label="CPC")
x = world.sample(64, torch.Generator(device).manual_seed(9)).frames
with torch.no_grad():
    z, c = model.encode(x), model(x)
    scores = torch.stack([W(c[:, 4]) @ z[:, 5 + k].T for k, W in enumerate(model.predictors)])  # (K, 64, 64)
bounds = my_step_bounds(scores).cpu()
figure, ax = plt.subplots(figsize=(6, 2.4))
ax.plot(range(1, 7), bounds, "o-")
plot.line(ax, math.log(64), "ceiling, log 64")
ax.set(xlabel="steps ahead k", ylabel="bound (nats)", ylim=(min(0, float(bounds.min())), 4.5))
plt.show()

# %% [markdown]
# ## 2.7 Keep the place, lose the rest

# %%
# Exercise 2.7 · explore · 20 min · difficulty 4 of 5
# Choose candidates, batches, steps ahead or the world's own settings so that contexts know the direction and not the
# object. Which of them matters most? Start from `train_and_ask`; MovingScenes(flicker=False) is a world to be wary of.
### BEGIN SOLUTION
found = train_and_ask(False, candidates="sequence")
### END SOLUTION
if found is not ...:
    print(found)

# %% [markdown]
# **Rubric.** A good answer (a) changes one thing at a time and says what (5) predicts for it, (b) reports both probes with at least two seeds, (c) compares `"sequence"`, `"all"` and batches of one object, (d) tries `flicker=False`, where a background that stays is one more thing to know a film by, and says who gains from it.

# %%
progress()
