# %% [markdown]
# # 12c · The summary's ProLIP: exercises
#
# Six exercises on [lesson 12c](../notebooks/12c_constraints.ipynb), about two hours in all. Fill in the cells, run the check under each. A check tells you what it thinks went wrong. If you are stuck, run `hint("constraints.…")` in a cell of its own: three hints an exercise, each says more. After a failed check the notebook goes on with the library's version, so that you can skip and come back.

# %%
from minilip.course import *

device = setup("12c_constraints")

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from minilip.course import plot
from minilip.infonce import info_nce
from minilip.prolip import clip_norm, projection_residual, vib_loss
from minilip.studies.prolip.generality import KINDS


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# %% [markdown]
# ## 12c.1 Inside a subspace
#
# Equation (1), for one caption at a time: how far is each row of `t` from the span of the rows of `basis`? The basis vectors are pictures. They have any length and any angle to each other, and none depends on the others. Two of them may differ by thousandths: a formula that inverts $A^\top A$ loses that difference in float32, and the residual has to be right to a hundredth even there.


# %%
# Exercise 12c.1 · implement · 15 min · difficulty 2 of 5
# Teaches what a projection needs of its basis, and why one does not invert A^T A.
def my_residual(t, basis):
    """Length of what sticks out of the span. t (B, D), basis (K, D) with K <= D -> (B,)"""
    ### BEGIN SOLUTION
    q, _ = torch.linalg.qr(basis.T)  # (D, K)
    return (t - t @ q @ q.T).norm(dim=1)  # (B,)
    ### END SOLUTION


my_residual = check("constraints.residual", my_residual).use
# hint("constraints.residual")

# %% [markdown]
# Three pictures, and captions made of them. Before you run it: which two residuals are 0?

# %%
three = randn(3, 8)
four = torch.stack([three[0] + three[1], three.mean(dim=0), randn(8, seed=1), three[0] + 0.1 * randn(8, seed=2)])
print("residuals:", [round(x, 4) for x in my_residual(four, three).tolist()])

# %% [markdown]
# ## 12c.2 Inside a ball
#
# Equation (10): the nearest point of the ball of radius $\gamma$, row by row, with a gradient. A row of zeros is inside every ball, and its gradient has to be finite.


# %%
# Exercise 12c.2 · implement · 10 min · difficulty 2 of 5
# Teaches a projection that leaves alone what already satisfies the constraint.
def my_clip(v, gamma):
    """No row longer than gamma. v (B, D), gamma > 0 -> (B, D)"""
    ### BEGIN SOLUTION
    return v * (gamma / v.norm(dim=1, keepdim=True).clamp(min=gamma))  # (B, D)
    ### END SOLUTION


my_clip = check("constraints.clip_norm", my_clip).use
# hint("constraints.clip_norm")

# %% [markdown]
# Pull a vector outside the ball and one inside it towards a target, through your function. What is the cosine between the vector and its gradient in each case? Equation (8) says what follows for the length.

# %%
for length in (0.5, 5.0):
    v = (length * F.normalize(randn(1, 8, seed=3), dim=1)).requires_grad_()
    (my_clip(v, 1.0) - randn(1, 8, seed=4)).square().sum().backward()
    print(f"length {length}: cosine of vector and gradient {float(F.cosine_similarity(v.detach(), v.grad)):+.3f}")

# %% [markdown]
# ## 12c.3 What a Gaussian leaves outside
#
# A caption is a Gaussian $N(\mu, v)$ with $v = e^{\log v}$. What is the expected *squared* residual of a sample? Prove (3) on paper, then write it in closed form, without a sample.
#
# <details><summary>The proof in steps</summary>
#
# 1. $M = I-QQ^\top$ is symmetric, and $M^2 = I-2QQ^\top+QQ^\top QQ^\top = M$.
# 2. $(Mz)_e = \sum_dM_{ed}z_d$ has mean $(M\mu)_e$ and, as the $z_d$ are independent, variance $\sum_dM_{ed}^2v_d$.
# 3. $\mathbb E(Mz)_e^2 = (M\mu)_e^2+\sum_dM_{ed}^2v_d$. Sum over $e$.
# 4. $\sum_eM_{ed}^2 = (M^\top M)_{dd} = M_{dd} = 1-\sum_kQ_{dk}^2$.
# </details>


