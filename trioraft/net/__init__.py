"""What every port needs, once: addresses, framing, TLS, connections and their deadlines."""
