"""Where a run's files live: request lines, raw outputs and errors, by relative keys."""
