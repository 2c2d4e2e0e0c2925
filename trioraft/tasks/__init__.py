"""What Trio leaves to its users: a service beside a body, wake-ups, a bound on bytes."""
