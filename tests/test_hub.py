"""Models of open_clip behind the interface of CLIP, here with random weights."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from minilip.clip import clip_loss, zero_shot_classifier
from minilip.data.fetch import MissingData
from minilip.data.pretrained import hub, open_clip
from minilip.evaluation import encode, linear_probe, retrieval

library = pytest.importorskip("open_clip")
from open_clip.transform import PreprocessCfg, image_transform_v2  # noqa: E402

NAME = "ViT-S-32-alt"  # a small one: 43 M parameters, 256 dimensions


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return open_clip(NAME, None)


@pytest.fixture
def images():
    return torch.rand(6, 3, 48, 64, generator=torch.Generator().manual_seed(0))


def test_it_is_asked_as_clip_is(model, images):
    assert not model.training
    v, t = model.encode_image(images), model.encode_text(model.tokenizer(["a cat", "a zebra"]))
    assert v.shape == (6, 256) and t.shape == (2, 256) and v.dtype == t.dtype == torch.float32
    torch.testing.assert_close(v.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(t.norm(dim=1), torch.ones(2))
    assert float(model.logit_scale.detach().exp()) == pytest.approx(1 / 0.07, rel=1e-4)  # a logarithm, as ours
    assert model.tokenizer("a cat").shape == model.tokenizer(["a cat"], torch.device("cpu")).shape == (1, 77)
    assert model.tokenizer.unknown("a quagga") == []


def test_zero_shot_retrieval_and_probes_run_on_it(model, images):
    W = zero_shot_classifier(model, ["cat", "dog", "zebra"], ["a photo of a {}", "a drawing of a {}"])
    assert W.shape == (3, 256) and not W.requires_grad
    prompts = [model.tokenizer(s) for s in ("a photo of a zebra", "a drawing of a zebra")]
    with torch.no_grad():
        by_hand = F.normalize(torch.cat([model.encode_text(p) for p in prompts]).mean(dim=0), dim=0)
    torch.testing.assert_close(W[2], by_hand, atol=1e-5, rtol=0)
    x = encode(model.encode_image, images)
    assert 0 <= retrieval(x @ W.T, torch.tensor([0, 1, 2, 0, 1, 2]))["R@1"] <= 1
    y = torch.tensor([0, 1, 0, 1, 0, 1])
    assert linear_probe(x, y, x, y) == 1.0


def test_gradients_reach_both_towers_and_the_scale(model, images):
    v, t = model.encode_image(images[:2]), model.encode_text(model.tokenizer(["a cat", "a dog"]))
    clip_loss(v, t, model.logit_scale.exp()).backward()
    for part in (model.model.visual, model.model.token_embedding, model.model):
        assert any(p.grad is not None and bool((p.grad != 0).any()) for p in part.parameters())
    assert float(model.logit_scale.grad) != 0
    model.zero_grad()


@pytest.mark.parametrize("shape", [(224, 224), (48, 64), (300, 224), (500, 333)], ids=str)
@pytest.mark.parametrize("name", [NAME, "ViT-B-16-SigLIP"])
def test_pictures_are_prepared_as_open_clip_does(name, shape):
    """Theirs resizes a PIL image of whole numbers in two passes, and rounds after each: half a level each, times the
    sum of the second pass's absolute weights, which is below 1.5 for bicubic ones."""
    config = hub_config(name)
    theirs = image_transform_v2(PreprocessCfg(**config), is_train=False)
    smooth = F.interpolate(torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(1)), shape, mode="bilinear")
    pixels = (255 * smooth[0]).byte()
    want = theirs(Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())))
    got = hub.OpenCLIP(torch.nn.Identity(), None, config).prepare(pixels[None].float() / 255)[0]
    assert got.shape == want.shape
    levels = 255 * (got - want).abs() * torch.tensor(config["std"])[:, None, None]
    assert float(levels.max()) < 0.5 * 1.5 + 0.5
    assert float(levels.mean()) < 0.5


def hub_config(name):
    """What open_clip states of a model, without its hundred million parameters."""
    base = {"size": 224, "mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0}
    base |= {"mean": library.OPENAI_DATASET_MEAN, "std": library.OPENAI_DATASET_STD}
    if "SigLIP" in name:
        return base | {"resize_mode": "squash", "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return base


def test_longest_keeps_the_whole_picture_and_fills_around_it():
    config = hub_config(NAME) | {"resize_mode": "longest", "fill_color": 255, "size": (32, 32)}
    model = hub.OpenCLIP(torch.nn.Identity(), None, config | {"mean": (0.0,) * 3, "std": (1.0,) * 3})
    x = model.prepare(torch.zeros(1, 3, 16, 64))
    assert x.shape == (1, 3, 32, 32)
    assert bool((x[:, :, 12:20] == 0).all()) and bool((x[:, :, :12] == 1).all()) and bool((x[:, :, 20:] == 1).all())


@pytest.mark.parametrize(
    "wrong", [torch.rand(3, 8, 8), torch.rand(1, 1, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)]
)
def test_what_is_no_batch_of_pictures_is_refused(model, wrong):
    with pytest.raises(ValueError, match="images: expected a floating-point tensor"):
        model.encode_image(wrong)


def test_an_unknown_name_or_tag_says_what_there_is(tmp_path):
    with pytest.raises(ValueError, match="name: expected a model that open_clip knows, such as .*ViT-B-32"):
        open_clip("ViT-B-3", None)
    for weights in ("laion", str(tmp_path / "weights.pt")):  # a path is no tag: a file of anybody's is never loaded
        with pytest.raises(ValueError, match="weights: expected one of .*laion2b_s34b_b79k"):
            open_clip("ViT-B-32", weights)


def test_weights_are_numbers_only_while_they_are_loaded(monkeypatch, tmp_path):
    class Code:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    torch.save({"weights": Code()}, tmp_path / "weights.pt")
    before, quiet = dict(os.environ), hub.logging.root.manager.disable

    def load(*_, **__):
        torch.load(tmp_path / "weights.pt", weights_only=False)  # as an old open_clip would with an old torch

    monkeypatch.setattr(library, "create_model", load)
    with pytest.raises(MissingData, match="weights 'openai' of ViT-B-32"):
        open_clip("ViT-B-32", "openai")
    assert not (tmp_path / "ran").exists()
    assert dict(os.environ) == before and hub.logging.root.manager.disable == quiet


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingData, match="`pip install open_clip_torch`"):
        open_clip(NAME, None)


def test_without_the_hub_one_error_names_what_is_missing(tmp_path):
    """In a process of its own, whose hub is switched off and whose cache is empty; nothing else is printed."""
    code = "from minilip.data.pretrained import open_clip; open_clip('ViT-B-32', 'laion2b_s34b_b79k')"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert run.returncode == 1
    last = run.stderr[run.stderr.rindex("MissingData: ") :].splitlines()
    assert (
        last[0]
        == "MissingData: missing: weights 'laion2b_s34b_b79k' of ViT-B-32, which open_clip fetches from a model hub"
    )
    assert last[-1] == "With a connection to the hub the same call fetches them once and keeps them."
    assert "Retrying" not in run.stderr
