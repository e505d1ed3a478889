# %% [markdown]
# # 12 · ProLIP: exercises
#
# Five exercises on [lesson 12](../notebooks/12_prolip.ipynb), an hour and a half in all. Fill in the cells, run the check under each. A check tells you what it thinks went wrong. If you are stuck, run `hint("prolip.…")` in a cell of its own: three hints an exercise, each says more. After a failed check the notebook goes on with the library's version, so that you can skip and come back.
#
# Letters: a picture or a caption is a Gaussian $N(\mu, v)$ with a diagonal covariance. $\mu$ is its mean and $v$ its variance, both rows of $(B, D)$. The code holds `logvar`, which is $\log v$. $S = \sum_d v_d$ is the whole variance of one Gaussian, one number.

# %%
from minilip.course import *

device = setup("12_prolip")

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from minilip.course import plot
from minilip.prolip import inclusion_difference, inclusion_loss
from minilip.studies.prolip import tiny

# %% [markdown]
# ## 12.1 The distance to expect, and the loss
#
# Draw $z_i$ from one Gaussian and $z_j$ from another, independently. Their squared distance varies from draw to draw. Its expectation has a closed form, with no draw in it:
#
# $$d_{ij} = \mathbb E\lVert z_i - z_j\rVert^2.$$
#
# Find it on paper, one dimension first: it is (5) of the lesson. Then write two functions: the table of all $d_{ij}$, and the loss (6) that ProLIP builds on it. With the *logit* $\ell_{ij}$ and $\sigma$ for the sigmoid,
#
# $$\ell_{ij} = s\,(1 - \tfrac12 d_{ij}) + b, \qquad \mathcal L = -\frac1B \sum_{i,j} \log\sigma(y_{ij}\,\ell_{ij}), \qquad y_{ij} = +1 \text{ if } i = j \text{ else } -1.$$
#
# The means of the first function have any length, those of the second have length 1. $s$ and $b$ are learned: keep their gradients. Logits reach some hundreds, and $\sigma(-500)$ is 0 in float32: take $\log\sigma$ in one step.


# %%
# Exercise 12.1 · implement · 20 min · difficulty 2 of 5
# Teaches the closed-form sampled distance, and what a variance does in a contrastive loss.
def my_csd(mu1, logvar1, mu2, logvar2):
    """E ||z_i - z_j||^2 of all pairs. (B1, D), (B1, D), (B2, D), (B2, D) -> (B1, B2)"""
    ### BEGIN SOLUTION
    apart = (mu1[:, None] - mu2).square().sum(dim=2)  # (B1, B2)
    return apart + logvar1.exp().sum(dim=1)[:, None] + logvar2.exp().sum(dim=1)  # (B1, B2)
    ### END SOLUTION


my_csd = check("prolip.csd", my_csd).use
# hint("prolip.csd")


# %%
def my_ppcl_loss(mu1, logvar1, mu2, logvar2, logit_scale, logit_bias):
    """Nats per image; row i belongs to row i. (B, D) four times, s > 0, b -> scalar"""
    ### BEGIN SOLUTION
    logits = logit_scale * (1 - my_csd(mu1, logvar1, mu2, logvar2) / 2) + logit_bias  # (B, B)
    sign = 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype) - 1  # (B, B)
    return -F.logsigmoid(sign * logits).sum() / len(logits)
    ### END SOLUTION


my_ppcl_loss = check("prolip.ppcl_loss", my_ppcl_loss).use
# hint("prolip.ppcl_loss")

# %% [markdown]
# Two questions about $S$, to be answered before the cell below is run. (a) The $S$ of every caption grows by 0.3. Which change of $b$ undoes this? (b) CLIP chooses with a softmax along each row of $\ell$, one row a picture. If it used these logits, what would the $S$ of a picture do in its own row?

# %%
torch.manual_seed(0)
B, D, s, b = 6, 8, 10.0, -2.0
mu1, mu2 = (F.normalize(torch.randn(B, D, dtype=torch.double), dim=1) for _ in range(2))
v1, v2 = (0.05 * torch.rand(B, D, dtype=torch.double) for _ in range(2))
draws = 200_000
z1 = mu1[0] + v1[0].sqrt() * torch.randn(draws, D, dtype=torch.double)  # (draws, D)
z2 = mu2[0] + v2[0].sqrt() * torch.randn(draws, D, dtype=torch.double)
d = my_csd(mu1, v1.log(), mu2, v2.log())  # (B, B)
same("d from draws", (z1 - z2).square().sum(dim=1).mean(), d[0, 0], tolerance=5e-3)

