"""What the population engine costs beside the loops people write: `python -m benchmarks.engine --help`."""

import os

# One thread, said before torch is first imported, here and by every child.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
