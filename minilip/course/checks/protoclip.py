"""Exercises of lesson 11: references, misconceptions and hints."""

import math
from collections import Counter

import torch
import torch.nn.functional as F
from torch import Tensor

from minilip.protoclip import back_translate, prototype_loss, soft_targets
from minilip.protoclip.clustering import group_means

from . import Exercise, Invariance, Misconception, Prediction

LESSON = "11_protoclip"

# ---- 11.1 one step of k-means ----------------------------------------------------------------------------------------


def lloyd_step(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest centroid of each point, then each centroid the mean of its points. (N, D), (K, D) -> (N,), (K, D)"""
    labels = _squares(x, centroids).argmin(dim=1)  # (N,)
    return labels, _moved(x, centroids, labels)


def _squares(x, centroids):
    return (x[:, None] - centroids).square().sum(dim=2)  # (N, K)


def _moved(x, centroids, labels):
    means, counts = group_means(x, labels, len(centroids))
    return torch.where(counts[:, None] > 0, means, centroids)  # (K, D)


def _step_loop(x, centroids):
    labels = []
    for point in x:
        gaps = [float(((point - c) ** 2).sum()) for c in centroids]
        labels.append(gaps.index(min(gaps)))
    moved = []
    for k, c in enumerate(centroids):
        mine = [point for point, label in zip(x, labels, strict=True) if label == k]
        moved.append(sum(mine) / len(mine) if mine else c)
    return torch.tensor(labels), torch.stack(moved)


def _clouds(generator):
    """Of several sizes; two with a centroid that no point is near, the last one far from the origin."""

    def cloud(n, d, k):
        return torch.randn(n, d, generator=generator), torch.randn(k, d, generator=generator)

    lonely = cloud(12, 2, 4)
    lonely[1][2] = 30.0
    two = cloud(24, 3, 5)
    two[1][0], two[1][4] = -20.0, 50.0
    x, c = cloud(20, 2, 3)
    return [cloud(6, 2, 2), cloud(20, 5, 3), cloud(5, 3, 1), lonely, two, (x + 1e4, c + 1e4)]


def _assigned(labels_of):
    """A step whose labels come from another rule."""

    def step(x, centroids):
        labels = labels_of(x, centroids)
        return labels, _moved(x, centroids, labels)

    return step


def _with_means(change):
    """A step whose centroids are change(means, counts, centroids, x)."""

    def step(x, centroids):
        labels = lloyd_step(x, centroids)[0]
        return labels, change(*group_means(x, labels, len(centroids)), centroids, x)

    return step


def _settle(x, centroids):
    for _ in range(100):
        labels, centroids = lloyd_step(x, centroids)
    return labels, centroids


def _medoids(x, centroids):
    nearest = _squares(x, centroids).argmin(dim=0)  # (K,)
    return nearest, x[nearest]


def _labelled_afterwards(x, centroids):
    moved = lloyd_step(x, centroids)[1]
    return lloyd_step(x, moved)[0], moved


def _occupied(means, counts):
    return counts[:, None] > 0


_LLOYD = Exercise(
    library=lloyd_step,
    reference=_step_loop,
    inputs=_clouds,
    hints=(
        "Two questions, one after the other. Each point: which centroid is nearest? Each centroid: where is the middle "
        "of those that chose me?",
        "x[:, None] - centroids is (N, K, D): square it, sum over D, argmin over K. Then x[labels == k].mean(dim=0) "
        "for each k; of an empty set that mean is NaN, so ask first.",
        "labels = (x[:, None] - centroids).square().sum(dim=2).argmin(dim=1); moved = centroids.clone(); "
        "for k in labels.unique(): moved[k] = x[labels == k].mean(dim=0); return labels, moved.",
    ),
    misconceptions=(
        Misconception(
            "expands the square far from the origin",
            _assigned(
                lambda x, c: (
                    (
                        (x * x).sum(1)[:, None] - (2 * x[:, None] * c).sum(2) + (c * c).sum(1)  # digits lost in float32
                    ).argmin(dim=1)
                )
            ),
            "Right, until the cloud lies far from the origin. |x|^2 - 2xc + |c|^2 is then a small difference of large "
            "numbers, and float32 keeps 7 digits of each. Subtract before you square, or move the cloud to the origin.",
        ),
        Misconception(
            "largest dot product",
            _assigned(lambda x, c: (x @ c.T).argmax(dim=1)),
            "You took the centroid with the largest dot product. That favours long centroids: in |x - c|^2 = |x|^2 - "
            "2xc + |c|^2 the last term counts too.",
        ),
        Misconception(
            "largest cosine",
            _assigned(lambda x, c: F.cosine_similarity(x[:, None], c, dim=2).argmax(dim=1)),
            "You compared directions. K-means compares places: two centroids in one direction, one near and one far, "
            "are alike to a cosine.",
        ),
        Misconception(
            "farthest centroid",
            _assigned(lambda x, c: _squares(x, c).argmax(dim=1)),
            "Each point went to the centroid that is farthest away. A distance is searched for its smallest value.",
        ),
        Misconception(
            "each centroid asks for its nearest point",
            _medoids,
            "You searched along the wrong axis of the (N, K) table: each centroid found a point. Each point has to "
            "find a centroid, N answers in all.",
        ),
        Misconception(
            "empty group becomes zero",
            _with_means(lambda means, counts, c, x: means),
            "A centroid that no point chose went to the origin. The mean of nothing is not zero: here such a centroid "
            "stays where it is.",
        ),
        Misconception(
            "empty group becomes NaN",
            _with_means(lambda means, counts, c, x: torch.where(_occupied(means, counts), means, math.nan)),
            "A centroid that no point chose became NaN, the mean of nothing. From then on every distance to it is NaN. "
            "Here it stays where it is.",
        ),
        Misconception(
            "empty group jumps to the middle",
            _with_means(lambda means, counts, c, x: torch.where(_occupied(means, counts), means, x.mean(dim=0))),
            "A centroid that no point chose went to the mean of all points. That may help, and the library does a "
            "cleverer thing of this kind, but here it stays where it is.",
        ),
        Misconception(
            "sum instead of mean",
            _with_means(lambda m, n, c, x: torch.where(_occupied(m, n), m * n[:, None], c)),
            "Your centroids are sums: a group of ten has a centroid ten times too far out. Divide by the members.",
        ),
        Misconception(
            "divides by all points",
            _with_means(lambda m, n, c, x: torch.where(_occupied(m, n), m * n[:, None] / len(x), c)),
            "You divided by N. A group's mean divides by the number of its own members.",
        ),
        Misconception(
            "centroids made unit vectors",
            _with_means(lambda m, n, c, x: torch.where(_occupied(m, n), F.normalize(m, dim=1), c)),
            "You gave the centroids length 1. That is spherical k-means. The mean of a group is the point with the "
            "smallest squared distances, wherever it lies, and its length says how tight the group is.",
        ),
        Misconception(
            "halfway",
            _with_means(lambda m, n, c, x: torch.where(_occupied(m, n), (m + c) / 2, c)),
            "Your centroids go half of the way. A whole step is allowed: the mean is the best place for these labels.",
        ),
        Misconception(
            "assigns and does not move",
            lambda x, c: (lloyd_step(x, c)[0], c.clone()),
            "The labels are right, and the centroids have not moved. The second half of the step is theirs.",
        ),
        Misconception(
            "labels after the move",
            _labelled_afterwards,
            "Your labels belong to the moved centroids. Return those that the move was made with: assign, then move.",
        ),
        Misconception(
            "many steps",
            _settle,
            "You went on until nothing changed. One step is asked for: the way down is what we look at next.",
        ),
    ),
)

# ---- 11.2 where to start ---------------------------------------------------------------------------------------------


def seeding_probabilities(x: Tensor, seeds: Tensor) -> Tensor:
    """Chance of each point to be the next seed, by its squared distance to the nearest one. (N, D), (S, D) -> (N,)"""
    gaps = _squares(x, seeds).amin(dim=1)  # (N,)
    return gaps / gaps.sum()


def _seeding_loop(x, seeds):
    gaps = [min(float(((point - s) ** 2).sum()) for s in seeds) for point in x]
    return torch.tensor([g / sum(gaps) for g in gaps], dtype=torch.double)


def _seeded(generator):
    made = []
    for n, d, s in ((5, 2, 1), (12, 3, 3), (30, 4, 6)):
        x = 2 * torch.randn(n, d, generator=generator)
        made.append((x, x[torch.randperm(n, generator=generator)[:s]]))
    x = torch.randn(10, 2, generator=generator)
    return [*made, (x, x[:2] + 0.3), (1e-3 * x, 1e-3 * x[3:6])]


def _share(gaps):
    return gaps / gaps.sum()


def _only_farthest(x, seeds):
    gaps = _squares(x, seeds).amin(dim=1)
    return F.one_hot(gaps.argmax(), len(x)).to(x)


_SEEDING = Exercise(
    library=seeding_probabilities,
    reference=_seeding_loop,
    inputs=_seeded,
    hints=(
        "How badly is each point served by the seeds there are? A point that is a seed is served perfectly.",
        "A point looks only at the seed nearest to it: a minimum over the seeds of the squared distance. Then make the "
        "N numbers sum to 1.",
        "gaps = (x[:, None] - seeds).square().sum(dim=2).amin(dim=1); gaps / gaps.sum().",
    ),
    misconceptions=(
        Misconception(
            "distance not squared",
            lambda x, s: _share(_squares(x, s).amin(dim=1).sqrt()),
            "Your chances grow with the distance. The inertia adds up squares, so a point three times as far away adds "
            "nine times as much to it: the D^2 of k-means++.",
        ),
        Misconception(
            "all seeds instead of the nearest",
            lambda x, s: _share(_squares(x, s).sum(dim=1)),
            "You added up the distances to all seeds. A point that sits on one seed and far from the others needs no "
            "second one: only its nearest seed counts.",
        ),
        Misconception(
            "distances to all seeds, not squared",
            lambda x, s: _share(_squares(x, s).sqrt().sum(dim=1)),
            "Two things: only the nearest seed counts for a point, and its distance is squared.",
        ),
        Misconception(
            "farthest seed",
            lambda x, s: _share(_squares(x, s).amax(dim=1)),
            "You took each point's distance to the seed that is farthest away. What the point will add to the inertia "
            "is its distance to the nearest.",
        ),
        Misconception(
            "last seed only",
            lambda x, s: _share(_squares(x, s[-1:])[:, 0]),
            "You looked at the last seed alone. The seeds before it serve points too.",
        ),
        Misconception(
            "middle of the seeds",
            lambda x, s: _share(_squares(x, s.mean(dim=0, keepdim=True))[:, 0]),
            "You measured from the mean of the seeds, where there may be none. Each point has a nearest seed.",
        ),
        Misconception(
            "always the farthest point",
            _only_farthest,
            "You put all of the chance on the point that is farthest away. One outlier then always becomes a seed: a "
            "draw that only favours far points forgives outliers.",
        ),
        Misconception(
            "every point alike",
            lambda x, s: torch.full((len(x),), 1 / len(x)),
            "Every point has the same chance in yours, whatever the seeds are. Then a large group gets several seeds "
            "and a small one none.",
        ),
        Misconception(
            "near points favoured",
            lambda x, s: _share(1 / _squares(x, s).amin(dim=1).clamp(min=1e-12)),
            "Near points have the largest chance in yours. A second seed is needed where no seed is near.",
        ),
        Misconception(
            "softmax of the gaps",
            lambda x, s: _squares(x, s).amin(dim=1).softmax(dim=0),
            "You took a softmax. It gives a chance to points that are seeds already, and it changes with the unit in "
            "which x is measured. Divide by the sum.",
        ),
        Misconception(
            "not divided by the sum",
            lambda x, s: _squares(x, s).amin(dim=1),
            "These are the squared distances themselves. As probabilities they have to sum to 1.",
        ),
        Misconception(
            "a column of chances for each seed",
            lambda x, s: _squares(x, s) / _squares(x, s).sum(dim=0),
            "You have one distribution for each seed. First each point finds its nearest seed, and one number a point "
            "is left.",
        ),
    ),
)

# ---- 11.3 back translation, and what a shift does to it --------------------------------------------------------------


def _translate_loop(features, labels, k):
    rows = []
    for group in range(k):
        mine = [h for h, label in zip(features, labels.tolist(), strict=True) if label == group]
        rows.append(sum(mine) / len(mine) if mine else torch.zeros_like(features[0]))
    return torch.stack(rows)


def _grouped(generator):
    """The second and the last have groups without items, the last one at the end."""
    made = []
    for n, d, k, length in ((6, 2, 2, 1.0), (9, 3, 12, 1.0), (30, 5, 4, 3.0)):
        h = length * F.normalize(torch.randn(n, d, generator=generator), dim=1)
        made.append((h, torch.randint(k, (n,), generator=generator), k))
    h = torch.randn(8, 4, generator=generator) * torch.arange(1, 9)[:, None] + 2
    return [*made, (h, torch.tensor([0, 2, 2, 0, 0, 2, 2, 2]), 4)]


def _from_means(change):
    """change(means, counts, features) of the right means."""
    return lambda h, y, k: change(*group_means(h, y, k), h)


_BACK_TRANSLATE = Exercise(
    library=back_translate,
    reference=_translate_loop,
    inputs=_grouped,
    hints=(
        "The labels come from the captions, the features from the pictures. Where is the middle of the pictures whose "
        "captions are in group k?",
        "One mean for each k from 0 to K - 1, also for a k that no label names: that row is zero. index_add_ or a loop "
        "over k with features[labels == k] both do it.",
        "sums = torch.zeros(k, D).index_add_(0, labels, features); counts = torch.bincount(labels, minlength=k); "
        "sums / counts.clamp(min=1)[:, None].",
    ),
    misconceptions=(
        Misconception(
            "sum instead of mean",
            _from_means(lambda means, counts, h: means * counts[:, None]),
            "Your rows are sums: a group counts by its size. As logits are dot products with these rows, large groups "
            "would win every choice.",
        ),
        Misconception(
            "divides by all items",
            _from_means(lambda means, counts, h: means * counts[:, None] / len(h)),
            "You divided by N. A mean divides by the members of the group, or a small group has a prototype near zero.",
        ),
        Misconception(
            "prototypes made unit vectors",
            _from_means(lambda means, counts, h: F.normalize(means, dim=1)),
            "You gave the prototypes length 1. The mean is taken as it is. Of unit vectors it is shorter than 1, by "
            "how much the group spreads, and a group that spreads should be the less certain answer.",
        ),
        Misconception(
            "features made unit vectors first",
            lambda h, y, k: group_means(F.normalize(h, dim=1), y, k)[0],
            "You made the features unit vectors. In this course a function takes vectors as they come, and the model "
            "normalises.",
        ),
        Misconception(
            "empty group becomes NaN",
            _from_means(lambda means, counts, h: torch.where(counts[:, None] > 0, means, math.nan)),
            "A group without items became NaN, and so will every logit's softmax. Its row is zero here: in a batch it "
            "is one wrong answer more, with score 0.",
        ),
        Misconception(
            "empty group becomes the mean of all",
            _from_means(lambda means, counts, h: torch.where(counts[:, None] > 0, means, h.mean(dim=0))),
            "A group without items got the mean of all items. Then it is a plausible answer for every one of them. Its "
            "row is zero.",
        ),
        Misconception(
            "empty groups left out",
            _from_means(lambda means, counts, h: means[counts > 0]),
            "You returned a row for each group that has items. Then row k is no longer group k, and the labels point "
            "at other groups than before. K rows are asked for.",
        ),
        Misconception(
            "as many groups as the largest label says",
            lambda h, y, k: group_means(h, y, int(y.max()) + 1)[0],
            "You made as many rows as the largest label says. Groups at the end may be empty too: K is given.",
        ),
        Misconception(
            "a row for each item",
            lambda h, y, k: group_means(h, y, k)[0][y],
            "You returned each item's own prototype, N rows. The table of prototypes has one row for each group.",
        ),
        Misconception(
            "one item of each group",
            lambda h, y, k: torch.stack(
                [h[y == g][-1] if bool((y == g).any()) else h.new_zeros(h.shape[1]) for g in range(k)]
            ),
            "You kept one item of each group: the last one that was written. An indexed assignment overwrites where an "
            "index repeats. Add up instead.",
        ),
        Misconception(
            "one member too many",
            _from_means(lambda means, counts, h: means * (counts / (counts + 1))[:, None]),
            "You divide by one more than there are members. To avoid 0 / 0 raise the count of empty groups only.",
        ),
    ),
)


def logit_change(prototypes: Tensor, shift: Tensor, logit_scale: float) -> Tensor:
    """What a shift of items and prototypes alike adds to the logits, up to a constant. (K, D), (D,), s -> (K,)"""
    return logit_scale * prototypes @ shift  # (K,)


def _change_loop(prototypes, shift, logit_scale):
    """By differences, for one item: any other item gives the same, up to a constant."""
    item = torch.arange(len(shift)).to(shift).cos()
    change = []
    for c in prototypes:
        before = sum(item[d] * c[d] for d in range(len(shift)))
        after = sum((item[d] + shift[d]) * (c[d] + shift[d]) for d in range(len(shift)))
        change.append(logit_scale * (after - before))
    return torch.stack(change)


def _shifted(generator):
    made = []
    for k, d, s in ((2, 2, 1.0), (5, 3, 14.3), (9, 6, 30.0)):
        made.append((torch.randn(k, d, generator=generator), torch.randn(d, generator=generator), s))
    C = torch.randn(4, 3, generator=generator) * torch.tensor([1.0, 1.0, 0.0]) + torch.tensor([0.0, 0.0, 0.7])
    return [*made, (C, torch.tensor([0.0, 0.0, 2.0]), 10.0), (C, torch.tensor([1.0, 0.0, 2.0]), 10.0)]


def _centred(found, prototypes, *_):
    """A constant on all logits is no change of a softmax."""
    found = torch.as_tensor(found)
    if found.shape != (len(prototypes),):
        return found
    wide = found.double()  # (K,) a large constant would leave its rounding
    return (wide - wide.mean()).to(found.dtype)


_LOGIT_CHANGE = Exercise(
    library=logit_change,
    reference=_change_loop,
    inputs=_shifted,
    view=_centred,
    hints=(
        "Multiply out (h + a) . (C_k + a). Which of the four terms are new, and which of the new ones know k?",
        "Three terms are new: h . a, a . C_k and a . a. A softmax over k does not see what is the same for all k.",
        "a . C_k is left, for all k at once prototypes @ shift, and it is multiplied by the scale like every logit.",
    ),
    misconceptions=(
        Misconception(
            "drops out altogether",
            lambda C, a, s: torch.zeros(len(C)),
            "What you return is the same for all prototypes, so the choice would not change at all. The terms h . a "
            "and a . a are indeed constants of the softmax. One new term is not: it knows k.",
        ),
        Misconception(
            "counted twice",
            lambda C, a, s: 2 * s * C @ a,
            "Twice too much. That would be the change of |C_k|^2. Here one side of the product is the item, and h . a "
            "does not know k.",
        ),
        Misconception(
            "scale left out",
            lambda C, a, s: C @ a,
            "You have the dot products. A logit is s times that.",
        ),
        Misconception(
            "divides by the scale",
            lambda C, a, s: C @ a / s,
            "You divided by the scale. It multiplies: it is one over a temperature.",
        ),
        Misconception(
            "other sign",
            lambda C, a, s: -s * C @ a,
            "The sign is turned: prototypes that lie in the direction of the shift gain by it.",
        ),
        Misconception(
            "directions only",
            lambda C, a, s: s * F.normalize(C, dim=1) @ a,
            "You made the prototypes unit vectors. They are taken as they are, and a short one gains less.",
        ),
        Misconception(
            "unit shift",
            lambda C, a, s: s * C @ F.normalize(a, dim=0),
            "You made the shift a unit vector. A gap twice as wide does twice as much.",
        ),
        Misconception(
            "squared once more",
            lambda C, a, s: s**2 * C @ a,
            "The scale stands in the logits once, not squared.",
        ),
        Misconception(
            "distances",
            lambda C, a, s: -s * (C - a).square().sum(dim=1),
            "You compared distances between prototypes and shift. The logits are dot products: multiply out.",
        ),
        Misconception(
            "one number for each coordinate",
            lambda C, a, s: s * C * a,
            "You have the D summands of each dot product. Add them up: one number a prototype.",
        ),
        Misconception(
            "one number for all",
            lambda C, a, s: (s * C @ a).sum(),
            "One number is a constant, which no softmax sees. Each of the K logits changes by its own amount.",
        ),
    ),
)

# ---- 11.4 soft targets -----------------------------------------------------------------------------------------------


def _targets_loop(centroids, labels, temperature):
    rows = []
    for y in labels.tolist():
        scores = [sum(a * b for a, b in zip(centroids[y], c, strict=True)) / temperature for c in centroids]
        top = max(scores)
        weights = [(s - top).exp() for s in scores]
        rows.append(torch.stack([w / sum(weights) for w in weights]))
    return torch.stack(rows)


def _teachers(generator):
    """Centroids of many lengths; the last ones so far apart in their products that a plain exponential overflows."""
    made = []
    for k, d, b, tau in ((2, 2, 3, 1.0), (4, 3, 10, 0.3), (7, 5, 12, 0.05)):
        lengths = 0.2 + 0.7 * torch.rand(k, 1, generator=generator)
        C = lengths * F.normalize(torch.randn(k, d, generator=generator), dim=1)
        made.append((C, torch.randint(k, (b,), generator=generator), tau))
    square = F.normalize(torch.randn(5, 4, generator=generator), dim=1)
    return [*made, (0.8 * square, torch.randperm(5, generator=generator), 0.1), (3 * square, torch.arange(5), 0.01)]


def _scores(C, y):
    return C[y] @ C.T


def _plain_exponentials(C, y, tau):
    weights = (_scores(C, y) / tau).exp()
    return weights / weights.sum(dim=1, keepdim=True)


_SOFT_TARGETS = Exercise(
    library=soft_targets,
    reference=_targets_loop,
    inputs=_teachers,
    hints=(
        "Start from the centroid of each item's own group. How like it are the K centroids?",
        "centroids[labels] is (B, D), one row an item. Against all K that makes (B, K) scores; a softmax over K turns "
        "them into shares. A small temperature makes them sharp.",
        "(centroids[labels] @ centroids.T / temperature).softmax(dim=1).",
    ),
    misconceptions=(
        Misconception(
            "centroids made unit vectors",
            lambda C, y, t: soft_targets(F.normalize(C, dim=1), y, t),
            "You made the centroids unit vectors. It is a fair idea, and the own group would always come first. But "
            "the released code takes them as they are, and what follows from that is the point of this exercise.",
        ),
        Misconception(
            "one of the two made a unit vector",
            lambda C, y, t: (F.normalize(C, dim=1)[y] @ C.T / t).softmax(dim=1),
            "The item's own centroid has length 1 in yours. Both stand in the product as they are.",
        ),
        Misconception(
            "softmax over the items",
            lambda C, y, t: (_scores(C, y) / t).softmax(dim=0),
            "Your columns sum to 1. Each item distributes its own weight over the K groups: the rows have to.",
        ),
        Misconception(
            "temperature multiplied",
            lambda C, y, t: (_scores(C, y) * t).softmax(dim=1),
            "You multiplied by the temperature. A small one should make the shares sharp, yours makes them even.",
        ),
        Misconception(
            "temperature left out",
            lambda C, y, t: _scores(C, y).softmax(dim=1),
            "Yours does not depend on the temperature. Dot products of centroids lie in [-1, 1], and without it nearly "
            "all groups count alike.",
        ),
        Misconception(
            "one-hot",
            lambda C, y, t: F.one_hot(y, len(C)).to(C),
            "These are hard labels. They say that every other group is equally wrong, a tabby cat as far from a "
            "Siamese as from a lorry. Here neighbours count too.",
        ),
        Misconception(
            "the winner takes all",
            lambda C, y, t: F.one_hot(_scores(C, y).argmax(dim=1), len(C)).to(C),
            "You kept the largest score only. The softmax shares the weight out.",
        ),
        Misconception(
            "distances instead of products",
            lambda C, y, t: (-_squares(C[y], C) / t).softmax(dim=1),
            "You took squared distances. They differ from the products: a distance is 0 to the own group, always the "
            "best, while a product rewards length.",
        ),
        Misconception(
            "half distances instead of products",
            lambda C, y, t: (-_squares(C[y], C) / (2 * t)).softmax(dim=1),
            "Half of a squared distance is a product less half of |C_k|^2, and that term knows k. The formula has the "
            "product alone.",
        ),
        Misconception(
            "own group left out",
            lambda C, y, t: (_scores(C, y) / t).masked_fill(F.one_hot(y, len(C)).bool(), -math.inf).softmax(dim=1),
            "Your targets give nothing to the item's own group. It is one of the K.",
        ),
        Misconception(
            "a row for each group",
            lambda C, y, t: (C @ C.T / t).softmax(dim=1),
            "You have one row for each group. The items are asked for: each takes the row of its group.",
        ),
        Misconception(
            "logarithms",
            lambda C, y, t: (_scores(C, y) / t).log_softmax(dim=1),
            "These are logarithms, which sum to no 1. The targets are the shares themselves.",
        ),
        Misconception(
            "shares not normalised",
            lambda C, y, t: (_scores(C, y) / t).exp(),
            "Your rows do not sum to 1: the exponentials are there, the division by their sum is missing.",
        ),
        Misconception(
            "plain exponentials",
            _plain_exponentials,
            "Right, until a score is above 88: at a temperature of 0.01 a product of 0.9 already is, and e^90 is no "
            "float32. A softmax subtracts the largest score first.",
        ),
    ),
)

# ---- 11.5 the loss ---------------------------------------------------------------------------------------------------


def _proto_loop(features, prototypes, targets, logit_scale):
    total = torch.zeros(())
    for i in range(len(features)):
        scores = [logit_scale * (features[i] * c).sum() for c in prototypes]
        top = max(float(s.detach()) for s in scores)
        normaliser = top + sum((s - top).exp() for s in scores).log()
        for k in range(len(prototypes)):
            total = total - targets[i, k] * (scores[k] - normaliser)
    return total / len(features)


def _choices(generator):
    made = []
    for b, k, d, s in ((1, 3, 2, 1.0), (6, 4, 3, 14.3), (9, 5, 6, 5.0), (4, 12, 5, 20.0)):
        h = (1.7 if b == 9 else 1.0) * F.normalize(torch.randn(b, d, generator=generator), dim=1)
        C = 0.7 * torch.rand(k, 1, generator=generator) * F.normalize(torch.randn(k, d, generator=generator), dim=1)
        made.append((h, C, torch.randn(b, k, generator=generator).softmax(dim=1), torch.tensor(s)))
    h = F.normalize(torch.randn(3, 4, generator=generator), dim=1)
    hard = torch.eye(3)  # each item's own prototype is opposite: e^-200 is 0 in float32
    return [*made, (h, -h, hard, torch.tensor(100.0))]


def _logits(h, C, s):
    return s * h @ C.T


def _entropy(q):
    return -torch.special.xlogy(q, q).sum(dim=1).mean()


def _hard(q):
    return q.argmax(dim=1)


_PROTOTYPE_LOSS = Exercise(
    library=prototype_loss,
    reference=_proto_loop,
    inputs=_choices,
    gradients=("features", "logit_scale"),
    hints=(
        "Each item chooses among K prototypes, so make the table of B x K logits. How surprised is q by that choice?",
        "log_softmax over the K prototypes, weighted by q and summed over K; minus the mean of that over the B items.",
        "log_p = (logit_scale * features @ prototypes.T).log_softmax(dim=1); -(targets * log_p).sum(dim=1).mean().",
    ),
    misconceptions=(
        Misconception(
            "hardest group only",
            lambda h, C, q, s: F.cross_entropy(_logits(h, C, s), _hard(q)),
            "You reduced the targets to their largest entry. The others are the reason why they are soft: each group "
            "counts by its share.",
        ),
        Misconception(
            "mean over the groups too",
            lambda h, C, q, s: prototype_loss(h, C, q, s) / len(C),
            "You took the mean over all B x K entries. The shares q are the weights of a mean over the groups already: "
            "sum over K, mean over B. Otherwise the loss would fall with K.",
        ),
        Misconception(
            "sum instead of mean",
            lambda h, C, q, s: len(h) * prototype_loss(h, C, q, s),
            "Your loss grows with the batch. It is a mean over the items, so that log K always means a guesser.",
        ),
        Misconception(
            "softmax over the items",
            lambda h, C, q, s: -(q * _logits(h, C, s).log_softmax(dim=0)).sum(dim=1).mean(),
            "In yours each prototype chooses among the items of the batch. An item chooses its group among all K: the "
            "softmax runs along its row.",
        ),
        Misconception(
            "divides by the scale",
            lambda h, C, q, s: prototype_loss(h, C, q, 1 / s),
            "A larger scale should make the choice sharper, yours makes it softer. It is one over the temperature.",
        ),
        Misconception(
            "scale left out",
            lambda h, C, q, s: prototype_loss(h, C, q, 1.0),
            "Your loss ignores logit_scale. Prototypes are short, and without a scale the choice stays nearly even.",
        ),
        Misconception(
            "the pairs' starting scale",
            lambda h, C, q, s: prototype_loss(h, C, q, 1 / 0.07),
            "You wrote 1 / 0.07 into the loss. That is where both scales start. This one is learned apart from the "
            "pairs' scale, because prototypes are shorter than captions, and it comes as an argument.",
        ),
        Misconception(
            "scale detached",
            lambda h, C, q, s: prototype_loss(h, C, q, s.detach() if isinstance(s, Tensor) else s),
            "The value is right, but no gradient reaches the scale. It is learned: float(), item() or detach() cut it.",
        ),
        Misconception(
            "features detached",
            lambda h, C, q, s: prototype_loss(h.detach(), C, q, s),
            "The value is right, but no gradient reaches the features. Prototypes and targets are constants of an "
            "episode; the features are what learns.",
        ),
        Misconception(
            "prototypes made unit vectors",
            lambda h, C, q, s: prototype_loss(h, F.normalize(C, dim=1), q, s),
            "You made the prototypes unit vectors. They are taken as they are: short where a group is wide.",
        ),
        Misconception(
            "features made unit vectors again",
            lambda h, C, q, s: prototype_loss(F.normalize(h, dim=1), C, q, s),
            "The features come with the length they have. In this course the model normalises, not the loss.",
        ),
        Misconception(
            "entropy of the targets subtracted",
            lambda h, C, q, s: prototype_loss(h, C, q, s) - _entropy(q),
            "This is the Kullback-Leibler divergence. Its gradient is the same, its floor is 0. The cross-entropy is "
            "asked for, which does not fall below the entropy of q.",
        ),
        Misconception(
            "the other way round",
            lambda h, C, q, s: -(_logits(h, C, s).softmax(dim=1) * q.clamp(min=1e-12).log()).sum(dim=1).mean(),
            "You have the logarithm of the targets, weighted by the model. The targets are the weights: what q expects "
            "is the logarithm of what the model says.",
        ),
        Misconception(
            "the logits themselves",
            lambda h, C, q, s: -(q * _logits(h, C, s)).sum(dim=1).mean(),
            "There is no softmax in yours, so it falls without end as the features grow. The denominator is what makes "
            "the groups compete.",
        ),
        Misconception(
            "yes or no for each group",
            lambda h, C, q, s: F.binary_cross_entropy_with_logits(_logits(h, C, s), q, reduction="sum") / len(h),
            "You asked K separate questions, as a sigmoid loss does. Here an item has one choice among K.",
        ),
        Misconception(
            "squared error",
            lambda h, C, q, s: (_logits(h, C, s).softmax(dim=1) - q).square().sum(dim=1).mean(),
            "You squared the difference of two distributions. A confident mistake then costs at most 2. The logarithm "
            "makes it cost as much as it surprises.",
        ),
        Misconception(
            "log of softmax",
            lambda h, C, q, s: -(q * _logits(h, C, s).softmax(dim=1).log()).sum(dim=1).mean(),
            "Right, until a logit is far below the others: its softmax is 0 in float32, and log 0 is minus infinity. "
            "One function takes both steps and never forms the small number.",
        ),
    ),
)

# ---- 11.6 what the loss feels ----------------------------------------------------------------------------------------

# Order of the answers: teacher shifted, teacher turned, teacher stretched, student shifted.

_FEELS_UNTRANSLATED = Prediction(
    answer=(False, True, True, True),
    hints=(
        "Write the logit of item i and group k, s h . C_k, and put in what has changed. Is the change the same for all "
        "k? Then the softmax does not see it.",
        "Teacher shifted: h . (C_k + a) = h . C_k + h . a. Student shifted: (h + a) . C_k = h . C_k + a . C_k. "
        "Which of the two new terms knows k?",
        "A turn and a stretch of the teacher change the products h . C_k themselves. Of the two shifts one is a "
        "constant of the softmax.",
    ),
    misconceptions=(
        Misconception(
            "a gap is felt at once",
            (True, True, True, True),
            "It looks as if a teacher farther away had to pull the student over. Multiply out h . (C_k + a): what does "
            "the shift add to the K logits of one item?",
        ),
        Misconception(
            "no shift is felt",
            (False, True, True, False),
            "The two shifts are not alike. A shift of the prototypes adds h . a to all K logits of an item. What does "
            "a shift of the item add to the logit of group k?",
        ),
        Misconception(
            "the shifts the other way round",
            (True, True, True, False),
            "The two shifts are exchanged. h . a does not know k; a . C_k does.",
        ),
        Misconception(
            "nothing is felt",
            (False, False, False, False),
            "That would be so if only the labels of the teacher were used. Without translation its centroids stand in "
            "the logits, and turned ones point elsewhere.",
        ),
        Misconception(
            "only the student is felt",
            (False, False, False, True),
            "This is the row with translation. Without it the teacher's centroids are what the student is compared "
            "with.",
        ),
        Misconception(
            "a stretch is not felt",
            (False, True, False, True),
            "Twice as long centroids make logits twice as large: a sharper softmax, and another loss.",
        ),
    ),
)

_FEELS_TRANSLATED = Prediction(
    answer=(False, False, False, True),
    hints=(
        "Of the teacher, back translation uses the labels and nothing else. Which of the changes alter the labels?",
        "K-means compares distances. A shift and a turn leave all of them as they are, a stretch multiplies them by "
        "one number.",
        "For the shift of the student look at 11.3: features and prototypes move together, and one term is left.",
    ),
    misconceptions=(
        Misconception(
            "nothing is felt",
            (False, False, False, False),
            "Right for the teacher. For the student 11.3 left one term: a . C_k, which knows k.",
        ),
        Misconception(
            "as without translation",
            (False, True, True, True),
            "This is the row without translation. Translated, the prototypes are means of the student's own features: "
            "of the teacher only the labels are left.",
        ),
        Misconception(
            "a stretch is felt",
            (False, False, True, True),
            "Stretched, all distances grow by one factor, and the nearest centroid stays the nearest. The labels do "
            "not change.",
        ),
        Misconception(
            "a turn is felt",
            (False, True, False, True),
            "A turn leaves all distances as they are, so the labels too. The turned centroids stand nowhere in the "
            "translated loss.",
        ),
        Misconception(
            "everything is felt",
            (True, True, True, True),
            "Only what alters the teacher's labels can be felt of the teacher. Which of the three does?",
        ),
        Misconception(
            "the teacher's shift is felt",
            (True, False, False, True),
            "A shift leaves all distances as they are, so the labels too.",
        ),
    ),
)

_TARGETS_FEEL = Prediction(
    answer=(True, False, True, False),
    hints=(
        "The targets are made of products C_y . C_k of the teacher with itself. Whose position stands in them twice?",
        "(C_y + a) . (C_k + a): of the three new terms one knows k. And a turn leaves products of two turned vectors "
        "as they were.",
        "A shift is felt through a . C_k, a turn is not, a stretch by 2 acts like a quarter of the temperature. The "
        "student is not in the formula.",
    ),
    misconceptions=(
        Misconception(
            "a shift cancels",
            (False, False, True, False),
            "A shift would cancel between distances. The targets are made of products, and (C_y + a) . (C_k + a) has "
            "a term a . C_k.",
        ),
        Misconception(
            "a turn is felt",
            (True, True, True, False),
            "Both vectors of each product are turned, and the angle between them stays.",
        ),
        Misconception(
            "the student is felt",
            (True, False, True, True),
            "The targets are the teacher's alone. No feature of the student is in them.",
        ),
        Misconception(
            "a stretch is not felt",
            (True, False, False, False),
            "Twice as long centroids make products four times as large, which sharpens the targets as a smaller "
            "temperature would.",
        ),
        Misconception(
            "nothing is felt",
            (False, False, False, False),
            "So it is with hard labels. Soft targets are made of the centroids themselves, and two of the changes "
            "alter their products.",
        ),
        Misconception(
            "as the loss without translation",
            (False, True, True, True),
            "This is what the logits feel without translation. In the targets both vectors of a product are the "
            "teacher's.",
        ),
    ),
)

# ---- 11.7 the gap ----------------------------------------------------------------------------------------------------


def modality_gap(image: Tensor, text: Tensor) -> Tensor:
    """Distance of the two means. (N, D), (M, D) -> scalar"""
    return (image.mean(dim=0) - text.mean(dim=0)).norm()


def _gap_loop(image, text):
    total = torch.zeros(())
    for d in range(image.shape[1]):
        total = total + (sum(v[d] for v in image) / len(image) - sum(t[d] for t in text) / len(text)) ** 2
    return total.sqrt()


def _two_sides(generator):
    """Pairs, and in the last two other numbers of captions than of pictures, and of other lengths."""
    made = []
    for n, m, d in ((4, 4, 2), (20, 20, 6), (9, 9, 9), (5, 12, 3), (30, 7, 5)):
        v, t = torch.randn(n, d, generator=generator) + 0.8, torch.randn(m, d, generator=generator) - 0.3
        made.append((F.normalize(v, dim=1), (1 if n == m else 2) * F.normalize(t, dim=1)))
    return made


_MODALITY_GAP = Exercise(
    library=modality_gap,
    reference=_gap_loop,
    inputs=_two_sides,
    hints=(
        "Each modality is a cloud. How far is the middle of one from the middle of the other?",
        "Means over the items, (D,) each. Then the length of their difference, squares and root.",
        "(image.mean(dim=0) - text.mean(dim=0)).norm().",
    ),
    misconceptions=(
        Misconception(
            "mean distance of the pairs",
            lambda v, t: (v - t).norm(dim=1).mean(),
            "You averaged the distances of pairs. That grows with the spread of the clouds: two clouds in one place, "
            "with the pairs shuffled, would have a gap. Nor need there be pairs. Average first, then measure.",
        ),
        Misconception(
            "root of the mean squared distance",
            lambda v, t: (v - t).square().sum(dim=1).mean().sqrt(),
            "You averaged squared distances of pairs. They hold the spread of both clouds as well. Average the clouds "
            "first, then measure.",
        ),
        Misconception(
            "distances of all with all",
            lambda v, t: (v[:, None] - t).norm(dim=2).mean(),
            "You averaged the distances of all with all. Two clouds in one place are not at distance 0 by that. "
            "Average first, then measure.",
        ),
        Misconception(
            "one minus the cosine of the pairs",
            lambda v, t: 1 - F.cosine_similarity(v, t, dim=1).mean(),
            "You measured how well the pairs agree, which is alignment. A gap needs no pairs: it is between middles.",
        ),
        Misconception(
            "features made unit vectors first",
            lambda v, t: modality_gap(F.normalize(v, dim=1), F.normalize(t, dim=1)),
            "You made the features unit vectors. Where they should be, the model has done it: a measure takes vectors "
            "as they come.",
        ),
        Misconception(
            "squared",
            lambda v, t: modality_gap(v, t).square(),
            "This is the square of the gap: a root is missing.",
        ),
        Misconception(
            "a gap for each coordinate",
            lambda v, t: v.mean(dim=0) - t.mean(dim=0),
            "This is the vector from one middle to the other. Its length is asked for.",
        ),
        Misconception(
            "absolute values",
            lambda v, t: (v.mean(dim=0) - t.mean(dim=0)).abs().sum(),
            "You added up absolute values. A length takes squares and a root, and no turn of the axes changes it.",
        ),
        Misconception(
            "mean over the coordinates",
            lambda v, t: (v.mean(dim=0) - t.mean(dim=0)).square().mean().sqrt(),
            "You averaged over the D coordinates. A length sums their squares.",
        ),
        Misconception(
            "difference of the lengths",
            lambda v, t: (v.mean(dim=0).norm() - t.mean(dim=0).norm()).abs(),
            "You compared how long the two means are. Means of one length can lie in opposite places: take the length "
            "of the difference.",
        ),
        Misconception(
            "directions of the means",
            lambda v, t: (F.normalize(v.mean(dim=0), dim=0) - F.normalize(t.mean(dim=0), dim=0)).norm(),
            "You made the means unit vectors. A cloud all round the sphere has its mean near 0, and its direction is "
            "then chance.",
        ),
        Misconception(
            "sums instead of means",
            lambda v, t: (v.sum(dim=0) - t.sum(dim=0)).norm(),
            "You added the items up. Your gap grows with their number.",
        ),
        Misconception(
            "one mean for each item",
            lambda v, t: (v.mean(dim=1).mean() - t.mean(dim=1).mean()).abs(),
            "You averaged over the coordinates of each item. A mean point averages over the items, coordinate by "
            "coordinate.",
        ),
    ),
)

# ---- 11.8 do two clusterings agree? ----------------------------------------------------------------------------------


def nmi(a: Tensor, b: Tensor) -> Tensor:
    """Mutual information over the mean of the two entropies. (N,), (N,) int64 -> scalar in [0, 1]"""
    p = _table(a, b) / len(a)  # (R, C)
    return _information(p) / ((_nats(p.sum(dim=1)) + _nats(p.sum(dim=0))) / 2)


def _table(a, b):
    cells = a * (int(b.max()) + 1) + b  # (N,)
    width, height = int(b.max()) + 1, int(a.max()) + 1
    return torch.bincount(cells, minlength=width * height).view(height, width).double()  # (R, C)


def _nats(p):
    return -torch.special.xlogy(p, p).sum()


def _information(p):
    return _nats(p.sum(dim=1)) + _nats(p.sum(dim=0)) - _nats(p)


def _nmi_loop(a, b):
    n, rows, columns = len(a), Counter(a.tolist()), Counter(b.tolist())
    cells = Counter(zip(a.tolist(), b.tolist(), strict=True))
    shared = sum(c / n * math.log(n * c / (rows[i] * columns[j])) for (i, j), c in cells.items())
    of_a = sum(c / n * math.log(n / c) for c in rows.values())
    of_b = sum(c / n * math.log(n / c) for c in columns.values())
    return shared / ((of_a + of_b) / 2)


def _clusterings(generator):
    """Half of each agrees, with cells that stay empty; one repeats its groups under other names, one has one group."""
    made = []
    for n, r, c in ((12, 2, 3), (40, 4, 4), (100, 5, 9), (200, 7, 3)):
        a = torch.randint(r, (n,), generator=generator)
        b = torch.where(torch.rand(n, generator=generator) < 0.6, a % c, torch.randint(c, (n,), generator=generator))
        made.append((a, b))
    a = made[1][0]
    return [*made, (a, torch.randperm(4, generator=generator)[a]), (a, torch.zeros_like(a))]


def _renamed(a, b):
    return int(a.max()) - a, b


def _scored(change):
    """change(joint (R, C), entropy of a, entropy of b, their mutual information)."""

    def score(a, b):
        p = _table(a, b) / len(a)
        return change(p, _nats(p.sum(dim=1)), _nats(p.sum(dim=0)), _information(p))

    return score


def _log_of_nothing(p, h_a, h_b, shared):
    independent = p.sum(dim=1, keepdim=True) * p.sum(dim=0)
    return (p * (p / independent).log()).sum() / ((h_a + h_b) / 2)


_NMI = Exercise(
    library=nmi,
    reference=_nmi_loop,
    inputs=_clusterings,
    invariances=(
        Invariance(
            "names of groups count",
            _renamed,
            "Your number changes when the groups get other names. A clustering is who is with whom, and the numbers "
            "are only names.",
        ),
    ),
    hints=(
        "Make the table first: how many items are in group r of the one and in group c of the other? Divided by N it "
        "is a joint distribution.",
        "I = H(a) + H(b) - H(a, b), three entropies: of the row sums, of the column sums, of the whole table. An empty "
        "cell adds 0. Divide by the mean of H(a) and H(b).",
        "p = torch.zeros(R, C); p.index_put_((a, b), torch.ones(N) / N, accumulate=True); "
        "H = lambda p: -torch.special.xlogy(p, p).sum().",
    ),
    misconceptions=(
        Misconception(
            "compares the numbers",
            lambda a, b: (a == b).double().mean(),
            "You counted items whose two numbers are equal. The numbers are names: the same groups under other names "
            "would score 0.",
        ),
        Misconception(
            "mutual information in nats",
            _scored(lambda p, h_a, h_b, shared: shared),
            "This is the mutual information itself, in nats. A clustering into 4 groups of one size has log 4 with "
            "itself, one into 40 has log 40. Normalised, both have 1.",
        ),
        Misconception(
            "sum of the entropies",
            _scored(lambda p, h_a, h_b, shared: shared / (h_a + h_b)),
            "Equal clusterings get one half in yours: I = H(a) = H(b) there. Divide by the mean of the two entropies, "
            "not by their sum.",
        ),
        Misconception(
            "joint entropy",
            _scored(lambda p, h_a, h_b, shared: shared / _nats(p)),
            "You divided by the joint entropy. That is another measure, also from 0 to 1, and below this one. Here the "
            "mean of the two entropies is asked for.",
        ),
        Misconception(
            "geometric mean",
            _scored(lambda p, h_a, h_b, shared: shared / (h_a * h_b).sqrt()),
            "You took the geometric mean of the entropies, and a clustering with one group gives 0 / 0. The arithmetic "
            "mean is asked for, scikit-learn's default.",
        ),
        Misconception(
            "larger entropy",
            _scored(lambda p, h_a, h_b, shared: shared / torch.maximum(h_a, h_b)),
            "You divided by the larger of the two entropies. Their mean is asked for.",
        ),
        Misconception(
            "smaller entropy",
            _scored(lambda p, h_a, h_b, shared: shared / torch.minimum(h_a, h_b)),
            "You divided by the smaller of the two entropies: then every item in a group of its own scores 1, and one "
            "group for all gives 0 / 0. Their mean is asked for.",
        ),
        Misconception(
            "entropy of the first",
            _scored(lambda p, h_a, h_b, shared: shared / h_a),
            "You divided by the entropy of the first clustering alone. Then splitting the second one into single items "
            "scores 1. The measure is symmetric.",
        ),
        Misconception(
            "entropy of the second",
            _scored(lambda p, h_a, h_b, shared: shared / h_b),
            "You divided by the entropy of the second clustering alone. The measure is symmetric: both entropies "
            "count, and one of them may be 0.",
        ),
        Misconception(
            "purity",
            _scored(lambda p, h_a, h_b, shared: p.amax(dim=1).sum()),
            "This is purity: the share of items in the largest cell of their row. It is never 0, and it is 1 as soon "
            "as every item is a group of its own.",
        ),
        Misconception(
            "logarithm of an empty cell",
            _scored(_log_of_nothing),
            "A cell without items gave 0 log 0, which is NaN in floating point. In the limit it is 0: such a cell adds "
            "nothing.",
        ),
        Misconception(
            "a distance",
            _scored(lambda p, h_a, h_b, shared: 1 - shared / ((h_a + h_b) / 2)),
            "Yours is 0 where the two agree: you have one minus the measure, a distance.",
        ),
    ),
)

EXERCISES: dict[str, Exercise | Prediction] = {
    "lloyd_step": _LLOYD,
    "seeding_probabilities": _SEEDING,
    "back_translate": _BACK_TRANSLATE,
    "logit_change": _LOGIT_CHANGE,
    "soft_targets": _SOFT_TARGETS,
    "prototype_loss": _PROTOTYPE_LOSS,
    "feels_untranslated": _FEELS_UNTRANSLATED,
    "feels_translated": _FEELS_TRANSLATED,
    "targets_feel": _TARGETS_FEEL,
    "modality_gap": _MODALITY_GAP,
    "nmi": _NMI,
}
