"""What every process needs: settings, log, metrics, tracing, errors, tasks, ids, supervision."""
