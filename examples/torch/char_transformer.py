"""A small transformer that continues text character by character, and a text that ships with Python.

fsdp_transformer.py, tensor_parallel.py and pipeline.py train it.
"""

from __future__ import annotations

from pydoc_data.topics import topics

import torch
from torch import nn
from torch.nn import functional as F


class Text:
    """The language reference as Python's own ``help()`` shows it, about 700 KB of it.

    ``vocabulary`` is the number of different characters.
    """

    def __init__(self) -> None:
        text = "\n".join(topics[name] for name in sorted(topics))
        characters = sorted(set(text))
        code = {character: i for i, character in enumerate(characters)}
        self.codes = torch.tensor([code[character] for character in text])
        self.vocabulary = len(characters)

    def batch(self, step: int, count: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """``count`` pieces of ``length`` characters, and the same shifted by one; equal on every rank."""
        random = torch.Generator().manual_seed(step)
        starts = torch.randint(len(self.codes) - length, (count, 1), generator=random)
        index = starts + torch.arange(length + 1)
        pieces = self.codes[index]
        return pieces[:, :-1], pieces[:, 1:]


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head_width = width // heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # The layers decide how many heads there are: with tensor parallelism each rank has some of them.
        q, k, v = (
            layer(x).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.down(F.gelu(self.up(self.mlp_norm(x))))


class Embedding(nn.Module):
    """Characters and their places."""

    def __init__(self, vocabulary: int, length: int, width: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(length, width)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        return self.characters(codes) + self.places(torch.arange(codes.shape[1]))


class Head(nn.Module):
    """Logits of the next character."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, vocabulary, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits(self.norm(x))


def make_model(vocabulary: int, length: int, width: int = 64, heads: int = 4, depth: int = 4) -> nn.Sequential:
    """Embedding, ``depth`` blocks and head, in this order, so that a pipeline can cut between any two of them."""
    return nn.Sequential(
        Embedding(vocabulary, length, width),
        *(Block(width, heads) for _ in range(depth)),
        Head(vocabulary, width),
    )


def loss_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean cross entropy per character, in nats."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
