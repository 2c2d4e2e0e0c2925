"""`trioraft certs`: authorities and certificates for a small team, in one directory."""
