# %% [markdown]
# # 01 · InfoNCE: exercises
#
# Eight exercises on [lesson 01](../notebooks/01_infonce.ipynb), about two hours in all. Fill in the cells, run the check under each. A check tells you what it thinks went wrong. If you are stuck, run `hint("infonce.…")` in a cell of its own: three hints an exercise, each says more. After a failed check the notebook goes on with the library's version, so that you can skip and come back.

# %%
from minilip.course import *

device = setup("01_infonce")

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch.distributions import Normal

from minilip.course import plot
from minilip.data.gaussians import Gaussians

generator = torch.Generator(device).manual_seed(0)

# %% [markdown]
# ## 1.1 The loss
#
# Equation (2) for a batch: query $i$ belongs to key $i$, and the other keys are its impostors. The vectors come as they are; whoever wants cosines normalises before. The temperature may be a number or a tensor that learns. At $\tau = 0.01$ scores reach $\pm 100$, and the exponential of 100 is no float32: the loss and all its gradients have to stay finite there.


# %%
# Exercise 1.1 · implement · 10 min · difficulty 2 of 5
# Teaches InfoNCE as a classification among the batch, and the logarithm of a softmax without ever forming a zero.
def my_info_nce(queries, keys, temperature):
    """Mean over the queries in nats. queries (B, D), keys (B, D), tau > 0 -> scalar"""
    ### BEGIN SOLUTION
    logits = queries @ keys.T / temperature  # (B, B)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
    ### END SOLUTION


my_info_nce = check("infonce.info_nce", my_info_nce).use
# hint("infonce.info_nce")

# %% [markdown]
# A critic that knows nothing, and one that knows everything. Say both numbers before you run this.

# %%
print(f"all vectors equal: {float(my_info_nce(torch.ones(64, 8), torch.ones(64, 8), 0.1)):.4f} nats")
print(f"all pairs apart:   {float(my_info_nce(torch.eye(64), torch.eye(64), 0.01)):.4f} nats")

# %% [markdown]
# ## 1.2 Negatives of your own choice
#
# Equation (11): one positive and $M$ negatives for each query. The scores are dot products of the vectors as they come. As in 1.1, the temperature may learn, and the loss stays finite where scores reach $\pm 100$.


# %%
# Exercise 1.2 · implement · 15 min · difficulty 2 of 5
# Teaches the general form: N = M + 1 candidates, one temperature inside every exponential.
def my_info_nce_negatives(query, positive, negatives, temperature):
    """Mean over the queries in nats. query (B, D), positive (B, D), negatives (B, M, D), tau > 0 -> scalar"""
    ### BEGIN SOLUTION
    right = (query * positive).sum(dim=1, keepdim=True)  # (B, 1)
    wrong = torch.einsum("bd,bmd->bm", query, negatives)  # (B, M)
    logits = torch.cat([right, wrong], dim=1) / temperature  # (B, 1 + M)
    return (logits.logsumexp(dim=1) - logits[:, 0]).mean()
    ### END SOLUTION


my_info_nce_negatives = check("infonce.negatives", my_info_nce_negatives).use
# hint("infonce.negatives")

# %% [markdown]
# Where do the negatives come from? Here are 200 queries with random negatives, and then with the 20 closest of 2,000. Which loss is larger, and which says more about the critic?

# %%
queries = F.normalize(torch.randn(200, 16, generator=generator, device=device), dim=1)
positives = F.normalize(queries + 0.2 * torch.randn(200, 16, generator=generator, device=device), dim=1)
pool = F.normalize(torch.randn(2000, 16, generator=generator, device=device), dim=1)
chosen = pool[torch.randint(2000, (200, 20), generator=generator, device=device)]  # (200, 20, 16)
hard = pool[(queries @ pool.T).topk(20, dim=1).indices]  # (200, 20, 16)
for name, negatives in (("random", chosen), ("hard", hard)):
    print(f"{name:6} negatives: {float(my_info_nce_negatives(queries, positives, negatives, 0.1)):.3f} nats")

