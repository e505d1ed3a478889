# %% [markdown]
# # 12b · Uses and tests of uncertainty: exercises
#
# Five exercises on [lesson 12b](../notebooks/12b_uncertainty.ipynb), an hour and a half in all. Fill in the cells, run the check under each. If you are stuck, run `hint("uncertainty.…")` in a cell of its own: three hints an exercise, each says more. After a failed check the notebook goes on with the library's version, so that you can skip and come back.
#
# Letters: a picture or a caption is a Gaussian $N(\mu, v)$ with a diagonal covariance, and the code holds `logvar`, which is $\log v$. $S = \sum_d v_d$ is the whole variance of one Gaussian, its *width*.

# %%
from minilip.course import *

device = setup("12b_uncertainty")

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr

from minilip.course import plot
from minilip.prolip import csd, gallery_scores
from minilip.studies.prolip import tiny

# %% [markdown]
# ## 12b.1 Knowing when to be silent
#
# A model that knows what it does not know may decline to answer. It gives each answer a *confidence*, for instance $-S$ or the largest probability. We let it answer the $k$ questions of which it is surest. *Coverage* is the share that it answers, $k/N$; *risk* is the share of errors among those:
#
# $$r_k = \frac1k\sum_{i=1}^k [\text{the } i\text{-th surest answer is wrong}], \qquad \mathrm{AURC} = \frac1N\sum_{k=1}^N r_k.$$
#
# The *AURC*, the area under the risk-coverage curve, is small for a good confidence. Answers of equal confidence come in random order, and $r_k$ is the mean over those orders. (What else should a confidence get that is the same for everything?)


# %%
# Exercise 12b.1 · implement · 15 min · difficulty 3 of 5
# Teaches to judge a confidence by what it is for, without asking for its unit.
def my_risk_coverage(confidence, right):
    """(N,) larger is surer, (N,) bool -> the risks (N,) for k = 1 ... N, and their mean, the AURC"""
    ### BEGIN SOLUTION
    _, group, many = (-confidence).unique(return_inverse=True, return_counts=True)  # (N,), (groups,)
    errors = torch.zeros(len(many)).index_add(0, group, (~right).float())  # (groups,)
    expected = (errors / many).repeat_interleave(many)  # (N,) the surest first
    risk = expected.cumsum(dim=0) / torch.arange(1, len(right) + 1)  # (N,)
    return risk, risk.mean()
    ### END SOLUTION


my_risk_coverage = check("uncertainty.risk_coverage", my_risk_coverage).use
# hint("uncertainty.risk_coverage")

# %% [markdown]
# Six confidences for the same 4000 answers, of which about half are wrong. Answer $i$ is right with a probability $q_i$ of its own. Where do all curves meet, and why? Which of them could a model really have?

# %%
torch.manual_seed(1)
q = torch.rand(4000)
right = torch.rand(4000) < q
confidences = {
    "oracle (knows the errors)": (right.float(), plot.BLACK),
    "q itself": (q, plot.BLUE),
    "q in three steps": ((q * 3).floor(), plot.SKY),
    "q with noise": (q + 0.5 * torch.randn(4000), plot.GREEN),
    "the same for all": (torch.ones(4000), plot.ORANGE),
    "-q, upside down": (-q, plot.RED),
}
coverage = torch.arange(1, 4001) / 4000
figure, ax = plt.subplots(figsize=(8, 3.4))
for name, (confidence, colour) in confidences.items():
    risk, area = my_risk_coverage(confidence, right)
    ax.plot(coverage, risk, color=colour, linewidth=1.2, label=f"{name}: AURC {area:.3f}")
ax.set(xlabel="coverage, share of questions answered", ylabel="risk, share of them wrong", xlim=(0, 1), ylim=(0, 1))
ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
plt.show()
e = 1 - right.double().mean()
same("oracle", my_risk_coverage(right.float(), right)[1], e + (1 - e) * (1 - e).log(), tolerance=5e-3)

