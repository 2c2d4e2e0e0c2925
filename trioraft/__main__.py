"""`python -m trioraft`: the same commands as `trioraft`.

Rules of this file: nothing but the call.
"""

from .cli.application import main

if __name__ == "__main__":
    main()
