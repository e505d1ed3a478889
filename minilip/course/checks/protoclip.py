"""Exercises of lesson 11: references, misconceptions and hints."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from minilip.protoclip import back_translate, prototype_loss, soft_targets
from minilip.protoclip.clustering import group_means

from . import _slips as slips
from ._exercise import Exercise, Invariance, Misconception, Prediction, Slip
from ._inputs import far_rows, unit

LESSON = "11_protoclip"


def _after(change):
    """A mistake made of the right result and the arguments: change(result, *arguments)."""
    return Slip(lambda right: lambda *args: change(right(*args), *args))


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


def _cloud(generator, n, d, k):
    return torch.randn(n, d, generator=generator), torch.randn(k, d, generator=generator)


def _clouds(generator):
    """Of several sizes; the last two with centroids that no point is near."""
    made = [_cloud(generator, *shape) for shape in ((6, 2, 2), (20, 5, 3), (5, 3, 1), (12, 2, 4), (24, 3, 5))]
    made[3][1][2] = 30.0
    made[4][1][0], made[4][1][4] = -20.0, 50.0
    return made


def _far_clouds(generator):
    return [tuple(1e4 + part for part in _cloud(generator, n, 2, 3)) for n in (20, 60)]


def _labelled(labels_of):
    """A step whose labels come from another rule."""

    def step(x, centroids):
        labels = labels_of(x, centroids)
        return labels, _moved(x, centroids, labels)

    return step


def _placed(place):
    """A step whose occupied centroids are place(means, counts (K, 1), centroids)."""

    def step(x, centroids):
        labels = lloyd_step(x, centroids)[0]
        means, counts = group_means(x, labels, len(centroids))
        return labels, torch.where(counts[:, None] > 0, place(means, counts[:, None], centroids), centroids)

    return step


def _lonely(place):
    """A step whose centroids without points are place(x)."""

    def step(result, x, centroids):
        labels, moved = result
        counts = torch.bincount(labels, minlength=len(centroids))
        return labels, torch.where(counts[:, None] > 0, moved, place(x))

    return _after(step)


def _settle(x, centroids):
    for _ in range(30):
        labels, centroids = lloyd_step(x, centroids)
    return labels, centroids


def _medoids(x, centroids):
    nearest = _squares(x, centroids).argmin(dim=0)  # (K,)
    return nearest, x[nearest]


def _labelled_afterwards(x, centroids):
    moved = lloyd_step(x, centroids)[1]
    return lloyd_step(x, moved)[0], moved


def _expanded(x, centroids):
    return (x * x).sum(dim=1)[:, None] - 2 * x @ centroids.T + (centroids * centroids).sum(dim=1)  # (N, K)


def _from_the_middle(x, centroids):
    return _expanded(x - x.mean(dim=0), centroids - x.mean(dim=0)).argmin(dim=1)


_LLOYD = Exercise(
    library=lloyd_step, reference=_step_loop, inputs=_clouds, extreme=_far_clouds,
    stability="Far from the origin |x|^2 - 2xc + |c|^2 is a small difference of large numbers, and float32 keeps 7 "
    "digits of each; torch.cdist computes it so beyond 25 points. Subtract before you square.",
    right=(_labelled(_from_the_middle),
           _labelled(lambda x, c: torch.stack([(x - mean).norm(dim=1) for mean in c]).argmin(0))),
    naive=(_labelled(lambda x, c: _expanded(x, c).argmin(dim=1)),
           _labelled(lambda x, c: torch.cdist(x, c).argmin(dim=1)),
           _labelled(lambda x, c: (2 * x @ c.T - c.square().sum(dim=1)).argmax(dim=1))),
    hints=("Each point: which centroid is nearest? Then each centroid: where is the middle of its points?",
           "x[:, None] - centroids is (N, K, D). Of an empty set the mean is NaN, so ask first.",
           "labels = (x[:, None] - centroids).square().sum(dim=2).argmin(dim=1); moved = centroids.clone(); "
           "for k in labels.unique(): moved[k] = x[labels == k].mean(dim=0)."),
    misconceptions=(
        Misconception("largest dot product", _labelled(lambda x, c: (x @ c.T).argmax(dim=1)),
            "The largest dot product favours long centroids: in |x - c|^2 the term |c|^2 counts too."),
        Misconception("largest cosine", _labelled(lambda x, c: F.cosine_similarity(x[:, None], c, dim=2).argmax(1)),
            "You compared directions. K-means compares places, and a cosine does not see how far out a centroid is."),
        Misconception("absolute distances", _labelled(lambda x, c: (x[:, None] - c).abs().sum(dim=2).argmin(dim=1)),
            "You added up absolute differences. The inertia adds up squares, and the mean belongs to them."),
        Misconception("farthest centroid", _labelled(lambda x, c: _squares(x, c).argmax(dim=1)),
            "Each point went to the centroid that is farthest away. A distance is searched for its smallest value."),
        Misconception("each centroid asks for its nearest point", _medoids,
            "This is the wrong axis of the (N, K) table: each point has to find a centroid, N answers in all."),
        Misconception("empty group becomes zero", _lonely(lambda x: 0.0),
            "A centroid that no point chose went to 0. Here it stays.", says=lambda step, *_: not step[1].all()),
        Misconception("empty group becomes NaN", _lonely(lambda x: math.nan),
            "A centroid that no point chose became NaN. Here it stays.", says=lambda step, *_: step[1].isnan().any()),
        Misconception("empty group jumps to the middle", _lonely(lambda x: x.mean(dim=0)),
            "A centroid that no point chose went to the mean of all points. Here it stays where it is."),
        Misconception("sum instead of mean", _placed(lambda means, counts, c: means * counts),
            "Your centroids are sums: a group of ten has a centroid ten times too far out. Divide by the members."),
        Misconception("divides by all points", lambda x, c: _placed(lambda m, n, _: m * n / len(x))(x, c),
            "You divided by N. A group's mean divides by the number of its own members."),
        Misconception("centroids made unit vectors", _placed(lambda means, counts, c: F.normalize(means, dim=1)),
            "You gave the centroids length 1: spherical k-means. The mean of a group is best wherever it lies."),
        Misconception("halfway", _placed(lambda means, counts, c: (means + c) / 2),
            "Your centroids go half of the way. A whole step is allowed: the mean is the best place for these labels."),
        Misconception("assigns and does not move", lambda x, c: (lloyd_step(x, c)[0], c.clone()),
            "The labels are right, and the centroids have not moved. The second half of the step is theirs."),
        Misconception("labels after the move", _labelled_afterwards,
            "Your labels belong to the moved centroids. Return those that the move was made with: assign, then move."),
        Misconception("many steps", _settle,
            "You went on until nothing changed. One step is asked for: the way down is what we look at next."),
        Misconception("centroids first", slips.then(lambda step: step[::-1]),
            "You return the centroids first. The labels come first: the order of the docstring."),
    ),
)  # fmt: skip

# ---- 11.2 where to start ---------------------------------------------------------------------------------------------


def seeding_probabilities(x: Tensor, seeds: Tensor) -> Tensor:
    """Chance of each point to be the next seed, by its squared distance to the nearest one. (N, D), (S, D) -> (N,)"""
    gaps = _squares(x, seeds).amin(dim=1)  # (N,)
    return gaps / gaps.sum()


def _seeding_loop(x, seeds):
    gaps = [min(float(((point - s) ** 2).sum()) for s in seeds) for point in x]
    return torch.tensor([g / sum(gaps) for g in gaps], dtype=torch.double)


def _seeded(generator):
    """Seeds among the points, beside them, and in another unit of length."""
    made = []
    for n, d, s in ((5, 2, 1), (12, 3, 3), (30, 4, 6)):
        x = 2 * torch.randn(n, d, generator=generator)
        made.append((x, x[torch.randperm(n, generator=generator)[:s]]))
    x = torch.randn(10, 2, generator=generator)
    return [*made, (x, x[:2] + 0.3), (1e-3 * x, 1e-3 * x[3:6])]


def _shares(weights_of):
    """Chances by weights_of(squared distances (N, S))."""

    def chances(x, seeds):
        weights = weights_of(_squares(x, seeds))
        return weights / weights.sum()

    return chances


_SEEDING = Exercise(
    library=seeding_probabilities, reference=_seeding_loop, inputs=_seeded,
    right=(_shares(lambda squares: squares.sqrt().amin(dim=1) ** 2),
           _shares(lambda squares: torch.stack([row.min() for row in squares]))),
    naive="sums of squares over their sum: the text makes no demand on their digits",
    hints=("How badly is each point served by the seeds there are? A point that is a seed is served perfectly.",
           "A point looks at the seed nearest to it: a minimum over the seeds. Then make the N numbers sum to 1.",
           "gaps = (x[:, None] - seeds).square().sum(dim=2).amin(dim=1); gaps / gaps.sum()."),
    misconceptions=(
        Misconception("distance not squared", _shares(lambda squares: squares.amin(dim=1).sqrt()),
            "The inertia adds up squares: a point three times as far away adds nine times as much. D^2, not D."),
        Misconception("all seeds instead of the nearest", _shares(lambda squares: squares.sum(dim=1)),
            "You added up the distances to all seeds. A point that sits on one seed needs no second one."),
        Misconception("distances to all seeds, not squared", _shares(lambda squares: squares.sqrt().sum(dim=1)),
            "Two things: only the nearest seed counts for a point, and its distance is squared."),
        Misconception("farthest seed", _shares(lambda squares: squares.amax(dim=1)),
            "This is the distance to the farthest seed. What a point adds to the inertia is that to the nearest."),
        Misconception("last seed only", slips.argument(1, lambda seeds: seeds[-1:]),
            "You looked at the last seed alone. The seeds before it serve points too."),
        Misconception("middle of the seeds", slips.argument(1, lambda seeds: seeds.mean(dim=0, keepdim=True)),
            "You measured from the mean of the seeds, where there may be none. Each point has a nearest seed."),
        Misconception("always the farthest point", _shares(lambda s: F.one_hot(s.amin(dim=1).argmax(), len(s)).to(s)),
            "All of the chance is on the farthest point: an outlier always becomes a seed. Chance forgives outliers."),
        Misconception("every point alike", _shares(lambda squares: torch.ones(len(squares))),
            "Every point has the same chance: large groups get several seeds.", says=lambda p, *_: p.max() == p.min()),
        Misconception("near points favoured", _shares(lambda squares: 1 / squares.amin(dim=1).clamp(min=1e-12)),
            "Near points have the largest chance in yours. A second seed is needed where no seed is near."),
        Misconception("softmax of the gaps", lambda x, seeds: _squares(x, seeds).amin(dim=1).softmax(dim=0),
            "A softmax gives a chance to points that are seeds, and depends on the unit of x. Divide by the sum."),
        Misconception("not divided by the sum", lambda x, seeds: _squares(x, seeds).amin(dim=1),
            "Yours do not sum to 1, as chances do.", says=lambda p, *_: abs(p.sum() - 1) > 1e-3),
        Misconception("a column of chances for each seed", lambda x, s: _squares(x, s) / _squares(x, s).sum(dim=0),
            "You have one distribution for each seed. Each point finds its nearest seed first: N numbers are left."),
        slips.PERCENT,
    ),
)  # fmt: skip

# ---- 11.3 back translation, and what a shift does to it --------------------------------------------------------------


def _translate_loop(features, labels, k):
    groups = [[h for h, y in zip(features, labels.tolist(), strict=True) if y == group] for group in range(k)]
    return torch.stack([sum(mine) / len(mine) if mine else torch.zeros_like(features[0]) for mine in groups])


def _grouped(generator):
    """The second and the last have groups without items, the last one at the end."""
    made = []
    for n, d, k, length in ((6, 2, 2, 1.0), (9, 3, 12, 1.0), (30, 5, 4, 3.0)):
        h = length * unit(generator, n, d)
        made.append((h, torch.randint(k, (n,), generator=generator), k))
    h = torch.randn(8, 4, generator=generator) * torch.arange(1, 9)[:, None] + 2
    return [*made, (h, torch.tensor([0, 2, 2, 0, 0, 2, 2, 2]), 4)]


def _members(h, y, k):
    return torch.bincount(y, minlength=k)[:, None]  # (K, 1)


def _without_items(place):
    """Groups without items get place(features)."""
    return _after(lambda means, h, y, k: torch.where(_members(h, y, k) > 0, means, place(h)))


def _last_items(h, y, k):
    return torch.stack([h[y == g][-1] if bool((y == g).any()) else 0 * h[0] for g in range(k)])


_BACK_TRANSLATE = Exercise(
    library=back_translate, reference=_translate_loop, inputs=_grouped,
    right=(lambda h, y, k: F.one_hot(y, k).to(h).T @ h / _members(h, y, k).clamp(min=1),
           lambda h, y, k: torch.zeros(k, h.shape[1]).to(h).scatter_reduce(
               0, y[:, None].expand_as(h), h, "mean", include_self=False)),
    naive="means of moderate numbers: nothing cancels and nothing overflows",
    hints=("Labels come from captions, features from pictures. Where is the middle of the pictures of caption group k?",
           "One mean for each k from 0 to K - 1, or zero: index_add_, or a loop over k with features[labels == k].",
           "torch.zeros(k, D).index_add_(0, labels, features) / labels.bincount(minlength=k).clamp(min=1)[:, None]."),
    misconceptions=(
        Misconception("sum instead of mean", slips.times(_members),
            "Your rows are sums: large groups have long prototypes, and would win every choice."),
        Misconception("divides by all items", slips.times(lambda h, y, k: _members(h, y, k) / len(h)),
            "You divided by N. A mean divides by the members of the group, or a small group's prototype is near zero."),
        Misconception("prototypes made unit vectors", slips.then(lambda means: F.normalize(means, dim=1)),
            "You gave the prototypes length 1. The mean of a group that spreads is shorter, and less certain."),
        Misconception("features made unit vectors first", slips.normalised(0),
            "You made the features unit vectors. A function takes vectors as they come; the model normalises."),
        Misconception("empty group becomes NaN", _without_items(lambda h: math.nan),
            "A group without items became NaN. Its row is zero.", says=lambda means, *_: means.isnan().any()),
        Misconception("empty group becomes the mean of all", _without_items(lambda h: h.mean(dim=0)),
            "A group without items got the mean of all, a plausible answer for every item. Its row is zero."),
        Misconception("empty groups left out", _after(lambda means, h, y, k: means[y.unique()]),
            "You left out groups without items: row k is no longer group k. K rows are asked for."),
        Misconception("as many groups as the largest label says", slips.given(lambda h, y, k: (h, y, int(y.max()) + 1)),
            "You made as many rows as the largest label says. Groups at the end may be empty too: K is given."),
        Misconception("a row for each item", _after(lambda means, h, y, k: means[y]),
            "You returned each item's own prototype, N rows. The table of prototypes has one row for each group."),
        Misconception("one item of each group", _last_items,
            "You kept one item of each group: an indexed assignment overwrites where an index repeats. Add up."),
        Misconception("one member too many", slips.times(lambda h, y, k: 1 - 1 / (_members(h, y, k) + 1)),
            "You divide by one more than there are members. To avoid 0 / 0 raise the count of empty groups only."),
    ),
)  # fmt: skip


def logit_change(prototypes: Tensor, shift: Tensor, logit_scale: float) -> Tensor:
    """What a shift of items and prototypes alike adds to the logits, up to a constant. (K, D), (D,), s -> (K,)"""
    return logit_scale * prototypes @ shift  # (K,)


def _change_of_logits(prototypes, shift, logit_scale):
    """By differences, for one item: any other item gives the same, up to a constant."""
    item = torch.arange(len(shift)).to(shift).cos()
    return logit_scale * ((prototypes + shift) @ (item + shift)) - logit_scale * (prototypes @ item)


def _shifted(generator):
    made = []
    for k, d, s in ((2, 2, 1.0), (5, 3, 14.3), (9, 6, 30.0)):
        made.append((torch.randn(k, d, generator=generator), torch.randn(d, generator=generator), s))
    C = torch.randn(4, 3, generator=generator) * torch.tensor([1.0, 1.0, 0.0]) + torch.tensor([0.0, 0.0, 0.7])
    return [*made, (C, torch.tensor([0.0, 0.0, 2.0]), 10.0), (C, torch.tensor([1.0, 0.0, 2.0]), 10.0)]


def _centred(found, prototypes, *_):
    """A constant on all logits is no change of a softmax."""
    if getattr(found, "shape", None) != (len(prototypes),):
        return found
    found = torch.as_tensor(found)
    wide = found.double()  # (K,) a large constant would leave its rounding
    return (wide - wide.mean()).to(found.dtype)


_LOGIT_CHANGE = Exercise(
    library=logit_change, reference=_change_of_logits, inputs=_shifted, view=_centred,
    scale=lambda C, a, s: s * a.norm() * (C.norm(dim=1).max() + a.norm()),  # the constant may be a . a
    right=(lambda C, a, s: s * (C + a) @ a, lambda C, a, s: torch.einsum("kd,d->k", s * C, a) + 7,
           lambda C, a, s: s * (C - C.mean(dim=0)) @ a),
    naive="a product of moderate numbers: nothing cancels and nothing overflows",
    hints=("Multiply out (h + a) . (C_k + a). Which of the four terms are new, and which of the new ones know k?",
           "Three terms are new: h . a, a . C_k and a . a. A softmax over k does not see what is the same for all k.",
           "a . C_k is left, for all k at once prototypes @ shift, times the scale like every logit."),
    misconceptions=(
        Misconception("drops out altogether", lambda C, a, s: torch.zeros(len(C)),
            "Yours is the same for all prototypes: no choice would change. One of the new terms knows k."),
        Misconception("counted twice", slips.times(2),
            "Twice too much. That would be the change of |C_k|^2; here one side of the product is the item."),
        Misconception("scale left out", slips.left_out(2, 1.0), "You have the dot products. A logit is s times that."),
        Misconception("divides by the scale", slips.inverted(2),
            "You divided by the scale. It multiplies: it is one over a temperature."),
        Misconception("other sign", slips.negated,
            "The sign is turned: prototypes that lie in the direction of the shift gain by it."),
        Misconception("directions only", slips.normalised(0),
            "You made the prototypes unit vectors. They are taken as they are, and a short one gains less."),
        Misconception("unit shift", slips.normalised(1),
            "You made the shift a unit vector. A gap twice as wide does twice as much."),
        Misconception("squared once more", slips.argument(2, lambda s: s * s),
            "The scale stands in the logits once, not squared."),
        Misconception("distances", lambda C, a, s: -s * (C - a).square().sum(dim=1),
            "You compared distances between prototypes and shift. The logits are dot products: multiply out."),
        Misconception("one number for each coordinate", lambda C, a, s: s * C * a,
            "You have the D summands of each dot product. Add them up: one number a prototype."),
        Misconception("one number for all", slips.then(torch.sum),
            "One number is a constant, which no softmax sees. Each of the K logits changes by its own amount."),
    ),
)  # fmt: skip

# ---- 11.4 soft targets -----------------------------------------------------------------------------------------------


def _targets_loop(centroids, labels, temperature):
    rows = []
    for y in labels.tolist():
        scores = torch.stack([sum(a * b for a, b in zip(centroids[y], c, strict=True)) for c in centroids])
        rows.append((scores / temperature - (scores / temperature).logsumexp(0)).exp())
    return torch.stack(rows)


def _teachers(generator):
    """Centroids of many lengths; in the last two every group is named once."""
    made = []
    for k, d, b, tau in ((2, 2, 3, 1.0), (4, 3, 10, 0.3), (7, 5, 12, 0.05)):
        lengths = 0.2 + 0.7 * torch.rand(k, 1, generator=generator)
        made.append((lengths * unit(generator, k, d), torch.randint(k, (b,), generator=generator), tau))
    square = unit(generator, 5, 4)
    return [*made, (0.8 * square, torch.randperm(5, generator=generator), 0.1), (square, torch.arange(5), 0.5)]


def _far_teachers(generator):
    """Scores of 100 and more, and a row whose scores lie far below those of another."""
    short = torch.tensor([[1.4, 0.0], [0.0, 0.1]])
    return [(unit(generator, 5, 4), torch.arange(5), 0.01), (short, torch.arange(2), 0.01)]


def _scored(shares):
    """Targets that are shares(scores (B, K), temperature)."""
    return lambda C, y, t: shares(C[y] @ C.T, t)


def _quotients(scores):
    return scores.exp() / scores.exp().sum(dim=1, keepdim=True)


_SOFT_TARGETS = Exercise(
    library=soft_targets, reference=_targets_loop, inputs=_teachers, extreme=_far_teachers,
    stability="At a temperature of 0.01 a product of 0.9 is a score of 90, and e^90 is no float32. A softmax subtracts "
    "the largest score of the row first.",
    right=(_scored(lambda x, t: _quotients((x - x.amax(dim=1, keepdim=True)) / t)),
           lambda C, y, t: (C @ C.T / t).log_softmax(dim=1).exp()[y]),
    naive=(_scored(lambda x, t: _quotients(x / t)), _scored(lambda x, t: _quotients((x - x.max()) / t)),
           _scored(lambda x, t: F.normalize((x / t).exp(), p=1, dim=1))),
    hints=("Start from the centroid of each item's own group. How like it are the K centroids?",
           "centroids[labels] is (B, D), one row an item. Against all K that makes (B, K) scores: softmax.",
           "(centroids[labels] @ centroids.T / temperature).softmax(dim=1)."),
    misconceptions=(
        Misconception("centroids made unit vectors", slips.normalised(0),
            "You made the centroids unit vectors. They are taken as they are; what follows is the point here."),
        Misconception("one of the two made a unit vector", lambda C, y, t: (F.normalize(C)[y] @ C.T / t).softmax(1),
            "The item's own centroid has length 1 in yours. Both stand in the product as they are."),
        Misconception("softmax over the items", _scored(lambda x, t: (x / t).softmax(dim=0)),
            "Your columns sum to 1. The rows have to.", says=lambda q, *_: (q.sum(dim=0) - 1).abs().max() < 1e-4),
        Misconception("temperature multiplied", slips.inverted(2),
            "You multiplied by the temperature. A small one should make the shares sharp, yours makes them even."),
        Misconception("temperature left out", slips.left_out(2, 1.0),
            "Yours does not depend on the temperature. Without it nearly all groups count alike."),
        Misconception("one-hot", lambda C, y, t: F.one_hot(y, len(C)).to(C),
            "These are hard labels: a tabby cat is as far from a Siamese as from a lorry. Here neighbours count too."),
        Misconception("the winner takes all", _scored(lambda x, t: F.one_hot(x.argmax(dim=1), x.shape[1]).to(x)),
            "You kept the largest score only. The softmax shares the weight out."),
        Misconception("distances instead of products", lambda C, y, t: (-_squares(C[y], C) / t).softmax(dim=1),
            "You took squared distances. They are 0 to the own group; a product rewards length."),
        Misconception("half distances instead of products", lambda C, y, t: (-_squares(C[y], C) / t / 2).softmax(1),
            "Half a squared distance is a product less half of |C_k|^2, which knows k. Take the product alone."),
        Misconception("own group left out",
            lambda C, y, t: (C[y] @ C.T / t).masked_fill(F.one_hot(y, len(C)).bool(), -math.inf).softmax(dim=1),
            "Your targets give nothing to the item's own group. It is one of the K."),
        Misconception("a row for each group", lambda C, y, t: (C @ C.T / t).softmax(dim=1),
            "You have one row for each group. The items are asked for: each takes the row of its group."),
        Misconception("logarithms", slips.then(torch.log),
            "These are logarithms. The targets are the shares themselves.", says=lambda q, *_: (q <= 0).all()),
        Misconception("shares not normalised", _scored(lambda x, t: (x / t).exp()),
            "Your rows do not sum to 1: divide by their sum.", says=lambda q, *_: (q.sum(1) - 1).abs().max() > 1e-3),
        slips.PERCENT,
    ),
)  # fmt: skip

# ---- 11.5 the loss ---------------------------------------------------------------------------------------------------


def _proto_loop(features, prototypes, targets, logit_scale):
    total = torch.zeros(()).to(features)
    for h, q in zip(features, targets, strict=True):
        scores = torch.stack([logit_scale * (h * c).sum() for c in prototypes])
        total = total - (q * (scores - scores.logsumexp(0))).sum()
    return total / len(features)


def _choices(generator):
    made = []
    for b, k, d, s in ((1, 3, 2, 1.0), (6, 4, 3, 14.3), (9, 5, 6, 5.0), (4, 12, 5, 8.0)):
        h, q = (1.7 if b == 9 else 1.0) * unit(generator, b, d), torch.randn(b, k, generator=generator).softmax(dim=1)
        made.append((h, 0.7 * torch.rand(k, 1, generator=generator) * unit(generator, k, d), q, s))
    return made


def _far_choices(generator):
    """Each item's own prototype lies opposite, e^-200 is 0 in float32; then rows of logits near -100 and near 100."""
    h = unit(generator, 3, 4)
    soft = torch.randn(4, 4, generator=generator).softmax(dim=1)
    return [(h, -h, torch.eye(3), 100.0), (*far_rows(generator), soft, 100.0)]


