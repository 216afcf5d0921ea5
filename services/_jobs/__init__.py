"""Durable jobs of business services: enqueued in the caller's transaction, run by any worker."""
