"""Exercises of lesson 12c: references, misconceptions and hints."""

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip.infonce import info_nce
from minilip.prolip import clip_norm, projection_residual, vib_loss

from . import _slips as slips
from ._exercise import Exercise, Misconception, Prediction
from ._inputs import far_rows, unit

LESSON = "12c_constraints"

# ---- 12c.1 inside a subspace -----------------------------------------------------------------------------------------


def _residual_loop(t, basis):
    """Gram and Schmidt: each basis vector, less what those before it explain."""
    axes: list[Tensor] = []
    for vector in basis:
        for axis in axes:
            vector = vector - (vector @ axis) * axis
        axes.append(vector / vector.norm())
    found = []
    for row in t:
        for axis in axes:
            row = row - (row @ axis) * axis
        found.append(row.square().sum().sqrt())
    return torch.stack(found)


def _captions_and_pictures(generator):
    def rows(n, d):
        return torch.randn(n, d, generator=generator) + 0.5  # slanted, and of any length

    return [(rows(b, d), rows(k, d)) for b, k, d in ((3, 4, 9), (1, 1, 5), (6, 2, 4), (2, 5, 8))]


def _near_twins(generator):
    """Two pictures that differ by a few thousandths, one of them long: A^T A has lost what tells them apart."""
    first, apart, other = (unit(generator, 1, 6) for _ in range(3))
    return [(torch.randn(4, 6, generator=generator), torch.cat([first, 30 * (first + 3e-4 * apart), other]))]


def _by_gram(t, basis):
    return (t - torch.linalg.solve(basis @ basis.T, basis @ t.T).T @ basis).norm(dim=1)


_RESIDUAL = Exercise(
    library=projection_residual, reference=_residual_loop, inputs=_captions_and_pictures, extreme=_near_twins,
    stability="Two of the basis vectors differ by thousandths, and the product of the basis with itself squares that "
    "difference away. QR and least squares work on the basis itself.",
    gradients=("t",),
    right=(lambda t, a: (t - t @ torch.linalg.pinv(a) @ a).norm(dim=1),
           lambda t, a: (t.T - a.T @ torch.linalg.lstsq(a.T, t.T).solution).norm(dim=0),
           lambda t, a: (t @ torch.linalg.svd(a)[2][len(a) :].T).norm(dim=1)),
    naive=(_by_gram, lambda t, a: (t - t @ a.T @ torch.linalg.inv(a @ a.T) @ a).norm(dim=1)),
    hints=(
        "The nearest point of the subspace leaves a rest at right angles to every basis vector. What has to be true of "
        "a basis for the shadow of t to be the sum of (t . q) q?",
        "Make the basis orthonormal first. torch.linalg.qr works on columns, and the basis vectors are rows.",
        "q, _ = torch.linalg.qr(basis.T), then the length of each row of t - t @ q @ q.T.",
    ),
    misconceptions=(
        Misconception("basis not orthonormal", lambda t, a: (t - t @ a.T @ a).norm(dim=1),
            "You add up shadows on vectors that are neither of length 1 nor at right angles: what two of them share "
            "counts twice. Make the basis orthonormal first."),
        Misconception("unit length, not at right angles",
            lambda t, a: (t - t @ F.normalize(a, dim=1).T @ F.normalize(a, dim=1)).norm(dim=1),
            "Your basis vectors have length 1 and are still slanted: what two of them share counts twice."),
        Misconception("what lies inside",
            lambda t, a: (t.square().sum(1) - projection_residual(t, a).square()).sqrt(),
            "This is the length of the shadow, the part inside. The residual is the part that sticks out."),
        Misconception("squared", slips.then(torch.square),
            "These are squared lengths. Equation (1) takes the norm itself."),
        Misconception("relative to the caption's length", slips.normalised(0),
            "You divided by the length of each caption, before or after: a residual in units of the embedding is "
            "asked for.", says=lambda r, *_: (r <= 1 + 1e-5).all()),
        Misconception("through the mean of the basis",
            lambda t, a: (t - t @ torch.linalg.pinv(a - a.mean(dim=0)) @ (a - a.mean(dim=0))).norm(dim=1),
            "You took the mean away from the basis. A subspace goes through the origin; you lost a direction."),
        Misconception("first basis vector only", lambda t, a: projection_residual(t, a[:1]),
            "You project on the first basis vector alone."),
        Misconception("nearest basis vector", lambda t, a: torch.cdist(t, a).min(dim=1).values,
            "This is the distance to the nearest picture. Every combination of pictures lies in the subspace too."),
        Misconception("largest entry", lambda t, a: (t - t @ torch.linalg.pinv(a) @ a).abs().amax(dim=1),
            "You took the largest entry of the rest. The residual is its length."),
        Misconception("mean over the captions", slips.then(torch.mean),
            "You returned one number; one residual a caption is asked for."),
    ),
)  # fmt: skip

