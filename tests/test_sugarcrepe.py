"""SugarCrepe's text: fetched whole or not at all, and counted by a script that shares nothing with the study."""

import io
import json
import lzma
import re
import tarfile
from collections import Counter
from hashlib import sha256

import pytest

from minilip.data import sugarcrepe as module
from minilip.data.fetch import File, MissingData
from minilip.data.sugarcrepe import CATEGORIES, Pair, read_pairs, sugarcrepe
from minilip.nn.tokenizer import words
from minilip.studies.compositionality import audit
from minilip.studies.compositionality.trigrams import Trigrams

MADE = {
    name: json.dumps({"0": {"filename": "7.jpg", "caption": "a cat ", "negative_caption": f"A {name}."}}).encode()
    for name in CATEGORIES
}


def archive(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"data/{name}.json")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return lzma.compress(buffer.getvalue())


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "FILES", {n: File(len(c), sha256(c).hexdigest()) for n, c in MADE.items()})
    monkeypatch.setenv("MINILIP_MIRROR", str(tmp_path))
    (tmp_path / module.MIRROR).write_bytes(archive(MADE))
    return tmp_path


def test_the_mirror_is_unpacked_once(mirror, capsys):
    pairs = sugarcrepe(mirror / "home", download=False)
    assert [p.category for p in pairs] == list(CATEGORIES) and pairs[0] == Pair(
        "add_att", "7.jpg", "a cat ", "A add_att."
    )
    assert "MIT" in capsys.readouterr().out
    (mirror / module.MIRROR).unlink()
    assert sugarcrepe(mirror / "home", download=False) == pairs and not capsys.readouterr().out


def test_other_bytes_are_refused(mirror):
    (mirror / module.MIRROR).write_bytes(archive(MADE | {"swap_att": b"{}"}))
    with pytest.raises(
        MissingData, match=r"missing from .*swap_att(.|\n)*MINILIP_MIRROR: refused(.|\n)*expected sha256"
    ):
        sugarcrepe(mirror / "home", download=False)
    assert not (mirror / "home/sugarcrepe/swap_att.json").exists()


def test_without_a_source_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("MINILIP_MIRROR", raising=False)
    with pytest.raises(MissingData, match=r"add_att(.|\n)*python -m minilip.data.sugarcrepe"):
        sugarcrepe(tmp_path, download=False)


def test_each_file_is_asked_for_at_its_pinned_place(mirror, monkeypatch):
    (mirror / module.MIRROR).unlink()
    asked = []

    def download(url, target, file, bar):
        asked.append(url)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(MADE[target.stem])

    monkeypatch.setattr(module, "download", download)
    assert len(sugarcrepe(mirror / "home")) == 7
    assert all(re.fullmatch(r"https://raw\.githubusercontent\.com/RAIVNLab/sugar-crepe/[0-9a-f]{40}/data/\w+\.json", u)
               for u in asked)  # fmt: skip
    assert [u.rsplit("/", 1)[1] for u in asked] == [f"{name}.json" for name in CATEGORIES]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"0": {"caption": "a"}}', b"<html>"])
def test_another_file_is_refused(content):
    with pytest.raises(ValueError, match="expected a file of SugarCrepe"):
        read_pairs("add_att", content)


# ---- rules that never look -------------------------------------------------------------------------------------------

TINY = [
    Pair("add_att", "2.jpg", "a dog on a mat ", "A dog on a red mat."),  # shorter, three marks of haste
    Pair("add_att", "3.jpg", "A dog on a mat.", "A red dog on mats."),  # shorter, no mark
    Pair("swap_att", "4.jpg", "A red cat and a blue dog.", "A blue cat and a red dog."),  # nothing to see
]


