"""BLIP's losses against torch's own, closed forms and loops; what its three roles share and see; a short training."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minilip.blip import (
    BLIP,
    Eye,
    Kept,
    Labelled,
    Reader,
    capfilt,
    follow,
    hard_negatives,
    itc_loss,
    itm_loss,
    lm_loss,
    match_score,
    match_table,
    momentum_targets,
    rerank,
    shortlist,
)
from minilip.clip import clip_loss
from minilip.data.scenes import Scenes
from minilip.nn.generation import with_end
from minilip.nn.tokenizer import MASK, PAD, UNK, Tokenizer
from minilip.training import fit
from tests.helpers import assert_near, seeded, value_and_gradients, vectors

WORLD = Scenes(16, objects=2)
TOKENIZER = Tokenizer(WORLD.caption(WORLD.sample(2000, seeded()), detail=2))
IGNORED = math.log(3) - 2 / 3 * math.log(2)


def make(seed=0, **settings):
    torch.manual_seed(seed)
    return BLIP(TOKENIZER, 16, **{"dim": 16, "depth": 1, "heads": 2, "embedding": 8, "queue": 24, **settings})


def pairs(n=6, seed=0):
    latents = WORLD.sample(n, seeded(seed))
    return WORLD.render(latents), TOKENIZER(WORLD.caption(latents, detail=2))


# ---- contrast --------------------------------------------------------------------------------------------------------


def keys(b, q, dim, seed):
    return vectors(b + q, dim, seed)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("q", [0, 7])
def test_targets_equal_a_loop_and_sum_to_one(alpha, q):
    x, y, tau = vectors(5, 4), keys(5, q, 4, 1), 0.3
    got = momentum_targets(x, y, tau, alpha)
    for i in range(5):
        weights = [math.exp(float(x[i] @ y[j]) / tau) for j in range(5 + q)]
        for j in range(5 + q):
            want = alpha * weights[j] / sum(weights) + (1 - alpha) * (i == j)
            assert float(got[i, j]) == pytest.approx(want, abs=1e-12)
    torch.testing.assert_close(got.sum(dim=1), torch.ones(5, dtype=torch.double))


def test_captions_of_the_same_words_share_the_label():
    same = torch.eye(3, 5, dtype=torch.bool)
    same[0, 1] = same[1, 0] = same[0, 4] = same[1, 4] = True
    got = momentum_targets(vectors(3, 4), keys(3, 2, 4, 1), 0.1, 0.0, same)
    want = torch.tensor([[1 / 3, 1 / 3, 0, 0, 1 / 3], [1 / 3, 1 / 3, 0, 0, 1 / 3], [0, 0, 1, 0, 0]])
    torch.testing.assert_close(got, want.double())


def test_targets_carry_no_gradient():
    x, y, tau = (v.requires_grad_() for v in (vectors(4, 3), vectors(4, 3, 1), torch.tensor(0.5)))
    assert not momentum_targets(x, y, tau, 0.4).requires_grad


@pytest.mark.parametrize("b, q", [(2, 0), (5, 3), (4, 20)])
def test_itc_equals_torch_with_probabilities_and_a_loop(b, q):
    v, t, vk, tk = vectors(b, 6), vectors(b, 6, 1), keys(b, q, 6, 2), keys(b, q, 6, 3)
    qv, qt = momentum_targets(vk[:b], tk, 0.2, 0.4), momentum_targets(tk[:b], vk, 0.2, 0.4)
    tau = torch.tensor(0.2, dtype=torch.double)

    def oracle(v, t, vk, tk, tau):
        return (F.cross_entropy(v @ tk.T / tau, qv) + F.cross_entropy(t @ vk.T / tau, qt)) / 2

    def loop(v, t, vk, tk, tau):
        total = torch.zeros((), dtype=torch.double)
        for i in range(b):
            for x, y, target in ((v[i], tk, qv[i]), (t[i], vk, qt[i])):
                scores = torch.stack([x @ k / tau for k in y])
                total = total - (target * (scores - scores.logsumexp(0))).sum()
        return total / (2 * b)

    got = value_and_gradients(lambda *x: itc_loss(*x[:4], qv, qt, x[4]), v, t, vk, tk, tau)
    assert_near(got, value_and_gradients(oracle, v, t, vk, tk, tau), 1e-10)
    assert_near(got, value_and_gradients(loop, v, t, vk, tk, tau), 1e-10)


def test_without_queue_momentum_and_softness_itc_is_clip():
    v, t, labels = vectors(6, 5), vectors(6, 5, 1), torch.eye(6, dtype=torch.double)
    torch.testing.assert_close(itc_loss(v, t, v, t, labels, labels, 0.1), clip_loss(v, t, 10.0))


def test_itc_of_equal_logits_is_the_log_of_batch_and_queue():
    x = torch.ones(4, 3, dtype=torch.double)
    labels = torch.eye(4, 11, dtype=torch.double)
    loss = itc_loss(x, x, x[:1].expand(11, 3), x[:1].expand(11, 3), labels, labels, 0.07)
    assert float(loss) == pytest.approx(math.log(11))


def test_itc_gradcheck():
    qv = momentum_targets(vectors(3, 4, 5), keys(3, 2, 4, 6), 0.5, 0.4)
    given = [x.requires_grad_() for x in (vectors(3, 4), vectors(3, 4, 1), keys(3, 2, 4, 2), keys(3, 2, 4, 3))]
    tau = torch.tensor(0.5, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: itc_loss(*x[:4], qv, qv, x[4]), (*given, tau))


@pytest.mark.parametrize("tau", [0.01, 0.001])
def test_itc_is_finite_where_it_is_cold_and_in_half_precision(tau):
    v, t = vectors(4, 8).to(torch.bfloat16), vectors(4, 8, 1).to(torch.bfloat16)
    labels = torch.eye(4)
    assert torch.isfinite(itc_loss(v, t, v, t, labels, labels, tau)) and itc_loss(v, t, v, t, labels, labels, tau) > 0


# ---- negatives -------------------------------------------------------------------------------------------------------


def test_negatives_are_drawn_as_often_as_they_should_be():
    s = torch.tensor([[9.0, 1.0, 2.0, -9.0], [0.0, 9.0, 0.0, 0.0]] * 2)
    counts = torch.zeros(4, 4)
    g = seeded()
    for _ in range(4000):
        counts[torch.arange(4), hard_negatives(s, g)] += 1
    weight = s.softmax(dim=1) + 1e-4
    weight.fill_diagonal_(0)
    want = weight / weight.sum(dim=1, keepdim=True)
    assert (counts.diagonal() == 0).all()
    torch.testing.assert_close(counts / 4000, want, atol=0.03, rtol=0)


def test_no_negative_is_one_s_own_nor_one_that_belongs_to_it():
    same = torch.zeros(5, 5, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    s = torch.full((5, 5), -50.0).fill_diagonal_(50.0)
    s[0, 1] = s[1, 0] = 50.0
    for seed in range(50):
        drawn = hard_negatives(s, seeded(seed), same)
        assert (drawn != torch.arange(5)).all() and drawn[0] != 1 and drawn[1] != 0


def test_negatives_repeat_with_their_generator():
    s = torch.randn(9, 9, generator=seeded())
    assert torch.equal(hard_negatives(s, seeded(3)), hard_negatives(s, seeded(3)))
    assert len({tuple(hard_negatives(s, seeded(k)).tolist()) for k in range(9)}) > 1


# ---- match -----------------------------------------------------------------------------------------------------------


def test_itm_equals_a_two_way_cross_entropy():
    m = [torch.randn(5, generator=seeded(k), dtype=torch.double) for k in range(3)]

    def oracle(*m):
        logits = F.pad(torch.cat(m)[:, None], (1, 0))  # (3 B, 2): no at 0, yes at m
        return F.cross_entropy(logits, torch.tensor([1] * 5 + [0] * 10))

    assert_near(value_and_gradients(itm_loss, *m), value_and_gradients(oracle, *m), 1e-12)
    assert torch.autograd.gradcheck(itm_loss, [x.requires_grad_() for x in m])


def test_the_best_matcher_that_ignores_its_input_pays_the_entropy_of_a_third():
    def paid(m):
        x = torch.full((4,), m, dtype=torch.double)
        return float(itm_loss(x, x, x))

    assert paid(-math.log(2)) == pytest.approx(IGNORED) == pytest.approx(0.6365, abs=5e-5)
    assert min(paid(-math.log(2) + d) for d in (-0.5, -0.01, 0.01, 0.5)) > IGNORED
    assert paid(0.0) == pytest.approx(math.log(2))


def test_itm_is_finite_however_sure_the_answer():
    x = torch.full((3,), 300.0)
    assert float(itm_loss(-x, x, x)) == pytest.approx(300.0)


# ---- describe --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_lm_equals_torch_with_smoothing_and_ignored_padding(smoothing):
    logits = torch.randn(4, 6, 9, generator=seeded(), dtype=torch.double)
    targets = torch.randint(9, (4, 6), generator=seeded(1))
    lengths = torch.tensor([6, 1, 3, 5])
    masked = targets.masked_fill(torch.arange(6) >= lengths[:, None], -100)

    def oracle(x):
        return F.cross_entropy(x.flatten(0, 1), masked.flatten(), ignore_index=-100, label_smoothing=smoothing)

    got = value_and_gradients(lambda x: lm_loss(x, targets, lengths, smoothing), logits)
    assert_near(got, value_and_gradients(oracle, logits), 1e-12)


def test_an_end_that_is_also_padding_is_learned_once():
    """Masked by length, not by value: the first end counts, what stands behind it does not."""
    logits = torch.randn(2, 4, 5, generator=seeded(), dtype=torch.double)
    targets, lengths = torch.tensor([[3, 4, 0, 0], [2, 0, 0, 0]]), torch.tensor([3, 2])
    log_p = logits.log_softmax(dim=2)
    want = -(log_p[0, 0, 3] + log_p[0, 1, 4] + log_p[0, 2, 0] + log_p[1, 0, 2] + log_p[1, 1, 0]) / 5
    torch.testing.assert_close(lm_loss(logits, targets, lengths, 0.0), want)
    behind = targets.masked_fill(torch.arange(4) >= lengths[:, None], -7)
    torch.testing.assert_close(lm_loss(logits, behind, lengths, 0.0), want)


def test_lm_gradcheck_and_uniform():
    logits = torch.randn(2, 3, 5, generator=seeded(), dtype=torch.double, requires_grad=True)
    targets, lengths = torch.tensor([[1, 2, 4], [3, 4, 0]]), torch.tensor([3, 2])
    assert torch.autograd.gradcheck(lambda x: lm_loss(x, targets, lengths), logits)
    assert float(lm_loss(torch.zeros(2, 3, 5), targets, lengths)) == pytest.approx(math.log(5))


# ---- momentum --------------------------------------------------------------------------------------------------------


def test_momentum_equals_torch_s_averaged_model():
    torch.manual_seed(0)
    fast = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    slow = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    slow.load_state_dict(fast.state_dict())
    swa = torch.optim.swa_utils
    want = swa.AveragedModel(fast, multi_avg_fn=swa.get_ema_multi_avg_fn(0.9))
    want.update_parameters(fast)  # the first call copies
    for step in range(4):
        with torch.no_grad():
            for p in fast.parameters():
                p.add_(torch.randn(p.shape, generator=seeded(step)))
        fast(torch.randn(5, 3, 8, 8, generator=seeded(step)))  # moves the buffers
        follow(slow, fast, 0.9)
        want.update_parameters(fast)
    for got, expected in zip(slow.state_dict().values(), want.module.state_dict().values(), strict=True):
        torch.testing.assert_close(got, expected)


# ---- the model -------------------------------------------------------------------------------------------------------


def test_what_the_roles_share():
    model, (images, tokens) = make(weights=(0.0, 0.0, 1.0)), pairs()
    layer = model.reader.layers[0]
    picture = model.reader.look(model.eye(images))

    def reached(total):
        model.zero_grad()
        total.backward()
        return {name for name, p in layer.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}

    reads, writes, looks, mlp = (
        {f"{part}.{n}" for n, _ in getattr(layer, part).named_parameters()}
        for part in ("reads", "writes", "looks", "mlp")
    )
    nothing = {f"{part}.key_value.bias" for part in ("reads", "writes", "looks")}  # half of it moves no softmax
    alone = reached(model.encode_text(tokens)[:, 0].sum())
    grounded = reached(model.match(images, tokens).sum())
    described = reached(model.log_likelihood(images, tokens).sum())
    assert alone - nothing == (reads | mlp) - nothing
    assert grounded - nothing == (reads | looks | mlp) - nothing
    assert described - nothing == (writes | looks | mlp) - nothing
    assert len(picture) == 1


def test_the_writer_sees_no_word_to_come_and_the_matcher_sees_all():
    model, (images, tokens) = make().eval(), pairs()
    picture, last = model.reader.look(model.eye(images)), int((tokens != PAD).sum(dim=1).min()) - 1
    other = tokens.clone()
    other[:, last] = torch.where(tokens[:, last] == 5, 6, 5)
    one, two = (model.reader(F.pad(t, (1, 0), value=model.dec), picture, writes=True)[0] for t in (tokens, other))
    torch.testing.assert_close(one[:, : last + 1], two[:, : last + 1])
    assert not torch.allclose(one[:, last + 1], two[:, last + 1])
    one, two = (model.reader(F.pad(t, (1, 0), value=model.enc), picture)[0] for t in (tokens, other))
    assert not torch.allclose(one[:, 0], two[:, 0])


def test_padding_changes_nothing():
    model, (images, tokens) = make().eval(), pairs()
    tokens = tokens[:, :5].clone()
    longer = F.pad(tokens, (0, 3))
    for score in (model.match, model.log_likelihood, lambda _, t: model.encode_text(t)):
        torch.testing.assert_close(score(images, tokens), score(images, longer))


def test_the_likelihood_is_a_distribution_over_sentences():
    """Word by word by hand, and all sentences of at most one word together with those that go on make 1."""
    model, (images, _) = make().eval(), pairs(2)
    picture = model.reader.look(model.eye(images))
    start = torch.full((2, 1), model.dec)
    first = model.word_head(model.reader(start, picture, writes=True)[0][:, -1]).log_softmax(dim=1)
    word = torch.full((2, 1), 7)
    second = model.word_head(model.reader(torch.cat([start, word], 1), picture, writes=True)[0][:, -1]).log_softmax(1)
    want = first[:, 7] + second[:, model.end]
    torch.testing.assert_close(model.log_likelihood(images, word), want)


def test_embeddings_are_unit_and_a_matcher_gives_a_number_a_pair():
    model, (images, tokens) = make().eval(), pairs()
    for e in (model.encode_image(images), model.encode_text(tokens)):
        torch.testing.assert_close(e.norm(dim=1), torch.ones(6))
    assert model.match(images, tokens).shape == model.log_likelihood(images, tokens).shape == (6,)
    assert (model.log_likelihood(images, tokens) < 0).all()


def test_captions_hold_words_only_and_repeat():
    model, (images, _) = make(), pairs()
    model.train()
    greedy = model.caption(images)
    assert model.training and greedy == model.caption(images) and len(greedy) == 6
    drawn = [model.caption(images, 0.9, seeded(k)) for k in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert not {"[PAD]", "[UNK]", "[MASK]"} & set(" ".join(greedy + drawn[2]).split())
    assert len((PAD, UNK, MASK)) == 3


def test_attention_is_a_share_of_the_places():
    model, (images, tokens) = make(depth=2), pairs()
    for writes in (False, True):
        seen = model.attention(images, tokens, writes)
        assert seen.shape == (2, 6, 2, 1 + tokens.shape[1], 4, 4)
        assert (seen >= 0).all() and (seen.sum(dim=(4, 5)) <= 1 + 1e-5).all()


def test_losses_are_those_of_the_formula():
    model, (images, tokens) = make(alpha=0.0, queue=0).eval(), pairs()
    total, each = model.loss((images, tokens))
    assert set(each) == {"ITC", "ITM", "LM"} and total.item() == pytest.approx(float(sum(each.values())), rel=1e-5)
    v, t = model.encode_image(images), model.encode_text(tokens)
    torch.testing.assert_close(each["ITC"], clip_loss(v, t, model.logit_scale.exp()).detach())
    logits = model._next(model.reader.look(model.eye(images)), tokens)
    targets = with_end(tokens, model.end)
    want = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, label_smoothing=0.1)
    torch.testing.assert_close(each["LM"], want.detach())


def test_a_weight_of_zero_leaves_a_loss_out():
    batch = pairs()
    assert set(make(weights=(1.0, 0.0, 0.0)).loss(batch)[1]) == {"ITC"}
    assert set(make(weights=(1.0, 1.0, 0.0)).loss(batch)[1]) == {"ITC", "ITM"}
    assert set(make(weights=(1.0, 0.0, 1.0)).loss(batch)[1]) == {"ITC", "LM"}


def test_the_queue_holds_the_newest_keys_and_no_evaluation_moves_it():
    model = make(queue=10)
    first, second = pairs(6, 1), pairs(6, 2)
    model.loss(first)
    assert int(model.filled) == 6 and torch.equal(model.token_queue[:6], first[1])
    model.loss(second)
    assert int(model.filled) == 10
    assert torch.equal(model.token_queue, torch.cat([second[1], first[1]])[:10])
    torch.testing.assert_close(model.image_queue.norm(dim=1), torch.ones(10))
    before = {name: x.clone() for name, x in model.state_dict().items()}
    model.eval().loss(first)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_slow_towers_follow_and_learn_nothing_by_themselves():
    model = make(momentum=0.5)
    with torch.no_grad():
        for p in model.eye.parameters():
            p.add_(1)
    before, fast = (x.eye if x is model else x[0] for x in (model.slow, model))
    was = [p.clone() for p in before.parameters()]
    total, _ = model.loss(pairs())
    total.backward()
    for old, new, p in zip(was, model.slow[0].parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(new, (old + p) / 2)
        assert new.grad is None


def test_a_state_moves_to_another_model():
    model, other = make(0), make(1)
    model.loss(pairs())
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(*(m.eval().match(*pairs()) for m in (model, other)))


# ---- retrieval and the filter ----------------------------------------------------------------------------------------


def test_the_eye_keeps_places_apart():
    """A change in one corner moves the tokens near it and the token of the whole, not those far away."""
    eye = make().eye.eval()
    images = torch.rand(1, 3, 16, 16, generator=seeded())
    other = images.clone()
    other[..., :2, :2] = 0
    moved = (eye(images) - eye(other)).abs().sum(dim=2)[0] > 1e-6  # (1 + P,)
    assert moved[0] and moved[1] and not moved[-1] and not moved[4]


def test_labels_teach_the_convolutions_and_nothing_else():
    eye = Eye(16, 16, 2)
    model, labels = Labelled(eye, (8, 3)).eval(), torch.tensor([[0, 1], [7, 2], [3, 0], [1, 1]])
    images = torch.rand(4, 3, 16, 16, generator=seeded())
    loss, _ = model.loss((images, labels))
    features = eye.stem(images).flatten(2).max(dim=2).values
    want = [F.cross_entropy(head(features), labels[:, k]) for k, head in enumerate(model.heads)]
    torch.testing.assert_close(loss, want[0] + want[1])
    loss.backward()
    assert {n.split(".")[0] for n, p in eye.named_parameters() if p.grad is not None} == {"stem"}


def test_a_table_of_matches_is_match_pair_by_pair():
    model, (images, tokens) = make().eval(), pairs(5)
    table = match_table(model, images, tokens[:4], batch=3)
    for i in range(5):
        torch.testing.assert_close(table[i], model.match(images[i : i + 1].expand(4, -1, -1, -1), tokens[:4]))
    only = torch.rand(5, 4, generator=seeded()) < 0.5
    part = match_table(model, images, tokens[:4], only)
    torch.testing.assert_close(part, table * only)
    torch.testing.assert_close(match_score(model, images[:4], tokens[:4], batch=3), table.diagonal())


def test_reranking_orders_the_first_k_by_the_matcher_and_leaves_the_rest_behind():
    s, m = (torch.randn(8, 12, generator=seeded(k)) for k in range(2))
    got = rerank(s, m, 4)
    for i in range(8):
        inside = s[i].topk(4).indices.tolist()
        want = sorted(inside, key=lambda j: -float(m[i, j] + s[i, j]))
        rest = sorted(set(range(12)) - set(inside), key=lambda j: -float(s[i, j]))
        assert got[i].argsort(descending=True).tolist() == want + rest
    torch.testing.assert_close(rerank(s, m, 99), s + m)


def test_a_shortlist_holds_the_nearest_of_rows_and_columns():
    s = torch.randn(6, 9, generator=seeded())
    mask = shortlist(s, 2)
    rows = torch.zeros_like(mask).scatter(1, s.topk(2, dim=1).indices, True)
    columns = torch.zeros_like(mask).scatter(0, s.topk(2, dim=0).indices, True)
    assert torch.equal(mask, rows | columns)


class Judge(BLIP):
    """Believes a caption if its first word is the picture's mark."""

    def match(self, images, tokens):
        return torch.where(tokens[:, 0] == images[:, 0, 0, 0].long(), 1.0, -1.0)

    def caption(self, images, top_p=None, generator=None):
        assert top_p == 0.9 and generator is not None
        marks = images[:, 0, 0, 0].long().tolist()
        return [TOKENIZER.vocabulary[m] if m % 2 else TOKENIZER.vocabulary[3] for m in marks]


