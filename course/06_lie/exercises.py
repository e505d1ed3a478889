# %% [markdown]
# # 06 · The Lie operator: exercises
#
# Eight exercises on [lesson 06](../notebooks/06_lie.ipynb), about two hours in all. Fill in the cells, run the check under each. A check tells you what it thinks went wrong. If you are stuck, run `hint("lie.…")` in a cell of its own: three hints an exercise, each says more. After a failed check the notebook goes on with the library's version, so that you can skip and come back.
#
# Letters: $z$ is an embedding and $z^g$ that of the same thing in another pose, both rows of $(B, D)$; $L$ is a generator, $(D, D)$; $t$ is a coordinate, how far to go along $L$; $g = \exp(\sum_n t_n L_n)$ is a group element. $X$ and $Y$ are any matrices.

# %%
from minilip.course import *

device = setup("06_lie")

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from minilip.course import plot
from minilip.infonce import info_nce
from minilip.lie import LieOperator, lie_loss
from minilip.studies.lie import robustness

# %% [markdown]
# ## 6.1 A function of a matrix
#
# The exponential of a matrix is a sum of its powers, and powers are matrix products:
#
# $$e^X = \sum_{k=0}^{\infty} \frac{X^k}{k!} = I + X + \tfrac12 X X + \tfrac16 X X X + \dots$$
#
# Sum its first terms. With `terms` = 1 the result is $I$, with 2 it is $I + X$. The check goes up to 60 terms at a norm of 10, where $X^{59}$ and $59!$ are both out of reach for float32.


# %%
# Exercise 6.1 · implement · 15 min · difficulty 2 of 5
# Teaches the exponential of a matrix, and what its series costs in float32.
def my_series(X, terms):
    """The first terms of exp(X), the identity counted. (D, D) -> (D, D)"""
    ### BEGIN SOLUTION
    term = total = torch.eye(len(X), device=X.device, dtype=X.dtype)  # (D, D)
    for k in range(1, terms):
        term = term @ X / k  # (D, D)
        total = total + term
    return total
    ### END SOLUTION


my_series = check("lie.series", my_series).use
# hint("lie.series")

# %% [markdown]
# Is it a good way to compute $e^X$? We take $X = aJ$ with the unit generator of the plane, $J = \begin{pmatrix}0&-1\\1&0\end{pmatrix}$, whose norm is $a$ and whose exponential we know: a rotation by $a$ radians, with no entry above 1. Before you run the cell, guess for $a = 1, 10, 30$: how many terms does it take, and how many right digits are there in the end?

# %%
J = torch.tensor([[0.0, -1.0], [1.0, 0.0]])


def rotation(angle):
    """The exact answer, in float64. -> (2, 2)"""
    return torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.double)


def largest_error(found, angle):
    return (found.double() - rotation(angle)).abs().max().item()


counts = range(1, 131)
for a in (1, 10, 30):
    errors = [largest_error(my_series(a * J, n), a) for n in counts]
    plt.semilogy(counts, errors, label=f"norm {a}")
    print(f"norm {a:2}: error {errors[-1]:.1e} after {counts[-1]} terms, {max(errors):.1e} on the way")
plt.axhline(1, color="black", linewidth=0.8)
plt.text(130, 2, "size of the answer", ha="right", fontsize=9)
plt.gca().set(xlabel="terms of the series", ylabel="largest error", title="exp(aJ) in float32: more terms do not help")
plt.legend()
plt.show()

# %% [markdown]
# Now the same 16 terms for $X / 2^s$, and then $s$ squarings, by $e^X = (e^{X/2})^2$. Explain both ends of this list: what is wrong at $s = 0$, and why does the error creep up again at the end?

# %%
for s in (0, 2, 4, 5, 8, 12, 16, 20):
    g = my_series(30 * J / 2**s, 16)  # (2, 2)
    for _ in range(s):
        g = g @ g  # (2, 2)
    print(f"norm of X / 2^{s:<2} = {30 / 2**s:9.5f}: error {largest_error(g, 30):.1e}")

