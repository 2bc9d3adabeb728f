"""A pool that is mapped from a file is looked at in the memory of a few batches, however large it is."""

import subprocess
import sys
from pathlib import Path

import pytest

LOOK = """
import sys, threading, time
import numpy as np, torch
from torch import nn
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.devices.engine import Engine
from kdal_cli.inference.predict import predict_logits
from kdal_cli.network import Network

def held():  # MB that are no file's
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

count = int(sys.argv[2])
Engine.start("cpu", 1)
pixels = torch.from_numpy(np.memmap(sys.argv[1], np.uint8, "c", shape=(count, 3, 32, 32)))
network = Network(nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(12, 10)), (0.5,) * 3, (0.2,) * 3)
images = Resident(pixels, Augment())
predict_logits(network, images, torch.arange(2000))
before, most, over = held(), [0.0], threading.Event()

def watch():
    while not over.wait(0.005):
        most[0] = max(most[0], held())

watcher = threading.Thread(target=watch)
watcher.start()
logits = predict_logits(network, images, torch.arange(count))
over.set()
watcher.join()
expected = network(images.whole(torch.tensor([count - 1]))).logits
assert torch.allclose(logits[-1:], expected, atol=1e-5) and logits.shape == (count, 10)
print(max(most[0], held()) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux")
@pytest.mark.parametrize("count", [60_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_mapped_pool_streams(count: int, tmp_path: Path) -> None:
    """176 MB, or 3 GB, of images; what may be held besides ids and logits (88 bytes an image, twice) is 60 MB."""
    path = tmp_path / "pixels"
    with path.open("wb") as file:
        file.truncate(count * 3 * 32 * 32)
        file.seek((count - 1) * 3 * 32 * 32)
        file.write(bytes(range(256)) * 12)
    run = [sys.executable, "-c", LOOK, str(path), str(count)]
    ran = subprocess.run(run, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < 60 + 2 * count * 88 / 2**20
