"""The cleaner against docstrings written by hand, whose prose a person marked."""

import textwrap

import pytest

from llm_lab.text.cleaning import clean, is_english, sentences


def prose(docstring: str) -> list[str]:
    return [sentence for paragraph in clean(docstring) for sentence in paragraph]


def test_a_numpy_docstring_keeps_only_its_prose():
    docstring = """
        Return the sum of the elements along an axis.

        fold(a, axis=None, dtype=None)

        Parameters
        ----------
        a, b : array_like
            Elements to be added. If `a` is not an array, a conversion is
            attempted.
        axis : None or int, optional
            The axis along which the sum is performed.

            .. versionadded:: 1.7.0
               Tuples are supported here.

        Returns
        -------
        NumPy array or anything that is like one
            The array that holds the result of the sum.
        sum_along_axis : ndarray
            An array with the same shape as :class:`~numpy.ndarray` objects.

        See Also
        --------
        add : Add arguments element-wise. This sentence is not read.

        Notes
        -----
        Arithmetic is *modular* when using ``integer`` types, as shown in [1]_.
        The sum of an empty array is the neutral element 0.

        =====  =====
        name   value
        =====  =====

        Examples
        --------
        >>> np.sum([0.5, 1.5])
        2.0

        You can also start the sum with a value.
    """
    assert prose(docstring) == [
        "Return the sum of the elements along an axis.",
        "Elements to be added.",
        "If a is not an array, a conversion is attempted.",
        "The axis along which the sum is performed.",
        "The array that holds the result of the sum.",
        "An array with the same shape as numpy.ndarray objects.",
        "The sum of an empty array is the neutral element 0.",
    ]


def test_a_google_docstring_keeps_descriptions_without_names_and_types():
    docstring = """Apply the function to every worker.

    Args:
        input (Tensor, optional): The tensor that is sent to the workers,
            which must be on the host.
        timeout: The number of seconds to wait for the result if it
            isn't done.

    Returns:
        Tensor: The result of the last worker.

    Raises:
        ValueError: If the timeout is negative.

    Example::

        This is not a sentence of the text. It is code.

    .. note:: This function is slow.
    .. code-block:: python

        Print the number of the workers here.
    """
    assert prose(docstring) == [
        "Apply the function to every worker.",
        "The tensor that is sent to the workers, which must be on the host.",
        "The number of seconds to wait for the result if it isn't done.",
        "The result of the last worker.",
        "This function is slow.",
    ]


def test_the_type_of_a_result_is_left_out_though_it_is_no_name():
    docstring = """
    Copy a graph.

    Returns
    -------
    A NetworkX graph, digraph or multigraph
        Nodes of the graph are copied.
    """
    assert prose(docstring) == ["Nodes of the graph are copied."]


def test_lists_fields_fences_and_literal_blocks():
    docstring = """
    - The first entry of the list goes
      on in a second line.
    - The second entry is short.

    :param name: The name of the file to read.
    :type name: str
    :returns: A list of the lines in the file.

    The command is called like this::

        Run the program with two arguments.

    ```
    This is a line of code in a fence.
    ```
    The text goes on after the fence.
    """
    assert prose(docstring) == [
        "The first entry of the list goes on in a second line.",
        "The second entry is short.",
        "The name of the file to read.",
        "A list of the lines in the file.",
        "The text goes on after the fence.",
    ]


def test_a_dropped_line_never_glues_two_halves():
    docstring = """
    The value of the sum is
    | a | b | c |
    only known at the end of the run. The last sentence is whole.
    """
    assert prose(docstring) == ["The last sentence is whole."]


def test_an_abbreviation_does_not_end_a_sentence():
    text = "Use another type, e.g. Decimal, for this. It is much slower."
    assert sentences(text) == ["Use another type, e.g. Decimal, for this.", "It is much slower."]


@pytest.mark.parametrize("docstring", ["", "   \n  ", "\n", ">>> 1 + 1", "::", "..", "====", "```"])
def test_a_docstring_without_prose_gives_nothing(docstring):
    assert clean(docstring) == []


@pytest.mark.parametrize(
    "sentence",
    [
        "returns the value of the array.",  # no capital
        "Returns the value of the array",  # no full stop
        "Set x = 3 in the call of the function.",  # a formula
        "See https://example.org for the rest of it.",
        "New in version 3.2 of the library.",
        "If the value of the list is not unique.",  # no main clause
        "Tensor The result of the operation.",  # a type glued to its text
        "The function is described in (see .",
        "Alpha beta gamma delta epsilon zeta.",  # a list of names
        "Foo_bar baz_qux the foo_baz qux_foo bar_foo.",
        "The %matplotlib magic is the one to use.",
        "Straße is the German word for a road.",
    ],
)
def test_what_is_not_a_whole_english_sentence_is_rejected(sentence):
    assert not is_english(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "Returns the value of the array.",
        "If x is None, the default value is used.",
        "Does self appear in other?",
        "Close all open connections (if there are any) and wait for them to finish.",
        'The default is "utf-8", which is what most files use.',
        "The list is extended by 50% if it is too short.",
    ],
)
def test_whole_english_sentences_are_kept(sentence):
    assert is_english(sentence)
    assert prose(textwrap.indent(sentence, "    ")) == [sentence]
