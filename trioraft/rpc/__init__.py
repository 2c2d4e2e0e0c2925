"""What client and server share: the messages of a client's port, and the errors that cross it."""
