"""The study of lesson 05b: what is trained on is not examined, each arm is what it says, results add up."""

import pytest
import torch

from minilip.mae import mae_loss, patchify
from minilip.studies.mae import digits as study
from minilip.studies.mae.digits import ARMS, Arm, Everywhere, Mean, augment, build, digits, errors, few, measure, train


def test_parts_are_different_digits():
    parts = {name: digits(name) for name in study.PARTS}
    assert [len(y) for _, y in parts.values()] == [1000, 300, 497]
    x = torch.cat([x for x, _ in parts.values()])
    assert x.shape[1:] == (3, 8, 8) and 0 == float(x.min()) < float(x.max()) == 1 and torch.equal(x[:, 0], x[:, 2])
    assert len(x) == len(x.unique(dim=0))


def test_few_labels_are_ten_of_each_and_another_lot_for_each_seed():
    y = digits("train")[1]
    lots = [few(y, seed) for seed in (0, 1)]
    assert all(y[rows].bincount().tolist() == [study.FEW] * 10 for rows in lots)
    assert set(lots[0].tolist()) != set(lots[1].tolist())


def test_no_augmentation_mirrors_a_digit():
    x = torch.zeros(40, 3, 8, 8)
    x[:, :, :, :2] = 1  # bright on the left
    moved = augment(x, torch.Generator().manual_seed(0))
    assert bool((moved[..., :4].sum((1, 2, 3)) > moved[..., 4:].sum((1, 2, 3))).all())


def test_an_arm_is_what_its_name_says():
    hidden = {name: 16 - build(arm, 0).keep for name, arm in ARMS.items()}
    assert [hidden[f"mask {m}"] for m in study.MASKS] == [4, 8, 12, 15]
    assert isinstance(build(ARMS["loss everywhere"], 0), Everywhere) and not build(ARMS["plain pixels"], 0).normalize
    x = digits("val")[0][:8]
    for name in ("mask 0.75", "loss everywhere"):
        model = build(ARMS[name], 0)
        torch.manual_seed(1)
        got = float(model.loss(x)[0].detach())
        torch.manual_seed(1)
        y, mask = model.predict(x, torch.rand(8, 16))
        asked = torch.ones_like(mask) if name == "loss everywhere" else mask
        assert got == pytest.approx(float(mae_loss(y, patchify(x, 2), asked)), rel=1e-6)


def test_features_are_the_mean_of_the_patches():
    model = build(Arm(), 0).eval()
    x = digits("val")[0][:4]
    assert Mean(model).dim == model.dim
    torch.testing.assert_close(Mean(model)(x), model.tokens(x)[:, 1:].mean(dim=1))


def test_errors_are_of_hidden_and_of_seen_patches():
    model = build(Arm(normalize=False), 0).eval()
    x = digits("val")[0][:6]
    model.predict = lambda images, noise: (patchify(images, 2) + 0.5 * MASK[:, :, None], MASK)
    MASK = (torch.rand(6, 16) < 0.75).float()
    assert errors(model, x) == pytest.approx((0.25, 0.0))


def test_an_untrained_arm_is_left_as_it_starts():
    model, history = train(Arm(steps=0), 3, digits("train")[0])
    assert not history.loss and not model.training
    assert torch.equal(model.embed.weight, build(Arm(), 3).embed.weight)


def test_measure_says_what_it_says_it_says(monkeypatch):
    monkeypatch.setattr(study, "TUNING_STEPS", 2)
    result = measure(Arm(steps=2)._asdict(), 0, "val")
    assert set(result) == {"hidden", "seen", "probe", "probe [CLS]", "fine-tuned"}
    assert all(len(result[name]) == 2 and min(result[name]) >= 0 for name in ("probe", "probe [CLS]", "fine-tuned"))
    monkeypatch.setattr(study, "STEPS", 1)
    assert len(study.scratch(0, "val")) == 2
    for wrong in (
        lambda: measure(Arm()._asdict(), 0, "train"),
        lambda: study.scratch(0, "train"),
        lambda: digits("all"),
    ):
        with pytest.raises(ValueError, match="part: expected one of"):
            wrong()


def test_the_stored_measurements_are_of_this_code():
    known = study.known()
    assert set(known) == set(ARMS) and all(len(runs) == len(study.SEEDS) for runs in known.values())
    assert len(study.known_scratch()) == len(study.SEEDS)
