"""The training loop: the schedule, exact resume after a kill, and two processes that act as one."""

import enum
import math
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.overrides import TorchFunctionMode

from minilip._check import NotFinite
from minilip.clip import CLIP
from minilip.nn.text import BagOfWords
from minilip.nn.tokenizer import Tokenizer
from minilip.nn.vision import ConvNet
from minilip.prolip import vib_loss
from minilip.training import cosine_warmup, fit, loop, optimizer


class Line(nn.Module):
    """Least squares with dropout, so that the model's own randomness is part of what a resume must restore."""

    def __init__(self, explode_at=None):
        super().__init__()
        self.layer, self.drop = nn.Linear(3, 1), nn.Dropout(0.2)
        self.calls, self.explode_at = 0, explode_at

    def loss(self, batch):
        x, y = batch
        self.calls += 1
        error = (self.layer(self.drop(x)) - y).square().mean()
        if self.calls == self.explode_at:
            error = error * float("inf")
        return error, {"error": float(error.detach())}


def batches(generator):
    x = torch.randn(16, 3, generator=generator)
    return x, x @ torch.tensor([[1.0], [-2.0], [0.5]])


def line():
    torch.manual_seed(1)
    return Line()


def test_it_learns_and_reports():
    model = line()
    x, y = batches(torch.Generator().manual_seed(9))
    before = (model.layer(x) - y).square().mean()
    history = fit(model, batches, 200, lr=0.05, watch=lambda m: (m.training, torch.is_grad_enabled()), progress=False)
    assert (model.layer(x) - y).square().mean() < 0.1 * before
    assert history.metrics["error"] == history.loss and len(history.seconds) == 200
    assert history.seconds == sorted(history.seconds)
    assert [step for step, *_ in history.watched] == [50, 100, 150, 200]
    assert all(value == (False, False) for *_, value in history.watched)
    assert not model.training


def test_same_seed_same_run_other_seed_other_run():
    runs = [fit(line(), batches, 20, seed=seed, progress=False).loss for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_cosine_equals_pytorch_after_warmup():
    optim = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    oracle = CosineAnnealingLR(optim, T_max=90)
    for step in range(10, 100):
        assert cosine_warmup(step, 100, 10) == pytest.approx(optim.param_groups[0]["lr"], abs=1e-6)
        optim.step()
        oracle.step()
    assert [cosine_warmup(s, 100, 10) for s in range(3)] == pytest.approx([0.1, 0.2, 0.3])
    assert cosine_warmup(99, 100, 0) > 0


def test_only_matrices_decay():
    decayed, kept = optimizer(line(), 1e-3, 0.1).param_groups
    assert [p.shape for p in decayed["params"]] == [(1, 3)] and decayed["weight_decay"] == 0.1
    assert [p.shape for p in kept["params"]] == [(1,)] and kept["weight_decay"] == 0
    assert decayed["betas"] == kept["betas"] == (0.9, 0.98)  # CLIP's, table 18


def test_gradient_is_clipped():
    seen = []

    class Steep(Line):
        def loss(self, batch):
            loss, metrics = super().loss(batch)
            return 1e6 * loss, metrics

    model = Steep()
    original = torch.optim.AdamW.step

    def spy(self, *args, **kwargs):
        seen.append(math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters())))
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", spy)
        fit(model, batches, 3, clip=0.5, progress=False)
    assert seen == pytest.approx([0.5] * 3, rel=1e-3)


def test_resume_equals_an_uninterrupted_run(tmp_path):
    whole = line()
    expected = fit(whole, batches, 60, every=10, progress=False)

    class Killed(Exception):
        pass

    def batches_until_killed(generator):
        batches_until_killed.count += 1
        if batches_until_killed.count == 37:
            raise Killed
        return batches(generator)

    batches_until_killed.count = 0
    first, path = line(), tmp_path / "run.pt"
    with pytest.raises(Killed):
        fit(first, batches_until_killed, 60, every=10, checkpoint=path, progress=False)
    torch.manual_seed(999)  # whatever happened in between
    resumed = Line()
    history = fit(resumed, batches, 60, every=10, checkpoint=path, progress=False)
    assert history.loss == expected.loss
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]
    again = fit(Line(), batches, 60, every=10, checkpoint=path, progress=False)
    assert again.loss == expected.loss  # a finished run is read, not run
    assert again.seconds == history.seconds == sorted(history.seconds)


