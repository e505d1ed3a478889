# %% [markdown]
# # 01 · InfoNCE: from guessing the real partner to a density ratio and a bound on information
#
# **You derive** the loss as a guess among candidates, the density ratio that its best guesser knows, the bound $I \ge \log N - \mathcal L$ and its ceiling, the gradient, and what the temperature does.
#
# **You train** critics on Gaussians whose density ratio and mutual information are known exactly, and find a representation that gets worse while its bound gets better.
#
# After this lesson you can
# - write InfoNCE from memory, in its in-batch form and with $M$ chosen negatives;
# - say what a perfectly trained critic has learnt, and what no training can teach it;
# - tell how many candidates it takes to certify a given amount of information;
# - read the gradient of a softmax loss, and choose a temperature knowing what it does to hard negatives;
# - explain why a tighter bound need not mean a better representation.
#
# *Before this:* [the start page](00_start.ipynb). *Papers:* Oord et al. 2018 (CPC); Poole et al. 2019 (bounds on mutual information); Tschannen et al. 2020 (the puzzle at the end).

# %%
from minilip.course import *

device = setup("01_infonce")

# %%
import math

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical, Normal, kl_divergence

from minilip.course import plot
from minilip.data.gaussians import Gaussians
from minilip.infonce import info_nce, info_nce_negatives, info_nce_tiled, mi_lower_bound
from minilip.training import fit
from minilip.course.widgets import panel

SEEDS = range(budget(cpu=3, quick=1))
generator = torch.Generator(device).manual_seed(1)

# %% [markdown]
# ## 1. A question
#
# You hear the first bars of a song. Then you hear eight possible continuations, and one of them is real. Which one?
#
# You need no theory of music for it, and you could not have composed the continuation yourself. You have to know one thing: how much better each candidate fits these bars than it fits music in general.
#
# Here is the same question with numbers in place of songs. On the left, each dot is a pair of a *context* $c$ and what followed, $x$. Somebody fixes a context (the line) and puts eight candidates on it. One was drawn from what follows that context, seven were drawn from anywhere.

# %%
line_up = Gaussians(1, correlation=0.9)
x, c = (v[:, 0].cpu() for v in line_up.sample(400, generator))
context = torch.tensor(1.2)
candidates = torch.tensor([-1.3, 0.1, 1.1, -0.8, 2.3, 0.6, -2.0, -0.35])  # the third is real
chance = torch.softmax(line_up.log_ratios(candidates[:, None], context[None, None])[0], dim=0)  # section 4.2 says why

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
left.scatter(c, x, s=6, color=plot.SKY, label="pairs that occur")
left.axvline(context, color="#777777", linewidth=0.8)
left.scatter(context.expand(8), candidates, s=18, color=plot.BLACK, zorder=3, label="eight candidates")
for i, value in enumerate(candidates):
    left.annotate(f"   {i + 1}", (context, value), fontsize=9, va="center")
left.set(xlabel="context c", ylabel="x, what followed", xlim=(-3.6, 3.6))
left.legend(loc="upper left")
right.bar(range(1, 9), chance, color=[plot.ORANGE if i == 2 else plot.BLUE for i in range(8)])
plot.line(right, 1 / 8, "blind guess")
right.set(xlabel="candidate (orange: the real one)", ylabel="chance that it is the real one", xticks=range(1, 9))
plt.show()

# %% [markdown]
# The bars on the right are the best anybody can do. Candidate 6 fits the context too, so it gets a share. Candidate 5 fits it a little and is rare, which speaks for it as well.
#
# Two questions drive this lesson. Can a network learn these bars when it sees nothing but pairs? And if it can, what has it learnt about the world?
#
# ## 2. A first guess, and how it fails
#
# What comes to mind first is to predict what follows: fit a model of $p(x\mid c)$. Let us ask what such a model would spend its effort on. We add to each $x$ nineteen coordinates of noise, as a photograph adds the texture of the grass. A model of $x$ has to describe all twenty.

# %%
x, c = line_up.sample(5000, generator)
noise = torch.randn(5000, 19, generator=generator, device=device)
for unit, name in ((1.0, "metres"), (1000.0, "millimetres")):  # the same x, measured with another ruler
    far, near = Normal(0.0, unit), Normal(unit * 0.9 * c, unit * math.sqrt(1 - 0.9**2))
    of_noise = -far.log_prob(unit * noise).sum(dim=1).mean()
    without_c, with_c = (-d.log_prob(unit * x).sum(dim=1).mean() + of_noise for d in (far, near))
    print(f"x in {name:11}: the loss of the best model is {without_c:6.2f} nats; knowing c, {with_c:6.2f}")
    print(f"{'':17}the difference is {without_c - with_c:.2f}")

# %% [markdown]
# (A *nat* is a unit of information: 1 nat is $1/\ln 2 \approx 1.44$ bits.) The size of such a loss means little, because a density depends on the unit of $x$: in millimetres each of the twenty coordinates costs $\ln 1000$ more. But two things hold in every unit. Nineteen of the twenty terms that a model of $x$ has to get right know nothing of $c$. And the *difference* that $c$ makes stays the same: 0.83 nats. The slides put it like this: modelling $p(x \mid c)$ often learns complex, low-level information that is of no use later. The difference, what $c$ tells about $x$, has a name, the *mutual information*:
#
# $$I(x; c) = \mathbb E_{p(x, c)} \log \frac{p(x \mid c)}{p(x)}. \tag{1}$$
#
# It contains no $p(x \mid c)$ by itself, only a *ratio* of two densities. Whatever is as likely with the context as without cancels.

# %%
# check (1): entropies of a Gaussian from its covariance on the left, the mean log ratio of a million pairs on the right
covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.double)
left = (torch.logdet(covariance[:1, :1]) + torch.logdet(covariance[1:, 1:]) - torch.logdet(covariance)) / 2
right = line_up.log_ratio(*line_up.sample(1_000_000, generator)).mean()
same("(1)", left, right, tolerance=0.005)
same("(1), and what the library says", left, line_up.mutual_information)

# %% [markdown]
# ## 3. The idea
#
# > Do not describe what follows. Recognise it among impostors.
#
# A network, the *critic*, gives each candidate a score $s(x, c)$. The scores of the $N$ candidates become probabilities. We train it as a classifier with $N$ classes, where the class is the place of the real one. In one line of mathematics and in one line of code,
#
# $$\text{candidate } i \text{ is the real one with probability } \frac{e^{s(x_i, c)}}{\sum_j e^{s(x_j, c)}}, \qquad \texttt{cross\_entropy(scores, place\_of\_the\_real\_one)}.$$
#
# Noise in $x$ does not help to tell real from impostor, so nothing rewards learning it. Oord et al. build *Contrastive Predictive Coding* (CPC) on this: an encoder turns observations into $z_t = g_{\text{enc}}(x_t)$, a second network sums up the past, $c_t = g_{\text{ar}}(z_{\le t})$, and the score of a future $k$ steps ahead is $s = z_{t+k}^\top W_k\, c_t$. Lesson 02 trains it. Here we ask what the loss itself does.
#
# ## 4. Derivation
#
# Letters: $X = \{x_1, \dots, x_N\}$ the candidates, $N$ of them, one real; $d$ the place of the real one; $c$ the context; $f(x, c) = e^{s(x, c)} > 0$ the critic; $q$ what the model believes, $p$ what is true; $\pi$ where impostors come from; $M = N - 1$ negatives; $\tau$ the temperature. Where a score is a dot product, $u$ is the *query* made of the context, $k_i$ the *key* made of candidate $i$.
#
# ### 4.1 What the model believes
#
# $$q(d = i \mid X, c) = \frac{f(x_i, c)}{\sum_{j=1}^N f(x_j, c)}, \qquad
#   \mathcal L_N = -\,\mathbb E \log q(d \mid X, c). \tag{2}$$
#
# This is *InfoNCE*: a cross-entropy, and nothing else. In practice nobody draws impostors. Take $B$ real pairs; for the context of pair $i$, the $x$ of the other pairs were drawn without looking at it. So one table of $B\times B$ scores holds $B$ line-ups with $N = B$ candidates each, and the real ones stand on the diagonal.

