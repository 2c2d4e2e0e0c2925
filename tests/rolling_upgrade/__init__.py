"""A rolling upgrade of real processes: servers of an earlier commit beside those of this one.

    python -m tests.rolling_upgrade --old 3629cb1        # a commit of this repository
    python -m tests.rolling_upgrade --old /some/checkout # or its files

Three servers (`trioraft serve`) of the earlier code are upgraded one after the other, rolled back,
upgraded again, and something is switched on, while clients of this code count up. No call may be
lost or done twice. It is no part of the suite, which has only the code that it stands beside:
`tests/test_upgrading.py` is its counterpart there.
"""