def test_resume_after_sigkill(tmp_path):
    script = textwrap.dedent(
        f"""
        import sys, time
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_train import batches, line
        from minilip.training import fit
        def slow(generator):
            time.sleep(0.01)
            return batches(generator)
        fit(line(), slow, 400, every=5, checkpoint={str(tmp_path / "run.pt")!r}, progress=False)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    while not (tmp_path / "run.pt").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    history = fit(Line(), batches, 400, every=5, checkpoint=tmp_path / "run.pt", progress=False)
    assert history.loss == fit(line(), batches, 400, every=5, progress=False).loss


# ---- what is saved can be read ---------------------------------------------------------------------------------------


class Pair(NamedTuple):
    left: float
    right: np.ndarray


@dataclass
class Look:
    accuracy: np.float32
    names: list


class Size(enum.IntEnum):
    SMALL = 3


MEASURED = {
    "NumPy number": (lambda m: np.mean([0.5, 0.75]), 0.625),
    "NumPy bool": (lambda m: np.float64(1) > 0, True),
    "array": (lambda m: np.arange(3)[::-1], torch.tensor([2, 1, 0])),
    "array of no dimension": (lambda m: np.array(0.5), torch.tensor(0.5, dtype=torch.float64)),
    "array of text": (lambda m: np.array(["a", "b"]), ["a", "b"]),
    "NumPy text": (lambda m: np.str_("cat"), "cat"),
    "other byte order": (lambda m: np.array([1.5], dtype=">f8"), [1.5]),
    "named tuple": (lambda m: Pair(0.5, np.ones(2)), (0.5, torch.ones(2, dtype=torch.float64))),
    "dataclass": (lambda m: Look(np.float32(0.5), [np.int64(2)]), {"accuracy": 0.5, "names": [2]}),
    "enumeration": (lambda m: {Size.SMALL: {np.int64(2): (None, "x")}}, {3: {2: (None, "x")}}),
    "parameter": (lambda m: nn.Parameter(torch.ones(2)), torch.ones(2)),
}


def alike(a, b):
    if isinstance(b, torch.Tensor):
        return isinstance(a, torch.Tensor) and type(a) is torch.Tensor and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(b, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(alike, a, b))
    if isinstance(b, dict):
        return type(a) is dict and list(a) == list(b) and all(alike(a[k], b[k]) for k in b)
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("name", MEASURED)
def test_whatever_watch_measures_is_there_again_after_a_resume(tmp_path, name):
    watch, expected = MEASURED[name]
    options = {"every": 2, "watch": watch, "progress": False}
    for checkpoint in (None, tmp_path / "run.pt", tmp_path / "run.pt"):
        history = fit(line(), batches, 4, checkpoint=checkpoint, **options)
        assert [step for step, *_ in history.watched] == [2, 4]
        assert all(alike(seen, expected) for *_, seen in history.watched)


def test_settings_of_numpy_are_read_back_too(tmp_path):
    for _ in range(2):
        fit(line(), batches, 2, lr=np.float64(0.01), checkpoint=tmp_path / "run.pt", progress=False)


def test_a_watched_tensor_is_a_copy():
    history = fit(line(), batches, 4, lr=0.1, every=1, watch=lambda m: m.layer.weight, progress=False)
    first, *_, last = (seen for *_, seen in history.watched)
    assert not torch.equal(first, last) and not first.requires_grad


class Odd:
    pass


def test_what_could_not_be_read_back_is_refused_by_its_name_at_the_first_save(tmp_path):
    def watch(model):
        return {"accuracy": 0.5, "kept": [1, Odd()]}

    made = []

    def counted(generator):
        made.append(1)
        return batches(generator)

    with pytest.raises(ValueError, match=r"watch\(model\)\['kept'\]\[1\]: expected .*, got a .*Odd"):
        fit(line(), counted, 100, every=3, watch=watch, checkpoint=tmp_path / "run.pt", progress=False)
    assert len(made) == 3
    assert isinstance(fit(line(), batches, 4, watch=watch, progress=False).watched[0][2]["kept"][1], Odd)


def test_a_model_whose_state_could_not_be_read_back_is_refused_before_the_first_step(tmp_path):
    class Keeps(Line):
        def get_extra_state(self):
            return {"seen": {"odd": Odd()}}

        def set_extra_state(self, state):
            pass

    with pytest.raises(ValueError, match=r"model._extra_state\['seen'\]\['odd'\]: expected .*Odd"):
        fit(Keeps(), no_batch, 10, checkpoint=tmp_path / "run.pt", progress=False)


def no_batch(generator):
    raise AssertionError("it has begun to compute")


def test_what_turns_odd_late_costs_the_checkpoint_but_not_the_run(tmp_path):
    seen = iter([0.5, Odd(), 0.5])
    with pytest.warns(UserWarning, match="could not be kept|holds the run after 2 steps") as said:
        history = fit(
            line(), batches, 6, every=2, watch=lambda m: next(seen), checkpoint=tmp_path / "run.pt", progress=False
        )
    assert len(history.loss) == 6 and len(said) == 3
    assert torch.load(tmp_path / "run.pt", weights_only=True)["ranks"][0]["history"]["watched"][-1][2] == 0.5


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    fit(line(), batches, 10, checkpoint=path, progress=False)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"lr 0.002 -> 0.1"):
        fit(line(), batches, 10, lr=0.1, checkpoint=path, progress=False)
    assert path.read_bytes() == before


class Wider(Line):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(3, 2), nn.Linear(2, 1)


def frozen():
    model = Line()
    model.layer.bias.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    "model, differs",
    [
        (Wider, r"layer.weight \(1, 3\) float32 -> \(2, 3\) float32, .*head.weight is new"),
        (lambda: nn.Sequential(Line()), "0.layer.weight is new.*layer.weight is missing"),
        (lambda: Line().double(), "layer.weight .*float32 -> .*float64"),
        (frozen, "other parameters are trained"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_and_changes_nothing(tmp_path, model, differs):
    path = tmp_path / "run.pt"
    fit(line(), batches, 10, checkpoint=path, progress=False)
    kept, other = path.read_bytes(), model()
    other.loss = line().loss
    before = {name: x.clone() for name, x in other.state_dict().items()}
    with pytest.raises(ValueError, match=f"checkpoint: expected the model that {path} was made with, got.*{differs}"):
        fit(other, no_batch, 10, checkpoint=path, progress=False)
    assert path.read_bytes() == kept
    assert all(torch.equal(x, before[name]) for name, x in other.state_dict().items())


def test_a_state_that_the_model_does_not_take_is_a_value_error(tmp_path):
    class Keeps(Line):
        version = 1

        def get_extra_state(self):
            return {"version": self.version}

        def set_extra_state(self, state):
            if state["version"] != self.version:
                raise KeyError("version")

    fit(Keeps(), batches, 4, checkpoint=tmp_path / "run.pt", progress=False)
    Keeps.version = 2
    with pytest.raises(ValueError, match="checkpoint: expected a state that the model accepts"):
        fit(Keeps(), no_batch, 4, checkpoint=tmp_path / "run.pt", progress=False)


def test_only_what_is_damaged_or_no_checkpoint_may_be_deleted(tmp_path):
    path = tmp_path / "run.pt"
    fit(line(), batches, 10, checkpoint=path, progress=False)
    good = path.read_bytes()
    broken = bytearray(good)
    broken[len(good) // 2] ^= 255
    for content in (good[:100], good[:-1], b"", b"my notes", bytes(broken)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="a file that fit.*delete it to start afresh"):
            fit(line(), no_batch, 10, checkpoint=path, progress=False)
        assert path.read_bytes() == content
    for precious in (line().state_dict(), torch.ones(3), {"settings": {}}, {"accuracy": np.float64(1)}, Size.SMALL):
        torch.save(precious, path)
        content = path.read_bytes()
        with pytest.raises(ValueError, match="a file that fit.*choose another name") as error:
            fit(line(), no_batch, 10, checkpoint=path, progress=False)
        assert "delete" not in str(error.value) and "weights_only" not in str(error.value)
        assert path.read_bytes() == content


# ---- where a checkpoint cannot be kept -------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["a file/run.pt", "folder"], ids=["below a file", "a folder of that name"])
def test_a_checkpoint_that_cannot_be_written_stops_the_run_before_it_begins(tmp_path, where):
    (tmp_path / "a file").write_text("not a folder")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        fit(line(), no_batch, 10, checkpoint=tmp_path / where, progress=False)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a file", "folder"]


def test_there_is_a_checkpoint_from_the_start(tmp_path):
    whole = fit(line(), batches, 5, progress=False)
    model = line()
    with pytest.raises(AssertionError):
        fit(model, no_batch, 5, checkpoint=tmp_path / "run.pt", progress=False)
    assert fit(Line(), batches, 5, checkpoint=tmp_path / "run.pt", progress=False).loss == whole.loss


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on the size of files")
def test_a_full_disk_is_a_warning_and_the_last_whole_checkpoint_stays(tmp_path):
    script = textwrap.dedent(
        f"""
        import resource, sys, warnings
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_train import batches, line
        from minilip.training import fit
        full = False
        def until_full(generator):
            global full
            size = 100 if full else resource.RLIM_INFINITY
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            return batches(generator)
        def watch(model):
            global full
            full = True
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            history = fit(line(), until_full, 9, every=3, watch=watch, checkpoint={str(tmp_path / "run.pt")!r})
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(len(history.loss), *(str(w.message) for w in said), sep="\\n")
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    steps, *said = done.stdout.splitlines()
    assert steps == "9"
    assert [line.split(":")[0] for line in said[:2]] == [
        f"step {n} could not be kept, training goes on" for n in (6, 9)
    ]
    assert said[2].startswith(f"{tmp_path / 'run.pt'} holds the run after 3 steps, not its end")
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]
    resumed = fit(line(), batches, 9, every=3, watch=lambda m: None, checkpoint=tmp_path / "run.pt", progress=False)
    assert resumed.loss == fit(line(), batches, 9, progress=False).loss


