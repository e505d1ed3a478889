"""The study of lesson 07: what is trained on is not examined, each reader reads what its name says, results add up."""

import pytest
import torch

from minilip.data.emoji import ARTISTS, UNSEEN_ARTIST, EmojiPairs
from minilip.nn.tokenizer import PAD, words
from minilip.studies.clip import emoji as study
from minilip.studies.clip.emoji import ARMS, READERS, SEEN, STEPS, Arm, Locked, Task, build, examine, measure


@pytest.fixture(scope="module")
def tasks():
    return {reader: Task(Arm(reader)) for reader in READERS}


@pytest.fixture(scope="module")
def emoji():
    return EmojiPairs()


@pytest.mark.parametrize("split", ["subgroups", "random"])
def test_parts_share_no_concept(split, emoji):
    test, val = Task(Arm("words", split=split)), Task(Arm("words", split=split), part="val")
    parts = [set(part.tolist()) for part in (test.train, test.held, val.held)]
    assert torch.equal(test.train, val.train)
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(emoji.labels)
    shared = set(emoji.subgroup[test.train].tolist()) & set(emoji.subgroup[test.held].tolist())
    assert bool(shared) == (split == "random")


def test_the_split_is_the_library_s(tasks):
    for part, concepts in (("train", tasks["words"].train), ("test", tasks["words"].held)):
        assert torch.equal(concepts, EmojiPairs(split=part).concepts)


def test_training_never_shows_the_unseen_artist_nor_a_held_out_concept(tasks, monkeypatch):
    task = tasks["words"]
    assert ARTISTS.index(UNSEEN_ARTIST) not in SEEN and len(SEEN) == len(ARTISTS) - 1
    marks = torch.arange(task.x.shape[0] * task.x.shape[1]).float().view(task.x.shape[:2])  # artist and concept
    monkeypatch.setattr(task, "x", marks[..., None])
    seen = torch.cat([task.batch(torch.Generator().manual_seed(s))[0].flatten() for s in range(30)]).long()
    artists, concepts = seen // marks.shape[1], seen % marks.shape[1]
    assert set(artists.tolist()) == set(SEEN)
    assert set(concepts.tolist()) <= set(task.train.tolist())
    monkeypatch.undo()


def test_a_word_that_training_lacks_is_left_out_by_words_and_read_by_the_others(tasks, emoji):
    known = {w for c in tasks["words"].train.tolist() for p in (emoji.labels[c], *emoji.tags[c]) for w in words(p)}
    lost = [c for c in tasks["words"].held.tolist() if not known & set(words(emoji.labels[c]))]
    assert len(lost) > 20
    for reader, task in tasks.items():
        blank = (task.phrases[lost, 0] == PAD).all(dim=1)
        assert bool(blank.all() if reader == "words" else not blank.any())


def test_captions_are_of_the_concept_and_never_empty(tasks, emoji):
    generator = torch.Generator().manual_seed(0)
    for task in tasks.values():
        concept = int(task.train[5])
        whole = set(task.captions(torch.tensor([concept])).flatten().tolist()) - {PAD}
        said = task.captions(torch.full((300,), concept), generator)
        assert bool((said != PAD).any(dim=1).all())
        assert set(said.flatten().tolist()) - {PAD} == whole
        fewer = (said != PAD).sum(dim=1)
        assert int(fewer.min()) < int(fewer.max())


def test_minilm_stays_as_it_is_and_the_map_learns(tasks):
    task = tasks["MiniLM"]
    model = build(Arm("MiniLM"), task, 0)
    assert isinstance(model.text_tower, Locked) and not list(model.text_tower.parameters())
    before = model.text_tower.table.clone()
    loss, _ = model.loss(task.batch(torch.Generator().manual_seed(0)))
    loss.backward()
    assert torch.equal(model.text_tower.table, before)
    assert bool((model.text_map.weight.grad != 0).any())
    torch.testing.assert_close(before[1:].norm(dim=1), torch.ones(len(before) - 1))
    assert not before[0].any()


def test_a_model_that_knows_the_answer_ranks_it_first(tasks):
    task = tasks["words"]
    concepts = task.held[:40]
    code = torch.eye(40)

    class Oracle(torch.nn.Module):
        def encode_image(self, x):
            return code[: len(x)]

        def encode_text(self, tokens):
            return code[: len(tokens)]

    assert examine(Oracle(), task, concepts, 0) == [1] * 40


def test_measure_says_what_it_says_it_says():
    result = measure(Arm("words", "EfficientNet", steps=2)._asdict(), 0, "val")
    assert set(result) == {"held", "train", "loss", "seconds"}
    assert set(result["held"]) == set(result["train"]) == set(ARTISTS)
    assert all(sorted(r)[0] >= 1 and max(r) <= len(r) == 138 for r in result["held"].values())


def test_the_stored_measurements_are_of_this_code():
    known = study.known()
    assert set(known) == set(ARMS) and all(len(runs) == 3 for runs in known.values())
    assert all(
        len(r) == len(Task(ARMS[name]).held)
        for name in ("words", "MiniLM")
        for run in known[name]
        for r in run["held"].values()
    )
    assert ARMS["MiniLM"].steps == STEPS


@pytest.mark.parametrize("wrong", [Arm("letters"), Arm("words", "CLIP"), Arm("words", split="all")])
def test_an_unknown_arm_is_refused(wrong):
    with pytest.raises(ValueError, match="expected one of"):
        Task(wrong)
