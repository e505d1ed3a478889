"""K-means against scikit-learn, faiss and brute force; its seeds; clusters that run empty; points that repeat."""

import math

import faiss
import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from benchmarks import kmeans as benchmark
from minilip.protoclip import clustering as method
from minilip.protoclip.clustering import group_means, kmeans


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def cloud(n=300, dim=5, seed=0, dtype=torch.double):
    return torch.randn(n, dim, generator=seeded(seed), dtype=dtype)


def blobs(k=8, each=40, dim=6, dtype=torch.float32):
    """K groups, ten times as far apart as they are wide."""
    middles = 10 * F.normalize(cloud(k, dim), dim=1) + 30 * torch.eye(k, dim)
    return (middles.repeat_interleave(each, 0) + 0.3 * cloud(k * each, dim, 1)).to(dtype)


def inertia(x, centroids, labels):
    return float((x - centroids[labels]).square().sum())


def start_from(monkeypatch, x, seeds):
    """K-means of x with these seeds."""
    middle, scale = method._frame(x, torch.arange(len(x)))
    monkeypatch.setattr(method, "_seeds", lambda x, k, generator: scale * seeds - middle)


# ---- against the oracles ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_blobs_are_found_as_scikit_learn_and_faiss_find_them(seed):
    x = blobs()
    centroids, labels = kmeans(x, 8, seeded(seed))
    assert centroids.shape == (8, 6) and labels.shape == (320,) and labels.dtype == torch.int64
    theirs = KMeans(8, n_init=5, random_state=seed).fit(x.numpy())
    nearby = faiss.Kmeans(6, 8, niter=20, min_points_per_centroid=1)
    nearby.train(x.numpy(), init_centroids=x[seed::40].numpy())  # from random points it mostly finds fewer
    assert adjusted_rand_score(labels, theirs.labels_) == 1
    assert adjusted_rand_score(labels, nearby.index.search(x.numpy(), 1)[1][:, 0]) == 1
    assert inertia(x, centroids, labels) == pytest.approx(theirs.inertia_, rel=1e-5)


@pytest.mark.parametrize("iterations", [1, 2, 7, 100])
def test_lloyd_equals_scikit_learn_from_the_same_seeds(monkeypatch, iterations):
    x = cloud(1100)  # more than two strips of rows
    seeds = x[:12]
    theirs = KMeans(12, init=seeds.numpy(), n_init=1, max_iter=iterations, tol=0, algorithm="lloyd").fit(x.numpy())
    start_from(monkeypatch, x, seeds)
    centroids, labels = kmeans(x, 12, seeded(), iterations)
    torch.testing.assert_close(centroids, torch.from_numpy(theirs.cluster_centers_), atol=1e-9, rtol=0)
    assert torch.equal(labels, torch.from_numpy(theirs.labels_).long())


def test_lloyd_equals_faiss_from_the_same_seeds(monkeypatch):
    x = cloud(1100, dtype=torch.float32)
    seeds = x[:12]
    theirs = faiss.Kmeans(5, 12, niter=6, min_points_per_centroid=1)
    theirs.train(x.numpy(), init_centroids=seeds.numpy())
    start_from(monkeypatch, x, seeds)
    centroids, labels = kmeans(x, 12, seeded(), iterations=6)
    torch.testing.assert_close(centroids, torch.from_numpy(theirs.centroids), atol=1e-4, rtol=0)
    assert (labels == torch.from_numpy(theirs.index.search(x.numpy(), 1)[1][:, 0])).float().mean() > 0.995


@pytest.mark.parametrize("n, k", [(400, 3), (1500, 60)])
def test_inertia_is_that_of_scikit_learn(n, k):
    x = F.normalize(cloud(n, 16, dtype=torch.float32), dim=1)
    ours = [inertia(x, *kmeans(x, k, seeded(seed))) for seed in range(8)]
    theirs = [KMeans(k, n_init=1, max_iter=20, tol=0, random_state=seed).fit(x.numpy()).inertia_ for seed in range(8)]
    assert sum(ours) < 1.02 * sum(theirs)


def test_unequal_clusters_get_better_seeds_than_random_points(monkeypatch):
    x = benchmark.points(1500, 16, benchmark.shapes(40)["unequal"])
    good = [inertia(x, *kmeans(x, 40, seeded(seed))) for seed in range(4)]
    monkeypatch.setattr(method, "_seeds", lambda x, k, g: x[torch.randperm(len(x), generator=g)[:k]])
    poor = [inertia(x, *kmeans(x, 40, seeded(seed))) for seed in range(4)]
    assert max(good) < 0.95 * min(poor)


# ---- what it promises ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.double])
@pytest.mark.parametrize("iterations", [1, 3, 100])
def test_labels_are_nearest_and_settled_centroids_are_means(iterations, dtype):
    x = cloud(1100, dtype=dtype)
    centroids, labels = kmeans(x, 15, seeded(), iterations)
    distance = torch.cdist(x.double(), centroids.double())  # (N, K)
    own = distance.gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(own, distance.amin(dim=1), atol=1e-6, rtol=0)
    if iterations == 100:
        torch.testing.assert_close(centroids, group_means(x, labels, 15)[0])
    assert centroids.dtype == dtype


