"""Exercises of lesson 10, pretraining, fourth part: a recipe of the reader's own, measured."""

from __future__ import annotations

from typing import Any

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.compare import kind_of
from llm_lab.checks.design import Design
from llm_lab.config import MaskingConfig, ModelConfig, TrainConfig, require
from llm_lab.lessons import budget
from llm_lab.model.heads import MaskedLanguageModel, count_parameters
from llm_lab.train.schedule import learning_rate_factor

STEPS, PARAMETERS = 150, 125_000
TRAINING = {"optimizer": "muon", "learning_rate": 0.01, "mask_rate": 0.3, "warmup": 0.1, "decay": 0.4}
MODEL = {
    "architecture": "transformer",
    "width": 64,
    "num_layers": 2,
    "num_heads": 4,
    "feed_forward_width": 176,
    "positions": "rotary",
    "norm_place": "pre",
    "convolution": 0,
    "window": 2,
    "dropout": 0.1,
}


def chosen(answer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a recipe chooses for the training and for the model, the defaults for the rest. Raises ValueError."""
    recipe = answer()
    require(isinstance(recipe, dict), f"recipe() must return a dictionary; it returned {kind_of(recipe)}.")
    unknown = [str(key) for key in recipe if key not in TRAINING | MODEL]
    known = ", ".join(TRAINING | MODEL)
    require(not unknown, f"recipe() chooses {', '.join(unknown)}, which is not one of {known}.")
    training, model = ({key: recipe.get(key, part[key]) for key in part} for part in (TRAINING, MODEL))
    MaskingConfig(training["mask_rate"])
    TrainConfig(**{key: training[key] for key in training if key != "mask_rate"})
    if model["architecture"] != "transformer":  # it has no heads, so its width need not be a multiple of them
        model["num_heads"], model["positions"] = 1, "none"
    return training, model


def facts_of(answer: Any) -> dict[str, Any]:
    """What can be seen of a recipe without cooking it."""
    training, model = chosen(answer)
    config = ModelConfig(vocabulary_size=193, max_length=64, **model)
    named = answer()
    changed = any(named[key] != (TRAINING | MODEL)[key] for key in named)
    parameters = count_parameters(MaskedLanguageModel(config))
    order = int(model["positions"] != "none") + model["convolution"]
    return {**training, **model, "order": order, "parameters": parameters, "changed": changed}


def held_out_loss(answer: Any) -> float:
    """Train by the recipe on the hard language; the loss on held-out sentences, in nats."""
    from llm_lab.ward.run import TrainingRun

    training, model = chosen(answer)

    class Cooked(TrainingRun):
        masking = MaskingConfig(training["mask_rate"], selection="bernoulli")
        learning_rate, optimizer = training["learning_rate"], training["optimizer"]

        def factor(self, step: int) -> float:
            return learning_rate_factor(step, self.steps, training["warmup"], training["decay"])

    run = Cooked(steps=budget(full=STEPS, fast=3), **model)
    run.train(evaluate_every=run.steps)
    return run.evaluate()


RECIPE = Design(
    id="10.recipe",
    title="A recipe for 150 steps",
    task="""\
A small model trains for 150 steps of 32 sentences on the hard language, and sits its exam: held-out sentences, 15%
hidden. Each run sees the same sentences. You choose the recipe: `recipe()` returns a dictionary with what you want to
change of these defaults.

- `"architecture"`: "transformer"; or rnn, lstm, bilstm, window. `"width"`: 64. `"num_layers"`: 2. `"num_heads"`: 4.
  `"feed_forward_width"`: 176. `"positions"`: "rotary"; or learned, sinusoidal, alibi, none. `"norm_place"`: "pre"; or
  post. `"convolution"`: 0, the words that a convolution before each attention mixes. `"window"`: 2, the words that a
  window model sees to each side. `"dropout"`: 0.1.
- `"optimizer"`: "muon"; or adamw. `"learning_rate"`: 0.01. `"mask_rate"`: 0.3. `"warmup"`: 0.1 and `"decay"`: 0.4,
  shares of the run.

At most 125,000 parameters; the defaults have 117,377, and end at about 3.6 nats. The goal is 2.85, the floor 1.46. How
far do you get?""",
    why="A budget decides which model is the best one. Another budget, another winner: measure at yours.",
    difficulty=4,
    minutes=30,
    first='change one thing, such as `{"dropout": 0.0}`, and see what the check says.',
    hints=(
        "150 steps are hardly more than the plateau. Which model has at once what a Transformer must find out first?",
        """\
What is read first is who stands next to whom (section 3). Which models have neighbours built in? Section 8 has one,
lesson 05 two; and what does `convolution` do?""",
        "Try the BiLSTM and the window model, within the parameters. Then the learning rate, in both directions.",
    ),
    explanation="""\
At this budget the neighbours are all that can be learnt, and the model that has nothing but neighbours is ahead: about
2.5 nats, before the BiLSTM with 2.8, a Transformer with a convolution, 2.9 to 3.0, and the plain one, 3.4 to 3.6. A
window of two never comes nearer than 0.36 nats to the floor (lesson 05), so with more steps it loses.""",
    stub="""
def recipe():
    '''What is to be other than the defaults, a dictionary such as {"dropout": 0.0}.'''
    raise NotImplementedError
""",
    right=("recipe", "recipe_of_a_bilstm"),
    facts=facts_of,
    measure=held_out_loss,
    goal=2.85,
    unit="nats",
    about="training 150 steps on the hard language, 3 to 30 seconds ...",
    when={
        "the defaults": lambda facts: not facts["changed"],
        "over the budget": lambda facts: facts["parameters"] > PARAMETERS,
        "half of the row is missing": lambda facts: facts["architecture"] in ("rnn", "lstm"),
        "a window without a view": lambda facts: facts["architecture"] == "window" and facts["window"] == 0,
        "no order": lambda facts: facts["architecture"] == "transformer" and facts["order"] == 0,
        "hardly moves": lambda facts: facts["learning_rate"] < 7e-4,
        "thrown about": lambda facts: facts["learning_rate"] > 0.3,
        "too little is asked": lambda facts: facts["mask_rate"] < 0.08,
        "no context": lambda facts: facts["mask_rate"] > 0.85,
        "most is dropped": lambda facts: facts["dropout"] > 0.5,
    },
    wrong=catalogue("""
# the defaults
Your recipe changes nothing: about 3.6 nats.
def wrong():
    return {"width": 64, "optimizer": "muon"}

# over the budget
More than 125,000 parameters. At equal width a BiLSTM is larger than a Transformer, and a wide layer grows with its
square.
def wrong():
    return {"architecture": "bilstm", "width": 64}

# half of the row is missing
Your model reads from the left alone. What stands to the right of a blank it can never know: 3.4 nats at best here.
def wrong():
    return {"architecture": "lstm", "learning_rate": 0.02}

# a window without a view
Your window model sees no word beside the blank: the word frequencies are all that it can learn, 4.5 nats.
def wrong():
    return {"architecture": "window", "window": 0}

# no order
Your Transformer has no positions, so it reads a bag of words: about 4.1 nats.
def wrong():
    return {"positions": "none", "learning_rate": 0.02}

# hardly moves
With so small a learning rate 150 steps end on the plateau: 4.5 nats.
def wrong():
    return {"architecture": "bilstm", "width": 54, "learning_rate": 1e-4}

# thrown about
So large a learning rate throws the weights about.
def wrong():
    return {"learning_rate": 1.0}

# too little is asked
You hide fewer than one word in twelve: a batch gives few answers.
def wrong():
    return {"mask_rate": 0.03, "architecture": "window"}

# no context
You hide nearly all words: a blank has no neighbours left to be guessed from.
def wrong():
    return {"mask_rate": 0.9, "architecture": "window"}

# most is dropped
You drop more than half of what each layer finds. Dropout keeps a text from being learnt by heart, and here no sentence
comes twice.
def wrong():
    return {"dropout": 0.7, "architecture": "window"}
"""),
)

EXERCISES = (RECIPE,)