# %%
# check (2): a loop over line-ups on the left, the library on the right
contexts, futures = (torch.randn(6, 4, dtype=torch.double) for _ in range(2))
total = 0.0
for i in range(6):
    f = [math.exp(float(contexts[i] @ futures[j])) for j in range(6)]
    total -= math.log(f[i] / sum(f))
same("(2)", total / 6, info_nce(contexts, futures, temperature=1.0))

# %% [markdown]
# ### 4.2 What is true
#
# How was a line-up made? A place $d$ was drawn uniformly from $1, \dots, N$. The candidate there was drawn from $p(x \mid c)$, all the others from $p(x)$. Written as a probability,
#
# $$p(d = i, X \mid c) = \frac1N\; p(x_i \mid c) \prod_{l \ne i} p(x_l). \tag{3}$$
#
# Bayes' rule turns it round. The trick is to divide numerator and denominator by $\prod_l p(x_l)$, which contains every candidate. In the product over $l \ne i$ one factor is missing, and it stays behind as a denominator:
#
# $$p(d = i \mid X, c) = \frac{p(x_i \mid c) \prod_{l \ne i} p(x_l)}{\sum_j p(x_j \mid c) \prod_{l \ne j} p(x_l)}
#   = \frac{p(x_i \mid c) \,/\, p(x_i)}{\sum_{j=1}^N p(x_j \mid c) \,/\, p(x_j)}. \tag{4}$$
#
# These are the bars of the first picture. (On the slide that repeats this result, the $p(x_i)$ under the numerator is lost. It belongs there: without it a common candidate would be taken for a fitting one.)

# %%
# check (3): two million line-ups made as described on the left, counted; the product of probabilities on the right
dice = torch.Generator().manual_seed(3)
p_x, p_x_c = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.1, 0.2, 0.7]).double()  # one context, N = 2
rounds = 2_000_000
place = torch.randint(2, (rounds,), generator=dice)
real, impostor = (p.multinomial(rounds, replacement=True, generator=dice) for p in (p_x_c, p_x))
first, second = torch.where(place == 0, real, impostor), torch.where(place == 0, impostor, real)
counted = torch.bincount(9 * place + 3 * first + second, minlength=18).view(2, 3, 3) / rounds  # (d, x_1, x_2)
same("(3)", counted, torch.stack([torch.outer(p_x_c, p_x), torch.outer(p_x, p_x_c)]) / 2, tolerance=0.01)

# check (4): Bayes' rule with full densities on the left, a softmax of log ratios on the right
world = Gaussians(3, correlation=0.7)
X, c = (v.double() for v in world.sample(5, torch.Generator().manual_seed(0)))
c = c[0]  # (3,) one context, five candidates
marginal, conditional = Normal(torch.zeros(3).double(), 1.0), Normal(0.7 * c, math.sqrt(1 - 0.49))
joint = torch.stack(
    [
        sum((conditional if l == i else marginal).log_prob(X[l]).sum() for l in range(5)).exp() / 5
        for i in range(5)
    ]
)  # (5,) p(d = i, X | c)
same("(4)", joint / joint.sum(), torch.softmax(world.log_ratios(X, c[None])[0], dim=0))

# %% [markdown]
# ### 4.3 The best critic is a density ratio
#
# This is the exercise of the slides. We show it in three steps.
#
# *Step 1: split the loss.* For one line-up $(X, c)$, the expected loss is a cross-entropy between the true $p$ of (4) and the model's $q$ of (2). Add and subtract $\log p$:
#
# $$-\sum_i p_i \log q_i = \underbrace{-\sum_i p_i\log p_i}_{\text{entropy of } p} + \underbrace{\sum_i p_i \log\frac{p_i}{q_i}}_{\mathrm{KL}(p \,\|\, q)\,\ge\,0}. \tag{5}$$
#
# Why is the second term, the *Kullback-Leibler divergence*, never negative? Because a logarithm lies below its tangent at 1: $\log r \le r - 1$, with equality at $r = 1$ alone. Both $p$ and $q$ sum to 1, so $\sum_i p_i\,(q_i/p_i - 1) = 0$ may be added, and then every summand is at least 0:
#
# $$\mathrm{KL}(p \,\|\, q) = \sum_i p_i \Big(\frac{q_i}{p_i} - 1 - \log\frac{q_i}{p_i}\Big) \ge 0. \tag{5'}$$
#
# The critic has a say in this term only. It is zero where $q = p$ and positive elsewhere. So a critic that reaches $q = p$ for every line-up is best, and every best one does.
#
# *Step 2: compare two candidates.* Where $q = p$, the ratio $q_i / q_j$ equals $p_i / p_j$. The sums over candidates cancel in both:
#
# $$\frac{f(x_i, c)}{f(x_j, c)} = \frac{p(x_i \mid c)/p(x_i)}{p(x_j \mid c)/p(x_j)}.$$
#
# *Step 3: hold $x_j$ fixed and let $x_i$ vary.* Everything that contains $x_j$ becomes a factor that does not depend on $x_i$. It may depend on the context. Call it $a(c)$:
#
# $$f^\star(x, c) = a(c)\, \frac{p(x \mid c)}{p(x)}, \qquad a(c) > 0 \text{ arbitrary}. \tag{6}$$
#
# That is the meaning of the slides' $f \propto p(x\mid c)/p(x)$: proportional *for each context*. A row of the table may be shifted by any $\log a(c)$ and no loss will ever notice. A shift $b(x)$ for each candidate does change the loss.
#
# **Where the impostors come from.** The slides call $p(x)$ in this place the *proposal* distribution. It is a choice. Draw the impostors from any $\pi(x)$ that can produce every $x$: then $\pi(x_l)$ stands for $p(x_l)$ in (3), nothing else in the three steps changes, and the best critic is
#
# $$f^\star(x, c) = a(c)\, \frac{p(x \mid c)}{\pi(x)}. \tag{6'}$$
#
# Other pictures of the batch give $\pi = p$, and the ratio whose mean logarithm is the information (1). Impostors from the same recording give $\pi(x) = p(x \mid \text{recording})$: whatever the whole recording shares, its speaker for instance, stands above and below the line and cancels, so no critic is paid for knowing it. Hard negatives are one more $\pi$. Who changes the impostors changes what is learnt (lesson 02 tries it).
#
# The idea is older than its use for representations. *Noise-contrastive estimation* (Gutmann and Hyvärinen 2010) fits a density by telling data from noise whose density is known: ask of one $x$ at a time whether it is data or one of $M$ noise samples, and the best log-odds are $\log\frac{p(x)}{M\,\pi(x)}$. There the absolute height of the critic is determined, since a yes-or-no question has nothing to cancel it. Choosing one among $N$ cancels $a(c)$. Lesson 07's sigmoid loss goes back to yes or no.