# %% [markdown]
# <details><summary>Answer</summary>
#
# *The right end.* At coverage 1 everything is answered, and the risk is the error rate, whoever gave the confidence. A confidence changes no answer; it only chooses among them.
#
# *The left end.* There the risk is that of a few answers: after the first one it is 0 or 1, and one error among the surest ten moves it by a tenth. It is the part a user of few, safe answers cares about, and the part that is known worst. The noise dies off to the right because each point averages over $k$ answers.
#
# *The bounds.* No confidence gets below the oracle, which answers all right ones first. With error rate $e$ its risk is 0 up to coverage $1 - e$ and $1 - (1-e)/c$ after that, which integrates to $e + (1-e)\log(1-e)$. An honest model cannot have it: the errors of a coin cannot be foreseen, and with $q_i$ known but not the toss, the curve of $q$ itself is the best. In three steps it knows less, and its curve is flat as far as the first step goes, because the order within a step is chance. The one that is flat throughout knows nothing, its area is the error rate. Above it a confidence is worse than none.
# </details>#
# ## 12b.2 Two tables
#
# Pictures look for captions, and captions look for pictures. The score of the lesson is the cosine, less half the width of what is found:
#
# $$P_{ij} = \mu_i^\top\mu_j-\tfrac12S_j \quad(\text{picture } i \text{ looks for caption } j), \qquad C_{ji} = \mu_j^\top\mu_i-\tfrac12S_i \quad(\text{caption } j \text{ looks for picture } i).$$
#
# Each row is a query, and what it finds is the largest entry of its row. Decide on four statements, with `True` or `False` in this order:
#
# 1. $P$ is the transpose of $C$.
# 2. Each query pays half of its own width as well, so that the score is $1-\frac12d$ with the distance $d$ of lesson 12. Some picture then finds another caption.
# 3. All captions get wider by the same $S$. Some picture then finds another caption.
# 4. One picture gets wider. Some caption may then find another picture.

# %%
# Exercise 12b.2 · predict · 10 min · difficulty 2 of 5
# Teaches whose variance counts in a ranking, and whose cancels.
### BEGIN SOLUTION
two_tables = (False, False, False, True)
### END SOLUTION
two_tables = check("uncertainty.two_tables", two_tables).use
# hint("uncertainty.two_tables")

# %%
torch.manual_seed(0)
mu_v, mu_t = (F.normalize(torch.randn(6, 8, dtype=torch.double), dim=1) for _ in range(2))  # (6, D) pictures, captions
v_v, v_t = (0.1 * torch.rand(6, 8, dtype=torch.double) for _ in range(2))  # (6, D)
P, C = gallery_scores(mu_v, mu_t, v_t.log()), gallery_scores(mu_t, mu_v, v_v.log())  # (6, 6) each
print(f"1. largest difference of P and the transpose of C: {(P - C.T).abs().max():.2f}")
both_pay = 1 - csd(mu_v, v_v.log(), mu_t, v_t.log()) / 2  # (6, 6)
same("2. what pictures find", both_pay.argmax(dim=1), P.argmax(dim=1))
wider = gallery_scores(mu_v, mu_t, (v_t + 0.5 / 8).log())  # (6, 6)
same("3. what pictures find", wider.argmax(dim=1), P.argmax(dim=1))
often = C.argmax(dim=1).mode().values  # the picture that most captions find
one_wider = v_v + torch.where(torch.arange(6) == often, 2.0, 0.0)[:, None]  # (6, D)
found = gallery_scores(mu_t, mu_v, one_wider.log()).argmax(dim=1)  # (6,)
print(
    f"4. captions that find picture {often}: {(C.argmax(dim=1) == often).sum()}, "
    f"and once it is wider: {(found == often).sum()}"
)

