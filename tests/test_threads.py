"""The same seed gives the same bits on one and on two threads, for every public function that takes a generator."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from minilip import protoclip
from minilip.data.latents import Latents
from minilip.data.motion import Films
from minilip.data.scenes import Scenes
from minilip.nn import augment
from tests.surface import Case, cases, public

CASES = cases()


def takes_a_generator(name: str, f: Any) -> bool:
    if inspect.isclass(f):
        f = vars(f).get("__call__", vars(f).get("__init__"))
    return f is not None and "generator" in inspect.signature(inspect.unwrap(f)).parameters


RANDOM = [name for name, f in public().items() if takes_a_generator(name, f)]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def tensors(x: Any) -> list[Tensor]:
    if isinstance(x, Tensor):
        return [x]
    if isinstance(x, (Latents, Films)):
        return list(vars(x).values())
    if isinstance(x, str):  # captions drawn by lot, letter by letter
        return [torch.tensor(list(x.encode()))]
    return [t for part in x for t in tensors(part)]


def on_threads(n: int, call: Any) -> list[Tensor]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        return tensors(call())
    finally:
        torch.set_num_threads(before)


def large() -> dict[str, Case]:
    """Sizes at which torch divides the work among threads; the table's own are too small for it."""
    images = torch.rand(64, 3, 48, 48, generator=seeded())
    x = torch.nn.functional.normalize(torch.randn(5000, 33, generator=seeded()), dim=1)
    changes: dict[str, dict[str, Any]] = {name: {"images": images} for name in vars(augment) if name in RANDOM}
    changes["kmeans"] = {"x": x, "k": 61, "iterations": 20}
    changes["reparametrise"] = {"mu": x, "logvar": x}
    changes["Gaussians.sample"] = changes["Scenes.sample"] = {"n": 20_000}
    changes["Scenes.render"] = {"latents": Scenes(16, 1, 0.5, 0.5).sample(700, seeded())}
    return {name: Case(CASES[name].call, {**CASES[name].given, **change}) for name, change in changes.items()}


LARGE = large()


def test_every_kind_of_function_that_draws_is_found():
    assert {"kmeans", "Episodes", "ProtoCLIP.episode", "Scenes.sample", "simclr_view", "reparametrise"} <= set(RANDOM)
    assert set(RANDOM) <= set(CASES)


@pytest.mark.parametrize("name", RANDOM)
def test_the_same_bits_on_one_and_two_threads_and_again(name):
    case = LARGE.get(name, CASES[name])

    def call() -> Any:
        torch.manual_seed(0)  # batch normalisation and the like draw nothing; a model's own dropout would
        return case(generator=seeded())

    one, *others = (on_threads(n, call) for n in (1, 2, 2))
    assert one
    for other in others:
        assert len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("n, d, k", [(700, 5, 30), (3000, 96, 128)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kmeans_on_any_number_of_threads(n, d, k, dtype):
    x = torch.randn(n, d, generator=seeded(), dtype=torch.float64).to(dtype)
    one, *others = (on_threads(t, lambda: protoclip.kmeans(x, k, seeded(), 3)) for t in (1, 2, 2, 3))
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_masks_are_the_same_on_any_number_of_threads():
    # The painted pictures may differ in the last digit: how a matrix product is divided is the business of its library.
    images = torch.rand(300, 3, 16, 16, generator=seeded())
    one, two = (on_threads(t, lambda: CASES["MAE.reconstruct"](images=images, generator=seeded())) for t in (1, 2))
    torch.testing.assert_close(one[0], two[0])
    assert torch.equal(one[1], two[1])


def test_means_of_groups_do_not_depend_on_threads():
    x, labels = torch.randn(20_000, 32, generator=seeded()), torch.randint(50, (20_000,), generator=seeded())
    one, *others = (on_threads(t, lambda: protoclip.group_means(x, labels, 60)) for t in (1, 2, 2, 3))
    for other in others:
        assert torch.equal(one[0], other[0])
