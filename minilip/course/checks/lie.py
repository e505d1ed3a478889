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
_TRANSPOSED = "Your generator is the transposed one: for rows, L z is z @ L.T. A skew L then turns backwards."

# ---- 6.1 the exponential series --------------------------------------------------------------------------------------


def series(X: Tensor, terms: int) -> Tensor:
    """The first `terms` terms of exp(X), I included, each made from the one before. (D, D) -> (D, D)"""
    term = total = torch.eye(len(X)).to(X)  # (D, D)
    for k in range(1, terms):
        term = term @ X / k  # (D, D)
        total = total + term
    return total


def _horner(X, terms):
    """From the inside out: I + X (I + X/2 (I + X/3 ...))."""
    total = torch.eye(len(X)).to(X)
    for k in range(terms - 1, 0, -1):
        total = torch.eye(len(X)).to(X) + X @ total / k
    return total


def _matrix(generator, d, norm, draw=torch.randn):
    X = draw(d, d, generator=generator)
    return norm * X / torch.linalg.matrix_norm(X, 2)


def _powers(X, terms, weight):
    return sum((weight(k) * torch.linalg.matrix_power(X.double(), k) for k in range(terms)), torch.zeros(())).to(X)


def _apart(number):
    return lambda X, n: sum(torch.linalg.matrix_power(X, k) / number(math.factorial(k)) for k in range(n))


_SERIES = Exercise(
    library=series, reference=_horner,
    inputs=lambda g: [(_matrix(g, d, norm), n) for d, norm, n in ((2, 1, 1), (2, 1.5, 2), (3, 2, 4), (5, 3, 12))],
    extreme=lambda g: [(_matrix(g, 4, 10, torch.rand), 60)],  # 10^59 is no float32; without signs nothing cancels
    stability="At a norm of 10 the power leaves float32 at k = 39, and 21! leaves 64 bits, while the term itself is "
    "small. How does a term follow from the one before?",
    right=(lambda X, n: _powers(X, n, lambda k: 1 / float(math.factorial(k))),),
    naive=(_apart(int), _apart(float)),
    hints=("A power of a matrix is a matrix product, its power 0 is I. How does a term follow from the one before?",
           "X^k / k! is X^(k-1) / (k-1)! times X / k. So neither the large power nor the factorial is ever needed.",
           "Begin with term = total = torch.eye(len(X)); for k in range(1, terms): term = term @ X / k, and add it."),
    misconceptions=(
        Misconception("factorial left out", lambda X, n: _powers(X, n, lambda k: 1.0),
            "Without the factorials this is the geometric series. What divides the k-th term of an exponential?"),
        Misconception("divides by k instead of k!", lambda X, n: _powers(X, n, lambda k: 1 / max(k, 1)),
            "This makes the series of a logarithm. The derivative of a term has to be the term before it."),
        Misconception("exponential of each entry", lambda X, n: X.exp(),
            "You took the exponential of each entry: exp(0) would be a matrix of ones. Powers are matrix products."),
        Misconception("powers of each entry", lambda X, n: sum(X**k / math.factorial(k) for k in range(n)),
            "X**k raises each entry to the power k. Going twice along X is the matrix product X @ X."),
        Misconception("products of each entry", lambda X, n: series(X.diagonal().diag(), n),
            "Only the diagonal of your result is filled: * multiplies entry by entry. A product of matrices is @.",
            says=lambda r, *_: not (r - r.diagonal().diag()).any()),
        Misconception("identity left out", slips.plus(lambda X, n: -torch.eye(len(X)).to(X)),
            "Your series begins at k = 1. Without the identity, exp(0) would send every vector to zero."),
        Misconception("first order only", slips.left_out(1, 2), "I + X steps along the tangent, off the circle."),
        Misconception("one term too many", slips.argument(1, lambda n: n + 1), "Count the identity as the first term."),
        Misconception("one term too few", slips.argument(1, lambda n: max(n - 1, 1)),
            "With terms = 2 the result is I + X."),
        Misconception("all terms", lambda X, n: torch.linalg.matrix_exp(X),
            "This is the exponential itself. Here the truncated series is asked for, because its error is the point."),
    ),
)  # fmt: skip