# %% [markdown]
# <details><summary>Answer</summary>
#
# The cosines are transposes of each other, the widths are not: $P_{ij}-C_{ji} = \frac12(S_i-S_j)$. A query's own width is one number in all of its row, so no order within the row can see it; the same holds for a width that all captions share. What is left are the *differences* between the widths of what could be found. A softmax along the rows sees no more than the order does: it, too, forgets what is added to a row. So a picture's width matters exactly where captions look for pictures.
# </details>
#
# ## 12b.3 Which prompts to trust
#
# A class has $K$ prompts, Gaussians that stay as they are, with densities $p_k$. We see $N$ images of the class, and ask for weights $\pi_k$ of the prompts. They maximise (4) of the lesson,
#
# $$J(\pi) = \sum_{n=1}^N\log\sum_{k=1}^K\pi_k\,p_k(x_n)+(\alpha-1)\sum_{k=1}^K\log\pi_k, \qquad \sum_k\pi_k = 1.$$
#
# No formula solves this at once, because of the sum inside the logarithm. *EM* solves it in steps that never make it worse. Close the lesson and prove:
#
# (a) For any shares $r_{nk} > 0$ with $\sum_kr_{nk} = 1$: $\log\sum_k\pi_kp_k(x_n)\ge\sum_kr_{nk}\log\frac{\pi_kp_k(x_n)}{r_{nk}}$. When does equality hold?
#
# (b) With the shares fixed, which $\pi$ maximises the right-hand sides, together with the prior?
#
# (c) Put them together: one step never lowers $J$.
#
# <details><summary>The proof in steps</summary>
#
# 1. (a) Multiply and divide by $r_{nk}$: $\log\sum_kr_{nk}\frac{\pi_kp_k(x_n)}{r_{nk}}$ is the logarithm of a mean with weights $r_{nk}$. The logarithm is concave, so it is at least the mean of the logarithms (Jensen).
# 2. Jensen's inequality is an equality where all that is averaged is one number: $\pi_kp_k(x_n)/r_{nk}$ does not depend on $k$. The shares sum to 1, so $r_{nk} = \pi_kp_k(x_n)/\sum_l\pi_lp_l(x_n)$.
# 3. (b) What depends on $\pi$ is $\sum_k c_k\log\pi_k$ with $c_k = \sum_nr_{nk}+\alpha-1$. We maximise it under $\sum_k\pi_k = 1$.
# 4. With a multiplier $\lambda$ for the constraint, the derivative by $\pi_k$ is $c_k/\pi_k-\lambda = 0$: $\pi_k = c_k/\lambda$. The weights sum to 1, so $\lambda = \sum_kc_k = N+K(\alpha-1)$, because each row of shares sums to 1.
# 5. The sum in step 3 is concave in $\pi$ for $c_k\ge0$, that is for $\alpha\ge1$: this is its maximum.
# 6. (c) Let $B(\pi)$ be the right-hand sides with the shares of step 2 at $\pi^{old}$, plus the prior. $J(\pi^{new})\ge B(\pi^{new})\ge B(\pi^{old}) = J(\pi^{old})$: by (a), by (b), and by the equality in (a).
# </details>
#
# Then write the step, from $\log p_k(x_n)$. In $D = 64$ dimensions these are some hundreds, of either sign, and the step has to be right there too.


# %%
# Exercise 12b.3 · prove · 25 min · difficulty 4 of 5
# Teaches how a bound that touches turns a hard maximum into two easy ones.
def my_prompt_step(log_p, pi, alpha):
    """One step of EM: the new weights. (N, K) log-densities, (K,) old weights, alpha >= 1 -> (K,)"""
    ### BEGIN SOLUTION
    r = torch.softmax(pi.log() + log_p, dim=1)  # (N, K)
    return (r.sum(dim=0) + alpha - 1) / (len(log_p) + len(pi) * (alpha - 1))  # (K,)
    ### END SOLUTION


my_prompt_step = check("uncertainty.prompt_step", my_prompt_step).use
# hint("uncertainty.prompt_step")

# %% [markdown]
# Four prompts of one class, and images that come from the first two only. Two starts, and two priors. Before you run it: where do the weights of the other two go at $\alpha = 1$, and where at $\alpha = 2$? Does the start decide?

# %%
torch.manual_seed(0)
D, K, N = 8, 4, 40
mean = 0.6 * torch.randn(K, D, dtype=torch.double)  # (K, D), of variance 1
images = mean[torch.arange(N) % 2] + torch.randn(N, D, dtype=torch.double)  # (N, D)
log_p = -((images[:, None] - mean).square() + math.log(2 * math.pi)).sum(dim=2) / 2  # (N, K)


def J(pi, alpha):
    return (pi.log() + log_p).logsumexp(dim=1).sum() + torch.special.xlogy(alpha - 1, pi).sum()  # where 0 log 0 is 0


