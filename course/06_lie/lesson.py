# %% [markdown]
# # 06 · The Lie operator: variation as a group that acts on representations
#
# **You derive** the exponential of a matrix, why a few matrices describe infinitely many rotations, what a rotation's frequencies are, the operator and its loss, and why that loss has a second solution that nobody wants.
#
# **You train** the operator on drawings that turn, with the controls that tell a rotation from an accident, and then a representation in which it finds the rotation without ever being told an angle.
#
# After this lesson you can
# - move between a group and its algebra, in both directions, on paper and in code;
# - read the frequencies of a representation off the eigenvalues of one matrix;
# - say for a gain in robustness which control would have shown the same gain, and run it;
# - find a hidden angle in features that were never told one.
#
# *Before this:* lesson 01 (InfoNCE). The bases SimCLR, VICReg and MAE are used as they are, with a box on each where they first occur; [lesson 03](03_simclr.ipynb) derives SimCLR, [lesson 05](05_vicreg.ipynb) VICReg and [05b](05b_mae.ipynb) MAE. *Papers:* Ibrahim, Bouchacourt and Morcos 2022 (the operator); Hall 2003 (Lie groups, second edition 2015); Al-Mohy and Higham 2011 (the exponential's action).

# %%
from minilip.course import *

device = setup("06_lie")

# %%
import copy
import math

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from scipy.linalg import expm
from scipy.optimize import minimize_scalar
from scipy.spatial.transform import Rotation
from scipy.stats import spearmanr

from minilip import lie
from minilip.studies.lie import route as orbit_study
from minilip.studies.lie import learners, orbits, readers
from minilip.course import plot
from minilip.studies.lie import robustness
from minilip.data.poses import PosedEmoji
from minilip.evaluation import interval
from minilip.lie import LieOperator, exp_action, lie_loss, orbit, search, spectrum
from minilip.training import fit, load_encoder
from minilip.course.widgets import panel

# %% [markdown]
# ## 1. A question
#
# Below, each row is one drawing. You have seen the first two from every side. The third you have only seen upright. Nevertheless you know it upside down, and you knew it the first time.

# %%
data = PosedEmoji("test", concepts=budget(cpu=240, quick=24))
varied, typical = data.varied.nonzero()[[0, 3], 0], data.typical.nonzero()[2, 0]
pictures, words = [], []
for row in (*varied, typical):
    for pose in data.angles[row].argsort()[::3]:
        shown = data.trained[row, pose]
        pictures.append(data.images[row, pose] if shown else torch.full_like(data.images[row, pose], 235))
        words.append(f"{data.angles[row, pose]:.0f}°" if shown else "never seen")
figure = plot.images(torch.stack(pictures), words, columns=8)

# %% [markdown]
# What did you learn from the first two that tells you about the third? Not what it looks like: no pixel of it is in them. You learned what *turning* does, to anything.
#
# This is the question of the sources: can what varies be learned from the things that are seen to vary, and be carried over to those that are not? They call it structuring variation as a transformation in representation space. Their test has three cells: a known drawing in a new pose, an unknown drawing, an unknown drawing in its typical pose.
#
# ## 2. A first guess, and how it fails
#
# Name each picture after the nearest one we know. The classes are 240 things; each is drawn by four artists. One artist's drawing of each thing is kept away (*unknown*). Of half the things, two drawings were seen from every side (*varied*). All other known drawings were seen within 20 degrees of upright (*typical-only*).

# %%
pixels = (
    F.avg_pool2d(data.images.flatten(0, 1).float() / 255, 2).flatten(1).unflatten(0, data.images.shape[:2])
)  # (I, T, D)
guess = orbit_study.nearest(pixels - pixels[data.trained].mean(dim=0), data)
print(f"{data.varied.sum()} drawings seen varied, {data.typical.sum()} typical-only, {data.unknown.sum()} unknown")
for cell, right in guess.items():
    print(f"{cell:30} {right:6.1%} named right   (chance {1 / len(data.labels):.1%})")

# %% [markdown]
# The typical-only drawings are lost as soon as they turn, although they hang in the album. To have them all from all sides would take an album of every pose of every thing.
#
# Keep these pixels in mind. They come back in section 8, in a role that is easily forgotten: as the row of a table that has no network in it.
#
# ## 3. The idea
#
# > Keep one picture of each thing, and one rule for turning.
#
# Let $z$ be the representation of a picture and $z^g$ that of the same thing turned. The rule is a matrix $g$, the same for all things, that takes the one to the other. All turns, small and large, come from one matrix $L$:
#
# $$z^g \approx g\,z, \qquad g = \exp(tL),$$
#
# and in one line of code: `matrix_exp(t * L) @ z`. What $\exp$ of a matrix is, why one $L$ is enough for infinitely many turns, and how $L$ and $t$ could be learned from pairs of pictures alone is the next section. Whether they *are* learned is the rest of the lesson, and the answer is not the expected one.
#
# ## 4. Derivation
#
# Letters: $z, z^g \in \mathbb R^D$ the representations of one thing in two poses; $L_1, \dots, L_N$ real $D\times D$ matrices, the *generators*; $t \in \mathbb R^N$ the *coordinates* of a transformation; $g$ the matrix that carries it out; $P$ the $t$ of a full turn; $B$ pairs in a batch. $X$ and $Y$ are any matrices. In the comments on shapes: $I$ drawings, $V$ of them varied and $U$ unknown, $T$ poses of each.
#
# ### 4.1 A group that is not a vector space
#
# Turn a thing by $\alpha$ and then by $\beta$: you have turned it by $\alpha+\beta$. Turn it by nothing: it stays. Turn it back: it is where it was. Transformations that can be composed and undone form a *group*. As matrices in the plane,
#
# $$R(\theta) = \begin{pmatrix}\cos\theta & -\sin\theta\\ \sin\theta & \cos\theta\end{pmatrix}, \qquad R(\alpha)\,R(\beta) = R(\alpha+\beta). \tag{1}$$
#
# This group is called SO(2). It is *continuous*: $\theta$ is a real number, and $R$ depends on it smoothly. A continuous group whose elements are smooth functions of some real parameters is a *Lie group*. It is not a vector space. The sum of two rotations is no rotation: $R(0) + R(\pi)$ is the zero matrix. So one cannot average its elements, fit them by least squares, or take a gradient step and stay inside. That is the difficulty which the algebra removes.


# %%
def R(theta):
    return torch.tensor([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]], dtype=torch.double)


# check (1): two matrices multiplied on the left; on the right one turn, as multiplication by a complex number
a, b = 0.7, 1.9
turned = torch.tensor(complex(math.cos(a + b), math.sin(a + b)) * (2 - 1j), dtype=torch.cdouble)
same("(1)", R(a) @ R(b) @ torch.tensor([2.0, -1.0], dtype=torch.double), torch.view_as_real(turned))

# %% [markdown]
# ### 4.2 What all small turns have in common
#
# Turn by a tiny angle $\varepsilon$. To first order $\cos\varepsilon = 1$ and $\sin\varepsilon = \varepsilon$, so
#
# $$R(\varepsilon) \approx I + \varepsilon L, \qquad L = R'(0) = \begin{pmatrix}0 & -1\\ 1 & 0\end{pmatrix}. \tag{2}$$
#
# All small turns are multiples of *one* matrix. That is the *generator*. The multiples $\theta L$ do form a vector space, with one basis matrix: it is the *Lie algebra* of SO(2).
#
# A large turn is many small ones. Divide $\theta$ into $n$ parts, $R(\theta) = R(\theta/n)^n \approx (I + \theta L/n)^n$, and let $n$ grow. For numbers this limit is $e^{\theta L}$; for matrices it defines it. Expand the power: the binomial coefficient $\binom nk n^{-k}$ tends to $1/k!$, and what remains is the series that one knows from numbers:
#
# $$R(\theta) = \exp(\theta L) := \lim_{n\to\infty}\Big(I + \frac{\theta L}n\Big)^n = \sum_{k=0}^\infty \frac{(\theta L)^k}{k!}. \tag{3}$$
#
# For this $L$ the series can be summed by hand. $L^2 = -I$, so even powers give $\pm I$ and odd ones $\pm L$: $\exp(\theta L) = (1 - \frac{\theta^2}2 + \dots)\,I + (\theta - \frac{\theta^3}6 + \dots)\,L = \cos\theta\, I + \sin\theta\, L$, which is $R(\theta)$ again.

# %%
# check (2): a difference quotient on the left, the generator on the right
L2 = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.double)
same("(2)", (R(1e-6) - R(-1e-6)) / 2e-6, L2)

# check (3): a million small steps, and the series, against the rotation and against scipy, one matrix at a time
theta = 2.4
steps = torch.linalg.matrix_power(torch.eye(2, dtype=torch.double) + theta * L2 / 2**20, 2**20)
term, series = torch.eye(2, dtype=torch.double), torch.eye(2, dtype=torch.double)
for k in range(1, 30):
    term = term @ (theta * L2) / k
    series = series + term
same("(3) small steps", steps, R(theta))
same("(3) series     ", series, R(theta))
same("(3) scipy      ", torch.from_numpy(expm(theta * L2.numpy())), R(theta))

