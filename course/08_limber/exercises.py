# %% [markdown]
# # 08 · LimBeR: exercises
#
# Eight exercises on [lesson 08](../notebooks/08_limber.ipynb), about two hours in all. Fill in the cells, run the check under each. A check tells you what it thinks went wrong. If you are stuck, run `hint("limber.…")` in a cell of its own: three hints an exercise, each says more. After a failed check the notebook goes on with the library's version, so that you can skip and come back.

# %%
from minilip.course import *

device = setup("08_limber")

# %%
import copy
import math

import torch
import torch.nn.functional as F

from minilip.limber import freeze, frozen_hash
from minilip.nn import ConvNet
from minilip.studies.limber import bed
from minilip.studies.limber import scenes as study
from minilip.studies.limber.bed import scenes, standardised, tokens_of
from minilip.studies.limber.scenes import examine
from minilip.training import fit

# %% [markdown]
# ## 8.1 What goes in, and what is expected
#
# The language model gets $k$ soft prompts and then the words of the caption, and expects a word at each place. Build both: the vectors that go in, and a label for each of them. A label is $-100$ where nothing is learned: `cross_entropy` ignores it. `tokens` are padded behind their end with *the number of the end*.


# %%
# Exercise 8.1 · implement · 15 min · difficulty 3 of 5
# Teaches where a soft prompt stands, which place expects which word, and that the first end is a target.
def my_inputs_and_labels(prompts, vectors, tokens, end):
    """prompts (B, k, D), vectors of all words (V, D), tokens (B, L) -> inputs (B, k + L - 1, D), labels (B, k + L - 1)

    The last token goes nowhere: nothing is expected behind it.
    """
    ### BEGIN SOLUTION
    k = prompts.shape[1]
    inputs = torch.cat([prompts, vectors[tokens[:, :-1]]], dim=1)  # (B, k + L - 1, D)
    is_end = tokens == end  # (B, L)
    behind = is_end.cumsum(dim=1) - is_end.int() > 0  # (B, L) an end stands before
    labels = tokens.masked_fill(behind, -100)
    return inputs, F.pad(labels, (k - 1, 0), value=-100)  # (B, k + L - 1)
    ### END SOLUTION


my_inputs_and_labels = check("limber.inputs", my_inputs_and_labels).use
# hint("limber.inputs")

# %% [markdown]
# ## 8.2 The loss
#
# Equation (3): what a token costs, averaged over all tokens up to and including the first end of their caption. Logits may be in the hundreds: the loss and its gradient have to stay finite there.


# %%
# Exercise 8.2 · implement · 15 min · difficulty 2 of 5
# Teaches to mask by place: the number of the end is also that of the padding.
def my_caption_loss(logits, tokens, end):
    """Nats a token. logits (B, L, V), row j expects token j; tokens (B, L) -> scalar"""
    ### BEGIN SOLUTION
    is_end = tokens == end  # (B, L)
    learned = is_end.cumsum(dim=1) - is_end.int() == 0  # (B, L)
    log_p = logits.log_softmax(dim=2).gather(2, tokens[..., None]).squeeze(2)  # (B, L)
    return -log_p[learned].mean()
    ### END SOLUTION


my_caption_loss = check("limber.caption_loss", my_caption_loss).use
# hint("limber.caption_loss")

# %% [markdown]
# ## 8.3 The gradient of the map
#
# Backpropagation through the frozen language model has brought you $g_i = \partial\mathcal L/\partial p_i$ for each prompt of each picture. Derive (4), then write it without autograd.
#
# <details><summary>The proof in steps</summary>
#
# 1. One prompt: $p_r = \sum_c P_{rc} h_c + b_r$, so $\partial p_r/\partial P_{rc} = h_c$, and no other coordinate of $p$ contains $P_{rc}$.
# 2. Chain rule: $\partial\mathcal L/\partial P_{rc} = g_r h_c$, the entry of the outer product $g\,h^\top$.
# 3. All prompts of all pictures are made by the same $P$. The loss depends on $P$ through each of them, so the contributions add up.
# 4. $\partial p_r/\partial b_r = 1$: the same sum without $h$.
# </details>


# %%
# Exercise 8.3 · prove · 15 min · difficulty 3 of 5
# Teaches that a frozen model passes a gradient on, and what becomes of it at the map.
def my_map_gradient(arriving, features):
    """arriving (B, k, D_L) are the g_i, features (B, k, D_I) the h_i -> dL/dP (D_L, D_I), dL/db (D_L,)"""
    ### BEGIN SOLUTION
    return torch.einsum("bkd,bki->di", arriving, features), arriving.sum(dim=(0, 1))
    ### END SOLUTION


my_map_gradient = check("limber.map_gradient", my_map_gradient).use
# hint("limber.map_gradient")

# %% [markdown]
# ## 8.4 The map without training
#
# Equations (6) and (7): least squares with a price on $P$ and none on $b$. The mean is over the $N$ rows.


# %%
# Exercise 8.4 · implement · 15 min · difficulty 3 of 5
# Teaches the closed form that every claim about a linear map is measured against.
def my_ridge_map(x, y, ridge):
    """x (N, D_I), y (N, D), ridge > 0 -> P (D, D_I), b (D,)"""
    ### BEGIN SOLUTION
    a, c = x - x.mean(dim=0), y - y.mean(dim=0)
    c_xx, c_xy = a.T @ a / len(x), a.T @ c / len(x)  # (D_I, D_I), (D_I, D)
    p = torch.linalg.solve(c_xx + ridge * torch.eye(x.shape[1], dtype=x.dtype), c_xy).T  # (D, D_I)
    return p, y.mean(dim=0) - p @ x.mean(dim=0)
    ### END SOLUTION