figure, axes = plt.subplots(1, 2, figsize=(8, 3))
for alpha, colour in ((1.0, plot.BLUE), (2.0, plot.ORANGE)):
    for start, style, first in (("even", "-", [0.25, 0.25, 0.25, 0.25]), ("uneven", "--", [0.02, 0.08, 0.45, 0.45])):
        way = [torch.tensor(first, dtype=torch.double)]  # (K,) each
        for _ in range(20):
            way.append(my_prompt_step(log_p, way[-1], alpha))
        values = torch.stack([J(pi, alpha) for pi in way])  # (21,)
        axes[0].plot(values, style, color=colour, label=f"α = {alpha:g}, {start} start")
        axes[1].plot([pi[2:].sum() for pi in way], style, color=colour)
        same(f"J and its maximum so far, α = {alpha:g}, {start} start", values, values.cummax(dim=0).values)
axes[0].set(xlabel="step", ylabel="J in nats", title="what is maximised")
axes[1].set(xlabel="step", ylabel="weight of prompts 3 and 4", title="the two that no image came from")
axes[0].legend(fontsize=8)
plt.show()

# %% [markdown]
# <details><summary>Answer</summary>
#
# At $\alpha = 1$ (maximum likelihood) the two go to nothing here: whatever they explain, the first two explain better. At $\alpha = 2$ the prior counts as one image seen for each prompt. So each of the two keeps at least $1/(40+4)$, and a little more, because some images lie near it by chance. The start decides how the first steps look and not where they lead: $J$ is concave in $\pi$, as a sum of logarithms of linear functions, so there is one maximum to climb.
# </details>
#
# ## 12b.4 General, or merely short?
#
# Lesson 12's exercise 12.5 trained a tiny ProLIP, whose captions are rows of codes for size, colour, shape and place, on pairs of a caption and a *subset* of it. Its captions are wide where they fit many scenes. But a caption that fits many scenes also names little. Is its width about scenes, or about length? A *partial* rank correlation holds the length fixed:
#
# 1. Replace $x$, $y$ and the control by their ranks. Equal values share the mean of the places they take.
# 2. From the ranks of $x$ subtract the straight line in the ranks of the control that fits them best (least squares, with an intercept). The same for $y$.
# 3. Correlate what is left.


# %%
# Exercise 12b.4 · implement · 20 min · difficulty 3 of 5
# Teaches to ask of a correlation what else could have made it.
def my_partial_rank_correlation(x, y, control):
    """Spearman correlation of x and y given the control. (N,), (N,), (N,) -> one number from -1 to 1"""

    ### BEGIN SOLUTION
    def ranks(values):
        below = (values[:, None] > values).sum(dim=1)  # (N,)
        alike = (values[:, None] == values).sum(dim=1)  # (N,) itself included
        place = (below + (alike + 1) / 2).double()  # (N,)
        return place - place.mean()  # (N,) centred, which is the intercept

    x, y, z = ranks(x), ranks(y), ranks(control)
    left_x, left_y = x - (x @ z) / (z @ z) * z, y - (y @ z) / (z @ z) * z  # (N,) each
    return F.cosine_similarity(left_x, left_y, dim=0)
    ### END SOLUTION


my_partial_rank_correlation = check("uncertainty.partial_rank_correlation", my_partial_rank_correlation).use
# hint("uncertainty.partial_rank_correlation")

# %% [markdown]
# Three invented widths first, for which you know the truth, then the trained ones. There are two lengths to hold fixed. One counts words: "a small red circle at the top left" has eight, a place takes four of them, and a shape that is not named is still the word "shape". The other counts attributes. Before you run this: if a width counts attributes and nothing else, what does each of the two controls make of it?

# %%
STEPS = budget(cpu=400, quick=4)
every, fits, named = tiny.EVERY, tiny.FITS, tiny.NAMED  # (540, A), (540,), (540,) all captions there are


def subset(codes):
    """The named attribute of largest u goes, of the others those with u < 0.5 stay. (B, A) -> (B, A)"""
    u = torch.rand(codes.shape)  # (B, A)
    goes = F.one_hot(torch.where(codes > 0, u, -1.0).argmax(dim=1), codes.shape[1]).bool()  # (B, A)
    return torch.where((u < 0.5) & ~goes, codes, 0)