# %%
# check (5): the model's loss on the left; entropy and divergence of torch.distributions on the right
p = Categorical(probs=joint / joint.sum())
q = Categorical(logits=torch.randn(5, dtype=torch.double))  # any critic
same("(5)", -(p.probs * q.logits).sum(), p.entropy() + kl_divergence(p, q))
r = q.probs / p.probs
summands = p.probs * (r - 1 - r.log())
same("(5')", kl_divergence(p, q), summands.sum())
print(f"smallest of its summands: {summands.min():.4f}")

# check (6): at the ratio, shifted by any constant, the expected loss is flat; (3) and Bayes' rule give the true p
for a_c in (0.0, 3.7):
    logits = (world.log_ratios(X, c[None])[0] + a_c).requires_grad_()
    slope = torch.autograd.grad(-(p.probs * logits.log_softmax(dim=0)).sum(), logits)[0]
    same(f"(6) log a(c) = {a_c}, slope", slope, torch.zeros(5))
shifted = (world.log_ratios(X, c[None])[0] + torch.randn(5)).requires_grad_()
slope = torch.autograd.grad(-(p.probs * shifted.log_softmax(dim=0)).sum(), shifted)[0]
print(f"shifted for each candidate: a slope of up to {slope.abs().max():.2f}, no longer flat")

# check (6'): impostors from a wide proposal; Bayes' rule on the left, p(x | c) / pi(x) on the right
proposal = Normal(torch.full((3,), 0.4).double(), 2.0)
posterior = torch.stack(
    [sum((conditional if l == i else proposal).log_prob(X[l]).sum() for l in range(5)) for i in range(5)]
).softmax(dim=0)  # (5,)
same("(6')", posterior, torch.softmax((conditional.log_prob(X) - proposal.log_prob(X)).sum(dim=1), dim=0))

# one x at a time, data or one of M = 4 noise samples: Newton's method on the expected yes-or-no loss finds the log-odds
data, noise = p_x_c, p_x
odds = torch.zeros(3).double()
for _ in range(20):
    yes = odds.sigmoid()
    odds = odds - (yes * (data + 4 * noise) - data) / (yes * (1 - yes) * (data + 4 * noise))
same("noise-contrastive estimation", odds, (data / (4 * noise)).log())

# %% [markdown]
# ### 4.4 A bound on mutual information
#
# A guesser who does well must know something about $x$ from $c$. How much, at least? Write $w$ for the model's belief in the real one, measured against a blind guess:
#
# $$w = \frac{q(d = 1 \mid X, c)}{1/N} = \frac{N\,f(x_1, c)}{\sum_j f(x_j, c)}, \qquad \mathbb E \log w = \log N - \mathcal L_N, \tag{7}$$
#
# where, from here on, the real one stands in place 1. We claim that $\mathbb E \log w \le I(x; c)$, whatever the critic.
#
# *Step 1: a line-up without a real one.* Suppose that all $N$ candidates are drawn from $p(x)$. Then no place is special, so every $\mathbb E\,q(d = i \mid X, c)$ is the same. They sum to 1. So each is $1/N$:
#
# $$\mathbb E_{\text{no real one}}[w] = 1. \tag{8}$$
#
# *Step 2: change the distribution.* Line-ups with a real one differ from those without by the distribution of $x_1$ alone: $p(x_1 \mid c)$ in place of $p(x_1)$. Their densities differ by the factor $r = p(x_1 \mid c) / p(x_1)$. So by (8), $Q = \frac wr P$ is a probability distribution, where $P$ is the distribution of real line-ups. (Where a candidate cannot occur at all, $r = 0$: there $Q$ keeps less than all of its mass, which only makes the bound looser.)
#
# *Step 3: a divergence is not negative.* This is (5'), with an integral for the sum; if $Q$ has less than all of its mass, what is missing only adds to it. And $\mathrm{KL}(P \,\|\, Q) = \mathbb E_P \log\frac rw = \mathbb E_P\log r - \mathbb E_P \log w$. The first term is (1), the second is (7):
#
# $$I(x; c) = \log N - \mathcal L_N + \mathrm{KL}(P\,\|\,Q) \;\ge\; \log N - \mathcal L_N. \tag{9}$$
#
# The paper's own derivation replaces a sum over negatives by its expectation, which is right for large $N$. The one above, after Poole et al., is exact for every $N$ and every critic.

# %%
# check (7), (8), (9): a small world with 3 contexts and 4 futures, every line-up of N = 3 enumerated
table = torch.rand(4, 3, dtype=torch.double)
table /= table.sum()  # p(x, c)
p_x, p_c = table.sum(dim=1), table.sum(dim=0)
f = torch.rand(4, 3, dtype=torch.double) + 0.1  # any critic
one, two, three, ctx = torch.meshgrid(*map(torch.arange, (4, 4, 4, 3)), indexing="ij")  # (4, 4, 4, 3) each
w = 3 * f[one, ctx] / (f[one, ctx] + f[two, ctx] + f[three, ctx])
no_real = p_x[one] * p_x[two] * p_x[three] * p_c[ctx]
P = table[one, ctx] * p_x[two] * p_x[three]
same("(8)", (no_real * w).sum(), 1.0)

Q = w * no_real  # (w / r) P
information = kl_divergence(Categorical(probs=table.flatten()), Categorical(probs=torch.outer(p_x, p_c).flatten()))
loss = -sum(
    float(table[a, k] * p_x[b] * p_x[d]) * math.log(float(f[a, k] / (f[a, k] + f[b, k] + f[d, k])))
    for a in range(4) for b in range(4) for d in range(4) for k in range(3)
)
same("(7)", (P * w.log()).sum(), math.log(3) - loss)
same("(9)", information, math.log(3) - loss + (P * (P / Q).log()).sum())

# %% [markdown]
# ### 4.5 The ceiling
#
# A probability is at most 1, so in (7) $w \le N$, and
#
# $$\log N - \mathcal L_N \;\le\; \log N. \tag{10}$$
#
# However much information there is, a line-up of $N$ can certify no more than $\log N$ of it. Who always picks the right one of eight has shown $\log 8 = 2.08$ nats of knowledge, not more: a line-up of eight cannot tell a connoisseur from an expert. To certify $I$ nats it takes at least $N = e^I$ candidates. The slides say that the bound "becomes tighter as $N$ becomes larger". This is why, and it is expensive.

