"""The page of attention maps: all numbers inside, nothing from outside, words that can't break it."""

import json
import re

import numpy as np
import pytest

from llm_lab.attention_view import attention_view


def maps_of(moments=("step 1", "step 9"), layers=2, heads=3, length=4):
    random = np.random.default_rng(0)
    drawn = {name: random.random((layers, heads, length, length)) for name in moments}
    return {name: array / array.sum(axis=-1, keepdims=True) for name, array in drawn.items()}


def data_of(page):
    return json.loads(re.search(r"const data = (\{.*\}), box", page)[1])


def test_every_map_is_inside_in_hundredths():
    maps = maps_of()
    data = data_of(attention_view(maps, list("abcd"), layer=1, head=2, word=3))
    assert data["moments"] == ["step 1", "step 9"] and data["tokens"] == list("abcd")
    for kept, array in zip(data["maps"], maps.values(), strict=True):
        assert np.abs(np.array(kept) - 100 * array).max() <= 0.5
    assert data["first"] == {"moment": 1, "layer": 1, "head": 2, "word": 3}


def test_nothing_is_loaded_from_outside():
    page = attention_view(maps_of(), list("abcd"))
    assert not re.search(r"https?:|//|src=|href=|@import|url\(|fetch|import\(", page)


def test_without_a_script_a_sentence_is_left():
    page = attention_view(maps_of(), list("abcd"))
    assert "a script has to run" in page.split("<script>")[0]


@pytest.mark.parametrize("word", ["</script><b>", "<!--", '"', "\\", "'", "\u8bcd", "@data@", "@id@"])
def test_a_word_stays_a_word(word):
    page = attention_view(maps_of(), [word, "b", "c", "d"])
    assert data_of(page)["tokens"][0] == word
    assert page.count("</script>") == 1 and page.count("<!--") == 0
    identifier = re.search(r'<div id="([^"]*)"', page)[1]
    assert re.fullmatch(r"attention-[0-9a-f]{12}", identifier) and page.count(f'"{identifier}"') == 2


def test_two_pages_in_one_notebook_do_not_share_a_name():
    first, second = (attention_view(maps_of(moments), list("abcd")) for moments in (("a",), ("b",)))
    assert re.search('id="(.*?)"', first)[1] != re.search('id="(.*?)"', second)[1]


def test_maps_that_do_not_fit_the_words_are_refused():
    with pytest.raises(ValueError, match=r"\(layers, heads, 3, 3\)"):
        attention_view(maps_of(), list("abc"))
    with pytest.raises(ValueError, match="one shape"):
        attention_view({**maps_of(("a",)), **maps_of(("b",), heads=1)}, list("abcd"))
    with pytest.raises(ValueError, match="one shape"):
        attention_view({}, list("abcd"))
