"""Encoding on processors that others use too: products and tuning take one thread each, which waits for no other."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from codec_tools import scan
from threadpoolctl import threadpool_limits

from MedAELib.codec import tuning, volumes
from MedAELib.codec.one_thread import numpy_threads
from MedAELib.codec.volumes import Mode, compress
from MedAELib.errors import Cancelled


@pytest.fixture
def three_threads(monkeypatch):
    """Torch computes with three threads, and the tuning of a small volume is worth it."""
    monkeypatch.setattr(tuning, "_WORTH_VOXELS", 0)
    monkeypatch.setattr(tuning, "_SAMPLES", 5000)
    monkeypatch.setattr(tuning, "_ROUNDS", 40)
    monkeypatch.setattr(volumes, "_FRONT_VOXELS", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("mode", [Mode(), Mode("max-error", 2)])
def test_the_model_is_tuned_by_one_thread_and_torch_has_its_own_again(three_threads, mode):
    used = []

    def watch(stage, done, total):
        if stage == "Tuning the model" and done:
            used.append(torch.get_num_threads())

    alone = compress(scan((20, 18, 16)), mode, watch)
    assert len(used) == 8 and set(used) == {1}
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    assert compress(scan((20, 18, 16)), mode) == alone


def test_torch_has_its_own_threads_again_after_a_cancel(three_threads):
    def stop(stage, done, total):
        if stage == "Tuning the model" and done:
            raise Cancelled

    with pytest.raises(Cancelled):
        compress(scan((20, 18, 16)), progress=stop)
    assert torch.get_num_threads() == 3


@pytest.fixture
def two_threads():
    """Numpy's products take two threads."""
    if numpy_threads() is None:
        pytest.skip("THE LIBRARY OF THIS NUMPY IS NOT KNOWN: the threads of its products were not checked")
    with threadpool_limits(2, user_api="blas"):
        yield


@pytest.mark.parametrize("mode", [Mode(), Mode("psnr", 40)])
def test_products_take_one_thread_while_a_volume_is_encoded(two_threads, mode):
    used = []
    compress(scan((20, 18, 16)), mode, lambda *_: used.append(numpy_threads()))
    assert used and set(used) == {1}
    assert numpy_threads() == 2


def test_numpy_has_its_own_threads_again_after_a_cancel_and_after_the_last_of_several(two_threads):
    def stop(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        compress(scan((20, 18, 16)), progress=stop)
    assert numpy_threads() == 2
    used = []

    def slowly(seconds):
        def told(*_):
            used.append(numpy_threads())
            time.sleep(seconds)

        compress(scan((9, 8, 7)), progress=told)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(slowly, (0.01, 0.1)))
    assert set(used) == {1} and numpy_threads() == 2