# %%
# check (10): what is missing to log N on the left; a mean of numbers that cannot be negative on the right
x, c = (v.double() for v in Gaussians(3, correlation=0.7).sample(16, torch.Generator().manual_seed(2)))
scores = x @ c.T  # (16, 16) any critic
missing = math.log(16) - mi_lower_bound(F.cross_entropy(scores.T, torch.arange(16)), candidates=16)
surprise = [-math.log(math.exp(scores[i, i]) / sum(math.exp(scores[j, i]) for j in range(16))) for i in range(16)]
same("(10)", missing, sum(surprise) / 16)
print(f"the smallest of the 16: {min(surprise):.3f}")

# two nearly identical signals share far more than log N, and the bound stops at log N
twins = Gaussians(20, correlation=0.99999)
x, c = (v.double() for v in twins.sample(64, torch.Generator().manual_seed(0)))
bound = mi_lower_bound(F.cross_entropy(twins.log_ratios(x, c), torch.arange(64)), candidates=64)
same("(10), where the ceiling is reached", bound, math.log(64))
exists = twins.mutual_information
print(f"while the mutual information is {exists:.1f} nats, which needs N > {math.exp(exists):.0e}")

# %% [markdown]
# ### 4.6 The general form: M negatives and a temperature
#
# Most later methods, from lesson 03 on, write the critic as $f(x, c) = \exp(u^\top k/\tau)$, where an encoder turns the context into a query $u$ and the candidate into a key $k$, both unit vectors. The score is a cosine, which lies between $-1$ and $1$, divided by a *temperature* $\tau > 0$ so that the softmax can be sharp. With one positive key $k^+$ and $M$ negative keys $k^-_1, \dots, k^-_M$,
#
# $$\mathcal L_{\tau, M} = \mathbb E\left[-\log\frac{e^{u^\top k^+/\tau}}{e^{u^\top k^+/\tau} + \sum_{m=1}^{M} e^{u^\top k^-_m/\tau}}\right], \qquad N = M + 1. \tag{11}$$
#
# (The slide writes $f(x)$ and $f(y)$ for $u$ and $k^+$. It has $\exp(\dots)/\tau$ once and lets the sum run to $N$: the temperature belongs inside each exponential, and there are $M$ negatives.)

# %%
# check (11): a race on the left, log(1 + sum exp((negative - positive) / tau)); the library on the right
query, positive = (F.normalize(torch.randn(3, 8, dtype=torch.double), dim=1) for _ in range(2))
negatives = F.normalize(torch.randn(3, 10, 8, dtype=torch.double), dim=2)  # ten for each query
races = [
    math.log1p(sum(math.exp(float(query[b] @ (n - positive[b])) / 0.2) for n in negatives[b])) for b in range(3)
]
same("(11)", sum(races) / 3, info_nce_negatives(query, positive, negatives, temperature=0.2))

# %% [markdown]
# ### 4.7 The gradient: chosen minus true
#
# One line-up with logits $\ell_j = s_j/\tau$, the real one at $i$: $\mathcal L = -\ell_i + \log\sum_k e^{\ell_k}$. The step worth remembering: the derivative of a log-sum-exp is the softmax. So
#
# $$\frac{\partial\mathcal L}{\partial \ell_j} = q_j - \delta_{ij}, \qquad \delta_{ij} = 1 \text{ if } i = j \text{ else } 0, \tag{12}$$
#
# *what the model chose, minus what is true*. With $s_j = u^\top k_j$ for a query $u$ and keys $k_j$, the chain rule gives the pull on the query:
#
# $$-\frac{\partial \mathcal L}{\partial u} = \frac1\tau\Big(k_i - \sum_j q_j\, k_j\Big). \tag{13}$$
#
# The query moves towards its real key and away from the key it expected. When it expects the real one, it rests.

# %%
# check (12), (13): difference quotients on the left, a softmax on the right
tau, i = 0.3, 2
u, *keys = F.normalize(torch.randn(7, 8, dtype=torch.double), dim=1)
keys = torch.stack(keys)  # (6, 8)


def one_loss(logits):
    return math.log(sum(math.exp(float(l)) for l in logits)) - float(logits[i])


logits, step = keys @ u / tau, 1e-6
eye6, eye8 = torch.eye(6, dtype=torch.double), torch.eye(8, dtype=torch.double)
slope = [(one_loss(logits + step * e) - one_loss(logits - step * e)) / (2 * step) for e in eye6]
same("(12)", torch.tensor(slope), logits.softmax(dim=0) - eye6[i], tolerance=1e-6)
pull = [-(one_loss(keys @ (u + step * e) / tau) - one_loss(keys @ (u - step * e) / tau)) / (2 * step) for e in eye8]
same("(13)", torch.tensor(pull), (keys[i] - logits.softmax(dim=0) @ keys) / tau, tolerance=1e-6)

# %% [markdown]
# ### 4.8 What the temperature does
#
# By (12) the negatives are pushed with weights $q_j$. Their shares among each other do not depend on the positive, because it cancels:
#
# $$\frac{q_j}{\sum_{k\ne i} q_k} = \frac{e^{s_j/\tau}}{\sum_{k \ne i} e^{s_k/\tau}}, \qquad j \ne i. \tag{14}$$
#
# It is a softmax over the negatives alone, and $\tau$ sets how sharp it is. At the two ends the loss turns into two old acquaintances. For $\tau\to0$ a log-sum-exp becomes a maximum, and only the hardest negative is left, in a *hinge*:
#
# $$\tau\,\mathcal L \;\xrightarrow{\;\tau\to0\;}\; \max\big(0,\; \max_{j\ne i} s_j - s_i\big). \tag{15}$$
#
# For $\tau \to\infty$ all logits are small. Expand $\log\sum_k e^{s_k/\tau} \approx \log N + \bar s/\tau$, where $\bar s$ is the mean score, and every negative counts the same, however easy it is:
#
# $$\tau\,(\mathcal L - \log N) \;\xrightarrow{\;\tau\to\infty\;}\; \bar s - s_i. \tag{16}$$

# %%
# check (14), (15), (16): losses and gradients of the library on the left, limits written by hand on the right
scores = torch.tensor([[0.3, 0.9, 0.5, -0.2, 0.7]], dtype=torch.double)  # the real one is the first
one = torch.ones(1, 1, dtype=torch.double)


def loss_of(scores, tau):  # vectors of one coordinate, so that a score is the key itself
    return info_nce_negatives(one, scores[:, :1], scores[:, 1:, None], tau)


grown = scores.clone().requires_grad_()
push = torch.autograd.grad(loss_of(grown, 0.2), grown)[0][0, 1:]
same("(14)", push / push.sum(), torch.softmax(scores[0, 1:] / 0.2, dim=0))
same("(15), an impostor leads", 1e-3 * loss_of(scores, 1e-3), max(0.0, 0.9 - 0.3))
same("(15), the real one leads", 1e-3 * loss_of(scores.roll(-1, dims=1), 1e-3), max(0.0, 0.7 - 0.9))
same("(16)", 1e5 * (loss_of(scores, 1e5) - math.log(5)), scores.mean() - 0.3, tolerance=1e-4)

