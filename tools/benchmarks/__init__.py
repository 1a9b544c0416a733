"""What `tools/bench.py` measures: the files, the tasks, how a task is timed, and the rows of the table."""
