"""K-means beside faiss and scikit-learn: the same points, the same number of iterations, one thread.

Letters: N points, D dimensions, K clusters.
"""

import statistics
import time
from collections.abc import Callable
from unittest.mock import patch

import faiss
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor

from minilip.protoclip import clustering as method

from . import header, row, target

ITERATIONS = 20  # as in ProtoCLIP's released code
OURS, FAISS, SKLEARN = "minilip, greedy k-means++", "faiss, random points", "scikit-learn, greedy k-means++"
Run = tuple[Tensor, Tensor, int]  # centroids (K, D), labels (N,), iterations


def points(n: int, dim: int, sizes: Tensor) -> Tensor:
    """Unit vectors in K clusters of these relative sizes. (K,) -> (N, D)"""
    generator = torch.Generator().manual_seed(0)
    middles = F.normalize(torch.randn(len(sizes), dim, generator=generator), dim=1)  # (K, D)
    of = torch.multinomial(sizes, n, replacement=True, generator=generator)  # (N,)
    return F.normalize(middles[of] + 0.06 * torch.randn(n, dim, generator=generator), dim=1)


def shapes(k: int) -> dict[str, Tensor]:
    return {"equal": torch.ones(k), "unequal": 1 / torch.arange(1.0, k + 1)}


def contenders(x: Tensor, k: int) -> dict[str, Callable[[int], Run]]:
    """Ways to cluster x, each a function of a seed. Labels count as well as centroids."""

    def ours(seed: int) -> Run:
        with patch.object(method, "group_means", wraps=method.group_means) as means:  # one call an iteration
            return *method.kmeans(x, k, torch.Generator().manual_seed(seed), ITERATIONS), means.call_count

    def with_faiss(seed: int) -> Run:
        # It takes at most 256 points a centroid unless told otherwise, and warns below 39.
        every = {"max_points_per_centroid": len(x), "min_points_per_centroid": 1}
        found = faiss.Kmeans(x.shape[1], k, niter=ITERATIONS, seed=seed + 1, **every)
        found.train(x.numpy())
        _, labels = found.index.search(x.numpy(), 1)
        return torch.from_numpy(found.centroids), torch.from_numpy(labels[:, 0]), len(found.obj)

    def with_sklearn(seed: int) -> Run:
        found = KMeans(k, n_init=1, max_iter=ITERATIONS, tol=0, random_state=seed).fit(x.numpy())
        return torch.from_numpy(found.cluster_centers_), torch.from_numpy(found.labels_).long(), found.n_iter_

    return {OURS: ours, FAISS: with_faiss, SKLEARN: with_sklearn}


def inertia(x: Tensor, centroids: Tensor, labels: Tensor) -> float:
    return float((x - centroids[labels]).double().square().sum())


def times(x: Tensor, k: int, repeats: int) -> dict[str, list[tuple[float, float, int]]]:
    """(seconds, inertia, iterations) of each repeat, each with another seed; the contenders take turns."""
    ways = contenders(x, k)
    spent: dict[str, list[tuple[float, float, int]]] = {name: [] for name in ways}
    for run in contenders(x[: len(x) // 10], 10).values():
        run(0)  # the libraries start
    for seed in range(repeats):
        for name, run in ways.items():
            start = time.perf_counter()
            centroids, labels, iterations = run(seed)
            seconds = time.perf_counter() - start
            spent[name].append((seconds, inertia(x, centroids, labels), iterations))
    return spent


def report(quick: bool) -> str:
    n, dim, k, repeats = (400, 8, 20, 1) if quick else (20_000, 128, 500, 3)
    threads = torch.get_num_threads(), faiss.omp_get_max_threads()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    lines = header(
        ["clusters", "one thread", "seconds", "to faiss", "iterations", "inertia", "to scikit-learn"], words=2
    )
    targets = [""]
    for shape, sizes in shapes(k).items():
        with threadpool_limits(1):
            spent = times(points(n, dim, sizes), k, repeats)
        columns = {name: list(zip(*runs, strict=True)) for name, runs in spent.items()}
        middle = {name: statistics.median(c[0]) for name, c in columns.items()}
        least = {name: min(c[0]) for name, c in columns.items()}
        mean = {name: statistics.mean(c[1]) for name, c in columns.items()}
        slower = {name: (middle[name] / middle[FAISS], least[name] / least[FAISS]) for name in spent}
        for name, (_, _, iterations) in columns.items():
            done = " to ".join(str(i) for i in sorted({min(iterations), max(iterations)}))
            cells = [f"{middle[name]:.3f} / {least[name]:.3f}", "{:.2f} / {:.2f}".format(*slower[name]), done]
            lines.append(row([shape, name, *cells, f"{mean[name]:,.1f}", f"{mean[name] / mean[SKLEARN]:.3f}"]))
            print(lines[-1], flush=True)
        targets.append(target(f"time, minilip to faiss, {shape} clusters", max(slower[OURS]), 1.5))
        targets.append(target(f"inertia, minilip to scikit-learn, {shape} clusters", mean[OURS] / mean[SKLEARN], 1.02))
    torch.set_num_threads(threads[0])
    faiss.omp_set_num_threads(threads[1])
    return "\n".join(lines + targets)