# %% [markdown]
# ### 4.3 One generator, a whole path through the group
#
# Fix $L$ and let $t$ run. Because $tL$ and $t'L$ commute, the product of their series is the series of the sum, term by term as for numbers:
#
# $$\exp(t'L)\exp(tL) = \exp\big((t'+t)L\big), \qquad \exp(0) = I, \qquad \exp(tL)^{-1} = \exp(-tL). \tag{4}$$
#
# So $\{\exp(tL)\}$ is a group by itself, a *one-parameter subgroup*, and it is one whatever matrix $L$ we take. Nothing has to be enforced: composition, identity and inverse come for free, and a gradient step on $L$ leads to another group. This is why it pays to learn $L$ and not $g$.
#
# Can it do anything to a space? It can turn, stretch, shear, but never fold or flatten. The determinant, the factor by which volumes grow, is
#
# $$\det\exp(L) = e^{\operatorname{tr}L} > 0. \tag{5}$$
#
# The reason: the determinant is the product of the eigenvalues, the trace their sum, and each eigenvalue $\lambda$ of $L$ becomes $e^\lambda$ in the exponential, since $Lv = \lambda v$ gives $L^kv = \lambda^kv$ in every term of the series. Some matrices have fewer than $D$ eigenvectors (a shear has one). For them, write $L = U\,\Delta\,U^{-1}$ with an upper triangular $\Delta$ that has the eigenvalues on its diagonal; every matrix can be written so over the complex numbers (Schur). Powers and sums of such $\Delta$ are triangular again, with $\lambda^k$ on the diagonal, so $\exp(L) = U\exp(\Delta)\,U^{-1}$ has the $e^\lambda$ there.

# %%
# check (4): products of exponentials on the left, one exponential on the right
X = torch.randn(5, 5, dtype=torch.double)
exp = torch.linalg.matrix_exp
same("(4) composition", exp(0.3 * X) @ exp(0.8 * X), torch.from_numpy(expm(1.1 * X.numpy())))
same("(4) inverse    ", exp(X) @ exp(-X), torch.eye(5, dtype=torch.double))

# check (5): a determinant on the left, a trace on the right; then a matrix that has a single eigenvector
jordan = 0.3 * torch.eye(4, dtype=torch.double) + torch.diag(torch.ones(3, dtype=torch.double), 1)
for name, matrix in (("any matrix    ", X), ("one eigenvector", jordan)):
    same(f"(5) {name}", torch.linalg.det(exp(matrix)), math.exp(float(matrix.diagonal().sum())))

# %% [markdown]
# ### 4.4 Lengths that stay: skew matrices
#
# When does $\exp(tL)$ leave all lengths alone? When $\frac{\mathrm d}{\mathrm dt}\lVert\exp(tL)z\rVert^2 = 0$. With $u = \exp(tL)z$ the derivative of $u$ is $Lu$, so that of $u^\top u$ is $u^\top(L + L^\top)u$. It vanishes for every $u$ exactly if
#
# $$L^\top = -L \quad\Longleftrightarrow\quad \exp(tL)^\top\exp(tL) = I \text{ for all } t. \tag{6}$$
#
# Such a matrix is called *skew-symmetric*. Below its diagonal it has $D(D-1)/2$ free numbers, one for each plane that can be turned. In three dimensions that makes three, the turns about the three axes:
#
# $$L_x = \begin{pmatrix}0&0&0\\0&0&-1\\0&1&0\end{pmatrix},\quad L_y = \begin{pmatrix}0&0&1\\0&0&0\\-1&0&0\end{pmatrix},\quad L_z = \begin{pmatrix}0&-1&0\\1&0&0\\0&0&0\end{pmatrix},$$
#
# and $\exp(t_xL_x + t_yL_y + t_zL_z)$ is the turn by the angle $\lVert t\rVert$ about the axis $t$. Three matrices describe the infinitely many rotations of space: every one of them is the exponential of a sum. This is the sentence of the sources, "the infinite number of elements of the group by a finite number of basis matrices". For SO(3) the series has a closed form as well. With $J = (t_xL_x + t_yL_y + t_zL_z)/\lVert t\rVert$ one finds $J^3 = -J$, and the terms collect into
#
# $$\exp(\varphi J) = I + \sin\varphi\;J + (1 - \cos\varphi)\,J^2, \qquad \varphi = \lVert t\rVert \quad\text{(Rodrigues)}. \tag{7}$$

# %%
so3 = torch.zeros(3, 3, 3, dtype=torch.double)  # (N, D, D): L_x, L_y, L_z
for n, (i, j) in enumerate(((2, 1), (0, 2), (1, 0))):
    so3[n, i, j], so3[n, j, i] = 1, -1

# check (6): for any matrix, how fast the squared length grows, by a difference quotient and by its symmetric part
W, z7 = torch.randn(7, 7, dtype=torch.double), torch.randn(7, dtype=torch.double)
u7, eps = exp(0.4 * W) @ z7, 1e-6
growth = ((exp(eps * W) @ u7).square().sum() - (exp(-eps * W) @ u7).square().sum()) / (2 * eps)
same("(6) growth of any L", growth, u7 @ (W + W.T) @ u7, tolerance=1e-4)
S = W - W.T  # a skew one: nothing grows, and the exponential is orthogonal
rotation = torch.from_numpy(expm(1.3 * S.numpy()))
same("(6) skew L         ", rotation.T @ rotation, torch.eye(7, dtype=torch.double))

# check (7): the exponential by the library of this course, scipy's rotations, and Rodrigues
t3 = torch.tensor([0.4, -1.1, 0.8], dtype=torch.double)
phi, J = t3.norm(), torch.einsum("n,nij->ij", t3, so3) / t3.norm()
rodrigues = torch.eye(3) + phi.sin() * J + (1 - phi.cos()) * J @ J
same("(7) scipy  ", torch.from_numpy(Rotation.from_rotvec(t3.numpy()).as_matrix()), rodrigues)
same("(7) minilip", exp_action(so3, t3.expand(3, 3), torch.eye(3, dtype=torch.double)).T, rodrigues)

# %% [markdown]
# ### 4.5 Several generators: when order matters
#
# For numbers $e^{a+b} = e^ae^b$. For matrices this needs $XY = YX$. Multiply the series of $\exp(\varepsilon X)\exp(\varepsilon Y)$ and compare with $\exp(\varepsilon(X+Y))$ up to second order. On the left $\varepsilon^2(\frac{X^2}2 + XY + \frac{Y^2}2)$; on the right $\frac{\varepsilon^2}2(X+Y)^2 = \frac{\varepsilon^2}2(X^2 + XY + YX + Y^2)$. The difference is half the *commutator*:
#
# $$\exp(\varepsilon X)\exp(\varepsilon Y) - \exp\big(\varepsilon(X+Y)\big) = \tfrac{\varepsilon^2}2\,[X, Y] + O(\varepsilon^3), \qquad [X,Y] = XY - YX. \tag{8}$$
#
# Turning a picture and enlarging it can be done in either order: their generators commute. Turns about two axes of space cannot: $[L_x, L_y] = L_z$. That is why the operator below takes the exponential of the *sum*: with $\exp(t_1L_1)\exp(t_2L_2)$ the result would depend on how we number the generators.

# %%
# check (8): the difference at a small epsilon on the left, half the commutator on the right
eps, Y = 1e-4, torch.randn(5, 5, dtype=torch.double)
apart = (exp(eps * X) @ exp(eps * Y) - exp(eps * (X + Y))) / eps**2
same("(8) any two matrices", apart, (X @ Y - Y @ X) / 2, tolerance=1e-2)
apart = (exp(eps * so3[0]) @ exp(eps * so3[1]) - exp(eps * (so3[0] + so3[1]))) / eps**2
same("(8) two axes of space", apart, so3[2] / 2, tolerance=1e-4)
enlarge = torch.eye(2, dtype=torch.double)
same("(8) turning and enlarging commute", exp(0.7 * L2) @ exp(0.2 * enlarge), exp(0.7 * L2 + 0.2 * enlarge))

# %% [markdown]
# ### 4.6 The frequencies of a rotation
#
# Let $L$ be skew and $\lambda$ an eigenvalue with the (perhaps complex) eigenvector $v$. Then $\bar v^\top L v = \lambda\lVert v\rVert^2$. The conjugate of the left side is $v^\top L\bar v = (L^\top v)^\top\bar v = -(Lv)^\top\bar v = -\lambda\lVert v\rVert^2$. So $\bar\lambda = -\lambda$: *all eigenvalues lie on the imaginary axis*, $\lambda = \pm i\omega$. Real and imaginary part of $v$ span a plane, and in that plane $\exp(tL)$ is a rotation by $\omega t$:
#
# $$\exp(tL) = Q\,\operatorname{diag}\big(R(\omega_1t), R(\omega_2t), \dots, 1, \dots\big)\,Q^\top, \qquad Q^\top Q = I. \tag{9}$$
#
# Now suppose that this represents turning a picture. After a full turn the picture is back, and so is its feature: $\exp(PL)z = z$, with $P$ the $t$ of a full turn. Each plane that $z$ uses must be back as well, $\omega_kP = 2\pi\cdot$ a whole number:
#
# $$\frac{\omega_k P}{2\pi} \in \{0, 1, 2, 3, \dots\}. \tag{10}$$
#
# These are the *irreducible representations* of SO(2): the ways in which something can turn with a picture. With frequency 0 it does not. With 1 it turns like an arrow, with 2 like a line, which looks the same after half a turn, with 4 like a square. If a network contains a rotation, its generator has a ladder of whole numbers on the imaginary axis. We shall look for that ladder.

