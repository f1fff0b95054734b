"""Trees: their leaves in order and their brackets."""

from llm_lab.text.tree import Tree


def test_leaves_stand_in_their_order():
    det, noun, verb = Tree("Det", word="the"), Tree("Noun", word="king"), Tree("Verb", word="sleeps")
    clause = Tree("Clause", (Tree("NP", (det, noun)), Tree("VP", (verb,))))
    assert list(clause.leaves()) == [det, noun, verb]
    assert list(det.leaves()) == [det]
    assert str(clause) == "(Clause (NP (Det the) (Noun king)) (VP (Verb sleeps)))"
    assert clause == Tree("Clause", clause.children) and hash(clause) == hash(Tree(*clause))
