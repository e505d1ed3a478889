"""MAE's parts against lightly, loops and closed forms; who sees which patch; the model by a loop; some training."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightly.models import utils as lightly

from minilip.mae import MAE, mae_loss, patchify, random_masking, sincos_positions, unpatchify
from minilip.training import fit


def rand(*shape, seed=0, dtype=torch.double):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double).to(dtype)


def problem(batch=3, patches=9, numbers=12, keep=4, dtype=torch.double):
    """A prediction, patches and a mask."""
    mask = random_masking(rand(batch, patches, seed=2), keep)[1]
    return rand(batch, patches, numbers, seed=1).to(dtype), rand(batch, patches, numbers).to(dtype), mask.to(dtype)


# ---- patches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size, patch", [(6, 1), (8, 2), (12, 4), (15, 5), (7, 7)])
def test_patches_are_cut_row_by_row_and_go_back_together(size, patch):
    images = rand(3, 3, size, size)
    patches = patchify(images, patch)
    corners = [(r, c) for r in range(0, size, patch) for c in range(0, size, patch)]
    cut = [images[:, :, r : r + patch, c : c + patch].permute(0, 2, 3, 1).flatten(1) for r, c in corners]
    assert torch.equal(patches, torch.stack(cut, dim=1))
    assert torch.equal(unpatchify(patches, patch), images)
    noise = torch.randn_like(patches)
    assert torch.equal(patchify(unpatchify(noise, patch), patch), noise)


def test_where_a_pixel_goes():
    images = torch.zeros(1, 3, 8, 8)
    images[0, 2, 5, 3] = 1  # blue; patch row 1, column 0; in the patch, row 1, column 3
    assert patchify(images, 4).nonzero().tolist() == [[0, 2, (1 * 4 + 3) * 3 + 2]]


@pytest.mark.parametrize(
    "call",
    [
        lambda: patchify(torch.zeros(2, 3, 8, 12), 4),
        lambda: patchify(torch.zeros(2, 3, 8, 8), 3),
        lambda: patchify(torch.zeros(2, 1, 8, 8), 4),
        lambda: patchify(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), 4),
        lambda: patchify(torch.zeros(2, 3, 8, 8), 0),
        lambda: unpatchify(torch.zeros(2, 5, 48), 4),
        lambda: unpatchify(torch.zeros(2, 4, 47), 4),
        lambda: unpatchify(torch.zeros(2, 0, 48), 4),
        lambda: unpatchify(torch.zeros(4, 48), 4),
    ],
)
def test_what_cannot_be_cut_or_joined_is_refused(call):
    with pytest.raises(ValueError, match=r"^(images|patches|patch): expected .*, got "):
        call()


# ---- masks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patches, part", [(64, 0.75), (16, 0.5), (49, 0.75), (2, 0.5)])
def test_masks_equal_lightly(patches, part):
    torch.manual_seed(3)
    want_kept, want_removed = lightly.random_token_mask((5, patches), part, mask_class_token=True)
    torch.manual_seed(3)
    keep = int(patches * (1 - part))
    kept, mask, restore = random_masking(torch.rand(5, patches), keep)
    assert torch.equal(kept, want_kept)
    assert torch.equal(mask, torch.zeros(5, patches).scatter(1, want_removed, 1))
    assert (mask.sum(dim=1) == patches - keep).all() and kept.shape == (5, keep)
    assert torch.equal(restore.sort(dim=1).values, torch.arange(patches).expand(5, -1))


def test_restore_undoes_the_reordering():
    x, noise = rand(3, 9, 2), rand(3, 9, seed=1)
    kept, mask, restore = random_masking(noise, 4)
    for b in range(3):
        removed = [i for i in noise[b].argsort().tolist() if mask[b, i] == 1]
        row = torch.cat([x[b, kept[b]], x[b, removed]])  # the kept ones first
        assert torch.equal(row[restore[b]], x[b])
        assert noise[b, kept[b]].max() < noise[b, removed].min()


def test_every_patch_is_as_likely_to_be_removed():
    mask = random_masking(rand(8000, 16), 4)[1]
    assert (mask.mean(dim=0) - 0.75).abs().max() < 5 * math.sqrt(0.75 * 0.25 / 8000)
    together = (mask[:, 0] * mask[:, 1]).mean()  # without replacement: 12/16 11/15
    assert abs(float(together) - 0.55) < 5 * math.sqrt(0.25 / 8000)


@pytest.mark.parametrize("noise, keep", [(rand(9), 4), (rand(2, 9), 0), (rand(2, 9), 9), (rand(2, 9), 2.0)])
def test_masks_that_keep_or_remove_nothing_are_refused(noise, keep):
    with pytest.raises(ValueError, match=r"^(noise|keep): expected .*, got "):
        random_masking(noise, keep)
    with pytest.raises(ValueError, match="noise: expected finite numbers"):
        random_masking(torch.full((2, 9), math.nan), 4)


# ---- the loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("numbers", [2, 12, 48])
def test_value_and_gradient_equal_torch_and_numpy(numbers, normalize):
    prediction, patches, mask = problem(numbers=numbers)
    prediction.requires_grad_()
    variance, mean = torch.var_mean(patches, dim=2, keepdim=True)  # (B, P, 1), over N - 1 as in the released code
    target = (patches - mean) / (variance + 1e-6) ** 0.5 if normalize else patches
    removed = mask.bool()
    ours = mae_loss(prediction, patches, mask, normalize)
    theirs = F.mse_loss(prediction[removed], target[removed])
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    got, want = (torch.autograd.grad(loss, prediction)[0] for loss in (ours, theirs))
    torch.testing.assert_close(got, want, atol=1e-12, rtol=0)
    errors = []
    for y, x, m in zip(*(t.detach().flatten(0, 1).numpy() for t in (prediction, patches, mask)), strict=True):
        t = (x - x.mean()) / math.sqrt(np.var(x, ddof=1) + 1e-6) if normalize else x
        errors += [np.mean((y - t) ** 2)] if m == 1 else []
    assert len(errors) == 3 * (9 - 4) and float(ours.detach()) == pytest.approx(np.mean(errors), abs=1e-12)


def test_constants():
    _, patches, mask = problem(numbers=12)
    assert float(mae_loss(patches, patches, mask, normalize=False)) == 0
    assert float(mae_loss(patches - 0.3, patches, mask, normalize=False)) == pytest.approx(0.09)
    nothing = torch.zeros_like(patches)
    assert float(mae_loss(nothing, 1000 * patches, mask)) == pytest.approx(11 / 12)  # (N - 1) / N
    assert float(mae_loss(nothing, nothing + 0.7, mask)) == pytest.approx(0, abs=1e-12)  # one colour: the target is 0
    assert float(mae_loss(nothing + 0.5, nothing + 0.7, mask)) == pytest.approx(0.25)


@pytest.mark.parametrize("size, patch", [(8, 2), (12, 4)])
def test_patches_and_their_moments_equal_lightly(size, patch):
    images = rand(3, 3, size, size)
    theirs = lightly.patchify(images, patch)  # its older versions put the colours first
    last = theirs.unflatten(2, (patch, patch, 3)).flatten(2)
    first = theirs.unflatten(2, (3, patch, patch)).permute(0, 1, 3, 4, 2).flatten(2)
    ours = patchify(images, patch)
    assert torch.equal(ours, last) or torch.equal(ours, first)
    normalise = getattr(lightly, "normalize_mean_var", lambda x: F.layer_norm(x, x.shape[2:], eps=1e-6))  # not in 1.5
    target = normalise(ours)
    mask = random_masking(rand(3, ours.shape[1], seed=4), 1)[1]
    n = ours.shape[2]
    unbiased = float(mae_loss(target, ours, mask))
    biased = float(mae_loss(target * ((n - 1) / n) ** 0.5, ours, mask))  # of lightly 1.5, over N
    assert min(unbiased, biased) < 1e-9


@pytest.mark.parametrize("normalize", [True, False])
def test_the_gradient_by_hand(normalize):
    prediction, patches, mask = problem()
    prediction.requires_grad_()
    slope = torch.autograd.grad(mae_loss(prediction, patches, mask, normalize), prediction)[0]
    variance, mean = torch.var_mean(patches, dim=2, keepdim=True)
    target = (patches - mean) / (variance + 1e-6).sqrt() if normalize else patches
    want = 2 * mask[:, :, None] * (prediction.detach() - target) / (12 * mask.sum())
    torch.testing.assert_close(slope, want, atol=1e-12, rtol=0)


def test_nothing_is_asked_about_the_patches_that_were_seen():
    prediction, patches, mask = problem()
    loss = mae_loss(prediction, patches, mask)
    seen = (1 - mask)[:, :, None]
    assert torch.equal(mae_loss(prediction + 100 * seen, patches, mask), loss)
    assert torch.equal(mae_loss(prediction, patches + 100 * seen, mask), loss)
    assert float(mae_loss(prediction + 100 * (1 - seen), patches, mask)) > 1000
    prediction.requires_grad_()
    gradient = torch.autograd.grad(mae_loss(prediction, patches, mask), prediction)[0]
    assert torch.equal((gradient != 0).any(dim=2), mask.bool())


def test_normalised_patches_know_neither_brightness_nor_contrast():
    prediction, patches, mask = problem()
    gain, shift = 50 + rand(3, 9, 1, seed=5), rand(3, 9, 1, seed=6)
    loss = mae_loss(prediction, 50 * patches, mask)
    torch.testing.assert_close(mae_loss(prediction, gain * patches + shift, mask), loss, rtol=1e-6, atol=0)
    bright, plain = (mae_loss(prediction, x, mask, normalize=False) for x in (patches + shift, patches))
    assert abs(float(bright - plain)) > 0.01


@pytest.mark.parametrize("normalize", [True, False])
def test_gradcheck(normalize):
    prediction, patches, mask = problem(2, 4, 6, 2)
    inputs = prediction.requires_grad_(), patches.requires_grad_(), mask, normalize
    assert torch.autograd.gradcheck(mae_loss, inputs)


def test_half_precision_and_autocast_are_computed_in_float32():
    y, x, m = problem(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = mae_loss(y, x, m)
    assert inside.dtype == torch.float32 and torch.equal(inside, mae_loss(y, x, m))
    for half in (torch.bfloat16, torch.float16):
        y_half, flat = y.to(half).requires_grad_(), torch.full_like(x, 0.7).to(half)
        for patches in (x.to(half), flat):
            loss = mae_loss(y_half, patches, m.to(half))
            assert loss.dtype == torch.float32 and loss.isfinite()
            assert torch.autograd.grad(loss, y_half)[0].isfinite().all()
            torch.testing.assert_close(loss, mae_loss(y_half.float(), patches.float(), m))


def broken(**wrong):
    prediction, patches, mask = problem()
    return {"prediction": prediction, "patches": patches, "mask": mask} | wrong


@pytest.mark.parametrize(
    "wrong",
    [
        {"prediction": rand(3, 9, 11)},
        {"prediction": rand(3, 9, 12) / 0},
        {"patches": rand(3, 9, 12) * math.nan},
        {"patches": rand(27, 12)},
        {"mask": torch.ones(3, 8)},
        {"mask": torch.full((3, 9), 0.75)},
        {"mask": torch.zeros(3, 9)},
    ],
)
def test_bad_input_is_refused(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: expected .*, got "):
        mae_loss(**broken(**wrong))


def test_a_mask_of_booleans_is_a_mask():
    prediction, patches, mask = problem()
    assert torch.equal(mae_loss(prediction, patches, mask.bool()), mae_loss(prediction, patches, mask))


# ---- positions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid, dim", [(1, 4), (3, 8), (8, 96), (14, 64)])
def test_positions_equal_lightly(grid, dim):
    want = torch.tensor(lightly.get_2d_sine_cosine_positional_embedding(dim, grid, cls_token=False))
    torch.testing.assert_close(sincos_positions(grid, dim), want, atol=3e-6, rtol=0)  # lightly's is float32


def test_how_alike_two_positions_are_depends_on_the_step_between_them():
    p = sincos_positions(5, 16).view(5, 5, 16)
    torch.testing.assert_close(p[1, 0] @ p[3, 1], p[2, 3] @ p[4, 4])
    torch.testing.assert_close(p[1, 0] @ p[1, 0], torch.tensor(8.0))  # sin^2 + cos^2, D/2 times
    assert p[1, 0] @ p[3, 1] < p[1, 0] @ p[2, 0] < 8


@pytest.mark.parametrize("grid, dim", [(0, 8), (3, 6), (3, 0), (2.0, 8)])
def test_positions_that_do_not_exist_are_refused(grid, dim):
    with pytest.raises(ValueError, match="expected .* got"):
        sincos_positions(grid, dim)


# ---- the model -------------------------------------------------------------------------------------------------------


def make(**settings):
    torch.manual_seed(0)
    small = {"size": 16, "patch": 4, "dim": 16, "depth": 2, "heads": 2, "decoder_dim": 8}
    return MAE(**small | settings).double()


def test_what_later_tasks_use_is_the_state_of_cls():
    model, images = make().eval(), rand(5, 3, 16, 16)
    h = model(images)
    assert h.shape == (5, model.dim) and model.tokens(images).shape == (5, 1 + 16, 16)
    assert torch.equal(h, model.tokens(images)[:, 0])
    torch.testing.assert_close(model(images[2:3])[0], h[2])


def test_the_encoder_sees_the_kept_patches_and_no_others():
    model, images = make().eval(), rand(2, 3, 16, 16)
    kept, mask, _ = random_masking(rand(2, 16), 4)
    z, patches = model.tokens(images, kept), patchify(images, 4)
    elsewhere = unpatchify(torch.where(mask[:, :, None] == 1, 1 - patches, patches), 4)
    assert torch.equal(model.tokens(elsewhere, kept), z)
    assert (model(elsewhere) - model(images)).abs().max() > 1e-3
    patches[:, kept[0, 0]] = 0.5
    assert (model.tokens(unpatchify(patches, 4), kept)[0] - z[0]).abs().amax(dim=1).min() > 1e-6  # all tokens notice


def test_patches_are_a_set_with_positions():
    model, images = make().eval(), rand(2, 3, 16, 16)
    z = model.tokens(images)
    order = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(i)) for i in range(2)])
    shuffled = model.tokens(images, order)
    torch.testing.assert_close(shuffled[:, 0], z[:, 0])
    torch.testing.assert_close(shuffled[:, 1:], z[:, 1:].take_along_dim(order[:, :, None], dim=1))
    assert (model(images.roll(4, dims=3)) - model(images)).abs().max() > 1e-3


def test_the_model_by_a_loop_over_patches():
    model, images, noise = make().eval(), rand(2, 3, 16, 16), rand(2, 16, seed=1)
    prediction, mask = model.predict(images, noise)
    for b in range(2):
        shown = noise[b].argsort()[:4].tolist()
        assert [i for i in range(16) if mask[b, i] == 0] == sorted(shown)
        row = [model.cls]
        for i in sorted(shown):
            r, c = divmod(i, 4)
            pixels = images[b, :, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4].permute(1, 2, 0).reshape(48)
            row.append(model.embed(pixels) + model.position[i])
        z = model.norm(model.blocks(torch.stack(row)[None]))[0]
        row = [model.decoder_embed(z[0])]
        for i in range(16):
            said = model.decoder_embed(z[1 + sorted(shown).index(i)]) if i in shown else model.mask_token
            row.append(said + model.decoder_position[i])
        y = model.decoder_norm(model.decoder_blocks(torch.stack(row)[None]))[0, 1:]
        torch.testing.assert_close(prediction[b], model.paint(y))


@pytest.mark.parametrize("normalize", [True, False])
def test_the_loss_of_a_batch_and_its_gradient(normalize):
    model, images = make(normalize=normalize), rand(3, 3, 16, 16)
    torch.manual_seed(4)
    loss, metrics = model.loss(images)
    torch.manual_seed(4)
    prediction, mask = model.predict(images, torch.rand(3, 16))
    torch.testing.assert_close(loss, mae_loss(prediction, patchify(images, 4), mask, normalize))
    assert metrics == {} and mask.sum() == 3 * 12
    assert not torch.equal(model.loss(images)[0], loss)  # the next mask is another
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("part, removed", [(0.75, 12), (0.5, 8), (0.8, 13), (0.9, 15)])
def test_how_many_patches_are_removed(part, removed):
    model = make(mask=part)
    assert removed == 16 - int(16 * (1 - part))
    assert model.predict(rand(2, 3, 16, 16), rand(2, 16))[1].sum(dim=1).tolist() == [removed, removed]


def test_autocast():
    model, images = make().float(), rand(3, 3, 16, 16, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.loss(images)[0]
    assert loss.dtype == torch.float32 and loss.isfinite()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("normalize", [True, False])
def test_reconstruct_paints_the_removed_patches_only(normalize):
    model, images = make(normalize=normalize).eval(), rand(2, 3, 16, 16)
    images[0, :, :8] = 0.7  # half of one picture is of one colour
    state = torch.get_rng_state()
    painted, mask = model.reconstruct(images, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), state) and not painted.requires_grad
    assert torch.equal(model.reconstruct(images, torch.Generator().manual_seed(0))[0], painted)
    y, _ = model.predict(images, torch.rand(2, 16, generator=torch.Generator().manual_seed(0)))
    before, after = patchify(images, 4), patchify(painted, 4)
    for b in range(2):
        for i in range(16):
            x, want = before[b, i], y[b, i].detach()
            if mask[b, i] == 0:
                want = x
            elif normalize:
                want = x.mean() + want * math.sqrt(np.var(x.numpy(), ddof=1) + 1e-6)
            torch.testing.assert_close(after[b, i], want)


def test_positions_are_not_learned_and_not_saved():
    names = {name for name, _ in make().named_parameters()} | set(make().state_dict())
    assert not any("position" in name for name in names)
    assert make().position.shape == (16, 16) and make().decoder_position.shape == (16, 8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"patch": 5},
        {"dim": 15},
        {"heads": 3},
        {"dim": 18},
        {"decoder_dim": 6},
        {"depth": 0},
        {"decoder_depth": 0},
        {"mask": 0.0},
        {"mask": 1.0},
        {"mask": 0.99},
        {"mask": -0.5},
        {"mask": math.nan},
    ],
)
def test_bad_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="expected .* got"):
        make(**wrong)


def test_pictures_of_another_size_are_refused():
    for images in (rand(2, 3, 32, 32), rand(2, 3, 16, 12), rand(2, 1, 16, 16)):
        for call in (make(), make().loss):
            with pytest.raises(ValueError, match="images: expected"):
                call(images)


def test_noise_of_another_shape_is_refused():
    for noise in (rand(3, 16), rand(2, 17), rand(16)):
        with pytest.raises(ValueError, match=r"noise: expected shape \(2, 16\)"):
            make().predict(rand(2, 3, 16, 16), noise)


def ramps(generator):
    """Pictures that get brighter to one side, each to its own: what the kept patches show, the removed ones do too."""
    ramp = torch.linspace(0, 1, 16).expand(24, 3, 16, 16)
    down, back = (torch.rand(24, 1, 1, 1, generator=generator) < 0.5 for _ in range(2))
    ramp = torch.where(down, ramp.mT, ramp)
    return torch.where(back, 1 - ramp, ramp)


def test_training_lowers_the_loss_and_repeats_itself():
    runs = [fit(make(decoder_dim=16).float(), ramps, steps=120, lr=1e-2, progress=False).loss for _ in range(2)]
    assert runs[0] == runs[1]  # fit seeds the masks too
    images = ramps(torch.Generator().manual_seed(9))
    patches, mask = patchify(images, 4), random_masking(rand(24, 16), 4)[1]
    no_answer = float(mae_loss(torch.zeros_like(patches), patches, mask))
    assert sum(runs[0][-5:]) / 5 < no_answer / 4 < no_answer < sum(runs[0][:5]) / 5
