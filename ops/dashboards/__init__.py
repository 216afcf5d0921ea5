"""What operators look at: a Grafana dashboard and Prometheus' alerts, made by code, and tested."""