# %%
# check (9): any skew matrix, by the series on the left; on the right its planes, built from eigenvectors, each turned
values, vectors = torch.linalg.eig(S)  # S is skew, of 7 dimensions
planes = [(float(values[k].imag), vectors[:, k]) for k in range(7) if values[k].imag > 1e-9]
still = vectors[:, values.imag.abs().argmin()].real
Q = torch.stack([part * 2**0.5 for _, v in planes for part in (v.real, -v.imag)] + [still / still.norm()], dim=1)
blocks = torch.block_diag(*(R(omega * 0.6) for omega, _ in planes), torch.ones(1, 1, dtype=torch.double))
same("(9) Q^T Q = I", Q.T @ Q, torch.eye(7, dtype=torch.double))
same("(9)          ", torch.from_numpy(expm(0.6 * S.numpy())), Q @ blocks @ Q.T)

# check (10): a hidden rotation in unknown units; the first t at which a feature is back, and then the eigenvalues
Q = torch.linalg.qr(torch.randn(5, 5, dtype=torch.double))[0]
hidden = Q @ torch.block_diag(1 * L2, 3 * L2, torch.zeros(1, 1, dtype=torch.double)) @ Q.T
z5 = torch.randn(5, dtype=torch.double)


def away(t):
    return float((torch.from_numpy(expm(t * 0.37 * hidden.numpy())) @ z5 - z5).norm())


full_turn = minimize_scalar(away, bounds=(10, 25), method="bounded", options={"xatol": 1e-9}).x
ladder = torch.linalg.eigvals(0.37 * hidden).imag.sort().values * full_turn / (2 * math.pi)
same("(10)", ladder, torch.tensor([-3.0, -1, 0, 1, 3]).double())
print(f"a third of the way the plane of frequency 3 is back, that of 1 is not: {away(full_turn / 3):.2f} away")

# %% [markdown]
# ### 4.7 The operator and its loss
#
# The sources put this to work on representations. A pair of pictures of one thing in two poses gives $z$ and $z^g$. A small network reads from the pair how far apart they are, $\hat t = \mathrm{MLP}([z, z^g])$, and
#
# $$\hat g = \exp\Big(\sum_n \hat t_n L_n\Big) \quad\text{with learned } L_1,\dots,L_N, \qquad
#   \mathcal L = \mathcal L_{\text{SSL}} + \mathcal L_{\text{c}} + \lVert\hat g z - z^g\rVert_2^2. \tag{11}$$
#
# $\mathcal L_{\text{SSL}}$ is the loss of the base (MAE, VICReg, SimCLR). $\mathcal L_{\text c}$, the *contrastive Lie loss*, asks that $\hat g_iz_i$ be nearest to its own $z^g_i$ among those of the batch: InfoNCE with cosines. The Euclidean term asks that it be exactly there. The sources give no more than (11). How $L$ starts (normal, 0.02), $N = 1$, the width of the MLP (128), $\tau = 0.2$ and the weights (1 and $1/D$) are *ours*.
#
# **What is free in it.** If $(L, \hat t)$ is a solution, so is $(cL, \hat t/c)$ for every $c \ne 0$, since only the product occurs:
#
# $$\exp\Big(\frac{t}{c}\cdot cL\Big) = \exp(tL). \tag{12}$$
#
# So a learned $t$ is in unknown units and may run backwards. We shall have to find the unit, and (10) says how: look where the orbit closes.
#
# **What it costs.** A matrix exponential for each pair, forwards and backwards, takes half a second for 256 matrices of size 64 on one core. But we never need $\hat g$, only $\hat gz$. The series (3) applied to a vector needs matrix-vector products alone: $z, Az, A(Az)/2, \dots$ For a large $A$ the terms first grow, so we go in $s$ steps of norm at most 2:
#
# $$e^Az = \big(e^{A/s}\big)^sz, \qquad \Big\lVert e^{A/s}z - \sum_{k\le K}\frac{(A/s)^kz}{k!}\Big\rVert \le \frac{2^{K+1}}{(K+1)!}\cdot\frac{\lVert z\rVert}{1 - 2/(K+2)}. \tag{13}$$
#
# The bound is the rest of the series: its first term is at most $2^{K+1}/(K+1)!$, and each further one is smaller by the factor $2/(K+2)$ or less. With $K = 15$ that is $4\cdot10^{-9}$.

# %%
# check (11): the two Lie terms by an explicit loop with scipy's exponential, and by the library
torch.manual_seed(0)
op = LieOperator(6, generators=2).double()
z, z_g = torch.randn(4, 6, dtype=torch.double), torch.randn(4, 6, dtype=torch.double)
t = op.infer(z, z_g).detach()
moved = torch.stack(
    [torch.from_numpy(expm((t[i, 0] * op.basis[0] + t[i, 1] * op.basis[1]).detach().numpy())) @ z[i] for i in range(4)]
)
cosine = torch.stack([torch.stack([F.cosine_similarity(m, target, dim=0) for target in z_g]) for m in moved])  # (B, B)
contrastive = -sum(math.log(math.exp(cosine[i, i] / 0.2) / float((cosine[i] / 0.2).exp().sum())) for i in range(4)) / 4
same("(11) contrastive", lie_loss(op, z, z_g)[0], contrastive)
same("(11) Euclidean  ", lie_loss(op, z, z_g)[1], (moved - z_g).pow(2).sum() / 4)

# check (12), then (13): the largest error at norm 2 against its bound
same("(12)", exp(1.3 / 7 * (7 * X)), torch.from_numpy(expm(1.3 * X.numpy())))
A2 = S / torch.linalg.matrix_norm(S, 2) * 2
partial, term = z7.clone(), z7.clone()
for k in range(1, 16):
    term = A2 @ term / k
    partial = partial + term
bound = 2.0**16 / math.factorial(16) / (1 - 2 / 17) * z7.norm()
error = (partial - torch.from_numpy(expm(A2.numpy())) @ z7).norm()
print(f"(13)  error {error:.1e}, at most {bound:.1e}")
same("(13) error beyond the bound", (error - bound).clamp(min=0), 0.0)
far = torch.full((1, 1), 20.0)
same(
    "(13) twenty radians, float32, and scipy",
    exp_action(S[None].float(), far, z7[None].float())[0],
    expm(20 * S.numpy()) @ z7.numpy(),
    tolerance=1e-4,
)

# %% [markdown]
# ### 4.8 The second solution
#
# Before training anything, ask what else would make (11) small. Let the encoder send all poses of a thing to the same point: $z^g = z$. Then $t = 0$ is perfect, for
#
# $$z^g = z \;\Rightarrow\; \min_{t,L}\lVert\exp(tL)z - z^g\rVert = 0 \text{ at } \exp(tL) = I, \qquad
#   \text{and always}\quad \min_{t,L}\lVert\exp(tL)z - z^g\rVert \le \lVert z - z^g\rVert. \tag{14}$$
#
# The Euclidean term goes to 0, and the contrastive one is content too, since different *things* stay apart. The loss pulls $z$ and $z^g$ together through two doors: the operator may learn to turn, or the encoder may learn to forget the pose. Forgetting is easier. And a representation that has forgotten the pose *is* robust to new poses. So a gain in robustness alone does not tell through which door the training went. Section 7 looks at the doors.

# %%
# check (14): the best t by the search on the left, by scipy's bounded minimisation on the right; 0 is on neither grid
one_way = LieOperator(6, scale=0.2).double()
with torch.no_grad():
    grid = torch.linspace(-3, 3, 200).double()[:, None]
    found = (one_way(z, search(one_way, z, z_g, grid, steps=50)) - z_g).norm(dim=1)  # (B,)
    L6 = one_way.basis[0].numpy()
    best = []
    for i in range(4):
        def distance(t, i=i):
            return float(np.linalg.norm(expm(t * L6) @ z[i].numpy() - z_g[i].numpy()))

        windows = zip(np.linspace(-3, 2.8, 30), np.linspace(-2.8, 3, 30))
        best.append(min(minimize_scalar(distance, bounds=w, method="bounded").fun for w in windows))
    same("(14) the best t", found, torch.tensor(best), tolerance=1e-4)
    print("      without an operator", *(f"{x:.3f}" for x in (z - z_g).norm(dim=1)))
    same("(14) pose forgotten: the best t moves nothing", one_way(z, search(one_way, z, z, grid, steps=8)), z)

# %% [markdown]
# ### 4.9 A better way to find t
#
# The MLP has to guess $t$ from two vectors. But with $L$ given, $t$ can be *computed*: try points along the orbit, take the nearest, and improve it. Near the nearest point the orbit is almost a straight line with direction $u = L\,e^{tL}z$, so the step that brings it nearest to $z^g$ is a projection:
#
# $$t \leftarrow t + \frac{u^\top(z^g - e^{tL}z)}{u^\top u}, \qquad u = \frac{\mathrm d}{\mathrm dt}e^{tL}z = L\,e^{tL}z. \tag{15}$$
#
# This is Gauss and Newton's method for one unknown.

