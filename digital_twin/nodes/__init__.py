"""The nodes: thin. They declare parameters, convert messages, call the core and publish."""

import os

# Before numpy is loaded: small matrices gain nothing from threads, which only take the other nodes' cores.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
