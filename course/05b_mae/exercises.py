# %% [markdown]
# # 05b · MAE: exercises
#
# Seven exercises on [lesson 05b](../notebooks/05b_mae.ipynb), an hour and three quarters in all. Fill in the cells, run the check under each. If you are stuck, run `hint("mae.…")` in a cell of its own: three hints an exercise, each says more. After a failed check the notebook goes on with the library's version, so that you can skip and come back.
#
# Letters: $B$ pictures of $P$ patches of $N$ numbers; $K$ patches are kept; the mask is 1 where a patch is hidden.

# %%
from minilip.course import *

device = setup("05b_mae")

# %%
import matplotlib.pyplot as plt
import torch

from minilip.course import plot
from minilip.evaluation import encode, linear_probe
from minilip.mae import random_masking
from minilip.studies.mae import digits as study

# %% [markdown]
# ## 5b.1 Hide, and remember where
#
# Keep the $K$ patches of lowest noise, in the order of their noise. Return them, the mask, and what puts tokens back into their places, equation (3).


# %%
# Exercise 5b.1 · implement · 15 min · difficulty 3 of 5
# Teaches masking without a loop, and the inverse of a permutation.
def my_masking(noise, keep):
    """noise (B, P), K -> kept (B, K), mask (B, P) of 0 and 1 in the noise's dtype, restore (B, P)"""
    ### BEGIN SOLUTION
    order = noise.argsort(dim=1)  # (B, P)
    restore = order.argsort(dim=1)  # (B, P)
    return order[:, :keep], (restore >= keep).to(noise.dtype), restore
    ### END SOLUTION


my_masking = check("mae.masking", my_masking).use
# hint("mae.masking")

# %% [markdown]
# ## 5b.2 The loss
#
# Equation (4) with the normalised targets of (6); deviations over $N - 1$, and $10^{-6}$ under the root. A patch of one colour occurs in every picture: the loss and its gradient have to stay finite there. Pictures of a batch may have different numbers of hidden patches.


# %%
# Exercise 5b.2 · implement · 15 min · difficulty 3 of 5
# Teaches a loss that asks about some patches and not about others.
def my_mae_loss(prediction, patches, mask):
    """prediction, patches (B, P, N), mask (B, P) -> scalar"""
    ### BEGIN SOLUTION
    mean, variance = patches.mean(dim=2, keepdim=True), patches.var(dim=2, keepdim=True)  # (B, P, 1) each
    target = (patches - mean) / (variance + 1e-6).sqrt()  # (B, P, N)
    error = (prediction - target).square().mean(dim=2)  # (B, P)
    return (mask * error).sum() / mask.sum()
    ### END SOLUTION


my_mae_loss = check("mae.loss", my_mae_loss).use
# hint("mae.loss")

# %% [markdown]
# ## 5b.3 Where nothing is asked
#
# Derive the gradient of (4) with respect to the prediction, for *plain* pixels.
#
# <details><summary>The proof in steps</summary>
#
# 1. The denominator $\sum m$ does not contain $y$.
# 2. Of the double sum only the term of picture $b$ and patch $i$ contains $y_{bi}$: $m_{bi}\frac1N\lVert y_{bi} - x_{bi}\rVert^2$.
# 3. Its gradient is $m_{bi}\frac2N(y_{bi} - x_{bi})$, which is 0 where the patch is visible.
# </details>


# %%
# Exercise 5b.3 · prove · 10 min · difficulty 2 of 5
# Teaches why visible patches of a reconstruction are not to be looked at.
def my_loss_gradient(prediction, patches, mask):
    """d loss / d prediction, plain pixels. (B, P, N), (B, P, N), (B, P) -> (B, P, N)"""
    ### BEGIN SOLUTION
    return 2 * mask[:, :, None] * (prediction - patches) / (patches.shape[2] * mask.sum())
    ### END SOLUTION


my_loss_gradient = check("mae.loss_gradient", my_loss_gradient).use
# hint("mae.loss_gradient")

# %%
y, x, mask = torch.randn(1, 6, 12), torch.rand(1, 6, 12), torch.tensor([[1.0, 0, 1, 1, 0, 1]])
print("length of the gradient at each patch:", my_loss_gradient(y, x, mask)[0].norm(dim=1).round(decimals=3).tolist())
print("mask:                                ", mask[0].tolist())

# %% [markdown]
# ## 5b.4 What a block costs
#
# The multiplications of `depth` Transformer blocks for one picture, equation (8): linear layers and attention's two products. Biases, softmax and normalisations are left out.


# %%
# Exercise 5b.4 · prove · 15 min · difficulty 3 of 5
# Teaches to count before you run: what is saved by tokens that are absent.
def my_multiplications(tokens, dim, depth):
    """L, D, blocks -> a whole number"""
    ### BEGIN SOLUTION
    linear = (3 + 1 + 4 + 4) * dim**2 * tokens
    attention = 2 * tokens**2 * dim
    return depth * (linear + attention)
    ### END SOLUTION