# %% [markdown]
# ## 1.3 What is true
#
# You are given $\log p(x_i \mid c)$ and $\log p(x_i)$ for $N$ candidates, one of which is real. What is the probability that it stands in place $i$? Densities in many dimensions are tiny or huge: the logarithms may be $\pm 150$, whose exponentials float32 does not hold. This is the heart of the sources' exercise. Derive (4) on paper first; the steps are folded below.
#
# <details><summary>The proof in steps</summary>
#
# 1. The place is uniform: $p(d = i) = \frac1N$.
# 2. Given $d = i$, the candidates are independent, $x_i$ from $p(x\mid c)$ and the others from $p(x)$: $p(X \mid d = i, c) = p(x_i \mid c)\prod_{l\ne i}p(x_l)$.
# 3. Write the product over all $l$ and divide by the factor too many: $\prod_{l\ne i}p(x_l) = \frac{1}{p(x_i)}\prod_l p(x_l)$.
# 4. Bayes: divide by the sum over $j$ of the same. The $\frac1N$ and $\prod_l p(x_l)$ are in every term and cancel.
# 5. What is left is $\frac{p(x_i\mid c)}{p(x_i)}$ over the sum of these ratios.
# 6. The model says $\frac{f(x_i, c)}{\sum_j f(x_j, c)}$. The loss is least where the two are equal for every line-up, by (5). Then $\frac{f(x_i, c)}{f(x_j, c)}$ is the ratio of the two density ratios. Fix $x_j$: $f(x, c) = a(c)\,\frac{p(x\mid c)}{p(x)}$.
# </details>


# %%
# Exercise 1.3 · prove · 25 min · difficulty 3 of 5
# Teaches why the best critic is a density ratio: the true posterior of a line-up.
def my_posterior(log_conditional, log_marginal):
    """p(d = i | X, c). log p(x_i | c) (N,), log p(x_i) (N,) -> (N,), sums to 1"""
    ### BEGIN SOLUTION
    return torch.softmax(log_conditional - log_marginal, dim=0)
    ### END SOLUTION


my_posterior = check("infonce.posterior", my_posterior).use
# hint("infonce.posterior")

# %% [markdown]
# A probability can be put to the test. Hold 20,000 line-ups, and among all the times you said "70 %", count how often the candidate was the real one. The dots should lie on the line.

# %%
world, N = Gaussians(1, correlation=0.9), 6
x, c = world.sample(budget(cpu=20_000, quick=2000), generator)
others = torch.randn(len(x), N - 1, generator=generator, device=device)  # impostors, from p(x)
line_ups = torch.cat([x, others], dim=1)  # (L, N), the real one in place 0
log_conditional = Normal(0.9 * c, math.sqrt(1 - 0.9**2)).log_prob(line_ups)
log_marginal = Normal(0.0, 1.0).log_prob(line_ups)
believed = torch.stack([my_posterior(a, b) for a, b in zip(log_conditional, log_marginal)]).cpu()  # (L, N)
real = torch.zeros(believed.shape)
real[:, 0] = 1
figure, ax = plt.subplots(figsize=(4, 3))
bins = (believed.flatten() * 10).long().clamp(0, 9)
share = [real.flatten()[bins == k].mean() for k in range(10)]
ax.plot([believed.flatten()[bins == k].mean() for k in range(10)], share, "o", color=plot.BLUE)
ax.axline((0, 0), slope=1, color="#777777", linewidth=0.8, linestyle="--")
ax.set(xlabel="probability you gave", ylabel="share that was real")
plt.show()

