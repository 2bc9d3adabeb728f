"""A round of active learning by kdal and by other projects, each with its own code. None of theirs is kept here.

`folder` holds the clones deepALplus (SineZHAN/deepALplus) and distil (decile-team/distil), and site-packages with baal
and what it imports. Run as they stand, with their own defaults but for what a `Task` makes equal:

| side | trains | looks at the pool and chooses | its loader; a look |
|---|---|---|---|
| deepALplus | nets.Net.train | {Entropy,Badge}Sampling.query | CIFAR10_Handler, 4 workers; 1,000 images |
| DISTIL | data_train.train | {EntropySampling,BADGE}.select | torchvision's CIFAR10, no workers; a step's images |
| baal | ModelWrapper.train_on_dataset | ActiveLearningLoop.step, Entropy | the same, 4 workers; a step's images |

Their images are arrays turned to PIL images and transformed one by one, as their examples do: crops and flips for the
labelled part, and for the pool as well with deepALplus and DISTIL, whose pool shares the transform. Optimizers are
deepALplus's Adam at 0.001, DISTIL's SGD at 0.01 falling along a cosine (by epoch; ours by step), and for baal, which
leaves it to the caller, the same SGD without the cosine; ours takes the same.

Changed at run time: data sets get their arrays instead of a download; DISTIL's early stops, which would make the
lengths unequal, never happen; faiss and submodlib, which they import and these samplers do not use, are empty modules.
"""

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Subset
from torchvision import transforms
from torchvision.datasets import CIFAR10

from kdal_cli.dataset import ImageData, ImageSet
from kdal_cli.images.augment import Augment
from kdal_cli.models.small_cnn import small_cnn

AUGMENT = Augment(pad=4, flip=True)


@dataclass(frozen=True)
class Task:
    """What is equal: the images, the seed set (M,), epochs a round, images a step, labels a query, and the net.

    Where M and `query` are multiples of `batch`, no side has a ragged one.
    """

    data: ImageData
    seed_set: Tensor
    epochs: int
    batch: int
    query: int
    sampler: str
    seed: int = 0

    def net(self) -> nn.Sequential:
        return small_cnn(self.data.shape)  # type: ignore[return-value]


class Side(Protocol):
    """An experiment as one project runs it. Constructed with the seed set labelled and nothing trained."""

    def train(self) -> None:
        """New weights, trained on what is labelled."""
        ...

    def buy(self) -> None:
        """Look at the pool with what was trained, choose, and label that."""
        ...

    def accuracy(self) -> float:
        """On the test images."""
        ...


# What theirs share.


class Split(nn.Module):
    """Our net, giving what enters its last layer as well: (logits (B, C), features (B, D))."""

    def __init__(self, body: nn.Sequential) -> None:
        super().__init__()
        self.body, self.last = body[:-1], body[-1]

    def forward(self, images: Tensor) -> Any:
        features = self.body(images)
        return self.last(features), features

    def get_embedding_dim(self) -> int:
        return self.last.in_features  # type: ignore[return-value]


class SplitForDistil(Split):
    """The same as DISTIL's nets do it; `freeze`: no gradient of the features is needed."""

    def forward(self, images: Tensor, last: bool = False, freeze: bool = False) -> Any:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not freeze):
            features = self.body(images)
        logits = self.last(features)
        return (logits, features) if last else logits


class Archive(CIFAR10):
    """torchvision's data set over arrays that are there already."""

    def __init__(self, images: ImageSet, transform: Any, target_transform: Any = None) -> None:
        self.data, self.targets = rows_of_pixels(images), images.labels.all().tolist()
        self.transform, self.target_transform = transform, target_transform


def rows_of_pixels(images: ImageSet) -> np.ndarray:
    """(N, H, W, c) uint8, as an image is in PIL."""
    return images.pixels[:].permute(0, 2, 3, 1).contiguous().numpy()


