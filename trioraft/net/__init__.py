"""What every port needs, once: framing, addresses, TLS."""
