"""Ten thousand connections against three real servers, beside a steady load.

    python -m tests.siege --connections 2000 --attack silent,half
    python -m tests.siege --soak --minutes 30

Rules of this file: attackers are cheap, come from many addresses of the loopback, and have a core
of their own; the servers and the honest load share the other. A phase without an attack, beside a
core kept equally busy, is what the siege is compared with. Bounds that are missed are said in one
line each, and make the exit code 1.
"""
