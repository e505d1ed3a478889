"""Real speech: six voices that say the same 491 prompts, and six speakers of ten digits.

Letters: N recordings, n samples of one (8 kHz), V voices, P prompts.

**Voices** are studio recordings for telephone exchanges, in five languages. One speaker has two languages and one
language has two speakers, so that speaker, language and what is said vary apart. **Digits** are recorded at home, each
speaker with a microphone of their own. None of it is part of this repository: archives are fetched, verified, and kept
as plain numbers (`minilip.data.home()`), each under its own licence.

Source: sound packages of Asterisk as Debian packs them; Jackson et al., Free Spoken Digit Dataset; lesson 02.
"""

from __future__ import annotations

import io
import re
import wave
from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from minilip.data import home
from minilip.data.archives import Debian, fetch_debian, mirrored, unpack_debian, unpack_tar
from minilip.data.cache import cached
from minilip.data.fetch import UNDELIVERED, File, MissingData, read_url

RATE = 8000  # samples a second
COMMAND = "python -m minilip.data.speech"


class Voice(NamedTuple):
    """Who speaks which language, where the recordings are, and whom to credit."""

    speaker: str
    language: str
    package: Debian
    credit: str


def _core(language: str, size: int, digest: str) -> Debian:
    name = f"asterisk-core-sounds-{language}-wav"
    return Debian(name, "1.6.1-1", "a/asterisk-core-sounds", File(size, digest))


VOICES = (
    Voice(
        "Allison",
        "English",
        _core("en", 18272864, "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d"),
        "Allison Smith, CC BY-SA 3.0",
    ),
    Voice(
        "Allison",
        "Spanish",
        _core("es", 23767256, "9283a09a6d56fccdcc2bcfe86c48f0f844289cfbd46a3184d8785a6f7f569903"),
        "Allison Smith, CC BY-SA 3.0",
    ),
    Voice(
        "June",
        "French",
        _core("fr", 18516060, "8d4e1bc32ed5ba7fbda40841ca1825ed20cc6232724a473c90f8bb0e53e6073e"),
        "June Wallack, CC BY-SA 3.0",
    ),
    Voice(
        "Carlo",
        "Italian",
        _core("it", 18262124, "5a26638089e134b8ac39363fe249c5c93c50cd8bfdc9b2499ae61ec4a35e2fcb"),
        "Carlo Flora, CC BY-SA 3.0",
    ),
    Voice(
        "Menardi",
        "Italian",
        Debian(
            "asterisk-prompt-it-menardi-wav",
            "1:1.4.22+mm20110907-3.1",
            "a/asterisk-prompt-it",
            File(18776300, "3094530d98f8758ac275572d59624c41f60969fef883f34f4886d144f3dfeb21"),
        ),
        "Menardi, CC BY-SA 3.0",
    ),
    Voice(
        "Topal",
        "Russian",
        _core("ru", 18788860, "ccbfaebfa450b7a9ddf644ae0f3d1e9017d5df7c0aebe816e946345589d38201"),
        "Maxim Topal, www.ivrvoice.ru, CC BY 3.0",
    ),
)
VOICE_NAMES = tuple(f"{v.speaker} ({v.language})" for v in VOICES)
PROMPTS, VOICE_SAMPLES = 491, 67_786_816  # said by all six; samples of all of them together

DIGITS_ARCHIVE = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/26eb9aaf.tar.gz"
DIGITS_MIRROR = "fsdd-recordings.tar.xz"
DIGITS_CREDIT = "Free Spoken Digit Dataset by Zohar Jackson and others, CC BY-SA 4.0"
# Of the names and contents: archives of one content differ in their bytes.
DIGITS_CONTENT = "1801eae019c063377d98f831d3f93574f259475df7332bb0e3d1b080fb5e6959"
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TAKES, DIGIT_SAMPLES = 50, 10_498_424


class Recordings:
    """What both data sets have in common: `data[i]` is recording i, (n,) float32 in [-1, 1] at 8 kHz."""

    def __init__(self, samples: np.ndarray, lengths: np.ndarray):
        self._samples, ends = torch.from_numpy(samples), np.cumsum(lengths)
        self._places = list(zip((ends - lengths).tolist(), ends.tolist(), strict=True))
        self.lengths = torch.from_numpy(lengths)  # (N,)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Tensor:
        first, last = self._places[index]
        return self._samples[first:last].float() / 32768