my_ridge_map = check("limber.ridge_map", my_ridge_map).use
# hint("limber.ridge_map")

# %% [markdown]
# ## 8.5 Greedy captions
#
# The smallest language model: what it expects next is a row of a table, chosen by the last word. The picture adds its own preferences to each row. Write the likeliest sentence, word by word. Behind the end a row holds zeros.


# %%
# Exercise 8.5 · implement · 15 min · difficulty 3 of 5
# Teaches to decode a batch in which sentences end at different times.
def my_greedy(picture, table, start, length, end):
    """Logits of the next word: picture (B, V) + table (V, V)[last word] -> int64 (B, 1 + length), `start` in front"""
    ### BEGIN SOLUTION
    rows = torch.full((len(picture), 1), start)  # (B, 1)
    done = torch.zeros(len(picture), dtype=torch.bool)
    for _ in range(length):
        word = (picture + table[rows[:, -1]]).argmax(dim=1)  # (B,)
        word = word.masked_fill(done, 0)
        rows = torch.cat([rows, word[:, None]], dim=1)
        done = done | (word == end)
    return rows
    ### END SOLUTION


my_greedy = check("limber.greedy", my_greedy).use
# hint("limber.greedy")

# %% [markdown]
# ## 8.6 Another picture
#
# A writer that sees nothing pays $\log 48 = 3.87$ nats for a caption of our scenes. A trained LimBeR pays less beside the right picture. Beside a *wrong* picture, drawn by lot: "lower" than 3.87, "equal", or "higher"? Decide, then run the next cell.

# %%
# Exercise 8.6 · predict · 5 min · difficulty 2 of 5
# Teaches the first test to make with any captioner.
### BEGIN SOLUTION
beside_another = "higher"
### END SOLUTION
beside_another = check("limber.shuffled", beside_another).use
# hint("limber.shuffled")

# %%
STEPS = {name: budget(cpu=n, gpu=3 * n, quick=2) for name, n in (("read", 400), ("see", 500), ("map", 250))}
language = bed.train_language(0, device, STEPS["read"])
tower = bed.train_eye("CLIP", 0, device, STEPS["see"])
eye = standardised(tower, True, device)  # pooled features
model = study.learn_map(eye, language, 0, STEPS["map"], prompts=4, label="map")
images, latents = scenes(torch.Generator(device).manual_seed(5), 500)
tokens = tokens_of(latents)
own = -model.log_likelihood(images, tokens).mean()
other = -model.log_likelihood(images.roll(1, dims=0), tokens).mean()
print(f"a caption beside its picture {own:.2f}, beside another {other:.2f}, blind {math.log(48):.2f} nats")

# %% [markdown]
# ## 8.7 Frozen, or not
#
# You set `requires_grad=False` on every parameter of a ConvNet and pass pictures through it in training mode. Which of its numbers move: "nothing", "weights" or "statistics"?

# %%
# Exercise 8.7 · break · 15 min · difficulty 3 of 5
# Teaches what "frozen" has to cover, and what is lost when it does not hold.
### BEGIN SOLUTION
what_moves = "statistics"
### END SOLUTION
what_moves = check("limber.what_moves", what_moves).use
# hint("limber.what_moves")

# %%
net = freeze(ConvNet(4))
before = frozen_hash(net)
net.train()
net(torch.rand(8, 3, 32, 32))
print("the same after one forward pass:", frozen_hash(net) == before)

# %% [markdown]
# Now break the other half. Let the language model learn together with the map, on captions only. What do the captions gain? And before you look at the second half of each line: what happens to what the model could read?

# %%
loose = copy.deepcopy(model)
loose.language.requires_grad_(True)
fit(loose, study.captions, STEPS["map"], lr=2e-3, label="language model let loose")
for name, m in (("frozen", model), ("let loose", loose)):
    right = examine(m, images, latents)["caption"]["everything"]
    print(f"{name:10s} captions right {right:.2f} | questions about a text: {study.reads(m.language, device)}")

# %% [markdown]
# Explain the difference in two sentences: which sentences has the model not met since it was let loose, and what follows for a product in which the language model has other work to do?
#
# ## 8.8 How many prompts?

# %%
# Exercise 8.8 · explore · 20 min · difficulty 3 of 5
# How many soft prompts does a pooled feature need for three attributes? Choose two or three values of k.
### BEGIN SOLUTION
choices = [1, 3]
### END SOLUTION
if choices is not ...:
    for k in choices:
        m = study.learn_map(eye, language, 0, STEPS["map"], prompts=k, label=f"k = {k}")
        found = examine(m, images, latents)
        print(f"k = {k}: captions {found['caption']}, answers {found['answer']}")

# %% [markdown]
# **Rubric.** A good answer (a) compares the numbers of parameters as well as those of prompts, (b) separates captions from answers, which need not move together, (c) repeats one value with another seed before it believes a difference, (d) says what the pooled feature cannot hold however many prompts are made of it, and how a feature map differs.

# %%
progress()