def test_a_failed_save_that_is_made_good_is_not_mourned(tmp_path, monkeypatch):
    calls, original = [], torch.save

    def sometimes(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        original(*arguments)

    monkeypatch.setattr(torch, "save", sometimes)
    with pytest.warns(UserWarning) as said:
        fit(line(), batches, 6, every=2, checkpoint=tmp_path / "run.pt", progress=False)
    assert [str(w.message).split(":")[0] for w in said] == ["step 2 could not be kept, training goes on"]


# ---- what stops being finite -----------------------------------------------------------------------------------------


@pytest.fixture(params=[1, 10], ids=["each step", "every ten"])
def look(request, monkeypatch):
    """How often the loss is looked at: on a CPU, and as on a GPU."""
    monkeypatch.setitem(loop.LOOK, "cpu", request.param)
    return request.param


def test_a_loss_that_is_not_finite_stops_the_run(look):
    with pytest.raises(FloatingPointError, match="the loss became inf at step 4: try a lower learning rate than 0.002"):
        fit(Line(explode_at=5), batches, 10, progress=False)


def test_on_a_cpu_the_parameters_stay_as_they_were_before_the_step():
    model, before = Line(explode_at=3), []

    def remember(generator):
        before[:] = [p.detach().clone() for p in model.parameters()]
        return batches(generator)

    with pytest.raises(FloatingPointError):
        fit(model, remember, 10, progress=False)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


class Root(Line):
    """Its loss is finite where its gradient is not: the square root at 0."""

    def loss(self, batch):
        loss, metrics = super().loss(batch)
        at_zero = loss * 0 if self.calls == 4 else loss + 1
        return loss + at_zero.sqrt(), metrics


class Refuses(Line):
    """Refuses what is not finite before there is a loss, as the library's losses do."""

    def __init__(self, error=NotFinite, at=4):
        super().__init__()
        self.error, self.at = error, at

    def loss(self, batch):
        if self.calls == self.at:
            raise self.error("rows: expected finite numbers")
        return super().loss(batch)


def test_a_gradient_that_is_not_finite_stops_the_run(look):
    with pytest.raises(FloatingPointError, match="the gradient's norm became nan at step 3: try a lower"):
        fit(Root(), batches, 10, progress=False)


def test_embeddings_that_a_loss_refuses_stop_the_run_with_step_and_advice(look):
    words = ["a red circle", "a blue square", "a green dot", "a tan box"]
    tokenizer = Tokenizer(words)
    torch.manual_seed(0)
    model = CLIP(ConvNet(8), BagOfWords(len(tokenizer), 16), tokenizer, 8)

    def pairs(generator):
        return torch.rand(4, 3, 32, 32, generator=generator), tokenizer(words)

    with pytest.raises(FloatingPointError, match=r"at step \d+: try a lower learning rate than 100.0"):
        fit(model, pairs, 60, lr=100.0, progress=False)


def test_a_refusal_of_what_is_not_finite_names_the_step(look):
    with pytest.raises(FloatingPointError, match="met what is not finite .rows.* at step 4: try a lower") as error:
        fit(Refuses(), batches, 10, progress=False)
    assert isinstance(error.value.__cause__, NotFinite)


def test_the_first_step_that_was_not_finite_is_named_and_not_the_one_that_noticed(monkeypatch):
    monkeypatch.setitem(loop.LOOK, "cpu", 10)
    model = Refuses(at=4)
    model.explode_at = 3
    with pytest.raises(FloatingPointError, match="the loss became inf at step 2"):
        fit(model, batches, 10, progress=False)


def test_an_error_after_a_parameter_was_lost_names_the_step(look):
    class Loses(Refuses):
        def loss(self, batch):
            if self.calls == self.at:
                self.layer.bias.data.fill_(math.nan)
            return super().loss(batch)

    with pytest.raises(FloatingPointError, match="at step 4: try a lower"):
        fit(Loses(RuntimeError), batches, 10, progress=False)


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, ZeroDivisionError, KeyError])
def test_other_errors_pass_as_they_are(look, kind):
    with pytest.raises(kind, match="rows: expected finite numbers") as error:
        fit(Refuses(kind), batches, 10, progress=False)
    assert type(error.value) is kind and error.value.__cause__ is None


