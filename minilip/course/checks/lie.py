"""Exercises of lesson 06: references, misconceptions and hints."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip.lie import exp_action

from . import Exercise, Misconception, Prediction

LESSON = "06_lie"

# ---- 6.1 the exponential series --------------------------------------------------------------------------------------


def series(A: Tensor, terms: int) -> Tensor:
    """The first `terms` terms of exp(A), I included, each made from the one before. (D, D) -> (D, D)"""
    term = total = torch.eye(len(A)).to(A)  # (D, D)
    for k in range(1, terms):
        term = term @ A / k  # (D, D)
        total = total + term
    return total


def _series_loop(A, terms):
    total = torch.zeros_like(A)
    for k in range(terms):
        term = torch.eye(len(A)).to(A)
        for i in range(1, k + 1):
            term = term @ (A / i)
        total = total + term
    return total


def _matrices(generator):
    def size(d, norm):
        A = torch.randn(d, d, generator=generator)
        return norm * A / torch.linalg.matrix_norm(A, 2)

    positive = torch.rand(4, 4, generator=generator)  # no signs, so that no rounding is left when the terms are added
    ordinary = [(size(2, 1.0), 1), (size(2, 1.5), 2), (size(3, 2.0), 4), (size(5, 3.0), 12)]
    return [*ordinary, (10 * positive / torch.linalg.matrix_norm(positive, 2), 60)]  # the last: 10^59 is no float32


def _powers(A, terms, weight):
    return sum((weight(k) * torch.linalg.matrix_power(A.double(), k) for k in range(terms)), torch.zeros(())).to(A)


def _apart(A, terms, number):
    power = total = torch.eye(len(A)).to(A)
    for k in range(1, terms):
        power = power @ A
        total = total + power / number(math.factorial(k))
    return total


_SERIES = Exercise(
    library=series,
    reference=_series_loop,
    inputs=_matrices,
    hints=(
        "A power of a matrix is a matrix product, and its power 0 is the identity. How do you get a term from the one "
        "before it?",
        "A^k / k! is A^(k-1) / (k-1)! times A / k. So neither the large power nor the large factorial is ever needed.",
        "Begin with term = total = torch.eye(len(A)); for k in range(1, terms): term = term @ A / k, and add it.",
    ),
    misconceptions=(
        Misconception(
            "factorial left out",
            lambda A, n: _powers(A, n, lambda k: 1.0),
            "Without the factorials this is the geometric series, which sums to (I - A)^-1 where it converges at all. "
            "What divides the k-th term of an exponential?",
        ),
        Misconception(
            "divides by k instead of k!",
            lambda A, n: _powers(A, n, lambda k: 1 / max(k, 1)),
            "You divide the k-th power by k, which makes the series of a logarithm. The derivative of a term has to be "
            "the term before it, and that takes the whole factorial.",
        ),
        Misconception(
            "exponential of each entry",
            lambda A, n: A.exp(),
            "You took the exponential of each entry. At A = 0 that gives a matrix of ones, and doing nothing should be "
            "the identity. The powers of the series are matrix products.",
        ),
        Misconception(
            "powers of each entry",
            lambda A, n: sum(A**k / math.factorial(k) for k in range(n)),
            "A**k raises each entry to the power k, and A**0 is a matrix of ones. Going twice along A is the matrix "
            "product A @ A.",
        ),
        Misconception(
            "products of each entry",
            lambda A, n: series(A.diagonal().diag(), n),
            "Only the diagonal of your result is filled: * multiplies entry by entry, so the zeros of the identity "
            "never go away. A product of matrices is @.",
        ),
        Misconception(
            "identity left out",
            lambda A, n: series(A, n) - torch.eye(len(A)),
            "Your series begins at k = 1. The term k = 0 is the identity: without it exp(0) would send every vector "
            "to zero instead of leaving it where it is.",
        ),
        Misconception(
            "first order only",
            lambda A, n: torch.eye(len(A)) + A,
            "I + A is the first step and no more. It turns a circle into a spiral: a vector pushed along the tangent "
            "leaves the circle. The other terms bring it back.",
        ),
        Misconception(
            "one term too many",
            lambda A, n: series(A, n + 1),
            "Count the identity as the first term: with terms = 1 the result is I alone.",
        ),
        Misconception(
            "all terms",
            lambda A, n: torch.linalg.matrix_exp(A),
            "This is the exponential itself. Here the truncated series is asked for, because its error is the point.",
        ),
        Misconception(
            "factorial beyond 64 bits",
            lambda A, n: _apart(A, n, int),
            "Right, until k = 21: its factorial no longer fits into a whole number of 64 bits, and A^k grows beyond "
            "float32 soon after. Neither is needed: how does a term follow from the one before?",
        ),
        Misconception(
            "powers and factorials apart",
            lambda A, n: _apart(A, n, float),
            "Right, until A^k leaves the range of float32: with a norm of 10 that is at k = 39, where the term itself "
            "is still small. Divide as you go, and the large numbers never appear.",
        ),
    ),
)

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


def _rotation(frequencies):
    return torch.linalg.matrix_exp(rotation_generator(frequencies))


def _halves(frequencies):
    K = torch.diag(torch.tensor(frequencies, dtype=torch.float))
    return torch.cat([torch.cat([torch.zeros_like(K), -K], dim=1), torch.cat([K, torch.zeros_like(K)], dim=1)])


_ROTATION = Exercise(
    library=rotation_generator,
    reference=_generator_loop,
    inputs=lambda _: [([1],), ([1, 2, 3],), ([4, 0, 2, 2],)],
    hints=(
        "One plane first: write down R(k theta) and differentiate each entry with respect to theta. Where is the "
        "generator to be read off?",
        "At theta = 0 the cosines have slope 0, and the sines slope k. So two entries remain, of opposite signs.",
        "The block is k [[0, -1], [1, 0]]. torch.block_diag(*blocks) puts the planes along the diagonal.",
    ),
    misconceptions=(
        Misconception(
            "clockwise",
            lambda ks: -rotation_generator(ks),
            "Your planes turn clockwise. A small step from (1, 0) should go up, to (1, +theta): which entry sends the "
            "first coordinate to the second?",
        ),
        Misconception(
            "degrees",
            lambda ks: rotation_generator(ks) * math.pi / 180,
            "Your generator counts in degrees. The derivative of the sine is the cosine only in radians.",
        ),
        Misconception(
            "turns",
            lambda ks: rotation_generator(ks) * 2 * math.pi,
            "Your generator counts in full turns: exp(L) is the identity. Here theta is in radians.",
        ),
        Misconception(
            "frequency doubled",
            lambda ks: 2 * rotation_generator(ks),
            "Each plane turns at twice its frequency. The whole slope k stands below the diagonal and once more, "
            "negative, above it; the two are one rotation and do not add up.",
        ),
        Misconception(
            "frequency halved",
            lambda ks: rotation_generator(ks) / 2,
            "Each plane turns at half its frequency. Splitting k between the two entries is for a sum of them; a "
            "rotation needs the whole slope in both.",
        ),
        Misconception(
            "frequency left out",
            lambda ks: rotation_generator([1] * len(ks)),
            "All of your planes turn at one speed. Plane j turns by k_j theta: the inner derivative is k_j.",
        ),
        Misconception(
            "the rotation instead of its generator",
            _rotation,
            "This is the rotation by theta = 1 itself. Its generator is the derivative at theta = 0, a matrix with an "
            "empty diagonal.",
        ),
        Misconception(
            "symmetric",
            lambda ks: rotation_generator(ks).abs(),
            "Your blocks are symmetric. Then exp(theta L) stretches one diagonal and squeezes the other. For a circle "
            "the velocity has to be at right angles to the position: v^T L v = 0 for all v, so L^T = -L.",
        ),
        Misconception(
            "planes across halves",
            _halves,
            "You pair coordinate j with coordinate j + K, as rotary position embeddings do. Here plane j is made of "
            "the neighbours 2j and 2j + 1, which makes L block-diagonal.",
        ),
    ),
)

# ---- 6.3 the frequencies of a generator ------------------------------------------------------------------------------


def frequencies(L: Tensor) -> Tensor:
    """Imaginary parts of the eigenvalues of a skew L, one a plane and 0 for an odd axis, falling. (D, D) -> (D/2,)"""
    heights = torch.linalg.eigvals(L).imag.sort(descending=True).values  # (D,)
    return heights[: -(-len(L) // 2)]  # (ceil(D/2),)


def _frequencies_loop(L):
    """L^T L = -L^2 is symmetric with eigenvalues omega^2, two for each plane."""
    squares = sorted(torch.linalg.eigvalsh(-L @ L).clamp(min=0).tolist(), reverse=True)
    return torch.tensor([math.sqrt((squares + squares[-1:])[2 * j]) for j in range(-(-len(L) // 2))])


def _skew(generator):
    made = []
    for d in (2, 3, 5, 8):
        A = torch.randn(d, d, generator=generator)
        made.append((A - A.T,))
    return made


def _listed(found, L):
    """A list of all D eigenvalues is wrong in any order; complex numbers become pairs of real ones."""
    found = torch.as_tensor(found.copy() if hasattr(found, "strides") else found)
    if found.is_complex():
        return torch.view_as_real(found)
    return found.sort(descending=True).values if found.shape == (len(L),) else found


_FREQUENCIES = Exercise(
    library=frequencies,
    reference=_frequencies_loop,
    inputs=_skew,
    view=_listed,
    hints=(
        "A plane that turns at speed omega has two eigenvalues, +i omega and -i omega: one number a plane is enough.",
        "torch.linalg.eigvals(L) is complex, (D,). Take the imaginary parts, sort them, and keep the upper half.",
        "imag.sort(descending=True).values[: (D + 1) // 2]: the + 1 keeps the 0 of the axis that an odd D leaves over.",
    ),
    misconceptions=(
        Misconception(
            "real parts",
            lambda L: torch.linalg.eigvals(L).real,
            "You read the real parts, and found zeros: nothing grows or shrinks under a rotation. How fast it turns "
            "is in the imaginary parts.",
        ),
        Misconception(
            "the complex eigenvalues",
            lambda L: torch.linalg.eigvals(L),
            "These are the eigenvalues as complex numbers. Proof (a) says which of their two parts holds all there is "
            "to know.",
        ),
        Misconception(
            "both signs",
            lambda L: torch.linalg.eigvals(L).imag,
            "Each plane appears twice, as +omega and -omega: the eigenvalues of a real matrix come in conjugate pairs. "
            "One number a plane is asked for.",
        ),
        Misconception(
            "each plane twice",
            lambda L: torch.linalg.eigvals(L).abs(),
            "The absolute values hold each frequency twice, once for +i omega and once for -i omega.",
        ),
        Misconception(
            "rising order",
            lambda L: frequencies(L).flip(0),
            "The numbers are right, their order is not: the fastest plane comes first.",
        ),
        Misconception(
            "squares",
            lambda L: frequencies(L).square(),
            "These are the squares. L^T L has the eigenvalues omega^2: a root is missing.",
        ),
        Misconception(
            "turns per unit of time",
            lambda L: frequencies(L) / (2 * math.pi),
            "You divided by 2 pi and have turns per unit of t. The frequency k of this lesson is an angle per unit of "
            "t, in radians.",
        ),
        Misconception(
            "eigenvalues of a symmetric matrix",
            lambda L: torch.linalg.eigvalsh(L),
            "eigvalsh takes your word that the matrix is symmetric: it reads the lower triangle and mirrors it. L is "
            "skew; it is i L that is Hermitian.",
        ),
    ),
)

# ---- 6.4 the gap that the order leaves -------------------------------------------------------------------------------


def commutator_gap(A: Tensor, B: Tensor, s: float) -> Tensor:
    """Leading term of exp(sA) exp(sB) - exp(s(A + B)). (D, D), (D, D) -> (D, D)"""
    return s**2 / 2 * (A @ B - B @ A)


def _gap_loop(A, B, s):
    D = len(A)
    out = torch.zeros_like(A)
    for i in range(D):
        for j in range(D):
            out[i, j] = sum(A[i, k] * B[k, j] - B[i, k] * A[k, j] for k in range(D)) * s * s / 2
    return out


def _pairs_of_generators(generator):
    made = [
        (torch.randn(d, d, generator=generator), torch.randn(d, d, generator=generator), s)
        for d, s in ((2, 0.1), (3, 0.5), (5, 1.5))
    ]
    A = torch.randn(4, 4, generator=generator)
    return [*made, (A, A @ A + 2 * torch.eye(4), 0.7)]  # the last commute


def _whole_gap(A, B, s):
    return torch.linalg.matrix_exp(s * A) @ torch.linalg.matrix_exp(s * B) - torch.linalg.matrix_exp(s * (A + B))


_COMMUTATOR = Exercise(
    library=commutator_gap,
    reference=_gap_loop,
    inputs=_pairs_of_generators,
    hints=(
        "Write each of the three exponentials up to s^2 and multiply out. Which terms are left after the subtraction?",
        "The product has s^2 (A^2/2 + AB + B^2/2), the other (s^2/2)(A + B)^2. And (A + B)^2 is not A^2 + 2AB + B^2.",
        "AB - (AB + BA)/2 = (AB - BA)/2. Times s^2.",
    ),
    misconceptions=(
        Misconception(
            "order turned",
            lambda A, B, s: commutator_gap(B, A, s),
            "The sign is turned: this is [B, A]. In exp(sA) exp(sB) the factor A stands on the left, so AB is the "
            "product with the plus.",
        ),
        Misconception(
            "half left out",
            lambda A, B, s: 2 * commutator_gap(A, B, s),
            "Twice too much: exp(s(A + B)) already contains half of the AB.",
        ),
        Misconception(
            "first order in s",
            lambda A, B, s: commutator_gap(A, B, s) / s,
            "Yours grows linearly in s. To first order the two sides agree, since both begin with I + s(A + B); the "
            "gap begins at s^2.",
        ),
        Misconception(
            "s left out",
            lambda A, B, s: commutator_gap(A, B, 1.0),
            "Yours does not depend on s. The gap closes as s goes to 0: at which rate?",
        ),
        Misconception(
            "anticommutator",
            lambda A, B, s: s**2 / 2 * (A @ B + B @ A),
            "You added the two products. A and itself would then leave a gap, though exp(sA) exp(sA) = exp(2sA).",
        ),
        Misconception(
            "one product only",
            lambda A, B, s: s**2 / 2 * A @ B,
            "Where is BA? It hides in the square: (A + B)^2 = A^2 + AB + BA + B^2.",
        ),
        Misconception(
            "products of each entry",
            lambda A, B, s: s**2 / 2 * (A * B - B * A),
            "All zeros: * multiplies entry by entry, and numbers commute. Matrices are multiplied by @.",
        ),
        Misconception(
            "the whole gap",
            _whole_gap,
            "This is the gap itself, with all of its orders. Its leading term is asked for, the one that says why "
            "there is a gap.",
        ),
    ),
)

# ---- 6.5 the action --------------------------------------------------------------------------------------------------


def act(L: Tensor, t: Tensor, z: Tensor) -> Tensor:
    """exp(t_b L) z_b for every row b. (D, D), (B,), (B, D) -> (B, D)"""
    return exp_action(L[None], t[:, None], z)


def _act_loop(L, t, z):
    return torch.stack([torch.linalg.matrix_exp(time * L) @ row for time, row in zip(t, z, strict=True)])


def _moves(generator):
    made = []
    for b, d in ((3, 4), (5, 5), (7, 2)):  # B = D: a coordinate along the wrong axis raises nothing there
        L, t = torch.randn(d, d, generator=generator), torch.randn(b, generator=generator)
        L = 0.35 * L / torch.linalg.matrix_norm(L, 2) / t.abs().max()
        made.append((L, t, torch.randn(b, d, generator=generator)))
    Q = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    turning = Q @ rotation_generator([1, 2, 3]) @ Q.T
    far = torch.tensor([12.0, -3.0, 5.0, 0.0])
    back = torch.tensor([-12.0, -9.0, -11.0, -10.0])
    return [*made, *((turning, t, torch.randn(4, 6, generator=generator)) for t in (far, back))]


def _bounded(moved, L, t, z):
    """No right move of these inputs leads as far as 10^4; how a series that blew up did so is no matter."""
    moved = torch.as_tensor(moved)
    return torch.where(moved.abs() > 1e4, math.inf, moved)


def _taylor(L, t, z, substeps, terms=16, shrink=True):
    for _ in range(substeps):
        term = z
        for k in range(1, terms):
            term = t / substeps * (term @ L.T) / (k if shrink else 1)
            z = z + term
    return z


def _substeps(L, t):
    return max(1, math.ceil(float(t.detach().max() * torch.linalg.matrix_norm(L.detach(), 2)) / 2))


_ACT = Exercise(
    library=act,
    reference=_act_loop,
    inputs=_moves,
    gradients=("L", "t", "z"),
    view=_bounded,
    hints=(
        "You never need exp(tL), only what it does to z. Each term of the series is a vector: the one before, "
        "multiplied by tL / k. In which order do a row vector and L stand?",
        "z @ L.T applies L to all rows at once, and t[:, None] gives each row its own t. For a large t go in s small "
        "steps: exp(tL) = exp(tL / s)^s. How large may the norm of tL / s be?",
        "s = max(1, ceil(max|t| * norm of L / 2)); s times over: term = z; for k = 1 ... 15: "
        "term = t[:, None] / (s * k) * (term @ L.T), and z = z + term.",
    ),
    misconceptions=(
        Misconception(
            "z L instead of L z",
            lambda L, t, z: act(L.T, t, z),
            "You applied the transposed generator: for rows, L z is z @ L.T. With a skew L that turns every vector "
            "backwards.",
        ),
        Misconception(
            "one t for all rows",
            lambda L, t, z: act(L, t.mean().expand(len(t)), z),
            "All of your rows move equally far. Each pair of the batch has a pose difference of its own, and so a t of "
            "its own.",
        ),
        Misconception(
            "t along the coordinates",
            lambda L, t, z: _taylor(L, t, z, max(1, math.ceil(36 / 2))),
            "Your t is multiplied along the D coordinates: (B,) against (B, D) lines up with the last axis. Where B "
            "is D nothing even fails. t[:, None] lines it up with the rows.",
        ),
        Misconception(
            "too few substeps",
            lambda L, t, z: _taylor(L, t[:, None], z, 1),
            "Right, until the norm of tL is 36: the terms grow to 10^14 before the factorial wins, and float32 keeps "
            "7 digits. Exercise 6.1 shows it. Take small steps instead, as many as the norm asks for.",
        ),
        Misconception(
            "substeps from the signed t",
            lambda L, t, z: _taylor(L, t[:, None], z, _substeps(L, t)),
            "Right, until all t of a batch are far below zero: your number of substeps follows the largest t, not the "
            "largest |t|. Going back is as far as going forth.",
        ),
        Misconception(
            "first order only",
            lambda L, t, z: z + t[:, None] * (z @ L.T),
            "One step along the tangent, z + tLz. It leaves the circle: the norm grows with every step. The other "
            "terms of the series bring it back.",
        ),
        Misconception(
            "factorial left out",
            lambda L, t, z: _taylor(L, t[:, None], z, max(1, math.ceil(36 / 2)), shrink=False),
            "Your k-th term lacks its factorial: what you sum is a geometric series. Divide by k at each step from one "
            "term to the next.",
        ),
        Misconception(
            "exponential of each entry",
            lambda L, t, z: torch.einsum("bij,bj->bi", (t[:, None, None] * L).exp(), z),
            "You took the exponential of each entry of tL. At t = 0 that is a matrix of ones, and z should stay where "
            "it is. The exponential of a matrix is the series of 6.1.",
        ),
        Misconception(
            "backwards",
            lambda L, t, z: act(L, -t, z),
            "You moved z back, by exp(-tL).",
        ),
    ),
)

# ---- 6.6 t by search -------------------------------------------------------------------------------------------------


def _orbit(L, z, times):
    g = torch.linalg.matrix_exp(times[:, None, None] * L)  # (T, D, D)
    return torch.einsum("tij,bj->bti", g, z)  # (B, T, D)


def infer(L: Tensor, z: Tensor, z_g: Tensor, times: Tensor) -> Tensor:
    """For each row, the time of the grid whose exp(tL) z lies nearest z_g. -> (B,)"""
    return times[(_orbit(L, z, times) - z_g[:, None]).square().sum(dim=2).argmin(dim=1)]


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


_INFER = Exercise(
    library=infer,
    reference=_infer_loop,
    inputs=_posed_pairs,
    hints=(
        "Walk along the orbit of each z and note how far each point is from z_g. What do you return, where it is "
        "nearest or how near?",
        "torch.linalg.matrix_exp takes (T, D, D), one matrix for each time. Then a path is (B, T, D), and the squared "
        "distances to z_g[:, None] are (B, T).",
        "g = torch.linalg.matrix_exp(times[:, None, None] * L); path = torch.einsum('tij,bj->bti', g, z); "
        "times[squared distances.argmin(dim=1)].",
    ),
    misconceptions=(
        Misconception(
            "index instead of time",
            lambda L, z, z_g, times: (_orbit(L, z, times) - z_g[:, None]).square().sum(dim=2).argmin(dim=1),
            "argmin says where in the grid, not when. The time stands at that place of `times`.",
        ),
        Misconception(
            "distance instead of time",
            lambda L, z, z_g, times: (_orbit(L, z, times) - z_g[:, None]).square().sum(dim=2).amin(dim=1),
            "You returned how near the orbit comes. Asked for is when: the time at which it is nearest.",
        ),
        Misconception(
            "farthest instead of nearest",
            lambda L, z, z_g, times: times[(_orbit(L, z, times) - z_g[:, None]).square().sum(dim=2).argmax(dim=1)],
            "You found the point of the orbit that is farthest away. A similarity is searched for its largest value, a "
            "distance for its smallest.",
        ),
        Misconception(
            "distance of lengths",
            lambda L, z, z_g, times: times[
                (_orbit(L, z, times).norm(dim=2) - z_g.norm(dim=1)[:, None]).abs().argmin(dim=1)
            ],
            "You compared the lengths of two vectors. Under a rotation all of an orbit has one length: take the "
            "length of the difference, not the difference of the lengths.",
        ),
        Misconception(
            "cosines only",
            lambda L, z, z_g, times: times[F.cosine_similarity(_orbit(L, z, times), z_g[:, None], dim=2).argmax(dim=1)],
            "A cosine does not see length. Your generator may also scale, and then its orbit is a spiral that comes by "
            "the same direction again and again.",
        ),
        Misconception(
            "dot products",
            lambda L, z, z_g, times: times[(_orbit(L, z, times) * z_g[:, None]).sum(dim=2).argmax(dim=1)],
            "A dot product grows with the length of the moved vector: where the generator also scales, the outermost "
            "turn of the spiral wins. Only distances ask for z_g itself.",
        ),
        Misconception(
            "moves z_g instead of z",
            lambda L, z, z_g, times: infer(L, z_g, z, times),
            "You moved z_g to z. That finds the way back, which is -t.",
        ),
        Misconception(
            "z L instead of L z",
            lambda L, z, z_g, times: infer(L.T, z, z_g, times),
            "Your orbit is made by the transposed generator: for rows, g z is z @ g.T.",
        ),
        Misconception(
            "one t for all rows",
            lambda L, z, z_g, times: times[
                (_orbit(L, z, times) - z_g[:, None]).square().sum(dim=(0, 2)).argmin().expand(len(z))
            ],
            "You summed the distances over the batch, and all rows share one t. Each pair has its own pose difference.",
        ),
    ),
)

# ---- 6.7 which control keeps the gain --------------------------------------------------------------------------------

# Order of the answers: operator := identity, t shuffled, poses as plain positives, true angle as t.

_GAIN_INVARIANCE = Prediction(
    answer=(True, True, True, True),
    hints=(
        "In this world the encoder has dropped the pose. What is enough for that, and which runs have it?",
        "It is enough that two poses of one thing are asked to lie together. Nothing about g is needed.",
        "All four show the encoder pairs of poses of one thing. Does any of them take that away?",
    ),
    misconceptions=(
        Misconception(
            "the identity loses the gain",
            (False, True, True, True),
            "With g = 1 the loss still asks for z = z^g, which is invariance written out. Why would this gain go?",
        ),
        Misconception(
            "the shuffled t loses the gain",
            (True, False, True, True),
            "Here the operator idles whatever t it is given. A wrong t can only harm where t is used.",
        ),
        Misconception(
            "plain positives lose the gain",
            (True, True, False, True),
            "Poses as plain positives ask for z = z^g without any operator. In this world that is all it takes.",
        ),
        Misconception(
            "the true angle loses the gain",
            (True, True, True, False),
            "The true angle would help an operator that works. Here it idles, with that t as with any other, and the "
            "pairs pull all the same.",
        ),
        Misconception(
            "only the operator keeps the gain",
            (False, False, False, True),
            "This is the row of a real operator. Here the operator idles, and the pairs do the work.",
        ),
    ),
)

_GAIN_OPERATOR = Prediction(
    answer=(False, False, False, True),
    hints=(
        "In this world the gain needs g to turn z by the angle of *this* pair. Which runs still give it that?",
        "A shuffled t has the same mean and spread as before, and belongs to another pair.",
        "One of the four knows the angle of the pair even better than the network that reads it.",
    ),
    misconceptions=(
        Misconception(
            "the shuffled t keeps the gain",
            (False, True, False, True),
            "Shuffled, t still has the right spread, but it is the angle of another pair: g turns by the wrong angle.",
        ),
        Misconception(
            "the identity keeps the gain",
            (True, False, False, True),
            "The identity turns nothing. Whatever the gain is that survives it, the turning did not bring it.",
        ),
        Misconception(
            "plain positives keep the gain",
            (False, False, True, True),
            "Plain positives throw the pose away instead of turning it. No g is left that could move by an angle.",
        ),
        Misconception(
            "nothing keeps the gain",
            (False, False, False, False),
            "One of the four replaces the reading of t by something better. A real operator gains from that.",
        ),
        Misconception(
            "everything keeps the gain",
            (True, True, True, True),
            "This is the row of invariance, which needs pairs only. A real operator needs the angle of the pair.",
        ),
    ),
)

_GAIN_NOISE = Prediction(
    answer=(False, True, False, True),
    hints=(
        "In this world features gain from being moved about, in whatever direction. Which runs still move them?",
        "A shuffled t moves each feature as far as before, to the wrong place. The wrong place is as good here.",
        "Two of the four apply no g other than 1.",
    ),
    misconceptions=(
        Misconception(
            "the shuffled t loses the gain",
            (False, False, False, True),
            "Shuffling keeps how far the features move and spoils only where to. Noise does not ask where to.",
        ),
        Misconception(
            "the true angle loses the gain",
            (False, True, False, False),
            "The true angle is a t of the usual size like the others, and moves the features as far. That is all this "
            "gain needs.",
        ),
        Misconception(
            "the identity keeps the gain",
            (True, True, False, True),
            "With g = 1 nothing is moved, so there is no noise.",
        ),
        Misconception(
            "plain positives keep the gain",
            (False, True, True, True),
            "Without an operator no feature is moved. The pairs are there, but in this world they are not what helps.",
        ),
        Misconception(
            "nothing keeps the gain",
            (False, False, False, False),
            "Two of the four still push the features about, as far as the operator did.",
        ),
    ),
)

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
        A = torch.randn(d, d, generator=generator)
        L, t = size * (A - 0.8 * A.T), 0.7 * torch.randn(b, generator=generator)
        z = torch.randn(b, d, generator=generator)
        made.append((L, t, z, act(L, t, z) + noise * torch.randn(b, d, generator=generator)))
    L, t, z, z_g = made[0]
    return [*made, (L, -t, z, z_g)]


def _squares(x):
    return x.square().sum(dim=1)


_GAP_RATIO = Exercise(
    library=gap_ratio,
    reference=_ratio_loop,
    inputs=_trained,
    hints=(
        "How far is z_g from where the operator took z? And how far would it be from z, had the operator done nothing?",
        "Both are squared lengths, summed over D and averaged over B. Average first, then divide: a pair that hardly "
        "turned would otherwise count as much as one that turned far.",
        "moved = act(L, t, z); (moved - z_g).square().sum(dim=1).mean() / (z - z_g).square().sum(dim=1).mean().",
    ),
    misconceptions=(
        Misconception(
            "upside down",
            lambda L, t, z, z_g: 1 / gap_ratio(L, t, z, z_g),
            "Your ratio is upside down: it is large where the operator works. What is left of the gap goes on top.",
        ),
        Misconception(
            "size of t",
            lambda L, t, z, z_g: t.abs().mean(),
            "You looked at |t| alone. Only tL has a meaning: with L near 0 a large t moves nothing, and a t that moves "
            "much may move in the wrong direction.",
        ),
        Misconception(
            "relative to the length of z_g",
            lambda L, t, z, z_g: _squares(act(L, t, z) - z_g).mean() / _squares(z_g).mean(),
            "Compared with the length of z_g an idle operator looks perfect too: once the encoder has dropped the "
            "pose, z itself is as near. Compare with what doing nothing would leave.",
        ),
        Misconception(
            "no comparison",
            lambda L, t, z, z_g: _squares(act(L, t, z) - z_g).mean(),
            "A small loss proves nothing: an encoder that dropped the pose makes it small with g = 1. Compare with "
            "what doing nothing would leave.",
        ),
        Misconception(
            "how far the operator moves",
            lambda L, t, z, z_g: _squares(act(L, t, z) - z).mean() / _squares(z - z_g).mean(),
            "You measured how far g moves z. Moving is not arriving: a wrong operator moves as far.",
        ),
        Misconception(
            "not squared",
            lambda L, t, z, z_g: (act(L, t, z) - z_g).norm(dim=1).mean() / (z - z_g).norm(dim=1).mean(),
            "You compared lengths instead of their squares. The loss squares them, and so does this ratio, so that it "
            "is the share of the loss that remains.",
        ),
        Misconception(
            "root of the ratio",
            lambda L, t, z, z_g: gap_ratio(L, t, z, z_g).sqrt(),
            "You took a root. Without it the ratio is the share of the squared gap that remains.",
        ),
        Misconception(
            "mean of the ratios",
            lambda L, t, z, z_g: (_squares(act(L, t, z) - z_g) / _squares(z - z_g)).mean(),
            "You divided pair by pair. A pair that hardly turned has almost nothing on the bottom, and one of them "
            "decides your mean. Average first, then divide.",
        ),
        Misconception(
            "distance of lengths",
            lambda L, t, z, z_g: (
                (act(L, t, z).norm(dim=1) - z_g.norm(dim=1)).square().mean()
                / (z.norm(dim=1) - z_g.norm(dim=1)).square().mean()
            ),
            "You compared lengths of vectors. A rotation keeps every length, whatever its angle: take the length of "
            "the difference.",
        ),
        Misconception(
            "z L instead of L z",
            lambda L, t, z, z_g: gap_ratio(L.T, t, z, z_g),
            "Your operator is the transposed one: for rows, L z is z @ L.T.",
        ),
    ),
)

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
