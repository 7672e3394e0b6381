"""Data-parallel training (DistributedDataParallel) on the handwritten digits of scikit-learn.

    pip install scikit-learn
    torchrun --nproc-per-node 4 examples/torch/ddp_digits.py

Prints the loss of every step, averaged over the ranks, and in the end the accuracy on images not seen in training.
"""

import argparse

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def load():
    """1437 images for training and 360 for testing, of 8 x 8 pixels in [0, 1]; the same on every rank."""
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(digits.images, dtype=torch.float32)[order].unsqueeze(1) / 16
    labels = torch.tensor(digits.target, dtype=torch.int64)[order]
    return TensorDataset(images[360:], labels[360:]), TensorDataset(images[:360], labels[:360])


def make_model():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, stride=2),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def train(model, loader, steps, rate):
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    step = 0
    while step < steps:
        loader.sampler.set_epoch(step // len(loader))
        for images, labels in loader:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()  # DDP averages the gradients meanwhile
            optimizer.step()
            mean = loss.detach().double()
            dist.all_reduce(mean)
            if dist.get_rank() == 0:
                print(f"step {step} loss {mean.item() / dist.get_world_size()!r}", flush=True)
            step += 1
            if step == steps:
                break


@torch.no_grad()
def accuracy(model, data):
    """Each rank judges its part of the images."""
    images, labels = (tensor[dist.get_rank() :: dist.get_world_size()] for tensor in data.tensors)
    model.eval()
    counts = torch.tensor([(model(images).argmax(1) == labels).sum(), len(labels)])
    dist.all_reduce(counts)
    return counts[0].item() / counts[1].item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=("tutti", "gloo"), default="tutti")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64, help="images in a step, over all ranks")
    parser.add_argument("--rate", type=float, default=0.05)
    arguments = parser.parse_args()

    dist.init_process_group(arguments.backend)
    torch.manual_seed(dist.get_rank())  # DDP gives everybody the parameters of rank 0
    training, testing = load()
    sampler = DistributedSampler(training, seed=1, drop_last=True)
    loader = DataLoader(training, arguments.batch // dist.get_world_size(), sampler=sampler, drop_last=True)
    model = DistributedDataParallel(make_model())
    train(model, loader, arguments.steps, arguments.rate)
    result = accuracy(model, testing)
    if dist.get_rank() == 0:
        print(f"accuracy {result:.4f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
