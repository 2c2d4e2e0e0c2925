"""The client, its protocol, and the port that it talks to."""
