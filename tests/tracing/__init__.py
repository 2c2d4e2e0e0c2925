"""Single commands as OpenTelemetry's spans."""
