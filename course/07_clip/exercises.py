# %% [markdown]
# # 07 · CLIP: exercises
#
# Eight exercises on [lesson 07](../notebooks/07_clip.ipynb), about two hours in all. Fill in the cells, run the check under each. A check tells you what it thinks went wrong. If you are stuck, run `hint("clip.…")` in a cell of its own: three hints an exercise, each says more. After a failed check the notebook goes on with the library's version, so that you can skip and come back.

# %%
from minilip.course import *

device = setup("07_clip")

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from minilip.course import plot
from minilip.clip import CLIP, zero_shot_classifier
from minilip.data.scenes import COLOURS, Scenes
from minilip.nn import BagOfWords, ConvNet
from minilip.evaluation import accuracy, encode
from minilip.nn.tokenizer import Tokenizer
from minilip.training import fit

world = Scenes(size=32)
tokenizer = Tokenizer(world.caption(world.sample(3000, torch.Generator().manual_seed(0))))


def batches(generator, size=128):
    latents = world.sample(size, generator)
    return world.render(latents), tokenizer(world.caption(latents), device)


# %% [markdown]
# ## 7.1 The loss
#
# Equation (4). The vectors come as they are; whoever wants cosines normalises before. `logit_scale` is the multiplier $s$ itself, a number or a tensor that learns. In training it reaches 100, and the exponential of 100 is no float32: the loss and all its gradients have to stay finite there.


# %%
# Exercise 7.1 · implement · 15 min · difficulty 2 of 5
# Teaches the symmetric contrastive loss, and how to take the logarithm of a softmax without ever forming a zero.
def my_clip_loss(image, text, logit_scale):
    """Mean of both directions in nats. image (B, D), text (B, D), s > 0 -> scalar"""
    ### BEGIN SOLUTION
    logits = logit_scale * image @ text.T  # (B, B)
    pairs = torch.arange(len(logits), device=logits.device)  # (B,)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
    ### END SOLUTION


my_clip_loss = check("clip.clip_loss", my_clip_loss).use
# hint("clip.clip_loss")

# %% [markdown]
# ## 7.2 Chosen minus true
#
# Derive (6) on paper before you write it: the steps are folded below. Then write it without autograd. Logits may be $\pm 100$.
#
# <details><summary>The proof in steps</summary>
#
# 1. One row: $-\log P_{ii} = -\ell_{ii} + \log\sum_k e^{\ell_{ik}}$.
# 2. $\frac{\partial}{\partial \ell_{ij}}\log\sum_k e^{\ell_{ik}} = \frac{e^{\ell_{ij}}}{\sum_k e^{\ell_{ik}}} = P_{ij}$: the inner derivative of the sum leaves one term.
# 3. $\frac{\partial}{\partial \ell_{ij}}(-\ell_{ii}) = -\delta_{ij}$.
# 4. So the mean over rows gives $\frac1B(P_{ij} - \delta_{ij})$. Other rows do not contain $\ell_{ij}$.
# 5. By the same steps the mean over columns gives $\frac1B(Q_{ij} - \delta_{ij})$. Half of the sum is (6).
# </details>


# %%
# Exercise 7.2 · prove · 20 min · difficulty 3 of 5
# Teaches where the pull on every pair comes from: the gradient of the loss with respect to the table of logits.
def logit_gradient(logits):
    """dL / dlogits of the symmetric loss, by hand. (B, B) -> (B, B)"""
    ### BEGIN SOLUTION
    b = len(logits)
    P, Q = logits.softmax(dim=1), logits.softmax(dim=0)  # (B, B) each
    return (P + Q - 2 * torch.eye(b, device=logits.device)) / (2 * b)
    ### END SOLUTION


logit_gradient = check("clip.logit_gradient", logit_gradient).use
# hint("clip.logit_gradient")

# %% [markdown]
# All its entries together sum to zero, though no single row has to. What does that say about adding one number to all logits?

