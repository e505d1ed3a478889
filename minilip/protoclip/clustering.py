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
        generator: source of all randomness, on the device of x; the same seed gives the same bits on any number of
            threads.
        iterations: of both steps at most; fewer if no label changes any more.

    Returns:
        centroids (K, D), and labels (N,) int64: the nearest centroid of each point. A centroid that loses all its
        points moves to the point that is worst served. Where that is of no use, since fewer than K points differ by
        more than rounding, each of these is a centroid; the other centroids come last, are zero and have no points.

    Raises:
        ValueError: not an (N, D) tensor of finite numbers, k > N, iterations < 1, a generator of another device.

    Source: Lloyd 1982, seeds of Arthur and Vassilvitskii 2007, section 2.2; lesson 11.
    """
    _check.embeddings("x", x)
    _check.count("k", k)
    _check.count("iterations", iterations)
    if k > len(x):
        _check.fail("k", f"at most the {len(x)} points", k)
    _check.generator("generator", generator, x.device)
    # Seeds from a sample: from all 20 000 points for 500 centroids they take longer and gain 0.5 % of inertia.
    sample = torch.randperm(len(x), generator=generator, device=x.device)[: max(10 * k, 4096)]  # (S,)
    middle, scale = _frame(x, sample)
    x = scale * x - middle  # |x|^2 - 2 x c + |c|^2 keeps its digits where the lengths are those of the differences
    centroids = _seeds(x[sample], k, generator)  # (K, D), or fewer
    squared_norms, augmented = _squared_norms(x), F.pad(x, (0, 1), value=1)  # (N,), (N, D + 1)
    labels, scores = _nearest(augmented, centroids)
    for _ in range(iterations):
        means, counts = group_means(x, labels, len(centroids))
        centroids = means[counts > 0]
        if len(centroids) < k:
            squared_distances = squared_norms - 2 * scores  # (N,)
            worst = squared_distances.argsort(descending=True, stable=True)[: k - len(centroids)]
            centroids = torch.cat([centroids, x[worst[squared_distances[worst] > 0]]])
        before = labels
        labels, scores = _nearest(augmented, centroids)
        if torch.equal(labels, before):
            break
    occupied, labels = labels.unique(return_inverse=True)
    return F.pad((centroids[occupied] + middle) / scale, (0, 0, 0, k - len(occupied))), labels  # (K, D), (N,)


def group_means(x: Tensor, labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The mean of each group, zero for one without members, and the number of its members.

    Args:
        x: (N, D).
        labels: (N,) int64 in 0 ... K - 1.
        k: K.

    Returns:
        (K, D), and (K,) int64.

    Raises:
        ValueError: not (N, D) finite numbers, labels that do not fit.

    Source: lesson 11.
    """
    _check.embeddings("x", x)
    _check.count("k", k)
    _check.labels("labels", labels, len(x), k)
    counts = torch.bincount(labels, minlength=k)  # (K,)
    # Sorted, one thread adds up each group from first to last: the same sums in every run and on any number of threads.
    order = labels.argsort(stable=True)  # (N,)
    return F.embedding_bag(order, x, counts.cumsum(dim=0) - counts, mode="mean"), counts  # (K, D), (K,)


def _frame(x: Tensor, sample: Tensor) -> tuple[Tensor, float]:
    """Where to put the origin, and in what unit to measure from there. (N, D), (S,) -> (D,) in that unit, its inverse

    The median and not the mean: one point far away would draw the origin towards itself and away from all others, so
    that their differences would drown in the rounding of their lengths. The unit, a power of 2, rounds nothing; with it
    squares neither overflow nor vanish, whatever the unit of x was.
    """
    largest = math.frexp(float(x.abs().max()))[1]
    scale = 2.0 ** min(45 - largest, 100)
    return (scale * x[sample]).median(dim=0).values, scale


def _seeds(x: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Greedy k-means++: the next seed is the point that lowers the squared distances to the nearest seed the most.

    It is sought among T points, drawn in proportion to these distances.

    (S, D) -> (K, D), or fewer if fewer points differ. A draw serves for one seed, and for up to three once there are so
    many that new ones hardly touch one another's points.
    """
    squared_norms, trials = _squared_norms(x), 4 + 2 * int(math.log(k))  # (S,), T
    sizes = x.square().sum(dim=1, keepdim=True)  # (S, 1)

    def distances(new: Tensor) -> Tensor:  # |c|^2 - 2 c x + |x|^2
        return torch.addmm(squared_norms + sizes[new], x[new], x.T, alpha=-2)  # (T, S)

    seeds = torch.randint(len(x), (1,), generator=generator, device=x.device)  # (1,)
    nearest = distances(seeds)[0].clamp_(min=0)  # (S,) squared distances to the nearest seed
    while len(seeds) < k and nearest.any():
        drawn = nearest.multinomial(trials, replacement=True, generator=generator)  # (T,)
        after = distances(drawn)  # (T, S)
        for _ in range(min(3, 1 + len(seeds) // 16, k - len(seeds))):
            after = torch.minimum(nearest, after, out=after)
            best = after.sum(dim=1).argmin()
            if nearest[drawn[best]] == 0:
                break  # the same point twice
            nearest, seeds = after[best].clamp(min=0), torch.cat([seeds, drawn[best, None]])
    return x[seeds]


def _squared_norms(x: Tensor) -> Tensor:
    """|x|^2, less what rounding may add to a squared distance, so that the one between equal points is 0. -> (N,)"""
    return (1 - 64 * torch.finfo(x.dtype).eps) * x.square().sum(dim=1)


def _nearest(augmented: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centroid c of each point x, the first of equals, and its score c x - |c|^2 / 2. -> (N,), (N,)

    The score is largest where |x|^2 - 2 c x + |c|^2 is least. `augmented` is x and a 1, which brings |c|^2 into the
    product.
    """
    c = torch.cat([centroids, -centroids.square().sum(dim=1, keepdim=True) / 2], dim=1)  # (K, D + 1)
    parts = [(rows @ c.T).max(dim=1) for rows in augmented.split(ROWS)]
    scores, labels = (torch.cat(column) for column in zip(*parts, strict=True))  # (N,) each
    return labels, scores