my_multiplications = check("mae.multiplications", my_multiplications).use
# hint("mae.multiplications")

# %%
dims = torch.arange(16, 1025, 16).tolist()
figure, ax = plt.subplots(figsize=(8, 2.6))
for patches, colour in ((64, plot.BLUE), (196, plot.RED), (1024, plot.GREEN)):
    saved = [my_multiplications(patches + 1, d, 1) / my_multiplications(patches // 4 + 1, d, 1) for d in dims]
    ax.plot(dims, saved, color=colour, label=f"{patches} patches")
plot.line(ax, 4, "a quarter of the tokens")
ax.set(xlabel="width D", ylabel="times fewer", xscale="log", ylim=(3, None))
ax.legend(title="a quarter kept")
plt.show()

# %% [markdown]
# Why do the curves start above 4 and end at 4?
#
# ## 5b.5 Two neighbours
#
# 16 of 64 patches are kept. What is the probability that two given patches, say two neighbours, are *both* hidden? Four decimals.

# %%
# Exercise 5b.5 · predict · 5 min · difficulty 2 of 5
# Teaches what drawing without replacement changes.
### BEGIN SOLUTION
both_hidden = 48 / 64 * 47 / 63
### END SOLUTION
both_hidden = check("mae.both_hidden", both_hidden).use
# hint("mae.both_hidden")

# %%
_, mask, _ = random_masking(torch.rand(budget(cpu=100_000, quick=20_000), 64), 16)
print(f"counted: {(mask[:, 0] * mask[:, 1]).mean():.4f}")

# %% [markdown]
# ## 5b.6 Tokens in the wrong places
#
# The encoder returns the $K$ tokens that it saw, in the order of the noise. Before the decoder, each goes back to its place, and the mask token fills the gaps. A well-known slip uses the order where restore is needed; the loss still falls, and nobody notices.


# %%
# Exercise 5b.6 · break · 15 min · difficulty 3 of 5
# Teaches the difference between a permutation and its inverse.
def my_put_back(seen, token, restore):
    """seen (B, K, D), token (D,), restore (B, P) -> (B, P, D)"""
    ### BEGIN SOLUTION
    gaps = token.expand(len(seen), restore.shape[1] - seen.shape[1], -1)  # (B, P - K, D)
    return torch.cat([seen, gaps], dim=1).take_along_dim(restore[:, :, None], dim=1)  # (B, P, D)
    ### END SOLUTION


my_put_back = check("mae.put_back", my_put_back).use
# hint("mae.put_back")

# %% [markdown]
# A test that finds the slip: mark each patch by its own number, hide some, put back, and look whether the visible ones are where they were.

# %%
numbers = torch.arange(9.0).expand(2, 9)[..., None]  # (2, 9, 1)
kept, mask, restore = random_masking(torch.rand(2, 9), 4)
back = my_put_back(numbers.take_along_dim(kept[..., None], dim=1), torch.tensor([-1.0]), restore)[..., 0]
print(back)
print("visible patches are where they were:", bool((back[mask == 0] == numbers[..., 0][mask == 0]).all()))

# %% [markdown]
# ## 5b.7 Another reader
#
# The lesson reads the mean of the patches' states after the last block. Is the label easier to read elsewhere?

# %%
# Exercise 5b.7 · explore · 30 min · difficulty 4 of 5
# Write features of a trained MAE that a linear probe reads better than the mean: another block, several blocks
# together, the largest value over patches, [CLS] beside the mean. (B, 3, 8, 8) -> (B, anything)
train_x, train_y = study.digits("train")
held_x, held_y = study.digits("val")
model, _ = study.train(study.ARMS["mask 0.5"]._replace(steps=budget(cpu=400, quick=2)), 0, train_x)


def features(images):
    ### BEGIN SOLUTION
    z = model.tokens(images)  # (B, 1 + P, D)
    return torch.cat([z[:, 0], z[:, 1:].mean(dim=1), z[:, 1:].amax(dim=1)], dim=1)  # (B, 3 D)
    ### END SOLUTION


try:
    features(train_x[:2])
except NotImplementedError:
    print("features() is still to be written")
else:
    for name, f in (("mean", study.Mean(model)), ("yours", features)):
        found = linear_probe(encode(f, train_x), train_y, encode(f, held_x), held_y)
        print(f"{name:6} accuracy on held-out digits {found:.3f}")

# %% [markdown]
# **Rubric.** A good answer (a) compares readers of the *same number* of features, or says that more features help by themselves; (b) reads the untrained network in the same way, since a random network passes much on; (c) chooses on "val" and reports one number on "test"; (d) says what [CLS] has been trained by (nothing but what the decoder makes of it).

# %%
progress()
