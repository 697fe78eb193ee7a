"""`python -m backlog_worker` is the command line."""

from backlog_worker.cli import main

if __name__ == "__main__":
    main()