# %%
# check (15): autograd's direction on the left; then a planted t, found
t1 = torch.tensor([[0.4]], dtype=torch.double)
direction = torch.autograd.functional.jacobian(lambda t: exp_action(hidden[None], t, z5[None])[0], t1)[:, 0, 0]
same("(15) direction", direction, hidden @ torch.from_numpy(expm(0.4 * hidden.numpy())) @ z5)
planted = LieOperator(5).double()
with torch.no_grad():
    planted.basis.copy_(hidden[None])
    found = search(planted, z5[None], (exp(1.234 * hidden) @ z5)[None], torch.linspace(-3, 3, 25).double()[:, None])
same("(15) planted t", found[0, 0], 1.234)

# %% [markdown]
# ## 5. The method in twenty lines


# %%
def lie_from_scratch(L, mlp, z, z_g, temperature=0.2):
    t = mlp(torch.cat([z, z_g], dim=1))                                # (B, N)
    A = torch.einsum("bn,nij->bij", t, L)                              # (B, D, D)
    moved = torch.einsum("bij,bj->bi", torch.linalg.matrix_exp(A), z)  # (B, D)  g z
    u = moved / moved.norm(dim=1, keepdim=True)                        # (B, D)
    v = z_g / z_g.norm(dim=1, keepdim=True)                            # (B, D)
    logits = u @ v.T / temperature                                     # (B, B)
    contrastive = -logits.log_softmax(dim=1).diagonal().mean()
    euclidean = (moved - z_g).square().sum(dim=1).mean()
    return contrastive, euclidean


same("from scratch, and minilip.lie.lie_loss", lie_from_scratch(op.basis, op.reader, z, z_g), lie_loss(op, z, z_g))

# %%
show(lie.exp_action)

# %%
show(lie.LieOperator)

# %% [markdown]
# ## 6. First, recover a rotation that we planted
#
# Before asking what is in a network, see whether the method finds what we know is there. A toy world: 200 things, each a point in six dimensions. Two planes turn, with frequencies 1 and 2; two coordinates do not. A random orthogonal matrix then hides which is which. Learning sees pairs of points of one thing at unknown angles: first neighbours, later up to a quarter turn apart. This *curriculum* is like the frames of a film, of which one knows that neighbours are near, but not by how much or to which side.
#
# `learn` minimises the two terms of (11) and keeps $L$ skew; `refine` then lets $L$ go free and computes $t$ by (15) instead of guessing it.


# %%
def toy(seed, things=200, poses=24):
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(things, 1, 6, generator=generator)
    planes = torch.block_diag(1 * L2, 2 * L2, torch.zeros(2, 2).double()).float()
    turns = torch.linalg.matrix_exp(planes * (2 * math.pi * torch.arange(poses) / poses)[:, None, None])  # (T, 6, 6)
    hide = torch.linalg.qr(torch.randn(6, 6, generator=generator))[0]
    return torch.einsum("tij,nxj->nti", turns, start) @ hide.T  # (V, T, D)


TOY_STEPS = budget(cpu=500, quick=6)
found_toy = []
for seed in range(budget(cpu=3, quick=1)):
    points = toy(seed)
    operator = orbits.learn(points, seed=seed, steps=TOY_STEPS, label=f"toy, seed {seed}")
    full = orbits.period(operator, points)
    orbits.refine(operator, points, full * torch.linspace(-0.5, 0.5, 49)[:, None], seed, budget(cpu=100, quick=2))
    full = orbits.period(operator, points)
    found_toy.append(
        (orbit_study.frequencies(operator, points.flatten(0, 1), full), orbit_study.angles_read(operator, points, full))
    )
    print(
        f"seed {seed}: frequencies {found_toy[-1][0]}, "
        f"|correlation| of t with the angle {found_toy[-1][1]['r by search']:.4f}"
    )

# %% [markdown]
# The planted frequencies are 1 and 2. The unit of $t$ was found by looking where the orbit closes; its sign cannot be, by (12).
#
# ## 7. The protocol of the sources, with controls
#
# > **Three bases and three readers, in a sentence each** (lessons 03, [05](05_vicreg.ipynb) and [05b](05b_mae.ipynb) derive them). *SimCLR*: two random changes of one picture are each other's positive in InfoNCE, all other pictures of the batch are negatives. *VICReg*: the two changes must agree, every coordinate must keep a variance of 1 over the batch, and no two coordinates may say the same; no negatives. *MAE*: three quarters of the patches are covered, and a Transformer fills them in; its summary is read at an extra token, *[CLS]*, for which the loss asks nothing by itself. A *linear probe* is a logistic regression on frozen features, *1-NN* takes the label of the nearest known feature, *fine-tuning* trains the encoder together with a linear layer.
#
# Now real drawings. We train MAE, VICReg and SimCLR on what training shows: the varied drawings in all poses, the typical-only ones upright. Then the same with the operator, equation (11), end to end, on pairs of poses. And then with four *controls*, in which the operator is replaced by something that cannot turn anything, or by one that knows more than it should:
#
# | control | what replaces the operator | what it rules out if it does as well |
# |---|---|---|
# | identity | $t = 0$, so $\hat g = I$: the same losses, nothing to turn | that the gain is due to an operator at all |
# | shuffled t | each pair gets the $\hat t$ of another pair | that the gain is due to *this* $t$ for *this* pair |
# | poses as positives | no Lie loss; the base's own second view is the other pose | that the gain needs a new loss |
# | true angle | $t$ is the angle, from the labels | that the gain waits for a better way to infer $t$ |
#
# Everything is read in three ways: a linear probe, the nearest neighbour (1-NN), and fine-tuning.
#
# Training all of it takes about two hours on one core. Here we train one entry, VICReg with the operator, and watch the doors; the table comes from `python -m minilip.studies.lie.robustness`, which runs the code of this course and keeps its results under a digest of that code.
#
# The encoder starts from random numbers, as in the study. Lesson 05 leaves a trained one, for this tower and these drawings: once it has been run on this machine, set `START` to `"05-vicreg"` and run the next cells again. (For MAE it is `"05b-mae"`, with `Learner("mae", "operator")`.) Does a start that already knows drawings make the operator turn anything?

# %%
show(learners.Learner.loss)

# %%
START = None  # "05-vicreg" starts from the encoder that lesson 05 keeps
torch.manual_seed(0)
learner = learners.Learner("vicreg", "operator").to(device)
if START:
    print("starts from:", load_encoder(START, learner.tower))
COLLAPSE_STEPS = budget(cpu=150, gpu=350, quick=3)
history = fit(learner, learners.pairs(data, 128, device), COLLAPSE_STEPS, weight_decay=0.0, label="VICReg + operator")
collapsed_z = readers.embed(learner.tower, data)  # (I, T, D)
collapsed_t, collapsed_angle, r_collapsed = readers.follow(learner.operator, collapsed_z, data)

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
for name, label, colour in (
    ("gap without", r"$\|z - z^g\|^2 / D$", plot.ORANGE),
    ("gap with operator", r"$\|\hat g z - z^g\|^2 / D$", plot.BLUE),
):
    left.plot(history.metrics[name], color=colour, label=label)
left.set(xlabel="step", ylabel="mean squared difference", yscale="log")
left.legend()
right.scatter(collapsed_angle, collapsed_t, s=8, color=plot.BLUE)
right.set(
    xlabel="true angle between the poses (degrees)",
    ylabel="t that the operator infers",
    title=f"unknown drawings, |r| = {r_collapsed:.2f}",
)
plt.show()
size, p_value = spearmanr(abs(np.asarray(collapsed_t)), abs(np.asarray(collapsed_angle)))
print(f"rank correlation of |t| with |angle|: {size:.2f} (p = {p_value:.0e}, {len(collapsed_t)} pairs)")
with torch.no_grad():  # two views of the same picture in the same pose: there is nothing to turn
    a, b, _, _ = learners.pairs(data, 128, device)(torch.Generator(device).manual_seed(9))
    z_a, z_b = learner.tower(a), learner.tower(b)
    still = (z_a - z_b).square().mean()
    moved = (learner.operator(z_a, learner.operator.infer(z_a, z_b)) - z_b).square().mean()
print(f"two augmentations of one pose: the operator takes away {1 - moved / still:.0%} of their squared difference")

# %% [markdown]
# Left: the distance between two poses falls *with and without the operator*, side by side. What shrinks is the pose in $z$, not the error of the operator. Right: on unknown drawings $\hat t$ does not follow the angle. Its *magnitude* knows a little of it, as the rank correlation under the figure says: far poses get a somewhat larger $|\hat t|$. And the last line shows what else the operator is used for: it moves between two augmentations of the same pose, where there is nothing to turn. The pose has largely left $z$, by the second door of section 4.8.
#
# Is the door the *cause*? This run does not say. Section 8 has an operator that learns; it differs from this one in the encoder, and in two aids besides: it begins with near poses, and its $L$ is kept skew. An arm end to end *with* these aids is missing here. So read "it forgot" as what was seen, not as the reason why $\hat t$ fails.
#
# Now the whole table.