# %%
G = logit_gradient(3 * torch.randn(6, 6))
print(f"the whole table: {G.sum():.6f}; its rows:", [round(x, 3) for x in G.sum(dim=1).tolist()])

# %% [markdown]
# ## 7.3 Which way does the scale go first?
#
# A fresh model: random towers, $s = 1/0.07 \approx 14$. In the end $s$ will have grown. Which way does it go in its first steps? Decide by (7) before you run the next cell.

# %%
# Exercise 7.3 · predict · 5 min · difficulty 2 of 5
# Teaches to read the temperature's gradient: "up", "down" or "stays"?
### BEGIN SOLUTION
first_step = "down"
### END SOLUTION
first_step = check("clip.first_step", first_step).use
# hint("clip.first_step")

# %%
torch.manual_seed(0)
model = CLIP(ConvNet(16), BagOfWords(len(tokenizer), 64), tokenizer).to(device)
STEPS = budget(cpu=250, gpu=1000, quick=4)
history = fit(model, batches, STEPS, lr=3e-3, label="watch the scale")
figure, axes = plt.subplots(1, 2, figsize=(8, 2.4))
for ax, until, title in ((axes[0], 16, "the first steps"), (axes[1], STEPS, "the whole run")):
    ax.plot(history.metrics["logit scale"][:until])
    plot.line(ax, 1 / 0.07, "start, 1 / 0.07")
    ax.set(xlabel="step", ylabel="logit scale s", title=title)
plt.show()

# %% [markdown]
# ## 7.4 The lowest possible loss
#
# A batch of $B$ pairs, $K$ captions that are equally likely. What is the expected loss of a *perfect* model?


# %%
# Exercise 7.4 · prove · 20 min · difficulty 3 of 5
# Teaches to know where a loss will stop before the run begins: eq. (8).
def lowest_loss(batch, captions):
    """E log(1 + n), n the copies of a pair's own caption among the others. (int, int) -> nats"""
    ### BEGIN SOLUTION
    n, p = batch - 1, 1 / captions
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) * math.log(1 + k) for k in range(n + 1))
    ### END SOLUTION


lowest_loss = check("clip.loss_floor", lowest_loss).use
# hint("clip.loss_floor")

# %%
print(
    f"floor for B = 128, K = 48: {lowest_loss(128, 48):.3f} nats; "
    f"the run above ended at {sum(history.loss[-20:]) / len(history.loss[-20:]):.3f}"
)

# %% [markdown]
# ## 7.5 A classifier made of words
#
# The vectors of $K$ prompts for each of $C$ classes, of any length. Make one unit vector for each class, by (9).


# %%
# Exercise 7.5 · implement · 10 min · difficulty 2 of 5
# Teaches the order that matters: normalise, average, normalise.
def my_class_vectors(prompts):
    """(C, K, D) -> (C, D), rows of length 1"""
    ### BEGIN SOLUTION
    directions = F.normalize(prompts, dim=2)  # (C, K, D)
    return F.normalize(directions.mean(dim=1), dim=1)  # (C, D)
    ### END SOLUTION


my_class_vectors = check("clip.class_vectors", my_class_vectors).use
# hint("clip.class_vectors")

# %% [markdown]
# ## 7.6 Recall without cheating
#
# Query $i$ looks for item $i$. Recall at $k$ is the share of queries that find it among the first $k$. Before you write it: what should a model get that gives every item the same score?


# %%
# Exercise 7.6 · break · 15 min · difficulty 3 of 5
# Teaches how a measure can be fooled: a tie with a wrong item is not a hit.
def my_recall_at(similarity, k):
    """(Q, Q), larger is nearer -> share of hits in [0, 1]. A wrong item with the score of the right one is ahead."""
    ### BEGIN SOLUTION
    own = similarity.diagonal()[:, None]  # (Q, 1)
    ahead = (similarity >= own).sum(dim=1) - 1  # (Q,) the query's own item is not ahead of itself
    return (ahead < k).double().mean().item()
    ### END SOLUTION


