# %% [markdown]
# # 05 · VICReg: exercises
#
# Seven exercises on [lesson 05](../notebooks/05_vicreg.ipynb), about two hours in all. Fill in the cells, run the check under each. If you are stuck, run `hint("vicreg.…")` in a cell of its own: three hints an exercise, each says more. After a failed check the notebook goes on with the library's version, so that you can skip and come back.
#
# Letters: $B$ pictures, $D$ dimensions; $x$ and $y$ (B, D) are the embeddings of two views; $C$ is the covariance matrix of $x$, over $B - 1$.

# %%
from minilip.course import *

device = setup("05_vicreg")

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from minilip.course import plot
from minilip.studies.vicreg import terms as study
from minilip.vicreg import vicreg_loss

# %% [markdown]
# ## 5.1 The three terms
#
# Equations (1), (3) and (6), unweighted. The $10^{-4}$ stands under the root: where all vectors are one point the terms *and their gradients* have to stay finite.


# %%
# Exercise 5.1 · implement · 20 min · difficulty 3 of 5
# Teaches the loss with the released code's constants: what is a mean, what is a sum, what is halved.
def my_terms(x, y):
    """invariance, variance, covariance. x, y (B, D) -> three scalars"""
    ### BEGIN SOLUTION
    s = (x - y).square().mean()
    v, c = 0.0, 0.0
    for z in (x, y):
        v = v + F.relu(1 - (z.var(dim=0) + 1e-4).sqrt()).mean() / 2
        away = z - z.mean(dim=0)  # (B, D)
        C = away.T @ away / (len(z) - 1)  # (D, D)
        c = c + (C.square().sum() - C.diagonal().square().sum()) / len(C)
    return s, v, c
    ### END SOLUTION


my_terms = check("vicreg.terms", my_terms).use
# hint("vicreg.terms")

# %% [markdown]
# ## 5.2 The push away from the mean
#
# Derive (4) with a pencil, then write the gradient of $v(x)$, one view and not halved, without autograd. Where the hinge is satisfied ($S_d \ge 1$) it is 0.
#
# <details><summary>The proof in steps</summary>
#
# 1. $v(x)$ is a mean over $D$ hinges; the one of dimension $d$ has the derivative $-1$ in $S_d$ where $S_d < 1$, and 0 else.
# 2. $S_d = \sqrt{V_d + \varepsilon}$, so $\partial S_d/\partial V_d = 1/(2S_d)$.
# 3. $V_d = \frac1{B-1}\sum_j(x_{jd} - \bar x_d)^2$. Its derivative in $x_{id}$ is $\frac2{B-1}\big[(x_{id} - \bar x_d) - \frac1B\sum_j(x_{jd} - \bar x_d)\big]$.
# 4. The last sum is 0: deviations from a mean always are.
# 5. Multiply: $-\frac1D\cdot\frac1{2S_d}\cdot\frac{2(x_{id} - \bar x_d)}{B-1}$.
# </details>


# %%
# Exercise 5.2 · prove · 15 min · difficulty 3 of 5
# Teaches why the root is there: the push does not fade as a cloud shrinks.
def my_hinge_gradient(x):
    """d v(x) / d x. (B, D) -> (B, D)"""
    ### BEGIN SOLUTION
    S = (x.var(dim=0) + 1e-4).sqrt()  # (D,)
    slope = -(x - x.mean(dim=0)) / (x.shape[1] * (len(x) - 1) * S)  # (B, D)
    return slope * (S < 1)
    ### END SOLUTION


my_hinge_gradient = check("vicreg.hinge_gradient", my_hinge_gradient).use
# hint("vicreg.hinge_gradient")

# %%
z = 0.5 * torch.randn(64, 1)
for shrunk in (1.0, 0.1, 0.01, 0.001):
    print(f"cloud of deviation {0.5 * shrunk:.4f}: the push has length {my_hinge_gradient(shrunk * z).norm():.4f}")

# %% [markdown]
# ## 5.3 The covariance term without covariances
#
# Somebody hands you the $D$ eigenvalues of $C$ and its diagonal, but not the rest. What is $c(x)$, for one view? (The variances need not be equal, as they are in (7).)
#
# <details><summary>The proof in steps</summary>
#
# 1. $\sum_{d,e}C_{de}^2 = \operatorname{tr}(C^\top C) = \operatorname{tr}(C^2)$, since $C$ is symmetric.
# 2. The eigenvalues of $C^2$ are $\lambda_d^2$, and a trace is the sum of eigenvalues.
# 3. Take the diagonal's squares away and divide by $D$.
# </details>