# ---- 12c.2 a ball ----------------------------------------------------------------------------------------------------


def _clip_loop(v, gamma):
    rows = []
    for row in v:
        length = row.square().sum().sqrt()
        rows.append(row * gamma / length if length > gamma else row)
    return torch.stack(rows)


def _some_outside(generator):
    sizes = ((6, 3, 1.0), (5, 6, 2.5), (1, 2, 0.4), (6, 2, 0.5))
    spread = torch.tensor([0.3, 3.0, 0.5, 2.0, 1.5, 0.7])
    return [(spread[:b, None] * torch.randn(b, d, generator=generator), gamma) for b, d, gamma in sizes]


def _with_zero(generator):
    v = torch.randn(4, 5, generator=generator)
    v[1] = 0
    return [(v, 1.2)]


_CLIP = Exercise(
    library=clip_norm, reference=_clip_loop, inputs=_some_outside, extreme=_with_zero,
    stability="A row of zeros is inside every ball. Where do you divide by its length, or differentiate a quotient "
    "of it, even if torch.where throws the result away?",
    gradients=("v",),
    right=(lambda v, r: v * (r / v.norm(dim=1, keepdim=True).clamp(min=r)),
           lambda v, r: v / (v.norm(dim=1, keepdim=True) / r).clamp(min=1),
           lambda v, r: v / (1 + (v.norm(dim=1, keepdim=True) / r - 1).clamp(min=0))),
    naive=(lambda v, r: torch.where(v.norm(dim=1, keepdim=True) > r, r * v / v.norm(dim=1, keepdim=True), v),
           lambda v, r: v / v.norm(dim=1, keepdim=True) * v.norm(dim=1, keepdim=True).clamp(max=r)),
    hints=(
        "Two cases: a row inside the ball, and a row outside. Which of them changes, and in what?",
        "The nearest point keeps the direction, so there is one factor for each row: min(1, gamma / length).",
        "v * (gamma / v.norm(dim=1, keepdim=True).clamp(min=gamma)): the clamp makes the factor 1 inside, and never "
        "divides by 0.",
    ),
    misconceptions=(
        Misconception("always on the surface", lambda v, r: r * F.normalize(v, dim=1),
            "Every row of yours has length gamma. A row inside the ball is its own nearest point: it stays.",
            says=lambda u, v, r: ((u.norm(dim=1) - r).abs() < 1e-4).all()),
        Misconception("each coordinate clamped", lambda v, r: v.clamp(-r, r),
            "You clamped each coordinate: that is the nearest point of a cube, and it turns the direction."),
        Misconception("squared length", lambda v, r: v * (r / v.square().sum(1, keepdim=True).clamp(min=r)),
            "You compare and divide by the squared length. The factor is gamma over the length."),
        Misconception("square root of the factor", lambda v, r: v * (r / v.norm(dim=1)).clamp(max=1).sqrt()[:, None],
            "Your factor is the square root of the one that is needed: rows outside stay outside."),
        Misconception("one factor for the batch",
            lambda v, r: v * (r / v.norm(dim=1).max()).clamp(max=1),
            "You shrink all rows by what the longest needs. Each row has its own constraint."),
        Misconception("length of the whole batch", lambda v, r: v * (r / v.norm()).clamp(max=1),
            "You took the norm of the whole matrix. Each row has its own length."),
        Misconception("length of the columns", lambda v, r: v * (r / v.norm(dim=0)).clamp(max=1),
            "You took the norm down the columns. The embeddings are the rows."),
        Misconception("to length 1",
            lambda v, r: torch.where(v.norm(dim=1, keepdim=True) > r, F.normalize(v, dim=1), v),
            "What is outside comes to length 1 in yours. The surface is at gamma."),
        Misconception("gamma ignored", slips.left_out(1, 1.0),
            "Your radius is 1, whatever gamma is."),
        Misconception("pushes outwards", lambda v, r: v * (r / v.norm(dim=1, keepdim=True)).clamp(min=1),
            "Yours makes short rows longer and leaves long ones: the factor is at most 1."),
        Misconception("thrown away", lambda v, r: v * (v.norm(dim=1, keepdim=True) <= r),
            "You set what is outside to 0. Its nearest allowed point is on the surface."),
        Misconception("sum of absolute values",
            lambda v, r: v * (r / v.abs().sum(dim=1, keepdim=True)).clamp(max=1),
            "You measure length by the sum of absolute values. Equation (7) uses the square root of a sum of squares."),
        Misconception("length kept out of the gradient",
            lambda v, r: v * (r / v.detach().norm(dim=1, keepdim=True).clamp(min=r)),
            "The points are right, and the factor has no gradient: outside, yours still pulls along the vector. On the "
            "surface only the direction counts."),
    ),
)  # fmt: skip

