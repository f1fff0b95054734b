"""The first code cell of every notebook: its text, and the address that is stamped into it.

`python tools/stamp_links.py` writes it everywhere; `tests/test_bootstrap.py` runs it.
"""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TAG = "bootstrap"

TEMPLATE = """\
# Makes the course's package, llm_lab, importable. On Colab it fetches the course first.
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ADDRESS = os.environ.get("LLM_LAB_REPOSITORY") or "@ADDRESS@"
places = [Path.cwd(), *Path.cwd().parents, Path.cwd() / "llm-lab"]
here = next((place for place in places if (place / "llm_lab" / "__init__.py").exists()), None)
if here is None and importlib.util.find_spec("llm_lab") is None:
    if "google.colab" not in sys.modules:
        sys.exit("Open this notebook from the folder of the course: python lab.py")
    if not ADDRESS:
        sys.exit("Write the address of the course's git repository into the line ADDRESS, then run again.")
    here = Path.cwd() / "llm-lab"
    if subprocess.run(["git", "clone", "--quiet", "--depth", "1", ADDRESS, here]).returncode:
        sys.exit(f"{ADDRESS} could not be fetched: check the address and the network, then run again.")
if here is not None:
    sys.path.insert(0, str(here))
"""


def repository_address(pyproject: Path = ROOT / "pyproject.toml") -> str:
    """Return the repository's address from `[project.urls]`, without a last slash; empty where none is known."""
    urls = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["urls"]
    return urls["Repository"].rstrip("/")


def bootstrap_source(address: str) -> str:
    """Return the cell's text with the address in it."""
    return TEMPLATE.replace("@ADDRESS@", address).rstrip("\n")