# %%
known = robustness.known()
expected = len(robustness.SEEDS) * sum(len(learners.controls(base)) for base in learners.BASES)
print(f"{len(known)} of {expected} entries measured with this code")
NAMES = {
    "alone": "alone",
    "operator": "+ operator",
    "identity": "identity instead",
    "shuffled": "t shuffled",
    "positives": "poses as positives",
    "positives + operator": "  and operator",
    "positives + identity": "  and identity",
    "angle": "true angle as t",
}


def digits(text):
    return robustness.decode(text).numpy()


def per_concept(base, control, reader, cell, part=None):
    """Right answers over pictures examined, of each concept and seed. -> (S, C) hits, (S, C) examined"""
    hits, many = [], []
    for seed in robustness.SEEDS:
        result = known[base, control, seed]
        number = digits(result["examined"][cell])
        # A concept with varied drawings has a single typical-only one: 8 new poses are examined, else 3 x 8.
        mixed = digits(result["examined"][readers.CELLS[0]]) == 8
        use = {None: number > 0, "by instance": mixed, "by concept": ~mixed}[part]
        hits.append(digits(result["hits"][reader][cell]) * use)
        many.append(number * use)
    return np.array(hits), np.array(many)


def score(base, control, reader, cell, part=None):
    """Accuracy in percent, one for each seed. -> (S,)"""
    hits, many = per_concept(base, control, reader, cell, part)
    return 100 * hits.sum(axis=1) / many.sum(axis=1)


def gain(base, control, reader, cell, part=None, over="alone"):
    """Paired difference in points, and its 95 % interval over concepts (all seeds of one concept together)."""
    (hits, many), (before, _) = (per_concept(base, c, reader, cell, part) for c in (control, over))
    difference = 100 * ((hits - before) / many.sum(axis=1, keepdims=True)).mean(axis=0) * hits.shape[1]  # (C,)
    return difference.mean(), *interval(difference, draws=budget(cpu=500, quick=20))


for reader in ("linear probe", "1-NN", "fine-tuned"):
    print(
        f"\n{reader}: accuracy in %, mean of {len(robustness.SEEDS)} seeds; "
        "in brackets the gain over the base alone in points, with its 95 % interval"
    )
    print(f"{'':31}" + "".join(f"{cell:>32}" for cell in readers.CELLS))
    for base in learners.BASES:
        for control in NAMES:
            if control not in learners.controls(base):
                continue
            cells = []
            for cell in readers.CELLS:
                mean = score(base, control, reader, cell).mean()
                points, low, high = gain(base, control, reader, cell)
                cells.append(
                    f"{mean:5.1f}" + ("" if control == "alone" else f" ({points:+5.1f} [{low:+5.1f}, {high:+5.1f}])")
                )
            print(f"{base:8}{NAMES[control]:23}" + "".join(f"{c:>32}" for c in cells))

# %% [markdown]
# Find a row "+ operator" and read down. Then look at "identity instead" under it. The figure shows the linear probe, with every seed as a dot.

# %%
SHOWN = ("alone", "operator", "identity", "shuffled", "angle")
COLOURS = dict(zip(SHOWN, (plot.BLACK, plot.BLUE, plot.RED, plot.ORANGE, plot.GREEN)))
figure, axes = plt.subplots(1, 3, figsize=(8, 4.4), sharey=True)
for ax, cell in zip(axes, readers.CELLS):
    labels = []
    for i, (base, control) in enumerate((b, c) for b in learners.BASES for c in SHOWN):
        values = score(base, control, "linear probe", cell)
        y = i + i // len(SHOWN)
        ax.barh(y, values.mean(), color=COLOURS[control], alpha=0.75)
        ax.plot(values, [y] * len(values), "o", color="black", markersize=2.5)
        labels.append((y, f"{base}, {NAMES[control].replace(' instead', '')}"))
    ax.set(xlabel="accuracy (%)", title=cell)
    ax.set_yticks(*zip(*labels), fontsize=8)
    ax.grid(axis="y", visible=False)
axes[0].invert_yaxis()
plt.show()

print("the sources' gains in points, and ours with the linear probe (operator; identity instead)")
SOURCES = {"mae": (13.7, 10.3, 12.4), "vicreg": (7.7, 1.2, 0.2)}
for base, theirs in SOURCES.items():
    for cell, points in zip(readers.CELLS, theirs):
        ours = [gain(base, control, "linear probe", cell)[0] for control in ("operator", "identity")]
        print(f"{base:7} {cell:24} {points:+5.1f}      {ours[0]:+5.1f}; {ours[1]:+5.1f}")

# %% [markdown]
# What each control says:
#
# - **The gain is easy to reproduce.** With the operator a known drawing in a new pose is named far more often, as the sources report.
# - **The operator is a small part of it.** With the identity in its place nearly all of the gain is there. So is it with a $t$ that belongs to another pair. What the operator adds to the identity is a point or two in the first cell, for MAE and VICReg; for SimCLR and in the other cells it adds nothing or takes away. Section 10 gives its *share* of the gain, with intervals over seeds and concepts. And it is no rotation that adds it, as the next table shows.
# - **For VICReg and SimCLR it needs no new loss.** The other pose as a positive does as well or better alone. A Lie loss on top of it adds a little more, and so does the identity.
# - **For MAE the size of the gain says little.** Its [CLS] token is trained by nothing when MAE is alone, so *any* loss on it may raise the probe. The arm that would tell, the identity with a second view of the *same* pose, is missing here.
# - **The true angle gains less.** Given the true $t$, the operator of VICReg and SimCLR does turn something, and the encoder keeps more of the pose (next table). In this test it gains *less*: here, keeping the pose does not pay.
# - **Unknown drawings upright gain nothing, and may lose.** Look at 1-NN: under SimCLR the operator costs several points there.
# - **Fine-tuning is no cure.** It starts as the linear probe and adapts the encoder to what training shows, which is mostly upright: for an encoder that had forgotten the pose it does better there than the probe, and worse in new poses.
#
# This is a finding about our replica: flat drawings, small networks, 350 steps, our own choice of everything the sources do not state, made on other concepts (`split="val"`). It is no evidence about the paper's own runs. It is a reason to ask for the identity control wherever an operator on representations is reported.
#
# A split matters as well. *By instance*, a typical-only drawing's concept has varied drawings by other artists; *by concept* it has none.

# %%
print("known drawing in a new pose, linear probe, %   by instance   by concept")
for base in learners.BASES:
    for control in ("alone", "operator", "identity"):
        split = [
            score(base, control, "linear probe", readers.CELLS[0], part).mean()
            for part in ("by instance", "by concept")
        ]
        print(f"{base:8}{NAMES[control]:30}" + "".join(f"{x:13.1f}" for x in split))

# %% [markdown]
# ### What invariance loses
#
# A representation that has forgotten the pose cannot say how a thing is turned. How much is lost? Two measures on *unknown* drawings. The share of the features' variance that is due to the pose. And how well the angle between two poses can be read: for each multiple of 15 degrees fit the matrix that best turns the features of the varied drawings (with labels, by ridge regression), then ask which of them takes one pose of an unknown drawing nearest to the other. A guesser would be 90 degrees off in the median.

# %%
print(f"{'':32}{'pose share of variance':>24}{'angle read, median error':>26}{'|r| of t and angle':>20}")
for base in learners.BASES:
    for control in NAMES:
        if control in learners.controls(base):
            entries = [known[base, control, seed] for seed in robustness.SEEDS]
            r = "" if entries[0]["r"] is None else f"{np.mean([e['r'] for e in entries]):.2f}"
            print(
                f"{base:8}{NAMES[control]:24}{np.mean([e['pose share'] for e in entries]):24.3f}"
                f"{np.mean([e['angle error'] for e in entries]):24.0f}°{r:>20}"
            )

# %% [markdown]
# Read it base by base. In VICReg and SimCLR the pose is nearly half of the variance when they are trained alone, and a few percent once pairs are used, except with the true angle. The share and the reading of the angle are two things: "poses as positives" leaves the smallest share, and the angle is read from it better than from the identity's features. It is not gone: a regression with labels still finds a trace, so "invariant" is a matter of degree. MAE goes the other way. Its [CLS] state holds little pose from the start, and the pairs *raise* its pose share: its gain cannot be a forgetting. And where the operator infers $t$, the last column says that it does not infer the angle.
#
# ## 8. The route that works
#
# If nothing asks the encoder to keep the pose, ask. We train SimCLR with one more *negative*: the other pose of the same picture. Two pose-free views must find each other and must not take the other pose for it. No angle is told.

# %%
show(orbits.PoseContrast.contrast)

# %%
torch.manual_seed(0)
keeper = orbits.PoseContrast().to(device)
history = fit(
    keeper, learners.pairs(data, 128, device), budget(cpu=350, quick=3), weight_decay=0.0, label="pose as a negative"
)
z = orbits.standardise(readers.embed(keeper.tower, data), data)  # (I, T, D)
v, u = z[data.varied], z[data.unknown]  # (V, T, D), (U, T, D)
share = (z - z.mean(dim=1, keepdim=True)).square().mean() / z.square().mean()
collapsed_share = (collapsed_z - collapsed_z.mean(dim=1, keepdim=True)).square().mean() / (
    collapsed_z - collapsed_z.mean((0, 1))
).square().mean()
print(f"pose share of the variance {share:.2f}; in the run above {collapsed_share:.2f}")

