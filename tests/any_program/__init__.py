"""The services of examples/any_program as three processes, killed and started again under load.

    python -m tests.any_program aiohttp --rounds 50

What is checked: no increment that was acknowledged is missing, and none was made twice; the tokens
of the lock rise, and nobody wrote under one after a higher one; each term had one doer of the
leader's job. What is measured: from the kill of the leader to an increment, asked for after that,
which another process has acknowledged.
"""