# %%
# Exercise 12c.3 · prove · 20 min · difficulty 3 of 5
# Teaches how a mean and a variance pass through a projection.
def my_expected_residual(mu, logvar, basis):
    """E |z - Proj z|^2. mu (B, D), logvar (B, D), basis (K, D) -> (B,)"""
    ### BEGIN SOLUTION
    q, _ = torch.linalg.qr(basis.T)  # (D, K)
    outside = 1 - q.square().sum(dim=1)  # (D,) diagonal of M
    return (mu - mu @ q @ q.T).square().sum(dim=1) + logvar.exp() @ outside  # (B,)
    ### END SOLUTION


my_expected_residual = check("constraints.expected_residual", my_expected_residual).use
# hint("constraints.expected_residual")

# %%
mu, logvar = randn(2, 8, seed=5), randn(2, 8, seed=6)
samples = mu + (logvar / 2).exp() * randn(20_000, 2, 8, seed=7)  # (20000, 2, 8)
counted = torch.stack([projection_residual(samples[:, k], three).square().mean() for k in range(2)])
print("closed form", my_expected_residual(mu, logvar, three).tolist(), "  20,000 samples", counted.tolist())

# %% [markdown]
# ## 12c.4 The whole objective
#
# Put the summary's terms together on one batch: samples of both sides from the noise that is given, the pictures inside the ball, the contrast (5) from picture to caption on products, the mean residual of the captions' samples with its weight, and the divergence of both sides with its weight. The library's parts are yours to use: `info_nce`, `clip_norm`, `projection_residual`, `vib_loss`. At $\tau = 0.01$ scores reach $\pm100$, and the loss stays finite.


# %%
# Exercise 12c.4 · implement · 20 min · difficulty 3 of 5
# Teaches which term takes samples, which takes means, and which side each of them is about.
def my_objective(mu_v, logvar_v, mu_t, logvar_t, noise, basis, gamma, temperature, inclusion, variance):
    """(B, D) four times, noise (2, B, D) for pictures and captions, basis (K, D), four numbers -> scalar, in nats"""
    ### BEGIN SOLUTION
    v = clip_norm(mu_v + (logvar_v / 2).exp() * noise[0], gamma)  # (B, D)
    t = mu_t + (logvar_t / 2).exp() * noise[1]  # (B, D)
    cost = vib_loss(mu_v, logvar_v) + vib_loss(mu_t, logvar_t)
    return info_nce(v, t, temperature) + inclusion * projection_residual(t, basis).mean() + variance * cost
    ### END SOLUTION


my_objective = check("constraints.objective", my_objective).use
# hint("constraints.objective")

# %% [markdown]
# Now descend on it with free means and variances, eight pairs in eight dimensions, and watch the variances. Which weight decides where they end, by (7)?

# %%
figure, ax = plt.subplots(figsize=(8, 2.6))
for beta, colour in zip((0.001, 0.01, 0.1), plot.PALETTE):
    free = [randn(8, 8, seed=k) for k in (1, 2)]
    free = [x.clone().requires_grad_() for x in (free[0], torch.full((8, 8), -2.0), free[1], torch.full((8, 8), -2.0))]
    descent, widths = torch.optim.Adam(free, lr=0.03), []
    for step in range(budget(cpu=400, quick=5)):
        loss = my_objective(*free, randn(2, 8, 8, seed=step), randn(4, 8, seed=9), 1.0, 0.1, 0.1, beta)
        descent.zero_grad()
        loss.backward()
        descent.step()
        widths.append(float(free[3].detach().exp().mean()))
    ax.plot(widths, color=colour, label=f"β = {beta}")
ax.set(xlabel="step", ylabel="mean variance of captions", yscale="log")
ax.legend()
plt.show()

