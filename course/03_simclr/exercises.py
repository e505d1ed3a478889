# %% [markdown]
# # 03 · SimCLR: exercises
#
# Eight exercises on [lesson 03](../notebooks/03_simclr.ipynb), about two hours in all. Fill in the cells, run the check under each. A check tells you what it thinks went wrong. If you are stuck, run `hint("simclr.…")` in a cell of its own: three hints an exercise, each says more. After a failed check the notebook goes on with the library's version, so that you can skip and come back.

# %%
from minilip.course import *

device = setup("03_simclr")

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from minilip.course import plot
from minilip.evaluation import encode, latents_r2
from minilip.nn import ConvNet
from minilip.simclr import SimCLR
from minilip.studies.simclr import worlds
from minilip.training import fit

generator = torch.Generator(device).manual_seed(0)

# %% [markdown]
# ## 3.1 The loss
#
# Equation (1): two views of $B$ pictures, row $i$ of both shows picture $i$. Each of the $2B$ views chooses among the $2B-1$ others. The vectors come as they are. At $\tau = 0.01$ scores reach $\pm 100$, whose exponentials float32 does not hold: the loss and all its gradients have to stay finite there. The temperature may be a tensor that learns.


# %%
# Exercise 3.1 · implement · 15 min · difficulty 2 of 5
# Teaches NT-Xent: who chooses, among whom, and who must not be among the candidates.
def my_nt_xent(z1, z2, temperature):
    """Mean over 2B views in nats. z1 (B, D), z2 (B, D), tau > 0 -> scalar"""
    ### BEGIN SOLUTION
    z = torch.cat([z1, z2])  # (2B, D)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    logits = (z @ z.T / temperature).masked_fill(itself, -math.inf)  # (2B, 2B)
    partner = torch.arange(len(z), device=z.device).roll(len(z1))
    return F.cross_entropy(logits, partner)
    ### END SOLUTION


my_nt_xent = check("simclr.nt_xent", my_nt_xent).use
# hint("simclr.nt_xent")

# %% [markdown]
# Two batches of perfect partners. In the second, every picture occurs twice. Say before you run it which loss is larger, and what the smallest possible value of the second is.

# %%
apart, twins = torch.eye(64, device=device), torch.eye(32, device=device).repeat(2, 1)  # (64, D) each
for name, vectors in (("64 pictures", apart), ("32 pictures, twice", twins)):
    print(f"{name:18} {float(my_nt_xent(vectors, vectors, 0.05)):.3f} nats")

# %% [markdown]
# ## 3.2 Who is whose partner
#
# Many data loaders return views interleaved: $a_1, b_1, a_2, b_2, \dots$ A loss that expects $a_1, \dots, a_B, b_1, \dots, b_B$ then trains on strangers, and falls all the same. Write the loss for interleaved views.


# %%
# Exercise 3.2 · implement · 10 min · difficulty 2 of 5
# Teaches to keep track of rows, the commonest fault in code of this kind.
def interleaved_loss(z, temperature):
    """NT-Xent of views in the order a1, b1, a2, b2, ... z (2B, D), tau > 0 -> scalar"""
    ### BEGIN SOLUTION
    return my_nt_xent(z[0::2], z[1::2], temperature)
    ### END SOLUTION


interleaved_loss = check("simclr.interleaved", interleaved_loss).use
# hint("simclr.interleaved")

# %% [markdown]
# ## 3.3 Chosen minus true, twice
#
# The gradient of (1) with respect to the table of similarities $s_{ij} = z_i^\top z_j$, $2B \times 2B$, views in the order $a_1, \dots, a_B, b_1, \dots, b_B$. Treat $s_{ij}$ and $s_{ji}$ as one number, as they are: the entry says how the loss changes when the pair comes closer. The diagonal is 0. By hand, without autograd; finite where $s/\tau$ reaches $\pm 100$.
#
# <details><summary>The proof in steps</summary>
#
# 1. Row $i$ of the loss, with $\ell_{ij} = s_{ij}/\tau$: $-\ell_{i\,p(i)} + \log\sum_{k\ne i}e^{\ell_{ik}}$.
# 2. Its derivative by $\ell_{ij}$, $j \ne i$, is $P_{ij} - [j = p(i)]$: a log-sum-exp differentiates to a softmax.
# 3. $s_{ij}$ stands in row $i$ and, as $s_{ji}$, in row $j$: add $P_{ji} - [i = p(j)]$.
# 4. Partners are mutual, so both brackets are the same: $-2\,[j = p(i)]$.
# 5. The mean brings $\frac1{2B}$, the chain rule $\frac1\tau$.
# 6. Check: each row of $P$ sums to one, so the entries of the whole table sum to $\frac{2B + 2B - 4B}{2B\tau} = 0$. Nothing is gained by moving all views closer at once.
# </details>


