"""Our models in `transformers`, and theirs here. The library is optional: it is imported when something is called."""

from llm_lab.huggingface.feed import batches_of, collator, for_transformers, packed_stream
from llm_lab.huggingface.hub import HubError, export, load_from_transformers, load_masked_model, stream_texts
from llm_lab.huggingface.twins import (
    ExportError,
    from_transformers,
    from_transformers_tokenizer,
    to_transformers,
    to_transformers_tokenizer,
    twin_of,
)

__all__ = [
    "ExportError",
    "HubError",
    "batches_of",
    "collator",
    "export",
    "for_transformers",
    "from_transformers",
    "from_transformers_tokenizer",
    "load_from_transformers",
    "load_masked_model",
    "packed_stream",
    "stream_texts",
    "to_transformers",
    "to_transformers_tokenizer",
    "twin_of",
]