def transforms_of(data: ImageData) -> tuple[Any, Any]:
    """(for training, for looking), as all of their examples write them for CIFAR-10."""
    plain = [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
    crop = transforms.RandomCrop(data.shape.height, padding=AUGMENT.pad)
    return transforms.Compose([crop, transforms.RandomHorizontalFlip(), *plain]), transforms.Compose(plain)


def theirs(folder: Path, name: str) -> Any:
    """A module of a peer, after which its folder stays importable: its workers need it too."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    for unused in ("faiss", "submodlib"):
        sys.modules.setdefault(unused, ModuleType(unused))
    return importlib.import_module(name)


def seeded(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)  # what they draw from


# They.


class DeepALplus:
    """As demo.py goes through a round."""

    recipe: Mapping[str, Any] = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.0, "schedule": "constant"}
    strategies: Mapping[str, str] = {"entropy": "EntropySampling", "badge": "BadgeSampling"}

    def __init__(self, task: Task, folder: Path, workers: int) -> None:
        seeded(task.seed)
        home, data, self.task = folder / "deepALplus", task.data, task
        settings = dict(theirs(home, "parameters").args_pool["CIFAR10"])
        settings["n_epoch"] = task.epochs
        settings["loader_tr_args"] = {"batch_size": task.batch, "num_workers": workers}
        settings["loader_te_args"] = {**settings["loader_te_args"], "num_workers": workers}
        arrays = (
            rows_of_pixels(data.train),
            data.train.labels.all(),
            rows_of_pixels(data.test),
            data.test.labels.all(),
        )
        self.images = theirs(home, "data").Data(*arrays, theirs(home, "handlers").CIFAR10_Handler, settings)
        self.images.labeled_idxs[task.seed_set.numpy()] = True
        net = theirs(home, "nets").Net(lambda **shape: Split(task.net()), settings, torch.device("cpu"))
        strategy = getattr(theirs(home, "query_strategies"), self.strategies[task.sampler])
        self.strategy = strategy(self.images, net, None, settings)

    def train(self) -> None:
        self.strategy.train()

    def buy(self) -> None:
        self.strategy.update(self.strategy.query(self.task.query))

    def accuracy(self) -> float:
        return self.images.cal_test_acc(self.strategy.predict(self.images.get_test_data()))


class Distil:
    """As train.py goes through a round. Its loaders have no workers."""

    recipe: Mapping[str, Any] = {"lr": 0.01, "nesterov": False, "schedule": "cosine"}
    strategies: Mapping[str, str] = {"entropy": "EntropySampling", "badge": "BADGE"}

    def __init__(self, task: Task, folder: Path, workers: int) -> None:
        seeded(task.seed)
        home, self.task, self.ids = folder / "distil", task, task.seed_set.tolist()
        augmented, plain = transforms_of(task.data)
        self.images = Archive(task.data.train, augmented, torch.tensor)
        self.test = Archive(task.data.test, plain, torch.tensor)
        self.unlabelled = theirs(home, "distil.utils.utils").LabeledToUnlabeledDataset
        never = {"max_accuracy": 2.0, "min_diff_acc": float("-inf")}
        arguments = {"n_epoch": task.epochs + 1, "lr": 0.01, "batch_size": task.batch, **never}  # it counts from 1
        net, (labelled, pool) = SplitForDistil(task.net()), self.parts()
        self.trainer = theirs(home, "distil.utils.train_helper").data_train(labelled, net, arguments)
        strategy = getattr(theirs(home, "distil.active_learning_strategies"), self.strategies[task.sampler])
        classes, settings = len(task.data.classes), {"batch_size": task.batch}
        self.strategy = strategy(labelled, self.unlabelled(pool), net, classes, settings)

    def parts(self) -> tuple[Subset, Subset]:
        """(labelled, pool)."""
        rest = np.setdiff1d(np.arange(len(self.images)), self.ids)
        return Subset(self.images, self.ids), Subset(self.images, rest.tolist())

    def train(self) -> None:
        self.strategy.update_model(self.trainer.train())

    def buy(self) -> None:
        rest = self.parts()[1].indices
        self.ids = [*self.ids, *(rest[row] for row in self.strategy.select(self.task.query))]
        labelled, pool = self.parts()
        self.strategy.update_data(labelled, self.unlabelled(pool))
        self.trainer.update_data(labelled)

    def accuracy(self) -> float:
        return self.trainer.get_acc_on_set(self.test)


class Baal:
    """As the loop of its documentation goes through a round."""

    recipe: Mapping[str, Any] = {"lr": 0.01, "nesterov": False, "schedule": "constant"}

    def __init__(self, task: Task, folder: Path, workers: int) -> None:
        seeded(task.seed)
        home, self.task = folder / "site-packages", task
        self.wrapper, active = theirs(home, "baal.modelwrapper"), theirs(home, "baal.active")
        augmented, plain = transforms_of(task.data)
        self.test = Archive(task.data.test, plain)
        labelled = np.isin(np.arange(len(task.data.train)), task.seed_set.numpy())
        pool = {"transform": plain}
        self.images = active.ActiveLearningDataset(Archive(task.data.train, augmented), labelled, pool_specifics=pool)
        self.settings = {"batch_size": task.batch, "epoch": task.epochs, "workers": workers, "use_cuda": False}
        heuristic = active.get_heuristic(task.sampler)
        self.loop = active.ActiveLearningLoop(self.images, self.look, heuristic, task.query, iterations=1)

    def train(self) -> None:
        net = self.task.net()
        optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
        arguments = self.wrapper.TrainingArgs(optimizer, criterion=nn.CrossEntropyLoss(), **self.settings)
        self.model = self.wrapper.ModelWrapper(net, arguments)
        self.model.train_on_dataset(self.images)

    def look(self, pool: Any, **how: Any) -> Any:
        return self.model.predict_on_dataset(pool, **how)

    def buy(self) -> None:
        self.loop.step()

    def accuracy(self) -> float:
        answers = self.model.predict_on_dataset(self.test, iterations=1)[:, :, 0].argmax(1)
        return float((answers == self.task.data.test.labels.all().numpy()).mean())