# %% [markdown]
# The picture of (14): 1,000 negatives around a query on the unit sphere. Read it as *who is pushed*. At $\tau = 1$ nearly all of the push goes to the bulk of negatives, which have little to do with the query. At $\tau = 0.05$ it goes to the few that are close.

# %%
cosines = F.normalize(torch.randn(1000, 16, generator=torch.Generator().manual_seed(0)), dim=1)[:, 0].sort().values
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.9))
left.hist(cosines.numpy(), bins=30, color=plot.SKY)
left.set(xlabel="cosine with the query", ylabel="number of negatives")
for tau, colour in ((1.0, plot.BLUE), (0.2, plot.GREEN), (0.05, plot.RED)):
    share = torch.softmax(cosines / tau, dim=0)  # (1000,)
    right.plot(cosines, share.flip(0).cumsum(0).flip(0), color=colour, label=f"τ = {tau}")
right.set(xlabel="cosine with the query", ylabel="share of the push on negatives\nthis close or closer")
right.legend(loc="lower left")
plt.show()

# %% [markdown]
# Cold is not better. A negative that is very close may be a *false* one: another view of the same thing. And a cold loss listens to few negatives, so its gradient is noisy.
#
# ## 5. The method in a few lines
#
# Everything so far, from scratch. The one numerical trick is to take the logarithm of the softmax in one go: $e^{s/\tau}$ overflows float32 at $s/\tau = 89$, which a cosine of 0.9 reaches at $\tau = 0.01$.


# %%
def info_nce_from_scratch(queries, keys, temperature):
    logits = queries @ keys.T / temperature  # (B, B)  row i: context i looks at all candidates
    highest = logits.max(dim=1, keepdim=True).values  # (B, 1)
    log_sum = highest + (logits - highest).exp().sum(dim=1, keepdim=True).log()  # (B, 1)
    log_q = logits - log_sum  # (B, B)  log q(d = j | X, c_i)
    return -log_q.diagonal().mean()  # the real ones stand on the diagonal


queries, keys = (F.normalize(torch.randn(256, 32, device=device), dim=1) for _ in range(2))
same("from scratch, and minilip.infonce", info_nce_from_scratch(queries, keys, 0.01), info_nce(queries, keys, 0.01))

# %%
show(info_nce)

# %% [markdown]
# A table of $B \times B$ scores grows fast: at $B = 32{,}768$ it takes 4 GB, and the gradient takes as much again. But (12) says that the gradient is a softmax, which one row at a time can provide. `info_nce_tiled` keeps `tile` rows in memory and gives the same number and gradient. We use it for large $N$ below.

# %%
same("in tiles", info_nce_tiled(queries, keys, 0.01, tile=50), info_nce(queries, keys, 0.01))

# %% [markdown]
# What does the temperature do to a whole table? **Try this:** twelve queries in four families of three; within a family they resemble each other. Each row of the picture is what one query believes, (2). Pull the temperature down from 1 and look for three stages: everything alike, then blocks (families are told apart, their members are not), then a diagonal. Go on to 0.01. Some rows settle on a single *wrong* key, and the loss rises again.

# %%
mixed = torch.Generator().manual_seed(33)
family = torch.randn(4, 24, generator=mixed).repeat_interleave(3, dim=0)  # (12, 24)
member = family + 0.3 * torch.randn(12, 24, generator=mixed)
asks, answers = (F.normalize(member + 0.4 * torch.randn(12, 24, generator=mixed), dim=1) for _ in range(2))
table = asks @ answers.T  # (12, 12) cosines


def beliefs(tau):
    figure, ax = plt.subplots(figsize=(4, 3.4))
    loss = info_nce(asks, answers, tau)
    plot.matrix(ax, torch.softmax(table / tau, dim=1), title=f"loss {loss:.2f} nats", low=0, high=1)
    ax.set(xlabel="key", ylabel="query", xticks=range(0, 12, 3), yticks=range(0, 12, 3))
    return figure


slider = widgets.FloatLogSlider(value=0.1, min=-2, max=0, step=0.05, description="τ", readout_format=".3f")
panel(beliefs, slider)

# %% [markdown]
# ## 6. Train a critic, and compare it with the truth
#
# Now a world where every answer is known: ten-dimensional Gaussians with exactly 5 nats of mutual information. The critic is a pair of small networks, one for $c$ and one for $x$, and the score is the dot product of what they return. It sees pairs, and no density.

# %%
world = Gaussians(10, mutual_information=5.0)


def mlp(before, after, width=128):
    hidden = nn.Linear(before, width), nn.GELU(), nn.Linear(width, width), nn.GELU()
    return nn.Sequential(*hidden, nn.Linear(width, after))


class Critic(nn.Module):
    def __init__(self, dim=10):
        super().__init__()
        self.of_c, self.of_x = mlp(dim, 32), mlp(dim, 32)

    def scores(self, x, c):
        return self.of_c(c) @ self.of_x(x).T  # (N, N) rows are contexts

    def loss(self, batch):
        x, c = batch
        return info_nce(self.of_c(c), self.of_x(x), temperature=1.0), {}


SIZES, STEPS = budget(cpu=(16, 64, 512), quick=(16, 64)), budget(cpu=500, gpu=2000, quick=4)
critics, histories = {}, {}
for n in SIZES:
    for seed in SEEDS:
        torch.manual_seed(seed)
        critics[n, seed] = Critic().to(device)
        histories[n, seed] = fit(
            critics[n, seed], lambda g, n=n: world.sample(n, g), STEPS, lr=3e-3, weight_decay=0.01, seed=seed,
            label=f"N = {n}, seed {seed}",
        )

# %% [markdown]
# **The density ratio.** By (6) the critic should equal $\log\frac{p(x \mid c)}{p(x)}$ up to a shift for each context. So we subtract from each row of scores its mean, do the same to the exact log ratios, and compare entry by entry. Look for the line where both are equal.


# %%
def centred(table):
    return table - table.mean(dim=1, keepdim=True)


def explained(n, seed, generator):
    """Share of the variance of the exact log ratio, centred by rows, that the critic explains."""
    x, c = world.sample(1000, generator)
    with torch.no_grad():
        learnt, exact = centred(critics[n, seed].scores(x, c)), centred(world.log_ratios(x, c))
    return 1 - float((learnt - exact).square().mean() / exact.square().mean())


best = SIZES[-1]
ratio_fit = {n: [explained(n, s, torch.Generator(device).manual_seed(50 + s)) for s in SEEDS] for n in SIZES}
x, c = world.sample(60, generator)
with torch.no_grad():
    learnt, exact = critics[best, 0].scores(x, c), world.log_ratios(x, c)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), sharex=True)
own = torch.eye(60, dtype=torch.bool, device=device)
for ax, change, title in ((left, lambda t: t, "as they are"), (right, centred, "each row centred")):
    a, b = change(exact).cpu(), change(learnt).cpu()
    ax.scatter(a[~own.cpu()], b[~own.cpu()], s=2, color=plot.SKY, label="impostors")
    ax.scatter(a[own.cpu()], b[own.cpu()], s=10, color=plot.ORANGE, label="real pairs")
    ax.axline((0, 0), slope=1, color="#777777", linewidth=0.8, linestyle="--")
    ax.set(xlabel="exact log ratio (nats)", ylabel="learnt score (nats)", title=title)