# %% [markdown]
# ### Does a turn act linearly on it?
#
# Nothing in the training asked for that. Test it without any operator: fit by ridge regression the matrix that takes each feature to that of the same drawing 15 or 45 degrees on, on the varied drawings; apply it to the unknown ones.

# %%
maps = readers.turns(z, data)  # (T, D, D)
for k in (1, 3, 12):
    away = u.roll(-k, dims=1)
    print(
        f"{15 * k:3}°: mean squared error {(u @ maps[k].T - away).square().mean():.3f} with the matrix, "
        f"{(u - away).square().mean():.3f} without"
    )
values = torch.linalg.eigvals(maps[1])
lively = values[values.abs() > 0.9]
print(
    "frequencies of the 15° matrix:",
    *(f"{f:.2f}" for f in sorted((lively.angle() * 24 / (2 * math.pi)).tolist(), reverse=True) if f > 0.3),
)

# the control without a network: the pooled pixels of section 2 in place of the features, as 64 principal components
flat = pixels.flatten(0, 1) - pixels[data.trained].mean(dim=0)  # (I T, D)
axes_of_pixels = torch.linalg.svd(flat[data.varied.repeat_interleave(pixels.shape[1])], full_matrices=False)[2]
PARTS_OF_PIXELS = budget(cpu=64, quick=16)
of_pixels = (flat @ axes_of_pixels[:PARTS_OF_PIXELS].T).unflatten(0, pixels.shape[:2])  # (N, T, 64)
of_pixels = orbits.standardise(of_pixels, data)
pixel_line, network_line = orbit_study.linear(of_pixels, data), orbit_study.linear(z, data)
for name, line in (("network", network_line), ("PCA of pixels", pixel_line)):
    left_over = line["gap with map"] / line["gap without"]
    print(
        f"{name:14} 45°: one matrix leaves {left_over:.3f} of the squared difference; "
        f"1-NN with ridge maps, new pose {line['nearest'][readers.CELLS[0]]:.1%}, "
        f"unknown in any pose {line['nearest'][readers.CELLS[1]]:.1%}"
    )

# %% [markdown]
# It does: one matrix turns drawings it has never seen, and its eigenvalues sit at whole numbers. Equation (10) holds in a network that was never told about rotations. There *is* a rotation for an operator to find.
#
# But look at the last line. *The pixels do it too, and better.* Turning a drawing in its plane moves pixels linearly, and 64 principal components keep that. So what follows in this section, the generator, its whole frequencies, $t$ and the orbit, shows that the *method* finds a rotation which is there. It does not show that a network was needed to put it there. A network earns its keep on unknown drawings, where more of them are named with it than with pixels. A world in which pixels fail, such as objects that turn in depth, would be another test, and this lesson does not have it.
#
# ### The generator, without labels
#
# Freeze the encoder and learn $L$ from pairs, as in the toy.

# %%
operator = orbits.learn(v, steps=budget(cpu=1000, quick=6))
full = orbits.period(operator, v)
skew_operator = copy.deepcopy(operator)
orbits.refine(operator, v, full * torch.linspace(-0.5, 0.5, 49)[:, None], steps=budget(cpu=200, quick=2))
skew_full, full = full, orbits.period(operator, v)

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), width_ratios=(1, 1.2))
for name, op_, period, colour, marker in (
    ("learned, kept skew", skew_operator, skew_full, plot.SKY, "s"),
    ("refined, free", operator, full, plot.BLUE, "o"),
):
    values, energy = spectrum(op_, v.flatten(0, 1))
    left.scatter(
        values.real * period / (2 * math.pi),
        values.imag * period / (2 * math.pi),
        s=10 + 400 * energy.clamp(max=0.1),
        color=colour,
        alpha=0.6,
        marker=marker,
        label=name,
    )
left.set(
    xlabel="real part",
    ylabel="imaginary part (frequency)",
    yticks=range(-5, 6),
    ylim=(-5.3, 5.3),
    xlim=(-1.2, 1.2),
)
left.legend(loc="upper left", fontsize=8)
path = torch.linspace(0, 1.25 * full, 200)[:, None]
right.plot(path[:, 0] / full, orbits.closure(operator, v.flatten(0, 1)[:256], path), color=plot.BLUE)
right.axvline(1, color="#777777", linewidth=0.8, linestyle="--")
right.set(xlabel="t, in units of the period found", ylabel=r"$\|\exp(tL)z - z\|^2 / D$", title="the orbit closes")
plt.show()
print("frequencies by falling energy:", orbit_study.frequencies(operator, v.flatten(0, 1), full))

# %% [markdown]
# Left, the eigenvalues of the learned $L$, larger where they carry more of the features. The learned ones come close to the whole numbers, and those refined ones that carry most sit on them; smaller ones lie between, in directions that few features use. Nobody told the operator that a turn has 360 degrees, nor that the frequencies of a rotation are whole: it follows from (10), because the features come back. The *unit* in which they are whole is chosen, though: it is the $t$ at which the orbit closes best, on the right.
#
# ### t and the angle
#
# On unknown drawings, pairs up to a quarter turn apart: the $t$ that the MLP reads, and the $t$ that the search (15) computes. Beside them the collapsed run.

# %%
first, second, steps = orbits.pairs(u, 600, orbits.WIDEST[:1], torch.Generator().manual_seed(0))
angle = steps[:, 0] * 15.0
with torch.no_grad():
    read = operator.infer(first, second)[:, 0]
searched = search(operator, first, second, full * torch.linspace(-0.3, 0.3, 61)[:, None])[:, 0]
sign = 1 if float(torch.corrcoef(torch.stack([searched, angle]))[0, 1]) >= 0 else -1
figure, axes = plt.subplots(1, 3, figsize=(8, 3), sharex=True)
for ax, t_found, theta, name, colour in (
    (axes[0], collapsed_t, collapsed_angle, "end to end", plot.ORANGE),
    (axes[1], sign * read / full * 360, angle, "pose kept, MLP", plot.SKY),
    (axes[2], sign * searched / full * 360, angle, "pose kept, search", plot.BLUE),
):
    r = abs(float(torch.corrcoef(torch.stack([t_found, theta]))[0, 1].nan_to_num()))
    ax.scatter(theta, t_found, s=5, alpha=0.5, color=colour)
    ax.set(title=f"{name}\n|r| = {r:.3f}", xlabel="true angle (degrees)")
axes[0].set_ylabel("t (unit unknown)")
axes[1].set_ylabel("t (degrees, by closure)")
plt.show()
off = (sign * searched / full * 360 - angle).abs()
print(
    f"by search: half of the pairs within {off.median():.1f}°, nine tenths within {off.quantile(0.9):.1f}°, "
    f"{(off > 45).float().mean():.1%} more than 45° off"
)

# %% [markdown]
# What are the far-off points? A guess would be drawings that nearly repeat themselves when turned, so that two angles are almost equally right. Ask the features: how near does a drawing come to itself at another angle, beyond a quarter turn?

# %%
turned_by = torch.stack([(u - u.roll(-k, dims=1)).square().mean(dim=(1, 2)) for k in range(6, 19)])  # (13, U)
repeats = (turned_by.amin(dim=0) / turned_by.mean(dim=0))[:, None].expand(-1, u.shape[1]).flatten()  # (U T,)
which, far_off = torch.cdist(first, u.flatten(0, 1)).argmin(dim=1), off > 45  # (600,) the row of each pair
print("least distance from itself beyond 90°, as a share of the mean distance (1: never comes nearer):")
far, others = repeats[which[far_off]].mean(), repeats[which[~far_off]].mean()
print(f"{far:.2f} for the far-off pairs, {others:.2f} for the others")

# %% [markdown]
# A smaller share for the far-off pairs speaks for the guess, an equal one against it. In the run that is printed here it speaks for it: these drawings come nearer to themselves than the others do. But it is a handful of pairs, one in a hundred.
#
# ### An orbit
#
# Take an unknown drawing, upright, and let $\exp(tL)$ turn its *feature*. Below left, the plane of frequency 1: the features of the truly turned pictures, and the orbit. Below right, along the orbit, the picture whose feature is nearest among all unknown drawings in all poses.

# %%
gallery = F.normalize(u.flatten(0, 1), dim=1)  # (U T, D)
gallery_images = data.images[data.unknown].flatten(0, 1)
upright = data.angles[data.unknown].abs().argmin(dim=1)  # (U,)
swing = (u - u.mean(dim=1, keepdim=True)).square().mean(dim=(1, 2))
favourites = swing.argsort(descending=True)[: budget(cpu=24, quick=4)]  # drawings that change much when turned
values, vectors = torch.linalg.eig(operator.basis[0].detach().double())
turning = (values.imag * full / (2 * math.pi) - 1).abs() < 0.2
energy = torch.linalg.solve(vectors, v.flatten(0, 1).double().T.to(vectors.dtype)).abs().square().mean(dim=1) * turning
plane = torch.linalg.inv(vectors)[energy.argmax()]  # the left eigenvector reads the plane's complex coordinate