# %% [markdown]
# ## 12c.5 Around the bound
#
# The summary bounds pictures and not captions. Break it: given pictures and captions of any length, return other ones with *exactly the same table* $\mathbf v\,\mathbf t^\top$, in which every picture satisfies $\lVert\mathbf v\rVert\le\gamma$. Use one common factor for the pictures, as near to 1 as the bound allows and at most 1.


# %%
# Exercise 12c.5 · break · 10 min · difficulty 2 of 5
# Teaches that a bound on one side of a product bounds nothing.
def my_escape(v, t, gamma):
    """Pictures and captions with the same products, pictures in the ball. v (N, D), t (M, D) -> (N, D), (M, D)"""
    ### BEGIN SOLUTION
    factor = (gamma / v.norm(dim=1).max()).clamp(max=1)
    return v * factor, t / factor
    ### END SOLUTION


my_escape = check("constraints.escaped", my_escape).use
# hint("constraints.escaped")

# %% [markdown]
# Explain in a sentence each: (a) why the contrast cannot tell the two batches apart, (b) which other term of (16) can, (c) why cosines do not have this hole.

# %%
v, t = 5 * randn(6, 8, seed=8), randn(6, 8, seed=9)
inside, longer = my_escape(v, t, 1.0)
print(f"contrast {float(info_nce(v, t, 1.0)):.4f}, after {float(info_nce(inside, longer, 1.0)):.4f}")
flat = torch.zeros(6, 8)
print(f"variance term {float(vib_loss(v, flat) + vib_loss(t, flat)):.1f}, after", end=" ")
print(f"{float(vib_loss(inside, flat) + vib_loss(longer, flat)):.1f}")

# %% [markdown]
# ## 12c.6 How many pictures make a world?
#
# In the ideal model of lesson 12c a picture has a 1 for each of its five attributes, 20 entries, and its span has rank 16. A batch shows a random few of the 576 kinds.

# %%
# Exercise 12c.6 · explore · 25 min · difficulty 3 of 5
# How many pictures, and how much noise on them, until true captions are inside and contradictions are not, or no more?
### BEGIN SOLUTION
settings = [(n, sd) for sd in (0.0, 0.05, 0.3) for n in (4, 8, 16, 32)]
### END SOLUTION
if settings is not ...:
    every = torch.cartesian_prod(*(torch.arange(k) for k in KINDS.tolist()))  # (576, 5)
    ones = torch.cat([F.one_hot(every[:, k], n).float() for k, n in enumerate(KINDS.tolist())], dim=1)  # (576, 20)
    turn = torch.linalg.qr(randn(40, 20))[0].T  # (20, 40)
    caption = ones.mean(dim=0)  # "a shape"
    contradiction = ones[0].clone()
    contradiction[3] = 1  # a second colour
    for n, sd in settings:
        found = []
        for seed in range(5):
            order = torch.randperm(576, generator=torch.Generator().manual_seed(seed))[:n]
            shown = ones[order] @ turn + sd * randn(n, 40, seed=seed)
            directions = torch.linalg.svd(shown, full_matrices=False)
            basis = directions[2][directions[1] > 1e-3]  # independent directions
            asked = torch.stack([caption, contradiction]) @ turn
            found.append(projection_residual(asked, basis) / asked.norm(dim=1))
        true, false = torch.stack(found).mean(dim=0).tolist()
        print(f"{n:3} pictures, noise {sd:<5}: residual / length of 'a shape' {true:.2f}, contradiction {false:.2f}")

# %% [markdown]
# **Rubric.** A good answer (a) changes pictures and noise one at a time, (b) compares the number of pictures with the rank of 16 and with the 40 dimensions, (c) says what noise on the pictures does to the span, and what choosing $K$ by the singular values would do, (d) asks whether a contradiction could lie in the span of the pictures exactly, and finds a combination of pictures that nearly says it, (e) says what this means for a data set of a million photographs in 768 dimensions.

# %%
progress()