# %%
# Exercise 5.3 · prove · 15 min · difficulty 3 of 5
# Teaches that decorrelating is flattening a spectrum.
def my_covariance_term(eigenvalues, variances):
    """(D,) eigenvalues of C, (D,) its diagonal -> c(x), a scalar"""
    ### BEGIN SOLUTION
    return (eigenvalues.square().sum() - variances.square().sum()) / len(variances)
    ### END SOLUTION


my_covariance_term = check("vicreg.covariance_term", my_covariance_term).use
# hint("vicreg.covariance_term")

# %% [markdown]
# ## 5.4 How many directions
#
# Equation (9): the effective rank of a cloud of points. A direction in which the cloud has no width has the share 0, and must count as nothing, not as NaN.


# %%
# Exercise 5.4 · implement · 10 min · difficulty 2 of 5
# Teaches to read a spectrum by one number: the exponential of an entropy.
def my_effective_rank(x):
    """(N, D) -> a number from 1 to D"""
    ### BEGIN SOLUTION
    s = torch.linalg.svdvals(x - x.mean(dim=0))  # (min(N, D),)
    p = s.square() / s.square().sum()
    return torch.special.entr(p).sum().exp()
    ### END SOLUTION


my_effective_rank = check("vicreg.effective_rank", my_effective_rank).use
# hint("vicreg.effective_rank")

# %% [markdown]
# ## 5.5 The price of copies
#
# A network sends each picture to a vector of 128 equal numbers. Over the batch, each number has mean 0 and variance exactly 1. Both views agree. The invariance is 0 and the variance term too. What is the covariance term $c$, unweighted? A whole number, before you run anything.

# %%
# Exercise 5.5 · predict · 5 min · difficulty 2 of 5
# Teaches what each term sees: the variance term is content with 128 copies.
### BEGIN SOLUTION
price = 254
### END SOLUTION
price = check("vicreg.copies", price).use
# hint("vicreg.copies")

# %%
column = torch.randn(400, 1)
copies = ((column - column.mean()) / column.std()).expand(-1, 128)
print("the library says", round(float(vicreg_loss(copies, copies, 0.0, 0.0, 1.0)), 2))

# %% [markdown]
# ## 5.6 A batch that sees ghosts
#
# All $D$ dimensions are independent, with variance 1: nothing to mend. What is the expected covariance term $c$ of two views at batch size $B$, equation (10)?


# %%
# Exercise 5.6 · break · 10 min · difficulty 3 of 5
# Teaches when a covariance term measures the batch and not the network.
def my_noise_floor(dim, batch):
    """D, B -> E c for two views"""
    ### BEGIN SOLUTION
    return 2 * (dim - 1) / (batch - 1)
    ### END SOLUTION


my_noise_floor = check("vicreg.noise_floor", my_noise_floor).use
# hint("vicreg.noise_floor")

# %%
sizes = (8, 16, 32, 64, 128, 256)
seen = [float(vicreg_loss(*torch.randn(2, b, 64), 0.0, 0.0, 1.0)) for b in sizes]
figure, ax = plt.subplots(figsize=(8, 2.6))
ax.plot(sizes, [my_noise_floor(64, b) for b in sizes], color=plot.BLUE, label="expected")
ax.plot(sizes, seen, "o", color=plot.RED, label="one batch of independent dimensions")
ax.set(xscale="log", yscale="log", xlabel="batch B", ylabel="covariance term, D = 64")
ax.set_xticks(sizes, sizes)
ax.minorticks_off()
ax.legend()
plt.show()

# %% [markdown]
# ## 5.7 Your own weights

# %%
# Exercise 5.7 · explore · 30 min · difficulty 4 of 5
# The whole VICReg of the lesson stopped with its variance term near a half. Choose weights, train, and look at the
# spectrum of z and at both readings. A dictionary with "invariance", "variance" and "covariance".
### BEGIN SOLUTION
weights = {"invariance": 10.0, "variance": 25.0, "covariance": 1.0}
### END SOLUTION
if weights is not ...:
    train, held = study.drawings("train").to(device), study.drawings("val").to(device)
    arm = study.Arm(**weights, pictures=budget(cpu=128 * 60, gpu=study.PICTURES, quick=256))
    model, history = study.train(arm, 0, train)
    found = study.examine(model, held)
    print(f"view {found['view']:.3f}, artists {found['artists']:.3f}, effective rank of z {found['rank z']:.1f}")
    print("invariance, variance, covariance:", found["terms"])

# %% [markdown]
# **Rubric.** A good answer (a) chooses on the part "val", as here, and says how many settings were tried; (b) names what each weight did to *its own* term and to the two others; (c) reads the variance and the effective rank together; (d) runs a second seed before it calls one setting better; (e) says which of the two readings, "view" or "artists", improved, and why they need not move together.

# %%
progress()