# %% [markdown]
# <details><summary>An explanation to compare yours with</summary>
#
# At $s = 0$ sixteen terms are far too few for a norm of 30, and the figure says that more would not save it. The terms $a^k/k!$ grow until $k = a$, where they reach about $e^a/\sqrt{2\pi a}$: at $a = 30$ nearly $10^{12}$. They cancel down to an answer below 1. But float32 keeps 7 digits of each, so $10^{12}$ leaves an error of $10^5$ that no later term repairs. At $a = 1$ nothing large is ever formed.
#
# Scaling makes every term small, and squaring brings the angle back. Each squaring doubles the relative error that is already there, so after $s$ of them up to about $2^s \cdot 6\cdot 10^{-8}$ is left: scale until the norm is near 1, and no further. This is the *scaling and squaring* of `torch.linalg.matrix_exp`. In 6.5 we take the small steps one after another instead, because there we move vectors and never form a matrix that could be squared.
# </details>

# %% [markdown]
# ## 6.2 The generator of a rotation
#
# A rotation of the plane by the angle $k\theta$, counter-clockwise, is
#
# $$R(k\theta) = \begin{pmatrix}\cos k\theta & -\sin k\theta\\ \sin k\theta & \cos k\theta\end{pmatrix}.$$
#
# Its *generator* is the velocity with which it sets out, $L = \frac{\mathrm d}{\mathrm d\theta} R(k\theta)\big|_{\theta=0}$. Differentiate on paper. Then build $L$ for $K$ planes at once: coordinates $2j$ and $2j+1$ make plane $j$ (counting from 0), which turns at frequency $k_j$. A frequency 0 holds its plane still.


# %%
# Exercise 6.2 · implement · 10 min · difficulty 2 of 5
# Teaches to get from a group to its generator: differentiate at the identity.
def my_rotation_generator(frequencies):
    """L with exp(theta L) turning plane j by k_j theta. K whole numbers -> (2K, 2K) floating-point"""
    ### BEGIN SOLUTION
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]])  # (2, 2) the derivative of R at 0, for k = 1
    return torch.block_diag(*(k * quarter for k in frequencies))  # (2K, 2K)
    ### END SOLUTION


my_rotation_generator = check("lie.rotation_generator", my_rotation_generator).use
# hint("lie.rotation_generator")

# %% [markdown]
# One parameter, three planes, three speeds: where is each plane after a quarter turn, $\theta = 90°$? Say it for frequencies 1, 2 and 4 before you run this.

# %%
quarter_turn = torch.linalg.matrix_exp(math.pi / 2 * my_rotation_generator([1, 2, 4]))  # (6, 6)
east = torch.tensor([1.0, 0.0]).repeat(3)  # (6,) the first unit vector in each plane
for k, plane in zip((1, 2, 4), (quarter_turn @ east).view(3, 2)):
    print(f"frequency {k}: (1, 0) goes to ({plane[0].round().item():+.0f}, {plane[1].round().item():+.0f})")

# %% [markdown]
# ## 6.3 What a skew generator does
#
# $L$ is *skew* if $L^\top = -L$. Prove for such an $L$: (a) its eigenvalues lie on the imaginary axis, (b) $e^{tL}$ is orthogonal for every $t$, (c) so $\lVert e^{tL}z\rVert = \lVert z\rVert$. And the reverse: (d) if $e^{tL}$ is orthogonal for all $t$, then $L$ is skew.
#
# <details><summary>The proof in steps</summary>
#
# 1. (a) Let $Lv = \lambda v$ with $v \in \mathbb C^D$, $v \neq 0$. Write $v^*$ for the conjugate transpose. Then $v^*Lv = \lambda\, v^*v$.
# 2. Take the conjugate transpose of this number: $(v^*Lv)^* = v^*L^\top v = -v^*Lv$, because $L$ is real and skew. So $\bar\lambda\, v^*v = -\lambda\, v^*v$.
# 3. $v^*v > 0$, hence $\bar\lambda = -\lambda$: the real part is 0. $L$ is real, so its eigenvalues come in pairs $\pm i\omega$; an odd $D$ leaves one over, which is its own conjugate and therefore 0.
# 4. (b) Let $Q(t) = e^{tL}$, so $\dot Q = LQ$. Then $\frac{\mathrm d}{\mathrm dt} Q^\top Q = Q^\top L^\top Q + Q^\top L Q = Q^\top(L^\top + L)Q = 0$. At $t = 0$ it is $I$, so it is $I$ for all $t$.
# 5. (c) $\lVert Qz\rVert^2 = z^\top Q^\top Q z = z^\top z$.
# 6. (d) Differentiate $Q^\top Q = I$ at $t = 0$, where $Q = I$ and $\dot Q = L$: $L^\top + L = 0$.
# </details>
#
# Then write the function that reads the speeds off: the imaginary parts $\omega \ge 0$, the fastest first. One number for each plane, also where two planes turn alike or one holds still, and a 0 for the axis that an odd $D$ leaves over.


