from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, MeanDice, ValidationHandler, from_engine
from monai.transforms import Compose, RandFlipd, RandGaussianNoised
from monai.utils import set_determinism

from voxel_ext.handlers import CheckpointHandler, EpochSeedHandler, HistoryHandler, ResumableEarlyStopHandler


class Run:
    """A tiny training with everything a bundle attaches: dropout, random transforms, shuffling, a plateau scheduler."""

    def __init__(self, folder: Path, epochs: int, workers: int = 0, **checkpoint) -> None:
        set_determinism(0)
        generator = torch.Generator().manual_seed(1)
        images = torch.rand(6, 1, 8, 8, generator=generator)
        data = [{"image": image, "label": (image > 0.6).float()} for image in images]
        augment = Compose([RandFlipd(["image", "label"], prob=0.5), RandGaussianNoised("image", prob=0.5)])
        self.network = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Dropout(0.2), torch.nn.Conv2d(4, 1, 3, padding=1)
        )
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.01)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, patience=0, factor=0.5)
        early = ResumableEarlyStopHandler(patience=50, score_function=lambda e: e.state.metrics["val_dice"])
        self.evaluator = SupervisedEvaluator(
            device="cpu",
            val_data_loader=DataLoader(CacheDataset(data[4:], progress=False), batch_size=1),
            network=self.network,
            postprocessing=lambda item: item | {"pred": (item["pred"] > 0).float()},
            key_val_metric={"val_dice": MeanDice(output_transform=from_engine(["pred", "label"]))},
            val_handlers=[
                LrScheduleHandler(scheduler, print_lr=False, step_transform=lambda e: -e.state.metrics["val_dice"]),
                early,
            ],
        )
        self.history = HistoryHandler(folder / "history.jsonl", self.optimizer, self.evaluator)
        states = {
            "network": self.network,
            "optimizer": self.optimizer,
            "lr_scheduler": scheduler,
            "early_stopping": early,
            "history": self.history,
        }
        self.checkpoint = CheckpointHandler(
            folder, **({"states": states, "validator": self.evaluator, "key_metric": "val_dice"} | checkpoint)
        )
        self.trainer = SupervisedTrainer(
            device="cpu",
            max_epochs=epochs,
            train_data_loader=DataLoader(
                CacheDataset(data[:4], augment, progress=False), batch_size=2, shuffle=True, num_workers=workers
            ),
            network=self.network,
            optimizer=self.optimizer,
            loss_function=torch.nn.BCEWithLogitsLoss(),
            decollate=False,
            train_handlers=[
                ValidationHandler(1, self.evaluator),
                EpochSeedHandler(0),
                self.history,
                self.checkpoint,
            ],
        )
        early.set_trainer(self.trainer)

    def __call__(self) -> "Run":
        self.trainer.run()
        return self

    def losses(self) -> list[float]:
        return [row["train_loss"] for row in self.history.rows]


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    def make(epochs: int, name: str = "models", **kwargs) -> Run:
        return Run(tmp_path / name, epochs, **kwargs)

    return make