# %% [markdown]
# ## 1.4 The bound
#
# From a table of scores, rows are contexts and the real ones stand on the diagonal, to a certified amount of information: a number, in nats. Scores may be $\pm 100$.
#
# <details><summary>Why it is a bound, in steps</summary>
#
# 1. Let $w = N q(d = 1\mid X, c)$, the belief in the real one against a blind guess. Then $\mathbb E\log w = \log N - \mathcal L_N$.
# 2. If all candidates came from $p(x)$, no place would be special, so $\mathbb E[w] = 1$.
# 3. Real line-ups are more likely than those by the factor $r = p(x_1\mid c)/p(x_1)$. So $\mathbb E_{\text{real}}[w/r] = \mathbb E_{\text{no real one}}[w] = 1$.
# 4. The logarithm is concave: $\mathbb E_{\text{real}}\log\frac wr \le \log \mathbb E_{\text{real}}\frac wr = 0$.
# 5. So $\mathbb E\log w \le \mathbb E\log r = I(x; c)$.
# </details>


# %%
# Exercise 1.4 · implement · 10 min · difficulty 2 of 5
# Teaches to turn a loss into a statement about information, and to keep units and signs straight.
def my_bound(scores):
    """log N - loss, in nats. (N, N) -> scalar"""
    ### BEGIN SOLUTION
    n = len(scores)
    return math.log(n) - F.cross_entropy(scores, torch.arange(n, device=scores.device))
    ### END SOLUTION


my_bound = check("infonce.bound", my_bound).use
# hint("infonce.bound")

# %% [markdown]
# ## 1.5 How many candidates?
#
# A world with exactly 4.5 nats of mutual information, and the best critic there is. What is the smallest number $N$ of candidates with which the bound could possibly reach 4.5 nats? Decide, then run the next cell.

# %%
# Exercise 1.5 · predict · 5 min · difficulty 2 of 5
# Teaches the ceiling of the bound: a whole number.
### BEGIN SOLUTION
fewest = 91
### END SOLUTION
fewest = check("infonce.candidates", fewest).use
# hint("infonce.candidates")

# %%
world = Gaussians(10, mutual_information=4.5)
for n in (32, fewest, 4 * fewest, 16 * fewest):
    tables = (world.log_ratios(*world.sample(n, generator)) for _ in range(4))
    found = sum(float(my_bound(t)) for t in tables) / 4
    print(f"N = {n:5}: ceiling {math.log(n):.2f}, bound with the exact ratio {found:.2f} of 4.5 nats")

# %% [markdown]
# The ceiling is necessary and not sufficient: at $N = e^I$ the bound would reach $I$ only for a critic that never errs.
#
# ## 1.6 Chosen minus true
#
# The gradient of the loss of 1.1 with respect to the table of similarities $s_{ij} = q_i^\top k_j$, before they are divided by the temperature. By hand, without autograd. It stays finite where $s_{ij}/\tau$ reaches $\pm 100$.
#
# <details><summary>The proof in steps</summary>
#
# 1. Row $i$ of the loss: $-\ell_{ii} + \log\sum_k e^{\ell_{ik}}$ with $\ell_{ij} = s_{ij}/\tau$.
# 2. $\frac{\partial}{\partial\ell_{ij}}\log\sum_k e^{\ell_{ik}} = \frac{e^{\ell_{ij}}}{\sum_k e^{\ell_{ik}}} = q_{ij}$: the inner derivative of the sum leaves one term.
# 3. $\frac{\partial}{\partial\ell_{ij}}(-\ell_{ii}) = -\delta_{ij}$.
# 4. The chain rule brings $\frac{\partial\ell_{ij}}{\partial s_{ij}} = \frac1\tau$, the mean over rows $\frac1B$.
# </details>


# %%
# Exercise 1.6 · prove · 15 min · difficulty 3 of 5
# Teaches where the pull on every pair comes from, and what the temperature does to its size.
def my_gradient(similarity, temperature):
    """dL / dsimilarity by hand. (B, B), tau > 0 -> (B, B)"""
    ### BEGIN SOLUTION
    b = len(similarity)
    chosen = (similarity / temperature).softmax(dim=1)  # (B, B)
    return (chosen - torch.eye(b, device=similarity.device)) / (b * temperature)
    ### END SOLUTION


my_gradient = check("infonce.gradient", my_gradient).use
# hint("infonce.gradient")

# %% [markdown]
# Each row of the gradient sums to zero. Which of the lesson's findings is that?