class Voices(Recordings):
    """Six voices and the 491 prompts that all of them say, 141 minutes.

    Row v P + p is the p-th prompt by the v-th of VOICES, so `torch.arange(len(data)).view(6, -1)` is (V, P).

    Args:
        root: cache folder; None is `minilip.data.home()`.
        download: fetch what the cache lacks, once (116 MB). False looks only in the cache.

    Attributes:
        lengths: (N,) samples of each.
        voice, prompt, speaker, language: (N,) int64, into VOICE_NAMES, prompt_names, speaker_names, language_names.
        split: (P,) of each prompt: 0 train, 1 val, 2 test, about 60, 10 and 30 %.

    Raises:
        MissingData: not in the cache and not to be had.
    """

    def __init__(self, root: str | Path | None = None, download: bool = True):
        folder = home() if root is None else Path(root).expanduser()

        @lru_cache(maxsize=1)
        def unpacked() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            if not download:
                raise MissingData(
                    f"missing from {folder}: the voices. With a network connection, `{COMMAND}` fetches it."
                )
            return _unpack_voices(folder)

        key = sha256(repr([v.package for v in VOICES]).encode()).hexdigest()[:12]
        names = _kept(folder, f"voices-{key}-names", (PROMPTS,), np.str_, lambda: unpacked()[2])
        lengths = _kept(folder, f"voices-{key}-lengths", (len(VOICES) * PROMPTS,), np.int64, lambda: unpacked()[1])
        samples = _kept(folder, f"voices-{key}-samples", (VOICE_SAMPLES,), np.int16, lambda: unpacked()[0])
        super().__init__(samples, lengths)
        self.prompt_names = [str(name) for name in names]
        self.voice = torch.arange(len(VOICES)).repeat_interleave(PROMPTS)  # (N,)
        self.prompt = torch.arange(PROMPTS).repeat(len(VOICES))  # (N,)
        self.speaker, self.speaker_names = _numbered([v.speaker for v in VOICES], self.voice)
        self.language, self.language_names = _numbered([v.language for v in VOICES], self.voice)
        order = torch.randperm(PROMPTS, generator=torch.Generator().manual_seed(0))
        self.split = (order >= 0.6 * PROMPTS).long() + (order >= 0.7 * PROMPTS).long()  # (P,)


class Digits(Recordings):
    """3,000 digits: ten, by six speakers, 50 takes each; 22 minutes. The split to use holds one speaker out.

    Args:
        root, download: as for `Voices` (13 to 21 MB).

    Attributes:
        lengths: (N,) samples of each.
        digit, speaker, take: (N,) int64; speakers are numbered as in SPEAKERS.

    Raises:
        MissingData: not in the cache and not to be had.
    """

    def __init__(self, root: str | Path | None = None, download: bool = True):
        folder = home() if root is None else Path(root).expanduser()

        @lru_cache(maxsize=1)
        def unpacked() -> tuple[np.ndarray, np.ndarray]:
            return _unpack_digits(folder, download)

        key, n = DIGITS_CONTENT[:12], 10 * len(SPEAKERS) * TAKES
        lengths = _kept(folder, f"digits-{key}-lengths", (n,), np.int64, lambda: unpacked()[1])
        samples = _kept(folder, f"digits-{key}-samples", (DIGIT_SAMPLES,), np.int16, lambda: unpacked()[0])
        super().__init__(samples, lengths)
        grid = torch.arange(n).view(10, len(SPEAKERS), TAKES)
        self.digit, self.speaker, self.take = (
            grid.flatten() // (n // 10),
            grid.flatten() // TAKES % 6,
            grid.flatten() % TAKES,
        )


def _kept(
    folder: Path, name: str, shape: tuple[int, ...], kind: type[np.generic], make: Callable[[], np.ndarray]
) -> np.ndarray:
    return cached(folder / "speech" / f"{name}.npz", shape, make, kind=kind)


