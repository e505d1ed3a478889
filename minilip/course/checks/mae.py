"""Exercises of lesson 05b: references, misconceptions and hints."""

import torch
from torch import Tensor

from minilip.mae import EPS, mae_loss, random_masking

from . import _slips as slips
from ._exercise import Exercise, Misconception, Prediction

LESSON = "05b_mae"

# ---- 5b.1 masking ----------------------------------------------------------------------------------------------------


def _masking_loop(noise, keep):
    kept, masks, places = [], [], []
    for row in noise.tolist():
        order = sorted(range(len(row)), key=row.__getitem__)
        rank = [order.index(i) for i in range(len(row))]
        kept.append(order[:keep])
        masks.append([1.0 if r >= keep else 0.0 for r in rank])
        places.append(rank)
    return torch.tensor(kept), torch.tensor(masks, dtype=noise.dtype), torch.tensor(places)


def _noises(g):
    return [(torch.rand(b, p, generator=g), k) for b, p, k in ((2, 5, 2), (3, 9, 4), (4, 16, 4), (1, 6, 5))]


def _masked(change):
    """Other parts, of noise, the number kept, and the right three."""
    return lambda noise, keep: change(noise, keep, *random_masking(noise, keep))


_MASKING = Exercise(
    library=random_masking, reference=_masking_loop, inputs=_noises,
    right=(_masked(lambda noise, k, kept, m, r: (kept, torch.ones_like(noise).scatter(1, kept, 0), r)),
           _masked(lambda noise, k, kept, m, r: (noise.sort(dim=1).indices[:, :k], m,
                   (noise[:, :, None] > noise[:, None, :]).sum(dim=2)))),
    naive="an order of numbers: nothing overflows",
    hints=(
        "Sort the noise of each row. The first K of the order are kept.",
        "The order says which patch comes r-th. What undoes it says at which place patch i came: the inverse of a "
        "permutation, which one more argsort gives.",
        "order = noise.argsort(1); restore = order.argsort(1); kept = order[:, :keep]; mask = restore >= keep, "
        "as numbers.",
    ),
    misconceptions=(
        Misconception("restore is the order", _masked(lambda noise, k, kept, m, r: (kept, m, noise.argsort(1))),
            "Your third result says which patch comes r-th. To put tokens back you need the place of patch i: "
            "its inverse."),
        Misconception("mask turned round", _masked(lambda noise, k, kept, m, r: (kept, 1 - m, r)),
            "Your mask is 1 where a patch is kept. It is 1 where one was removed, since that is where the loss is."),
        Misconception("mask in the order of the noise",
            _masked(lambda noise, k, kept, m, r:
                (kept, (torch.arange(m.shape[1]) >= k).to(m).expand_as(m).contiguous(), r)),
            "Your mask is that of the shuffled row: kept first, removed after. It has to be put back into the "
            "patches' order.",
            says=lambda result, noise, k: bool((result[1][:, 0] == 0).all())),
        Misconception("mask shuffled by the order",
            _masked(lambda noise, k, kept, m, r: (kept, (noise.argsort(1) >= k).to(m), r)),
            "You compared the order with K, not the places. Then the mask is 1 at other patches than those removed."),
        Misconception("highest noise kept", _masked(lambda noise, k, kept, m, r: random_masking(-noise, k)),
            "You keep the patches with the highest noise. As good a draw, but the exercise keeps the lowest."),
        Misconception("removed in place of kept",
            _masked(lambda noise, k, kept, m, r: (noise.argsort(1)[:, k:], m, r)),
            "Your first result lists the patches that are removed."),
        Misconception("kept sorted", _masked(lambda noise, k, kept, m, r: (kept.sort(dim=1).values, m, r)),
            "You sorted the kept patches. Then restore no longer fits: it speaks of them in the order of the noise."),
        Misconception("one mask for all", _masked(lambda noise, k, kept, m, r:
            tuple(x[:1].expand_as(x).contiguous() for x in (kept, m, r))),
            "All your pictures have the mask of the first. Each draws its own."),
        Misconception("returned in another order", slips.then(lambda t: (t[1], t[0], t[2])),
            "The order of the results is kept, mask, restore."),
    ),
)  # fmt: skip

# ---- 5b.2 the loss ---------------------------------------------------------------------------------------------------