example = int(favourites[0])
ring = torch.view_as_real((u[example].double().to(plane.dtype)) @ plane)  # (T, 2)
path = orbit(operator, u[example, upright[example]][None], full * torch.linspace(0, 1, 120)[:, None])[0]
path = torch.view_as_real(path.double().to(plane.dtype) @ plane)  # (120, 2)
figure, ax = plt.subplots(figsize=(3.6, 3.2))
ax.plot(*path.T, color=plot.BLUE, label=r"$\exp(tL)z$")
ax.scatter(*ring.T, s=18, color=plot.ORANGE, label="turned pictures", zorder=3)
ax.scatter(*ring[upright[example]], s=60, marker="*", color=plot.BLACK, label="where it starts", zorder=4)
ax.set(xlabel="plane of frequency 1", ylabel="", aspect="equal")
ax.legend(fontsize=8)
plt.show()


def along(example, points):
    """Indices of the nearest pictures along the orbit of one upright drawing. -> (points,)"""
    path = orbit(operator, u[example, upright[example]][None], orbits.turn(sign * full, points))[0]  # (points, D)
    return (F.normalize(path, dim=1) @ gallery.T).argmax(dim=1)


strips = torch.stack([along(int(e), 12) for e in favourites[:2]])  # (2, 12)
right_drawing = strips // 24 == favourites[:2, None]
figure = plot.images(
    gallery_images[strips.flatten()],
    [f"t = {30 * k}°" for k in range(12)] * 2,
    columns=12,
    colours=[plot.BLACK if ok else plot.RED for ok in right_drawing.flatten().tolist()],
)

# %% [markdown]
# Look at the first picture before the rows. The orbit is a circle, because $L$ turns this plane; the turned pictures form a closed curve about it, and on one side they are half a radius off. One rule for all drawings is not exact for any. Nothing was rendered along the rows: each picture was *retrieved*, by the feature that the operator made from the first one. Captions in red mark a neighbour that is another drawing.
#
# Move the slider. Try a drawing that looks alike after half a turn, and watch for what the retrieval takes it.


# %%
def turntable(degrees, name):
    example = int(favourites[sorted_labels.index(name)])
    start = u[example, upright[example]][None]
    feature = orbit(operator, start, torch.tensor([[sign * full * degrees / 360]]))[0, 0]
    nearest = int((F.normalize(feature, dim=0) @ gallery.T).argmax())
    figure, axes = plt.subplots(1, 2, figsize=(4, 2.3))
    owner = data.unknown.nonzero()[nearest // 24, 0]
    shown = [(gallery_images[example * 24 + int(upright[example])], "the drawing, upright")]
    shown.append(
        (
            gallery_images[nearest],
            f"nearest to exp(tL)z:\n{data.labels[data.concept[owner]]}, {data.angles[owner, nearest % 24]:.0f}°",
        )
    )
    for ax, (picture, caption) in zip(axes, shown):
        ax.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.set_xlabel(caption, fontsize=9)
    return figure


owners = data.unknown.nonzero()[favourites, 0]
sorted_labels = [data.labels[data.concept[owner]] for owner in owners]
panel(
    turntable,
    widgets.IntSlider(90, min=0, max=345, step=15, description="t (°)"),
    widgets.Dropdown(options=sorted_labels, description="drawing"),
    examples=[(45, sorted_labels[0]), (135, sorted_labels[0]), (270, sorted_labels[0])],
)

# %% [markdown]
# ### Back to the question
#
# Keep one picture of each thing, and one rule for turning: put the *orbit* of every typical-only feature into the album. From now on the numbers are those of three seeds, from `python -m minilip.studies.lie.route`; the same code, once for each seed. Controls again: the orbit of a rotation with the same frequencies in the wrong planes, and the ridge maps, which know the angles.

# %%
studies = orbit_study.known()
print(f"{len(studies)} of {len(orbit_study.SEEDS)} seeds measured with this code")
KN, PARTS = readers.CELLS[0], ("by instance", "by concept")
COLUMNS = [KN, *(f"{KN}, {part}" for part in PARTS), *readers.CELLS[1:]]
ROWS = {
    "the same features alone": [s["plain"] for s in studies],
    "+ orbit in other planes, 16 points": [s["refined"]["orbit in other planes"] for s in studies],
    "+ learned orbit, 16 points": [s["learned"]["orbit"]["16"] for s in studies],
    "+ refined orbit, 16 points": [s["refined"]["orbit"]["16"] for s in studies],
    "+ refined orbit, 48 points": [s["refined"]["orbit"]["48"] for s in studies],
    "+ orbit learned with true angles, 16": [s["true angle"]["16"] for s in studies],
    "+ 24 ridge maps (angles known)": [s["linear"]["nearest"] for s in studies],
}
PIXEL_ROWS = {"PCA of pixels alone": orbit_study.nearest(of_pixels, data), "+ 24 ridge maps": pixel_line["nearest"]}
print(
    f"\n1-NN, % (mean ± sd of {len(studies)} seeds)"
    + " " * 8
    + "".join(f"{c.replace('known, new pose, ', ''):>24}" for c in COLUMNS)
)
for name, rows in ROWS.items():
    cells = [100 * np.array([row[c] for row in rows]) for c in COLUMNS]
    print(f"{name:38}" + "".join(f"{f'{c.mean():.1f} ± {c.std(ddof=1):.1f}':>24}" for c in cells))
print("no network, one seed:")
for name, row in PIXEL_ROWS.items():
    print(f"{name:38}" + "".join(f"{100 * row[c]:>24.1f}" for c in COLUMNS))

figure, ax = plt.subplots(figsize=(8, 2.8))
for cell, colour in zip((KN, readers.CELLS[1], readers.CELLS[2]), (plot.BLUE, plot.RED, plot.GREEN)):
    lines = 100 * np.array(
        [[s["plain"][cell], *(s["refined"]["orbit"][str(k)][cell] for k in orbit_study.POINTS)] for s in studies]
    )
    ax.plot([1, *orbit_study.POINTS], lines.mean(axis=0), marker="o", markersize=4, color=colour, label=cell)
    ax.fill_between([1, *orbit_study.POINTS], lines.min(axis=0), lines.max(axis=0), color=colour, alpha=0.15)
ax.set(
    xscale="log", xlabel="points of the orbit in the album, for each picture", ylabel="1-NN accuracy (%)", ylim=(0, 102)
)
ax.set_xticks([1, *orbit_study.POINTS], [str(k) for k in (1, *orbit_study.POINTS)])
ax.minorticks_off()
ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# One point is the picture itself. The orbit has to be dense: half a wave of frequency 4 is 45 degrees, so two or four points leave holes, and from eight on there are few. An unknown drawing gains too, where its concept was never seen turned; upright it loses a little, because a fuller album offers more wrong neighbours. Note what 1-NN in the first cell is: finding the *same drawing* in another pose. It is less than naming a thing, and the orbit is made for exactly that. The last two rows have no network in them and are the best of all in that cell.
#
# ## 9. Further
#
# **One stage.** Can encoder and operator be trained together after all? Close the second door in the loss: let the sources $z$ be among the candidates of the contrastive term, so that the identity would choose its own source, and let the Euclidean term teach the operator alone.

# %%
show(orbits.PoseContrastWithOperator)


# %%
def over_seeds(values, digits=3):
    values = np.array(values, dtype=float)
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"


print(
    f"{'':20}{'|r|, MLP':>18}{'|r|, search':>18}{'median error (°)':>20}{'1-NN, new pose (%)':>22}"
    "   frequencies (first seed)"
)
for name, of in (
    ("two stages, learned", lambda s: s["learned"]),
    ("two stages, refined", lambda s: s["refined"]),
    ("one stage", lambda s: s["together"]["learned"]),
    ("one stage, refined", lambda s: s["together"]["refined"]),
):
    rows = [of(s) for s in studies]
    print(
        f"{name:20}{over_seeds([r['r by reader'] for r in rows]):>18}{over_seeds([r['r by search'] for r in rows]):>18}"
        f"{over_seeds([r['median error'] for r in rows], 2):>20}"
        f"{over_seeds([100 * r['orbit']['16'][KN] for r in rows], 1):>22}   "
        + " ".join(f"{f:.2f}" for f in rows[0]["frequencies"][:6])
    )
print(
    "true angles given as t: frequencies " + " ".join(f"{f:.2f}" for f in studies[0]["true angle"]["frequencies"][:6])
)

# %% [markdown]
# **Two generators.** Turn *and* enlarge: an encoder that keeps both, an operator with $N = 2$. By (12) and the freedom to mix, the two learned generators may be any two combinations of rotation and scale. So we ask whether the two coordinates, by search, *together* tell the angle and the logarithm of the size, by linear regression; and whether the generators commute, as they must for turning and enlarging.

# %%
for name in ("R2 of angle", "R2 of log size", "commutator", "gap with operator", "gap without"):
    print(f"{name:20} {over_seeds([s['rotation and scale'][name] for s in studies])}")
print("commutator: root mean square of [L1, L2] z over that of L1 L2 z; 1.41 for two unrelated matrices")

# %% [markdown]
# ## 10. Claims
#
# The first six rows are the sources' gains, then what we say of our own route. A gain holds when its 95 % interval, over seeds *and* concepts, lies above 0. Whether the *operator* earns it is another row: the part of the gain that goes when the identity takes its place.


# %%
def over_both(base, control, over, cell, reader="linear probe"):
    """A paired difference in points: (mean, low, high, each draw), seeds and concepts both drawn again."""
    (hits, many), (before, _) = (per_concept(base, c, reader, cell) for c in (control, over))
    rng, (seeds, concepts) = np.random.default_rng(0), hits.shape
    means = []
    for _ in range(budget(cpu=1000, quick=20)):
        rows, columns = rng.integers(seeds, size=seeds), rng.integers(concepts, size=concepts)
        some, of = (hits - before)[rows][:, columns], many[rows][:, columns]
        means.append(100 * some.sum() / of.sum())
    mean = 100 * ((hits - before).sum(axis=1) / many.sum(axis=1)).mean()
    return mean, *np.percentile(means, [2.5, 97.5]), np.array(means)


for base, theirs in SOURCES.items():
    for cell, points in zip(readers.CELLS, theirs):
        name = f"lie-{base}-{cell.replace(', ', '-').replace(' ', '-')}"
        mean, low, high, _ = over_both(base, "operator", "alone", cell)
        others = {reader: gain(base, "operator", reader, cell)[0] for reader in ("1-NN", "fine-tuned")}
        claim(
            name,
            says=f"the Lie operator improves {base.upper() if base == 'mae' else 'VICReg'} on {cell}",
            source=f"slides, Robust self-supervised learning with Lie groups ({points:+.1f} %)",
            measured=f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}]; the identity in its place "
            f"{gain(base, 'identity', 'linear probe', cell)[0]:+.1f}; "
            + ", ".join(f"{reader} {points:+.1f}" for reader, points in others.items()),
            holds=low > 0,
            note="linear probe, 3 seeds, 95 % interval over seeds and concepts; flat drawings, small networks, "
            "350 steps",
        )
        earned, low, high, _ = over_both(base, "operator", "identity", cell)
        by_seed = score(base, "operator", "linear probe", cell) - score(base, "identity", "linear probe", cell)
        share = f", {earned / mean:.0%} of the gain" if mean > 2 else ""
        claim(
            f"{name}-operator",
            says=f"... and it is the operator that does it ({base}, {cell})",
            source="ours: the identity control",
            measured=f"operator minus identity {earned:+.1f} points [{low:+.1f}, {high:+.1f}]{share}; by seed "
            + ", ".join(f"{x:+.1f}" for x in by_seed),
            holds=low > 0 and earned > mean / 2,
            note="same losses, same pairs, t = 0; holds if the operator earns more than half of the gain, and its "
            "interval over seeds and concepts lies above 0",
        )