def _numbered(names: list[str], rows: Tensor) -> tuple[Tensor, list[str]]:
    """The number of each row's name, in order of first appearance, and the names. -> (N,) int64, names"""
    unique = list(dict.fromkeys(names))
    return torch.tensor([unique.index(name) for name in names])[rows], unique


def read_wave(content: bytes) -> np.ndarray:
    """The samples of a 16-bit mono WAV file of 8 kHz. -> (n,) int16

    Raises:
        OSError: it is another kind of file.
    """
    try:
        with wave.open(io.BytesIO(content)) as file:
            kind = (file.getframerate(), file.getnchannels(), file.getsampwidth())
            if kind != (RATE, 1, 2):
                raise OSError(f"expected {RATE} Hz, 1 channel, 2 bytes, got {kind}")
            return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.int16)
    except (wave.Error, EOFError) as error:
        raise OSError(f"expected a WAV file, got something else ({error})") from error


def _unpack_voices(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All voices' samples in one row, the lengths, the names of the prompts."""
    said: list[dict[str, bytes]] = []
    for voice in tqdm(VOICES, desc="unpack the voices", unit="voice"):
        print(f"{voice.package.name}: {voice.credit}")
        files = unpack_debian(fetch_debian(voice.package, folder, COMMAND))
        named = (
            (re.fullmatch(r"\./usr/share/asterisk/sounds/\w+/(.+)\.wav", name), content) for name, content in files
        )
        said.append({match[1]: content for match, content in named if match})
    names = sorted(set.intersection(*map(set, said)))
    waves = [read_wave(prompts[name]) for prompts in said for name in names]
    return np.concatenate(waves), np.array([len(w) for w in waves]), np.array(names)


def _unpack_digits(folder: Path, download: bool) -> tuple[np.ndarray, np.ndarray]:
    """All digits' samples in one row, in the order of digit, speaker and take, and the lengths."""
    refusals = []
    for source in (_digits_mirror, _digits_https) if download else (_digits_mirror,):
        try:
            named = _recordings(unpack_tar(source()))
            if (came := content_digest(named)) != DIGITS_CONTENT:
                raise OSError(f"refused: expected content of sha256 {DIGITS_CONTENT}, got {came}")
            print(DIGITS_CREDIT)
            order = [f"{d}_{s}_{t}.wav" for d in range(10) for s in SPEAKERS for t in range(TAKES)]
            waves = [read_wave(named[name]) for name in order]
            return np.concatenate(waves), np.array([len(w) for w in waves])
        except UNDELIVERED as error:
            refusals.append(f"  {source.__doc__} {error}")
    advice = f"With a network connection, `{COMMAND}` fetches it; or put {DIGITS_MIRROR} into a folder MINILIP_MIRROR."
    raise MissingData("\n".join([f"missing from {folder}: the spoken digits", *refusals, advice]))


def _digits_mirror() -> bytes:
    """from MINILIP_MIRROR:"""
    if (path := mirrored(DIGITS_MIRROR)) is None:
        raise OSError(f"{DIGITS_MIRROR} is not there")
    return path.read_bytes()


def _digits_https() -> bytes:
    """by HTTPS:"""
    return read_url(DIGITS_ARCHIVE, 64 << 20)


def _recordings(files: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    return {Path(name).name: content for name, content in files if re.search(r"recordings/\d_[a-z]+_\d+\.wav$", name)}


def content_digest(files: dict[str, bytes]) -> str:
    """sha256 of names and contents, whatever archive brought them and in whatever order."""
    lines = [f"{sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())]
    return sha256("".join(lines).encode()).hexdigest()


def main() -> None:
    """Fetch both; the voices are needed by lesson 02, without the digits it shows what has been measured on them."""
    try:
        voices = Voices()
    except MissingData as error:
        raise SystemExit(str(error)) from None
    print(f"{len(voices):,} recordings by {len(VOICES)} voices, {int(voices.lengths.sum()) / RATE / 60:.0f} minutes")
    try:
        digits = Digits()
    except MissingData as error:
        print(f"{error}\nOptional: lesson 02 shows stored measurements on them; the tests that need them say so.")
    else:
        print(
            f"{len(digits):,} digits by {len(SPEAKERS)} speakers, {int(digits.lengths.sum()) / RATE / 60:.0f} minutes"
        )


if __name__ == "__main__":
    main()
