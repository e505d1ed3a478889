"""Exercises of lesson 06: references, misconceptions and hints."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip.lie import exp_action

from . import _slips as slips
from ._exercise import Detour, Exercise, Misconception, Prediction

LESSON = "06_lie"

# ---- 6.1 the exponential series --------------------------------------------------------------------------------------


def series(X: Tensor, terms: int) -> Tensor:
    """The first `terms` terms of exp(X), I included, each made from the one before. (D, D) -> (D, D)"""
    term = total = torch.eye(len(X)).to(X)  # (D, D)
    for k in range(1, terms):
        term = term @ X / k  # (D, D)
        total = total + term
    return total


def _series_loop(X, terms):
    total = torch.zeros_like(X)
    for k in range(terms):
        term = torch.eye(len(X)).to(X)
        for i in range(1, k + 1):
            term = term @ (X / i)
        total = total + term
    return total


def _matrix(generator, d, norm):
    X = torch.randn(d, d, generator=generator)
    return norm * X / torch.linalg.matrix_norm(X, 2)


def _positive(generator):
    X = torch.rand(4, 4, generator=generator)  # no signs, so that no rounding is left when the terms are added
    return [(10 * X / torch.linalg.matrix_norm(X, 2), 60)]  # 10^59 is no float32


def _powers(X, terms, weight):
    return sum((weight(k) * torch.linalg.matrix_power(X.double(), k) for k in range(terms)), torch.zeros(())).to(X)


def _apart(number):
    def attempt(X, terms):
        power = total = torch.eye(len(X)).to(X)
        for k in range(1, terms):
            power = power @ X
            total = total + power / number(math.factorial(k))
        return total

    return attempt


def _horner(X, terms):
    total = torch.eye(len(X)).to(X)
    for k in range(terms - 1, 0, -1):
        total = torch.eye(len(X)).to(X) + X @ total / k
    return total


_SERIES = Exercise(
    library=series, reference=_series_loop,
    inputs=lambda g: [(_matrix(g, d, norm), n) for d, norm, n in ((2, 1, 1), (2, 1.5, 2), (3, 2, 4), (5, 3, 12))],
    extreme=_positive,
    stability="At a norm of 10 the power leaves float32 at k = 39, and 21! leaves 64 bits, while the term itself is "
    "small. How does a term follow from the one before?",
    right=(_horner, lambda X, n: _powers(X, n, lambda k: 1 / float(math.factorial(k)))),
    naive=(_apart(int), _apart(float)),
    hints=(
        "A power of a matrix is a matrix product, and its power 0 is the identity. How do you get a term from the one "
        "before it?",
        "X^k / k! is X^(k-1) / (k-1)! times X / k. So neither the large power nor the large factorial is ever needed.",
        "Begin with term = total = torch.eye(len(X)); for k in range(1, terms): term = term @ X / k, and add it.",
    ),
    misconceptions=(
        Misconception("factorial left out", lambda X, n: _powers(X, n, lambda k: 1.0),
            "Without the factorials this is the geometric series, which sums to (I - X)^-1 where it converges at all. "
            "What divides the k-th term of an exponential?"),
        Misconception("divides by k instead of k!", lambda X, n: _powers(X, n, lambda k: 1 / max(k, 1)),
            "You divide the k-th power by k, which makes the series of a logarithm. The derivative of a term has to be "
            "the term before it, and that takes the whole factorial."),
        Misconception("exponential of each entry", lambda X, n: X.exp(),
            "You took the exponential of each entry. At X = 0 that gives a matrix of ones, and doing nothing should be "
            "the identity. The powers of the series are matrix products."),
        Misconception("powers of each entry", lambda X, n: sum(X**k / math.factorial(k) for k in range(n)),
            "X**k raises each entry to the power k, and X**0 is a matrix of ones. Going twice along X is the matrix "
            "product X @ X."),
        Misconception("products of each entry", lambda X, n: series(X.diagonal().diag(), n),
            "Only the diagonal of your result is filled: * multiplies entry by entry, so the zeros of the identity "
            "never go away. A product of matrices is @.", says=lambda r, *_: not (r - r.diagonal().diag()).any()),
        Misconception("identity left out", slips.plus(lambda X, n: -torch.eye(len(X)).to(X)),
            "Your series begins at k = 1. The term k = 0 is the identity: without it exp(0) would send every vector "
            "to zero instead of leaving it where it is."),
        Misconception("first order only", slips.left_out(1, 2),
            "I + X is the first step and no more. It turns a circle into a spiral: a vector pushed along the tangent "
            "leaves the circle. The other terms bring it back."),
        Misconception("one term too many", slips.argument(1, lambda n: n + 1),
            "Count the identity as the first term: with terms = 1 the result is I alone."),
        Misconception("one term too few", slips.argument(1, lambda n: max(n - 1, 1)),
            "Your series ends one term early. With terms = 2 the result is I + X."),
        Misconception("all terms", lambda X, n: torch.linalg.matrix_exp(X),
            "This is the exponential itself. Here the truncated series is asked for, because its error is the point."),
    ),
)  # fmt: skip

# ---- 6.2 the generator of a rotation ---------------------------------------------------------------------------------


def rotation_generator(frequencies: Sequence[int]) -> Tensor:
    """L such that exp(theta L) turns plane j by k_j theta, counter-clockwise. K numbers -> (2K, 2K)"""
    return torch.block_diag(*(k * torch.tensor([[0.0, -1.0], [1.0, 0.0]]) for k in frequencies))


def _generator_loop(frequencies):
    L = torch.zeros(2 * len(frequencies), 2 * len(frequencies), dtype=torch.double)
    for j, k in enumerate(frequencies):
        L[2 * j, 2 * j + 1] = -float(k)
        L[2 * j + 1, 2 * j] = float(k)
    return L


def _by_jacobian(frequencies):
    def rotation(theta):
        turns = [k * theta for k in frequencies]
        return torch.block_diag(*(torch.stack([a.cos(), -a.sin(), a.sin(), a.cos()]).view(2, 2) for a in turns))

    return torch.autograd.functional.jacobian(rotation, torch.zeros(()))


def _kron(frequencies):
    return torch.kron(torch.diag(torch.tensor(frequencies).double()), rotation_generator([1]).double())


_ROTATION = Exercise(
    library=rotation_generator, reference=_generator_loop,
    inputs=lambda _: [([1],), ([3],), ([1, 2, 3],), ([4, 0, 2, 2],)],
    right=(_by_jacobian, _kron, lambda ks: _kron(ks).numpy(), lambda ks: _kron(ks).half()),
    naive="whole numbers are copied into a matrix",
    hints=(
        "One plane first: write down R(k theta) and differentiate each entry with respect to theta. Where is the "
        "generator to be read off?",
        "At theta = 0 the cosines have slope 0, and the sines slope k. So two entries remain, of opposite signs.",
        "The block is k [[0, -1], [1, 0]]. torch.block_diag(*blocks) puts the planes along the diagonal.",
    ),
    misconceptions=(
        Misconception("clockwise", slips.negated,
            "Your planes turn clockwise. A small step from (1, 0) should go up, to (1, +theta): which entry sends the "
            "first coordinate to the second?", says=lambda L, *_: L[1, 0] < 0),
        Misconception("degrees", slips.times(math.pi / 180),
            "Your generator counts in degrees. The derivative of the sine is the cosine only in radians."),
        Misconception("turns", slips.times(2 * math.pi),
            "Your generator counts in full turns: exp(L) is the identity. Here theta is in radians."),
        Misconception("frequency doubled", slips.times(2),
            "Each plane turns at twice its frequency. The whole slope k stands below the diagonal and once more, "
            "negative, above it; the two are one rotation and do not add up."),
        Misconception("frequency halved", slips.times(0.5),
            "Each plane turns at half its frequency. Splitting k between the two entries is for a sum of them; a "
            "rotation needs the whole slope in both."),
        Misconception("frequency left out", slips.argument(0, lambda ks: [1] * len(ks)),
            "All of your planes turn at one speed. Plane j turns by k_j theta: the inner derivative is k_j."),
        Misconception("the rotation instead of its generator", slips.then(torch.linalg.matrix_exp),
            "This is the rotation by theta = 1 itself. Its generator is the derivative at theta = 0, a matrix with an "
            "empty diagonal.", says=lambda g, *_: g.diagonal().any()),
        Misconception("symmetric", slips.then(torch.abs),
            "Your blocks are symmetric: exp(theta L) stretches one diagonal and squeezes the other. On a circle the "
            "velocity is at right angles to the position, v^T L v = 0 for all v, so L^T = -L.",
            says=lambda L, *_: torch.equal(L, L.T)),
        Misconception("planes across halves", lambda ks: torch.kron(rotation_generator([1]), torch.tensor(ks).diag()),
            "You pair coordinate j with coordinate j + K, as rotary position embeddings do. Here plane j is made of "
            "the neighbours 2j and 2j + 1, which makes L block-diagonal."),
    ),
)  # fmt: skip

# ---- 6.3 the frequencies of a generator ------------------------------------------------------------------------------


def frequencies(L: Tensor) -> Tensor:
    """Imaginary parts of the eigenvalues of a skew L, one a plane and 0 for an odd axis, falling. (D, D) -> (D/2,)"""
    heights = torch.linalg.eigvals(L).imag.sort(descending=True).values  # (D,)
    return heights[: -(-len(L) // 2)]  # (ceil(D/2),)


def _frequencies_loop(L):
    """L^T L = -L^2 is symmetric with eigenvalues omega^2, two for each plane."""
    squares = sorted(torch.linalg.eigvalsh(-L @ L).clamp(min=0).tolist(), reverse=True)
    return torch.tensor([math.sqrt(squares[2 * j]) for j in range(-(-len(L) // 2))])


def _skew(generator):
    made = []
    for d in (2, 3, 5, 8):
        X = torch.randn(d, d, generator=generator)
        made.append((X - X.T,))
    apart = [[1, 3, 2], [2, 4, 2], [0, 3, 0, 1]]  # not in order, two alike, two still
    still = torch.block_diag(rotation_generator([1, 0, 2]), torch.zeros(1, 1))
    return [*made, *((rotation_generator(ks),) for ks in apart), (still,)]


def _listed(found, L):
    """Too many or too few eigenvalues are wrong in any order; complex numbers become pairs of real ones."""
    found = torch.as_tensor(found.copy() if hasattr(found, "strides") else found)
    if found.is_complex():
        return torch.view_as_real(found)
    return found if found.shape == (-(-len(L) // 2),) or found.dim() != 1 else found.sort(descending=True).values


_FREQUENCIES = Exercise(
    library=frequencies, reference=_frequencies_loop, inputs=_skew, view=_listed,
    tolerance=1e-3,  # the root of a rounding error of float32
    right=(lambda L: torch.linalg.eigvalsh(1j * L).flip(0)[: (len(L) + 1) // 2],
           lambda L: torch.linalg.svdvals(L)[::2],
           lambda L: torch.linalg.eigvalsh(L.T @ L).clamp(min=0).sqrt().flip(0)[::2],
           lambda L: torch.linalg.eigvals(L).abs().sort(descending=True).values[::2],
           lambda L: torch.linalg.eigvalsh(1j * L).flip(0)[: (len(L) + 1) // 2].half()),
    naive="eigenvalues of a skew matrix are as large as the matrix",
    hints=(
        "A plane that turns at speed omega has two eigenvalues, +i omega and -i omega: one number a plane is enough.",
        "torch.linalg.eigvals(L) is complex, (D,). Take the imaginary parts, sort them, and keep the upper half.",
        "imag.sort(descending=True).values[: (D + 1) // 2]: the + 1 keeps the 0 of the axis that an odd D leaves over.",
    ),
    misconceptions=(
        Misconception("real parts", lambda L: torch.linalg.eigvals(L).real,
            "You read the real parts, and found zeros: nothing grows or shrinks under a rotation. How fast it turns "
            "is in the imaginary parts.", says=lambda r, *_: r.abs().max() < 1e-3),
        Misconception("the complex eigenvalues", lambda L: torch.linalg.eigvals(L),
            "These are the eigenvalues as complex numbers. Proof (a) says which of their two parts holds all there is "
            "to know."),
        Misconception("both signs", lambda L: torch.linalg.eigvals(L).imag,
            "Each plane appears twice, as +omega and -omega: the eigenvalues of a real matrix come in conjugate pairs. "
            "One number a plane is asked for."),
        Misconception("each plane twice", lambda L: torch.linalg.eigvals(L).abs(),
            "The absolute values hold each frequency twice, once for +i omega and once for -i omega."),
        Misconception("still planes left out", lambda L: frequencies(L)[frequencies(L) > 1e-3],
            "Your list has no zeros. A plane that holds still has the frequency 0, and so has the axis that an odd D "
            "leaves over."),
        Misconception("each speed once", lambda L: (frequencies(L) * 1e4).round().unique().flip(0) / 1e4,
            "Your list is too short where two planes turn at one speed: `unique` makes one of them. One number a plane "
            "is asked for."),
        Misconception("not sorted", lambda L: torch.linalg.eigvals(L).imag[::2].abs(),
            "The numbers are right, but in the order in which the eigenvalues come. The fastest plane comes first: "
            "sort them."),
        Misconception("rising order", slips.then(lambda f: f.flip(0)),
            "The numbers are right, their order is not: the fastest plane comes first."),
        Misconception("squares", slips.then(torch.square),
            "These are the squares. L^T L has the eigenvalues omega^2: a root is missing."),
        Misconception("turns per unit of time", slips.times(1 / (2 * math.pi)),
            "You divided by 2 pi and have turns per unit of t. The frequency of this lesson is an angle per unit of "
            "t, in radians."),
        Misconception("eigenvalues of a symmetric matrix", lambda L: torch.linalg.eigvalsh(L),
            "eigvalsh takes your word that the matrix is symmetric: it reads the lower triangle and mirrors it. L is "
            "skew; it is i L that is Hermitian."),
    ),
)  # fmt: skip

# ---- 6.4 the gap that the order leaves -------------------------------------------------------------------------------


def commutator_gap(X: Tensor, Y: Tensor, s: float) -> Tensor:
    """Leading term of exp(sX) exp(sY) - exp(s(X + Y)). (D, D), (D, D) -> (D, D)"""
    return s**2 / 2 * (X @ Y - Y @ X)


def _gap_loop(X, Y, s):
    D = len(X)
    out = torch.zeros_like(X)
    for i in range(D):
        for j in range(D):
            out[i, j] = sum(X[i, k] * Y[k, j] - Y[i, k] * X[k, j] for k in range(D)) * s * s / 2
    return out


def _pairs_of_generators(generator):
    made = [(_matrix(generator, d, 2), _matrix(generator, d, 3), s) for d, s in ((2, 0.1), (3, 0.5), (5, 1.5))]
    X = torch.randn(4, 4, generator=generator)
    return [*made, (X, X @ X + 2 * torch.eye(4), 0.7)]  # the last commute


def _whole_gap(X, Y, s):
    exp = torch.linalg.matrix_exp
    return exp(s * X) @ exp(s * Y) - exp(s * (X + Y))


_COMMUTATOR = Exercise(
    library=commutator_gap, reference=_gap_loop, inputs=_pairs_of_generators,
    scale=lambda X, Y, s: s**2 * X.norm() * Y.norm(),
    right=(lambda X, Y, s: s**2 * (X @ X / 2 + X @ Y + Y @ Y / 2) - s**2 / 2 * (X + Y) @ (X + Y),
           lambda X, Y, s: s * s * (X @ Y - (X @ Y + Y @ X) / 2),
           lambda X, Y, s: s * s / 2 * (torch.einsum("ij,jk->ik", X, Y) - torch.einsum("ij,jk->ik", Y, X)),
           lambda X, Y, s: s**2 * _whole_gap(1e-4 * X.double(), 1e-4 * Y.double(), 1.0) / 1e-8),
    naive="a polynomial of its inputs; what cancels is allowed for",
    hints=(
        "Write each of the three exponentials up to s^2 and multiply out. Which terms are left after the subtraction?",
        "The product has s^2 (X^2/2 + XY + Y^2/2), the other (s^2/2)(X + Y)^2. And (X + Y)^2 is not X^2 + 2XY + Y^2.",
        "XY - (XY + YX)/2 = (XY - YX)/2. Times s^2.",
    ),
    misconceptions=(
        Misconception("order turned", slips.swapped(0, 1),
            "The sign is turned: this is [Y, X]. In exp(sX) exp(sY) the factor X stands on the left, so XY is the "
            "product with the plus."),
        Misconception("half left out", slips.times(2),
            "Twice too much: exp(s(X + Y)) already contains half of the XY."),
        Misconception("first order in s", slips.times(lambda X, Y, s: 1 / s),
            "Yours grows linearly in s. To first order the two sides agree, since both begin with I + s(X + Y); the "
            "gap begins at s^2."),
        Misconception("s left out", slips.left_out(2, 1.0),
            "Yours does not depend on s. The gap closes as s goes to 0: at which rate?"),
        Misconception("anticommutator", lambda X, Y, s: s**2 / 2 * (X @ Y + Y @ X),
            "You added the two products. X and itself would then leave a gap, though exp(sX) exp(sX) = exp(2sX)."),
        Misconception("one product only", lambda X, Y, s: s**2 / 2 * X @ Y,
            "Where is YX? It hides in the square: (X + Y)^2 = X^2 + XY + YX + Y^2."),
        Misconception("products of each entry", lambda X, Y, s: s**2 / 2 * (X * Y - Y * X),
            "All zeros: * multiplies entry by entry, and numbers commute. Matrices are multiplied by @.",
            says=lambda r, *_: not r.any()),
        Misconception("the whole gap", _whole_gap,
            "This is the gap itself, with all of its orders. Its leading term is asked for, the one that says why "
            "there is a gap."),
    ),
)  # fmt: skip

# ---- 6.5 the action --------------------------------------------------------------------------------------------------


def act(L: Tensor, t: Tensor, z: Tensor) -> Tensor:
    """exp(t_b L) z_b for every row b. (D, D), (B,), (B, D) -> (B, D)"""
    return exp_action(L[None], t[:, None], z)


def _act_loop(L, t, z):
    """Row by row, the series from its inside out: (1 + A (1 + A/2 (1 + A/3 ...))) z."""
    rows = []
    for time, row in zip(t, z, strict=True):
        steps = 1 + int(abs(float(time)) * float(L.norm()))
        for _ in range(steps):
            inner = row
            for k in range(20, 0, -1):
                inner = row + time / (steps * k) * (L @ inner)
            row = inner
        rows.append(row)
    return torch.stack(rows)


def _moves(generator):
    """All with a norm of tL of at most 1, where one step will do; in the third nothing moves, the last is large."""
    made = []
    for b, d in ((3, 4), (5, 5), (1, 3), (7, 2), (64, 70)):  # B = D: a t along the wrong axis raises nothing there
        t = torch.rand(b, generator=generator) * 2 - 1
        made.append((_matrix(generator, d, 0.9), t, torch.randn(b, d, generator=generator)))
    return [*made, (made[0][0], torch.zeros(3), made[0][2])]


def _far_moves(generator):
    """Norms of tL up to 180: by a large t, by a large L, backwards only; and a shear, which has one eigenvector."""
    Q = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    turning, z = Q @ rotation_generator([1, 2, 3]) @ Q.T, torch.randn(4, 6, generator=generator)
    shear = torch.diag(torch.full((5,), 3.0), 1)
    times = torch.tensor([60.0, -3.0, 5.0, 0.0]), torch.tensor([-60.0, -9.0, -11.0, -10.0])
    return [(turning, times[0], z), (turning, times[1], z), (60 * turning, times[0] / 60, z), (shear, times[0] / 20, z)]


def _taylor(L, t, z, steps=1, shrink=True, terms=16):
    for _ in range(steps):
        term = z
        for k in range(1, terms):
            term = t / steps * (term @ L.T) / (k if shrink else 1)
            z = z + term
    return z


def _steps(size):
    return max(1, math.ceil(float(size.detach()) / 2))


def _norm(L):
    return torch.linalg.matrix_norm(L.detach(), 2)


def _forms_matrices(made, L, t, z):
    """A table of B matrices at once, or B exponentials or products of two (D, D) matrices, one after another."""
    B, D = z.shape
    if min(B, D) < 50:  # there a few terms of the series, stacked, are as large
        return False
    products = [m for m in made if m.operation in ("mm", "bmm", "addmm", "baddbmm", "linalg_matrix_exp")]
    formed = sum(m.numbers for m in products if m.shape[-2:] == (D, D))
    return formed >= B * D * D or any(m.numbers >= B * D * D for m in made)


def _eigenbasis(L, t, z):
    values, vectors = torch.linalg.eig(L.double())
    parts = torch.linalg.solve(vectors, z.double().T.to(vectors.dtype)).T
    return ((torch.exp(t[:, None] * values) * parts) @ vectors.T).real


_ACT = Exercise(
    library=act, reference=_act_loop, inputs=_moves, extreme=_far_moves, gradients=("L", "t", "z"),
    stability="Too few substeps, or a formula for some matrices only: the norm of t_b L goes up to 200 here, by a large "
    "t of either sign or by a large L. How many steps keep each of them at a norm of 2?",
    detour=Detour("forms a matrix for each row",
        "You form a (D, D) matrix for each row, by matrix_exp, by products of matrices or by t[:, None, None] * L. "
        "Each term of the series is needed as a vector only.", _forms_matrices,
        (lambda L, t, z: (torch.linalg.matrix_exp(t[:, None, None] * L) @ z[:, :, None])[:, :, 0],
         lambda L, t, z: torch.stack([torch.linalg.matrix_exp(a * L) @ v for a, v in zip(t, z)]),
         lambda L, t, z: torch.stack([series(a * L, 16) @ v for a, v in zip(t, z)]),
         lambda L, t, z: torch.vmap(lambda a, v: torch.matrix_exp(a * L) @ v)(t, z),
         lambda L, t, z: sum(torch.linalg.matrix_power(t[:, None, None] * L, k) @ z[:, :, None] / math.factorial(k)
                             for k in range(16))[:, :, 0])),
    right=(lambda L, t, z: _taylor(L, t[:, None], z, _steps(t.abs().max() * _norm(L))),
           lambda L, t, z: _taylor(L, t[:, None], z, 100),
           lambda L, t, z: torch.stack([_taylor(L, a, v, _steps(abs(a) * L.norm())) for a, v in zip(t, z)])),
    naive=(lambda L, t, z: _taylor(L, t[:, None], z),
           *(lambda L, t, z, n=n: _taylor(L, t[:, None], z, 1, True, n) for n in (8, 12, 30, 60, 150)),
           lambda L, t, z: _taylor(L, t[:, None], z, 9),
           lambda L, t, z: _taylor(L, t[:, None], z, _steps(t.max() * _norm(L))),
           lambda L, t, z: _taylor(L, t[:, None], z, _steps(t.abs().max())),
           lambda L, t, z: _taylor(L, t[:, None], z, _steps(_norm(L))),
           _eigenbasis),
    hints=(
        "You never need exp(tL), only what it does to z. Each term of the series is a vector: the one before, "
        "multiplied by tL / k. In which order do a row vector and L stand?",
        "z @ L.T applies L to all rows at once, and t[:, None] gives each row its own t. For a large t go in s small "
        "steps: exp(tL) = exp(tL / s)^s. How large may the norm of tL / s be?",
        "s = max(1, ceil(max|t| * norm of L / 2)); s times over: term = z; for k = 1 ... 15: "
        "term = t[:, None] / (s * k) * (term @ L.T), and z = z + term.",
    ),
    misconceptions=(
        Misconception("z L instead of L z", slips.argument(0, lambda L: L.mT),
            "You applied the transposed generator: for rows, L z is z @ L.T. With a skew L that turns every vector "
            "backwards."),
        Misconception("one t for all rows", slips.argument(1, lambda t: t.mean().expand(len(t))),
            "All of your rows move equally far. Each pair of the batch has a pose difference of its own, and so a t of "
            "its own."),
        Misconception("t along the coordinates", lambda L, t, z: _taylor(L, t, z),
            "Your t is multiplied along the D coordinates: (B,) against (B, D) lines up with the last axis. Where B "
            "is D nothing even fails. t[:, None] lines it up with the rows."),
        Misconception("no step where nothing moves",
            lambda L, t, z: _taylor(L, t[:, None], z, math.ceil(float(t.detach().abs().max() * _norm(L)) / 2)),
            "Your number of steps s is 0 where t or L is 0. The result is right there, but nothing of it depends on t: "
            "no gradient reaches t, and a division by s fails. Take one step at least."),
        Misconception("first order only", lambda L, t, z: _taylor(L, t[:, None], z, terms=2),
            "One step along the tangent, z + tLz. It leaves the circle: the norm grows with every step. The other "
            "terms of the series bring it back."),
        Misconception("factorial left out", lambda L, t, z: _taylor(L, t[:, None], z, shrink=False),
            "Your k-th term lacks its factorial: what you sum is a geometric series. Divide by k at each step from one "
            "term to the next."),
        Misconception("exponential of each entry",
            lambda L, t, z: torch.einsum("bij,bj->bi", (t[:, None, None] * L).exp(), z),
            "You took the exponential of each entry of tL. At t = 0 that is a matrix of ones, and z should stay where "
            "it is. The exponential of a matrix is the series of 6.1."),
        Misconception("backwards", slips.argument(1, torch.neg),
            "You moved z back, by exp(-tL)."),
        Misconception("t left out", slips.argument(1, torch.ones_like),
            "Your result does not depend on t: you moved every row by exp(L)."),
    ),
)  # fmt: skip

# ---- 6.6 t by search -------------------------------------------------------------------------------------------------


def _orbit(L, z, times):
    g = torch.linalg.matrix_exp(times[:, None, None] * L)  # (T, D, D)
    return torch.einsum("tij,bj->bti", g, z)  # (B, T, D)


def _squared(L, z, z_g, times):
    return (_orbit(L, z, times) - z_g[:, None]).square().sum(dim=2)  # (B, T)


def infer(L: Tensor, z: Tensor, z_g: Tensor, times: Tensor) -> Tensor:
    """For each row, the time of the grid whose exp(tL) z lies nearest z_g. -> (B,)"""
    return times[_squared(L, z, z_g, times).argmin(dim=1)]


def _infer_loop(L, z, z_g, times):
    found = []
    for start, goal in zip(z, z_g, strict=True):
        best, at = math.inf, times[0]
        for t in times:
            apart = float((torch.linalg.matrix_exp(t * L) @ start - goal).square().sum())
            if apart < best:
                best, at = apart, t
        found.append(at)
    return torch.stack(found)


def _posed_pairs(generator):
    made = []
    for b, ks, points in ((5, [1], 41), (8, [1, 2], 80), (6, [1, 2, 3], 101)):
        d = 2 * len(ks)
        growing = rotation_generator(ks) + 0.12 * torch.randn(d, d, generator=generator)
        z, t = torch.randn(b, d, generator=generator), 8 * torch.rand(b, generator=generator) - 3
        z_g = act(growing, t, z) + 0.2 * torch.randn(b, d, generator=generator)
        made.append((growing, z, z_g, torch.linspace(-4, 6, points)))
    return made


def _by_cdist(L, z, z_g, times):
    path = _orbit(L.double(), z.double(), times.double())
    return times[torch.cdist(z_g.double()[:, None], path)[:, 0].argmin(1)]


_INFER = Exercise(
    library=infer, reference=_infer_loop, inputs=_posed_pairs,
    right=(_by_cdist, lambda *args: _by_cdist(*args).bfloat16()),
    naive="the distances are of the size of the embeddings",
    hints=(
        "Walk along the orbit of each z and note how far each point is from z_g. What do you return, where it is "
        "nearest or how near?",
        "torch.linalg.matrix_exp takes (T, D, D), one matrix for each time. Then a path is (B, T, D), and the squared "
        "distances to z_g[:, None] are (B, T).",
        "g = torch.linalg.matrix_exp(times[:, None, None] * L); path = torch.einsum('tij,bj->bti', g, z); "
        "times[squared distances.argmin(dim=1)].",
    ),
    misconceptions=(
        Misconception("index instead of time", lambda *args: _squared(*args).argmin(dim=1),
            "argmin says where in the grid, not when. The time stands at that place of `times`."),
        Misconception("distance instead of time", lambda *args: _squared(*args).amin(dim=1),
            "You returned how near the orbit comes. Asked for is when: the time at which it is nearest."),
        Misconception("farthest instead of nearest",
            lambda L, z, z_g, times: times[_squared(L, z, z_g, times).argmax(dim=1)],
            "You found the point of the orbit that is farthest away. A similarity is searched for its largest value, a "
            "distance for its smallest."),
        Misconception("distance of lengths",
            lambda L, z, z_g, times: times[(_orbit(L, z, times).norm(dim=2) - z_g.norm(dim=1)[:, None]).abs().argmin(1)],
            "You compared the lengths of two vectors. Under a rotation all of an orbit has one length: take the "
            "length of the difference, not the difference of the lengths."),
        Misconception("cosines only",
            lambda L, z, z_g, times: times[F.cosine_similarity(_orbit(L, z, times), z_g[:, None], dim=2).argmax(dim=1)],
            "A cosine does not see length. Your generator may also scale, and then its orbit is a spiral that comes by "
            "the same direction again and again."),
        Misconception("dot products",
            lambda L, z, z_g, times: times[(_orbit(L, z, times) * z_g[:, None]).sum(dim=2).argmax(dim=1)],
            "A dot product grows with the length of the moved vector: where the generator also scales, the outermost "
            "turn of the spiral wins. Only distances ask for z_g itself."),
        Misconception("moves z_g instead of z", slips.swapped(1, 2),
            "You moved z_g to z. That finds the way back, which is -t."),
        Misconception("z L instead of L z", slips.argument(0, lambda L: L.mT),
            "Your orbit is made by the transposed generator: for rows, g z is z @ g.T."),
        Misconception("one t for all rows",
            lambda L, z, z_g, times: times[_squared(L, z, z_g, times).sum(dim=0).argmin().expand(len(z))],
            "You summed the distances over the batch, and all rows share one t. Each pair has its own pose difference.",
            says=lambda t, *_: (t == t[0]).all()),
    ),
)  # fmt: skip

# ---- 6.7 which control keeps the gain --------------------------------------------------------------------------------

# Order of the answers: operator := identity, t shuffled, poses as plain positives, true angle as t.

_GAIN_INVARIANCE = Prediction(
    answer=(True, True, True, False),
    hints=(
        "In this world the gain is what forgetting the pose brings. Under which controls is forgetting the only way to "
        "a small loss?",
        "With g = 1 or with a wrong t, z^g can be met in one way only: z^g = z. What does a right t make possible?",
        "With the right t an operator can learn to turn, and then the pose may stay. The other three cannot turn.",
    ),
    misconceptions=(
        Misconception("the true angle keeps the gain", (True, True, True, True),
            "With the right t the operator can learn to turn, and a loss that is met by turning no longer asks the "
            "encoder to forget. The operator idles for want of a right t, not for good."),
        Misconception("the identity loses the gain", (False, True, True, False),
            "With g = 1 the loss still asks for z = z^g, which is invariance written out. Why would this gain go?"),
        Misconception("the shuffled t loses the gain", (True, False, True, False),
            "Here the operator turns nothing as it is. A wrong t can only harm where t is used."),
        Misconception("plain positives lose the gain", (True, True, False, False),
            "Poses as plain positives ask for z = z^g without any operator. In this world that is all it takes."),
        Misconception("only the operator keeps the gain", (False, False, False, True),
            "This is the row of a real operator. Here the operator idles, and the pairs do the work."),
    ),
)  # fmt: skip

_GAIN_OPERATOR = Prediction(
    answer=(False, False, False, True),
    hints=(
        "In this world the gain needs g to turn z by the angle of *this* pair. Which runs still give it that?",
        "A shuffled t has the same mean and spread as before, and belongs to another pair.",
        "One of the four knows the angle of the pair even better than the network that reads it.",
    ),
    misconceptions=(
        Misconception("the shuffled t keeps the gain", (False, True, False, True),
            "Shuffled, t still has the right spread, but it is the angle of another pair: g turns by the wrong angle."),
        Misconception("the identity keeps the gain", (True, False, False, True),
            "The identity turns nothing. Whatever the gain is that survives it, the turning did not bring it."),
        Misconception("plain positives keep the gain", (False, False, True, True),
            "Plain positives throw the pose away instead of turning it. No g is left that could move by an angle."),
        Misconception("nothing keeps the gain", (False, False, False, False),
            "One of the four replaces the reading of t by something better. A real operator gains from that."),
        Misconception("everything keeps the gain", (True, True, True, True),
            "A real operator needs the angle of the pair. Three of the four do not have it."),
        Misconception("the row of invariance", (True, True, True, False),
            "This is the row of invariance, upside down here: what takes the angle away takes this gain away."),
    ),
)  # fmt: skip

_GAIN_NOISE = Prediction(
    answer=(False, True, False, True),
    hints=(
        "In this world features gain from being moved about, in whatever direction. Which runs still move them?",
        "A shuffled t moves each feature as far as before, to the wrong place. The wrong place is as good here.",
        "Two of the four apply no g other than 1.",
    ),
    misconceptions=(
        Misconception("the shuffled t loses the gain", (False, False, False, True),
            "Shuffling keeps how far the features move and spoils only where to. Noise does not ask where to."),
        Misconception("the true angle loses the gain", (False, True, False, False),
            "The true angle is a t of the usual size like the others, and moves the features as far. That is all this "
            "gain needs."),
        Misconception("the identity keeps the gain", (True, True, False, True),
            "With g = 1 nothing is moved, so there is no noise."),
        Misconception("plain positives keep the gain", (False, True, True, True),
            "Without an operator no feature is moved. The pairs are there, but in this world they are not what helps."),
        Misconception("nothing keeps the gain", (False, False, False, False),
            "Two of the four still push the features about, as far as the operator did."),
    ),
)  # fmt: skip

# ---- 6.8 does the operator do anything? ------------------------------------------------------------------------------


def gap_ratio(L: Tensor, t: Tensor, z: Tensor, z_g: Tensor) -> Tensor:
    """Mean ||exp(tL) z - z_g||^2 over mean ||z - z_g||^2: 0 all of the way, 1 none of it. -> scalar"""
    return (act(L, t, z) - z_g).square().sum() / (z - z_g).square().sum()


def _ratio_loop(L, t, z, z_g):
    moved, idle = 0.0, 0.0
    for i in range(len(z)):
        there = torch.linalg.matrix_exp(t[i] * L) @ z[i]
        moved += float(((there - z_g[i]) ** 2).sum())
        idle += float(((z[i] - z_g[i]) ** 2).sum())
    return moved / idle


def _trained(generator):
    """An operator that helps a little, one that works, one that idles while t is large, one that does harm."""
    made = []
    for b, d, size, noise in ((6, 3, 0.5, 0.5), (20, 4, 1.0, 0.05), (30, 5, 1e-3, 0.03)):
        X = torch.randn(d, d, generator=generator)
        L, t = size * (X - 0.8 * X.T), 0.7 * torch.randn(b, generator=generator)
        z = torch.randn(b, d, generator=generator)
        made.append((L, t, z, act(L, t, z) + noise * torch.randn(b, d, generator=generator)))
    L, t, z, z_g = made[0]
    return [*made, (L, -t, z, z_g)]


def _squares(x):
    return x.square().sum(dim=1)


def _lengths(x, y):
    return (x.norm(dim=1) - y.norm(dim=1)).square().mean()


_GAP_RATIO = Exercise(
    library=gap_ratio, reference=_ratio_loop, inputs=_trained,
    right=(lambda L, t, z, z_g: ((act(L, t, z) - z_g).norm() / (z - z_g).norm()) ** 2,
           lambda L, t, z, z_g: float(_squares(act(L, t, z) - z_g).mean() / _squares(z - z_g).mean()),
           lambda L, t, z, z_g: F.mse_loss(act(L, t, z), z_g) / F.mse_loss(z, z_g),
           lambda L, t, z, z_g: gap_ratio(L, t, z, z_g).bfloat16()),
    naive="two means of squares; nothing large is formed",
    hints=(
        "How far is z_g from where the operator took z? And how far would it be from z, had the operator done nothing?",
        "Both are squared lengths, summed over D and averaged over B. Average first, then divide: a pair that hardly "
        "turned would otherwise count as much as one that turned far.",
        "moved = act(L, t, z); (moved - z_g).square().sum(dim=1).mean() / (z - z_g).square().sum(dim=1).mean().",
    ),
    misconceptions=(
        Misconception("upside down", slips.then(lambda r: 1 / r),
            "Your ratio is upside down: it is large where the operator works. What is left of the gap goes on top."),
        Misconception("share that is gone", slips.then(lambda r: 1 - r),
            "You return the share of the gap that the operator closes. Asked for is the share that it leaves: "
            "0 all of the way, 1 none of it."),
        Misconception("size of t", lambda L, t, z, z_g: t.abs().mean(),
            "You looked at |t| alone. Only tL has a meaning: with L near 0 a large t moves nothing, and a t that moves "
            "much may move in the wrong direction."),
        Misconception("relative to the length of z_g",
            lambda L, t, z, z_g: _squares(act(L, t, z) - z_g).mean() / _squares(z_g).mean(),
            "Compared with the length of z_g an idle operator looks perfect too: once the encoder has dropped the "
            "pose, z itself is as near. Compare with what doing nothing would leave."),
        Misconception("no comparison", lambda L, t, z, z_g: _squares(act(L, t, z) - z_g).mean(),
            "A small loss proves nothing: an encoder that dropped the pose makes it small with g = 1. Compare with "
            "what doing nothing would leave."),
        Misconception("how far the operator moves",
            lambda L, t, z, z_g: _squares(act(L, t, z) - z).mean() / _squares(z - z_g).mean(),
            "You measured how far g moves z. Moving is not arriving: a wrong operator moves as far."),
        Misconception("not squared",
            lambda L, t, z, z_g: (act(L, t, z) - z_g).norm(dim=1).mean() / (z - z_g).norm(dim=1).mean(),
            "You compared lengths instead of their squares. The loss squares them, and so does this ratio, so that it "
            "is the share of the loss that remains."),
        Misconception("root of the ratio", slips.then(lambda r: r**0.5),
            "You took a root. Without it the ratio is the share of the squared gap that remains."),
        Misconception("mean of the ratios",
            lambda L, t, z, z_g: (_squares(act(L, t, z) - z_g) / _squares(z - z_g)).mean(),
            "You divided pair by pair. A pair that hardly turned has almost nothing on the bottom, and one of them "
            "decides your mean. Average first, then divide."),
        Misconception("distance of lengths", lambda L, t, z, z_g: _lengths(act(L, t, z), z_g) / _lengths(z, z_g),
            "You compared lengths of vectors. A rotation keeps every length, whatever its angle: take the length of "
            "the difference."),
        Misconception("z L instead of L z", slips.argument(0, lambda L: L.mT),
            "Your operator is the transposed one: for rows, L z is z @ L.T."),
        Misconception("backwards", slips.argument(1, torch.neg),
            "You moved z by exp(-tL), away from z_g."),
    ),
)  # fmt: skip

EXERCISES: dict[str, Exercise | Prediction] = {
    "series": _SERIES,
    "rotation_generator": _ROTATION,
    "frequencies": _FREQUENCIES,
    "commutator_gap": _COMMUTATOR,
    "act": _ACT,
    "infer": _INFER,
    "gain_invariance": _GAIN_INVARIANCE,
    "gain_operator": _GAIN_OPERATOR,
    "gain_noise": _GAIN_NOISE,
    "gap_ratio": _GAP_RATIO,
}
