"""Encoders that are kept: they come back as they were, and nothing else comes in their place."""

import pickle

import pytest
import torch

from minilip.data.fetch import MissingData
from minilip.nn import ConvNet
from minilip.training import keep_encoder, load_encoder


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_an_encoder_comes_back_with_its_buffers(tmp_path):
    one, two = ConvNet(4), ConvNet(4)
    one.train()(torch.rand(3, 3, 16, 16))  # moves the running means
    path = keep_encoder("05-vicreg", one, "a test", root=tmp_path)
    assert path == tmp_path / "encoders" / "05-vicreg.pt"
    assert not same(one, two)
    assert load_encoder("05-vicreg", two, root=tmp_path) == "a test" and same(one, two)
    assert torch.equal(one.layers[1].running_mean, two.layers[1].running_mean)


def test_it_is_kept_under_home_where_no_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILIP_HOME", str(tmp_path))
    keep_encoder("x", ConvNet(4), "")
    assert load_encoder("x", ConvNet(4)) == "" and (tmp_path / "encoders" / "x.pt").exists()


def test_what_is_missing_names_the_lesson(tmp_path):
    with pytest.raises(MissingData, match="05b-mae.*run lesson 05b"):
        load_encoder("05b-mae", ConvNet(4), root=tmp_path)


def test_another_architecture_is_refused_and_changes_nothing(tmp_path):
    keep_encoder("x", ConvNet(4), "four wide", root=tmp_path)
    other = ConvNet(8)
    before = ConvNet(8)
    before.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="encoder: expected the architecture .*four wide"):
        load_encoder("x", other, root=tmp_path)
    assert same(other, before)


class Spy:
    ran = False

    def __reduce__(self):
        return (setattr, (Spy, "ran", True))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half", pickle.dumps(Spy(), protocol=2)])
def test_a_damaged_file_is_refused_and_nothing_in_it_is_run(tmp_path, content):
    path = keep_encoder("x", ConvNet(4), "", root=tmp_path)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        load_encoder("x", ConvNet(4), root=tmp_path)
    torch.save({"about": "", "state": Spy()}, path)
    with pytest.raises(ValueError, match="damaged"):
        load_encoder("x", ConvNet(4), root=tmp_path)
    assert not Spy.ran


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a.b", 5, None])
def test_a_name_that_is_no_file_of_the_folder_is_refused(tmp_path, name):
    for call in (lambda: keep_encoder(name, ConvNet(4), "", root=tmp_path), lambda: load_encoder(name, ConvNet(4))):
        with pytest.raises(ValueError, match="name: expected letters"):
            call()
    with pytest.raises(ValueError, match="encoder: expected an nn.Module"):
        keep_encoder("x", {}, "", root=tmp_path)
