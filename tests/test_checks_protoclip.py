"""Exercises of lesson 11: the five proofs, no mutant that the inputs miss, and what the checks go on with."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from torch.distributions import Categorical, kl_divergence

from minilip.course.checks import judge
from minilip.course.checks._judge import EXTREME
from minilip.course.checks.protoclip import (
    EXERCISES,
    lloyd_step,
    logit_change,
    modality_gap,
    nmi,
    seeding_probabilities,
)
from minilip.protoclip import back_translate, prototype_loss, soft_targets
from minilip.protoclip.clustering import group_means, kmeans
from tests.proofs import proved


def step_by_loops(x, centroids):
    labels = torch.tensor([int((p - centroids).norm(dim=1).argmin()) for p in x])
    rows = [x[labels == k].mean(dim=0) if bool((labels == k).any()) else c for k, c in enumerate(centroids)]
    return labels, torch.stack(rows)


def step_in_numpy(x, centroids):
    x, old = x.double().numpy(), centroids.double().numpy()
    labels = (np.abs(x[:, None] - old) ** 2).sum(axis=2).argmin(axis=1)
    return labels, np.stack([x[labels == k].mean(axis=0) if k in labels else c for k, c in enumerate(old)])


def step_by_cdist(x, centroids):
    labels = torch.cdist(x, centroids, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
    members = F.one_hot(labels, len(centroids)).to(x)  # (N, K)
    means = members.T @ x / members.sum(dim=0)[:, None]
    return [labels.tolist(), torch.where(means.isnan(), centroids, means)]


def translated_in_numpy(h, y, k):
    sums = np.zeros((k, h.shape[1]))
    np.add.at(sums, y.numpy(), h.double().numpy())
    return sums / np.maximum(np.bincount(y.numpy(), minlength=k), 1)[:, None]


def change_by_softmax(C, a, s):
    """What log-probabilities gain, for some item."""
    h = torch.linspace(-1, 1, len(a)).double()
    C, a = C.double(), a.double()
    return (s * (C + a) @ (h + a)).log_softmax(0) - (s * C @ h).log_softmax(0)


def loss_by_divergence(h, C, q, s):
    choice = Categorical(logits=s * h.double() @ C.double().T)
    q = Categorical(probs=q.double())
    return (kl_divergence(q, choice) + q.entropy()).mean()


def loss_by_loops(h, C, q, s):
    rows = [-(q[i] * (s * C @ h[i]).log_softmax(0)).sum() for i in range(len(h))]
    return sum(rows) / len(rows)


def loss_number_by_number(h, C, q, s):
    """Right for a scale without dimensions, as it is learned; not for one of one element."""
    scores = [torch.stack([s * (row * c).sum() for c in C]) for row in h]
    return sum((x.logsumexp(0) - (shares * x).sum()) for x, shares in zip(scores, q, strict=True)) / len(h)


def nmi_by_sums(a, b):
    n = len(a)
    p = F.one_hot(a).double().T @ F.one_hot(b).double() / n
    r, c = p.sum(1), p.sum(0)
    shared = sum(float(p[i, j] * (p[i, j] / (r[i] * c[j])).log()) for i, j in p.nonzero().tolist())
    h_a, h_b = (float(-(q[q > 0] * q[q > 0].log()).sum()) for q in (r, c))
    return 2 * shared / (h_a + h_b)


def nmi_in_bits(a, b):
    def bits(*columns):
        counts = np.unique(np.stack(columns), axis=1, return_counts=True)[1]
        return -(counts / counts.sum() * np.log2(counts / counts.sum())).sum()

    a, b = a.numpy(), b.numpy()
    return 2 - 2 * bits(a, b) / (bits(a) + bits(b))


def nmi_in_float32(a, b):
    p = (F.one_hot(a).float().T @ F.one_hot(b).float()) / len(a)

    def nats(p):
        return -(p[p > 0] * p[p > 0].log()).sum()

    h_a, h_b = nats(p.sum(1)), nats(p.sum(0))
    return (h_a + h_b - nats(p)) / ((h_a + h_b) / 2)


RIGHT = {
    "lloyd_step": [step_by_loops, step_in_numpy, step_by_cdist],
    "seeding_probabilities": [lambda x, s: seeding_probabilities(x, s).bfloat16()],
    "back_translate": [translated_in_numpy, lambda h, y, k: back_translate(h, y, k).bfloat16()],
    "logit_change": [change_by_softmax, lambda C, a, s: [s * float(c @ a) for c in C]],
    "soft_targets": [lambda C, y, t: soft_targets(C, y, t).bfloat16()],
    "prototype_loss": [
        loss_by_divergence,
        loss_by_loops,
        loss_number_by_number,
        lambda h, C, q, s: prototype_loss(h, C, q, s).bfloat16(),
    ],
    "feels_untranslated": [[False, True, True, True], (0, 1, 1, 1), torch.tensor([0, 1, 1, 1])],
    "modality_gap": [lambda v, t: modality_gap(v, t).bfloat16()],
    "nmi": [nmi_by_sums, nmi_in_bits, nmi_in_float32],
}

test_exercise, test_no_mutant_passes_unnoticed = proved(EXERCISES, RIGHT)


# ---- what the checks go on with, against oracles ---------------------------------------------------------------------


def points(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def test_a_step_is_scikit_learn_s():
    x, centroids = points(200, 3), points(6, 3, 1)
    once = KMeans(6, init=centroids.numpy(), n_init=1, max_iter=1).fit(x.numpy())
    _, moved = lloyd_step(x, centroids)
    np.testing.assert_allclose(once.cluster_centers_, moved, atol=1e-12)
    assert once.labels_.tolist() == lloyd_step(x, moved)[0].tolist()


def test_settled_centroids_take_no_further_step():
    x = points(300, 4)
    centroids, labels = kmeans(x, 7, torch.Generator().manual_seed(0), 200)
    again, moved = lloyd_step(x, centroids)
    assert torch.equal(again, labels)
    torch.testing.assert_close(moved, centroids)


def test_a_seed_is_not_drawn_again_and_chances_do_not_depend_on_the_unit():
    x = points(50, 3)
    p = seeding_probabilities(x, x[:4])
    assert (p[:4] == 0).all() and float(p.sum()) == pytest.approx(1)
    torch.testing.assert_close(seeding_probabilities(1000 * x, 1000 * x[:4]), p)


def test_a_shift_changes_the_choice_by_one_term():
    h, C, a = points(40, 5), points(6, 5, 1), points(1, 5, 2)[0]
    shifted = (9 * (h + a) @ (C + a).T).softmax(dim=1)
    torch.testing.assert_close((9 * h @ C.T + logit_change(C, a, 9)).softmax(dim=1), shifted)


@pytest.mark.parametrize("k", [2, 5, 40])
def test_nmi_is_scikit_learn_s(k):
    g = torch.Generator().manual_seed(k)
    a, b = torch.randint(5, (300,), generator=g), torch.randint(k, (300,), generator=g)
    assert float(nmi(a, b)) == pytest.approx(normalized_mutual_info_score(a, b), abs=1e-12)
    assert float(nmi(a, a)) == pytest.approx(1)


# ---- the predictions, computed ---------------------------------------------------------------------------------------


def test_the_truth_values_follow_from_the_library():
    h, t = (F.normalize(points(300, 5, seed), dim=1) for seed in (0, 1))
    t = F.normalize(t + 2 * points(6, 5, 3)[torch.arange(300) % 6], dim=1)
    a, turn = points(1, 5, 4)[0], torch.linalg.qr(points(5, 5, 5))[0]

    def outcome(h, t):
        C, y = kmeans(t, 6, torch.Generator().manual_seed(0), 100)
        losses = [float(prototype_loss(h, P, y, 10.0)) for P in (C, back_translate(h, y, 6))]
        return *map(torch.tensor, losses), soft_targets(C, y, 0.1)

    before, felt = outcome(h, t), []
    for pair in ((h, t + a), (h, t @ turn.T), (h, 2 * t), (h + a, t)):
        after = outcome(*pair)
        felt.append([bool((x - y).abs().max() > 1e-6) for x, y in zip(after, before, strict=True)])
    names = ("feels_untranslated", "feels_translated", "targets_feel")
    assert [EXERCISES[name].answer for name in names] == list(zip(*felt, strict=True))


# ---- mistakes that have several spellings ----------------------------------------------------------------------------


def means_of(h, y, groups):
    return torch.stack([h[y == g].mean(0) for g in groups])


def step_that_forgets(x, centroids):
    labels = lloyd_step(x, centroids)[0]
    return labels, group_means(x, labels, len(centroids))[0]


def step_by_products(x, centroids):
    labels = (x @ centroids.T).argmax(dim=1)
    return labels, torch.stack([x[labels == k].mean(dim=0) for k in range(len(centroids))])


def nmi_of_logs(a, b):
    p = F.one_hot(a).double().T @ F.one_hot(b).double() / len(a)
    r, c = p.sum(1), p.sum(0)
    return (p * (p / (r[:, None] * c)).log()).sum() / -((r * r.log()).sum() + (c * c.log()).sum())


def overwritten(h, y, k):
    out = torch.zeros(k, h.shape[1])
    for i in range(len(h)):
        out[y[i]] = h[i]
    return out


@pytest.mark.parametrize(
    ("name", "mistake", "attempt"),
    [
        ("back_translate", "one item of each group", overwritten),
        ("back_translate", "empty group becomes NaN", lambda h, y, k: means_of(h, y, range(k))),
        ("back_translate", "empty groups left out", lambda h, y, k: means_of(h, y, y.unique())),
        ("modality_gap", "mean distance of the pairs", lambda v, t: F.pairwise_distance(v, t, eps=0).mean()),
        ("modality_gap", "one minus the cosine of the pairs", lambda v, t: (1 - F.cosine_similarity(v, t)).mean()),
        ("modality_gap", "one number for each side", lambda v, t: v.mean() - t.mean()),
        ("modality_gap", "one number for each side", lambda v, t: (v.mean(1).mean() - t.mean(1).mean()).norm()),
        ("logit_change", "drops out altogether", lambda C, a, s: torch.full((len(C),), s * float(a @ a))),
        ("soft_targets", EXTREME, lambda C, y, t: F.normalize((C[y] @ C.T / t).exp(), p=1, dim=1)),
        ("prototype_loss", "detached", lambda h, C, q, s: F.cross_entropy(float(s) * h @ C.T, q)),
        ("prototype_loss", "detached", lambda h, C, q, s: F.cross_entropy(s * h.detach() @ C.T, q)),
        ("prototype_loss", "mean over the groups too", lambda h, C, q, s: -(q * (s * h @ C.T).log_softmax(1)).mean()),
        (
            "prototype_loss",
            "softmax before the cross-entropy",
            lambda h, C, q, s: F.cross_entropy((s * h @ C.T).softmax(1), q),
        ),
        ("lloyd_step", "empty group becomes zero", step_that_forgets),
        ("lloyd_step", "centroids first", lambda x, c: lloyd_step(x, c)[::-1]),
        ("lloyd_step", EXTREME, lambda x, c: (torch.cdist(x, c).argmin(1), lloyd_step(x, c)[1])),
        ("lloyd_step", "largest dot product, and empty group becomes NaN", step_by_products),
        ("lloyd_step", "changes its input in place", lambda x, c: (lloyd_step(x, c)[0], c.copy_(lloyd_step(x, c)[1]))),
        ("nmi", "compares the numbers", lambda a, b: float((a == b).float().mean())),
        ("nmi", "logarithm of an empty cell, and sum of the entropies", nmi_of_logs),
    ],
)
def test_other_spellings_are_recognised(name, mistake, attempt):
    report = judge(EXERCISES[name], attempt)
    assert (report.status, report.mistake) == ("FAIL", mistake), report.message


def test_a_score_that_depends_on_the_names_is_recognised():
    known = [a.tolist() for a, _ in EXERCISES["nmi"].inputs(torch.Generator().manual_seed(0))]
    report = judge(EXERCISES["nmi"], lambda a, b: nmi(a, b) if a.tolist() in known else 0.0)
    assert (report.status, report.mistake) == ("FAIL", "names of groups count")
