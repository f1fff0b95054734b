"""A small page to look at attention with: pick a moment, a layer, a head and a word, and see where it looks.

One string of HTML that loads nothing from outside. Where scripts don't run it says so in a sentence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np

PAGE = """<div id="@id@" style="font-family: sans-serif"><em>To pick words here, a script has to run: open this notebook
in Jupyter, trust it and run this cell. The picture that follows shows one state of it.</em></div>
<script>
(() => {
  const data = @data@, box = document.getElementById("@id@"), state = {...data.first};
  const make = (kind, parent, text) => {
    const made = parent.appendChild(document.createElement(kind));
    made.textContent = text || "";
    return made;
  };
  const choose = (name, options) => {
    const label = make("label", bar, name + " "), list = make("select", label);
    options.forEach((option, i) => { make("option", list, option).value = i; });
    list.value = state[name];
    label.style.marginRight = "1.2em";
    list.onchange = () => { state[name] = +list.value; draw(); };
  };
  const count = (n) => Array.from({length: n}, (_, i) => i + 1);
  box.textContent = "";
  const bar = make("div", box), line = make("div", box), says = make("p", box);
  line.style.cssText = "margin: 0.8em 0; line-height: 3.2";
  says.setAttribute("aria-live", "polite");
  const label = make("label", bar, "moment "), slider = make("input", label), moment = make("output", label);
  Object.assign(slider, {type: "range", min: 0, max: data.moments.length - 1, value: state.moment});
  moment.style.cssText = "display: inline-block; min-width: 8em";
  slider.oninput = () => { state.moment = +slider.value; draw(); };
  choose("layer", count(data.maps[0].length));
  choose("head", count(data.maps[0][0].length));
  const words = data.tokens.map((token, i) => {
    const word = make("button", line);
    word.onclick = () => { state.word = i; draw(); };
    return word;
  });
  const draw = () => {
    const shares = data.maps[state.moment][state.layer][state.head][state.word];
    moment.textContent = data.moments[state.moment];
    words.forEach((word, i) => {
      const share = shares[i] / 100;
      word.style.cssText = `margin: 0 2px; padding: 3px 5px; border-radius: 4px; color: inherit; font-size: 100%;
        line-height: 1.3; background: rgba(230, 159, 0, ${share}); border: 2px solid transparent`;
      if (i === state.word) word.style.borderColor = "#0072B2";
      word.textContent = data.tokens[i];
      make("div", word, share.toFixed(2)).style.fontSize = "75%";
      word.setAttribute("aria-pressed", i === state.word);
    });
    const most = shares.indexOf(Math.max(...shares)), [from, to] = [state.word, most].map((i) => data.tokens[i]);
    says.textContent = `${from} (framed) takes most from ${to}: ${shares[most]} of 100.`;
  };
  draw();
})();
</script>"""


def attention_view(
    maps: Mapping[str, np.ndarray], tokens: Sequence[str], layer: int = 0, head: int = 0, word: int = 0
) -> str:
    """HTML for attention maps (layers, heads, T, T), one for each named moment, in hundredths of the attention.

    It opens at the last moment, with this layer, head and word, each counted from 0. Words are shown as text, never
    read as HTML. Raises ValueError when a map has another shape than (layers, heads, T, T).
    """
    shapes = {array.shape for array in maps.values()}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 4 or shape[2:] != (len(tokens), len(tokens)):
        raise ValueError(f"give maps of one shape (layers, heads, {len(tokens)}, {len(tokens)}) for these tokens.")
    hundredths = [np.rint(100 * array).astype(int).tolist() for array in maps.values()]
    first = {"moment": len(maps) - 1, "layer": layer, "head": head, "word": word}
    data = {"tokens": list(tokens), "moments": list(maps), "maps": hundredths, "first": first}
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # no word can end the script
    name = "attention-" + hashlib.sha256(text.encode()).hexdigest()[:12]
    return PAGE.replace("@id@", name).replace("@data@", text)