# %%
# Exercise 6.3 · prove · 20 min · difficulty 3 of 5
# Teaches to read a generator: its eigenvalues say what turns, how fast, and that nothing grows.
def my_frequencies(L):
    """Of a skew L, in radians per unit of t, falling. (D, D) -> (ceil(D / 2),)"""
    ### BEGIN SOLUTION
    heights = torch.linalg.eigvals(L).imag.sort(descending=True).values  # (D,)
    return heights[: (len(L) + 1) // 2]  # (ceil(D / 2),)
    ### END SOLUTION


my_frequencies = check("lie.frequencies", my_frequencies).use
# hint("lie.frequencies")

# %%
X = torch.randn(7, 7, dtype=torch.double)
L, z = X - X.T, torch.randn(7, dtype=torch.double)
Q = torch.linalg.matrix_exp(1.7 * L)  # (7, 7)
same("(a)", torch.linalg.eigvals(L).real, torch.zeros(7))
same("(b)", Q.T @ Q, torch.eye(7))
same("(c)", (Q @ z).norm(), z.norm())
print("frequencies:", [round(w, 3) for w in my_frequencies(L).tolist()])

# %% [markdown]
# The operator of the lesson has a free $L$, nothing in its code makes it skew. When will training find a skew one all the same? Use (d).
#
# <details><summary>Answer</summary>
#
# When the embeddings ask for it: if $z$ and $z^g$ have equal lengths for all things and all poses, only an orthogonal $g$ takes the one to the other, and by (d) its generator is skew, in the directions that the embeddings use. In directions that no embedding uses, $L$ can be anything. So look at eigenvalues together with the energy in their directions.
# </details>

# %% [markdown]
# ## 6.4 Two generators that do not agree
#
# For numbers, $e^{a+b} = e^a e^b$. For matrices the order may matter: turn a book about two axes, then in the other order. Expand
#
# $$e^{sX}e^{sY} - e^{s(X+Y)}$$
#
# in powers of $s$ by hand and give its leading term, the first one that does not vanish. (The formula of Baker, Campbell and Hausdorff continues it.)


# %%
# Exercise 6.4 · implement · 15 min · difficulty 3 of 5
# Teaches the commutator: by how much exp(X + Y) misses exp(X) exp(Y).
def my_commutator_gap(X, Y, s):
    """Leading term of exp(sX) exp(sY) - exp(s(X + Y)) for small s. (D, D), (D, D), number -> (D, D)"""
    ### BEGIN SOLUTION
    return s**2 / 2 * (X @ Y - Y @ X)  # (D, D)
    ### END SOLUTION


my_commutator_gap = check("lie.commutator_gap", my_commutator_gap).use
# hint("lie.commutator_gap")

# %% [markdown]
# Three pairs. Which of them commute? Decide before you run this, then look at how the gap and its leading term shrink when $s$ is halved.

# %%
about_x = torch.tensor([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])
about_z = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 0]])
planes = my_rotation_generator([1, 0]), my_rotation_generator([0, 1])
pairs = {
    "turn and scale the plane": (J, torch.eye(2)),
    "turn two planes of 4-space": planes,
    "turn 3-space about x and about z": (about_x, about_z),
}
exp = torch.linalg.matrix_exp
for name, pair in pairs.items():
    X, Y = (matrix.double() for matrix in pair)
    for s in (0.2, 0.1):
        gap = exp(s * X) @ exp(s * Y) - exp(s * (X + Y))  # (D, D)
        print(f"{name:32}  s = {s}: gap {gap.norm():.5f}, leading term {my_commutator_gap(X, Y, s).norm():.5f}")

