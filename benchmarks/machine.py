"""The machine a figure was measured on, in words and for JSON files."""

from __future__ import annotations

import os
import platform
from datetime import date
from typing import Any

import psutil
import torch

from deepleak_core.runs.machine import processor


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, GPU, versions, date; `words` says it in one line."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    machine = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "gpu": gpu,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "date": date.today().isoformat(),
    }
    words = (
        f"{machine['cores']} cores of {machine['processor']}{f', {gpu}' if gpu else ''}, PyTorch {torch.__version__}"
    )
    return {"words": words} | machine