def _of_logits(loss):
    """A loss of the arguments, from one of the logits (B, K) and the targets."""
    return lambda h, C, q, s: loss(s * h @ C.T, q)


def _cross(weights, logs):
    return -(weights * logs).sum(dim=1).mean()


def _entropy(q):
    return -torch.special.xlogy(q, q).sum(dim=1).mean()


_PROTOTYPE_LOSS = Exercise(
    library=prototype_loss, reference=_proto_loop, inputs=_choices, extreme=_far_choices,
    stability="The softmax of a logit far below the others is 0 in float32, and log 0 is minus infinity. Some function "
    "takes both steps at once.",
    gradients=("features", "logit_scale"),  # prototypes and targets are constants of an episode
    right=(_of_logits(lambda x, q: _cross(q, x.log_softmax(dim=1))), _of_logits(F.cross_entropy),
           _of_logits(lambda x, q: (x.logsumexp(dim=1) - (q * x).sum(dim=1)).mean()),
           lambda h, C, q, s: prototype_loss(h, C.detach(), q.detach(), s)),
    naive=(_of_logits(lambda x, q: _cross(q, x.softmax(dim=1).log())),
           _of_logits(lambda x, q: _cross(q, _quotients(x).log())),
           _of_logits(lambda x, q: (x.exp().sum(dim=1).log() - (q * x).sum(dim=1)).mean()),
           _of_logits(lambda x, q: _cross(q, (x.softmax(dim=1) + 1e-9).log()))),
    hints=("Each item chooses among K prototypes: make the table of B x K logits. How surprised is q by that choice?",
           "log_softmax over the K prototypes, weighted by q and summed over K; minus the mean over the B items.",
           "log_p = (logit_scale * features @ prototypes.T).log_softmax(dim=1); -(targets * log_p).sum(dim=1).mean()."),
    misconceptions=(
        Misconception("hardest group only", slips.argument(2, lambda q: q.argmax(dim=1)),
            "You reduced the targets to their largest entry. They are soft: each group counts by its share."),
        Misconception("mean over the groups too", slips.times(lambda h, C, q, s: 1 / len(C)),
            "You took the mean over all B x K entries. The shares q are weights already: sum over K, mean over B."),
        slips.summed("the items, so that log K always means a guesser"),
        Misconception("softmax over the items", _of_logits(lambda x, q: _cross(q, x.log_softmax(dim=0))),
            "In yours each prototype chooses among the items. An item chooses its group: softmax along its row."),
        slips.softmax_twice(_of_logits(lambda x, q: F.cross_entropy(x.softmax(dim=1), q))),
        Misconception("divides by the scale", slips.inverted(3),
            "A larger scale should make the choice sharper, yours makes it softer. It is one over the temperature."),
        Misconception("scale left out", slips.left_out(3, 1.0),
            "Your loss ignores logit_scale. Prototypes are short, and without a scale the choice stays nearly even."),
        Misconception("the pairs' starting scale", slips.left_out(3, 1 / 0.07),
            "1 / 0.07 is where both scales start. This one is learned by itself, and comes as an argument."),
        Misconception("scale is a logarithm", slips.exponentiated(3),
            "You took the exponential of the scale. It comes as the multiplier itself, not its logarithm."),
        Misconception("prototypes made unit vectors", slips.normalised(1),
            "You made the prototypes unit vectors. They are taken as they are: short where a group is wide."),
        Misconception("features made unit vectors again", slips.normalised(0),
            "The features come with the length they have. In this course the model normalises, not the loss."),
        Misconception("entropy of the targets subtracted", slips.plus(lambda h, C, q, s: -_entropy(q)),
            "This is the Kullback-Leibler divergence: its floor is 0. The cross-entropy's is the entropy of q."),
        Misconception("the other way round", _of_logits(lambda x, q: _cross(x.softmax(dim=1), q.log())),
            "The targets are the weights: what q expects is the logarithm of what the model says."),
        Misconception("the logits themselves", _of_logits(lambda x, q: _cross(q, x)),
            "There is no softmax in yours: it falls without end. The denominator makes the groups compete."),
        Misconception("no logarithm", _of_logits(lambda x, q: _cross(q, x.softmax(dim=1))),
            "You averaged probabilities. The loss averages their logarithms.", says=lambda loss, *_: -1 <= loss <= 0),
        Misconception("logarithm of a mean", _of_logits(lambda x, q: -(q * x.softmax(1)).sum(dim=1).log().mean()),
            "You took the logarithm of what q expects of the probabilities. q expects logarithms: log inside the sum."),
        Misconception("yes or no for each group",
            _of_logits(lambda x, q: F.binary_cross_entropy_with_logits(x, q, reduction="sum") / len(q)),
            "You asked K separate questions, as a sigmoid loss does. Here an item has one choice among K."),
        Misconception("squared error", _of_logits(lambda x, q: (x.softmax(1) - q).square().sum(dim=1).mean()),
            "A confident mistake costs at most 2 in yours. A logarithm has no bound.", says=lambda loss, *_: loss <= 2),
        slips.SIGN_TURNED,
        slips.IN_BITS,
    ),
)  # fmt: skip

