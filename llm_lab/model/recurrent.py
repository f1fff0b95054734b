"""Recurrent networks in the Transformer's place: what is known of a row is carried along from word to word.

Letters: B batch, T tokens, K chosen positions, E embedding width. `rnn` and `lstm` read each row from left to right and
know nothing of what is to the right. In `bilstm` a second LSTM reads it from right to left: together the two have seen
every other word, the far ones through many steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llm_lab.config import ModelConfig
from llm_lab.model.block import INITIAL_STD, gather_positions, make_norm, require_short


def rnn_loops(rnn: nn.RNN, x: Tensor) -> Tensor:
    """What one layer of `nn.RNN` computes, word by word, as its documentation writes it. (B, T, E) -> (B, T, E)."""
    from_word, from_past, word_bias, past_bias = rnn.parameters()
    hidden = x.new_zeros(x.shape[0], rnn.hidden_size)
    outputs = []
    for t in range(x.shape[1]):
        hidden = (x[:, t] @ from_word.T + word_bias + hidden @ from_past.T + past_bias).tanh()
        outputs.append(hidden)
    return torch.stack(outputs, dim=1)


def lstm_loops(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """What one layer of `nn.LSTM` computes, word by word, as its documentation writes it. (B, T, E) -> (B, T, E)."""
    from_word, from_past, word_bias, past_bias = lstm.parameters()
    hidden = cell = x.new_zeros(x.shape[0], lstm.hidden_size)
    outputs = []
    for t in range(x.shape[1]):
        gates = x[:, t] @ from_word.T + word_bias + hidden @ from_past.T + past_bias
        write, keep, news, show = gates.chunk(4, dim=-1)
        cell = keep.sigmoid() * cell + write.sigmoid() * news.tanh()
        hidden = show.sigmoid() * cell.tanh()
        outputs.append(hidden)
    return torch.stack(outputs, dim=1)


def reverse_rows(x: Tensor, lengths: Tensor) -> Tensor:
    """The first lengths (B,) vectors of each row of x (B, T, E) backwards, the padding where it was; its own inverse.

    A backward LSTM thus starts at a row's last word, and no word's output depends on the padding.
    """
    place = torch.arange(x.shape[1], device=x.device)
    mirrored = lengths[:, None] - 1 - place  # (B, T), negative at padding
    return gather_positions(x, torch.where(mirrored >= 0, mirrored, place))


def row_lengths(ids: Tensor, mask: Tensor | None) -> Tensor:
    """How many words each row of ids (B, T) has before its padding, where mask (B, T) is False; (B,).

    Raises ValueError if padding stands before a word: the network would read it.
    """
    if mask is None:
        return torch.full_like(ids[:, 0], ids.shape[1])
    if (mask[:, 1:] & ~mask[:, :-1]).any():
        raise ValueError("a row has padding before a word: a recurrent model needs all padding at the row's end.")
    return mask.sum(dim=1)


def _lstm(width: int) -> nn.LSTM:
    """An LSTM that keeps the past at first (forget gates open): proceedings.mlr.press/v37/jozefowicz15.html."""
    lstm = nn.LSTM(width, width, batch_first=True)
    _, _, word_bias, past_bias = lstm.parameters()
    nn.init.ones_(word_bias[width : 2 * width])
    nn.init.zeros_(past_bias[width : 2 * width])
    return lstm


class RecurrentLayer(nn.Module):
    """One network of width E for each direction, and a projection of their joined outputs back to E."""

    def __init__(self, width: int, kind: str = "bilstm"):
        super().__init__()
        self.ahead = nn.RNN(width, width, batch_first=True) if kind == "rnn" else _lstm(width)
        self.back = _lstm(width) if kind == "bilstm" else None
        self.output = nn.Linear(width if self.back is None else 2 * width, width, bias=False)

    def directions(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x (B, T, E), lengths (B,) -> what each direction knows at each word, itself included, (B, T, E or 2E)."""
        ahead = self.ahead(x)[0]
        if self.back is None:
            return ahead
        back = self.back(reverse_rows(x, lengths))[0]
        return torch.cat((ahead, reverse_rows(back, lengths)), dim=-1)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x (B, T, E), lengths (B,) -> (B, T, E)."""
        return self.output(self.directions(x, lengths))


class RecurrentEncoder(nn.Module):
    """A stack of recurrent layers, x + layer(norm(x)), between an embedding and a last norm as in the Transformer."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary_size, config.width)
        self.embedding_norm = make_norm(config)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(RecurrentLayer(config.width, config.architecture) for _ in range(config.num_layers))
        # The first layer's input is normalised already.
        self.norms = nn.ModuleList(make_norm(config) if i else nn.Identity() for i in range(config.num_layers))
        self.final_norm = make_norm(config)
        nn.init.normal_(self.embedding.weight, std=INITIAL_STD)  # tied with the head; the layers start as PyTorch's do

    def forward(self, ids: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """ids (B, T) -> (B, T, E), or (B, K, E) at `positions` (B, K).

        `mask` (B, T) is True at words and False at padding, which stands at the end of a row; None means no padding.
        """
        require_short(ids, self.config.max_length)
        lengths = row_lengths(ids, mask)
        x = self.dropout(self.embedding_norm(self.embedding(ids)))
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = x + self.dropout(layer(norm(x), lengths))
        return self.final_norm(x if positions is None else gather_positions(x, positions))