# ---- 6.2 the generator of a rotation ---------------------------------------------------------------------------------


def rotation_generator(frequencies: Sequence[int]) -> Tensor:
    """L such that exp(theta L) turns plane j by k_j theta, counter-clockwise. K numbers -> (2K, 2K)"""
    return torch.block_diag(*(k * torch.tensor([[0.0, -1.0], [1.0, 0.0]]) for k in frequencies))


def _kron(frequencies):
    return torch.kron(torch.tensor(frequencies).double().diag(), torch.tensor([[0.0, -1.0], [1.0, 0.0]]).double())


_ROTATION = Exercise(
    library=rotation_generator, reference=_kron,
    inputs=lambda _: [([1],), ([3],), ([1, 2, 3],), ([4, 0, 2, 2],)],
    right=(lambda ks: _kron(ks).numpy(), lambda ks: _kron(ks).half()),
    naive="whole numbers are copied into a matrix",
    hints=("One plane first: differentiate each entry of R(k theta). Where is the generator to be read off?",
           "At theta = 0 the cosines have slope 0, and the sines slope k. So two entries remain, of opposite signs.",
           "The block is k [[0, -1], [1, 0]]. torch.block_diag(*blocks) puts the planes along the diagonal."),
    misconceptions=(
        Misconception("clockwise", slips.negated,
            "Your planes turn clockwise: from (1, 0) a small step goes up.", says=lambda L, *_: L[1, 0] < 0),
        Misconception("degrees", slips.times(math.pi / 180), "In degrees the derivative of the sine is no cosine."),
        Misconception("turns", slips.times(2 * math.pi), "Your theta counts full turns: exp(L) is the identity."),
        Misconception("frequency doubled", slips.times(2), "k stands below the diagonal, -k above, not 2k."),
        Misconception("frequency halved", slips.times(0.5), "A rotation needs the whole slope in both entries."),
        Misconception("frequency left out", slips.argument(0, lambda ks: [1] * len(ks)),
            "All of your planes turn at one speed. Plane j turns by k_j theta: the inner derivative is k_j."),
        Misconception("the rotation instead of its generator", slips.then(torch.linalg.matrix_exp),
            "This is the rotation by 1. Its derivative at 0 has no diagonal.", says=lambda g, *_: g.diagonal().any()),
        Misconception("symmetric", slips.then(torch.abs),
            "Symmetric blocks stretch and squeeze. Lengths stay if L^T = -L.", says=lambda L, *_: torch.equal(L, L.T)),
        Misconception("planes across halves", lambda ks: torch.kron(rotation_generator([1]), torch.tensor(ks).diag()),
            "You pair coordinate j with j + K, as rotary embeddings do. Here plane j is made of 2j and 2j + 1."),
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
           lambda L: torch.linalg.svdvals(L)[::2], lambda L: frequencies(L).half(),
           lambda L: torch.linalg.eigvalsh(L.T @ L).clamp(min=0).sqrt().flip(0)[::2],
           lambda L: torch.linalg.eigvals(L).abs().sort(descending=True).values[::2]),
    naive="eigenvalues of a skew matrix are as large as the matrix",
    hints=("A plane that turns at speed omega has the eigenvalues +i omega and -i omega: one number is enough.",
           "torch.linalg.eigvals(L) is complex, (D,). Take the imaginary parts, sort them, and keep the upper half.",
           "imag.sort(descending=True).values[: (D + 1) // 2]: the + 1 keeps the 0 of the axis of an odd D."),
    misconceptions=(
        Misconception("real parts", lambda L: torch.linalg.eigvals(L).real,
            "You read the real parts, and found zeros: nothing grows here.", says=lambda r, *_: r.abs().max() < 1e-3),
        Misconception("the complex eigenvalues", lambda L: torch.linalg.eigvals(L),
            "These are the eigenvalues as complex numbers. Proof (a) says which part holds all there is to know."),
        Misconception("both signs", lambda L: torch.linalg.eigvals(L).imag,
            "Each plane appears twice, as +omega and -omega: eigenvalues of a real matrix come in conjugate pairs."),
        Misconception("each plane twice", lambda L: torch.linalg.eigvals(L).abs(),
            "The absolute values hold each frequency twice, once for +i omega and once for -i omega."),
        Misconception("odd axis left out", lambda L: frequencies(L)[: len(L) // 2],
            "Where D is odd your list is one short: the axis that it leaves over has the frequency 0."),
        Misconception("still planes left out", lambda L: frequencies(L)[frequencies(L) > 1e-3],
            "Your list has no zeros. A plane that holds still has the frequency 0, and so has the axis of an odd D."),
        Misconception("each speed once", lambda L: (frequencies(L) * 1e4).round().unique().flip(0) / 1e4,
            "Your list is too short where two planes turn at one speed: one number a *plane* is asked for."),
        Misconception("not sorted", lambda L: torch.linalg.eigvals(L).imag[::2].abs(),
            "The numbers are right, in the order in which the eigenvalues come. The fastest plane comes first."),
        Misconception("rising order", slips.then(lambda f: f.flip(0)),
            "The numbers are right. The fastest plane comes first."),
        Misconception("squares", slips.then(torch.square), "L^T L has the eigenvalues omega^2: a root is missing."),
        Misconception("turns per unit of time", slips.times(1 / (2 * math.pi)), "Angles here are radians, not turns."),
        Misconception("eigenvalues of a symmetric matrix", lambda L: torch.linalg.eigvalsh(L),
            "eigvalsh reads the lower triangle and mirrors it. L is skew; it is i L that is Hermitian."),
    ),
)  # fmt: skip

# ---- 6.4 the gap that the order leaves -------------------------------------------------------------------------------


def commutator_gap(X: Tensor, Y: Tensor, s: float) -> Tensor:
    """Leading term of exp(sX) exp(sY) - exp(s(X + Y)). (D, D), (D, D) -> (D, D)"""
    return s**2 / 2 * (X @ Y - Y @ X)


def _whole_gap(X, Y, s):
    exp = torch.linalg.matrix_exp
    return exp(s * X) @ exp(s * Y) - exp(s * (X + Y))


def _second_difference(X, Y, s):
    """Half the second derivative of the gap at s = 0, times s^2."""
    return s**2 * sum(_whole_gap(X.double(), Y.double(), h) for h in (1e-3, -1e-3)) / 2e-6


def _pairs_of_generators(generator):
    made = [(_matrix(generator, d, 2), _matrix(generator, d, 3), s) for d, s in ((2, 0.1), (3, 0.5), (5, 1.5))]
    X = torch.randn(4, 4, generator=generator)
    return [*made, (X, X @ X + 2 * torch.eye(4), 0.7)]  # the last commute


_COMMUTATOR = Exercise(
    library=commutator_gap, reference=_second_difference, inputs=_pairs_of_generators,
    scale=lambda X, Y, s: s**2 * X.norm() * Y.norm(),
    right=(lambda X, Y, s: s**2 * (X @ X / 2 + X @ Y + Y @ Y / 2) - s**2 / 2 * (X + Y) @ (X + Y),
           lambda X, Y, s: s * s * (X @ Y - (X @ Y + Y @ X) / 2),
           lambda X, Y, s: s * s / 2 * (torch.einsum("ij,jk->ik", X, Y) - torch.einsum("ij,jk->ik", Y, X))),
    naive="a polynomial of its inputs; what cancels is allowed for",
    hints=("Write each of the three exponentials up to s^2 and multiply out. What is left after the subtraction?",
           "The product has s^2 (X^2/2 + XY + Y^2/2), the other (s^2/2)(X + Y)^2, which is not X^2 + 2XY + Y^2.",
           "XY - (XY + YX)/2 = (XY - YX)/2. Times s^2."),
    misconceptions=(
        Misconception("order turned", slips.swapped(0, 1), "This is [Y, X]. In the product X stands on the left."),
        Misconception("half left out", slips.times(2), "Twice too much: exp(s(X + Y)) contains half of the XY."),
        Misconception("first order in s", slips.times(lambda X, Y, s: 1 / s),
            "Yours grows linearly in s. To first order the two sides agree, since both begin with I + s(X + Y)."),
        Misconception("s left out", slips.left_out(2, 1.0), "The gap closes as s goes to 0: at which rate?"),
        Misconception("anticommutator", lambda X, Y, s: s**2 / 2 * (X @ Y + Y @ X),
            "You added the two products. X and itself would then leave a gap, though exp(sX) exp(sX) = exp(2sX)."),
        Misconception("one product only", lambda X, Y, s: s**2 / 2 * X @ Y, "Where is YX? It hides in (X + Y)^2."),
        Misconception("products of each entry", lambda X, Y, s: s**2 / 2 * (X * Y - Y * X),
            "All zeros: * multiplies numbers, and these commute. For matrices take @.", says=lambda r, *_: not r.any()),
        Misconception("the whole gap", _whole_gap,
            "This is the gap with all of its orders. Its leading term is asked for, which says why there is a gap."),
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
        steps = 1 + int(abs(float(time)) * float(_norm(L)) / 2)
        for _ in range(steps):
            inner = row
            for k in range(20, 0, -1):
                inner = row + time / (steps * k) * (L @ inner)
            row = inner
        rows.append(row)
    return torch.stack(rows)


def _moves(generator):
    """All with a norm of tL of at most 1, where one step will do; a shear has one eigenvector; then nothing moves."""
    made = []
    for b, d in ((3, 4), (5, 5), (1, 3), (7, 2), (64, 70)):  # B = D: a t along the wrong axis raises nothing there
        t = torch.rand(b, generator=generator) * 2 - 1
        made.append((_matrix(generator, d, 0.9), t, torch.randn(b, d, generator=generator)))
    shear, (L, t, z) = 0.9 * torch.diag(torch.ones(3), 1), made[0]
    return [*made, (shear, t, z), (L, torch.zeros(3), z)]


def _far_moves(generator):
    """Norms of tL up to 180: by a large t, backwards only, by a large L."""
    Q = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    turning, z = Q @ rotation_generator([1, 2, 3]) @ Q.T, torch.randn(4, 6, generator=generator)
    far, back = torch.tensor([60.0, -3.0, 5.0, 0.0]), torch.tensor([-60.0, -9.0, -11.0, -10.0])
    return [(turning, far, z), (turning, back, z), (60 * turning, far / 60, z)]


def _taylor(L, t, z, steps=1, shrink=True, terms=16):
    for _ in range(steps):
        term = z
        for k in range(1, terms):
            term = t / steps * (term @ L.T) / (k if shrink else 1)
            z = z + term
    return z


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


def _per_row(f):
    return lambda L, t, z: torch.stack([f(L, a, v) for a, v in zip(t, z, strict=True)])


def _steps_by(size):
    return lambda L, t, z: _taylor(L, t[:, None], z, max(1, math.ceil(float(size(L.detach(), t.detach())) / 2)))


_ACT = Exercise(
    library=act, reference=_act_loop, inputs=_moves, extreme=_far_moves, gradients=("L", "t", "z"),
    stability="Too few substeps: the norm of t_b L goes up to 200 here, by a large L or by a large t of either sign. "
    "How many steps keep the norm of each at 2?",
    detour=Detour("forms a matrix for each row",
        "You form a (D, D) matrix for each row, by matrix_exp, by products of matrices or by t[:, None, None] * L. "
        "Of each term of the series only its product with z is needed: a vector.", _forms_matrices,
        (lambda L, t, z: (torch.linalg.matrix_exp(t[:, None, None] * L) @ z[:, :, None])[:, :, 0],
         lambda L, t, z: torch.vmap(lambda a, v: torch.matrix_exp(a * L) @ v)(t, z),
         lambda L, t, z: sum(torch.linalg.matrix_power(t[:, None, None] * L, k) @ z[:, :, None] / math.factorial(k)
                             for k in range(16))[:, :, 0],
         _per_row(lambda L, a, v: torch.matrix_exp(a * L) @ v), _per_row(lambda L, a, v: series(a * L, 16) @ v))),
    right=(_steps_by(lambda L, t: t.abs().max() * _norm(L)), _steps_by(lambda L, t: 200),
           _per_row(lambda L, a, v: _taylor(L, a, v, 1 + int(abs(a) * _norm(L) / 2)))),
    naive=(*(lambda L, t, z, n=n: _taylor(L, t[:, None], z, terms=n) for n in (8, 12, 30, 60, 150)),
           *(_steps_by(lambda L, t, s=s: s) for s in (2, 18, 36)), _steps_by(lambda L, t: t.max() * _norm(L)),
           _steps_by(lambda L, t: t.abs().max()), _steps_by(lambda L, t: _norm(L))),
    hints=("You need only what exp(tL) does to z. Each term of the series is a vector, made from the one before.",
           "z @ L.T applies L to all rows, t[:, None] gives each its own t. For a large t take s steps of tL / s.",
           "s = max(1, ceil(max|t| * norm of L / 2)); s times over: term = z; for k = 1 ... 15: "
           "term = t[:, None] / (s * k) * (term @ L.T), and z = z + term."),
    misconceptions=(
        Misconception("z L instead of L z", slips.argument(0, lambda L: L.mT), _TRANSPOSED),
        Misconception("one t for all rows", slips.argument(1, lambda t: t.mean().expand(len(t))),
            "All of your rows move equally far. Each pair of the batch has a pose difference, and so a t, of its own."),
        Misconception("t along the coordinates", lambda L, t, z: _taylor(L, t, z),
            "(B,) against (B, D) lines up with the last axis. Where B is D nothing even fails; t[:, None] is meant."),
        Misconception("no step where nothing moves",
            lambda L, t, z: _taylor(L, t[:, None], z, math.ceil(float(t.detach().abs().max() * _norm(L)) / 2)),
            "Where t or L is 0 you take 0 steps: no gradient reaches t, and a division by their number fails."),
        Misconception("eigenvectors of any matrix", _eigenbasis,
            "A shear has fewer than D eigenvectors: they are no basis."),
        Misconception("first order only", lambda L, t, z: _taylor(L, t[:, None], z, terms=2),
            "One step along the tangent, z + tLz: it leaves the circle. The other terms bring it back."),
        Misconception("factorial left out", lambda L, t, z: _taylor(L, t[:, None], z, shrink=False),
            "What you sum is a geometric series. Divide by k at each step from one term to the next."),
        Misconception("exponential of each entry",
            lambda L, t, z: torch.einsum("bij,bj->bi", (t[:, None, None] * L).exp(), z),
            "You took the exponential of each entry of tL: at t = 0 a matrix of ones, where z should stay."),
        Misconception("backwards", slips.argument(1, torch.neg), "You moved z back, by exp(-tL)."),
        Misconception("t left out", slips.argument(1, torch.ones_like), "You moved every row by exp(L), whatever t."),
    ),
)  # fmt: skip

# ---- 6.6 t by search -------------------------------------------------------------------------------------------------


def _orbit(L, z, times):
    g = torch.linalg.matrix_exp(times[:, None, None] * L)  # (T, D, D)
    return torch.einsum("tij,bj->bti", g, z)  # (B, T, D)


def _squared(L, z, z_g, times):
    return (_orbit(L, z, times) - z_g[:, None]).square().sum(dim=2)  # (B, T)


def _least(score):
    return lambda L, z, z_g, times: times[score(_orbit(L, z, times), z_g[:, None]).argmin(dim=1)]


def infer(L: Tensor, z: Tensor, z_g: Tensor, times: Tensor) -> Tensor:
    """For each row, the time of the grid whose exp(tL) z lies nearest z_g. -> (B,)"""
    return times[_squared(L, z, z_g, times).argmin(dim=1)]


def _by_cdist(L, z, z_g, times):
    path = _orbit(L.double(), z.double(), times.double())
    return times[torch.cdist(z_g.double()[:, None], path)[:, 0].argmin(dim=1)]


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
    library=infer, reference=_by_cdist, inputs=_posed_pairs,
    right=(lambda *args: _by_cdist(*args).bfloat16(),),
    naive="the distances are of the size of the embeddings",
    hints=("Walk along the orbit of each z. What do you return, where it is nearest z_g or how near?",
           "torch.linalg.matrix_exp takes (T, D, D), one for each time. A path is (B, T, D), distances are (B, T).",
           "g = torch.linalg.matrix_exp(times[:, None, None] * L); path = torch.einsum('tij,bj->bti', g, z); "
           "times[squared distances.argmin(dim=1)]."),
    misconceptions=(
        Misconception("index instead of time", lambda *args: _squared(*args).argmin(dim=1),
            "argmin says where in the grid, not when. The time stands at that place of `times`."),
        Misconception("distance instead of time", lambda *args: _squared(*args).amin(dim=1),
            "You returned how near the orbit comes. Asked for is when: the time at which it is nearest."),
        Misconception("farthest instead of nearest", _least(lambda path, z_g: -(path - z_g).norm(dim=2)),
            "You found the farthest point of the orbit. A distance is searched for its smallest value."),
        Misconception("distance of lengths", _least(lambda path, z_g: (path.norm(dim=2) - z_g.norm(dim=2)).abs()),
            "You compared two lengths. Under a rotation all of an orbit has one: take the length of the difference."),
        Misconception("cosines only", _least(lambda path, z_g: -F.cosine_similarity(path, z_g, dim=2)),
            "A cosine does not see length. Where L also scales, the orbit comes by the same direction again."),
        Misconception("dot products", _least(lambda path, z_g: -(path * z_g).sum(dim=2)),
            "A dot product grows with length: where L also scales, the outermost turn of the spiral wins."),
        Misconception("moves z_g instead of z", slips.swapped(1, 2),
            "You moved z_g to z: that finds the way back, -t."),
        Misconception("z L instead of L z", slips.argument(0, lambda L: L.mT), _TRANSPOSED),
        Misconception("one t for all rows", lambda *args: args[3][_squared(*args).sum(0).argmin().expand(len(args[1]))],
            "All of your rows share one t. Each pair has its own.", says=lambda t, *_: (t == t[0]).all()),
    ),
)  # fmt: skip

# ---- 6.7 which control keeps the gain --------------------------------------------------------------------------------

# Order of the answers: operator := identity, t shuffled, poses as plain positives, true angle as t.

_GAIN_INVARIANCE = Prediction(
    answer=(True, True, True, False),
    hints=("The gain is what forgetting the pose brings. Where is forgetting the only way to a small loss?",
           "With g = 1 or with a wrong t, z^g can be met in one way only: z^g = z. What does a right t make possible?",
           "With the right t an operator can learn to turn, and then the pose may stay. The other three cannot turn."),
    misconceptions=(
        Misconception("the true angle keeps the gain", (True, True, True, True),
            "With the right t the operator can turn, and a loss that is met by turning does not ask to forget."),
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
    hints=("In this world the gain needs g to turn z by the angle of *this* pair. Which runs still give it that?",
           "A shuffled t has the same mean and spread as before, and belongs to another pair.",
           "One of the four knows the angle of the pair even better than the network that reads it."),
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
    ),
)  # fmt: skip

_GAIN_NOISE = Prediction(
    answer=(False, True, False, True),
    hints=("In this world features gain from being moved about, in whatever direction. Which runs still move them?",
           "A shuffled t moves each feature as far as before, to the wrong place. The wrong place is as good here.",
           "Two of the four apply no g other than 1."),
    misconceptions=(
        Misconception("the shuffled t loses the gain", (False, False, False, True),
            "Shuffling keeps how far the features move and spoils only where to. Noise does not ask where to."),
        Misconception("the true angle loses the gain", (False, True, False, False),
            "The true angle is a t of the usual size, and moves the features as far. This gain needs no more."),
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


def _mean_ratio(L, t, z, z_g):
    return F.mse_loss(_act_loop(L, t, z), z_g) / F.mse_loss(z, z_g)


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


def _moved(f):
    return lambda L, t, z, z_g: f(act(L, t, z), z, z_g)


def _squares(x):
    return x.square().sum(dim=1)


_GAP_RATIO = Exercise(
    library=gap_ratio, reference=_mean_ratio, inputs=_trained,
    right=(lambda L, t, z, z_g: ((act(L, t, z) - z_g).norm() / (z - z_g).norm()) ** 2,
           lambda L, t, z, z_g: float(_squares(act(L, t, z) - z_g).mean() / _squares(z - z_g).mean()),
           lambda L, t, z, z_g: gap_ratio(L, t, z, z_g).bfloat16()),
    naive="two means of squares; nothing large is formed",
    hints=("How far is z_g from where the operator took z? And how far from z, had the operator done nothing?",
           "Both are squared lengths, summed over D and averaged over B. Average first, then divide.",
           "moved = act(L, t, z); (moved - z_g).square().sum(dim=1).mean() / (z - z_g).square().sum(dim=1).mean()."),
    misconceptions=(
        Misconception("upside down", slips.then(lambda r: 1 / r), "What is left of the gap goes on top."),
        Misconception("share that is gone", slips.then(lambda r: 1 - r), "Asked for is the share that is left."),
        Misconception("size of t", lambda L, t, z, z_g: t.abs().mean(),
            "You looked at |t| alone. Only tL has a meaning: with L near 0 a large t moves nothing."),
        Misconception("relative to the length of z_g", _moved(lambda m, z, g: F.mse_loss(m, g) / g.square().mean()),
            "Compared with |z_g| an idle operator looks perfect too, once the encoder has dropped the pose."),
        Misconception("no comparison", _moved(lambda m, z, g: _squares(m - g).mean()),
            "A small loss proves nothing: without the pose it is small with g = 1. Compare with doing nothing."),
        Misconception("how far the operator moves", _moved(lambda m, z, g: F.mse_loss(m, z) / F.mse_loss(z, g)),
            "You measured how far g moves z. Moving is not arriving: a wrong operator moves as far."),
        Misconception("not squared", _moved(lambda m, z, g: (m - g).norm(dim=1).mean() / (z - g).norm(dim=1).mean()),
            "You compared lengths instead of their squares. The ratio is the share of the loss, and that is squared."),
        Misconception("root of the ratio", slips.then(lambda r: r**0.5), "You took a root: the gap is squared."),
        Misconception("mean of the ratios", _moved(lambda m, z, g: (_squares(m - g) / _squares(z - g)).mean()),
            "You divided pair by pair: one that hardly turned decides your mean. Average first, then divide."),
        Misconception("distance of lengths",
            _moved(lambda m, z, g: F.mse_loss(m.norm(dim=1), g.norm(dim=1)) / F.mse_loss(z.norm(dim=1), g.norm(dim=1))),
            "You compared lengths of vectors. A rotation keeps every length: take the length of the difference."),
        Misconception("z L instead of L z", slips.argument(0, lambda L: L.mT), _TRANSPOSED),
        Misconception("backwards", slips.argument(1, torch.neg), "You moved z by exp(-tL), away from z_g."),
    ),
)  # fmt: skip

EXERCISES: dict[str, Exercise | Prediction] = {
    "series": _SERIES, "rotation_generator": _ROTATION, "frequencies": _FREQUENCIES, "commutator_gap": _COMMUTATOR,
    "act": _ACT, "infer": _INFER, "gain_invariance": _GAIN_INVARIANCE, "gain_operator": _GAIN_OPERATOR,
    "gain_noise": _GAIN_NOISE, "gap_ratio": _GAP_RATIO,
}  # fmt: skip
