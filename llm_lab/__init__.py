"""LLM Lab: how language models are trained, one readable module a concept. Start with
`notebooks/00_start_here.ipynb`.
"""

__version__ = "0.1.0"