# %% [markdown]
# Now the operator learns two generators, $g = \exp(t_1L_1 + t_2L_2)$. What does $[L_1, L_2]$ decide about the coordinates $t_1, t_2$?
#
# <details><summary>Answer</summary>
#
# If $[L_1, L_2] = 0$, then $g = e^{t_1L_1}e^{t_2L_2}$ in either order: the coordinates are independent dials, moves add up, $(t_1,t_2)$ and then $(t_1',t_2')$ is $(t_1+t_1', t_2+t_2')$. Rotation in the picture plane and size are such a pair. If not, moves do not add up: two of them in a row are a third one whose coordinates have to be computed, and going round a square of four moves leaves you off by $t_1t_2[L_1, L_2]$. Rotations of an object in space are such a family, and the commutator of two of them is the third: two learned generators cannot close that family, three can.
#
# It also tells where a derivative is exact: $\partial g/\partial t_1 = L_1 g$ holds if the generators commute, and to first order otherwise.
# </details>

# %% [markdown]
# ## 6.5 Move without a matrix
#
# A batch of $B$ pairs has $B$ coordinates and needs $B$ group elements. For $B = 4096$ and $D = 128$ the matrices take 268 MB, the vectors 2 MB. But $e^{A}z$ needs no $e^A$: each term of the series is a vector, made from the one before.
#
# $$e^{A} z = \big(e^{A/s}\big)^s z, \qquad e^{A/s} z \approx \sum_{k=0}^{15} \frac{1}{k!} \Big(\frac As\Big)^k z, \qquad A = t_b L \tag{$*$}$$
#
# The rows of `z` are the vectors, and `t` holds one number a row. Three demands:
# - *No matrix for each row.* $e^{t_bL}$ is never formed, not even for one row after another, nor is the $(B, D, D)$ table of all $t_bL$. The check looks at the tensors that are computed.
# - *Far moves in float32.* Choose $s$ such that the series is safe for every row (6.1 says what that takes). The check goes up to a norm of $t_bL$ of 200, by a large $L$ or a large $t$ of either sign; and down to 0, where nothing moves. $L$ is any matrix, skew or not.
# - *Gradients.* The operator is trained through this function, so they have to reach $L$, $t$ and $z$. NumPy and scipy (`expm_multiply`) give the right numbers and stop the gradient.


# %%
# Exercise 6.5 · implement · 20 min · difficulty 4 of 5
# Teaches the operator itself: a group element for every row, and no group element in memory.
def my_act(L, t, z):
    """exp(t_b L) z_b for every row b. L (D, D), t (B,), z (B, D) -> (B, D)"""
    ### BEGIN SOLUTION
    furthest = t.detach().abs().max() * torch.linalg.matrix_norm(L.detach(), 2)
    s = max(1, math.ceil(furthest.item() / 2))
    for _ in range(s):
        term = z  # (B, D)
        for k in range(1, 16):
            term = t[:, None] / (s * k) * (term @ L.T)  # (B, D)
            z = z + term
    return z
    ### END SOLUTION


my_act = check("lie.act", my_act).use
# hint("lie.act")

