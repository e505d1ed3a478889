r"""K-means: K centroids so that the squared distances of N points to their nearest one add up to little.

Lloyd 1982, seeded by the greedy k-means++ of Arthur and Vassilvitskii 2007; derived in lesson 11.

Letters: N points, D dimensions, K centroids, S points that the seeding looks at, T candidates for the next seed.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip import _check

ROWS = 512  # of the N x K table of scores at one time: what is made is read again before it leaves the cache


@torch.no_grad()
@_check.full_precision
def kmeans(x: Tensor, k: int, generator: torch.Generator, iterations: int = 20) -> tuple[Tensor, Tensor]:
    r"""Lloyd's two steps in turn: each point takes the nearest centroid, each centroid the mean of its points.

    $$ y_n = \arg\min_k \lVert x_n - c_k \rVert^2, \qquad c_k = \frac{1}{|\{n : y_n = k\}|} \sum_{n : y_n = k} x_n $$

    Neither step can raise the inertia, the sum of all squared distances |x_n - c_{y_n}|^2. So it settles; at what
    value, the seeds decide.

    Args:
        x: (N, D), any vectors: unit vectors have centroids inside the sphere.
        k: K, 1 to N.
        generator: source of all randomness, on the device of x.
        iterations: of both steps at most; fewer if no label changes any more.

    Returns:
        centroids (K, D), and labels (N,) int64: the nearest centroid of each point. A centroid that loses all its
        points moves to the point that is worst served. Where that is of no use, since fewer than K points differ by
        more than rounding, each of these is a centroid; the other centroids come last, are zero and have no points.

    Raises:
        ValueError: not an (N, D) tensor of finite numbers, k > N, iterations < 1.

    Source: Lloyd 1982, seeds of Arthur and Vassilvitskii 2007, section 2.2; lesson 11.
    """
    _check.embeddings("x", x)
    _check.count("k", k)
    _check.count("iterations", iterations)
    if k > len(x):
        _check.fail("k", f"at most the {len(x)} points", k)
    middle = x.mean(dim=0)
    x = x - middle  # |x|^2 - 2 x c + |c|^2 keeps its digits where the lengths are those of the differences
    # Seeds from a sample: from all 20 000 points for 500 centroids they take longer and gain 0.5 % of inertia.
    seen = torch.randperm(len(x), generator=generator, device=x.device)[: max(10 * k, 4096)]  # (S,)
    centroids = _seeds(x[seen], k, generator)  # (K, D), or fewer
    own, one = _own(x), F.pad(x, (0, 1), value=1)  # (N,), (N, D + 1)
    labels, score = _nearest(one, centroids)
    for _ in range(iterations):
        means, counts = group_means(x, labels, len(centroids))
        centroids = means[counts > 0]
        if len(centroids) < k:
            gaps = own - 2 * score  # (N,)
            worst = gaps.argsort(descending=True, stable=True)[: k - len(centroids)]
            centroids = torch.cat([centroids, x[worst[gaps[worst] > 0]]])
        before = labels
        labels, score = _nearest(one, centroids)
        if torch.equal(labels, before):
            break
    named, labels = labels.unique(return_inverse=True)
    return F.pad(centroids[named] + middle, (0, 0, 0, k - len(named))), labels  # (K, D), (N,)


def group_means(x: Tensor, labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The mean of each group, zero for one without members, and the number of its members. -> (K, D), (K,)"""
    counts = torch.bincount(labels, minlength=k)  # (K,)
    # Accumulating index_put sorts on a GPU: the same sums in every run, which index_add does not promise.
    sums = x.new_zeros(k, x.shape[1]).index_put_((labels,), x, accumulate=True)  # (K, D)
    return sums / counts.clamp(min=1)[:, None], counts


def _seeds(x: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Greedy k-means++: of T points drawn in proportion to their gaps, seeds are those that lower all gaps the most.

    (S, D) -> (K, D), or fewer if fewer points differ. A gap is the squared distance to the nearest seed. A draw serves
    for one seed, and for up to three once there are so many that new ones hardly touch one another's points.
    """
    own, size, tries = _own(x), x.square().sum(dim=1, keepdim=True), 4 + 2 * int(math.log(k))  # (S,), (S, 1), T

    def distances(new: Tensor) -> Tensor:  # |c|^2 - 2 c x + |x|^2
        return torch.addmm(own + size[new], x[new], x.T, alpha=-2)  # (T, S)

    seeds = torch.randint(len(x), (1,), generator=generator, device=x.device)  # (1,)
    gaps = distances(seeds)[0].clamp_(min=0)  # (S,)
    while len(seeds) < k and gaps.any():
        drawn = gaps.multinomial(tries, replacement=True, generator=generator)  # (T,)
        after = distances(drawn)  # (T, S)
        for _ in range(min(3, 1 + len(seeds) // 16, k - len(seeds))):
            after = torch.minimum(gaps, after, out=after)
            best = after.sum(dim=1).argmin()
            if gaps[drawn[best]] == 0:
                break  # the same point twice
            gaps, seeds = after[best].clamp(min=0), torch.cat([seeds, drawn[best, None]])
    return x[seeds]


def _own(x: Tensor) -> Tensor:
    """|x|^2, less what rounding may add to a squared distance, so that the gap between equal points is 0. -> (N,)"""
    return (1 - 64 * torch.finfo(x.dtype).eps) * x.square().sum(dim=1)


def _nearest(one: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centroid c of each point x, the first of equals, and its score c x - |c|^2 / 2. -> (N,), (N,)

    The score is largest where |x|^2 - 2 c x + |c|^2 is least. `one` is x and a 1, which brings |c|^2 into the product.
    """
    c = torch.cat([centroids, -centroids.square().sum(dim=1, keepdim=True) / 2], dim=1)  # (K, D + 1)
    parts = [(rows @ c.T).max(dim=1) for rows in one.split(ROWS)]
    score, labels = (torch.cat(column) for column in zip(*parts, strict=True))  # (N,) each
    return labels, score
