"""One torch thread: the models are tiny, and the tests share their cores."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
