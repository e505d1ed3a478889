"""The studies of lesson 02: nothing that is examined is trained on, rows say what they are, results add up."""

import pytest
import torch

from minilip.cpc import CPC
from minilip.data.fetch import MissingData
from minilip.data.speech import SPEAKERS, Digits, Voices
from minilip.nn.sequence import frames_of
from minilip.studies.cpc import digits, voices


@pytest.fixture(scope="module")
def task():
    """The study's own task, of the first 0.5 s of a part of the recordings: the rest is as it is."""
    data = Voices()
    kept = torch.arange(len(data)) % 7 == 0
    return voices.Task(
        torch.where(torch.arange(60)[:, None] < 50, torch.randn(int(kept.sum()), 60, 40), 0.0),
        data.voice[kept], data.language[kept], data.prompt[kept], data.split[data.prompt][kept],
    )  # fmt: skip


@pytest.fixture
def small(task, monkeypatch):
    monkeypatch.setattr(voices, "task", lambda: task)
    monkeypatch.setattr(voices, "HEARD", 40)
    monkeypatch.setattr(voices, "TUNE", {**voices.TUNE, "steps": 1})
    return task


def test_prompts_that_are_examined_are_never_heard(small, monkeypatch):
    marks = small.prompt[:, None, None].float().expand(-1, 60, 40) + 1
    monkeypatch.setattr(voices, "task", lambda: small._replace(x=marks))
    heard = torch.cat([voices.batches("any voice")(torch.Generator().manual_seed(s)).flatten() for s in range(40)])
    prompts = set((heard.unique() - 1).long().tolist())
    assert prompts and prompts <= set(small.prompt[small.split == 0].tolist())


def test_batches_are_of_one_voice_where_the_row_says_so(small, monkeypatch):
    marks = small.voice[:, None, None].float().expand(-1, 60, 40) + 1
    monkeypatch.setattr(voices, "task", lambda: small._replace(x=marks))
    for row, many in (("one voice", False), ("any voice", True), ("one recording", True)):
        kinds = [len(voices.batches(row)(torch.Generator().manual_seed(s)).unique()) for s in range(5)]
        assert all((n > 1) == many for n in kinds)


@pytest.mark.parametrize("row", ["MFCC", "random", "one recording"])
def test_a_row_of_voices_says_what_it_says(row, small):
    found = voices.measure(row, 0, 1, "val")
    fresh = int((small.split == 1).sum())
    assert set(found) == {"voice", "language", "prompt", "tuned"}
    assert len(found["voice"]) == len(found["language"]) == fresh
    assert len(found["tuned"]) == (fresh if row == "random" else 0)
    assert all(set(found[k]) <= {"0", "1"} for k in found)


def test_rows_differ_by_their_candidates_only(small):
    made = {row: voices.train(row, 0, 1, False) for row in voices.CANDIDATES}
    assert [m.candidates for m in made.values()] == ["batch", "batch", "sequence"]
    assert len({tuple(p.shape for p in m.parameters()) for m in made.values()}) == 1
    with pytest.raises(ValueError, match="row: expected one of"):
        voices.measure("two voices", 0)


def test_what_is_read_does_not_depend_on_padding_or_loudness():
    x = torch.randn(3, 30, 40)
    for model in ("log-mel", "MFCC"):
        longer = torch.cat([x, torch.zeros(3, 10, 40)], dim=1)
        torch.testing.assert_close(voices.read(longer, model), voices.read(x, model))
    assert frames_of(longer).tolist() == [30] * 3


# ---- digits ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def spoken(monkeypatch):
    """Every tenth recording as noise: labels and roles are the data set's own."""
    try:
        data = Digits()
    except MissingData as error:
        pytest.skip(str(error))
    kept = torch.arange(len(data)) % 3 == 0
    x = torch.randn(int(kept.sum()), digits.READ, 40)
    monkeypatch.setattr(digits, "_digits", lambda: (x, data.digit[kept], data.speaker[kept], data.take[kept]))
    monkeypatch.setattr(digits, "TUNE", {**digits.TUNE, "steps": 1})
    return x, data.speaker[kept]


def test_a_batch_is_two_versions_of_recordings_of_one_of_the_speakers(spoken, monkeypatch):
    x, speaker = spoken
    monkeypatch.setattr(digits, "other_mouth", lambda x, g: x)
    batch = digits.batches((1, 4))
    for seed in range(5):
        a, b = batch(torch.Generator().manual_seed(seed))
        assert torch.equal(a, b) and a.shape == (digits.BATCH, digits.HEARD, 40)
        who = {int(speaker[(x[:, : digits.HEARD] == row).all(dim=(1, 2)).nonzero()[0, 0]]) for row in a}
        assert len(who) == 1 and who <= {1, 4}


def test_the_strict_row_never_hears_the_speaker_it_is_examined_on(spoken, monkeypatch):
    heard = []
    monkeypatch.setattr(digits, "train", lambda speakers, *_: heard.append(speakers) or digits.build(0))
    digits.measure("CPC, five speakers", 0, 1)
    everybody = set(range(len(SPEAKERS)))
    assert [everybody - set(s) for s in heard] == [{i} for i in range(6)]


@pytest.mark.parametrize("row", ["log-mel", "random"])
def test_a_row_of_digits_says_what_it_says(row, spoken):
    _, speaker = spoken
    found = digits.measure(row, 0, 1)
    counts = torch.bincount(speaker).tolist()
    assert [len(s) for s in found["digit"]] == counts
    assert [len(s) for s in found["tuned"]] == (counts if row == "random" else [])
    assert len(found["speaker"]) == 6 and all(0 <= share <= 1 for share in digits.shares(found["digit"]))


def test_the_stored_measurements_are_of_this_code():
    told, said = digits.TABLE.known(), voices.TABLE.known()
    assert list(told) == list(digits.ROWS) and list(said) == list(voices.ROWS)
    for row, runs in told.items():
        assert len(runs) == digits.SEEDS[row]
        assert all(len(s) == 500 for run in runs for s in run["digit"])
    for row, runs in said.items():
        assert len(runs) == voices.SEEDS[row]
        assert all(len(run["voice"]) == 147 * 6 and len(run["prompt"]) == 147 * 2 for run in runs)


def test_models_have_the_sizes_that_are_told():
    model = digits.build(0)
    assert isinstance(model, CPC) and len(model.predictors) == digits.AHEAD and model.dim == digits.CONTEXT
