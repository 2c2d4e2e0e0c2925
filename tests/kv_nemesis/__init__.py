"""Three `trioraft serve` processes, killed, paused and restarted at random, and their clients.

    python -m tests.kv_nemesis --seconds 60 --clients 16 --seed 1

Rules of this file: what clients were told must be true in the end. An acknowledged append is there
once; what all clients saw is linearizable; every call ends within its deadline, with a result or an
error that says what is known.
"""