# ---- 11.6 what the loss feels ----------------------------------------------------------------------------------------


def _felt(marks: str) -> tuple[bool, ...]:
    """x where it is felt: teacher shifted, teacher turned, teacher stretched, student shifted."""
    return tuple(mark == "x" for mark in marks)


_FEELS_UNTRANSLATED = Prediction(
    answer=_felt("-xxx"),
    hints=("Write the logit s h . C_k and put in what has changed. What is the same for all k, a softmax does not see.",
           "h . (C_k + a) = h . C_k + h . a, and (h + a) . C_k = h . C_k + a . C_k. Which new term knows k?",
           "A turn and a stretch change the products h . C_k themselves. One of the two shifts is a constant."),
    misconceptions=(
        Misconception("a gap is felt at once", _felt("xxxx"),
            "Multiply out h . (C_k + a): what does the shift add to the K logits of one item?"),
        Misconception("no shift is felt", _felt("-xx-"),
            "The two shifts are not alike: h . a is the same for all groups of an item. And a . C_k?"),
        Misconception("the shifts the other way round", _felt("xxx-"),
            "The two shifts are exchanged. h . a does not know k; a . C_k does."),
        Misconception("nothing is felt", _felt("----"),
            "Without translation the teacher's centroids are in the logits."),
        Misconception("only the student is felt", _felt("---x"),
            "This is the row with translation. Here the teacher's centroids are in the logits."),
        Misconception("a stretch is not felt", _felt("-x-x"),
            "Twice as long centroids make logits twice as large: a sharper softmax."),
    ),
)  # fmt: skip