follows = [known[base, "operator", seed]["r"] for base in learners.BASES for seed in robustness.SEEDS]
claim(
    "lie-t-end-to-end",
    says="trained end to end, t infers the transformation",
    source="slides: infer transformation magnitude",
    measured=f"|r| of t with the angle, unknown drawings: {np.mean(follows):.2f}, at most {max(follows):.2f}",
    holds=np.median(follows) >= 0.5,
    note="holds if the median |r| is at least 0.5; these runs have neither the curriculum nor the skew L of section 8, "
    "so the row is about this recipe and not about training end to end",
)
linearity = [s["linear"]["gap with map"] / s["linear"]["gap without"] for s in studies]
claim(
    "lie-linear",
    says="variation acts as a linear transformation in representation space",
    source="slides: structure variation as transformations in representation space",
    measured=f"45°, unknown drawings: error with one matrix over error without {over_seeds(linearity)}; "
    f"PCA of pixels {pixel_line['gap with map'] / pixel_line['gap without']:.3f}",
    holds=max(linearity) < 0.2,
    note="in an encoder that keeps the pose; holds if below 0.2 for every seed. It needs no encoder: pixels do better",
)
worst = [max(abs(f - round(f)) for f in s["refined"]["frequencies"][:4]) for s in studies]
claim(
    "lie-integers",
    says="without pose labels the generator's frequencies are whole numbers",
    source="ours, eq. (10)",
    measured=f"largest distance of the top four from a whole number, median of 3 seeds {np.median(worst):.3f}",
    holds=np.median(worst) <= 0.1,
    note="two stages, refined; holds if at most 0.1",
)
by_search = [s["refined"]["r by search"] for s in studies]
claim(
    "lie-t-kept",
    says="where the pose is kept, t follows the angle on unknown drawings",
    source="ours",
    measured=f"|r| median {np.median(by_search):.3f} ({over_seeds(by_search)}); by the MLP "
    f"{over_seeds([s['refined']['r by reader'] for s in studies])}",
    holds=np.median(by_search) >= 0.97,
    note="pairs up to a quarter turn apart, t by search; holds if the median is at least 0.97",
)
lift = [100 * (s["refined"]["orbit"]["16"][KN] - s["plain"][KN]) for s in studies]
claim(
    "lie-orbit",
    says="variation learned on some drawings transfers to others: the orbit names them in new poses",
    source="slides: generalize variation across instances",
    measured=f"1-NN +{np.median(lift):.1f} points, median ({over_seeds(lift, 1)}); orbit in other planes "
    f"{np.median([100 * (s['refined']['orbit in other planes'][KN] - s['plain'][KN]) for s in studies]):+.1f}",
    holds=np.median(lift) >= 50,
    note="16 points of the orbit, no pose labels; holds if at least 50 points. PCA of pixels with ridge maps, which "
    f"know the angles, names {pixel_line['nearest'][KN]:.1%} without a network",
)
upright_change = [
    100 * (s["refined"]["orbit"]["16"][readers.CELLS[2]] - s["plain"][readers.CELLS[2]]) for s in studies
]
claim(
    "lie-orbit-typical",
    says="unknown drawings in typical pose improve too",
    source="slides (+12.4 % for MAE)",
    measured=f"{over_seeds(upright_change, 1)} points with the orbit",
    holds=np.mean(upright_change) - 2 * np.std(upright_change, ddof=1) > 0,
    note="1-NN; a fuller album offers more wrong neighbours",
)
claim(
    "lie-together",
    says="encoder and operator can be learned in one stage",
    source="slides: one loss for all",
    measured=f"|r| by search {over_seeds([s['together']['learned']['r by search'] for s in studies])}, refined "
    f"{over_seeds([s['together']['refined']['r by search'] for s in studies])}",
    holds=np.median([s["together"]["learned"]["r by search"] for s in studies]) >= 0.9,
    note="with the pose as a negative and a curriculum, 500 steps; holds if the median before refining is at least 0.9",
)
claim(
    "lie-two",
    says="a few basis matrices describe several kinds of variation",
    source="slides: g = exp(sum of t L)",
    measured="rotation and scale, N = 2: R2 of the angle "
    f"{over_seeds([s['rotation and scale']['R2 of angle'] for s in studies])}, "
    f"of log size {over_seeds([s['rotation and scale']['R2 of log size'] for s in studies])}",
    holds=min(np.median([s["rotation and scale"][k] for s in studies]) for k in ("R2 of angle", "R2 of log size"))
    >= 0.5,
    note="holds if both medians are at least 0.5",
)

# %% [markdown]
# ## 11. Doubts
#
# **What is the sources' and what is ours.** The operator, the inferred $\hat t$, the three terms of the loss and the three cells are the sources'. No code of theirs is public. Everything else here is ours: sizes, start, weights, drawings instead of rendered objects, one generator, the pose as a negative, the curriculum, the refinement, the search, the orbit in the album.
#
# **What our replica cannot show.** The paper turns objects in three dimensions and photographs; parts appear and disappear, and no linear map can bring back what was never seen. Its gains on ImageNet are beyond us. Our identity control says nothing about its runs, only that the control belongs in the table.
#
# **What knows about poses.** No step uses an angle. But pairs of poses of one drawing are given, and the curriculum knows which poses are neighbours. A film would give both.
#
# **What goes wrong in practice**
# - $|t|$ looks healthy and means nothing: after a collapse it still has a spread. Look at the *ratio* of the two gaps and at $r$.
# - A free $L$ with wide pairs settles for blurring: negative real parts, $t$ without a sign. Start skew, start near.
# - $\exp$ of a large matrix overflows: `torch.matrix_exp` of norm 200 returns infinities in float32. Ours raises an error that says how large $t$ was.
# - `matrix_exp` under autocast: half precision loses the small terms. Ours computes in float32 whatever surrounds it.
# - A test grid of angles that coincides with the training grid: neighbours then match pixel by pixel. Each of our drawings starts its turntable at its own angle.
#
# **Read on:** Hall 2015 for Lie groups from matrices alone. Cohen and Welling 2015 learn the irreducible representations directly. [Lesson 03](03_simclr.ipynb) asks what two views share, which is the question of invariance again.
#
# **Now you:** [exercises 06](../exercises/06_lie.ipynb), with [solutions](../solutions/06_lie.ipynb).
