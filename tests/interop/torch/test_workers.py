"""A DataLoader's workers, forked or spawned, read the checkpoint that the parent opened, or one of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checkpoints import checkpoint, counting
from encryption import KEY, encrypted
from torch.utils.data import DataLoader, Dataset

import lazyckpt

VALUES = {f"sample{place}": counting((4, 3)) + place for place in range(64)}
FORMS = {"plain": {}, "AES-GCM": {"dec_key": KEY}}


class Samples(Dataset):
    """Each value of a checkpoint is a sample; it is opened before the workers start, or by each of them."""

    def __init__(self, path, options, opens_late):
        self._path, self._options = path, options
        self._ckpt = None if opens_late else lazyckpt.load_checkpoint(path, **options)

    def __len__(self):
        return len(VALUES)

    def __getitem__(self, number):
        if self._ckpt is None:
            self._ckpt = lazyckpt.load_checkpoint(self._path, **self._options)
        return torch.from_numpy(self._ckpt[f"sample{number}"].asnumpy(copy=True))

    def close(self):
        """Close the opened checkpoint."""
        if self._ckpt is not None:
            self._ckpt.close()


@pytest.mark.parametrize(("start", "opens_late"), [("fork", False), ("fork", True), ("spawn", True), (None, False)])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_read_every_sample(start, opens_late, form, tmp_path):
    """Two workers, shuffled batches of five, two epochs: all samples, each as it is in the file."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(checkpoint(VALUES) if form == "plain" else encrypted(checkpoint(VALUES)))
    samples = Samples(str(path), FORMS[form], opens_late)
    workers = {"num_workers": 2, "multiprocessing_context": start} if start else {}
    found = []
    for _ in range(2):
        for batch in DataLoader(samples, batch_size=5, shuffle=True, **workers):
            found += [sample.numpy().tobytes() for sample in batch]
    samples.close()

    assert sorted(found) == sorted([value.astype(np.float32).tobytes() for value in VALUES.values()] * 2)