_FEELS_TRANSLATED = Prediction(
    answer=_felt("---x"),
    hints=("Of the teacher, back translation uses the labels and nothing else. Which of the changes alter the labels?",
           "K-means compares distances. A shift and a turn leave them alone, a stretch multiplies all by one number.",
           "For the shift of the student look at 11.3: features and prototypes move together, and one term is left."),
    misconceptions=(
        Misconception("nothing is felt", _felt("----"),
            "Right for the teacher. For the student 11.3 left one term: a . C_k, which knows k."),
        Misconception("as without translation", _felt("-xxx"),
            "This is the row without translation. Here of the teacher only labels count."),
        Misconception("a stretch is felt", _felt("--xx"),
            "Stretched, all distances grow by one factor: the nearest centroid stays the nearest."),
        Misconception("a turn is felt", _felt("-x-x"), "A turn leaves all distances as they are, so the labels too."),
        Misconception("everything is felt", _felt("xxxx"),
            "Of the teacher, only what alters its labels is felt. Which change does?"),
        Misconception("the teacher's shift is felt", _felt("x--x"),
            "A shift leaves all distances as they are, so the labels too."),
    ),
)  # fmt: skip

_TARGETS_FEEL = Prediction(
    answer=_felt("x-x-"),
    hints=("The targets are products C_y . C_k of the teacher with itself. Whose position stands in them twice?",
           "(C_y + a) . (C_k + a): one of the three new terms knows k. Both vectors of a product are turned.",
           "A shift is felt through a . C_k, a turn is not, a stretch by 2 acts like a quarter of the temperature."),
    misconceptions=(
        Misconception("a shift cancels", _felt("--x-"),
            "It would between distances. The targets are products: (C_y + a) . (C_k + a) has a term a . C_k."),
        Misconception("a turn is felt", _felt("xxx-"),
            "Both vectors of each product are turned, and the angle between them stays."),
        Misconception("the student is felt", _felt("x-xx"),
            "The targets are the teacher's alone. No feature of the student is in them."),
        Misconception("a stretch is not felt", _felt("x---"),
            "Products of centroids twice as long are four times as large: sharper, as by a smaller temperature."),
        Misconception("nothing is felt", _felt("----"),
            "So it is with hard labels. Soft targets are products of the centroids, and two changes alter these."),
        Misconception("as the loss without translation", _felt("-xxx"),
            "This is what the logits feel. In the targets both vectors of a product are the teacher's."),
    ),
)  # fmt: skip