my_recall_at = check("clip.recall_at", my_recall_at).use
# hint("clip.recall_at")

# %%
print("a model that scores everything alike:", my_recall_at(torch.zeros(100, 100), 1))

# %% [markdown]
# ## 7.7 Yes or no: the sigmoid loss
#
# Zhai et al. 2023 drop the softmax. Each of the $B^2$ pairs is its own question, do these two belong together?
#
# $$\mathcal L = -\frac1B\sum_{ij}\log\sigma\big(y_{ij}\,(s\,v_i^\top t_j + b)\big), \qquad y_{ij} = +1 \text{ if } i=j \text{ else } -1.$$
#
# The bias $b$ is there because almost all answers are no. Scale and bias are numbers or tensors that learn. At $s = 100$ a sigmoid is 0 in float32 where the answer is wrong: the loss and its gradients have to stay finite there.


# %%
# Exercise 7.7 · implement · 15 min · difficulty 3 of 5
# Teaches the loss of SigLIP, and to take the logarithm of a sigmoid safely.
def my_siglip_loss(image, text, logit_scale, logit_bias):
    """Nats per picture. image (B, D), text (B, D), s > 0, b -> scalar"""
    ### BEGIN SOLUTION
    logits = logit_scale * image @ text.T + logit_bias  # (B, B)
    sign = 2 * torch.eye(len(logits), device=logits.device) - 1  # (B, B)
    return -F.logsigmoid(sign * logits).sum() / len(logits)
    ### END SOLUTION


my_siglip_loss = check("clip.siglip_loss", my_siglip_loss).use
# hint("clip.siglip_loss")

# %% [markdown]
# Which $b$ should it start from? If the model knew nothing, each answer would be yes with probability $1/B$. Solve $\sigma(b) = 1/B$ and compare the first loss with other starts.

# %%
V, T = (F.normalize(torch.randn(256, 64), dim=1) for _ in range(2))
for b in (0.0, -math.log(255), -10.0):
    print(f"b = {b:6.2f}: first loss {float(my_siglip_loss(V, T, 10.0, b)):7.2f} nats")

# %% [markdown]
# ## 7.8 Your own classifier

# %%
# Exercise 7.8 · explore · 20 min · difficulty 3 of 5
# Write a classifier that the training never mentioned: sort scenes by colour, warm against cold. Which words do it?
# A dictionary with a list of prompts for "warm" and one for "cold", in any order.
latents = world.sample(500, torch.Generator(device).manual_seed(3))
pictures = world.render(latents)
warm = torch.tensor([COLOURS[c] in ("red", "orange", "yellow") for c in latents.colour[:, 0].tolist()])
cold = torch.tensor([COLOURS[c] in ("blue", "cyan", "purple") for c in latents.colour[:, 0].tolist()])
either = (warm | cold).to(device)
### BEGIN SOLUTION
prompts = {"warm": ["red", "orange", "yellow"], "cold": ["blue", "cyan", "purple"]}
### END SOLUTION
if prompts is not ...:
    W = torch.stack([zero_shot_classifier(model, prompts[kind], "{}").mean(dim=0) for kind in ("warm", "cold")])
    W = F.normalize(W, dim=1)  # (2, D)
    found = accuracy(encode(model.encode_image, pictures[either]) @ W.T, cold.to(device)[either].long())
    print(f"warm against cold: {found:.3f} on {int(either.sum())} scenes (a coin: 0.5)")

# %% [markdown]
# **Rubric.** A good answer (a) names the prompts and why they were chosen, (b) compares one prompt a class with an ensemble, (c) tries words that the model knows but that say nothing of colour ("circle", "large") as a control, (d) tries a colour left out of the prompts (green, white) and says where it lands and why.

# %%
progress()