right.legend()
plt.show()
print({n: f"{np.mean(v):.3f}" for n, v in ratio_fit.items()}, "of the variance explained, by N")

# %% [markdown]
# On the left, the scores scatter: each context has its own free shift $\log a(c)$. Remove it, and the learnt scores lie along the line. The network was never shown a density, and it has learnt the ratio of two.
#
# **The bound.** First with the exact ratio as the critic, which needs no training and is the best there is, for $N = 2, 4, \dots, 4096$. Its score is a dot product too: with $\rho$ the correlation in each dimension,
#
# $$\log\frac{p(x \mid c)}{p(x)} = \frac{\rho\,c^\top x}{1 - \rho^2} - \frac{\rho^2 \lVert x\rVert^2}{2(1 - \rho^2)} + (\text{a term in } c \text{ alone, which (6) lets us drop}). \tag{17}$$
#
# So `info_nce_tiled` can take it. Then the learnt critics, on fresh pairs.


# %%
def exact_vectors(x, c):
    """Queries and keys whose dot products are (17)."""
    rho = world.correlation
    queries = torch.cat([rho * c / (1 - rho**2), torch.ones_like(c[:, :1])], dim=1)  # (N, D + 1)
    keys = torch.cat([x, -(rho**2) / (2 - 2 * rho**2) * x.square().sum(dim=1, keepdim=True)], dim=1)  # (N, D + 1)
    return queries, keys


# check (17): dot products on the left; densities on the right, both centred by rows
x, c = world.sample(7, generator)
queries, keys = exact_vectors(x, c)
densities = Normal(world.correlation * c[:, None], math.sqrt(1 - world.correlation**2)).log_prob(x).sum(dim=2)  # (7, 7)
marginals = Normal(0.0, 1.0).log_prob(x).sum(dim=1)  # (7,)
same("(17)", centred(queries @ keys.T), centred(densities - marginals), tolerance=1e-4)


def bound(vectors, n, contexts, generator):
    """log N - loss on fresh pairs: (mean, standard error)."""
    losses = []
    for _ in range(max(4, contexts // n)):
        with torch.no_grad():
            losses.append(float(info_nce_tiled(*vectors(*world.sample(n, generator)), 1.0, tile=128)))
    return mi_lower_bound(np.mean(losses), n), np.std(losses, ddof=1) / len(losses) ** 0.5


NS = [2**k for k in range(1, budget(cpu=13, quick=9))]
exact_bound = {n: bound(exact_vectors, n, 16384, torch.Generator(device).manual_seed(8)) for n in NS}
learnt_bound = {
    n: [
        bound(lambda x, c: (m.of_c(c), m.of_x(x)), n, 8192, torch.Generator(device).manual_seed(9))[0]
        for m in (critics[n, s] for s in SEEDS)
    ]
    for n in SIZES
}
figure, ax = plt.subplots(figsize=(8, 3.4))
ax.axhline(world.mutual_information, color=plot.BLACK, label="exact mutual information")
ax.plot(NS, [math.log(n) for n in NS], "--", color="#777777", label="ceiling log N")
ax.plot(NS, [exact_bound[n][0] for n in NS], "o-", color=plot.BLUE, label="bound, exact ratio as critic")
for n in SIZES:
    name = "bound, learnt critic" if n == 16 else None
    ax.plot([n] * len(SEEDS), learnt_bound[n], "x", color=plot.RED, markersize=8, zorder=3, label=name)
ax.set(xlabel="candidates N", ylabel="nats", ylim=(0, 6.5))
ax.set_xscale("log", base=2)
ax.legend(loc="lower right")
plt.show()

# %% [markdown]
# Read the figure from the left. As long as $\log N$ is small the bound hugs its ceiling: it says more about $N$ than about the world. Near $N = e^5 \approx 148$ the ceiling crosses the truth, and the bound is still a nat below both. It creeps up, and at $N = 4096$ it is nearly there. The crosses are the learnt critics: training costs a little more.
#
# ## 7. The puzzle: is a tighter bound a better representation?
#
# Here is a tempting story. InfoNCE maximises a lower bound on mutual information. Representations that keep much information are good. So the tighter the bound, the better the representation. Each sentence sounds right. Tschannen et al. tested the story, and so can we.
#
# **The first doubt.** Mutual information does not change under an invertible map: whatever can be undone loses nothing. Take three shared latents $u$. Scramble them by a few invertible layers, each a rotation and a leaky ReLU that bends space. How well can a *linear probe*, a linear regression on the scrambled vector, read $u$?

# %%
hidden = Gaussians(3, mutual_information=3.0)
rotations = [torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(40 + k)))[0] for k in range(9)]
rotations = [r.to(device) for r in rotations]


def scramble(u, layers):
    for r in rotations[:layers]:
        u = 1.6 * F.leaky_relu(u @ r, 0.2) - 0.5
    return u


def unscramble(x, layers):
    for r in reversed(rotations[:layers]):
        x = (x + 0.5) / 1.6
        x = torch.where(x > 0, x, x / 0.2) @ r.T
    return x


def readable(representation, u, test_representation, test_u):
    """R2 of a linear probe: 1 reads the latents exactly, 0 does no better than their mean."""
    ones = torch.ones_like(u[:, :1])
    weights = torch.linalg.lstsq(torch.cat([representation, ones], dim=1), u).solution
    guess = torch.cat([test_representation, ones], dim=1) @ weights
    return 1 - float((guess - test_u).square().mean() / test_u.var(dim=0).mean())


u = hidden.sample(4000, generator)[0]
test_u = hidden.sample(4000, generator)[0]
LAYERS, TRAINED_ON = range(9), (0, 4, 8)
probes = [readable(scramble(u, k), u, scramble(test_u, k), test_u) for k in LAYERS]


def certified(critic, layers, n=256, batches=20):
    """The bound of a trained critic on fresh scrambled pairs, N = n."""
    fresh = torch.Generator(device).manual_seed(78)
    with torch.no_grad():
        losses = [float(critic.loss([scramble(v, layers) for v in hidden.sample(n, fresh)])[0]) for _ in range(batches)]
    return mi_lower_bound(np.mean(losses), n)


known = {}  # layers -> the bound of one critic a seed
for k in TRAINED_ON:
    for seed in SEEDS:
        torch.manual_seed(seed)
        critic = Critic(3).to(device)
        fit(
            critic, lambda g, k=k: [scramble(v, k) for v in hidden.sample(64, g)], STEPS, lr=3e-3, weight_decay=0.01,
            seed=seed, label=f"{k} layers, seed {seed}",
        )
        known.setdefault(k, []).append(certified(critic, k))
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.7))
left.plot([k for k in known for _ in known[k]], [v for k in known for v in known[k]], "x", color=plot.BLUE)
left.set(xlabel="invertible layers", ylabel="bound of a trained critic (nats)", ylim=(0, 3.6), xlim=(-0.4, 8.4))
left.axhline(3.0, color="#777777", linewidth=0.8, linestyle="--", label="exact mutual information")
left.legend(loc="lower left")
right.plot(LAYERS, probes, "o-", color=plot.RED)
right.set(xlabel="invertible layers", ylabel="linear probe of the latents, R²", ylim=(0, 1.05))
plt.show()