def tokens(codes):
    return torch.where((codes > 0) & (torch.rand(codes.shape) < 0.75), tiny.MASK, codes)


towers = {name: tiny.train(less, STEPS) for name, less in (("none", None), ("tokens", tokens), ("subset", subset))}

# %%
words = 2 + ((every > 0) * torch.tensor([1, 1, 0, 4])).sum(dim=1)  # (540,)
torch.manual_seed(0)
noise = 0.3 * torch.randn(540)
widths = {
    "counts words": -words + noise,
    "counts attributes": -named + noise,
    "counts scenes": fits.log() + noise,
    **{f"trained, {name}": tiny.width(text, every) for name, text in towers.items()},
}
print(f"{'rank correlation of S and scenes':34}{'as it is':>9}{'words fixed':>14}{'attributes fixed':>19}")
for name, S in widths.items():
    as_it_is = spearmanr(S, fits).statistic
    given = [my_partial_rank_correlation(S, fits, length) for length in (words, named)]
    print(f"{name:34}{as_it_is:9.2f}{given[0]:14.2f}{given[1]:19.2f}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# All three invented widths correlate strongly with the number of scenes as they are. With the words fixed, the one that counts words falls to about 0. The one that counts attributes does not: the words are a poor account of the attributes, so much of the count is left. It takes the right control to find it out, and with the attributes fixed it falls too. Only the one that counts scenes survives both.
#
# Now look at the last row. The subset tower has a high correlation, and most of it is left with the words fixed. With the attributes fixed hardly anything is. It counts attributes. A partial correlation rules out the control that you thought of, and no other.
#
# The loss gives the reason. The hinge asks that less be wider, for any loss of an attribute alike. That a colour leaves eight scenes open and a size only two is nowhere in it.
# </details>
#
# ## 12b.5 Make the width mean something
#
# Write a masking with which the width orders captions by the scenes that fit, also among captions that name equally many attributes. It gets captions, (B, A) codes, and returns more general ones. Predict before you run it. 12b.4 says where the subset tower stands: its row is printed first.


# %%
# Exercise 12b.5 · explore · 15 min · difficulty 4 of 5
# Teaches that a variance means what the training pairs say, by making it mean something else.
### BEGIN SOLUTION
def my_masking(codes):
    """Half of the time a subset, else as many attributes as before, but others, such that more scenes fit."""
    columns = torch.rand(codes.shape).argsort(dim=1)  # (B, A)
    values = 1 + (torch.rand(codes.shape) * tiny.VALUES).long()  # (B, A)
    traded = torch.where((codes > 0).gather(1, columns), values, 0)  # (B, A)
    more = torch.where(traded > 0, 1, tiny.VALUES).prod(dim=1) > torch.where(codes > 0, 1, tiny.VALUES).prod(
        dim=1
    )  # (B,)
    trade = more & (torch.rand(len(codes)) < 0.5)  # (B,)
    return torch.where(trade[:, None], traded, subset(codes))  # (B, A)


### END SOLUTION


def study(less, seeds=(0, 1, 2)):
    """Three trainings: the correlation of S with the scenes as it is, and with the attributes fixed."""
    for seed in seeds:
        S = tiny.width(tiny.train(less, STEPS, seed), every)  # (540,)
        fixed = my_partial_rank_correlation(S, fits, named)
        print(f"seed {seed}: as it is {spearmanr(S, fits).statistic:+.2f}, attributes fixed {fixed:+.2f}")


print("subset")
study(subset)
if my_masking is not ...:
    print("mine")
    study(my_masking)

# %% [markdown]
# **Rubric.** A good answer (a) says what the pairs show the loss that subsets do not, and predicts which of the two columns moves; (b) compares with the subset row over all three seeds, and calls nothing a gain that is smaller than the spread between seeds; (c) says whether each pair is still true, so that whatever fits the whole caption fits the general one, and if not, what the width means then; (d) tries at least one masking that does no better, such as dropping one attribute and no more, and explains why; (e) names a third thing besides words and attributes that could pass for generality, and holds it fixed.

# %%
progress()