def masked_loss(prediction: Tensor, patches: Tensor, mask: Tensor) -> Tensor:
    """`mae_loss` with normalised patches."""
    return mae_loss(prediction, patches, mask)


def _loss_loop(prediction, patches, mask):
    total, hidden = torch.zeros(()), 0
    for b in range(len(patches)):
        for i in range(patches.shape[1]):
            if mask[b, i] == 1:
                x = patches[b, i]
                mean = x.sum() / len(x)
                variance = ((x - mean) ** 2).sum() / (len(x) - 1)
                total = total + ((prediction[b, i] - (x - mean) / (variance + EPS) ** 0.5) ** 2).sum() / len(x)
                hidden += 1
    return total / hidden


def _problem(g, b, p, n, uneven=False):
    mask = random_masking(torch.rand(b, p, generator=g), max(1, p // 3))[1]
    if uneven:  # pictures with different numbers of hidden patches
        mask[0] = 0
        mask[0, 0] = 1
    return torch.randn(b, p, n, generator=g), torch.rand(b, p, n, generator=g), mask


def _problems(g):
    return [_problem(g, 2, 4, 3), _problem(g, 3, 6, 12, uneven=True), _problem(g, 4, 9, 5)]


def _flat(g):
    prediction, patches, mask = _problem(g, 2, 4, 6)
    patches[:] = 0.5
    return [(prediction, patches, mask)]


def _graded(target=None, error=None, total=None):
    """The loss with another target, another error of a patch, another mean."""

    def loss(y, x, m):
        t = (x - x.mean(2, keepdim=True)) / (x.var(2, keepdim=True) + EPS).sqrt() if target is None else target(x)
        e = (y - t).square().mean(dim=2) if error is None else error(y - t)
        return (m * e).sum() / m.sum() if total is None else total(e, m)

    return loss


_LOSS = Exercise(
    library=masked_loss, reference=_loss_loop, inputs=_problems, extreme=_flat, gradients=("prediction",),
    stability="A patch of one colour has the deviation 0, and nothing may be divided by that. What is the 1e-6 for?",
    right=(_graded(total=lambda e, m: e[m.bool()].mean()),
           lambda y, x, m: torch.nn.functional.mse_loss(y[m.bool()], ((x - x.mean(2, keepdim=True))
                   * (x.var(2, keepdim=True) + 1e-6).rsqrt())[m.bool()])),
    naive=(_graded(target=lambda x: (x - x.mean(2, keepdim=True)) / x.std(2, keepdim=True)),),
    hints=(
        "The target of each patch first: less its own mean, over its own deviation. Both are taken over the last axis.",
        "One error a patch, the mean over its N numbers. Then a mean over hidden patches only: weigh by the mask, and "
        "divide by how many there are.",
        "t = (x - x.mean(2, keepdim=True)) / (x.var(2, keepdim=True) + 1e-6).sqrt(); "
        "(mask * (y - t).square().mean(2)).sum() / mask.sum().",
    ),
    misconceptions=(
        Misconception("all patches", _graded(total=lambda e, m: e.mean()),
            "You ask about the patches that were shown, too. Copying them is easy and teaches nothing."),
        Misconception("visible patches", _graded(total=lambda e, m: ((1 - m) * e).sum() / (1 - m).sum()),
            "You ask about the patches that were shown, and about no others. The mask is 1 where one is hidden."),
        Misconception("divided by all patches", _graded(total=lambda e, m: (m * e).mean()),
            "You divide by all patches, so that the loss falls with the mask ratio. Divide by the hidden ones."),
        Misconception("mean of the pictures' means",
            _graded(total=lambda e, m: ((m * e).sum(1) / m.sum(1)).mean()),
            "You average each picture first. Here a picture with one hidden patch would weigh as much as one "
            "with many."),
        Misconception("not normalised", _graded(target=lambda x: x),
            "Your target is the pixels. Normalised patches are asked for."),
        Misconception("mean not taken away", _graded(target=lambda x: x / (x.var(2, keepdim=True) + EPS).sqrt()),
            "You divided by the deviation and left the mean: brightness still counts."),
        Misconception("only the mean taken away", _graded(target=lambda x: x - x.mean(2, keepdim=True)),
            "You took the mean away and left the deviation: contrast still counts."),
        Misconception("divided by the variance", _graded(target=lambda x: (x - x.mean(2, keepdim=True))
            / (x.var(2, keepdim=True) + EPS)),
            "You divided by the variance. Its root is the deviation."),
        Misconception("variance over N", _graded(target=lambda x: (x - x.mean(2, keepdim=True))
            / (x.var(2, keepdim=True, unbiased=False) + EPS).sqrt()),
            "Your variance is divided by N. The released code's is the unbiased one, over N - 1."),
        Misconception("moments of the whole picture", _graded(target=lambda x: (x - x.mean((1, 2), keepdim=True))
            / (x.var((1, 2), keepdim=True) + EPS).sqrt()),
            "You normalised by the whole picture. Each patch has its own mean and deviation."),
        Misconception("prediction normalised too", lambda y, x, m: masked_loss(
            (y - y.mean(2, keepdim=True)) / (y.var(2, keepdim=True) + EPS).sqrt(), x, m),
            "You normalised the prediction. It is compared as it is, or it could be of any size."),
        Misconception("absolute differences", _graded(error=lambda d: d.abs().mean(dim=2)),
            "You averaged absolute differences. The squared ones are asked for."),
        Misconception("summed over a patch", _graded(error=lambda d: d.square().sum(dim=2)),
            "The error of a patch is a mean over its N numbers."),
        Misconception("its root",
            slips.then(lambda r: r**0.5), "You took the root: the mean squared error is asked for."),
        Misconception("summed over patches", _graded(total=lambda e, m: (m * e).sum()),
            "The loss is a mean over hidden patches, or it would grow with the batch."),
    ),
)  # fmt: skip

# ---- 5b.3 its gradient -----------------------------------------------------------------------------------------------


def loss_gradient(prediction, patches, mask):
    """d loss / d prediction for plain pixels, by (4). (B, P, N), (B, P, N), (B, P) -> (B, P, N)"""
    return 2 * mask[:, :, None] * (prediction - patches) / (patches.shape[2] * mask.sum())


def _gradient_loop(prediction, patches, mask):
    rows = []
    for b in range(len(patches)):
        row = []
        for i in range(patches.shape[1]):
            row.append(2 * mask[b, i] * (prediction[b, i] - patches[b, i]) / patches.shape[2] / mask.sum())
        rows.append(torch.stack(row))
    return torch.stack(rows)


def _slope(change):
    return lambda y, x, m: change(y - x, m, m[:, :, None], x.shape[2])


_LOSS_GRADIENT = Exercise(
    library=loss_gradient, reference=_gradient_loop, inputs=_problems,
    right=(_slope(lambda d, m, m3, n: torch.einsum("bpn,bp->bpn", d, m) / (m.sum() * n / 2)),
           _slope(lambda d, m, m3, n: torch.where(m3 == 1, d, torch.zeros_like(d)) * 2 / n / m.sum())),
    naive="differences of moderate numbers: nothing overflows",
    hints=(
        "Which terms of the double sum contain y_bi? The mask decides whether there is one.",
        "A square brings 2 (y - x). What divides the sums, N and the number of hidden patches, stays.",
        "2 * mask[:, :, None] * (y - x) / (N * mask.sum()).",
    ),
    misconceptions=(
        Misconception("visible patches too", _slope(lambda d, m, m3, n: 2 * d / (n * m.sum())),
            "Visible patches have a gradient in yours. They do not occur in the loss: theirs is 0.",
            says=lambda result, y, x, m: bool((result[m == 0] != 0).any())),
        Misconception("mask turned round", _slope(lambda d, m, m3, n: 2 * (1 - m3) * d / (n * m.sum())),
            "Only visible patches have a gradient in yours. The mask is 1 where a patch is hidden."),
        Misconception("sign turned", slips.negated,
            "Yours points from the prediction to the target. That is the step; the gradient points uphill."),
        Misconception("2 forgotten", slips.times(0.5), "The derivative of a square brings a 2."),
        Misconception("N forgotten", slips.times(lambda y, x, m: x.shape[2]), "The error of a patch is a mean over N."),
        Misconception("divided by all patches", _slope(lambda d, m, m3, n: 2 * m3 * d / (n * m.numel())),
            "You divided by all patches. The mean is over hidden ones."),
        Misconception("divided by hidden patches of each picture",
            _slope(lambda d, m, m3, n: 2 * m3 * d / (n * m.sum(1)[:, None, None])),
            "You divided by each picture's own hidden patches. The sum in (4) runs over the batch."),
        Misconception("not divided by hidden patches", _slope(lambda d, m, m3, n: 2 * m3 * d / n),
            "The sum over hidden patches is divided by how many there are."),
        Misconception("divided by the batch", _slope(lambda d, m, m3, n: 2 * m3 * d / (n * len(m))),
            "You divided by the number of pictures. The mean is over hidden patches."),
    ),
)  # fmt: skip

# ---- 5b.4 multiplications --------------------------------------------------------------------------------------------


def multiplications(tokens: int, dim: int, depth: int) -> int:
    """Of `depth` blocks of width `dim` for one picture of so many tokens, eq. (8)."""
    return depth * (12 * tokens * dim**2 + 2 * tokens**2 * dim)


def _count_loop(tokens, dim, depth):
    total = 0
    for _block in range(depth):
        for width_in, width_out in ((dim, 3 * dim), (dim, dim), (dim, 4 * dim), (4 * dim, dim)):
            total += tokens * width_in * width_out
        for _query in range(tokens):
            total += tokens * dim + tokens * dim  # its scores, and the weighed values
    return total


_MULTIPLICATIONS = Exercise(
    library=multiplications, reference=_count_loop,
    inputs=lambda g: [(5, 4, 1), (17, 8, 3), (65, 16, 2), (10, 6, 4)],
    right=(lambda n, d, k: 2 * k * n * d * (6 * d + n),
           lambda n, d, k: sum(12 * n * d * d + 2 * n * n * d for _ in range(k))),
    naive="whole numbers: nothing overflows",
    hints=(
        "Go through the block: queries, keys, values; scores; weighed values; the output map; two layers of the MLP.",
        "A linear layer from a to b numbers takes a b multiplications a token. The MLP widens to 4 D.",
        "Linear layers: 3 D^2 + D^2 + 4 D^2 + 4 D^2 a token. Attention: L D for scores and L D for values, a token.",
    ),
    misconceptions=(
        Misconception("attention left out", lambda n, d, k: k * 12 * n * d**2,
            "You counted the linear layers. Every token is also compared with every other."),
        Misconception("scores only", lambda n, d, k: k * (12 * n * d**2 + n**2 * d),
            "You counted the scores. The values are then weighed by them, as many multiplications again."),
        Misconception("linear layers left out", lambda n, d, k: k * 2 * n**2 * d,
            "You counted attention's two products. Most of the work is in the linear layers."),
        Misconception("narrow MLP", lambda n, d, k: k * (6 * n * d**2 + 2 * n**2 * d),
            "Your MLP is as wide as the tokens. It widens to 4 D."),
        Misconception("one layer of the MLP", lambda n, d, k: k * (8 * n * d**2 + 2 * n**2 * d),
            "The MLP has two layers: D to 4 D, and back."),
        Misconception("output map left out", lambda n, d, k: k * (11 * n * d**2 + 2 * n**2 * d),
            "After attention a linear map D to D mixes the heads."),
        Misconception("queries only", lambda n, d, k: k * (10 * n * d**2 + 2 * n**2 * d),
            "Queries, keys and values are three maps."),
        Misconception("one block",
            lambda n, d, k: 12 * n * d**2 + 2 * n**2 * d + 0 * k, "This is one block, not `depth`."),
        Misconception("multiplications and additions", slips.times(2),
            "You counted additions too. Those are as many again; here only multiplications count."),
        Misconception("attention of one token", lambda n, d, k: k * (12 * n * d**2 + 2 * n * d),
            "Each of the L tokens is compared with all L."),
    ),
)  # fmt: skip

# ---- 5b.5 two patches ------------------------------------------------------------------------------------------------

_BOTH_HIDDEN = Prediction(
    answer=round(48 / 64 * 47 / 63, 4),
    tolerance=2e-3,
    hints=(
        "Hide the first: 48 places of 64. Is the second then drawn from the same urn?",
        "It is drawn without replacement: 47 hidden places are left, of 63.",
        "48/64 times 47/63.",
    ),
    misconceptions=(
        Misconception("independent",
            0.5625, "That would be two coins. One hidden patch leaves fewer places for the other."),
        Misconception("one patch", 0.75, "That is the probability that one given patch is hidden."),
        Misconception("both visible", round(16 / 64 * 15 / 63, 4), "That is the probability that both are visible."),
        Misconception("at least one",
            round(1 - 16 / 64 * 15 / 63, 4), "That is the probability that at least one is hidden."),
    ),
)  # fmt: skip

# ---- 5b.6 tokens back in their places --------------------------------------------------------------------------------


def put_back(seen, token, restore):
    """The encoder's tokens in their places, the mask token in every gap. (B, K, D), (D,), (B, P) -> (B, P, D)"""
    gaps = token.expand(len(seen), restore.shape[1] - seen.shape[1], -1)  # (B, P - K, D)
    return torch.cat([seen, gaps], dim=1).take_along_dim(restore[:, :, None], dim=1)


def _back_loop(seen, token, restore):
    rows = []
    for b in range(len(seen)):
        rows.append(torch.stack([seen[b, r] if r < seen.shape[1] else token for r in restore[b].tolist()]))
    return torch.stack(rows)


def _tokens(g):
    found = []
    for b, p, k, d in ((2, 5, 2, 3), (3, 9, 4, 2), (4, 16, 4, 5)):
        restore = random_masking(torch.rand(b, p, generator=g), k)[2]
        found.append((torch.randn(b, k, d, generator=g), torch.randn(d, generator=g), restore))
    return found


def _shuffled(seen, token, restore):
    return torch.cat([seen, token.expand(len(seen), restore.shape[1] - seen.shape[1], -1)], dim=1)


_PUT_BACK = Exercise(
    library=put_back, reference=_back_loop, inputs=_tokens, gradients=("seen", "token"),
    right=(lambda s, t, r: torch.gather(_shuffled(s, t, r), 1, r[:, :, None].expand(-1, -1, s.shape[2])),
           lambda s, t, r: torch.where((r < s.shape[1])[:, :, None],
                   s.take_along_dim(r.clamp(max=s.shape[1] - 1)[:, :, None], dim=1), t)),
    naive="tokens are moved, not computed: nothing overflows",
    hints=(
        "Make the shuffled row first: the K tokens that were seen, and after them the mask token P - K times.",
        "Entry restore[b, i] of the shuffled row is patch i: look up along the second axis.",
        "torch.cat([seen, token.expand(B, P - K, -1)], dim=1).take_along_dim(restore[:, :, None], dim=1).",
    ),
    misconceptions=(
        Misconception("order in place of restore",
            lambda s, t, r: _shuffled(s, t, r).take_along_dim(r.argsort(1)[:, :, None], dim=1),
            "Your tokens lie where the order, the inverse of restore, would put them. One argsort too many."),
        Misconception("left shuffled", lambda s, t, r: _shuffled(s, t, r) + 0 * r[:, :, None],
            "Your tokens are still in the order of the noise: the seen ones first. The decoder would believe "
            "them there."),
        Misconception("gaps first",
            lambda s, t, r: torch.cat([_shuffled(s, t, r)[:, s.shape[1]:], s], 1).take_along_dim(r[:, :, None], dim=1),
            "In your shuffled row the mask tokens come first. restore counts the kept patches first."),
        Misconception("zeros in the gaps", lambda s, t, r: put_back(s, 0 * t, r),
            "Your gaps are filled with zeros. The mask token is learned: it says that something is to be painted "
            "here."),
        Misconception("the first picture's places for all", lambda s, t, r: put_back(s, t, r[:1].expand_as(r)),
            "You used the places of the first picture for all. Each has its own."),
        Misconception("mask token added everywhere", lambda s, t, r: put_back(s, t, r) + t,
            "You added the mask token to the tokens that were seen, too. It stands in the gaps only."),
    ),
)  # fmt: skip

EXERCISES: dict[str, Exercise | Prediction] = {
    "masking": _MASKING,
    "loss": _LOSS,
    "loss_gradient": _LOSS_GRADIENT,
    "multiplications": _MULTIPLICATIONS,
    "both_hidden": _BOTH_HIDDEN,
    "put_back": _PUT_BACK,
}
