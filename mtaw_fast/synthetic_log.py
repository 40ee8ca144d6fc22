"""`python -m mtaw_fast.synthetic_log`: the command of `mtaw_fast.data.synthetic_log`, where it has always been."""

from mtaw_fast.data.synthetic_log import main

if __name__ == "__main__":
    main()
