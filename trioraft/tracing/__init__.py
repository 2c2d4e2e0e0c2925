"""Following single commands through a cluster, with OpenTelemetry, for whoever gives a tracer."""