# ---- 12c.3 the residual of a Gaussian --------------------------------------------------------------------------------


def expected_residual(mu: Tensor, logvar: Tensor, basis: Tensor) -> Tensor:
    """Expected squared residual of z ~ N(mu, v), eq. (3). (B, D), (B, D), (K, D) -> (B,)"""
    q = torch.linalg.qr(basis.T)[0]  # (D, K)
    outside = 1 - q.square().sum(dim=1)  # (D,) M_dd
    return projection_residual(mu, basis).square() + logvar.exp() @ outside


def _expected_loop(mu, logvar, basis):
    rest = torch.eye(basis.shape[1]).to(basis) - basis.T @ torch.linalg.inv(basis @ basis.T) @ basis
    rows = []
    for m, lv in zip(mu, logvar, strict=True):
        second = torch.outer(m, m) + torch.diag(lv.exp())  # E z z^T
        rows.append((rest @ second @ rest.T).diagonal().sum())
    return torch.stack(rows)


def _gaussian_captions(generator):
    def gaussians(b, k, d):
        mu, noise = torch.randn(2, b, d, generator=generator)
        return mu, 0.5 * noise - 0.5, torch.randn(k, d, generator=generator) + 0.5

    return [gaussians(*sizes) for sizes in ((3, 4, 9), (1, 1, 5), (6, 2, 4))]


def _of_outside(combine):
    """A residual from |M mu|^2, v and the diagonal of M."""

    def of_arguments(mu, logvar, basis):
        outside = 1 - torch.linalg.qr(basis.T)[0].square().sum(dim=1)
        return combine(projection_residual(mu, basis).square(), logvar.exp(), outside)

    return of_arguments


_EXPECTED = Exercise(
    library=expected_residual, reference=_expected_loop, inputs=_gaussian_captions,
    gradients=("mu", "logvar"),
    right=(_of_outside(lambda r, v, m: r + (v * m).sum(dim=1)),
           lambda mu, lv, a: ((mu - mu @ torch.linalg.pinv(a) @ a) ** 2).sum(1)
           + lv.exp() @ (1 - (torch.linalg.pinv(a) @ a).diagonal())),
    naive="a log-variance large enough to overflow is no embedding's, and the rest is a sum of squares",
    hints=(
        "M z is linear in z. What are the mean and the variance of its entries? Then E x^2 = (E x)^2 + Var x.",
        "Var (M z)_e = sum_d M_ed^2 v_d. Sum over e: what is sum_e M_ed^2, if M^T M = M?",
        "|M mu|^2 + sum_d v_d M_dd, with M_dd = 1 - sum_k Q_dk^2.",
    ),
    misconceptions=(
        Misconception("all of the variance", _of_outside(lambda r, v, m: r + v.sum(dim=1)),
            "You add every variance whole. Only the part that points out of the subspace is left over."),
        Misconception("mean alone", _of_outside(lambda r, v, m: r),
            "This is the residual of the mean. A sample sticks out further."),
        Misconception("variance inside", _of_outside(lambda r, v, m: r + v @ (1 - m)),
            "You add the variance that lies inside the subspace. The other part is left over."),
        Misconception("diagonal squared", _of_outside(lambda r, v, m: r + v @ m.square()),
            "You weigh with the squares of M_dd. It is sum_e M_ed^2 that counts, and M^T M = M."),
        Misconception("an average direction",
            _of_outside(lambda r, v, m: r + v.sum(dim=1) * m.mean()),
            "You count the share D - K over D of all variances. That is right if they are alike; each dimension has "
            "its own M_dd."),
        Misconception("standard deviation", slips.argument(1, lambda x: x / 2),
            "You use the standard deviation where the variance belongs: v = exp(logvar)."),
        Misconception("variance squared", slips.argument(1, lambda x: 2 * x),
            "You square what is already a variance: v = exp(logvar)."),
        Misconception("logarithm left in", slips.argument(1, lambda x: x.exp().log1p()),
            "Your variance is log(1 + v). The network says log v: take exp, and nothing else."),
        Misconception("logarithm as the variance",
            lambda mu, lv, a: expected_residual(mu, lv, a) + (lv - lv.exp()) @ _outside(a),
            "You use logvar where its exponential belongs."),
        Misconception("square root", slips.then(torch.sqrt),
            "You took the root. The expected *squared* residual has a closed form; the expected residual has none."),
        Misconception("residual of the mean not squared", _of_outside(lambda r, v, m: r.sqrt() + v @ m),
            "You add a length to a variance: the residual of the mean enters squared."),
        Misconception("basis not orthonormal",
            lambda mu, lv, a: (mu - mu @ a.T @ a).square().sum(1) + lv.exp() @ (1 - a.square().sum(dim=0)),
            "Your basis is not orthonormal, so what two of its vectors share counts twice."),
    ),
)  # fmt: skip