# %% [markdown]
# All nine representations hold the same information, the dashed line: that is a theorem, and no measurement of ours. On the right, a linear reader finds all of the latents in the first and about half of them in the last. So the *amount* of information cannot be what makes a representation good. What counts is how it is laid out.
#
# The crosses on the left are a warning beside it. Critics of one size and one length of training certify less and less of those 3 nats, the more has to be undone. What a trained bound measures is how much *this critic* could use, and that too depends on the layout.
#
# **The second doubt.** Then what lays it out well? We train encoders on the scrambled pairs (five layers), and change the critic that stands on top:
# - *distance*: $s = -\lVert z - z'\rVert^2$, nothing to learn. It is trained with 32 or with only 4 candidates;
# - *bilinear*: $s = z^\top W z'$, as in CPC;
# - *separable*: a network on $z$, a network on $z'$, a dot product;
# - *concatenated*: one network that reads $z$ and $z'$ together, the most powerful.
#
# The encoder is always the same network, with three outputs or with eight, and every step sees 32 pairs. One care is needed when the bounds are compared: by (10) a bound measured with 4 candidates is low because of the 4, whatever was learnt. So however a critic was *trained*, its bound is *measured* with $N = 256$ candidates, whose ceiling of 5.5 nats is far above the 3 that exist.


# %%
class Pair(nn.Module):
    def __init__(self, kind, candidates, dim):
        super().__init__()
        self.kind, self.candidates, self.dim, self.encode = kind, candidates, dim, mlp(3, dim)
        if kind == "bilinear":
            self.W = nn.Linear(dim, dim, bias=False)
        if kind == "separable":
            self.a, self.b = mlp(dim, 32), mlp(dim, 32)
        if kind == "concatenated":  # the first layer of a network on (z, z') is a sum of two
            self.a, self.b, self.top = nn.Linear(dim, 128), nn.Linear(dim, 128), nn.Sequential(nn.GELU(), mlp(128, 1))

    def scores(self, z, y):  # (..., N, D) candidates and (..., N, D) contexts -> (..., N, N)
        if self.kind == "distance":
            return -(y.unsqueeze(-2) - z.unsqueeze(-3)).square().sum(dim=-1)
        if self.kind == "bilinear":
            return self.W(y) @ z.mT
        if self.kind == "separable":
            return self.b(y) @ self.a(z).mT
        return self.top(self.b(y).unsqueeze(-2) + self.a(z).unsqueeze(-3)).squeeze(-1)

    def loss(self, batch, candidates=None):
        n = candidates or self.candidates
        z, y = (self.encode(v).view(-1, n, self.dim) for v in batch)  # (B / N, N, D)
        scores = self.scores(z, y).flatten(0, 1)  # (B, N)
        return F.cross_entropy(scores, torch.arange(n, device=scores.device).repeat(len(z))), {}


def scrambled_pairs(generator, n=32):
    return tuple(scramble(v, 5) for v in hidden.sample(n, generator))


KINDS = [("distance", 4), ("distance", 32), ("bilinear", 32), ("separable", 32), ("concatenated", 32)]
WIDTHS, JUDGED_AT = (3, 8), 256
PUZZLE_STEPS = budget(cpu=800, gpu=3000, quick=3)
puzzle = {}  # (kind, N in training, outputs) -> one (bound at N = 256, R2) a seed
for dim in WIDTHS:
    for kind, n in KINDS:
        for seed in SEEDS:
            torch.manual_seed(seed)
            model = Pair(kind, n, dim).to(device)
            fit(model, scrambled_pairs, PUZZLE_STEPS, seed=seed, label=f"{kind}, N = {n}, {dim} outputs, seed {seed}")
            with torch.no_grad():
                fresh = torch.Generator(device).manual_seed(77)
                losses = [float(model.loss(scrambled_pairs(fresh, JUDGED_AT), JUDGED_AT)[0]) for _ in range(20)]
                z, test_z = model.encode(scramble(u, 5)), model.encode(scramble(test_u, 5))
            row = (mi_lower_bound(np.mean(losses), JUDGED_AT), readable(z, u, test_z, test_u))
            puzzle.setdefault((kind, n, dim), []).append(row)
puzzle = {k: np.array(v) for k, v in puzzle.items()}  # (S, 2)

figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), sharex=True, sharey=True)
for ax, dim in zip(axes, WIDTHS):
    for (kind, n), colour, marker in zip(KINDS, plot.PALETTE, "osD^v"):
        ax.scatter(*puzzle[kind, n, dim].T, s=26, color=colour, marker=marker, label=f"{kind}, trained with {n}")
    plot.line(ax, probes[5], "the scrambled input itself")
    ax.set(xlabel="bound, N = 256 (nats; exact: 3)", title=f"{dim} outputs", ylim=(0, 1))
axes[0].set_ylabel("linear probe of the latents, R²")
axes[0].legend(loc="lower right", fontsize=8)
plt.show()
together = np.concatenate(list(puzzle.values()))  # (models, 2)
trend = np.corrcoef(together.T)[0, 1]
print(f"correlation of bound and probe over {len(together)} models: {trend:+.2f}")

# %% [markdown]
# The story predicts that the dots climb from the lower left to the upper right. On the whole they do: a critic that cannot fit the pairs, such as the bilinear one on three outputs, has a low bound and a bad encoder. Whoever stops there finds the story confirmed.
#
# Now compare the groups that have learnt something. On eight outputs the concatenated critic certifies more than the distance critic that was trained with 4 candidates, and its encoder is no better, rather worse. Against the distance critic trained with 32 its bound is about the same, and its encoder is worse by more than the scatter. A powerful critic can undo the scrambling by itself, so nothing forces the encoder to. The distance critic cannot: the encoder has to lay out the latents so that distances mean something. Among good critics the bound does not say which encoder to take.
#
# Weakness alone is no recipe, though. The bilinear critic is weak too, and on three outputs it ends at the bottom. Look at (17): the exact log ratio has a term in the length of $x$. A difference squared has it; $z^\top W z'$ on three outputs has no room for it, and on eight it has. The critic is a statement about how we want the representation to be used, and it can be the wrong one.
#
# So what is it about InfoNCE that makes good representations, if not the information? Lesson 04 answers with two properties of the layout itself: pairs lie close, and everything together spreads out.
#
# ## 8. Claims
#
# What the papers and the slides say, and what we measured. A difference holds when its mean over seeds exceeds two standard deviations.


# %%
def mean_sd(values, digits=3):
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.{digits}f}"


def beyond_noise(differences):
    return bool(len(differences) > 1 and np.mean(differences) > 2 * np.std(differences, ddof=1))


def bound_and_probe(values):
    return f"{mean_sd(values[:, 0], 2)} nats, R² {mean_sd(values[:, 1])}"