# %%
# Exercise 3.3 · prove · 20 min · difficulty 3 of 5
# Teaches what pulls and what pushes, and that each pair is looked at from both ends.
def similarity_gradient(similarity, temperature):
    """d NT-Xent / d similarity, each pair as one number. similarity (2B, 2B) symmetric, tau > 0 -> (2B, 2B)"""
    ### BEGIN SOLUTION
    n = len(similarity)
    itself = torch.eye(n, dtype=torch.bool, device=similarity.device)
    P = torch.softmax((similarity / temperature).masked_fill(itself, -math.inf), dim=1)  # (2B, 2B)
    partner = torch.eye(n, dtype=P.dtype, device=P.device).roll(n // 2, dims=1)
    return (P + P.T - 2 * partner) / (n * temperature)
    ### END SOLUTION


similarity_gradient = check("simclr.gradient", similarity_gradient).use
# hint("simclr.gradient")

# %% [markdown]
# ## 3.4 A run that does not move
#
# You train with 4 pictures a batch and $\tau = 0.1$. All vectors have become equal. Which loss do you read, in nats? Three decimals.

# %%
# Exercise 3.4 · predict · 5 min · difficulty 1 of 5
# Teaches to recognise collapse by its number.
### BEGIN SOLUTION
collapsed = 1.946
### END SOLUTION
collapsed = check("simclr.collapse", collapsed).use
# hint("simclr.collapse")

# %%
print(f"{float(my_nt_xent(torch.ones(4, 8), torch.ones(4, 8), 0.1)):.4f} nats")

# %% [markdown]
# ## 3.5 What the best critic knows
#
# Equation (7). You are given $p(c)$, $p(s \mid c)$ and the probability $\rho$ with which a view keeps the style of the picture; otherwise the style is drawn anew from $p(s\mid c)$. Return the ratio $p(\tilde x\mid x)/p(\tilde x)$ for every pair of pictures $x = (c, s)$ and $\tilde x = (\tilde c, \tilde s)$.
#
# <details><summary>The proof in steps</summary>
#
# 1. The content stays: no other content than $c$ has any probability. That is the factor $[\tilde c = c]$.
# 2. The style is kept with probability $\rho$, then $\tilde s = s$ for certain; else it has probability $p(\tilde s\mid c)$: (6).
# 3. The other view has the distribution of pictures: $\sum_s p(s\mid c)\big(\rho\,[\tilde s = s] + (1-\rho)\,p(\tilde s\mid c)\big) = \rho\,p(\tilde s\mid c) + (1-\rho)\,p(\tilde s\mid c) = p(\tilde s\mid c)$.
# 4. Divide (6) by $p(\tilde c)\,p(\tilde s\mid\tilde c)$. Where $\tilde c = c$ and $\tilde s = s$, the kept part becomes $\rho/p(s\mid c)$; the other part becomes $1-\rho$ whatever $\tilde s$ is.
# 5. At $\rho = 0$ nothing is left that depends on a style.
# </details>


# %%
# Exercise 3.5 · prove · 25 min · difficulty 4 of 5
# Teaches why a network forgets what an augmentation draws anew, also when it depends on the content.
def critic_ratio(content, style, keep):
    """p(x' | x) / p(x'). content p(c) (C,), style p(s | c) (C, S), keep = rho in [0, 1] -> (C, S, C, S), x then x'"""
    ### BEGIN SOLUTION
    same_style = torch.eye(style.shape[1], dtype=style.dtype, device=style.device)  # (S, S)
    inside = keep * same_style / style[:, None, :] + 1 - keep  # (C, S, S)
    same_content = torch.diag(1 / content)  # (C, C)
    return torch.einsum("cd,cst->csdt", same_content, inside)
    ### END SOLUTION


critic_ratio = check("simclr.critic", critic_ratio).use
# hint("simclr.critic")

# %% [markdown]
# Bananas are yellow, with probability 0.95, and sometimes green; apples are as often one as the other. How much does a view gain from being the same green?

# %%
ratio = critic_ratio(torch.tensor([0.5, 0.5]), torch.tensor([[0.95, 0.05], [0.5, 0.5]]), 0.2)
for name, c, s in (("yellow banana", 0, 0), ("green banana", 0, 1), ("green apple", 1, 1)):
    print(f"{name:13} same style {float(ratio[c, s, c, s]):5.2f}, other style {float(ratio[c, s, c, 1 - s]):5.2f}")

# %% [markdown]
# ## 3.6 Break it: the logarithm in the wrong place
#
# Somebody writes $-\log$ of the mean probability in place of (1). Equation (5): how much does each view count in the gradient? You are given $\log p_i$ of the $N$ views; return their weights, which sum to one. Early in training some $\log p_i$ are $-200$: the weights have to be right when *all* of them are.


# %%
# Exercise 3.6 · break · 15 min · difficulty 3 of 5
# Teaches what the place of a logarithm does: who is listened to.
def listened_to(log_p):
    """Weights of the views in the gradient of -log(mean p). log_p (N,) -> (N,), sums to 1"""
    ### BEGIN SOLUTION
    return torch.softmax(log_p, dim=0)
    ### END SOLUTION


listened_to = check("simclr.weights", listened_to).use
# hint("simclr.weights")

# %% [markdown]
# Eight views, from lost to found. With the mean of the logarithms each would count $\frac18$. Explain in a sentence what happens to a picture that the network does not understand yet.

# %%
log_p = torch.linspace(-6, -0.1, 8)
figure, ax = plt.subplots(figsize=(8, 2.2))
ax.bar(range(8), listened_to(log_p).tolist(), color=plot.RED, label="-log of the mean")
ax.axhline(1 / 8, color=plot.BLUE, label="mean of -log")
ax.set(xlabel="view", ylabel="weight", xticks=range(8), xticklabels=[f"log p {v:.1f}" for v in log_p.tolist()])
ax.tick_params(axis="x", labelsize=8)
ax.legend()
plt.show()

# %% [markdown]
# ## 3.7 Better, or lucky?
#
# Two models answer the same $N$ questions; $a_n$ and $b_n$ are their results, 1 for right and 0 for wrong. If they did not differ, the two results of each question could as well be swapped. You are given `signs`, $R$ rows of $\pm1$: row $r$ says for each question whether its two results are swapped. Return the two-sided $p = \frac{1 + \#\{r: |\bar d_r| \ge |\bar d|\}}{1 + R}$, where $\bar d$ is the mean difference and $\bar d_r$ that after the swaps of row $r$. Where the two means are equal up to rounding, count it.


# %%
# Exercise 3.7 · implement · 15 min · difficulty 3 of 5
# Teaches the paired permutation test under the bold numbers of table 8.
def p_value(a, b, signs):
    """Two-sided p. a (N,), b (N,) results; signs (R, N) of +1 and -1 -> scalar in (0, 1]"""
    ### BEGIN SOLUTION
    d = (a - b).to(signs.dtype)  # (N,)
    swapped = (signs * d).mean(dim=1).abs()  # (R,)
    return (1 + (swapped >= d.mean().abs() - 1e-6).sum()) / (1 + len(signs))
    ### END SOLUTION


p_value = check("simclr.p_value", p_value).use
# hint("simclr.p_value")

# %% [markdown]
# Two models with 80 % and 76 % of 250 questions. Once they err on the same questions, once independently. The accuracies are the same; is the verdict?

# %%
signs = 2.0 * torch.randint(2, (2000, 250), generator=generator, device=device) - 1
a = (torch.arange(250, device=device) < 200).float()
nested = (torch.arange(250, device=device) < 190).float()
mixed = nested[torch.randperm(250, generator=generator, device=device)]
for name, b in (("on the same questions", nested), ("independently", mixed)):
    print(f"errors {name:21}: {a.mean():.2f} and {b.mean():.2f}, p = {float(p_value(a, b, signs)):.4f}")

# %% [markdown]
# ## 3.8 Choose what is forgotten
#
# SimCLR is trained on scenes with the interventions that you choose: which of colour, background, position and angle are drawn anew, and with which probability each is kept all the same. Before each run write down which latents you expect to read from $z$ afterwards, and which from $h$.


# %%
# Exercise 3.8 · explore · 25 min · difficulty 3 of 5
# What does each set of interventions make z forget? Choose the styles, and the probability of keeping them.
### BEGIN SOLUTION
chosen = [(("position", "angle"), 0.0)]
### END SOLUTION
if chosen is not ...:
    for styles, keep in chosen:

        def batches(generator):
            z = worlds.sample(48, generator)
            return tuple(worlds.WORLD.render(worlds.intervene(z, styles, generator, keep)) for _ in range(2))

        torch.manual_seed(0)
        model = SimCLR(ConvNet(16), dim=8, temperature=0.3).to(device)
        fit(model, batches, budget(cpu=300, gpu=2000, quick=2), lr=3e-3, label=f"{', '.join(styles)} drawn anew")
        n = budget(cpu=500, quick=50)
        drawn = [worlds.sample(n, generator) for _ in range(2)]
        for name, f in (("h", model), ("z", model.project)):
            x = [encode(f, worlds.WORLD.render(each)) for each in drawn]
            found = latents_r2(x[0], worlds.causes(drawn[0]), x[1], worlds.causes(drawn[1]))
            print(f"{name}: " + ", ".join(f"{latent} {r2:.2f}" for latent, r2 in found.items()))

# %% [markdown]
# **Rubric.** A good answer
# - predicts at least one latent that is kept *because it is not intervened on*, and finds it;
# - finds a style that is read from $h$ and not from $z$, and says why the loss does not mind;
# - tries `keep` between 0 and 1 and compares with equation (7);
# - says for a task of your own (ripe fruit, left or right shoes, handwriting) which of SimCLR's augmentations must go.

# %%
progress()