def test_inertia_never_rises_and_more_iterations_change_nothing_once_it_settles():
    x = cloud(600)
    values = [inertia(x, *kmeans(x, 9, seeded(), i)) for i in (*range(1, 12), 200, 400)]
    assert values == sorted(values, reverse=True) and values[0] > 1.005 * values[-1]
    assert values[-1] == values[-2]


def test_same_seed_same_clusters_other_seed_other_clusters():
    x = cloud(700, dtype=torch.float32)
    (a, la), (b, lb), (c, _) = (kmeans(x, 30, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(a, b) and torch.equal(la, lb) and not torch.equal(a, c)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_too_the_same_seed_gives_the_same_clusters():
    x = cloud(5000, 32, dtype=torch.float32).cuda()
    (a, la), (b, lb) = (kmeans(x, 50, torch.Generator("cuda").manual_seed(0)) for _ in range(2))
    assert torch.equal(a, b) and torch.equal(la, lb) and a.is_cuda


def test_neither_place_nor_scale_nor_axes_count():
    x, (centroids, labels) = cloud(), kmeans(cloud(), 7, seeded())
    turn = torch.linalg.qr(cloud(5, 5, 3))[0]
    for moved, expected in [(x + 50, centroids + 50), (0.01 * x, 0.01 * centroids), (x @ turn, centroids @ turn)]:
        c, y = kmeans(moved, 7, seeded())
        assert torch.equal(y, labels)
        torch.testing.assert_close(c, expected)


def test_far_from_the_origin_float32_keeps_its_digits():
    x = blobs()
    assert adjusted_rand_score(kmeans(x + 1e4, 8, seeded())[1], kmeans(x, 8, seeded())[1]) == 1


@pytest.mark.parametrize("far", [1e5, 1e8, 1e12, 1e19, -1e21])
def test_one_point_far_away_leaves_the_others_alone(far):
    x = blobs()
    for where in (torch.full((1, 6), far), far * torch.eye(6)[:1]):
        for seed in range(3):
            centroids, labels = kmeans(torch.cat([x, where]), 9, seeded(seed))
            assert adjusted_rand_score(labels[:-1], kmeans(x, 8, seeded())[1]) == 1
            assert (labels[:-1] != labels[-1]).all() and centroids.isfinite().all()


@pytest.mark.parametrize("unit", [1e-37, 1e-30, 1e-19, 1e19, 1e30, 1e37])
def test_the_unit_of_the_points_does_not_count(unit):
    x, (centroids, labels) = blobs(), kmeans(blobs(), 8, seeded())
    c, y = kmeans(unit * x, 8, seeded())
    assert adjusted_rand_score(y, labels) == 1
    torch.testing.assert_close((c.double() / unit).float().sort(dim=0)[0], centroids.sort(dim=0)[0])


def test_seeds_are_different_points():
    x = cloud(200, dtype=torch.float32)
    for k in (1, 2, 40, 200):
        seeds = method._seeds(x, k, seeded())
        assert seeds.shape == (k, 5) and len(seeds.unique(dim=0)) == k
        assert (seeds[:, None] == x).all(dim=2).any(dim=1).all()


def test_one_cluster_and_as_many_as_points():
    x = cloud(40, dtype=torch.float32)
    centroids, labels = kmeans(x, 1, seeded())
    torch.testing.assert_close(centroids, x.mean(dim=0, keepdim=True))
    assert (labels == 0).all()
    centroids, labels = kmeans(x, 40, seeded())
    assert labels.sort().values.tolist() == list(range(40))
    torch.testing.assert_close(centroids[labels], x)


def test_half_precision_and_autocast_are_computed_in_float32():
    x = blobs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        centroids, labels = kmeans(x, 8, seeded())
    assert torch.equal(centroids, kmeans(x, 8, seeded())[0]) and centroids.dtype == torch.float32
    half, same = kmeans(x.bfloat16(), 8, seeded())
    assert half.dtype == torch.float32 and adjusted_rand_score(same, labels) == 1


def test_nothing_is_differentiated_and_nothing_is_changed():
    x = blobs().requires_grad_()
    before = x.detach().clone()
    assert not kmeans(x, 8, seeded())[0].requires_grad and torch.equal(x.detach(), before)


# ---- empty clusters and points that repeat ---------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [1, 5, 7])
def test_a_centroid_without_points_moves_to_where_it_is_needed(monkeypatch, lost):
    x = blobs()
    seeds = x[::40].clone()
    seeds[-lost:] = 1e4  # nearest to no point
    start_from(monkeypatch, x, seeds)
    centroids, labels = kmeans(x, 8, seeded(), iterations=50)
    assert len(labels.unique()) == 8 and (torch.bincount(labels) > 0).all()
    assert centroids.abs().max() < 100


@pytest.mark.parametrize("copies", [1, 3, 500])
@pytest.mark.parametrize("k", [4, 6, 40])
def test_fewer_different_points_than_clusters(k, copies):
    points = cloud(4, dtype=torch.float32)
    x = points[torch.randperm(4 * max(copies, math.ceil(k / 4)), generator=seeded()) % 4]
    centroids, labels = kmeans(x, k, seeded())
    torch.testing.assert_close(centroids[labels], x, atol=1e-4, rtol=0)  # 500 equal numbers do not add up exactly
    assert labels.unique().tolist() == [0, 1, 2, 3]
    assert (centroids[4:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.double])
@pytest.mark.parametrize("length", [1.0, 1e3])
def test_copies_are_one_point_whatever_rounding_makes_of_their_distance(monkeypatch, length, dtype):
    sizes, nearest = [], method._nearest
    monkeypatch.setattr(method, "_nearest", lambda x, c: sizes.append(len(c)) or nearest(x, c))
    points = (length * cloud(40, 64)).to(dtype)
    x = points[torch.randint(40, (1200,), generator=seeded())]
    assert len(method._seeds(x, 60, seeded())) == 40
    centroids, labels = kmeans(x, 60, seeded())
    assert labels.unique().tolist() == list(range(40)) and (centroids[40:] == 0).all()
    assert set(sizes) == {40}  # no copy is tried as a centroid of its own, which only rounding would tell apart
    torch.testing.assert_close(centroids[labels] / length, x / length, atol=1e-5, rtol=0)


def test_it_stops_when_no_label_changes(monkeypatch):
    calls = []
    monkeypatch.setattr(method, "group_means", lambda *args: calls.append(1) or group_means(*args))
    kmeans(blobs(), 8, seeded(), iterations=1000)
    assert len(calls) < 20


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
def test_all_points_the_same(value):
    centroids, labels = kmeans(torch.full((700, 3), value), 5, seeded())
    assert (labels == 0).all() and (centroids[1:] == 0).all()
    torch.testing.assert_close(centroids[0], torch.full((3,), value))


def test_a_few_points_far_from_many_copies_are_found():
    x = torch.cat([torch.zeros(5000, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])])
    for seed in range(5):  # the seeding may not have looked at them
        centroids, labels = kmeans(x, 3, seeded(seed))
        assert inertia(x, centroids, labels) < 1e-10 and torch.bincount(labels).sort().values.tolist() == [1, 2, 5000]


@pytest.mark.parametrize(
    "x, k, iterations, message",
    [
        (torch.ones(3, 2), 4, 20, "k: expected at most the 3 points, got 4"),
        (torch.ones(3, 2), 0, 20, "k: expected a whole number of at least 1"),
        (torch.ones(3, 2), 2.0, 20, "k: expected a whole number of at least 1"),
        (torch.ones(3, 2), 2, 0, "iterations: expected a whole number"),
        (torch.ones(3), 2, 20, r"x: expected shape \(B, D\)"),
        (torch.ones(3, 2).long(), 2, 20, "x: expected a floating-point tensor"),
        (torch.tensor([[0.0], [math.nan]]), 1, 20, "x: expected finite numbers, got 1 non-finite of 2"),
        (torch.tensor([[0.0], [math.inf]]), 1, 20, "x: expected finite numbers"),
    ],
)
def test_bad_input_is_refused(x, k, iterations, message):
    with pytest.raises(ValueError, match=message):
        kmeans(x, k, seeded(), iterations)


def test_group_means_equal_a_loop():
    x, labels = cloud(30), torch.randint(6, (30,), generator=seeded())
    means, counts = group_means(x, labels, 8)
    for k in range(8):
        mine = x[labels == k]
        assert counts[k] == len(mine)
        torch.testing.assert_close(means[k], mine.mean(dim=0) if len(mine) else torch.zeros(5, dtype=x.dtype))


# ---- the benchmark ---------------------------------------------------------------------------------------------------


def test_the_benchmark_compares_like_with_like():
    x = benchmark.points(600, 8, torch.ones(12))
    torch.testing.assert_close(x.norm(dim=1), torch.ones(600))
    for run in benchmark.contenders(x, 12).values():
        centroids, labels, iterations = run(0)
        assert 1 <= iterations <= benchmark.ITERATIONS and (centroids.shape, labels.shape) == ((12, 8), (600,))
        nearest = torch.cdist(x, centroids).argmin(dim=1)
        assert (nearest == labels).float().mean() > 0.99
    table = benchmark.report(quick=True).splitlines()
    assert len(table) == 2 + 2 * 3 + 1 + 2 * 2
    for faiss_row, sklearn_row in (table[3:5], table[6:8]):
        assert faiss_row.split(" | ")[3] == "1.00 / 1.00" and sklearn_row.endswith("| 1.000 |")
