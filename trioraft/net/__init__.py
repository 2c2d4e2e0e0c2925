"""What every port needs, once: frames, addresses, TLS, connections, accepting."""
