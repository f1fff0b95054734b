"""On a machine with an NVIDIA GPU these run with all the others; elsewhere each says why it is skipped.

python -m pytest -q -rs tests/gpu
"""

import pytest
import torch


def pytest_collection_modifyitems(items):
    """Skip this folder's tests where PyTorch sees no CUDA device."""
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.fixture
def cuda():
    """The device, with fp32 that is fp32: cuDNN's recurrent layers round to TF32 unless they are told not to."""
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield torch.device("cuda")