def test_the_filter_keeps_what_the_judge_believes():
    model = Judge(TOKENIZER, 16, dim=16, depth=1, heads=2, queue=0)
    marks = torch.tensor([4.0, 5.0, 7.0])
    images = marks[:, None, None, None].expand(3, 3, 16, 16)
    tokens = TOKENIZER([TOKENIZER.vocabulary[4], TOKENIZER.vocabulary[6], TOKENIZER.vocabulary[6]])
    kept = capfilt(model, model, images, tokens, seeded(), batch=2)
    assert isinstance(kept, Kept)
    assert kept.picture.tolist() == [0, 1, 2] and kept.written.tolist() == [False, True, True]
    assert kept.tokens[:, 0].tolist() == [4, 5, 7]
    none = capfilt(model, model, images, tokens, seeded(), threshold=1.0)
    assert len(none.picture) == 0


# ---- bad input -------------------------------------------------------------------------------------------------------

X, Y = torch.randn(4, 3), torch.eye(4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: momentum_targets(X, X[:3], 0.1, 0.4),
        lambda: momentum_targets(X, X, 0.1, 1.4),
        lambda: momentum_targets(X, X, 0.0, 0.4),
        lambda: momentum_targets(X, X, 0.1, 0.4, torch.zeros(4, 4, dtype=torch.bool)),
        lambda: itc_loss(X, X, X, X, 2 * Y, Y, 0.1),
        lambda: itc_loss(X, X, X, X, Y, Y[:, :3], 0.1),
        lambda: itc_loss(X, X, X, X, Y, Y, -0.1),
        lambda: itc_loss(X, X[:3], X, X, Y, Y, 0.1),
        lambda: hard_negatives(X),
        lambda: hard_negatives(Y[:1, :1]),
        lambda: hard_negatives(Y, same=torch.ones(4, 4, dtype=torch.bool)),
        lambda: itm_loss(X[:, 0], X[:, 0], X[:3, 0]),
        lambda: itm_loss(X, X, X),
        lambda: lm_loss(X[None], torch.zeros(1, 4), torch.tensor([2])),
        lambda: lm_loss(X[None], torch.zeros(1, 4, dtype=torch.int64), torch.tensor([5])),
        lambda: lm_loss(X[None], torch.zeros(1, 4, dtype=torch.int64), torch.tensor([0])),
        lambda: lm_loss(X[None], torch.full((1, 4), 3), torch.tensor([2])),
        lambda: lm_loss(X[None], torch.zeros(1, 4, dtype=torch.int64), torch.tensor([2]), 1.0),
        lambda: follow(nn.Linear(2, 2), nn.Linear(2, 3), 0.9),
        lambda: follow(nn.Linear(2, 2), nn.Linear(2, 2), 1.1),
        lambda: rerank(X, X[:3], 2),
        lambda: make(weights=(0.0, 0.0, 0.0)),
        lambda: make(weights=(1.0, -1.0, 0.0)),
        lambda: Eye(18),
        lambda: Eye(16, 18),
        lambda: Eye(16, 20, heads=3),
        lambda: Labelled(Eye(16, 16), (0,)),
        lambda: Reader(9, 5, 18, heads=4),
        lambda: make().match(torch.rand(2, 3, 8, 8), torch.zeros(2, 3, dtype=torch.int64)),
        lambda: make().encode_text(torch.zeros(2, 99, dtype=torch.int64)),
        lambda: match_table(make(), pairs()[0], pairs()[1], torch.ones(2, 2, dtype=torch.bool)),
        lambda: match_score(make(), pairs()[0], pairs()[1][:2]),
        lambda: capfilt(make(), make(), *pairs(), None),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError, match="expected .* got"):
        call()


# ---- training --------------------------------------------------------------------------------------------------------


def test_training_lowers_every_loss_and_repeats_itself():
    def batches(g):
        latents = WORLD.sample(24, g)
        return WORLD.render(latents), TOKENIZER(WORLD.caption(latents, detail=2))

    histories = [fit(make(), batches, 30, lr=5e-3, progress=False) for _ in range(2)]
    assert histories[0].loss == histories[1].loss
    for name in ("ITM", "LM"):
        curve = histories[0].metrics[name]
        assert sum(curve[-5:]) < sum(curve[:5])
    assert min(histories[0].metrics["LM"]) < math.log(len(TOKENIZER) + 1) * 0.8