means = np.array([exact_bound[n][0] for n in NS])
gaps = [f"N = {n}: {world.mutual_information - exact_bound[n][0]:.2f}" for n in [*NS[::3], NS[-1]]]
highest = max(means.max(), *(max(v) for v in learnt_bound.values()))
fits = [f"N = {n}: {mean_sd(v)}" for n, v in ratio_fit.items()]
errors = np.array([exact_bound[n][1] for n in NS])
claim(
    "infonce-ratio",
    says="minimising InfoNCE makes the critic proportional to p(x|c)/p(x)",
    source="Oord et al. 2018, sec. 2.3; the slides' exercise; eq. (6)",
    measured="R² with the exact log ratio, rows centred: " + ", ".join(fits),
    holds=min(ratio_fit[best]) > 0.95,
    note=f"holds if above 0.95 for N = {best} with every seed; Gaussians in 10 dimensions",
)
claim(
    "infonce-bound",
    says="log N - loss never exceeds the mutual information",
    source="Oord et al. 2018, sec. 2.3; eq. (9)",
    measured=f"largest bound {highest:.2f} of {world.mutual_information:.2f} nats, N up to {NS[-1]}",
    holds=bool((means - 3 * errors < world.mutual_information).all())
    and all(np.mean(v) < world.mutual_information for v in learnt_bound.values()),
    note="exact and learnt critics; three standard errors allowed",
)
claim(
    "infonce-tighter",
    says="the bound becomes tighter as N becomes larger",
    source="Oord et al. 2018, sec. 2.3",
    measured="gap to the exact value " + ", ".join(gaps) + " nats",
    holds=bool((np.diff(means) > 2 * np.hypot(errors[1:], errors[:-1])).all()),
    note="the exact ratio as critic; holds if every doubling gains more than two standard errors",
)
claim(
    "infonce-ceiling",
    says="the bound saturates at log N",
    source="Poole et al. 2019; eq. (10)",
    measured=f"5 nats exist; N = 2: {means[0]:.3f} of {math.log(2):.3f}, N = 16: {means[3]:.3f} of {math.log(16):.3f}",
    holds=all(b <= math.log(n) for n, b in zip(NS, means)) and means[0] > 0.9 * math.log(2),
    note="holds if never above log N, and within a tenth of it at N = 2",
)
bounds = {k: mean_sd(v, 2) for k, v in known.items()}
claim(
    "infonce-invertible",
    says="encoders with the same mutual information can differ widely in quality",
    source="Tschannen et al. 2020, sec. 3.1",
    measured=f"probe R² {max(probes):.2f} to {min(probes):.2f} over 0 to 8 invertible layers; bound of trained critics "
    + ", ".join(f"{k} layers: {v}" for k, v in bounds.items()) + " of 3 nats",
    holds=max(probes) - min(probes) > 0.2,
    note="that the information is the same follows from invertibility and is not measured; layers fixed at random, "
    "where the paper trains invertible networks on MNIST",
)
few, many, strong, slow = (
    {d: puzzle[kind, n, d] for d in WIDTHS}
    for kind, n in (("distance", 4), ("distance", 32), ("concatenated", 32), ("bilinear", 32))
)


def each_width(values):
    return "; ".join(f"{d} outputs: {bound_and_probe(values[d])}" for d in WIDTHS)


def minus(a, b):
    return {d: a[d] - b[d] for d in WIDTHS}


apart = minus(few, strong)
claim(
    "infonce-looser",
    says="looser bounds can lead to better representations",
    source="Tschannen et al. 2020, sec. 3.2; the slides",
    measured=f"distance (trained with 4 candidates) minus concatenated (32), {each_width(apart)}; "
    f"over all {len(together)} models bound and probe correlate at {trend:+.2f}",
    holds=any(beyond_noise(-apart[d][:, 0]) and beyond_noise(apart[d][:, 1]) for d in WIDTHS),
    note="every bound with N = 256; holds if in one of the two widths both the bound is lower and the probe is better; "
    "three latents with 3 nats, a setting chosen after about ten tries; the paper probes digits",
)
apart = minus(strong, many)
claim(
    "infonce-critic",
    says="at equal N, a higher-capacity critic gives a tighter bound and a worse representation",
    source="Tschannen et al. 2020, sec. 3.2",
    measured=f"concatenated minus distance, both trained with 32, {each_width(apart)}",
    holds=all(beyond_noise(apart[d][:, 0]) and beyond_noise(-apart[d][:, 1]) for d in WIDTHS),
    note=f"both parts must hold, in both widths; {PUZZLE_STEPS} steps, in which a larger critic may not have caught up",
)
apart = minus(slow, strong)
claim(
    "infonce-bilinear",
    says="a bilinear critic gives a better representation than one network on both",
    source="Tschannen et al. 2020, sec. 3.2",
    measured=f"bilinear minus concatenated, both trained with 32, {each_width(apart)}",
    holds=all(beyond_noise(apart[d][:, 1]) for d in WIDTHS),
    note="must hold in both widths; the exact log ratio (17) has a term in the length of x, which z W z' on three "
    "outputs cannot hold",
)

# %% [markdown]
# ## 9. Doubts
#
# **What the slides and the released code do differently**
# - Two slips of the slides are put right above: the lost $p(x_i)$ in (4), and the temperature and the number of negatives in (11).
# - The CPC code for speech draws 128 negatives for each context from the whole batch and all times. It scores with the *mean* over the coordinates of a product, not the sum: dividing by $D$ is a temperature that nobody mentions.
# - A widely copied re-implementation takes the softmax over the *contexts* where its own accuracy takes the candidates. It is a loss too, the other direction; lesson 07 uses both. But a run of it does not do what its paper says.
# - Another one adds $10^{-11}$ inside the logarithm in place of a log-softmax. Its gradient vanishes where a pair is very wrong, which is where it is needed most.
# - A popular small example of CPC trains a yes-or-no question on one pair at a time. That is no InfoNCE, and its users report accuracies at chance.
#
# **What goes wrong in practice**
# - *The loss stays at $\log N$.* The critic guesses: a learning rate far off, embeddings that collapsed, or rows and columns out of step.
# - *The loss falls to 0 at once.* Something other than the context gives the real one away: a file name, a border, one clip normalised apart.
# - *The bound is reported as the information.* By (10) a bound near $\log N$ says that $N$ is too small.
# - *Negatives that are not negatives.* In a batch of 512 pictures of ten classes, fifty "impostors" are right. (4) assumes that they come from $p(x)$, false ones included: then the ratio is still right, and the loss has a floor above 0 (lesson 07 computes it).
# - *Temperatures of 0.01 in half precision.* Compute the loss in float32, as the library does.
#
# **Read on:** Poole et al. 2019 set the bounds on mutual information side by side. McAllester and Stratos 2020 prove that every high-confidence lower bound from $N$ samples stops near $\log N$, so that (10) is no fault of InfoNCE alone. Wang and Liu 2021 study the temperature. Lesson 02 builds CPC, lesson 04 takes up the puzzle.
#
# **Now you:** [exercises 01](../exercises/01_infonce.ipynb), with [solutions](../solutions/01_infonce.ipynb).