# %%
L, t, z = my_rotation_generator([1, 2, 3]), torch.linspace(-12, 12, 5), torch.randn(5, 6)
g = torch.linalg.matrix_exp(t[:, None, None] * L)  # (5, 6, 6) here they are small enough to form
same("(*)", my_act(L, t, z), (g @ z[:, :, None])[:, :, 0], tolerance=1e-4)
there_and_on = my_act(L, 2.5 - t, my_act(L, t, z))
same("two moves add up", there_and_on, my_act(L, torch.full((5,), 2.5), z), tolerance=1e-4)
learning = t.clone().requires_grad_()
my_act(L, learning, z)[:, 0].sum().backward()
same("its velocity is L exp(tL) z", learning.grad, (my_act(L, t, z) @ L.T)[:, 0], tolerance=1e-4)

# %% [markdown]
# ## 6.6 How far apart are two poses?
#
# The pair is given, $t$ is wanted. Walk along the orbit of $z$ and see where it comes nearest $z^g$:
#
# $$\hat t = \arg\min_{t \,\in\, \text{grid}} \lVert e^{tL}z - z^g\rVert^2.$$
#
# Every row has a $\hat t$ of its own. $L$ need not be skew here.


# %%
# Exercise 6.6 · implement · 15 min · difficulty 3 of 5
# Teaches to infer a coordinate by search, with nothing to train.
def my_infer(L, z, z_g, times):
    """The t of the grid that takes each z nearest its z_g. (D, D), (B, D), (B, D), (T,) -> (B,)"""
    ### BEGIN SOLUTION
    g = torch.linalg.matrix_exp(times[:, None, None] * L)  # (T, D, D)
    path = torch.einsum("tij,bj->bti", g, z)  # (B, T, D)
    far = (path - z_g[:, None]).square().sum(dim=2)  # (B, T)
    return times[far.argmin(dim=1)]  # (B,)
    ### END SOLUTION


my_infer = check("lie.infer", my_infer).use
# hint("lie.infer")

# %% [markdown]
# When is the answer not unique? Below are the distances along the orbits of two embeddings, one with the frequencies 1, 2, 3, one with 2 and 4 only. Both were turned by 100°. What would a picture look like whose embedding holds only even frequencies?

# %%
true = math.radians(100)
times = torch.linspace(-math.pi, math.pi, 361)[1:]  # (360,) every degree once
for frequencies, colour in (([1, 2, 3], plot.BLUE), ([2, 4], plot.RED)):
    L = my_rotation_generator(frequencies)
    z = torch.ones(1, len(L))
    z_g = my_act(L, torch.tensor([true]), z)
    far = (my_act(L, times, z.expand(360, -1)) - z_g).square().sum(dim=1)  # (360,)
    plt.plot(times.rad2deg(), far, color=colour, label=f"frequencies {frequencies}")
    found = math.degrees(my_infer(L, z, z_g, times))
    noisy = z_g + 0.05 * torch.randn(200, len(L))
    answers = my_infer(L, z.expand(200, -1), noisy, times).rad2deg()
    shares = [f"{share:.0%} near {a}°" for a in (100, -80) if (share := ((answers - a).abs() < 20).double().mean()) > 0]
    print(f"frequencies {frequencies}: t = {found:.0f}°; with noise {', '.join(shares)}, mean {answers.mean():.0f}°")
plt.axvline(100, color="black", linewidth=0.8)
plt.gca().set(xlabel="t (degrees)", ylabel="squared distance to $z^g$", xticks=range(-180, 181, 60))
plt.gca().set_title("The orbit comes near once, or twice")
plt.legend()
plt.show()

# %% [markdown]
# <details><summary>Answer</summary>
#
# With even frequencies only, $e^{tL}$ repeats after half a turn, so 100° and −80° are equally right. That is a picture which looks the same upside down: a letter S, a playing card, a plus sign. A search takes one of the two. A network that reads $t$ from the pair and is trained by squares answers with their mean, which is neither, and that mean is what the last column shows. The same happens, less strictly, to pictures that nearly repeat.
#
# The grid must be fine enough to fall into the right valley: its spacing below half the shortest period, $2\pi/k_{\max}$.
# </details>

