"""Exercises of lesson 09, the training loop, fourth part: whose weights decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Write
from llm_lab.checks.compare import kind_of
from llm_lab.checks.deck import Draw

# ------------------------------------------------------------------------------------------------------------- write


class Mixed(nn.Module):
    """Parameters of all kinds, whose names say little."""

    def __init__(self, E: int, V: int, frozen: str, tied: bool):
        super().__init__()
        self.words = nn.Embedding(V, E)
        self.norm, self.scaling = nn.LayerNorm(E), nn.LayerNorm(E, bias=False)
        self.mixing = nn.Conv1d(E, 2, 3)
        self.layers = nn.ModuleList([nn.Linear(E, E), nn.Linear(E, E, bias=False)])
        self.output, self.shift = nn.Linear(E, V, bias=False), nn.Parameter(torch.zeros(V))
        if tied:
            self.output.weight = self.words.weight
        for name, parameter in self.named_parameters():
            parameter.requires_grad = frozen not in name

    def __repr__(self) -> str:
        return "a model with " + ", ".join(f"{n} {tuple(p.shape)}" for n, p in self.named_parameters())


def model_and_decay(draw: Draw) -> tuple[Any, ...]:
    """A model of mixed parameters, some of them frozen, and the strength of the decay."""
    return Mixed(draw.E, draw.V, draw.choice("no name", "words", "layers.0", "norm"), draw.choice(True, False)), 0.05


def look_at_groups(answer: Any, model: Mixed, decay: float) -> dict[str, Any]:
    """The decay of each parameter, by its name."""
    groups = answer(model, decay)
    fits = isinstance(groups, list | tuple) and all(isinstance(g, dict) for g in groups)
    facts: dict[str, Any] = {"the result": "a list of dictionaries" if fits else kind_of(groups)}
    if not fits:
        return facts
    keys = all({"params", "weight_decay"} <= set(group) for group in groups)
    facts['every group has the keys "params" and "weight_decay"'] = keys
    if not keys:
        return facts
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    given = [(names.get(id(p), kind_of(p)), float(group["weight_decay"])) for group in groups for p in group["params"]]
    facts["each parameter stands in one group, once"] = len(given) == len(dict(given))
    return {**facts, "the decay of each": dict(sorted(given))}


DECAY_GROUPS = Write(
    id="09.decay_groups",
    title="Whose weights decay?",
    task="""\
Write `decay_groups(model, decay)`. It returns a list of dictionaries, as `torch.optim.AdamW` takes them: `"params"`, a
list of parameters, and `"weight_decay"`. Tables, that is parameters with two axes or more, decay by `decay`; vectors,
such as biases and the scales of norms, by 0. Each trained parameter stands in one group, once. Frozen ones
(`requires_grad` is False) stand in none. A table may be tied: two modules use it.""",
    why="A norm's scale is meant to be about 1. Pulled towards 0, it makes the whole layer fade.",
    difficulty=2,
    minutes=10,
    first="print the name and the shape of each of `model.named_parameters()`, for an `nn.LayerNorm(4)`.",
    hints=(
        "The names say little: a norm's scale is called `weight`, as a table is. What do the shapes say?",
        "`model.parameters()` gives a tied table once. Going through modules by yourself, you meet it twice.",
        "Two lists, by `parameter.ndim >= 2`, of the parameters with `requires_grad`.",
    ),
    explanation="""\
`ndim` tells tables from vectors, whatever they are called. `model.parameters()` names each parameter once, tied or
not. The package does the same in `build_optimizers`.""",
    setup="from torch import nn",
    stub="""
def decay_groups(model, decay):
    '''A list of dictionaries with "params" and "weight_decay".'''
    raise NotImplementedError
""",
    right=("decay_groups", "decay_groups_one_by_one"),
    inputs=model_and_decay,
    probe=look_at_groups,
    may_draw=True,
    wrong=catalogue("""
# all decay
Everything decays, the scales of norms and the biases, too.
- "weight_decay": 0.0
+ "weight_decay": decay

# nothing decays
No parameter decays. What is `decay` for?
- "weight_decay": decay
+ "weight_decay": 0.0