@pytest.mark.parametrize("model", [Line, lambda: Refuses(at=5)], ids=["in the loss", "refused by the loss"])
@pytest.mark.parametrize("pack", [tuple, lambda b: {"x": list(b)}.values()], ids=["tuple", "nested"])
def test_a_batch_that_is_not_finite_is_named(look, model, pack):
    made = []

    def spoilt(generator):
        x, y = batches(generator)
        made.append(1)
        if len(made) == 6:
            x[3, 1] = math.nan
        return (x, y) if pack is tuple else ({"x": x}, [y])

    trained = model()
    if pack is not tuple:
        plain = trained.loss
        trained.loss = lambda batch: plain((batch[0]["x"], batch[1][0]))
    with pytest.raises(FloatingPointError, match="at step 5, whose batch is not finite.*0.002, is not to blame"):
        fit(trained, spoilt, 10, progress=False)


def test_data_that_is_refused_while_the_batch_is_made_is_named(look):
    def refused(generator):
        raise NotFinite("teacher: expected finite numbers")

    with pytest.raises(FloatingPointError, match="making the batch met what is not finite .teacher.* at step 0"):
        fit(line(), refused, 10, progress=False)


def test_a_step_that_went_wrong_is_never_in_a_checkpoint(look, tmp_path):
    path = tmp_path / "run.pt"
    for model in (Line(explode_at=8), Root(), Refuses(at=8)):
        path.unlink(missing_ok=True)
        with pytest.raises(FloatingPointError):
            fit(model, batches, 20, every=4, checkpoint=path, progress=False)
        kept = torch.load(path, weights_only=True)
        assert len(kept["ranks"][0]["history"]["loss"]) == (
            0 if isinstance(model, Root) else 4 if not isinstance(model, Refuses) else 8
        )
        assert all(bool(torch.isfinite(x).all()) for x in kept["model"].values())