# %% [markdown]
# ## 6.7 Whose gain is it?
#
# A base model is trained with and without a Lie operator beside it, on the same pictures. With it, a probe on the encoder recognises objects in new poses better. Why? Three worlds, each of which shows this gain:
#
# | world | what brings the gain |
# |---|---|
# | **invariance** | The encoder drops the pose, and this brings the gain. It drops it because the operator does not find the angle: with $t$ as inferred $g$ turns nothing, so the loss becomes small in one way only, $z^g = z$. What can be met by turning is met by turning, and then the pose stays. |
# | **operator** | $g$ turns each embedding by the angle between its two pictures, and the gain needs this: with a wrong angle or without $g$ it is gone. |
# | **noise** | $g$ pushes the features about, never to the right place. Being pushed that far helps the probe, in whatever direction. Without a push it is gone. |
#
# We run four controls. Each changes one thing and trains again:
#
# | control | what changes |
# |---|---|
# | **identity** | $g = 1$ for all pairs; all losses stay |
# | **shuffled** | each pair gets the $t$ of another pair of the batch; the sizes of $t$ stay as they were |
# | **positives** | no operator and no Lie loss: the base model takes two poses of one thing as a plain positive pair |
# | **true angle** | $t$ is the known angle of the pair, in the same units, and so of the same size |
#
# For each world, which controls **keep** the whole gain? Losing a part of it is not keeping it. Answer with four truth values, in the order identity, shuffled, positives, true angle: `(True, False, ...)`, as a tuple, a list, an array or a tensor.

# %%
# Exercise 6.7 · predict · 15 min · difficulty 3 of 5
# Teaches to ask of a gain which part of the method brought it, and which control would tell.
### BEGIN SOLUTION
gain_invariance = (True, True, True, False)
gain_operator = (False, False, False, True)
gain_noise = (False, True, False, True)
### END SOLUTION
gain_invariance = check("lie.gain_invariance", gain_invariance).use
gain_operator = check("lie.gain_operator", gain_operator).use
gain_noise = check("lie.gain_noise", gain_noise).use
# hint("lie.gain_invariance")
# hint("lie.gain_operator")
# hint("lie.gain_noise")

# %% [markdown]
# The reasoning, as a program: what a world needs, what a control still supplies.

# %%
needs = {"invariance": "no way but z^g = z", "operator": "this pair's angle", "noise": "a push"}
supplies = {
    "identity": {"no way but z^g = z"},
    "shuffled": {"no way but z^g = z", "a push"},
    "positives": {"no way but z^g = z"},
    "true angle": {"this pair's angle", "a push"},  # and with it the way by turning
}
predicted = {"invariance": gain_invariance, "operator": gain_operator, "noise": gain_noise}
print(f"{'world':12}{'needs':20}" + "".join(f"{control:12}" for control in supplies))
rows = []
for world, need in needs.items():
    kept = tuple(need in given for given in supplies.values())
    rows.append(kept)
    print(f"{world:12}{need:20}" + "".join(f"{'keeps' if k else 'loses':12}" for k in kept))
given = torch.stack([torch.as_tensor(row) for row in predicted.values()])  # (3, 4)
same("predicted", given.double(), torch.tensor(rows).double())

# %% [markdown]
# Now real runs: the gains measured in section 7 of the lesson, on a known drawing in a new pose, by a linear probe (three seeds). Beside them the share of the features' variance that is due to the pose. For MAE nothing but the new losses trains what is read, so we leave it out.

# %%
measured = {entry: robustness.shares(result) for entry, result in robustness.known().items()}


def by_seed(base, control, of):
    return torch.tensor([of(measured[base, control, seed]) for seed in robustness.SEEDS])  # (3,)


def right(result):
    return 100 * result["hits"]["linear probe"]["known, new pose"]


def pose_share(result):
    return result["pose share"]


print(f"{'':24}{'gain in points, mean':>22}{'of each seed':>18}{'pose share':>12}")
for base in ("vicreg", "simclr"):
    for control in ("alone", "operator", "identity", "shuffled", "positives", "angle"):
        gain = by_seed(base, control, right) - by_seed(base, "alone", right)
        seeds = " ".join(f"{g:.0f}" for g in gain)
        share = by_seed(base, control, pose_share).mean()
        print(f"{base:10}{control.replace('angle', 'true angle'):14}{gain.mean():22.1f}{seeds:>18}{share:12.2f}")

