"""For all tests."""

import torch

# Tiny tensors gain nothing from a second thread, and lose much where the cores are busy.
torch.set_num_threads(1)