def test_a_parameter_that_overflows_in_the_last_step_stops_the_run(look, tmp_path):
    class Straight(Line):
        def loss(self, batch):
            return self.layer(batch[0]).mean() * 1e-30, {}

    with pytest.raises(FloatingPointError, match=r"a parameter overflowed at step 1: try a lower .* 1e\+37"):
        fit(Straight(), batches, 2, lr=1e37, warmup=0, every=2, checkpoint=tmp_path / "run.pt", progress=False)
    assert fit(Straight(), batches, 2, lr=1e-3, warmup=0, every=2, progress=False).loss
    assert torch.load(tmp_path / "run.pt", weights_only=True)["ranks"][0]["history"]["loss"] == []


def test_ten_steps_at_a_time_give_the_same_history(monkeypatch):
    runs = {}
    for often in (1, 10):
        monkeypatch.setitem(loop.LOOK, "cpu", often)
        runs[often] = fit(line(), batches, 33, every=12, watch=lambda m: float(m.layer.bias), progress=False)
    one, ten = runs[1], runs[10]
    assert one.loss == ten.loss and one.metrics == ten.metrics
    assert [(step, seen) for step, _, seen in one.watched] == [(step, seen) for step, _, seen in ten.watched]
    assert len(ten.seconds) == 33 and ten.seconds == sorted(ten.seconds) and ten.seconds[0] > 0
    assert [seconds for _, seconds, _ in ten.watched] == [ten.seconds[step - 1] for step in (12, 24, 33)]