wider = (v2 + 0.3 / D).log()  # (B, D)
left = my_ppcl_loss(mu1, v1.log(), mu2, wider, s, b)
same("(a)", left, my_ppcl_loss(mu1, v1.log(), mu2, v2.log(), s, b - s * 0.3 / 2))
one_wider = v1 * torch.tensor([50.0, 1, 1, 1, 1, 1])[:, None]  # (B, D) the first picture alone
choice = torch.softmax(s * (1 - my_csd(mu1, one_wider.log(), mu2, v2.log()) / 2), dim=1)  # (B, B)
same("(b)", choice, torch.softmax(s * (1 - d / 2), dim=1))

# %% [markdown]
# <details><summary>Answer</summary>
#
# (a) $\ell_{ij}$ holds $-\frac s2 S_j$, so a common growth by 0.3 lowers all logits by $0.15\,s$: add that to $b$. To this loss a variance is a bias, one for each caption and one for each picture. It corrects how often the model says yes, by (8) of the lesson, and is no measure of what the caption leaves open. Whoever wants it to be one has to ask for it: that is what inclusion is for.
#
# (b) Nothing: a constant along a row cancels in the softmax. The variance of a picture would act in the columns only, where pictures compete. With a sigmoid a picture can be far from all captions at once.
# </details>

# %% [markdown]
# ## 12.2 The price of a code, and half of it
#
# The *information bottleneck* of ProLIP makes each Gaussian pay for being different from the standard normal. Derive the divergence $\mathrm{KL}(N(\mu, v)\,\Vert\,N(0, I))$ from its definition, in nats. It is (18) of the lesson. Write it for `logvar`: summed over the dimensions, averaged over the batch.


# %%
# Exercise 12.2 · break · 15 min · difficulty 2 of 5
# Teaches the divergence to the standard normal, and how a slip in it can train without anybody noticing.
def my_vib_loss(mu, logvar):
    """Nats a Gaussian. (B, D), (B, D) -> scalar"""
    ### BEGIN SOLUTION
    price = (mu.square() + logvar.exp() - 1 - logvar) / 2  # (B, D)
    return price.sum(dim=1).mean()
    ### END SOLUTION


my_vib_loss = check("prolip.vib_loss", my_vib_loss).use
# hint("prolip.vib_loss")


# %% [markdown]
# The released code of ProLIP computes something else, which its comment calls the repair of a bug in an earlier project. In the letters of this course (and summed over $D$, where the release averages) it is the function below. Find the slip. Which one change of its argument makes it right? The lesson has compared two values, (19); here we ask what the slip does to training. Decide on four statements, with `True` or `False` in this order:
#
# 1. Both losses are smallest at the same Gaussian.
# 2. Both pull on the means alike.
# 3. Both pull on a log-variance of $-10$ alike.
# 4. For a log-variance above 0 the released one is the cheaper.


# %%
def released(mu, logvar):
    """(B, D), (B, D) -> scalar"""
    half = logvar / 2  # (B, D)
    return -(1 + half - mu.square() - half.exp()).sum(dim=1).mean() / 2


### BEGIN SOLUTION
halved = (True, True, False, True)
### END SOLUTION
halved = check("prolip.halved", halved).use
# hint("prolip.halved")

# %%
logvar = torch.linspace(-12, 4, 161)[:, None].requires_grad_()  # (161, 1): 161 Gaussians of one dimension
figure, (price, pull) = plt.subplots(1, 2, figsize=(8, 3))
for name, loss, colour in (("right", my_vib_loss, plot.BLUE), ("released", released, plot.RED)):
    total = torch.stack([loss(torch.zeros(1, 1), row[None]) for row in logvar])  # (161,)
    slope = torch.autograd.grad(total.sum(), logvar)[0][:, 0]  # (161,)
    price.plot(logvar.detach(), total.detach(), color=colour, label=name)
    pull.plot(logvar.detach(), slope, color=colour, label=name)
    print(f"{name:8}  at logvar = -10: {total[20]:.2f} nats a dimension, slope {slope[20]:+.3f}")
price.set(xlabel="log v", ylabel="nats a dimension", ylim=(0, 6), title="one minimum, at v = 1")
pull.set(xlabel="log v", ylabel="slope, nats per unit of log v", ylim=(-0.6, 1), title="about half the pull")
for ax in (price, pull):
    ax.axvline(0, color="black", linewidth=0.8)
    ax.legend()
