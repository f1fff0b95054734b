"""`python -m llm_lab COMMAND`."""

import sys

from llm_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