def _outside(basis):
    return 1 - torch.linalg.qr(basis.T)[0].square().sum(dim=1)


# ---- 12c.4 the whole objective ---------------------------------------------------------------------------------------


def objective(
    mu_v: Tensor,
    logvar_v: Tensor,
    mu_t: Tensor,
    logvar_t: Tensor,
    noise: Tensor,
    basis: Tensor,
    gamma: float,
    temperature: float,
    inclusion: float,
    variance: float,
) -> Tensor:
    """The summary's terms on one batch. (B, D) four times, noise (2, B, D), basis (K, D), four numbers -> scalar"""
    v = clip_norm(mu_v + (logvar_v / 2).exp() * noise[0], gamma)  # (B, D)
    t = mu_t + (logvar_t / 2).exp() * noise[1]  # (B, D)
    priced = vib_loss(mu_v, logvar_v) + vib_loss(mu_t, logvar_t)
    return info_nce(v, t, temperature) + inclusion * projection_residual(t, basis).mean() + variance * priced


def _objective_loop(mu_v, logvar_v, mu_t, logvar_t, noise, basis, gamma, temperature, inclusion, variance):
    b = len(mu_v)
    v = _clip_loop(mu_v + logvar_v.exp().sqrt() * noise[0], gamma)
    t = mu_t + logvar_t.exp().sqrt() * noise[1]
    contrast = torch.zeros(()).to(mu_v)
    for i in range(b):
        scores = torch.stack([(v[i] * t[j]).sum() / temperature for j in range(b)])
        contrast = contrast + (scores.logsumexp(0) - scores[i]) / b
    outside = _residual_loop(t, basis).sum() / b
    cost = torch.zeros(()).to(mu_v)
    for mu, logvar in ((mu_v, logvar_v), (mu_t, logvar_t)):
        cost = cost + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum() / b
    return contrast + inclusion * outside + variance * cost


def _objective_batches(generator):
    def batch(b, k, d, *numbers):
        mu_v, mu_t, lv, lt = torch.randn(4, b, d, generator=generator)
        noise, basis = torch.randn(2, b, d, generator=generator), torch.randn(k, d, generator=generator)
        return mu_v, 0.5 * lv - 1, mu_t, 0.5 * lt - 1.5, noise, basis, *numbers

    return [batch(3, 2, 5, 1.5, 0.7, 0.5, 0.1), batch(5, 3, 4, 2.2, 1.3, 0.2, 0.03), batch(2, 1, 6, 1.0, 0.5, 1.0, 0.3)]


def _cold_batch(generator):
    v, t = far_rows(generator)
    logvar = torch.full((4, 8), -12.0)
    noise, basis = torch.randn(2, 4, 8, generator=generator), torch.randn(3, 8, generator=generator)
    return [(2 * v, logvar, t, logvar - 1, noise, basis, 1.2, 0.01, 0.5, 0.01)]


def _with(contrast=info_nce, clip=clip_norm, residual=projection_residual, cost=vib_loss, half=2.0, **how):
    """The objective with one part of it done otherwise."""

    def wrong(mu_v, logvar_v, mu_t, logvar_t, noise, basis, gamma, temperature, inclusion, variance):
        v = mu_v + (logvar_v / half).exp() * noise[0]
        t = mu_t + (logvar_t / half).exp() * noise[how.get("noise_of_text", 1)]
        outside = residual({"means": mu_t, "pictures": v}.get(how.get("residual_of", ""), t), basis).mean()
        a, b = (mu_v, mu_t) if how.get("contrast_of") == "means" else (v, t)
        a, b = clip(a, gamma), clip(b, gamma) if how.get("bound_text") else b
        return (
            contrast(a, b, temperature) + inclusion * outside + variance * (cost(mu_v, logvar_v) + cost(mu_t, logvar_t))
        )

    return wrong