# ---- 11.7 the gap ----------------------------------------------------------------------------------------------------


def modality_gap(image: Tensor, text: Tensor) -> Tensor:
    """Distance of the two means. (N, D), (M, D) -> scalar"""
    return (image.mean(dim=0) - text.mean(dim=0)).norm()


def _gap_in_numpy(image, text):
    return np.linalg.norm(image.numpy().mean(axis=0) - text.numpy().mean(axis=0))


def _two_sides(generator):
    """Pairs, and in the last two other numbers of captions than of pictures, and of other lengths."""
    made = []
    for n, m, d in ((4, 4, 2), (20, 20, 6), (9, 9, 9), (5, 12, 3), (30, 7, 5)):
        v, t = torch.randn(n, d, generator=generator) + 0.8, torch.randn(m, d, generator=generator) - 0.3
        made.append((F.normalize(v, dim=1), (1 if n == m else 2) * F.normalize(t, dim=1)))
    return made


def _of_means(measure):
    return lambda v, t: measure(v.mean(dim=0), t.mean(dim=0))


_MODALITY_GAP = Exercise(
    library=modality_gap, reference=_gap_in_numpy, inputs=_two_sides,
    right=(_of_means(torch.dist), _of_means(lambda v, t: (v @ v - 2 * v @ t + t @ t).sqrt()),
           lambda v, t: float((v.sum(dim=0) / len(v) - t.sum(dim=0) / len(t)).square().sum().sqrt())),
    naive="means of moderate numbers: the text makes no demand on small gaps",
    hints=("Each modality is a cloud. How far is the middle of one from the middle of the other?",
           "Means over the items, (D,) each. Then the length of their difference, squares and root.",
           "(image.mean(dim=0) - text.mean(dim=0)).norm()."),
    misconceptions=(
        Misconception("mean distance of the pairs", lambda v, t: (v - t).norm(dim=1).mean(),
            "Distances of pairs grow with the spread, and there need be no pairs. Average first, then measure."),
        Misconception("root of the mean squared distance", lambda v, t: (v - t).square().sum(dim=1).mean().sqrt(),
            "Squared distances of pairs hold the spread of both clouds as well. Average first, then measure."),
        Misconception("distances of all with all", lambda v, t: (v[:, None] - t).norm(dim=2).mean(),
            "Of all with all, two clouds in one place are not at distance 0. Average first, then measure."),
        Misconception("one minus the cosine of the pairs", lambda v, t: 1 - F.cosine_similarity(v, t, dim=1).mean(),
            "You measured how well the pairs agree, which is alignment. A gap needs no pairs: it is between middles."),
        Misconception("features made unit vectors first", slips.normalised(0, 1),
            "You made the features unit vectors. A measure takes vectors as they come; the model normalises."),
        Misconception("squared", slips.then(torch.square), "This is the square of the gap: a root is missing."),
        Misconception("a gap for each coordinate", _of_means(torch.sub),
            "This is the vector from one middle to the other. Its length is asked for."),
        Misconception("absolute values", _of_means(lambda v, t: (v - t).abs().sum()),
            "You added up absolute values. A length takes squares and a root, and no turn of the axes changes it."),
        Misconception("mean over the coordinates", slips.times(lambda v, t: v.shape[1] ** -0.5),
            "You averaged over the D coordinates. A length sums their squares."),
        Misconception("difference of the lengths", _of_means(lambda v, t: (v.norm() - t.norm()).abs()),
            "You compared how long the two means are. Take the length of their difference."),
        Misconception("directions of the means", _of_means(lambda v, t: (v / v.norm() - t / t.norm()).norm()),
            "You made the means unit vectors. Where a mean is near 0, its direction is chance."),
        Misconception("sums instead of means", lambda v, t: (v.sum(dim=0) - t.sum(dim=0)).norm(),
            "You added the items up. Your gap grows with their number."),
        Misconception("one number for each side", lambda v, t: (v.mean() - t.mean()).abs(),
            "One number a side, the mean of all its entries, is no middle: that is a point, D numbers."),
    ),
)  # fmt: skip