def test_a_device_is_asked_every_ten_steps_only(monkeypatch):
    class Waits(TorchFunctionMode):
        count = 0

        def __torch_function__(self, function, types, args=(), kwargs=None):
            self.count += getattr(function, "__name__", "") in (
                "item",
                "tolist",
                "__float__",
                "__bool__",
                "numpy",
                "cpu",
            )
            return function(*args, **(kwargs or {}))

    class Quiet(Line):
        def loss(self, batch):
            x, y = batch
            error = (self.layer(x) - y).square().mean()
            return error, {"error": error.detach(), "scale": self.layer.bias.detach()}

    monkeypatch.setitem(loop.LOOK, "cpu", 10)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)  # it counts its steps on the CPU
    counts = []
    for steps in (50, 100):
        with Waits() as waits:
            history = fit(Quiet(), batches, steps, every=1000, bf16=False, progress=False)
        assert len(history.metrics["scale"]) == steps
        counts.append(waits.count)
    assert counts[1] - counts[0] <= 5 * 4  # five looks: losses, norms, two metrics


def test_metrics_keep_the_value_of_their_own_step(monkeypatch):
    class Views(Line):
        def loss(self, batch):
            return super().loss(batch)[0], {"bias": self.layer.bias.detach()}

    runs = []
    for often in (1, 10):
        monkeypatch.setitem(loop.LOOK, "cpu", often)
        torch.manual_seed(0)
        runs.append(fit(Views(), batches, 20, lr=0.1, progress=False).metrics["bias"])
    assert runs[0] == runs[1] and len(set(runs[0])) == 20


# ---- modes, time, precision, schedule --------------------------------------------------------------------------------


def test_a_part_that_stays_in_eval_mode_stays_so_after_watch():
    seen = []

    class Frozen(Line):
        def train(self, mode=True):
            super().train(mode)
            if mode and not seen:
                self.drop.eval()
            return self

        def loss(self, batch):
            seen.append((self.training, self.drop.training))
            return super().loss(batch)

    fit(Frozen(), batches, 4, every=2, watch=lambda m: m.training, progress=False)
    assert seen == [(True, False)] * 4


@pytest.mark.parametrize("moment", ["watch", "batches"])
def test_an_interrupted_run_leaves_the_model_in_eval_mode(moment):
    def interrupt(_):
        raise KeyboardInterrupt

    model = line()
    with pytest.raises(KeyboardInterrupt):
        fit(model, **{"batches": batches, "steps": 4, "every": 2, "progress": False, moment: interrupt})
    assert not any(m.training for m in model.modules())


def test_the_time_of_watch_is_not_counted(look):
    def slow(generator):
        time.sleep(0.01)
        return batches(generator)

    began = time.perf_counter()
    history = fit(line(), slow, 8, every=2, watch=lambda m: time.sleep(0.3), progress=False)
    whole = time.perf_counter() - began
    assert whole > 1.2 and 0.08 <= history.seconds[-1] < whole - 1.2 + 0.01
    assert [seconds for _, seconds, _ in history.watched] == [history.seconds[i] for i in (1, 3, 5, 7)]


@pytest.mark.parametrize("bf16", [True, False])
def test_autocast_is_on_where_it_is_asked_for(bf16):
    seen = []

    class Asks(Line):
        def loss(self, batch):
            seen.append(self.layer(batch[0]).dtype)
            return super().loss(batch)

    fit(Asks(), batches, 2, bf16=bf16, progress=False)
    assert seen == [torch.bfloat16 if bf16 else torch.float32] * 2