_OBJECTIVE = Exercise(
    library=objective, reference=_objective_loop, inputs=_objective_batches, extreme=_cold_batch,
    stability="At a temperature of 0.01 the scores reach 100 and exp overflows: F.cross_entropy, or a logsumexp.",
    gradients=("mu_v", "logvar_v", "mu_t", "logvar_t"),
    right=(_with(lambda v, t, tau: F.cross_entropy(v @ t.T / tau, torch.arange(len(v)))),
           _with(cost=lambda m, lv: (m**2 + lv.exp() - 1 - lv).sum() / (2 * len(m)))),
    naive=(_with(lambda v, t, tau: -((v @ t.T / tau).exp().diagonal() / (v @ t.T / tau).exp().sum(1)).log().mean()),),
    hints=(
        "Four lines: sample both sides, bring the pictures into the ball, and add three terms.",
        "The noise is given: v = mu + exp(logvar / 2) * noise. Contrast and inclusion take samples, the variance term "
        "takes means and log-variances.",
        "info_nce(clip_norm(v, gamma), t, temperature) + inclusion * projection_residual(t, basis).mean() + variance * "
        "(vib_loss(mu_v, logvar_v) + vib_loss(mu_t, logvar_t)).",
    ),
    misconceptions=(
        Misconception("no bound", _with(clip=lambda v, gamma: v),
            "Your pictures may have any length: equation (7) is missing."),
        Misconception("bound on the captions too", _with(bound_text=True),
            "You bound the captions too. The summary writes its constraint for the pictures alone."),
        Misconception("always on the surface", _with(clip=lambda v, gamma: gamma * F.normalize(v, dim=1)),
            "You bring every picture to length gamma. The bound is an inequality: what is inside stays."),
        Misconception("variance as a standard deviation", _with(half=1.0),
            "You multiply the noise by the variance. A sample is mean plus *standard deviation* times noise."),
        Misconception("contrast of the means", _with(contrast_of="means"),
            "Your contrast compares the means. The summary compares samples."),
        Misconception("residual of the means", _with(residual_of="means"),
            "You project the means of the captions. Equation (1) is an expectation over samples."),
        Misconception("residual of the pictures", _with(residual_of="pictures"),
            "You project the pictures on the pictures' subspace. It is the captions that should lie in it."),
        Misconception("residual squared", _with(residual=lambda t, a: projection_residual(t, a).square()),
            "You square the residual. Equation (1) takes the norm itself."),
        Misconception("what lies inside",
            _with(residual=lambda t, a: (t @ torch.linalg.pinv(a) @ a).norm(dim=1)),
            "Your inclusion term is the length of the part inside: training would push captions out."),
        Misconception("one noise for both", _with(noise_of_text=0),
            "Both sides get the same noise in yours. Then their product has the variance in it: E v.t is no longer "
            "the product of the means."),
        Misconception("captions choose", _with(lambda v, t, tau: info_nce(t, v, tau)),
            "In yours captions choose among pictures. In the summary's equation 1 the sum runs over captions."),
        Misconception("both directions", _with(lambda v, t, tau: (info_nce(v, t, tau) + info_nce(t, v, tau)) / 2),
            "Your contrast has both directions. The summary's has one, from picture to caption."),
        Misconception("contrast summed", _with(lambda v, t, tau: len(v) * info_nce(v, t, tau)),
            "Your contrast grows with the batch: take its mean."),
        Misconception("cosine", _with(lambda v, t, tau: info_nce(F.normalize(v, dim=1), F.normalize(t, dim=1), tau)),
            "You compare directions only. Then a bound on the length bounds nothing; the score here is the product."),
        Misconception("multiplies by the temperature", slips.inverted(7),
            "A low temperature should make the choice sharper. The scores are divided by it."),
        Misconception("weights exchanged", lambda *args: objective(*(*args[:8], args[9], args[8])),
            "You exchanged the two weights."),
        Misconception("no inclusion", slips.left_out(8, 0.0), "The inclusion term is missing."),
        Misconception("no variance term", slips.left_out(9, 0.0), "The variance term is missing."),
        Misconception("variance term a dimension",
            _with(cost=lambda m, lv: vib_loss(m, lv) / m.shape[1]),
            "You took the mean over the dimensions. The cost of a Gaussian is the sum over its dimensions."),
        Misconception("variance term without the means",
            _with(cost=lambda m, lv: vib_loss(torch.zeros_like(m), lv)),
            "Your variance term leaves the means free. The divergence from a standard normal has mu^2 in it."),
        Misconception("variance term turned", lambda *args: objective(*(*args[:9], -args[9])),
            "You subtract the cost of the code. It is the evidence bound that has a minus; a loss adds it."),
    ),
)  # fmt: skip