# %% [markdown]
# Which row of yours do they fit? Which two controls tell the three worlds apart, and what are the others good for?
#
# <details><summary>Answer</summary>
#
# The row of invariance. Identity, shuffled and positives keep the gain or exceed it, up to a point or two, which is less than the seeds differ. The true angle is the one control that loses in every seed of both bases. The last column is what the row was derived from: with an operator that can turn, the encoder keeps more of the pose.
#
# It loses a part and not all. The row was derived for a pure world, where what can be met by turning is met by turning. Here the encoder does some of both. So the direction was predicted, the size was not.
#
# *Identity* tells invariance from the other two, *shuffled* tells noise from a real operator: two controls are enough. *Positives* changes its answer together with identity; it says in addition that the gain can be had without the Lie loss, so it is the fair rival. *True angle* is the counter-test of identity: it gives the operator its best chance. A gain that needs the operator would not shrink there.
#
# Worlds mix, and real runs have spread: compare over several seeds, and ask for the *share* of the gain that a control keeps.
# </details>

# %% [markdown]
# ## 6.8 Break the operator
#
# The loss of the lesson asks for $gz \approx z^g$. There are two ways to get there: find the right $g$, or make $z$ and $z^g$ the same and leave $g = 1$. The second is called *collapse to the identity*, and the loss looks good all the way. First the instrument that sees it: the share of the gap between the poses that the operator leaves,
#
# $$\rho = \frac{\frac1B\sum_b\lVert e^{t_bL}z_b - z_b^g\rVert^2}{\frac1B\sum_b\lVert z_b - z_b^g\rVert^2}.$$


# %%
# Exercise 6.8 · break · 25 min · difficulty 4 of 5
# Teaches how the operator dies while its loss is small, and what to look at instead of the loss.
def my_gap_ratio(L, t, z, z_g):
    """0: the operator goes all of the way, 1: it does nothing. (D, D), (B,), (B, D), (B, D) -> one number"""
    ### BEGIN SOLUTION
    left_over = (my_act(L, t, z) - z_g).square().sum(dim=1)  # (B,)
    gap = (z - z_g).square().sum(dim=1)  # (B,)
    return left_over.mean() / gap.mean()
    ### END SOLUTION


my_gap_ratio = check("lie.gap_ratio", my_gap_ratio).use
# hint("lie.gap_ratio")

# %% [markdown]
# Now a world in which we know everything. A thing is a vector $x$ in some planes: `still` of them hold still under rotation (what the thing *is*), and two more turn at the frequencies 1 and 2 (its *pose*). The encoder is one linear map to `dim` dimensions and a batch norm, so it cannot shrink $z$ to zero, but it can choose what to look at. Encoder and operator are trained together, with weight `keep` on a SimCLR term that has the other pose as a negative: it pays for telling poses apart. No step sees an angle.


# %%
STEPS = budget(cpu=400, quick=4)


def train(still=2, dim=8, keep=1.0, steps=STEPS, batch=128):
    """Train encoder and operator together, then measure on new things."""
    torch.manual_seed(0)
    world = my_rotation_generator([0] * still + [1, 2])  # (2 still + 4, 2 still + 4)
    encoder = nn.Sequential(nn.Linear(len(world), dim), nn.BatchNorm1d(dim, affine=False))
    operator = LieOperator(dim, hidden=32)
    parameters = [*encoder.parameters(), *operator.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0.05, steps)

    def pairs(size):
        x, angle = torch.randn(size, len(world)), 1.2 * torch.rand(size) - 0.6  # (B, D), (B,) radians, up to 34°
        return torch.cat([x, my_act(world, angle, x)]), angle  # (2B, D)

    for _ in range(steps):
        x, _ = pairs(batch)
        contrast, euclid = lie_loss(operator, *encoder(x).chunk(2))
        one, other = (F.normalize(encoder(x + 0.1 * torch.randn_like(x)), dim=1) for _ in range(2))  # (2B, D) each
        loss = 0.3 * contrast + euclid + keep * info_nce(one, other, 0.1)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        x, angle = pairs(1000)
        z, z_g = encoder(x).chunk(2)
        t = operator.infer(z, z_g)[:, 0]  # (1000,)
        L = operator.basis[0]
        return {
            "lie loss": lie_loss(operator, z, z_g)[1].item(),
            "gap between poses": (z - z_g).square().sum(dim=1).mean().item(),
            "ratio": my_gap_ratio(L, t, z, z_g).item(),
            "spread of t": t.std().item(),
            "correlation of t and angle": abs(torch.corrcoef(torch.stack([t, angle]))[0, 1].item()),
        }, torch.linalg.eigvals(L)


