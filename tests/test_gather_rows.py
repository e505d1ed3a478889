"""Two processes: equal batches make the loss of one, unequal ones an error that says who brought what."""

import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from minilip.nn.gather import gather

pytestmark = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch without gloo")


def work(rank, port, rows, queue):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    x = (torch.arange(rows[rank] * 3.0).reshape(rows[rank], 3) + 100 * rank).requires_grad_()
    try:
        whole = gather(x)
        (whole * torch.arange(1.0, len(whole) + 1)[:, None]).sum().backward()
        queue.put((rank, whole.detach().tolist(), x.grad.tolist()))
    except ValueError as error:
        queue.put((rank, str(error), None))
    finally:
        dist.destroy_process_group()


def run(*rows):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = mp.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=work, args=(rank, port, rows, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    answers = sorted(queue.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(30)
    return answers


def test_equal_batches_are_put_together_with_gradients_to_each():
    (_, a, grad_a), (_, b, grad_b) = run(2, 2)
    assert a == b and a[0] == [0, 1, 2] and a[2] == [100, 101, 102] and len(a) == 4
    assert grad_a == [[2.0] * 3, [4.0] * 3] and grad_b == [[6.0] * 3, [8.0] * 3]  # both processes have the same loss


def test_unequal_batches_are_refused_on_both_with_who_brought_what():
    for _, message, gradient in run(3, 2):
        assert (
            message == "batch: expected as many rows on every rank, got 3 on rank 0, 2 on rank 1" and gradient is None
        )


def test_alone_it_is_x_itself():
    x = torch.ones(2, 3)
    assert gather(x) is x
