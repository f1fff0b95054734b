"""A model that sees the nearest words alone: what a guess is worth without the rest of the row.

Letters: B batch, T tokens, K chosen positions, E embedding width, k words to each side.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab.config import ModelConfig
from llm_lab.model.block import draw_weights, gather_positions, make_feed_forward, make_norm, require_short

PAD = 0  # the id of [PAD], which stands past the edges of a row


def windows(ids: Tensor, k: int) -> Tensor:
    """Each token with its k neighbours to each side, in their order: ids (B, T) -> (B, T, 2k+1)."""
    return F.pad(ids, (k, k), value=PAD).unfold(1, 2 * k + 1, 1)


class WindowEncoder(nn.Module):
    """The embeddings of a window, joined into one vector, then feed-forward parts: x + feed_forward(norm(x)).

    A neighbour's place in the window is all that it knows of order. The first neural language model was of this kind,
    with the words before alone: Bengio et al. 2003, jmlr.org/papers/v3/bengio03a.html.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary_size, config.width)
        self.embedding_norm = make_norm(config)
        self.dropout = nn.Dropout(config.dropout)
        self.join = nn.Linear((2 * config.window + 1) * config.width, config.width, bias=config.biases)
        self.norms = nn.ModuleList(make_norm(config) for _ in range(config.num_layers))
        self.layers = nn.ModuleList(make_feed_forward(config) for _ in range(config.num_layers))
        self.final_norm = make_norm(config)
        draw_weights(self, config)

    def forward(self, ids: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """ids (B, T) -> (B, T, E), or (B, K, E) at `positions` (B, K): only these are computed.

        A token where `mask` (B, T) is False counts as [PAD], whatever its id; None means that all are seen.
        """
        require_short(ids, self.config.max_length)
        seen = windows(ids if mask is None else ids.masked_fill(~mask, PAD), self.config.window)
        if positions is not None:
            seen = gather_positions(seen, positions)  # (B, K, 2k+1)
        x = self.join(self.dropout(self.embedding_norm(self.embedding(seen))).flatten(2))
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = x + self.dropout(layer(norm(x)))
        return self.final_norm(x)