works, working_eigenvalues = train()
for name, value in works.items():
    print(f"{name:28}{value:9.2g}")

# %% [markdown]
# It works: the ratio is far below 1, and $t$ follows the angle that nobody told. Break it. Choose `still`, `dim` and `keep` such that the operator dies while the Lie loss becomes *smaller*. First think: what must the encoder be free to do?

# %%
### BEGIN SOLUTION
broken = dict(still=2, dim=4, keep=0.0)  # nothing pays for the pose, and four still coordinates fill four dimensions
### END SOLUTION
if broken is not ...:
    breaks, broken_eigenvalues = train(**broken)
    print(f"{'':28}{'works':>9}{'broken':>9}")
    for name, value in works.items():
        print(f"{name:28}{value:9.2g}{breaks[name]:9.2g}")
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharex=True, sharey=True)
    for ax, values, title in zip(axes, (working_eigenvalues, broken_eigenvalues), ("works", "broken")):
        ax.axvline(0, color="black", linewidth=0.8)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.scatter(values.real, values.imag, color=plot.BLUE if title == "works" else plot.RED)
        ax.set(xlabel="real part: growth", xlim=(-1, 1), title=f"eigenvalues of L: {title}")
    axes[0].set_ylabel("imaginary part: turning")
    plt.show()

# %% [markdown]
# Explain: (a) which rows of the table would have fooled you, and which would not; (b) what the eigenvalues say in both panels, and why the heights in the left one are in the proportion 1 : 2 but are not 1 and 2; (c) try `dim=4` alone, `keep=0` alone, and `still=0` with `keep=0`: which of them break it, and why not all?
#
# <details><summary>An explanation to compare yours with</summary>
#
# (a) The Lie loss is smallest where the operator is dead: it fooled you, if you watched it alone. The ratio does not, because it asks what doing nothing would have left. The gap between poses says how it came about: the encoder has dropped the pose. Where that gap is nearly zero the ratio may even exceed 1, and the operator adds noise of its own.
#
# (b) Left: two pairs on the imaginary axis, two planes that turn and do not grow, and the rest at 0, which is what holds still. Only $tL$ has a meaning, so the unit of $t$ is the operator's own and heights are known up to one factor; their proportion is not free. Right: nothing turns. What is left stands wherever it stood when the gap had closed, and no embedding asks for it.
#
# (c) `dim=4` alone breaks it, although the pose is paid for: only four directions fit, the still ones tell things apart as well as the turning ones do, and they cost no Lie loss. `keep=0` alone breaks it more slowly: nothing asks for the pose any more, and it is on its way out. In both a remnant of the pose may be left, and the ratio below 1, because the operator learns to reduce what is left by other means than turning. The correlation near 0 and eigenvalues without 1 : 2 on the imaginary axis give it away: one number is seldom enough. With `still=0` the encoder has nothing but the pose to look at and cannot drop it, even where nobody pays for it. So the operator has work to do; with other seeds than ours it sometimes ends in a poor minimum instead, which is a failure and not this collapse. An operator has work only where the pose is kept: that is why the lesson trains its encoder with the other pose as a negative.
# </details>

# %%
progress()