# %%
print("row sums:", [round(x, 6) for x in my_gradient(torch.rand(5, 5), 0.2).sum(dim=1).tolist()])

# %% [markdown]
# ## 1.7 Too cold
#
# By (14) the push on the $M$ negatives of one query is shared out by a softmax. How many of them does the loss listen to? If $K$ negatives had equal shares and all others none, the answer should be $K$. The *exponential of the entropy* of the shares has this property. At $\tau = 0.005$ some shares are 0 in float32; they count nothing, and the result stays a number.


# %%
# Exercise 1.7 · break · 20 min · difficulty 3 of 5
# Teaches what the temperature chooses, and where a plain p log p breaks.
def my_effective_negatives(negatives, temperature):
    """exp(entropy) of the shares of the push. scores of the negatives (M,), tau > 0 -> a number in [1, M]"""
    ### BEGIN SOLUTION
    log_share = torch.log_softmax(negatives / temperature, dim=0)  # (M,)
    return (-(log_share.exp() * log_share).sum()).exp()
    ### END SOLUTION


my_effective_negatives = check("infonce.effective_negatives", my_effective_negatives).use
# hint("infonce.effective_negatives")

# %% [markdown]
# Now break it. Below, 1,000 negatives, of which one is *false*: a near copy of the query. Watch two curves as the temperature falls: how many negatives are heard, and how much of the push goes to the false one. Explain in a sentence each: (a) why training at $\tau = 0.01$ is noisy, (b) why a data set with duplicates wants a warmer loss, (c) what a temperature of 1 wastes.

# %%
query = F.normalize(torch.randn(16, generator=generator, device=device), dim=0)
crowd = F.normalize(torch.randn(1000, 16, generator=generator, device=device), dim=1)
crowd[0] = F.normalize(query + 0.1 * torch.randn(16, generator=generator, device=device), dim=0)  # the false negative
scores = crowd @ query  # (1000,)
taus = torch.logspace(-2, 0.5, 40)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8))
left.loglog(taus, [float(my_effective_negatives(scores, float(t))) for t in taus], color=plot.BLUE)
left.set(xlabel="temperature τ", ylabel="negatives heard, of 1,000")
right.semilogx(taus, [float((scores / float(t)).softmax(dim=0)[0]) for t in taus], color=plot.RED)
right.set(xlabel="temperature τ", ylabel="share of the false negative")
plt.show()

# %% [markdown]
# ## 1.8 A world of your own

# %%
# Exercise 1.8 · explore · 20 min · difficulty 3 of 5
# How many candidates does it take to certify nine tenths of the information? Choose the worlds: dimensions and nats.
### BEGIN SOLUTION
worlds = [Gaussians(dim, mutual_information=nats) for dim, nats in ((1, 2.0), (20, 2.0), (20, 4.0))]
### END SOLUTION
if worlds is not ...:
    figure, ax = plt.subplots(figsize=(8, 3))
    sizes = [2**k for k in range(1, budget(cpu=12, quick=8))]
    for world in worlds:
        bounds = []
        for n in sizes:
            tables = [world.log_ratios(*world.sample(n, generator)) for _ in range(max(2, 4096 // n))]
            bounds.append(sum(float(my_bound(t)) for t in tables) / len(tables) / world.mutual_information)
        ax.plot(sizes, bounds, "o-", label=f"D = {world.dim}, I = {world.mutual_information:.1f} nats")
    plot.line(ax, 0.9, "nine tenths")
    ax.set(xlabel="candidates N", ylabel="bound / mutual information", ylim=(0, 1.05))
    ax.set_xscale("log", base=2)
    ax.legend()
    plt.show()

# %% [markdown]
# **Rubric.** A good answer (a) changes one thing at a time, nats at fixed dimension and dimension at fixed nats, (b) compares the $N$ it finds with $e^I$ and says why more is needed, (c) repeats a point with another seed before it believes a small difference, (d) says what this means for somebody who reports a mutual information measured with a batch of 256.

# %%
progress()