# ---- 11.8 do two clusterings agree? ----------------------------------------------------------------------------------


def nmi(a: Tensor, b: Tensor) -> Tensor:
    """Mutual information over the mean of the two entropies. (N,), (N,) int64 -> scalar in [0, 1]"""
    p = _table(a, b)  # (R, C)
    h_a, h_b = _nats(p.sum(dim=1)), _nats(p.sum(dim=0))
    return (h_a + h_b - _nats(p)) / ((h_a + h_b) / 2)


def _table(a, b):
    return F.one_hot(a).double().T @ F.one_hot(b).double() / len(a)  # (R, C)


def _nats(p):
    return -torch.special.xlogy(p, p).sum()


def _scikit_learn(a, b):
    return normalized_mutual_info_score(a.numpy(), b.numpy())


def _clusterings(generator):
    """Most have empty cells; then the same groups under other names, one group for all, and numbers without items."""
    made = []
    for n, r, c in ((60, 2, 3), (12, 2, 3), (40, 4, 4), (100, 5, 9), (200, 7, 3)):
        a = torch.randint(r, (n,), generator=generator)
        b = torch.where(torch.rand(n, generator=generator) < 0.6, a % c, torch.randint(c, (n,), generator=generator))
        made.append((a, b))
    a, b = made[2]
    return [*made, (a, torch.randperm(4, generator=generator)[a]), (a, torch.zeros_like(a)), (2 * a, b + 1)]