@pytest.mark.parametrize("steps, warmup", [(1, 1), (19, 1), (100, 5), (1900, 95), (5000, 100)])
def test_the_default_warmup_is_a_twentieth_and_at_most_a_hundred_steps(monkeypatch, steps, warmup):
    rates = []

    class Enough(Exception):
        pass

    def spy(self):
        rates.extend(group["lr"] for group in self.param_groups)
        raise Enough

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    with pytest.raises(Enough):
        fit(line(), batches, steps, lr=0.5, progress=False)
    assert rates == pytest.approx([0.5 / warmup] * 2)


def test_all_after_steps_is_named():
    with pytest.raises(TypeError):
        fit(line(), batches, 5, 1e-3)


@pytest.mark.parametrize(
    "bad", [{"steps": 0}, {"lr": 0.0}, {"lr": math.nan}, {"clip": -1.0}, {"every": 0}, {"warmup": -1}]
)
def test_bad_arguments_are_refused(bad):
    with pytest.raises(ValueError, match="expected .* got"):
        fit(line(), batches, **{"steps": 5, "progress": False, **bad})


@pytest.mark.parametrize(
    "loss, message",
    [
        (None, "model: expected an nn.Module with loss"),
        (lambda b: b[0].sum(), r"model.loss\(batch\): expected \(scalar tensor"),
        (lambda b: (b[0], {}), r"a loss of one element .* got shape \(16, 3\)"),
        (lambda b: (b[0].sum(), {}), "that depends on a trained parameter"),
        (lambda b: (0.5, {}), "got float"),
        (lambda b: (b[0].sum().requires_grad_(), {"rows": b[1]}), r"metrics\['rows'\] .* one number, got \(16, 1\)"),
        (lambda b: (b[0].sum().requires_grad_(), {"name": "cat"}), r"metrics\['name'\] .* one number, got str"),
    ],
)
def test_a_model_that_gives_no_loss_is_refused(loss, message):
    model = line()
    model.loss = loss
    with pytest.raises(ValueError, match=message):
        fit(model, batches, 5, progress=False)


def test_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="trainable"):
        model = nn.Module()
        model.loss = lambda batch: None
        fit(model, batches, 5, progress=False)

    model = line()
    for p in model.parameters():
        p.requires_grad_(False)
    with pytest.raises(ValueError, match="trainable"):
        fit(model, batches, 5, progress=False)


# ---- W processes -----------------------------------------------------------------------------------------------------

WORKER = """
import os, sys, time, torch, torch.distributed as dist
from torch import nn
from minilip.clip import CLIP
from minilip.nn.tokenizer import Tokenizer
from minilip.training import fit

class Tower(nn.Module):
    dim = 6
    def __init__(self, inputs):
        super().__init__()
        self.f = nn.Linear(inputs, 6)
    def forward(self, x):
        return self.f(x.flatten(1).double())

class Two(nn.Module):
    "Rows of its own in each process, batch normalisation, a part that only the first one uses and one that none does."
    def __init__(self):
        super().__init__()
        self.norm, self.f, self.drop = nn.BatchNorm1d(3), nn.Linear(3, 1), nn.Dropout(0.3)
        self.some, self.none = nn.Linear(3, 1), nn.Linear(3, 1)
        self.register_buffer("flag", torch.tensor(rank == 0))
        self.register_buffer("start", torch.tensor(float(rank)))
    def loss(self, batch):
        y = self.f(self.drop(self.norm(batch)))
        if rank == 0:
            y = y + self.some(batch)
        return (y - batch[:, :1]).square().mean(), {}

world, stop = int(sys.argv[1]), int(sys.argv[3])
if world > 1:
    dist.init_process_group("gloo")
rank = dist.get_rank() if world > 1 else 0
def leave():
    "When the other has had time to come here too: old gloo aborts or hangs where one ends while another talks to it."
    time.sleep(1)
    os._exit(0)
torch.manual_seed(0)
model = CLIP(Tower(12), Tower(4), Tokenizer(["a b"]), dim=5).double()
every_row = torch.randn(8, 12), torch.randint(9, (8, 4))
part = slice(rank * 8 // world, (rank + 1) * 8 // world)
def batch(generator):
    return every_row[0][part], every_row[1][part]
def watch(model):
    return [p.grad.flatten().tolist() for p in model.parameters()]
if stop == 0:
    history = fit(model, batch, 3, lr=1e-2, every=1, watch=watch, clip=1e9, progress=False)
    out = {"grads": [v for *_, v in history.watched], "loss": history.loss}
if world > 1:
    torch.manual_seed(10 + rank)
    two, drawn = Two(), []
    first = {k: v.clone() for k, v in two.state_dict().items()}
    def rows(generator):
        if stop and len(drawn) == stop:
            leave()
        drawn.append(torch.randn(8, 3, generator=generator))
        return drawn[-1]
    def look(two):
        got = [None] * world
        gradients = {k: p.grad.clone() for k, p in two.named_parameters() if p.grad is not None}
        dist.all_gather_object(got, {"grads": gradients, "state": two.state_dict(), "random": torch.rand(2)})
        return got
    seen = fit(two, rows, 6, every=2, lr=1e-2, watch=look, checkpoint=sys.argv[2] + ".run", progress=False)
    got = [None] * world
    dist.all_gather_object(got, {"drawn": drawn, "loss": seen.loss, "first": first})
    out = {**(out if stop == 0 else {}), "two": got, "watched": [v for *_, v in seen.watched]}
if rank == 0:
    torch.save(out, sys.argv[2])
if world > 1:
    leave()
"""


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torchrun")
    (folder / "worker.py").write_text(WORKER)

    def run(world, name, stop=0):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        torchrun = (
            ["-m", "torch.distributed.run", f"--nproc_per_node={world}", f"--master_port={port}"] if world > 1 else []
        )
        file = folder / name
        command = [sys.executable, *torchrun, str(folder / "worker.py"), str(world), str(file), str(stop)]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, env=env, timeout=120, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return torch.load(file, weights_only=True) if file.exists() else None

    return run