plt.show()

# %% [markdown]
# <details><summary>An explanation to compare yours with</summary>
#
# `half.exp()` is $e^{\frac12\log v} = \sqrt v$, the standard deviation, and it stands where the formula has the variance. `released(mu, 2 * logvar)` is right. Or: the released loss is the divergence of a Gaussian whose variance is our $\sqrt v$. It is 0 where that is 1, and so is $v$ then: one minimum.
#
# Far to the left both are straight lines, the right one with slope $-\frac12$, the released one with $-\frac14$. At $-10$, where ProLIP's heads start, the price is 4.50 nats a dimension and 2.00 as released. The mean's term is not halved, so this is not only another weight: width has become cheaper compared with the mean.
#
# Nobody noticed, because nothing fails. The minimum is where it was, the loss falls, and the weight in front of it is $10^{-4}$. A test against `torch.distributions.kl_divergence` finds it in a second.
# </details>

# %% [markdown]
# ## 12.3 Counting one density twice
#
# *Inside* is a relation with a direction, and $\int p_1 p_2\,dx$ has none. ProLIP squares one of the two, (11) of the lesson:
#
# $$\log\int p_1(x)^2\, p_2(x)\,dx, \qquad p_1 = N(\mu_1, v_1),\ p_2 = N(\mu_2, v_2).$$
#
# Close the lesson and prove in one dimension, by completing the square:
#
# (a) $N(x; m, v)^2 = \dfrac{N(x; m, v/2)}{2\sqrt{\pi v}}$: the square of a density is a narrower one, times a number.
#
# (b) $\displaystyle\int N(x; m_1, u)\,N(x; m_2, w)\,dx = N(m_1; m_2, u + w)$.
#
# (c) Put them together, and then for $D$ independent dimensions.
#
# <details><summary>The proof in steps</summary>
#
# 1. (a) $N(x;m,v)^2 = \frac1{2\pi v}\,e^{-(x-m)^2/v}$, because squaring doubles the exponent $-\frac{(x-m)^2}{2v}$.
# 2. A Gaussian with exponent $-(x-m)^2/v = -\frac{(x-m)^2}{2(v/2)}$ has variance $v/2$. As a density it would stand at the height $\frac1{\sqrt{2\pi v/2}} = \frac1{\sqrt{\pi v}}$.
# 3. The ratio of the two heights is $\frac{1}{2\pi v}\sqrt{\pi v} = \frac1{2\sqrt{\pi v}}$.
# 4. (b) The sum of the exponents is $-\frac12 q(x)$ with $q(x) = \frac{(x-m_1)^2}{u} + \frac{(x-m_2)^2}{w}$. Shift $x$ such that $m_1 = 0$, and write $\delta = m_2 - m_1$.
# 5. $q = \big(\tfrac1u + \tfrac1w\big)x^2 - \tfrac{2\delta}{w}x + \tfrac{\delta^2}{w}$. The trick is to complete the square: $q = a\,(x - \tfrac{\delta}{aw})^2 + \tfrac{\delta^2}{w} - \tfrac{\delta^2}{aw^2}$ with $a = \frac1u + \frac1w = \frac{u+w}{uw}$.
# 6. The rest without $x$: $\frac{\delta^2}{w}\big(1 - \frac{1}{aw}\big) = \frac{\delta^2}{w}\big(1 - \frac{u}{u+w}\big) = \frac{\delta^2}{u+w}$.
# 7. Integrating $e^{-\frac a2(\cdot)^2}$ gives $\sqrt{2\pi/a} = \sqrt{2\pi uw/(u+w)}$. Times both heights $\frac{1}{2\pi\sqrt{uw}}$: $\frac{1}{\sqrt{2\pi(u+w)}}$. With step 6, this is $N(m_1; m_2, u+w)$.
# 8. (c) $\log\int p_1^2p_2\,dx = -\tfrac12\log 4\pi v_1 + \log N(\mu_1; \mu_2, \tfrac{v_1}2 + v_2)$. Multiply out: $-\tfrac12\log 4\pi v_1 - \tfrac12\log\pi(v_1 + 2v_2) - \frac{(\mu_1-\mu_2)^2}{v_1+2v_2}$.
# 9. In $D$ dimensions $p_1^2p_2$ is a product of functions of one coordinate each. The integral is the product of the integrals, its logarithm their sum.
# </details>
#
# Then write (c) for `logvar`, one number for each pair of rows. The check goes to log-variances of 100, because a released recipe adds 100 to each, and $e^{100}$ is no float32. Value and gradients have to be right there too. So form $e^{\log v}$ nowhere, not even as a divisor: a number over infinity is 0, as it should be, but its gradient is NaN.