def _renamed(a, b):
    return int(a.max()) - a, b


def _measured(change):
    """change(joint (R, C), entropy of a, entropy of b, their mutual information)."""

    def measure(a, b):
        p = _table(a, b)
        h_a, h_b = _nats(p.sum(dim=1)), _nats(p.sum(dim=0))
        return change(p, h_a, h_b, h_a + h_b - _nats(p))

    return measure


def _log_of_cells(p, h_a, h_b, shared):
    independent = p.sum(dim=1, keepdim=True) * p.sum(dim=0)
    return (p * (p / independent).log()).sum() / ((h_a + h_b) / 2)


def _log_of_groups(p, h_a, h_b, shared):
    h_a, h_b = (-(q * q.log()).sum() for q in (p.sum(dim=1), p.sum(dim=0)))
    return shared / ((h_a + h_b) / 2)


_NMI = Exercise(
    library=nmi, reference=_scikit_learn, inputs=_clusterings,
    invariances=(
        Invariance("names of groups count", _renamed,
            "Your number changes when the groups get other names. A clustering is who is with whom, and the numbers "
            "are only names."),
    ),
    right=(lambda a, b: nmi(b, a), lambda a, b: nmi(a.unique(return_inverse=True)[1], b).float(),
           lambda a, b: 2 - _measured(lambda p, h_a, h_b, shared: 2 * _nats(p) / (h_a + h_b))(a, b)),
    naive="the one demand, that what is empty adds 0, is judged on plain inputs",
    hints=("Make the table first: how many items are in group r of the one and in group c of the other? Divide by N.",
           "I = H(a) + H(b) - H(a, b): entropies of row sums, column sums and the table. An empty cell adds 0.",
           "p.index_put_((a, b), torch.ones(N) / N, accumulate=True); H = lambda p: -torch.special.xlogy(p, p).sum()."),
    misconceptions=(
        Misconception("compares the numbers", lambda a, b: (a == b).double().mean(),
            "You counted equal numbers. They are names: the same groups under other names would score 0."),
        Misconception("mutual information in nats", _measured(lambda p, h_a, h_b, shared: shared),
            "This is the mutual information itself: log 4 for 4 equal groups, log 40 for 40. Normalise it."),
        Misconception("sum of the entropies", slips.times(0.5),
            "Equal clusterings get one half in yours: divide by the mean of the two entropies, not by their sum."),
        Misconception("joint entropy", _measured(lambda p, h_a, h_b, shared: shared / _nats(p)),
            "You divided by the joint entropy, which is never below the mean of the two. Take that mean."),
        Misconception("geometric mean", _measured(lambda p, h_a, h_b, shared: shared / (h_a * h_b).sqrt()),
            "You took the geometric mean of the entropies: one group for all gives 0 / 0. Take the arithmetic one."),
        Misconception("larger entropy", _measured(lambda p, h_a, h_b, shared: shared / torch.maximum(h_a, h_b)),
            "You divided by the larger of the two entropies. Their mean is asked for."),
        Misconception("smaller entropy", _measured(lambda p, h_a, h_b, shared: shared / torch.minimum(h_a, h_b)),
            "You divided by the smaller entropy: one group for all gives 0 / 0. Their mean is asked for."),
        Misconception("entropy of the first", _measured(lambda p, h_a, h_b, shared: shared / h_a),
            "You divided by the entropy of the first clustering alone. The measure is symmetric: both count."),
        Misconception("entropy of the second", _measured(lambda p, h_a, h_b, shared: shared / h_b),
            "You divided by the entropy of the second clustering alone. The measure is symmetric: both count."),
        Misconception("purity", _measured(lambda p, h_a, h_b, shared: p.amax(dim=1).sum()),
            "This is purity, the share of the largest cell in each row: never 0.", says=lambda found, *_: found > 0),
        Misconception("logarithm of an empty cell", _measured(_log_of_cells),
            "0 log 0 is NaN here, and 0 in the limit: an empty cell adds 0.", says=lambda found, *_: found.isnan()),
        Misconception("logarithm of an empty group", _measured(_log_of_groups),
            "0 log 0 is NaN here, and 0 in the limit: an empty group adds 0.", says=lambda found, *_: found.isnan()),
        Misconception("a distance", slips.then(lambda found: 1 - found),
            "Yours is 0 where the two agree: you have one minus the measure, a distance."),
        Misconception("in percent", slips.percent, "This is right in percent. The measure lies between 0 and 1."),
    ),
)  # fmt: skip

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
