"""What every process needs: settings, log, metrics, tracing, errors, tasks, clock, ids, supervision."""
