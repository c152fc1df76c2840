"""A fast generator of synthetic volumes, importable by worker processes."""

import os
import time
from pathlib import Path

import numpy as np


class TinyVolumes:
    """Volumes (5, 6, 7) of noise with one labeled box.

    Writes its seeds to the file ``log``, and fails for the seed that the file ``failing`` names, as long as it exists.
    """

    def __init__(self, seed=0, size=(5, 6, 7), brightness=1.0, log=None, failing=None, pause=0.0):
        self.seed, self.size, self.brightness, self.log, self.pause = seed, size, brightness, log, pause
        self.failing = failing

    def generate(self):
        if self.log is not None:
            with Path(self.log).open("a") as log:
                log.write(f"{self.seed}\n")
        if (
            self.failing is not None
            and Path(self.failing).exists()
            and Path(self.failing).read_text() == str(self.seed)
        ):
            raise ArithmeticError(f"seed {self.seed}")
        time.sleep(self.pause)
        rng = np.random.default_rng(self.seed)
        image = rng.normal(self.brightness, 1, self.size).astype(np.float32)
        label = np.zeros(self.size, np.int64)
        label[1:3, 2:4] = 1 + self.seed % 1000
        seeds = rng.random((self.seed % 4, 3))
        classes = rng.integers(0, 4, self.seed % 4)
        parameters = {"seed": self.seed, "size": self.size, "scale": np.float32(0.5)}
        return {"image": image, "label": label, "seeds": seeds, "classes": classes, "parameters": parameters}


def tiny(seed):
    return TinyVolumes(seed).generate()


def killed(seed):
    os._exit(9)