# %%
# Exercise 12.3 · prove · 25 min · difficulty 4 of 5
# Teaches to complete a square, and to keep a formula in logarithms from its first to its last step.
def my_log_overlap(mu1, logvar1, mu2, logvar2):
    """log of the integral of p1^2 p2, summed over D. (B, D) four times -> (B,)"""
    ### BEGIN SOLUTION
    wide = torch.logaddexp(logvar1, logvar2 + math.log(2))  # (B, D) log(v1 + 2 v2)
    apart = (mu1 - mu2).square() * (-wide).exp()  # (B, D)
    return -(math.log(2 * math.pi) + (logvar1 + wide) / 2 + apart).sum(dim=1)  # (B,)
    ### END SOLUTION


my_log_overlap = check("prolip.log_overlap", my_log_overlap).use
# hint("prolip.log_overlap")

# %%
x = torch.linspace(-40, 40, 80_001, dtype=torch.double)  # a grid so fine that a sum is an integral


def normal(mean, v):
    return torch.exp(-((x - mean) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)


def integral(y):
    return torch.trapezoid(y, x)


m, v, m2, w = 0.3, 0.8, 1.5, 2.0
same("(a)", normal(m, v)[39_000:41_000:100] ** 2, normal(m, v / 2)[39_000:41_000:100] / (2 * math.sqrt(math.pi * v)))
third = math.exp(-((m - m2) ** 2) / (2 * (v + w))) / math.sqrt(2 * math.pi * (v + w))
same("(b)", integral(normal(m, v) * normal(m2, w)), third)
one = [torch.tensor([[number]]).double() for number in (m, math.log(v), m2, math.log(w))]  # (1, 1) each
same("(c)", integral(normal(m, v) ** 2 * normal(m2, w)).log(), my_log_overlap(*one)[0])

# %% [markdown]
# The figure: a narrow density (small $v$, a specific thing) and a wide one (a general thing) around nearly the same place. On the right are the two products. Before you look at the numbers, compare the two areas: which of them is larger, and by which of its factors?

# %%
narrow, wide = normal(0.4, 0.25), normal(0.0, 2.25)
figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharex=True)
for y, label, colour in ((narrow, "narrow", plot.BLUE), (wide, "wide", plot.RED), (narrow**2, "narrow²", plot.SKY)):
    axes[0].plot(x, y, color=colour, label=label)
products = ((narrow**2 * wide, "narrow² · wide", plot.BLUE), (narrow * wide**2, "narrow · wide²", plot.RED))
for y, label, colour in products:
    axes[1].plot(x, y, color=colour, label=f"{label}, area {integral(y):.3f}")
    axes[1].fill_between(x, y, color=colour, alpha=0.2)
axes[0].set(xlabel="x", ylabel="density", xlim=(-4, 4), title="two densities and a square")
axes[1].set(xlabel="x", ylabel="product", ylim=(0, 0.25), title="one of the two counts twice")
for ax in axes:
    ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# <details><summary>Answer</summary>
#
# Both products live where the narrow density lives. There the narrow one is high and the wide one is low, so squaring the narrow one gives more. The test is the logarithm of the ratio of the two areas: positive if the first of the two is the inner one.
# </details>
#
# ## 12.4 When only the means move
#
# The inclusion test compares the two integrals:
#
# $$H(1\subset 2) = \log\int p_1^2\,p_2\,dx - \log\int p_1\,p_2^2\,dx.$$
#
# On a line, let $v_1 < v_2$. With the means in one place, $H$ is positive: the narrow one is inside the wide one. Now the means move apart, until the two densities hardly meet. Predict from your 12.3, rather than from a picture:
#
# * `apart_sign`: what is $H$ in the end, `"positive"`, `"zero"` or `"negative"`?
# * `apart_size`: what does $|H|$ do on the way, `"grows"`, `"falls"` or `"stays"`?
# * `apart_2d`: in two dimensions $H$ is the sum over both. Can moving the means turn a positive $H$ negative? One truth value if $v_1 < v_2$ in the first dimension and $v_1 > v_2$ in the second, one if $v_1 < v_2$ in both: `(True, ...)`.

