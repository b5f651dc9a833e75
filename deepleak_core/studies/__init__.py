"""Questions that take more than one run: label accuracy, comparisons and sweeps."""
