"""home: one absolute folder whatever the environment, or one clear error."""

import pathlib
import subprocess
import sys

import pytest

from minilip.data import NoHome, emoji, home, pretrained


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """No variable set; the account's home is a folder."""
    for name in ("MINILIP_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pathlib.Path, "home", classmethod(lambda cls: tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return monkeypatch


@pytest.fixture
def nobody(clean):
    """An account without a home, as in many containers."""

    def fail(cls):
        raise RuntimeError("Could not determine home directory.")

    clean.setattr(pathlib.Path, "home", classmethod(fail))
    return clean


PLATFORMS = {  # sys.platform -> its variable, its default below the home folder
    "linux": ("XDG_CACHE_HOME", ".cache"),
    "win32": ("LOCALAPPDATA", "AppData/Local"),
}


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("value", [None, "", "relative", "./cache"])
def test_what_is_empty_or_relative_counts_as_unset(clean, tmp_path, platform, value):
    name, default = PLATFORMS[platform]
    clean.setattr(sys, "platform", platform)
    clean.setenv("MINILIP_HOME", "")
    if value is not None:
        clean.setenv(name, value)
    assert home() == tmp_path / default / "minilip" and home().is_absolute()


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_users_cache_folder_is_used(nobody, tmp_path, platform):
    nobody.setattr(sys, "platform", platform)
    nobody.setenv(PLATFORMS[platform][0], str(tmp_path / "caches"))
    assert home() == tmp_path / "caches" / "minilip"  # without asking for an account


def test_on_macos(clean, tmp_path):
    clean.setattr(sys, "platform", "darwin")
    clean.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert home() == tmp_path / "Library" / "Caches" / "minilip"


def test_the_chosen_folder_comes_first_and_is_absolute(nobody, tmp_path):
    nobody.setenv("XDG_CACHE_HOME", "/elsewhere")
    nobody.setenv("MINILIP_HOME", str(tmp_path / "mine"))
    assert home() == tmp_path / "mine"
    nobody.chdir(tmp_path)
    nobody.setenv("MINILIP_HOME", "mine/too")
    found = home()
    nobody.chdir("/")
    assert found == tmp_path / "mine" / "too"


def test_a_tilde_is_the_home_folder(clean, tmp_path):
    clean.setenv("MINILIP_HOME", "~/lip")
    assert home() == tmp_path / "lip"


def test_without_any_home_the_error_says_what_to_set(nobody):
    for platform in (*PLATFORMS, "darwin"):
        nobody.setattr(sys, "platform", platform)
        with pytest.raises(NoHome, match="set MINILIP_HOME to a folder") as error:
            home()
        assert isinstance(error.value, OSError)


def test_data_that_must_be_kept_says_so_too(nobody):
    for call in (emoji.EmojiPairs, pretrained.efficientnet, pretrained.emoji_features, pretrained.label_embeddings):
        with pytest.raises(NoHome, match="set MINILIP_HOME"):
            call()


def test_to_ask_where_home_is_makes_nothing(tmp_path):
    script = "from minilip.data import home; print(home())"
    env = {"MINILIP_HOME": str(tmp_path / "new"), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "new") and not (tmp_path / "new").exists()