# ---- 12c.5 around the bound ------------------------------------------------------------------------------------------


def escaped(v: Tensor, t: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Other pictures and captions with the same table v t^T, every picture inside the ball. (N, D), (M, D)"""
    factor = (gamma / v.norm(dim=1).max()).clamp(max=1)
    return v * factor, t / factor


def _escaped_loop(v, t, gamma):
    longest = max(float(row.square().sum()) for row in v) ** 0.5
    factor = gamma / longest if longest > gamma else 1.0
    return torch.stack([row * factor for row in v]), torch.stack([row / factor for row in t])


def _rows_to_bound(generator):
    sizes = ((3, 4, 5, 1.0, 2.0), (5, 2, 3, 0.5, 1.5), (2, 3, 4, 9.0, 1.0), (4, 4, 4, 2.0, 3.0))
    return [
        (spread * torch.randn(n, d, generator=generator), torch.randn(m, d, generator=generator), gamma)
        for n, m, d, gamma, spread in sizes
    ]


def _rescaled(factor):
    return lambda v, t, gamma: (v * factor(v, gamma), t / factor(v, gamma))


_ESCAPED = Exercise(
    library=escaped, reference=_escaped_loop, inputs=_rows_to_bound,
    right=(_rescaled(lambda v, gamma: min(1.0, gamma / float(v.norm(dim=1).max()))),
           lambda v, t, gamma: ((c := float((v.norm(dim=1) / gamma).max().clamp(min=1))) and (v / c, t * c))),
    naive="a common factor and its inverse: no exponential, and no difference of large numbers",
    hints=(
        "A product of two vectors does not notice if one is halved and the other doubled.",
        "All rows of v need the same factor, or the caption would have to be rescaled differently for each picture. "
        "Which row decides?",
        "factor = min(1, gamma / longest row of v); return v * factor, t / factor.",
    ),
    misconceptions=(
        Misconception("each row on its own", lambda v, t, gamma: (clip_norm(v, gamma), t),
            "You clip row by row: that changes the products of those that are clipped. One factor for all rows, and "
            "its inverse for the captions."),
        Misconception("captions left alone", lambda v, t, gamma: (escaped(v, t, gamma)[0], t),
            "Your products have shrunk with the pictures. The captions have to make up for it."),
        Misconception("captions shrunk too",
            lambda v, t, gamma: (escaped(v, t, gamma)[0], t * (gamma / v.norm(dim=1).max()).clamp(max=1)),
            "You shrink both sides, so the products shrink twice. One goes down, the other up."),
        Misconception("grows what is inside", _rescaled(lambda v, gamma: gamma / v.norm(dim=1).max()),
            "Pictures that are all inside the ball become longer in yours. There is nothing to do then: the factor is "
            "at most 1."),
        Misconception("mean length", _rescaled(lambda v, gamma: (gamma / v.norm(dim=1).mean()).clamp(max=1)),
            "You bring the *mean* length to gamma, and some pictures stay outside. The constraint is for all."),
        Misconception("length of the whole table", _rescaled(lambda v, gamma: (gamma / v.norm()).clamp(max=1)),
            "You took the norm of the whole matrix: the factor is smaller than it has to be. The longest row decides."),
        Misconception("largest coordinate", _rescaled(lambda v, gamma: (gamma / v.abs().max()).clamp(max=1)),
            "You look at the largest coordinate. The constraint is on the length of a row."),
        Misconception("captions bounded instead",
            lambda v, t, gamma: escaped(t, v, gamma)[::-1],
            "You bound the captions. The summary's equation 3 bounds the pictures."),
    ),
)  # fmt: skip

EXERCISES: dict[str, Exercise | Prediction] = {
    "residual": _RESIDUAL,
    "clip_norm": _CLIP,
    "expected_residual": _EXPECTED,
    "objective": _OBJECTIVE,
    "escaped": _ESCAPED,
}
