"""The text of a catalogue: what each kind of entry becomes, and what is refused."""

import pytest

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.exercise import Swap, Wrong

TEXT = """
# rounds down
3.9 becomes 3:
look at `int()`.
- .round()
+ .floor()

# forgets both
Two things.
of other_answer
-  + 1
+
- a = 1
- b = 2
+ c = 3

# own code
It is its own.
def wrong(x):
    - x

    return x

# a number
Too large.
= 0.5

# a letter
Not that one.
= b
"""


def test_every_kind_of_entry():
    assert catalogue(TEXT) == (
        Wrong("rounds down", "3.9 becomes 3: look at `int()`.", Swap(((".round()", ".floor()"),))),
        Wrong("forgets both", "Two things.", Swap(((" + 1", ""), ("a = 1\nb = 2", "c = 3")), "other_answer")),
        Wrong("own code", "It is its own.", "def wrong(x):\n    - x\n\n    return x\n"),
        Wrong("a number", "Too large.", 0.5),
        Wrong("a letter", "Not that one.", "b"),
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("rounds down\n- a\n+ b", "starts with a line `# name`"),
        ("# rounds down\n- a\n+ b", "'rounds down' has no reply"),
        ("# rounds down\nA reply.", "'rounds down' has no answer"),
        ("# rounds down\nA reply.\n- a\n- b", "in pairs"),
        ("# rounds down\nA reply.\n+ a\n- b", "in pairs"),
        ("# rounds down\nA reply.\n- a\nb", "should start with - or +"),
    ],
)
def test_what_is_no_catalogue_is_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence.replace("+", r"\+")):
        catalogue(text)