def test_rules_by_hand():
    assert [audit.human(p.true) for p in TINY] == [3, 0, 0] and [audit.human(p.false) for p in TINY] == [0, 0, 0]
    shorter = audit.counted(TINY, lambda _, s: audit.RULES["shorter"](s))
    assert shorter["add_att"] == [2, 0, 2] and shorter["swap_att"] == [0, 1, 1] and shorter["add_obj"] == [0, 0, 0]
    both = audit.counted(TINY, lambda _, s: audit.RULES["format, then shorter"](s))
    assert both["add_att"] == [2, 0, 2] and audit.share(both, ["add_att", "swap_att"]) == pytest.approx(2.5 / 3)
    assert [audit.same_words(p) for p in TINY] == [False, False, True]


def test_trigrams_are_a_distribution_and_like_what_they_have_read():
    read = [words(s) for s in ("a dog on a mat", "a cat on a mat", "a dog in a box")]
    model = Trigrams(read)
    for history in ((), ("a",), ("on", "a"), ("[START]", "[START]"), ("zebra", "a")):
        assert sum(model.p(w, history) for w in model.vocabulary) == pytest.approx(1)
    assert model.log_p(words("a dog on a mat")) > model.log_p(words("mat a on dog a"))
    assert model.log_p(words("a dog")) > model.log_p(words("a zebra"))
    # By hand: c(h w) + t(h) p(w | h') over c(h) + t(h), for "mat" behind "on a".
    kinds = 8  # a, dog, cat, on, in, mat, box, the end; and [UNK] in the vocabulary
    one = (2 + kinds / 9) / (18 + kinds)
    two = (2 + 4 * one) / (6 + 4)  # behind "a": dog 2, mat 2, cat, box
    assert model.p("mat", ("on", "a")) == pytest.approx((2 + 1 * two) / (2 + 1))


def test_a_reader_never_reads_the_photograph_it_is_asked_about():
    pairs = [Pair("add_att", f"{i}.jpg", f"word{i} here", "x") for i in range(6)]
    log_p = audit.reader(pairs)
    own, other = log_p(pairs[2], "word2 here"), log_p(pairs[3], "word2 here")
    assert own < other  # an even photograph's caption is known to the model that odd ones are asked of


# ---- the real text ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    try:
        return sugarcrepe(download=False)
    except MissingData as error:
        pytest.skip(str(error))


def test_the_counts_by_an_independent_script(real):
    sizes = Counter(p.category for p in real)
    assert sum(sizes.values()) == 7511 and sizes["add_obj"] == 2062 and sizes["swap_obj"] == 245
    same = [p for p in real if Counter(re.findall(r"[a-z0-9']+", p.true.lower()))
            == Counter(re.findall(r"[a-z0-9']+", p.false.lower()))]  # fmt: skip
    assert abs(len(same) - 572) <= 2
    wins = {}
    for p in real:
        a, b = (
            (
                s.endswith((" ", "\t", "\n")) + (s.rstrip()[-1] != ".") + (s.lstrip()[0] != s.lstrip()[0].upper()),
                -len(s),
            )
            for s in (p.true, p.false)
        )
        wins.setdefault(p.category, []).append(1.0 if a > b else 0.5 if a == b else 0.0)
    every = [x for row in wins.values() for x in row]
    assert sum(every) / len(every) == pytest.approx(0.791, abs=0.001)
    for name, stored in audit.known()["format, then shorter"]["counts"].items():
        assert sum(wins[name]) == pytest.approx(
            stored[0] + stored[1] / 2, abs=2
        )  # what is a small letter, in foreign script
    # Published of CLIP ViT-B/32, with the photographs.
    for name, published in (("replace_rel", 0.692), ("swap_obj", 0.614), ("add_obj", 0.772)):
        assert sum(wins[name]) / len(wins[name]) > published
    again = audit.counted(real, lambda _, s: audit.RULES["shorter"](s))
    assert again == audit.known()["shorter"]["counts"]


def test_the_stored_counts_are_of_this_code():
    known = audit.known()
    assert set(known) == {*audit.RULES, *audit.READERS}
    assert all(sum(n for *_, n in found["counts"].values()) == 7511 for found in known.values())
    assert all(sum(n for *_, n in found["same words"].values()) == 572 for found in known.values())