@pytest.fixture(scope="module")
def both(launch):
    return launch(2, "both.pt")


def test_two_processes_give_the_gradient_of_one(launch, both):
    alone = launch(1, "one.pt")
    assert alone["loss"] == pytest.approx(both["loss"], rel=1e-6)
    for one, two in zip(alone["grads"], both["grads"], strict=True):
        for a, b in zip(one, two, strict=True):
            torch.testing.assert_close(torch.tensor(b), torch.tensor(a), rtol=1e-5, atol=1e-7)


def test_processes_start_from_the_first_ones_parameters_and_buffers(both):
    first, second = (process["first"] for process in both["two"])
    assert not torch.equal(first["f.weight"], second["f.weight"])
    for looks in both["watched"]:
        a, b = (look["state"] for look in looks)
        for name in a:
            same = torch.equal(a[name], b[name])
            # Batch normalisation counts what each process has seen, from one beginning.
            assert same == (name not in ("norm.running_mean", "norm.running_var")), name
        assert bool(a["flag"]) and float(a["start"]) == 0
        assert torch.equal(a["none.weight"], first["none.weight"])  # used by none: not even decayed


def test_each_process_draws_batches_and_noise_of_its_own(both):
    one, two = (torch.stack(process["drawn"]) for process in both["two"])
    expected = torch.Generator().manual_seed(1)
    assert torch.equal(two, torch.stack([torch.randn(8, 3, generator=expected) for _ in range(6)]))
    assert not torch.equal(one, two)
    assert all(not torch.equal(a["random"], b["random"]) for a, b in both["watched"])


def test_a_gradient_that_one_process_lacks_is_averaged_all_the_same(both):
    for looks in both["watched"]:
        a, b = (look["grads"] for look in looks)
        assert a.keys() == b.keys() and "some.weight" in a and "none.weight" not in a
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_two_processes_resume_as_if_nothing_had_happened(launch, both):
    assert launch(2, "again.pt", stop=3) is None
    again = launch(2, "again.pt", stop=-1)
    for a, b in zip(again["two"], both["two"], strict=True):
        assert a["loss"] == b["loss"]
        assert torch.equal(torch.stack(a["drawn"]), torch.stack(b["drawn"][2:]))
    for a, b in zip(again["watched"][-1], both["watched"][-1], strict=True):
        assert all(torch.equal(a["state"][name], b["state"][name]) for name in a["state"])


def test_a_loss_too_large_for_its_precision_is_a_divergence():
    """The loss refuses its own result before `fit` could look at it."""

    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.logvar = nn.Parameter(torch.full((2, 3), 80.0))

        def loss(self, batch):
            return vib_loss(batch, self.logvar * 2), {}

    with pytest.raises(FloatingPointError, match="step 0"):
        fit(Wide(), lambda g: torch.zeros(2, 3), 3, progress=False)