# the wrong way round
Vectors decay, and tables do not.
- "params": matrices
+ "params": vectors
- "params": vectors, "weight_decay": 0.0
+ "params": matrices, "weight_decay": 0.0

# by the name weight
You let decay what is called `weight`. The scale of a norm is called that, too.
- matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
+ matrices = [p for n, p in model.named_parameters() if p.requires_grad and "weight" in n]
- vectors = [parameter for parameter in parameters if parameter.ndim < 2]
+ vectors = [p for n, p in model.named_parameters() if p.requires_grad and "weight" not in n]

# by the names bias and norm
You go by the names `bias` and `norm`. In this model a norm and a vector are called otherwise: look at shapes.
- matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
+ named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
+     matrices = [p for n, p in named if "bias" not in n and "norm" not in n]
- vectors = [parameter for parameter in parameters if parameter.ndim < 2]
+ vectors = [p for n, p in named if "bias" in n or "norm" in n]

# only biases spared
Biases do not decay, but the scales of norms do. They are vectors, too.
- matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
+ named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
+     matrices = [p for n, p in named if "bias" not in n]
- vectors = [parameter for parameter in parameters if parameter.ndim < 2]
+ vectors = [p for n, p in named if "bias" in n]

# frozen ones, too
Frozen parameters stand in your groups. They are not trained, and must not decay.
-  if parameter.requires_grad
+

# two axes exactly
A parameter with three axes, as of a convolution, is in none of your groups: it would never be trained.
- ndim >= 2
+ ndim == 2

# three axes do not decay
A parameter with three axes, as of a convolution, counts as a vector with you. Two axes *or more* make a table.
- ndim >= 2
+ ndim == 2
- ndim < 2
+ ndim != 2

# vectors left out
The vectors stand in no group: no optimizer would move them.
- , {"params": vectors, "weight_decay": 0.0}]
+ ]

# the decay of vectors not said
A group of yours says nothing of its decay, so AdamW takes its own: 0.01, and not 0.
- {"params": vectors, "weight_decay": 0.0}
+ {"params": vectors}

# by the kind of module
You spare norms and biases by their modules. A vector may belong to none of them: look at shapes.
- matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
+ norms = {id(p) for m in model.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()}
+     spared = {id(p) for n, p in model.named_parameters() if n.endswith("bias") or id(p) in norms}
+     matrices = [p for p in parameters if id(p) not in spared]
- vectors = [parameter for parameter in parameters if parameter.ndim < 2]
+ vectors = [p for p in parameters if id(p) in spared]

# vectors in both groups
Your first group holds all parameters, and the second the vectors once more. Each stands in one group.
- "params": matrices
+ "params": parameters

# linear layers alone
Only the tables of `nn.Linear` decay. An embedding and a convolution are tables, too.
- matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
+ linear = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
+     matrices = [p for p in parameters if id(p) in linear]
- vectors = [parameter for parameter in parameters if parameter.ndim < 2]
+ vectors = [p for p in parameters if id(p) not in linear]

# the embedding spared
The table of an embedding does not decay with you. It has two axes.
- matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
+ spared = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
+     matrices = [p for p in parameters if p.ndim >= 2 and id(p) not in spared]
- vectors = [parameter for parameter in parameters if parameter.ndim < 2]
+ vectors = [p for p in parameters if p.ndim < 2 or id(p) in spared]

# a tied table twice
A tied table stands in your groups twice: you met it in both modules that use it. `model.parameters()` knows better.
- parameters = [parameter for parameter in model.parameters() if
+ every = [p for module in model.modules() for p in module.parameters(recurse=False)]
+     parameters = [parameter for parameter in every if

# names in place of parameters
Your groups hold names. An optimizer takes the parameters themselves.
- parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
+ parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
+     names = {id(p): n for n, p in model.named_parameters()}
- {"params": matrices
+ {"params": [names[id(p)] for p in matrices]
- {"params": vectors
+ {"params": [names[id(p)] for p in vectors]

# a single group
That is one dictionary. An optimizer takes a list of them: one for those that decay, one for the rest.
- return [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
+ return {"params": matrices, "weight_decay": decay}
"""),
)

EXERCISES = (DECAY_GROUPS,)