# %%
# Exercise 12.4 · predict · 10 min · difficulty 3 of 5
# Teaches to read a formula for what it does not depend on.
### BEGIN SOLUTION
apart_sign = "positive"
apart_size = "grows"
apart_2d = (True, False)
### END SOLUTION
apart_sign = check("prolip.apart_sign", apart_sign).use
apart_size = check("prolip.apart_size", apart_size).use
apart_2d = check("prolip.apart_2d", apart_2d).use
# hint("prolip.apart_sign")
# hint("prolip.apart_size")
# hint("prolip.apart_2d")

# %%
delta = torch.linspace(0, 6, 61)[:, None]  # (61, 1)


def difference(apart, v1, v2):
    """H for means that are `apart` in each of D dimensions. (N, D), D numbers, D numbers -> (N,)"""
    logvar1, logvar2 = (torch.tensor(v).log().expand_as(apart) for v in (v1, v2))  # (N, D)
    return inclusion_difference(apart, logvar1, torch.zeros_like(apart), logvar2)


figure, axes = plt.subplots(1, 2, figsize=(8, 3.2))
for ratio, colour in ((4.0, plot.BLUE), (2.0, plot.SKY), (1.0, plot.BLACK), (0.5, plot.ORANGE), (0.25, plot.RED)):
    axes[0].plot(delta, difference(delta, [1.0], [ratio]), color=colour, label=f"{ratio:g}")
axes[0].set(xlabel="distance of the means", ylabel="H(1 ⊂ 2) in nats", title="one dimension")
axes[0].legend(title="v₂ / v₁", loc="lower left", fontsize=8)
still = torch.zeros_like(delta)
first, second = torch.cat([delta, still], dim=1), torch.cat([still, delta], dim=1)  # (61, 2) each
for v2, style in (([4.0, 0.5], "-"), ([4.0, 2.0], "--")):
    for apart, name, colour in ((first, "1", plot.BLUE), (second, "2", plot.RED)):
        label = f"along {name}, v₂ = ({v2[0]:g}, {v2[1]:g})"
        axes[1].plot(delta, difference(apart, [1.0, 1.0], v2), style, color=colour, label=label)
axes[1].axhline(0, color="black", linewidth=0.8)
axes[1].set(xlabel="distance of the means", ylabel="H(1 ⊂ 2) in nats", title="two dimensions, v₁ = (1, 1)")
axes[1].legend(fontsize=8)
plt.show()

mu1, mu2 = torch.zeros(1, 1, requires_grad=True), torch.ones(1, 1)
logvar1, logvar2 = torch.zeros(1, 1), torch.ones(1, 1)
for eps in (0.0, -20.0):
    loss = inclusion_loss(mu1, logvar1, mu2, logvar2, scale=1.0, eps=eps)
    step = -torch.autograd.grad(loss, mu1)[0].item()
    print(f"eps = {eps:5.1f}: gradient descent moves mean 1 by {step:+.1e}; mean 2 lies in the direction +")

# %% [markdown]
# Each curve on the left keeps its side of zero. On the right one of four crosses it: along the dimension that votes no. What does that mean for a loss that pushes $H$ up, and for a test that reads its sign?
#
# <details><summary>An explanation to compare yours with</summary>
#
# With $r = v_2/v_1$ and $\delta = \mu_1 - \mu_2$ the difference is
#
# $$H = \tfrac12\log\frac{r(r+2)}{2r+1} + \delta^2\Big(\frac1{v_2+2v_1} - \frac1{v_1+2v_2}\Big).$$
#
# If $r > 1$, both terms are positive: $r^2 + 2r > 2r + 1$, and $v_2 + 2v_1 < v_1 + 2v_2$. If $r < 1$, both are negative. So in one dimension the sign is that of $\log r$, wherever the means are, and two densities that share nothing count as more inside the farther apart they are. In several dimensions each one votes with the sign of its own $\log r$, and distance only adds weight to the votes, for and against.
#
# For the loss: it is increased most cheaply by moving the means apart, which is what the last lines show at $\epsilon = 0$. The released code multiplies all variances by $e^{20}$ ($\epsilon = -20$), which switches the means off: what is left is an order of variances. For the test: $H$ asks "is 2 wider than 1?" and not "does 2 hold 1?". Whether the two are about the same thing has to be asked apart, for instance of their cosine.
# </details>
#
# ## 12.5 Say less
#
# The inclusion loss needs pairs of a specific and a general thing. It makes them by *masking*: the whole caption should lie inside a caption that says less. What "less" looks like is ours to choose, and the variance will mean exactly that.
#
# A caption here is a row of *codes*, one column for each of $A = 4$ attributes: size (2 values), colour (8), shape (3), place (4). 0 means "not named", so `[1, 0, 2, 0]` may be "a small square" and `[0, 0, 0, 0]` is "a shape". Saying less means naming a proper subset of what was named. Let chance come in as an argument, uniform numbers `u` in $[0, 1)$, so that the function is one of its arguments alone:
#
# * The named attribute with the largest $u$ goes in any case, so that something goes.
# * Of the others, those with $u <$ `keep` stay.
# * A caption that names nothing stays as it is.


# %%
# Exercise 12.5 · implement · 15 min · difficulty 3 of 5
# Teaches to make a more general caption that is a caption, and what goes wrong with one that is none.
def my_say_less(codes, u, keep):
    """A proper subset of the named attributes. (B, A) int64, (B, A) in [0, 1), number -> (B, A) int64"""
    ### BEGIN SOLUTION
    largest = torch.where(codes > 0, u, -1.0).argmax(dim=1)  # (B,)
    goes = F.one_hot(largest, codes.shape[1]).bool()  # (B, A)
    return torch.where((u < keep) & ~goes, codes, 0)  # (B, A)
    ### END SOLUTION


my_say_less = check("prolip.say_less", my_say_less).use
# hint("prolip.say_less")

# %% [markdown]
# Now a ProLIP so small that it trains in a second. A picture is its four codes with noise, a caption is the codes that it names, each tower is one hidden layer. The loss is yours: pairs by 12.1, the price by 12.2, and the inclusion loss of the library on three kinds of masking.
#
# | masking | the general partner of a caption |
# |---|---|
# | **none** | there is none: no inclusion loss |
# | **tokens** | a `<mask>` in place of three quarters of what is named, as in the released code |
# | **subset** | `my_say_less` with `keep` = 0.5 |
#
# For each of them predict two things. Does a caption of which more is masked get wider? And, the question that matters, of captions *without* any mask: do those get wider that fit more of the 192 scenes?

# %%
show(tiny.train)

# %%
STEPS = budget(cpu=400, quick=4)


def tokens(codes):
    return torch.where((codes > 0) & (torch.rand(codes.shape) < 0.75), tiny.MASK, codes)


def subset(codes):
    return my_say_less(codes, torch.rand(codes.shape), 0.5)


maskings = {"none": None, "tokens": tokens, "subset": subset}
towers = {name: tiny.train(less, STEPS, ppcl=my_ppcl_loss, vib=my_vib_loss) for name, less in maskings.items()}

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3))
scene = torch.tensor([[1, 4, 2, 3]]).repeat(5, 1)  # (5, A)
for k in range(5):
    scene[k, :k] = tiny.MASK
amounts = tiny.FITS.unique()  # of scenes
for (name, text), colour in zip(towers.items(), (plot.BLACK, plot.RED, plot.BLUE)):
    widths = tiny.width(text, tiny.EVERY)  # (540,)
    axes[0].plot(tiny.width(text, scene) / widths.mean(), marker="o", markersize=4, color=colour, label=name)
    means = [(widths[n == tiny.FITS].mean() / widths.mean()).item() for n in amounts]
    axes[1].plot(amounts, means, marker="o", markersize=3, color=colour)
axes[0].set(xlabel="attributes masked by a token", ylabel="S / mean S of all captions")
axes[0].set_title("one caption, with <mask>")
axes[1].set(xlabel="scenes that fit the caption", xscale="log", title="all captions, without <mask>")
axes[1].set_xticks([1, 4, 16, 64, 192], ["1", "4", "16", "64", "192"], minor=False)
axes[1].minorticks_off()
axes[0].legend(title="masking", fontsize=8)
plt.show()

# %% [markdown]
# On the left, the black and the blue tower have never met a `<mask>`, so their curves say nothing. Explain the red ones: why does a `<mask>` teach so little about captions that have none?
#
# <details><summary>An explanation to compare yours with</summary>
#
# With tokens, the general partner nearly always holds a `<mask>` and the specific one never does. One weight answers all of these pairs: variance = number of masks. Nothing is asked of two captions of which neither has a token, and for those the width remains what the pair loss makes of it, a bias (12.1). The left panel shows how well this answer is learned.
#
# A subset is a caption like any other. "A shape" occurs as the partner of "a red shape", and "a red shape" as that of "a small red shape", and each of them occurs on its own. There is no mark to tell the two roles apart: the order has to come from what is named.
#
# In the black run nobody asks for an order at all, and there is one all the same, the wrong way round.
# </details>

# %%
progress()
